package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A collector is an OpenTelemetry Collector, and what it passed on.
type collector struct {
	grpc, http int

	mu      sync.Mutex
	spans   []exportedSpan
	metrics map[string]bool
}

// An exportedSpan is a span as OTLP has it in JSON.
type exportedSpan struct {
	Service      string
	TraceID      string `json:"traceId"`
	SpanID       string `json:"spanId"`
	ParentSpanID string `json:"parentSpanId"`
	Name         string `json:"name"`
	Kind         int    `json:"kind"`
	Attributes   []struct {
		Key   string                     `json:"key"`
		Value map[string]json.RawMessage `json:"value"`
	} `json:"attributes"`
	Events []exportedEvent `json:"events"`
}

// An exportedEvent is an event of a span.
type exportedEvent struct {
	Name string      `json:"name"`
	Time json.Number `json:"timeUnixNano"` // all of as many digits
}

// events returns the names of the span's events, in the order of their times.
func (s *exportedSpan) events() (names []string) {
	slices.SortStableFunc(s.Events, func(a, b exportedEvent) int {
		return strings.Compare(a.Time.String(), b.Time.String())
	})
	for _, e := range s.Events {
		names = append(names, e.Name)
	}
	return names
}

// attribute returns the value of an attribute as JSON, "" when there is none.
func (s *exportedSpan) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			for _, v := range a.Value {
				return strings.Trim(string(v), `"`)
			}
		}
	}
	return ""
}

// startCollector runs the collector of hack/otelcol, which passes on what it gets to
// this process.
func startCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{grpc: testgateway.FreePort(t), http: testgateway.FreePort(t), metrics: map[string]bool{}}
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(sink.Close)
	file := filepath.Join(t.TempDir(), "otelcol.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:%d"}
      http: {endpoint: "127.0.0.1:%d"}
exporters:
  otlphttp: {endpoint: %q, encoding: json, compression: none}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlphttp]}
    metrics: {receivers: [otlp], exporters: [otlphttp]}
`, c.grpc, c.http, sink.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testgateway.Run(t, nil, installed(t, "otelcol", "../hack/otelcol/go.mod", "../hack/otelcol/go.sum", "../hack/otelcol/main.go"), "--config", file)
	p.Listens(t, fmt.Sprintf("127.0.0.1:%d", c.grpc))
	p.Listens(t, fmt.Sprintf("127.0.0.1:%d", c.http))
	return c
}

// take keeps what the collector passes on.
func (c *collector) take(r *http.Request) error {
	var body struct {
		ResourceSpans []struct {
			Resource   exportedSpan
			ScopeSpans []struct{ Spans []exportedSpan }
		}
		ResourceMetrics []struct {
			ScopeMetrics []struct{ Metrics []struct{ Name string } }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return fmt.Errorf("what the collector passes on to %s: %w", r.URL.Path, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range body.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				s.Service = resource.Resource.attribute("service.name")
				c.spans = append(c.spans, s)
			}
		}
	}
	for _, resource := range body.ResourceMetrics {
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				c.metrics[m.Name] = true
			}
		}
	}
	return nil
}

// find waits for a span for which ok is true.
func (c *collector) find(t testing.TB, what string, ok func(*exportedSpan) bool) exportedSpan {
	t.Helper()
	var found exportedSpan
	testgateway.Eventually(t, what, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.IndexFunc(c.spans, func(s exportedSpan) bool { return ok(&s) })
		if i < 0 {
			var names []string
			for _, s := range c.spans {
				names = append(names, s.Name)
			}
			return fmt.Errorf("no such span among %q", names)
		}
		found = c.spans[i]
		return nil
	})
	return found
}

// traceYAML returns a policy that has the Gateway of [manifest] traced.
func traceYAML(provider, more string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: HTTPListenerPolicy
metadata: {name: traces}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  tracing:
    provider: {otel: {%s}}
    samplingRate: 100
    %s
`, provider, more)
}

// TestTracing has the spans of a client's calls arrive at a real collector, within the
// trace that the client began, and what targets get within the gateway's spans.
func TestTracing(t *testing.T) {
	t.Parallel()
	collected := startCollector(t)
	var parents sync.Map // traceparent headers and _meta that the targets got
	demo := recordingProxy(t, serveDemo(t), func(r *http.Request, body []byte) {
		parents.Store(r.Header.Get("Traceparent"), true)
		var m struct {
			Params struct {
				Meta struct{ Traceparent string } `json:"_meta"`
			}
		}
		if json.Unmarshal(body, &m) == nil && m.Params.Meta.Traceparent != "" {
			parents.Store("meta "+m.Params.Meta.Traceparent, true)
		}
	})
	targets := []string{static("demo", demo, "/demo/mcp"), static("notes", demo, "/notes/mcp")}
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, tt := range []struct {
		name, provider, more string
		env                  []string
		service              string
		calls                bool
	}{
		{name: "gRPC", provider: fmt.Sprintf(`grpcAddress: "127.0.0.1:%d"`, collected.grpc), more: `spawnUpstreamSpan: true
    customTags: {environment: {literal: test}, home: {environment: MCPGW_E2E_TAG}, team: {requestHeader: X-Team}}`, env: []string{"MCPGW_E2E_TAG=here"}, service: "default.default", calls: true},
		{name: "HTTP", provider: fmt.Sprintf(`httpAddress: "127.0.0.1:%d", serviceName: by-http`, collected.http), service: "by-http"},
		{name: "environment", env: []string{fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%d", collected.http), "OTEL_SERVICE_NAME=by-env", "OTEL_METRIC_EXPORT_INTERVAL=200"}, service: "by-env", calls: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, "serve", tt.env, func(port int) string {
				text := manifest(port, targets...)
				if tt.provider != "" {
					text += traceYAML(tt.provider, tt.more)
				}
				return text
			})
			for _, revision := range []string{"2025-11-25", "2026-07-28"} {
				c := connect(t, g.url(), clientOptions{revision: revision, header: http.Header{
					"Traceparent": {"00-" + trace + "-" + parent + "-01"}, "X-Team": {"blue"},
				}})
				for _, tool := range []string{"demo_echo", "notes_list"} {
					c.call(t, tool, map[string]any{"message": "x"})
					own := strings.Replace(tool, "_", " ", 1)
					own = own[strings.IndexByte(own, ' ')+1:]
					server := collected.find(t, revision+" "+tool, func(s *exportedSpan) bool {
						return s.Service == tt.service && s.Name == "tools/call "+own && s.Kind == 2 && s.attribute("mcp.protocol.version") == revision
					})
					if server.TraceID != trace || server.ParentSpanID != parent || server.attribute("http.response.status_code") != "200" {
						t.Errorf("%s: %+v", tool, server)
					}
					sent := server.SpanID
					if tt.calls {
						call := collected.find(t, "call of "+tool, func(s *exportedSpan) bool { return s.ParentSpanID == server.SpanID })
						if call.Kind != 3 || call.attribute("gen_ai.tool.name") != own {
							t.Errorf("call of %s: %+v", tool, call)
						}
						sent = call.SpanID
					}
					for _, where := range []string{"", "meta "} {
						if _, ok := parents.Load(where + "00-" + trace + "-" + sent + "-01"); !ok {
							t.Errorf("%s: the target did not get %sthe span %s", tool, where, sent)
						}
					}
					if strings.Contains(tt.more, "customTags") && (server.attribute("environment") != "test" || server.attribute("home") != "here" || server.attribute("team") != "blue") {
						t.Errorf("%s lacks tags: %+v", tool, server.Attributes)
					}
				}
			}
			if tt.name == "environment" {
				testgateway.Eventually(t, "metrics are pushed", func() error {
					collected.mu.Lock()
					defer collected.mu.Unlock()
					if !collected.metrics["mcpgw_http_requests_total"] || !collected.metrics["mcp_server_operation_duration_seconds"] {
						return fmt.Errorf("only %v", collected.metrics)
					}
					return nil
				})
			}
		})
	}
}

// TestTracingEdits has an edit of the tracing policy take effect, and the spans of the
// last requests sent before the process ends.
func TestTracingEdits(t *testing.T) {
	t.Parallel()
	collected := startCollector(t)
	demo := serveDemo(t)
	text := func(port int, service, rate string) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) +
			strings.Replace(traceYAML(fmt.Sprintf(`grpcAddress: "127.0.0.1:%d", serviceName: %s`, collected.grpc, service), ""), "samplingRate: 100", "samplingRate: "+rate, 1)
	}
	g := serve(t, func(port int) string { return text(port, "first", "100") })
	call := func() {
		status, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/nowhere", g.Port))
		if status != http.StatusNotFound {
			t.Fatalf("status %d", status)
		}
	}
	call()
	collected.find(t, "a span of the first", func(s *exportedSpan) bool { return s.Service == "first" && s.Name == "GET" })
	for _, edit := range []struct{ service, rate string }{{"none", "0"}, {"last", "100"}} {
		before := strings.Count(g.Stderr.String(), "configuration applied")
		g.Rewrite(t, text(g.Port, edit.service, edit.rate))
		testgateway.Eventually(t, "the edit is applied", func() error {
			if strings.Count(g.Stderr.String(), "configuration applied") == before {
				return fmt.Errorf("not yet")
			}
			return nil
		})
		call()
	}
	if code := g.Terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	collected.find(t, "a span of the last", func(s *exportedSpan) bool { return s.Service == "last" })
	collected.mu.Lock()
	defer collected.mu.Unlock()
	for _, s := range collected.spans {
		if s.Service == "none" {
			t.Errorf("a span although none is sampled: %+v", s)
		}
	}
}

// recordingProxy passes requests on to a port, and has seen told of each.
func recordingProxy(t testing.TB, port int, seen func(r *http.Request, body []byte)) (own int) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		seen(r, body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}
