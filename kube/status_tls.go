package kube

import (
	"cmp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// backendTLS writes the status of a BackendTLSPolicy: an entry for each of our Gateways that reaches a Service that it covers.
func (j *judge) backendTLS(p *gatewayv1.BackendTLSPolicy) {
	gateways := map[config.ObjectRef]bool{}
	for _, t := range p.Spec.TargetRefs {
		for g := range j.reaching[config.ObjectRef{Kind: string(t.Kind), Namespace: p.Namespace, Name: string(t.Name)}] {
			gateways[g] = j.gateways[g] != nil // others are other controllers'
		}
	}
	var ancestors []gatewayv1.ParentReference
	for g, ours := range gateways {
		if !ours {
			continue
		}
		group, kind, namespace := gatewayv1.Group(gatewayv1.GroupName), gatewayv1.Kind("Gateway"), gatewayv1.Namespace(g.Namespace)
		ancestors = append(ancestors, gatewayv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gatewayv1.ObjectName(g.Name)})
	}
	slices.SortFunc(ancestors, func(a, b gatewayv1.ParentReference) int {
		return cmp.Or(strings.Compare(string(*a.Namespace), string(*b.Namespace)), strings.Compare(string(a.Name), string(b.Name)))
	})
	findings := tlsFindings(j.problems[refOf("BackendTLSPolicy", p)])
	j.ancestry(gatewayKind("BackendTLSPolicy"), p, p.Status, ancestors, func(int) []finding { return findings })
}

// tlsFindings says what became of a BackendTLSPolicy.
func tlsFindings(problems []config.Problem) []finding {
	bad, notes := serious(problems)
	accepted := finding{"Accepted", true, "Accepted", noted("The policy is in force", notes)}
	refs := finding{"ResolvedRefs", true, "ResolvedRefs", "All references are resolved"}
	lacking := because(bad, "InvalidCACertificateRef", "InvalidKind")
	if len(lacking) > 0 {
		refs = finding{"ResolvedRefs", false, lacking[0].Reason, text(lacking, "")}
	}
	conflicts := because(bad, "Conflicted")
	switch {
	case len(conflicts) > 0:
		accepted = finding{"Accepted", false, "Conflicted", text(conflicts, "")}
	case len(lacking) > 0:
		accepted = finding{"Accepted", false, "NoValidCACertificate", text(lacking, "") + ". Until it is right, what the policy covers answers 500"}
	case len(bad) > 0:
		accepted = finding{"Accepted", false, "Invalid", text(bad, "")}
	}
	return []finding{accepted, refs}
}

// reached returns the Gateways from which a route leads to a Service: itself, by a mirror, or by a target of an MCP Backend.
func (o *outcome) reached(attached map[config.ObjectRef][]config.Attachment) map[config.ObjectRef]map[config.ObjectRef]bool {
	targets := map[config.ObjectRef][]config.ObjectRef{} // Services, by MCP Backend
	for _, b := range o.resources.Backends {
		if b.Spec.MCP == nil {
			continue
		}
		ref := refOf(v1alpha1.KindBackend, b)
		for _, t := range b.Spec.MCP.Targets {
			if t.Service != nil {
				targets[ref] = append(targets[ref], config.ObjectRef{Kind: "Service", Namespace: cmp.Or(t.Service.Namespace, b.Namespace), Name: t.Service.Name})
			}
		}
	}
	out := map[config.ObjectRef]map[config.ObjectRef]bool{}
	leads := func(route config.ObjectRef, to gatewayv1.BackendObjectReference) {
		ref := config.ObjectRef{Kind: "Service", Namespace: route.Namespace, Name: string(to.Name)}
		if to.Kind != nil {
			ref.Kind = string(*to.Kind)
		}
		if to.Namespace != nil {
			ref.Namespace = string(*to.Namespace)
		}
		for _, service := range append(slices.Clone(targets[ref]), ref) {
			for _, a := range attached[route] {
				if out[service] == nil {
					out[service] = map[config.ObjectRef]bool{}
				}
				out[service][a.To] = true
			}
		}
	}
	for _, r := range o.resources.HTTPRoutes {
		route := refOf("HTTPRoute", r)
		for _, rule := range r.Spec.Rules {
			for _, b := range rule.BackendRefs {
				leads(route, b.BackendObjectReference)
			}
			for _, f := range rule.Filters {
				if f.RequestMirror != nil {
					leads(route, f.RequestMirror.BackendRef)
				}
			}
		}
	}
	for _, r := range o.resources.GRPCRoutes {
		for _, rule := range r.Spec.Rules {
			for _, b := range rule.BackendRefs {
				leads(refOf("GRPCRoute", r), b.BackendObjectReference)
			}
		}
	}
	return out
}
