package federation

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A stream is a long answer on which a client hears of changes: the GET stream
// of a legacy session, or the answer to a subscriptions/listen. The goroutine
// that serves the request writes what the hub tells it; what targets send is
// written by those who read it, so that a slow client slows them. It is safe for
// concurrent use.
type stream struct {
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

	wake chan struct{} // capacity 1
	done chan struct{}
	once sync.Once

	mu      sync.Mutex
	pending changes
	moved   bool // the backend has other targets now
}

func (b *Backend) newStream(s *sse, c *session.Client) *stream {
	return &stream{
		sse: s, backend: b.cfg.Name, admitted: b.cfg.PolicyFingerprint, policy: b.cfg.PolicyFingerprint, isolation: c.Isolation,
		capabilities: string(c.Capabilities), only: allChanged,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
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

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) take() (c changes, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, moved = s.pending, s.moved
	s.pending, s.moved = 0, false
	return c, moved
}

// end ends the stream in a way that makes the client open another.
func (s *stream) end() { s.once.Do(func() { close(s.done) }) }

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
	s := b.newStream(b.hub.newSSE(w), &client)
	s.live = b.hub.enter(sess.Nonce(), sess)
	s.live.hold(sess)
	if err := b.hub.register(s); err != nil {
		b.hub.leave(s.live)
		return err
	}
	detach(r.Context(), w, func(ctx context.Context) { b.serveGet(ctx, s, sess, f, missed) })
	return nil
}

// A detacher is an [http.ResponseWriter] whose answer can go on after the handler has
// returned, which holds less for as long as it lasts.
type detacher interface {
	// Detach has serve called later, with a context that ends as that of the request
	// would; false says that it will not be.
	Detach(ctx context.Context, serve func(ctx context.Context)) bool
}

// detach has serve answer for long: after the handler has returned, if w can do that.
func detach(ctx context.Context, w http.ResponseWriter, serve func(ctx context.Context)) {
	if d, ok := w.(detacher); !ok || !d.Detach(ctx, serve) {
		serve(ctx)
	}
}

// serveGet serves the stream of a session, which is registered, to its end. It begins
// with what the client missed of an earlier one.
func (b *Backend) serveGet(ctx context.Context, s *stream, sess *session.Session, f session.Forward, missed [][]byte) {
	ctx, cancel := b.hub.linger(ctx, s.sse, sess)
	defer cancel()
	defer b.hub.leave(s.live)
	defer b.hub.unregister(s)
	defer b.hub.opts.Metrics.StreamOpened(telemetry.GetStream)()
	s.live.open(s)
	defer s.live.close(s)
	defer s.sse.finish()
	if err := s.sse.comment(); err != nil {
		return
	}
	if len(missed) > 0 && s.sse.replay(missed) != nil {
		return
	}
	s.sse.keep()

	listening := &listening{ctx: ctx, b: b, sess: sess, stream: s, forward: f, legs: map[*session.Target]context.CancelFunc{}}
	defer listening.wait()
	defer cancel()
	listening.follow(b)
	s.serve(ctx, sess.Done(), listening.follow, func(method string) []byte {
		return protocol.AppendNotification(nil, method, nil)
	})
}

// Changes come in crowds: one is held for settle, so that those of one cause are told
// at once, and a client that was told has peace for pace.
const (
	settle = 20 * time.Millisecond
	pace   = 250 * time.Millisecond
)

// serve tells the client of changes until it goes, or the stream ends. What changed
// last is always told.
func (s *stream) serve(ctx context.Context, ended <-chan struct{}, follow func(*Backend), message func(method string) []byte) {
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-s.done:
			return
		case <-s.wake:
		}
		hold := time.NewTimer(max(settle, time.Until(told.Add(pace))))
		select {
		case <-hold.C:
		case <-ctx.Done():
		case <-ended:
		case <-s.done:
		}
		hold.Stop()
		c, moved := s.take()
		if moved && follow != nil {
			follow(nil)
		}
		for _, method := range c.methods() {
			if err := s.sse.event(message(method)); err != nil {
				return
			}
			told = time.Now()
		}
	}
}

// listening follows the targets of a legacy session on behalf of its stream. It
// belongs to the goroutine that serves the stream.
type listening struct {
	ctx     context.Context
	b       *Backend
	sess    *session.Session
	stream  *stream
	forward session.Forward
	legs    map[*session.Target]context.CancelFunc
	release func()
	wg      sync.WaitGroup
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
	has := map[*session.Target]bool{}
	for i, t := range b.targets {
		has[t] = true
		if l.legs[t] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(l.ctx)
		l.legs[t] = cancel
		l.wg.Go(func() { l.listen(ctx, b, v, i, t) })
	}
	for t, cancel := range l.legs {
		if !has[t] {
			cancel()
			delete(l.legs, t)
		}
	}
}

// listen passes on what one target says outside of calls. A target that is not there
// is tried again.
func (l *listening) listen(ctx context.Context, b *Backend, v *view, target int, t *session.Target) {
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
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
	client := l.sess.Client()
	heard := &voice{b: b, live: l.stream.live, sess: l.sess, client: &client, view: v, leg: leg, target: target,
		forward: l.forward, send: l.stream.sse.event}
	err := leg.Listen(ctx, l.forward, nil, func(m *protocol.Message) error {
		if m.Kind == protocol.Request {
			_, err := heard.request(ctx, m)
			return err
		}
		return heard.notification(ctx, m)
	})
	if err != nil && ctx.Err() == nil {
		b.hub.opts.Logger.DebugContext(ctx, "listening to a target ended", "backend", b.cfg.Name,
			"target", t.Config().Name, "error", err)
	}
}

// wait ends the listening, after its context has ended.
func (l *listening) wait() {
	l.wg.Wait()
	if l.release != nil {
		l.release()
	}
}
