package federation

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/session"
)

// newMoody serves an MCP server of the legacy era that has other tools for each session:
// grow adds one for the session that calls it, and shrink takes it away. cut breaks its connections.
func newMoody(t *testing.T, lists *atomic.Int64) (target session.TargetConfig, cut func()) {
	t.Helper()
	var n atomic.Int64
	var mu sync.Mutex
	var servers []*mcp.Server
	type none struct{}
	result := func(text string) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	}
	srv := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server {
		s := mcp.NewServer(&mcp.Implementation{Name: "moody", Version: "1"}, nil)
		mu.Lock()
		servers = append(servers, s)
		mu.Unlock()
		s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
				if method == "tools/list" {
					lists.Add(1)
				}
				return next(ctx, method, r)
			}
		})
		mine := fmt.Sprint("grown", n.Add(1))
		mcp.AddTool(s, &mcp.Tool{Name: "grow"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
			mcp.AddTool(s, &mcp.Tool{Name: mine}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
				return result(mine)
			})
			return result(mine)
		})
		mcp.AddTool(s, &mcp.Tool{Name: "shrink"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
			s.RemoveTools(mine)
			return result(mine)
		})
		return s
	}, nil))
	transport := &http.Transport{}
	t.Cleanup(func() {
		for _, s := range servers {
			for ss := range s.Sessions() {
				_ = ss.Close()
			}
		}
		transport.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return session.TargetConfig{Name: "m", Transport: session.StreamableHTTP, URL: srv.URL, RoundTripper: transport, Timeout: 5 * time.Second, Identity: srv.URL},
		srv.CloseClientConnections
}

// special returns how many sessions have lists of their own.
func (g *gateway) special() (n int) {
	g.hub.living.Lock()
	defer g.hub.living.Unlock()
	for _, l := range g.hub.lives {
		l.mu.Lock()
		if len(l.own.targets) > 0 {
			n++
		}
		l.mu.Unlock()
	}
	return n
}

// A server that shows each session other tools does so through the gateway. Sessions
// that see the same again share it again.
func TestOwnLists(t *testing.T) {
	var lists atomic.Int64
	target, _ := newMoody(t, &lists)
	g := newGateway(t, Config{Targets: []session.TargetConfig{target}})
	const sessions = 4
	var told [sessions]atomic.Int64
	var clients [sessions]*mcp.ClientSession
	for i := range clients {
		clients[i] = g.connect("2025-11-25", &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { told[i].Add(1) }})
	}
	eventually(t, "the streams are open", func() bool { return g.hub.streamCount.Load() == sessions })
	names := func(i int) string {
		t.Helper()
		list, err := clients[i].ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, tool := range list.Tools {
			out = append(out, tool.Name)
		}
		return strings.Join(out, " ")
	}
	call := func(i int, name string) string {
		t.Helper()
		r, err := clients[i].CallTool(t.Context(), &mcp.CallToolParams{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return text(r)
	}
	for i := range clients {
		if got := names(i); got != "m_grow m_shrink" {
			t.Fatal(got)
		}
	}
	if n := lists.Load(); n > 2 { // one for all, and one more when the gateway listens
		t.Fatalf("%d lists for sessions of which nothing is known", n)
	}
	// Streams toward the target have to be open before it says anything on them.
	var mine [2]string
	for i := range mine {
		eventually(t, "the session is told", func() bool { mine[i] = "m_" + call(i, "m_grow"); return told[i].Load() > 0 })
	}
	for i := range clients {
		want := "m_grow m_shrink"
		if i < len(mine) {
			want = "m_grow " + mine[i] + " m_shrink"
		}
		if diff := cmp.Diff(want, names(i)); diff != "" {
			t.Errorf("session %d: %s", i, diff)
		}
	}
	if got := "m_" + call(0, mine[0]); got != mine[0] {
		t.Errorf("a tool of the session answers %s", got)
	}
	if _, err := clients[2].CallTool(t.Context(), &mcp.CallToolParams{Name: mine[0]}); err == nil || !strings.Contains(err.Error(), "Unknown tool") {
		t.Errorf("a tool of another session: %v", err)
	}
	if n := g.special(); n != 2 {
		t.Errorf("%d sessions have lists of their own", n)
	}
	for i := range mine {
		before := told[i].Load()
		call(i, "m_shrink")
		eventually(t, "the session is told of the end", func() bool { return told[i].Load() > before })
		eventually(t, "the session sees what the others see", func() bool { return names(i) == "m_grow m_shrink" && g.special() == 1-i })
	}
	if a, b := told[2].Load(), told[3].Load(); a != 0 || b != 0 {
		t.Errorf("sessions for which nothing changed were told %d and %d times", a, b)
	}
}

// A session that has lists of its own hears of what changed while the stream of its target was broken.
func TestOwnListsAfterBreak(t *testing.T) {
	var lists, told atomic.Int64
	target, cut := newMoody(t, &lists)
	g := newGateway(t, Config{Targets: []session.TargetConfig{target}})
	c := g.connect("2025-11-25", &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { told.Add(1) }})
	eventually(t, "the session is told", func() bool {
		if _, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "m_grow"}); err != nil {
			t.Fatal(err)
		}
		return told.Load() > 0
	})
	tools := func() int {
		list, err := c.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Tools)
	}
	eventually(t, "the session has a list of its own", func() bool { return tools() == 3 && g.special() == 1 })
	cut()
	before := told.Load()
	eventually(t, "the target is asked", func() bool { // a connection that was cut fails a call
		_, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "m_shrink"})
		return err == nil
	})
	eventually(t, "the session is told of what it missed", func() bool {
		n := told.Load()
		if n == before {
			return false
		}
		before = n
		return tools() == 2
	})
}

// A server that tells all its sessions of one change leaves none of them with lists of
// its own, and each is told once.
func TestBroadcast(t *testing.T) {
	s := newServer(t, "s", false, nil)
	s.echo("x")
	g := newGateway(t, Config{Targets: targets(s)})
	const sessions = 20
	var told [sessions]atomic.Int64
	var clients [sessions]*mcp.ClientSession
	for i := range clients {
		clients[i] = g.connect("2025-11-25", &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { told[i].Add(1) }})
		if _, err := clients[i].ListTools(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	// Each stream of a client comes with one toward the target, and with one for all.
	eventually(t, "the streams are open", func() bool { return s.listeners.Load() == sessions+1 })
	s.echo("y")
	for i := range clients {
		eventually(t, "the session is told", func() bool { return told[i].Load() > 0 })
		list, err := clients[i].ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
	}
	eventually(t, "no session has lists of its own", func() bool {
		for i := range clients {
			if _, err := clients[i].ListTools(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		return g.special() == 0
	})
	if n := len(s.reached("tools/list")); n > sessions+2+relistBurst+4 { // each session its own, and the shared one a few times
		t.Errorf("%d lists for one change of %d sessions", n, sessions)
	}
	before := len(s.reached("tools/list"))
	for i := range clients {
		if n := told[i].Load(); n != 1 {
			t.Errorf("session %d was told %d times", i, n)
		}
		if _, err := clients[i].ListTools(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.reached("tools/list")); n != before {
		t.Errorf("%d lists when all is known", n-before)
	}
}
