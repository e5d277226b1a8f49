package federation

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// A tail is a stream as a client reads it.
type tail struct {
	status int
	body   io.ReadCloser
	events *events.Reader
	cut    context.CancelFunc // breaks the connection
}

// stream sends a request whose answer is a stream.
func (g *gateway) stream(method, body, sid string, header ...string) *tail {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	r, _ := http.NewRequestWithContext(ctx, method, g.url, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Mcp-Session-Id", sid)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	return &tail{resp.StatusCode, resp.Body, events.NewReader(resp.Body, 1<<20), cancel}
}

// next returns the next event.
func (s *tail) next(t *testing.T) (id, data string) {
	t.Helper()
	ev, err := s.events.Next()
	if err != nil {
		t.Fatal(err)
	}
	return ev.ID, string(ev.Data)
}

// step adds a tool that reports progress, and again after release.
func (s *server) step(release <-chan struct{}) {
	mcp.AddTool(s.Server, &mcp.Tool{Name: "step"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		for i := range 2 {
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)}); err != nil {
				return nil, nil, err
			}
			if i == 0 {
				select {
				case <-release:
				case <-ctx.Done():
					return nil, nil, ctx.Err()
				}
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
	})
}

const stepCall = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"s_step","_meta":{"progressToken":1}}}`

// A call goes on when its stream breaks, and the client gets the rest of it, and
// only the rest, where it takes the stream up.
func TestResumeCall(t *testing.T) {
	for _, version := range []string{"2025-03-26", "2025-06-18", "2025-11-25"} {
		t.Run(version, func(t *testing.T) {
			s := newServer(t, "s", false, nil)
			release := make(chan struct{})
			s.step(release)
			g := newGateway(t, Config{Targets: targets(s)})
			sid, other := g.initialize(version), g.initialize(version)
			call := g.stream("POST", stepCall, sid)
			if version == "2025-11-25" {
				if id, data := call.next(t); !strings.HasSuffix(id, ".0") || data != "" {
					t.Errorf("the first event: %q %q", id, data)
				}
			}
			id, data := call.next(t)
			if !strings.HasSuffix(id, ".1") || !strings.Contains(data, `"progress":0`) {
				t.Fatalf("%q %q", id, data)
			}
			call.cut()
			g.alone(1)
			close(release)
			if status := g.stream("GET", "", other, "Last-Event-Id", id).status; status != 400 {
				t.Errorf("the stream of another session: %d", status)
			}
			rest := g.stream("GET", "", sid, "Last-Event-Id", id)
			next, data := rest.next(t)
			if next == id || !strings.Contains(data, `"progress":1`) {
				t.Errorf("%q %q", next, data)
			}
			last, data := rest.next(t)
			if !strings.Contains(data, `"id":7`) || !strings.Contains(data, "done") {
				t.Errorf("%q %q", last, data)
			}
			if _, err := rest.events.Next(); err != io.EOF {
				t.Errorf("after the response: %v", err)
			}
			// Once more, as the response may have been lost, too.
			if _, data := g.stream("GET", "", sid, "Last-Event-Id", next).next(t); !strings.Contains(data, "done") {
				t.Error(data)
			}
			if status := g.stream("GET", "", sid, "Last-Event-Id", last).status; status != 405 {
				t.Errorf("after all of it: %d", status)
			}
			g.hub.trails.mu.Lock()
			clear(g.hub.trails.byKey) // as after a restart
			g.hub.trails.mu.Unlock()
			told, data := g.stream("GET", "", sid, "Last-Event-Id", next).next(t)
			if data != `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"the answer to this request is lost"}}` {
				t.Error(data)
			}
			if status := g.stream("GET", "", sid, "Last-Event-Id", told).status; status != 405 {
				t.Errorf("after it was told that the answer is lost: %d", status)
			}
			if got := s.reached("notifications/cancelled"); len(got) != 0 {
				t.Error(got)
			}
		})
	}
}

// The stream of a call that was cancelled ends without a response. A client that
// takes it up is told that there is nothing, and keeps the stream of its session.
func TestResumeCancelled(t *testing.T) {
	s := newServer(t, "s", false, nil)
	s.step(nil)
	g := newGateway(t, Config{Targets: targets(s)})
	sid := g.initialize("2025-11-25")
	standing := g.stream("GET", "", sid)
	call := g.stream("POST", stepCall, sid)
	call.next(t)
	id, _ := call.next(t)
	if status := g.stream("POST", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`, sid).status; status != 202 {
		t.Errorf("cancelled: %d", status)
	}
	if _, err := call.events.Next(); err != io.EOF {
		t.Errorf("after it was cancelled: %v", err)
	}
	if status := g.stream("GET", "", sid, "Last-Event-Id", id).status; status != 405 {
		t.Errorf("taken up: %d", status)
	}
	standing.next(t) // its first event, without data
	s.echo("more")
	if _, data := standing.next(t); !strings.Contains(data, "notifications/tools/list_changed") {
		t.Error(data)
	}
}

// alone waits until n streams have no reader.
func (g *gateway) alone(n int) {
	g.t.Helper()
	eventually(g.t, "the broken stream is noticed", func() bool {
		all := g.hub.trails
		all.mu.Lock()
		var outs []*sse
		for _, t := range all.byKey {
			if t.out != nil {
				outs = append(outs, t.out)
			}
		}
		all.mu.Unlock()
		alone := 0
		for _, s := range outs {
			s.mu.Lock()
			if s.trail != nil && s.trail.alone {
				alone++
			}
			s.mu.Unlock()
		}
		return alone == n
	})
}

// A call whose client does not come back is ended; one that is cancelled is, too.
func TestResumeNever(t *testing.T) {
	s := newServer(t, "s", false, nil)
	s.step(nil)
	g := newGateway(t, Config{Targets: targets(s)})
	g.hub.resumeCall = 0
	sid := g.initialize("2025-11-25")
	call := g.stream("POST", stepCall, sid)
	call.next(t)
	call.next(t)
	call.cut()
	eventually(t, "the call is cancelled", func() bool { return len(s.reached("notifications/cancelled")) == 1 })
	g.hub.resumeCall = time.Hour
	call = g.stream("POST", strings.Replace(stepCall, `"id":7`, `"id":8`, 1), sid)
	call.next(t)
	call.next(t)
	call.cut()
	g.alone(1)
	g.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}`, "Mcp-Session-Id", sid)
	eventually(t, "the call is cancelled", func() bool { return len(s.reached("notifications/cancelled")) == 2 })
}

// What a session hears between two GET streams is there on the second.
func TestResumeStream(t *testing.T) {
	s := newServer(t, "s", true, nil)
	s.echo("x")
	g := newGateway(t, Config{Targets: targets(s)})
	sid := g.initialize("2025-11-25")
	first := g.stream("GET", "", sid)
	id, _ := first.next(t)
	hear := func(n int) {
		g.apply(Config{Targets: targets(s), PolicyFingerprint: fmt.Sprint(n)})
	}
	hear(1)
	var data string
	for range 3 { // tools, prompts, resources
		if id, data = first.next(t); !strings.Contains(data, "list_changed") {
			t.Fatal(data)
		}
	}
	first.cut()
	g.alone(1)
	hear(2)
	second := g.stream("GET", "", sid, "Last-Event-Id", id)
	for range 3 {
		next, data := second.next(t)
		if next == id || !strings.Contains(data, "list_changed") {
			t.Fatalf("%q %q", next, data)
		}
		id = next
	}
	hear(3) // it is the stream now
	if next, data := second.next(t); next == id || !strings.Contains(data, "list_changed") {
		t.Fatalf("%q %q", next, data)
	}
	if n := g.hub.streamCount.Load(); n != 1 {
		t.Errorf("%d streams", n)
	}
	second.cut()
	g.alone(1)
	g.stream("GET", "", sid).next(t)
	g.alone(0) // the new stream has taken the place of the old
	if status := g.stream("GET", "", sid, "Last-Event-Id", "no such").status; status != 400 {
		t.Errorf("an id that nobody made: %d", status)
	}
}

// A client of the SDK does not notice that its connection broke in a call.
func TestResumeSDK(t *testing.T) {
	s := newServer(t, "s", false, nil)
	release := make(chan struct{})
	s.step(release)
	g := newGateway(t, Config{Targets: targets(s)})
	cut := make(chan context.CancelFunc, 1)
	progress := make(chan float64, 2)
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Progress }})
	transport := &mcp.StreamableClientTransport{Endpoint: g.url, DisableStandaloneSSE: true, HTTPClient: &http.Client{Transport: cutter{g.client.Transport, cut}}}
	cs, err := c.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close()
	done := make(chan error, 1)
	go func() {
		params := &mcp.CallToolParams{Name: "s_step"}
		params.SetProgressToken("p")
		res, err := cs.CallTool(t.Context(), params)
		if err == nil && text(res) != "done" {
			err = fmt.Errorf("got %q", text(res))
		}
		done <- err
	}()
	<-progress
	(<-cut)()
	g.alone(1)
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := <-progress; got != 1 {
		t.Errorf("progress %v", got)
	}
}

// A cutter can break the connection of a tool call, from the side of the network.
type cutter struct {
	next http.RoundTripper
	cut  chan<- context.CancelFunc
}

func (c cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost {
		return c.next.RoundTrip(r)
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(drain(body), "tools/call") {
		return c.next.RoundTrip(r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	resp, err := c.next.RoundTrip(r.WithContext(ctx))
	c.cut <- cancel
	return resp, err
}

// What is kept is bounded, for a session and for all; the oldest goes first.
func TestTrailLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sealer, _ := session.NewSealer()
		all := newTrails(sealer, "", time.Now)
		sessions := session.NewSessions(session.SessionsOptions{Sealer: sealer})
		open := func() *trail {
			sess, err := sessions.Create("b", session.Client{Version: "2025-11-25"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := new(sse)
			all.trail(s, sess, "1", time.Minute, func() {})
			s.trail.begin()
			return s.trail
		}
		raw := make([]byte, 64<<10)
		first := open()
		for range 2 * maxSessionTrail / len(raw) {
			if _, full := first.event(nil, raw); full {
				t.Fatal("full while the client reads")
			}
		}
		if ours := all.sessions[first.session].bytes; ours > maxSessionTrail || ours < maxSessionTrail/2 {
			t.Errorf("a session keeps %d bytes", ours)
		}
		if wire, whole := all.since(first, first.last-1); !whole || len(wire) != 1 {
			t.Errorf("the last event: %v %d", whole, len(wire))
		}
		if _, whole := all.since(first, 0); whole {
			t.Error("the first event is gone, and is not missed")
		}
		first.alone, first.timer = true, time.NewTimer(time.Hour)
		if _, full := first.event(nil, raw); !full {
			t.Error("a call writes without end where nobody reads")
		}
		trails := []*trail{first}
		for all.bytes < maxTrailBytes-maxSessionTrail {
			one := open()
			trails = append(trails, one)
			for range maxSessionTrail / len(raw) {
				one.event(nil, raw)
			}
		}
		one := open()
		for range maxSessionTrail / len(raw) {
			one.event(nil, raw)
		}
		last := open()
		for range 2 {
			last.event(nil, raw)
		}
		if all.bytes > maxTrailBytes {
			t.Errorf("%d bytes are kept", all.bytes)
		}
		if wire, _ := all.since(last, 0); len(wire) != 2 {
			t.Error("the newest is gone")
		}
		all.forget(last.session)
		if wire, _ := all.since(last, 0); len(wire) != 0 {
			t.Error("a session that has ended is kept")
		}
		for _, one := range append(trails, one, last) {
			one.finish()
		}
		time.Sleep(trailAge + time.Second)
		all.sweep()
		if all.bytes != 0 || all.kept.Len() != 0 || len(all.byKey) != 0 || len(all.sessions) != 0 {
			t.Errorf("left: %d bytes, %d events, %d trails, %d sessions", all.bytes, all.kept.Len(), len(all.byKey), len(all.sessions))
		}
	})
}

// No text but one that was sealed for the session is an event's id.
func FuzzEventID(f *testing.F) {
	sealer, _ := session.NewSealer(make([]byte, 32))
	all := newTrails(sealer, "10.0.0.1:15010", time.Now)
	mine, other := [16]byte{1}, [16]byte{2}
	t := &trail{all: all, session: mine, request: `"a"`}
	f.Add(t.seal()+"7", []byte("plain"))
	f.Add("", []byte{})
	f.Add("x.1", make([]byte, trailKeySize+2))
	f.Fuzz(func(t *testing.T, id string, plain []byte) {
		if _, ok := all.parse(id, other); ok {
			t.Fatal("a text of nobody's, or of another session, was taken")
		}
		// Whatever is sealed is read without harm.
		if ev, ok := all.parse(sealer.Seal(trailPurpose, plain, mine[:])+".1", mine); ok && len(ev.addr)+len(ev.request)+trailKeySize+2 != len(plain) {
			t.Fatalf("%q is read as %+v", plain, ev)
		}
	})
}
