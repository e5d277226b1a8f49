package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// idleRoute is a route to a service whose exchanges may not stand still for long.
func idleRoute(t *testing.T, idle string, h http.HandlerFunc) *testGateway {
	t.Helper()
	return start(t, static("a", serveUpstream(t, h))+route("r", "backendRefs: ["+to("a")+"]")+
		webPolicyOn("p", "HTTPRoute", "r", "", "timeouts: {streamIdle: "+idle+"}"))
}

func mute(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// TestIdle is about exchanges with a service in which no byte moves.
func TestIdle(t *testing.T) {
	t.Run("no answer", func(t *testing.T) {
		g := idleRoute(t, "1s", mute)
		for _, body := range []string{"", "abc"} {
			if got := g.do("POST", g.url("8080", "/"), strings.NewReader(body)); got.Status != 504 || got.Body != "the upstream was silent for too long" {
				t.Errorf("answer to %q: %d %s", body, got.Status, got.Body)
			}
		}
		if rec := g.ended(1)[0]; rec.ErrorType != "upstream_timeout" {
			t.Errorf("error type %q", rec.ErrorType)
		}
	})
	t.Run("half a request", func(t *testing.T) {
		g := idleRoute(t, "1s", mute)
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("a", 100_000))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 408 || !resp.Close {
			t.Errorf("answer %d %s; closes: %v", resp.StatusCode, body, resp.Close)
		}
	})
	t.Run("half an answer", func(t *testing.T) {
		g := idleRoute(t, "1s", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		resp, err := http.Get(g.url("8080", "/"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if got, err := io.ReadAll(resp.Body); string(got) != "begin" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read %q, %v", got, err)
		}
		if rec := g.ended(1)[0]; rec.ErrorType != "upstream_timeout" || rec.Status != 200 {
			t.Errorf("status %d, error type %q", rec.Status, rec.ErrorType)
		}
	})
	t.Run("a client that does not read", func(t *testing.T) {
		g := idleRoute(t, "1s", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		})
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if rec := g.ended(1)[0]; rec.ErrorType != "client_gone" {
			t.Errorf("error type %q", rec.ErrorType)
		}
	})
	t.Run("an answer that is slow and never still", func(t *testing.T) {
		g := idleRoute(t, "3s", func(w http.ResponseWriter, _ *http.Request) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 35 {
				<-tick.C
				_, _ = io.WriteString(w, ".")
				_ = http.NewResponseController(w).Flush()
			}
		})
		if got := g.get("/"); got.Body != strings.Repeat(".", 35) {
			t.Errorf("answer %d %q", got.Status, got.Body)
		}
	})
	t.Run("a tunnel", func(t *testing.T) {
		g := idleRoute(t, "3s", func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_ = rw.Flush()
			_, _ = io.Copy(conn, rw)
		})
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		from := bufio.NewReader(c)
		if resp, err := http.ReadResponse(from, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := range 35 { // longer than it may stand still
			<-tick.C
			if _, err := fmt.Fprintf(c, "%d\n", i); err != nil {
				t.Fatal(err)
			}
			if line, err := from.ReadString('\n'); err != nil || line != fmt.Sprintf("%d\n", i) {
				t.Fatalf("read %q, %v", line, err)
			}
		}
		if b, err := from.ReadByte(); err == nil {
			t.Errorf("the tunnel stands, and says %q", b)
		}
	})
}

// TestIdleSaid is about which exchanges mind that nothing moves.
func TestIdleSaid(t *testing.T) {
	plain, tools, model := &weighted{to: &destination{}}, &weighted{to: &destination{mcp: true}}, &weighted{to: &destination{kind: "AI"}}
	rt, err := NewRuntime(RuntimeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.close()
	x := &exchange{still: rt.idle(defaultIdle)}
	post, get := httptest.NewRequest("POST", "/", nil), httptest.NewRequest("GET", "/", nil)
	said, never := &rule{idleSaid: true, idle: rt.idle(time.Second)}, &rule{idleSaid: true, idle: rt.idle(0)}
	for _, tc := range []struct {
		name string
		rule *rule
		to   *weighted
		r    *http.Request
		want time.Duration
	}{
		{"a service", new(rule), plain, get, defaultIdle},
		{"an MCP backend", new(rule), tools, post, 0},
		{"an AI backend", new(rule), model, post, 0},
		{"a service, said", said, plain, get, time.Second},
		{"an MCP backend, said", said, tools, post, time.Second},
		{"the stream of a session, said", said, tools, get, 0},
		{"an AI backend, said", said, model, post, time.Second},
		{"a service, never", never, plain, get, 0},
	} {
		got := time.Duration(0)
		if dog := x.stillness(tc.rule, tc.to, tc.r); dog != nil {
			got = dog.After
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestIdleMCP is about a tool that says nothing: the call ends, and the stream of the session, in which nothing moves
// either, goes on.
func TestIdleMCP(t *testing.T) {
	for _, version := range eras {
		t.Run(version, func(t *testing.T) {
			s := mcp.NewServer(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
			mcp.AddTool(s, &mcp.Tool{Name: "hang"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
				<-ctx.Done()
				return nil, nil, ctx.Err()
			})
			server := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil))
			t.Cleanup(func() {
				for session := range s.Sessions() {
					_ = session.Close()
				}
				server.Close()
			})
			host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
			g := start(t, fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec: {type: MCP, mcp: {targets: [{name: a, static: {host: %s, port: %s, path: /}}]}}
`, host, port)+route("r", "backendRefs: ["+to("tools")+"]")+webPolicyOn("p", "HTTPRoute", "r", "", "timeouts: {streamIdle: 1s}"))
			changed := make(chan struct{}, 9)
			c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
				ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
			})
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: g.url("8080", "/"), MaxRetries: -1, HTTPClient: &http.Client{Transport: tr}},
				&mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cs.Close() }()
			if _, err := cs.ListTools(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			got, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "a_hang"})
			if err == nil {
				t.Fatalf("the call ended with %+v", got)
			}
			if version == "2026-07-28" {
				return // its stream is a request of its own
			}
			mcp.AddTool(s, &mcp.Tool{Name: "new"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{}, nil, nil
			})
			select {
			case <-changed:
			case <-t.Context().Done():
			}
		})
	}
}

// TestIdleLLM is about a model that stops in the middle: the stream says so.
func TestIdleLLM(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {kind: Inline, inline: k}}")+route("r", "backendRefs: ["+to("model")+"]")+
		webPolicyOn("p", "HTTPRoute", "r", "", "timeouts: {streamIdle: 1s}"))
	got := g.do("POST", g.url("8080", "/v1/chat/completions"), bytes.NewReader(llmtest.Chat.Request("hold", true)))
	if got.Status != 200 || !strings.Contains(got.Body, `"content":"hold"`) || !strings.Contains(got.Body, "silent for too long") || strings.Contains(got.Body, "[DONE]") {
		t.Errorf("answer %d %s", got.Status, got.Body)
	}
	<-s.gone
	if rec := g.ended(1)[0]; rec.ErrorType != "upstream_timeout" {
		t.Errorf("error type %q", rec.ErrorType)
	}
}
