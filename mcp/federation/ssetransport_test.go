package federation

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A client of the first revision has its own transport, and the same catalogue.
func TestSSETransport(t *testing.T) {
	old, modern := newServer(t, "old", false, nil), newServer(t, "new", true, nil)
	old.echo("x")
	old.asking()
	modern.inputs()
	g := newGateway(t, Config{Targets: targets(old, modern)})
	var heard atomic.Int64
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { heard.Add(1) },
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: r.Params.Messages[0].Content}, nil
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"a": r.Params.Message}}, nil
		},
	})
	cs, err := c.Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: g.url + "/route/sse", HTTPClient: g.client}, &mcp.ClientSessionOptions{ProtocolVersion: "2024-11-05"})
	if err != nil {
		t.Fatal(err)
	}
	if got := cs.InitializeResult().ProtocolVersion; got != "2024-11-05" {
		t.Errorf("negotiated %s", got)
	}
	for tool, want := range map[string]string{"old_x": "x:hi", "old_sample": "old", "new_ask": "round 1"} {
		params := &mcp.CallToolParams{Name: tool}
		if tool == "old_x" {
			params.Arguments = map[string]any{"text": "hi"}
		}
		r, err := cs.CallTool(t.Context(), params)
		if err != nil || !strings.Contains(text(r), want) {
			t.Errorf("%s: %s %v", tool, text(r), err)
		}
	}
	if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "nope"}); err == nil || !strings.Contains(err.Error(), "Unknown tool: nope") {
		t.Error(err)
	}
	before := heard.Load()
	g.apply(Config{Targets: targets(old)})
	eventually(t, "a change is heard of", func() bool { return heard.Load() > before })
	if err := cs.Close(); err != nil {
		t.Log(err)
	}
	eventually(t, "the session is gone", func() bool {
		g.hub.mu.Lock()
		defer g.hub.mu.Unlock()
		return len(g.hub.connections) == 0 && len(g.hub.streams) == 0
	})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/sse?sessionId=nonsense", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Mcp-Protocol-Version", "2024-11-05") // as the TypeScript SDK's client says
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("an unknown session: %d", resp.StatusCode)
	}
}

// A stream takes messages from its own caller, at its own backend.
func TestSSETransportIsBound(t *testing.T) {
	g := newGateway(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/sse", nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("X-Test-Principal", "alice")
	stream, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	query := ""
	for lines := bufio.NewScanner(stream.Body); query == "" && lines.Scan(); {
		query, _ = strings.CutPrefix(lines.Text(), "data: ")
		if !strings.HasPrefix(query, "?") {
			query = ""
		}
	}
	post := func(principal string) int {
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/sse"+query, strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Test-Principal", principal)
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := post("mallory"); got != 404 {
		t.Errorf("another caller: %d", got)
	}
	g.mu.Lock()
	own := g.backend
	g.backend = g.hub.Backend(Config{Name: "default/other"})
	g.mu.Unlock()
	if got := post("alice"); got != 404 {
		t.Errorf("another backend: %d", got)
	}
	g.mu.Lock()
	g.backend = own
	g.mu.Unlock()
	if got := post("alice"); got != 202 {
		t.Errorf("its own: %d", got)
	}
}
