package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
)

// A bench is one run of the program.
type bench struct {
	*options
	dir      string // temporary
	pinned   bool
	mockAddr string
	mockPID  int
	seal     float64 // a session id, in microseconds
	open     float64
}

// A subject is what is measured, and what was measured of it.
type subject struct {
	name string
	// start starts it and says where; nil for the mock itself.
	start func(context.Context) (*running, error)

	cpu, allocs, p50, p99, foreign, rps []float64 // a run each
	session, stream                     memoryUse
	listings                            map[int]*listing // by number of targets
	modelUses                           []modelUse       // of modelCases
	plain                               plainUse
	afterStreams                        float64   // bytes
	largePeaks                          []float64 // bytes, of each large case
	fanWall, fanCPU                     []float64 // a change each: milliseconds, and microseconds a listener
}

// A running is a started subject.
type running struct {
	*process        // nil for the mock itself
	url      string // of its MCP endpoint
	debug    string // URL of its /debug/pprof, "" when it has none

	// request and check are what a load sends and what an answer has to be; nil calls a tool.
	request func(*h1.Conn, h1.Target) ([]byte, error)
	check   func(h1.Response) error
	first   bool // what is timed is the first piece of a stream
}

// A memoryUse is what one idle session or stream costs a subject, in bytes.
type memoryUse struct {
	measured bool
	rss      float64 // resident memory of the process
	live     float64 // live heap and stacks, of programs with debug
}

func (b *bench) startMock(ctx context.Context) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, loadCPU, addr, self, "mock", "-addr", addr)
	if err != nil {
		return nil, err
	}
	b.mockAddr, b.mockPID = addr, p.pid()
	return p, nil
}

// subjects returns what is measured, in the order of the table.
func (b *bench) subjects(ctx context.Context) ([]*subject, error) {
	all := []*subject{
		{name: "direct", start: func(context.Context) (*running, error) {
			return &running{url: "http://" + b.mockAddr + "/mcp"}, nil
		}},
		{name: "nginx", start: b.startNginx},
		{name: "proxy", start: b.startProxy},
		{name: "proxy-again", start: b.startProxy},
		{name: "gateway", start: b.startGateway},
	}
	if b.only != "" {
		names := strings.Split(b.only, ",")
		all = slices.DeleteFunc(all, func(s *subject) bool { return !slices.Contains(names, s.name) })
	}
	if b.binary == "" && slices.ContainsFunc(all, func(s *subject) bool { return s.name == "gateway" }) {
		b.binary = filepath.Join(b.dir, "mcpgw")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.binary, "./cmd/mcpgw")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build ./cmd/mcpgw: %w\n%s", err, out)
		}
	}
	return all, nil
}

func (b *bench) startProxy(ctx context.Context) (*running, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	debug, err := freeAddr()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, subjectCPU, addr, self, "proxy", "-addr", addr, "-debug", debug, "-upstream", "http://"+b.mockAddr)
	if err != nil {
		return nil, err
	}
	return &running{process: p, url: "http://" + addr + "/mcp", debug: "http://" + debug}, nil
}

// startNginx starts Debian's nginx with one worker, keep-alive on both sides and
// no access log: the least that it can do.
func (b *bench) startNginx(ctx context.Context) (*running, error) {
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx" // which is not on everyone's PATH
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	const config = `daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log error;
events { worker_connections 32768; }
http {
	access_log off;
	client_max_body_size 0;
	client_body_temp_path %[1]s;
	proxy_temp_path %[1]s;
	fastcgi_temp_path %[1]s;
	uwsgi_temp_path %[1]s;
	scgi_temp_path %[1]s;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	upstream mock { server %[2]s; keepalive 1024; keepalive_requests 1000000000; }
	server {
		listen %[3]s backlog=4096;
		location / {
			proxy_pass http://mock;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
			proxy_buffering off;
			proxy_read_timeout 1h;
		}
	}
}
`
	file := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, b.dir, b.mockAddr, addr), 0o600); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 { // its worker runs as somebody else
		if err := os.Chmod(b.dir, 0o711); err != nil {
			return nil, err
		}
	}
	p, err := b.start(ctx, subjectCPU, addr, binary, "-c", file, "-p", b.dir)
	if err != nil {
		return nil, fmt.Errorf("%w (hack/deps bench installs nginx)", err)
	}
	return &running{process: p, url: "http://" + addr + "/mcp"}, nil
}

// startGateway starts the gateway with what a real one does: rules in CEL on each
// call, names with the target's prefix, access log and metrics.
func (b *bench) startGateway(ctx context.Context) (*running, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	var others [3]string
	for i := range others {
		if others[i], err = freeAddr(); err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	host, mockPort, err := net.SplitHostPort(b.mockAddr)
	if err != nil {
		return nil, err
	}
	const config = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bench}
spec:
  gatewayClassName: mcpgw
  listeners:
  - {name: http, protocol: HTTP, port: %s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bench}
spec:
  parentRefs:
  - {name: bench}
  rules:
  - matches:
    - path: {type: PathPrefix, value: /mcp}
    backendRefs:
    - {group: gateway.kgateway.dev, kind: Backend, name: mock}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: mock}
spec:
  type: MCP
  mcp:
    targets:
    - name: mock
      static: {host: %s, port: %s, path: /mcp}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: rules}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: bench}
  rbac:
    policy:
      matchExpressions:
      - mcp.tool.target == "mock" && mcp.tool.name.startsWith("tool_")
      - request.headers["x-team"] == "operations"
`
	text := fmt.Appendf(nil, config, port, host, mockPort)
	for _, n := range b.targets {
		text = b.appendBackend(text, fmt.Sprintf("lists-%d", n), strings.TrimSuffix(listPath(n), "/mcp"), n)
	}
	if b.plainRows {
		text = appendPlain(text, host, mockPort)
	}
	if b.modelRows {
		text = appendModels(text, host, mockPort)
	}
	if b.fanout > 0 {
		text = b.appendBackend(text, "fan", "/fan", 0)
	}
	file := filepath.Join(b.dir, "gateway.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p, err := b.start(ctx, subjectCPU, addr, b.binary, "serve", "-f", file,
		"--admin-addr", others[0], "--metrics-addr", others[1], "--ready-addr", others[2])
	if err != nil {
		return nil, err
	}
	return &running{process: p, url: "http://" + addr + "/mcp", debug: "http://" + others[0]}, nil
}

// appendBackend appends a Backend with n targets of the mock, or with the one that
// announces changes, at a path and under rules of its own.
func (b *bench) appendBackend(text []byte, name, path string, n int) []byte {
	host, port, _ := net.SplitHostPort(b.mockAddr) // as started
	text = fmt.Appendf(text, `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs:
  - {name: bench}
  rules:
  - matches:
    - path: {type: PathPrefix, value: %[2]s}
    backendRefs:
    - {group: gateway.kgateway.dev, kind: Backend, name: %[1]s}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: %[1]s}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: %[1]s}
  rbac:
    policy:
      matchExpressions:
      - mcp.tool.name.startsWith("tool_")
      - request.headers["x-team"] == "operations"
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: %[1]s}
spec:
  type: MCP
  mcp:
    targets:
`, name, path)
	if n == 0 {
		return fmt.Appendf(text, "    - name: fan\n      static: {host: %s, port: %s, path: /fan/mcp}\n", host, port)
	}
	text = fmt.Appendf(text, "    - name: all\n      selector: {service: {matchLabels: {bench: %s}}}\n", name)
	for i := range n {
		text = fmt.Appendf(text, `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s-t%[2]d, labels: {bench: %[1]s}, annotations: {kgateway.dev/mcp-path: /target/mcp}}
spec: {ports: [{name: m, port: 80, appProtocol: kgateway.dev/mcp}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-t%[2]d, labels: {kubernetes.io/service-name: %[1]s-t%[2]d}}
addressType: IPv4
ports: [{name: m, port: %[4]s}]
endpoints: [{addresses: [%[3]s]}]
`, name, i, host, port)
	}
	return text
}
