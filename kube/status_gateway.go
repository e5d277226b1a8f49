package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
)

// gateway writes the status of a Gateway (Gateway API, GatewayStatus).
func (j *judge) gateway(g *gatewayv1.Gateway) {
	ref := refOf("Gateway", g)
	problems := slices.Concat(j.problems[ref], j.told(g))
	var listeners []gatewayv1.ListenerStatus
	var transitions []transition
	var whole []config.Problem // what is wrong beside the listeners
	for _, p := range problems {
		if !within(p.Path, "spec.listeners") && !within(p.Path, "spec.tls") {
			whole = append(whole, p)
		}
	}
	refs := finding{"ResolvedRefs", true, "ResolvedRefs", "All references are resolved"}
	good := 0
	for i := range g.Spec.Listeners {
		l := &g.Spec.Listeners[i]
		h := holder{ref: ref, generation: g.Generation}
		for _, before := range g.Status.Listeners {
			if before.Name == l.Name {
				h.before = before.Conditions
			}
		}
		s, programmed, told := j.listener(g, l, h, at(problems, fmt.Sprintf("spec.listeners[%d]", i)))
		listeners, transitions = append(listeners, s), append(transitions, told...)
		if programmed {
			good++
		}
		if meta.IsStatusConditionFalse(s.Conditions, "ResolvedRefs") {
			refs = finding{"ResolvedRefs", false, "ListenersNotResolved", "not all references of listeners are resolved: see the conditions of each"}
		}
	}
	if p, _ := serious(at(problems, "spec.tls.backend")); len(p) > 0 {
		refs = finding{"ResolvedRefs", false, p[0].Reason, text(p, "") + ". Until it is right, what BackendTLSPolicies cover answers 500"}
	}
	bad, notes := serious(whole)
	accepted := finding{"Accepted", true, "Accepted", noted("The Gateway is served", notes)}
	switch {
	case len(bad) > 0:
		accepted = finding{"Accepted", false, "Invalid", text(bad, "")}
		for _, reason := range []string{"UnsupportedAddress", "InvalidParameters"} {
			if len(because(bad, reason)) > 0 {
				accepted.reason = reason
			}
		}
	case good == 0:
		accepted = finding{"Accepted", false, "ListenersNotValid", "no listener can be served: see the conditions of each"}
	case good < len(g.Spec.Listeners):
		accepted = finding{"Accepted", true, "ListenersNotValid", "not all listeners can be served: see the conditions of each"}
	}
	reach := j.reach(g, ref)
	programmed := reach.programmed
	ready := finding{"Ready", true, "Ready", reach.ready}
	keep := false
	switch {
	case !accepted.yes:
		programmed = finding{"Programmed", false, "Invalid", accepted.message}
		ready = finding{"Ready", false, "ListenersNotReady", accepted.message}
	case reach.blocked != "":
		programmed = finding{"Programmed", false, "Invalid", reach.blocked}
		ready = finding{"Ready", false, "Pending", reach.blocked}
	case len(reach.unusable) > 0:
		programmed = finding{"Programmed", false, "AddressNotUsable", fmt.Sprintf("clients don't reach the Gateway at %s, as spec.addresses says: %s",
			strings.Join(reach.unusable, ", "), cmp.Or(reach.lacking, "the addresses that it has are in status.addresses"))}
		ready = finding{"Ready", false, "Pending", programmed.message}
	case len(reach.addresses) == 0:
		programmed = finding{"Programmed", false, "AddressNotAssigned", reach.lacking}
		ready = finding{"Ready", false, "Pending", programmed.message}
	case !programmed.yes:
		ready = finding{"Ready", false, "Pending", programmed.message}
		keep = reach.keep
	case reach.waiting != "":
		ready = finding{"Ready", false, "Pending", reach.waiting}
	case good < len(g.Spec.Listeners):
		ready = finding{"Ready", false, "ListenersNotReady", accepted.message}
	}
	after := g.Status.DeepCopy()
	var told []transition
	findings := []finding{accepted}
	for _, f := range []finding{programmed, ready} {
		if c := meta.FindStatusCondition(after.Conditions, f.kind); !keep || c == nil || c.Status == metav1.ConditionUnknown {
			findings = append(findings, f)
		}
	}
	if !refs.yes || g.Spec.TLS != nil || meta.FindStatusCondition(after.Conditions, refs.kind) != nil { // else there is nothing to resolve
		findings = append(findings, refs)
	}
	if ports := fallbackPorts(g); len(ports) > 0 {
		findings = append(findings, finding{insecureClients, true, "ConfigurationChanged", fmt.Sprintf("clients are served whatever certificate they show on port %v", ports)})
	} else {
		after.Conditions = slices.DeleteFunc(after.Conditions, func(c condition) bool { return c.Type == insecureClients })
	}
	after.Conditions, told = merged(after.Conditions, g.Generation, findings...)
	if c := meta.FindStatusCondition(after.Conditions, programmed.kind); c != nil { // it may be what was said before
		programmed.yes, programmed.message = c.Status == metav1.ConditionTrue, c.Message
	}
	after.Listeners = listeners
	after.AttachedListenerSets = nil // not every release of the Gateway API has it
	if n := j.listenerSets(g, accepted, programmed); n > 0 {
		after.AttachedListenerSets = &n
	}
	after.Addresses = nil
	for _, a := range reach.addresses {
		kind := addressType(a)
		after.Addresses = append(after.Addresses, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a})
	}
	fields := func(s *gatewayv1.GatewayStatus) map[string]any {
		return map[string]any{"conditions": s.Conditions, "listeners": s.Listeners, "addresses": s.Addresses, "attachedListenerSets": s.AttachedListenerSets}
	}
	j.change(gatewayKind("Gateway"), g, fields(&g.Status), fields(after), append(told, transitions...))
}

// insecureClients is the type of the condition that says that clients are served whatever certificate they show.
const insecureClients = string(gatewayv1.GatewayConditionInsecureFrontendValidationMode)

// fallbackPorts returns the ports on which clients are served whatever certificate they show.
func fallbackPorts(g *gatewayv1.Gateway) (out []int32) {
	for _, l := range g.Spec.Listeners {
		_, v := validationOf(g, &l)
		if v != nil && v.Mode == gatewayv1.AllowInsecureFallback && !slices.Contains(out, int32(l.Port)) {
			out = append(out, int32(l.Port))
		}
	}
	return out
}

// validationOf returns what a Gateway says of the certificates that clients of a listener show, with its path; nil for nothing.
func validationOf(g *gatewayv1.Gateway, l *gatewayv1.Listener) (path string, v *gatewayv1.FrontendTLSValidation) {
	if l.Protocol != gatewayv1.HTTPSProtocolType {
		return "", nil
	}
	return config.ClientValidation(g, int32(l.Port))
}

// addressType returns the type of an address: that of an IP address, or of a host name.
func addressType(a string) gatewayv1.AddressType {
	if _, err := netip.ParseAddr(a); err == nil {
		return gatewayv1.IPAddressType
	}
	return gatewayv1.HostnameAddressType
}

// A reach is how clients reach a Gateway, and what of that is still to come.
type reach struct {
	addresses  []string
	unusable   []string // of those that the Gateway says it has
	programmed finding  // what is said when there are addresses
	keep       bool     // that is not certain: what was said before stays
	ready      string   // what is said when all is well
	blocked    string   // why it can't be deployed
	lacking    string   // why there is no address
	waiting    string   // why nothing serves yet
}

// reach returns how clients reach a Gateway.
func (j *judge) reach(g *gatewayv1.Gateway, ref config.ObjectRef) reach {
	out := j.wayTo(g, ref)
	for _, a := range g.Spec.Addresses {
		if a.Value != "" && !slices.Contains(out.addresses, a.Value) {
			out.unusable = append(out.unusable, a.Value)
		}
	}
	return out
}

// wayTo returns how clients reach a Gateway: this process, or what was deployed for it.
func (j *judge) wayTo(g *gatewayv1.Gateway, ref config.ObjectRef) reach {
	p, separate := j.plans[ref]
	if !separate {
		return reach{
			addresses: j.addresses, programmed: finding{"Programmed", true, "Programmed", "The listeners are open"}, ready: "The listeners are open",
			lacking: "the listeners are open, but nothing says at which address clients reach them: give the gateway --publish-address, or --publish-service with a Service that has an address",
		}
	}
	name := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
	programmed, keep, uptake := j.programmed(g, p)
	out := reach{programmed: programmed, keep: keep, blocked: j.blocked[ref], addresses: j.addresses}
	service := j.service(name)
	if len(out.addresses) == 0 && service != nil {
		out.addresses = addressesOf(service)
	}
	if len(out.addresses) == 0 && p.selfManaged {
		for _, a := range g.Spec.Addresses {
			if a.Value != "" {
				out.addresses = append(out.addresses, a.Value)
			}
		}
	}
	switch {
	case service == nil && p.selfManaged:
		out.lacking = fmt.Sprintf("nothing says at which address clients reach the data planes: write spec.addresses, or make a Service %q", nameFor(g.Name))
	case service == nil:
		out.lacking = fmt.Sprintf("there is no Service %q yet, through which clients reach the Gateway", nameFor(g.Name))
	case service.Spec.Type == corev1.ServiceTypeLoadBalancer:
		out.lacking = fmt.Sprintf("Service %q has no address: the cluster gives one to Services of type LoadBalancer, or set spec.kube.service.type of GatewayParameters to ClusterIP", service.Name)
	default:
		out.lacking = fmt.Sprintf("Service %q has no address", service.Name)
	}
	n := int32(len(uptake.all))
	if !p.selfManaged {
		switch d := j.deployment(name); {
		case d == nil:
			out.waiting = fmt.Sprintf("there is no Deployment %q yet", nameFor(g.Name))
		case d.Status.ReadyReplicas == 0:
			out.waiting = fmt.Sprintf("no Pod of Deployment %q is ready: kubectl describe deployment %s -n %s", d.Name, d.Name, d.Namespace)
		default:
			n = d.Status.ReadyReplicas
		}
	}
	if out.ready = fmt.Sprintf("%d data planes serve", n); n == 1 {
		out.ready = "A data plane serves"
	}
	return out
}

// A holder is what a listener is written in: a Gateway, or a ListenerSet that adds to it.
type holder struct {
	ref        config.ObjectRef
	set        bool
	generation int64
	before     []condition // of the listener
}

// listener returns the status of a listener of a Gateway, with its own problems, and whether it is open.
func (j *judge) listener(g *gatewayv1.Gateway, l *gatewayv1.Listener, h holder, problems []config.Problem) (s gatewayv1.ListenerStatus, open bool, told []transition) {
	bad, notes := serious(problems)
	path, validation := validationOf(g, l)
	var clients []config.Problem // what is wrong with the authorities of clients' certificates
	if validation != nil {
		var more []config.Problem
		clients, more = serious(at(j.problems[refOf("Gateway", g)], path))
		notes = append(notes, more...)
	}
	s = gatewayv1.ListenerStatus{Name: l.Name, SupportedKinds: supported(l), AttachedRoutes: int32(j.taken[h.ref][string(l.Name)])}
	accepted := finding{"Accepted", true, "Accepted", noted("The listener is valid", notes)}
	if p := because(bad, "UnsupportedProtocol", "PortUnavailable"); len(p) > 0 {
		accepted = finding{"Accepted", false, p[0].Reason, text(p, "")}
	} else if validation != nil && len(clients) >= len(validation.CACertificateRefs) {
		accepted = finding{"Accepted", false, "NoValidCACertificate", text(clients, "") + ". Until there is one, nobody is let in"}
		bad = append(bad, clients...)
	}
	refs := finding{"ResolvedRefs", true, "ResolvedRefs", "All references are resolved"}
	if p := append(because(bad, "InvalidCertificateRef", "RefNotPermitted", "InvalidRouteKinds"), clients...); len(p) > 0 {
		refs = finding{"ResolvedRefs", false, p[0].Reason, text(p, "")}
	}
	conflicted := finding{"Conflicted", false, "NoConflicts", "No other listener is in the way"}
	if p := because(bad, "HostnameConflict", "ProtocolConflict"); len(p) > 0 {
		conflicted = finding{"Conflicted", true, p[0].Reason, text(p, "")}
	}
	programmed := finding{"Programmed", true, "Programmed", "The listener is open"}
	fatal := bad[:0:0]
	for _, p := range bad {
		if p.Reason != "InvalidRouteKinds" { // it is open for the kinds that are served
			fatal = append(fatal, p)
		}
	}
	if len(fatal) > 0 {
		programmed = finding{"Programmed", false, "Invalid", text(fatal, "")}
	}
	if h.set && conflicted.yes {
		accepted = finding{"Accepted", false, conflicted.reason, conflicted.message}
		programmed.reason = conflicted.reason
	}
	s.Conditions, told = merged(h.before, h.generation, accepted, programmed, refs, conflicted)
	return s, programmed.yes, told
}

// supported returns the kinds of routes that a listener takes: of those that it allows, those
// that are served.
func supported(l *gatewayv1.Listener) []gatewayv1.RouteGroupKind {
	group := gatewayv1.Group(gatewayv1.GroupName)
	out := []gatewayv1.RouteGroupKind{}
	if l.Protocol != gatewayv1.HTTPProtocolType && l.Protocol != gatewayv1.HTTPSProtocolType {
		return out
	}
	for _, kind := range []gatewayv1.Kind{"HTTPRoute", "GRPCRoute"} {
		if l.AllowedRoutes == nil || len(l.AllowedRoutes.Kinds) == 0 || slices.ContainsFunc(l.AllowedRoutes.Kinds, func(k gatewayv1.RouteGroupKind) bool {
			return k.Kind == kind && (k.Group == nil || *k.Group == group)
		}) {
			out = append(out, gatewayv1.RouteGroupKind{Group: &group, Kind: kind})
		}
	}
	return out
}
