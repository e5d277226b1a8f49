package federation

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A stream is a long answer on which a client hears of changes: the GET stream
// of a legacy session, or the answer to a subscriptions/listen. While there is nothing
// to tell no goroutine waits for that: a timer tells what the hub has noted. What targets send is
// written by those who read it, so that a slow client slows them. It is safe for
// concurrent use.
type stream struct {
	life         lifetime.Lifetime // of the stream
	sse          *sse
	backend      string
	admitted     string // the fingerprint of the rules that admitted it
	policy       string // that of the rules that hold now; guarded by the hub's lock
	isolation    string
	capabilities string
	live         *live // of legacy sessions
	single       bool  // of listen: it follows single resources or tasks
	sight        sight
	only         changes

	// What begin sets.
	follow  func(*Backend)             // follows the targets that the backend has now; nil for none
	message func(method string) []byte // tells of a change
	ended   func(panicked any)         // is told once of the end
	hooks   struct{ left, session, end lifetime.Hook }

	turn     sync.Mutex // held by who tells
	finished bool       // nothing more is told; guarded by turn
	panicked any        // in telling; likewise

	mu      sync.Mutex
	begun   bool
	pending changes
	moved   bool // the backend has other targets now
	due     bool // the timer runs, or what it calls is about to
	timer   *time.Timer
	told    time.Time // when the client was told last
}

// newStream returns a stream with the values of ctx, which lasts until it is ended.
func (b *Backend) newStream(ctx context.Context, s *sse, c *session.Client) *stream {
	out := &stream{
		sse: s, backend: b.cfg.Name, admitted: b.cfg.PolicyFingerprint, policy: b.cfg.PolicyFingerprint, isolation: c.Isolation,
		capabilities: string(c.Capabilities), only: allChanged,
	}
	out.life.BeginApart(context.WithoutCancel(ctx))
	return out
}

// shows reports whether the lists of the entry are part of what the client sees. Those
// that are one session's own are not looked after: its target tells that session.
func (s *stream) shows(e *entry) bool {
	return e.key.session == [16]byte{} && e.key.target.Config().Backend == s.backend && e.key.capabilities == s.capabilities &&
		(e.key.isolation == "" || e.key.isolation == s.isolation)
}

// see has the client told of what it may see of v, as long as the rules hold that
// admitted ctx.
func (s *stream) see(ctx context.Context, v *view) {
	h := v.b.hub
	h.mu.Lock()
	same := s.policy == s.admitted
	h.mu.Unlock()
	if same {
		s.sight.look(ctx, v)
	}
}

// notify has the client told of the changes that it wants to hear of.
func (s *stream) notify(c changes) {
	if c &= s.only; c == 0 {
		return
	}
	s.mu.Lock()
	s.pending |= c
	s.mu.Unlock()
	s.poke()
}

// retarget has the stream follow the targets that its backend has now.
func (s *stream) retarget() {
	s.mu.Lock()
	s.moved = true
	s.mu.Unlock()
	s.poke()
}

// Changes come in crowds: one is held for settle, so that those of one cause are told
// at once, and a client that was told has peace for pace.
const (
	settle = 20 * time.Millisecond
	pace   = 250 * time.Millisecond
)

// poke has the client told in a while, unless that is about to happen.
func (s *stream) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun || s.due {
		return
	}
	s.due = true
	hold := max(settle, time.Until(s.told.Add(pace)))
	if s.timer == nil {
		s.timer = time.AfterFunc(hold, s.tell)
	} else {
		s.timer.Reset(hold)
	}
}

func (s *stream) take() (c changes, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, moved = s.pending, s.moved
	s.pending, s.moved, s.due = 0, false, false
	return c, moved
}

// begin has the client told of changes until the life of the stream ends, which it does with ctx, with that of the session, if
// there is one, and when the client can't be told. What changed last is always told. ended is then called, in a
// goroutine of its own, with what the telling panicked with, if it did.
func (s *stream) begin(ctx context.Context, sess *session.Session, follow func(*Backend), message func(method string) []byte, ended func(panicked any)) {
	s.follow, s.message, s.ended = follow, message, ended
	if ctx != context.Context(&s.life) {
		lifetime.AfterFunc(ctx, &s.hooks.left, s.end)
	}
	if sess != nil {
		s.life.EndWith(&s.hooks.session, sess.Life())
	}
	s.mu.Lock()
	s.begun = true
	changed := s.pending != 0 || s.moved
	s.mu.Unlock()
	if changed {
		s.poke()
	}
	s.life.Hook(&s.hooks.end, s.finish)
}

// serve is begin, and returns at the end.
func (s *stream) serve(ctx context.Context, sess *session.Session, follow func(*Backend), message func(method string) []byte) {
	ended := make(chan any, 1)
	s.begin(ctx, sess, follow, message, func(panicked any) { ended <- panicked })
	if v := <-ended; v != nil {
		panic(v)
	}
}

// tell tells the client of what has changed.
func (s *stream) tell() {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.finished {
		s.tellNow()
	}
}

// tellNow is tell for who has the turn.
func (s *stream) tellNow() {
	defer func() {
		if v := recover(); v != nil {
			s.panicked = v
			s.end()
		}
	}()
	c, moved := s.take()
	if moved && s.follow != nil {
		s.follow(nil)
	}
	for _, method := range c.methods() {
		if err := s.sse.event(s.message(method)); err != nil {
			s.end()
			return
		}
		s.mu.Lock()
		s.told = time.Now()
		s.mu.Unlock()
	}
}

// finish tells what was not told yet, and that the stream has ended.
func (s *stream) finish() {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.finished = true
	s.mu.Lock()
	changed := s.due
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	if changed && s.panicked == nil {
		s.tellNow()
	}
	s.hooks.left.Stop()
	s.hooks.session.Stop()
	s.ended(s.panicked)
}

// end ends the stream in a way that makes the client open another.
func (s *stream) end() { s.life.End(nil) }

// subscribed reports whether the stream carries what single resources or tasks do.
func (s *stream) subscribed() bool {
	return s.single || s.live != nil && s.live.subscribed("")
}

// get serves the GET of a legacy session: a stream for everything that belongs
// to no request (2025-11-25, Streamable HTTP, Listening for Messages). A session
// has one; a new one takes the place of the old, whose client may have lost it
// without our knowing.
func (b *Backend) get(w http.ResponseWriter, r *http.Request) error {
	if protocol.EraOf(r.Header.Get(protocol.HeaderProtocolVersion)) == protocol.Modern {
		return methodNotAllowed("POST")
	}
	if _, stream := accepts(r.Header.Values("Accept")); !stream {
		return fault.New(fault.NotAcceptable, "Accept must contain text/event-stream")
	}
	rec := telemetry.FromContext(r.Context())
	rec.MCP.Era = protocol.Legacy.String()
	f := b.forwardOf(r)
	sess, err := b.openSession(r.Context(), r.Header, b.isolationOf(r, &f, nil))
	if err == nil && r.Header.Get(protocol.HeaderLastEventID) == "" && !sess.AtHome() {
		err = b.hub.away(r.Context(), sess.Home(), errNoSession)
	}
	var e *elsewhere
	if errors.As(err, &e) {
		return b.carryStream(w, r, e)
	}
	if err != nil {
		return err
	}
	client := sess.Client()
	rec.MCP.ProtocolVersion = client.Version
	var missed [][]byte
	if id := r.Header.Get(protocol.HeaderLastEventID); id != "" && resumable(client.Version) {
		ev, ok := b.hub.trails.parse(id, sess.Nonce())
		if !ok {
			return fault.New(fault.BadRequest, "the Last-Event-ID is not one of this session")
		}
		var done bool
		if missed, done, err = b.resume(w, r, sess, ev); done {
			return err
		}
	}
	s := b.newStream(r.Context(), b.hub.newSSE(w), &client)
	s.live = b.hub.enter(sess.Nonce(), sess)
	s.live.hold(sess)
	if err := b.hub.register(s); err != nil {
		b.hub.leave(s.live)
		return err
	}
	detachBegun(r.Context(), w, func(ctx context.Context, done func(any)) { b.beginGet(ctx, s, sess, f, missed, done) })
	return nil
}

// A detacher is an [http.ResponseWriter] whose answer can go on after the handler has
// returned, which holds less for as long as it lasts.
type detacher interface {
	// Detach has begin called later, with a context that ends as that of the request
	// would, to begin an answer that goes on until done is called; false says that it will not be.
	Detach(ctx context.Context, begin func(ctx context.Context, done func(panicked any))) bool
}

// detach has serve answer for long: after the handler has returned, if w can do that.
func detach(ctx context.Context, w http.ResponseWriter, serve func(ctx context.Context)) {
	begin := func(ctx context.Context, done func(any)) {
		go func() {
			defer func() { done(recover()) }()
			serve(ctx)
		}()
	}
	if d, ok := w.(detacher); !ok || !d.Detach(ctx, begin) {
		serve(ctx)
	}
}

// detachBegun is detach for an answer that begin begins, and that needs no goroutine until done is called.
func detachBegun(ctx context.Context, w http.ResponseWriter, begin func(ctx context.Context, done func(panicked any))) {
	if d, ok := w.(detacher); ok && d.Detach(ctx, begin) {
		return
	}
	over := make(chan any, 1)
	begin(ctx, func(v any) { over <- v })
	if v := <-over; v != nil {
		panic(v)
	}
}

// beginGet begins the stream of a session, which is registered, and calls done at its end. It begins
// with what the client missed of an earlier one.
func (b *Backend) beginGet(ctx context.Context, s *stream, sess *session.Session, f session.Forward, missed [][]byte, done func(panicked any)) {
	b.hub.linger(ctx, s, sess)
	closed := b.hub.opts.Metrics.StreamOpened(telemetry.GetStream)
	s.live.open(s)
	l := &listening{ctx: &s.life, b: b, sess: sess, stream: s, forward: f}
	over := func(panicked any) {
		l.wait()
		s.sse.finish()
		s.live.close(s)
		closed()
		b.hub.unregister(s)
		b.hub.leave(s.live)
		done(panicked)
	}
	defer func() {
		if v := recover(); v != nil {
			s.end()
			over(v)
		}
	}()
	err := s.sse.comment()
	if err == nil && len(missed) > 0 {
		err = s.sse.replay(missed)
	}
	if err != nil {
		s.end()
	} else {
		s.sse.keep()
		l.follow(b)
	}
	s.begin(&s.life, sess, l.follow, func(method string) []byte {
		return protocol.AppendNotification(nil, method, nil)
	}, over)
}

// listening follows the targets of a legacy session on behalf of its stream. It
// belongs to the goroutine that serves the stream.
type listening struct {
	ctx     context.Context
	b       *Backend
	sess    *session.Session
	stream  *stream
	forward session.Forward
	legs    []*listener
	release func()
	wg      sync.WaitGroup
}

// A listener listens to one target.
type listener struct {
	target *session.Target
	life   lifetime.Lifetime
}

// follow begins to listen to the targets of b that are new, and leaves those
// that it does not have. nil stands for what is live now.
func (l *listening) follow(b *Backend) {
	if b == nil {
		if b = l.b.hub.current(l.b.cfg.Name); b == nil {
			return
		}
	}
	l.b = b
	client := l.sess.Client()
	v := b.view(client.Isolation, client.Capabilities, l.forward)
	releases := make([]func(), len(v.entries))
	for i, e := range v.entries {
		releases[i] = e.hold()
	}
	if l.release != nil {
		l.release()
	}
	l.stream.see(l.ctx, v)
	l.release = func() {
		for _, release := range releases {
			release()
		}
	}
	l.legs = slices.DeleteFunc(l.legs, func(leg *listener) bool {
		if slices.Contains(b.targets, leg.target) {
			return false
		}
		leg.life.End(nil)
		return true
	})
	for i, t := range b.targets {
		if slices.ContainsFunc(l.legs, func(leg *listener) bool { return leg.target == t }) {
			continue
		}
		leg := &listener{target: t}
		leg.life.Begin(l.ctx)
		l.legs = append(l.legs, leg)
		l.wg.Add(1)
		go l.listen(&leg.life, b, v, i, t)
	}
}

// listen passes on what one target says outside of calls, until ctx ends, which it also ends. A target that is not there
// is tried again.
func (l *listening) listen(ctx *lifetime.Lifetime, b *Backend, v *view, target int, t *session.Target) {
	var leg *session.Leg
	for pause := b.hub.relisten; leg == nil; pause = min(2*pause, maxBackoff) {
		var err error
		if leg, err = l.sess.Leg(ctx, t, l.forward); err == nil {
			break
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.sess.Done():
			timer.Stop()
			l.listened(ctx, b, t, nil)
			return
		case <-ctx.Done():
			timer.Stop()
			l.listened(ctx, b, t, nil)
			return
		}
	}
	client := l.sess.Client()
	heard := &voice{b: b, live: l.stream.live, sess: l.sess, client: &client, view: v, leg: leg, target: target,
		forward: l.forward, send: l.stream.sse.event}
	leg.Follow(ctx, l.forward, heard.missed, func(m *protocol.Message) error {
		if m.Kind == protocol.Request {
			_, err := heard.request(ctx, m)
			return err
		}
		return heard.notification(ctx, m)
	}, func(err error) { l.listened(ctx, b, t, err) })
}

// listened ends what listen began.
func (l *listening) listened(ctx *lifetime.Lifetime, b *Backend, t *session.Target, err error) {
	if err != nil && ctx.Err() == nil {
		b.hub.opts.Logger.DebugContext(ctx, "listening to a target ended", "backend", b.cfg.Name,
			"target", t.Config().Name, "error", err)
	}
	ctx.End(nil)
	l.wg.Done()
}

// wait ends the listening, after its context has ended.
func (l *listening) wait() {
	l.wg.Wait()
	if l.release != nil {
		l.release()
	}
}
