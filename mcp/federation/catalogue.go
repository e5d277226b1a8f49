package federation

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

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
	// A target that says again and again that a list changed is asked for it at once
	// relistBurst times, and then each relistEvery.
	relistEvery = 250 * time.Millisecond
	relistBurst = 4
	// tellAfter is when clients hear of a change whose list the target is slow to give.
	tellAfter = 500 * time.Millisecond
	// A failing target is left alone between attempts, from minBackoff, doubled
	// by each failure, to maxBackoff.
	minBackoff = time.Second
	maxBackoff = 10 * time.Second
)

// An entryKey says which callers share the lists of a target: those whose
// requests the target can't tell apart.
type entryKey struct {
	target       *session.Target
	scope        scope
	isolation    string   // empty where the target gets nothing of the caller's
	session      [16]byte // of lists that are one session's own; else zero
	capabilities string   // raw
}

// private reports whether not all callers are shown the lists.
func (k *entryKey) private() bool { return k.isolation != "" || k.session != [16]byte{} }

// An entry holds the lists of one target for one kind of caller. It is safe for
// concurrent use.
type entry struct {
	hub    *Hub
	key    entryKey
	lister lister
	slots  [kinds]slot

	used    atomic.Int64 // when it was last asked for, in Unix nanoseconds
	gone    atomic.Bool  // the hub has dropped it
	streams atomic.Int32 // that show this entry; a private entry is only watched while there are any
	telling atomic.Bool  // it is looked after that clients hear of a change in time

	mu     sync.Mutex
	cancel context.CancelFunc // of the watch
}

// entryOf returns the entry for the key, made when it is not there.
func (h *Hub) entryOf(key entryKey, l lister) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.entries.Get(key); ok {
		e.used.Store(h.now().UnixNano())
		return e
	}
	e := &entry{hub: h, key: key}
	e.used.Store(h.now().UnixNano())
	l.target, l.scope = key.target, key.scope
	l.logger = h.opts.Logger.With(slog.String("backend", key.target.Config().Backend))
	e.lister = l
	h.entries.Add(key, e)
	return e
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
		g := s.good
		s.mu.Unlock()
		if g == nil {
			continue
		}
		n[k] = len(g.items)
		if kind(k) == tools || kind(k) == prompts {
			for _, it := range g.items {
				names = append(names, it.own)
			}
		}
	}
	cfg := e.key.target.Config()
	if e.key.private() {
		e.hub.opts.Metrics.PrivateNames(cfg.Backend, cfg.Name, names)
		return
	}
	e.hub.opts.Metrics.Catalogue(cfg.Backend, cfg.Name, telemetry.CatalogueSize{
		Tools: n[tools], Prompts: n[prompts], Resources: n[resources], Templates: n[templates]}, names)
}

// invalidate notes that the target said that lists changed. What streams show is
// fetched anew, and their clients are told once it is known to differ; other lists are
// fetched by the next request.
func (e *entry) invalidate(c changes) {
	held := e.streams.Load() > 0
	var unknown changes // lists that nobody has fetched, so that nothing can be compared
	for k := range e.slots {
		if c&features[k].change == 0 {
			continue
		}
		s := &e.slots[k]
		s.mu.Lock()
		s.changes++
		s.retryAt = time.Time{} // a target that speaks is there
		s.settle()
		switch {
		case s.good == nil && s.flight == nil:
			unknown |= features[k].change
			s.said = false
		case held:
			s.begin(e, kind(k))
		}
		s.mu.Unlock()
	}
	if !held {
		return
	}
	if unknown != 0 {
		e.hub.notifyEntry(e, unknown, unsure)
	}
	if e.telling.CompareAndSwap(false, true) {
		e.tellInTime()
	}
}

// tellInTime tells clients of the changes so far if their lists have not come until
// then, and goes on while there are more.
func (e *entry) tellInTime() {
	var marks [kinds]uint64
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		marks[k] = s.changes
		s.mu.Unlock()
	}
	time.AfterFunc(tellAfter, func() {
		var late changes
		more := false
		for k := range e.slots {
			s := &e.slots[k]
			s.mu.Lock()
			if s.good != nil && s.covered < marks[k] {
				late |= features[k].change
				s.said = false
			}
			more = more || s.changes > marks[k] && s.changed()
			s.mu.Unlock()
		}
		if late != 0 {
			e.hub.notifyEntry(e, late, unsure)
		}
		if more && !e.gone.Load() {
			e.tellInTime()
			return
		}
		e.telling.Store(false)
	})
}

// announce tells the clients that see something else now.
func (e *entry) announce(c changes) { e.hub.notifyEntry(e, c, known) }

// watch follows the target's own notifications until ctx ends.
func (e *entry) watch(ctx context.Context) {
	e.key.target.Watch(ctx, e.lister.client, e.lister.forward, e.reread, func(m *protocol.Message) {
		if c := changeOf(m.Method); c != 0 {
			e.hear(c)
			e.invalidate(c)
		}
	})
}

// hear notes that the target told everybody of changes, not one session of its own:
// clients are told even if its lists turn out to be as they were.
func (e *entry) hear(c changes) {
	for k := range e.slots {
		if c&features[k].change == 0 {
			continue
		}
		s := &e.slots[k]
		s.mu.Lock()
		s.said = true
		s.mu.Unlock()
	}
}

// reread has what was fetched fetched once more: it may have changed before anybody
// listened.
func (e *entry) reread() {
	for k := range e.slots {
		s := &e.slots[k]
		s.mu.Lock()
		if s.good != nil {
			s.changes++
			s.settle()
			s.begin(e, kind(k))
		}
		s.mu.Unlock()
	}
}

// hold counts a stream that shows the entry; the returned function takes it back.
func (e *entry) hold() (release func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := e.streams.Add(1) == 1
	if first && e.cancel == nil {
		var ctx context.Context
		ctx, e.cancel = context.WithCancel(context.Background())
		e.hub.spawn(func(stop context.Context) {
			defer context.AfterFunc(stop, e.stopWatch)()
			e.watch(ctx)
		})
	}
	if first {
		for k := range e.slots {
			e.arm(kind(k))
		}
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.used.Store(e.hub.now().UnixNano())
		if e.streams.Add(-1) == 0 && e.key.private() && e.cancel != nil {
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
}
