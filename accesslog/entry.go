// Package accesslog writes the access logs that HTTPListenerPolicies ask for: an entry a request, in the form that the
// policy says, to files, to services of Envoy's access log protocol and to OpenTelemetry collectors.
//
// Its central type is [Log], which package gateway makes when it compiles a configuration: a [Filter], a compiled format of
// command operators, and a sink. Formats are compiled once; an entry is rendered by the goroutine of its request, when that has
// ended, and handed to the sink's queue, which is bounded: what finds it full is dropped and counted, and no
// request ever waits for a log. Sinks outlive configurations.
//
// Nothing here decides anything, or knows of Kubernetes objects. The gateway's own log is that of package telemetry.
package accesslog

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An Entry is what is known of a request that has ended.
type Entry struct {
	*telemetry.Record
	// Policy is the request as policies have seen it.
	Policy *policy.Request
	// Header is that of the answer, with its trailers under http.TrailerPrefix; nil where no log asks for it.
	Header http.Header
	// Sent is the path and query that were sent upstream, "" where they are those of the request.
	Sent string
	// Cluster is the backend as Envoy names it, "" without one.
	Cluster string
	// Backend is the one that was chosen; nil without.
	Backend *policy.BackendInfo
	// Direct says that a route answered itself.
	Direct bool
	// Reply is what the gateway itself answered, where it did.
	Reply string
	// BodyEnd is when the last byte of the request had been read, FirstByte when the answer began; zero when they did not.
	BodyEnd, FirstByte time.Time
}

// requestHeader returns the values of a header or pseudo-header of the request, joined.
func (e *Entry) requestHeader(name string) (string, bool) {
	r := e.Request
	if r == nil {
		return "", false
	}
	switch name {
	case ":METHOD":
		return r.Method, true
	case ":PATH":
		if e.Sent != "" {
			return e.Sent, true
		}
		return r.RequestURI, r.RequestURI != ""
	case "X-Envoy-Original-Path":
		return r.RequestURI, e.Sent != "" && e.Sent != r.RequestURI
	case ":AUTHORITY", "Host":
		return r.Host, r.Host != ""
	case ":SCHEME":
		if e.Policy != nil && e.Policy.Scheme != "" {
			return e.Policy.Scheme, true
		}
		return "", false
	}
	return join(r.Header[name])
}

func join(values []string) (string, bool) { return strings.Join(values, ","), len(values) > 0 }

// remote returns the peer of the connection, which is not the client where that is behind a trusted proxy.
func (e *Entry) remote() (netip.AddrPort, bool) {
	if e.Request == nil {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddrPort(e.Request.RemoteAddr)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err == nil
}

// local returns the address at which the client reached the gateway.
func (e *Entry) local() (netip.AddrPort, bool) {
	if e.Request == nil {
		return netip.AddrPort{}, false
	}
	addr, ok := e.Request.Context().Value(http.LocalAddrContextKey).(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}, false
	}
	a := addr.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), true
}

// value evaluates an expression.
func (e *Entry) value(v *policy.Value) (any, bool) {
	if e.Policy == nil || e.Policy.HTTP == nil {
		return nil, false
	}
	l := policy.Logged{Request: e.Policy, Backend: e.Backend, Status: e.Status}
	if m := &e.MCP; m.Method != "" {
		op := policy.Operation{Method: m.Method, Target: m.Target, Name: m.Name}
		switch {
		case m.Method == "tools/call":
			op.Kind = policy.Tool
		case m.Method == "prompts/get":
			op.Kind = policy.Prompt
		case m.URI != "":
			op.Kind, op.Name = policy.Resource, m.URI
		}
		l.Operation = &op
	}
	return v.Of(context.Background(), l)
}
