package v1alpha1

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// An UnservedField is a field that is written and that the data plane does not
// serve yet.
//
// +kubebuilder:object:generate=false
type UnservedField struct {
	Path string // spec.rateLimit
	// Protects says that the field restricts or protects, or that nothing works
	// without it: what the object covers answers 500 rather than going on
	// without. Otherwise the field is left out, and a warning is enough.
	Protects bool
	Message  string // what happens, for the author
}

// An unserved is a field that the data plane does not serve yet.
//
// +kubebuilder:object:generate=false
type unserved struct {
	kind     string
	path     string // a pattern, see normalizer.each
	protects bool
	effect   string // what happens instead; empty: what Protects says
}

// unservedFields lists what the data plane does not serve yet. A field that
// package gateway begins to serve is taken off the list.
func unservedFields() []unserved {
	return []unserved{
		{kind: KindGatewayExtension, path: "spec.extProc.metadataOptions.forwarding.typed", effect: "there is no typed metadata to send"},
	}
}

// Unserved returns the fields of obj, a pointer to a kind of this package, that
// are written and that the data plane does not serve yet, in the order in which
// the reference lists them. It returns nil for other objects.
func Unserved(obj any) []UnservedField {
	o, ok := obj.(runtime.Object)
	if !ok {
		return nil
	}
	kind := kindOf(o)
	var m map[string]any
	var out []UnservedField
	for _, u := range unservedFields() {
		if u.kind != kind {
			continue
		}
		if m == nil {
			var err error
			if m, err = runtime.DefaultUnstructuredConverter.ToUnstructured(o); err != nil {
				return nil
			}
		}
		v, ok := get(m, u.path)
		if !ok || v == nil {
			continue
		}
		out = append(out, UnservedField{Path: u.path, Protects: u.protects, Message: u.message(v)})
	}
	return out
}

// message says what becomes of the field, whose value is v.
func (u *unserved) message(v any) string {
	what := strings.TrimPrefix(u.path, "spec.")
	if s, ok := v.(string); ok {
		what += " " + s
	}
	effect := cmp.Or(u.effect, "what this policy covers answers 500, rather than going on without it")
	return fmt.Sprintf("%s is not served yet: %s", what, effect)
}

// kindOf returns the kind of a pointer to a type of this package, or "".
func kindOf(o runtime.Object) string {
	switch o.(type) {
	case *Backend:
		return KindBackend
	case *TrafficPolicy:
		return KindTrafficPolicy
	case *HTTPListenerPolicy:
		return KindHTTPListenerPolicy
	case *GatewayParameters:
		return KindGatewayParameters
	case *DirectResponse:
		return KindDirectResponse
	case *GatewayExtension:
		return KindGatewayExtension
	case *BackendConfigPolicy:
		return KindBackendConfigPolicy
	}
	return ""
}
