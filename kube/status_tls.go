package kube

import (
	"cmp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// backendTLS writes the status of a BackendTLSPolicy: an entry for each of our Gateways that reaches a Service that it covers, on whatever way.
func (j *judge) backendTLS(p *gatewayv1.BackendTLSPolicy) {
	var ancestors []gatewayv1.ParentReference
	for _, g := range j.reaching[refOf("BackendTLSPolicy", p)] {
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
