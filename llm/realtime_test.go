package llm_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A studio is a strict stand-in for OpenAI's Realtime API.
type studio struct {
	t      *testing.T
	server *httptest.Server
	status int // that it refuses with, if not 0
	serve  func(*websocket.Conn)

	mu    sync.Mutex
	asked []*http.Request
	gone  chan struct{} // gets a token when a session has ended
}

func newStudio(t *testing.T, serve func(*websocket.Conn)) *studio {
	t.Helper()
	s := &studio{t: t, serve: serve, gone: make(chan struct{}, 16)}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *studio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.mu.Unlock()
	if s.status != 0 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, `{"error":{"message":"no session for you","type":"invalid_request_error","param":null,"code":"nope"}}`)
		return
	}
	u := websocket.Upgrader{Subprotocols: []string{"realtime"}}
	c, err := u.Upgrade(w, r, nil)
	if err != nil {
		s.t.Errorf("the handshake: %v", err)
		return
	}
	defer func() { s.gone <- struct{}{} }()
	defer c.Close()
	s.serve(c)
}

func (s *studio) provider(name string, v llm.Vendor) *llm.Provider {
	addr := s.server.Listener.Addr().String()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &llm.Provider{Name: name, Vendor: v, RoundTripper: transport, Host: "provider.test", Credential: llm.Credential{Token: secret.New("gateway-key")}, Health: new(llm.Health)}
}

// A booth is a gateway in front of realtime providers.
type booth struct {
	t      *testing.T
	server *httptest.Server
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan *telemetry.Record
}

func newBooth(t *testing.T, cfg llm.Config) *booth {
	t.Helper()
	b := &booth{t: t, ended: make(chan *telemetry.Record, 16)}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	t.Cleanup(func() { b.cancel(nil) })
	cfg.Name, cfg.Logger = "default/b", quiet()
	backend := llm.New(cfg)
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &telemetry.Record{Start: time.Now(), Request: r}
		r = r.WithContext(telemetry.NewContext(b.ctx, rec))
		if err := backend.Serve(w, r); err != nil {
			rec.ErrorType = fault.Of(err).Code.String()
			backend.WriteError(w, r, err)
		}
		b.ended <- rec
	}))
	t.Cleanup(b.server.Close)
	return b
}

func (b *booth) dial(target string, h http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{Subprotocols: protocols}
	return d.Dial("ws"+strings.TrimPrefix(b.server.URL, "http")+target, h)
}

// open opens a session, which must be let in.
func (b *booth) open(target string, h http.Header, protocols ...string) *websocket.Conn {
	b.t.Helper()
	c, resp, err := b.dial(target, h, protocols...)
	if err != nil {
		b.t.Fatalf("%v: %+v", err, resp)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

func one(providers ...*llm.Provider) llm.Config {
	cfg := llm.Config{}
	for _, p := range providers {
		cfg.Groups = append(cfg.Groups, []*llm.Provider{p})
	}
	return cfg
}

// echo says back what it hears until the session ends.
func echo(c *websocket.Conn) {
	for {
		typ, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		if err := c.WriteMessage(typ, message); err != nil {
			return
		}
	}
}

func closeCode(err error) int {
	var e *websocket.CloseError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// A session is opened with the gateway's credential and nothing of the client's; messages pass
// as they are; what responses cost is counted; the end is passed on.
func TestRealtime(t *testing.T) {
	done := `{"type":"response.done","event_id":"e","response":{"id":"r","usage":{"total_tokens":10,"input_tokens":7,"output_tokens":3,"input_token_details":{"cached_tokens":2,"audio_tokens":4},"output_token_details":{"audio_tokens":1}}}}`
	s := newStudio(t, echo)
	p := s.provider("", llm.OpenAI)
	p.Model = "gpt-realtime"
	b := newBooth(t, one(p))
	c := b.open("/llm/v1/realtime?model=other&voice=x", http.Header{"User-Agent": {"test"}, "Authorization": {"Bearer client"}, "Openai-Project": {"p"}, "Cookie": {"a=b"}},
		"realtime", "openai-insecure-api-key.sk-client", "openai-project.p")
	if c.Subprotocol() != "realtime" {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
	r := s.asked[0]
	if r.URL.Path != "/v1/realtime" || r.URL.Query().Get("model") != "gpt-realtime" || r.URL.Query().Get("voice") != "x" || r.Host != "provider.test" {
		t.Errorf("asked for %s of %s", r.URL, r.Host)
	}
	if r.Header.Get("Authorization") != "Bearer gateway-key" || r.Header.Get("Sec-Websocket-Protocol") != "realtime" {
		t.Errorf("asked with %v", r.Header)
	}
	for name, values := range r.Header {
		if v := strings.Join(values, " "); strings.Contains(v, "client") || name == "Cookie" || name == "Openai-Project" {
			t.Errorf("the provider got %s: %s", name, v)
		}
	}
	large := strings.Repeat("a", 16<<20)
	for _, m := range []struct {
		typ  int
		text string
	}{{websocket.TextMessage, `{"type":"session.update" , "x":1}`}, {websocket.BinaryMessage, "\x00\xff"}, {websocket.TextMessage, ""}, {websocket.TextMessage, done}, {websocket.TextMessage, done}, {websocket.BinaryMessage, large}} {
		if err := c.WriteMessage(m.typ, []byte(m.text)); err != nil {
			t.Fatal(err)
		}
		typ, got, err := c.ReadMessage()
		if err != nil || typ != m.typ || string(got) != m.text {
			t.Fatalf("%.100q comes back as %d %.100q, %v", m.text, typ, got, err)
		}
	}
	if err := c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "bye"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); closeCode(err) != 4001 {
		t.Errorf("the session ends with %v", err)
	}
	<-s.gone
	rec := <-b.ended
	u := rec.LLM.Usage
	if !u.Known || u.Input != 14 || u.Output != 6 || u.CacheRead != 4 || u.AudioInput != 8 || u.AudioOutput != 2 || rec.Status != 101 || rec.ErrorType != "" || rec.LLM.Operation != "realtime" || rec.LLM.RequestModel != "other" {
		t.Errorf("the record: %+v, status %d, error %v", rec.LLM, rec.Status, rec.Err)
	}
}

// Whoever ends a session, and however, the other side is told with the code, and the record
// says why.
func TestRealtimeEnds(t *testing.T) {
	until := make(chan struct{}) // closed when the provider may end
	tests := []struct {
		name     string
		provider func(*websocket.Conn)
		client   func(*booth, *websocket.Conn)
		want     int // the code that the client reads; 0: it is gone
		record   string
	}{
		{"the provider closes", func(c *websocket.Conn) {
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4408, "over"), time.Now().Add(time.Minute))
			echo(c)
		}, func(*booth, *websocket.Conn) {}, 4408, ""},
		{"the provider breaks", func(c *websocket.Conn) { _ = c.NetConn().Close() }, func(*booth, *websocket.Conn) {}, websocket.CloseInternalServerErr, "upstream_failed"},
		{"the provider says too much", func(c *websocket.Conn) {
			_ = c.WriteMessage(websocket.BinaryMessage, make([]byte, 16<<20+1))
			echo(c)
		}, func(*booth, *websocket.Conn) {}, websocket.CloseMessageTooBig, "upstream_failed"},
		{"the client says too much", echo, func(_ *booth, c *websocket.Conn) { _ = c.WriteMessage(websocket.BinaryMessage, make([]byte, 16<<20+1)) }, websocket.CloseMessageTooBig, "too_large"},
		{"the client is gone", echo, func(_ *booth, c *websocket.Conn) { _ = c.NetConn().Close() }, 0, "client_gone"},
		{"half closed", echo, func(_ *booth, c *websocket.Conn) { _ = c.NetConn().(*net.TCPConn).CloseWrite() }, 0, "client_gone"},
		{"no frame", echo, func(_ *booth, c *websocket.Conn) { _, _ = c.NetConn().Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, websocket.CloseProtocolError, "client_gone"},
		{"drain", echo, func(b *booth, _ *websocket.Conn) { b.cancel(fault.New(fault.Draining, "draining")) }, websocket.CloseGoingAway, "draining"},
		{"no pong of the client", echo, func(_ *booth, c *websocket.Conn) {
			c.SetPingHandler(func(string) error { return nil })
			_, _, _ = c.ReadMessage()
		}, 0, "client_gone"},
		{"no pong of the provider", func(*websocket.Conn) { <-until }, func(*booth, *websocket.Conn) {}, websocket.CloseInternalServerErr, "upstream_failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			until = make(chan struct{})
			s := newStudio(t, test.provider)
			cfg := one(s.provider("", llm.OpenAI))
			if strings.HasPrefix(test.name, "no pong") {
				cfg.Clocks.Ping = 20 * time.Millisecond
			}
			b := newBooth(t, cfg)
			c := b.open("/v1/realtime?model=m", nil)
			test.client(b, c)
			if test.want != 0 {
				_, _, err := c.ReadMessage()
				for err == nil {
					_, _, err = c.ReadMessage()
				}
				if closeCode(err) != test.want {
					t.Errorf("the client reads %v", err)
				}
			}
			rec := <-b.ended
			close(until)
			<-s.gone
			if rec.ErrorType != test.record {
				t.Errorf("the record says %q, %v", rec.ErrorType, rec.Err)
			}
		})
	}
}

// A session in which nothing is said ends, however well both sides answer pings.
func TestRealtimeIdle(t *testing.T) {
	s := newStudio(t, echo)
	cfg := one(s.provider("", llm.OpenAI))
	// Who is slow to answer pings is not given up before that.
	cfg.Clocks.RealtimeIdle, cfg.Clocks.Ping = time.Second, 400*time.Millisecond
	b := newBooth(t, cfg)
	c := b.open("/v1/realtime?model=m", nil)
	if _, _, err := c.ReadMessage(); closeCode(err) != websocket.CloseGoingAway {
		t.Errorf("the client reads %v", err)
	}
	<-s.gone
	if rec := <-b.ended; rec.ErrorType != "upstream_timeout" {
		t.Errorf("the record says %q", rec.ErrorType)
	}
}

// A client that does not read stops the reading of the provider: what it says is in the
// buffers of the kernel and of one message, and nowhere else.
func TestRealtimeSlowReader(t *testing.T) {
	said, stuck := 0, make(chan struct{})
	s := newStudio(t, func(c *websocket.Conn) {
		message := make([]byte, 1<<20)
		for range 256 {
			_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
			if c.WriteMessage(websocket.BinaryMessage, message) != nil {
				break
			}
			said++
		}
		close(stuck)
	})
	b := newBooth(t, one(s.provider("", llm.OpenAI)))
	c := b.open("/v1/realtime?model=m", nil)
	<-stuck
	if said > 64 {
		t.Errorf("the provider could say %d MiB to a client that does not read", said)
	}
	_ = c.Close()
	<-s.gone
	<-b.ended
}

// Until a session is open another provider can open it; what a provider refuses is answered.
func TestRealtimeFailover(t *testing.T) {
	open := func(c *websocket.Conn) { echo(c) }
	busy, good := newStudio(t, open), newStudio(t, open)
	busy.status = 503
	down := busy.provider("down", llm.OpenAI)
	down.RoundTripper = &script{do: func(*http.Request) (*http.Response, error) {
		return nil, fault.New(fault.UpstreamUnreachable, "the upstream could not be reached")
	}}
	down.RoundTripper = noBody{down.RoundTripper}
	azure := good.provider("azure", llm.AzureOpenAI)
	azure.APIVersion, azure.Model = "2025-04-01-preview", "deployed"
	b := newBooth(t, one(down, busy.provider("busy", llm.OpenAI), busy.provider("claude", llm.Anthropic), azure))
	c := b.open("/v1/realtime?model=m", nil)
	if r := good.asked[0]; r.URL.RequestURI() != "/openai/realtime?api-version=2025-04-01-preview&deployment=deployed" || r.Header.Get("Api-Key") != "gateway-key" {
		t.Errorf("Azure was asked for %s with %v", r.URL, r.Header)
	}
	_ = c.Close()
	if rec := <-b.ended; rec.Attempts != 3 || rec.LLM.Name != "azure" {
		t.Errorf("%d attempts, %s", rec.Attempts, rec.LLM.Name)
	}

	for status, want := range map[int]int{403: 403, 401: 502, 503: 503, 200: 502} {
		refusing := newStudio(t, open)
		refusing.status = status
		b := newBooth(t, one(refusing.provider("", llm.OpenAI)))
		_, resp, err := b.dial("/v1/realtime?model=m", nil)
		if err == nil || resp.StatusCode != want {
			t.Errorf("%d is answered %v, %+v", status, err, resp)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		if says := strings.Contains(string(body), "no session for you"); says != (status == 403 || status == 503) {
			t.Errorf("%d is answered %s", status, body)
		}
		<-b.ended
	}
}

// noBody gives requests that have none an empty body, for scripts.
type noBody struct{ http.RoundTripper }

func (n noBody) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Body = http.NoBody
	return n.RoundTripper.RoundTrip(r)
}

// Pages of foreign origins don't get in, unless all they use is their own key, which then
// comes to the provider in its place.
func TestRealtimeHandshake(t *testing.T) {
	s := newStudio(t, echo)
	cfg := one(s.provider("", llm.OpenAI))
	cfg.AllowedOrigins = []string{"https://app.example.com"}
	b := newBooth(t, cfg)
	u, err := url.Parse(b.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]int{"https://evil.example.com": 403, "null": 403, "https://app.example.com": 101, "http://" + u.Host: 101, "https://app.example.com.evil.com": 403} {
		c, resp, err := b.dial("/v1/realtime?model=m", http.Header{"Origin": {origin}})
		if resp == nil || resp.StatusCode != want {
			t.Errorf("%s: %v %+v", origin, err, resp)
		}
		if c != nil {
			_ = c.Close()
			<-s.gone
		}
		<-b.ended
	}
	for _, wrong := range []func(*http.Request){
		func(r *http.Request) { r.Header.Del("Upgrade") },
		func(r *http.Request) { r.Header.Set("Sec-Websocket-Version", "8") },
		func(r *http.Request) { r.Header.Del("Sec-Websocket-Key") },
		func(r *http.Request) { r.Header.Set("Sec-Websocket-Key", "short") },
		func(r *http.Request) { r.URL.RawQuery = "" },
	} {
		r, err := http.NewRequest(http.MethodGet, b.server.URL+"/v1/realtime?model=m", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
		wrong(r)
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%v: %v %+v", r.Header, err, resp)
			continue
		}
		_ = resp.Body.Close()
		<-b.ended
	}

	own := newStudio(t, echo)
	p := own.provider("", llm.OpenAI)
	p.Credential = llm.Credential{Passthrough: true}
	b = newBooth(t, one(p))
	c := b.open("/v1/realtime?model=m", http.Header{"Origin": {"https://any.example.com"}}, "realtime", "openai-insecure-api-key.ek_mine", "openai-project.p")
	if h := own.asked[0].Header; h.Get("Authorization") != "Bearer ek_mine" || h.Get("Openai-Project") != "p" || h.Get("Sec-Websocket-Protocol") != "realtime" {
		t.Errorf("the provider got %v", h)
	}
	_ = c.Close()
	<-b.ended
}
