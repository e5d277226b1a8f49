package config

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// CheckRest adds to report, which is of loading r and has Invalid problems, those that
// check finds in the objects without any: so that one run tells of the mistakes in
// all of them. What else check finds is left out, since references to objects
// that can't be checked seem to lead nowhere.
func (r *Resources) CheckRest(report *Report, check func(*Resources) *Report) {
	bad := map[ObjectRef]bool{}
	for _, p := range report.Problems {
		if p.Class == Invalid {
			bad[p.Object] = true
		}
	}
	found := check(r.without(bad))
	for _, p := range found.Problems {
		if p.Class == Invalid && !bad[p.Object] {
			report.Add(p)
		}
	}
}

// without returns r without some objects.
func (r *Resources) without(bad map[ObjectRef]bool) *Resources {
	return &Resources{
		GatewayClasses:  rest(r.GatewayClasses, "GatewayClass", bad),
		Gateways:        rest(r.Gateways, "Gateway", bad),
		ListenerSets:    rest(r.ListenerSets, "ListenerSet", bad),
		HTTPRoutes:      rest(r.HTTPRoutes, "HTTPRoute", bad),
		GRPCRoutes:      rest(r.GRPCRoutes, "GRPCRoute", bad),
		ReferenceGrants: rest(r.ReferenceGrants, "ReferenceGrant", bad),
		BackendTLS:      rest(r.BackendTLS, "BackendTLSPolicy", bad),

		Backends:              rest(r.Backends, v1alpha1.KindBackend, bad),
		TrafficPolicies:       rest(r.TrafficPolicies, v1alpha1.KindTrafficPolicy, bad),
		HTTPListenerPolicies:  rest(r.HTTPListenerPolicies, v1alpha1.KindHTTPListenerPolicy, bad),
		GatewayParameters:     rest(r.GatewayParameters, v1alpha1.KindGatewayParameters, bad),
		DirectResponses:       rest(r.DirectResponses, v1alpha1.KindDirectResponse, bad),
		GatewayExtensions:     rest(r.GatewayExtensions, v1alpha1.KindGatewayExtension, bad),
		BackendConfigPolicies: rest(r.BackendConfigPolicies, v1alpha1.KindBackendConfigPolicy, bad),

		Services:       rest(r.Services, "Service", bad),
		EndpointSlices: rest(r.EndpointSlices, "EndpointSlice", bad),
		Secrets:        rest(r.Secrets, "Secret", bad),
		ConfigMaps:     rest(r.ConfigMaps, "ConfigMap", bad),
		Namespaces:     rest(r.Namespaces, "Namespace", bad),

		Local:     r.Local,
		Positions: r.Positions,
	}
}

// rest returns the objects of a kind that are not bad.
func rest[P metav1.Object](list []P, kind string, bad map[ObjectRef]bool) []P {
	var out []P
	for _, o := range list {
		if !bad[ObjectRef{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}] {
			out = append(out, o)
		}
	}
	return out
}

// find returns the object of that namespace and name, or nil.
func find[P metav1.Object](list []P, namespace, name string) P {
	for _, o := range list {
		if o.GetName() == name && o.GetNamespace() == namespace {
			return o
		}
	}
	var none P
	return none
}

// Gateway returns the Gateway of that namespace and name, or nil.
func (r *Resources) Gateway(namespace, name string) *gatewayv1.Gateway {
	return find(r.Gateways, namespace, name)
}

// HTTPRoute returns the HTTPRoute of that namespace and name, or nil.
func (r *Resources) HTTPRoute(namespace, name string) *gatewayv1.HTTPRoute {
	return find(r.HTTPRoutes, namespace, name)
}

// Backend returns the Backend of that namespace and name, or nil.
func (r *Resources) Backend(namespace, name string) *v1alpha1.Backend {
	return find(r.Backends, namespace, name)
}

// DirectResponse returns the DirectResponse of that namespace and name, or nil.
func (r *Resources) DirectResponse(namespace, name string) *v1alpha1.DirectResponse {
	return find(r.DirectResponses, namespace, name)
}

// GatewayExtension returns the GatewayExtension of that namespace and name, or nil.
func (r *Resources) GatewayExtension(namespace, name string) *v1alpha1.GatewayExtension {
	return find(r.GatewayExtensions, namespace, name)
}

// Service returns the Service of that namespace and name, or nil.
func (r *Resources) Service(namespace, name string) *corev1.Service {
	return find(r.Services, namespace, name)
}

// Secret returns the Secret of that namespace and name, or nil.
func (r *Resources) Secret(namespace, name string) *corev1.Secret {
	return find(r.Secrets, namespace, name)
}

// ConfigMap returns the ConfigMap of that namespace and name, or nil.
func (r *Resources) ConfigMap(namespace, name string) *corev1.ConfigMap {
	return find(r.ConfigMaps, namespace, name)
}

// NamespaceLabels returns the labels of a namespace: those of its Namespace object,
// if there is one, and kubernetes.io/metadata.name.
func (r *Resources) NamespaceLabels(namespace string) map[string]string {
	labels := map[string]string{corev1.LabelMetadataName: namespace}
	if ns := find(r.Namespaces, "", namespace); ns != nil {
		for k, v := range ns.Labels {
			labels[k] = v
		}
	}
	return labels
}

// Slices returns the EndpointSlices of the Service of that namespace and name: those
// with the label kubernetes.io/service-name.
func (r *Resources) Slices(namespace, service string) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, s := range r.EndpointSlices {
		if s.Namespace == namespace && s.Labels[discoveryv1.LabelServiceName] == service {
			out = append(out, s)
		}
	}
	return out
}

// ClientValidation returns what a Gateway, which may be nil, says of the certificates that clients of its HTTPS listeners on a port
// show, and the path of that; nil where it says nothing (Gateway API, FrontendTLSConfig).
func ClientValidation(g *gatewayv1.Gateway, port int32) (path string, v *gatewayv1.FrontendTLSValidation) {
	if g == nil || g.Spec.TLS == nil || g.Spec.TLS.Frontend == nil {
		return "", nil
	}
	f := g.Spec.TLS.Frontend
	for i := range f.PerPort {
		if int32(f.PerPort[i].Port) == port {
			return fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i), f.PerPort[i].TLS.Validation
		}
	}
	return "spec.tls.frontend.default.validation", f.Default.Validation
}
