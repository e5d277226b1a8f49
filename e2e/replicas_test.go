package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	keyA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	keyB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// A balancer passes TCP connections on to the replicas in turn, and knows nothing
// of what is in them.
type balancer struct {
	listener net.Listener
	next     atomic.Int64
	mu       sync.Mutex
	backends []string
	conns    sync.WaitGroup
}

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: l}
	b.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Go(func() { b.pass(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return b
}

func (b *balancer) set(addrs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = addrs
}

// pass connects to the next replica that answers.
func (b *balancer) pass(conn net.Conn) {
	defer conn.Close()
	b.mu.Lock()
	backends := b.backends
	b.mu.Unlock()
	for range backends {
		out, err := net.Dial("tcp", backends[int(b.next.Add(1))%len(backends)])
		if err != nil {
			continue
		}
		defer out.Close()
		go func() {
			_, _ = io.Copy(out, conn)
			_ = out.Close()
			_ = conn.Close()
		}()
		_, _ = io.Copy(conn, out)
		return
	}
}

func (b *balancer) url() string { return "http://" + b.listener.Addr().String() + "/mcp" }

// replicas are three gateway processes with one configuration behind a balancer.
type replicas struct {
	*balancer
	gateways [3]*gateway
	peers    [3]string // addresses
	keys     string    // file
	write    func(port int) string
}

// startReplicas starts them with the targets.
func startReplicas(t *testing.T, targets ...string) *replicas {
	t.Helper()
	r := &replicas{balancer: newBalancer(t), keys: filepath.Join(t.TempDir(), "keys"),
		write: func(port int) string { return manifest(port, targets...) }}
	writeFile(t, r.keys, keyA+"\n")
	var starting sync.WaitGroup
	for i := range r.gateways {
		r.peers[i] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		starting.Go(func() { r.start(t, i) })
	}
	starting.Wait()
	r.balance()
	return r
}

// start starts the replica of that number, at the address that it had.
func (r *replicas) start(t *testing.T, i int) {
	r.gateways[i] = startGateway(t, "serve", nil, r.write, "--session-keys-file", r.keys, "--peer-addr", r.peers[i])
}

func (r *replicas) balance() {
	var addrs []string
	for _, g := range r.gateways {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", g.port))
	}
	r.set(addrs...)
}

// raw is one request as a client without any state sends it, to one replica.
func (r *replicas) raw(t testing.TB, i int, method, body string, header ...string) (status int, answer string, h http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.gateways[i].url(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for n := 0; n+1 < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, readAll(t, response), response.Header
}

const (
	initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`
	listTools  = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
)

// session makes a session at one replica.
func (r *replicas) session(t testing.TB, i int) string {
	t.Helper()
	status, answer, h := r.raw(t, i, http.MethodPost, initialize)
	if status != http.StatusOK || h.Get("Mcp-Session-Id") == "" {
		t.Fatalf("initialize: %d %s", status, answer)
	}
	return h.Get("Mcp-Session-Id")
}

// A stateful is a legacy server of go-sdk's in the test's process: it asks clients,
// logs, has a resource to subscribe to, and a tool that runs until it is cancelled.
type stateful struct {
	*mcp.Server
	port      int
	cancelled chan string // names of calls that were
	running   chan string // names of calls that began
	resumed   chan struct{}
}

func startStateful(t testing.TB) *stateful {
	t.Helper()
	s := &stateful{cancelled: make(chan string, 100), running: make(chan string, 100), resumed: make(chan struct{}, 100)}
	s.Server = mcp.NewServer(&mcp.Implementation{Name: "stateful", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	add := func(name string, run func(context.Context, *mcp.CallToolRequest) (string, error)) {
		mcp.AddTool(s.Server, &mcp.Tool{Name: name}, func(ctx context.Context, r *mcp.CallToolRequest, _ map[string]any) (*mcp.CallToolResult, any, error) {
			text, err := run(ctx, r)
			if err != nil {
				return nil, nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
		})
	}
	add("ping", func(_ context.Context, r *mcp.CallToolRequest) (string, error) { return r.Session.ID(), nil })
	add("elicit", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		answer, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "which?", RequestedSchema: map[string]any{
			"type": "object", "properties": map[string]any{"word": map[string]any{"type": "string"}}}})
		if err != nil {
			return "", err
		}
		return fmt.Sprint(answer.Action, " ", answer.Content["word"]), nil
	})
	add("run", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		s.running <- "run"
		<-ctx.Done()
		s.cancelled <- "run"
		return "", ctx.Err()
	})
	add("log", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		return "logged", r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "debug", Data: "details"})
	})
	s.AddResource(&mcp.Resource{Name: "news", URI: "test://news"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://news", Text: "none"}}}, nil
	})
	handler := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server }, nil))
	t.Cleanup(func() {
		for ss := range s.Sessions() {
			_ = ss.Close()
		}
		handler.CloseClientConnections()
		handler.Close()
	})
	u, err := url.Parse(handler.URL)
	if err != nil {
		t.Fatal(err)
	}
	if s.port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	return s
}

// accept answers each elicitation with a word.
func accept(_ context.Context, _ *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
	return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"word": "yes"}}, nil
}

// scattered is a client whose every request is a connection of its own, so that the
// balancer scatters them over the replicas.
func (r *replicas) connect(t *testing.T, revision string, options *mcp.ClientOptions, standalone bool) *mcp.ClientSession {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "scattered", Version: "1"}, options).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: r.url(), HTTPClient: &http.Client{Transport: transport}, DisableStandaloneSSE: !standalone},
		&mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatalf("connecting at %s: %v", revision, err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func call(t testing.TB, session *mcp.ClientSession, name string) string {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: map[string]any{}})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return resultText(result)
}

// Sessions of clients of all revisions work whichever replica a request reaches:
// unary calls, elicitation, cancellation, log levels, subscriptions.
func TestReplicasServeSessions(t *testing.T) {
	t.Parallel()
	s := startStateful(t)
	demo := serveDemo(t)
	r := startReplicas(t, static("old", s.port, "/"), static("new", demo, "/demo/mcp"))
	for _, revision := range []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			logged, updated := make(chan string, 100), make(chan string, 100)
			session := r.connect(t, revision, &mcp.ClientOptions{
				ElicitationHandler:     accept,
				LoggingMessageHandler:  func(_ context.Context, r *mcp.LoggingMessageRequest) { logged <- fmt.Sprint(r.Params.Data) },
				ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { updated <- r.Params.URI },
			}, true)
			ids := map[string]bool{}
			for range 6 {
				ids[call(t, session, "old_ping")] = true
			}
			if len(ids) != 1 && revision != "2026-07-28" { // which has none: each replica has its own
				t.Errorf("the target sees %d sessions", len(ids))
			}
			for range 6 {
				if revision == "2025-03-26" {
					break // it has no elicitation
				}
				if got := call(t, session, "old_elicit"); got != "accept yes" {
					t.Errorf("elicit: %s", got)
				}
			}
			for range 4 {
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "old_run", Arguments: map[string]any{}})
					ended <- err
				}()
				<-s.running
				cancel()
				if err := <-ended; err == nil {
					t.Error("a cancelled call has a result")
				}
				select {
				case <-s.cancelled:
				case <-time.After(patience):
					t.Fatal("the cancellation does not reach the target")
				}
			}
			if revision == "2026-07-28" {
				return // the rest is of sessions
			}
			if err := session.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "debug"}); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				call(t, session, "old_log")
				select {
				case <-logged:
				case <-time.After(patience):
					t.Fatal("no log message after setLevel")
				}
			}
			if err := session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "old+test://news"}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "an update comes", func() error {
				_ = s.ResourceUpdated(context.Background(), &mcp.ResourceUpdatedNotificationParams{URI: "test://news"})
				select {
				case uri := <-updated:
					if uri != "old+test://news" {
						t.Errorf("updated: %s", uri)
					}
					return nil
				default:
					return errors.New("nothing yet")
				}
			})
		})
	}
	forwarded := 0
	for _, g := range r.gateways {
		forwarded += strings.Count(g.stderr.String(), `"peer":"127.0.0.1:`)
	}
	if forwarded == 0 {
		t.Error("no request was passed on")
	}
}
