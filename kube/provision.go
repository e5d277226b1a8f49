package kube

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// The labels and ports of data planes.
const (
	nameLabel     = "app.kubernetes.io/name"
	instanceLabel = "app.kubernetes.io/instance"
	gatewayLabel  = "gateway.networking.k8s.io/gateway-name"
	classLabel    = "gateway.networking.k8s.io/gateway-class-name"

	adminPort   = 15000
	peerPort    = 15010
	metricsPort = 15020
	readyPort   = 15021

	tokenDir  = "/var/run/secrets/mcpgw"
	caDir     = "/etc/mcpgw/controller"
	customDir = "/etc/mcpgw/custom"
	userID    = 65532
)

// reserved reports whether a data plane uses a port itself.
func reserved(port int32) bool {
	return slices.Contains([]int32{adminPort, peerPort, metricsPort, readyPort}, port)
}

// A provision is what a Gateway gets: the objects that run its data planes.
type provision struct {
	gateway *gatewayv1.Gateway
	sets    []*gatewayv1.ListenerSet // that add to it
	spec    v1alpha1.KubernetesProxy
	proxies *Proxies
}

// objects returns the objects of the Gateway, as they are applied: nothing that is left to Kubernetes or to others is in them.
func (p *provision) objects() ([]*unstructured.Unstructured, error) {
	typed := []runtime.Object{p.serviceAccount(), p.configMap(), p.deployment()}
	if s := p.service(); len(s.Spec.Ports) > 0 {
		typed = append(typed, s)
	}
	if b := p.spec.PodDisruptionBudget; b != nil {
		typed = append(typed, p.disruptionBudget(&b.Spec))
	}
	if a := p.spec.HorizontalPodAutoscaler; a != nil {
		typed = append(typed, p.autoscaler(&a.Spec))
	}
	var out []*unstructured.Unstructured
	for _, o := range typed {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("writing what Gateway %s gets: %w", p.gateway.Name, err)
		}
		delete(m, "status")
		bare(m)
		out = append(out, &unstructured.Unstructured{Object: m})
	}
	return out, nil
}

// bare takes out what the encoding of the types adds: null, and the strategy of nothing.
func bare(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			if bare(v); len(v) == 0 && (k == "strategy" || k == "resources") {
				delete(m, k)
			}
		case []any:
			for _, item := range v {
				if sub, ok := item.(map[string]any); ok {
					bare(sub)
				}
			}
		}
	}
}

// selector returns the labels that tell the Pods of this Gateway from others. They never change.
func (p *provision) selector() map[string]string {
	name := nameFor(p.gateway.Name)
	return map[string]string{nameLabel: name, instanceLabel: name, gatewayLabel: name}
}

// meta returns the metadata of one of the objects.
func (p *provision) meta(extraLabels, extraAnnotations map[string]string) metav1.ObjectMeta {
	labels, annotations := map[string]string{}, map[string]string{}
	if i := p.gateway.Spec.Infrastructure; i != nil {
		for k, v := range i.Labels {
			labels[string(k)] = string(v)
		}
		for k, v := range i.Annotations {
			annotations[string(k)] = string(v)
		}
	}
	maps.Copy(labels, extraLabels)
	maps.Copy(annotations, extraAnnotations)
	maps.Copy(labels, p.selector())
	labels[managedBy] = manager
	labels[classLabel] = labelOf(string(p.gateway.Spec.GatewayClassName))
	yes := true
	return metav1.ObjectMeta{
		Namespace: p.gateway.Namespace, Name: nameFor(p.gateway.Name), Labels: labels, Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: p.gateway.Name, UID: p.gateway.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		}},
	}
}

func (p *provision) serviceAccount() *corev1.ServiceAccount {
	var labels, annotations map[string]string
	if a := p.spec.ServiceAccount; a != nil {
		labels, annotations = a.ExtraLabels, a.ExtraAnnotations
	}
	no := false
	return &corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: p.meta(labels, annotations), AutomountServiceAccountToken: &no,
	}
}

// configMap holds what data planes check the controller's certificate with.
func (p *provision) configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: p.meta(nil, nil), Data: map[string]string{corev1.ServiceAccountRootCAKey: p.proxies.Identity.authorities()},
	}
}

// ports returns the listeners that are served, one for each port, in order.
func (p *provision) ports() []gatewayv1.Listener {
	var out []gatewayv1.Listener
	for _, l := range listenersOf(p.gateway, p.sets) {
		if l.Protocol != gatewayv1.HTTPProtocolType && l.Protocol != gatewayv1.HTTPSProtocolType || reserved(int32(l.Port)) {
			continue
		}
		if !slices.ContainsFunc(out, func(o gatewayv1.Listener) bool { return o.Port == l.Port }) {
			out = append(out, l)
		}
	}
	return out
}

// listenersOf returns the listeners of a Gateway with those of ListenerSets.
func listenersOf(g *gatewayv1.Gateway, sets []*gatewayv1.ListenerSet) []gatewayv1.Listener {
	out := slices.Clone(g.Spec.Listeners)
	for _, s := range sets {
		for i := range s.Spec.Listeners {
			out = append(out, asListener(&s.Spec.Listeners[i]))
		}
	}
	return out
}

// asListener returns a listener of a ListenerSet as one of a Gateway, which has the same fields.
func asListener(e *gatewayv1.ListenerEntry) gatewayv1.Listener {
	return gatewayv1.Listener{Name: e.Name, Hostname: e.Hostname, Port: e.Port, Protocol: e.Protocol, TLS: e.TLS, AllowedRoutes: e.AllowedRoutes}
}

func (p *provision) service() *corev1.Service {
	spec := p.spec.Service
	if spec == nil {
		spec = &v1alpha1.ProxyService{}
	}
	s := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: p.meta(spec.ExtraLabels, spec.ExtraAnnotations),
		Spec: corev1.ServiceSpec{
			Type: cmp.Or(spec.Type, corev1.ServiceTypeLoadBalancer), ClusterIP: spec.ClusterIP, Selector: p.selector(), ExternalTrafficPolicy: spec.ExternalTrafficPolicy,
		},
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Spec.LoadBalancerIP = p.address()
	}
	for _, l := range p.ports() {
		name := portName(&l)
		if slices.ContainsFunc(s.Spec.Ports, func(other corev1.ServicePort) bool { return other.Name == name }) {
			name = fmt.Sprintf("port-%d", l.Port)
		}
		port := corev1.ServicePort{Name: name, Port: int32(l.Port), TargetPort: intstr.FromInt32(int32(l.Port)), Protocol: corev1.ProtocolTCP}
		for _, given := range spec.Ports {
			if given.Port == port.Port && given.NodePort != nil {
				port.NodePort = *given.NodePort
			}
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	return s
}

// address returns the IP address that the Gateway is to have, "" to leave it to the cluster. The status of the Gateway says so when it gets
// another.
func (p *provision) address() string {
	for _, a := range p.gateway.Spec.Addresses {
		if a.Value != "" && (a.Type == nil || *a.Type == gatewayv1.IPAddressType) {
			return a.Value
		}
	}
	return ""
}

// portName returns the name of the port of a listener: that of the listener where a port can have it.
func portName(l *gatewayv1.Listener) string {
	name := strings.Trim(regexp.MustCompile("[^a-z0-9-]+").ReplaceAllString(strings.ToLower(string(l.Name)), "-"), "-")
	if name == "" || len(name) > 63 {
		name = fmt.Sprintf("port-%d", l.Port)
	}
	return name
}

func (p *provision) deployment() *appsv1.Deployment {
	spec, pod := p.spec.Deployment, p.spec.PodTemplate
	if spec == nil {
		spec = &v1alpha1.ProxyDeployment{}
	}
	if pod == nil {
		pod = &v1alpha1.ProxyPod{}
	}
	template := p.meta(pod.ExtraLabels, pod.ExtraAnnotations)
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: p.meta(nil, nil),
		Spec: appsv1.DeploymentSpec{
			Replicas: spec.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: p.selector()},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations},
				Spec:       p.pod(pod),
			},
		},
	}
	if spec.Strategy != nil {
		d.Spec.Strategy = *spec.Strategy
	}
	if p.spec.HorizontalPodAutoscaler != nil {
		d.Spec.Replicas = nil
	}
	return d
}

func (p *provision) disruptionBudget(spec *v1alpha1.ProxyDisruptionBudgetSpec) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: p.meta(nil, nil),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: spec.MinAvailable, MaxUnavailable: spec.MaxUnavailable, Selector: &metav1.LabelSelector{MatchLabels: p.selector()},
		},
	}
	if spec.UnhealthyPodEvictionPolicy != "" {
		b.Spec.UnhealthyPodEvictionPolicy = &spec.UnhealthyPodEvictionPolicy
	}
	return b
}

func (p *provision) autoscaler(spec *v1alpha1.ProxyAutoscalerSpec) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: p.meta(nil, nil),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: nameFor(p.gateway.Name)},
			MinReplicas:    spec.MinReplicas, MaxReplicas: spec.MaxReplicas, Metrics: spec.Metrics, Behavior: spec.Behavior,
		},
	}
}

// image returns the image of the data planes: the controller's, with what is given in its place.
func (p *provision) image(i *v1alpha1.ProxyImage) string {
	name, digest, _ := strings.Cut(p.proxies.Image, "@")
	tag := ""
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name, tag = name[:at], name[at+1:]
	}
	if i != nil {
		registry, repository := "", name
		if first, rest, ok := strings.Cut(name, "/"); ok && strings.ContainsAny(first, ".:") {
			registry, repository = first, rest
		}
		if i.Registry != "" && i.Repository == "" { // the registry of upstream's manifests has a path: the last part is the repository
			repository = repository[strings.LastIndexByte(repository, '/')+1:]
		}
		registry, repository = cmp.Or(i.Registry, registry), cmp.Or(i.Repository, repository)
		if name = repository; registry != "" {
			name = registry + "/" + repository
		}
		if i.Repository != "" || i.Registry != "" || i.Tag != "" || i.Digest != "" {
			digest = ""
		}
		tag, digest = cmp.Or(i.Tag, tag), cmp.Or(i.Digest, digest)
	}
	switch {
	case digest != "":
		return name + "@" + digest
	case tag != "":
		return name + ":" + tag
	}
	return name
}
