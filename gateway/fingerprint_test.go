package gateway

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An edit of a policy concerns the Backends whose clients it can show something else,
// and no others: theirs are not told of it.
func TestPolicyFingerprint(t *testing.T) {
	mcp := func(name string) string {
		return "\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: " + name + "}\nspec: {type: MCP, mcp: {targets: [{name: one, static: {host: 127.0.0.1, port: 1}}, {name: two, static: {host: 127.0.0.1, port: 2}}]}}\n"
	}
	route := func(name, listener string) string {
		return `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ` + name + `}
spec:
  parentRefs: [{name: gw, sectionName: ` + listener + `}]
  rules:
  - name: rule
    matches: [{path: {value: /` + name + `}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: ` + name + `}]
`
	}
	setting := `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: one, port: 8080, protocol: HTTP}
  - {name: two, port: 8081, protocol: HTTP}
` + mcp("a") + mcp("b") + mcp("c") + route("a", "one") + route("b", "one") + route("c", "two")
	rt, err := NewRuntime(RuntimeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fingerprints := func(text string) map[string]string {
		c := newCompiler(load(t, text), rt)
		c.compilePolicies()
		c.compileGateways()
		c.compileRoutes()
		c.finish()
		out := map[string]string{}
		for _, p := range c.mcps {
			out[strings.TrimPrefix(p.cfg.Name, "default/")] = p.cfg.PolicyFingerprint
		}
		return out
	}
	const before, after = "mcp.tool.name == 'x'", "mcp.tool.name == 'y'"
	for _, tt := range []struct {
		name, from, to string
		want           []string
	}{
		{"nothing", "", "", nil},
		{"a policy on a Backend", rbac("p", gatewayRef("Backend", "b", ""), "Allow", before), rbac("p", gatewayRef("Backend", "b", ""), "Allow", after), []string{"b"}},
		{"on a target", rbac("p", gatewayRef("Backend", "b", "one"), "Allow", before), rbac("p", gatewayRef("Backend", "b", "two"), "Allow", before), []string{"b"}},
		{"on a route", "", rbac("p", gatewayRef("HTTPRoute", "a", ""), "Deny", before), []string{"a"}},
		{"on a rule", rbac("p", gatewayRef("HTTPRoute", "c", "rule"), "Deny", before), rbac("p", gatewayRef("HTTPRoute", "c", "rule"), "Allow", before), []string{"c"}},
		{"on a listener", rbac("p", gatewayRef("Gateway", "gw", "one"), "Deny", before), "", []string{"a", "b"}},
		{"on the Gateway", "", rbac("p", gatewayRef("Gateway", "gw", ""), "Deny", before), []string{"a", "b", "c"}},
		{"moved from one to another", rbac("p", gatewayRef("HTTPRoute", "a", ""), "Deny", before), rbac("p", gatewayRef("HTTPRoute", "b", ""), "Deny", before), []string{"a", "b"}},
		{"renamed", rbac("p", gatewayRef("Backend", "b", ""), "Allow", before), rbac("q", gatewayRef("Backend", "b", ""), "Allow", before), nil},
		{"no MCP", "", static("d", "{host: 127.0.0.1, port: 3}") + rbac("p", gatewayRef("Backend", "d", ""), "Allow", before), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := fingerprints(setting+tt.from), fingerprints(setting+tt.to)
			var changed []string
			for _, name := range slices.Sorted(maps.Keys(from)) {
				if from[name] != to[name] {
					changed = append(changed, name)
				}
			}
			if diff := cmp.Diff(tt.want, changed); diff != "" || len(from) != 3 || len(to) != 3 {
				t.Errorf("%v to %v: %s", from, to, diff)
			}
		})
	}
}
