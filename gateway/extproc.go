package gateway

import (
	"encoding/json"
	"net/http"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/extension/extproc"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A processor is an external processor. It is an interceptor.
type processor struct {
	*extproc.Processor
	reroute  v1alpha1.RouteCacheAction
	forwards []string // the namespaces of the metadata that it is shown
}

// intercept implements interceptor.
func (p *processor) intercept(w http.ResponseWriter, r *http.Request, next serve) error {
	on, ok := r.Context().Value(passageKey{}).(*passage)
	if !ok {
		return fault.New(fault.Internal, "internal error") // forward has put it there
	}
	x := on.exchange
	if x.request.Metadata == nil {
		x.request.Metadata = new(telemetry.Metadata)
	}
	call := extproc.Call{
		Scheme: x.request.Scheme, Hidden: x.request.Consumed, Metadata: p.metadata(&x.request), Told: tell(x.request.Metadata),
	}
	call.Next = func(w http.ResponseWriter, r *http.Request, c *extproc.Change) error {
		if c.Path {
			if err := checkPath(r.URL); err != nil {
				return fault.Wrap(fault.Internal, err, "external processing failed")
			}
		}
		if c.Any && (p.reroute == v1alpha1.RouteCacheClear || c.Reroute && p.reroute != v1alpha1.RouteCacheRetain) {
			return on.again(w, r, next)
		}
		return next(w, r)
	}
	return p.Serve(w, r, call)
}

// metadata returns what the processor is shown of what is known of a request.
func (p *processor) metadata(req *policy.Request) map[string][]byte {
	out := map[string][]byte{}
	for _, namespace := range p.forwards {
		if claims := req.JWT.JSON(); namespace == policy.JWTNamespace && claims != nil {
			out[namespace] = append(append([]byte(`{"jwt_payload":`), claims...), '}')
		}
		if members, ok := req.Metadata.Find(namespace); ok {
			out[namespace], _ = json.Marshal(members) // it came as JSON
		}
	}
	return out
}

// tell returns what adds to the metadata of a request what a processor tells of it, but for what the gateway and other
// services say.
func tell(to *telemetry.Metadata) func(namespace string, members map[string]any) error {
	return func(namespace string, members map[string]any) error {
		switch namespace {
		case policy.JWTNamespace, policy.ExtAuthNamespace, policy.RateLimitNamespace, "mcpgw":
			return nil
		}
		return to.Add(namespace, members)
	}
}

type passageKey struct{}

// A passage is where a request is while it goes through interceptors.
type passage struct {
	exchange *exchange
	match    *match
	port     *port
}

// again chooses the route of r again, since a processor has changed it. Another rule has it admitted by what covers that, and asks
// its interceptors, but for external processors: a request goes through one.
func (on *passage) again(w http.ResponseWriter, r *http.Request, next serve) error {
	x := on.exchange
	l := on.port.listener(x.request.Host)
	if l == nil {
		return fault.New(fault.NotFound, "listener not found")
	}
	m := l.router.find(x.request.Host, r)
	if m == nil {
		return fault.New(fault.NotFound, "route not found")
	}
	if m.rule == on.match.rule {
		return next(w, r)
	}
	x.rec.Route, x.rec.Rule, x.rec.Path = m.rule.route, m.rule.name, m.written()
	if m.rule.metadata != nil {
		return fault.New(fault.NotFound, "route not found") // it is for whoever asks for it
	}
	ctx := r.Context()
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	for _, name := range x.request.Consumed { // who asks is established again
		if was := x.request.HTTP.Header[name]; r.Header[name] == nil && was != nil {
			r.Header[name] = was
		}
	}
	q := &x.request
	*q = q.Rerouted(r, m.endpoint)
	q.Principal = anonymous
	ctx, err := m.rule.policy.Admit(ctx, q)
	x.rec.Principal = q.Principal
	if err != nil {
		return err
	}
	if m.rule.csrf != nil {
		if err := m.rule.csrf.check(q); err != nil {
			return err
		}
	}
	if m.rule.buffer > 0 {
		if r, err = held(w, r, m.rule.buffer); err != nil {
			return err
		}
	}
	return x.through(ctx, w, m, on.port, r, func(i interceptor) bool {
		_, asked := i.(*processor)
		return !asked
	})
}
