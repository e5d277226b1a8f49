package delivery

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// A delivered is what a [Set] holds.
type delivered struct {
	resources *config.Resources
	problems  []config.Problem
	keys      [][]byte // session keys, none when the set has none
}

// A decoder reads sets. Each version of an object is read once.
type decoder struct {
	kinds map[string]kind
	known map[string]decoded
}

// A decoded is what an object is.
type decoded struct {
	version  string
	object   metav1.Object
	problems []config.Problem
	add      func(*config.Resources, metav1.Object)
}

// A kind is a kind of object that data planes take.
type kind struct {
	read func(text []byte) (metav1.Object, []config.Problem, error)
	add  func(*config.Resources, metav1.Object)
}

func newDecoder() *decoder {
	d := &decoder{known: map[string]decoded{}, kinds: map[string]kind{
		"GatewayClass":     of(func(r *config.Resources) *[]*gatewayv1.GatewayClass { return &r.GatewayClasses }),
		"Gateway":          of(func(r *config.Resources) *[]*gatewayv1.Gateway { return &r.Gateways }),
		"ListenerSet":      of(func(r *config.Resources) *[]*gatewayv1.ListenerSet { return &r.ListenerSets }),
		"HTTPRoute":        of(func(r *config.Resources) *[]*gatewayv1.HTTPRoute { return &r.HTTPRoutes }),
		"GRPCRoute":        of(func(r *config.Resources) *[]*gatewayv1.GRPCRoute { return &r.GRPCRoutes }),
		"ReferenceGrant":   of(func(r *config.Resources) *[]*gatewayv1.ReferenceGrant { return &r.ReferenceGrants }),
		"BackendTLSPolicy": of(func(r *config.Resources) *[]*gatewayv1.BackendTLSPolicy { return &r.BackendTLS }),
		"Service":          of(func(r *config.Resources) *[]*corev1.Service { return &r.Services }),
		"EndpointSlice":    of(func(r *config.Resources) *[]*discoveryv1.EndpointSlice { return &r.EndpointSlices }),
		"Secret":           of(func(r *config.Resources) *[]*corev1.Secret { return &r.Secrets }),
		"ConfigMap":        of(func(r *config.Resources) *[]*corev1.ConfigMap { return &r.ConfigMaps }),
		"Namespace":        of(func(r *config.Resources) *[]*corev1.Namespace { return &r.Namespaces }),
	}}
	for _, own := range v1alpha1.Kinds() {
		d.kinds[own] = kind{read: readOwn, add: func(r *config.Resources, o metav1.Object) { r.Add(o.(v1alpha1.Object)) }}
	}
	return d
}

// of returns how objects of a type of Kubernetes or the Gateway API are taken.
func of[T any, P interface {
	*T
	metav1.Object
}](list func(*config.Resources) *[]P) kind {
	return kind{
		read: func(text []byte) (metav1.Object, []config.Problem, error) {
			o := P(new(T))
			return o, nil, json.Unmarshal(text, o)
		},
		add: func(r *config.Resources, o metav1.Object) { to := list(r); *to = append(*to, o.(P)) },
	}
}

// readOwn reads an object of our kinds, in the spelling that it is written in.
func readOwn(text []byte) (metav1.Object, []config.Problem, error) {
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, nil, err
	}
	o, problems := config.ParseObject(m)
	if o == nil {
		return nil, nil, errors.New("its kind is not what its name says")
	}
	return o, problems, nil
}

// decode reads a set. A kind that is not known is an error: what it says could restrict something.
func (d *decoder) decode(s Set) (delivered, error) {
	out := delivered{resources: &config.Resources{Broken: map[config.ObjectRef]bool{}, Fingerprint: s.version()}}
	known := make(map[string]decoded, len(s))
	for name, o := range s {
		if name == sessionKeys {
			if err := json.Unmarshal(o.JSON, &out.keys); err != nil {
				return delivered{}, fmt.Errorf("reading the session keys: %w", err)
			}
			continue
		}
		one, ok := d.known[name]
		if !ok || one.version != o.Version {
			kindName, _, _ := strings.Cut(name, "/")
			k, ok := d.kinds[kindName]
			if !ok {
				return delivered{}, fmt.Errorf("%s is of a kind that this version does not know: update the data plane", name)
			}
			object, problems, err := k.read(o.JSON)
			if err != nil {
				return delivered{}, fmt.Errorf("reading %s: %w", name, err)
			}
			one = decoded{version: o.Version, object: object, problems: problems, add: k.add}
		}
		known[name] = one
	}
	d.known = known
	for _, one := range slices.SortedFunc(maps.Values(known), byAge) {
		one.add(out.resources, one.object)
		if len(one.problems) > 0 {
			out.resources.Broken[one.problems[0].Object] = true
			out.problems = append(out.problems, one.problems...)
		}
	}
	for _, c := range out.resources.GatewayClasses { // there is one
		out.resources.Controller = string(c.Spec.ControllerName)
	}
	return out, nil
}

// byAge brings objects into the order of [config.Resources].
func byAge(a, b decoded) int {
	return cmp.Or(
		a.object.GetCreationTimestamp().Compare(b.object.GetCreationTimestamp().Time),
		cmp.Compare(a.object.GetNamespace(), b.object.GetNamespace()),
		cmp.Compare(a.object.GetName(), b.object.GetName()),
	)
}
