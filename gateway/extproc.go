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
	if x.processed {
		return next(w, r)
	}
	x.processed = true
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
	listener *listener
}

// again has the route of r be chosen again, since a processor has changed it. At another rule it is as if a client had sent r, of
// whom nothing is known yet.
func (on *passage) again(w http.ResponseWriter, r *http.Request, next serve) error {
	x := on.exchange
	if m := on.listener.router.find(x.request.Host, r); m != nil && m.rule == on.match.rule {
		return next(w, r)
	}
	ctx := r.Context()
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	for _, name := range x.request.Consumed { // the credential that its backend was not to get
		if was := x.request.HTTP.Header[name]; r.Header[name] == nil && was != nil {
			r.Header[name] = was
		}
	}
	x.request.Resend(r)
	x.rec.Principal = anonymous
	return x.route(ctx, w, on.port, on.listener)
}
