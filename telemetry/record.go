// Package telemetry accounts for what the gateway does: one [Record] a request,
// from which the access log, the metrics and the spans are written, so
// that they cannot disagree.
//
// The accept station of package gateway starts a Record and hands it to an [Account] once
// the request has ended, which counts it in [Metrics] and writes its line of the [AccessLog].
// Every package that learns something about the request writes it into the fields that are
// named for it. Nothing reads a Record to decide anything, and no secret, session id or query
// string is written anywhere.
package telemetry

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// A Record is the account of one request. It belongs to the goroutine that
// serves the request: other goroutines (a fan-out, a relay) hand what they learn
// to that one. The zero Record is a request of which nothing is known.
type Record struct {
	Start     time.Time      // when the request line and headers had been read
	RequestID string         // x-request-id, generated when absent
	Source    netip.AddrPort // the client, after trusted-hop resolution
	Request   *http.Request  // as accepted

	Gateway  string // namespace/name
	Listener string // listener name
	Route    string // namespace/name of the HTTPRoute, "" before match
	Rule     string // rule name or index
	Path     string // of the match, as it is configured
	Backend  string // namespace/name of the Backend or Service

	HealthCheck bool // the gateway answered it itself, at the path for health checks

	Status       int           // HTTP status sent; 0 if none
	BytesSent    int64         // body bytes sent
	BytesRead    int64         // body bytes read
	Duration     time.Duration // set by Account.End, unless it is set before
	ErrorType    string        // fault.Code.String(), a JSON-RPC code, tool_error, or the status of an LLM provider; "" when all went well
	Err          error         // what the operator should read about it; nil when all went well
	Principal    string        // what authentication established; never a metric label
	UpstreamHost string        // address the last attempt went to
	Attempts     int           // attempts sent upstream
	Retries      int           // those of them that tried again what had failed; set with Duration
	Unretried    int           // how often nothing was tried again since too much was
	Peer         string        // address of the replica that the request was passed on to

	MCP MCP // what is known of the request as an MCP operation
	LLM LLM // and as a request to a language model

	Facts Facts // for the tags of its span; nil for nothing

	span         *span // see Trace
	begun, ended bool  // see Account
}

// MCP is the part of a [Record] that only MCP requests fill in.
type MCP struct {
	Method          string // JSON-RPC method, as in mcp.method.name
	Target          string // target name, once it is known
	Name            string // tool or prompt name as the target has it
	ClientName      string // the same as the client sees it
	URI             string // resource URI as the target has it
	ProtocolVersion string // version the client speaks
	Era             string // "modern" or "legacy"
	ToolError       bool   // the result has isError: true
}

// Facts are what is known of a request as dynamic metadata.
type Facts interface {
	// Known returns what stands under a namespace where path leads, member by member; ok is false where there is nothing.
	Known(namespace string, path ...string) (text string, ok bool)
}

type recordKey struct{}

// NewContext returns a context that carries r.
func NewContext(ctx context.Context, r *Record) context.Context {
	return lifetime.WithValue(ctx, recordKey{}, r)
}

// FromContext returns the Record of the request that ctx belongs to, or a fresh
// one that nobody reads: it never returns nil.
func FromContext(ctx context.Context) *Record {
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		return r
	}
	return new(Record)
}
