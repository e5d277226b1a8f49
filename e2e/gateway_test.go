package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// The revisions that go-sdk's client is used at.
var revisions = []string{"2025-06-18", "2025-11-25", "2026-07-28"}

// A gateway is a running `mcpgw serve` with one file.
type gateway struct{ *testgateway.Gateway }

// manifest returns the YAML of a Gateway on port, and of one MCP Backend with the
// given targets (a flow mapping each) that is served at /mcp. More fields of its
// spec.mcp can be appended.
func manifest(port int, targets ...string) string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: default}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: http, protocol: HTTP, port: %d}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /mcp}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: tools}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec:
  type: MCP
  mcp:
    targets:
    - %s
`, port, strings.Join(targets, "\n    - "))
}

// static returns a target of [manifest].
func static(name string, port int, path string) string {
	return fmt.Sprintf("{name: %s, static: {host: 127.0.0.1, port: %d, path: %s}}", name, port, path)
}

// serve starts `mcpgw serve` with the YAML that write returns for its port.
func serve(t testing.TB, write func(port int) string, args ...string) *gateway {
	t.Helper()
	return startGateway(t, "serve", nil, write, args...)
}

// startGateway starts a serving command with variables added to its environment.
func startGateway(t testing.TB, command string, env []string, write func(port int) string, args ...string) *gateway {
	t.Helper()
	args = append([]string{"--log-format", "json", "--log-level", "debug", "--admin-addr", "off"}, args...)
	return &gateway{testgateway.ServeFile(t, binary, write, testgateway.Options{Command: command, Env: env, Args: args})}
}

// url returns the MCP endpoint.
func (g *gateway) url() string { return "http://" + g.Address + "/mcp" }

// A client is go-sdk's client with a count of the changes it was told of.
type client struct {
	*mcp.ClientSession
	changes chan struct{} // a token for each tools list_changed
}

// A clientOptions says what a client can do and sends.
type clientOptions struct {
	revision string
	header   http.Header
	elicit   func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)
	progress func(*mcp.ProgressNotificationParams)
}

// headers adds headers to each request.
type headers struct {
	add  http.Header
	next http.RoundTripper
}

func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range h.add {
		r.Header[name] = values
	}
	return h.next.RoundTrip(r)
}

// connect opens a session of go-sdk's client.
func connect(t testing.TB, url string, opts clientOptions) *client {
	t.Helper()
	c := &client{changes: make(chan struct{}, 1000)}
	options := &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { c.changes <- struct{}{} },
		ElicitationHandler:     opts.elicit,
	}
	if opts.progress != nil {
		options.ProgressNotificationHandler = func(_ context.Context, n *mcp.ProgressNotificationClientRequest) { opts.progress(n.Params) }
	}
	transport := &http.Transport{}
	sdk := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, options)
	session, err := sdk.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: headers{add: opts.header, next: transport}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: opts.revision})
	if err != nil {
		t.Fatalf("connecting at %s: %v", opts.revision, err)
	}
	c.ClientSession = session
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() { _ = session.Close() })
		transport.CloseIdleConnections()
	})
	return c
}

// toolNames returns the names that the client lists, in the order listed.
func (c *client) toolNames(t testing.TB) []string {
	t.Helper()
	names := []string{}
	for tool, err := range c.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	return names
}

// call calls a tool and returns the text of its answer.
func (c *client) call(t testing.TB, name string, arguments map[string]any) string {
	t.Helper()
	params := &mcp.CallToolParams{Name: name, Arguments: map[string]any{}}
	if arguments != nil {
		params.Arguments = arguments
	}
	result, err := c.CallTool(t.Context(), params)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return resultText(result)
}

func resultText(result *mcp.CallToolResult) string {
	var texts []string
	for _, content := range result.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, text.Text)
		}
	}
	return strings.Join(texts, "\n")
}
