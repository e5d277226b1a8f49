package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

//go:generate go tool -modfile=../../hack/tools/go.mod controller-gen object paths=.
//go:generate go tool -modfile=../../hack/tools/go.mod controller-gen crd:allowDangerousTypes=true paths=. output:crd:dir=crds

// GroupName is the API group of all kinds of the package.
const GroupName = "gateway.kgateway.dev"

// GroupVersion is the group and version of all kinds of the package.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// The kinds of the package.
const (
	KindBackend             = "Backend"
	KindTrafficPolicy       = "TrafficPolicy"
	KindHTTPListenerPolicy  = "HTTPListenerPolicy"
	KindGatewayParameters   = "GatewayParameters"
	KindDirectResponse      = "DirectResponse"
	KindGatewayExtension    = "GatewayExtension"
	KindBackendConfigPolicy = "BackendConfigPolicy"
)

// Kinds returns the names of all kinds of the package, in the order in which
// documents list them.
func Kinds() []string {
	return []string{
		KindBackend, KindTrafficPolicy, KindHTTPListenerPolicy, KindBackendConfigPolicy,
		KindDirectResponse, KindGatewayExtension, KindGatewayParameters,
	}
}

// An Object is a pointer to a kind of this package.
//
// +kubebuilder:object:generate=false
type Object interface {
	runtime.Object
	metav1.Object
	// Validate returns every mistake in the object that can be seen in it
	// alone, with field paths.
	Validate() field.ErrorList

	rules() field.ErrorList // what Validate reports beyond the schema
}

// New returns an empty object of kind, or nil when the package has no such kind.
func New(kind string) Object {
	switch kind {
	case KindBackend:
		return &Backend{}
	case KindTrafficPolicy:
		return &TrafficPolicy{}
	case KindHTTPListenerPolicy:
		return &HTTPListenerPolicy{}
	case KindGatewayParameters:
		return &GatewayParameters{}
	case KindDirectResponse:
		return &DirectResponse{}
	case KindGatewayExtension:
		return &GatewayExtension{}
	case KindBackendConfigPolicy:
		return &BackendConfigPolicy{}
	}
	return nil
}

// AddToScheme registers the kinds of the package, and their lists, with s.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Backend{}, &BackendList{},
		&TrafficPolicy{}, &TrafficPolicyList{},
		&HTTPListenerPolicy{}, &HTTPListenerPolicyList{},
		&GatewayParameters{}, &GatewayParametersList{},
		&DirectResponse{}, &DirectResponseList{},
		&GatewayExtension{}, &GatewayExtensionList{},
		&BackendConfigPolicy{}, &BackendConfigPolicyList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
