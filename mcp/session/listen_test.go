package session

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A listener whose session the target lost listens on in a new one.
func TestListenSurvivesLostSession(t *testing.T) {
	f := &fake{t: t}
	connected := make(chan bool, 10)
	f.get = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		writeEvents(w, m, ": hello\n\n")
		connected <- true
		if f.count("GET") == 1 {
			f.forget()
			return
		}
		writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/x"}`+"\n\n")
		<-r.Context().Done()
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	ctx, cancel := context.WithCancel(t.Context())
	got := ""
	_ = l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error { got = m.Method; cancel(); return nil })
	if got != "notifications/x" {
		t.Errorf("got %q", got)
	}
	if n := f.count("initialize"); n != 2 {
		t.Errorf("initialised %d times", n)
	}
}

// Who follows a silent stream has no goroutine for it. What comes after a while is heard, also on the stream that is opened after
// one that broke, and the end is told once.
func TestFollowRests(t *testing.T) {
	say := make(chan string)
	f := &fake{t: t}
	f.get = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		writeEvents(w, m, ": hello\n\n")
		for {
			select {
			case text := <-say:
				if text == "" {
					return
				}
				writeEvents(w, m, text)
			case <-r.Context().Done():
				return
			}
		}
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	var life lifetime.Lifetime
	life.Begin(t.Context())
	heard, done := make(chan string, 10), make(chan error, 2)
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		l.Follow(&life, Forward{}, func() { heard <- "a stream" }, func(m *protocol.Message) error { heard <- m.Method; return nil }, func(err error) { done <- err })
	}()
	if runtime.GOOS == "linux" {
		<-begun // where it rests, it has returned
	}
	expect := func(method string) {
		t.Helper()
		if got := <-heard; got != method {
			t.Errorf("heard %s, want %s", got, method)
		}
	}
	expect("a stream")
	say <- `data: {"jsonrpc":"2.0","method":"notifications/a"}` + "\n\n: and\n\n"
	expect("notifications/a")
	say <- `data: {"jsonrpc":"2.0","method":"notifica`
	say <- `tions/b"}` + "\n"
	say <- "\n"
	expect("notifications/b")
	say <- "" // the stream ends
	expect("a stream")
	say <- `data: {"jsonrpc":"2.0","method":"notifications/c"}` + "\n\n"
	expect("notifications/c")
	life.End(nil)
	if err := <-done; err == nil {
		t.Error("it has ended without a reason")
	}
	if len(done) != 0 || f.count("GET") != 2 {
		t.Errorf("%d GETs, %d more ends", f.count("GET"), len(done))
	}
}

// A target that has not yet seen the end of a session's stream refuses the next one for as long as that: it is asked again.
func TestListenAfterConflict(t *testing.T) {
	f := &fake{t: t}
	f.get = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		if f.count("GET") == 1 {
			w.WriteHeader(http.StatusConflict)
			return
		}
		writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`+"\n\n")
		<-r.Context().Done()
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	ctx, cancel := context.WithCancel(t.Context())
	heard := ""
	err := l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error { heard = m.Method; cancel(); return nil })
	if err == nil || heard != "notifications/tools/list_changed" {
		t.Errorf("heard %q, %v", heard, err)
	}
}

// A target that answers GET with 404 though it knows the session has no stream.
func TestListenWhereGetIsUnknown(t *testing.T) {
	f := &fake{t: t}
	f.get = func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) { w.WriteHeader(http.StatusNotFound) }
	l := open(t, target(t, serve(t, f).URL), client("a"))
	if err := l.Listen(t.Context(), Forward{}, nil, func(*protocol.Message) error { return nil }); err != nil {
		t.Errorf("got %v", err)
	}
	if n, m := f.count("initialize"), f.count("ping"); n != 1 || m != 1 {
		t.Errorf("initialised %d times, pinged %d times", n, m)
	}
}

// Progress that comes on the GET stream instead of the call's own still has the
// client's token.
func TestProgressOnTheStream(t *testing.T) {
	stream, called := make(chan *protocol.Message, 1), make(chan bool)
	f := &fake{t: t, call: func(w http.ResponseWriter, _ *http.Request, m *protocol.Message) {
		stream <- m
		<-called
		result(w, m, textOf("ok"))
	}}
	f.get = func(w http.ResponseWriter, r *http.Request, _ *protocol.Message) {
		m := <-stream
		writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`+"\n\n",
			`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID,"progress":2}}`+"\n\n")
		<-r.Context().Done()
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error {
			token, _ := protocol.GetString(m.Params, "progressToken")
			if n := string(protocol.Get(m.Params, "progress")); token != "mine" || n != "2" {
				t.Errorf("got %s", m.Raw)
			}
			close(called)
			return nil
		})
	})
	p := protocol.Splice(params("x", ""), protocol.Edit{Path: []string{"_meta", "progressToken"}, Value: []byte(`"mine"`)})
	m, err := l.Call(t.Context(), &Call{Method: "tools/call", Params: p})
	if err != nil || text(t, m) != "ok" {
		t.Errorf("%v, %v", m, err)
	}
	cancel()
	wg.Wait()
}

// A modern child is listened to by subscriptions/listen, each listener by its
// own.
func TestListenToModernChild(t *testing.T) {
	tg := stdio(t, "modern")
	ctx, cancel := context.WithCancel(t.Context())
	l1, l2 := open(t, tg, client("a")), open(t, tg, client("a"))
	got := make(chan int, 100)
	var wg sync.WaitGroup
	for i, l := range []*Leg{l1, l2} {
		wg.Go(func() {
			_ = l.listen(ctx, &intake{leg: l, interest: l.interest, connected: func([]byte) { got <- 10 + i },
				emit: func(m *protocol.Message) error {
					if m.Method != "notifications/tools/list_changed" || protocol.Get(m.Params, "_meta", protocol.MetaSubscriptionID) != nil {
						t.Errorf("got %s", m.Raw)
					}
					got <- i
					return nil
				}})
		})
	}
	if a, b := <-got, <-got; a+b != 21 {
		t.Errorf("connected: %d, %d", a, b)
	}
	call(t, l1, "addtool", "")
	seen := map[int]bool{<-got: true}
	for !seen[0] || !seen[1] {
		seen[<-got] = true
	}
	cancel()
	wg.Wait()
}

// A watcher neither keeps a child that nobody uses nor starts it again. When
// somebody does, it listens again, and tells what may have changed meanwhile.
func TestWatcherWaitsForTheChild(t *testing.T) {
	tg := stdio(t, "script")
	l := open(t, tg, client("a"))
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		tg.Watch(ctx, client("a"), Forward{}, func() {}, func(m *protocol.Message) { got <- m.Method })
	})
	first := l.w.(*duplexWire).duplex
	wait(t, func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return len(first.ears) == 1
	})
	if _, ok := first.unused(); !ok {
		t.Error("the watcher counts as use")
	}
	first.fail(errUnused)
	wait(t, func() bool {
		tg.children.mu.Lock()
		defer tg.children.mu.Unlock()
		return len(tg.children.started) == 1 && tg.children.count == 0
	})
	call(t, l, "echo", "")
	if m := <-got; m != "notifications/tools/list_changed" {
		t.Errorf("got %s", m)
	}
	call(t, l, "changed", "")
	if m := <-got; m != "notifications/tools/list_changed" {
		t.Errorf("got %s", m)
	}
	tg.children.mu.Lock()
	if n := tg.children.count; n != 1 {
		t.Errorf("%d children", n)
	}
	tg.children.mu.Unlock()
	cancel()
	wg.Wait()
}

// A listener of a child that crashed listens on to the next.
func TestListenSurvivesCrash(t *testing.T) {
	tg := stdio(t, "script")
	l := open(t, tg, client("a"))
	ctx, cancel := context.WithCancel(t.Context())
	connected, got := make(chan bool, 100), make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = l.listen(ctx, &intake{leg: l, connected: func([]byte) { connected <- true },
			emit: func(m *protocol.Message) error { got <- m.Method; return nil }})
	})
	<-connected
	if _, err := l.Call(ctx, &Call{Method: "tools/call", Params: params("crash", "")}); err == nil {
		t.Error("no error")
	}
	<-connected
	call(t, l, "changed", "")
	if m := <-got; m != "notifications/tools/list_changed" {
		t.Errorf("got %s", m)
	}
	cancel()
	wg.Wait()
}

// When the pool is full, an idle leg of another caller makes room; legs that are
// lent do not.
func TestPoolMakesRoom(t *testing.T) {
	f := &fake{t: t}
	tg := target(t, serve(t, f).URL)
	a, err := tg.Lease(t.Context(), client("a"), Forward{})
	if err != nil {
		t.Fatal(err)
	}
	idle, err := tg.Lease(t.Context(), client("b"), Forward{})
	if err != nil {
		t.Fatal(err)
	}
	idle.Release()
	tg.pool.mu.Lock()
	tg.pool.total = maxPooled // as if so many were lent
	tg.pool.mu.Unlock()
	c, err := tg.Lease(t.Context(), client("c"), Forward{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { return f.count("DELETE") == 1 })
	waiting := make(chan error, 1)
	go func() {
		l, err := tg.Lease(t.Context(), client("d"), Forward{})
		if err == nil {
			l.Release()
		}
		waiting <- err
	}()
	key := keyOf(client("d"))
	wait(t, func() bool {
		tg.pool.mu.Lock()
		defer tg.pool.mu.Unlock()
		s := tg.pool.shelf[key]
		return s != nil && s.freed != nil
	})
	_ = a.Close(t.Context()) // a leg that is broken when it comes back leaves its place
	a.Release()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	c.Release()
	tg.pool.mu.Lock()
	tg.pool.total -= maxPooled - 2
	tg.pool.mu.Unlock()
}

// Listeners of one modern child hear of what any of them subscribed to, whoever
// comes and goes.
func TestSubscriptionsOfModernChild(t *testing.T) {
	tg := stdio(t, "modern")
	got := make(chan string, 1000)
	connected := make(chan bool, 1000)
	listen := func(uri string) (leave func()) {
		l := open(t, tg, client("a"))
		if _, err := l.Call(t.Context(), &Call{Method: "resources/subscribe", Params: []byte(`{"uri":"` + uri + `"}`)}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = l.listen(ctx, &intake{leg: l, interest: l.interest, connected: func([]byte) { connected <- true },
				emit: func(m *protocol.Message) error {
					if m.Method == "notifications/resources/updated" {
						about, _ := protocol.GetString(m.Params, "uri")
						got <- uri + " " + about
					}
					return nil
				}})
		})
		return func() { cancel(); wg.Wait() }
	}
	caller := open(t, tg, client("a"))
	// hears waits until the listener of one resource hears of it.
	hears := func(uri string) {
		t.Helper()
		for call(t, caller, "update", uri); ; {
			select {
			case g := <-got:
				if g == uri+" "+uri {
					return
				}
			case <-connected: // what was sent before a subscription is lost: send it again
				call(t, caller, "update", uri)
			}
		}
	}
	leaveA := listen("test://a")
	<-connected
	hears("test://a")
	leaveB := listen("test://b")
	<-connected
	hears("test://b")
	hears("test://a")
	leaveA()
	hears("test://b")
	leaveB()
	leaveA = listen("test://a")
	<-connected
	hears("test://a")
	leaveA()
}

// A listenStream is the answer to a subscriptions/listen that a scripted target gives.
type listenStream struct {
	t      *testing.T
	filter string // that was asked for
	says   chan string
	gone   chan struct{} // closed once the gateway has ended it
}

// say has the target say something; method "" ends the stream.
func (s *listenStream) say(method, params string) {
	s.t.Helper()
	select {
	case s.says <- method + " " + params:
	case <-s.gone:
		s.t.Errorf("the stream of %s has ended", s.filter)
	}
}

// acknowledge has it grant all that was asked for.
func (s *listenStream) acknowledge() { s.say(acknowledged, `,"notifications":`+s.filter) }

// modernListens returns a leg to a modern target that subscribes to resources, and its streams as they are opened.
func modernListens(t *testing.T) (*Leg, <-chan *listenStream) {
	streams := make(chan *listenStream, 10)
	f := &fake{t: t, modern: true}
	f.before = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) bool {
		switch m.Method {
		case "server/discover":
			result(w, m, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"resources":{"subscribe":true,"listChanged":true}}}`)
			return true
		case "subscriptions/listen":
		default:
			return false
		}
		s := &listenStream{t: t, filter: string(protocol.Get(m.Params, "notifications")), says: make(chan string), gone: make(chan struct{})}
		streams <- s
		defer close(s.gone)
		for {
			select {
			case text := <-s.says:
				method, params, _ := strings.Cut(text, " ")
				if method == "" {
					return true
				}
				writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"`+method+`","params":{"_meta":{"`+protocol.MetaSubscriptionID+`":ID}`+params+`}}`+"\n\n")
			case <-r.Context().Done():
				return true
			}
		}
	}
	return open(t, target(t, serve(t, f).URL), client("a")), streams
}

// While subscriptions change, what the target says on the stream that is to end is heard until the next stands, and what it still
// says on it while that is on its way. Nothing is said twice to make up for it.
func TestListenWithoutGap(t *testing.T) {
	l, streams := modernListens(t)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error {
			uri, _ := protocol.GetString(m.Params, "uri")
			heard <- m.Method + " " + uri
			return nil
		})
	})
	expect := func(want string) {
		t.Helper()
		if got := <-heard; got != "notifications/resources/"+want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
	first := <-streams
	first.acknowledge()
	subscribed := make(chan error, 1)
	subscribe := func(uri string) {
		_, err := l.Call(ctx, &Call{Method: "resources/subscribe", Params: []byte(`{"uri":"` + uri + `"}`)})
		subscribed <- err
	}
	go subscribe("a://1")
	second := <-streams
	if want := `{"resourcesListChanged":true,"resourceSubscriptions":["a://1"]}`; second.filter != want {
		t.Errorf("asked for %s, want %s", second.filter, want)
	}
	first.say("notifications/resources/list_changed", "") // before the next is acknowledged
	expect("list_changed ")
	if len(subscribed) != 0 {
		t.Error("the answer to resources/subscribe came before the acknowledgement")
	}
	second.acknowledge()
	if err := <-subscribed; err != nil {
		t.Error(err)
	}
	second.say("notifications/resources/updated", `,"uri":"a://1"`)
	expect("updated a://1")
	first.say("notifications/resources/list_changed", "") // was on its way
	expect("list_changed ")
	<-first.gone
	go subscribe("a://2")
	third := <-streams
	third.acknowledge()
	<-second.gone
	third.say("notifications/resources/updated", `,"uri":"a://2"`)
	expect("updated a://2")
	cancel()
	wg.Wait()
	if len(heard) != 0 {
		t.Errorf("heard %s, too", <-heard)
	}
}

// What a stream told of that broke may have changed before the next is there: subscribers are told so.
func TestListenTellsWhatMayBeMissed(t *testing.T) {
	l, streams := modernListens(t)
	l.note(&Call{Method: "resources/subscribe", Params: []byte(`{"uri":"a://1"}`)})
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error { heard <- string(m.Raw); return nil })
	})
	first := <-streams
	first.acknowledge()
	first.say("notifications/resources/list_changed", "")
	if got := <-heard; got != `{"jsonrpc":"2.0","method":"notifications/resources/list_changed","params":{}}` {
		t.Errorf("heard %s", got)
	}
	first.say("", "")
	second := <-streams
	second.acknowledge()
	if got := <-heard; got != `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a://1"}}` {
		t.Errorf("heard %s", got)
	}
	cancel()
	wg.Wait()
}
