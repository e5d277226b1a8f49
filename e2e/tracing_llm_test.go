package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// A providerServer answers as OpenAI does, with the status and the body.
func providerServer(t testing.TB, status int, body string, seen func(*http.Request)) (host string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if seen != nil {
			seen(r)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("host: %q, port: %s", host, port)
}

const chatAnswer = `{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"secret words"},"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,"prompt_tokens_details":{"cached_tokens":400}}}`

// TestTracingLLM has a span of each attempt arrive at a real collector, within that of the request, and none of
// what was said; and what it cost in the metrics that Prometheus reads.
func TestTracingLLM(t *testing.T) {
	t.Parallel()
	collected := startCollector(t)
	var parents sync.Map
	bad := providerServer(t, 503, `{"error":{"message":"busy","type":"server_error","param":null,"code":null}}`, nil)
	good := providerServer(t, 200, chatAnswer, func(r *http.Request) { parents.Store(r.Header.Get("Traceparent"), true) })
	g := startGateway(t, "serve", []string{fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%d", collected.http), "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental"}, func(port int) string {
		return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: default}
spec:
  gatewayClassName: agentgateway
  listeners: [{name: http, protocol: HTTP, port: %d}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: models}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {value: /llm/models}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: models}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: models}
spec:
  type: AI
  ai:
    showCost: true
    priorityGroups:
    - providers: [{name: bad, %s, openai: {authToken: {kind: Inline, inline: k}, model: gpt-4o-bad}}]
    - providers: [{name: good, %s, openai: {authToken: {kind: Inline, inline: k}, model: gpt-4o}}]
`, port, bad, good)
	})
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	r, err := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d/llm/models/v1/chat/completions", g.Port), strings.NewReader(`{"model":"any","messages":[{"role":"user","content":"secret question"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("X-Mcpgw-Cost") != "0.007" {
		t.Errorf("%d, it costs %q", resp.StatusCode, resp.Header.Get("X-Mcpgw-Cost"))
	}
	server := collected.find(t, "the request", func(s *exportedSpan) bool { return s.Kind == 2 && s.TraceID == trace })
	attempt := func(model string) exportedSpan {
		return collected.find(t, "the attempt at "+model, func(s *exportedSpan) bool { return s.Name == "chat "+model })
	}
	first, second := attempt("gpt-4o-bad"), attempt("gpt-4o")
	for _, s := range []exportedSpan{first, second} {
		if s.Kind != 3 || s.TraceID != trace || s.ParentSpanID != server.SpanID || s.attribute("gen_ai.provider.name") != "openai" || s.attribute("gen_ai.operation.name") != "chat" ||
			s.attribute("server.address") != "127.0.0.1" || s.attribute("server.port") == "" {
			t.Errorf("%+v", s)
		}
	}
	if got := first.attribute("error.type"); got != "503" || first.attribute("gen_ai.usage.input_tokens") != "" {
		t.Errorf("the first attempt: %+v", first)
	}
	for name, want := range map[string]string{
		"error.type": "", "gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.usage.input_tokens": "1000",
		"gen_ai.usage.output_tokens": "500", "gen_ai.usage.cache_read.input_tokens": "400", "mcpgw.llm.cost_usd": "0.007",
	} {
		if got := second.attribute(name); got != want {
			t.Errorf("the second attempt has %s %q, not %q", name, got, want)
		}
	}
	if server.attribute("gen_ai.request.model") != "any" || server.attribute("mcpgw.llm.cost_usd") != "0.007" {
		t.Errorf("the request: %+v", server)
	}
	if _, ok := parents.Load("00-" + trace + "-" + second.SpanID + "-01"); !ok {
		t.Error("the provider did not get the span of the attempt")
	}
	if said := fmt.Sprint(server, first, second); strings.Contains(said, "secret") {
		t.Errorf("what was said is in a span: %s", said)
	}

	metrics, err := http.Get("http://" + g.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(metrics.Body)
	if err != nil {
		t.Fatal(err)
	}
	if f := families["mcpgw_llm_cost_usd_total"]; f == nil || f.GetMetric()[0].GetCounter().GetValue() != 0.007 {
		t.Errorf("the metric of costs: %v", f)
	}
	if f := families["gen_ai_client_inference_usage_input_tokens_total"]; f == nil || f.GetMetric()[0].GetCounter().GetValue() != 1000 {
		t.Errorf("the metric of tokens: %v", f)
	}
}

// TestTracingVerbose has the stages of a stream arrive as events of its spans, and what is known of the client as tags.
func TestTracingVerbose(t *testing.T) {
	t.Parallel()
	collected := startCollector(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, delta := range []string{`{"role":"assistant","content":"hi"},"finish_reason":null`, `{},"finish_reason":"stop"`} {
			_, _ = fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":%s}]}\n\n", delta)
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(s.Close)
	host, providerPort, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g := serve(t, func(port int) string {
		return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: default}
spec:
  gatewayClassName: agentgateway
  listeners: [{name: http, protocol: HTTP, port: %d}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: models}
spec:
  parentRefs: [{name: default}]
  rules: [{backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: models}]}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: models}
spec: {type: AI, ai: {llm: {host: %q, port: %s, openai: {authToken: {kind: Inline, inline: k}, model: gpt-4o}}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: keys}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  apiKeyAuthentication: {secretRef: {name: keys}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {ci: '{"key": "a-key-of-a-client", "metadata": {"team": "platform", "rooms": ["a", "b"]}}'}
%s`, port, host, providerPort, traceYAML(fmt.Sprintf(`grpcAddress: "127.0.0.1:%d"`, collected.grpc), `spawnUpstreamSpan: true
    verbose: true
    customTags:
      team: {metadata: {metadataKey: {key: apiKey, path: [{key: team}]}}}
      rooms: {metadata: {kind: Request, metadataKey: {key: apiKey, path: [{key: rooms}]}}}
      subject: {metadata: {metadataKey: {key: jwt, path: [{key: sub}]}, defaultValue: nobody}}`))
	})
	r, err := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d/v1/chat/completions", g.Port), strings.NewReader(`{"model":"any","stream":true,"messages":[{"role":"user","content":"secret"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer a-key-of-a-client")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "[DONE]") {
		t.Fatalf("%d %s %v", resp.StatusCode, body, err)
	}
	request := collected.find(t, "the request", func(s *exportedSpan) bool { return s.Kind == 2 })
	attempt := collected.find(t, "the attempt", func(s *exportedSpan) bool { return s.Kind == 3 })
	for span, want := range map[*exportedSpan][]string{
		&request: {"route_matched", "policies_passed", "last_downstream_rx_byte_received", "first_downstream_tx_byte_sent", "last_downstream_tx_byte_sent"},
		&attempt: {"upstream_chosen", "last_upstream_tx_byte_sent", "first_upstream_rx_byte_received", "first_content", "last_upstream_rx_byte_received"},
	} {
		if got := span.events(); !slices.Equal(got, want) {
			t.Errorf("%s has %q, not %q", span.Name, got, want)
		}
	}
	for name, want := range map[string]string{"team": "platform", "rooms": `[\"a\",\"b\"]`, "subject": "nobody"} {
		if got := request.attribute(name); got != want {
			t.Errorf("the tag %s is %q, not %q", name, got, want)
		}
	}
}
