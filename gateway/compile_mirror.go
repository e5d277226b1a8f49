package gateway

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/upstream"
)

// mirror returns what sends copies of requests where a RequestMirror says, nil where that is nowhere: the requests
// themselves are served all the same.
func (c *compiler) mirror(o object, path string, spec *gatewayv1.HTTPRequestMirrorFilter) *upstream.Mirror {
	if spec == nil {
		return nil
	}
	m := &upstream.Mirror{}
	switch {
	case spec.Percent != nil:
		m.Numerator, m.Denominator = int(*spec.Percent), 100
	case spec.Fraction != nil:
		m.Numerator, m.Denominator = int(spec.Fraction.Numerator), or(spec.Fraction.Denominator, 100)
		if m.Numerator > m.Denominator {
			c.add(o, path+".fraction", finding{class: config.Invalid, code: config.CodeInvalidValue}, "more than all requests can't be copied: %d of %d", m.Numerator, m.Denominator)
			return nil
		}
	}
	to := c.resolve(o, path+".backendRef", &spec.BackendRef)
	proxy, ok := to.backend.(*upstream.Proxy)
	switch {
	case to.fault != nil:
		return nil // which was reported
	case !ok:
		c.add(o, path+".backendRef", finding{
			class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "UnsupportedValue",
			help: "copies go to Services, and to Backends of type Static: requests are served without a copy",
		}, "requests can't be copied to a Backend of type %s", to.kind)
		return nil
	case c.rt == nil:
		return nil
	}
	m.Pool, m.Base, m.Running = proxy.Pool, c.rt.base, &c.rt.copying
	metrics := c.rt.metrics()
	m.Done = func(result upstream.MirrorResult) { metrics.Mirrored(to.name, result.String()) }
	return m
}
