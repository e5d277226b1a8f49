package gateway

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// A reference is one object's reference to another, for the check of its ReferenceGrant.
type reference struct {
	from, fromGroup string // kind and group
	to, toGroup     string
}

// permitted reports whether an object in namespace from may refer to one of that
// name in namespace to: the same namespace, or a ReferenceGrant there (Gateway API,
// ReferenceGrant).
func (c *compiler) permitted(r reference, from, to, name string) bool {
	if from == to {
		return true
	}
	for _, g := range c.res.ReferenceGrants {
		if g.Namespace != to {
			continue
		}
		fits := slices.ContainsFunc(g.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
			return string(f.Group) == r.fromGroup && string(f.Kind) == r.from && string(f.Namespace) == from
		})
		if fits && slices.ContainsFunc(g.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
			return string(t.Group) == r.toGroup && string(t.Kind) == r.to && (t.Name == nil || string(*t.Name) == name)
		}) {
			return true
		}
	}
	return false
}

// refNotPermitted reports a reference that lacks a ReferenceGrant.
func (c *compiler) refNotPermitted(o object, path string, r reference, to, name string) {
	c.add(o, path, finding{
		class: config.Unresolved, code: config.CodeNotPermitted, reason: "RefNotPermitted",
		help: fmt.Sprintf("add a ReferenceGrant in namespace %q from %s in namespace %q to %s", to, r.from, o.name.Namespace, r.to),
	}, "%s %s is in another namespace, which does not permit the reference", r.to, to+"/"+name)
}

func sorted(in []string) []string {
	slices.Sort(in)
	return in
}

// hostnameOf returns a hostname of the Gateway API in lower case, "" for nil.
func hostnameOf(h *gatewayv1.Hostname) string {
	if h == nil {
		return ""
	}
	return strings.ToLower(string(*h))
}
