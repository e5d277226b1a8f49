package kube

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
	"github.com/mcpgw/mcpgw/gateway"
)

// setOf returns what the API server has, if it has what is written.
func setOf(t *testing.T, text string) *set {
	t.Helper()
	res, report := config.LoadFiles([]config.File{{Name: "x.yaml", Text: []byte(text)}})
	if report.Has(config.Invalid) {
		t.Fatal(report.Problems)
	}
	res.Local, res.Positions, res.Separate = false, nil, true
	s := &set{resources: res}
	res.Backends, res.TrafficPolicies, res.DirectResponses, res.GatewayExtensions = nil, nil, nil, nil
	res.HTTPListenerPolicies, res.BackendConfigPolicies, res.GatewayParameters = nil, nil, nil
	for doc := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(u.GetAPIVersion(), "gateway.kgateway.dev/") {
			if u.GetNamespace() == "" {
				u.SetNamespace("default")
			}
			s.add(u, parse(u))
		}
	}
	for _, o := range s.own {
		o.SetUID(types.UID("own-" + o.GetKind() + o.GetNamespace() + o.GetName()))
	}
	identify("class", res.GatewayClasses)
	identify("gateway", res.Gateways)
	identify("set", res.ListenerSets)
	identify("route", res.HTTPRoutes)
	identify("service", res.Services)
	identify("slice", res.EndpointSlices)
	identify("secret", res.Secrets)
	identify("namespace", res.Namespaces)
	identify("grpc", res.GRPCRoutes)
	identify("tls", res.BackendTLS)
	identify("map", res.ConfigMaps)
	identify("grant", res.ReferenceGrants)
	return s
}

// identify gives objects the UIDs that an API server would.
func identify[T metav1.Object](what string, objects []T) {
	for _, o := range objects {
		o.SetUID(types.UID(what + "-" + o.GetNamespace() + o.GetName()))
	}
}

// sharesOf returns the names of what each Gateway gets.
func sharesOf(t *testing.T, s *set, w *writer) map[string][]string {
	t.Helper()
	_, report := gateway.Compile(s.resources, nil)
	sets, err := s.share(report, s.served(gateway.ControllerName), w)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for g, set := range sets {
		out[g.String()] = slices.Sorted(maps.Keys(set))
	}
	return out
}

const cluster = `apiVersion: gateway.networking.k8s.io/v1
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
kind: Namespace
metadata: {name: far}
---
apiVersion: v1
kind: Namespace
metadata: {name: unused}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: one}
spec: {gatewayClassName: ours, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: two}
spec:
  gatewayClassName: ours
  allowedListeners: {namespaces: {from: All}}
  tls:
    backend: {clientCertificateRef: {name: identity}}
    frontend: {default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}, {group: "", kind: ConfigMap, name: stolen, namespace: far}]}}}
  listeners:
  - {name: https, protocol: HTTPS, port: 80, tls: {certificateRefs: [{name: certificate}, {name: stolen, namespace: far}]}}
  - {name: http, protocol: HTTP, port: 81}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: three}
spec: {gatewayClassName: theirs, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one}
spec:
  parentRefs: [{name: one}]
  rules:
  - backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: tools}]
  - matches: [{headers: [{name: selected, value: x}]}]
    filters: [{type: ExtensionRef, extensionRef: {group: gateway.kgateway.dev, kind: DirectResponse, name: sorry}}]
  - matches: [{path: {value: /far}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: granted, namespace: far}]
  - matches: [{path: {value: /stolen}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: stolen, namespace: far}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: two}
spec:
  parentRefs: [{name: two, sectionName: http}]
  rules: [{backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: selected}]}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec:
  type: MCP
  mcp: {targets: [{name: selected, service: {name: search, port: 80}, auth: {secretRef: {name: token}}}]}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: selected}
spec:
  type: MCP
  mcp: {targets: [{name: all, selector: {service: {matchLabels: {mcp: "yes"}}}, auth: {secretRef: {name: other-token}}}]}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: granted, namespace: far}
spec:
  type: MCP
  mcp: {targets: [{name: a, static: {host: a.test, port: 80}, auth: {secretRef: {name: far-token}}}]}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: stolen, namespace: far}
spec:
  type: MCP
  mcp: {targets: [{name: a, static: {host: a.test, port: 80}, auth: {secretRef: {name: stolen}}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: grant, namespace: far}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: gateway.kgateway.dev, kind: Backend, name: granted}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: DirectResponse
metadata: {name: sorry}
spec: {status: 503}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: both}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: tools}, {group: gateway.kgateway.dev, kind: Backend, name: selected}]
  rbac: {policy: {matchExpressions: ['true']}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: on-two}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: two}]
  rbac: {policy: {matchExpressions: ['true']}}
---
apiVersion: v1
kind: Service
metadata: {name: search}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: found, labels: {mcp: "yes"}}
spec: {ports: [{name: http, port: 80, appProtocol: kgateway.dev/mcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: unused}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: search-1, labels: {kubernetes.io/service-name: search}}
addressType: IPv4
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: found-1, labels: {kubernetes.io/service-name: found}}
addressType: IPv4
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {Authorization: x}
---
apiVersion: v1
kind: Secret
metadata: {name: other-token}
stringData: {Authorization: x}
---
apiVersion: v1
kind: Secret
metadata: {name: certificate}
stringData: {tls.crt: x}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more}
spec: {parentRef: {name: two}, listeners: [{name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: of-set}, {name: stolen, namespace: far}]}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: refused}
spec: {parentRef: {name: one}, listeners: [{name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: of-set}]}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: more}
spec: {parentRefs: [{kind: ListenerSet, name: more}]}
---
apiVersion: v1
kind: Secret
metadata: {name: of-set}
stringData: {tls.crt: x}
---
apiVersion: v1
kind: Secret
metadata: {name: identity}
stringData: {tls.crt: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: clients}
data: {ca.crt: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: stolen, namespace: far}
data: {ca.crt: x}
---
apiVersion: v1
kind: Secret
metadata: {name: far-token, namespace: far}
stringData: {Authorization: x}
---
apiVersion: v1
kind: Secret
metadata: {name: stolen, namespace: far}
stringData: {Authorization: x}
`

// TestShare: each Gateway gets what is attached to it and what can be reached from there, and no Secret of another. What is
// in another namespace takes a grant.
func TestShare(t *testing.T) {
	s, w := setOf(t, cluster), new(writer)
	want := map[string][]string{
		"default/one": {
			"Backend/default/tools", "Backend/far/granted", "DirectResponse/default/sorry", "EndpointSlice/default/search-1", "Gateway/default/one", "GatewayClass//ours",
			"HTTPRoute/default/one", "Namespace//far", "ReferenceGrant/far/grant", "Secret/default/token", "Secret/far/far-token", "Service/default/search", "TrafficPolicy/default/both",
		},
		"default/two": {
			"Backend/default/selected", "ConfigMap/default/clients", "EndpointSlice/default/found-1", "Gateway/default/two", "GatewayClass//ours", "HTTPRoute/default/more", "HTTPRoute/default/two", "ListenerSet/default/more", "Secret/default/certificate",
			"Secret/default/identity", "Secret/default/of-set", "Secret/default/other-token",
			"Service/default/found", "TrafficPolicy/default/both", "TrafficPolicy/default/on-two",
		},
	}
	if diff := cmp.Diff(want, sharesOf(t, s, w)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want, sharesOf(t, s, w)); diff != "" {
		t.Errorf("a second time: -want +got:\n%s", diff)
	}
}

// TestShareVersion: what matters to nobody changes no version.
func TestShareVersion(t *testing.T) {
	s, w := setOf(t, cluster), new(writer)
	before, err := shareOfOne(s, w)
	if err != nil {
		t.Fatal(err)
	}
	g := s.resources.Gateways[0].DeepCopy()
	g.ResourceVersion, g.Status.Conditions = "99", nil
	g.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}
	s.resources.Gateways[0] = g
	after, err := shareOfOne(s, w)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	g.Spec.Listeners[0].Port = 99
	g.ResourceVersion = "100"
	after, err = shareOfOne(s, w)
	if err != nil || after["Gateway/default/one"].Version == before["Gateway/default/one"].Version {
		t.Errorf("a change does not show (%v)", err)
	}
}

// shareOfOne returns what Gateway one gets.
func shareOfOne(s *set, w *writer) (delivery.Set, error) {
	_, report := gateway.Compile(s.resources, nil)
	sets, err := s.share(report, s.served(gateway.ControllerName), w)
	return sets[types.NamespacedName{Namespace: "default", Name: "one"}], err
}

// TestShareComplete: a data plane that has its share makes of it what comes of the whole: the same problems, the same attachments, for
// every configuration of the compiler's tests and the examples that has a Gateway.
func TestShareComplete(t *testing.T) {
	files, err := filepath.Glob("../gateway/testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, file := range slices.Concat(files, examples) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		res, report := config.LoadFiles([]config.File{{Name: "x.yaml", Text: text}})
		if report.Has(config.Invalid) || len(res.Gateways) == 0 {
			continue
		}
		classes := "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: " + string(res.Gateways[0].Spec.GatewayClassName) + "}\nspec: {controllerName: kgateway.dev/agentgateway}\n"
		if len(res.GatewayClasses) > 0 {
			classes = ""
		}
		s := setOf(t, string(text)+"\n"+classes)
		_, whole := gateway.Compile(s.resources, nil)
		shares, err := s.share(whole, s.served(gateway.ControllerName), new(writer))
		if err != nil {
			t.Fatal(err)
		}
		for g, share := range shares {
			compared++
			part := partOf(s.resources, share)
			_, got := gateway.Compile(part, nil)
			if diff := cmp.Diff(about(whole, share), about(got, share)); diff != "" {
				t.Errorf("%s: the data planes of Gateway %s differ: -whole +share:\n%s", file, g, diff)
			}
		}
	}
	if compared < 20 {
		t.Errorf("%d Gateways were compared", compared)
	}
}

// about returns the problems and attachments of a report that are about the objects of a share, in words. What is wrong with an object that
// nothing of the share leads to is none of its business.
func about(report *config.Report, share delivery.Set) (out []string) {
	in := func(r config.ObjectRef) bool { _, ok := share[r.Kind+"/"+r.Namespace+"/"+r.Name]; return ok }
	for _, p := range report.Problems {
		if in(p.Object) && p.Code != config.CodeUnresolvedTarget && p.Code != config.CodeUnresolvedParent {
			out = append(out, fmt.Sprintf("%s %s %s: %s", p.Code, p.Object, p.Path, p.Message))
		}
	}
	for _, a := range report.Attachments {
		if in(a.Object) && in(a.To) {
			out = append(out, fmt.Sprintf("%s is at %s %s", a.Object, a.To, a.Section))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// partOf returns the resources that are in a share.
func partOf(r *config.Resources, share delivery.Set) *config.Resources {
	return &config.Resources{
		Separate:       true,
		GatewayClasses: kept("GatewayClass", r.GatewayClasses, share), Gateways: kept("Gateway", r.Gateways, share),
		HTTPRoutes: kept("HTTPRoute", r.HTTPRoutes, share), GRPCRoutes: kept("GRPCRoute", r.GRPCRoutes, share),
		ReferenceGrants: kept("ReferenceGrant", r.ReferenceGrants, share), BackendTLS: kept("BackendTLSPolicy", r.BackendTLS, share),
		Backends: kept("Backend", r.Backends, share), TrafficPolicies: kept("TrafficPolicy", r.TrafficPolicies, share),
		HTTPListenerPolicies: kept("HTTPListenerPolicy", r.HTTPListenerPolicies, share), DirectResponses: kept("DirectResponse", r.DirectResponses, share),
		GatewayExtensions: kept("GatewayExtension", r.GatewayExtensions, share), BackendConfigPolicies: kept("BackendConfigPolicy", r.BackendConfigPolicies, share),
		Services: kept("Service", r.Services, share), EndpointSlices: kept("EndpointSlice", r.EndpointSlices, share),
		Secrets: kept("Secret", r.Secrets, share), ConfigMaps: kept("ConfigMap", r.ConfigMaps, share), Namespaces: kept("Namespace", r.Namespaces, share),
	}
}

func kept[T metav1.Object](kind string, objects []T, share delivery.Set) (out []T) {
	for _, o := range objects {
		if _, ok := share[delivery.Name(kind, o)]; ok {
			out = append(out, o)
		}
	}
	return out
}
