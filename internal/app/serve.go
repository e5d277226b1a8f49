package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/demo"
	"github.com/mcpgw/mcpgw/telemetry"
)

// ServeOptions configure [Serve].
type ServeOptions struct {
	// Paths are files and directories of resources.
	Paths []string
	// MCPConfig is the file of an MCP client whose servers are served in place of
	// Paths.
	MCPConfig string
	// Kube serves the resources of a Kubernetes API server in place of both, unless it is nil.
	Kube *KubeOptions
	// Follow takes the resources from a controller, and serves those of Paths beside them, unless it is nil.
	Follow *FollowOptions
	// Demo serves the built-in demo where there is none of these: MCP servers, and the LLM
	// providers that variables name, or a mock LLM where none does.
	Demo bool
	// LookupEnv reads those variables, as [os.LookupEnv] does; nil: there are none.
	LookupEnv func(string) (string, bool)
	// Loopback binds loopback addresses only, and takes a free port when the
	// assumed one is busy.
	Loopback bool
	// Port, when not 0, takes the place of the assumed port 8080.
	Port int

	// AdminAddr, MetricsAddr and ReadyAddr are where the gateway's own listeners
	// are; Off switches one off.
	AdminAddr, MetricsAddr, ReadyAddr string
	// SessionKeysFile names the file with the session keys; where it is empty,
	// SessionKeys are they.
	SessionKeysFile, SessionKeys string
	// PeerAddr is host:port, where other replicas reach this one; empty keeps all that
	// a session needs in this process. Port 0 stands for a free one.
	PeerAddr string
	// DrainDelay is how long connections are still accepted once the end is
	// announced, DrainTimeout how long requests under way may take to end.
	DrainDelay, DrainTimeout time.Duration

	// Version is this program's.
	Version string
	// Logger gets what operators should know.
	Logger *slog.Logger
	// AccessLog gets a line for each request in LogFormat, "text" or "json". Nil
	// writes none.
	AccessLog io.Writer
	LogFormat string
	// Report gets the problems of the configuration as people read them, in colour
	// if Color; nil logs them.
	Report io.Writer
	Color  bool
	// Reopen has the files of access logs be opened anew with each value; nil never does.
	Reopen <-chan os.Signal
	// Banner gets what there is to see, once it is served; nil prints nothing.
	Banner io.Writer
}

// heapFloor is the size of a block of memory that nothing ever touches. The
// garbage collector begins a cycle when the heap has doubled since the last one,
// and a gateway holds a few megabytes only: under load it would begin one each
// hundred calls or so. The block makes the heap look larger. It takes up
// addresses, not memory; what it costs is garbage that is collected later. Without it the p99 of
// a call doubled in a measurement. With half of it a call costs 4 % more processor time, twice of it is of no
// more use.
const heapFloor = 32 << 20

// Serve runs a gateway until ctx ends and it has drained. The error has ExitUsage
// when there is nothing to serve, and ExitInvalidConfig when the configuration is refused at start.
func Serve(ctx context.Context, opts ServeOptions) error {
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	if err := opts.check(); err != nil {
		return exit(ExitUsage, err)
	}
	keys, err := sessionKeys(opts.SessionKeysFile, opts.SessionKeys)
	if err != nil {
		return exit(ExitUsage, err)
	}
	if opts.Follow != nil {
		keys = [][]byte{temporaryKey()}
	}
	peers, err := listenPeers(ctx, opts.PeerAddr, keys)
	if err != nil {
		return exit(ExitUsage, err)
	}
	defer peers.close()
	switch {
	case len(keys) == 0:
		opts.Logger.Info("no session keys are given, so sessions belong to this process alone: see --session-keys-file")
	case peers == nil:
		opts.Logger.Info("other replicas can't reach this one, so what a session needs beside its id is here alone: see --peer-addr")
	default:
		opts.Logger.Info("listening", slog.String("for", "peers"), slog.String("address", peers.addr))
	}
	export, stopExport, err := exportTelemetry(opts)
	if err != nil {
		return exit(ExitUsage, err)
	}
	defer stopExport()
	log, closeLog := accessLog(opts.AccessLog, opts.LogFormat)
	defer func() {
		if err := closeLog(); err != nil {
			opts.Logger.Error("writing the access log", slog.Any("error", err))
		}
	}()
	in, err := newInstance(instanceOptions{
		logger:       opts.Logger,
		version:      opts.Version,
		keys:         keys,
		peers:        peers,
		ports:        &ports{loopback: opts.Loopback, port: opts.Port, fallBack: opts.Loopback},
		report:       opts.Report,
		color:        opts.Color,
		accessLog:    log,
		export:       export,
		drainDelay:   opts.DrainDelay,
		drainTimeout: opts.DrainTimeout,
	})
	if err != nil {
		return err
	}
	if opts.SessionKeysFile != "" {
		ctx, cancel := context.WithCancel(ctx)
		var watching sync.WaitGroup
		defer watching.Wait()
		defer cancel()
		watching.Go(func() { watchKeys(ctx, opts.SessionKeysFile, keys, in.runtime.SetSessionKeys, opts.Logger) })
	}
	listeners := &own{logger: opts.Logger}
	defer listeners.close()
	err = errors.Join(
		listeners.open("metrics", opts.MetricsAddr, DefaultMetricsAddr, metricsHandler(in.metrics.Handler())),
		listeners.open("readiness", opts.ReadyAddr, DefaultReadyAddr, readiness(in.server.Ready)),
		listeners.open("admin", opts.AdminAddr, DefaultAdminAddr, admin(in.served.Load)),
	)
	if err != nil {
		return err
	}
	source, note, stop, err := sourceOf(opts, in)
	if err != nil {
		return err
	}
	defer stop()
	return in.run(ctx, source, func(ctx context.Context) error {
		in.announce(ctx, opts, note)
		for {
			select {
			case <-opts.Reopen:
				in.server.ReopenLogs()
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// check returns an error when the options say to serve nothing, or two things.
func (o *ServeOptions) check() error {
	if len(o.Paths) > 0 && o.MCPConfig != "" {
		return errors.New("give either -f or --mcp-config, not both")
	}
	if o.Kube != nil {
		if len(o.Paths) > 0 || o.MCPConfig != "" {
			return errors.New("give either -f or --kube, not both")
		}
		return o.Kube.check()
	}
	if o.Follow != nil {
		return o.Follow.check(o)
	}
	if len(o.Paths) == 0 && o.MCPConfig == "" && !o.Demo {
		return errors.New("nothing to serve: name a file or directory with -f, or a cluster with --kube, or try `mcpgw run`")
	}
	return nil
}

// accessLog returns the access log and what writes the rest of it at the end.
func accessLog(w io.Writer, format string) (log *telemetry.AccessLog, closeLog func() error) {
	if w == nil {
		return nil, func() error { return nil }
	}
	lines := telemetry.NewLines(w)
	if format == "json" {
		return telemetry.NewAccessLog(lines, telemetry.JSON), lines.Close
	}
	return telemetry.NewAccessLog(lines, telemetry.Text), lines.Close
}

// sourceOf returns where the resources come from, with a note for the banner. stop
// ends what it started, and waits for it.
func sourceOf(opts ServeOptions, in *instance) (source config.Source, note string, stop func(), err error) {
	stop = func() {}
	switch {
	case opts.Kube != nil:
		source, err = kubeSource(opts, in)
		return source, "", stop, err
	case opts.Follow != nil:
		source, err = followSource(opts, in)
		return source, "", stop, err
	case len(opts.Paths) > 0:
		return &config.FileSource{Paths: opts.Paths, Check: check, OnReport: in.tell}, "", stop, nil
	case opts.MCPConfig != "":
		return &importSource{path: opts.MCPConfig, logger: opts.Logger, tell: in.tell}, "servers of " + opts.MCPConfig, stop, nil
	default:
		return demoSource(opts, in)
	}
}

// demoSource starts the demo's servers and returns the resources that refer to
// them, and those for the providers that the environment names.
func demoSource(opts ServeOptions, in *instance) (source config.Source, note string, stop func(), err error) {
	stop = func() {}
	providers, variables, err := environmentFile(opts.LookupEnv, cmp.Or(opts.Port, assumedPort))
	if err != nil {
		return nil, "", stop, err
	}
	// The demo's own chatter is of no use to anyone.
	servers, err := demo.Listen(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, "", stop, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := servers.Run(ctx); err != nil {
			opts.Logger.Error("the demo ended", slog.Any("error", err))
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	files := []config.File{{Name: "demo.yaml", Text: servers.YAML(providers == nil)}}
	note = "no configuration given: this is the built-in demo"
	if providers != nil {
		files = append(files, config.File{Name: "environment.yaml", Text: providers})
		note = "no configuration given: the demo's MCP servers, and LLM providers of " + strings.Join(variables, ", ")
	}
	return &memorySource{files: files, tell: in.tell}, note, stop, nil
}

// announce says what is served where: in the log, and on the banner.
func (in *instance) announce(ctx context.Context, opts ServeOptions, note string) {
	endpoints := in.endpoints()
	for _, e := range endpoints {
		in.logger.Info("serving", slog.String("url", e.url), slog.String("backend", e.backend), slog.Bool("mcp", e.mcp))
	}
	if opts.Banner == nil {
		return
	}
	if err := in.banner(ctx, opts, note, endpoints); err != nil {
		in.logger.Warn("writing the banner", slog.Any("error", err))
	}
}

// An endpoint is a URL that clients can use.
type endpoint struct {
	url     string
	path    string
	backend string // namespace/name
	mcp     bool
	llm     bool
	targets int // entries of an MCP Backend
}

// endpoints returns what is served at a path of its own, MCP first.
func (in *instance) endpoints() []endpoint {
	targets, llms := map[string]int{}, map[string]bool{}
	for _, b := range in.served.Load().Backends {
		if b.Spec.MCP != nil {
			targets[b.Namespace+"/"+b.Name] = len(b.Spec.MCP.Targets)
		}
		llms[b.Namespace+"/"+b.Name] = b.Spec.AI != nil
	}
	var endpoints []endpoint
	for _, e := range in.server.Snapshot().Endpoints() {
		scheme, host := "http", in.ports.hostPort(e.Port)
		if e.TLS {
			scheme = "https"
		}
		if e.Host != "" {
			host = fmt.Sprintf("%s:%d", e.Host, e.Port)
		}
		endpoints = append(endpoints, endpoint{
			url: scheme + "://" + host + e.Path, path: e.Path, backend: e.Backend, mcp: e.MCP, llm: llms[e.Backend], targets: targets[e.Backend],
		})
	}
	return endpoints
}
