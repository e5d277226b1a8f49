package federation

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
)

// A client that does not read slows its own call, and in the end loses it;
// nobody else notices.
func TestSlowReader(t *testing.T) {
	s := newServer(t, "s", false, nil)
	var sent atomic.Int64
	ended := make(chan struct{})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "flood"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		defer close(ended)
		for ctx.Err() == nil && sent.Load() < 1<<30 {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Message: strings.Repeat("x", 256<<10)})
			sent.Add(256 << 10)
		}
		return &mcp.CallToolResult{}, nil, nil
	})
	s.echo("x")
	g := newGateway(t, Config{Targets: targets(s)})
	g.hub.writeTimeout = 300 * time.Millisecond
	sid := g.initialize("2025-11-25")
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s_flood","_meta":{"progressToken":1}}}`
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMcp-Session-Id: %s\r\nContent-Length: %d\r\n\r\n%s", sid, len(body), body)
	<-ended
	if n := sent.Load(); n > 200<<20 {
		t.Errorf("the target could send %d MiB to a client that does not read", n>>20)
	}
	if _, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s_x","arguments":{"text":"t"}}}`, "Mcp-Session-Id", sid); !strings.Contains(body, "x:t") {
		t.Error(body)
	}
}

// A call that takes long, and a stream on which nothing happens, are kept open.
func TestKeepAlive(t *testing.T) {
	s := newServer(t, "s", true, nil)
	release := make(chan struct{})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "slow"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		<-release
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
	})
	g := newGateway(t, Config{Targets: targets(s)})
	g.hub.silence.After = 20 * time.Millisecond
	sid := g.initialize("2025-11-25")
	read := func(method, body string, comments int) (io.ReadCloser, string) {
		r, _ := http.NewRequestWithContext(t.Context(), method, g.url, strings.NewReader(body))
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Mcp-Session-Id", sid)
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		rest := bufio.NewReader(resp.Body)
		for range 3 { // the event that gives the client an id
			if _, err := rest.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, comments*len(events.Keepalive))
		if _, err := io.ReadFull(rest, got); err != nil {
			t.Fatal(err)
		}
		return io.NopCloser(rest), string(got)
	}
	want := strings.Repeat(events.Keepalive, 3)
	if _, got := read("GET", "", 3); got != want {
		t.Errorf("GET: %q", got)
	}
	rest, got := read("POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s_slow"}}`, 3)
	if got != want {
		t.Errorf("POST: %q", got)
	}
	close(release)
	if tail := drain(rest); !strings.Contains(tail, `data: {"jsonrpc":"2.0","id":1,"result"`) {
		t.Errorf("the response: %q", tail)
	}
}

// What is limited is refused at the limit, and taken again below it.
func TestStreamLimit(t *testing.T) {
	g := newGateway(t, Config{})
	g.hub.resumeStream = 0
	sid := g.initialize("2025-11-25")
	open := func() (int, string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.url, nil)
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Mcp-Session-Id", sid)
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	g.hub.streamCount.Store(maxStreams)
	if status, retry := open(); status != 503 || retry == "" {
		t.Errorf("at the limit: %d %q", status, retry)
	}
	g.hub.streamCount.Store(maxStreams - 1)
	if status, _ := open(); status != 200 {
		t.Errorf("below the limit: %d", status)
	}
	eventually(t, "the stream is given back", func() bool { return g.hub.streamCount.Load() == maxStreams-1 })
	g.hub.streamCount.Store(0)
}

func TestSessionLimits(t *testing.T) {
	l := new(live)
	for i := range maxCalls {
		if err := l.begin(protocol.IntID(int64(i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.begin("-1", nil); err == nil {
		t.Error("a call over the limit")
	}
	l.done(protocol.IntID(maxCalls - 1))
	if err := l.begin("0", nil); err == nil {
		t.Error("an id that is in use")
	}
	if err := l.begin("-1", nil); err != nil {
		t.Error(err)
	}
	m := &protocol.Message{Kind: protocol.Request, ID: "1", Method: "ping"}
	for range maxAsked {
		if _, _, err := l.ask(nil, m, scope{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := l.ask(nil, m, scope{}); err == nil {
		t.Error("a question over the limit")
	}
	for i := range maxSubscriptions {
		if !l.subscribe(fmt.Sprint(i)) {
			t.Fatal(i)
		}
	}
	if l.subscribe("one more") || !l.subscribe("0") {
		t.Error("the limit of subscriptions")
	}
}

func TestInitializeRate(t *testing.T) {
	g := newGateway(t, Config{})
	now := time.Now()
	g.hub.now = func() time.Time { return now }
	for range initializeBurst {
		if !g.hub.mayInitialize("a") {
			t.Fatal("refused below the limit")
		}
	}
	if g.hub.mayInitialize("a") || !g.hub.mayInitialize("b") {
		t.Error("the limit is not a caller's own")
	}
	now = now.Add(time.Second)
	if !g.hub.mayInitialize("a") {
		t.Error("refused after a second")
	}
}

// Rules that don't compile cover everything with 500, and open nothing.
func TestBrokenRules(t *testing.T) {
	s := newServer(t, "s", true, nil)
	s.echo("x")
	g := newGateway(t, Config{Targets: targets(s)}, policy.RuleSet{Source: "TrafficPolicy/default/broken", Broken: true})
	for _, tt := range []struct{ method, name, params string }{
		{"tools/list", "", ""},
		{"tools/call", "s_x", `"name":"s_x","arguments":{"text":"t"}`},
	} {
		if status, body := g.modern(tt.method, tt.name, tt.params); status != 500 || !strings.Contains(body, `"id":1`) {
			t.Errorf("%s: %d %s", tt.method, status, body)
		}
	}
	if n := len(s.reached("tools/call")); n != 0 {
		t.Error("the tool was called")
	}
}

// A target that hangs keeps one client waiting for its timeout, not each.
func TestHangingTargetOnce(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
	a.echo("x")
	var asked atomic.Int64
	hang := make(chan struct{})
	black := newRaw(t, func(http.ResponseWriter, *http.Request) { asked.Add(1); <-hang })
	defer close(hang)
	b.target.URL, b.target.Timeout = black.URL, 100*time.Millisecond
	g := newGateway(t, Config{Targets: targets(a, b)})
	now := time.Now()
	g.hub.now = func() time.Time { return now }
	g.initialize("2025-11-25")
	first := asked.Load()
	if first == 0 {
		t.Fatal("the target was not asked")
	}
	for range 20 {
		g.initialize("2025-11-25")
		g.modern("tools/list", "", "")
		if status, body := g.modern("tools/call", "a_x", `"name":"a_x","arguments":{"text":"t"}`); status != 200 || !strings.Contains(body, "x:t") {
			t.Fatal(status, body)
		}
	}
	if n := asked.Load(); n != first {
		t.Errorf("the target was asked %d times more", n-first)
	}
}

// What is remembered of tasks and elicitations is bounded: the oldest goes, but for a
// client's own tasks, of which no more are taken.
func TestTaskLimits(t *testing.T) {
	g := newGateway(t, Config{Targets: scripts(newScripted(t, "s", false, `{}`))})
	b := g.backend
	id := func(n int) string { return fmt.Sprint("t", n) }
	for i := range maxTasks + 1 {
		b.remember("alice", taskOf{own: id(i)}, id(i))
	}
	if _, ok := b.knownTask("alice", 0, id(0)); ok {
		t.Error("the oldest task is still known")
	}
	if _, ok := b.knownTask("alice", 0, id(1)); !ok {
		t.Error("a task within the limit is not known")
	}
	if _, ok := b.knownTask("bob", 0, id(1)); ok {
		t.Error("a task is known to another")
	}

	l, leg := new(live), new(session.Leg)
	ask := &ask{leg: leg, method: "sampling/createMessage"}
	for i := range maxClientTasks + 1 {
		l.ownTasks(ask, []byte(`{"task":{"taskId":"`+id(i)+`"}}`))
	}
	about := func(n int) *protocol.Message {
		return &protocol.Message{Kind: protocol.Request, Method: "tasks/get", Params: []byte(`{"taskId":"` + id(n) + `"}`)}
	}
	if !l.mayAskTask(leg, about(maxClientTasks-1)) || l.mayAskTask(leg, about(maxClientTasks)) || l.mayAskTask(new(session.Leg), about(0)) {
		t.Error("the limit of a client's tasks")
	}

	for i := range maxElicited + 1 {
		l.elicit(id(i))
	}
	if l.elicited(id(0)) || !l.elicited(id(1)) || !l.elicited(id(maxElicited)) {
		t.Error("the limit of elicitations")
	}
}
