package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/accesslog"
	"github.com/mcpgw/mcpgw/authn"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/replica"
	"github.com/mcpgw/mcpgw/telemetry"
	"github.com/mcpgw/mcpgw/upstream"
	"github.com/mcpgw/mcpgw/upstream/oauth"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// RuntimeOptions configure a [Runtime]. The zero value works.
type RuntimeOptions struct {
	// Logger gets what operators should know; default [slog.Default].
	Logger *slog.Logger
	// Metrics, when set, counts.
	Metrics *telemetry.Metrics
	// SessionKeys are what sessions and cursors are sealed with, 32 bytes each, the
	// newest first; default is a key that nobody else has.
	SessionKeys [][]byte
	// Home is the address at which other replicas reach this one; may be empty.
	Home string
	// Peers, when set, is how other replicas are known, and this one to them.
	Peers *replica.Ring
	// Version is the gateway's own, as MCP clients see it.
	Version string
	// Tracer gives spans to the requests of Gateways without a tracing policy; nil
	// gives none. It outlives the Runtime.
	Tracer *telemetry.Tracer
	// Resource are attributes of the process in telemetry, which tracing policies may
	// ask for.
	Resource map[string]string
	// Resolver resolves the names of hosts; default [net.DefaultResolver].
	Resolver *net.Resolver
	// CallIdle bounds the silence of an MCP server within one call; default 5m.
	CallIdle time.Duration
	// ModerationURL is where the moderation API of OpenAI is, without /moderations; default
	// https://api.openai.com/v1.
	ModerationURL string
}

// A Runtime is what outlives snapshots: connection pools, MCP targets, sessions and
// catalogues, the health of LLM providers, compiled expressions. Compile finds them by
// identity. It is safe for concurrent use.
type Runtime struct {
	opts        RuntimeOptions
	hub         *federation.Hub
	expressions *policy.Compiler
	verified    *authn.Memory

	sealer *session.Sealer
	client *replica.Client // to other replicas; nil without Peers

	mu        sync.Mutex
	pools     map[string]*upstream.Pool
	providers map[string]*llm.Health
	tokens    map[string]*oauth.Tokens
	aws       map[string]*sigv4.Ambient
	tracers   map[string]*telemetry.Tracer
	sinks     map[string]accesslog.Sink             // of access logs
	ending    sync.WaitGroup                        // tracers that send what they still have
	checks    map[*upstream.Pool]context.CancelFunc // that ask endpoints whether they work
	keys      map[string]runningKeys
	counts    map[string]any                       // buckets and counters of limits
	idles     map[time.Duration]*lifetime.Watchdog // over what may stand still, by for how long
	// fetching waits for the keys that are being fetched, and the checks that run.
	fetching sync.WaitGroup
	base     context.Context // ends with the Runtime
	end      context.CancelFunc
	copying  sync.WaitGroup // waits for copies of requests
}

// A runningKeys are keys of an issuer that are kept fresh until stop is called.
type runningKeys struct {
	*authn.RemoteKeys
	stop context.CancelFunc
}

// NewRuntime returns an empty Runtime.
func NewRuntime(opts RuntimeOptions) (*Runtime, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	sealer, err := session.NewSealer(opts.SessionKeys...)
	if err != nil {
		return nil, err
	}
	sessions := session.NewSessions(session.SessionsOptions{Sealer: sealer, Home: opts.Home})
	rt := &Runtime{
		sealer:      sealer,
		opts:        opts,
		expressions: policy.NewCompiler(opts.Metrics),
		verified:    authn.NewMemory(),
		pools:       map[string]*upstream.Pool{},
		tracers:     map[string]*telemetry.Tracer{},
		sinks:       map[string]accesslog.Sink{},
		providers:   map[string]*llm.Health{},
		tokens:      map[string]*oauth.Tokens{},
		checks:      map[*upstream.Pool]context.CancelFunc{},
		aws:         map[string]*sigv4.Ambient{},
		keys:        map[string]runningKeys{},
		counts:      map[string]any{},
		idles:       map[time.Duration]*lifetime.Watchdog{},
	}
	rt.base, rt.end = context.WithCancel(context.Background())
	hub := federation.HubOptions{Logger: opts.Logger, Metrics: opts.Metrics, Sealer: sealer, Sessions: sessions}
	if opts.Peers != nil {
		rt.client = replica.NewClient(opts.Peers)
		hub.Peers = &peers{client: rt.client}
	}
	rt.hub = federation.NewHub(hub)
	return rt, nil
}

// SetSessionKeys has sessions and what else is sealed be sealed with keys[0] from now
// on, and opened with any of keys; other replicas are known by them. What was sealed with a key that is gone is not
// known any more. It changes nothing when there is an error.
func (rt *Runtime) SetSessionKeys(keys [][]byte) error {
	if err := rt.sealer.SetKeys(keys...); err != nil {
		return err
	}
	if rt.opts.Peers == nil {
		return nil
	}
	defer rt.client.Close() // connections are made anew
	return rt.opts.Peers.SetKeys(keys...)
}

// expression compiles an expression, or finds it compiled. A nil Runtime compiles.
func (rt *Runtime) expression(source string) (*policy.Expression, error) {
	if rt == nil {
		return policy.CompileExpression(source)
	}
	return rt.expressions.Compile(source)
}

// version returns the gateway's version.
func (rt *Runtime) version() string {
	if rt == nil {
		return ""
	}
	return rt.opts.Version
}

// resource returns the attributes of the process in telemetry.
func (rt *Runtime) resource() map[string]string {
	if rt == nil {
		return nil
	}
	return rt.opts.Resource
}

// callIdle returns how long an MCP server may be silent within a call, 0 for the default.
func (rt *Runtime) callIdle() time.Duration {
	if rt == nil {
		return 0
	}
	return rt.opts.CallIdle
}

// idle returns the watchdog over what may stand still for that time; nil for 0, which is no bound, and for a nil
// Runtime.
func (rt *Runtime) idle(after time.Duration) *lifetime.Watchdog {
	if rt == nil || after <= 0 {
		return nil
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	dog := rt.idles[after]
	if dog == nil {
		dog = &lifetime.Watchdog{After: after}
		rt.idles[after] = dog
	}
	return dog
}

// pool returns the pool of that identity: the one in use, or a new one that is kept once a
// snapshot with it is prepared. It is nil for a nil Runtime.
func (rt *Runtime) pool(identity string, opts upstream.Options) *upstream.Pool {
	if rt == nil {
		return nil
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if p := rt.pools[identity]; p != nil {
		return p
	}
	return upstream.NewPool(opts)
}

// health returns what is known of the LLM provider of that identity. What is known of a new
// one is kept once a snapshot with it is prepared.
func (rt *Runtime) health(identity string) *llm.Health {
	if rt == nil {
		return new(llm.Health)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if h := rt.providers[identity]; h != nil {
		return h
	}
	return new(llm.Health)
}

// count returns what counts for a limit of that identity, nil when there is nothing yet. What is new is kept
// once a snapshot with it is prepared.
func (rt *Runtime) count(identity string) any {
	if rt == nil {
		return nil
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.counts[identity]
}

// mcp returns the backend for cfg.
func (rt *Runtime) mcp(cfg federation.Config) *federation.Backend { return rt.hub.Backend(cfg) }

// memory returns what was verified lately; nil for a nil Runtime.
func (rt *Runtime) memory() *authn.Memory {
	if rt == nil {
		return nil
	}
	return rt.verified
}

// metrics returns the metrics; nil for a nil Runtime.
func (rt *Runtime) metrics() *telemetry.Metrics {
	if rt == nil {
		return nil
	}
	return rt.opts.Metrics
}

// remoteKeys returns the keys of that identity: those in use, or new ones, which are fetched once
// a snapshot with them is committed.
func (rt *Runtime) remoteKeys(identity string, opts authn.RemoteOptions) *authn.RemoteKeys {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if k, ok := rt.keys[identity]; ok {
		return k.RemoteKeys
	}
	opts.Logger, opts.Metrics = rt.opts.Logger, rt.opts.Metrics
	return authn.NewRemoteKeys(opts)
}

// fetchKeys fetches the keys that the snapshot has, from now on, and no others. The caller holds mu.
func (rt *Runtime) fetchKeys(s *Snapshot) {
	for identity, k := range rt.keys {
		if _, ok := s.keys[identity]; !ok {
			delete(rt.keys, identity)
			k.stop()
		}
	}
	for identity, k := range s.keys {
		if _, ok := rt.keys[identity]; ok {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		rt.keys[identity] = runningKeys{k, stop}
		rt.fetching.Go(func() { k.Run(ctx) })
	}
}

// prepare gives the pools of a snapshot the endpoints that it has for them, and its
// listeners their tracers, just before it is served.
func (rt *Runtime) prepare(s *Snapshot) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for identity, plan := range s.pools {
		plan.pool.SetZones(plan.zones)
		plan.pool.SetEndpoints(plan.addresses...)
		rt.pools[identity] = plan.pool
	}
	maps.Copy(rt.providers, s.health)
	maps.Copy(rt.tokens, s.tokens)
	maps.Copy(rt.counts, s.counts)
	maps.Copy(rt.aws, s.aws)
	for _, l := range s.listeners {
		l.tracer = rt.opts.Tracer
		if l.traced != nil {
			l.tracer = rt.tracer(l.traced)
		}
		for _, log := range l.edge.logs {
			if log.Sink == nil {
				log.Sink = rt.sink(log)
			}
		}
	}
}

// tracer returns the tracer of a plan, the one in use or a new one. rt.mu is held.
func (rt *Runtime) tracer(plan *tracerPlan) *telemetry.Tracer {
	if t := rt.tracers[plan.identity]; t != nil {
		return t
	}
	t, err := telemetry.NewTracer(plan.cfg, rt.opts.Logger)
	if err != nil {
		rt.opts.Logger.Error("requests are not traced", slog.Any("error", err))
		return nil
	}
	rt.tracers[plan.identity] = t
	return t
}

// sink returns the sink of an access log, the one in use or a new one. rt.mu is held.
func (rt *Runtime) sink(log *logPlan) accesslog.Sink {
	s := rt.sinks[log.identity]
	if s == nil {
		s = log.open(accesslog.Options{Name: log.name, Logger: rt.opts.Logger, Dropped: func(n int) { rt.opts.Metrics.AccessLogDropped(log.name, n) }})
		rt.sinks[log.identity] = s
	}
	return s
}

// endSinks ends the sinks that keep does not name. rt.mu is held.
func (rt *Runtime) endSinks(keep map[string]bool) {
	for identity, s := range rt.sinks {
		if !keep[identity] {
			delete(rt.sinks, identity)
			rt.ending.Go(s.Close)
		}
	}
}

// reopenLogs has the files of access logs be opened anew.
func (rt *Runtime) reopenLogs() {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range rt.sinks {
		if f, ok := s.(*accesslog.File); ok {
			f.Reopen()
		}
	}
}

// endTracers ends the tracers that keep does not name. rt.mu is held.
func (rt *Runtime) endTracers(keep map[string]bool) {
	for identity, t := range rt.tracers {
		if keep[identity] {
			continue
		}
		delete(rt.tracers, identity)
		rt.ending.Go(func() {
			if err := t.Close(); err != nil {
				rt.opts.Logger.Warn("the last spans were not sent", slog.Any("error", err))
			}
		})
	}
}

// commit lets go of what the snapshot that is now served has no use for, and tells
// MCP clients what changed.
func (rt *Runtime) commit(s *Snapshot) {
	rt.mu.Lock()
	for identity, p := range rt.pools {
		if _, ok := s.pools[identity]; !ok {
			delete(rt.pools, identity)
			rt.endChecks(p)
			p.Close()
		}
	}
	maps.DeleteFunc(rt.providers, func(identity string, _ *llm.Health) bool { return s.health[identity] == nil })
	maps.DeleteFunc(rt.tokens, func(identity string, _ *oauth.Tokens) bool { return s.tokens[identity] == nil })
	maps.DeleteFunc(rt.aws, func(region string, _ *sigv4.Ambient) bool { return s.aws[region] == nil })
	for identity, v := range rt.counts {
		if s.counts[identity] == nil {
			delete(rt.counts, identity)
			endCount(v)
		}
	}
	traced, written := map[string]bool{}, map[string]bool{}
	for _, l := range s.listeners {
		if l.traced != nil {
			traced[l.traced.identity] = true
		}
		for _, log := range l.edge.logs {
			written[log.identity] = true
		}
	}
	rt.endTracers(traced)
	rt.endSinks(written)
	rt.fetchKeys(s)
	rt.runChecks()
	rt.mu.Unlock()
	rt.hub.Commit(s.backends)
}

// runChecks has the pools with names be resolved, and those that are to be checked be checked. rt.mu is held.
func (rt *Runtime) runChecks() {
	for _, p := range rt.pools {
		if _, ok := rt.checks[p]; ok || !p.Checked() && !p.Resolves() {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		rt.checks[p] = stop
		rt.fetching.Go(func() { p.Run(ctx) })
	}
}

// endChecks ends what runChecks began for a pool. rt.mu is held.
func (rt *Runtime) endChecks(p *upstream.Pool) {
	if stop, ok := rt.checks[p]; ok {
		stop()
		delete(rt.checks, p)
	}
}

// run keeps targets alive until ctx ends.
func (rt *Runtime) run(ctx context.Context) error {
	if err := rt.hub.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// drain ends the streams of MCP clients.
func (rt *Runtime) drain() { rt.hub.Drain() }

// close ends what runs, gives back idle connections, and sends the spans that wait.
func (rt *Runtime) close() {
	rt.end()
	rt.copying.Wait()
	rt.mu.Lock()
	rt.fetchKeys(&Snapshot{})
	for _, p := range rt.pools {
		rt.endChecks(p)
	}
	rt.fetching.Wait()
	for _, s := range rt.sinks {
		s.Close()
	}
	rt.sinks = map[string]accesslog.Sink{}
	for _, p := range rt.pools {
		p.Close()
	}
	if rt.client != nil {
		rt.client.Close()
	}
	rt.endTracers(nil)
	for _, v := range rt.counts {
		endCount(v)
	}
	rt.mu.Unlock()
	rt.ending.Wait()
}

// endCount closes the connections of what counted for a limit, if it has some.
func endCount(v any) {
	if c, ok := v.(io.Closer); ok {
		_ = c.Close() // nothing is counted there any more
	}
}
