package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An instance is a gateway in this process: the data plane with what it counts
// and where it listens.
type instance struct {
	logger  *slog.Logger
	metrics *telemetry.Metrics
	runtime *gateway.Runtime
	server  *gateway.Server
	ports   *ports
	// report gets the problems of configurations as people read them; nil when they
	// are logged.
	report io.Writer
	color  bool
	// quiet keeps problems to itself that don't keep anything from being served.
	quiet bool

	export  export
	version string

	asked   atomic.Bool // the server was asked about what tell is told of
	served  atomic.Pointer[config.Resources]
	once    sync.Once
	started chan struct{} // closed when the first configuration is served
	refused chan error    // holds the error when it was refused
}

// instanceOptions configure an instance.
type instanceOptions struct {
	logger       *slog.Logger
	version      string
	keys         [][]byte
	peers        *peers // nil without
	ports        *ports
	report       io.Writer
	color        bool
	quiet        bool
	accessLog    *telemetry.AccessLog
	export       export
	drainDelay   time.Duration
	drainTimeout time.Duration
}

func newInstance(opts instanceOptions) (*instance, error) {
	metrics := telemetry.NewMetrics(telemetry.MetricsOptions{Version: opts.version, InferenceUsage: opts.export.environment.InferenceUsage})
	runtimeOptions := gateway.RuntimeOptions{Logger: opts.logger, ModerationURL: os.Getenv("MCPGW_OPENAI_MODERATION_URL"), Metrics: metrics, SessionKeys: opts.keys, Version: opts.version,
		Tracer: opts.export.tracer, Resource: opts.export.environment.Resource}
	if opts.peers != nil {
		runtimeOptions.Home, runtimeOptions.Peers = opts.peers.addr, opts.peers.ring
	}
	runtime, err := gateway.NewRuntime(runtimeOptions)
	if err != nil {
		return nil, err
	}
	in := &instance{
		runtime: runtime,
		logger:  opts.logger,
		metrics: metrics,
		ports:   opts.ports,
		report:  opts.report,
		color:   opts.color,
		quiet:   opts.quiet,
		export:  opts.export,
		version: opts.version,
		started: make(chan struct{}),
		refused: make(chan error, 1),
		server: gateway.NewServer(gateway.Options{
			Logger:       opts.logger,
			Runtime:      runtime,
			Account:      &telemetry.Account{Metrics: metrics, Log: opts.accessLog},
			Listen:       opts.ports.listen,
			DrainDelay:   opts.drainDelay,
			DrainTimeout: opts.drainTimeout,
		}),
	}
	if opts.peers != nil {
		opts.peers.serve(in.server)
	}
	return in, nil
}

// run serves what source delivers until ctx ends and all is drained. It fails when
// the first configuration is refused. serving, which may be nil, runs beside it
// once that is served; when it returns, run ends.
func (in *instance) run(ctx context.Context, source config.Source, serving func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return in.server.Run(ctx) })
	group.Go(func() error {
		if err := in.metrics.Push(ctx, in.export.environment, in.version); err != nil {
			in.logger.Error("metrics are not pushed", slog.Any("error", err))
		}
		return nil
	})
	group.Go(func() error { return source.Run(ctx, in.apply) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-in.refused:
			return exit(ExitInvalidConfig, err)
		case <-in.started:
		}
		if serving == nil {
			return nil
		}
		defer cancel()
		return serving(ctx)
	})
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// apply hands resources to the data plane.
func (in *instance) apply(res *config.Resources) *config.Report {
	in.asked.Store(true)
	report := in.server.Apply(res)
	if !res.Local || !report.Has(config.Invalid) {
		in.served.Store(res)
	}
	return report
}

// tell is the reporter of every source.
func (in *instance) tell(report *config.Report, sources *config.Sources, applied bool) {
	in.show(report, sources)
	asked := in.asked.Swap(false)
	if applied {
		in.logger.Info("configuration applied", slog.String("problems", report.Summary()))
		in.once.Do(func() { close(in.started) })
		return
	}
	if !asked { // otherwise the server has counted it
		in.metrics.ReloadRefused()
	}
	in.once.Do(func() { in.refused <- fmt.Errorf("the configuration is not valid (%s)", report.Summary()) })
	if in.served.Load() != nil {
		in.logger.Error("the new configuration is refused, the last good one stays", slog.String("problems", report.Summary()))
	}
}

// show tells people about problems, or programs that read the log.
func (in *instance) show(report *config.Report, sources *config.Sources) {
	if len(report.Problems) == 0 || in.quiet && !report.Has(config.Invalid) && !report.Has(config.Unresolved) {
		return
	}
	if in.report != nil {
		if err := config.Render(in.report, report, sources, config.Options{Color: in.color}); err != nil {
			in.logger.Error("writing the report", slog.Any("error", err))
		}
		return
	}
	logProblems(in.logger, report)
}

// logProblems writes problems for programs that read the log.
func logProblems(logger *slog.Logger, report *config.Report) {
	for _, p := range report.Problems {
		level := slog.LevelError
		if p.Class == config.Warning {
			level = slog.LevelWarn
		}
		logger.Log(context.Background(), level, "configuration problem",
			slog.String("class", p.Class.String()), slog.String("code", p.Code), slog.String("object", p.Object.String()), slog.String("path", p.Path),
			slog.String("position", p.Position.String()), slog.String("problem", p.Message), slog.String("help", p.Help))
	}
}
