package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// serveText answers every request with a text, as JSON where it is asked for a chat completion.
func serveText(t testing.TB, text string) (host string, port int) {
	t.Helper()
	host = newHost()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
			fmt.Fprint(w, text)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"id": "1", "object": "chat.completion", "created": 1, "model": "m",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text + " for " + r.Header.Get("Authorization")}}},
			"usage":   map[string]any{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
		}) // a client that is gone is not told
	})}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	return host, l.Addr().(*net.TCPAddr).Port
}

// staticYAML is a Backend of one host.
func staticYAML(name, host string, port int) string {
	return fmt.Sprintf(`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: %s}
spec: {type: Static, static: {hosts: [{host: "%s", port: %d}]}}
`, name, host, port)
}

// TestBroken shows that objects with a mistake that the API server does not see are told what it is, that what they
// restrict is closed, and that they disturb nothing else.
func TestBroken(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveText(t, "hello")
	start(t, controller, "--lease-namespace", namespace).isReady(t)
	apply(t, namespace, gatewayYAML(namespace, port)+staticYAML("good", host, at)+staticYAML("bad", "a b", 1)+
		routeYAML("good", "/good", "good")+routeYAML("bad", "/bad", "bad")+routeYAML("lost", "/lost", "none")+routeYAML("guarded", "/guarded", "good")+`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: wrong}
spec:
  targetRefs: [{kind: HTTPRoute, name: guarded}]
  rbac: {policy: {matchExpressions: ["request.pth == 'x'"]}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: astray}
spec:
  targetRefs: [{kind: HTTPRoute, name: nowhere}]
  rbac: {policy: {matchExpressions: ["true"]}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: right}
spec:
  targetRefs: [{kind: HTTPRoute, name: good}]
  rbac: {policy: {matchExpressions: ["request.method == 'GET'"]}}
`)
	answers := func(path string, want int) {
		t.Helper()
		testgateway.Eventually(t, fmt.Sprintf("%s answers %d", path, want), func() error {
			if code, body := answer(t, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), ""); code != want {
				return fmt.Errorf("it answers %d %s", code, body)
			}
			return nil
		})
	}
	answers("/good", 200)
	answers("/bad", 500)
	answers("/lost", 500)
	answers("/guarded", 500)
	policy := "{.status.ancestors[0].ancestorRef.kind}/{.status.ancestors[0].ancestorRef.name} " + conditions(".status.ancestors[0]")
	has(t, namespace, "trafficpolicy/right", policy, "Gateway/gw Accepted=True/Valid Attached=True/Attached ")
	has(t, namespace, "trafficpolicy/wrong", policy, "Gateway/gw Accepted=False/Invalid Attached=False/Pending ")
	has(t, namespace, "trafficpolicy/astray", policy, "HTTPRoute/nowhere Accepted=False/TargetNotFound Attached=False/TargetNotFound ")
	has(t, namespace, "backend/bad", conditions(".status"), "Accepted=False/Invalid ")
	has(t, namespace, "httproute/lost", conditions(".status.parents[0]"), "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound ")
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/AddressNotAssigned Ready=False/Pending ")
	for object, want := range map[string]string{
		"trafficpolicy/wrong":  "spec.rbac.policy.matchExpressions[0]",
		"trafficpolicy/astray": `the policy covers HTTPRoute "nowhere", which is not there`,
		"backend/bad":          "spec.static.hosts[0].host: `host` must be a host name or IP address: letters, digits, - and . only",
		"httproute/lost":       `spec.rules[0].backendRefs[0].name: Backend "none" is not there`,
		"gateway/gw":           "--publish-address",
	} {
		if out := path(t, namespace, object, "{.status}"); !strings.Contains(strings.ReplaceAll(out, `\"`, `"`), want) {
			t.Errorf("the status of %s says not %s:\n%s", object, want, out)
		}
	}
	testgateway.Eventually(t, "an event says that the Backend can't be used", func() error {
		if out, err := try(t, "", "get", "events", "-n", namespace, "--field-selector", "involvedObject.name=bad"); err != nil || !strings.Contains(out, "Invalid") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	apply(t, namespace, staticYAML("bad", host, at))
	answers("/bad", 200)
	has(t, namespace, "backend/bad", "{.status.conditions[0].observedGeneration} "+conditions(".status"), "2 Accepted=True/Accepted ")
}

// TestSecret shows that nothing is sent without a credential, and that it needs no restart once it is
// there.
func TestSecret(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveText(t, "hi")
	g := start(t, controller, "--lease-namespace", namespace).isReady(t)
	apply(t, namespace, gatewayYAML(namespace, port)+routeYAML("llm", "/llm", "llm")+fmt.Sprintf(`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: llm}
spec:
  type: AI
  ai: {llm: {host: %s, port: %d, openai: {model: m, authToken: {kind: SecretRef, secretRef: {name: key}}}}}
`, host, at))
	asked := func(want int, part string) {
		t.Helper()
		testgateway.Eventually(t, fmt.Sprintf("the answer is %d %s", want, part), func() error {
			code, body := answer(t, fmt.Sprintf("http://127.0.0.1:%d/llm", port), `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
			if code != want || !strings.Contains(body, part) {
				return fmt.Errorf("it is %d %s", code, body)
			}
			return nil
		})
	}
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {Authorization: sk-%d}\n"
	for i := range 2 {
		asked(503, "")
		has(t, namespace, "backend/llm", conditions(".status"), "Accepted=False/Invalid ")
		if out := path(t, namespace, "backend/llm", "{.status.conditions[0].message}"); !strings.Contains(out, `Secret "key" is not there`) {
			t.Errorf("status does not name the Secret: %s", out)
		}
		apply(t, namespace, fmt.Sprintf(secret, i))
		asked(200, fmt.Sprintf("Bearer sk-%d", i))
		has(t, namespace, "backend/llm", conditions(".status"), "Accepted=True/Accepted ")
		apply(t, namespace, fmt.Sprintf(secret, i+10))
		asked(200, fmt.Sprintf("Bearer sk-%d", i+10))
		kubectl(t, "delete", "secret", "-n", namespace, "key")
	}
	asked(503, "")
	if strings.Contains(g.Stderr.String(), "sk-") {
		t.Error("the log has a secret in it")
	}
}

// TestOthers shows that entries of other controllers stay as they are, that ours go with their cause, and that nothing is
// written that says the same.
func TestOthers(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveText(t, "hello")
	start(t, controller, "--lease-namespace", namespace, "--publish-address", "gw.example.com").isReady(t)
	const policy = `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
spec: {targetRefs: [{kind: HTTPRoute, name: r}], rbac: {policy: {matchExpressions: ["true"]}}}
`
	apply(t, namespace, gatewayYAML(namespace, port)+staticYAML("b", host, at)+routeYAML("r", "/", "b")+routeYAML("other", "/other", "b")+policy)
	has(t, namespace, "httproute/r", conditions(".status.parents[0]"), "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs ")
	has(t, namespace, "trafficpolicy/p", conditions(".status.ancestors[0]"), "Accepted=True/Valid Attached=True/Attached ")
	has(t, namespace, "gateway/gw", "{.status.addresses[0].type}{.status.listeners[0].attachedRoutes}", "Hostname2")

	const entry = `{"controllerName":"other.example.com/c","%sRef":{"name":"theirs"},"conditions":[{"type":"Accepted","status":"False","reason":"No","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`
	kubectl(t, "patch", "httproute", "r", "-n", namespace, "--subresource=status", "--type=json", "-p", `[{"op":"add","path":"/status/parents/0","value":`+fmt.Sprintf(entry, "parent")+`}]`)
	kubectl(t, "patch", "trafficpolicy", "p", "-n", namespace, "--subresource=status", "--type=json", "-p", `[{"op":"add","path":"/status/ancestors/0","value":`+fmt.Sprintf(entry, "ancestor")+`}]`)
	versions := func() string {
		return kubectl(t, "get", "-n", namespace, "gateway/gw", "backend/b", "httproute/r", "trafficpolicy/p", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
	}
	before := versions()
	// Once a later change has come through, nothing else was written.
	apply(t, namespace, routeYAML("other", "/another", "b"))
	has(t, namespace, "httproute/other", "{.status.parents[0].conditions[0].observedGeneration}", "2")
	if after := versions(); after != before {
		t.Errorf("something was written that was the same: %s, before %s", after, before)
	}
	names := "{.status.parents[*].controllerName}"
	if got := path(t, namespace, "httproute/r", names); got != "other.example.com/c "+controller {
		t.Errorf("the entries of the route are of %s", got)
	}
	// A route that leaves the Gateway loses our entry, and only ours.
	apply(t, namespace, strings.Replace(routeYAML("r", "/", "b"), "name: gw", "name: theirs", 1))
	has(t, namespace, "httproute/r", names, "other.example.com/c")
	has(t, namespace, "trafficpolicy/p", "{.status.ancestors[*].controllerName}", "other.example.com/c")
	has(t, namespace, "gateway/gw", "{.status.listeners[0].attachedRoutes}", "1")
}
