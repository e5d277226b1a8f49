package e2e

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// rbac returns a TrafficPolicy on the Backend of [manifest].
func rbac(action string, expressions ...string) string {
	yaml := `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: rules}
spec:
  targetRefs:
  - {group: gateway.kgateway.dev, kind: Backend, name: tools}
  rbac:
    action: ` + action + `
    policy:
      matchExpressions:
`
	for _, expression := range expressions {
		yaml += "      - >-\n        " + expression + "\n"
	}
	return yaml
}

// unknownTool calls a tool that must answer as if it did not exist, and returns
// the error.
func unknownTool(t *testing.T, c *client, name string) *jsonrpc.Error {
	t.Helper()
	_, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: map[string]any{}})
	var rpc *jsonrpc.Error
	if !errors.As(err, &rpc) {
		t.Fatalf("%s answers %v, want a JSON-RPC error", name, err)
	}
	return rpc
}

// TestRulesPerTool lists and calls under rules by tool, by header and by
// arguments, at each revision.
func TestRulesPerTool(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("demo", demo, "/demo/mcp"), static("notes", demo, "/notes/mcp")) + rbac("Allow",
			`mcp.tool.name == 'echo'`,
			`mcp.tool.target == 'notes' && request.headers['x-team'] == 'writers'`,
			`mcp.tool.name == 'add' && mcp.tool.arguments.a < 10.0`)
	})
	writers := http.Header{"X-Team": {"writers"}}
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			anyone := connect(t, g.url(), clientOptions{revision: revision})
			if diff := cmp.Diff([]string{"demo_add", "demo_echo"}, slices.Sorted(slices.Values(anyone.toolNames(t)))); diff != "" {
				t.Error(diff)
			}
			writer := connect(t, g.url(), clientOptions{revision: revision, header: writers})
			want := []string{"demo_add", "demo_echo", "notes_clear", "notes_list", "notes_write"}
			if diff := cmp.Diff(want, slices.Sorted(slices.Values(writer.toolNames(t)))); diff != "" {
				t.Error(diff)
			}
			if got := writer.call(t, "notes_write", map[string]any{"text": "x"}); !strings.HasPrefix(got, "note ") {
				t.Errorf("notes_write answers %q", got)
			}
			if got := anyone.call(t, "demo_add", map[string]any{"a": 9, "b": 1}); got != "10" {
				t.Errorf("permitted arguments answer %q", got)
			}
			result, err := anyone.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_add", Arguments: map[string]any{"a": 10, "b": 1}})
			if err != nil || !result.IsError || resultText(result) != "Not permitted with these arguments" {
				t.Errorf("refused arguments answer %+v, %v", result, err)
			}

			denied, missing := unknownTool(t, anyone, "notes_write"), unknownTool(t, anyone, "notes_wrote")
			if denied.Message != "Unknown tool: notes_write" || missing.Message != "Unknown tool: notes_wrote" || denied.Code != missing.Code || denied.Code != -32602 {
				t.Errorf("denied answers %+v, missing %+v", denied, missing)
			}
		})
	}
}

// TestRulesPerRequest refuses requests before anything MCP about them is read.
func TestRulesPerRequest(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) + strings.Replace(
			rbac("Allow", `has(request.headers['x-api-key']) && source.address == '127.0.0.0/8'`),
			"{group: gateway.kgateway.dev, kind: Backend, name: tools}",
			"{group: gateway.networking.k8s.io, kind: HTTPRoute, name: tools}", 1)
	})
	response, err := http.Post(g.url(), "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("without the header: %s", response.Status)
	}
	c := connect(t, g.url(), clientOptions{header: http.Header{"X-Api-Key": {"any"}}})
	if got := c.call(t, "demo_echo", map[string]any{"message": "in"}); got != "in" {
		t.Errorf("with the header: %q", got)
	}
}
