package session

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// waits holds the channels on which the wait tool reports.
var waits sync.Map

// open opens a leg that is closed with the test.
func open(t *testing.T, tg *Target, c Client) *Leg {
	t.Helper()
	l, err := tg.Open(t.Context(), c, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

func params(tool, text string) []byte {
	return []byte(`{"name":"` + tool + `","arguments":{"text":"` + text + `"}}`)
}

// text returns the text of a tool result.
func text(t *testing.T, m *protocol.Message) string {
	t.Helper()
	if m.Error != nil {
		t.Fatalf("the target answered %v", m.Error)
	}
	for c := range protocol.Elements(protocol.Get(m.Result, "content")) {
		s, _ := protocol.GetString(c, "text")
		return s
	}
	t.Fatalf("no content in %s", m.Result)
	return ""
}

// eachEra runs f against a server of either era over HTTP.
func eachEra(t *testing.T, f func(t *testing.T, tg *Target, era protocol.Era)) {
	for _, era := range []protocol.Era{protocol.Legacy, protocol.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			h := legacyHandler(sdkServer())
			if era == protocol.Modern {
				h = modernHandler(sdkServer())
			}
			f(t, target(t, serve(t, h).URL), era)
		})
	}
}

func TestDiscover(t *testing.T) {
	eachEra(t, func(t *testing.T, tg *Target, era protocol.Era) {
		d, err := tg.Discover(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Era != era {
			t.Errorf("era is %v", d.Era)
		}
		if got := protocol.EraOf(d.Version); got != era {
			t.Errorf("version is %s", d.Version)
		}
		if d.Instructions != "be nice" {
			t.Errorf("instructions are %q", d.Instructions)
		}
		if name, _ := protocol.GetString(d.ServerInfo, "name"); name != "sdk" {
			t.Errorf("serverInfo is %s", d.ServerInfo)
		}
		if protocol.Get(d.Capabilities, "tools", "listChanged") == nil {
			t.Errorf("capabilities are %s", d.Capabilities)
		}
		again, err := tg.Discover(t.Context(), client("b"), Forward{})
		if err != nil || again != d {
			t.Errorf("asked again: %v, %v", again, err)
		}
	})
}

func TestCall(t *testing.T) {
	eachEra(t, func(t *testing.T, tg *Target, era protocol.Era) {
		l := open(t, tg, client("a"))
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("echo", "hällo")})
		if err != nil {
			t.Fatal(err)
		}
		if got := text(t, m); got != "hällo" {
			t.Errorf("got %q", got)
		}
		m, err = l.Call(t.Context(), &Call{Method: "tools/list"})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range protocol.Elements(protocol.Get(m.Result, "tools")) {
			n++
		}
		if n != 6 {
			t.Errorf("%d tools in %s", n, m.Result)
		}
		m, err = l.Call(t.Context(), &Call{Method: "tools/call", Params: params("nope", "")})
		if err != nil || m.Error == nil || m.Error.Code != protocol.CodeInvalidParams {
			t.Errorf("an unknown tool: %+v, %v", m, err)
		}
	})
}

func TestProgressHasTheClientsToken(t *testing.T) {
	eachEra(t, func(t *testing.T, tg *Target, era protocol.Era) {
		l := open(t, tg, client("a"))
		for _, token := range []string{`"tok\u0065n"`, `9007199254740993`, ""} {
			p := params("progress", "x")
			if token != "" {
				p = protocol.Splice(p, protocol.Edit{Path: []string{"_meta", "progressToken"}, Value: []byte(token)})
			}
			var got []string
			m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: p, Emit: func(m *protocol.Message) error {
				got = append(got, string(protocol.Get(m.Params, "progressToken"))+" "+string(protocol.Get(m.Params, "progress")))
				if parsed, err := protocol.Parse(m.Raw, protocol.Limits{}); err != nil || parsed.Method != m.Method {
					t.Errorf("%s: %v", m.Raw, err)
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			if text(t, m) != "x" {
				t.Errorf("got %s", m.Result)
			}
			var want []string
			if token != "" {
				want = []string{token + " 1", token + " 2", token + " 3"}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("token %s: %s", token, d)
			}
		}
	})
}

func TestServerRequestIsAnswered(t *testing.T) {
	tg := target(t, serve(t, legacyHandler(sdkServer())).URL)
	l := open(t, tg, client("a"))
	asked := 0
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("ask", "who?"), Emit: func(m *protocol.Message) error {
		if m.Kind != protocol.Request || m.Method != "elicitation/create" {
			t.Errorf("got %s", m.Raw)
		}
		asked++
		answer := &protocol.Message{Kind: protocol.Response, Result: []byte(`{"action":"accept","content":{"a":"me"}}`)}
		if err := l.Respond(t.Context(), m.ID, answer, Forward{}); err != nil {
			t.Error(err)
		}
		err := l.Respond(t.Context(), m.ID, answer, Forward{})
		if f := fault.Of(err); f.Code != fault.NotFound {
			t.Errorf("answered twice: %v", err)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, m); got != "acceptme" || asked != 1 {
		t.Errorf("got %q after %d questions", got, asked)
	}
	// Without anybody to answer the request is refused, and the call goes on.
	m, err = l.Call(t.Context(), &Call{Method: "tools/call", Params: params("ask", "who?")})
	if err != nil {
		t.Fatal(err)
	}
	if string(protocol.Get(m.Result, "isError")) != "true" {
		t.Errorf("got %s", m.Raw)
	}
}

func TestCancelReachesTheTarget(t *testing.T) {
	eachEra(t, func(t *testing.T, tg *Target, era protocol.Era) {
		l := open(t, tg, client("a"))
		events := make(chan string, 2)
		waits.Store(t.Name(), events)
		defer waits.Delete(t.Name())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := l.Call(ctx, &Call{Method: "tools/call", Params: params("wait", t.Name())})
			done <- err
		}()
		if e := <-events; e != "started" {
			t.Fatal(e)
		}
		cancel()
		if f := fault.Of(<-done); f.Code != fault.ClientGone {
			t.Errorf("the call ended with %v", f)
		}
		if e := <-events; e != "cancelled" {
			t.Error(e)
		}
	})
}

func TestHeaders(t *testing.T) {
	eachEra(t, func(t *testing.T, _ *Target, era protocol.Era) {
		var mu sync.Mutex
		var seen []http.Header
		inner := legacyHandler(sdkServer())
		if era == protocol.Modern {
			inner = modernHandler(sdkServer())
		}
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen = append(seen, r.Header.Clone())
			mu.Unlock()
			inner.ServeHTTP(w, r)
		})).URL
		tg := target(t, url, func(c *TargetConfig) { c.AuthHeader = "X-Key" })
		f := Forward{Header: http.Header{
			"Traceparent": {"00-1"}, "Mcp-Param-A": {"b"}, "Authorization": {"Bearer client"}, "Cookie": {"c=1"},
			"Mcp-Session-Id": {"stolen"}, "Mcp-Name": {"other"}, "Content-Encoding": {"gzip"},
		}}
		l, err := tg.Open(t.Context(), client("a"), f)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close(t.Context())
		if _, err := l.Call(t.Context(), &Call{Method: "resources/read", Params: []byte(`{"uri":"test://a"}`), Forward: f}); err != nil {
			t.Fatal(err)
		}
		for _, h := range seen {
			for _, k := range []string{"Authorization", "Cookie", "Content-Encoding"} {
				if h.Get(k) != "" {
					t.Errorf("%s reached the target", k)
				}
			}
			if h.Get("Mcp-Session-Id") == "stolen" || h.Get("Traceparent") != "00-1" || h.Get("Mcp-Param-A") != "b" {
				t.Errorf("headers: %v", h)
			}
		}
		last := seen[len(seen)-1]
		want := map[string]string{"Mcp-Protocol-Version": "2025-11-25", "Mcp-Method": "", "Mcp-Name": ""}
		if era == protocol.Modern {
			want = map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "resources/read", "Mcp-Name": "test://a"}
		}
		for k, v := range want {
			if last.Get(k) != v {
				t.Errorf("%s is %q, not %q", k, last.Get(k), v)
			}
		}
		if (last.Get("Mcp-Session-Id") != "") != (era == protocol.Legacy) {
			t.Errorf("session id %q", last.Get("Mcp-Session-Id"))
		}
	})
}

func TestLease(t *testing.T) {
	tg := target(t, serve(t, legacyHandler(sdkServer())).URL)
	c := client("a")
	c.Version = protocol.Version20260728
	l1, err := tg.Lease(t.Context(), c, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	l2, err := tg.Lease(t.Context(), c, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	if l1 == l2 {
		t.Error("one leg was lent twice")
	}
	l1.Release()
	l1.Release()
	other := c
	other.Isolation = "b"
	l3, err := tg.Lease(t.Context(), other, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	if l3 == l1 {
		t.Error("a leg was lent to another principal")
	}
	l4, err := tg.Lease(t.Context(), c, Forward{})
	if err != nil {
		t.Fatal(err)
	}
	if l4 != l1 {
		t.Error("the leg was not used again")
	}
	m, err := l4.Call(t.Context(), &Call{Method: "tools/call", Params: params("echo", "hi")})
	if err != nil || text(t, m) != "hi" {
		t.Errorf("%v, %v", m, err)
	}
	for _, l := range []*Leg{l2, l3, l4} {
		l.Release()
	}
}

func TestLogSecret(t *testing.T) {
	// A target that is not there: the fault must not name it to the client.
	tg := target(t, "http://127.0.0.1:1/mcp?key=hunter2")
	_, err := tg.Open(t.Context(), client("a"), Forward{})
	f := fault.Of(err)
	if f.Code != fault.UpstreamUnreachable {
		t.Errorf("got %v", err)
	}
	if strings.Contains(f.Message, "127.0.0.1") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the fault tells too much: %v", err)
	}
}
