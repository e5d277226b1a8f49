package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// A Collector is where spans are sent, by OTLP: one of GRPC, HTTP and Environment is
// set.
type Collector struct {
	// GRPC are addresses of the collector, host:port, over gRPC.
	GRPC []string
	// HTTP is the URL that spans are posted to, as protobuf.
	HTTP string
	// Environment has the variables OTEL_EXPORTER_OTLP_* say everything (OpenTelemetry
	// specification, OTLP Exporter).
	Environment Protocol

	// TLS has the gRPC connection encrypted; a URL says it itself.
	TLS bool
	// Authority is the :authority over gRPC; default the address.
	Authority string
	// Headers are sent with each export.
	Headers map[string]string
	// Timeout bounds one export; 0 means 10s.
	Timeout time.Duration
}

// A Protocol is a transport of OTLP.
type Protocol uint8

// The protocols.
const (
	OverGRPC Protocol = iota + 1
	OverHTTP          // http/protobuf
)

// A Sampler says which requests have a span.
type Sampler struct {
	// Always has each one have a span, whatever its client says.
	Always bool
	// Root is the share, 0 to 1, of the requests whose client began no trace.
	Root float64
	// Client is the share, 0 to 1, of those whose client did. Where it decided not to
	// sample there is no span.
	Client float64
	// Alone has the decisions of clients not count: their requests are as others.
	Alone bool
}

// A Propagator is a format of the headers that carry a trace.
type Propagator uint8

// The propagators. Baggage passes whichever are set.
const (
	W3CTraceContext Propagator = iota + 1 // traceparent, tracestate
	B3Single                              // b3
	B3Multi                               // X-B3-…
)

// A Tag is an attribute that each span has.
type Tag struct {
	Name string
	// Value is the attribute's, unless Header names a request header that is there, or Namespace and Path what
	// is known of the request ([Facts]).
	Value     string
	Header    string
	Namespace string
	Path      []string
}

// fixed reports whether the tag is the same on each span.
func (t *Tag) fixed() bool { return t.Header == "" && t.Namespace == "" }

// of returns the value of the tag on the span of a request; "" has no tag.
func (t *Tag) of(r *Record) string {
	if t.Namespace != "" {
		if r.Facts != nil {
			if v, ok := r.Facts.Known(t.Namespace, t.Path...); ok {
				return v
			}
		}
		return t.Value
	}
	if r.Request != nil {
		if v := r.Request.Header.Values(t.Header); len(v) > 0 {
			return strings.Join(v, ",")
		}
	}
	return t.Value
}

// A TracerConfig says where spans are sent and what they hold. It is plain data.
type TracerConfig struct {
	Collector   Collector
	Service     string            // service.name
	Version     string            // service.version
	Resource    map[string]string // further attributes of the resource
	Sampler     Sampler
	Propagators []Propagator // written all; of those read the first counts. Empty is none
	Tags        []Tag
	MaxPath     int // characters of url.path; 0 means 256
	// Calls has each exchange with an upstream have a span of its own.
	Calls bool
	// Verbose has spans carry an event for each [Stage] of their request.
	Verbose bool
}

const (
	// exportWait bounds how long spans are waited for when a tracer ends.
	exportWait     = 5 * time.Second
	exportTimeout  = 10 * time.Second
	defaultMaxPath = 256
)

// A Tracer gives requests spans, and sends them to a collector. Spans wait in a queue
// of at most 2,048, and are dropped while it is full: tracing never holds up a
// request. It is safe for concurrent use. A nil Tracer traces nothing.
type Tracer struct {
	cfg        TracerConfig
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	root       sdktrace.Sampler
	client     sdktrace.Sampler
	propagator propagation.TextMapPropagator
	readers    []propagation.TextMapPropagator
	tags       []attribute.KeyValue // those that are always the same
}

// NewTracer returns a tracer. It contacts nothing yet; a collector that does not answer
// is logged when it goes and when it is back.
func NewTracer(cfg TracerConfig, logger *slog.Logger) (*Tracer, error) {
	exporter, err := newExporter(cfg.Collector)
	if err != nil {
		return nil, fmt.Errorf("setting up the export of spans: %w", err)
	}
	return newTracer(cfg, sdktrace.NewBatchSpanProcessor(&watchedExporter{SpanExporter: exporter, logger: logger})), nil
}

func newTracer(cfg TracerConfig, processor sdktrace.SpanProcessor) *Tracer {
	if cfg.MaxPath <= 0 {
		cfg.MaxPath = defaultMaxPath
	}
	t := &Tracer{
		cfg:    cfg,
		root:   sdktrace.TraceIDRatioBased(cfg.Sampler.Root),
		client: sdktrace.TraceIDRatioBased(cfg.Sampler.Client),
		provider: sdktrace.NewTracerProvider(
			sdktrace.WithSpanProcessor(processor),
			sdktrace.WithResource(newResource(&cfg)),
			sdktrace.WithSampler(sdktrace.AlwaysSample()), // what is not sampled does not come here
			sdktrace.WithIDGenerator(givenIDs{}),
		),
	}
	t.tracer = t.provider.Tracer("github.com/mcpgw/mcpgw", trace.WithInstrumentationVersion(cfg.Version))
	for _, p := range cfg.Propagators {
		switch p {
		case W3CTraceContext:
			t.readers = append(t.readers, propagation.TraceContext{})
		case B3Single:
			t.readers = append(t.readers, b3.New(b3.WithInjectEncoding(b3.B3SingleHeader)))
		case B3Multi:
			t.readers = append(t.readers, b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)))
		}
	}
	t.propagator = propagation.NewCompositeTextMapPropagator(t.readers...)
	for _, tag := range cfg.Tags {
		if tag.fixed() && tag.Value != "" {
			t.tags = append(t.tags, attribute.String(tag.Name, tag.Value))
		}
	}
	return t
}

// Close sends the spans that wait, for a few seconds, and ends the tracer.
func (t *Tracer) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), exportWait)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

func newResource(cfg *TracerConfig) *resource.Resource {
	attrs := make([]attribute.KeyValue, 0, len(cfg.Resource)+5)
	for k, v := range cfg.Resource {
		attrs = append(attrs, attribute.String(k, v))
	}
	// Of a name that stands twice the last counts.
	attrs = append(attrs, semconv.ServiceName(cfg.Service), semconv.ServiceVersion(cfg.Version),
		semconv.TelemetrySDKName("opentelemetry"), semconv.TelemetrySDKLanguageGo)
	return resource.NewWithAttributes(semconv.SchemaURL, attrs...)
}

func newExporter(c Collector) (sdktrace.SpanExporter, error) {
	if c.Timeout <= 0 {
		c.Timeout = exportTimeout
	}
	ctx := context.Background() // nothing is dialled before the first export
	switch {
	case c.Environment == OverGRPC:
		return otlptracegrpc.New(ctx)
	case c.Environment == OverHTTP:
		return otlptracehttp.New(ctx)
	case c.HTTP != "":
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.HTTP),
			otlptracehttp.WithHeaders(c.Headers), otlptracehttp.WithTimeout(c.Timeout))
	case len(c.GRPC) > 0:
		return otlptracegrpc.New(ctx, append(dialing(&c),
			otlptracegrpc.WithHeaders(c.Headers), otlptracegrpc.WithTimeout(c.Timeout))...)
	default:
		return nil, errors.New("the collector has no address")
	}
}

// dialing returns how the addresses of a collector are reached: in turn, those that
// answer.
func dialing(c *Collector) []otlptracegrpc.Option {
	addresses := manual.NewBuilderWithScheme("collector")
	var state resolver.State
	for _, a := range c.GRPC {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
	}
	addresses.InitialState(state)
	options := []grpc.DialOption{grpc.WithResolvers(addresses)}
	authority := c.Authority
	if authority == "" {
		authority = c.GRPC[0]
	}
	options = append(options, grpc.WithAuthority(authority))
	out := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpoint("collector:///" + c.GRPC[0]),
		otlptracegrpc.WithServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		otlptracegrpc.WithDialOption(options...),
	}
	if !c.TLS {
		return append(out, otlptracegrpc.WithInsecure())
	}
	return append(out, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})))
}

// A watchedExporter says when its collector goes and when it is back: once each,
// however many exports fail.
type watchedExporter struct {
	sdktrace.SpanExporter
	logger *slog.Logger
	down   atomic.Bool
}

func (e *watchedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch down := err != nil; {
	case e.down.Swap(down) == down:
	case down:
		e.logger.Warn("spans can't be exported, they are dropped until the collector answers", slog.Any("error", err))
	default:
		e.logger.Info("spans are exported again")
	}
	return nil // it is logged
}

// givenIDs gives a span the ids that its request was served under.
type givenIDs struct{}

type idsKey struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	sc, _ := ctx.Value(idsKey{}).(trace.SpanContext)
	return sc.TraceID(), sc.SpanID()
}

// NewSpanID implements [sdktrace.IDGenerator].
func (givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	sc, _ := ctx.Value(idsKey{}).(trace.SpanContext)
	return sc.SpanID()
}

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		rand.Read(id[:]) // never fails
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		rand.Read(id[:]) // never fails
	}
	return id
}

// credentialHeaders can't be tags.
var credentialHeaders = map[string]bool{
	"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "Mcp-Session-Id": true,
	"X-Api-Key": true, "Api-Key": true, "X-Goog-Api-Key": true, "X-Amz-Security-Token": true,
}

// MayTag reports whether a request header may become a tag: credentials may not.
func MayTag(header string) bool {
	return !credentialHeaders[http.CanonicalHeaderKey(strings.TrimSpace(header))]
}
