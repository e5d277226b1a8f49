package config

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

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
