package federation

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A good is a list that a target gave, and how long that is believed.
type good struct {
	*list
	until time.Time // from then on who asks has it fetched anew
	poll  time.Time // from then on it is fetched anew for those who only listen
	keep  time.Time // until then the target lets clients keep it
}

// A slot is one list of an entry: the last good one, and what is known of how true
// it still is. It is safe for concurrent use.
type slot struct {
	// fresh is good while nothing but its age can speak against it: what is in memory
	// is served without a lock.
	fresh atomic.Pointer[good]

	mu   sync.Mutex
	good *good
	// changes counts how often the target said that the list changed; covered is how
	// many of them the list has seen.
	changes, covered uint64
	// said is set while clients have not been told what the target told everybody: its
	// list may come back as it was, when something came and went.
	said     bool
	flight   chan struct{} // closed when the fetch that is due or under way has ended
	sees     uint64        // how many of the changes it sees; all of them until it begins
	next     chan struct{} // likewise of the fetch after that, once somebody waits for it
	relists  *rate.Limiter // of fetches because of changes
	poll     *time.Timer
	failures int
	failed   error
	failedAt time.Time // since when it fails
	retryAt  time.Time
}

// changed reports whether the list is known to be old. The caller holds the lock.
func (s *slot) changed() bool { return s.changes != s.covered }

// lastGood returns the last list that was fetched, unless its target has failed
// for too long since. The caller holds the lock.
func (s *slot) lastGood(now time.Time) *list {
	if s.good == nil || s.failed != nil && now.Sub(s.failedAt) > staleFor {
		return nil
	}
	return s.good.list
}

// settle makes fresh what it has to be. The caller holds the lock.
func (s *slot) settle() {
	if s.failed != nil || s.changed() {
		s.fresh.Store(nil)
		return
	}
	s.fresh.Store(s.good)
}

var (
	errSlow   = fault.New(fault.UpstreamTimeout, "the target did not list in time")
	errNone   = fault.New(fault.Overloaded, "the list could not be kept")
	errClosed = fault.New(fault.Draining, "the gateway is shutting down")
)

// fresh returns the list if it need not be fetched, else nil.
func (e *entry) fresh(k kind) *good {
	g := e.slots[k].fresh.Load()
	if g == nil || !e.hub.now().Before(g.until) {
		return nil
	}
	return g
}

// An inquiry is what was asked of a slot: the answer, or the flight that brings it.
type inquiry struct {
	list   *list
	err    error
	flight <-chan struct{} // nil when there is nothing to wait for
	wait   time.Duration   // how long the flight is worth waiting for
}

// ask asks for the list, and has it fetched when it is old; all who ask meanwhile
// share one flight. Who asks waits for a list that is missing or known to have
// changed; for one that is only old hardly; and for a target that failed not at all:
// whether it is back is found out behind them.
func (e *entry) ask(k kind) inquiry {
	if g := e.fresh(k); g != nil {
		return inquiry{list: g.list}
	}
	s := &e.slots[k]
	now := e.hub.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		_ = e.lister.breaker.check(e.lister.ping) // which may find that it is back
		if !now.Before(s.retryAt) {
			s.begin(e, k)
		}
		return inquiry{list: s.lastGood(now), err: s.failed}
	}
	if !s.begin(e, k) {
		return inquiry{list: s.lastGood(now), err: errClosed}
	}
	q := inquiry{flight: s.awaited(), wait: timeoutOf(e.key.target)}
	if s.good != nil && !s.changed() {
		q.wait = min(q.wait, refreshWait)
	}
	return q
}

// awaited returns the flight that brings what the target has said so far: one that began before the last change may bring
// what was there before it, and who was told of the change asks for nothing else. The caller holds the lock, and has
// begun a flight.
func (s *slot) awaited() chan struct{} {
	if s.sees >= s.changes {
		return s.flight
	}
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// answer returns what the slot has after the flight of an inquiry, or after what
// that was worth waiting for. The error, when there is one, says why the list is
// the last good one, or nil.
func (e *entry) answer(k kind, landed bool) (*list, error) {
	s := &e.slots[k]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := e.hub.now()
	switch {
	case s.failed != nil:
		return s.lastGood(now), s.failed
	case !landed && (s.good == nil || s.changed()):
		return s.lastGood(now), errSlow
	case s.good == nil:
		return nil, errNone
	}
	return s.good.list, nil
}

// get asks and waits. The error, when there is one, says why the list is the last
// good one, or nil.
func (e *entry) get(ctx context.Context, k kind) (*list, error) {
	q := e.ask(k)
	if q.flight == nil {
		return q.list, q.err
	}
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	select {
	case <-q.flight:
		return e.answer(k, true)
	case <-timer.C:
		return e.answer(k, false)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep returns how long clients may keep the list l, which is served now: not at all
// when it is not the one that is believed.
func (e *entry) keep(k kind, l *list) time.Duration {
	g := e.slots[k].fresh.Load()
	if g == nil || g.list != l {
		return 0
	}
	return max(g.keep.Sub(e.hub.now()), 0)
}

// changed reports whether the list in memory is known to be old.
func (e *entry) changed(k kind) bool {
	s := &e.slots[k]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed()
}

// peek returns the list as it is in memory, nil when there is none. One that is
// old is fetched anew meanwhile.
func (e *entry) peek(k kind) *list {
	if g := e.fresh(k); g != nil {
		return g.list
	}
	s := &e.slots[k]
	now := e.hub.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lastGood(now)
	if l != nil && !now.Before(s.retryAt) {
		s.begin(e, k)
	}
	return l
}

// begin has the list fetched, if it is not already; it reports false when the hub
// has ended. What a target says changed again and again is not fetched at once each
// time. The caller holds the lock.
func (s *slot) begin(e *entry, k kind) bool {
	if s.flight != nil {
		return true
	}
	flight := s.next
	if s.next = nil; flight == nil {
		flight = make(chan struct{})
	}
	s.sees = math.MaxUint64
	fetch := func() bool {
		return e.hub.spawn(func(ctx context.Context) { e.refresh(ctx, k, flight) })
	}
	var delay time.Duration
	if s.changed() && s.good != nil {
		if s.relists == nil {
			s.relists = rate.NewLimiter(rate.Every(relistEvery), relistBurst)
		}
		now := e.hub.now()
		delay = s.relists.ReserveN(now, 1).DelayFrom(now)
	}
	if delay == 0 {
		if !fetch() {
			return false
		}
		s.flight = flight
		return true
	}
	s.flight = flight
	time.AfterFunc(delay, func() {
		if !fetch() {
			e.land(k, flight)
		}
	})
	return true
}

// land ends a flight that brings nothing.
func (e *entry) land(k kind, flight chan struct{}) {
	s := &e.slots[k]
	s.mu.Lock()
	s.flight = nil
	s.mu.Unlock()
	close(flight)
}

// refresh fetches the list, wakes those who wait for it, and tells the clients that
// show another.
func (e *entry) refresh(ctx context.Context, k kind, flight chan struct{}) {
	s := &e.slots[k]
	e.hub.fetches <- struct{}{}
	s.mu.Lock()
	said := s.said
	s.sees, s.said = s.changes, false
	s.mu.Unlock()
	asked := e.hub.now()
	got, err := e.lister.fetch(ctx, k)
	<-e.hub.fetches
	e.hub.opts.Metrics.Listed(e.key.target.Config().Backend, e.key.target.Config().Name, err == nil)
	var l *list
	if err == nil {
		l = e.hub.shelf.put(shelfKey{e.key.target, e.key.scope, k, got.digest}, got.list)
	}
	now := e.hub.now()

	s.mu.Lock()
	s.flight = nil
	before, tell := s.lastGood(now), false
	var replaced *list
	if err != nil {
		s.fail(e, k, err, now)
	} else {
		tell = before != l && (before != nil || s.failures > 0)
		if s.good != nil {
			replaced = s.good.list
		}
		s.good = &good{list: l, until: now.Add(got.ttl), poll: now.Add(got.poll), keep: asked.Add(got.keep)}
		s.covered = s.sees
		s.failures, s.failed, s.retryAt = 0, nil, time.Time{}
	}
	s.settle()
	next := s.next
	if err == nil && s.changed() && (next != nil || e.streams.Load() > 0) && s.begin(e, k) {
		next = nil
	}
	if next != nil {
		s.next = nil
		defer close(next) // there is nothing more to wait for
	}
	s.mu.Unlock()
	if replaced != nil {
		e.hub.shelf.drop(replaced)
	}
	// Before the calls that wait for the list are counted under its names.
	e.measure()
	close(flight)
	if e.gone.Load() {
		e.empty()
	}
	switch {
	case tell:
		e.announce(features[k].change)
	case said && err == nil:
		e.hub.notifyEntry(e, features[k].change, passing)
	}
	e.arm(k)
	e.hub.trim()
}

// fail notes that the list could not be fetched. It is said once, until it could.
// The caller holds the lock.
func (s *slot) fail(e *entry, k kind, err error, now time.Time) {
	if s.failures++; s.failures == 1 {
		s.failedAt = now
		e.hub.opts.Logger.Warn("target does not list", "backend", e.key.target.Config().Backend,
			"target", e.key.target.Config().Name, "list", features[k].member, "error", err)
	}
	s.failed = err
	s.retryAt = now.Add(min(minBackoff<<min(s.failures-1, 10), maxBackoff))
}

// arm has the list fetched anew when it is due, while streams show it: nobody else
// would notice that it changed, or that its target is back.
func (e *entry) arm(k kind) {
	if e.streams.Load() == 0 || e.gone.Load() {
		return
	}
	s := &e.slots[k]
	s.mu.Lock()
	defer s.mu.Unlock()
	var at time.Time
	switch {
	case s.flight != nil: // which arms when it lands
		return
	case s.failed != nil:
		at = s.retryAt
	case s.good != nil:
		at = s.good.poll
	case e.announces(k): // so that who never asked for the list hears of changes
		return
	default:
		s.begin(e, k) // to have something to compare with
		return
	}
	after := max(at.Sub(e.hub.now()), 0)
	if s.poll != nil {
		s.poll.Reset(after)
		return
	}
	s.poll = time.AfterFunc(after, func() {
		if e.streams.Load() == 0 || e.gone.Load() {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.begin(e, k)
	})
}

// announces reports whether the target is known to tell of changes of the list.
func (e *entry) announces(k kind) bool {
	d := e.key.target.Known(e.lister.client, e.lister.forward)
	return d != nil && string(protocol.Get(d.Capabilities, features[k].capability, "listChanged")) == "true"
}

// recover has what failed fetched anew, once its target answers again.
func (e *entry) recover() {
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		if s.failed != nil {
			s.retryAt = time.Time{}
			if !e.key.private() || e.streams.Load() > 0 {
				s.begin(e, kind(k))
			}
		}
		s.mu.Unlock()
	}
}

// expire drops what failed for so long that nobody is shown it any more, and reports
// whether that was anything.
func (e *entry) expire(now time.Time) (c changes) {
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		if s.good != nil && s.lastGood(now) == nil {
			e.hub.shelf.drop(s.good.list)
			s.good = nil
			c |= features[k].change
		}
		s.mu.Unlock()
	}
	return c
}

// empty gives back what an entry holds that is no longer the hub's.
func (e *entry) empty() {
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		if s.good != nil {
			e.hub.shelf.drop(s.good.list)
			s.good = nil
			s.settle()
		}
		if s.poll != nil {
			s.poll.Stop()
		}
		s.mu.Unlock()
	}
}
