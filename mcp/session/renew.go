package session

import (
	"context"
	"maps"
	"slices"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A renewal makes a new wire for a leg, for all calls that found the old one
// broken.
type renewal struct {
	done chan struct{}
	w    wire
	err  error
}

// discard drops a wire that is of no more use.
func (l *Leg) discard(w wire) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == w {
		l.w = nil
	}
}

// wire returns the wire of the leg, made if there is none that can be used.
func (l *Leg) wire(ctx context.Context, f Forward) (wire, error) {
	l.mu.Lock()
	w, closed := l.w, l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return nil, fault.New(fault.NotFound, "the session has ended")
	case w != nil && w.usable():
		return w, nil
	default:
		return l.renew(ctx, w, f, false)
	}
}

// renew replaces the wire old. Callers that find it broken at the same time
// share one new wire. wrongEra says that the target is not of the era it was
// believed to be.
func (l *Leg) renew(ctx context.Context, old wire, f Forward, wrongEra bool) (wire, error) {
	l.mu.Lock()
	if l.w != old && l.w != nil { // somebody was quicker
		w := l.w
		l.mu.Unlock()
		return w, nil
	}
	if l.away {
		l.mu.Unlock()
		return nil, ErrAtHome
	}
	r := l.renewing
	if r == nil {
		r = &renewal{done: make(chan struct{})}
		l.renewing = r
		if !l.t.spawn(func() { l.replace(r, old, f, wrongEra) }) {
			l.renewing = nil
			l.mu.Unlock()
			return nil, l.t.closedFault()
		}
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.t.cfg.Timeout)
	defer cancel()
	select {
	case <-r.done:
		return r.w, r.err
	case <-ctx.Done():
		return nil, l.t.fault(ctx, ctx.Err())
	}
}

// replace makes the new wire of r.
func (l *Leg) replace(r *renewal, old wire, f Forward, wrongEra bool) {
	ctx, cancel := context.WithTimeout(l.t.ctx, l.t.setup())
	defer cancel()
	if wrongEra {
		scope := l.t.scope(*l.client, f)
		if e := l.t.discoveries.get(scope); e != nil && e.era == old.era() {
			l.t.discoveries.forget(scope, e)
		}
	}
	w, _, err := l.t.dial(ctx, *l.client, f)
	if err == nil && old != nil {
		err = l.restore(ctx, w, f)
	}
	l.t.note(err)
	l.mu.Lock()
	l.renewing = nil
	if err == nil && l.closed {
		err = fault.New(fault.NotFound, "the session has ended")
		l.t.parting(w.close)
	}
	if err == nil {
		l.w, r.w = w, w
		clear(l.asked) // what the old session asked, nobody waits for
	}
	r.err = err
	changed := l.changed
	l.mu.Unlock()
	if old != nil && err == nil && changed != nil {
		changed()
	}
	close(r.done)
	if old != nil && err == nil && old != w {
		l.t.parting(old.close)
	}
}

// restore brings a new session of a legacy target to where the old one was: its
// log level and its subscriptions. What the target now refuses is left out.
func (l *Leg) restore(ctx context.Context, w wire, f Forward) error {
	if w.era() == protocol.Modern {
		return nil
	}
	l.mu.Lock()
	level, uris := l.level, slices.Collect(maps.Keys(l.subs))
	if l.lease != nil {
		l.level, level = nil, nil
	}
	l.mu.Unlock()
	call := func(method, key string, value []byte) error {
		params := protocol.Splice(nil, protocol.Edit{Path: []string{key}, Value: value})
		_, err := w.call(ctx, &request{id: nextID(), method: method, params: params, f: f})
		return plain(err)
	}
	if level != nil {
		if err := call("logging/setLevel", "level", level); err != nil {
			return err
		}
	}
	for _, uri := range uris {
		if err := call("resources/subscribe", "uri", protocol.Quote(uri)); err != nil {
			return err
		}
	}
	return nil
}
