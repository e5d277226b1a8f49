package kube

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

type condition = metav1.Condition

// maxAncestors is how many entries the status of a policy may have (Gateway API, PolicyStatus).
const maxAncestors = 16

// policy writes the status of a policy: an entry for each Gateway or Backend that it is in force at, or for
// what it covers where that is not there. Entries of other controllers stay as they are, where they are.
func (j *judge) policy(u *unstructured.Unstructured) {
	var before gatewayv1.PolicyStatus
	statusInto(u, &before)
	ref := refOf(u.GetKind(), u)
	problems := j.problems[ref]
	ancestors, lost := j.ancestors(u, ref)
	j.ancestry(u.GroupVersionKind(), u, before, ancestors, func(i int) []finding { return policyFindings(problems, i >= len(ancestors)-lost) })
}

// ancestry writes the status of a policy (Gateway API, PolicyStatus) with an entry for each ancestor, of which findings says what the conditions are.
func (j *judge) ancestry(gvk schema.GroupVersionKind, o metav1.Object, before gatewayv1.PolicyStatus, ancestors []gatewayv1.ParentReference, findings func(i int) []finding) {
	var transitions []transition
	wanted := make([]gatewayv1.PolicyAncestorStatus, len(ancestors))
	for i, a := range ancestors {
		var old []condition
		if k := slices.IndexFunc(before.Ancestors, func(s gatewayv1.PolicyAncestorStatus) bool { return j.isAncestor(s, a) }); k >= 0 {
			old = before.Ancestors[k].Conditions
		}
		after, told := merged(old, o.GetGeneration(), findings(i)...)
		wanted[i] = gatewayv1.PolicyAncestorStatus{AncestorRef: a, ControllerName: j.controller, Conditions: after}
		transitions = append(transitions, told...)
	}
	entries := []gatewayv1.PolicyAncestorStatus{}
	for _, s := range before.Ancestors {
		if s.ControllerName != j.controller {
			entries = append(entries, s)
			continue
		}
		if i := slices.IndexFunc(wanted, func(w gatewayv1.PolicyAncestorStatus) bool { return j.isAncestor(s, w.AncestorRef) }); i >= 0 {
			entries = append(entries, wanted[i])
			wanted = slices.Delete(wanted, i, i+1)
		}
	}
	entries = j.summarised(append(entries, wanted...), o.GetGeneration(), before.Ancestors)
	if before.Ancestors == nil {
		before.Ancestors = []gatewayv1.PolicyAncestorStatus{}
	}
	j.change(gvk, o, map[string]any{"ancestors": before.Ancestors}, map[string]any{"ancestors": entries}, transitions)
}

// isAncestor reports whether s is our entry for a.
func (j *judge) isAncestor(s gatewayv1.PolicyAncestorStatus, a gatewayv1.ParentReference) bool {
	return s.ControllerName == j.controller && equality.Semantic.DeepEqual(s.AncestorRef, a)
}

// summarised returns at most as many entries as there may be: what is more is summed up in the last.
func (j *judge) summarised(entries []gatewayv1.PolicyAncestorStatus, generation int64, before []gatewayv1.PolicyAncestorStatus) []gatewayv1.PolicyAncestorStatus {
	if len(entries) <= maxAncestors {
		return entries
	}
	summary := gatewayv1.ParentReference{Name: "StatusSummary"}
	var old []condition
	if k := slices.IndexFunc(before, func(s gatewayv1.PolicyAncestorStatus) bool { return j.isAncestor(s, summary) }); k >= 0 {
		old = before[k].Conditions
	}
	left := len(entries) - (maxAncestors - 1)
	after, _ := merged(old, generation, finding{"StatusSummarized", true, "StatusSummary", fmt.Sprintf("%d more have no entry of their own", left)})
	return append(entries[:maxAncestors-1], gatewayv1.PolicyAncestorStatus{AncestorRef: summary, ControllerName: j.controller, Conditions: after})
}

// ancestors returns where a policy is in force, and behind that the lost ones: what it names and is
// not there.
func (j *judge) ancestors(u *unstructured.Unstructured, ref config.ObjectRef) (out []gatewayv1.ParentReference, lost int) {
	add := func(kind, namespace, name string) {
		group := gatewayv1.Group(gatewayv1.GroupName)
		switch kind {
		case v1alpha1.KindBackend:
			group = v1alpha1.GroupName
		case "Service":
			group = ""
		}
		k, ns := gatewayv1.Kind(kind), gatewayv1.Namespace(namespace)
		p := gatewayv1.ParentReference{Group: &group, Kind: &k, Namespace: &ns, Name: gatewayv1.ObjectName(name)}
		if !slices.ContainsFunc(out, func(o gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(o, p) }) {
			out = append(out, p)
		}
	}
	for _, a := range j.attached[ref] {
		switch a.To.Kind {
		case "HTTPRoute": // in force where the route is
			at := j.attached[a.To]
			for _, g := range at {
				if to, ok := gatewayOf(j.attached, g.To); ok {
					add("Gateway", to.Namespace, to.Name)
				}
			}
			if len(at) == 0 && j.named[a.To] {
				add(a.To.Kind, a.To.Namespace, a.To.Name)
			}
		case "Gateway", "ListenerSet":
			if g, ok := gatewayOf(j.attached, a.To); ok && j.gateways[g] != nil { // others are other controllers'
				add(a.To.Kind, a.To.Namespace, a.To.Name)
			}
		default:
			add(a.To.Kind, a.To.Namespace, a.To.Name)
		}
	}
	there := len(out)
	refs, _, _ := unstructured.NestedSlice(u.Object, "spec", "targetRefs")
	for i := range refs {
		target, _ := refs[i].(map[string]any)
		path := fmt.Sprintf("spec.targetRefs[%d]", i)
		if len(because(at(j.problems[ref], path), "TargetNotFound")) > 0 {
			kind, _ := target["kind"].(string)
			name, _ := target["name"].(string)
			add(kind, u.GetNamespace(), name)
		}
	}
	return out, len(out) - there
}

// policyFindings says what became of a policy; lost is about what is not there.
func policyFindings(problems []config.Problem, lost bool) []finding {
	bad, notes := serious(problems)
	missing := because(bad, "TargetNotFound")
	if lost {
		message := text(missing, "")
		return []finding{{"Accepted", false, "TargetNotFound", message}, {"Attached", false, "TargetNotFound", message}}
	}
	wrong := slices.DeleteFunc(slices.Clone(bad), func(p config.Problem) bool { return p.Reason == "TargetNotFound" })
	if len(wrong) > 0 {
		message := text(wrong, "") + ". Until it is right, what the policy covers answers an error"
		reason := "Invalid"
		if len(because(wrong, "Pending")) == len(wrong) {
			reason = "Pending"
		}
		return []finding{{"Accepted", false, reason, message}, {"Attached", false, "Pending", message}}
	}
	accepted := finding{"Accepted", true, "Valid", noted("The policy is valid", notes)}
	attached := finding{"Attached", true, "Attached", "The policy is in force"}
	if p := because(notes, "Overridden"); len(p) > 0 {
		attached = finding{"Attached", false, "Overridden", text(p, "")}
	} else if p := because(notes, "Merged"); len(p) > 0 {
		attached = finding{"Attached", true, "Merged", text(p, "")}
	}
	return []finding{accepted, attached}
}
