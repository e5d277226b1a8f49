package federation

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// How catalogues age.
const (
	// staleFor is how long the last good list of a target that fails is served.
	staleFor = 10 * time.Minute
	// refreshWait is how long a request waits for a list that is only old, and
	// not known to have changed, before it takes the old one.
	refreshWait = 250 * time.Millisecond
	// debounce collects list_changed notifications.
	debounce = 250 * time.Millisecond
	// A failing target is left alone between attempts, from minBackoff, doubled
	// by each failure, to maxBackoff.
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// An entryKey says which callers share the lists of a target: those whose
// requests the target can't tell apart.
type entryKey struct {
	target       *session.Target
	scope        scope
	isolation    string // empty where the target gets nothing of the caller's
	capabilities string // raw
}

// An entry holds the lists of one target for one kind of caller. It is safe for
// concurrent use.
type entry struct {
	hub    *Hub
	key    entryKey
	lister lister
	cancel context.CancelFunc // of the watch
	slots  [kinds]slot

	used atomic.Int64 // when it was last asked for, in Unix nanoseconds
	gone atomic.Bool  // the hub has dropped it

	mu      sync.Mutex
	streams int // that show this entry; a private entry is only watched while there are any
	pending changes
	timer   *time.Timer
}

// A slot is one list of an entry.
type slot struct {
	mu       sync.Mutex
	list     *list
	changed  bool // the list is known to be old
	inflight chan struct{}
	again    bool // it changed while it was being fetched
	failures int
	failed   error
	retryAt  time.Time
	failedAt time.Time // since when it fails
}

// get returns the list, fetched anew when it is old. The error, when there is
// one, says why; the list is then the last good one, or nil.
func (e *entry) get(ctx context.Context, k kind) (*list, error) {
	s := &e.slots[k]
	now := e.hub.now()
	if l := e.fresh(k); l != nil {
		return l, nil
	}
	s.mu.Lock()
	if s.inflight == nil && now.Before(s.retryAt) {
		defer s.mu.Unlock()
		return s.lastGood(now), s.failed
	}
	if s.inflight == nil && !s.begin(e, k) {
		defer s.mu.Unlock()
		return s.lastGood(now), errClosed
	}
	done := s.inflight
	wait := timeoutOf(e.key.target)
	if s.list != nil && !s.changed && s.failed == nil {
		wait = min(wait, refreshWait)
	}
	s.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var late error
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		late = errSlow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.lastGood(e.hub.now()), s.failed
	}
	if s.list == nil || s.changed {
		return s.lastGood(e.hub.now()), late
	}
	return s.list, nil
}

// fresh returns the list if it need not be fetched, else nil.
func (e *entry) fresh(k kind) *list {
	s := &e.slots[k]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil || s.changed || s.failed != nil || !e.hub.now().Before(s.list.fetched.Add(s.list.ttl)) {
		return nil
	}
	return s.list
}

// changed reports whether the list in memory is known to be old.
func (e *entry) changed(k kind) bool {
	s := &e.slots[k]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// peek returns the list as it is in memory, nil when there is none. One that is
// old is fetched anew meanwhile.
func (e *entry) peek(k kind) *list {
	s := &e.slots[k]
	now := e.hub.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lastGood(now)
	if l != nil && s.inflight == nil && !now.Before(s.retryAt) && (s.changed || !now.Before(l.fetched.Add(l.ttl))) {
		s.begin(e, k)
	}
	return l
}

// begin starts to fetch the list; it reports false when the hub has ended. The
// caller holds the lock.
func (s *slot) begin(e *entry, k kind) bool {
	s.inflight = make(chan struct{})
	if e.hub.spawn(func(ctx context.Context) { e.refresh(ctx, k) }) {
		return true
	}
	s.inflight = nil
	return false
}

// lastGood returns the last list that was fetched, unless its target has failed
// for too long since. The caller holds the lock.
func (s *slot) lastGood(now time.Time) *list {
	if s.list == nil || s.failed != nil && now.Sub(s.failedAt) > staleFor {
		return nil
	}
	return s.list
}

var (
	errSlow   = fault.New(fault.UpstreamTimeout, "the target did not list in time")
	errClosed = fault.New(fault.Draining, "the gateway is shutting down")
)

// refresh fetches the list and wakes those who wait for it.
func (e *entry) refresh(ctx context.Context, k kind) {
	s := &e.slots[k]
	s.mu.Lock()
	s.again = false
	s.mu.Unlock()
	l, err := e.lister.fetch(ctx, k)
	now := e.hub.now()

	s.mu.Lock()
	done := s.inflight
	s.inflight = nil
	came := false
	if err != nil {
		if s.failures++; s.failures == 1 {
			s.failedAt = now
		}
		s.failed = err
		s.retryAt = now.Add(min(minBackoff<<min(s.failures-1, 10), maxBackoff))
		if s.failures == 1 {
			e.hub.opts.Logger.WarnContext(ctx, "target does not list", "backend", e.key.target.Config().Backend,
				"target", e.key.target.Config().Name, "list", features[k].member, "error", err)
		}
	} else {
		came = s.failures > 0 || s.list != nil && s.list.digest != l.digest && !s.changed
		s.list, s.changed = l, s.again
		s.failures, s.failed, s.retryAt = 0, nil, time.Time{}
	}
	s.mu.Unlock()
	// Before the calls that wait for the list are counted under its names.
	e.measure()
	close(done)
	if came {
		e.announce(features[k].change)
	}
}

// measure reports how much the target offers. Of lists that are private to
// callers nobody has a total: only their names are reported.
func (e *entry) measure() {
	if e.hub.opts.Metrics == nil {
		return
	}
	var n [kinds]int
	var names []string
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		l := s.list
		s.mu.Unlock()
		if l == nil {
			continue
		}
		n[k] = len(l.items)
		if kind(k) == tools || kind(k) == prompts {
			for _, it := range l.items {
				names = append(names, it.own)
			}
		}
	}
	cfg := e.key.target.Config()
	if e.key.isolation != "" {
		e.hub.opts.Metrics.PrivateNames(cfg.Backend, cfg.Name, names)
		return
	}
	e.hub.opts.Metrics.Catalogue(cfg.Backend, cfg.Name, telemetry.CatalogueSize{
		Tools: n[tools], Prompts: n[prompts], Resources: n[resources], Templates: n[templates]}, names)
}

// invalidate marks lists as old, so that the next request fetches them, and
// tells the clients that show them.
func (e *entry) invalidate(c changes) {
	for k := range e.slots {
		if c&features[k].change == 0 {
			continue
		}
		s := &e.slots[k]
		s.mu.Lock()
		s.changed, s.again = true, true
		s.retryAt = time.Time{}
		s.mu.Unlock()
	}
	e.announce(c)
}

// announce tells the clients that show the entry, once for all that happens
// within the debounce time.
func (e *entry) announce(c changes) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending |= c
	if e.timer == nil {
		e.timer = time.AfterFunc(debounce, func() {
			e.mu.Lock()
			c := e.pending
			e.pending, e.timer = 0, nil
			e.mu.Unlock()
			e.hub.notifyEntry(e, c)
		})
	}
}

// watch follows the target's own notifications until ctx ends.
func (e *entry) watch(ctx context.Context) {
	e.key.target.Watch(ctx, e.lister.client, e.lister.forward, func(m *protocol.Message) {
		if c := changeOf(m.Method); c != 0 {
			e.invalidate(c)
		}
	})
}

// hold counts a stream that shows the entry; the returned function takes it back.
func (e *entry) hold() (release func()) {
	e.mu.Lock()
	e.streams++
	start := e.streams == 1 && e.cancel == nil
	if start {
		var ctx context.Context
		ctx, e.cancel = context.WithCancel(context.Background())
		e.hub.spawn(func(stop context.Context) {
			defer context.AfterFunc(stop, e.stopWatch)()
			e.watch(ctx)
		})
	}
	e.mu.Unlock()
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.streams--
		e.used.Store(e.hub.now().UnixNano())
		if e.streams == 0 && e.key.isolation != "" && e.cancel != nil {
			// What is private to a caller is not watched behind its back.
			e.cancel()
			e.cancel = nil
		}
	}
}

func (e *entry) stopWatch() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cancel != nil {
		e.cancel()
		e.cancel = nil
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// entryOf returns the entry for the key, made when it is not there.
func (h *Hub) entryOf(key entryKey, probe *probe, client session.Client, f session.Forward) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.entries.Get(key); ok {
		e.used.Store(h.now().UnixNano())
		return e
	}
	e := &entry{hub: h, key: key}
	e.used.Store(h.now().UnixNano())
	e.lister = lister{target: key.target, probe: probe, client: client, forward: f, scope: key.scope, now: h.now,
		logger: h.opts.Logger.With(slog.String("backend", key.target.Config().Backend))}
	h.entries.Add(key, e)
	return e
}
