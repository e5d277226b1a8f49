package gateway

import (
	"crypto/tls"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// A clientIdentity is what a Gateway shows the backends that BackendTLSPolicies cover (Gateway API, GatewayBackendTLS).
type clientIdentity struct {
	certificate *tls.Certificate // nil when it is missing: nothing is sent to them
	fingerprint string           // tells apart what differs
}

// compileIdentities makes the identities of Gateways. What all Gateways share, as Backends of type MCP and the services of
// GatewayExtensions, is shown one if they have the same.
func (c *compiler) compileIdentities() {
	var different object
	for i, g := range c.res.Gateways {
		if !c.serves(g) {
			continue
		}
		o := objectOf("Gateway", g)
		c.identities[o.name] = c.gatewayIdentity(o, g)
		if i == 0 {
			c.common = c.identities[o.name]
		}
		if c.identities[o.name].key() != c.common.key() {
			different = o
		}
	}
	if different.kind == "" {
		c.shown = c.common
		return
	}
	c.common = nil
	if !c.res.Separate && slices.ContainsFunc(c.res.Backends, func(b *v1alpha1.Backend) bool { return b.Spec.MCP != nil }) {
		c.add(different, "spec.tls.backend", finding{class: config.Warning, code: config.CodeTLS, help: "give all Gateways the same certificate, or serve them by processes of their own"},
			"Backends of type MCP are shared by the Gateways, which have different certificates: they are shown none")
	}
}

// gatewayIdentity returns the identity of a Gateway, nil for none.
func (c *compiler) gatewayIdentity(o object, g *gatewayv1.Gateway) *clientIdentity {
	if g.Spec.TLS == nil || g.Spec.TLS.Backend == nil || g.Spec.TLS.Backend.ClientCertificateRef == nil {
		return nil
	}
	pair := c.keyPair(o, "spec.tls.backend.clientCertificateRef", g.Spec.TLS.Backend.ClientCertificateRef, "InvalidClientCertificateRef")
	if pair == nil {
		return &clientIdentity{fingerprint: "missing"}
	}
	return &clientIdentity{certificate: pair, fingerprint: fingerprint(pair.Certificate)}
}

// key tells identities apart; "" for none.
func (i *clientIdentity) key() string {
	if i == nil {
		return ""
	}
	return i.fingerprint
}

// suffix is key, to be put behind what identifies something else.
func (i *clientIdentity) suffix() string {
	if i == nil {
		return ""
	}
	return "/shown/" + i.fingerprint
}

// identitiesFor returns the identities of the Gateways that a route names: one, unless they differ.
func (c *compiler) identitiesFor(r anyRoute) []*clientIdentity {
	out := []*clientIdentity{}
	for _, p := range r.Spec.ParentRefs {
		name := types.NamespacedName{Namespace: r.object.name.Namespace, Name: string(p.Name)}
		if p.Namespace != nil {
			name.Namespace = string(*p.Namespace)
		}
		if p.Kind != nil && *p.Kind == listenerSet {
			name = c.setParents[name]
		}
		if i := c.identities[name]; !slices.ContainsFunc(out, func(o *clientIdentity) bool { return o.key() == i.key() }) {
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		out = append(out, nil)
	}
	return out
}
