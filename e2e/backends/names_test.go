package backends

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// The addresses of a name are endpoints of their own, of Static Backends and MCP servers alike; they come and go with the records,
// without a reload, and what can't be resolved stays as it was.
func TestNames(t *testing.T) {
	for _, n := range []int{1, 2} {
		server := mcp.NewServer(&mcp.Implementation{Name: "names", Version: "1"}, nil)
		mcp.AddTool(server, &mcp.Tool{Name: "where"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(n)}}}, nil, nil
		})
		mux := http.NewServeMux()
		mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, n) })
		serveAt(t, fmt.Sprintf("10.245.9.%d:8000", n), mux)
	}
	names.Set("service.test", "10.245.9.1", "10.245.9.2")
	g := start(t, nil, `apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: web}
spec: {type: Static, static: {hosts: [{host: service.test, port: 8000}]}, loadBalancer: {type: RoundRobin}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec: {type: MCP, mcp: {targets: [{name: one, static: {host: service.test, port: 8000}}]}}
---
`+testgateway.Route("web", "/web", "web", "")+testgateway.Route("tools", "/mcp", "tools", ""))
	where := func() string { return g.Ask(t, "GET", "/web", nil).Body }
	testgateway.Until(t, "both addresses are used in turn", func() bool {
		first, second, third := where(), where(), where()
		return first != second && first == third
	})
	call := func() (string, error) {
		session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + g.Address + "/mcp"}, nil)
		if err != nil {
			return "", err
		}
		defer func() { _ = session.Close() }()
		got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "one_where"})
		if err != nil {
			return "", err
		}
		return got.Content[0].(*mcp.TextContent).Text, nil
	}
	if got, err := call(); err != nil || got != "1" && got != "2" {
		t.Fatalf("%q, %v", got, err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + g.Address + "/mcp"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	names.Set("service.test", "10.245.9.2")
	testgateway.Until(t, "one address is left", func() bool { return where() == "2" && where() == "2" && where() == "2" })
	testgateway.Until(t, "MCP calls go there, too", func() bool {
		got, err := call()
		return err == nil && got == "2"
	})
	// A session goes on where the name leads now: its server has to know it, or it is begun anew, unseen.
	if got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "one_where"}); err != nil || got.IsError {
		t.Errorf("a session whose address has gone: %+v, %v", got, err)
	}
	names.Fail("service.test")
	before := names.Asked("service.test")
	testgateway.Until(t, "it is asked again", func() bool { return names.Asked("service.test") > before })
	if got := where(); got != "2" {
		t.Errorf("while it can't be resolved: %q", got)
	}
}
