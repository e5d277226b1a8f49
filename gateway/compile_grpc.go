package gateway

import (
	"fmt"
	"net/http"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/upstream"
)

// asHTTPRoute returns a GRPCRoute as the HTTPRoute that it is, but for what its rules match (Gateway API, GRPCRoute).
func asHTTPRoute(r *gatewayv1.GRPCRoute) *gatewayv1.HTTPRoute {
	out := &gatewayv1.HTTPRoute{ObjectMeta: r.ObjectMeta, Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: r.Spec.CommonRouteSpec, Hostnames: r.Spec.Hostnames}}
	for i := range r.Spec.Rules {
		spec := &r.Spec.Rules[i]
		rule := gatewayv1.HTTPRouteRule{Name: spec.Name, Filters: asHTTPFilters(spec.Filters), SessionPersistence: spec.SessionPersistence}
		for _, b := range spec.BackendRefs {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b.BackendRef, Filters: asHTTPFilters(b.Filters)})
		}
		out.Spec.Rules = append(out.Spec.Rules, rule)
	}
	return out
}

func asHTTPFilters(filters []gatewayv1.GRPCRouteFilter) (out []gatewayv1.HTTPRouteFilter) {
	for _, f := range filters {
		out = append(out, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return out
}

// compileMethods compiles the matches of a rule of a GRPCRoute; a rule without any matches all. A method is a path:
// /SERVICE/METHOD.
func (c *compiler) compileMethods(o object, path string, specs []gatewayv1.GRPCRouteMatch) (out []match, ok bool) {
	if len(specs) == 0 {
		return []match{{}}, true
	}
	ok = true
	for i := range specs {
		spec := &specs[i]
		at := fmt.Sprintf("%s.matches[%d]", path, i)
		var m match
		good := c.compileMethod(o, at+".method", spec.Method, &m)
		for j, h := range spec.Headers {
			v := valueMatch{name: http.CanonicalHeaderKey(string(h.Name)), value: h.Value}
			if h.Type != nil && *h.Type == gatewayv1.GRPCHeaderMatchRegularExpression {
				v.regex, good = c.regex(o, fmt.Sprintf("%s.headers[%d].value", at, j), h.Value, good)
			}
			m.headers = appendFirst(m.headers, v)
		}
		ok = ok && good
		out = append(out, m)
	}
	return out, ok
}

func (c *compiler) compileMethod(o object, path string, spec *gatewayv1.GRPCMethodMatch, m *match) bool {
	if spec == nil {
		return true
	}
	service, method := "", ""
	if spec.Service != nil {
		service = *spec.Service
	}
	if spec.Method != nil {
		method = *spec.Method
	}
	if service == "" && method == "" {
		return true
	}
	const anyPart = "[^/]+"
	if spec.Type != nil && *spec.Type == gatewayv1.GRPCMethodMatchRegularExpression {
		parts := [2]string{anyPart, anyPart}
		for i, part := range []struct{ name, source string }{{"service", service}, {"method", method}} {
			if part.source == "" {
				continue
			}
			if _, ok := c.regex(o, path+"."+part.name, part.source, true); !ok {
				return false
			}
			parts[i] = part.source
		}
		m.pathType, m.path = pathRegex, "/(?:"+parts[0]+")/(?:"+parts[1]+")"
		var ok bool
		m.regex, ok = c.regex(o, path, m.path, true)
		return ok
	}
	for _, part := range []struct{ name, value string }{{"service", service}, {"method", method}} {
		if !isGRPCName(part.value) {
			c.add(o, path+"."+part.name, finding{class: config.Invalid, code: config.CodeInvalidValue, reason: "UnsupportedValue", help: "use type RegularExpression for an expression"},
				"%q is not the name of a gRPC %s", part.value, part.name)
			return false
		}
	}
	switch {
	case method == "":
		m.pathType, m.path = pathPrefix, "/"+service
		return true
	case service == "":
		var ok bool
		m.pathType, m.path = pathRegex, "/"+anyPart+"/"+method
		m.regex, ok = c.regex(o, path+".method", m.path, true)
		return ok
	default:
		m.pathType, m.path = pathExact, "/"+service+"/"+method
		return true
	}
}

// isGRPCName reports whether s can be the name of a service or method; "" is any.
func isGRPCName(s string) bool {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// takesGRPC reports whether a Backend can be sent gRPC requests: they take HTTP/2.
func (c *compiler) takesGRPC(b *v1alpha1.Backend) bool {
	secure := c.backendConnection(b).opts.TLS != nil
	switch {
	case b.Spec.Static != nil:
		app := string(b.Spec.Static.AppProtocol)
		return secure || protocolOf(&app) == upstream.H2C
	case b.Spec.DynamicForwardProxy != nil:
		return secure || b.Spec.DynamicForwardProxy.EnableTLS
	default:
		return false
	}
}

// contested returns the hosts of a route that no route of the other kind has at the same listener: of an HTTPRoute and a GRPCRoute that
// could both be meant, the older one is served (Gateway API, GRPCRouteSpec.hostnames).
func (c *compiler) contested(o object, path string, hosts []attachedHost) (out []attachedHost) {
	lost := map[*openListener]object{}
	for _, h := range hosts {
		for _, other := range h.listener.claims {
			if _, both := intersect(other.hostname, h.hostname); both && other.by.kind != o.kind {
				lost[h.listener] = other.by
			}
		}
	}
	told := map[*openListener]bool{}
	for _, h := range hosts {
		by, isLost := lost[h.listener]
		if !isLost {
			h.listener.claims = append(h.listener.claims, claim{h.hostname, o})
			out = append(out, h)
		} else if !told[h.listener] {
			told[h.listener] = true
			c.add(o, path, finding{class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "HostnameConflict", help: "give one of the two routes other hostnames"},
				"listener %q has %s for the same hostname, which is older or first by its name: a hostname is of HTTPRoutes or of GRPCRoutes", h.listener.name, by)
		}
	}
	return out
}

// A claim is a hostname under which a listener takes a route.
type claim struct {
	hostname string
	by       object
}
