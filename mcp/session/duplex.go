package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A duplex is a connection on which both sides write when they like: the
// HTTP+SSE transport, or the pipes of a child. Its one reader hands each message
// to the call or the listeners that it belongs to, told by ids and tokens that
// are unique to it.
type duplex struct {
	t *Target
	// write sends one message. A response is returned where the transport
	// already gave one. An *unsent says that the message did not go out.
	write func(ctx context.Context, msg []byte, f Forward) (*protocol.Message, error)
	// end closes the connection; it does not wait.
	end func()
	// shared says that legs of several callers use the connection. What cannot be
	// told to belong to one call then belongs to none.
	shared bool
	// idle is how long the connection is kept without calls and listeners.
	idle time.Duration

	// disc is what the target says about itself; a place-holder until it said so.
	disc atomic.Pointer[Discovery]

	mu     sync.Mutex
	calls  map[protocol.ID]*duplexCall
	tasks  taskTokens
	level  string // the log level that a shared target was told of
	order  int64  // of calls, so that the latest is known
	ears   map[*ear]struct{}
	broken error // why the connection is of no more use
	timer  *time.Timer
	since  time.Time // when it became idle
	// crowd has a token when a call or a listener was added.
	crowd chan struct{}

	subscribing bool          // somebody keeps the subscription
	resubscribe chan struct{} // has a token when listeners came, left or changed
}

// A duplexCall is one call under way on a duplex.
type duplexCall struct {
	*mailbox
	order int64
	leg   *Leg
	asks  bool // the target may ask something on behalf of this call
	// subscription is the call that keeps the subscription of the listeners. It
	// does not keep a connection that is otherwise unused.
	subscription bool
}

// An ear is one listener of a duplex.
type ear struct {
	*mailbox
	in *intake
	// passive listeners do not keep a connection that is otherwise unused.
	passive bool
	// interest is what it wants to hear of, told says that it knows how the
	// subscription stands, over that it was told of its end. Toward modern targets
	// only.
	interest   interest
	told, over bool
	// asked are the resources that the subscription asks for, served those that an acknowledged one told of; missed says that
	// there was a time without one.
	asked, served []string
	missed        bool
}

// duplexIdle is how long a connection or a child is kept that nobody uses.
const duplexIdle = 10 * time.Minute

var (
	errUnused = errors.New("the connection was closed because nobody used it")
	errBroken = errors.New("the connection to the target broke")
)

// open makes d ready for use.
func (d *duplex) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.ears = make(map[protocol.ID]*duplexCall), make(map[*ear]struct{})
	d.crowd, d.resubscribe = make(chan struct{}, 1), make(chan struct{}, 1)
	d.disc.Store(&Discovery{Era: protocol.Legacy})
	d.since = time.Now()
	d.timer = time.AfterFunc(d.idle, d.expire)
}

// expire ends a connection that is not used.
func (d *duplex) expire() {
	if _, ok := d.unused(); ok {
		d.fail(errUnused)
	}
}

// used reports whether somebody uses the connection. d.mu is held.
func (d *duplex) used() bool {
	for _, c := range d.calls {
		if !c.subscription {
			return true
		}
	}
	for e := range d.ears {
		if !e.passive {
			return true
		}
	}
	return false
}

// use notes that the connection is used, or not any more. d.mu is held.
func (d *duplex) use() {
	switch {
	case d.broken != nil:
	case d.used():
		d.timer.Stop()
	default:
		d.since = time.Now()
		d.timer.Reset(d.idle)
	}
}

// unused returns since when nobody uses the connection; ok is false while
// somebody does.
func (d *duplex) unused() (since time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since, d.broken == nil && !d.used()
}

// fail ends the connection and all that waits for it.
func (d *duplex) fail(err error) {
	d.mu.Lock()
	if d.broken != nil {
		d.mu.Unlock()
		return
	}
	d.broken = err
	d.timer.Stop()
	for _, c := range d.calls {
		c.fail(err)
	}
	for e := range d.ears {
		e.fail(err)
	}
	d.mu.Unlock()
	d.end()
}

func (d *duplex) alive() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken == nil
}

// receive hands over what the target wrote: one message, or a batch. b is not
// used by anybody else.
func (d *duplex) receive(b []byte) {
	messages, err := d.t.parse(b)
	if err != nil {
		d.garbled(b, err)
		return
	}
	for _, m := range messages {
		d.dispatch(m)
	}
}

// garbled fails the call that a broken message belongs to, if that can be told.
func (d *duplex) garbled(b []byte, err error) {
	d.t.dropped.Add(1)
	m, _ := protocol.Parse(b, d.t.limits()) // for the id in it
	d.mu.Lock()
	c := d.calls[m.ID]
	d.mu.Unlock()
	if c != nil && m.ID != "" {
		c.fail(fmt.Errorf("the answer is no message: %w", err))
		return
	}
	d.t.log.Debug("dropped what is no message", "error", err, "bytes", len(b))
}

// failCalls fails the calls under way, one of which a message belonged to that
// could not be read at all.
func (d *duplex) failCalls(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.calls {
		c.fail(err)
	}
}

// dispatch hands m to whom it belongs.
func (d *duplex) dispatch(m *protocol.Message) {
	switch {
	case m.Kind == protocol.Response:
		d.mu.Lock()
		c := d.calls[m.ID]
		delete(d.calls, m.ID) // a second answer has no call to go to
		d.use()
		d.mu.Unlock()
		if c == nil {
			d.t.drop("an answer to no request", m)
			return
		}
		c.put(m, true)
	case m.Kind == protocol.Notification && m.Method == acknowledged:
		d.mu.Lock()
		c := d.calls[protocol.ID(protocol.Get(m.Params, "_meta", protocol.MetaSubscriptionID))]
		d.mu.Unlock()
		if c == nil || !c.subscription || !c.put(m, false) {
			d.t.drop("an acknowledgement of no subscription", m)
		}
	case m.Kind == protocol.Request && m.Method == "ping":
		d.reply(protocol.AppendResult(nil, m.ID, nil))
	case m.Method == "notifications/progress":
		d.mu.Lock()
		c, task := d.calls[protocol.ID(protocol.Get(m.Params, protocol.MetaProgressToken))], d.tasks.get(m)
		d.mu.Unlock()
		switch {
		case c != nil:
			d.deliver(c, m)
		case task != nil:
			d.announce(retoken(m, task))
		default:
			d.t.drop("progress of no call", m)
		}
	case m.Kind == protocol.Notification && announcement(m.Method):
		d.announce(m)
	default:
		if c := d.asker(); c != nil {
			d.deliver(c, m)
			return
		}
		if m.Kind == protocol.Notification {
			d.announce(m)
			return
		}
		if e := d.onlyEar(); e != nil && e.put(m, false) {
			return
		}
		d.reply(refuse(m))
	}
}

// announcement reports whether a notification concerns everybody rather than a
// call.
func announcement(method string) bool {
	switch method {
	case "notifications/tools/list_changed", "notifications/prompts/list_changed",
		"notifications/resources/list_changed", "notifications/resources/updated",
		"notifications/tasks", "notifications/tasks/status":
		return true
	default:
		return false
	}
}

// asker returns the call on whose behalf the target asks or logs something: the
// latest, if all are of one leg. nil if that cannot be told.
func (d *duplex) asker() *duplexCall {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found *duplexCall
	for _, c := range d.calls {
		switch {
		case !c.asks:
		case found == nil:
			found = c
		case c.leg != found.leg:
			return nil
		case c.order > found.order:
			found = c
		}
	}
	return found
}

// onlyEar returns the listener that answers requests outside of calls: there is
// one on connections that are not shared.
func (d *duplex) onlyEar() *ear {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shared || d.disc.Load().Era == protocol.Modern {
		return nil
	}
	for e := range d.ears {
		if e.in.leg != nil {
			return e
		}
	}
	return nil
}

// announce hands a notification to all listeners. One that is too slow to take it
// does not get it.
func (d *duplex) announce(m *protocol.Message) {
	d.mu.Lock()
	ears := slices.Collect(maps.Keys(d.ears))
	d.mu.Unlock()
	for _, e := range ears {
		if !e.put(m, false) {
			d.t.drop("a listener is too slow", m)
		}
	}
}

// deliver hands a message to a call before its response. While the call is the
// only one and is slow to take them, reading from the target pauses; else what
// is too much is dropped.
func (d *duplex) deliver(c *duplexCall, m *protocol.Message) {
	for !c.put(m, false) {
		d.mu.Lock()
		alone := !d.shared && len(d.calls) == 1 && len(d.ears) == 0
		d.mu.Unlock()
		if !alone {
			d.t.drop("a call is too slow", m)
			if m.Kind == protocol.Request {
				d.reply(refuse(m))
			}
			return
		}
		select {
		case <-c.space:
		case <-d.crowd:
		case <-c.done:
			return
		}
	}
}

// reply answers a request of the target without holding up the reader.
func (d *duplex) reply(msg []byte) {
	d.t.parting(func(ctx context.Context) {
		if _, err := d.write(ctx, msg, Forward{}); err != nil {
			d.t.log.Debug("answering a request of the target", "error", err)
		}
	})
}
