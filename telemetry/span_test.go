package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// traced returns a tracer and what it exports.
func traced(t *testing.T, cfg TracerConfig) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	if cfg.Propagators == nil {
		cfg.Propagators = []Propagator{W3CTraceContext}
	}
	tracer := newTracer(cfg, sdktrace.NewSimpleSpanProcessor(exporter))
	t.Cleanup(func() {
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	})
	return tracer, exporter
}

// accepted returns the Record of a request with the headers, given in pairs.
func accepted(headers ...string) *Record {
	r := httptest.NewRequest(http.MethodPost, "http://example.com/mcp/long?secret=1", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return &Record{Start: time.Unix(100, 0), Duration: time.Second, Request: r, Source: netip.MustParseAddrPort("192.0.2.1:99"), Status: 200}
}

func attributes(s tracetest.SpanStub) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		out[string(a.Key)] = a.Value.Emit()
	}
	return out
}

const (
	parentID = "0af7651916cd43dd8448eb211c80319c"
	sampled  = "00-" + parentID + "-b7ad6b7169203331-01"
	dropped  = "00-" + parentID + "-b7ad6b7169203331-00"
)

func TestSpanOfARequest(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{
		Service: "s", Sampler: Sampler{Root: 1, Client: 1}, MaxPath: 4,
		Tags: []Tag{{Name: "fixed", Value: "v"}, {Name: "team", Header: "X-Team", Value: "none"}, {Name: "tier", Header: "X-Tier", Value: "none"}, {Name: "lacking", Header: "X-Lacking"}},
	})
	rec := accepted("Traceparent", sampled, "Tracestate", "v=1", "X-Team", "blue", "User-Agent", "ua")
	rec.Trace(tracer)
	rec.Gateway, rec.Route, rec.Path, rec.RequestID = "default/g", "default/r", "/mcp", "id"
	rec.MCP = MCP{Method: "tools/call", Target: "demo", Name: "add", ProtocolVersion: "2025-11-25", ToolError: true}
	(&Account{}).End(rec)
	spans := exporter.GetSpans()
	if len(spans) != 1 {
		t.Fatalf("%d spans", len(spans))
	}
	s := spans[0]
	if s.Name != "tools/call add" || s.SpanKind != trace.SpanKindServer || s.Parent.TraceID().String() != parentID ||
		s.Parent.SpanID().String() != "b7ad6b7169203331" || !s.Parent.IsRemote() || s.SpanContext.TraceID() != s.Parent.TraceID() ||
		s.SpanContext.TraceState().Get("v") != "1" || s.EndTime.Sub(s.StartTime) != time.Second || s.Status.Code.String() != "Error" {
		t.Errorf("%+v", s)
	}
	want := map[string]string{
		"http.request.method": "POST", "server.address": "example.com", "user_agent.original": "ua", "network.protocol.version": "1.1",
		"url.scheme": "http", "url.path": "/mcp…", "client.address": "192.0.2.1", "http.response.status_code": "200", "http.route": "/mcp",
		"error.type": "tool_error", "mcpgw.request_id": "id", "mcpgw.gateway": "default/g", "mcpgw.route": "default/r",
		"mcp.method.name": "tools/call", "mcp.protocol.version": "2025-11-25", "mcp.target": "demo", "gen_ai.tool.name": "add",
		"mcp.resource.type": "tool", "mcp.resource.name": "add", "fixed": "v", "team": "blue", "tier": "none",
	}
	if diff := cmp.Diff(want, attributes(s)); diff != "" {
		t.Error(diff)
	}
}

func TestSpanOfEmbeddings(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1}})
	rec := accepted()
	rec.Trace(tracer)
	rec.LLM = LLM{Operation: "embeddings", Provider: "openai", RequestModel: "small", Dimensions: 256, Encoding: "base64", Usage: TokenUsage{Known: true, Input: 10}}
	(&Account{}).End(rec)
	s := exporter.GetSpans()[0]
	got := attributes(s)
	for key, want := range map[string]string{
		"gen_ai.operation.name": "embeddings", "gen_ai.embeddings.dimension.count": "256", "gen_ai.request.encoding_formats": `["base64"]`, "gen_ai.usage.input_tokens": "10",
	} {
		if got[key] != want || s.Name != "embeddings small" {
			t.Errorf("%s of %s is %q, want %q", key, s.Name, got[key], want)
		}
	}
}

func TestSpanOfALanguageModel(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1}})
	rec := accepted()
	rec.Trace(tracer)
	rec.Path = "/llm/chat"
	rec.LLM = LLM{
		Operation: "chat", Provider: "openai", Name: "first", RequestModel: "small", ResponseModel: "small-2026", FinishReason: "stop",
		Usage: TokenUsage{Known: true, Input: 10, Output: 20, CacheRead: 3},
	}
	(&Account{}).End(rec)
	s := exporter.GetSpans()[0]
	if s.Name != "chat small" {
		t.Errorf("named %q", s.Name)
	}
	got := attributes(s)
	for key, want := range map[string]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "small", "gen_ai.response.model": "small-2026",
		"gen_ai.response.finish_reasons": `["stop"]`, "gen_ai.usage.input_tokens": "10", "gen_ai.usage.output_tokens": "20",
		"gen_ai.usage.cache_read.input_tokens": "3", "mcpgw.llm.provider": "first",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestSampling(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sampler Sampler
		parent  string
		want    bool
	}{
		{"root, all", Sampler{Root: 1, Client: 1}, "", true},
		{"root, none", Sampler{Root: 0, Client: 1}, "", false},
		{"the client samples", Sampler{Root: 0, Client: 1}, sampled, true},
		{"the client samples, which counts for none", Sampler{Root: 1, Client: 0}, sampled, false},
		{"the client does not", Sampler{Root: 1, Client: 1}, dropped, false},
		{"always", Sampler{Always: true}, dropped, true},
		{"alone, all", Sampler{Root: 1, Alone: true}, dropped, true},
		{"alone, none", Sampler{Alone: true}, sampled, false},
		{"what can't be read is no parent", Sampler{Root: 1}, "00-xyz", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracer, exporter := traced(t, TracerConfig{Sampler: tt.sampler})
			rec := accepted("Traceparent", tt.parent)
			rec.Trace(tracer)
			h := http.Header{}
			Propagate(NewContext(context.Background(), rec), h)
			(&Account{}).End(rec)
			if got := len(exporter.GetSpans()) == 1; got != tt.want || strings.HasSuffix(h.Get("Traceparent"), "-01") != tt.want {
				t.Errorf("sampled %v, traceparent %q", got, h.Get("Traceparent"))
			}
		})
	}
}

// A share is of traces, so that all processes that see one come to the same.
func TestSamplingShare(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 0.25}})
	for range 4000 {
		rec := accepted()
		rec.Trace(tracer)
		(&Account{}).End(rec)
	}
	if n := len(exporter.GetSpans()); n < 800 || n > 1200 { // over six standard deviations from 1000
		t.Errorf("%d of 4000 with a rate of a quarter", n)
	}
}

func TestPropagation(t *testing.T) {
	const b3 = parentID + "-b7ad6b7169203331-1"
	for _, tt := range []struct {
		name        string
		propagators []Propagator
		in          []string
		joined      bool
		out         []string // headers that are sent
	}{
		{"W3C", []Propagator{W3CTraceContext}, []string{"Traceparent", sampled}, true, []string{"Traceparent"}},
		{"B3, single", []Propagator{B3Single}, []string{"B3", b3}, true, []string{"B3"}},
		{"B3, several", []Propagator{B3Multi}, []string{"X-B3-Traceid", parentID, "X-B3-Spanid", "b7ad6b7169203331", "X-B3-Sampled", "1"}, true, []string{"X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled"}},
		{"another format is not read", []Propagator{B3Single}, []string{"Traceparent", sampled}, false, []string{"B3"}},
		{"the first that can be read", []Propagator{B3Single, W3CTraceContext}, []string{"Traceparent", sampled}, true, []string{"B3", "Traceparent"}},
		{"none", []Propagator{}, []string{"Traceparent", sampled}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1, Client: 1}, Propagators: tt.propagators})
			rec := accepted(tt.in...)
			rec.Trace(tracer)
			h := http.Header{}
			Propagate(NewContext(context.Background(), rec), h)
			(&Account{}).End(rec)
			span := exporter.GetSpans()[0].SpanContext
			if joined := span.TraceID().String() == parentID; joined != tt.joined {
				t.Errorf("joined the client's trace: %v", joined)
			}
			if len(h) != len(tt.out) {
				t.Errorf("sent %v", h)
			}
			for _, name := range tt.out {
				if v := h.Get(name); name != "X-B3-Sampled" && !strings.Contains(v, span.TraceID().String()) && !strings.Contains(v, span.SpanID().String()) {
					t.Errorf("%s is %q, of span %v", name, v, span)
				}
			}
		})
	}
}

// What goes upstream is within the span of the call, and that within the request's.
func TestSpanOfACall(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1}, Calls: true})
	rec := accepted()
	rec.Trace(tracer)
	ctx, call := StartCall(NewContext(context.Background(), rec), "tools/call")
	call.Set("mcp.target", "demo")
	call.Name("tools/call add")
	h := http.Header{}
	Propagate(ctx, h)
	meta, _ := TraceParent(Detach(ctx))
	call.End("upstream_timeout")
	(&Account{}).End(rec)
	spans := exporter.GetSpans()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	c, s := spans[0], spans[1]
	if c.Parent.SpanID() != s.SpanContext.SpanID() || c.SpanContext.TraceID() != s.SpanContext.TraceID() || c.SpanKind != trace.SpanKindClient || c.Name != "tools/call add" {
		t.Errorf("call %+v in %+v", c, s)
	}
	want := "00-" + s.SpanContext.TraceID().String() + "-" + c.SpanContext.SpanID().String() + "-01"
	if h.Get("Traceparent") != want || meta != want {
		t.Errorf("sent %v and %q, want %q", h, meta, want)
	}
	if diff := cmp.Diff(map[string]string{"mcp.target": "demo", "error.type": "upstream_timeout"}, attributes(c)); diff != "" {
		t.Error(diff)
	}
}

func TestTraceMeta(t *testing.T) {
	for _, tt := range []struct {
		name, header, meta string
		joined             bool
	}{
		{"the message carries one", "", sampled, true},
		{"the headers carry another", "00-11111111111111111111111111111111-b7ad6b7169203331-01", sampled, false},
		{"what can't be read", "", "00-zz", false},
		{"none", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1, Client: 1}})
			rec := accepted("Traceparent", tt.header)
			rec.Trace(tracer)
			rec.TraceMeta(tt.meta, "")
			(&Account{}).End(rec)
			if joined := exporter.GetSpans()[0].SpanContext.TraceID().String() == parentID; joined != tt.joined {
				t.Errorf("joined: %v", joined)
			}
		})
	}
}

// Without a tracer nothing is sent, and nothing that the client sent is changed.
func TestNoTracer(t *testing.T) {
	rec := accepted("Traceparent", sampled)
	rec.Trace(nil)
	rec.TraceMeta(sampled, "")
	ctx, call := StartCall(NewContext(context.Background(), rec), "x")
	call.Name("y")
	call.Set("k", "v")
	call.End("")
	h := http.Header{"Traceparent": {sampled}}
	Propagate(ctx, h)
	if parent, _ := TraceParent(Detach(ctx)); parent != "" || h.Get("Traceparent") != sampled || rec.Traced() {
		t.Errorf("%q %v", parent, h)
	}
	(&Account{}).End(rec)
}

// failing is an exporter whose collector is away.
type failing struct{ err error }

func (f *failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }
func (f *failing) Shutdown(context.Context) error                             { return nil }

func TestCollectorAwayIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	f := &failing{err: errors.New("connection refused")}
	e := &watchedExporter{SpanExporter: f, logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, err := range []error{f.err, f.err, nil, nil, f.err} {
		f.err = err
		if err := e.ExportSpans(context.Background(), nil); err != nil {
			t.Error(err)
		}
	}
	if lost, back := strings.Count(log.String(), "can't be exported"), strings.Count(log.String(), "exported again"); lost != 2 || back != 1 {
		t.Errorf("logged %d and %d times:\n%s", lost, back, log.String())
	}
}

func TestMayTag(t *testing.T) {
	for header, want := range map[string]bool{"X-Team": true, "authorization": false, "Cookie": false, "mcp-session-id": false, "x-api-key": false} {
		if got := MayTag(header); got != want {
			t.Errorf("%s: %v", header, got)
		}
	}
}

func TestReadEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		want Environment
		err  string
	}{
		{name: "nothing", want: Environment{Service: "mcpgw", Resource: map[string]string{}}},
		{
			name: "an endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,k=v%20w"},
			want: Environment{Service: "a", Resource: map[string]string{"k": "v w"}, Metrics: OverHTTP, Tracer: &TracerConfig{
				Collector: Collector{Environment: OverHTTP}, Service: "a", Version: "1", Resource: map[string]string{"k": "v w"},
				Sampler: Sampler{Root: 1, Client: 1}, Propagators: []Propagator{W3CTraceContext}, Calls: true,
			}},
		},
		{
			name: "spans over gRPC, a tenth, no metrics", env: map[string]string{
				"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_SERVICE_NAME": "b",
				"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1", "OTEL_PROPAGATORS": "b3,b3multi", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
			},
			want: Environment{Service: "b", Resource: map[string]string{}, Tracer: &TracerConfig{
				Collector: Collector{Environment: OverGRPC}, Service: "b", Version: "1", Resource: map[string]string{},
				Sampler: Sampler{Root: 0.1, Alone: true}, Propagators: []Propagator{B3Single, B3Multi}, Calls: true,
			}},
		},
		{name: "switched off", env: map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}},
		{name: "an exporter that is not served", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, err: `OTEL_TRACES_EXPORTER: "zipkin" is not served, use otlp or none`},
		{name: "a protocol that is not served", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, err: `OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" is not served, use grpc or http/protobuf`},
		{name: "a sampler that is not served", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "jaeger_remote"}, err: `OTEL_TRACES_SAMPLER: "jaeger_remote" is not served, use always_on, always_off, traceidratio, or one of them after parentbased_`},
		{name: "a share that is none", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10"}, err: `OTEL_TRACES_SAMPLER_ARG: "10" is no number from 0 to 1`},
		{name: "a propagator that is not served", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_PROPAGATORS": "xray"}, err: `OTEL_PROPAGATORS: "xray" is not served, use tracecontext, baggage, b3, b3multi or none`},
		{name: "attributes that are none", env: map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "a"}, err: `OTEL_RESOURCE_ATTRIBUTES: "a" is not key=value, percent-encoded`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadEnvironment(func(k string) string { return tt.env[k] }, "1")
			if err != nil || tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A collector that is not there costs a request nothing, and Close little.
func TestCollectorThatIsNotThere(t *testing.T) {
	for _, c := range []Collector{{GRPC: []string{"127.0.0.1:1"}}, {HTTP: "http://127.0.0.1:1/v1/traces"}} {
		tracer, err := NewTracer(TracerConfig{Collector: c, Sampler: Sampler{Root: 1}}, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		rec := accepted()
		rec.Trace(tracer)
		(&Account{}).End(rec)
		_ = tracer.Close() // the spans are lost, which is logged
	}
	if _, err := NewTracer(TracerConfig{}, slog.Default()); err == nil {
		t.Error("a tracer without a collector")
	}
}

// A verbose span has an event for each stage, no more than are kept, and a call's own.
func TestEvents(t *testing.T) {
	for _, verbose := range []bool{true, false} {
		tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1}, Calls: true, Verbose: verbose})
		rec := accepted()
		rec.Trace(tracer)
		rec.Events().Add(RouteMatched, "")
		ctx, call := StartCall(NewContext(t.Context(), rec), "GET")
		EventsOf(ctx).Add(UpstreamChosen, "10.0.0.1:80")
		call.End("")
		rec.Events().Add(Answering, "")
		(&Account{}).End(rec)
		spans := exporter.GetSpans()
		if len(spans) != 2 {
			t.Fatalf("%d spans", len(spans))
		}
		of, request := spans[0].Events, spans[1].Events
		if !verbose {
			if len(of)+len(request) > 0 {
				t.Errorf("events although the tracer is not verbose: %v, %v", of, request)
			}
			continue
		}
		if len(of) != 1 || of[0].Name != "upstream_chosen" || len(of[0].Attributes) != 1 || of[0].Attributes[0].Value.AsString() != "10.0.0.1:80" {
			t.Errorf("the call has %v", of)
		}
		var names []string
		for _, e := range request {
			names = append(names, e.Name)
		}
		if diff := cmp.Diff([]string{"route_matched", "first_downstream_tx_byte_sent", "last_downstream_tx_byte_sent"}, names); diff != "" {
			t.Error(diff)
		}
		if end := request[2].Time; !end.Equal(spans[1].EndTime) {
			t.Errorf("the last byte was sent at %s, the span ended at %s", end, spans[1].EndTime)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1}, Verbose: true})
	rec := accepted()
	rec.Trace(tracer)
	for range maxEvents + 10 {
		rec.Events().Add(UpstreamChosen, "")
	}
	(&Account{}).End(rec)
	if n := len(exporter.GetSpans()[0].Events); n != maxEvents {
		t.Errorf("%d events", n)
	}
	(*Events)(nil).Add(Answering, "") // takes nothing
	if EventsOf(t.Context()) != nil || new(Record).Events() != nil {
		t.Error("events without a span")
	}
}

// twoLevels are facts under all paths of two members.
type twoLevels struct{}

func (twoLevels) Known(namespace string, path ...string) (string, bool) {
	return strings.Join(append(path, namespace), "."), len(path) == 2
}

// Tags can be what is known of a request; what is not known is the default, or no tag.
func TestTagsFromMetadata(t *testing.T) {
	tracer, exporter := traced(t, TracerConfig{Sampler: Sampler{Root: 1}, Tags: []Tag{
		{Name: "team", Namespace: "jwt", Path: []string{"org", "team"}},
		{Name: "tier", Namespace: "jwt", Path: []string{"tier"}, Value: "none"},
		{Name: "lacking", Namespace: "apiKey", Path: []string{"x"}},
	}})
	for _, known := range []Facts{twoLevels{}, nil} {
		exporter.Reset()
		rec := accepted()
		rec.Facts = known
		rec.Trace(tracer)
		(&Account{}).End(rec)
		got := attributes(exporter.GetSpans()[0])
		team := ""
		if known != nil {
			team = "org.team.jwt"
		}
		if _, lacks := got["lacking"]; got["team"] != team || got["tier"] != "none" || lacks {
			t.Errorf("%v", got)
		}
	}
}
