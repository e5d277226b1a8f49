package policy

import (
	"context"
	"errors"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// Rules are the compiled rule sets of one Backend, and what else is asked about requests to it. They are immutable and safe for
// concurrent use. The zero Rules, and nil ones, allow everything.
type Rules struct {
	backend  *BackendInfo
	rules    group
	checks   []Check
	limiters []Limiter
	tokens   []Limiter // those that count tokens
}

// NewRules returns the rules of the rule sets attached to a Backend or its targets.
func NewRules(sets []RuleSet) *Rules { return &Rules{rules: newGroup(sets)} }

// NewBackendRules returns what is attached to a Backend, which backend.* describes. Budgets are none of it.
func NewBackendRules(b BackendInfo, opts Options) *Rules {
	requests, tokens := tokenLimiters(opts.Limiters)
	return &Rules{backend: &b, rules: newGroup(opts.Rules), checks: opts.Checks, limiters: requests, tokens: tokens}
}

// Backend returns the Backend that the rules are for; nil for [NewRules] and nil rules.
func (r *Rules) Backend() *BackendInfo {
	if r == nil {
		return nil
	}
	return r.backend
}

// An admission is what Admit leaves in the context: what is decided already, and what
// each operation has still to be asked.
type admission struct {
	policy   *Policy
	request  *Request
	rules    run  // of gateway, listener, route and rule
	settled  bool // rules are satisfied whatever the operation is
	backend  *Rules
	attached run // of the Backend

	destination string // the backend, where a limit asks for it
}

type admissionKey struct{}

// WithBackend adds the rules of the chosen Backend to an admitted context. A context that
// was not admitted stays as it is.
func WithBackend(ctx context.Context, rules *Rules) context.Context {
	admitted, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || rules == nil || admitted.settled && len(rules.rules.sets)+len(rules.checks)+len(rules.limiters)+len(rules.tokens) == 0 {
		return ctx // there is nothing left to ask
	}
	a := *admitted
	a.backend, a.attached = rules, rules.rules.begin()
	return lifetime.WithValue(ctx, admissionKey{}, &a)
}

// CheckBackend asks the checks of the Backend that [WithBackend] has added. They have no route be chosen again. Its errors are
// those of [Policy.Admit].
func CheckBackend(ctx context.Context) error {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.backend == nil {
		return nil
	}
	for _, c := range a.backend.checks {
		if err := c.Check(ctx, a.request); err != nil && err != ErrRerouted { //nolint:errorlint // a sentinel of our own
			return err
		}
	}
	return nil
}

// Authorize decides one operation under the policy that admitted ctx and the rules of its
// Backend, both of which have to allow it. It returns nil, or a fault: [fault.Denied], also for a
// context that was not admitted, or [fault.Misconfigured] if a rule set that covers the operation is
// broken. The cause of a denial is a [*Denial].
//
// With op.Arguments nil, an expression that needs arguments is undecided, and what is
// undecided is permitted: so a tool is listed when some arguments may be permitted, and is called
// only when its own are. An operation of a list method is decided as its use, too: what may not be
// called is not listed, and a task is out of reach of who may not call the tool that made it.
//
// The zero Operation decides a request to a backend without operations: what speaks of mcp.* then
// speaks of nothing.
//
// It is safe for concurrent use with one ctx.
func Authorize(ctx context.Context, op Operation) error {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok {
		return denied(&Denial{Reason: "nothing admitted the request"})
	}
	if a.settled && a.attached.empty() {
		return nil
	}
	var info *BackendInfo
	if a.backend != nil {
		info = a.backend.backend
	}
	s := newScope(a.request, info, &op)
	if !a.settled {
		if err := a.rules.authorize(ctx, s, op); err != nil {
			return err
		}
	}
	return a.attached.authorize(ctx, s, op)
}

// authorize decides one operation under one group of rules.
func (r *run) authorize(ctx context.Context, s *scope, op Operation) error {
	if err := r.authorizeAs(ctx, s, op, op.Method); err != nil {
		return err
	}
	if use := useOf(op.Method); use != "" && r.uses&usesMethod != 0 {
		return r.authorizeAs(ctx, s, op, use)
	}
	return nil
}

func (r *run) authorizeAs(ctx context.Context, s *scope, op Operation, method string) error {
	if r.empty() {
		return nil
	}
	s.method = method
	v, err := r.decide(ctx, s, op.Target, 0)
	switch {
	case err != nil:
		return err
	case v == postponed && (op.Kind != Tool || op.Arguments != nil):
		return denied(&Denial{Reason: "an expression came to no result"})
	}
	return nil
}

// useOf returns the method by which what a list method lists is used, or which
// made the task that a method is about; or "".
func useOf(method string) string {
	switch method {
	case "tools/list", "tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list":
		return "tools/call"
	case "prompts/list":
		return "prompts/get"
	case "resources/list", "resources/templates/list":
		return "resources/read"
	}
	return ""
}

// A Denial says why an operation or request was denied. It is for the operator: the
// client is not told.
type Denial struct {
	Source     string // the object whose rule decided, Kind/namespace/name; "" when no rule did
	Expression string // the Deny expression that matched; "" when none of the Allow ones did
	Reason     string
}

// Error implements error.
func (d *Denial) Error() string {
	out := d.Reason
	if d.Source != "" {
		out += " (" + d.Source + ")"
	}
	if d.Expression != "" {
		out += ": " + d.Expression
	}
	return out
}

// DecidedBy returns the object whose rule decided, for the access log.
func (d *Denial) DecidedBy() string { return d.Source }

func denied(d *Denial) error {
	return &fault.Fault{Code: fault.Denied, Message: "authorization failed", Err: d}
}

func misconfigured(source string) error {
	return &fault.Fault{
		Code: fault.Misconfigured, Message: "the configuration of this route is invalid",
		Err: &Denial{Source: source, Reason: "a rule did not compile"},
	}
}

// isAbsent reports whether an evaluation failed because it spoke of what the
// operation does not have, which is no error worth counting.
func isAbsent(err error) bool { return errors.Is(err, errAbsent) }
