package session

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func viaSSE(c *TargetConfig) { c.Transport = SSE }

func TestSSE(t *testing.T) {
	s := sdkServer()
	srv := serve(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil))
	tg := target(t, srv.URL, viaSSE)
	d, err := tg.Discover(t.Context(), client("a"), Forward{})
	if err != nil || d.Era != protocol.Legacy {
		t.Fatalf("%+v, %v", d, err)
	}
	l := open(t, tg, client("a"))
	if got := call(t, l, "echo", "hi"); got != "hi" {
		t.Errorf("got %q", got)
	}
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("ask", "who"), Emit: func(m *protocol.Message) error {
		return l.Respond(t.Context(), m.ID, &protocol.Message{Kind: protocol.Response, Result: []byte(`{"action":"decline"}`)}, Forward{})
	}})
	if err != nil || !strings.HasPrefix(text(t, m), "decline") {
		t.Errorf("%v, %v", m, err)
	}
	// A connection that breaks is made anew by the next call.
	srv.CloseClientConnections()
	d1 := l.w.(*duplexWire).duplex
	wait(t, func() bool { return !d1.alive() })
	if got := call(t, l, "echo", "again"); got != "again" {
		t.Errorf("got %q", got)
	}
}

func TestSSEEndpointOfAnotherOrigin(t *testing.T) {
	for _, endpoint := range []string{
		"http://evil.example/messages", "//evil.example/x", "https://127.0.0.1/x", "http://u:p@HOST/x", "http://HOST:1/x", "javascript:alert(1)", "%zz",
	} {
		t.Run(endpoint, func(t *testing.T) {
			srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					t.Error("something was posted")
				}
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "event: endpoint\ndata: %s\n\n", strings.ReplaceAll(endpoint, "HOST", r.Host))
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}))
			tg := target(t, srv.URL, viaSSE)
			_, err := tg.Open(t.Context(), client("a"), Forward{})
			if f := fault.Of(err); f.Code != fault.UpstreamFailed {
				t.Errorf("got %v", err)
			}
		})
	}
}
