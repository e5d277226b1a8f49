package federation

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/internal/origin"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// What a hub holds at most.
const (
	maxEntries  = 4096  // lists of one target for one kind of caller
	maxFetches  = 128   // lists that are being fetched
	maxStreams  = 5000  // GET and listen streams
	maxLimiters = 10000 // isolation keys whose rate of initialize is remembered
	idleEntry   = 10 * time.Minute
	sweepEvery  = 15 * time.Second

	initializeRate  = 500 // a second for one isolation key
	initializeBurst = 2000
)

// HubOptions are what all backends share.
type HubOptions struct {
	Logger   *slog.Logger       // nil discards
	Metrics  *telemetry.Metrics // nil counts nothing
	Sealer   *session.Sealer
	Sessions *session.Sessions
	// Peers reaches other replicas: the host of a request's URL is the address of one.
	// Nil keeps everything here.
	Peers http.RoundTripper
}

// A Hub holds what outlives snapshots: targets by identity, catalogues, live
// streams. One process has one. It is safe for concurrent use.
type Hub struct {
	opts HubOptions
	now  func() time.Time

	silence                  lifetime.Watchdog // see newSSE
	writeTimeout             time.Duration
	resumeCall, resumeStream time.Duration // see trail.go

	relisten time.Duration // after a target could not be listened to

	// base ends when Run does; what the hub starts ends with it.
	base context.Context
	stop context.CancelFunc

	spawning sync.Mutex // so that nothing is started once Run waits for work
	work     sync.WaitGroup

	shelf    shelf
	maxShelf int // bytes of lists
	keeper   keeper
	fetches  chan struct{} // has a place for each list that is fetched at the same time
	seed     maphash.Seed  // of what tells lists apart within the process

	mu       sync.Mutex // taken before the lock of an entry
	targets  map[targetKey]*held
	entries  *lru.Cache[entryKey, *entry]
	live     map[string]*Backend // what Commit made live, by name
	streams  map[*stream]struct{}
	draining bool
	// connections are the sessions of the HTTP+SSE transport, by id.
	connections map[string]*connection

	trails *trails // of the streams of legacy sessions

	// drained ends when Drain is called.
	drained context.Context
	drain   context.CancelFunc

	living sync.Mutex
	lives  map[[16]byte]*live // of the sessions that have something under way
	early  *lru.Cache[callID, time.Time]
	known  *lru.Cache[string, struct{}]   // addresses of other replicas
	moved  *lru.Cache[[16]byte, struct{}] // sessions that have lists of their own, elsewhere

	parking sync.Mutex
	parked  map[string]*parked // calls that wait for their retry, by id

	streamCount atomic.Int64
	limiters    *lru.Cache[string, *rate.Limiter]
	tasks       *lru.Cache[taskKey, string] // client-visible ids
}

// A held is a target and what the hub knows of it.
type held struct {
	*session.Target
	breaker breaker
}

type targetKey struct{ backend, name, identity string }

// NewHub returns an empty hub. Its catalogues are kept fresh, and its goroutines
// ended, by Run.
func NewHub(opts HubOptions) *Hub {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{
		opts:    opts,
		now:     time.Now,
		silence: lifetime.Watchdog{After: keepAlive}, writeTimeout: writeTimeout,
		resumeCall: resumeCall, resumeStream: resumeStream,
		maxShelf:    maxShelf,
		relisten:    minBackoff,
		keeper:      keeper{max: maxKept},
		fetches:     make(chan struct{}, maxFetches),
		seed:        maphash.MakeSeed(),
		targets:     map[targetKey]*held{},
		live:        map[string]*Backend{},
		streams:     map[*stream]struct{}{},
		connections: map[string]*connection{},
		parked:      map[string]*parked{},
		lives:       map[[16]byte]*live{},
	}
	h.trails = newTrails(opts.Sealer, opts.Sessions.Addr(), func() time.Time { return h.now() })
	h.base, h.stop = context.WithCancel(context.Background())
	// The sizes are positive, so there is no error.
	h.entries, _ = lru.NewWithEvict(maxEntries, func(_ entryKey, e *entry) { e.gone.Store(true); e.stopWatch(); e.empty() })
	h.early, _ = lru.New[callID, time.Time](maxEarly)
	h.moved, _ = lru.New[[16]byte, struct{}](maxEarly)
	h.known, _ = lru.New[string, struct{}](maxKnown)
	h.drained, h.drain = context.WithCancel(context.Background())
	h.limiters, _ = lru.New[string, *rate.Limiter](maxLimiters)
	h.tasks, _ = lru.New[taskKey, string](maxTasks)
	return h
}

// spawn runs f until the hub is stopped; it reports false when it already is.
func (h *Hub) spawn(f func(ctx context.Context)) bool {
	h.spawning.Lock()
	defer h.spawning.Unlock()
	if h.base.Err() != nil {
		return false
	}
	h.work.Go(func() { f(h.base) })
	return true
}

// Backend returns the backend for cfg, sharing the targets that the hub already
// holds for it. It contacts nothing and changes nothing that clients see: see
// Commit.
func (h *Hub) Backend(cfg Config) *Backend {
	if cfg.PageSize <= 0 {
		cfg.PageSize = defaultPageSize
	}
	b := &Backend{hub: h, cfg: cfg, naming: newNaming(&cfg), origins: origin.New(cfg.AllowedOrigins)}
	b.views, _ = lru.New[string, *view](maxViews)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range cfg.Targets {
		tc := cfg.Targets[i]
		key := targetKey{backend: cfg.Name, name: tc.Name, identity: tc.Identity}
		t := h.targets[key]
		if t == nil {
			t = new(held)
			t.Target = session.NewTarget(tc, session.Options{Logger: h.opts.Logger, OnHealth: t.health})
			t.breaker.hub, t.breaker.target = h, t.Target
			h.opts.Metrics.BreakerClosed(cfg.Name, tc.Name)
			h.targets[key] = t
		}
		b.targets = append(b.targets, t.Target)
		b.breakers = append(b.breakers, &t.breaker)
		b.passthrough = b.passthrough || tc.Passthrough
	}
	return b
}

// Commit makes the backends live: targets that none of them has any more are
// closed, and connected clients whose catalogue may have changed are told. It is
// called once after each swap of the snapshot, with all backends of the new one.
func (h *Hub) Commit(live []*Backend) {
	h.mu.Lock()
	used := map[*session.Target]bool{}
	next := make(map[string]*Backend, len(live))
	for _, b := range live {
		next[b.cfg.Name] = b
		for _, t := range b.targets {
			used[t] = true
		}
	}
	previous := h.live
	h.live = next
	var closing []*held
	for key, t := range h.targets {
		if used[t.Target] {
			continue
		}
		closing = append(closing, t)
		delete(h.targets, key)
		if b := next[key.backend]; b == nil || b.indexOf(key.name) < 0 {
			h.opts.Metrics.TargetGone(key.backend, key.name)
		}
	}
	for _, key := range h.entries.Keys() {
		if !used[key.target] {
			h.entries.Remove(key)
		}
	}
	var ended, told []*stream
	for s := range h.streams {
		b := next[s.backend]
		switch {
		case b == nil:
			ended = append(ended, s)
		case s.policy != b.cfg.PolicyFingerprint && s.subscribed():
			// What it may hear was decided under rules that are no more.
			ended = append(ended, s)
		case differs(previous[s.backend], b):
			if s.policy != b.cfg.PolicyFingerprint {
				s.sight.lose()
				s.policy = b.cfg.PolicyFingerprint
			}
			told = append(told, s)
		}
	}
	h.mu.Unlock()

	for _, s := range ended {
		s.end()
	}
	for _, s := range told {
		s.retarget()
		s.notify(allChanged)
	}
	for _, t := range closing {
		t.Close()
	}
}

// differs reports whether clients of the one configuration see something else
// under the other.
func differs(a, b *Backend) bool {
	if a == nil {
		return true
	}
	return a.cfg.PolicyFingerprint != b.cfg.PolicyFingerprint ||
		a.naming.bare != b.naming.bare || a.naming.length != b.naming.length ||
		!sameTargets(a.cfg.Targets, b.cfg.Targets)
}

// Run keeps catalogues from outliving their use until ctx ends, then ends all
// streams, closes all targets and waits for what the hub started.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.sweep()
			continue
		case <-ctx.Done():
		}
		break
	}
	h.Drain()
	h.spawning.Lock()
	h.stop()
	h.spawning.Unlock()
	h.mu.Lock()
	targets := h.targets
	h.targets = map[targetKey]*held{}
	entries := h.entries.Values()
	h.mu.Unlock()
	for _, e := range entries {
		e.stopWatch()
	}
	for _, t := range targets {
		t.Close()
	}
	h.work.Wait()
	return nil
}

func (h *Hub) sweep() {
	h.trails.sweep()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opts.Metrics.Sessions(h.opts.Sessions.Count())
	now := h.now()
	for _, e := range h.entries.Values() {
		if e.streams.Load() == 0 && now.Sub(time.Unix(0, e.used.Load())) > idleEntry {
			h.entries.Remove(e.key)
			continue
		}
		if c := e.expire(now); c != 0 {
			h.spawn(func(context.Context) { e.announce(c) })
		}
	}
}

// Drain ends GET and listen streams so that clients reconnect elsewhere, and
// refuses new ones; calls in flight go on.
func (h *Hub) Drain() {
	h.mu.Lock()
	h.draining = true
	all := make([]*stream, 0, len(h.streams))
	for s := range h.streams {
		all = append(all, s)
	}
	h.mu.Unlock()
	h.drain()
	for _, s := range all {
		s.end()
	}
}

// A news says what is known of a change.
type news uint8

const (
	unsure  news = iota // something may have changed
	known               // the lists in memory are what has become of it
	passing             // something came and went: the lists are as they were
)

// notifyEntry tells the streams that show the entry of the changes, as far as their
// clients can see them.
func (h *Hub) notifyEntry(e *entry, c changes, n news) {
	h.mu.Lock()
	var told []*stream
	for s := range h.streams {
		if s.shows(e) {
			told = append(told, s)
		}
	}
	h.mu.Unlock()
	for _, s := range told {
		if s.live.knows(e, c) {
			continue // the target itself told it
		}
		switch n {
		case known:
			s.notify(s.sight.notices(c))
		case passing:
			s.notify(s.sight.hidesNothing(c))
		case unsure:
			s.notify(c)
		}
	}
}

// register makes the hub know a stream, or refuses it.
func (h *Hub) register(s *stream) error {
	if h.streamCount.Add(1) > maxStreams {
		h.streamCount.Add(-1)
		return &fault.Fault{Code: fault.Overloaded, Message: "too many streams are open", RetryAfter: 5 * time.Second}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		h.streamCount.Add(-1)
		return &fault.Fault{Code: fault.Draining, Message: "the gateway is shutting down", RetryAfter: time.Second}
	}
	h.streams[s] = struct{}{}
	return nil
}

func (h *Hub) unregister(s *stream) {
	h.mu.Lock()
	delete(h.streams, s)
	h.mu.Unlock()
	h.streamCount.Add(-1)
}

// current returns the live backend of that name, nil when it is gone.
func (h *Hub) current(name string) *Backend {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live[name]
}

// mayInitialize bounds how often one caller may make a session.
func (h *Hub) mayInitialize(isolation string) bool {
	l, ok := h.limiters.Get(isolation)
	if !ok {
		l = rate.NewLimiter(initializeRate, initializeBurst)
		if had, found, _ := h.limiters.PeekOrAdd(isolation, l); found {
			l = had
		}
	}
	return l.AllowN(h.now(), 1)
}

// health counts; the target itself logs. One that is up is not left alone any longer.
func (t *held) health(cfg *session.TargetConfig, up bool) {
	t.breaker.hub.opts.Metrics.TargetUp(cfg.Backend, cfg.Name, up)
	if up {
		t.breaker.heard(nil)
	}
}
