package federation

import (
	lists "container/list"
	"context"
	"crypto/rand"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

const (
	// resumeCall and resumeStream are how long a call, and the GET stream of a
	// session, go on without a client that reads: it may take the stream up again.
	resumeCall   = 2 * time.Minute
	resumeStream = 30 * time.Second
	// trailAge is how long what was written is kept once the stream has ended.
	trailAge = time.Minute
	// maxTrailBytes and maxSessionTrail bound what is kept for all streams, and for
	// those of one session.
	maxTrailBytes   = 32 << 20
	maxSessionTrail = 1 << 20
	// maxLost bounds the GET streams that go on without a client.
	maxLost = 1000

	maxEventID     = 1 << 10 // of a client's Last-Event-ID
	maxTrailID     = 64      // of the id of a request that goes into the ids of events
	trailKeySize   = 12
	trailPurpose   = "event"
	trailGET       = 1
	trailAnswering = 2
)

// A trail is what was written on one stream of a legacy session, and under which
// ids, so that its client can take the stream up where it lost it (2025-11-25,
// Transports, Resumability and Redelivery). The ids are sealed: they name the
// stream and the session that it belongs to, and nobody can make one.
type trail struct {
	all      *trails
	session  [16]byte
	request  protocol.ID // that the stream answers
	standing bool        // it is a GET stream
	prime    bool        // its client knows events without data
	patience time.Duration
	lost     func() // called once its client did not come back

	// Once the stream has begun.
	key    [trailKeySize]byte
	prefix string // of the ids of its events

	// The lock of all guards these.
	events []*kept
	out    *sse // nil once the stream has ended
	ended  time.Time

	// The lock of out guards these.
	last  uint64 // number of the last event
	alone bool   // nobody reads
	timer *time.Timer
	moved chan struct{} // closed when another response carries the stream, or it has ended
}

// A kept is one event of a trail as it was written.
type kept struct {
	t           *trail
	number      uint64
	wire        []byte
	place, ours *lists.Element
}

// trails are those of a process. What is kept for them is bounded; the oldest
// goes first. It is safe for concurrent use.
type trails struct {
	sealer *session.Sealer
	addr   string // at which other replicas reach this one
	now    func() time.Time
	lost   atomic.Int64 // GET streams that go on without a client

	mu       sync.Mutex
	byKey    map[[trailKeySize]byte]*trail
	kept     lists.List // of all events, the oldest first
	bytes    int
	sessions map[[16]byte]*sessionTrail
}

// A sessionTrail is what is kept for one session.
type sessionTrail struct {
	kept  lists.List
	bytes int
}

func newTrails(sealer *session.Sealer, addr string, now func() time.Time) *trails {
	return &trails{sealer: sealer, addr: addr, now: now, byKey: map[[trailKeySize]byte]*trail{}, sessions: map[[16]byte]*sessionTrail{}}
}

// resumable reports whether a revision lets clients take up streams.
func resumable(version string) bool {
	return protocol.EraOf(version) == protocol.Legacy && version >= protocol.Version20250326
}

// An eventID is what the id of an event says.
type eventID struct {
	addr     string // of the replica that wrote it
	key      [trailKeySize]byte
	standing bool
	request  protocol.ID // that the stream answers, if it is short
	number   uint64
	sealed   string // all of it but the number
}

// nothingLeft is the number of an event after which there is nothing.
const nothingLeft = math.MaxUint64

// trail makes the stream s one that the client of the session can take up.
// request is what it answers, empty for a GET stream. lost is called when the
// client is gone for patience.
func (all *trails) trail(s *sse, sess *session.Session, request protocol.ID, patience time.Duration, lost func()) {
	s.trail = &trail{all: all, session: sess.Nonce(), request: request, standing: request == "",
		prime: sess.Client().Version >= protocol.Version20251125, patience: patience, lost: lost, out: s}
}

// seal returns what the ids of the trail's events begin with.
func (t *trail) seal() string {
	kind, request := byte(trailAnswering), t.request
	if t.standing {
		kind = trailGET
	}
	if len(request) > maxTrailID {
		request = ""
	}
	plain := make([]byte, 0, len(t.key)+2+len(t.all.addr)+len(request))
	plain = append(plain, t.key[:]...)
	plain = append(plain, kind, byte(len(t.all.addr)))
	plain = append(plain, t.all.addr...)
	plain = append(plain, request...)
	return t.all.sealer.Seal(trailPurpose, plain, t.session[:]) + "."
}

// parse returns what an id says that a client of the session gives back.
func (all *trails) parse(id string, session [16]byte) (ev eventID, ok bool) {
	sealed, number, ok := strings.Cut(id, ".")
	if !ok || len(id) > maxEventID {
		return eventID{}, false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	plain, ok := all.sealer.Open(trailPurpose, sealed, session[:])
	if err != nil || !ok || len(plain) < trailKeySize+2 {
		return eventID{}, false
	}
	kind, size := plain[trailKeySize], int(plain[trailKeySize+1])
	rest := plain[trailKeySize+2:]
	if kind != trailGET && kind != trailAnswering || size > len(rest) {
		return eventID{}, false
	}
	return eventID{addr: string(rest[:size]), key: [trailKeySize]byte(plain), standing: kind == trailGET,
		request: protocol.ID(rest[size:]), number: n, sealed: sealed}, true
}

// begin is called when the stream begins: from then on it can be taken up. It
// returns what is to be written first. The lock of the stream is held.
func (t *trail) begin() []byte {
	rand.Read(t.key[:]) // never fails
	t.prefix, t.moved = t.seal(), make(chan struct{})
	t.all.mu.Lock()
	t.all.byKey[t.key] = t
	t.all.mu.Unlock()
	if !t.prime {
		return nil
	}
	return events.Append(nil, events.Event{ID: t.prefix + "0", Data: []byte{}, Retry: -1})
}

// event appends the event that carries raw, and keeps it. full says that the client
// is gone, and can't have all of it any more should it come back. The lock of the
// stream is held.
func (t *trail) event(dst, raw []byte) (out []byte, full bool) {
	t.last++
	at := len(dst)
	dst = events.Append(dst, events.Event{Type: "message", ID: t.prefix + strconv.FormatUint(t.last, 10), Data: raw, Retry: -1})
	lossy := t.all.keep(&kept{t: t, number: t.last, wire: append([]byte(nil), dst[at:]...)})
	return dst, lossy && t.alone && !t.standing
}

// keep keeps an event, at the cost of older ones. lossy says that one of these was
// of the same stream.
func (all *trails) keep(k *kept) (lossy bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	ours := all.sessions[k.t.session]
	if ours == nil {
		ours = new(sessionTrail)
		all.sessions[k.t.session] = ours
	}
	k.t.events = append(k.t.events, k)
	k.place, k.ours = all.kept.PushBack(k), ours.kept.PushBack(k)
	all.bytes += len(k.wire)
	ours.bytes += len(k.wire)
	for ours.bytes > maxSessionTrail || all.bytes > maxTrailBytes {
		from := &all.kept
		if ours.bytes > maxSessionTrail {
			from = &ours.kept
		}
		oldest, _ := from.Front().Value.(*kept)
		all.drop(oldest)
		lossy = lossy || oldest.t == k.t
	}
	return lossy
}

// drop lets go of an event, which is the oldest of its stream. The lock is held.
func (all *trails) drop(k *kept) {
	ours := all.sessions[k.t.session]
	all.kept.Remove(k.place)
	ours.kept.Remove(k.ours)
	all.bytes -= len(k.wire)
	ours.bytes -= len(k.wire)
	if ours.kept.Len() == 0 {
		delete(all.sessions, k.t.session)
	}
	k.t.events[0] = nil
	k.t.events = k.t.events[1:]
	if len(k.t.events) == 0 && k.t.out == nil {
		delete(all.byKey, k.t.key)
	}
}

// since returns what was written after the event of that number, and whether that
// is all of it.
func (all *trails) since(t *trail, number uint64) (wire [][]byte, whole bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	whole = true
	for i, k := range t.events {
		if i == 0 {
			whole = k.number <= number+1
		}
		if k.number > number {
			wire = append(wire, k.wire)
		}
	}
	return wire, whole
}

// find returns the trail of that id of a session.
func (all *trails) find(ev eventID, session [16]byte) (t *trail, out *sse) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if t = all.byKey[ev.key]; t == nil || t.session != session {
		return nil, nil
	}
	return t, t.out
}

// finish notes that nothing more comes on the stream. Its lock is held.
func (t *trail) finish() {
	t.attended()
	close(t.moved)
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	t.out, t.ended = nil, t.all.now()
	if len(t.events) == 0 {
		delete(t.all.byKey, t.key)
	}
}

// attended notes that the stream need not go on without a client. Its lock is held.
func (t *trail) attended() {
	if !t.alone {
		return
	}
	t.alone = false
	t.timer.Stop()
	if t.standing {
		t.all.lost.Add(-1)
	}
}

// sweep drops what is kept of streams that ended a while ago.
func (all *trails) sweep() {
	all.mu.Lock()
	defer all.mu.Unlock()
	now := all.now()
	for _, t := range all.byKey {
		if t.out == nil && now.Sub(t.ended) > trailAge {
			for len(t.events) > 0 {
				all.drop(t.events[0])
			}
		}
	}
}

// forget drops what is kept of a session that has ended.
func (all *trails) forget(session [16]byte) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for ours := all.sessions[session]; ours != nil && ours.kept.Len() > 0; {
		oldest, _ := ours.kept.Front().Value.(*kept)
		all.drop(oldest)
	}
}

// lose notes that nobody reads what is written to w. The stream goes on without
// for a while; without a trail, or before it has begun, it does not.
func (s *sse) lose(w http.ResponseWriter) (goesOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost(w)
}

// lost is lose for those who hold the lock.
func (s *sse) lost(w http.ResponseWriter) (goesOn bool) {
	t := s.trail
	switch {
	case t == nil || !s.started || s.ended:
		return false
	case s.w != w || t.alone: // somebody else reads, or it is known
		return true
	case t.standing && t.all.lost.Add(1) > maxLost:
		t.all.lost.Add(-1)
		return false
	}
	t.alone = true
	t.timer = time.AfterFunc(t.patience, t.lost)
	return true
}

// take has w carry the stream from now on, beginning with what was written after
// the event of that number. moved is closed when it is not w any more. ok is false
// when the stream has ended.
func (s *sse) take(w http.ResponseWriter, number uint64) (moved <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trail
	if s.ended {
		return nil, false
	}
	t.attended()
	close(t.moved)
	t.moved = make(chan struct{})
	s.w, s.rc = w, nil
	s.head()
	missed, _ := t.all.since(t, number)
	// A client that is gone again may come again.
	_ = s.write(slices.Concat(append([][]byte{[]byte(events.Keepalive)}, missed...)...))
	return t.moved, true
}

// resume serves a GET that takes up a stream. done is false when it is to be
// served as any other, but for what the client missed: the stream is one for
// everything, and has ended.
func (b *Backend) resume(w http.ResponseWriter, r *http.Request, sess *session.Session, ev eventID) (missed [][]byte, done bool, err error) {
	all := b.hub.trails
	addr := ev.addr
	if ev.standing && !sess.AtHome() {
		addr = sess.Home() // where such streams are
	}
	if b.hub.other(addr) {
		return nil, true, b.resumeElsewhere(w, r, addr, ev)
	}
	t, out := all.find(ev, sess.Nonce())
	if out != nil {
		detach(r.Context(), w, func(ctx context.Context) {
			moved, ok := out.take(w, ev.number)
			if !ok { // it has ended just now
				if err := b.rest(w, t, ev); err != nil {
					b.WriteError(w, r, err)
				}
				return
			}
			select {
			case <-moved:
			case <-ctx.Done():
				out.lose(w)
			}
		})
		return nil, true, nil
	}
	if ev.standing {
		if t != nil {
			missed, _ = all.since(t, ev.number)
		}
		return missed, false, nil
	}
	return nil, true, b.rest(w, t, ev)
}

// resumeElsewhere has the replica at addr serve a GET that takes up a stream.
func (b *Backend) resumeElsewhere(w http.ResponseWriter, r *http.Request, addr string, ev eventID) error {
	err := b.hub.away(r.Context(), addr, errNoSession)
	var e *elsewhere
	switch {
	case errors.As(err, &e):
		if !ev.standing { // the session goes on without that replica
			e.instead = func(w http.ResponseWriter) error { return b.rest(w, nil, ev) }
		}
		return b.carryStream(w, r, e)
	case ev.standing:
		return err
	default:
		return b.rest(w, nil, ev)
	}
}

// rest answers with what a client missed of a stream that has ended; t is nil when
// that is not known any more. A client that waits for a response is told that
// nobody can give it, in place of being left to wait. One that missed nothing is
// told that there is no stream: clients are known that come again and again, and at
// last without an id, when a call ends with an error, or with nothing as it was
// cancelled, and so take the session's own stream from themselves.
func (b *Backend) rest(w http.ResponseWriter, t *trail, ev eventID) error {
	var missed [][]byte
	whole := false
	if t != nil {
		missed, whole = b.hub.trails.since(t, ev.number)
	}
	switch {
	case !ev.standing && (whole && len(missed) == 0 || ev.number == nothingLeft):
		return methodNotAllowed("POST, DELETE")
	case whole || ev.standing:
	case ev.request == "":
		return fault.New(fault.BadRequest, "the stream of this Last-Event-ID is not known any more")
	default:
		lost := protocol.AppendError(nil, ev.request, protocol.Errorf(protocol.CodeInternal, "the answer to this request is lost"))
		id := ev.sealed + "." + strconv.FormatUint(nothingLeft, 10)
		missed = append(missed, events.Append(nil, events.Event{Type: "message", ID: id, Data: lost, Retry: -1}))
	}
	again := b.hub.newSSE(w)
	defer again.finish()
	_ = again.replay(missed) // the client may be gone again
	return nil
}

// replay writes events as they were written once before.
func (s *sse) replay(events [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
	return s.write(slices.Concat(events...))
}

// outlive begins the life of the call that the answer belongs to, until end is called. It goes on
// for a while when the client's connection breaks once it has got a part of the
// answer, since that is no cancellation (2025-11-25, Transports, Sending Messages).
// Whatever else ends ctx ends the call.
func (q *request) outlive(ctx context.Context) (end func()) {
	if q.answer.batch || q.answer.shared || !resumable(q.client.Version) {
		q.life.Begin(ctx)
		return func() { q.life.End(nil) }
	}
	q.life.BeginApart(ctx)
	s := q.answer.sse
	w := s.w
	stop := lifetime.AfterFunc(ctx, &q.left, func() {
		if !clientLeft(ctx) || !s.lose(w) {
			q.life.End(context.Cause(ctx))
		}
	})
	end = func() {
		stop()
		q.life.End(nil)
	}
	q.b.hub.trails.trail(s, q.sess, q.msg.ID, q.b.hub.resumeCall, end)
	return end
}

// linger has the GET stream s of a session end with ctx: after a
// while where its client's connection breaks.
func (h *Hub) linger(ctx context.Context, s *stream, sess *session.Session) {
	if !resumable(sess.Client().Version) {
		lifetime.AfterFunc(ctx, &s.hooks.left, s.end)
		return
	}
	w := s.sse.w
	h.trails.trail(s.sse, sess, "", h.resumeStream, s.end)
	lifetime.AfterFunc(ctx, &s.hooks.left, func() {
		if !clientLeft(ctx) || !s.sse.lose(w) {
			s.end()
		}
	})
}

// clientLeft reports whether the context of a request ended because its client is
// gone.
func clientLeft(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, context.Canceled) || fault.Of(cause).Code == fault.ClientGone
}
