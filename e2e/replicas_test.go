package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/testgateway"
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
	testgateway.WriteFile(t, r.keys, keyA+"\n")
	var starting sync.WaitGroup
	for i := range r.gateways {
		r.peers[i] = testgateway.FreeAddress(t)
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
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", g.Port))
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
		select {
		case <-ctx.Done():
			s.cancelled <- "run"
		case <-t.Context().Done():
		}
		return "", ctx.Err()
	})
	add("step", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1}); err != nil {
			return "", err
		}
		select {
		case <-s.resumed:
			return "the rest", nil
		case <-ctx.Done():
			return "", ctx.Err()
		case <-t.Context().Done():
			return "", t.Context().Err()
		}
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
				case <-time.After(testgateway.Patience):
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
				case <-time.After(testgateway.Patience):
					t.Fatal("no log message after setLevel")
				}
			}
			if err := session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "old+test://news"}); err != nil {
				t.Fatal(err)
			}
			testgateway.Eventually(t, "an update comes", func() error {
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
		forwarded += strings.Count(g.Stderr.String(), `"peer":"127.0.0.1:`)
	}
	if forwarded == 0 {
		t.Error("no request was passed on")
	}
}

// A stream is an answer that a raw client reads event by event.
type stream struct {
	status int
	body   io.ReadCloser
	events *events.Reader
	cut    context.CancelFunc // breaks the connection
}

// stream sends a request to one replica and returns its answer as a stream.
func (r *replicas) stream(t testing.TB, i int, method, body string, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, method, r.gateways[i].url(), strings.NewReader(body))
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
	t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	return &stream{response.StatusCode, response.Body, events.NewReader(response.Body, 1<<20), cancel}
}

// begin posts a call that is going to be cancelled to one replica; ended is closed when
// the client knows.
func (r *replicas) begin(t testing.TB, i int, body string, header ...string) (ended <-chan struct{}) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.gateways[i].url(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for n := 0; n+1 < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if response, err := http.DefaultClient.Do(request); err == nil { // or the connection is closed
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	}()
	return done
}

// next returns the next message of the stream and the id of its event.
func (s *stream) next(t testing.TB) (id, data string) {
	t.Helper()
	for {
		ev, err := s.events.Next()
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if len(ev.Data) > 0 {
			return ev.ID, string(ev.Data)
		}
	}
}

// toolCall is a tools/call of revision 2025-11-25.
func toolCall(id int, name string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{},"_meta":{"progressToken":"p"}}}`, id, name)
}

// initializeAsking is an initialize of a client that can be asked.
var initializeAsking = strings.Replace(initialize, `"capabilities":{}`, `"capabilities":{"elicitation":{}}`, 1)

// Whatever a client sends about something that is under way reaches it, when the
// session was made at one replica, the thing is under way at a second, and the message
// reaches a third.
func TestReplicasReachWhatWaits(t *testing.T) {
	t.Parallel()
	s := startStateful(t)
	r := startReplicas(t, static("old", s.port, "/"))
	const home, second, third = 0, 1, 2
	status, answer, h := r.raw(t, home, http.MethodPost, initializeAsking)
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	session := []string{"Mcp-Session-Id", h.Get("Mcp-Session-Id")}
	other := []string{"Mcp-Session-Id", r.session(t, home)}
	accepted := func(i int, body string) {
		t.Helper()
		if status, answer, _ := r.raw(t, i, http.MethodPost, body, session...); status != http.StatusAccepted {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}

	t.Run("answer", func(t *testing.T) {
		call := r.stream(t, second, http.MethodPost, toolCall(1, "old_elicit"), session...)
		_, data := call.next(t)
		id := regexp.MustCompile(`"id":("[^"]*")`).FindStringSubmatch(data)
		if id == nil || !strings.Contains(data, "elicitation/create") || len(id[1]) > 256 {
			t.Fatal(data)
		}
		reply := `{"jsonrpc":"2.0","id":` + id[1] + `,"result":{"action":"accept","content":{"word":"three"}}}`
		if status, _, _ := r.raw(t, third, http.MethodPost, strings.Replace(reply, "three", "stolen", 1), other...); status != http.StatusAccepted {
			t.Errorf("the answer of another session: %d", status)
		}
		accepted(third, reply)
		if _, data := call.next(t); !strings.Contains(data, "accept three") {
			t.Error(data)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ended := r.begin(t, second, toolCall(2, "old_run"), session...)
		<-s.running
		cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`
		if status, _, _ := r.raw(t, third, http.MethodPost, cancel, other...); status != http.StatusAccepted {
			t.Error(status)
		}
		select {
		case <-s.cancelled:
			t.Error("cancelled by another session")
		default:
		}
		accepted(third, cancel)
		<-s.cancelled
		<-ended
	})
	t.Run("cancel that overtakes the call", func(t *testing.T) {
		accepted(third, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}`)
		ended := r.begin(t, second, toolCall(3, "old_run"), session...)
		<-s.running
		<-s.cancelled
		<-ended
	})
	t.Run("broken stream", func(t *testing.T) {
		call := r.stream(t, second, http.MethodPost, toolCall(4, "old_step"), session...)
		id, data := call.next(t)
		if !strings.Contains(data, "progress") {
			t.Fatal(data)
		}
		call.cut()
		if status := r.stream(t, third, http.MethodGet, "", append(other, "Last-Event-Id", id)...).status; status != http.StatusBadRequest {
			t.Errorf("the stream of another session: %d", status)
		}
		rest := r.stream(t, third, http.MethodGet, "", append(session, "Last-Event-Id", id)...)
		s.resumed <- struct{}{}
		if _, data := rest.next(t); !strings.Contains(data, `"id":4`) || !strings.Contains(data, "the rest") {
			t.Error(data)
		}
	})
	t.Run("parked call", func(t *testing.T) {
		modern := func(i int, params string) (int, string) {
			status, answer, _ := r.raw(t, i, http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"old_elicit","arguments":{},`+params+
				`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},`+
				`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}}}`,
				"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "old_elicit")
			return status, answer
		}
		_, asked := modern(second, "")
		state := regexp.MustCompile(`"requestState":"([^"]*)"`).FindStringSubmatch(asked)
		if state == nil || !strings.Contains(asked, `"resultType":"input_required"`) {
			t.Fatal(asked)
		}
		retry := `"inputResponses":{"q1":{"action":"accept","content":{"word":"retried"}}},"requestState":"` + state[1] + `",`
		if _, answer := modern(third, retry); !strings.Contains(answer, "accept retried") {
			t.Error(answer)
		}
		if _, answer := modern(home, retry); !strings.Contains(answer, "-32602") {
			t.Errorf("a second retry: %s", answer)
		}
	})
	t.Run("session that ends", func(t *testing.T) {
		// What a replica has passed on has made it known.
		for _, i := range []int{second, third} {
			if status, answer, _ := r.raw(t, i, http.MethodPost, `{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{"level":"error"}}`, session...); status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
		}
		ended := r.begin(t, second, toolCall(5, "old_run"), session...)
		<-s.running
		if status, answer, _ := r.raw(t, third, http.MethodDelete, "", session...); status != http.StatusNoContent {
			t.Errorf("%d %s", status, answer)
		}
		<-s.cancelled
		<-ended
		for i := range r.gateways {
			if status, answer, _ := r.raw(t, i, http.MethodPost, listTools, session...); status != http.StatusNotFound {
				t.Errorf("replica %d serves a session that has ended: %d %s", i, status, answer)
			}
		}
	})
}

// Clients of the HTTP+SSE transport post to any replica.
func TestReplicasServeSSE(t *testing.T) {
	t.Parallel()
	s := startStateful(t)
	r := startReplicas(t, static("old", s.port, "/"))
	session, err := mcp.NewClient(&mcp.Implementation{Name: "sse", Version: "1"}, &mcp.ClientOptions{ElicitationHandler: accept}).Connect(t.Context(),
		&mcp.SSEClientTransport{Endpoint: r.url() + "/sse", HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}},
		&mcp.ClientSessionOptions{ProtocolVersion: "2024-11-05"})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for range 4 {
		call(t, session, "old_ping")
	}
}

// Of sessions whose home is killed those go on that have nothing there; others, and
// what waited there, are ended, and their clients are told at once. A replica that is
// back with the same keys has its sessions back.
func TestReplicasKilled(t *testing.T) {
	t.Parallel()
	s := startStateful(t)
	r := startReplicas(t, static("old", s.port, "/"), fmt.Sprintf("{name: mem, stdio: %s}", stdioTarget(t, "server-memory")))
	const home, second, third = 0, 1, 2
	session := []string{"Mcp-Session-Id", r.session(t, home)}
	for i := range r.gateways {
		for _, tool := range []string{"old_ping", "mem_read_graph"} { // one leg travels, the other is at home
			if status, answer, _ := r.raw(t, i, http.MethodPost, toolCall(i, tool), session...); status != http.StatusOK || strings.Contains(answer, `"error"`) {
				t.Errorf("replica %d, %s: %d %s", i, tool, status, answer)
			}
		}
	}
	call := r.stream(t, home, http.MethodPost, toolCall(7, "old_step"), session...)
	lost, _ := call.next(t)
	r.gateways[home].Kill()

	for _, i := range []int{second, third} {
		if status, answer, _ := r.raw(t, i, http.MethodPost, toolCall(1, "old_ping"), session...); status != http.StatusOK || strings.Contains(answer, `"error"`) {
			t.Errorf("an unchanged session at replica %d: %d %s", i, status, answer)
		}
		if status, answer, _ := r.raw(t, i, http.MethodPost, listTools, session...); status != http.StatusOK || !strings.Contains(answer, "old_ping") {
			t.Errorf("an unchanged session at replica %d: %d %s", i, status, answer)
		}
		for what, body := range map[string]string{
			"GET":       "",
			"stdio":     toolCall(2, "mem_read_graph"),
			"setLevel":  `{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"error"}}`,
			"subscribe": `{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"old+test://news"}}`,
			"roots":     `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
		} {
			method := http.MethodPost
			if body == "" {
				method = http.MethodGet
			}
			if status, answer, _ := r.raw(t, i, method, body, session...); status != http.StatusNotFound {
				t.Errorf("%s at replica %d: %d %s", what, i, status, answer)
			}
		}
		for _, body := range []string{
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`,
			`{"jsonrpc":"2.0","id":"mcpgw-x","result":{}}`,
		} {
			if status, answer, _ := r.raw(t, i, http.MethodPost, body, session...); status != http.StatusAccepted {
				t.Errorf("%s: %d %s", body, status, answer)
			}
		}
		if _, data := r.stream(t, i, http.MethodGet, "", append(session, "Last-Event-Id", lost)...).next(t); !strings.Contains(data, `"id":7,"error"`) {
			t.Error(data)
		}
	}

	r.start(t, home)
	for i := range r.gateways {
		testgateway.Eventually(t, "the home is back", func() error {
			status, answer, _ := r.raw(t, i, http.MethodPost, `{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"error"}}`, session...)
			if status != http.StatusOK {
				return fmt.Errorf("replica %d: %d %s", i, status, answer)
			}
			return nil
		})
		if status, answer, _ := r.raw(t, i, http.MethodPost, toolCall(1, "mem_read_graph"), session...); status != http.StatusOK || strings.Contains(answer, `"error"`) {
			t.Errorf("replica %d: %d %s", i, status, answer)
		}
	}
}

// Keys are changed while replicas run: sessions that were sealed with the old key go
// on for as long as it is there, and no longer.
func TestReplicasChangeKeys(t *testing.T) {
	t.Parallel()
	s := startStateful(t)
	r := startReplicas(t, static("old", s.port, "/"))
	setLevel := `{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"error"}}`
	check := func(what, session string, want int) {
		t.Helper()
		for i := range r.gateways {
			for _, body := range []string{toolCall(1, "old_ping"), setLevel, listTools} {
				if status, answer, _ := r.raw(t, i, http.MethodPost, body, "Mcp-Session-Id", session); status != want {
					t.Errorf("%s at replica %d: %d %s", what, i, status, answer)
				}
			}
		}
	}
	change := func(keys string) {
		t.Helper()
		n := strings.Count(keys, "\n")
		testgateway.WriteFile(t, r.keys, keys)
		for _, g := range r.gateways {
			g.Writes(t, &g.Stderr, fmt.Sprintf(`"the session keys have changed","keys":%d`, n))
		}
	}
	before := r.session(t, 0)
	check("with one key", before, http.StatusOK)
	change(keyB + "\n" + keyA + "\n")
	after := r.session(t, 1)
	check("the old session, with both keys", before, http.StatusOK)
	check("the new session, with both keys", after, http.StatusOK)
	testgateway.WriteFile(t, r.keys, "no key\n")
	for _, g := range r.gateways {
		g.Writes(t, &g.Stderr, "what it held before stays")
	}
	check("the old session, with a broken file", before, http.StatusOK)
	change(keyB + "\n")
	check("the old session, without its key", before, http.StatusNotFound)
	check("the new session, with its key", after, http.StatusOK)
}

// startSmall serves a legacy server that keeps nothing of its sessions, with one tool.
func startSmall(t testing.TB) (port int) {
	t.Helper()
	var sessions atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
			return
		}
		result := `{}`
		switch m.Method {
		case "initialize":
			w.Header().Set("Mcp-Session-Id", fmt.Sprintf("00000000-0000-0000-0000-%012d", sessions.Add(1)))
			result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"small","version":"1"}}`
		case "tools/list":
			result = `{"tools":[{"name":"who","inputSchema":{"type":"object"}}]}`
		case "tools/call":
			result = fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, r.Header.Get("Mcp-Session-Id"))
		}
		if m.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(m.Method, "server/") {
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, m.ID)
			return
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	return port
}

// plainBinary returns the gateway without the race detector, which would take most of
// the time of a test that is about numbers.
func plainBinary(t testing.TB) string {
	t.Helper()
	path, err := testgateway.Build(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Ten thousand sessions over three replicas, each used at replicas that did not make
// it: no error, and each reaches its own session of the server.
func TestReplicasTenThousandSessions(t *testing.T) {
	const count, workers = 10_000, 16
	b := newBalancer(t)
	port := startSmall(t)
	keys := filepath.Join(t.TempDir(), "keys")
	testgateway.WriteFile(t, keys, keyA+"\n")
	path := plainBinary(t)
	var addrs []string
	var processes []*testgateway.Process
	for range 3 {
		listen, file := testgateway.FreePort(t), filepath.Join(t.TempDir(), "gateway.yaml")
		testgateway.WriteFile(t, file, manifest(listen, static("small", port, "/")))
		p := testgateway.Run(t, nil, path, "serve", "-f", file, "--log-level", "error", "--admin-addr", "off", "--ready-addr", "off", "--metrics-addr", "off",
			"--session-keys-file", keys, "--peer-addr", testgateway.FreeAddress(t))
		p.Listens(t, fmt.Sprintf("127.0.0.1:%d", listen))
		addrs, processes = append(addrs, fmt.Sprintf("127.0.0.1:%d", listen)), append(processes, p)
	}
	b.set(addrs...)

	// each runs f for all numbers; each worker has connections of its own, which the
	// balancer deals out.
	each := func(f func(c *http.Client, n int) error) {
		t.Helper()
		var failed atomic.Int64
		var next atomic.Int64
		var working sync.WaitGroup
		for range workers {
			working.Go(func() {
				transport := &http.Transport{}
				defer transport.CloseIdleConnections()
				c := &http.Client{Transport: transport}
				for n := int(next.Add(1)) - 1; n < count; n = int(next.Add(1)) - 1 {
					if n%50 == 0 {
						transport.CloseIdleConnections()
					}
					if err := f(c, n); err != nil && failed.Add(1) <= 5 {
						t.Errorf("session %d: %v", n, err)
					}
				}
			})
		}
		working.Wait()
		if n := failed.Load(); n > 0 {
			t.Fatalf("%d of %d failed", n, count)
		}
	}
	post := func(c *http.Client, session, body string) (status int, answer string, h http.Header, err error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url(), strings.NewReader(body))
		if err != nil {
			return 0, "", nil, err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json, text/event-stream")
		if session != "" {
			request.Header.Set("Mcp-Session-Id", session)
		}
		response, err := c.Do(request)
		if err != nil {
			return 0, "", nil, err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return response.StatusCode, string(text), response.Header, err
	}

	ids, own := make([]string, count), make([]string, count)
	each(func(c *http.Client, n int) error {
		for {
			status, answer, h, err := post(c, "", initialize)
			switch {
			case err != nil:
				return err
			case status == http.StatusTooManyRequests: // one caller makes so many a second
				seconds, err := strconv.Atoi(h.Get("Retry-After"))
				if err != nil {
					return err
				}
				<-time.After(time.Duration(seconds) * time.Second)
				continue
			case status != http.StatusOK:
				return fmt.Errorf("initialize: %d %s", status, answer)
			}
			ids[n] = h.Get("Mcp-Session-Id")
			return nil
		}
	})
	who := func(c *http.Client, n int) (string, error) {
		status, answer, _, err := post(c, ids[n], toolCall(n, "small_who"))
		if err != nil || status != http.StatusOK || !strings.Contains(answer, `"text":"00000000-`) {
			return "", fmt.Errorf("%d %s %w", status, answer, err)
		}
		return answer, nil
	}
	each(func(c *http.Client, n int) (err error) {
		own[n], err = who(c, n)
		return err
	})
	each(func(c *http.Client, n int) error {
		if again, err := who(c, n); err != nil || again != own[n] {
			return fmt.Errorf("%s, before %s: %w", again, own[n], err)
		}
		if n%100 == 0 { // something that needs the home
			if status, answer, _, err := post(c, ids[n], `{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"error"}}`); status != http.StatusOK {
				return fmt.Errorf("%d %s %w", status, answer, err)
			}
		}
		return nil
	})
	distinct := map[string]bool{}
	for _, text := range own {
		distinct[regexp.MustCompile(`00000000-[0-9-]*`).FindString(text)] = true
	}
	if len(distinct) != count {
		t.Errorf("%d sessions of the server for %d of clients", len(distinct), count)
	}
	for _, p := range processes {
		if line := regexp.MustCompile(`(?m)^.*level=ERROR.*$|^panic.*$`).FindString(p.Stderr.String()); line != "" {
			t.Errorf("logged: %s", line)
		}
	}
}
