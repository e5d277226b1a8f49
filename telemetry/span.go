package telemetry

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
)

// A span is one of a trace while it lasts: what is sent is made from it, and from the
// Record, at its end.
type span struct {
	tracer *Tracer
	own    trace.SpanContext
	parent trace.SpanContext // not valid: there is none
	events *Events           // nil unless the tracer is verbose
}

// Trace begins the span of a request that has been accepted, as a part of the trace
// that its headers carry. Without it, and with a nil Tracer, the request has none.
func (r *Record) Trace(t *Tracer) {
	if t == nil {
		return
	}
	var parent trace.SpanContext
	for _, p := range t.readers { // the first that can be read
		ctx := p.Extract(context.Background(), propagation.HeaderCarrier(r.Request.Header))
		if parent = trace.SpanContextFromContext(ctx); parent.IsValid() {
			break
		}
	}
	r.span = &span{tracer: t, parent: parent, own: t.begin(parent), events: t.newEvents()}
}

// TraceID returns the id of the request's trace in hexadecimal digits, "" without one.
func (r *Record) TraceID() string {
	if r.span == nil {
		return ""
	}
	return r.span.own.TraceID().String()
}

// Traced reports whether the request has a span, sampled or not.
func (r *Record) Traced() bool { return r.span != nil }

// TraceMeta has the request be a part of the trace that its MCP message carries in
// params._meta (SEP-414): where its headers carry none, and before anything has been sent.
func (r *Record) TraceMeta(traceparent, tracestate string) {
	if r.span == nil || r.span.parent.IsValid() || traceparent == "" {
		return
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{
		"traceparent": traceparent, "tracestate": tracestate,
	})
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() {
		r.span.parent, r.span.own = parent, r.span.tracer.begin(parent)
	}
}

// begin returns a new span below parent, and decides whether it is sampled.
func (t *Tracer) begin(parent trace.SpanContext) trace.SpanContext {
	own := trace.SpanContextConfig{TraceID: parent.TraceID(), SpanID: newSpanID(), TraceState: parent.TraceState()}
	if !parent.IsValid() {
		own.TraceID = newTraceID()
	}
	if t.samples(parent, own.TraceID) {
		own.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(own)
}

// newEvents returns the events of a new span.
func (t *Tracer) newEvents() *Events {
	if !t.cfg.Verbose {
		return nil
	}
	return new(Events)
}

func (t *Tracer) samples(parent trace.SpanContext, id trace.TraceID) bool {
	s := t.root
	switch {
	case t.cfg.Sampler.Always:
		return true
	case !parent.IsValid() || t.cfg.Sampler.Alone:
	case !parent.IsSampled():
		return false
	default:
		s = t.client
	}
	return s.ShouldSample(sdktrace.SamplingParameters{TraceID: id}).Decision == sdktrace.RecordAndSample
}

type spanKey struct{}

// spanOf returns the span that ctx is within: that of a call, or of the request; nil
// when there is none.
func spanOf(ctx context.Context) *span {
	if s, ok := ctx.Value(spanKey{}).(*span); ok {
		return s
	}
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		return r.span
	}
	return nil
}

// Detach returns a context that carries the trace of ctx and nothing else of it: for
// work that outlasts its request.
func Detach(ctx context.Context) context.Context {
	s := spanOf(ctx)
	if s == nil {
		return context.Background()
	}
	return context.WithValue(context.Background(), spanKey{}, s)
}

// Propagate writes the trace that ctx is within into the headers of what is sent
// upstream, in place of that of the client. Without a trace it does nothing.
func Propagate(ctx context.Context, h http.Header) {
	s := spanOf(ctx)
	if s == nil {
		return
	}
	for _, name := range s.tracer.propagator.Fields() {
		delete(h, http.CanonicalHeaderKey(name))
	}
	s.tracer.propagator.Inject(trace.ContextWithSpanContext(context.Background(), s.own), propagation.HeaderCarrier(h))
}

// TraceParent returns the trace that ctx is within as params._meta of an MCP message
// carries it (SEP-414), "" when there is none.
func TraceParent(ctx context.Context) (traceparent, tracestate string) {
	s := spanOf(ctx)
	if s == nil {
		return "", ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), s.own), carrier)
	return carrier["traceparent"], carrier["tracestate"]
}

// A Call is the span of one exchange with an upstream. A nil Call has none. It belongs
// to one goroutine.
type Call struct {
	span  span
	name  string
	start time.Time
	attrs []attribute.KeyValue
}

// StartCall begins the span of an exchange with an upstream, where the tracer of the
// request has such spans; what is propagated under the returned context is then within it.
func StartCall(ctx context.Context, name string) (context.Context, *Call) {
	s := spanOf(ctx)
	if s == nil || !s.tracer.cfg.Calls {
		return ctx, nil
	}
	own := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: s.own.TraceID(), SpanID: newSpanID(), TraceFlags: s.own.TraceFlags(), TraceState: s.own.TraceState(),
	})
	c := &Call{span: span{tracer: s.tracer, own: own, parent: s.own, events: s.tracer.newEvents()}, name: name, start: time.Now()}
	return context.WithValue(ctx, spanKey{}, &c.span), c
}

// Name names the span by more than was known at its start.
func (c *Call) Name(name string) {
	if c != nil {
		c.name = clip(name, maxName)
	}
}

// Set gives the span an attribute, unless the value is empty.
func (c *Call) Set(name, value string) {
	if c != nil && value != "" {
		c.attrs = append(c.attrs, attribute.String(name, clip(value, maxPath)))
	}
}

// LLM gives the span what is known of a request to a language model, as it was sent to the provider at
// host, which may have a port.
func (c *Call) LLM(l LLM, host string) {
	if c == nil {
		return
	}
	l.RequestModel = l.SentModel
	c.attrs = l.appendAttributes(c.attrs)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "443"
	}
	c.Set(string(semconv.ServerAddressKey), name)
	if n, err := strconv.Atoi(port); err == nil {
		c.attrs = append(c.attrs, semconv.ServerPort(n))
	}
}

// End ends the span. errorType is that of the exchange, "" when all went well.
func (c *Call) End(errorType string) {
	if c == nil {
		return
	}
	if errorType != "" {
		c.Set(string(semconv.ErrorTypeKey), errorType)
	}
	c.span.send(trace.SpanKindClient, c.name, c.start, time.Now(), errorType != "", c.attrs)
}

// send hands a span to the exporter, if it is sampled.
func (s *span) send(kind trace.SpanKind, name string, start, end time.Time, failed bool, attrs []attribute.KeyValue) {
	if !s.own.IsSampled() {
		return
	}
	parent := s.parent
	if kind == trace.SpanKindServer {
		parent = parent.WithRemote(true)
	}
	ctx := context.WithValue(trace.ContextWithSpanContext(context.Background(), parent), idsKey{}, s.own)
	_, out := s.tracer.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(start), trace.WithAttributes(attrs...))
	s.events.tell(out)
	if failed {
		out.SetStatus(codes.Error, "")
	}
	out.End(trace.WithTimestamp(end))
}

// endTrace sends the span of a request that has ended (OpenTelemetry semantic
// conventions, HTTP server and MCP server).
func (r *Record) endTrace() {
	if r.span == nil || !r.span.own.IsSampled() {
		return
	}
	t := r.span.tracer
	attrs := make([]attribute.KeyValue, 0, 24+len(t.tags))
	set := func(key attribute.Key, value string, limit int) {
		if value != "" {
			attrs = append(attrs, key.String(clip(value, limit)))
		}
	}
	method := ""
	if q := r.Request; q != nil {
		method = q.Method
		set(semconv.HTTPRequestMethodKey, method, maxName)
		set(semconv.ServerAddressKey, q.Host, maxName)
		set(semconv.UserAgentOriginalKey, q.UserAgent(), maxName)
		set(semconv.NetworkProtocolVersionKey, strings.TrimPrefix(q.Proto, "HTTP/"), maxName)
		scheme := "http"
		if q.TLS != nil {
			scheme = "https"
		}
		set(semconv.URLSchemeKey, scheme, maxName)
		if q.URL != nil {
			set(semconv.URLPathKey, q.URL.Path, t.cfg.MaxPath)
		}
	}
	if r.Source.IsValid() {
		set(semconv.ClientAddressKey, r.Source.Addr().String(), maxName)
	}
	if r.Status > 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(r.Status))
	}
	set(semconv.HTTPRouteKey, r.Path, maxPath)
	set(semconv.ErrorTypeKey, r.ErrorType, maxName)
	set("mcpgw.request_id", r.RequestID, maxName)
	set("mcpgw.gateway", r.Gateway, maxName)
	set("mcpgw.listener", r.Listener, maxName)
	set("mcpgw.route", r.Route, maxName)
	set("mcpgw.rule", r.Rule, maxName)
	set("mcpgw.backend", r.Backend, maxName)
	set("mcpgw.upstream", r.UpstreamHost, maxName)
	attrs = r.LLM.appendAttributes(r.MCP.appendAttributes(attrs))
	attrs = append(attrs, t.tags...)
	for i := range t.cfg.Tags {
		if tag := &t.cfg.Tags[i]; !tag.fixed() {
			set(attribute.Key(tag.Name), tag.of(r), maxPath)
		}
	}
	failed := r.Status >= http.StatusInternalServerError || r.MCP.Method != "" && r.ErrorType != ""
	end := r.Start.Add(r.Duration)
	r.span.events.answered(end)
	r.span.send(trace.SpanKindServer, r.spanName(method), r.Start, end, failed, attrs)
}

// spanName names the span by what few requests tell apart: the operation and the tool
// or prompt of an MCP request, else the method and the path that matched.
func (r *Record) spanName(method string) string {
	switch {
	case r.MCP.Method != "" && r.MCP.Name != "":
		return clip(r.MCP.Method+" "+r.MCP.Name, maxName)
	case r.MCP.Method != "":
		return clip(r.MCP.Method, maxName)
	case r.LLM.Operation != "":
		return clip(r.LLM.Operation+" "+r.LLM.RequestModel, maxName)
	case r.Path != "":
		return clip(method+" "+r.Path, maxName)
	default:
		return method
	}
}

// appendAttributes appends what is known of an MCP operation.
func (m *MCP) appendAttributes(attrs []attribute.KeyValue) []attribute.KeyValue {
	if m.Method == "" {
		return attrs
	}
	set := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(clip(value, maxPath)))
		}
	}
	set(semconv.McpMethodNameKey, m.Method)
	set(semconv.McpProtocolVersionKey, m.ProtocolVersion)
	set("mcp.target", m.Target)
	set(semconv.McpResourceURIKey, withoutCredentials(m.URI))
	resource, name := "", m.Name
	switch {
	case strings.HasPrefix(m.Method, "tools/"):
		resource = "tool"
		set(semconv.GenAIToolNameKey, m.Name)
	case strings.HasPrefix(m.Method, "prompts/"):
		resource = "prompt"
		set(semconv.GenAIPromptNameKey, m.Name)
	case strings.HasPrefix(m.Method, "resources/"):
		resource, name = "resource", withoutCredentials(m.URI)
	}
	if name != "" {
		set("mcp.resource.type", resource)
		set("mcp.resource.name", name)
	}
	return attrs
}

// appendAttributes appends what is known of a request to a language model (OpenTelemetry semantic
// conventions, generative AI). Contents are not in it.
func (l *LLM) appendAttributes(attrs []attribute.KeyValue) []attribute.KeyValue {
	if l.Operation == "" {
		return attrs
	}
	set := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(clip(value, maxName)))
		}
	}
	set(semconv.GenAIOperationNameKey, l.Operation)
	set(semconv.GenAIProviderNameKey, l.Provider)
	set(semconv.GenAIRequestModelKey, l.RequestModel)
	set(semconv.GenAIResponseModelKey, l.ResponseModel)
	set("mcpgw.llm.provider", l.Name)
	set("mcpgw.llm.dropped", l.Dropped)
	if l.Dimensions > 0 {
		attrs = append(attrs, semconv.GenAIEmbeddingsDimensionCountKey.Int64(l.Dimensions))
	}
	if l.Encoding != "" {
		attrs = append(attrs, semconv.GenAIRequestEncodingFormats(clip(l.Encoding, maxName)))
	}
	if l.FinishReason != "" {
		attrs = append(attrs, semconv.GenAIResponseFinishReasons(l.FinishReason))
	}
	if l.Usage.Known {
		attrs = append(attrs,
			semconv.GenAIUsageInputTokensKey.Int64(l.Usage.Input), semconv.GenAIUsageOutputTokensKey.Int64(l.Usage.Output),
			semconv.GenAIUsageCacheReadInputTokensKey.Int64(l.Usage.CacheRead), semconv.GenAIUsageCacheCreationInputTokensKey.Int64(l.Usage.CacheWrite))
		for _, n := range [...]struct {
			key attribute.Key
			n   int64
		}{
			{"gen_ai.usage.reasoning.output_tokens", l.Usage.Reasoning},
			{"gen_ai.usage.audio.input_tokens", l.Usage.AudioInput},
			{"gen_ai.usage.audio.output_tokens", l.Usage.AudioOutput},
		} {
			if n.n > 0 {
				attrs = append(attrs, n.key.Int64(n.n))
			}
		}
	}
	if l.Stream {
		attrs = append(attrs, attribute.Bool("gen_ai.request.stream", true))
	}
	if l.FirstContent > 0 {
		attrs = append(attrs, attribute.Float64("gen_ai.response.time_to_first_chunk", l.FirstContent.Seconds()))
	}
	if l.Priced {
		attrs = append(attrs, attribute.Float64("mcpgw.llm.cost_usd", float64(l.Cost)/1e9))
	}
	return attrs
}
