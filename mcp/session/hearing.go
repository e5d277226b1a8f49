package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A hearing is the GET stream of a leased leg. Many legacy servers ask on it what they
// ask in the middle of a call, and ask nobody if it is not there. It stays open while
// the leg is in the pool; what comes on it belongs to the call that has the lease, and
// is refused when there is none.
type hearing struct {
	leg   *Leg
	f     Forward
	stop  context.CancelFunc
	there chan struct{} // closed once the stream is there, or there will be none
	once  sync.Once

	mu    sync.Mutex
	emit  func(*protocol.Message) error // of the lease, nil between leases
	level string                        // the log level that its call asks for, "" for none
}

// hearWait bounds how long a call waits for the stream: a server that keeps its head
// back until there is something to say is asked all the same.
const hearWait = time.Second

// Hear has what a legacy target says on the session's own stream handed to emit until
// the leg is released, beside what it says on the answers to calls: so that it can ask
// something there, too. emit must be safe for concurrent use. params are those of the
// call that the leg was leased for. On legs that are not leased, and where the transport
// has no such stream, it does nothing.
func (l *Leg) Hear(ctx context.Context, params []byte, f Forward, emit func(*protocol.Message) error) {
	if l.lease == nil {
		return
	}
	l.mu.Lock()
	_, ok := l.w.(*legacyHTTP)
	if !ok || l.closed {
		l.mu.Unlock()
		return
	}
	h := l.lease.hearing
	if h == nil {
		h = &hearing{leg: l, f: f, there: make(chan struct{})}
		l.lease.hearing = h
		var listening context.Context
		listening, h.stop = context.WithCancel(l.t.ctx)
		if !l.t.spawn(func() { h.listen(listening) }) {
			h.stop()
			h.arrived(nil)
		}
	}
	l.mu.Unlock()
	h.set(emit, logLevel(params))
	timer := time.NewTimer(hearWait)
	defer timer.Stop()
	select {
	case <-h.there:
	case <-timer.C:
		h.arrived(nil) // later calls do not wait for it
	case <-ctx.Done():
	}
}

func (h *hearing) arrived([]byte) { h.once.Do(func() { close(h.there) }) }

func (h *hearing) set(emit func(*protocol.Message) error, level string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emit, h.level = emit, level
}

// listen follows the stream until ctx ends.
func (h *hearing) listen(ctx context.Context) {
	defer h.arrived(nil)
	err := h.leg.listen(ctx, &intake{f: h.f, leg: h.leg, connected: h.arrived,
		emit: func(m *protocol.Message) error { h.take(ctx, m); return nil }})
	if err != nil && ctx.Err() == nil {
		h.leg.t.log.Debug("the stream of a session ended", "error", err)
	}
}

var errNobody = errors.New("no call is under way")

// take hands over one message, or refuses it.
func (h *hearing) take(ctx context.Context, m *protocol.Message) {
	h.mu.Lock()
	emit, level := h.emit, h.level
	h.mu.Unlock()
	if m.Method == "notifications/message" && (level == "" || !atLeast(m, severity(level))) {
		return
	}
	err := errNobody
	if emit != nil {
		err = emit(m)
	}
	if err == nil || m.Kind != protocol.Request {
		return
	}
	refused := protocol.Errorf(protocol.CodeMethodNotFound, "no client is there to answer %s", m.Method)
	if err := h.leg.Respond(ctx, m.ID, &protocol.Message{Kind: protocol.Response, Error: refused}, h.f); err != nil {
		h.leg.t.log.Debug("refusing a request of the target", "error", err)
	}
}
