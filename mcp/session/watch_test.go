package session

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A change of a real server's tools is announced, in both eras.
func TestWatch(t *testing.T) {
	for _, era := range []protocol.Era{protocol.Legacy, protocol.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			s := sdkServer()
			h := legacyHandler(s)
			if era == protocol.Modern {
				h = modernHandler(s)
			}
			var listening atomic.Bool
			srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet || r.Header.Get("Mcp-Method") == "subscriptions/listen" {
					listening.Store(true)
				}
				h.ServeHTTP(w, r)
			}))
			tg := target(t, srv.URL)
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan *protocol.Message, 100)
			var wg sync.WaitGroup
			wg.Go(func() { tg.Watch(ctx, client("a"), Forward{}, func() {}, func(m *protocol.Message) { got <- m }) })
			wait(t, listening.Load)
			// The stream may be a moment later than its request: change until it is
			// told.
			for i := 0; ; i++ {
				s.AddTool(&mcp.Tool{Name: "new", InputSchema: map[string]any{"type": "object"}}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
					return &mcp.CallToolResult{}, nil
				})
				var m *protocol.Message
				select {
				case m = <-got:
				case <-time.After(50 * time.Millisecond):
					continue
				}
				if m.Method != "notifications/tools/list_changed" {
					t.Errorf("got %s", m.Raw)
				}
				if protocol.Get(m.Params, "_meta", protocol.MetaSubscriptionID) != nil {
					t.Errorf("the id of the subscription is passed on: %s", m.Raw)
				}
				break
			}
			cancel()
			wg.Wait()
		})
	}
}

// After a stream that broke, changes may have been missed: every list counts as
// changed.
func TestWatchReconnects(t *testing.T) {
	for _, modern := range []bool{false, true} {
		streams := 0
		f := &fake{t: t, modern: modern}
		stream := func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
			streams++
			ack := ""
			if modern {
				ack = `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}` + "\n\n"
			}
			switch streams {
			case 1:
				writeEvents(w, m, ack, `data: {"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`+"\n\n")
			default:
				writeEvents(w, m, ": hello\n\n", ack)
				<-r.Context().Done()
			}
		}
		f.get = stream
		f.before = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) bool {
			if m != nil && m.Method == "subscriptions/listen" {
				stream(w, r, m)
				return true
			}
			return false
		}
		tg := target(t, serve(t, f).URL)
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		tg.Watch(ctx, client("a"), Forward{}, func() {}, func(m *protocol.Message) {
			if got = append(got, m.Method); len(got) == 2 {
				cancel()
			}
		})
		if d := cmp.Diff([]string{"notifications/prompts/list_changed", "notifications/tools/list_changed"}, got); d != "" {
			t.Errorf("modern %t: %s", modern, d)
		}
	}
}

// The first message of subscriptions/listen must be the acknowledgement.
func TestListenWithoutAcknowledgement(t *testing.T) {
	f := &fake{t: t, modern: true}
	attempts := make(chan bool, 10)
	f.before = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) bool {
		if m == nil || m.Method != "subscriptions/listen" {
			return false
		}
		writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`+"\n\n")
		attempts <- true
		<-r.Context().Done() // the gateway hangs up
		return true
	}
	tg := target(t, serve(t, f).URL)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tg.Watch(ctx, client("a"), Forward{}, func() {}, func(m *protocol.Message) { t.Errorf("got %s", m.Raw) })
	})
	<-attempts
	<-attempts
	cancel()
	wg.Wait()
}

func TestListenOfTargetWithoutStream(t *testing.T) {
	tg := target(t, serve(t, &fake{t: t}).URL) // answers GET with 405
	l := open(t, tg, client("a"))
	if err := l.Listen(t.Context(), Forward{}, nil, func(*protocol.Message) error { return nil }); err != nil {
		t.Errorf("got %v", err)
	}
}

// Resources are subscribed to in the same way in both eras, and the stream
// brings what was subscribed to.
func TestListenToResources(t *testing.T) {
	eachEra(t, func(t *testing.T, _ *Target, era protocol.Era) {
		s := sdkServer()
		h := legacyHandler(s)
		if era == protocol.Modern {
			h = modernHandler(s)
		}
		tg := target(t, serve(t, h).URL)
		l := open(t, tg, client("a"))
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 100)
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = l.Listen(ctx, Forward{}, nil, func(m *protocol.Message) error {
				if m.Method == "notifications/resources/updated" {
					uri, _ := protocol.GetString(m.Params, "uri")
					got <- uri
				}
				return nil
			})
		})
		m, err := l.Call(ctx, &Call{Method: "resources/subscribe", Params: []byte(`{"uri":"test://a"}`)})
		if err != nil || m.Error != nil {
			t.Fatalf("%v, %v", m, err)
		}
		for done := false; !done; {
			if err := s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "test://a"}); err != nil {
				t.Fatal(err)
			}
			select {
			case uri := <-got:
				if uri != "test://a" {
					t.Errorf("got %q", uri)
				}
				done = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		cancel()
		wg.Wait()
	})
}

// A stream that names the last event it sent is taken up there.
func TestListenResumes(t *testing.T) {
	var ids []string
	f := &fake{t: t}
	f.get = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
		ids = append(ids, r.Header.Get("Last-Event-Id"))
		writeEvents(w, m, "retry: 1\n\n", "id: e"+string(rune('0'+len(ids)))+"\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n")
	}
	l := open(t, target(t, serve(t, f).URL), client("a"))
	n := 0
	ctx, cancel := context.WithCancel(t.Context())
	_ = l.Listen(ctx, Forward{}, nil, func(*protocol.Message) error {
		if n++; n == 3 {
			cancel()
		}
		return nil
	})
	if d := cmp.Diff([]string{"", "e1", "e2"}, ids); d != "" {
		t.Error(d)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	for i, most := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		if d := b.next(); d < most/2 || d > most {
			t.Errorf("attempt %d waits %v", i, d)
		}
	}
}

// A leg that nobody leases is ended after five minutes, no earlier.
func TestIdleLegEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		tg := NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://fake.example", RoundTripper: inProcess{f}}, Options{})
		defer tg.Close()
		l, err := tg.Lease(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * poolIdle) // while it is lent, time does not count
		l.Release()
		time.Sleep(poolIdle - time.Second)
		synctest.Wait()
		if n := f.count("DELETE"); n != 0 {
			t.Errorf("%d sessions ended too early", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := f.count("DELETE"); n != 1 {
			t.Errorf("%d sessions ended", n)
		}
		if tg.pool.total != 0 || len(tg.pool.shelf) != 0 {
			t.Errorf("%d legs are left", tg.pool.total)
		}
	})
}

// The silence of a target ends a call after the idle time; progress, and the time
// a client takes to answer, do not count.
func TestIdleCallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, call: func(w http.ResponseWriter, r *http.Request, m *protocol.Message) {
			for range 3 {
				time.Sleep(4 * time.Minute)
				writeEvents(w, m, `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID,"progress":1}}`+"\n\n")
			}
			<-r.Context().Done()
		}}
		tg := NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://fake.example", RoundTripper: inProcess{f}}, Options{})
		defer tg.Close()
		l, err := tg.Open(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		p := []byte(`{"name":"x","_meta":{"progressToken":1}}`)
		_, err = l.Call(t.Context(), &Call{Method: "tools/call", Params: p, Emit: func(*protocol.Message) error {
			time.Sleep(time.Hour) // a slow client
			return nil
		}})
		if err == nil {
			t.Error("no error")
		}
		if got, want := time.Since(begun), 4*time.Minute+3*time.Hour+5*time.Minute; got < want || got > want+10*time.Minute {
			t.Errorf("ended after %v, not %v", got, want)
		}
		synctest.Wait()
		if f.count("notifications/cancelled") != 1 {
			t.Error("the target was not told")
		}
	})
}

// A list takes at most the target's timeout.
func TestListTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.before = func(w http.ResponseWriter, r *http.Request, m *protocol.Message) bool {
			if m != nil && m.Method == "tools/list" {
				<-r.Context().Done()
				return true
			}
			return false
		}
		tg := NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://fake.example", RoundTripper: inProcess{f}, Timeout: 3 * time.Second}, Options{})
		defer tg.Close()
		l, err := tg.Open(t.Context(), client("a"), Forward{})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err = l.Call(t.Context(), &Call{Method: "tools/list"}); err == nil {
			t.Error("no error")
		}
		if got := time.Since(begun); got != 3*time.Second {
			t.Errorf("ended after %v", got)
		}
	})
}

// What a modern target says about itself is asked for again after a while. A
// target that cannot be asked then is what it was.
func TestDiscoveryIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		f := &fake{t: t, modern: true}
		f.before = func(w http.ResponseWriter, _ *http.Request, _ *protocol.Message) bool {
			if down {
				w.WriteHeader(http.StatusBadGateway)
			}
			return down
		}
		tg := NewTarget(TargetConfig{Transport: StreamableHTTP, URL: "http://fake.example", RoundTripper: inProcess{f}}, Options{})
		defer tg.Close()
		discover := func(want int) {
			t.Helper()
			d, err := tg.Discover(t.Context(), client("a"), Forward{})
			if err != nil || d.Era != protocol.Modern {
				t.Fatalf("%+v, %v", d, err)
			}
			if n := f.count("server/discover"); n != want {
				t.Errorf("asked %d times, not %d", n, want)
			}
		}
		discover(1)
		time.Sleep(discoveryAge - time.Second)
		discover(1)
		time.Sleep(time.Second)
		discover(2)
		down = true
		time.Sleep(discoveryAge)
		discover(3)
		discover(3)
		time.Sleep(refreshRetry)
		discover(4)
		down = false
		time.Sleep(refreshRetry)
		discover(5)
		discover(5)
	})
}

// A child is ended when nobody but a watcher used it for ten minutes; a watcher
// does not start it again, the next call does.
func TestIdleConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := NewTarget(TargetConfig{Transport: Stdio, Command: &Command{Path: "x"}}, Options{})
		defer tg.Close()
		ended := make(chan struct{})
		d := &duplex{t: tg, idle: duplexIdle, end: func() { close(ended) }, shared: true,
			write: func(context.Context, []byte, Forward) (*protocol.Message, error) { return nil, nil }}
		d.open()
		w := &duplexWire{duplex: d}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.listen(t.Context(), &intake{emit: func(*protocol.Message) error { return nil }}); err == nil {
				t.Error("no error")
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			_, _ = w.call(ctx, &request{id: nextID(), method: "tools/call"})
		})
		time.Sleep(4 * time.Minute)
		cancel()
		time.Sleep(duplexIdle - time.Second)
		synctest.Wait()
		if !d.alive() {
			t.Error("ended too early")
		}
		time.Sleep(2 * time.Second)
		<-ended
		wg.Wait()
	})
}
