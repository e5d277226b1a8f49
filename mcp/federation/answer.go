package federation

import (
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

const (
	// keepAlive is the longest silence on a stream. An answer that takes longer
	// becomes a stream, so that nobody on the way takes it for dead.
	keepAlive = 15 * time.Second
	// writeTimeout is how long a client may take to accept one event. A client
	// that is slower loses its stream; until then reading from the target pauses.
	writeTimeout = 30 * time.Second
)

var errSlowClient = fault.New(fault.ClientGone, "the client does not read")

// An sse writes server-sent events to one client. It is safe for concurrent use.
type sse struct {
	w  http.ResponseWriter
	rc *http.ResponseController // of w, once events are written

	silence  *lifetime.Watchdog // after which a comment is sent
	patience time.Duration      // with a client that does not read

	mu      sync.Mutex
	started bool
	ended   bool
	buf     []byte
	kept    bool // see keep
	watch   lifetime.Watch
	trail   *trail // nil when a client that loses the stream can't take it up again
}

func (h *Hub) newSSE(w http.ResponseWriter) *sse {
	s := new(sse)
	h.initSSE(s, w)
	return s
}

func (h *Hub) initSSE(s *sse, w http.ResponseWriter) {
	s.w, s.silence, s.patience = w, &h.silence, h.writeTimeout
}

// start begins the stream. The caller holds the lock.
func (s *sse) start() {
	if s.started {
		return
	}
	s.started = true
	s.head()
	if s.trail != nil {
		if first := s.trail.begin(); first != nil {
			_, _ = s.w.Write(first) // what fails here fails again
		}
	}
}

// head writes the head of the response that carries the stream.
func (s *sse) head() {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
}

// append appends the event that carries raw. full is as with trail.event. The caller
// holds the lock.
func (s *sse) append(dst, raw []byte) (out []byte, full bool) {
	if s.trail != nil {
		return s.trail.event(dst, raw)
	}
	return events.Append(dst, events.Event{Type: "message", Data: raw, Retry: -1}), false
}

// event writes one message as an event and flushes it.
func (s *sse) event(raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errSlowClient
	}
	s.start()
	var full bool
	if s.buf, full = s.append(s.buf[:0], raw); full {
		return errSlowClient
	}
	return s.write(s.buf)
}

// named writes an event of another type than message.
func (s *sse) named(typ string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
	return s.write(events.Append(nil, events.Event{Type: typ, Data: data, Retry: -1}))
}

// comment writes a comment that keeps the stream open.
func (s *sse) comment() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errSlowClient
	}
	s.start()
	return s.write([]byte(events.Keepalive))
}

// write sends b, which is nothing or whole events. The caller holds the lock.
func (s *sse) write(b []byte) error {
	if s.trail != nil && s.trail.alone {
		return nil // it is kept
	}
	// Not every ResponseWriter knows deadlines; those of servers do.
	if s.rc == nil {
		s.rc = http.NewResponseController(s.w)
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.patience))
	_, err := s.w.Write(b)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil && !os.IsTimeout(err) && s.lost(s.w) {
		return nil
	}
	if err != nil {
		s.ended = true
		return fault.Wrap(fault.ClientGone, err, "the client closed the stream")
	}
	if cap(s.buf) > 64<<10 {
		s.buf = nil
	}
	if s.kept {
		s.watch.Reset()
	}
	return nil
}

// keep sends a comment whenever the stream was silent for too long, until
// finish.
func (s *sse) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = true
	s.silence.Start(&s.watch, s.fill)
}

// fill breaks the silence.
func (s *sse) fill() { _ = s.comment() } // the next write says so, too

// finish stops what keep began. Nothing is written after it.
func (s *sse) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trail != nil && s.trail.moved != nil {
		s.trail.finish()
		s.trail = nil
	}
	s.ended = true
	s.kept = false
	s.watch.Stop()
	if s.rc != nil {
		_ = s.rc.SetWriteDeadline(time.Time{})
	}
}

// An answer is how one POST is answered: with JSON when nothing precedes the
// response, else with a stream. A batch has several responses.
type answer struct {
	*sse
	batch     bool
	responses []byte // of a batch, joined by commas
	streaming bool   // send it as a stream even so
	shared    bool   // the stream is the session's, and others use it, too
}

// emit sends a message that precedes the response.
func (a *answer) emit(raw []byte) error { return a.event(raw) }

// respond sends a response, with the HTTP status if it is not too late for one.
func (a *answer) respond(status int, raw []byte) error {
	a.mu.Lock()
	started := a.started
	a.mu.Unlock()
	switch {
	case started || a.streaming:
		return a.event(raw)
	case a.batch:
		if len(a.responses) > 0 {
			a.responses = append(a.responses, ',')
		}
		a.responses = append(a.responses, raw...)
		return nil
	default:
		return a.json(status, raw)
	}
}

// respondIn is respond for a message in parts, which are written as they are: what is
// large and the same for many is not copied.
func (a *answer) respondIn(status int, parts ...[]byte) error {
	a.mu.Lock()
	whole := a.started || a.streaming || a.batch
	a.mu.Unlock()
	if whole {
		return a.respond(status, slices.Concat(parts...))
	}
	return a.json(status, parts...)
}

func (a *answer) json(status int, parts ...[]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started { // by the timer, just now
		a.buf, _ = a.append(a.buf[:0], slices.Concat(parts...))
		return a.write(a.buf)
	}
	a.started, a.ended = true, true
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	h := a.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(size)}
	a.w.WriteHeader(status)
	for _, p := range parts {
		if _, err := a.w.Write(p); err != nil {
			return fault.Wrap(fault.ClientGone, err, "the client closed the request")
		}
	}
	return nil
}

var jsonType = []string{"application/json"}

// close ends the answer; a batch without responses is accepted.
func (a *answer) close() error {
	if !a.batch {
		return nil
	}
	a.mu.Lock()
	started := a.started
	a.mu.Unlock()
	switch {
	case started:
		// Responses from before the stream began.
		for raw := range protocol.Elements(append(append([]byte{'['}, a.responses...), ']')) {
			if err := a.event(raw); err != nil {
				return err
			}
		}
		return nil
	case len(a.responses) == 0:
		a.w.WriteHeader(http.StatusAccepted)
		return nil
	default:
		return a.json(http.StatusOK, append(append([]byte{'['}, a.responses...), ']'))
	}
}

// begun reports whether the client has got anything yet.
func (s *sse) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}
