package session

import (
	"context"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A duplexWire is one leg's use of a duplex.
type duplexWire struct {
	*duplex
	// own says that the connection is the leg's alone and ends with it.
	own bool
}

func (w *duplexWire) era() protocol.Era { return w.disc.Load().Era }
func (w *duplexWire) version() string   { return w.disc.Load().Version }
func (w *duplexWire) usable() bool      { return w.alive() }

func (w *duplexWire) close(context.Context) {
	if w.own {
		w.fail(errUnused)
	}
}

// asks reports whether a target may ask the client something while it works on
// the method.
func asks(method string) bool {
	switch method {
	case "tools/call", "prompts/get", "resources/read", "completion/complete", "tasks/result":
		return true
	default:
		return false
	}
}

func (w *duplexWire) call(ctx context.Context, r *request) (*protocol.Message, error) {
	ctx = w.t.begin(ctx, r)
	defer r.end()
	m, err := w.exchange(ctx, r)
	if err == nil {
		if r.token != nil && madeTask(r, m) && !w.shared {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tasks.add(r.id, r.token)
		}
		return m, nil
	}
	if (ctx.Err() != nil || isEmit(err)) && r.leg != nil {
		w.abandon(r.id, r.f)
	}
	return nil, w.t.fault(ctx, err)
}

// abandon tells the target that nobody waits for a request any more.
func (w *duplexWire) abandon(id protocol.ID, f Forward) {
	w.t.parting(func(ctx context.Context) {
		_, _ = w.write(ctx, cancelled(id), f) // there is nobody to tell
	})
}

func (w *duplexWire) exchange(ctx context.Context, r *request) (*protocol.Message, error) {
	c := &duplexCall{mailbox: newMailbox(), leg: r.leg, asks: r.leg != nil && asks(r.method)}
	defer close(c.done)
	w.mu.Lock()
	if w.broken != nil {
		err := w.broken
		w.mu.Unlock()
		return nil, &unsent{err: w.t.failed(err)}
	}
	w.order++
	c.order = w.order
	w.calls[r.id] = c
	w.use()
	poke(w.crowd)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.calls, r.id)
		w.use()
		w.mu.Unlock()
	}()
	m, err := w.write(ctx, protocol.AppendRequest(make([]byte, 0, len(r.params)+96), r.id, r.method, r.params), r.f)
	if m != nil || err != nil {
		return m, err
	}
	reply := func(msg []byte) { w.duplex.reply(msg) }
	for {
		m, err := c.take()
		switch {
		case err != nil:
			return nil, err
		case m == nil:
			select {
			case <-c.ready:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case m.Kind == protocol.Response:
			return m, nil
		default:
			if err := r.deliver(w.t, m, w, reply); err != nil {
				return nil, err
			}
		}
	}
}

func (w *duplexWire) send(ctx context.Context, _ string, msg []byte, f Forward) error {
	ctx, cancel := context.WithTimeout(ctx, w.t.cfg.Timeout)
	defer cancel()
	m, err := w.write(ctx, msg, f)
	if m != nil && m.Error != nil {
		err = &refusal{m.Error}
	}
	if err != nil {
		return w.t.fault(ctx, err)
	}
	return nil
}

func (w *duplexWire) listen(ctx context.Context, in *intake) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.t.ctx, func() { cancel(errClosed) })()
	err := w.listenOnce(ctx, in)
	if ctx.Err() != nil && !isEmit(err) {
		return w.t.fault(ctx, ctx.Err())
	}
	return err
}

// listenOnce listens until ctx ends or the connection breaks. A modern target is
// asked for what the listener wants, together with what others want.
func (w *duplexWire) listenOnce(ctx context.Context, in *intake) error {
	e := &ear{mailbox: newMailbox(), in: in, passive: in.leg == nil && w.t.cfg.Transport == Stdio}
	defer close(e.done)
	modern := w.era() == protocol.Modern
	var changed <-chan struct{}
	if modern {
		in.tells(1, nil)
		defer in.tells(-1, nil)
		var filter []byte
		if filter, _, changed = listenFilter(w.disc.Load().Capabilities, in); filter == nil && changed == nil {
			return errNoStream
		}
		if in.interest != nil {
			e.interest, changed = in.interest()
		}
	}
	e.served = in.uris
	if err := w.join(e); err != nil {
		return err
	}
	defer w.part(e)
	if !modern && in.connected != nil {
		in.connected(nil)
	}
	reply := func(msg []byte) { w.duplex.reply(msg) }
	for {
		m, err := e.take()
		switch {
		case err != nil:
			return &unsent{err: w.t.failed(err)}
		case m == nil:
			select {
			case <-e.ready:
			case <-changed:
				var wanted interest
				wanted, changed = in.interest()
				w.want(e, wanted)
			case <-ctx.Done():
				return ctx.Err()
			}
		case m.Kind == protocol.Response && m.Error != nil && m.Error.Code == protocol.CodeMethodNotFound:
			return errNoStream
		case m.Kind == protocol.Response:
			return &unsent{err: w.t.failed(errStreamEnd)}
		case m.Method == acknowledged:
			in.tells(0, w.serves(e))
			if in.connected != nil {
				in.connected(protocol.Get(m.Params, "notifications"))
			}
		default:
			if err := in.take(w.t, unsubscribed(m), w, reply); err != nil {
				return err
			}
		}
	}
}
