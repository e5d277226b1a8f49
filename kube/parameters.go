package kube

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// parameters returns what the GatewayParameters of a Gateway and of its class say: the Gateway's is laid over the class's. An
// error says which can't be used.
func (s *set) parameters(g *gatewayv1.Gateway) (*v1alpha1.GatewayParametersSpec, error) {
	var class, own *v1alpha1.GatewayParametersSpec
	for _, c := range s.resources.GatewayClasses {
		if p := c.Spec.ParametersRef; p != nil && c.Name == string(g.Spec.GatewayClassName) {
			namespace := ""
			if p.Namespace != nil {
				namespace = string(*p.Namespace)
			}
			var err error
			if class, err = s.parametersAt(string(p.Group), string(p.Kind), namespace, p.Name); err != nil {
				return nil, fmt.Errorf("spec.parametersRef of GatewayClass %s: %w", c.Name, err)
			}
		}
	}
	if i := g.Spec.Infrastructure; i != nil && i.ParametersRef != nil {
		p := i.ParametersRef
		var err error
		if own, err = s.parametersAt(string(p.Group), string(p.Kind), g.Namespace, p.Name); err != nil {
			return nil, fmt.Errorf("spec.infrastructure.parametersRef: %w", err)
		}
	}
	switch {
	case own == nil && class == nil:
		return &v1alpha1.GatewayParametersSpec{Kube: &v1alpha1.KubernetesProxy{}}, nil
	case own == nil:
		return class, nil
	case class == nil || class.Kube == nil || own.Kube == nil:
		return own, nil
	}
	return laidOver(class, own)
}

// parametersAt returns the GatewayParameters that a reference names.
func (s *set) parametersAt(group, kind, namespace, name string) (*v1alpha1.GatewayParametersSpec, error) {
	if group != v1alpha1.GroupName || kind != v1alpha1.KindGatewayParameters {
		return nil, fmt.Errorf("%s of group %q is not served: name a %s of group %s", kind, group, v1alpha1.KindGatewayParameters, v1alpha1.GroupName)
	}
	for _, p := range s.resources.GatewayParameters {
		if p.Namespace != namespace || p.Name != name {
			continue
		}
		if ref := refOf(v1alpha1.KindGatewayParameters, p); s.resources.Broken[ref] {
			for _, problem := range s.problems {
				if problem.Object == ref {
					return nil, fmt.Errorf("GatewayParameters %q can't be used: %s", name, text([]config.Problem{problem}, ""))
				}
			}
			return nil, fmt.Errorf("GatewayParameters %q can't be used", name)
		}
		return &p.Spec, nil
	}
	return nil, fmt.Errorf("GatewayParameters %q is not there (it has to be in namespace %q)", name, namespace)
}

// laidOver returns upper laid over lower: field by field, a list as a whole.
func laidOver(lower, upper *v1alpha1.GatewayParametersSpec) (*v1alpha1.GatewayParametersSpec, error) {
	a, err := runtime.DefaultUnstructuredConverter.ToUnstructured(lower)
	if err != nil {
		return nil, err
	}
	b, err := runtime.DefaultUnstructuredConverter.ToUnstructured(upper)
	if err != nil {
		return nil, err
	}
	out := &v1alpha1.GatewayParametersSpec{}
	return out, runtime.DefaultUnstructuredConverter.FromUnstructured(merge(a, b), out)
}

// merge returns upper over lower.
func merge(lower, upper map[string]any) map[string]any {
	out := maps.Clone(lower)
	for k, v := range upper {
		below, isMap := out[k].(map[string]any)
		if over, ok := v.(map[string]any); ok && isMap {
			v = merge(below, over)
		}
		out[k] = v
	}
	return out
}
