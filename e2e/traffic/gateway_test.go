package traffic

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in two minutes: %s", what)
		}
	}
}

// freeAddress returns an address of loopback that nobody listens on, with a port that the system gives to nobody by itself.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// A log keeps what a process writes. It is safe for concurrent use.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A gateway is the binary, serving a file.
type gateway struct {
	t       testing.TB
	file    string
	address string
	metrics string
	log     log
}

// start runs the gateway until the test ends. The resources come after a Gateway with one listener.
func start(t testing.TB, resources string, env ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, file: filepath.Join(t.TempDir(), "gateway.yaml"), address: freeAddress(t), metrics: freeAddress(t)}
	g.rewrite(resources)
	ready := freeAddress(t)
	cmd := exec.Command(binary, "serve", "-f", g.file, "--admin-addr", "off", "--metrics-addr", g.metrics, "--ready-addr", ready)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &g.log, &g.log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the gateway does not end")
			_ = cmd.Process.Kill()
			<-ended
		}
		text := g.log.String()
		if t.Failed() || strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			t.Errorf("the gateway wrote:\n%s", text[max(0, len(text)-20000):])
		}
	})
	until(t, "the gateway is ready", func() bool {
		select {
		case <-ended:
			t.Fatal("the gateway has ended")
		default:
		}
		resp, err := http.Get("http://" + ready + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return g
}

// rewrite replaces the resources.
func (g *gateway) rewrite(resources string) {
	g.t.Helper()
	_, port, _ := net.SplitHostPort(g.address)
	text := fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: default}\nspec:\n  gatewayClassName: mcpgw\n  listeners: [{name: http, port: %s, protocol: HTTP}]\n---\n%s", port, resources)
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// An answer is what a test looks at.
type answer struct {
	status int
	body   string
	header http.Header
}

// ask sends a request with a body that is streamed.
func (g *gateway) ask(method, path string, body io.Reader, header ...string) answer {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+g.address+path, io.MultiReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(text), resp.Header}
}

// metric returns the value of a series, 0 while it is not there.
func (g *gateway) metric(series string) float64 {
	g.t.Helper()
	resp, err := http.Get("http://" + g.metrics + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// backend is a Backend of type Static.
func backend(name, more string, addresses ...string) string {
	var hosts []string
	for _, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		hosts = append(hosts, fmt.Sprintf("{host: %s, port: %s}", host, port))
	}
	return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec: {type: Static, static: {hosts: [%s]}%s}\n---\n", name, strings.Join(hosts, ", "), more)
}

// route is an HTTPRoute of a path to a Backend, with more in its rule.
func route(name, path, backend, more string) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {value: %s}}], backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]%s}]\n---\n", name, path, backend, more)
}

// policy is a TrafficPolicy on an HTTPRoute.
func policy(name, route, spec string) string {
	return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: %s}]\n  %s\n---\n", name, route, spec)
}
