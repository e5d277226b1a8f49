package session

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func TestParamsOfEachEra(t *testing.T) {
	const hop = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/clientCapabilities":{}`
	for name, test := range map[string]struct{ in, legacy, modern, token string }{
		"nothing": {
			in:     ``,
			legacy: ``,
			modern: `{"_meta":{` + hop + `}}`,
		},
		"no _meta": {
			in:     `{"name":"x", "b":1.0}`,
			legacy: `{"name":"x", "b":1.0}`,
			modern: `{"name":"x", "b":1.0,"_meta":{` + hop + `}}`,
		},
		"foreign keys and traces pass": {
			in:     `{"_meta":{"traceparent":"00-1","x/y":{"z":[1]}}}`,
			legacy: `{"_meta":{"traceparent":"00-1","x/y":{"z":[1]}}}`,
			modern: `{"_meta":{"traceparent":"00-1","x/y":{"z":[1]},` + hop + `}}`,
		},
		"progress": {
			in:     `{"_meta":{"progressToken":"t"}}`,
			legacy: `{"_meta":{"progressToken":7}}`,
			modern: `{"_meta":{"progressToken":7,` + hop + `}}`,
			token:  `"t"`,
		},
		"of a modern client": {
			in:     `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2030-01-01","io.modelcontextprotocol/clientInfo":{"name":"evil"},"io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/subscriptionId":3}}`,
			legacy: `{"_meta":{}}`,
			modern: `{"_meta":{` + hop + `}}`,
		},
		"log level": {
			in:     `{"_meta":{"io.modelcontextprotocol/logLevel":"debug"}}`,
			legacy: `{"_meta":{}}`,
			modern: `{"_meta":{"io.modelcontextprotocol/logLevel":"debug",` + hop + `}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var in []byte
			if test.in != "" {
				in = []byte(test.in)
			}
			got, token := legacyParams(in, "7")
			if d := cmp.Diff(test.legacy, string(got)); d != "" {
				t.Error("legacy:", d)
			}
			if string(token) != test.token {
				t.Errorf("token is %s", token)
			}
			got, token = modernParams(in, "7", "2026-07-28", []byte("{}"), []byte(`{"name":"c"}`), nil)
			if !sameJSON(t, test.modern, string(got)) {
				t.Errorf("modern: %s, not %s", got, test.modern)
			}
			if string(token) != test.token {
				t.Errorf("token is %s", token)
			}
			if test.in == "" {
				return
			}
			if _, err := protocol.Parse(protocol.AppendRequest(nil, "1", "x", got), protocol.Limits{}); err != nil {
				t.Error(err)
			}
		})
	}
	got, _ := modernParams(nil, "7", "v", []byte("{}"), []byte("{}"), []byte(`"info"`))
	if level, _ := protocol.GetString(got, "_meta", protocol.MetaLogLevel); level != "info" {
		t.Errorf("the level that was set is not sent: %s", got)
	}
}

// sameJSON compares two objects but for the order of their _meta.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	members := func(s string) map[string]string {
		got := map[string]string{}
		for k, v := range protocol.Members([]byte(s)) {
			if k != "_meta" {
				got[k] = string(v)
				continue
			}
			for k, v := range protocol.Members(v) {
				got["_meta/"+k] = string(v)
			}
		}
		return got
	}
	return cmp.Equal(members(a), members(b))
}

// A modern client asks for log messages with each request, a legacy target knows
// one level a session.
func TestLogLevelTowardLegacyTarget(t *testing.T) {
	f := &fake{t: t, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
		writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`+"\n\n", event("ok"))
	}}
	tg := target(t, serve(t, f).URL)
	logs := func(level string) (n int) {
		l, err := tg.Lease(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		p := params("x", "")
		if level != "" {
			p = protocol.Splice(p, edit(protocol.Quote(level), protocol.MetaLogLevel))
		}
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: p, Emit: func(*protocol.Message) error { n++; return nil }})
		if err != nil || text(t, m) != "ok" {
			t.Fatalf("%v, %v", m, err)
		}
		return n
	}
	for _, step := range []struct {
		level     string
		logs, set int
	}{{"", 0, 0}, {"info", 1, 1}, {"info", 1, 1}, {"debug", 1, 2}, {"", 0, 2}} {
		if n := logs(step.level); n != step.logs {
			t.Errorf("level %q: %d log messages", step.level, n)
		}
		if n := f.count("logging/setLevel"); n != step.set {
			t.Errorf("level %q: set %d times", step.level, n)
		}
	}
}

// What a modern target has no methods for is done by the leg.
func TestLegacyMethodsTowardModernTarget(t *testing.T) {
	f := &fake{t: t, modern: true}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	for method, p := range map[string]string{
		"ping": `{}`, "logging/setLevel": `{"level":"warning"}`, "resources/subscribe": `{"uri":"a:b"}`, "resources/unsubscribe": `{"uri":"a:b"}`,
	} {
		m, err := l.Call(t.Context(), &Call{Method: method, Params: []byte(p)})
		if err != nil || m.Error != nil || string(m.Result) != "{}" {
			t.Errorf("%s: %+v, %v", method, m, err)
		}
	}
	for _, method := range []string{"notifications/initialized", "notifications/roots/list_changed", "notifications/cancelled"} {
		if err := l.Notify(t.Context(), method, nil, Forward{}); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if err := l.Notify(t.Context(), "notifications/vendor", []byte(`{"x":1}`), Forward{}); err != nil {
		t.Error(err)
	}
	call(t, l, "x", "")
	if d := cmp.Diff([]string{"server/discover", "notifications/vendor", "tools/call"}, f.seen); d != "" {
		t.Error(d)
	}
	m, err := protocol.Parse([]byte(f.bodies[len(f.bodies)-1]), protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if level, _ := protocol.GetString(m.Params, "_meta", protocol.MetaLogLevel); level != "warning" {
		t.Errorf("sent %s", m.Raw)
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	l := open(t, target(t, serve(t, &fake{t: t, modern: true}).URL), client("a"))
	for i := range maxSubscriptions + 1 {
		m, err := l.Call(t.Context(), &Call{Method: "resources/subscribe", Params: []byte(`{"uri":` + string(protocol.Quote("u:"+string(rune('a'+i%26))+string(nextID()))) + `}`)})
		if err != nil {
			t.Fatal(err)
		}
		if (m.Error != nil) != (i == maxSubscriptions) {
			t.Errorf("subscription %d: %+v", i, m)
		}
	}
}

// What a target asks and nobody answers is bounded.
func TestQuestionsAreBounded(t *testing.T) {
	asked, refused := 0, 0
	f := &fake{t: t, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
		for i := range maxAsked + 5 {
			writeEvents(w, m, `data: {"jsonrpc":"2.0","id":"q`+string(protocol.IntID(int64(i)))+`","method":"roots/list"}`+"\n\n")
		}
		writeEvents(w, m, event("done"))
	}}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", ""), Emit: func(*protocol.Message) error { asked++; return nil }})
	if err != nil || text(t, m) != "done" {
		t.Fatalf("%v, %v", m, err)
	}
	if refused = f.count("answer"); asked != maxAsked || refused != 5 {
		t.Errorf("%d asked, %d refused", asked, refused)
	}
}
