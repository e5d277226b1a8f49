// Package upstream is all that leaves the process over HTTP: a [Pool] of
// endpoints behind one http.RoundTripper, with the connections, the choice
// among them and what is learned about their health.
//
// Package gateway makes Pools at compile time and hands them to mcp/session, llm
// and the static backend, which know them as http.RoundTrippers. Nothing here
// knows of MCP, LLM dialects or policies.
package upstream

import (
	"context"
	"net/http"
)

// A Pool sends requests to one of its endpoints. It replaces scheme and host of the request's
// URL, keeps Host, and is safe for concurrent use.
type Pool struct{}

// RoundTrip picks an endpoint, sends r and reports the outcome. It implements
// http.RoundTripper. Its errors are faults: UpstreamUnreachable when nothing was sent, UpstreamFailed or
// UpstreamTimeout otherwise.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) { panic("unwritten") }

// A Pin ties requests to one endpoint of a Pool: the first RoundTrip with an
// empty Pin fills in the endpoint it chose, later ones go there, or fail with
// UpstreamUnreachable when it is gone.
type Pin struct{ Endpoint string }

// WithPin returns a context whose requests are tied by pin.
func WithPin(ctx context.Context, pin *Pin) context.Context { panic("unwritten") }
