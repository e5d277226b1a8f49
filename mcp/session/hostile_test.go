package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A target that forgot the session is initialised anew, once for all who call at
// that time, and every call is executed once.
func TestSessionLostOnce(t *testing.T) {
	f := &fake{t: t}
	tg := target(t, serve(t, f).URL)
	l := open(t, tg, client("a"))
	if _, err := l.Call(t.Context(), &Call{Method: "logging/setLevel", Params: []byte(`{"level":"debug"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Call(t.Context(), &Call{Method: "resources/subscribe", Params: []byte(`{"uri":"test://a"}`)}); err != nil {
		t.Fatal(err)
	}
	before := f.count("initialize")
	f.forget()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			name := fmt.Sprintf("tool%d", i)
			m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params(name, "")})
			if err != nil {
				t.Error(err)
				return
			}
			if got := text(t, m); got != name {
				t.Errorf("got %q for %q", got, name)
			}
		})
	}
	wg.Wait()
	if n := f.count("initialize") - before; n != 1 {
		t.Errorf("initialised %d times", n)
	}
	if n := f.count("logging/setLevel"); n != 2 {
		t.Errorf("the level was set %d times", n)
	}
	if n := f.count("resources/subscribe"); n != 2 {
		t.Errorf("subscribed %d times", n)
	}
	for name, n := range f.calls {
		if n != 1 {
			t.Errorf("%s was executed %d times", name, n)
		}
	}
}

func TestSessionLostForEver(t *testing.T) {
	f := &fake{t: t}
	f.before = func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) bool {
		if m != nil && m.Method == "tools/call" {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	before := f.count("initialize")
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
	if got := fault.Of(err); got.Code != fault.UpstreamFailed {
		t.Errorf("got %v", err)
	}
	if n := f.count("tools/call"); n != 2 {
		t.Errorf("sent %d times", n)
	}
	if n := f.count("initialize") - before; n != 1 {
		t.Errorf("initialised %d times", n)
	}
}

// An answer that cannot be relayed fails its call, which is not sent again, and
// no other.
func TestBadAnswers(t *testing.T) {
	failed, timeout := fault.UpstreamFailed, fault.UpstreamTimeout
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, m *protocol.Message)
		want   fault.Code
	}{
		"html": {func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		}, failed},
		"502 html": {func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) {
			http.Error(w, "<html>", http.StatusBadGateway)
		}, failed},
		"redirect": {func(w http.ResponseWriter, r *http.Request, _ *protocol.Message) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, failed},
		"401": {func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) { w.WriteHeader(401) }, failed},
		"202": {func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) { w.WriteHeader(202) }, failed},
		"gzip": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			w.Header().Set("Content-Encoding", "gzip")
			result(w, m, `{}`)
		}, failed},
		"truncated JSON": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeJSON(w, []byte(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{`))
		}, failed},
		"short body": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			w.Header().Set("Content-Length", "10000")
			result(w, m, `{}`)
		}, failed},
		"duplicate keys": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) { result(w, m, `{"a":1,"a":2}`) }, failed},
		"too large": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			result(w, m, `{"a":"`+strings.Repeat("x", 1<<20)+`"}`)
		}, failed},
		"too large, chunked": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			w.Header().Set("Content-Type", "application/json")
			for range 20 {
				_, _ = io.WriteString(w, strings.Repeat(" ", 64<<10))
				w.(http.Flusher).Flush()
			}
			result(w, m, `{}`)
		}, failed},
		"event too large": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeEvents(w, m, "data: ", strings.Repeat("x", 1<<20+10), "\n\n")
		}, failed},
		"other id": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeJSON(w, protocol.AppendResult(nil, "7", nil))
		}, failed},
		"id as string": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeJSON(w, protocol.AppendResult(nil, `"`+m.ID+`"`, nil))
		}, failed},
		"id as float": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeJSON(w, protocol.AppendResult(nil, m.ID+`.0`, nil))
		}, failed},
		"no events": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) { writeEvents(w, m, "\n") }, failed},
		"half an event": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeEvents(w, m, strings.TrimSuffix(event("x"), "\n\n"))
		}, failed},
		"no message": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeEvents(w, m, "data: nonsense\n\n", event("x"))
		}, failed},
		"reset": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			panic(http.ErrAbortHandler)
		}, failed},
		"reset in the stream": {func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeEvents(w, m, ": hello\n\n", `data: {"jsonrpc"`)
			panic(http.ErrAbortHandler)
		}, failed},
		"hang": {func(w http.ResponseWriter, r *http.Request, m *protocol.Message) { <-r.Context().Done() }, timeout},
		"hang in the stream": {func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
			writeEvents(w, m, ": hello\n\n")
			<-r.Context().Done()
		}, timeout},
	} {
		for _, modern := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/modern=%t", name, modern), func(t *testing.T) {
				t.Parallel()
				f := &fake{t: t, modern: modern, call: func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
					if tool, _ := protocol.GetString(m.Params, "name"); tool == "good" {
						result(w, m, textOf("good"))
						return
					}
					test.answer(w, r, m)
				}}
				tg := target(t, serve(t, f).URL, func(c *TargetConfig) { c.MaxMessage = 1 << 20 })
				l := open(t, tg, client("a"))
				if test.want == timeout {
					tg.silence.After = time.Second
				}
				_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("bad", "")})
				if got := fault.Of(err); err == nil || got.Code != test.want {
					t.Errorf("got %v", err)
				}
				if n := f.executed("bad"); n > 1 || n == 0 && test.want != timeout {
					t.Errorf("executed %d times", n)
				}
				if test.want == timeout { // a busy machine could take that long for a good answer
					tg.silence.After = time.Minute
				}
				if got := call(t, l, "good", ""); got != "good" {
					t.Errorf("got %q", got)
				}
				if test.want == timeout && !modern { // the cancellation is sent by another goroutine
					wait(t, func() bool { return f.count("notifications/cancelled") == 1 })
				}
			})
		}
	}
}

// The first answer with the right id counts; all else is dropped.
func TestSurplusAnswers(t *testing.T) {
	for _, modern := range []bool{false, true} {
		f := &fake{t: t, modern: modern, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			writeEvents(w, m,
				strings.ReplaceAll(event("wrong"), "ID", "7"), strings.ReplaceAll(event("string"), "ID", `"ID"`),
				`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"x","progress":1}}`+"\n\n",
				event("right"), event("second"), strings.ReplaceAll(event("late"), "ID", "8"))
		}}
		tg := target(t, serve(t, f).URL)
		l := open(t, tg, client("a"))
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", ""), Emit: func(m *protocol.Message) error {
			t.Errorf("emitted %s", m.Raw)
			return nil
		}})
		if err != nil || text(t, m) != "right" {
			t.Errorf("%v, %v", m, err)
		}
		if tg.Dropped() < 3 {
			t.Errorf("%d messages dropped", tg.Dropped())
		}
	}
}

// A stream that the target closes before it answered is taken up by GET
// (2025-11-25, Transports, Resumability and Redelivery).
func TestResume(t *testing.T) {
	var id atomic.Value
	f := &fake{t: t, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
		id.Store(m)
		writeEvents(w, m, "id: e1\nretry: 1\ndata: \n\n")
	}}
	gets := 0
	f.get = func(w http.ResponseWriter, r *http.Request, _ *protocol.Message) {
		m := id.Load().(*protocol.Message)
		gets++
		if got, want := r.Header.Get("Last-Event-Id"), fmt.Sprintf("e%d", gets); got != want {
			t.Errorf("Last-Event-ID is %q, not %q", got, want)
		}
		if gets < 8 {
			writeEvents(w, m, fmt.Sprintf("id: e%d\ndata: \n\n", gets+1))
			return
		}
		writeEvents(w, m, event("at last"))
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	if got := call(t, l, "x", ""); got != "at last" {
		t.Errorf("got %q", got)
	}
	if f.executed("x") != 1 {
		t.Errorf("executed %d times", f.executed("x"))
	}
}

func TestResumeGivesUp(t *testing.T) {
	f := &fake{t: t, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
		writeEvents(w, m, "id: e1\nretry: 1\ndata: \n\n")
	}}
	f.get = func(w http.ResponseWriter, r *http.Request, _ *protocol.Message) {
		w.WriteHeader(http.StatusBadRequest)
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
	if got := fault.Of(err); got.Code != fault.UpstreamFailed {
		t.Errorf("got %v", err)
	}
	if f.executed("x") != 1 {
		t.Errorf("executed %d times", f.executed("x"))
	}
}

// An error of the target's own passes, whatever its status.
func TestErrorsOfTheTargetPass(t *testing.T) {
	for _, status := range []int{200, 400, 404, 500} {
		f := &fake{t: t, modern: true, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			writeJSON(w, []byte(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"error":{"code":-32602,"message":"no","data":{"x":1.0},"y":2}}`))
		}}
		l := open(t, target(t, serve(t, f).URL), client("a"))
		m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
		if err != nil || m.Error == nil || string(m.Error.Raw) != `{"code":-32602,"message":"no","data":{"x":1.0},"y":2}` {
			t.Errorf("status %d: %+v, %v", status, m, err)
		}
	}
}

// What a call emits is stopped by an error of Emit, and the target is told.
func TestEmitError(t *testing.T) {
	f := &fake{t: t, call: func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`+"\n\n")
		<-r.Context().Done()
	}}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	stop := errors.New("stop")
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", ""), Emit: func(m *protocol.Message) error { return stop }})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	wait(t, func() bool { return f.count("notifications/cancelled") == 1 })
}

// A modern target may not send requests; one that does fails its call cleanly.
func TestRequestOfModernTarget(t *testing.T) {
	f := &fake{t: t, modern: true, call: func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		writeEvents(w, m, `data: {"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}`+"\n\n", event("x"))
	}}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", ""), Emit: func(m *protocol.Message) error {
		t.Errorf("emitted %s", m.Raw)
		return nil
	}})
	if got := fault.Of(err); got.Code != fault.UpstreamFailed {
		t.Errorf("got %v", err)
	}
}

// A target that turns out to be of the other era is asked again, and the call is
// sent to it once more.
func TestEraChanges(t *testing.T) {
	f := &fake{t: t}
	tg := target(t, serve(t, f).URL)
	l := open(t, tg, client("a"))
	for i, modern := range []bool{false, true, false, true} {
		f.mu.Lock()
		f.modern = modern
		clear(f.sessions)
		f.mu.Unlock()
		name := fmt.Sprintf("tool%d", i)
		if got := call(t, l, name, ""); got != name {
			t.Errorf("got %q", got)
		}
		d, err := tg.Discover(t.Context(), client("a"), Forward{})
		if err != nil || (d.Era == protocol.Modern) != modern {
			t.Errorf("modern %t: %+v, %v", modern, d, err)
		}
		if f.executed(name) != 1 {
			t.Errorf("%s was executed %d times", name, f.executed(name))
		}
	}
}

func TestUnsupportedVersionIsAskedAgain(t *testing.T) {
	f := &fake{t: t, modern: true}
	tg := target(t, serve(t, f).URL)
	l := open(t, tg, client("a"))
	f.before = func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) bool {
		if m == nil || m.Method != "tools/call" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		writeJSON(w, protocol.AppendError(nil, m.ID, protocol.UnsupportedProtocolVersion("2026-07-28", []string{"2027-01-01"})))
		return true
	}
	before := f.count("server/discover")
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
	if got := fault.Of(err); got.Code != fault.UpstreamFailed {
		t.Errorf("got %v", err)
	}
	if n, m := f.count("tools/call"), f.count("server/discover")-before; n != 2 || m != 1 {
		t.Errorf("sent %d times, asked %d times", n, m)
	}
}

// A target that refuses the very revision that it names is asked once more (2026-07-28, Versioning).
func TestRefusedVersionThatIsSupported(t *testing.T) {
	f := &fake{t: t, modern: true}
	refused := 0
	f.before = func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) bool {
		if m == nil || m.Method != "server/discover" || refused > 0 {
			return false
		}
		refused++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		writeJSON(w, protocol.AppendError(nil, m.ID, protocol.UnsupportedProtocolVersion("2026-07-28", []string{"2026-07-28"})))
		return true
	}
	tg := target(t, serve(t, f).URL)
	if d, err := tg.Discover(t.Context(), client("a"), Forward{}); err != nil || d.Era != protocol.Modern {
		t.Errorf("%+v, %v", d, err)
	}
	if n, m := f.count("server/discover"), f.count("initialize"); n != 2 || m != 0 {
		t.Errorf("asked %d times, initialized %d times", n, m)
	}
}

// A probe that tells nothing is an error and is not kept.
func TestInconclusiveProbe(t *testing.T) {
	var broken atomic.Bool
	f := &fake{t: t, modern: true}
	f.before = func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) bool {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return broken.Load()
	}
	var health []bool
	srv := serve(t, f)
	tg := target(t, srv.URL)
	tg.onHealth = func(_ *TargetConfig, up bool) { health = append(health, up) }
	broken.Store(true)
	for range 2 {
		if _, err := tg.Discover(t.Context(), client("a"), Forward{}); err == nil {
			t.Error("no error")
		}
	}
	if n := f.count("initialize"); n != 0 {
		t.Errorf("initialised %d times", n)
	}
	broken.Store(false)
	d, err := tg.Discover(t.Context(), client("a"), Forward{})
	if err != nil || d.Era != protocol.Modern {
		t.Errorf("%+v, %v", d, err)
	}
	if d := cmp.Diff([]bool{false, true}, health); d != "" {
		t.Error(d)
	}
}

// What the SDK answers for a server that keeps sessions (discover is answered,
// without 2026-07-28) makes it a legacy target.
func TestDiscoverWithoutTheRevisionIsLegacy(t *testing.T) {
	f := &fake{t: t}
	f.before = func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) bool {
		if m != nil && m.Method == "server/discover" {
			result(w, m, `{"supportedVersions":["2025-11-25","2025-06-18"],"capabilities":{}}`)
			return true
		}
		return false
	}
	d, err := target(t, serve(t, f).URL).Discover(t.Context(), client("a"), Forward{})
	if err != nil || d.Era != protocol.Legacy {
		t.Errorf("%+v, %v", d, err)
	}
}

// What a target says is kept for everybody, unless callers' credentials reach it.
func TestDiscoveryPerIsolationKey(t *testing.T) {
	for _, passthrough := range []bool{false, true} {
		f := &fake{t: t, modern: true}
		var tokens sync.Map
		f.before = func(_ http.ResponseWriter, r *http.Request, _ *protocol.Message) bool {
			tokens.Store(r.Header.Get("Authorization"), true)
			return false
		}
		tg := target(t, serve(t, f).URL, func(c *TargetConfig) { c.Passthrough = passthrough })
		for _, name := range []string{"a", "b", "a", "b"} {
			if _, err := tg.Discover(t.Context(), client(name), Forward{Authorization: secret.New("Bearer " + name)}); err != nil {
				t.Fatal(err)
			}
		}
		want := 1
		if passthrough {
			want = 2
		}
		if n := f.count("server/discover"); n != want {
			t.Errorf("passthrough %t: asked %d times", passthrough, n)
		}
		if _, ok := tokens.Load("Bearer b"); ok != passthrough {
			t.Errorf("passthrough %t: the token of the client reached the target: %t", passthrough, ok)
		}
	}
}

func TestConcurrentDiscoverAsksOnce(t *testing.T) {
	f := &fake{t: t, modern: true}
	release := make(chan struct{})
	f.before = func(http.ResponseWriter, *http.Request, *protocol.Message) bool { <-release; return false }
	tg := target(t, serve(t, f).URL)
	var wg sync.WaitGroup
	gone, cancel := context.WithCancel(t.Context())
	for i := range 16 {
		wg.Go(func() {
			ctx := t.Context()
			if i == 0 {
				ctx = gone
			}
			_, err := tg.Discover(ctx, client("a"), Forward{})
			if (err != nil) != (i == 0) {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wait(t, func() bool { return f.count("server/discover") == 1 })
	cancel() // the one that asked first may be gone; the others still get their answer
	time.AfterFunc(10*time.Millisecond, func() { close(release) })
	wg.Wait()
	if n := f.count("server/discover"); n > 2 {
		t.Errorf("asked %d times", n)
	}
}

// hostile answers tools/call in one of many wrong ways, and with the nonce of the
// call.
func hostile(others *sync.Map) func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
	return func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		nonce, _ := protocol.GetString(m.Params, "arguments", "text")
		others.Store(string(m.ID), nonce)
		foreign := ""
		others.Range(func(k, v any) bool {
			if v != nonce {
				foreign = strings.ReplaceAll(event(v.(string)), "ID", k.(string))
			}
			return foreign == "" || rand.IntN(4) > 0
		})
		progress := func(token string) string {
			return `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":1,"message":"` + nonce + `"}}` + "\n\n"
		}
		switch rand.IntN(8) {
		case 0:
			result(w, m, textOf(nonce))
		case 1:
			writeEvents(w, m, foreign, event(nonce), event("again"), foreign)
		case 2:
			writeEvents(w, m, progress("1"), progress("ID"), event(nonce))
		case 3:
			writeEvents(w, m, progress("ID"), foreign)
		case 4:
			writeEvents(w, m, event(nonce)[:20])
			panic(http.ErrAbortHandler)
		case 5:
			writeJSON(w, []byte(strings.TrimPrefix(strings.TrimSpace(foreign), "data: ")))
		case 6:
			panic(http.ErrAbortHandler)
		case 7:
			writeEvents(w, m, "data: [", strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(event(nonce), "ID", string(m.ID)), "data: ")), "]\n\n")
		}
	}
}

// Whatever targets send, a call gets what was answered to it, or a fault.
func TestNoncesNeverCross(t *testing.T) {
	var others sync.Map
	var targets []*Target
	for i := range 4 {
		targets = append(targets, target(t, serve(t, &fake{t: t, modern: i%2 == 1, call: hostile(&others)}).URL,
			func(c *TargetConfig) { c.Name = fmt.Sprint("hostile", i) }))
	}
	s := sdkServer()
	targets = append(targets, target(t, serve(t, legacyHandler(s)).URL), stdio(t, "script"))
	var answered, failed atomic.Int64
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			c := client(fmt.Sprint("principal", caller%16))
			for round := range 30 {
				tg := targets[(caller+round)%len(targets)]
				lease := tg.Lease
				if caller%2 == 0 {
					lease = tg.Open
				}
				l, err := lease(t.Context(), c, Forward{})
				if err != nil {
					t.Error(err)
					return
				}
				nonce := fmt.Sprintf("nonce-%d-%d-%x", caller, round, rand.Uint64())
				p := protocol.Splice(params("echo", nonce), protocol.Edit{Path: []string{"_meta", "progressToken"}, Value: protocol.Quote(nonce)})
				m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: p, Emit: func(m *protocol.Message) error {
					token, _ := protocol.GetString(m.Params, "progressToken")
					said, _ := protocol.GetString(m.Params, "message")
					if token != nonce || said != nonce {
						t.Errorf("%s got %s", nonce, m.Raw)
					}
					return nil
				}})
				switch {
				case err == nil && m.Error == nil:
					answered.Add(1)
					if got := text(t, m); got != nonce {
						t.Errorf("%s got %q", nonce, got)
					}
				case err != nil && fault.Of(err).Code != fault.UpstreamFailed:
					t.Errorf("%v", err)
				default:
					failed.Add(1)
				}
				l.Release()
				if caller%2 == 0 {
					_ = l.Close(t.Context())
				}
			}
		})
	}
	wg.Wait()
	if answered.Load() < 500 || failed.Load() < 100 {
		t.Errorf("%d answered, %d failed", answered.Load(), failed.Load())
	}
}

func TestInFlightIsBounded(t *testing.T) {
	f := &fake{t: t, modern: true}
	tg := target(t, serve(t, f).URL)
	l := open(t, tg, client("a"))
	tg.inFlight.Store(maxInFlight - 1)
	if got := call(t, l, "last", ""); got != "last" {
		t.Errorf("got %q", got)
	}
	tg.inFlight.Store(maxInFlight)
	_, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
	if got := fault.Of(err); got.Code != fault.Overloaded || got.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
}

func TestLeasesAreBounded(t *testing.T) {
	tg := target(t, serve(t, &fake{t: t}).URL)
	var legs []*Leg
	for range maxLeased {
		l, err := tg.Lease(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		legs = append(legs, l)
	}
	patience := tg.cfg.Timeout
	tg.cfg.Timeout = 100 * time.Millisecond
	_, err := tg.Lease(t.Context(), client("a"), Forward{})
	if got := fault.Of(err); got.Code != fault.Overloaded {
		t.Errorf("got %v", err)
	}
	tg.cfg.Timeout = patience
	if l, err := tg.Lease(t.Context(), client("b"), Forward{}); err != nil {
		t.Error(err)
	} else {
		l.Release()
	}
	freed := make(chan error, 1)
	go func() {
		l, err := tg.Lease(t.Context(), client("a"), Forward{})
		if err == nil {
			l.Release()
		}
		freed <- err
	}()
	legs[0].Release()
	if err := <-freed; err != nil {
		t.Error(err)
	}
	for _, l := range legs[1:] {
		l.Release()
	}
}

// What a call emits pauses reading, so that what is not read stays with the
// target.
func TestBackpressure(t *testing.T) {
	sent := new(atomic.Int64)
	f := &fake{t: t, call: func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		w.Header().Set("Content-Type", "text/event-stream")
		line := `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"` + strings.Repeat("x", 64<<10) + `"}}` + "\n\n"
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			sent.Add(1)
		}
	}}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	ctx, cancel := context.WithCancel(t.Context())
	var last int64 = -1
	_, err := l.Call(ctx, &Call{Method: "tools/call", Params: params("x", ""), Emit: func(m *protocol.Message) error {
		// It goes on until the buffers of the sockets are full, and no further.
		for same := 0; same < 50; {
			if now := sent.Load(); now == last {
				same++
			} else {
				same, last = 0, now
			}
			if err := sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		cancel()
		return ctx.Err()
	}})
	if err == nil || last > 1000 {
		t.Errorf("%d messages were taken before the first was dealt with; %v", last, err)
	}
}

func TestClose(t *testing.T) {
	f := &fake{t: t, call: func(w http.ResponseWriter, r *http.Request, m *protocol.Message) { <-r.Context().Done() }}
	tg := target(t, serve(t, f).URL)
	l, err := tg.Lease(t.Context(), client("a"), Forward{})
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	own := open(t, tg, client("a"))
	done := make(chan error, 1)
	go func() {
		_, err := own.Call(t.Context(), &Call{Method: "tools/call", Params: params("x", "")})
		done <- err
	}()
	wait(t, func() bool { return f.count("tools/call") == 1 })
	tg.Close()
	if got := fault.Of(<-done); got.Code != fault.UpstreamUnreachable {
		t.Errorf("got %v", got)
	}
	if f.count("DELETE") != 1 {
		t.Errorf("%d sessions were ended", f.count("DELETE"))
	}
	for name, do := range map[string]func() error{
		"Call":  func() error { _, err := own.Call(t.Context(), &Call{Method: "ping"}); return err },
		"Open":  func() error { _, err := tg.Open(t.Context(), client("a"), Forward{}); return err },
		"Lease": func() error { _, err := tg.Lease(t.Context(), client("a"), Forward{}); return err },
	} {
		if err := do(); fault.Of(err).Code != fault.UpstreamUnreachable {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

// The era is the same for all callers: what one found out, the next begins with.
func TestEraIsSharedAcrossIsolationKeys(t *testing.T) {
	f := &fake{t: t}
	tg := target(t, serve(t, f).URL, func(c *TargetConfig) { c.Passthrough = true })
	for _, name := range []string{"a", "b", "c"} {
		open(t, tg, client(name))
	}
	if n, m := f.count("server/discover"), f.count("initialize"); n != 1 || m != 3 {
		t.Errorf("asked %d times, initialised %d times", n, m)
	}
	f.mu.Lock()
	f.modern = true
	f.mu.Unlock()
	if l := open(t, tg, client("d")); l.Era() != protocol.Modern {
		t.Errorf("era is %v", l.Era())
	}
}
