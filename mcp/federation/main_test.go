package federation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv("MCPGW_TEST_CHILD"); mode != "" {
		child(mode)
		return
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// A gateway is a hub behind a real HTTP server, in place of package gateway.
type gateway struct {
	t       *testing.T
	hub     *Hub
	url     string
	mu      sync.RWMutex
	backend *Backend
	rules   []policy.RuleSet
	record  func(*telemetry.Record)
	guard   *Guard
	client  *http.Client
}

// newGateway serves a backend until the test ends.
func newGateway(t *testing.T, cfg Config, rules ...policy.RuleSet) *gateway {
	t.Helper()
	g := &gateway{t: t, rules: rules}
	sealer, err := session.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	g.hub = NewHub(HubOptions{Logger: logger, Sealer: sealer, Sessions: session.NewSessions(session.SessionsOptions{Sealer: sealer})})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.hub.Run(ctx) }()
	g.apply(cfg)
	srv := httptest.NewServer(g)
	g.url = srv.URL
	g.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		cancel()
		<-done
		g.client.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return g
}

// apply makes a configuration live, as a reload does.
func (g *gateway) apply(cfg Config) {
	if cfg.Name == "" {
		cfg.Name = "default/test"
	}
	for i := range cfg.Targets {
		cfg.Targets[i].Backend = cfg.Name
	}
	b := g.hub.Backend(cfg)
	g.mu.Lock()
	g.backend = b
	g.mu.Unlock()
	g.hub.Commit([]*Backend{b})
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &telemetry.Record{Start: time.Now(), Request: r, Principal: r.Header.Get("X-Test-Principal")}
	ctx := telemetry.NewContext(r.Context(), rec)
	ctx = WithListener(ctx, Listener{Loopback: true})
	g.mu.RLock()
	b, rules := g.backend, g.rules
	g.mu.RUnlock()
	ctx, err := policy.New(policy.Options{}).Admit(ctx, &policy.Request{
		HTTP: r, Host: "localhost", Scheme: "http", Source: netip.MustParseAddrPort(r.RemoteAddr), Client: policy.Client{Principal: rec.Principal},
	})
	if err != nil {
		b.WriteError(w, r, err)
		return
	}
	if g.guard != nil {
		ctx = WithGuard(ctx, g.guard)
	}
	r = r.WithContext(policy.WithBackend(ctx, policy.NewRules(rules)))
	if err := b.Serve(w, r); err != nil {
		b.WriteError(w, r, err)
	}
	if g.record != nil {
		g.record(rec)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) { return len(p), nil }

// rule compiles a rule set of expressions.
func rule(t testing.TB, action policy.Action, expressions ...string) policy.RuleSet {
	t.Helper()
	rs := policy.RuleSet{Source: "TrafficPolicy/default/test", Action: action}
	for _, s := range expressions {
		e, err := policy.CompileExpression(s)
		if err != nil {
			t.Fatal(err)
		}
		rs.Expressions = append(rs.Expressions, e)
	}
	return rs
}

// A server is one go-sdk MCP server on a real socket, as a target.
type server struct {
	*mcp.Server
	http   *httptest.Server
	target session.TargetConfig
	mu     sync.Mutex
	calls  []string // methods and names that reached it
	hang   chan struct{}

	listeners atomic.Int64 // GET streams that are open
}

// newServer serves an MCP server of one era: modern ones are stateless.
func newServer(t *testing.T, name string, modern bool, opts *mcp.ServerOptions) *server {
	t.Helper()
	s := &server{Server: mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, opts)}
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			s.mu.Lock()
			hang := s.hang
			switch p := req.GetParams().(type) {
			case *mcp.CallToolParamsRaw:
				s.calls = append(s.calls, method+" "+p.Name)
			case *mcp.GetPromptParams:
				s.calls = append(s.calls, method+" "+p.Name)
			case *mcp.ReadResourceParams:
				s.calls = append(s.calls, method+" "+p.URI)
			default:
				s.calls = append(s.calls, method)
			}
			s.mu.Unlock()
			if hang != nil {
				select {
				case <-hang:
				case <-ctx.Done():
				}
			}
			return next(ctx, method, req)
		}
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server },
		&mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: modern})
	s.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s.listeners.Add(1)
			defer s.listeners.Add(-1)
		}
		handler.ServeHTTP(w, r)
	}))
	transport := &http.Transport{}
	s.target = session.TargetConfig{
		Name: name, Transport: session.StreamableHTTP, URL: s.http.URL, RoundTripper: transport,
		Timeout: 5 * time.Second, Identity: name + s.http.URL,
	}
	t.Cleanup(func() {
		for ss := range s.Sessions() {
			_ = ss.Close()
		}
		transport.CloseIdleConnections()
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// reached returns the calls of a kind that reached the server.
func (s *server) reached(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, c := range s.calls {
		if len(c) >= len(prefix) && c[:len(prefix)] == prefix {
			out = append(out, c)
		}
	}
	return out
}

func (s *server) setHang(c chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = c
}

type echoArgs struct {
	Text string `json:"text"`
}

// echo adds a tool that answers with the name of its server and its argument.
func (s *server) echo(names ...string) {
	for _, name := range names {
		mcp.AddTool(s.Server, &mcp.Tool{Name: name, Description: "echoes"},
			func(_ context.Context, _ *mcp.CallToolRequest, a echoArgs) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name + ":" + a.Text}}}, nil, nil
			})
	}
}

// connect returns a go-sdk client of a revision.
func (g *gateway) connect(version string, opts *mcp.ClientOptions, header ...string) *mcp.ClientSession {
	g.t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, opts)
	transport := &mcp.StreamableClientTransport{Endpoint: g.url, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: headers{g.client.Transport, header}}}
	cs, err := c.Connect(g.t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		g.t.Fatalf("connect at %s: %v", version, err)
	}
	g.t.Cleanup(func() { _ = cs.Close() })
	return cs
}

// headers adds request headers.
type headers struct {
	next   http.RoundTripper
	header []string
}

func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(h.header) > 0 {
		r = r.Clone(r.Context())
		for i := 0; i+1 < len(h.header); i += 2 {
			r.Header.Set(h.header[i], h.header[i+1])
		}
	}
	return h.next.RoundTrip(r)
}

// text returns the text of a tool result.
func text(r *mcp.CallToolResult) string {
	if len(r.Content) == 0 {
		return ""
	}
	if t, ok := r.Content[0].(*mcp.TextContent); ok {
		return t.Text
	}
	return fmt.Sprintf("%T", r.Content[0])
}

func drain(r io.Reader) string {
	b, _ := io.ReadAll(r)
	return string(b)
}

// eventually waits for a condition; the test's deadline ends it.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

var versions = []string{"2025-06-18", "2025-11-25", "2026-07-28"}

// A raw is an HTTP server that is no MCP server of the SDK's.
type raw struct {
	*httptest.Server
	transport *http.Transport
}

func newRaw(t *testing.T, h http.HandlerFunc) *raw {
	t.Helper()
	r := &raw{httptest.NewServer(h), &http.Transport{}}
	t.Cleanup(func() {
		r.transport.CloseIdleConnections()
		r.CloseClientConnections()
		r.Close()
	})
	return r
}
