package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// TestBackendTLSStatus: a BackendTLSPolicy has an entry for each of our Gateways that reaches what it covers, whose conditions say what is wrong with it.
func TestBackendTLSStatus(t *testing.T) {
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "ours"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "test/ours"}}
	gateway := func(name string, class gatewayv1.ObjectName) *gatewayv1.Gateway {
		return &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: gatewayv1.GatewaySpec{GatewayClassName: class}}
	}
	route := func(name string, to gatewayv1.BackendObjectReference) *gatewayv1.HTTPRoute {
		return &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: gatewayv1.HTTPRouteSpec{Rules: []gatewayv1.HTTPRouteRule{
			{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: to}}}},
		}}}
	}
	kind := gatewayv1.Kind(v1alpha1.KindBackend)
	tools := &v1alpha1.Backend{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tools"}}
	tools.Spec.MCP = &v1alpha1.MCPBackend{Targets: []v1alpha1.MCPTarget{{Service: &v1alpha1.MCPServiceTarget{Name: "secure"}}}}
	policy := &gatewayv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", Generation: 3}}
	policy.Spec.TargetRefs = []gatewayv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: "secure"}}}
	policy.Status.Ancestors = []gatewayv1.PolicyAncestorStatus{{AncestorRef: gatewayv1.ParentReference{Name: "far"}, ControllerName: "test/others"}}
	attached := func(route, gateway string) config.Attachment {
		return config.Attachment{Object: config.ObjectRef{Kind: "HTTPRoute", Namespace: "default", Name: route}, To: config.ObjectRef{Kind: "Gateway", Namespace: "default", Name: gateway}}
	}
	resources := &config.Resources{
		GatewayClasses: []*gatewayv1.GatewayClass{class},
		Gateways:       []*gatewayv1.Gateway{gateway("one", "ours"), gateway("two", "ours"), gateway("three", "ours"), gateway("far", "theirs")},
		HTTPRoutes: []*gatewayv1.HTTPRoute{
			route("direct", gatewayv1.BackendObjectReference{Name: "secure"}),
			route("tools", gatewayv1.BackendObjectReference{Kind: &kind, Name: "tools"}),
			route("other", gatewayv1.BackendObjectReference{Name: "plain"}),
		},
		Backends:   []*v1alpha1.Backend{tools},
		BackendTLS: []*gatewayv1.BackendTLSPolicy{policy},
	}
	for name, tt := range map[string]struct {
		reason string // of the problem
		want   []string
	}{
		"sound":              {"", []string{"Accepted True Accepted", "ResolvedRefs True ResolvedRefs"}},
		"no authority":       {"InvalidCACertificateRef", []string{"Accepted False NoValidCACertificate", "ResolvedRefs False InvalidCACertificateRef"}},
		"no kind of such":    {"InvalidKind", []string{"Accepted False NoValidCACertificate", "ResolvedRefs False InvalidKind"}},
		"another covers it":  {"Conflicted", []string{"Accepted False Conflicted", "ResolvedRefs True ResolvedRefs"}},
		"the Service is not": {"TargetNotFound", []string{"Accepted False Invalid", "ResolvedRefs True ResolvedRefs"}},
	} {
		t.Run(name, func(t *testing.T) {
			report := &config.Report{Attachments: []config.Attachment{attached("direct", "one"), attached("tools", "two"), attached("other", "three"), attached("direct", "far")}}
			if tt.reason != "" {
				report.Problems = []config.Problem{{Class: config.Unresolved, Object: config.ObjectRef{Kind: "BackendTLSPolicy", Namespace: "default", Name: "p"}, Reason: tt.reason, Message: "no"}}
			}
			o := &outcome{set: &set{resources: resources}, report: report}
			var got []gatewayv1.PolicyAncestorStatus
			for _, c := range o.changes("test/ours", false) {
				if c.object.GetKind() == "BackendTLSPolicy" {
					got = c.fields["ancestors"].([]gatewayv1.PolicyAncestorStatus)
				}
			}
			var names []string
			for _, a := range got {
				names = append(names, string(a.ControllerName)+" "+string(a.AncestorRef.Name))
				if a.ControllerName == "test/others" {
					continue
				}
				var is []string
				for _, c := range a.Conditions {
					is = append(is, c.Type+" "+string(c.Status)+" "+c.Reason)
					if c.ObservedGeneration != 3 {
						t.Errorf("%s is of generation %d", c.Type, c.ObservedGeneration)
					}
				}
				if diff := cmp.Diff(tt.want, is); diff != "" {
					t.Errorf("at %s (-want +got):\n%s", a.AncestorRef.Name, diff)
				}
			}
			if diff := cmp.Diff([]string{"test/others far", "test/ours one", "test/ours two"}, names); diff != "" {
				t.Errorf("ancestors (-want +got):\n%s", diff)
			}
		})
	}
}
