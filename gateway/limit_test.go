package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/telemetry"
)

func bucketOf(most int) string {
	return fmt.Sprintf("rateLimit: {local: {tokenBucket: {maxTokens: %d, tokensPerFill: 1, fillInterval: 100s}}}", most)
}

// The more specific limit counts, of all clients together; {} switches one off, and what counted goes on counting
// over a reload. What a rule denies is not counted.
func TestLocalLimit(t *testing.T) {
	host := upstreamServer(t, "a")
	setting := static("a", host) +
		route("one", "matches: [{path: {value: /one}}]\nbackendRefs: ["+to("a")+"]") +
		route("two", "matches: [{path: {value: /two}}]\nbackendRefs: ["+to("a")+"]") +
		route("three", "matches: [{path: {value: /three}}]\nbackendRefs: ["+to("a")+"]") +
		authPolicy("all", gatewayRef("Gateway", "default", ""), bucketOf(1)) +
		authPolicy("one", gatewayRef("HTTPRoute", "one", ""), bucketOf(2)) +
		authPolicy("three", gatewayRef("HTTPRoute", "three", ""), "rateLimit: {local: {}}") +
		rbac("deny", gatewayRef("Gateway", "default", ""), "Deny", "has(request.headers['x-user'])")
	g := start(t, setting)
	for range 5 {
		if got := g.get("/one", "X-User", "bad"); got.Status != 403 {
			t.Fatalf("denied: %d", got.Status)
		}
	}
	for i, want := range []int{200, 200, 429} {
		got := g.get("/one")
		if got.Status != want {
			t.Errorf("request %d is answered %d", i, got.Status)
		}
		if want != 429 {
			if got.Header.Get("X-Ratelimit-Limit") != "" {
				t.Errorf("request %d: %v", i, got.Header)
			}
			continue
		}
		h := got.Header
		if got.Body != "rate limit exceeded" || h.Get("Content-Type") != "text/plain" || h.Get("X-Ratelimit-Limit") != "2" || h.Get("X-Ratelimit-Remaining") != "0" || h.Get("X-Ratelimit-Reset") == "" || h.Get("Retry-After") != h.Get("X-Ratelimit-Reset") {
			t.Errorf("%q, %v", got.Body, h)
		}
	}
	for i, want := range []int{200, 429} {
		if got := g.get("/two"); got.Status != want || want == 429 && got.Header.Get("X-Ratelimit-Limit") != "1" {
			t.Errorf("request %d is answered %d, %v", i, got.Status, got.Header)
		}
	}
	for range 3 {
		if got := g.get("/three"); got.Status != 200 {
			t.Errorf("what is switched off answers %d", got.Status)
		}
	}
	g.apply(setting + static("b", host))
	if got := g.get("/one"); got.Status != 429 {
		t.Errorf("after a reload: %d", got.Status)
	}
	last := g.ended(14)[13]
	if last.ErrorType != "rate_limited" || last.Status != 429 {
		t.Errorf("the record says %q", last.ErrorType)
	}
	g.apply(strings.Replace(setting, "maxTokens: 2", "maxTokens: 3", 1))
	if got := g.get("/one"); got.Status != 200 {
		t.Errorf("another limit: %d", got.Status)
	}
}

// Each distinct descriptor has a limit of its own; without one nothing is counted.
func TestDescriptors(t *testing.T) {
	host := upstreamServer(t, "a")
	i := newIssuer(t)
	setting := static("a", host) + static("b", host) +
		route("a", "matches: [{path: {value: /a}}]\nbackendRefs: ["+to("a")+"]") +
		route("b", "matches: [{path: {value: /b}}]\nbackendRefs: ["+to("b")+"]") +
		authPolicy("auth", gatewayRef("Gateway", "default", ""), i.jwt(", mode: Optional")) + secretOf("keys", "", map[string]string{"k": `{"key": "k1", "metadata": {"team": {"name": "blue"}}}`}) +
		authPolicy("keys", gatewayRef("Gateway", "default", ""), "apiKeyAuthentication: {mode: Optional, secretRef: {name: keys}, location: {header: {name: x-api-key}}}")
	one, two := i.token("one", "us", nil), i.token("two", "us", map[string]any{"team": "blue"})
	g := start(t, setting)
	until(t, func() bool { return g.get("/a", "Authorization", "Bearer "+one).Status == 200 })
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	type sent struct {
		path   string
		header []string
		want   int
	}
	for n, tc := range []struct {
		actions string
		sent    []sent
	}{
		{"[{genericKey: {descriptorValue: all}}]", []sent{{"/a", nil, 200}, {"/b", nil, 429}}},
		{"[{generic: {key: a, value: b}}]", []sent{{"/a", nil, 200}, {"/b", nil, 429}}},
		{"[{requestHeaders: {headerName: x-user, descriptorKey: user}}]", []sent{
			{"/a", []string{"X-User", "a"}, 200}, {"/a", []string{"X-User", "b"}, 200}, {"/b", []string{"X-User", "a"}, 429}, {"/a", nil, 200}, {"/a", nil, 200},
		}},
		{"[{header: x-user}, {path: {}}]", []sent{{"/a", []string{"X-User", "a"}, 200}, {"/b", []string{"X-User", "a"}, 200}, {"/b", []string{"X-User", "a"}, 429}, {"/a", nil, 200}, {"/a", nil, 200}}},
		{"[{requestHeaders: {headerName: x-user, descriptorKey: user, skipIfAbsent: true}}, {genericKey: {descriptorValue: a}}]", []sent{{"/a", nil, 200}, {"/a", []string{"X-User", ""}, 200}, {"/a", nil, 429}}},
		{"[{requestHeaders: {headerName: a, descriptorKey: a}}, {requestHeaders: {headerName: b, descriptorKey: b}}]", []sent{
			{"/a", []string{"A", "xy", "B", "z"}, 200}, {"/a", []string{"A", "x", "B", "yz"}, 200}, {"/a", []string{"A", strings.Repeat("x", 5000), "B", "z"}, 200}, {"/a", []string{"A", strings.Repeat("x", 5000), "B", "z"}, 429},
		}},
		{"[{remoteAddress: {}}]", []sent{{"/a", nil, 200}, {"/b", nil, 429}}},
		{"[{type: Path}]", []sent{{"/a/1?x=1", nil, 200}, {"/a/1?x=2", nil, 429}, {"/a/2", nil, 200}}},
		{"[{sourceCluster: {}}]", []sent{{"/a", nil, 200}, {"/b", nil, 429}}},
		{"[{destinationCluster: {}}]", []sent{{"/a", nil, 200}, {"/b", nil, 200}, {"/b", nil, 429}}},
		{"[{headerValueMatch: {descriptorValue: slow, headers: [{name: x-user, prefixMatch: a}]}}]", []sent{
			{"/a", []string{"X-User", "ab"}, 200}, {"/a", []string{"X-User", "b"}, 200}, {"/a", []string{"X-User", "b"}, 200}, {"/a", []string{"X-User", "ac"}, 429},
		}},
		{"[{headerValueMatch: {descriptorValue: others, expectMatch: false, headers: [{name: x-user, regexMatch: 'a|b'}]}}]", []sent{
			{"/a", []string{"X-User", "a"}, 200}, {"/a", []string{"X-User", "b"}, 200}, {"/a", nil, 200}, {"/a", []string{"X-User", "abc"}, 429},
		}},
		{"[{metadata: {descriptorKey: user, metadataKey: {key: jwt, path: [{key: sub}]}}}]", []sent{
			{"/a", bearer(one), 200}, {"/a", bearer(two), 200}, {"/a", bearer(one), 429}, {"/a", nil, 200}, {"/a", nil, 200},
		}},
		{"[{metadata: {descriptorKey: team, defaultValue: none, metadataKey: {key: jwt, path: [{key: team}]}}}]", []sent{
			{"/a", bearer(one), 200}, {"/a", bearer(two), 200}, {"/a", nil, 429},
		}},
		{"[{metadata: {descriptorKey: team, metadataKey: {key: apiKey, path: [{key: team}, {key: name}]}}}]", []sent{
			{"/a", []string{"X-Api-Key", "k1"}, 200}, {"/a", nil, 200}, {"/a", []string{"X-Api-Key", "k1"}, 429},
		}},
	} {
		// A policy of another name counts anew.
		g.apply(setting + authPolicy(fmt.Sprintf("p%d", n), gatewayRef("Gateway", "default", ""), "rateLimit: {rateLimits: [{actions: "+tc.actions+", limit: {requestsPerUnit: 1, unit: Day}}]}"))
		for j, s := range tc.sent {
			if got := g.get(s.path, s.header...); got.Status != s.want {
				t.Errorf("%s: request %d, %s %v, is answered %d %s", tc.actions, j, s.path, s.header, got.Status, got.Body)
			}
		}
	}
	g.apply(setting + authPolicy("p", gatewayRef("Gateway", "default", ""), "rateLimit: {rateLimits: [{actions: [{metadata: {descriptorKey: a, metadataKey: {key: envoy.filters.http.ext_authz}}}], limit: {requestsPerUnit: 1, unit: Day}}]}"))
	if got := g.get("/a"); got.Status != 500 {
		t.Errorf("metadata that nobody sets: %d", got.Status)
	}
}

// A limit that asks about operations, on the route or on the Backend, counts calls of a tool and nothing else of a session, which goes on.
func TestToolLimit(t *testing.T) {
	s := newMCPServer(t, "/mcp", false, "echo", "sum")
	registered := telemetry.NewMetrics(telemetry.MetricsOptions{WithoutRuntime: true})
	setting := mcpStatic("b", "", map[string]*mcpServer{"one": s}) + route("r", "matches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("b")+"]")
	g := startOn(t, RuntimeOptions{Metrics: registered}, Options{}, setting)
	refs := []string{gatewayRef("HTTPRoute", "r", ""), gatewayRef("Backend", "b", "")}
	for i := range len(refs) * len(eras) {
		ref, era := refs[i%len(refs)], eras[i/len(refs)]
		g.apply(setting) // which forgets what was counted
		g.apply(setting + authPolicy("p", ref, `
rateLimit:
  rateLimits:
  - actions:
    - metadata: {descriptorKey: tool, metadataKey: {key: mcp, path: [{key: tool}, {key: name}]}}
    - requestHeaders: {headerName: x-user, descriptorKey: user}
    limit: {requestsPerUnit: 2, unit: Day}`))
		cs := g.connect(t, "/mcp", era, http.Header{"X-User": {"a"}})
		other := g.connect(t, "/mcp", era, http.Header{"X-User": {"b"}})
		before := len(s.called())
		for i, want := range []string{"echo", "echo", "error"} {
			if got := call(t, cs, "one_echo", nil); !strings.HasPrefix(got, want) || want == "error" && !strings.Contains(got, "Too Many Requests") {
				t.Errorf("%s: call %d: %s", era, i, got)
			}
		}
		if got := call(t, cs, "one_sum", nil); got != "sum" {
			t.Errorf("%s: another tool: %s", era, got)
		}
		if got := call(t, other, "one_echo", nil); got != "echo" {
			t.Errorf("%s: another user: %s", era, got)
		}
		if got := toolNames(t, cs); len(got) != 2 {
			t.Errorf("%s: the list after it: %v", era, got)
		}
		if n := len(s.called()) - before; n != 4 {
			t.Errorf("%s: %d calls reached the server", era, n)
		}
	}
	if got := counted(t, registered, "mcpgw_limited_total"); got != len(refs)*len(eras) {
		t.Errorf("%d are counted", got)
	}
}

// counted returns the sum of a counter over its labels.
func counted(t *testing.T, m *telemetry.Metrics, name string) int {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, v := range f.GetMetric() {
				sum += v.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}
