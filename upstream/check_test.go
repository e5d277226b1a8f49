package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// checking runs the checks of a pool.
func checking(t *testing.T, check HealthCheck, opts Options, addresses ...string) *Pool {
	check.Interval, check.Timeout = 5*time.Millisecond, 5*time.Second
	check.Unhealthy, check.Healthy = 3, 2
	opts.Check, opts.Logger = &check, slog.New(slog.DiscardHandler)
	p := newPool(t, opts, addresses...)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return p
}

// used returns the addresses that are picked.
func used(p *Pool) []string {
	var out []string
	for _, e := range p.endpoints.Load().usable {
		out = append(out, e.address)
	}
	return out
}

func TestCheckHTTP(t *testing.T) {
	var broken atomic.Bool
	var asked atomic.Int64
	sick := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "HEAD" || r.URL.RequestURI() != "/healthz?deep=1" || r.Host != "checks.test" {
			t.Errorf("asked with %s %s of %s", r.Method, r.URL, r.Host)
		}
		asked.Add(1)
		if broken.Load() {
			w.WriteHeader(503)
		}
	})
	well := serve(t, func(http.ResponseWriter, *http.Request) {})
	p := checking(t, HealthCheck{Method: "HEAD", Path: "/healthz?deep=1", Host: "checks.test"}, Options{}, sick, well)
	until(t, func() bool { return asked.Load() > 5 })
	if got := used(p); len(got) != 2 {
		t.Errorf("used are %v, want both", got)
	}
	broken.Store(true)
	until(t, func() bool { return len(used(p)) == 1 })
	if got := used(p); got[0] != well {
		t.Errorf("used is %s, want %s", got[0], well)
	}
	broken.Store(false)
	until(t, func() bool { return len(used(p)) == 2 })
}

// TestCheckThresholds checks how many answers in a row it takes, both ways.
func TestCheckThresholds(t *testing.T) {
	p := newPool(t, Options{Logger: slog.New(slog.DiscardHandler)}, "a:1", "b:1")
	c := &checker{HealthCheck: HealthCheck{Unhealthy: 3, Healthy: 2}}
	for i, step := range []struct {
		err  error
		used int
	}{
		{nil, 2}, {errNone, 2}, {errNone, 2}, {nil, 2}, // began anew
		{errNone, 2}, {errNone, 2}, {errNone, 1}, {errNone, 1},
		{nil, 1}, {errNone, 1}, {nil, 1}, {nil, 2},
	} {
		p.checked(p.Endpoints()[0], c, step.err)
		if got := len(used(p)); got != step.used {
			t.Errorf("after step %d, %d endpoints are used, want %d", i, got, step.used)
		}
	}
}

// TestCheckAllSick checks that the last endpoints are used although they are unhealthy.
func TestCheckAllSick(t *testing.T) {
	a, b := refused(t), refused(t)
	p := checking(t, HealthCheck{Method: "GET", Path: "/"}, Options{}, a, b)
	until(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.Endpoints()[0].unhealthy && p.Endpoints()[1].unhealthy
	})
	if got := used(p); len(got) != 2 {
		t.Errorf("used are %v, want both", got)
	}
	if _, err := p.RoundTrip(request(t, "GET", "http://x/", nil)); err == nil || fault.Of(err).Code != fault.UpstreamUnreachable {
		t.Errorf("error %v, want that of the connection", err)
	}
}

func TestCheckGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	state := health.NewServer()
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, state)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	state.SetServingStatus("tools", healthpb.HealthCheckResponse_SERVING)
	other := serve(t, func(http.ResponseWriter, *http.Request) {}) // no gRPC at all

	p := checking(t, HealthCheck{GRPC: &GRPCCheck{Service: "tools", Authority: "tools.test"}}, Options{Protocol: H2C}, l.Addr().String(), other)
	until(t, func() bool { return len(used(p)) == 1 && used(p)[0] == l.Addr().String() })
	state.SetServingStatus("tools", healthpb.HealthCheckResponse_NOT_SERVING)
	until(t, func() bool { return len(used(p)) == 2 }) // both are, so both are used
	state.SetServingStatus("tools", healthpb.HealthCheckResponse_SERVING)
	until(t, func() bool { return len(used(p)) == 1 })
	p.SetEndpoints(other)
	until(t, func() bool { return len(used(p)) == 1 && used(p)[0] == other })
}

func TestBounds(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			hang(w, r)
		}
		for range 20 {
			w.Header().Add("X-Many", "1")
		}
	})
	p := newPool(t, Options{MaxResponseHeaders: 15}, addr)
	if _, err := p.RoundTrip(request(t, "GET", "http://x/", nil)); err == nil || fault.Of(err).Code != fault.UpstreamFailed {
		t.Errorf("error %v for too many headers, want UpstreamFailed", err)
	}
	p = newPool(t, Options{MaxDuration: 50 * time.Millisecond}, addr)
	resp, err := p.RoundTrip(request(t, "GET", "http://x/slow", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil || fault.Of(err).Code != fault.UpstreamTimeout {
		t.Errorf("error %v for a request that takes too long, want UpstreamTimeout", err)
	}
}
