// Package edge has the edge of the built gateway attacked, on raw sockets, by h2spec and by floods, beside Debian's nginx
// where that can be asked the same.
package edge

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the gateway under test.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mcpgw-edge-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "mcpgw")
	build := exec.Command("go", "build", "-o", binary, "github.com/mcpgw/mcpgw/cmd/mcpgw")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// freePort returns a port of loopback that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// A process is a child of a test, which ends with it.
type process struct {
	*exec.Cmd
	out  output
	done chan struct{}
}

func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) // it may have ended
		<-p.done
		if text := p.out.String(); t.Failed() {
			t.Logf("%s wrote:\n%s", name, text[max(0, len(text)-4096):])
		}
	})
	return p
}

// listens waits until something accepts connections at address.
func (p *process) listens(t testing.TB, address string) {
	t.Helper()
	until(t, "it listens on "+address, func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s ended", p.Path)
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); !condition(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in two minutes: %s", what)
		}
	}
}

// A gateway is the built binary, serving files.
type gateway struct {
	*process
	address, metrics, admin string
	file                    string
}

// config is a Gateway on a port, with a Backend and the rest of the configuration.
func config(port int, upstream, more string) string {
	host, number, _ := net.SplitHostPort(upstream)
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: mcpgw
  listeners: [{name: http, port: %d, protocol: HTTP}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: a}
spec: {type: Static, static: {hosts: [{host: %s, port: %s}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: a}]}]
%s`, port, host, number, more)
}

// policy is an HTTPListenerPolicy on the Gateway.
func policy(spec string) string {
	return "---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: HTTPListenerPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]\n  " + spec + "\n"
}

// serve runs the gateway in front of an upstream until the test ends.
func serve(t testing.TB, upstream, more string, args ...string) *gateway {
	t.Helper()
	port := freePort(t)
	file := filepath.Join(t.TempDir(), "gw.yaml")
	if err := os.WriteFile(file, []byte(config(port, upstream, more)), 0o600); err != nil {
		t.Fatal(err)
	}
	local := func() string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }
	g := &gateway{address: fmt.Sprintf("127.0.0.1:%d", port), metrics: local(), admin: local(), file: file}
	g.process = start(t, binary, append([]string{"serve", "-f", file, "--metrics-addr", g.metrics, "--admin-addr", g.admin, "--ready-addr", "off", "--log-format", "json"}, args...)...)
	g.listens(t, g.address)
	return g
}

// metric returns the value of a series, "" when there is none.
func (g *gateway) metric(t testing.TB, series string) string {
	t.Helper()
	resp, err := http.Get("http://" + g.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	for line := range strings.SplitSeq(b.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			return rest
		}
	}
	return ""
}

// nginx runs Debian's nginx in front of an upstream, on the path of which it adds nothing. hack/deps installs it.
func nginx(t testing.TB, upstream string) (address string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // which is not on everyone's PATH
	}
	dir := t.TempDir()
	address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`
worker_processes 1;
daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s;
  server {
    listen %[2]s;
    location / { proxy_pass http://%[3]s; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`, dir, address, upstream)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, path, "-p", dir, "-c", file)
	p.listens(t, address)
	return address
}
