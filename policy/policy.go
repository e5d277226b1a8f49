// Package policy decides: whether a request may proceed, and whether one
// operation of it may. The same decisions serve MCP and LLM routes.
//
// Its central type is [Policy], a list of [Check]s and the authorization rules
// that cover one route rule, compiled by [Compile] when the configuration is.
// Package gateway calls [Policy.Admit] once a request, and puts the rules of the
// chosen Backend into the context with [WithBackend]; packages mcp/federation and
// llm call [Authorize] for each operation. Nothing here contacts an upstream by
// itself, and nothing is compiled while a request waits.
package policy

import (
	"context"
	"net/http"
	"net/netip"
)

// A Request is what a decision may look at. It is filled in by the accept station
// and read-only afterwards.
type Request struct {
	HTTP      *http.Request  // as accepted: headers canonical, path cleaned
	Host      string         // lower case, without port
	Scheme    string         // http or https
	Source    netip.AddrPort // the client, after trusted-hop resolution
	Principal string         // what authentication established, or "anonymous"
}

// A Kind says what an [Operation] acts on.
type Kind uint8

// The kinds of operations that rules can speak about.
const (
	Tool Kind = iota + 1
	Prompt
	Resource
)

// An Operation is one thing that a request asks for, as mcp.* shows it to rules.
type Operation struct {
	Kind   Kind
	Method string // tools/call, tools/list, …: the JSON-RPC method
	Target string // the target's name
	Name   string // tool or prompt name, resource URI or template: as the target has it
	// Arguments is the JSON object tools/call sends; nil means "not known yet",
	// as while listing: an expression that needs it is then undecided.
	Arguments []byte
}

// A Check decides whether a request may proceed; it returns nil, or the fault
// that ends the request.
type Check interface {
	Check(ctx context.Context, req *Request) error
}
