package kube

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/delivery"
)

// A sharing finds what each data plane needs of all there is.
type sharing struct {
	*set
	writer   *writer
	named    map[config.ObjectRef]metav1.Object      // what can be reached by name
	attached map[config.ObjectRef][]config.ObjectRef // routes and policies, by what they are in force at
	slices   map[config.ObjectRef][]metav1.Object    // by Service
	secrets  map[config.ObjectRef]map[reference]bool // that objects of our kinds refer to
}

// share returns what the data planes of each Gateway need: what is attached to it, and what can be reached from
// there by a reference that is permitted.
func (s *set) share(report *config.Report, gateways []*gatewayv1.Gateway, w *writer) (map[types.NamespacedName]delivery.Set, error) {
	all := &sharing{
		set: s, writer: w,
		named: map[config.ObjectRef]metav1.Object{}, attached: map[config.ObjectRef][]config.ObjectRef{},
		slices: map[config.ObjectRef][]metav1.Object{}, secrets: map[config.ObjectRef]map[reference]bool{},
	}
	r := s.resources
	for i, o := range s.own {
		ref := refOf(o.GetKind(), o)
		all.named[ref], all.secrets[ref] = o, s.referred[i]
	}
	for _, o := range r.Services {
		all.named[refOf("Service", o)] = o
	}
	for _, o := range r.ListenerSets {
		all.named[refOf("ListenerSet", o)] = o
	}
	for _, o := range r.HTTPRoutes {
		all.named[refOf("HTTPRoute", o)] = o
	}
	for _, o := range r.GRPCRoutes {
		all.named[refOf("GRPCRoute", o)] = o
	}
	for _, o := range r.EndpointSlices {
		service := config.ObjectRef{Kind: "Service", Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
		all.slices[service] = append(all.slices[service], o)
	}
	for _, a := range report.Attachments {
		all.attached[a.To] = append(all.attached[a.To], a.Object)
	}
	for _, o := range r.BackendTLS {
		ref := refOf("BackendTLSPolicy", o)
		all.named[ref], all.secrets[ref] = o, map[reference]bool{}
		authorities(o, all.secrets[ref])
		for _, t := range o.Spec.TargetRefs {
			to := config.ObjectRef{Kind: string(t.Kind), Namespace: o.Namespace, Name: string(t.Name)}
			all.attached[to] = append(all.attached[to], ref)
		}
	}
	w.begin()
	out := map[types.NamespacedName]delivery.Set{}
	for _, g := range gateways {
		one := &share{sharing: all, out: delivery.Set{}, in: map[config.ObjectRef]bool{}, namespaces: map[string]bool{}, wanted: map[reference]bool{}}
		one.gateway(g)
		if one.err != nil {
			return nil, one.err
		}
		out[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}] = one.out
	}
	return out, nil
}

// reaching returns the Gateways whose data planes need each BackendTLSPolicy.
func reaching(policies []*gatewayv1.BackendTLSPolicy, shares map[types.NamespacedName]delivery.Set) map[config.ObjectRef][]types.NamespacedName {
	out := map[config.ObjectRef][]types.NamespacedName{}
	for _, p := range policies {
		for g, share := range shares {
			if _, ok := share[delivery.Name("BackendTLSPolicy", p)]; ok {
				ref := refOf("BackendTLSPolicy", p)
				out[ref] = append(out[ref], g)
			}
		}
	}
	return out
}

// A share is what the data planes of one Gateway need.
type share struct {
	*sharing
	out        delivery.Set
	in         map[config.ObjectRef]bool
	namespaces map[string]bool    // something of which is in it
	wanted     map[reference]bool // Secrets and ConfigMaps
	err        error
}

// gateway adds a Gateway and all that it takes to serve it.
func (s *share) gateway(g *gatewayv1.Gateway) {
	for _, c := range s.resources.GatewayClasses {
		if c.Name == string(g.Spec.GatewayClassName) {
			s.add("GatewayClass", c)
		}
	}
	s.add("Gateway", g)
	shown := map[reference]bool{}
	certificates(g, shown)
	s.want(refOf("Gateway", g), shown)
	for _, o := range s.resources.ListenerSets {
		if ref := refOf("ListenerSet", o); s.in[ref] {
			shown := map[reference]bool{}
			setCertificates(o, shown)
			s.want(ref, shown)
		}
	}
	for _, o := range s.resources.Secrets {
		if s.wants(false, o) {
			s.add("Secret", o)
		}
	}
	for _, o := range s.resources.ConfigMaps {
		if s.wants(true, o) {
			s.add("ConfigMap", o)
		}
	}
	for _, o := range s.resources.ReferenceGrants {
		if s.namespaces[o.Namespace] {
			s.add("ReferenceGrant", o)
		}
	}
	for _, o := range s.resources.Namespaces {
		if s.namespaces[o.Name] {
			s.add("Namespace", o)
		}
	}
}

// want adds the Secrets and ConfigMaps that an object may refer to.
func (s *share) want(from config.ObjectRef, to map[reference]bool) {
	for ref := range to {
		kind := "Secret"
		if ref.configMap {
			kind = "ConfigMap"
		}
		if s.permitted(from, config.ObjectRef{Kind: kind, Namespace: ref.namespace, Name: ref.name}) {
			s.wanted[ref] = true
			s.namespaces[ref.namespace] = true
		}
	}
}

// add adds an object, and what can be reached from it.
func (s *share) add(kind string, o metav1.Object) {
	ref := refOf(kind, o)
	if s.in[ref] || s.err != nil {
		return
	}
	s.in[ref] = true
	s.namespaces[o.GetNamespace()] = true
	w, err := s.writer.write(kind, o)
	if err != nil {
		s.err = err
		return
	}
	s.out[delivery.Name(kind, o)] = w.object
	for _, a := range s.attached[ref] {
		if found := s.named[a]; found != nil {
			s.add(a.Kind, found)
		}
	}
	for _, m := range w.mentions {
		if found := s.named[m]; found != nil && s.permitted(ref, m) {
			s.add(m.Kind, found)
		}
	}
	for _, slice := range s.slices[ref] {
		s.add("EndpointSlice", slice)
	}
	for secret := range s.secrets[ref] {
		s.wanted[secret] = true
	}
	if kind == v1alpha1.KindBackend {
		s.selected(ref)
	}
}

// selected adds the Services that an MCP Backend selects.
func (s *share) selected(ref config.ObjectRef) {
	for _, b := range s.resources.Backends {
		if b.Namespace != ref.Namespace || b.Name != ref.Name || b.Spec.MCP == nil {
			continue
		}
		for _, t := range b.Spec.MCP.Targets {
			if t.Selector == nil {
				continue
			}
			for _, o := range s.resources.Services {
				if s.selects(t.Selector, b.Namespace, o) {
					s.add("Service", o)
				}
			}
		}
	}
}

// selects reports whether a selector in a namespace selects a Service.
func (s *share) selects(spec *v1alpha1.MCPSelectorTarget, namespace string, o *corev1.Service) bool {
	if spec.Service != nil {
		services, err := metav1.LabelSelectorAsSelector(spec.Service)
		if err != nil || !services.Matches(labels.Set(o.Labels)) {
			return false
		}
	}
	if spec.Namespace == nil {
		return o.Namespace == namespace
	}
	namespaces, err := metav1.LabelSelectorAsSelector(spec.Namespace)
	if err != nil {
		return false
	}
	of := labels.Set{}
	for _, n := range s.resources.Namespaces {
		if n.Name == o.Namespace {
			of = labels.Merge(of, n.Labels)
		}
	}
	return namespaces.Matches(labels.Merge(of, labels.Set{corev1.LabelMetadataName: o.Namespace}))
}

// wants reports whether a Secret or ConfigMap is referred to.
func (s *share) wants(configMap bool, o metav1.Object) bool {
	for ref := range s.wanted {
		if ref.configMap != configMap || ref.namespace != o.GetNamespace() {
			continue
		}
		if ref.name == o.GetName() {
			return true
		}
		if ref.labels != "" {
			if selector, err := labels.Parse(ref.labels); err == nil && selector.Matches(labels.Set(o.GetLabels())) {
				return true
			}
		}
	}
	return false
}

// permitted reports whether an object may refer to another: in the same namespace, to a GatewayExtension, or by a
// ReferenceGrant (Gateway API, ReferenceGrant).
func (s *share) permitted(from, to config.ObjectRef) bool {
	if from.Namespace == to.Namespace || to.Kind == v1alpha1.KindGatewayExtension {
		return true
	}
	return slices.ContainsFunc(s.resources.ReferenceGrants, func(g *gatewayv1.ReferenceGrant) bool {
		return g.Namespace == to.Namespace && slices.ContainsFunc(g.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
			return string(f.Kind) == from.Kind && string(f.Namespace) == from.Namespace
		}) && slices.ContainsFunc(g.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
			return string(t.Kind) == to.Kind && (t.Name == nil || string(*t.Name) == to.Name)
		})
	})
}

// mentionsIn adds what v, the spec of an object in its canonical spelling, refers to by name: what has a kind, or stands in a field whose name
// says that it is a reference. Policies and routes, which refer to what they are in force at, are found by that.
func mentionsIn(field string, v any, namespace string, to map[config.ObjectRef]bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			mentionsIn(field, item, namespace, to)
		}
	case string:
		if field == "staticClusterName" {
			to[config.ObjectRef{Kind: "Service", Namespace: namespace, Name: v}] = true
			to[config.ObjectRef{Kind: v1alpha1.KindBackend, Namespace: namespace, Name: v}] = true
		}
	case map[string]any:
		if name, _ := v["name"].(string); name != "" {
			ref := config.ObjectRef{Namespace: namespace, Name: name}
			if other, _ := v["namespace"].(string); other != "" {
				ref.Namespace = other
			}
			kind, _ := v["kind"].(string)
			group, _ := v["group"].(string)
			for _, ref.Kind = range meant(field, kind, group) {
				to[ref] = true
			}
		}
		for k, sub := range v {
			switch k {
			case "parentRef", "parentRefs", "targetRefs", "targetSelectors", "secretRef", "certificateRefs", "caCertificateRefs", "parametersRef":
			default:
				mentionsIn(k, sub, namespace, to)
			}
		}
	}
}

// meant returns the kinds that a reference in a field may mean, none when it is no reference that is followed.
func meant(field, kind, group string) []string {
	all := []string{"Service", v1alpha1.KindBackend, v1alpha1.KindGatewayExtension, v1alpha1.KindDirectResponse, v1alpha1.KindTrafficPolicy}
	switch {
	case kind != "":
		if slices.Contains(all, kind) {
			return []string{kind}
		}
	case field == "service", strings.HasPrefix(field, "backendRef") && group == "":
		return []string{"Service"}
	case strings.HasSuffix(field, "Ref"), strings.HasSuffix(field, "Refs"):
		return all
	}
	return nil
}
