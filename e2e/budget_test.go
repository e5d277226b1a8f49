package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// startRedis runs Debian's redis-server, which hack/deps installs, on a port.
func startRedis(t testing.TB, port int) *testgateway.Process {
	t.Helper()
	p := testgateway.Run(t, nil, "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(), "--requirepass", "secret")
	testgateway.Eventually(t, "redis answers", func() error {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return p
}

// TestBudget has two gateways share a budget in a real Redis, which requests to a language model and tool calls take from;
// while Redis is gone each counts for itself.
func TestBudget(t *testing.T) {
	t.Parallel()
	redis := testgateway.FreePort(t)
	server := startRedis(t, redis)
	demo := static("demo", serveDemo(t), "/demo/mcp")
	good := providerServer(t, 200, chatAnswer, nil)
	write := func(port int) string {
		return manifest(port, demo) + fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: models}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {value: /v1}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: models}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: models}
spec: {type: AI, ai: {llm: {%s, openai: {authToken: {kind: Inline, inline: k}, model: gpt-4o}}}}
---
apiVersion: v1
kind: Secret
metadata: {name: redis}
stringData: {password: secret}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: money}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  budgets:
    redis: {address: "127.0.0.1:%d", secretRef: {name: redis}, timeout: 5s}
    limits:
    - {name: team, cost: "0.016", toolCall: "0.001", window: Month, per: [{header: x-team}]}
`, good, redis)
	}
	one, two := startGateway(t, "serve", nil, write), startGateway(t, "serve", nil, write)
	ask := func(g *gateway, team string) (int, string) {
		t.Helper()
		r, err := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d/v1/chat/completions", g.Port), strings.NewReader(`{"model":"any","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Team", team)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	// An answer costs 0.007: two are 0.014, and two calls 0.002.
	for i, g := range []*gateway{one, two} {
		if status, body := ask(g, "a"); status != 200 {
			t.Fatalf("request %d: %d %s", i, status, body)
		}
	}
	tool := func(g *gateway, team string) error {
		t.Helper()
		c := connect(t, g.url(), clientOptions{revision: "2025-11-25", header: http.Header{"X-Team": {team}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.CallTool(ctx, &mcp.CallToolParams{Name: "demo_echo", Arguments: map[string]any{"message": "x"}})
		return err
	}
	for i, g := range []*gateway{two, one} {
		if err := tool(g, "a"); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	for i, g := range []*gateway{one, two} {
		if err := tool(g, "a"); err == nil || !strings.Contains(err.Error(), "Too Many Requests") {
			t.Errorf("gateway %d: a call over the budget: %v", i, err)
		}
		if status, body := ask(g, "a"); status != 429 || !strings.Contains(body, "the budget team is exhausted: 0.016 US dollars a month") {
			t.Errorf("gateway %d: a request over the budget: %d %s", i, status, body)
		}
		if status, body := ask(g, "b"); status != 200 {
			t.Errorf("gateway %d: another team: %d %s", i, status, body)
		}
	}
	server.Kill()
	if status, body := ask(one, "a"); status != 200 {
		t.Errorf("while Redis is gone: %d %s", status, body)
	}
	startRedis(t, redis)
	testgateway.Eventually(t, "it is counted in Redis again", func() error {
		_, _ = ask(one, "c")
		if status, _ := ask(two, "c"); status != 429 {
			return fmt.Errorf("the other gateway answers %d", status)
		}
		return nil
	})
}
