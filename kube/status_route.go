package kube

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// A judged is a route whose status is written.
type judged struct {
	metav1.Object
	kind   string
	spec   *gatewayv1.CommonRouteSpec
	rules  int
	status *gatewayv1.RouteStatus
}

// route writes the status of a route (Gateway API, RouteStatus): an entry for each of our Gateways
// that it names. Entries of other controllers stay as they are, where they are.
func (j *judge) route(r judged) {
	ref := refOf(r.kind, r)
	wanted := map[int]gatewayv1.RouteParentStatus{}
	var transitions []transition
	for i, p := range r.spec.ParentRefs {
		if !j.isOurs(r.GetNamespace(), p) {
			continue
		}
		j.named[ref] = true
		var before gatewayv1.RouteParentStatus
		if k := slices.IndexFunc(r.status.Parents, func(s gatewayv1.RouteParentStatus) bool { return j.isEntry(s, p) }); k >= 0 {
			before = r.status.Parents[k]
		}
		findings := j.routeFindings(ref, r, i)
		conditions := before.Conditions
		if len(findings) < 3 { // nothing is partially invalid any more
			conditions = slices.DeleteFunc(slices.Clone(conditions), func(c condition) bool { return c.Type == string(gatewayv1.RouteConditionPartiallyInvalid) })
		}
		after, told := merged(conditions, r.GetGeneration(), findings...)
		wanted[i] = gatewayv1.RouteParentStatus{ParentRef: p, ControllerName: j.controller, Conditions: after}
		transitions = append(transitions, told...)
	}
	parents := []gatewayv1.RouteParentStatus{}
	for _, s := range r.status.Parents {
		if s.ControllerName != j.controller {
			parents = append(parents, s)
			continue
		}
		for i, p := range r.spec.ParentRefs {
			if w, ok := wanted[i]; ok && j.isEntry(s, p) {
				parents = append(parents, w)
				delete(wanted, i)
				break
			}
		}
	}
	for i := range r.spec.ParentRefs {
		if w, ok := wanted[i]; ok {
			parents = append(parents, w)
		}
	}
	before := r.status.Parents
	if before == nil {
		before = []gatewayv1.RouteParentStatus{}
	}
	j.change(gatewayKind(r.kind), r.Object, map[string]any{"parents": before}, map[string]any{"parents": parents}, transitions)
}

// isOurs reports whether a parentRef names one of our Gateways, or a ListenerSet that names one.
func (j *judge) isOurs(namespace string, p gatewayv1.ParentReference) bool {
	if p.Group != nil && *p.Group != gatewayv1.GroupName {
		return false
	}
	if p.Namespace != nil {
		namespace = string(*p.Namespace)
	}
	if p.Kind != nil && *p.Kind == "ListenerSet" {
		return j.sets[config.ObjectRef{Kind: "ListenerSet", Namespace: namespace, Name: string(p.Name)}]
	}
	if p.Kind != nil && *p.Kind != "Gateway" {
		return false
	}
	return j.gateways[config.ObjectRef{Kind: "Gateway", Namespace: namespace, Name: string(p.Name)}] != nil
}

// isEntry reports whether s is our entry for p.
func (j *judge) isEntry(s gatewayv1.RouteParentStatus, p gatewayv1.ParentReference) bool {
	return s.ControllerName == j.controller && equality.Semantic.DeepEqual(s.ParentRef, p)
}

// routeFindings says what became of a route at the parent of number i.
func (j *judge) routeFindings(ref config.ObjectRef, r judged, i int) []finding {
	path := fmt.Sprintf("spec.parentRefs[%d]", i)
	bad, notes := serious(j.problems[ref])
	attached := slices.ContainsFunc(j.attached[ref], func(a config.Attachment) bool { return a.Path == path })
	unsupported := because(bad, "UnsupportedValue", "IncompatibleFilters")
	for _, p := range bad {
		if p.Reason == "" || p.Reason == "Invalid" {
			unsupported = append(unsupported, p)
		}
	}
	rules := map[string]bool{} // those that are not served as they are written
	for _, p := range unsupported {
		for k := range r.rules {
			if rule := fmt.Sprintf("spec.rules[%d]", k); within(p.Path, rule) {
				rules[rule] = true
			}
		}
	}
	accepted := finding{"Accepted", true, "Accepted", noted("The route is served", notes)}
	reason := func(p []config.Problem) string {
		if p[0].Reason == "" || p[0].Reason == "Invalid" {
			return "UnsupportedValue"
		}
		return p[0].Reason
	}
	own := at(bad, path)
	hosts := because(bad, "NoMatchingListenerHostname")
	switch {
	case !attached && len(own) > 0:
		accepted = finding{"Accepted", false, reason(own), text(own, "")}
	case !attached && len(hosts) > 0:
		accepted = finding{"Accepted", false, "NoMatchingListenerHostname", text(hosts, "")}
	case !attached && len(unsupported) > 0, len(unsupported) > 0 && len(rules) == r.rules:
		accepted = finding{"Accepted", false, reason(unsupported), text(unsupported, "")}
	case !attached:
		accepted = finding{"Accepted", false, "NoMatchingParent", "no listener takes the route"}
	}
	refs := finding{"ResolvedRefs", true, "ResolvedRefs", "All references are resolved"}
	if p := because(bad, "BackendNotFound", "RefNotPermitted", "InvalidKind", "UnsupportedProtocol"); len(p) > 0 {
		refs = finding{"ResolvedRefs", false, p[0].Reason, text(p, "")}
	}
	findings := []finding{accepted, refs}
	if accepted.yes && len(unsupported) > 0 {
		findings = append(findings, finding{"PartiallyInvalid", true, "UnsupportedValue", "some rules answer 500: " + text(unsupported, "")})
	}
	return findings
}
