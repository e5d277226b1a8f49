package federation

import (
	"context"

	"github.com/mcpgw/mcpgw/guard"
)

// A Guard checks what clients send in calls, and the answers that they get. It is immutable and
// safe for concurrent use.
type Guard struct {
	Prompt *guard.Prompt // nil checks nothing
	Answer *guard.Answer // nil checks nothing
	// Targets are the guards that hold in place of this one at the targets of these names.
	Targets map[string]*Guard
}

type guardKey struct{}

// WithGuard adds the guard for the chosen backend to the context of a request.
func WithGuard(ctx context.Context, g *Guard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}
