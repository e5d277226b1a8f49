package gateway

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// compileListenerSets adds the listeners of ListenerSets to those of their Gateways, the oldest set first, behind the Gateways' own.
func (c *compiler) compileListenerSets() {
	for _, s := range c.res.ListenerSets {
		o := objectOf(listenerSet, s)
		g := c.parentOf(o, s)
		if g == nil {
			continue
		}
		c.setParents[o.name] = nameOf(g)
		c.report.Attachments = append(c.report.Attachments, config.Attachment{Object: o.ref(), Path: "spec.parentRef", To: objectOf("Gateway", g).ref()})
		for i, e := range s.Spec.Listeners {
			l := gatewayv1.Listener{Name: e.Name, Hostname: e.Hostname, Port: e.Port, Protocol: e.Protocol, TLS: e.TLS, AllowedRoutes: e.AllowedRoutes}
			c.openListener(nameOf(g), o, fmt.Sprintf("spec.listeners[%d]", i), &l)
		}
	}
}

// parentOf returns the Gateway that a ListenerSet adds to, or reports why there is none and returns nil.
func (c *compiler) parentOf(o object, s *gatewayv1.ListenerSet) *gatewayv1.Gateway {
	p := s.Spec.ParentRef
	invalid := finding{class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "Invalid", help: "use kind Gateway"}
	if p.Kind != nil && *p.Kind != "Gateway" || p.Group != nil && *p.Group != gatewayv1.GroupName {
		c.add(o, "spec.parentRef.kind", invalid, "ListenerSets add listeners to Gateways only")
		return nil
	}
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: string(p.Name)}
	if p.Namespace != nil {
		name.Namespace = string(*p.Namespace)
	}
	g := c.gateways[name]
	switch {
	case g == nil:
		candidates := names(c.gateways, name.Namespace)
		invalid.help = didYouMean(name.Name, candidates, listing("Gateway in namespace "+name.Namespace, candidates))
		c.add(o, "spec.parentRef.name", invalid, "Gateway %q is not there", name.Name)
		return nil
	case !c.serves(g):
		return nil // another controller's
	}
	from := gatewayv1.RouteNamespaces{From: new(gatewayv1.NamespacesFromNone)}
	if a := g.Spec.AllowedListeners; a != nil && a.Namespaces != nil {
		from.Selector = a.Namespaces.Selector
		if a.Namespaces.From != nil {
			from.From = a.Namespaces.From
		}
	}
	if !c.allowsFrom(&from, name.Namespace, o.name.Namespace) {
		invalid.reason, invalid.help = "NotAllowed", "set spec.allowedListeners.namespaces.from of the Gateway; its default is None"
		c.add(o, "spec.parentRef", invalid, "Gateway %q takes no ListenerSets from namespace %q", name.Name, o.name.Namespace)
		return nil
	}
	return g
}
