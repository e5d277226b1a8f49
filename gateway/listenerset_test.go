package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// setOf returns a ListenerSet in a namespace with one listener of the host NAME.test.
func setOf(namespace, name string) string {
	return fmt.Sprintf("\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: %s, namespace: %s, labels: {of: team}}\nspec:\n  parentRef: {name: gw, namespace: default}\n  listeners: [{name: http, port: 8080, protocol: HTTP, hostname: %s.test}]\n", name, namespace, name)
}

// routeBy returns a route of a namespace to the upstream a, with that parent.
func routeBy(namespace, name, parent string) string {
	r := strings.Replace(route(name, "backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: a, namespace: default}]"), "spec:\n", "spec:\n  parentRefs: ["+parent+"]\n", 1)
	return strings.Replace(r, "metadata: {name: "+name, "metadata: {namespace: "+namespace+", name: "+name, 1)
}

const aGateway = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: agentgateway
  listeners: [{name: http, port: 8080, protocol: HTTP, hostname: own.test}]
%s
`

// TestListenerSets: listeners of ListenerSets are the Gateway's, of the namespaces that it allows, and routes attach to them by the set alone (Gateway API,
// ListenerSet).
func TestListenerSets(t *testing.T) {
	rest := static("a", upstreamServer(t, "a")) + `
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: all}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: team}]
  to: [{group: gateway.kgateway.dev, kind: Backend}]
---
apiVersion: v1
kind: Namespace
metadata: {name: team, labels: {may: listen}}
` + setOf("default", "near") + setOf("team", "far") +
		routeBy("default", "own", "{name: gw}") +
		routeBy("default", "near", "{kind: ListenerSet, name: near, sectionName: http}") +
		routeBy("team", "far", "{kind: ListenerSet, name: far}")
	for _, tc := range []struct {
		allowed string
		want    string // the hosts that are served
		refused string
	}{
		{"", "own", "near far"},
		{"allowedListeners: {}", "own", "near far"},
		{"allowedListeners: {namespaces: {from: Same}}", "own near", "far"},
		{"allowedListeners: {namespaces: {from: All}}", "own near far", ""},
		{"allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {may: listen}}}}", "own far", "near"},
	} {
		g := start(t, fmt.Sprintf(aGateway, "  "+tc.allowed)+rest)
		var served, refused []string
		for _, host := range []string{"own", "near", "far"} {
			if g.get("/", "Host", host+".test").Status == 200 {
				served = append(served, host)
			}
		}
		for _, p := range g.Apply(load(t, fmt.Sprintf(aGateway, "  "+tc.allowed)+rest)).Problems {
			if p.Object.Kind == listenerSet && p.Reason == "NotAllowed" && p.Path == "spec.parentRef" {
				refused = append(refused, p.Object.Name)
			}
		}
		if diff := cmp.Diff([]string{tc.want, tc.refused}, []string{strings.Join(served, " "), strings.Join(refused, " ")}); diff != "" {
			t.Errorf("%s: served, refused (-want +got):\n%s", tc.allowed, diff)
		}
	}
}

// TestListenerSetProblems: what is wrong with a ListenerSet, or with a route that names one.
func TestListenerSetProblems(t *testing.T) {
	gateway := fmt.Sprintf(aGateway, "  allowedListeners: {namespaces: {from: Same}}")
	for name, tc := range map[string]struct{ text, want string }{
		"a Gateway that is not there": {
			strings.Replace(setOf("default", "s"), "name: gw,", "name: gx,", 1), `unresolved ListenerSet/s: spec.parentRef.name: Gateway "gx" is not there`},
		"no Gateway": {
			strings.Replace(setOf("default", "s"), "{name: gw,", "{kind: Service, name: gw,", 1), `unresolved ListenerSet/s: spec.parentRef.kind: ListenerSets add listeners to Gateways only`},
		"a host of the Gateway": {
			strings.Replace(setOf("default", "s"), "s.test", "own.test", 1), `error ListenerSet/s: spec.listeners[0].port: listener "http" of Gateway/gw has the same port 8080 and hostname`},
		"a host of another set": {
			setOf("default", "s") + strings.Replace(setOf("default", "t"), "t.test", "s.test", 1), `error ListenerSet/t: spec.listeners[0].port: listener "http" of ListenerSet/s has the same port 8080 and hostname`},
		"another protocol": {
			strings.Replace(setOf("default", "s"), "protocol: HTTP, hostname: s.test", "protocol: TCP", 1), `error ListenerSet/s: spec.listeners[0].protocol: listener "http" of Gateway/gw has another protocol on port 8080`},
		"a set that is not there": {
			setOf("default", "s") + routeBy("default", "r", "{kind: ListenerSet, name: t}"), `unresolved HTTPRoute/r: spec.parentRefs[0].name: ListenerSet "t" is not there`},
		"a listener of the Gateway": {
			setOf("default", "s") + routeBy("default", "r", "{kind: ListenerSet, name: s, sectionName: own}"), `unresolved HTTPRoute/r: spec.parentRefs[0].sectionName: ListenerSet "s" has no listener "own" that can be served`},
		"a listener of a set, by the Gateway": {
			strings.Replace(setOf("default", "s"), "{name: http", "{name: more", 1) + routeBy("default", "r", "{name: gw, sectionName: more}"), `unresolved HTTPRoute/r: spec.parentRefs[0].sectionName: Gateway "gw" has no listener "more" that can be served`},
	} {
		_, report := Compile(load(t, gateway+tc.text), nil)
		var got []string
		for _, p := range report.Problems {
			if p.Object.Kind == listenerSet || strings.HasPrefix(p.Path, "spec.parentRefs") {
				got = append(got, fmt.Sprintf("%s %s: %s: %s", p.Class, p.Object, p.Path, p.Message))
			}
		}
		if diff := cmp.Diff([]string{tc.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestListenerSetPolicies: a policy on a ListenerSet, or on a listener of it, covers that alone, and wins over the Gateway's.
func TestListenerSetPolicies(t *testing.T) {
	header := func(value string) string {
		return "headerModifiers: {response: {set: [{name: X-By, value: " + value + "}]}}"
	}
	text := fmt.Sprintf(aGateway, "  allowedListeners: {namespaces: {from: Same}}") + static("a", upstreamServer(t, "a")) +
		setOf("default", "one") + setOf("default", "two") + setOf("default", "three") +
		routeBy("default", "own", "{name: gw}") + routeBy("default", "one", "{kind: ListenerSet, name: one}") + routeBy("default", "two", "{kind: ListenerSet, name: two}") + routeBy("default", "three", "{kind: ListenerSet, name: three}") +
		webPolicyOn("all", "Gateway", "gw", "", header("gateway")) +
		webPolicyOn("one", "ListenerSet", "one", "", header("set")) +
		webPolicyOn("section", "ListenerSet", "two", "http", header("section")) +
		strings.Replace(webPolicyOn("two", "XListenerSet", "two", "", header("set")), "group: gateway.networking.k8s.io, ", "", 1)
	g := start(t, text)
	for host, want := range map[string]string{"own.test": "gateway", "one.test": "set", "two.test": "section", "three.test": "gateway"} {
		if got := g.get("/", "Host", host).Header.Get("X-By"); got != want {
			t.Errorf("%s is covered by %q, want %q", host, got, want)
		}
	}
	g.apply(text + "\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: rule}\nspec:\n  targetSelectors: [{kind: ListenerSet, matchLabels: {of: team}}]\n  rbac: {policy: {matchExpressions: [\"request.method == 'PUT'\"]}}\n")
	for host, want := range map[string]int{"own.test": 200, "one.test": 403, "two.test": 403, "three.test": 403} {
		if got := g.get("/", "Host", host).Status; got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
}
