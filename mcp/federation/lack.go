package federation

import "github.com/mcpgw/mcpgw/mcp/protocol"

// metaDegraded is the key of a result's _meta that says which targets it is short of:
// an object that holds, by the name of the target, "stale" when what is shown is what the
// target had when it last answered, and "unavailable" when it is left out.
const metaDegraded = "io.github.mcpgw/degraded"

// A lack is what a result is short of because targets failed.
type lack struct {
	stale   []string // targets that are shown as they last were
	missing []string // targets that are left out
	err     error    // why, of the first
}

// add notes a target that failed.
func (l *lack) add(target string, stale bool, err error) {
	if l.err == nil {
		l.err = err
	}
	if stale {
		l.stale = append(l.stale, target)
	} else {
		l.missing = append(l.missing, target)
	}
}

func (l *lack) any() bool { return len(l.stale)+len(l.missing) > 0 }

// append appends the member of _meta that says it.
func (l *lack) append(out []byte) []byte {
	out = append(append(out, protocol.Quote(metaDegraded)...), ':')
	sep := byte('{')
	say := func(names []string, state string) {
		for _, name := range names {
			out = append(append(out, sep), protocol.Quote(name)...)
			out = append(append(out, ':'), state...)
			sep = ','
		}
	}
	say(l.stale, `"stale"`)
	say(l.missing, `"unavailable"`)
	return append(out, '}')
}
