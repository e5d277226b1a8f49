package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// newReplicas serves a backend from several hubs that reach each other over HTTP.
func newReplicas(t *testing.T, n int, cfg Config) []*gateway {
	t.Helper()
	var all []*gateway
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	for range n {
		sealer, err := session.NewSealer(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		g := &gateway{t: t, client: &http.Client{Transport: transport}}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.Header.Get(PeerHeader) {
			case "":
			case PeerRequest:
				g.hub.Meet(r)
				r = r.WithContext(FromPeer(r.Context()))
			default:
				g.hub.ServePeer(w, r)
				return
			}
			g.ServeHTTP(w, r)
		}))
		g.hub = NewHub(HubOptions{Logger: slog.New(slog.DiscardHandler), Sealer: sealer, Peers: plainPeers{transport},
			Sessions: session.NewSessions(session.SessionsOptions{Sealer: sealer, Home: srv.Listener.Addr().String()})})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = g.hub.Run(ctx) }()
		g.apply(cfg)
		srv.Start()
		g.url = srv.URL
		t.Cleanup(func() {
			cancel()
			<-done
			srv.CloseClientConnections()
			srv.Close()
		})
		all = append(all, g)
	}
	return all
}

// plainPeers reach replicas without TLS, which package replica has.
type plainPeers struct{ next http.RoundTripper }

func (p plainPeers) RoundTrip(r *http.Request) (*http.Response, error) {
	u := *r.URL
	u.Scheme = "http"
	r = r.Clone(r.Context())
	r.URL = &u
	return p.next.RoundTrip(r)
}

// What a legacy target shows to one session alone, that session sees at each replica,
// and no other does.
func TestReplicasOwnLists(t *testing.T) {
	// Its sessions see the tool that they ask for.
	var sessions atomic.Int64
	grown := make(chan string, 1)
	target := newRaw(t, func(w http.ResponseWriter, r *http.Request) {
		sid := r.Header.Get("Mcp-Session-Id")
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			for sid == "s1" {
				select {
				case <-grown:
					_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
					_ = http.NewResponseController(w).Flush()
				case <-r.Context().Done():
					return
				}
			}
			<-r.Context().Done()
			return
		}
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.NewDecoder(r.Body).Decode(&m)
		result := "{}"
		switch m.Method {
		case "server/discover":
			w.WriteHeader(http.StatusBadRequest)
			return
		case "initialize":
			// The gateway itself opens some, too: the first session of the client is s1.
			if strings.Contains(r.Header.Get("Accept-Language"), "first") {
				w.Header().Set("Mcp-Session-Id", "s1")
			} else {
				w.Header().Set("Mcp-Session-Id", fmt.Sprint("x", sessions.Add(1)))
			}
			result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"t","version":"1"}}`
		case "tools/list":
			result = `{"tools":[{"name":"common","inputSchema":{"type":"object"}}]}`
			if sid == "s1" {
				result = `{"tools":[{"name":"common","inputSchema":{"type":"object"}},{"name":"mine","inputSchema":{"type":"object"}}]}`
			}
		case "tools/call":
			result = `{"content":[{"type":"text","text":"` + sid + `"}]}`
		}
		if m.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(protocol.AppendResult(nil, protocol.ID(m.ID), []byte(result)))
	})
	all := newReplicas(t, 3, Config{Targets: []session.TargetConfig{{
		Name: "t", Transport: session.StreamableHTTP, URL: target.URL, RoundTripper: target.transport, Timeout: 5 * time.Second, Identity: "t",
	}}})
	home := all[0]
	sid := home.initialize("2025-11-25", "Accept-Language", "first")
	list := func(g *gateway, sid string) string {
		_, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Mcp-Session-Id", sid)
		return body
	}
	// A GET by way of another replica makes that known to the home.
	stream := all[1].stream("GET", "", sid)
	stream.next(t)
	all[2].post(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`, "Mcp-Session-Id", sid)
	for i, g := range all {
		if body := list(g, sid); strings.Contains(body, "t_mine") || !strings.Contains(body, "t_common") {
			t.Errorf("before, replica %d: %s", i, body)
		}
	}
	grown <- ""
	if _, data := stream.next(t); !strings.Contains(data, "tools/list_changed") {
		t.Fatal(data)
	}
	other := home.initialize("2025-11-25")
	for i, g := range all {
		if body := list(g, sid); !strings.Contains(body, "t_mine") {
			t.Errorf("replica %d: %s", i, body)
		}
		if body := list(g, other); strings.Contains(body, "t_mine") || !strings.Contains(body, "t_common") {
			t.Errorf("another session, replica %d: %s", i, body)
		}
		if _, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t_mine"}}`, "Mcp-Session-Id", sid); !strings.Contains(body, `"text":"s1"`) {
			t.Errorf("replica %d: %s", i, body)
		}
	}
}

// A batch is served element by element, each where it belongs.
func TestReplicasBatch(t *testing.T) {
	s := newServer(t, "s", false, &mcp.ServerOptions{Logger: slog.New(slog.DiscardHandler)})
	s.echo("x")
	all := newReplicas(t, 2, Config{Targets: targets(s)})
	sid := all[0].initialize("2025-03-26")
	_, body, _ := all[1].post(`[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s_x","arguments":{"text":"here"}}},`+
		`{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"error"}},`+
		`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"},{"jsonrpc":"2.0","id":3,"method":"ping"}]`, "Mcp-Session-Id", sid)
	for _, want := range []string{`"id":1,"result"`, "x:here", `"id":2,"result":{}`, `"id":3,"result":{}`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

// A request that was passed on is not passed on again.
func TestReplicasPassOnce(t *testing.T) {
	s := newServer(t, "s", true, nil)
	all := newReplicas(t, 2, Config{Targets: targets(s)})
	sid := all[0].initialize("2025-11-25")
	before := all[0].hub.known.Len()
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`,
		`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
	} {
		if status, answer, _ := all[1].post(body, "Mcp-Session-Id", sid, PeerHeader, PeerRequest); status != 404 {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if n := all[0].hub.known.Len(); n != before {
		t.Error("the home was asked")
	}
}

// An id of ours leads to the replica that made it, for the session that it was made
// for, and no text that nobody sealed leads anywhere.
func FuzzOwnIDs(f *testing.F) {
	sealer, _ := session.NewSealer(make([]byte, 32))
	h := NewHub(HubOptions{Sealer: sealer, Sessions: session.NewSessions(session.SessionsOptions{Sealer: sealer, Home: "10.0.0.1:15010"})})
	mine, other := &live{h: h, nonce: [16]byte{1}}, &live{h: h, nonce: [16]byte{2}}
	f.Add(string(mine.ownID()), []byte("0123456789abcdef10.0.0.2:1"))
	f.Add(`"mcpgw-"`, []byte{})
	f.Add(h.connectionID([]byte("b")), []byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, id string, plain []byte) {
		if mine.waits(mine.ownID()) != "10.0.0.1:15010" || h.connectionAddr(h.connectionID([]byte("b")), []byte("b")) != "10.0.0.1:15010" {
			t.Fatal("an id of ours is not known")
		}
		if addr := other.waits(protocol.ID(id)); addr != "" {
			t.Fatalf("%q leads to %q", id, addr)
		}
		if addr := h.connectionAddr(id, []byte("another caller")); addr != "" {
			t.Fatalf("%q leads to %q", id, addr)
		}
		// Whatever is sealed is read without harm.
		want := ""
		if len(plain) > 16 {
			want = string(plain[16:])
		}
		sealed := sealer.Seal("ask", plain, mine.nonce[:])
		if got := mine.waits(protocol.ID(`"mcpgw-` + sealed + `"`)); got != want && len(sealed) < maxOwnID {
			t.Fatalf("%q leads to %q", plain, got)
		}
	})
}

// What replicas say to each other is bounded, and what is not understood does nothing.
func TestPeerNotes(t *testing.T) {
	all := newReplicas(t, 1, Config{})
	h := all[0].hub
	say := func(kind, body string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader([]byte(body)))
		r.Header.Set(PeerHeader, kind)
		h.ServePeer(w, r)
		return w.Code
	}
	nonce, _ := json.Marshal([16]byte{7})
	for _, tt := range []struct {
		kind, body string
		want       int
	}{
		{"ended", `{"session":` + string(nonce) + `}`, 204},
		{"own", `{"session":` + string(nonce) + `}`, 204},
		{"shared", `{"session":` + string(nonce) + `}`, 204},
		{"unheard", `{"session":` + string(nonce) + `}`, 404},
		{"ended", `{`, 400},
		{"call", `{"session":` + string(nonce) + `,"call":"` + strings.Repeat("x", maxPeerNote) + `"}`, 400},
	} {
		if got := say(tt.kind, tt.body); got != tt.want {
			t.Errorf("%s %.40s: %d", tt.kind, tt.body, got)
		}
	}
	h.cancelEarly([16]byte{7}, "1")
	if got := say("call", `{"session":`+string(nonce)+`,"call":"1"}`); got != 200 {
		t.Errorf("a call that was cancelled before: %d", got)
	}
	now := time.Now()
	h.now = func() time.Time { return now.Add(earlyFor + time.Second) }
	if h.wasCancelled([16]byte{7}, "1") {
		t.Error("a cancellation is remembered for ever")
	}
	for i := range maxEarly + 10 {
		h.cancelEarly([16]byte{7}, protocol.IntID(int64(i)))
	}
	for i := range maxKnown + 10 {
		h.meet(fmt.Sprint("10.0.0.1:", i))
	}
	if h.early.Len() != maxEarly || h.known.Len() != maxKnown {
		t.Errorf("%d cancellations, %d replicas", h.early.Len(), h.known.Len())
	}
	l := h.enter([16]byte{7}, nil)
	defer h.leave(l)
	for range maxCalls {
		if _, ok := l.beginRemote("1", nil); !ok {
			t.Fatal("refused below the limit")
		}
	}
	if _, ok := l.beginRemote("1", nil); ok {
		t.Error("one call too many")
	}
}
