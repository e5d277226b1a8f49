package accesslog

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	data "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A Service says how entries read in Envoy's access log protocol (envoy.service.accesslog.v3).
type Service struct {
	// Name is that of the log; Node is that of the gateway.
	Name, Node string
	// RequestHeaders, ResponseHeaders and ResponseTrailers are logged beside the usual ones, by their canonical names.
	RequestHeaders, ResponseHeaders, ResponseTrailers []string
	// Backoff is how long to wait before a stream is opened again, at first; MostBackoff at the most.
	Backoff, MostBackoff time.Duration
	// Tries bounds how often a batch is sent again; negative is without end: later entries are dropped meanwhile.
	Tries int
}

// A Stream is a stream of messages to the service.
type Stream interface {
	Send(*als.StreamAccessLogsMessage) error
	// Close ends the stream, and returns once the service has ended it, too, or ctx has.
	Close() error
}

// An extensionStream is a Stream to an [extension.Service].
type extensionStream struct {
	*extension.Stream[als.StreamAccessLogsMessage, als.StreamAccessLogsResponse]
}

// OverStream returns what opens streams to a service, with a header.
func OverStream(s *extension.Service, header http.Header) func(context.Context) Stream {
	bidi := extension.Bidi[als.StreamAccessLogsMessage, als.StreamAccessLogsResponse](s, "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs")
	return func(ctx context.Context) Stream {
		stream := bidi(ctx)
		maps.Copy(stream.RequestHeader(), header)
		return extensionStream{stream}
	}
}

// Close implements [Stream].
func (s extensionStream) Close() error {
	err := s.CloseRequest()
	for err == nil {
		_, err = s.Receive() // which ends it
	}
	return errors.Join(err, s.CloseResponse())
}

// ToService returns a log that renders entries for a [Streamer].
func ToService(s *Service, filter Filter) *Log {
	return &Log{Filter: filter, header: true, render: func(e *Entry) any { return s.entry(e) }}
}

// entry returns e as the protocol has it.
func (s *Service) entry(e *Entry) *data.HTTPAccessLogEntry {
	out := &data.HTTPAccessLogEntry{
		CommonProperties: &data.AccessLogCommon{
			StartTime: timestamppb.New(e.Start), Duration: durationpb.New(e.Duration), UpstreamCluster: e.Cluster, RouteName: strings.ReplaceAll(e.Route, "/", "-"),
			UpstreamRequestAttemptCount: uint32(e.Attempts), ResponseFlags: e.protocolFlags(), StreamId: e.RequestID,
			DownstreamRemoteAddress: socket(e.Source.Addr().String(), uint32(e.Source.Port()), e.Source.IsValid()),
		},
		Request:  &data.HTTPRequestProperties{RequestHeadersBytes: uint64(requestHeaderBytes(e)), RequestBodyBytes: uint64(e.BytesRead), RequestId: e.RequestID},
		Response: &data.HTTPResponseProperties{ResponseHeadersBytes: uint64(headerBytes(e.Header)), ResponseBodyBytes: uint64(e.BytesSent), ResponseCodeDetails: e.details()},
	}
	c := out.CommonProperties
	if a, ok := e.remote(); ok {
		c.DownstreamDirectRemoteAddress = socket(a.Addr().String(), uint32(a.Port()), true)
	}
	if a, ok := e.local(); ok {
		c.DownstreamLocalAddress = socket(a.Addr().String(), uint32(a.Port()), true)
	}
	if !e.FirstByte.IsZero() {
		c.TimeToFirstDownstreamTxByte = durationpb.New(e.FirstByte.Sub(e.Start))
	}
	c.TimeToLastDownstreamTxByte = durationpb.New(e.Duration)
	if e.Status > 0 {
		out.Response.ResponseCode = wrapperspb.UInt32(uint32(e.Status))
	}
	r := e.Request
	if r == nil {
		return out
	}
	switch {
	case r.ProtoMajor == 2:
		out.ProtocolVersion = data.HTTPAccessLogEntry_HTTP2
	case r.ProtoMinor == 0:
		out.ProtocolVersion = data.HTTPAccessLogEntry_HTTP10
	default:
		out.ProtocolVersion = data.HTTPAccessLogEntry_HTTP11
	}
	q := out.Request
	q.RequestMethod = core.RequestMethod(core.RequestMethod_value[r.Method])
	q.Scheme, _ = e.requestHeader(":SCHEME")
	q.Authority = clean(r.Host)
	path, _ := e.requestHeader(":PATH")
	q.Path = clean(path)
	q.OriginalPath, _ = e.requestHeader("X-Envoy-Original-Path")
	q.UserAgent, q.Referer, q.ForwardedFor = clean(r.UserAgent()), clean(r.Referer()), clean(strings.Join(r.Header["X-Forwarded-For"], ","))
	q.RequestHeaders = pick(r.Header, "", s.RequestHeaders)
	out.Response.ResponseHeaders = pick(e.Header, "", s.ResponseHeaders)
	out.Response.ResponseTrailers = pick(e.Header, http.TrailerPrefix, s.ResponseTrailers)
	if t := r.TLS; t != nil {
		c.TlsProperties = &data.TLSProperties{TlsSniHostname: clean(t.ServerName), TlsVersion: tlsVersion(t.Version)}
	}
	return out
}

// tlsVersion returns the version as the protocol numbers it.
func tlsVersion(v uint16) data.TLSProperties_TLSVersion {
	const tls10 = 0x0301
	if v < tls10 || v > tls10+3 {
		return data.TLSProperties_VERSION_UNSPECIFIED
	}
	return data.TLSProperties_TLSVersion(1 + v - tls10)
}

// clean returns s as valid UTF-8, which protocol buffers demand.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func pick(h http.Header, prefix string, names []string) map[string]string {
	var out map[string]string
	for _, name := range names {
		v, ok := join(h[prefix+name])
		if !ok {
			continue
		}
		if !telemetry.MayTag(name) || name == "Set-Cookie" {
			v = "[redacted]"
		}
		if out == nil {
			out = map[string]string{}
		}
		out[strings.ToLower(name)] = clean(v)
	}
	return out
}

func socket(address string, port uint32, ok bool) *core.Address {
	if !ok {
		return nil
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

// protocolFlags returns the flags as the protocol has them.
func (e *Entry) protocolFlags() *data.ResponseFlags {
	out := &data.ResponseFlags{}
	for _, f := range e.flags() {
		switch f {
		case noRoute:
			out.NoRouteFound = true
		case noHealthy:
			out.NoHealthyUpstream = true
		case connectFailed:
			out.UpstreamConnectionFailure = true
		case upstreamTimeout:
			out.UpstreamRequestTimeout = true
		case retriesExhausted:
			out.UpstreamRetryLimitExceeded = true
		case upstreamBroke:
			out.UpstreamConnectionTermination = true
		case clientGone:
			out.DownstreamConnectionTermination = true
		case limited:
			out.RateLimited = true
		case unauthorized:
			out.UnauthorizedDetails = &data.ResponseFlags_Unauthorized{Reason: data.ResponseFlags_Unauthorized_EXTERNAL_SERVICE}
		case clientMalformed:
			out.DownstreamProtocolError = true
		case clientSlow:
			out.StreamIdleTimeout = true
		case overloaded:
			out.OverloadManager = true
		}
	}
	return out
}

// A Streamer is the sink of a service of Envoy's access log protocol: one stream, opened with the first entry and again when
// it broke.
type Streamer struct {
	*queue[*data.HTTPAccessLogEntry]
	service *Service
	open    func(context.Context) Stream
	stream  Stream
	end     context.CancelFunc // of the stream
	failed  int                // tries in a row that failed
}

// NewStreamer returns the sink of a service; open opens a stream to it.
func NewStreamer(s *Service, open func(context.Context) Stream, opts Options) *Streamer {
	t := &Streamer{service: s, open: open}
	t.queue = newQueue(opts, t.send, t.finish)
	return t
}

// send sends entries in one message, again if that fails.
func (t *Streamer) send(batch []*data.HTTPAccessLogEntry) (lost int) {
	for try := 0; ; try++ {
		err := t.trySend(batch)
		if err == nil {
			t.failed = 0
			return 0
		}
		if t.failed++; t.failed == 1 {
			t.opts.warn(err)
		}
		t.finish()
		if t.service.Tries >= 0 && try >= t.service.Tries {
			return len(batch)
		}
		wait := time.NewTimer(t.wait())
		select {
		case <-wait.C:
		case <-t.stop:
			wait.Stop()
			return len(batch)
		}
	}
}

// wait returns how long to wait after the tries that failed.
func (t *Streamer) wait() time.Duration {
	d := t.service.Backoff
	for range min(t.failed-1, 16) {
		d *= 2
	}
	return min(d, t.service.MostBackoff)
}

func (t *Streamer) trySend(batch []*data.HTTPAccessLogEntry) error {
	m := &als.StreamAccessLogsMessage{LogEntries: &als.StreamAccessLogsMessage_HttpLogs{HttpLogs: &als.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: slices.Clone(batch)}}}
	if t.stream == nil {
		var ctx context.Context
		ctx, t.end = context.WithCancel(context.Background())
		t.stream = t.open(ctx)
		m.Identifier = &als.StreamAccessLogsMessage_Identifier{LogName: t.service.Name, Node: &core.Node{Id: t.service.Node, Cluster: t.service.Node, UserAgentName: "mcpgw"}}
	}
	// A service that does not read is given up in time.
	late := time.AfterFunc(ExportTimeout, t.end)
	defer late.Stop()
	return t.stream.Send(m)
}

// finish ends the stream.
func (t *Streamer) finish() {
	if t.stream == nil {
		return
	}
	late := time.AfterFunc(closingTime, t.end)
	_ = t.stream.Close() // it is over either way
	late.Stop()
	t.end()
	t.stream = nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
