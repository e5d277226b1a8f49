package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/internal/lookout"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Options configure a [Server].
type Options struct {
	// Logger gets what operators should know; default [slog.Default].
	Logger *slog.Logger
	// Runtime holds what outlives configurations. Required.
	Runtime *Runtime
	// Account, when set, is told when a request was accepted and, once, when it has
	// ended: a [*telemetry.Account].
	Account Account
	// Listen opens listening sockets; default is a [net.ListenConfig]. Addresses are host:port.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	// BodyGrace is how long the body of a request may take, beside a second for each
	// KiB; default 10s.
	BodyGrace time.Duration
	// WritePatience is how long a client may take to read what is written at once,
	// beside a second for each KiB; default 30s.
	WritePatience time.Duration
	// DrainDelay is how long new connections are still accepted after the end was
	// announced by [Server.Ready]; default 0.
	DrainDelay time.Duration
	// DrainTimeout is how long requests under way may take to end; default 25s.
	DrainTimeout time.Duration
}

// An Account takes the Records of requests. It is safe for concurrent use.
type Account interface {
	// Begin notes that the request of r is being served.
	Begin(r *telemetry.Record)
	// End notes that it has ended. r is not used any more.
	End(r *telemetry.Record)
	// Passed takes the place of both for a request that another replica passed on, and
	// accounts for.
	Passed(r *telemetry.Record)
}

// lastWords is how long requests that are cut off may take to say so.
const lastWords = time.Second

// lastRecords is how long requests whose connections were closed may take to end. They only have to notice it, and write their records.
const lastRecords = 3 * time.Second

// A Server is the data plane: it listens on the ports of the configuration that was
// applied last and serves requests from its [Snapshot]. Apply and Run may be
// called from different goroutines.
type Server struct {
	opts     Options
	logger   *slog.Logger
	snapshot atomic.Pointer[Snapshot]
	inflight counter
	conns    atomic.Int64
	bodies   lifetime.Watchdog // over those that are being read
	moments  lifetime.Watchdog // over requests of lean connections
	fresh    lifetime.Watchdog // over those that have sent nothing yet
	still    lifetime.Watchdog // over exchanges with services
	lookout  lookout.Lookout   // over clients of detached answers

	// base is the context of all requests; it ends when those that are still under
	// way at the end of the drain are to be cut off.
	base    context.Context
	cutOff  context.CancelCauseFunc
	drained chan struct{} // closed when the drain begins
	// streams ends when streams through a Proxy are to end: the Runtime ends those of MCP.
	streams    context.Context
	endStreams context.CancelCauseFunc

	mu       sync.Mutex     // serialises Apply and the end
	report   *config.Report // of what is served
	refused  bool           // the resources that came last were
	bindings map[int]*binding
	pending  map[int]config.Problem // ports that could not be bound
	ending   bool
	serving  sync.WaitGroup // goroutines of bindings
}

// NewServer returns a server without configuration: it listens nowhere.
func NewServer(opts Options) *Server {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Listen == nil {
		opts.Listen = new(net.ListenConfig).Listen
	}
	if opts.BodyGrace <= 0 {
		opts.BodyGrace = 10 * time.Second
	}
	if opts.WritePatience <= 0 {
		opts.WritePatience = 30 * time.Second
	}
	if opts.DrainTimeout <= 0 {
		opts.DrainTimeout = 25 * time.Second
	}
	s := &Server{
		opts:     opts,
		logger:   opts.Logger,
		bindings: map[int]*binding{},
		pending:  map[int]config.Problem{},
		drained:  make(chan struct{}),
	}
	s.bodies.After, s.moments.After, s.fresh.After, s.still.After = opts.BodyGrace, leanMoment, headTimeout, defaultIdle
	s.base, s.cutOff = context.WithCancelCause(context.Background())
	s.streams, s.endStreams = context.WithCancelCause(context.Background())
	s.inflight.idle = make(chan struct{}, 1)
	s.snapshot.Store(&Snapshot{})
	return s
}

// Apply compiles res and, if it can be used, serves it from then on: for requests
// that are accepted after the swap, on connections that are open, too. It
// returns what became of every object. Resources from files that hold an Invalid problem are
// refused as a whole, and what was applied before goes on. Resources with the
// fingerprint of those applied last change nothing.
func (s *Server) Apply(res *config.Resources) *config.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.snapshot.Load()
	if s.report != nil && res.Fingerprint != "" && res.Fingerprint == old.fingerprint {
		if s.refused {
			s.refused = false
			s.metrics().Reloaded(res.Fingerprint, time.Now())
		}
		return s.reported()
	}
	snapshot, report := Compile(res, s.opts.Runtime)
	if s.ending || res.Local && report.Has(config.Invalid) {
		s.refused = true
		s.metrics().ReloadRefused()
		return report
	}
	s.bind(snapshot)
	s.opts.Runtime.prepare(snapshot)
	s.snapshot.Store(snapshot)
	s.opts.Runtime.commit(snapshot)
	s.retire(snapshot)
	s.report, s.refused = report, false
	s.metrics().Reloaded(res.Fingerprint, time.Now())
	return s.reported()
}

// reported returns what became of what was applied last, with the ports that can't be bound by now.
func (s *Server) reported() *config.Report {
	if len(s.pending) == 0 {
		return s.report
	}
	out := &config.Report{Problems: slices.Clone(s.report.Problems), Attachments: s.report.Attachments}
	for _, number := range slices.Sorted(maps.Keys(s.pending)) {
		out.Add(s.pending[number])
	}
	return out
}

func (s *Server) metrics() *telemetry.Metrics { return s.opts.Runtime.opts.Metrics }

// Ready reports whether the server has a configuration and is not about to end: what
// a readiness probe asks.
func (s *Server) Ready() bool {
	select {
	case <-s.drained:
		return false
	default:
		return s.snapshot.Load().ports != nil
	}
}

// Connections returns how many client connections are open.
func (s *Server) Connections() int64 { return s.conns.Load() }

// Requests returns how many requests are under way.
func (s *Server) Requests() int64 { return s.inflight.n.Load() }

// Snapshot returns the configuration that is served.
func (s *Server) Snapshot() *Snapshot { return s.snapshot.Load() }

// Run keeps what the configuration needs alive until ctx ends, and then drains:
// readiness goes, streams are ended so that their clients reconnect elsewhere,
// requests under way have DrainTimeout to end, and all sockets are closed.
func (s *Server) Run(ctx context.Context) error {
	hub, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHub()
	var hubErr error
	var hubDone sync.WaitGroup
	hubDone.Go(func() { hubErr = s.opts.Runtime.run(hub) })

	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-retry.C:
			s.bindPending()
		}
	}
	s.drain()
	stopHub()
	hubDone.Wait()
	s.opts.Runtime.close()
	if hubErr != nil {
		return fmt.Errorf("running the MCP hub: %w", hubErr)
	}
	return nil
}

var errDraining = fault.New(fault.Draining, "the gateway is shutting down")

// drain ends all that is under way.
func (s *Server) drain() {
	s.mu.Lock()
	s.ending = true
	close(s.drained)
	bindings := s.bindings
	s.bindings = map[int]*binding{}
	s.mu.Unlock()

	if s.opts.DrainDelay > 0 {
		time.Sleep(s.opts.DrainDelay)
	}
	s.logger.Info("draining", slog.Int64("requests", s.Requests()), slog.Int64("connections", s.Connections()))
	for _, b := range bindings {
		b.lastAnswers()
	}
	s.opts.Runtime.drain()
	s.endStreams(errDraining)

	deadline, cancel := context.WithTimeout(context.Background(), s.opts.DrainTimeout)
	defer cancel()
	last, cancelLast := context.WithTimeout(context.Background(), s.opts.DrainTimeout+lastWords)
	defer cancelLast()
	var ended sync.WaitGroup
	for _, b := range bindings {
		ended.Go(func() { b.end(last) })
	}
	s.inflight.wait(deadline)
	s.cutOff(errDraining)
	s.inflight.wait(last)
	ended.Wait()
	records, cancelRecords := context.WithTimeout(context.Background(), lastRecords)
	defer cancelRecords()
	s.inflight.wait(records)
	s.serving.Wait()
	s.logger.Info("drained", slog.Int64("requests", s.Requests()), slog.Int64("connections", s.Connections()))
}

// A counter counts requests under way, and can wait until there are none.
type counter struct {
	n    atomic.Int64
	idle chan struct{} // gets a token whenever n becomes 0
}

func (c *counter) enter() { c.n.Add(1) }

func (c *counter) leave() {
	if c.n.Add(-1) == 0 {
		select {
		case c.idle <- struct{}{}:
		default:
		}
	}
}

// wait returns when the count is 0 or ctx has ended.
func (c *counter) wait(ctx context.Context) {
	for c.n.Load() > 0 {
		select {
		case <-c.idle:
		case <-ctx.Done():
			return
		}
	}
}

// idleTimeout is how long a connection without a request is kept, unless a policy says so.
const idleTimeout = 120 * time.Second

// headTimeout is how long a client may take to send the head of a request, and to begin with
// the first.
const headTimeout = 10 * time.Second

// newHTTPServer returns the server of one port, which is open until base ends.
func (s *Server) newHTTPServer(p *port, base context.Context) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	open := new(lifetime.Lifetime)
	open.Begin(base)
	return &http.Server{
		Handler:                      &front{server: s, port: p.number, base: open},
		ReadHeaderTimeout:            headTimeout,
		IdleTimeout:                  p.idle,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * is accounted for as any request is
		Protocols:                    protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReadFrameSize:              16 << 10, // what every peer may send; net/http would take 1 MiB
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     64 << 10,
		},
		BaseContext: func(l net.Listener) context.Context {
			addr, ok := l.Addr().(*net.TCPAddr)
			return federation.WithListener(base, federation.Listener{Loopback: ok && addr.IP.IsLoopback()})
		},
		ConnContext: connContext,
		ErrorLog:    slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
}
