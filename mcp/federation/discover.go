package federation

import (
	"context"
	"sync"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// discover returns what the targets say about themselves, nil for those of which
// nothing is known, and with open a leg to each that answers. What takes an exchange is
// done for all targets at once, each within its own timeout. The error says that too many do not
// answer.
func (q *request) discover(ctx context.Context, open bool) (found []*session.Discovery, legs []*session.Leg, short lack, err error) {
	n := len(q.b.targets)
	found = make([]*session.Discovery, n)
	opened := make([]*session.Leg, n)
	errs := make([]error, n)
	v := q.catalogue()
	var wg sync.WaitGroup
	for i, t := range q.b.targets {
		if errs[i] = q.b.breakers[i].check(v.entries[i].lister.ping); errs[i] != nil {
			continue
		}
		if found[i], opened[i] = t.Ready(q.client, q.forward); found[i] == nil {
			wg.Go(func() { found[i], opened[i], errs[i] = q.discoverOne(ctx, i, open) })
		}
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, lack{}, err
	}
	for i, t := range q.b.targets {
		if errs[i] == nil {
			if opened[i] != nil {
				legs = append(legs, opened[i])
			}
			continue
		}
		found[i] = t.Known(q.client, q.forward)
		short.add(q.b.cfg.Targets[i].Name, found[i] != nil, errs[i])
	}
	if short.any() && (len(short.missing) == n || q.b.cfg.FailClosed) {
		return nil, nil, lack{}, fault.Wrap(fault.UpstreamUnreachable, short.err, "the servers behind this one do not answer")
	}
	return found, legs, short, nil
}

// discoverOne asks one target.
func (q *request) discoverOne(ctx context.Context, i int, open bool) (d *session.Discovery, leg *session.Leg, err error) {
	t := q.b.targets[i]
	of := ctx
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(t))
	defer cancel()
	if d, err = t.Discover(ctx, q.client, q.forward); err == nil && open {
		leg, err = t.Open(ctx, q.client, q.forward)
	}
	q.b.breakers[i].heardFor(of, err)
	if err != nil && !isSilence(err) { // which the breaker says, once
		q.b.hub.opts.Logger.WarnContext(ctx, "target is left out", "backend", q.b.cfg.Name,
			"target", q.b.cfg.Targets[i].Name, "method", q.msg.Method, "error", err)
	}
	return d, leg, err
}
