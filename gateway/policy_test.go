package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/config"
)

// A Gateway with two listeners, a route with a named and an unnamed rule.
func rbacSetting(t *testing.T) string {
	return `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: agentgateway}
spec: {controllerName: kgateway.dev/agentgateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, labels: {team: a}}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: one, port: 8080, protocol: HTTP}
  - {name: two, port: 8081, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, labels: {team: a}}
spec:
  parentRefs: [{name: gw}]
  rules:
  - name: named
    matches: [{path: {value: /named}}]
    backendRefs: [` + to("a") + `]
  - matches: [{path: {value: /other}}]
    backendRefs: [` + to("a") + `]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: free}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{path: {value: /free}}]
    backendRefs: [` + to("a") + `]
` + static("a", upstreamServer(t, "a"))
}

// rbac is a TrafficPolicy with a list of targets, written in YAML, an action and expressions.
func rbac(name, targets, action string, expressions ...string) string {
	text := fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s}\nspec:\n  %s\n  rbac:\n    action: %s\n    policy:\n      matchExpressions:\n", name, targets, action)
	for _, e := range expressions {
		text += fmt.Sprintf("      - %q\n", e)
	}
	return text
}

func gatewayRef(kind, name, section string) string {
	group := "gateway.networking.k8s.io"
	if kind == "Backend" {
		group = "gateway.kgateway.dev"
	}
	if section != "" {
		section = ", sectionName: " + section
	}
	return fmt.Sprintf("targetRefs: [{group: %s, kind: %s, name: %s%s}]", group, kind, name, section)
}

// Where policies attach, and how they add up. Requests carry the header x-user.
func TestRBAC(t *testing.T) {
	setting := rbacSetting(t)
	const isA, isB = "request.headers['x-user'] == 'a'", "request.headers['x-user'] == 'b'"
	g := start(t, setting)
	for _, tc := range []struct {
		name, policies string
		want           map[string]int // "port/path user"
	}{
		{"none", "", map[string]int{"8080/named ": 200}},
		{"Gateway", rbac("p", gatewayRef("Gateway", "gw", ""), "Allow", isA), map[string]int{
			"8080/named a": 200, "8080/named b": 403, "8081/free b": 403, "8081/free a": 200, "8080/named ": 403,
		}},
		{"listener", rbac("p", gatewayRef("Gateway", "gw", "two"), "Allow", isA), map[string]int{
			"8080/named b": 200, "8081/named b": 403, "8081/named a": 200,
		}},
		{"route", rbac("p", gatewayRef("HTTPRoute", "r", ""), "Allow", isA), map[string]int{
			"8080/named b": 403, "8080/other b": 403, "8080/other a": 200, "8080/free b": 200,
		}},
		{"rule", rbac("p", gatewayRef("HTTPRoute", "r", "named"), "Allow", isA), map[string]int{
			"8080/named b": 403, "8080/named a": 200, "8080/other b": 200,
		}},
		{"selector", rbac("p", "targetSelectors: [{group: gateway.networking.k8s.io, kind: HTTPRoute, matchLabels: {team: a}}]", "Allow", isA), map[string]int{
			"8080/named b": 403, "8080/named a": 200, "8080/free b": 200,
		}},
		{"expressions are alternatives", rbac("p", gatewayRef("Gateway", "gw", ""), "Allow", isA, isB), map[string]int{
			"8080/named a": 200, "8080/named b": 200, "8080/named c": 403,
		}},
		{"levels add up", rbac("p", gatewayRef("Gateway", "gw", ""), "Allow", isA) + rbac("q", gatewayRef("HTTPRoute", "r", ""), "Allow", isB), map[string]int{
			"8080/named a": 200, "8080/named b": 200, "8080/named c": 403, "8080/free b": 403,
		}},
		{"deny wins", rbac("p", gatewayRef("Gateway", "gw", ""), "Allow", isA, isB) + rbac("q", gatewayRef("HTTPRoute", "r", "named"), "Deny", isB), map[string]int{
			"8080/named a": 200, "8080/named b": 403, "8080/other b": 200,
		}},
		{"deny alone permits the rest", rbac("p", gatewayRef("Gateway", "gw", ""), "Deny", isB), map[string]int{
			"8080/named b": 403, "8080/named c": 200,
		}},
		{"mcp means nothing here", rbac("p", gatewayRef("HTTPRoute", "r", ""), "Allow", "mcp.tool.name == 'echo'"), map[string]int{
			"8080/named a": 403, "8080/free a": 200,
		}},
		{"what protects and is not served", `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
spec:
  ` + gatewayRef("HTTPRoute", "r", "named") + `
  rateLimit: {global: {extensionRef: {name: e}, descriptors: [{entries: [{type: Path}]}]}}
`, map[string]int{"8080/named a": 500, "8080/other a": 200}},
		{"TLS toward a backend without the authorities", `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: BackendConfigPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: a}]
  tls: {secretRef: {name: nowhere}}
`, map[string]int{"8080/named a": 500}},
		{"on a Backend without operations", rbac("p", gatewayRef("Backend", "a", ""), "Allow", isA), map[string]int{"8080/named a": 200, "8080/named b": 403}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g.apply(setting + tc.policies)
			for request, want := range tc.want {
				at, user, _ := strings.Cut(request, " ")
				port, path, _ := strings.Cut(at, "/")
				var header []string
				if user != "" {
					header = []string{"X-USER", user}
				}
				got := g.do("GET", g.url(port, "/"+path), nil, header...)
				if got.Status != want || want == 403 && got.Body != "authorization failed" {
					t.Errorf("%s: %d %q, want %d", request, got.Status, got.Body, want)
				}
			}
		})
	}
}

// A Gateway that is meant for one address is not served on all of them.
func TestAddressesAreNotWidened(t *testing.T) {
	gatewayOn := func(more string) string {
		return `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: default}
spec:
  gatewayClassName: agentgateway
` + more + `
  listeners: [{name: http, protocol: HTTP, port: 8080}]
` + static("a", upstreamServer(t, "a")) + strings.Replace(route("r", "backendRefs: ["+to("a")+"]"), "spec:\n", "spec:\n  parentRefs: [{name: default}]\n", 1)
	}
	g := start(t, gatewayOn(""))
	if got := g.get("/"); got.Status != 200 {
		t.Fatalf("without addresses: %d %q", got.Status, got.Body)
	}
	report := g.Apply(load(t, gatewayOn("  addresses: [{type: IPAddress, value: 127.0.0.1}]")))
	if got := g.get("/"); got.Status != 500 || !report.Has(config.Unresolved) {
		t.Errorf("with an address: %d %q, %s", got.Status, got.Body, report.Summary())
	}
}

// In a cluster nothing is refused as a whole: a policy that does not compile closes what it covers,
// and only that.
func TestBrokenPolicyClosesWhatItCovers(t *testing.T) {
	setting := rbacSetting(t)
	g := start(t, setting)
	res := load(t, setting+rbac("p", gatewayRef("HTTPRoute", "r", ""), "Deny", "no such thing"))
	res.Local = false
	report := g.Apply(res)
	if !report.Has(config.Invalid) || report.Problems[0].Position.IsZero() {
		t.Errorf("report %+v", report.Problems)
	}
	for path, want := range map[string]int{"/named": 500, "/other": 500, "/free": 200} {
		if got := g.get(path); got.Status != want {
			t.Errorf("%s: %+v, want %d", path, got, want)
		}
	}
}

// Rules on Backends, their targets and the routes to them decide together which tools
// a client sees and calls.
func TestMCPRules(t *testing.T) {
	one, two := newMCPServer(t, "/mcp", false, "echo", "sum"), newMCPServer(t, "/mcp", true, "echo", "fetch")
	setting := mcpStatic("b", "", map[string]*mcpServer{"one": one, "two": two}) + route("r", "matches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("b")+"]")
	all := []string{"one_echo", "one_sum", "two_echo", "two_fetch"}
	g := start(t, setting)
	for _, tc := range []struct {
		name, policies string
		want           []string
	}{
		{"none", "", all},
		{"Backend", rbac("p", gatewayRef("Backend", "b", ""), "Allow", "mcp.tool.name == 'echo'"), []string{"one_echo", "two_echo"}},
		{"target", rbac("p", gatewayRef("Backend", "b", "two"), "Allow", "mcp.tool.name == 'echo'"), []string{"one_echo", "one_sum", "two_echo"}},
		{"by target", rbac("p", gatewayRef("Backend", "b", ""), "Deny", "mcp.tool.target == 'one'"), []string{"two_echo", "two_fetch"}},
		{"route", rbac("p", gatewayRef("HTTPRoute", "r", ""), "Allow", "mcp.tool.name == 'fetch'"), []string{"two_fetch"}},
		{"both have to permit", rbac("p", gatewayRef("Backend", "b", ""), "Allow", "mcp.tool.name == 'echo'") + rbac("q", gatewayRef("HTTPRoute", "r", ""), "Allow", "mcp.tool.target == 'two'"), []string{"two_echo"}},
		{"by header", rbac("p", gatewayRef("Backend", "b", ""), "Allow", "mcp.tool.name == 'sum' && request.headers['x-user'] == 'a'"), []string{"one_sum"}},
		{"arguments are not known while listing", rbac("p", gatewayRef("Backend", "b", ""), "Allow", "mcp.tool.name == 'echo' && mcp.tool.arguments.text == 'yes'"), []string{"one_echo", "two_echo"}},
	} {
		for _, era := range eras {
			t.Run(tc.name+" "+era, func(t *testing.T) {
				g.apply(setting + tc.policies)
				cs := g.connect(t, "/mcp", era, http.Header{"X-User": {"a"}})
				if got := toolNames(t, cs); !slices.Equal(got, tc.want) {
					t.Errorf("listed %v, want %v", got, tc.want)
				}
				for _, name := range all {
					before := len(one.called()) + len(two.called())
					got := call(t, cs, name, map[string]any{"text": "yes"})
					_, own, _ := strings.Cut(name, "_")
					listed := slices.Contains(tc.want, name)
					reached := len(one.called())+len(two.called()) > before
					if listed && got != own || listed != reached {
						t.Errorf("%s answers %q, reached its target: %v; listed: %v", name, got, reached, listed)
					}
				}
			})
		}
	}
	g.apply(setting + rbac("p", gatewayRef("Backend", "b", ""), "Allow", "mcp.tool.name == 'echo' && mcp.tool.arguments.text == 'yes'"))
	before := len(one.called())
	if got := call(t, g.connect(t, "/mcp", "2025-11-25", nil), "one_echo", map[string]any{"text": "no"}); got != "tool error: Not permitted with these arguments" {
		t.Errorf("with arguments that are not permitted: %q", got)
	}
	if len(one.called()) != before {
		t.Error("the call reached its target")
	}
}
