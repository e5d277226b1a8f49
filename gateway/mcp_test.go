package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/config"
)

// eras are the revisions that clients connect with.
var eras = []string{"2025-06-18", "2025-11-25", "2026-07-28"}

// An mcpServer is a go-sdk server with the tools of the names, each of which answers its
// own name and notes that it was called.
type mcpServer struct {
	host, port string
	mu         sync.Mutex
	paths      []string // of requests
	calls      []string // names of the tools called
	header     http.Header
}

func newMCPServer(t *testing.T, path string, modern bool, tools ...string) *mcpServer {
	t.Helper()
	m := new(mcpServer)
	s := mcp.NewServer(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
	for _, name := range tools {
		mcp.AddTool(s, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, struct {
			Text string `json:"text,omitempty"`
		}) (*mcp.CallToolResult, any, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.calls = append(m.calls, name)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name}}}, nil, nil
		})
	}
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: modern})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.paths = append(m.paths, r.URL.Path)
		m.header = r.Header.Clone()
		m.mu.Unlock()
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		for session := range s.Sessions() {
			_ = session.Close() // those whose client said nothing at the end
		}
	})
	m.host, m.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	return m
}

func (m *mcpServer) called() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// connect opens an MCP session at a path of the gateway. The header is sent with every request.
func (g *testGateway) connect(t *testing.T, path, version string, header http.Header) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	tr := &http.Transport{}
	cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: g.url("8080", path), MaxRetries: -1, HTTPClient: &http.Client{Transport: withHeader{tr, header}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("connecting at %s with %s: %v", path, version, err)
	}
	t.Cleanup(func() { _ = cs.Close(); tr.CloseIdleConnections() })
	return cs
}

type withHeader struct {
	http.RoundTripper
	header http.Header
}

func (h withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for k, v := range h.header {
		r.Header[k] = v
	}
	return h.RoundTripper.RoundTrip(r)
}

func toolNames(t *testing.T, cs *mcp.ClientSession) []string {
	t.Helper()
	list, err := cs.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, tool := range list.Tools {
		out = append(out, tool.Name)
	}
	slices.Sort(out)
	return out
}

// call calls a tool and returns its text, or the error.
func call(t *testing.T, cs *mcp.ClientSession, name string, args map[string]any) string {
	t.Helper()
	res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		return "error: " + err.Error()
	}
	text := ""
	for _, c := range res.Content {
		if tc, ok := c.(*mcp.TextContent); ok {
			text += tc.Text
		}
	}
	if res.IsError {
		return "tool error: " + text
	}
	return text
}

// mcpService is a Service with an EndpointSlice for a server, its port marked as MCP.
func mcpService(name, port string, s *mcpServer, annotations string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, labels: {app: mcp}, annotations: {%[5]s}}
spec: {ports: [{name: %[2]s, port: 80, appProtocol: kgateway.dev/mcp}, {name: other, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: %[2]s, port: %[4]s}]
endpoints: [{addresses: [%[3]s]}]
`, name, port, s.host, s.port, annotations)
}

// Acceptance: discovery by selector, paths by annotation, names, and rules per tool, in
// both eras and all prefix modes.
func TestMCPDiscovery(t *testing.T) {
	svc1 := newMCPServer(t, "/mcp", false, "echo", "sum")
	svc2 := newMCPServer(t, "/x", true, "fetch")
	backend := func(mode string) string {
		return `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: all}
spec:
  type: MCP
  mcp:
    prefixMode: ` + mode + `
    targets:
    - name: found
      selector: {service: {matchLabels: {app: mcp}}}
`
	}
	policy := `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: only-echo}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: all}]
  rbac: {policy: {matchExpressions: ["mcp.tool.name == 'echo'"]}}
`
	one := mcpService("svc1", "a", svc1, "")
	two := one + mcpService("svc2", "b", svc2, "kgateway.dev/mcp-path: /x")
	for _, era := range eras {
		t.Run(era, func(t *testing.T) {
			g := start(t, two+backend("Always"))
			cs := g.connect(t, "/mcp", era, nil)
			if diff := cmp.Diff([]string{"svc1-a_echo", "svc1-a_sum", "svc2-b_fetch"}, toolNames(t, cs)); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			for name, want := range map[string]string{"svc1-a_echo": "echo", "svc2-b_fetch": "fetch"} {
				if got := call(t, cs, name, nil); got != want {
					t.Errorf("%s answers %q", name, got)
				}
			}
			for mode, names := range map[string][]string{"Conditional": {"echo", "sum"}, "Always": {"svc1-a_echo", "svc1-a_sum"}, "Never": {"echo", "sum"}} {
				g.apply(one + backend(mode))
				if diff := cmp.Diff(names, toolNames(t, g.connect(t, "/mcp/all", era, nil))); diff != "" {
					t.Errorf("one Service left, %s (-want +got):\n%s", mode, diff)
				}
			}
			g.apply(two + backend("Conditional") + policy)
			cs = g.connect(t, "/mcp", era, nil)
			if diff := cmp.Diff([]string{"svc1-a_echo"}, toolNames(t, cs)); diff != "" {
				t.Errorf("with a rule (-want +got):\n%s", diff)
			}
			before := len(svc2.called())
			denied, unknown := call(t, cs, "svc2-b_fetch", nil), call(t, cs, "svc2-b_nothing", nil)
			if strings.ReplaceAll(denied, "fetch", "X") != strings.ReplaceAll(unknown, "nothing", "X") || !strings.HasPrefix(denied, "error: ") {
				t.Errorf("denied %q, unknown %q: want the same error", denied, unknown)
			}
			if len(svc2.called()) != before {
				t.Error("the denied call reached the target")
			}
			if got := call(t, cs, "svc1-a_echo", nil); got != "echo" {
				t.Errorf("the permitted call answers %q", got)
			}
		})
	}
	svc1.mu.Lock()
	defer svc1.mu.Unlock()
	if i := slices.IndexFunc(svc1.paths, func(p string) bool { return p != "/mcp" }); i >= 0 {
		t.Errorf("svc1 was asked at %s", svc1.paths[i])
	}
}

// mcpStatic is an MCP Backend with one static target a server.
func mcpStatic(name string, extra string, servers map[string]*mcpServer) string {
	text := "\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: " + name + "}\nspec:\n  type: MCP\n  mcp:\n    targets:\n"
	for _, target := range slices.Sorted(mapKeys(servers)) {
		s := servers[target]
		text += fmt.Sprintf("    - {name: %s, static: {host: %q, port: %s}%s}\n", target, s.host, s.port, extra)
	}
	return text
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// A credential reaches its target and nothing of the client's does, unless it is passed through.
func TestMCPCredentials(t *testing.T) {
	secret := "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {Authorization: \"  Bearer s3cret \"}\n"
	for _, tc := range []struct{ name, auth, want string }{
		{"none", "", ""},
		{"secret", ", auth: {secretRef: {name: token}}", "Bearer s3cret"},
		{"inline", ", auth: {kind: Inline, inline: s4cret}", "Bearer s4cret"},
		{"passed through", ", auth: {kind: Passthrough}", "Bearer client"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newMCPServer(t, "/mcp", true, "echo")
			g := start(t, secret+mcpStatic("b", tc.auth, map[string]*mcpServer{"one": s}))
			cs := g.connect(t, "/mcp", "2026-07-28", http.Header{"Authorization": {"Bearer client"}, "Cookie": {"c=1"}})
			if got := call(t, cs, "one_echo", nil); got != "echo" {
				t.Fatalf("call answers %q", got)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := s.header.Get("Authorization"); got != tc.want || s.header.Get("Cookie") != "" {
				t.Errorf("target got %q, want %q; cookie %q", got, tc.want, s.header.Get("Cookie"))
			}
		})
	}
}

// A missing Secret takes its target out; one that comes heals it without a restart.
func TestMCPMissingSecret(t *testing.T) {
	a, b := newMCPServer(t, "/mcp", true, "echo"), newMCPServer(t, "/mcp", true, "sum")
	text := fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  type: MCP
  mcp:
    targets:
    - {name: open, static: {host: %q, port: %s}}
    - {name: closed, static: {host: %q, port: %s}, auth: {secretRef: {name: token}}}
`, a.host, a.port, b.host, b.port)
	g := start(t, text)
	if diff := cmp.Diff([]string{"open_echo"}, toolNames(t, g.connect(t, "/mcp", "2025-11-25", nil))); diff != "" {
		t.Errorf("without the Secret (-want +got):\n%s", diff)
	}
	if len(b.paths) != 0 {
		t.Error("the target without its credential was contacted")
	}
	g.apply(text + "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {Authorization: t}\n")
	if diff := cmp.Diff([]string{"closed_sum", "open_echo"}, toolNames(t, g.connect(t, "/mcp", "2025-11-25", nil))); diff != "" {
		t.Errorf("with the Secret (-want +got):\n%s", diff)
	}
}

// Without any Gateway and HTTPRoute, MCP Backends are served by their names.
func TestMCPAssumedRoutes(t *testing.T) {
	s := newMCPServer(t, "/mcp", true, "echo")
	servers := map[string]*mcpServer{"one": s}
	g := start(t, mcpStatic("first", "", servers))
	for _, path := range []string{"/mcp", "/mcp/first"} {
		if got := toolNames(t, g.connect(t, path, "2025-11-25", nil)); !slices.Equal(got, []string{"one_echo"}) {
			t.Errorf("at %s: %v", path, got)
		}
	}
	g.apply(mcpStatic("first", "", servers) + mcpStatic("second", "", servers))
	for _, path := range []string{"/mcp/second", "/mcp/first"} {
		if got := toolNames(t, g.connect(t, path, "2025-11-25", nil)); !slices.Equal(got, []string{"one_echo"}) {
			t.Errorf("at %s: %v", path, got)
		}
	}
	if got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader("{}")); got.Status != 404 {
		t.Errorf("/mcp with two Backends: %+v", got)
	}
	g.apply(mcpStatic("first", "", servers) + route("r", "matches: [{path: {value: /mine}}]\nbackendRefs: ["+to("first")+"]"))
	if got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader("{}")); got.Status != 404 {
		t.Errorf("/mcp of a Backend that has a route: %+v", got)
	}
	if got := toolNames(t, g.connect(t, "/mine", "2025-11-25", nil)); !slices.Equal(got, []string{"one_echo"}) {
		t.Errorf("at its own route: %v", got)
	}
}

// Streams of MCP clients end with the drain, so that it does not wait for them.
func TestMCPDrain(t *testing.T) {
	s := newMCPServer(t, "/mcp", false, "echo")
	g := start(t, mcpStatic("b", "", map[string]*mcpServer{"one": s}))
	for _, era := range eras {
		toolNames(t, g.connect(t, "/mcp", era, nil))
	}
	g.stop()
}

// A reload under load of calls loses none of them, and keeps sessions.
func TestMCPReload(t *testing.T) {
	s := newMCPServer(t, "/mcp", false, "echo")
	other := newMCPServer(t, "/mcp", true, "sum")
	texts := []string{
		mcpStatic("b", "", map[string]*mcpServer{"one": s}),
		mcpStatic("b", "", map[string]*mcpServer{"one": s, "two": other}),
	}
	for _, era := range eras {
		t.Run(era, func(t *testing.T) {
			g := start(t, texts[0])
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range 4 {
				cs := g.connect(t, "/mcp", era, nil)
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							if got := call(t, cs, "one_echo", nil); got != "echo" {
								t.Errorf("call answers %q", got)
								return
							}
						}
					}
				})
			}
			for i := range 30 {
				g.apply(texts[(i+1)%2])
			}
			close(stop)
			wg.Wait()
		})
	}
}

// serveStdio is an MCP server on standard input and output: what the test binary is when
// TestStdio starts it.
func serveStdio() {
	s := mcp.NewServer(&mcp.Implementation{Name: "stdio", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "env"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		dir, err := os.Getwd()
		text := fmt.Sprint(filepath.Base(dir), " ", os.Getenv("KEY"), " ", os.Args[1:], " ", os.Getenv("SECRET_OF_OURS"), err)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	})
	if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		os.Exit(1)
	}
}

// A program of a local file is started with its own environment and directory only; from a cluster it is
// refused.
func TestStdio(t *testing.T) {
	t.Setenv("SECRET_OF_OURS", "leaked")
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "here")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  type: MCP
  mcp:
    targets:
    - name: local
      stdio: {command: %q, args: [x, "a b"], env: {%s: "1", KEY: value}, cwd: %q}
`, binary, stdioVariable, dir)
	g := start(t, text)
	for _, era := range eras {
		if got := call(t, g.connect(t, "/mcp", era, nil), "local_env", nil); got != "here value [x a b] <nil>" && got != "here value [x a b]  <nil>" {
			t.Errorf("%s: %q", era, got)
		}
	}
	res := load(t, text)
	res.Local = false
	_, report := Compile(res, nil)
	if !report.Has(config.Invalid) {
		t.Errorf("a stdio target from a cluster: %+v", report.Problems)
	}
}

// What a selector finds is named after Service and port; of two Services of one name the older keeps it.
// A target can also name its Service, with a path of its own.
func TestMCPNamesOfServices(t *testing.T) {
	one, two, three := newMCPServer(t, "/mcp", true, "a"), newMCPServer(t, "/mcp", true, "b"), newMCPServer(t, "/own", true, "c")
	in := func(namespace, text string) string {
		return strings.ReplaceAll(text, "metadata: {name: ", "metadata: {namespace: "+namespace+", name: ")
	}
	text := in("ns1", mcpService("svc", "web", one, "")) + in("ns2", mcpService("svc", "web", two, "")) + strings.Replace(mcpService("named", "web", three, ""), "{app: mcp}", "{app: other}", 1) + `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  type: MCP
  mcp:
    targets:
    - {name: found, selector: {namespace: {}, service: {matchLabels: {app: mcp}}}}
    - {name: own, service: {name: named, port: 80, path: /own}}
`
	g := start(t, text)
	if diff := cmp.Diff([]string{"ns2-svc-web_b", "own_c", "svc-web_a"}, toolNames(t, g.connect(t, "/mcp", "2025-11-25", nil))); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
}

// A route's timeout bounds calls, and neither the GET stream nor a listen.
func TestMCPRouteTimeout(t *testing.T) {
	s := newMCPServer(t, "/mcp", false, "echo")
	release := make(chan struct{})
	s.mu.Lock() // the tool takes it, too: it hangs
	go func() { <-release; s.mu.Unlock() }()
	defer close(release)
	g := start(t, mcpStatic("b", "", map[string]*mcpServer{"one": s})+route("r", "timeouts: {request: 100ms}\nmatches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("b")+"]"))
	body := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`
	got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(body), "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	if got.Status != 504 {
		t.Errorf("answer %+v, want 504", got)
	}
	for _, tc := range []struct {
		method, header string
		want           bool
	}{{"GET", "", true}, {"POST", "", false}, {"POST", "tools/call", false}, {"POST", "subscriptions/listen", true}} {
		r := httptest.NewRequest(tc.method, "/mcp", nil)
		if tc.header != "" {
			r.Header.Set("Mcp-Method", tc.header)
		}
		if outlives(r) != tc.want {
			t.Errorf("%s %s: outlives the timeout %v, want %v", tc.method, tc.header, !tc.want, tc.want)
		}
	}
}

// What is wrong with a message of the client is in the record as the JSON-RPC error that it got, not as
// a fault of the gateway.
func TestMCPErrorsOfClients(t *testing.T) {
	server := newMCPServer(t, "/mcp", true, "read")
	g := start(t, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools}\n"+
		"spec: {type: MCP, mcp: {targets: [{name: one, static: {host: "+server.host+", port: "+server.port+"}}]}}\n")
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}`
	for i, tt := range []struct{ body, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one_read","arguments":[],` + meta + `}}`, "-32602"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"another",` + meta + `}}`, "-32020"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call"`, "-32700"},
	} {
		got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(tt.body), "Content-Type", "application/json",
			"Accept", "application/json, text/event-stream", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "one_read")
		if rec := g.ended(i + 1)[i]; rec.ErrorType != tt.want || !strings.Contains(got.Body, tt.want) {
			t.Errorf("%s\nanswered %+v and recorded as %q, want %s", tt.body, got, rec.ErrorType, tt.want)
		}
	}
}
