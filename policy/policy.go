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

// An Action says what a matching rule does.
type Action uint8

// The actions; the zero value is Allow.
const (
	Allow Action = iota
	Deny
)

// A RuleSet is one rbac block, as compiled from one policy object.
type RuleSet struct {
	Source      string // the object it comes from, Kind/namespace/name, for logs
	Target      string // the MCP target it is attached to; "" covers all
	Action      Action
	Expressions []*Expression // any true matches
	// Broken says that an expression did not compile: what it covers answers 500 (decisions 4).
	Broken bool
}

// An Expression is one compiled CEL expression. It is immutable and safe for
// concurrent use.
type Expression struct{}

// CompileExpression compiles source against the environment of api-semantics
// 6.4, with cost and time limits. Its error is an *ExpressionError.
func CompileExpression(source string) (*Expression, error) { panic("unwritten") }

// An ExpressionError says where in an expression the mistake is.
type ExpressionError struct {
	Offset  int // in characters from the start
	Message string
}

// Error implements error.
func (e *ExpressionError) Error() string { return e.Message }

// Warnings returns what is legal in the expression but surely not meant, such as a
// comparison that is never true; nil when there is nothing to say.
func (e *Expression) Warnings() []string { panic("unwritten") }

// A Policy is what covers one route rule. It is immutable and safe for
// concurrent use. The zero Policy admits everything.
type Policy struct{}

// New returns the policy with the checks, run in this order, and the rule sets of gateway,
// listener, route and rule, which accumulate (api-semantics 6.3 and 6.4).
func New(checks []Check, rules []RuleSet) *Policy { panic("unwritten") }

// Admit runs the checks and evaluates the rules as far as they don't speak of mcp.*; it returns
// a context for Authorize, or the fault that ends the request (403 "authorization failed").
func (p *Policy) Admit(ctx context.Context, req *Request) (context.Context, error) {
	panic("unwritten")
}

// Rules are the compiled rule sets of one Backend. The zero Rules allows everything.
type Rules struct{}

// NewRules compiles the rule sets attached to a Backend or its targets.
func NewRules(sets []RuleSet) *Rules { panic("unwritten") }

// WithBackend adds the rules of the chosen Backend to an admitted context.
func WithBackend(ctx context.Context, rules *Rules) context.Context { panic("unwritten") }

// Authorize decides one operation under the policy that admitted ctx and the rules of its Backend: nil, or a
// fault with code Denied. A context that was not admitted is denied. With op.Arguments nil, an expression
// that needs arguments is undecided, and what is undecided is permitted: so a tool is listed when
// some arguments may be permitted, and is called only when its own are.
func Authorize(ctx context.Context, op Operation) error { panic("unwritten") }
