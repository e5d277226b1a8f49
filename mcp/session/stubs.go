package session

import "context"

// A Command is how to start a stdio target. The environment of the child is Env
// and a fixed list of harmless variables (PATH, HOME, LANG, …), nothing else of ours.
type Command struct {
	Path string
	Args []string
	Env  []string // KEY=value
	Dir  string
	// PerSession starts a child for each session; otherwise one is shared by the
	// callers with the same isolation key and capabilities (decisions 15).
	PerSession bool
}

type children struct{}

func (c *children) init(t *Target) {}
func (t *Target) dialSSE(ctx context.Context, c Client, f Forward) (wire, *Discovery, error) {
	panic("unwritten")
}
func (t *Target) dialStdio(ctx context.Context, c Client) (wire, *Discovery, error) {
	panic("unwritten")
}
