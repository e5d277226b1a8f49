package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/gateway"
)

// TestGates: what the switch for the experimental channel turns on and off. A route is accepted either way: what is switched off is left out of it, and a note says
// so. What has come to the standard channel needs no switch.
func TestGates(t *testing.T) {
	const off, unserved = "is of the experimental channel, which is switched off", "sessionPersistence is not served"
	for name, tt := range map[string]struct {
		rule, more string // of the route, and beside it
		off, on    string // the notes
	}{
		"retries":             {rule: "retry: {codes: [503]}", off: "retry " + off},
		"session persistence": {rule: "sessionPersistence: {sessionName: s}", off: "sessionPersistence " + off, on: unserved},
		"CORS":                {rule: "filters: [{type: CORS, cors: {allowOrigins: [https://a.test]}}]"},
		"names of rules": {rule: "name: one", more: `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r, sectionName: one}], timeouts: {request: 5s}}
`},
		"BackendTLSPolicy": {more: `---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec: {targetRefs: [{group: "", kind: Service, name: s}], validation: {hostname: s.test, wellKnownCACertificates: System}}
`},
		"ListenerSets": {more: `---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more}
spec: {parentRef: {name: gw}, listeners: [{name: more, port: 81, protocol: HTTP}]}
`},
	} {
		for _, experimental := range []bool{false, true} {
			s := setOf(t, aClass+"  allowedListeners: {namespaces: {from: Same}}\n  listeners: [{name: http, port: 80, protocol: HTTP}]\n"+`---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {clusterIP: 10.0.0.7, ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules:
  - backendRefs: [{name: s, port: 80}]
    `+tt.rule+"\n"+tt.more)
			s.gate(experimental)
			_, report := gateway.Compile(s.resources, nil)
			report.Problems = append(report.Problems, s.problems...)
			want, note := tt.off, ""
			if experimental {
				want = tt.on
			}
			refused := map[string]bool{}
			for _, c := range (&outcome{set: s, report: report}).changes(&Options{Controller: gateway.ControllerName, Experimental: experimental}) {
				var all []condition
				switch c.object.GetKind() {
				case "HTTPRoute":
					all = c.fields["parents"].([]gatewayv1.RouteParentStatus)[0].Conditions
				case "ListenerSet":
					all = c.fields["conditions"].([]condition)
				case "BackendTLSPolicy", "TrafficPolicy":
					for _, a := range c.fields["ancestors"].([]gatewayv1.PolicyAncestorStatus) {
						all = append(all, a.Conditions...)
					}
				}
				for _, is := range all {
					if is.Type == "Accepted" && is.Status != "True" {
						refused[c.object.GetKind()] = true
					}
					if _, text, ok := strings.Cut(is.Message, "Note: "); ok {
						note = text
					}
				}
			}
			if diff := cmp.Diff(map[string]bool{}, refused); diff != "" {
				t.Errorf("%s, experimental %v: refused (-want +got):\n%s", name, experimental, diff)
			}
			if (want == "") != (note == "") || !strings.Contains(note, want) {
				t.Errorf("%s, experimental %v: the note is %q, want %q", name, experimental, note, want)
			}
			if kept := s.resources.HTTPRoutes[0].Spec.Rules[0]; strings.Contains(tt.off, "switched off") && experimental != (kept.Retry != nil || kept.SessionPersistence != nil) {
				t.Errorf("%s, experimental %v: the field is there: %v", name, experimental, !experimental)
			}
		}
	}
}

// TestStandard: experimental fields are left out and told; what the cache holds stays as it is.
func TestStandard(t *testing.T) {
	with := &gatewayv1.HTTPRoute{}
	with.Spec.Rules = []gatewayv1.HTTPRouteRule{{}, {Retry: &gatewayv1.HTTPRouteRetry{}, SessionPersistence: &gatewayv1.SessionPersistence{}}, {Retry: &gatewayv1.HTTPRouteRetry{}}}
	without := &gatewayv1.HTTPRoute{}
	without.Spec.Rules = []gatewayv1.HTTPRouteRule{{}}
	got, notes := standard([]*gatewayv1.HTTPRoute{with, without})
	if len(notes) != 3 {
		t.Errorf("there are %d notes: %v", len(notes), notes)
	}
	for i, r := range got[0].Spec.Rules {
		if r.Retry != nil || r.SessionPersistence != nil {
			t.Errorf("rule %d still has it", i)
		}
	}
	if with.Spec.Rules[1].Retry == nil || with.Spec.Rules[2].Retry == nil || got[1] != without {
		t.Error("what is in the cache was changed, or copied without need")
	}
}
