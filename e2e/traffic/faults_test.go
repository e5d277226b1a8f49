package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A toxiproxy is a server of Shopify's toxiproxy, which stands between the gateway and its upstreams.
type toxiproxy struct{ api string }

func startToxiproxy(t testing.TB) *toxiproxy {
	t.Helper()
	address := testgateway.FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	testgateway.Run(t, []string{"LOG_LEVEL=error"}, installed(t, "toxiproxy"), "-host", host, "-port", port).Listens(t, address)
	return &toxiproxy{"http://" + address}
}

func (p *toxiproxy) post(t testing.TB, path string, body map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(p.api+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("toxiproxy: %d %s", resp.StatusCode, said)
	}
}

// A toxic is what toxiproxy does to a connection.
type toxic struct {
	name       string
	kind       string // as toxiproxy has it
	stream     string // upstream: what the gateway sends
	attributes map[string]any
	// breaks says that nothing whole can come through.
	breaks bool
}

// proxy puts a toxic between the gateway and an upstream, and returns where the gateway finds it.
func (p *toxiproxy) proxy(t testing.TB, name, upstream string, x toxic) string {
	t.Helper()
	listen := testgateway.FreeAddress(t)
	p.post(t, "/proxies", map[string]any{"name": name, "listen": listen, "upstream": upstream, "enabled": true})
	if x.kind != "" {
		p.post(t, "/proxies/"+name+"/toxics", map[string]any{"name": "x", "type": x.kind, "stream": x.stream, "toxicity": 1.0, "attributes": x.attributes})
	}
	return listen
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`

// TestFaultsOfNetworks puts toxiproxy between the gateway and MCP servers and models: connections are slow, cut into pieces, narrow, reset or
// ended in the middle, for a call, a list, a listen, an answer of a model and its stream. What can come through comes whole; what can't is
// told to the client as an error, never as a whole answer; and each request ends once, with one record.
func TestFaultsOfNetworks(t *testing.T) {
	t.Parallel()
	toxi := startToxiproxy(t)
	text := strings.Repeat("All of it. ", 300)
	tools := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	mcp.AddTool(tools, &mcp.Tool{Name: "echo"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	})
	toolServer := serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools }, &mcp.StreamableHTTPOptions{Stateless: true}).ServeHTTP)
	t.Cleanup(func() {
		for s := range tools.Sessions() {
			_ = s.Close()
		}
	})
	model := llmtest.Start(llmtest.OpenAI)
	t.Cleanup(model.Close)
	modelServer := net.JoinHostPort(model.Host, model.Port)

	toxics := []toxic{
		{name: "none"},
		{name: "latency", kind: "latency", stream: "downstream", attributes: map[string]any{"latency": 200, "jitter": 50}},
		{name: "slicer", kind: "slicer", stream: "downstream", attributes: map[string]any{"average_size": 32, "size_variation": 16, "delay": 500}},
		{name: "bandwidth", kind: "bandwidth", stream: "downstream", attributes: map[string]any{"rate": 20}},
		{name: "slow requests", kind: "bandwidth", stream: "upstream", attributes: map[string]any{"rate": 5}},
		{name: "reset at once", kind: "reset_peer", stream: "downstream", attributes: map[string]any{"timeout": 0}, breaks: true},
		{name: "reset later", kind: "reset_peer", stream: "upstream", attributes: map[string]any{"timeout": 50}, breaks: true},
		{name: "ends in the head", kind: "limit_data", stream: "downstream", attributes: map[string]any{"bytes": 20}, breaks: true},
		{name: "ends in the body", kind: "limit_data", stream: "downstream", attributes: map[string]any{"bytes": 400}, breaks: true},
		{name: "request ends in the middle", kind: "limit_data", stream: "upstream", attributes: map[string]any{"bytes": 60}, breaks: true},
	}
	var resources strings.Builder
	for i, x := range toxics {
		at := func(kind, upstream string) (host, port string) {
			host, port, _ = net.SplitHostPort(toxi.proxy(t, fmt.Sprintf("%s%d", kind, i), upstream, x))
			return host, port
		}
		host, port := at("tools", toolServer)
		fmt.Fprintf(&resources, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools%d}\nspec: {type: MCP, mcp: {targets: [{name: one, static: {host: %s, port: %s}}]}}\n---\n", i, host, port)
		host, port = at("model", modelServer)
		resources.WriteString(llmtest.Backend(fmt.Sprintf("model%d", i), llmtest.Provider(llmtest.OpenAI, host, port, "")) + "---\n")
		resources.WriteString(testgateway.Route(fmt.Sprintf("tools%d", i), fmt.Sprintf("/tools%d", i), fmt.Sprintf("tools%d", i), "") +
			testgateway.Route(fmt.Sprintf("model%d", i), fmt.Sprintf("/model%d", i), fmt.Sprintf("model%d", i), ""))
	}
	g := start(t, resources.String())

	// ask sends a request that its record can be found by, and returns what came of it.
	ask := func(t *testing.T, path, id, method, body string) (status int, answer string, err error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.Address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "X-Request-Id": {id}}
		if method != "" {
			r.Header["Mcp-Protocol-Version"], r.Header["Mcp-Method"] = []string{"2026-07-28"}, []string{method}
		}
		if method == "tools/call" {
			r.Header["Mcp-Name"] = []string{"one_echo"}
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		if method == "subscriptions/listen" { // which has no end
			buffer := make([]byte, 4096)
			n, err := resp.Body.Read(buffer)
			return resp.StatusCode, string(buffer[:n]), err
		}
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	type kind struct {
		name string
		ask  func(t *testing.T, i int, id string) (int, string, error)
		// whole says that the answer is all that there is, failed that it is an error in the client's protocol.
		whole, failed func(status int, answer string) bool
	}
	rpc := func(method, params string) func(*testing.T, int, string) (int, string, error) {
		return func(t *testing.T, i int, id string) (int, string, error) {
			return ask(t, fmt.Sprintf("/tools%d", i), id, method, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s%s}}`, method, params, modernMeta))
		}
	}
	rpcError := func(_ int, answer string) bool { return strings.Contains(answer, `"error":{"code":`) }
	chat := func(stream bool) func(*testing.T, int, string) (int, string, error) {
		return func(t *testing.T, i int, id string) (int, string, error) {
			return ask(t, fmt.Sprintf("/model%d/v1/chat/completions", i), id, "", string(llmtest.Chat.Request("hello", stream)))
		}
	}
	chatError := func(status int, answer string) bool {
		return status >= 500 && strings.Contains(answer, `"error"`) || strings.Contains(answer, `data: {"error"`) && !strings.Contains(answer, "[DONE]")
	}
	kinds := []kind{
		{"call", rpc("tools/call", `"name":"one_echo","arguments":{},`), func(_ int, a string) bool { return strings.Contains(a, text) }, rpcError},
		{"list", rpc("tools/list", ""), func(_ int, a string) bool { return strings.Contains(a, `"one_echo"`) }, func(_ int, a string) bool {
			return rpcError(0, a) || strings.Contains(a, `"tools":[]`) && strings.Contains(a, `"one"`) // the target that is missing is named
		}},
		{"listen", rpc("subscriptions/listen", `"notifications":{"toolsListChanged":true},`), func(_ int, a string) bool { return strings.Contains(a, "notifications/subscriptions/acknowledged") }, rpcError},
		{"unary", chat(false), func(_ int, a string) bool {
			got, err := llmtest.Chat.Read([]byte(a))
			return err == nil && got == llmtest.Hello.Text
		}, chatError},
		{"stream", chat(true), func(_ int, a string) bool {
			got, err := llmtest.Chat.ReadStream([]byte(a))
			return err == nil && got == llmtest.Hello.Text
		}, chatError},
	}
	for i, x := range toxics {
		for _, k := range kinds {
			id := strings.ReplaceAll(fmt.Sprintf("fault-%s-%s", x.name, k.name), " ", "-")
			t.Run(x.name+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				status, answer, err := k.ask(t, i, id)
				whole, failed := k.whole(status, answer), k.failed(status, answer)
				switch {
				case err == nil && whole && !failed:
					if x.breaks && k.name != "listen" {
						t.Errorf("a whole answer came through what breaks it: %d %.300s", status, answer)
					}
				case x.breaks && (failed || err != nil): // told, or cut off
				default:
					t.Errorf("status %d, %v: %.600s", status, err, answer)
				}
				testgateway.Until(t, "its record is there", func() bool { return strings.Contains(g.Stderr.String(), "request_id="+id+" ") })
			})
		}
	}
	t.Cleanup(func() {
		log := g.Stderr.String()
		for _, x := range toxics {
			for _, k := range kinds {
				id := strings.ReplaceAll(fmt.Sprintf("fault-%s-%s", x.name, k.name), " ", "-")
				if n := strings.Count(log, "msg=request request_id="+id+" "); n != 1 {
					t.Errorf("%s has %d records", id, n)
				}
			}
		}
	})
}
