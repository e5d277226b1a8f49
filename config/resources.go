// Package config holds desired state: the [Resources] that a [Source] delivers,
// and the [Report] of what became of them.
//
// [Load] reads resources from YAML and JSON files. Every mistake in all of them is a
// [Problem] with a stable code, the [Position] where it was written and what to do;
// [Render] shows it to people, with an excerpt in which secrets are masked. A
// [FileSource] watches files and delivers them again when they change, unless
// there is a mistake in them: then the last good ones stay. Another source may
// deliver the same Resources from a cluster.
//
// Objects are checked and defaulted here as an API server does it: those of the
// gateway.kgateway.dev kinds by package v1alpha1, those of the Gateway API and of
// Kubernetes by a table of rules. References are not resolved and expressions not
// compiled: package gateway does that, and says where with the [Positions]. Package
// config knows nothing of how resources are served.
package config

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// Resources is the complete desired state: every object, defaulted, neither
// resolved nor compiled. It is read-only once a Source has delivered it. Objects
// of a kind are sorted by creation time, then namespace and name; from files the
// creation time is the order of appearance.
type Resources struct {
	GatewayClasses  []*gatewayv1.GatewayClass
	Gateways        []*gatewayv1.Gateway
	ListenerSets    []*gatewayv1.ListenerSet
	HTTPRoutes      []*gatewayv1.HTTPRoute
	GRPCRoutes      []*gatewayv1.GRPCRoute
	ReferenceGrants []*gatewayv1.ReferenceGrant
	BackendTLS      []*gatewayv1.BackendTLSPolicy

	Backends              []*v1alpha1.Backend
	TrafficPolicies       []*v1alpha1.TrafficPolicy
	HTTPListenerPolicies  []*v1alpha1.HTTPListenerPolicy
	GatewayParameters     []*v1alpha1.GatewayParameters
	DirectResponses       []*v1alpha1.DirectResponse
	GatewayExtensions     []*v1alpha1.GatewayExtension
	BackendConfigPolicies []*v1alpha1.BackendConfigPolicy

	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Secrets        []*corev1.Secret
	ConfigMaps     []*corev1.ConfigMap
	Namespaces     []*corev1.Namespace

	// Local says that the resources come from files on this machine: stdio
	// targets are allowed, and a Gateway is assumed where none is written.
	Local bool

	// Broken are the objects above that hold a mistake which their own schema did not keep
	// out, as a cluster can have them: none of them is served, and what a policy among them
	// covers answers 500. From files there are none, since a mistake refuses the whole set.
	Broken map[ObjectRef]bool `json:"-"`

	// Separate says that each Gateway is served by processes of its own, so that it shares no port with
	// another.
	Separate bool

	// Controller is the controllerName of the GatewayClasses that are served; "" is the one
	// that upstream's manifests name.
	Controller string

	// Fingerprint identifies the content: equal fingerprints, equal resources.
	Fingerprint string

	// Positions finds where a field was written; nil when unknown.
	Positions *Positions
}

// Beside returns the resources with those of files beside them, which may be nil. It is a cluster's set, whatever the files
// would be alone.
func (r *Resources) Beside(files *Resources) *Resources {
	if files == nil {
		return r
	}
	out := *r
	out.GatewayClasses = slices.Concat(files.GatewayClasses, r.GatewayClasses)
	out.Gateways = slices.Concat(files.Gateways, r.Gateways)
	out.ListenerSets = slices.Concat(files.ListenerSets, r.ListenerSets)
	out.HTTPRoutes = slices.Concat(files.HTTPRoutes, r.HTTPRoutes)
	out.GRPCRoutes = slices.Concat(files.GRPCRoutes, r.GRPCRoutes)
	out.ReferenceGrants = slices.Concat(files.ReferenceGrants, r.ReferenceGrants)
	out.BackendTLS = slices.Concat(files.BackendTLS, r.BackendTLS)
	out.Backends = slices.Concat(files.Backends, r.Backends)
	out.TrafficPolicies = slices.Concat(files.TrafficPolicies, r.TrafficPolicies)
	out.HTTPListenerPolicies = slices.Concat(files.HTTPListenerPolicies, r.HTTPListenerPolicies)
	out.GatewayParameters = slices.Concat(files.GatewayParameters, r.GatewayParameters)
	out.DirectResponses = slices.Concat(files.DirectResponses, r.DirectResponses)
	out.GatewayExtensions = slices.Concat(files.GatewayExtensions, r.GatewayExtensions)
	out.BackendConfigPolicies = slices.Concat(files.BackendConfigPolicies, r.BackendConfigPolicies)
	out.Services = slices.Concat(files.Services, r.Services)
	out.EndpointSlices = slices.Concat(files.EndpointSlices, r.EndpointSlices)
	out.Secrets = slices.Concat(files.Secrets, r.Secrets)
	out.ConfigMaps = slices.Concat(files.ConfigMaps, r.ConfigMaps)
	out.Namespaces = slices.Concat(files.Namespaces, r.Namespaces)
	out.Positions = files.Positions
	out.Fingerprint = r.Fingerprint + "+" + files.Fingerprint
	return &out
}

// Add appends an object of one of the kinds of package v1alpha1 to the list of its kind.
func (r *Resources) Add(o v1alpha1.Object) {
	switch o := o.(type) {
	case *v1alpha1.Backend:
		r.Backends = append(r.Backends, o)
	case *v1alpha1.TrafficPolicy:
		r.TrafficPolicies = append(r.TrafficPolicies, o)
	case *v1alpha1.HTTPListenerPolicy:
		r.HTTPListenerPolicies = append(r.HTTPListenerPolicies, o)
	case *v1alpha1.GatewayParameters:
		r.GatewayParameters = append(r.GatewayParameters, o)
	case *v1alpha1.DirectResponse:
		r.DirectResponses = append(r.DirectResponses, o)
	case *v1alpha1.GatewayExtension:
		r.GatewayExtensions = append(r.GatewayExtensions, o)
	case *v1alpha1.BackendConfigPolicy:
		r.BackendConfigPolicies = append(r.BackendConfigPolicies, o)
	}
}

// A Source delivers desired state and is told what became of it.
type Source interface {
	// Run delivers the complete resources to apply, first as soon as they are
	// known and then after each change, until ctx ends. apply is called from one
	// goroutine at a time.
	Run(ctx context.Context, apply func(*Resources) *Report) error
}
