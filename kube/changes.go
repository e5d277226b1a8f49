package kube

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// A judge says what status objects should have.
type judge struct {
	*outcome
	controller        gatewayv1.GatewayController
	controllerAddress string // where data planes reach it
	experimental      bool   // fields of the experimental channel are served
	problems          map[config.ObjectRef][]config.Problem
	attached          map[config.ObjectRef][]config.Attachment // by what is attached
	taken             map[config.ObjectRef]map[string]int      // routes, by Gateway and listener
	gateways          map[config.ObjectRef]*gatewayv1.Gateway  // ours
	sets              map[config.ObjectRef]bool                // ListenerSets that name one of them
	named             map[config.ObjectRef]bool                // routes that name one of them, or of the sets
	changes           []change
}

// changes returns the status that differs from what the API server had when o was read.
func (o *outcome) changes(opts *Options) []change {
	j := &judge{
		outcome: o, controller: gatewayv1.GatewayController(opts.Controller), experimental: opts.Experimental,
		problems: problemsOf(o.report),
		attached: map[config.ObjectRef][]config.Attachment{},
		taken:    map[config.ObjectRef]map[string]int{},
		gateways: map[config.ObjectRef]*gatewayv1.Gateway{},
		sets:     map[config.ObjectRef]bool{},
		named:    map[config.ObjectRef]bool{},
	}
	if opts.Proxies != nil {
		j.controllerAddress = opts.Proxies.Address
	}
	seen := map[config.Attachment]bool{}
	for _, a := range o.report.Attachments {
		j.attached[a.Object] = append(j.attached[a.Object], a)
		once := config.Attachment{Object: a.Object, To: a.To, Section: a.Section}
		if (a.Object.Kind == "HTTPRoute" || a.Object.Kind == "GRPCRoute") && !seen[once] {
			seen[once] = true
			if j.taken[a.To] == nil {
				j.taken[a.To] = map[string]int{}
			}
			j.taken[a.To][a.Section]++
		}
	}
	classes := map[gatewayv1.ObjectName]bool{}
	for _, c := range o.resources.GatewayClasses {
		if c.Spec.ControllerName == j.controller {
			classes[gatewayv1.ObjectName(c.Name)] = true
			j.gatewayClass(c)
		}
	}
	for _, g := range o.resources.Gateways {
		if classes[g.Spec.GatewayClassName] {
			j.gateways[refOf("Gateway", g)] = g
		}
	}
	for _, s := range o.resources.ListenerSets {
		j.sets[refOf("ListenerSet", s)] = j.gateways[parentOf(s)] != nil
	}
	for _, g := range o.resources.Gateways {
		if j.gateways[refOf("Gateway", g)] != nil {
			j.gateway(g)
		}
	}
	for _, r := range o.resources.HTTPRoutes {
		j.route(judged{r, "HTTPRoute", &r.Spec.CommonRouteSpec, len(r.Spec.Rules), &r.Status.RouteStatus})
	}
	for _, r := range o.resources.GRPCRoutes {
		j.route(judged{r, "GRPCRoute", &r.Spec.CommonRouteSpec, len(r.Spec.Rules), &r.Status.RouteStatus})
	}
	for _, p := range o.resources.BackendTLS {
		j.backendTLS(p)
	}
	for _, u := range o.own {
		j.own(u)
	}
	return j.changes
}

// refOf names an object.
func refOf(kind string, o metav1.Object) config.ObjectRef {
	return config.ObjectRef{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// change notes the status of an object, if it differs.
func (j *judge) change(gvk schema.GroupVersionKind, o metav1.Object, before, after map[string]any, transitions []transition) {
	if equality.Semantic.DeepEqual(before, after) {
		return
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	u.SetNamespace(o.GetNamespace())
	u.SetName(o.GetName())
	u.SetUID(o.GetUID())
	u.SetResourceVersion(o.GetResourceVersion())
	j.changes = append(j.changes, change{u, after, transitions})
}

// gatewayKind returns a kind of the Gateway API.
func gatewayKind(kind string) schema.GroupVersionKind {
	return gatewayv1.SchemeGroupVersion.WithKind(kind)
}

func (j *judge) gatewayClass(c *gatewayv1.GatewayClass) {
	f := finding{string(gatewayv1.GatewayClassConditionStatusAccepted), true, string(gatewayv1.GatewayClassReasonAccepted), "Gateways of this class are served"}
	if p := c.Spec.ParametersRef; p != nil {
		found := p.Group == v1alpha1.GroupName && p.Kind == v1alpha1.KindGatewayParameters && slices.ContainsFunc(j.resources.GatewayParameters, func(o *v1alpha1.GatewayParameters) bool {
			return o.Name == p.Name && p.Namespace != nil && o.Namespace == string(*p.Namespace)
		})
		if !found {
			f.yes, f.reason = false, string(gatewayv1.GatewayClassReasonInvalidParameters)
			f.message = fmt.Sprintf("spec.parametersRef: %s %q is not there (name a GatewayParameters of group %s, with its namespace)", p.Kind, p.Name, v1alpha1.GroupName)
		}
	}
	after, transitions := merged(c.Status.Conditions, c.Generation, f)
	fields := func(conditions []metav1.Condition, features []gatewayv1.SupportedFeature) map[string]any {
		return map[string]any{"conditions": conditions, "supportedFeatures": features}
	}
	j.change(gatewayKind("GatewayClass"), c, fields(c.Status.Conditions, c.Status.SupportedFeatures), fields(after, supportedFeatures(j.experimental)), transitions)
}

// own writes the status of one of our kinds.
func (j *judge) own(u *unstructured.Unstructured) {
	switch u.GetKind() {
	case v1alpha1.KindBackend, v1alpha1.KindGatewayExtension:
		j.conditions(u)
	case v1alpha1.KindTrafficPolicy, v1alpha1.KindHTTPListenerPolicy, v1alpha1.KindBackendConfigPolicy:
		j.policy(u)
	}
}

// conditions writes the status of a Backend or GatewayExtension.
func (j *judge) conditions(u *unstructured.Unstructured) {
	var before v1alpha1.ConditionsStatus
	statusInto(u, &before)
	bad, notes := serious(j.problems[refOf(u.GetKind(), u)])
	f := finding{"Accepted", true, "Accepted", noted("The "+u.GetKind()+" can be used", notes)}
	if len(bad) > 0 {
		f = finding{"Accepted", false, "Invalid", text(bad, "")}
	}
	after, transitions := merged(before.Conditions, u.GetGeneration(), f)
	j.change(u.GroupVersionKind(), u, map[string]any{"conditions": before.Conditions}, map[string]any{"conditions": after}, transitions)
}

// statusInto reads the status of an object. What can't be read is as if it were not there, and is written anew.
func statusInto(u *unstructured.Unstructured, into any) {
	if s, ok := u.Object["status"].(map[string]any); ok {
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(s, into)
	}
}
