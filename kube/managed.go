package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// managedKinds returns the kinds of which the controller makes objects, as those that it made are watched, by name. Services are
// watched as a whole, for others' sake.
func managedKinds() map[string]client.Object {
	kinds := map[string]client.Object{"Deployment": &appsv1.Deployment{}}
	for _, gvk := range []schema.GroupVersionKind{
		{Version: "v1", Kind: "ServiceAccount"}, {Version: "v1", Kind: "ConfigMap"},
		{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}, {Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	} {
		o := &metav1.PartialObjectMetadata{}
		o.SetGroupVersionKind(gvk)
		kinds[gvk.Kind] = o
	}
	return kinds
}

// managed reads what the controller has made.
func (w *watches) managed(ctx context.Context, out *set) error {
	out.managed = map[string]client.Object{}
	for kind, o := range managedKinds() {
		if w.missing[kind] != nil {
			continue
		}
		if kind == "Deployment" {
			var l appsv1.DeploymentList
			if err := w.cache.List(ctx, &l); err != nil {
				return fmt.Errorf("kind %s: %w", kind, err)
			}
			for i := range l.Items {
				out.managed[keyOf(kind, &l.Items[i])] = &l.Items[i]
			}
			continue
		}
		gvk := o.GetObjectKind().GroupVersionKind()
		var l metav1.PartialObjectMetadataList
		l.SetGroupVersionKind(gvk.GroupVersion().WithKind(kind + "List"))
		if err := w.cache.List(ctx, &l); err != nil {
			return fmt.Errorf("kind %s: %w", kind, err)
		}
		for i := range l.Items {
			l.Items[i].SetGroupVersionKind(gvk)
			out.managed[keyOf(kind, &l.Items[i])] = &l.Items[i]
		}
	}
	for _, s := range out.resources.Services {
		if s.Labels[managedBy] == manager {
			out.managed[keyOf("Service", s)] = s
		}
	}
	for _, c := range out.resources.GatewayClasses {
		if string(c.Spec.ControllerName) == w.source.opts.Controller {
			out.classes = append(out.classes, labelOf(c.Name))
		}
	}
	return nil
}

// deployment returns the Deployment that was made for a Gateway, nil when there is none.
func (s *set) deployment(gateway types.NamespacedName) *appsv1.Deployment {
	d, _ := s.managed["Deployment/"+gateway.Namespace+"/"+nameFor(gateway.Name)].(*appsv1.Deployment)
	return d
}

// service returns the Service with the name of what is made for a Gateway, nil when there is none.
func (s *set) service(gateway types.NamespacedName) *corev1.Service {
	for _, o := range s.resources.Services {
		if o.Namespace == gateway.Namespace && o.Name == nameFor(gateway.Name) {
			return o
		}
	}
	return nil
}

// labelOf returns a name as the value of a label.
func labelOf(name string) string {
	if len(name) > 63 {
		return nameFor(name)
	}
	return name
}
