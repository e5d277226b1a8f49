package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/gateway"
)

// tlsCluster is a cluster in which a Service with a BackendTLSPolicy is used in all ways there are: each by a Gateway named after it.
const tlsCluster = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: kgateway.dev/agentgateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: other.test/gateway}
---
apiVersion: v1
kind: Service
metadata: {name: secure, labels: {app: secure}}
spec: {ports: [{name: https, port: 443, appProtocol: kgateway.dev/mcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec: {targetRefs: [{group: "", kind: Service, name: secure}], validation: {hostname: secure.test, wellKnownCACertificates: System}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: direct, labels: {name: direct}}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: target, labels: {name: target}}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: selected, labels: {name: selected}}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mirror, labels: {name: mirror}}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: extension, labels: {name: extension}}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other, labels: {name: other}}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: far, labels: {name: far}}
spec: {gatewayClassName: theirs, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: direct}
spec: {parentRefs: [{name: direct}], rules: [{backendRefs: [{name: secure, port: 443}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: far}
spec: {parentRefs: [{name: far}], rules: [{backendRefs: [{name: secure, port: 443}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirror}
spec: {parentRefs: [{name: mirror}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: secure, port: 443}}}], backendRefs: [{name: plain, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: target}
spec: {parentRefs: [{name: target}], rules: [{backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: target}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: selected}
spec: {parentRefs: [{name: selected}], rules: [{backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: selected}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: extension}
spec: {parentRefs: [{name: extension}], rules: [{backendRefs: [{name: plain, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: other}
spec: {parentRefs: [{name: other}], rules: [{backendRefs: [{name: plain, port: 80}]}]}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: target}
spec: {type: MCP, mcp: {targets: [{name: a, service: {name: secure, port: 443}}]}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: selected}
spec: {type: MCP, mcp: {targets: [{name: a, selector: {service: {matchLabels: {app: secure}}}}]}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayExtension
metadata: {name: e}
spec: {type: ExtAuth, extAuth: {grpcService: {backendRef: {name: secure, port: 443}}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: asks}
spec: {targetSelectors: [{group: gateway.networking.k8s.io, kind: Gateway, matchLabels: {name: extension}}], extAuth: {extensionRef: {name: e}}}
`

// TestBackendTLSStatus: a BackendTLSPolicy has an entry for each of our Gateways that reaches what it covers, whose conditions say what is wrong with it.
func TestBackendTLSStatus(t *testing.T) {
	s := setOf(t, tlsCluster)
	policy := s.resources.BackendTLS[0]
	policy.Generation = 3
	policy.Status.Ancestors = []gatewayv1.PolicyAncestorStatus{{AncestorRef: gatewayv1.ParentReference{Name: "far"}, ControllerName: "test/others"}}
	_, compiled := gateway.Compile(s.resources, nil)
	shares, err := s.share(compiled, s.served(gateway.ControllerName), &writer{})
	if err != nil {
		t.Fatal(err)
	}
	reaching := reaching(s.resources.BackendTLS, shares)
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
			report := &config.Report{}
			if tt.reason != "" {
				report.Problems = []config.Problem{{Class: config.Unresolved, Object: config.ObjectRef{Kind: "BackendTLSPolicy", Namespace: "default", Name: "p"}, Reason: tt.reason, Message: "no"}}
			}
			o := &outcome{set: s, report: report, reaching: reaching}
			var got []gatewayv1.PolicyAncestorStatus
			for _, c := range o.changes(&Options{Controller: gateway.ControllerName}) {
				if c.object.GetKind() == "BackendTLSPolicy" {
					got = c.fields["ancestors"].([]gatewayv1.PolicyAncestorStatus)
				}
			}
			const ours = gateway.ControllerName
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
			if diff := cmp.Diff([]string{"test/others far", ours + " direct", ours + " extension", ours + " mirror", ours + " selected", ours + " target"}, names); diff != "" {
				t.Errorf("ancestors (-want +got):\n%s", diff)
			}
		})
	}
}
