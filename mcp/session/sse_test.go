package session

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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

// A fakeSSE is a hand-written server of the transport of 2024-11-05.
type fakeSSE struct {
	t *testing.T
	// call answers tools/call on the stream; what it returns is the status of
	// the POST. nil gives the text of the call back.
	call func(m *protocol.Message, write func(parts ...string), hangUp func()) int

	mu          sync.Mutex
	streams     int
	initialized int
	executed    map[string]int
	posts       map[string]func(string)
	ends        map[string]context.CancelFunc
}

func (f *fakeSSE) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		ctx, cancel := context.WithCancel(r.Context())
		var mu sync.Mutex
		f.mu.Lock()
		if f.posts == nil {
			f.posts, f.ends, f.executed = make(map[string]func(string)), make(map[string]context.CancelFunc), make(map[string]int)
		}
		f.streams++
		id := fmt.Sprint(f.streams)
		f.ends[id] = cancel
		f.posts[id] = func(s string) {
			mu.Lock()
			defer mu.Unlock()
			_, _ = io.WriteString(w, s)
			w.(http.Flusher).Flush()
		}
		write := f.posts[id]
		f.mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		write("event: endpoint\ndata: /post?s=" + id + "\n\n")
		<-ctx.Done()
		f.mu.Lock()
		delete(f.posts, id) // before the handler, and with it w, ends
		f.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m, err := protocol.Parse(body, protocol.Limits{})
	if err != nil {
		f.t.Errorf("the gateway sent %s", body)
		return
	}
	id := r.URL.Query().Get("s")
	f.mu.Lock()
	post, end := f.posts[id], f.ends[id]
	f.mu.Unlock()
	if post == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	write := func(parts ...string) {
		for _, p := range parts {
			post(strings.ReplaceAll(p, "ID", string(m.ID)))
		}
	}
	status := http.StatusAccepted
	switch m.Method {
	case "initialize":
		f.mu.Lock()
		f.initialized++
		f.mu.Unlock()
		write(`data: {"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2024-11-05","capabilities":{}}}` + "\n\n")
	case "tools/call":
		tool, _ := protocol.GetString(m.Params, "name")
		f.mu.Lock()
		f.executed[tool]++
		f.mu.Unlock()
		if tool == "good" || f.call == nil {
			write(event(tool))
		} else {
			status = f.call(m, write, end)
		}
	}
	w.WriteHeader(status)
}

func TestSSEHostile(t *testing.T) {
	for name, test := range map[string]struct {
		call func(m *protocol.Message, write func(parts ...string), hangUp func()) int
		want string // of the text; "" is a fault
	}{
		"surplus": {func(_ *protocol.Message, write func(...string), _ func()) int {
			write(strings.ReplaceAll(event("wrong"), "ID", "1"), strings.ReplaceAll(event("float"), "ID", "ID.0"),
				"data: nonsense\n\n", "event: other\n"+event("typed"), event("right"), event("second"))
			return 202
		}, "right"},
		"in the answer of the POST": {func(_ *protocol.Message, write func(...string), _ func()) int {
			write(event("right"))
			return 200
		}, "right"},
		"dies": {func(_ *protocol.Message, _ func(...string), hangUp func()) int { hangUp(); return 202 }, ""},
		"dies in event": {func(_ *protocol.Message, write func(...string), hangUp func()) int {
			write(`data: {"jsonrpc`)
			hangUp()
			return 202
		}, ""},
		"duplicate keys": {func(_ *protocol.Message, write func(...string), _ func()) int {
			write(strings.ReplaceAll(event("x"), `"text":"x"`, `"text":"x","text":"y"`))
			return 202
		}, ""},
		"too large": {func(_ *protocol.Message, write func(...string), _ func()) int {
			write(event(strings.Repeat("x", 1<<20)))
			return 202
		}, ""},
		"500": {func(*protocol.Message, func(...string), func()) int { return 500 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeSSE{t: t, call: test.call}
			tg := target(t, serve(t, f).URL, viaSSE, func(c *TargetConfig) { c.MaxMessage = 1 << 20 })
			l := open(t, tg, client("a"))
			m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("bad", "")})
			switch {
			case test.want == "" && (err == nil || fault.Of(err).Code != fault.UpstreamFailed):
				t.Errorf("got %v, %v", m, err)
			case test.want != "" && (err != nil || text(t, m) != test.want):
				t.Errorf("got %v, %v", m, err)
			}
			if got := call(t, l, "good", ""); got != "good" {
				t.Errorf("got %q", got)
			}
			if f.executed["bad"] != 1 || f.executed["good"] != 1 {
				t.Errorf("executed: %v", f.executed)
			}
		})
	}
}

// A server that no longer knows the session of a POST is connected anew, once.
func TestSSESessionLost(t *testing.T) {
	f := &fakeSSE{t: t}
	l := open(t, target(t, serve(t, f).URL, viaSSE), client("a"))
	f.mu.Lock()
	clear(f.posts)
	f.mu.Unlock()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
			if err != nil || text(t, m) != "x" {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
	wg.Wait()
	if f.initialized != 2 || f.executed["x"] != 8 {
		t.Errorf("initialised %d times, executed %d times", f.initialized, f.executed["x"])
	}
}

// While the only call of a connection is slow to take what comes, reading
// pauses; with another call beside it, what is too much is dropped and the other
// gets its answer.
func TestSSESlowCall(t *testing.T) {
	const progress = `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}` + "\n\n"
	f := &fakeSSE{t: t, call: func(_ *protocol.Message, write func(...string), _ func()) int {
		for range 2 * maxQueued {
			write(progress)
		}
		write(event("slow"))
		return 202
	}}
	tg := target(t, serve(t, f).URL, viaSSE)
	l := open(t, tg, client("a"))
	n := 0
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("alone", ""), Emit: func(*protocol.Message) error { n++; return nil }})
	if err != nil || text(t, m) != "slow" || n != 2*maxQueued {
		t.Errorf("%d messages, %v, %v", n, m, err)
	}
	blocked, release := make(chan bool), make(chan bool)
	done := make(chan error, 1)
	go func() {
		first := true
		_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("beside", ""), Emit: func(*protocol.Message) error {
			if first {
				first = false
				close(blocked)
				<-release
			}
			return nil
		}})
		done <- err
	}()
	<-blocked
	// The reader may wait for the slow call until this one begins.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err = l.Call(ctx, &Call{Method: "tools/call", Params: params("good", "")})
	close(release)
	if err != nil || text(t, m) != "good" {
		t.Errorf("%v, %v", m, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
