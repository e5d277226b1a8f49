// Package policy decides: whether a request may proceed, and whether one
// operation of it may. The same decisions serve MCP and LLM routes.
//
// Its central type is [Policy], a list of [Check]s and the authorization rules
// that cover one route rule. Package gateway compiles expressions with a [Compiler],
// calls [Policy.Admit] once a request, and puts the rules of the chosen Backend into
// the context with [WithBackend]; packages mcp/federation and llm call [Authorize] for
// each operation. [Merge] says which of the policies attached to a route apply.
//
// Every doubt is decided against the request: an expression that fails does not allow
// and does deny, a rule set that did not compile fails what it covers, a context that
// nobody admitted is denied. Nothing here contacts an upstream by itself, and nothing
// is compiled while a request waits.
package policy

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A Request is what a decision may look at. It is filled in by the accept station and by
// the checks and limits that are asked before it goes to its backend, and read-only from then on; decisions about it are made from
// several goroutines.
type Request struct {
	HTTP     *http.Request  // as accepted, headers canonical, path cleaned; and then as services have changed it
	Host     string         // lower case, without port
	Scheme   string         // http or https
	Source   netip.AddrPort // the client, after trusted-hop resolution
	Endpoint Endpoint       // what was matched
	Gateway  string         // namespace/name
	ID       string         // that the access log has
	Time     time.Time      // of its acceptance

	Client

	// Passed says that another replica passed the request on, and has counted it; Carried is what became
	// of it there.
	Passed  bool
	Carried *Changes
	// Metadata is what services tell of the request, those that process it on its way included; nil for nothing.
	Metadata *telemetry.Metadata
	// Response is what services change in the answer.
	Response []extension.HeaderChange

	accepted         *http.Request // before anything was changed
	settled          []Check       // that it has passed, on its way to another route
	rerouted, resent bool          // as [Changes] have it
}

// A Client is what authentication established of who sent a request.
type Client struct {
	Principal string  // or "anonymous"
	JWT       *Claims // of a token that was verified, else nil
	APIKey    *Claims // what is known of the API key, else nil
	User      string  // whose password was verified, else ""
	// Consumed are the headers whose credential authentication has used, by their canonical
	// names: they are for the gateway, and are not sent on.
	Consumed []string
	// Expires is when what was established ends: streams end then, too. Zero is never.
	Expires time.Time
}

// An Endpoint is what a request was matched to, as an OAuth 2 protected resource (RFC 8707, RFC
// 9728).
type Endpoint struct {
	URL  string // without / at the end; "" when the configuration does not fix the host
	Path string // without / at the end
}

// A Kind says what an [Operation] acts on. The zero Kind is nothing in particular: a
// request that is no operation, or a method that names no item.
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
	// Arguments is the JSON object that tools/call sends: {} when it sends none. Nil means
	// "not known yet", as while listing: an expression that needs it is then undecided.
	Arguments []byte
}

// A BackendInfo is what backend.* shows to rules.
type BackendInfo struct {
	Name     string // namespace/name
	Type     string // MCP, Static, …: as spec.type has it
	Protocol string // http, h2c, mcp, …
}

// A Check decides whether a request may proceed; it returns nil, or the fault
// that ends the request, or [ErrRerouted]. Its type is comparable.
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

// String returns the action as the API spells it.
func (a Action) String() string {
	if a == Deny {
		return "Deny"
	}
	return "Allow"
}

// A RuleSet is one rbac block, as compiled from one policy object.
type RuleSet struct {
	Source      string // the object it comes from, Kind/namespace/name, for logs
	Target      string // the MCP target it is attached to; "" covers all
	Action      Action
	Expressions []*Expression // any true matches
	// Broken says that an expression did not compile: what the set covers is refused as
	// misconfigured, since without the rule it would be open.
	Broken bool
}

// A Policy is what covers one route rule. It is immutable and safe for
// concurrent use. The zero Policy, and a nil one, admits everything.
type Policy struct {
	checks   []Check
	rules    group
	limiters []Limiter
	tokens   []Limiter // those that count tokens
	budgets  []Budget
}

// An Options says what a [Policy] consists of. Each of its lists may be empty.
type Options struct {
	Checks []Check   // run in this order
	Rules  []RuleSet // of gateway, listener, route and rule, which accumulate
	// Limiters count what the rules permit, in this order.
	Limiters []Limiter
	// Budgets count what requests to language models and tool calls take.
	Budgets []Budget
}

// New returns a policy.
func New(opts Options) *Policy {
	requests, tokens := tokenLimiters(opts.Limiters)
	return &Policy{checks: opts.Checks, rules: newGroup(opts.Rules), limiters: requests, tokens: tokens, budgets: opts.Budgets}
}

// Admit runs the checks and evaluates the rules as far as they don't speak of mcp.* and
// backend.*, which [Authorize] does. It returns a context for Authorize, or the fault that
// ends the request: [fault.Denied] with the message "authorization failed", [fault.Misconfigured] if a rule set is
// broken, [fault.RateLimited] with the message "rate limit exceeded", or [ErrRerouted]. What services change is in req
// then: in HTTP, and in Response.
func (p *Policy) Admit(ctx context.Context, req *Request) (context.Context, error) {
	if p == nil {
		p = new(Policy)
	}
	if req.accepted == nil {
		req.accepted = req.HTTP
	}
	for i, c := range p.checks {
		if req.settled != nil && slices.Contains(req.settled, c) {
			continue
		}
		if err := c.Check(ctx, req); err != nil {
			if err == ErrRerouted { //nolint:errorlint // a sentinel of our own
				req.settle(p.checks[:i+1])
			}
			return nil, err
		}
	}
	if err := req.carried(p.checks); err != nil {
		return nil, err
	}
	a := &admission{policy: p, request: req}
	if len(p.rules.sets) == 0 {
		a.settled = true
	} else {
		a.rules = p.rules.begin()
		verdict, err := a.rules.decide(ctx, newScope(req, nil, nil), "", usesMCP|usesBackend)
		if err != nil {
			return nil, err
		}
		a.settled = verdict == permitted
	}
	if len(p.limiters) > 0 && !req.Passed {
		if err := takeAll(ctx, p.limiters, AtRequest, AtRequest, &Subject{Request: req}); err != nil {
			return nil, err
		}
	}
	return lifetime.WithValue(ctx, admissionKey{}, a), nil
}

// Principal returns who the request that was admitted as ctx comes from, "anonymous" when
// nothing was established or nothing admitted it.
func Principal(ctx context.Context) string {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.request == nil || a.request.Principal == "" {
		return anonymous
	}
	return a.request.Principal
}

// Expires returns when what authentication established about the request that was admitted as ctx ends;
// the zero time is never.
func Expires(ctx context.Context) time.Time {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.request == nil {
		return time.Time{}
	}
	return a.request.Expires
}

// Consumed returns the headers of the request that was admitted as ctx whose credential was for the
// gateway.
func Consumed(ctx context.Context) []string {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.request == nil {
		return nil
	}
	return a.request.Consumed
}
