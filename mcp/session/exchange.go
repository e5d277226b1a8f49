package session

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A wire is a leg's way to its target in one era over one transport. When it
// breaks the leg makes another. Wires are safe for concurrent use.
type wire interface {
	era() protocol.Era
	// version is the revision that both sides agreed on.
	version() string
	// usable reports whether the wire can still carry calls.
	usable() bool
	// call sends r and returns the response. Errors are faults, an *unsent, or an
	// *emitError.
	call(ctx context.Context, r *request) (*protocol.Message, error)
	// send sends a notification or an answer to a request of the target.
	send(ctx context.Context, method string, msg []byte, f Forward) error
	// listen hands over the messages that belong to no call, until ctx ends
	// (its error), the target offers no such stream (errNoStream), or the wire
	// is of no more use (an *unsent).
	listen(ctx context.Context, in *intake) error
	// close ends the wire, telling the target where its transport has a way to.
	close(ctx context.Context)
}

// ids numbers the requests of this process. It starts anywhere, so that two
// replicas that serve one session of a target do not use the same ids at the
// same time; it stays within 31 bits, which every server can hold.
var ids = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32())
	return n
}()

// nextID returns a fresh request id. It serves as progress token too.
func nextID() protocol.ID { return protocol.IntID(int64(ids.Add(1) & 0x7fffffff)) }

// A request is one call on its way over a wire.
type request struct {
	id     protocol.ID
	method string
	params []byte // as the target gets them
	token  []byte // the client's progress token, raw; nil if it sent none
	f      Forward
	emit   func(*protocol.Message) error
	quiet  bool // log messages are not passed on
	level  int  // the least severity of those that are; 0 passes all
	leg    *Leg // nil for requests of the gateway itself

	life    lifetime.Lifetime
	closing lifetime.Hook
	silence lifetime.Watch
}

// An emitError is what the caller's Emit returned: it ends the call and is
// returned as it is.
type emitError struct{ err error }

func (e *emitError) Error() string { return e.err.Error() }
func (e *emitError) Unwrap() error { return e.err }

var errClosed = errors.New("the target was closed")

// begin starts the clock of r: the returned context ends when the target is
// silent for too long or is closed. end must be called.
func (t *Target) begin(ctx context.Context, r *request) context.Context {
	r.life.Begin(ctx)
	r.life.EndWith(&r.closing, &t.life)
	t.silence.Start(&r.silence, r.silent)
	return &r.life
}

// silent ends r, of which nothing was heard for too long. Time in which the target
// waited for an answer of the client does not count.
func (r *request) silent() {
	if r.leg != nil {
		if left := r.silence.After() - r.leg.sinceAnswer(); left > 0 {
			r.silence.ResetTo(left)
			return
		}
	}
	r.life.End(errIdle)
}

// end ends what begin began.
func (r *request) end() {
	r.silence.Stop()
	r.closing.Stop()
	r.life.End(nil)
}

// deliver takes one message that came before the response of r, which belongs
// to r alone. reply answers a request of the target.
func (r *request) deliver(t *Target, m *protocol.Message, asker wire, reply func([]byte)) error {
	r.silence.Stop() // the silence of a caller that is slow to take it is not the target's
	defer r.silence.Reset()
	switch {
	case m.Kind == protocol.Response:
		t.drop("an answer to no request", m)
		return nil
	case m.Kind == protocol.Request && asker.era() == protocol.Modern:
		return errForbidden
	case m.Kind == protocol.Request && m.Method == "ping":
		reply(protocol.AppendResult(nil, m.ID, nil))
		return nil
	case m.Kind == protocol.Request && (r.emit == nil || r.leg == nil || !r.leg.ask(m.ID, asker)):
		reply(refuse(m))
		return nil
	case r.emit == nil:
		return nil
	case m.Method == "notifications/message" && (r.quiet || !atLeast(m, r.level)), r.leg != nil && !r.leg.logs(asker, m):
		return nil
	case m.Method == "notifications/progress":
		own := r.progress(m)
		if w, ok := asker.(*legacyHTTP); ok && own == nil {
			own = w.taskProgress(m)
		}
		if m = own; m == nil {
			t.dropped.Add(1)
			return nil
		}
	}
	if err := r.emit(m); err != nil {
		return &emitError{err}
	}
	return nil
}

// progress returns the progress notification m with the client's token, nil if
// it is not about r.
func (r *request) progress(m *protocol.Message) *protocol.Message {
	if r.token == nil || !bytes.Equal(protocol.Get(m.Params, protocol.MetaProgressToken), []byte(r.id)) {
		return nil
	}
	return retoken(m, r.token)
}

// retoken returns the progress notification m with another token.
func retoken(m *protocol.Message, token []byte) *protocol.Message {
	params := protocol.Splice(m.Params, protocol.Edit{Path: []string{protocol.MetaProgressToken}, Value: token})
	return notification(m.Method, params)
}

// notification returns a notification as a Message.
func notification(method string, params []byte) *protocol.Message {
	return &protocol.Message{
		Kind:   protocol.Notification,
		Method: method,
		Params: params,
		Raw:    protocol.AppendNotification(nil, method, params),
	}
}

// refuse returns the answer to a request of the target that nobody can answer.
func refuse(m *protocol.Message) []byte {
	return protocol.AppendError(nil, m.ID, protocol.Errorf(protocol.CodeMethodNotFound,
		"no client is there to answer %s", m.Method))
}

// An intake takes the messages that belong to no call.
type intake struct {
	f   Forward
	leg *Leg // nil when requests are to be refused
	// emit gets the messages; an error ends the listening.
	emit func(*protocol.Message) error
	// interest returns what to listen to, for wires on which listening is how to
	// subscribe, and a channel that is closed when it changes.
	interest func() (i interest, changed <-chan struct{})
	// heard, when set, is called when n more listen to a modern target, and with the resources that it tells them of.
	heard func(n int, uris []string)
	// connected, when set, is called each time the stream is there, with what a
	// modern target granted.
	connected func(granted []byte)

	uris []string // resources that the stream tells of, or the one before told of

	// resume goes on with a stream at rest, for which listen has returned errResting; nil where whoever listens waits.
	resume func()
	begun  time.Time // when the wire began to listen
	pause  backoff   // of the leg
	wire   wire      // whose stream is at rest
	stream *legacyListening
}

// errResting says that nobody waits for a stream that is silent: resume is called.
var errResting = errors.New("the stream is at rest")

// moved says that a stream is there that tells of these resources, and whether something may have been missed since the one
// before. Of what both tell of, it is then said that it may have changed.
func (in *intake) moved(uris []string, missed bool) error {
	before := in.uris
	in.uris = uris
	in.tells(0, uris)
	if !missed {
		return nil
	}
	for _, m := range updated(before, uris) {
		if err := in.emit(m); err != nil {
			return &emitError{err}
		}
	}
	return nil
}

// tells calls heard.
func (in *intake) tells(n int, uris []string) {
	if in.heard != nil {
		in.heard(n, uris)
	}
}

// updated returns a notification that it may have changed for each resource that is in both lists.
func updated(before, now []string) (out []*protocol.Message) {
	for _, uri := range now {
		if slices.Contains(before, uri) {
			params := protocol.Splice(nil, protocol.Edit{Path: []string{"uri"}, Value: protocol.Quote(uri)})
			out = append(out, notification("notifications/resources/updated", params))
		}
	}
	return out
}

// take hands over one message that belongs to no call.
func (in *intake) take(t *Target, m *protocol.Message, asker wire, reply func([]byte)) error {
	switch {
	case m.Kind == protocol.Response:
		t.drop("an answer on a stream that asks nothing", m)
		return nil
	case m.Kind == protocol.Request && asker.era() == protocol.Modern:
		return errForbidden
	case m.Kind == protocol.Request && m.Method == "ping":
		reply(protocol.AppendResult(nil, m.ID, nil))
		return nil
	case m.Kind == protocol.Request && (in.leg == nil || !in.leg.ask(m.ID, asker)):
		reply(refuse(m))
		return nil
	case in.leg != nil && !in.leg.logs(asker, m):
		return nil
	}
	if err := in.emit(m); err != nil {
		return &emitError{err}
	}
	return nil
}

// parse returns the messages in b, which a target sent: one, or several where a
// target of 2025-03-26 batches. What is returned aliases b.
func (t *Target) parse(b []byte) ([]*protocol.Message, error) {
	elements, batched, err := protocol.ParseBatch(b, t.limits(), maxBatch)
	if err != nil {
		return nil, err
	}
	if !batched {
		m, err := protocol.Parse(b, t.limits())
		if err != nil {
			return nil, err
		}
		return []*protocol.Message{m}, nil
	}
	messages := make([]*protocol.Message, 0, len(elements))
	for _, e := range elements {
		m, err := protocol.Parse(e, t.limits())
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// maxBatch bounds the messages of one batch of a target.
const maxBatch = 1000
