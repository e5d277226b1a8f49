package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"log/slog"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// A set is all that the API server has, at one time.
type set struct {
	resources *config.Resources
	problems  []config.Problem
	// own are the objects of our kinds as they are written, with their status.
	own []*unstructured.Unstructured
	// referred are the Secrets that each of them refers to.
	referred []map[reference]bool
	// keys are what session keys are derived from, ownSecrets the controller's, by name; nil without [Proxies].
	keys       masterKeys
	ownSecrets map[string]*corev1.Secret
	// plans are what is to be there for the Gateways, managed is what is there, by [keyOf], and classes the labels of the classes that are
	// ours; nil without [Proxies].
	plans   map[config.ObjectRef]plan
	managed map[string]client.Object
	classes []string
	// addresses are where clients reach the Gateways.
	addresses []string
}

// parsed is what became of one version of an object of our kinds.
type parsed struct {
	version  string
	object   v1alpha1.Object
	problems []config.Problem
	secrets  map[reference]bool
}

// assemble returns all that is known.
func (w *watches) assemble(ctx context.Context) (*set, error) {
	r := &config.Resources{Controller: w.source.opts.Controller, Broken: map[config.ObjectRef]bool{}}
	out := &set{resources: r}
	for kind, into := range map[string]func() error{
		"GatewayClass":     list(ctx, w, &gatewayv1.GatewayClassList{}, func(l *gatewayv1.GatewayClassList) { r.GatewayClasses = pointers(l.Items) }),
		"Gateway":          list(ctx, w, &gatewayv1.GatewayList{}, func(l *gatewayv1.GatewayList) { r.Gateways = pointers(l.Items) }),
		"ListenerSet":      list(ctx, w, &gatewayv1.ListenerSetList{}, func(l *gatewayv1.ListenerSetList) { r.ListenerSets = pointers(l.Items) }),
		"HTTPRoute":        list(ctx, w, &gatewayv1.HTTPRouteList{}, func(l *gatewayv1.HTTPRouteList) { r.HTTPRoutes = pointers(l.Items) }),
		"GRPCRoute":        list(ctx, w, &gatewayv1.GRPCRouteList{}, func(l *gatewayv1.GRPCRouteList) { r.GRPCRoutes = pointers(l.Items) }),
		"ReferenceGrant":   list(ctx, w, &gatewayv1.ReferenceGrantList{}, func(l *gatewayv1.ReferenceGrantList) { r.ReferenceGrants = pointers(l.Items) }),
		"BackendTLSPolicy": list(ctx, w, &gatewayv1.BackendTLSPolicyList{}, func(l *gatewayv1.BackendTLSPolicyList) { r.BackendTLS = pointers(l.Items) }),
		"Service":          list(ctx, w, &corev1.ServiceList{}, func(l *corev1.ServiceList) { r.Services = pointers(l.Items) }),
		"EndpointSlice":    list(ctx, w, &discoveryv1.EndpointSliceList{}, func(l *discoveryv1.EndpointSliceList) { r.EndpointSlices = pointers(l.Items) }),
		"Namespace":        func() error { return w.namespaces(ctx, r) },
	} {
		if w.missing[kind] != nil || kind == "Namespace" && len(w.source.opts.Namespaces) > 0 {
			continue
		}
		if err := into(); err != nil {
			return nil, fmt.Errorf("kind %s: %w", kind, err)
		}
	}
	out.gate(w.source.opts.Experimental)
	wanted := map[reference]bool{}
	if err := w.ownObjects(ctx, out, wanted); err != nil {
		return nil, err
	}
	for _, g := range r.Gateways {
		certificates(g, wanted)
	}
	for _, s := range r.ListenerSets {
		setCertificates(s, wanted)
	}
	for _, p := range r.BackendTLS {
		authorities(p, wanted)
	}
	proxies := w.source.opts.Proxies
	if proxies != nil {
		r.Separate = true
		for _, ref := range proxies.ownSecrets() {
			wanted[ref] = true
		}
	}
	if !w.references.follow(ctx, wanted) {
		w.logger.Error("too many Secrets and ConfigMaps are referred to: the last ones by name are not read", slog.Int("most", maxReferences))
	}
	w.references.found(r)
	if proxies != nil {
		out.ownSecrets = proxies.takeOwn(r)
	}
	out.addresses = w.addresses(ctx)
	if proxies != nil {
		if err := w.managed(ctx, out); err != nil {
			return nil, err
		}
	}
	r.EndpointSlices = w.mentioned(r, out.own)
	r.Fingerprint = fingerprint(r)
	return out, nil
}

// list returns how to read the objects of a kind.
func list[L client.ObjectList](ctx context.Context, w *watches, into L, take func(L)) func() error {
	return func() error {
		if err := w.cache.List(ctx, into); err != nil {
			return err
		}
		take(into)
		return nil
	}
}

// pointers returns the items of a list, which it shares, by age.
func pointers[T any, P interface {
	*T
	metav1.Object
}](items []T) []P {
	out := make([]P, len(items))
	for i := range items {
		out[i] = P(&items[i])
	}
	sortByAge(out)
	return out
}

// sortByAge brings objects into the order of [config.Resources].
func sortByAge[T metav1.Object](objects []T) {
	slices.SortFunc(objects, func(a, b T) int {
		return cmp.Or(
			a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
			cmp.Compare(a.GetNamespace(), b.GetNamespace()),
			cmp.Compare(a.GetName(), b.GetName()),
		)
	})
}

// namespaces reads the Namespaces, of which only the metadata is known.
func (w *watches) namespaces(ctx context.Context, r *config.Resources) error {
	var l metav1.PartialObjectMetadataList
	l.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := w.cache.List(ctx, &l); err != nil {
		return err
	}
	for i := range l.Items {
		r.Namespaces = append(r.Namespaces, &corev1.Namespace{ObjectMeta: l.Items[i].ObjectMeta})
	}
	sortByAge(r.Namespaces)
	return nil
}

// ownObjects reads the objects of our kinds. Each version of one is parsed once.
func (w *watches) ownObjects(ctx context.Context, out *set, wanted map[reference]bool) error {
	seen := map[string]parsed{}
	for _, kind := range v1alpha1.Kinds() {
		if w.missing[kind] != nil {
			continue
		}
		l := &unstructured.UnstructuredList{}
		l.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		if err := w.cache.List(ctx, l); err != nil {
			return fmt.Errorf("kind %s: %w", kind, err)
		}
		objects := make([]*unstructured.Unstructured, len(l.Items))
		for i := range l.Items {
			objects[i] = &l.Items[i]
		}
		sortByAge(objects)
		for _, o := range objects {
			p, ok := w.parsed[string(o.GetUID())]
			if !ok || p.version != o.GetResourceVersion() {
				p = parse(o)
			}
			seen[string(o.GetUID())] = p
			out.add(o, p)
			for ref := range p.secrets {
				wanted[ref] = true
			}
		}
	}
	w.parsed = seen
	return nil
}

// parse reads an object of our kinds.
func parse(o *unstructured.Unstructured) parsed {
	text := runtime.DeepCopyJSON(o.Object)
	p := parsed{version: o.GetResourceVersion(), secrets: map[reference]bool{}}
	p.object, p.problems = config.ParseObject(text)
	secretsOf(o.GetNamespace(), text["spec"], p.secrets)
	return p
}

// add adds an object of our kinds.
func (s *set) add(o *unstructured.Unstructured, p parsed) {
	s.own = append(s.own, o)
	s.referred = append(s.referred, p.secrets)
	s.problems = append(s.problems, p.problems...)
	r := s.resources
	if len(p.problems) > 0 {
		r.Broken[p.problems[0].Object] = true
	}
	r.Add(p.object)
}

// certificates adds what holds the certificates of a Gateway, and the authorities of those of its clients.
func certificates(g *gatewayv1.Gateway, to map[reference]bool) {
	for _, l := range g.Spec.Listeners {
		if l.TLS == nil {
			continue
		}
		for i := range l.TLS.CertificateRefs {
			certificate(g.Namespace, &l.TLS.CertificateRefs[i], to)
		}
	}
	t := g.Spec.TLS
	if t == nil {
		return
	}
	if t.Backend != nil && t.Backend.ClientCertificateRef != nil {
		certificate(g.Namespace, t.Backend.ClientCertificateRef, to)
	}
	if t.Frontend == nil {
		return
	}
	checks := []*gatewayv1.FrontendTLSValidation{t.Frontend.Default.Validation}
	for _, p := range t.Frontend.PerPort {
		checks = append(checks, p.TLS.Validation)
	}
	for _, v := range checks {
		if v == nil {
			continue
		}
		for _, c := range v.CACertificateRefs {
			ref := reference{configMap: c.Kind == "ConfigMap", namespace: g.Namespace, name: string(c.Name)}
			if c.Namespace != nil {
				ref.namespace = string(*c.Namespace)
			}
			if c.Group == "" && (ref.configMap || c.Kind == "Secret") {
				to[ref] = true
			}
		}
	}
}

// setCertificates adds the Secrets with the certificates of a ListenerSet.
func setCertificates(s *gatewayv1.ListenerSet, to map[reference]bool) {
	for _, l := range s.Spec.Listeners {
		if l.TLS == nil {
			continue
		}
		for i := range l.TLS.CertificateRefs {
			certificate(s.Namespace, &l.TLS.CertificateRefs[i], to)
		}
	}
}

// certificate adds the Secret that an object in a namespace refers to.
func certificate(namespace string, c *gatewayv1.SecretObjectReference, to map[reference]bool) {
	ref := reference{namespace: namespace, name: string(c.Name)}
	if c.Namespace != nil {
		ref.namespace = string(*c.Namespace)
	}
	if c.Kind == nil || *c.Kind == "Secret" {
		to[ref] = true
	}
}

// authorities adds what holds the authorities that a BackendTLSPolicy trusts.
func authorities(p *gatewayv1.BackendTLSPolicy, to map[reference]bool) {
	for _, ref := range p.Spec.Validation.CACertificateRefs {
		to[reference{configMap: ref.Kind == "ConfigMap", namespace: p.Namespace, name: string(ref.Name)}] = true
	}
}

// mentioned returns the EndpointSlices of Services that something may lead to: those with a name that
// a route or an object of our kinds has in it, and those that are marked as MCP. Others come and go
// without anything being compiled anew.
func (w *watches) mentioned(r *config.Resources, own []*unstructured.Unstructured) []*discoveryv1.EndpointSlice {
	names := map[string]bool{}
	for _, route := range r.HTTPRoutes {
		for _, rule := range route.Spec.Rules {
			for _, b := range rule.BackendRefs {
				names[string(b.Name)] = true
			}
			for _, f := range rule.Filters {
				if f.RequestMirror != nil {
					names[string(f.RequestMirror.BackendRef.Name)] = true
				}
			}
		}
	}
	for _, route := range r.GRPCRoutes {
		for _, rule := range route.Spec.Rules {
			for _, b := range rule.BackendRefs {
				names[string(b.Name)] = true
			}
			for _, f := range rule.Filters {
				if f.RequestMirror != nil {
					names[string(f.RequestMirror.BackendRef.Name)] = true
				}
			}
		}
	}
	for _, o := range own {
		words(o.Object["spec"], names)
	}
	marked := map[types.NamespacedName]bool{}
	for _, s := range r.Services {
		for _, p := range s.Spec.Ports {
			if p.AppProtocol != nil && strings.Contains(*p.AppProtocol, ".dev/mcp") {
				marked[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = true
			}
		}
	}
	return slices.DeleteFunc(r.EndpointSlices, func(s *discoveryv1.EndpointSlice) bool {
		service := s.Labels[discoveryv1.LabelServiceName]
		return !names[service] && !marked[types.NamespacedName{Namespace: s.Namespace, Name: service}]
	})
}

// words adds all text that stands in v.
func words(v any, to map[string]bool) {
	switch v := v.(type) {
	case string:
		to[v] = true
	case []any:
		for _, item := range v {
			words(item, to)
		}
	case map[string]any:
		for _, sub := range v {
			words(sub, to)
		}
	}
}

// addresses returns where clients reach the Gateways.
func (w *watches) addresses(ctx context.Context) []string {
	if len(w.source.opts.Addresses) > 0 || w.service.Name == "" {
		return w.source.opts.Addresses
	}
	s := &corev1.Service{}
	if err := w.cache.Get(ctx, w.service, s); err != nil {
		return nil // status says that there is no address
	}
	return addressesOf(s)
}

// addressesOf returns where clients reach a Service.
func addressesOf(s *corev1.Service) []string {
	var out []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		out = append(out, cmp.Or(i.IP, i.Hostname))
	}
	if len(out) == 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer && s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.ClusterIP != "" {
		out = append(out, s.Spec.ClusterIP)
	}
	return out
}

// fingerprint identifies what r holds, as far as it matters: status and what tools note about
// objects are left out.
func fingerprint(r *config.Resources) string {
	h := sha256.New()
	add(h, r.GatewayClasses)
	add(h, r.Gateways)
	add(h, r.ListenerSets)
	add(h, r.HTTPRoutes)
	add(h, r.GRPCRoutes)
	add(h, r.ReferenceGrants)
	add(h, r.BackendTLS)
	add(h, r.Backends)
	add(h, r.TrafficPolicies)
	add(h, r.HTTPListenerPolicies)
	add(h, r.GatewayParameters)
	add(h, r.DirectResponses)
	add(h, r.GatewayExtensions)
	add(h, r.BackendConfigPolicies)
	add(h, r.Services)
	add(h, r.EndpointSlices)
	add(h, r.Secrets)
	add(h, r.ConfigMaps)
	add(h, r.Namespaces)
	return hex.EncodeToString(h.Sum(nil))
}

func add[T metav1.Object](h hash.Hash, objects []T) {
	fmt.Fprintf(h, "%T %d\n", objects, len(objects))
	for _, o := range objects {
		version := fmt.Sprint(o.GetGeneration())
		if o.GetGeneration() == 0 { // of kinds that don't count
			version = "v" + o.GetResourceVersion()
		}
		fmt.Fprintf(h, "%s/%s %s %s", o.GetNamespace(), o.GetName(), o.GetUID(), version)
		notes := map[string]string{}
		for k, v := range o.GetAnnotations() {
			if !strings.HasPrefix(k, "kubectl.kubernetes.io/") {
				notes[k] = v
			}
		}
		_ = json.NewEncoder(h).Encode([]map[string]string{o.GetLabels(), notes}) // into a hash, of plain data
	}
}
