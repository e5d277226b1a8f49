package session

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// acknowledged is the first message of a subscription.
const acknowledged = "notifications/subscriptions/acknowledged"

// join adds a listener, and sees to it that there is a subscription if the
// target is a modern one. There is one for all listeners: servers are known that
// remember only the latest of a connection.
func (d *duplex) join(e *ear) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return &unsent{err: d.t.failed(d.broken)}
	}
	d.ears[e] = struct{}{}
	poke(d.crowd)
	d.use()
	d.subscribe()
	return nil
}

// part removes a listener.
func (d *duplex) part(e *ear) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ears, e)
	e.in.uris = e.served
	d.use()
	poke(d.resubscribe)
}

// want changes what a listener wants to hear of.
func (d *duplex) want(e *ear, i interest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.interest, e.told = i, false
	d.subscribe()
}

// serves returns the resources that a listener is told of.
func (d *duplex) serves(e *ear) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return e.served
}

// subscribe has the subscription looked at. d.mu is held.
func (d *duplex) subscribe() {
	if d.disc.Load().Era != protocol.Modern {
		return
	}
	poke(d.resubscribe)
	if !d.subscribing {
		d.subscribing = d.t.spawn(d.keepSubscription)
	}
}

// wanted returns what the listeners want to hear of, nil if that is nothing.
// d.mu is held.
func (d *duplex) wanted() []byte {
	uris, tasks := make(map[string]struct{}), make(map[string]struct{})
	listeners := 0
	for e := range d.ears {
		if e.over {
			continue
		}
		listeners++
		for _, u := range e.interest.uris {
			uris[u] = struct{}{}
		}
		for _, id := range e.interest.tasks {
			tasks[id] = struct{}{}
		}
	}
	if listeners == 0 || d.broken != nil {
		return nil
	}
	filter, _, _ := listenFilter(d.disc.Load().Capabilities, &intake{interest: func() (interest, <-chan struct{}) {
		return interest{slices.Collect(maps.Keys(uris)), slices.Collect(maps.Keys(tasks))}, nil
	}})
	return filter
}

// keepSubscription keeps one subscriptions/listen open that asks for what the
// listeners want, as long as they want something (2026-07-28, Subscriptions).
func (d *duplex) keepSubscription() {
	for {
		d.mu.Lock()
		filter := d.wanted()
		if filter == nil {
			d.subscribing = false
			d.mu.Unlock()
			return
		}
		for e := range d.ears {
			e.told, e.missed, e.asked = false, true, e.interest.uris
		}
		id, c := nextID(), &duplexCall{mailbox: newMailbox(), subscription: true}
		d.calls[id] = c
		d.mu.Unlock()
		d.subscribeTo(id, c, filter)
		d.mu.Lock()
		delete(d.calls, id)
		d.mu.Unlock()
		close(c.done)
	}
}

// subscribeTo opens one subscription and follows it until it ends or until
// something else is wanted.
func (d *duplex) subscribeTo(id protocol.ID, c *duplexCall, filter []byte) {
	params := protocol.Splice(nil, protocol.Edit{Path: []string{"notifications"}, Value: filter})
	capabilities := []byte("{}")
	if protocol.Get(filter, "taskIds") != nil {
		capabilities = protocol.Splice(nil, protocol.Edit{Path: []string{"extensions", protocol.TasksExtension}, Value: []byte("{}")})
	}
	params, _ = modernParams(params, id, d.disc.Load().Version, capabilities, d.t.info, nil)
	ctx, cancel := context.WithTimeout(d.t.ctx, writeWait)
	m, err := d.write(ctx, protocol.AppendRequest(nil, id, "subscriptions/listen", params), Forward{})
	cancel()
	if err != nil {
		d.fail(errBroken)
		return
	}
	var granted *protocol.Message // the acknowledgement
	for {
		if m == nil {
			m, err = c.take()
		}
		switch {
		case err != nil:
			return // the connection broke, which the listeners know
		case m == nil:
			select {
			case <-c.ready:
			case <-d.t.ctx.Done():
				return
			case <-d.resubscribe:
				d.mu.Lock()
				same := bytes.Equal(d.wanted(), filter)
				for e := range d.ears {
					if same {
						e.asked = e.interest.uris
					}
				}
				d.mu.Unlock()
				if !same {
					_ = sleep(d.t.ctx, settle) // others may follow
					d.unsubscribe(id, c)
					return
				}
				if granted != nil {
					d.tell(granted)
				}
			}
		case m.Kind == protocol.Response:
			d.tell(m)
			return
		default: // nothing but the acknowledgement comes here
			granted = m
			d.tell(m)
		}
		m = nil
	}
}

// settle is how long a subscription stays as it is after listeners want another.
const settle = 10 * time.Millisecond

// tell tells the listeners how the subscription stands, each of them once for each thing that it wants. What an earlier subscription told of may have changed
// between the two: servers are known whose second subscription ends with the first, so there is a gap.
func (d *duplex) tell(m *protocol.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for e := range d.ears {
		if m.Kind == protocol.Response && !e.over {
			e.over = true
			e.put(m, true)
		}
		if m.Kind != protocol.Notification || e.told {
			continue
		}
		e.told = true
		e.put(m, true)
		if e.missed {
			for _, m := range updated(e.served, e.asked) {
				e.put(m, true)
			}
		}
		e.missed, e.served = false, e.asked
	}
}

// unsubscribe ends a subscription and waits, for a moment, until the target has
// ended it too: one that begins before that could end with it.
func (d *duplex) unsubscribe(id protocol.ID, c *duplexCall) {
	ctx, cancel := context.WithTimeout(d.t.ctx, time.Second)
	defer cancel()
	if _, err := d.write(ctx, cancelled(id), Forward{}); err != nil {
		return // what is wrong shows with the next message
	}
	for {
		m, err := c.take()
		if err != nil || m != nil && m.Kind == protocol.Response {
			return
		}
		if m != nil {
			continue
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
			return
		}
	}
}
