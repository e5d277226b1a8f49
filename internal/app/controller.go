package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/kube"
	"github.com/mcpgw/mcpgw/telemetry"
)

// DefaultControllerPort is where data planes reach a controller.
const DefaultControllerPort = "9978"

// ControllerOptions configure [Control].
type ControllerOptions struct {
	// Kube says which resources of a Kubernetes API server data planes get.
	Kube KubeOptions
	// Listen is the address for data planes, Address the host:port at which they reach it; "" is that of the
	// Service mcpgw-controller in the controller's namespace.
	Listen, Address string
	// Image is that of the data planes that are deployed.
	Image string
	// KeyAge is how long session keys are used before others follow; 0 is for ever.
	KeyAge time.Duration

	// MetricsAddr and ReadyAddr are where the controller's own listeners are; Off switches one off.
	MetricsAddr, ReadyAddr string

	// Version is this program's.
	Version string
	// Logger gets what operators should know.
	Logger *slog.Logger
}

// Control runs a controller until ctx ends: it reads an API server, writes status, and hands data planes what they
// need.
func Control(ctx context.Context, opts ControllerOptions) error {
	if err := errors.Join(opts.Kube.check(), opts.check()); err != nil {
		return exit(ExitUsage, err)
	}
	common, err := opts.Kube.options(opts.Logger)
	if err != nil {
		return err
	}
	namespace := cmp.Or(opts.Kube.LeaseNamespace, kube.PodNamespace())
	address := cmp.Or(opts.Address, net.JoinHostPort("mcpgw-controller."+namespace+".svc", DefaultControllerPort))
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return exit(ExitUsage, fmt.Errorf("--address %q is not host:port, as in mcpgw-controller.mcpgw-system.svc:9978", address))
	}
	authenticate, err := kube.NewAuthenticator(common.Config)
	if err != nil {
		return exit(ExitUsage, err)
	}
	registry, err := controllerMetrics(opts.Version)
	if err != nil {
		return err
	}
	common.Metrics = kube.NewMetrics(registry)
	var source *kube.Source
	server := delivery.NewServer(delivery.ServerOptions{
		Authenticate: authenticate, Logger: opts.Logger, Metrics: delivery.NewMetrics(registry),
		OnDataPlanes: func() { source.Look() }, // there are none before there is one
	})
	identity := kube.NewIdentity(host)
	var ready atomic.Bool
	known := map[string]bool{}
	common.OnReport = func(report *config.Report) { logProblems(opts.Logger, news(report, known)) }
	common.Proxies = &kube.Proxies{
		Namespace: namespace, Address: address, Image: opts.Image, KeyAge: opts.KeyAge, Identity: identity, DataPlanes: server.DataPlanes,
		Deliver: func(sets map[types.NamespacedName]delivery.Set) {
			server.Publish(sets)
			ready.Store(true)
		},
	}
	if source, err = kube.NewSource(common); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", opts.Listen)
	if err != nil {
		return exit(ExitUsage, fmt.Errorf("listening for data planes: %w", err))
	}
	opts.Logger.Info("listening", slog.String("for", "data planes"), slog.String("address", l.Addr().String()), slog.String("reachedAt", address))
	listeners := &own{logger: opts.Logger}
	defer listeners.close()
	err = errors.Join(
		listeners.open("metrics", opts.MetricsAddr, DefaultMetricsAddr, metricsHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4}))),
		listeners.open("readiness", opts.ReadyAddr, DefaultReadyAddr, readiness(ready.Load)),
	)
	if err != nil {
		_ = l.Close()
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, l, identity.Config()) })
	group.Go(func() error { return source.Run(ctx, judged()) })
	return group.Wait()
}

// controllerMetrics returns where the series of a controller are registered, with those of the process.
func controllerMetrics(version string) (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	return registry, errors.Join(
		registry.Register(telemetry.BuildInfo(version)),
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

// judged returns how a controller finds out what becomes of resources: it compiles them, and serves nothing. Those that
// are the same as before are not compiled again.
func judged() func(*config.Resources) *config.Report {
	var fingerprint string
	var report *config.Report
	return func(res *config.Resources) *config.Report {
		if report == nil || fingerprint != res.Fingerprint {
			fingerprint = res.Fingerprint
			_, report = gateway.Compile(res, nil)
		}
		return report
	}
}

// check returns what is wrong with the options.
func (o *ControllerOptions) check() error {
	switch {
	case o.KeyAge != 0 && o.KeyAge < kube.MinKeyAge:
		return fmt.Errorf("--session-key-age is at least %v, or 0 for keys that are never rotated", kube.MinKeyAge)
	case o.Image == "" && !o.Kube.NoStatus:
		return errors.New("--proxy-image or MCPGW_PROXY_IMAGE is needed: the image of the data planes that are deployed, which is best this one's")
	}
	return nil
}
