package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// policyOnBackend is a TrafficPolicy on a Backend.
func policyOnBackend(name, backend, spec string) string {
	return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]\n  %s\n", name, backend, spec)
}

// TestPoliciesOnBackends is about each field on a Backend, beside one on the route that has the same field or none: it holds for requests to that
// Backend and no other, in place of what the route has.
func TestPoliciesOnBackends(t *testing.T) {
	upstream := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Old", "old")
		_, _ = fmt.Fprintf(w, "a=%s b=%s %d", r.Header.Get("X-A"), r.Header.Get("X-B"), len(body))
	})
	for _, tc := range []struct {
		field, own, route string
		path, body        string
		want, other       string // of the Backend, and of one without policies
	}{
		{"rbac", "rbac: {policy: {matchExpressions: ['false']}}", "", "/", "", "403 authorization failed", "200 a= b= 0"},
		{"rbac adds up", "rbac: {policy: {matchExpressions: ['true']}}", "rbac: {policy: {matchExpressions: ['false']}}", "/", "", "403 authorization failed", "403 authorization failed"},
		{"rbac of what was chosen", `rbac: {policy: {matchExpressions: ["backend.name == 'default/own' && backend.type == 'Static'"]}}`, "", "/", "", "200 a= b= 0", "200 a= b= 0"},
		{"headerModifiers", "headerModifiers: {request: {set: [{name: x-a, value: own}]}}", "headerModifiers: {request: {set: [{name: x-a, value: route}, {name: x-b, value: route}]}}", "/", "", "200 a=own b= 0", "200 a=route b=route 0"},
		{"transformation", `transformation: {request: {set: [{name: x-a, value: "backend.name"}]}}`, "headerModifiers: {request: {set: [{name: x-b, value: route}]}}", "/", "", "200 a=default/own b=route 0", "200 a= b=route 0"},
		{"buffer", "buffer: {maxRequestSize: '3'}", "buffer: {maxRequestSize: '100'}", "/", "12345", "413 the request body is over the limit of 3 bytes", "200 a= b= 5"},
		{"buffer switched off", "buffer: {disable: {}}", "buffer: {maxRequestSize: '3'}", "/", "12345", "200 a= b= 5", "413 the request body is over the limit of 3 bytes"},
		{"timeouts", "timeouts: {request: 50ms}", "", "/slow", "", "504 the request took longer than its timeout", ""},
		{"csrf", "csrf: {percentageEnabled: 100}", "", "/", "", "403 ", "200 a= b= 0"},
		{"rateLimit", "rateLimit: {local: {tokenBucket: {maxTokens: 1, fillInterval: 1h}}}", "", "/", "", "200 a= b= 0, then 429 rate limit exceeded", "200 a= b= 0, then 200 a= b= 0"},
		{"rateLimit beside that of the route", "rateLimit: {local: {tokenBucket: {maxTokens: 2, fillInterval: 1h}}}", "rateLimit: {local: {tokenBucket: {maxTokens: 1, fillInterval: 1h}}}", "/", "", "200 a= b= 0, then 429 rate limit exceeded", ""},
		{"rateLimits", "rateLimit: {rateLimits: [{actions: [{path: {}}], limit: {requestsPerUnit: 1, unit: DAY}}]}", "", "/", "", "200 a= b= 0, then 429 rate limit exceeded", ""},
	} {
		t.Run(tc.field, func(t *testing.T) {
			text := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {gatewayClassName: mcpgw, listeners: [{name: http, port: 8080, protocol: HTTP}]}\n" + static("own", upstream) + static("other", upstream) +
				routeOn("gw", "r", "backendRefs: ["+to("own")+"]\nmatches: [{headers: [{name: x-to, value: own}]}]") + routeOn("gw", "o", "backendRefs: ["+to("other")+"]") + policyOnBackend("own", "own", tc.own)
			for _, r := range []string{"r", "o"} {
				if tc.route != "" {
					text += webPolicyOn("p"+r, "HTTPRoute", r, "", tc.route)
				}
			}
			g := start(t, text)
			ask := func(to string) string {
				got := g.do("POST", g.url("8080", tc.path), strings.NewReader(tc.body), "X-To", to, "Origin", "https://evil.example.com")
				return fmt.Sprintf("%d %s", got.Status, strings.TrimSpace(got.Body))
			}
			for to, want := range map[string]string{"own": tc.want, "other": tc.other} {
				first, then, twice := strings.Cut(want, ", then ")
				if want == "" {
					continue
				}
				if got := ask(to); got != first && !(strings.HasSuffix(first, " ") && strings.HasPrefix(got, first)) {
					t.Errorf("to %s: %q, want %q", to, got, first)
				}
				if twice {
					if got := ask(to); got != then {
						t.Errorf("to %s again: %q, want %q", to, got, then)
					}
				}
			}
		})
	}
}

// TestPolicyOnModels is about a policy on a Backend of type AI, whose limits and changes hold for it as those of routes do.
func TestPolicyOnModels(t *testing.T) {
	model := llmtest.Start(llmtest.OpenAI)
	t.Cleanup(model.Close)
	g := start(t, "\n---\n"+llmtest.Backend("m", model.Provider(""))+route("r", "backendRefs: ["+to("m")+"]")+
		policyOnBackend("p", "m", `rateLimit: {local: {tokenBucket: {maxTokens: 1, fillInterval: 1h}}}
  transformation: {response: {set: [{name: x-served, value: "backend.type"}]}}`))
	for _, want := range []int{200, 429} {
		got := g.do("POST", g.url("8080", "/v1/chat/completions"), strings.NewReader(string(llmtest.Chat.Request("hello", false))), "Content-Type", "application/json")
		if got.Status != want || want == 200 && got.Header.Get("X-Served") != "AI" {
			t.Errorf("answer %d %q %v, want %d", got.Status, got.Body, got.Header, want)
		}
	}
}

// TestReportOfBackendPolicies is about what a Backend is too late for, and policies on it that have the same field.
func TestReportOfBackendPolicies(t *testing.T) {
	_, report := Compile(load(t, static("a", "{host: h, port: 1}")+route("r", "backendRefs: ["+to("a")+"]")+
		policyOnBackend("first", "a", "retry: {attempts: 1}\n  cors: {allowOrigins: ['*']}")+policyOnBackend("second", "a", "retry: {attempts: 2}")), nil)
	var got []string
	for _, p := range report.Problems {
		got = append(got, fmt.Sprintf("%s %s %s %s", p.Object.Name, p.Path, p.Code, p.Reason))
	}
	want := []string{"first spec.cors " + string(config.CodeUnused) + " ", "second spec.retry " + string(config.CodeOverridden) + " Overridden"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the report is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
