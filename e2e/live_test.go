package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A changing is a server of go-sdk in the test's process whose tools change, with a count
// of the lists that reach it.
type changing struct {
	*mcp.Server
	port    int
	lists   atomic.Int64
	streams atomic.Int64 // that are open
}

func serveChanging(t testing.TB, stateless bool, opts *mcp.ServerOptions, tools ...string) *changing {
	t.Helper()
	c := &changing{Server: mcp.NewServer(&mcp.Implementation{Name: "changing", Version: "1"}, opts)}
	c.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if method == "tools/list" {
				c.lists.Add(1)
			}
			return next(ctx, method, r)
		}
	})
	c.add(tools...)
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return c.Server },
		&mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: stateless})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Header.Get("Mcp-Method") == "subscriptions/listen" {
			c.streams.Add(1)
			defer c.streams.Add(-1)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if c.port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *changing) add(tools ...string) {
	for _, name := range tools {
		mcp.AddTool(c.Server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name}}}, nil, nil
		})
	}
}

// A listener is a subscriptions/listen of a client that is no SDK.
type listener struct {
	events chan string // methods of what it hears, in order
}

// listen opens a subscriptions/listen for the tools, with an id of its own, and waits
// until it is acknowledged. What comes without the tag of that id fails the test.
func listen(t *testing.T, url, id string) *listener {
	t.Helper()
	const era = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(
		fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},%s}}`, id, era)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"subscriptions/listen"}}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	l := &listener{events: make(chan string, 1000)}
	go func() {
		defer close(l.events)
		lines := bufio.NewReader(response.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if !ok {
				continue
			}
			var m struct {
				Method string
				Params struct {
					Meta map[string]string `json:"_meta"`
				}
			}
			if err := json.Unmarshal([]byte(data), &m); err != nil || m.Params.Meta["io.modelcontextprotocol/subscriptionId"] != id {
				m.Method = "without a tag: " + data
			}
			l.events <- m.Method
		}
	}()
	if got := <-l.events; got != "notifications/subscriptions/acknowledged" {
		t.Fatalf("the first event is %s", got)
	}
	return l
}

// TestChangesReachClients has a change of each source reach a legacy client on its GET
// stream and a modern one on subscriptions/listen, each once, and nothing else.
func TestChangesReachClients(t *testing.T) {
	t.Parallel()
	old := serveChanging(t, false, nil, "one")
	modern := serveChanging(t, true, nil, "one")
	const ttl = 1500
	quiet := serveChanging(t, true, &mcp.ServerOptions{
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) { c.TTLMs = ttl },
	}, "one")
	demo := serveDemo(t)
	targets := []string{
		static("old", old.port, "/"), static("modern", modern.port, "/"), static("quiet", quiet.port, "/"),
		"{name: found, selector: {service: {matchLabels: {app: mcp}}}}",
	}
	// Another Backend, whose edits concern nobody here.
	other := func(mode string) string {
		return fmt.Sprintf("---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: other}\nspec: {type: MCP, mcp: {prefixMode: %s, targets: [%s]}}\n", mode, static("x", demo, "/demo/mcp"))
	}
	g := serve(t, func(port int) string { return manifest(port, targets...) + other("Always") })
	legacy := connect(t, g.url(), clientOptions{revision: "2025-11-25"})
	names := func() []string { return legacy.toolNames(t) }
	if got := names(); !slices.Equal(got, []string{"old_one", "modern_one", "quiet_one"}) {
		t.Fatalf("tools: %v", got)
	}

	// Nothing is asked for twice while it is believed.
	before := old.lists.Load() + modern.lists.Load()
	for range 50 {
		names()
		if got := legacy.call(t, "old_one", nil); got != "one" {
			t.Fatal(got)
		}
	}
	if n := old.lists.Load() - 1; n > 1 { // once more when the gateway has begun to listen
		t.Errorf("the legacy server was asked for its tools %d times more within their time", n)
	}
	if n := old.lists.Load() + modern.lists.Load() - before; n > 4 { // the modern one's TTL is 0, which counts as a second
		t.Errorf("the servers were asked for their tools %d times more", n)
	}

	listener := listen(t, g.url(), "listener-7")
	// go-sdk's client opens its stream in the background, and the gateway its own toward
	// the targets: one for the clients of each set of capabilities, and one for the session.
	testgateway.Eventually(t, "all streams are open", func() error {
		if a, b := old.streams.Load(), modern.streams.Load(); a < 3 || b < 3 {
			return fmt.Errorf("%d and %d", a, b)
		}
		return nil
	})
	files := struct{ services, policy, other string }{other: other("Always")}
	write := func() {
		g.Rewrite(t, manifest(g.Port, targets...)+files.services+files.policy+files.other)
	}
	for _, change := range []struct {
		name     string
		make     func()
		has, not string
	}{
		{"list_changed of a legacy server", func() { old.add("two") }, "old_two", "none"},
		{"an event of a modern server", func() { modern.add("two") }, "modern_two", "none"},
		{"a list that is another after its TTL", func() { quiet.add("two") }, "quiet_two", "none"},
		{"a Service in a file", func() { files.services = service("svc", "a", "/demo/mcp", demo); write() }, "svc-a_echo", "none"},
		{"a target of the Backend", func() { targets[0] = static("renamed", old.port, "/"); write() }, "renamed_two", "old_two"},
		{"a TrafficPolicy", func() { files.policy = rbac("Deny", "mcp.tool.name == 'echo'"); write() }, "renamed_two", "svc-a_echo"},
		{"a Backend of others, and then the policy", func() {
			before := g.applied(t)
			files.other = other("Never")
			write()
			testgateway.Eventually(t, "the configuration is applied", func() error {
				if n := g.applied(t); n == before {
					return fmt.Errorf("%d times", n)
				}
				return nil
			})
			files.policy = ""
			write()
		}, "svc-a_echo", "none"},
	} {
		began := time.Now()
		change.make()
		select {
		case <-legacy.changes:
		case <-time.After(testgateway.Patience):
			t.Fatalf("%s: the legacy client is not told", change.name)
		}
		told := time.Since(began)
		select {
		case method := <-listener.events:
			if method != "notifications/tools/list_changed" {
				t.Fatalf("%s: the listener gets %s", change.name, method)
			}
		case <-time.After(testgateway.Patience):
			t.Fatalf("%s: the listener is not told", change.name)
		}
		t.Logf("%s: told after %v and %v", change.name, told.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		if got := names(); !slices.Contains(got, change.has) || slices.Contains(got, change.not) {
			t.Errorf("%s: whoever was told lists %v", change.name, got)
		}
		if a, b := len(legacy.changes), len(listener.events); a > 0 || b > 0 {
			t.Errorf("%s: told %d and %d times more than once", change.name, a, b)
		}
	}
}

// applied returns how many configurations the gateway has applied.
func (g *gateway) applied(t *testing.T) int {
	t.Helper()
	_, metrics := get(t, "http://"+g.Metrics+"/metrics")
	_, rest, _ := strings.Cut(metrics, `mcpgw_config_reloads_total{result="applied"} `)
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
