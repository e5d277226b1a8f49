package accesslog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mcpgw/mcpgw/extension"
)

// An OTel says how entries read as OpenTelemetry logs.
type OTel struct {
	// Body is that of an entry; Attributes are beside it, in their order.
	Body       *Format
	Attributes []Attribute
	// Resource are the attributes of the process.
	Resource map[string]string
	// Name is that of the log, as the scope of its entries.
	Name string
}

// An Attribute is a named value of an entry.
type Attribute struct {
	Name  string
	Value *Format
}

// An Exporter sends entries to a collector.
type Exporter func(context.Context, *collector.ExportLogsServiceRequest) error

// ExportTimeout bounds one sending where the policy does not.
const ExportTimeout = 5 * time.Second

// ToCollector returns a log that renders entries for a [Collector].
func ToCollector(o *OTel, filter Filter) *Log {
	l := &Log{Filter: filter, header: o.Body.header}
	for _, a := range o.Attributes {
		l.header = l.header || a.Value.header
	}
	l.render = func(e *Entry) any {
		out := &logs.LogRecord{
			TimeUnixNano: uint64(e.Start.UnixNano()), ObservedTimeUnixNano: uint64(e.Start.Add(e.Duration).UnixNano()),
			SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_INFO, Body: stringValue(string(o.Body.Append(nil, e))),
		}
		for _, a := range o.Attributes {
			out.Attributes = append(out.Attributes, &common.KeyValue{Key: a.Name, Value: stringValue(string(a.Value.Append(nil, e)))})
		}
		if id := e.Record.TraceID(); id != "" {
			out.Attributes = append(out.Attributes, &common.KeyValue{Key: "trace_id", Value: stringValue(id)})
		}
		return out
	}
	return l
}

func stringValue(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

// A Collector is the sink of an OpenTelemetry collector.
type Collector struct {
	*queue[*logs.LogRecord]
	otel   *OTel
	export Exporter
	res    *resource.Resource
	failed time.Time
}

// NewCollector returns the sink of a collector.
func NewCollector(o *OTel, export Exporter, opts Options) *Collector {
	c := &Collector{otel: o, export: export, res: &resource.Resource{}}
	for _, name := range sortedKeys(o.Resource) {
		c.res.Attributes = append(c.res.Attributes, &common.KeyValue{Key: name, Value: stringValue(o.Resource[name])})
	}
	c.queue = newQueue(opts, c.send, func() {})
	return c
}

func (c *Collector) send(batch []*logs.LogRecord) (lost int) {
	if time.Since(c.failed) < retryAfter {
		return len(batch)
	}
	ctx, cancel := context.WithTimeout(context.Background(), ExportTimeout)
	defer cancel()
	err := c.export(ctx, &collector.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource:  c.res,
		ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: c.otel.Name}, LogRecords: batch}},
	}}})
	if err == nil {
		return 0
	}
	c.failed = time.Now()
	c.opts.warn(err)
	return len(batch)
}

func (o *Options) warn(err error) {
	if o.Logger != nil {
		o.Logger.Warn("entries of an access log are lost", slog.String("log", o.Name), slog.Any("error", err))
	}
}

// OverGRPC returns an Exporter that calls a service.
func OverGRPC(s *extension.Service) Exporter {
	call := extension.Unary[collector.ExportLogsServiceRequest, collector.ExportLogsServiceResponse](s, "/opentelemetry.proto.collector.logs.v1.LogsService/Export")
	return func(ctx context.Context, req *collector.ExportLogsServiceRequest) error {
		_, err := call(ctx, req)
		return err
	}
}

// OverHTTP returns an Exporter that posts to url, as protobuf or as JSON.
func OverHTTP(rt http.RoundTripper, url string, asJSON bool) Exporter {
	return func(ctx context.Context, req *collector.ExportLogsServiceRequest) error {
		kind := "application/x-protobuf"
		body, err := proto.Marshal(req)
		if asJSON {
			kind = "application/json"
			body, err = protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(req)
		}
		if err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", kind)
		resp, err := rt.RoundTrip(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // all of interest was read
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("the collector answered %s", resp.Status)
		}
		return nil
	}
}
