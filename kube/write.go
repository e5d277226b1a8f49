package kube

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/delivery"
)

// A written is one version of an object as data planes get it.
type written struct {
	version  string
	object   delivery.Object
	mentions []config.ObjectRef
}

// A writer writes objects for data planes, each version of one once. The zero value is ready.
type writer struct {
	before, now map[types.UID]written
}

// begin lets go of the objects that were not written since it was called last.
func (w *writer) begin() { w.before, w.now = w.now, map[types.UID]written{} }

// write returns an object as data planes get it: without its status, and what tools note about it.
func (w *writer) write(kind string, o metav1.Object) (written, error) {
	if one, ok := w.now[o.GetUID()]; ok {
		return one, nil
	}
	one, ok := w.before[o.GetUID()]
	if !ok || one.version != o.GetResourceVersion() {
		var err error
		if one, err = writeObject(kind, o); err != nil {
			return written{}, fmt.Errorf("writing %s: %w", refOf(kind, o), err)
		}
	}
	w.now[o.GetUID()] = one
	return one, nil
}

func writeObject(kind string, o metav1.Object) (written, error) {
	u, own := o.(*unstructured.Unstructured)
	if own {
		u = u.DeepCopy()
	} else {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return written{}, err
		}
		u = &unstructured.Unstructured{Object: m}
		u.SetKind(kind)
		u.SetAPIVersion(apiVersion(kind))
	}
	delete(u.Object, "status")
	one := written{version: o.GetResourceVersion()}
	u.SetResourceVersion("") // it changes with the status
	u.SetManagedFields(nil)
	notes := u.GetAnnotations()
	if delete(notes, corev1.LastAppliedConfigAnnotation); len(notes) == 0 {
		notes = nil
	}
	u.SetAnnotations(notes)
	text, err := json.Marshal(u.Object)
	if err != nil {
		return written{}, err
	}
	one.object = delivery.NewObject(text)
	if own {
		v1alpha1.Normalize(kind, u.Object)
	}
	mentions := map[config.ObjectRef]bool{}
	mentionsIn("", u.Object["spec"], o.GetNamespace(), mentions)
	for ref := range mentions {
		one.mentions = append(one.mentions, ref)
	}
	return one, nil
}

// apiVersion returns the version of a kind that is not ours.
func apiVersion(kind string) string {
	switch kind {
	case "Service", "Secret", "ConfigMap", "Namespace":
		return corev1.SchemeGroupVersion.String()
	case "EndpointSlice":
		return discoveryv1.SchemeGroupVersion.String()
	}
	return gatewayv1.SchemeGroupVersion.String()
}
