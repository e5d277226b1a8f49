package gateway

import (
	"cmp"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/policy"
)

// A compiledExtension is what a GatewayExtension comes to. What is of another type than it is, or can't be used, is nil.
type compiledExtension struct {
	object object
	kind   v1alpha1.GatewayExtensionType
	spec   *v1alpha1.GatewayExtensionSpec

	grpc  *extension.Service        // of extAuth
	http  *extension.HTTPAuthorizer // of extAuth
	limit *extension.RateLimit
}

// compileExtensions compiles the GatewayExtensions, whether something refers to them or not.
func (c *compiler) compileExtensions() {
	for _, g := range c.res.GatewayExtensions {
		if _, twice := c.extensions[nameOf(g)]; twice {
			continue
		}
		e := &compiledExtension{object: objectOf(v1alpha1.KindGatewayExtension, g), spec: &g.Spec}
		c.extensions[nameOf(g)] = e
		broken := c.res.Broken[e.object.ref()]
		switch s := &g.Spec; {
		case s.ExtAuth != nil:
			e.kind = v1alpha1.ExtensionExtAuth
			if !broken {
				c.extAuthService(e, s.ExtAuth)
			}
		case s.RateLimit != nil:
			e.kind = v1alpha1.ExtensionRateLimit
			if !broken {
				c.rateLimitService(e, s.RateLimit)
			}
		case s.ExtProc != nil:
			e.kind = v1alpha1.ExtensionExtProc
		}
	}
}

// defaultHTTPServiceTimeout is how long an HTTP service may take, as Envoy has it.
const defaultHTTPServiceTimeout = 2 * time.Second

func (c *compiler) extAuthService(e *compiledExtension, spec *v1alpha1.ExtAuthProvider) {
	if spec.StatusOnError != 0 && spec.StatusOnError < 200 {
		c.add(e.object, "spec.extAuth.statusOnError", finding{class: config.Warning, code: config.CodeUnused, help: "write 403"},
			"%d is no status that ends a request: 403 is answered", spec.StatusOnError)
	}
	if spec.GRPCService != nil {
		e.grpc = c.grpcService(e.object, "spec.extAuth.grpcService", spec.GRPCService, defaultServiceTimeout)
		return
	}
	h := spec.HTTPService
	to := c.service(e.object, "spec.extAuth.httpService.backendRef", &h.BackendRef)
	if to == nil {
		return
	}
	a := extension.HTTPAuthorizer{
		RoundTripper: c.connected(to.conn, to.identity, to.protocol, to.addresses), PathPrefix: h.PathPrefix,
		Timeout: cmp.Or(h.RequestTimeout.Value(), defaultHTTPServiceTimeout), Retry: serviceRetry(h.Retry), Forward: spec.HeadersToForward,
	}
	if r := h.AuthorizationRequest; r != nil {
		a.Add = r.HeadersToAdd
	}
	if r := h.AuthorizationResponse; r != nil {
		a.ToBackend, a.ToClient, a.OnDenied = r.HeadersToBackend, r.HeadersToClientOnSuccess, r.HeadersToClientOnDenied
	}
	e.http = extension.NewHTTPAuthorizer(a)
}

// defaultRateLimitTimeout is how long a rate limit service may take.
const defaultRateLimitTimeout = 100 * time.Millisecond

func (c *compiler) rateLimitService(e *compiledExtension, spec *v1alpha1.RateLimitProvider) {
	s := c.grpcService(e.object, "spec.rateLimit.grpcService", &spec.GRPCService, defaultRateLimitTimeout)
	if s == nil {
		return
	}
	if t := spec.Timeout.Value(); t > 0 && (spec.GRPCService.RequestTimeout == "" || t < s.Timeout) {
		s.Timeout = t
	}
	e.limit = extension.NewRateLimit(s, spec.Domain, spec.XRateLimitHeaders == v1alpha1.XRateLimitDraftVersion03)
}

// extension returns the GatewayExtension that a policy refers to, or reports that it is not there, is of another type or can't be
// used, and returns nil.
func (c *compiler) extension(o object, path string, ref *v1alpha1.ExtensionRef, kind v1alpha1.GatewayExtensionType) *compiledExtension {
	name := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, o.name.Namespace), Name: ref.Name}
	f := finding{class: config.Unresolved, code: config.CodeUnresolvedExtension}
	e := c.extensions[name]
	switch {
	case e == nil:
		candidates := names(c.extensions, name.Namespace)
		f.help = didYouMean(name.Name, candidates, listing("GatewayExtension in namespace "+name.Namespace, candidates))
		c.add(o, path+".name", f, "GatewayExtension %q is not there: what this policy covers answers 500, rather than going on without it", name.Name)
		return nil
	case e.kind != kind:
		f.help = "refer to one of type " + string(kind)
		c.add(o, path+".name", f, "GatewayExtension %q is of type %s: what this policy covers answers 500, rather than going on without it", name.Name, e.kind)
		return nil
	case e.usable():
		return e
	}
	c.unusable(o, path, e)
	return nil
}

// unusable reports that a policy refers to an extension with a mistake.
func (c *compiler) unusable(o object, path string, e *compiledExtension) {
	c.add(o, path, finding{class: config.Unresolved, code: config.CodeUnresolvedExtension, help: "see what is said of it"},
		"GatewayExtension %q can't be used: what this policy covers answers 500, rather than going on without it", e.object.name.Name)
}

// usable reports whether the service can be asked.
func (e *compiledExtension) usable() bool {
	switch e.kind {
	case v1alpha1.ExtensionExtAuth:
		return e.grpc != nil || e.http != nil
	case v1alpha1.ExtensionRateLimit:
		return e.limit != nil
	default:
		return true
	}
}

// extAuthPart compiles extAuth.
func (c *compiler) extAuthPart(o object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.ExtAuth
	switch {
	case s == nil:
		return nil, true
	case s.ExtensionRef == nil:
		return &webPart{}, true // switched off
	}
	e := c.extension(o, "spec.extAuth.extensionRef", s.ExtensionRef, v1alpha1.ExtensionExtAuth)
	if e == nil {
		return &webPart{}, false
	}
	provider := e.spec.ExtAuth
	check := &policy.ExtAuth{
		Source: o.String(), Extension: e.object.String(), FailOpen: provider.FailOpen, StatusOnError: int(provider.StatusOnError),
		Context: s.ContextExtensions, Reroute: provider.ClearRouteCache, Prefix: provider.StatPrefix, Metrics: c.rt.metrics(),
	}
	if check.StatusOnError < 200 {
		check.StatusOnError = http.StatusForbidden
	}
	body := provider.WithRequestBody
	if s.WithRequestBody != nil {
		body = s.WithRequestBody
	}
	asBytes := false
	if body != nil {
		check.MaxBody, check.Partial, asBytes = int64(body.MaxRequestBytes), body.AllowPartialMessage, body.PackAsBytes
	}
	if check.Authorizer = e.http; e.grpc != nil {
		check.Authorizer = extension.NewGRPCAuthorizer(e.grpc, provider.HeadersToForward, asBytes)
	}
	return &webPart{check: check}, true
}
