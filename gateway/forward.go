package gateway

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/upstream"
)

// forward chooses one of the backends of the rule that matched an admitted request, asks if the request
// may go there, and lets it through the rule's interceptors on its way. The answer goes to w.
func (x *exchange) forward(ctx context.Context, w http.ResponseWriter, m *match, p *port, l *listener, r *http.Request) error {
	rule := m.rule
	if rule.fault != nil {
		return rule.fault
	}
	b := rule.choose()
	if x.peer {
		b = rule.backend(x.backend)
	}
	if b != nil && b.rule != nil {
		rule = b.rule
	}
	x.announce(r)
	if rule.csrf != nil {
		if err := rule.csrf.check(&x.request); err != nil {
			return err
		}
	}
	if rule.buffer > 0 {
		var err error
		if r, err = held(w, r, rule.buffer); err != nil {
			return err
		}
		x.request.HTTP = r
	}
	before := x.request.HTTP
	ctx, err := x.permit(ctx, rule, b)
	if err != nil {
		return err
	}
	if x.request.HTTP != before {
		r = x.request.HTTP
	}
	if b != nil {
		ctx = x.watched(ctx, rule, b, r)
	}
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	r = b.withoutCredentials(r, x.request.Consumed)
	if x.peer || len(rule.interceptors) == 0 { // of another replica's: it was intercepted where it was accepted
		return x.send(w, r, rule, m, p, b)
	}
	ctx = context.WithValue(r.Context(), passageKey{}, &passage{exchange: x, match: m, port: p, listener: l})
	if b != nil {
		ctx = context.WithValue(ctx, destinationKey{}, b.to)
	}
	return intercept(rule.interceptors, w, r.WithContext(ctx), func(w http.ResponseWriter, r *http.Request) error {
		return x.send(w, r.WithContext(policy.WithIntercepted(r.Context(), r)), rule, m, p, b)
	})
}

// announce notes the trailers that the client has announced, before anybody reads the body, which fills them in.
func (x *exchange) announce(r *http.Request) {
	if len(x.sending.Trailers) == 0 && len(r.Trailer) > 0 {
		x.sending.Trailers = slices.Sorted(maps.Keys(r.Trailer))
	}
}

// permit asks if an admitted request may go to a backend of a rule, which is nil where the rule answers itself. MCP
// backends ask for each operation instead.
func (x *exchange) permit(ctx context.Context, rule *rule, b *weighted) (context.Context, error) {
	switch {
	case rule.redirect != nil || rule.direct != nil:
		return ctx, policy.Authorize(ctx, policy.Operation{})
	case b == nil:
		return ctx, fault.New(fault.Misconfigured, "no backend for this route")
	}
	x.rec.Backend = b.to.name
	x.logged.to = b.to
	if b.to.fault != nil {
		return ctx, b.to.fault
	}
	if b.to.rules != nil {
		ctx = policy.WithBackend(ctx, b.to.rules)
	}
	if err := policy.CheckBackend(ctx); err != nil {
		return ctx, err
	}
	if err := policy.TakeBackend(ctx, b.to.name); err != nil {
		return ctx, err
	}
	x.render = b.to.backend.WriteError
	if b.to.mcp {
		return ctx, nil
	}
	return ctx, policy.Authorize(ctx, policy.Operation{})
}

// send applies the filters of the rule and of the backend that was chosen, and has the backend answer.
func (x *exchange) send(w http.ResponseWriter, r *http.Request, rule *rule, m *match, p *port, b *weighted) error {
	if !x.peer { // which applies them itself
		x.writer.modifiers[0] = rule.filters.response
	}
	matched := 0
	if m.pathType == pathPrefix && strings.HasPrefix(r.URL.Path, m.path) { // an interceptor may have changed it
		matched = len(m.path)
	}
	r = modifyRequest(rule.filters.request, r)
	switch {
	case rule.redirect != nil:
		x.logged.direct = true
		w.Header()["Location"] = []string{rule.redirect.location(r, x.request.Host, x.request.Scheme, p.number, matched)}
		w.WriteHeader(rule.redirect.status)
		return nil
	case rule.direct != nil:
		x.logged.direct = true
		return rule.direct.write(w)
	}
	if !x.peer {
		x.writer.modifiers[1] = b.filters.response
	}
	r = modifyRequest(b.filters.request, r)
	rewrite := rule.filters.rewrite
	if b.filters.rewrite != nil {
		rewrite = b.filters.rewrite
	}
	if r = rewrite.apply(r, matched); rewrite != nil && x.logged.logs != nil {
		x.logged.sent = r.URL.RequestURI()
	}

	ctx := r.Context()
	if p := rule.ai[b.to.name]; p != nil {
		ctx = llm.WithPolicy(ctx, p)
	}
	if g := rule.guards[b.to.name]; g != nil {
		ctx = federation.WithGuard(ctx, g)
	}
	if timeout := rule.timeoutOf(b); timeout > 0 && !(b.to.mcp && outlives(r)) {
		ctx, x.cancel = context.WithDeadlineCause(ctx, x.rec.Start.Add(timeout), errTimeout)
	}
	ctx = x.withSending(ctx, rule, b, rewrite)
	if !b.to.mcp && opensStream(r) {
		ctx = x.untilDrain(ctx)
	}
	if at := x.request.Expires; !at.IsZero() && (b.to.mcp && outlives(r) || opensStream(r)) {
		ctx = x.until(ctx, at)
	}
	if b.to.hash != nil {
		ctx = b.to.hash.withHash(ctx, r, x.rec.Source.Addr().String(), w.Header())
	}
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	if !x.peer {
		r = x.mirrored(r, rule.filters.mirrors, b.filters.mirrors)
	}
	return b.to.backend.Serve(w, r)
}

// mirrored sends copies of r as it is forwarded, without what was for the gateway, and returns r as it is to be served.
func (x *exchange) mirrored(r *http.Request, lists ...[]*upstream.Mirror) *http.Request {
	for _, mirrors := range lists {
		for _, m := range mirrors {
			nobody := (*weighted)(nil)
			if body := m.Copy(nobody.withoutCredentials(r, x.request.Consumed)).Body; body != r.Body {
				r = r.WithContext(r.Context())
				r.Body = body
			}
		}
	}
	return r
}

// withoutCredentials returns r without the headers whose credential was for the gateway. Backends that send
// on only what they are told to get it, since Passthrough may ask for it: those of type MCP all of it,
// as another replica has to authenticate, too, and those of type AI what stands in Authorization.
func (w *weighted) withoutCredentials(r *http.Request, consumed []string) *http.Request {
	if len(consumed) == 0 || w != nil && w.to.mcp {
		return r
	}
	r = r.WithContext(r.Context())
	r.Header = maps.Clone(r.Header)
	for _, name := range consumed {
		if w == nil || w.to.kind != string(v1alpha1.BackendAI) || name != "Authorization" {
			delete(r.Header, name)
		}
	}
	return r
}

// watched returns a context that ends when nothing moves for too long. It is begun once, before anybody reads the body.
func (x *exchange) watched(ctx context.Context, rule *rule, b *weighted, r *http.Request) context.Context {
	if x.idle != nil {
		return ctx // an interceptor has the route chosen again
	}
	if _, passes := b.to.backend.(*upstream.Proxy); passes && fault.IsGRPC(r) {
		x.body.grace = nil // a call may be as silent as it wants, as far as stillness lets it
	}
	if dog := x.stillness(rule, b, r); dog != nil {
		x.idle = new(idleness)
		ctx = x.idle.begin(ctx, dog, x)
	}
	return ctx
}

// timeoutOf returns how long a request to one of the rule's backends may take. At an MCP backend it is executed at
// most once, so that its only try takes the time of all.
func (r *rule) timeoutOf(b *weighted) time.Duration {
	if b.to.mcp && r.try > 0 && (r.timeout == 0 || r.try < r.timeout) {
		return r.try
	}
	return r.timeout
}

// stillness returns what knows how long nothing may move while a request is served, nil when nobody minds. MCP and LLM
// backends have clocks of their own for what they wait for: they mind only where the rule says so, and the
// streams of an MCP session never do.
func (x *exchange) stillness(rule *rule, b *weighted, r *http.Request) *lifetime.Watchdog {
	switch {
	case b.to.mcp && outlives(r):
		return nil
	case rule.idleSaid:
		return rule.idle
	case b.to.mcp || b.to.kind == string(v1alpha1.BackendAI):
		return nil
	default:
		return x.still
	}
}

// withSending returns a context that says how the requests to a backend are sent. Calls of MCP are not tried again
// unless it is proven that they were not executed.
func (x *exchange) withSending(ctx context.Context, rule *rule, b *weighted, rewrite *rewrite) context.Context {
	s := &x.sending
	if b.to.mcp {
		s.Retry = rule.proven
	} else {
		s.Retry, s.Try = rule.retry, rule.try
	}
	s.HostOfEndpoint = rule.autoHost && (rewrite == nil || rewrite.hostname == "") && !b.to.mcp && b.to.kind != string(v1alpha1.BackendAI)
	if s.Retry == nil && s.Try == 0 && !s.HostOfEndpoint && len(s.Trailers) == 0 {
		return ctx
	}
	return upstream.WithSending(ctx, s)
}

// until returns a context that ends when the client's credential does.
func (x *exchange) until(ctx context.Context, at time.Time) context.Context {
	ctx, cancel := context.WithDeadlineCause(ctx, at, errExpired)
	before := x.cancel
	x.cancel = func() {
		cancel()
		if before != nil {
			before()
		}
	}
	return ctx
}

// untilDrain returns a context that ends when the drain begins.
func (x *exchange) untilDrain(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(x.streams, func() { cancel(errDraining) })
	before := x.cancel
	x.cancel = func() {
		stop()
		cancel(nil)
		if before != nil {
			before()
		}
	}
	return ctx
}

// opensStream reports whether a request asks for events or a tunnel: for an answer that
// need not end.
func opensStream(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	if len(r.Header["Upgrade"]) > 0 {
		return true
	}
	for _, v := range r.Header["Accept"] {
		if strings.Contains(v, "text/event-stream") {
			return true
		}
	}
	return false
}

var errTimeout = fault.New(fault.UpstreamTimeout, "the request took longer than its timeout")

// outlives reports whether a request on an MCP route opens a stream that the route's
// timeout does not bound: the GET stream of a session, or a listen. A listen
// says so in its Mcp-Method header (MCP 2026-07-28, Transports), which the backend
// compares to the body.
func outlives(r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	v := r.Header["Mcp-Method"]
	return len(v) == 1 && v[0] == "subscriptions/listen"
}
