package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/upstream"
)

// A Session is one legacy client's session. It is safe for concurrent use.
type Session struct {
	all     *Sessions
	id      string
	nonce   [16]byte
	backend string
	home    string
	expires time.Time
	client  *Client
	sealed  []byte // the legs of the token, most of which an idle session does not use

	mu      sync.Mutex
	level   string // the log level that the client set
	legs    []*Leg // those that are used: they go before the sealed ones
	opening map[targetID]*opening
	part    any                // federation's
	life    *lifetime.Lifetime // see Life; nil until somebody asks
	ended   bool
	kept    atomic.Bool  // it is in all.live
	used    atomic.Int64 // the sweep after which it was last opened
}

// An opening is a leg that is being made for all callers that want it.
type opening struct {
	done chan struct{}
	leg  *Leg
	err  error
}

// finish ends a session without a request of its client.
func (sess *Session) finish() {
	for _, l := range sess.finished() {
		l.t.parting(func(ctx context.Context) { _ = l.Close(ctx) })
	}
}

// finished marks the session as ended and returns its legs, once.
func (sess *Session) finished() []*Leg {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.ended {
		return nil
	}
	sess.ended = true
	if sess.life != nil {
		sess.life.End(nil)
	}
	return sess.legs
}

// over reports whether the session is ended or expired.
func (sess *Session) over() bool {
	if !sess.all.opts.Now().Before(sess.expires) {
		return true
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.ended
}

// keep makes the session one that is held in this process, if that is its home.
func (sess *Session) keep() {
	if sess.AtHome() && sess.kept.CompareAndSwap(false, true) {
		sess.all.keep(sess)
	}
}

// ID returns the sealed id.
func (sess *Session) ID() string { return sess.id }

// Nonce returns what tells the session apart from all others. It is not secret
// and of no use to anybody.
func (sess *Session) Nonce() [16]byte { return sess.nonce }

// Home returns the address of the replica that made the session, which alone
// knows what came after initialize; "" when replicas were given no addresses.
func (sess *Session) Home() string { return sess.home }

// Client returns what initialize fixed about the client.
func (sess *Session) Client() Client { return *sess.client }

// ErrAtHome says that only the home replica of a session can do what was asked: it
// takes a leg that was made or renewed after initialize, or that no token can hold.
// The target was asked nothing.
var ErrAtHome = errors.New("the home replica of the session is needed")

// AtHome reports whether this process is the session's home, or the session has
// none.
func (sess *Session) AtHome() bool { return sess.home == "" || sess.home == sess.all.opts.Home }

// Leg returns the session's leg to a target: the one that initialize opened, the
// one made since, or a new one. Callers that want the same new leg share it. Away
// from home it is the one that initialize opened, one to a modern target, which
// needs no state, or ErrAtHome.
func (sess *Session) Leg(ctx context.Context, t *Target, f Forward) (*Leg, error) {
	id := t.id
	sess.mu.Lock()
	if sess.ended {
		sess.mu.Unlock()
		return nil, fault.New(fault.NotFound, "the session has ended")
	}
	if l := sess.restored(t, id); l != nil {
		sess.mu.Unlock()
		return l, nil
	}
	if !sess.AtHome() {
		sess.mu.Unlock()
		return sess.away(ctx, t, f)
	}
	o := sess.opening[id]
	if o == nil {
		o = &opening{done: make(chan struct{})}
		if sess.opening == nil {
			sess.opening = make(map[targetID]*opening)
		}
		sess.opening[id] = o
		if !t.spawn(func() { sess.open(o, t, f) }) {
			delete(sess.opening, id)
			sess.mu.Unlock()
			return nil, t.closedFault()
		}
	}
	sess.mu.Unlock()
	select {
	case <-o.done:
		return o.leg, o.err
	case <-ctx.Done():
		return nil, t.fault(ctx, ctx.Err())
	}
}

// away returns a leg to a target that initialize left no session of.
func (sess *Session) away(ctx context.Context, t *Target, f Forward) (*Leg, error) {
	if t.cfg.Transport != StreamableHTTP {
		return nil, ErrAtHome
	}
	disc, err := t.Discover(ctx, *sess.client, f)
	switch {
	case err != nil:
		return nil, err
	case disc.Era != protocol.Modern:
		return nil, ErrAtHome
	}
	l := &Leg{t: t, client: sess.client, away: true, w: t.wireAtHand(sess.client, f)}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if i := slices.IndexFunc(sess.legs, func(l *Leg) bool { return l.t == t }); i >= 0 { // somebody was quicker
		return sess.legs[i], nil
	}
	sess.legs = append(slices.Clip(sess.legs), l)
	return l, nil
}

// restored returns the leg to the target that is used already, or made from what
// initialize left in the token; nil if there is neither. sess.mu is held.
func (sess *Session) restored(t *Target, id targetID) *Leg {
	state, ok := legState{}, false
	i := slices.IndexFunc(sess.legs, func(l *Leg) bool { return l.t.id == id })
	switch {
	case i < 0:
		state, ok = findLeg(sess.sealed, id)
	case sess.legs[i].t == t:
		return sess.legs[i]
	default:
		// The target was made anew from the same configuration.
		state, ok = sess.legs[i].state()
		sess.legs = slices.Delete(slices.Clone(sess.legs), i, i+1)
	}
	if !ok {
		return nil
	}
	l := &Leg{t: t, client: sess.client, changed: sess.keep, away: !sess.AtHome(), w: &legacyHTTP{
		t: t, sid: state.sid, revision: state.revision, pin: upstream.Pin{Endpoint: state.endpoint},
	}}
	sess.legs = append(slices.Clip(sess.legs), l)
	return l
}

// SetLevel notes the log level that the client set, for targets that the session has
// no leg to yet.
func (sess *Session) SetLevel(level string) {
	sess.mu.Lock()
	sess.level = level
	sess.mu.Unlock()
	sess.keep()
}

// open makes a leg for all that wait for o.
func (sess *Session) open(o *opening, t *Target, f Forward) {
	o.leg, o.err = t.Open(t.ctx, *sess.client, f)
	id := t.id
	sess.mu.Lock()
	level := sess.level
	sess.mu.Unlock()
	if o.err == nil && level != "" {
		// A target that does not take it now is no reason not to use it.
		if err := o.leg.begin(t.ctx, level, f); err != nil {
			t.log.Debug("a target did not take the log level", "error", err)
		}
	}
	sess.mu.Lock()
	delete(sess.opening, id)
	ended := sess.ended
	if o.err == nil && !ended {
		o.leg.setChanged(sess.keep)
		sess.legs = append(slices.Clip(sess.legs), o.leg)
	}
	sess.mu.Unlock()
	switch {
	case o.err != nil:
	case ended:
		l := o.leg
		t.parting(func(ctx context.Context) { _ = l.Close(ctx) })
		o.leg, o.err = nil, fault.New(fault.NotFound, "the session has ended")
	case o.leg.Era() == protocol.Legacy:
		sess.keep() // only this process knows the new leg
	}
	close(o.done)
}

// Live returns the part of the session that package federation keeps in this
// process (its GET stream, pending server→client requests, log level), made by
// create on first use. A session with such a part is held until it expires, at home.
func (sess *Session) Live(create func() any) any {
	sess.keep()
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.part == nil {
		sess.part = create()
	}
	return sess.part
}

// Peek returns the part that Live made, nil if there is none.
func (sess *Session) Peek() any {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.part
}

// Life ends when the session is ended.
func (sess *Session) Life() *lifetime.Lifetime {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.life == nil {
		sess.life = new(lifetime.Lifetime)
		sess.life.BeginApart(context.Background())
		if sess.ended {
			sess.life.End(nil)
		}
	}
	return sess.life
}

// Done is closed when the session is ended.
func (sess *Session) Done() <-chan struct{} { return sess.Life().Done() }

// End ends the session and its legs. That it has ended is remembered until it
// would have expired. Legs that this process never used are ended if their targets
// are among those given.
func (sess *Session) End(ctx context.Context, targets ...*Target) {
	s := sess.all
	s.mu.Lock()
	s.ended.Add(sess.nonce, sess.expires)
	live, _ := s.live.Peek(sess.id)
	s.live.Remove(sess.id)
	s.mu.Unlock()
	opened, _ := s.opened.Peek(sess.id)
	s.opened.Remove(sess.id)
	for _, o := range []*Session{live, opened} { // opened twice, because the cache is too small
		if o != nil && o != sess {
			o.finish()
		}
	}
	sess.mu.Lock()
	for _, t := range targets {
		sess.restored(t, t.id)
	}
	sess.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range sess.finished() {
		wg.Go(func() { _ = l.Close(ctx) })
	}
	wg.Wait()
}
