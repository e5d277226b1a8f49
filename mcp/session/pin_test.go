package session

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/upstream"
)

// A session stays on the endpoint that knows it, in other processes too, and
// moves when that endpoint is gone: nothing was sent, so nothing is lost.
func TestSessionIsPinned(t *testing.T) {
	servers := []*fake{{t: t}, {t: t}, {t: t}}
	var hosts []string
	for _, f := range servers {
		hosts = append(hosts, strings.TrimPrefix(serve(t, f).URL, "http://"))
	}
	pool := upstream.NewPool(upstream.Options{}, hosts...)
	defer pool.Close()
	newTarget := func() *Target {
		tg := NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://service.default/mcp", RoundTripper: pool, Identity: "x"}, Options{})
		t.Cleanup(tg.Close)
		return tg
	}
	here, there := newTarget(), newTarget()
	used := func(tool string) (index int) {
		index = -1
		for i, f := range servers {
			if n := f.executed(tool); n > 0 {
				if n > 1 || index >= 0 {
					t.Errorf("%s was executed more than once", tool)
				}
				index = i
			}
		}
		return index
	}
	l := open(t, here, client("a"))
	call(t, l, "first", "")
	at := used("first")
	sess := create(t, sessions(t), client("a"), l)
	for i := range 10 {
		again, ok := sessions(t).Open(sess.ID(), "default/b", "a")
		if !ok {
			t.Fatal("not opened")
		}
		l, err := again.Leg(t.Context(), there, Forward{})
		if err != nil {
			t.Fatal(err)
		}
		tool := fmt.Sprint("tool", i)
		call(t, l, tool, "")
		if used(tool) != at {
			t.Errorf("%s went to endpoint %d, not %d", tool, used(tool), at)
		}
	}
	if n := servers[0].count("initialize") + servers[1].count("initialize") + servers[2].count("initialize"); n != 1 {
		t.Errorf("initialised %d times", n)
	}
	pool.SetEndpoints(append(hosts[:at:at], hosts[at+1:]...)...)
	call(t, l, "moved", "")
	if moved := used("moved"); moved < 0 || moved == at {
		t.Errorf("went to endpoint %d", moved)
	}
}

// No secret is in a log or in a fault, whatever goes wrong.
func TestSecretsAreNotTold(t *testing.T) {
	const own, theirs, sid = "own-secret-0123456789", "client-secret-0123456789", "session-secret-0123456789"
	broken := ""
	f := &fake{t: t}
	f.before = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) bool {
		switch {
		case m != nil && m.Method == "initialize":
			w.Header().Set("Mcp-Session-Id", sid)
			result(w, m, `{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}}}`)
		case m != nil && m.Method == "tools/call" && broken == "echo":
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, r.Header)
		case m != nil && m.Method == "tools/call" && broken == "stream":
			writeEvents(w, m, fmt.Sprintf("data: {%q:%q}\n\n", r.Header.Get("X-Key")+r.Header.Get("Authorization"), sid))
		case m != nil && m.Method == "tools/call" && broken == "garbage":
			writeJSON(w, fmt.Append(nil, r.Header))
		case m != nil && m.Method == "tools/call" && broken == "lost":
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodGet:
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodDelete:
			panic(http.ErrAbortHandler)
		case m != nil && m.Method == "server/discover":
			return false
		default:
			w.WriteHeader(http.StatusAccepted)
		}
		return true
	}
	for _, passthrough := range []bool{false, true} {
		var log syncBuffer
		var told bytes.Buffer
		tg := target(t, serve(t, f).URL, func(c *TargetConfig) {
			c.Passthrough, c.AuthHeader, c.AuthValue = passthrough, "X-Key", secret.New(own)
			c.URL += "/mcp?key=" + own
		})
		tg.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		fw := Forward{Authorization: secret.New("Bearer " + theirs)}
		l, err := tg.Open(t.Context(), client("a"), fw)
		if err != nil {
			t.Fatal(err)
		}
		for _, broken = range []string{"echo", "stream", "garbage", "lost"} {
			_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", ""), Forward: fw})
			if err == nil {
				t.Errorf("%s: no error", broken)
				continue
			}
			fmt.Fprintf(&told, "%v %+v %#v\n", err, fault.Of(err), fault.Of(err))
		}
		_ = l.Close(t.Context())
		fmt.Fprintf(&told, "%v %+v %#v", tg.Config(), tg.Config(), fw)
		tg.Close()
		everything := strings.ReplaceAll(log.String()+told.String(), tg.Config().URL, "") // the operator wrote it
		for _, s := range []string{own, theirs, sid} {
			if i := strings.Index(everything, s[:8]); i >= 0 {
				t.Errorf("passthrough %t: a secret is told: …%s", passthrough, everything[max(0, i-200):i+20])
			}
		}
	}
}

// What a target asks outside of calls reaches the listener of its own session,
// and nobody answers for a leased leg.
func TestRequestsOnTheStream(t *testing.T) {
	f := &fake{t: t}
	f.get = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		writeEvents(w, m, `data: {"jsonrpc":"2.0","id":"q1","method":"roots/list"}`+"\n\n", `data: {"jsonrpc":"2.0","id":"q2","method":"ping"}`+"\n\n", "data: nonsense\n\n", event("x"))
		<-r.Context().Done()
	}
	tg := target(t, serve(t, f).URL)
	l := open(t, tg, client("a"))
	stop := errors.New("stop")
	err := l.Listen(t.Context(), Forward{}, nil, func(m *protocol.Message) error {
		if err := l.Respond(t.Context(), m.ID, &protocol.Message{Kind: protocol.Response, Result: []byte(`{"roots":[]}`)}, Forward{}); err != nil {
			t.Error(err)
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	leased, err := tg.Lease(t.Context(), client("a"), Forward{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	ctx := t.Context()
	go func() {
		done <- leased.listen(ctx, &intake{emit: func(m *protocol.Message) error { t.Errorf("got %s", m.Raw); return nil }, connected: func([]byte) {}})
	}()
	wait(t, func() bool { return f.count("answer") == 3 })
	tg.Close()
	<-done
	f.mu.Lock()
	defer f.mu.Unlock()
	answers := map[string]int{}
	for _, b := range f.bodies {
		if m, _ := protocol.Parse([]byte(b), protocol.Limits{}); m.Kind == protocol.Response {
			answers[string(m.ID)+fmt.Sprint(m.Error == nil)]++
		}
	}
	want := map[string]int{`"q1"true`: 1, `"q1"false`: 1, `"q2"true`: 1}
	if fmt.Sprint(answers) != fmt.Sprint(want) {
		t.Errorf("answers: %v, not %v", answers, want)
	}
}
