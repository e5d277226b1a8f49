package session

import (
	"context"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Ping asks the target for a sign of life on behalf of the caller: server/discover of
// a modern one, ping of a legacy one. Any answer is one. Its errors are faults.
func (t *Target) Ping(ctx context.Context, c Client, f Forward) error {
	leg, err := t.Lease(ctx, c, f)
	if err != nil {
		return err
	}
	defer leg.Release()
	method := "ping"
	if leg.Era() == protocol.Modern {
		method = "server/discover"
	}
	_, err = leg.Call(ctx, &Call{Method: method, Params: []byte("{}"), Forward: f})
	t.note(err)
	return err
}

// Known returns what is known of the target without asking it, nil when that is
// nothing.
func (t *Target) Known(c Client, f Forward) *Discovery {
	if e := t.discoveries.get(t.scope(c, f)); e != nil {
		return e.disc
	}
	return nil
}

// Ready is Discover and Open where they take no exchange with the target; both
// results are nil where they would.
func (t *Target) Ready(c Client, f Forward) (*Discovery, *Leg) {
	e := t.discoveries.get(t.scope(c, f))
	if e == nil || e.disc == nil || e.era == protocol.Modern && time.Since(e.at) >= discoveryAge {
		return nil, nil
	}
	w := t.wireAtHand(&c, f)
	if w == nil {
		return nil, nil
	}
	return e.disc, &Leg{t: t, client: &c, w: w}
}
