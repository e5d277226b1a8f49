package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// front serves p as the gateway does: it renders errors and lets panics abort. It
// hands out the record of each request.
func front(t *testing.T, p *Proxy) (*httptest.Server, <-chan *telemetry.Record) {
	t.Helper()
	records := make(chan *telemetry.Record, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := new(telemetry.Record)
		defer func() { records <- rec }()
		if err := p.Serve(w, r.WithContext(telemetry.NewContext(r.Context(), rec))); err != nil {
			p.WriteError(w, r, err)
		}
	}))
	t.Cleanup(s.Close)
	return s, records
}

func proxyTo(t *testing.T, h http.HandlerFunc) (*httptest.Server, <-chan *telemetry.Record) {
	t.Helper()
	return front(t, &Proxy{Pool: newPool(t, Options{}, serve(t, h))})
}

// raw sends text over a connection of its own and returns what comes until the
// other side closes.
func raw(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProxyHeaders(t *testing.T) {
	var mu sync.Mutex
	var got http.Header
	s, _ := proxyTo(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got = r.Header.Clone()
		got.Set("Host", r.Host)
		mu.Unlock()
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-Kept", "1")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	answer := raw(t, s.Listener.Addr().String(), "GET /p HTTP/1.1\r\nHost: svc.example\r\nConnection: close, X-Mine, Upgrade\r\nX-Mine: 1\r\n"+
		"Upgrade: h2c\r\nTE: trailers, deflate\r\nProxy-Authorization: p\r\nKeep-Alive: timeout=5\r\nAuthorization: a\r\n"+
		"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: liar\r\nX-Forwarded-Proto: gopher\r\n\r\n")
	mu.Lock()
	defer mu.Unlock()
	want := http.Header{
		"Host": {"svc.example"}, "Authorization": {"a"}, "Te": {"trailers"},
		"X-Forwarded-For": {"192.0.2.1, 127.0.0.1"}, "X-Forwarded-Host": {"svc.example"}, "X-Forwarded-Proto": {"http"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header upstream (-want +got):\n%s", diff)
	}
	hints, answer, _ := strings.Cut(answer, "\r\n\r\n")
	if hints != "HTTP/1.1 103 Early Hints\r\nX-Kept: 1" || !strings.HasPrefix(answer, "HTTP/1.1 418 ") || !strings.Contains(answer, "X-Kept: 1") || strings.Contains(answer, "X-Hop") {
		t.Errorf("%s, answer:\n%s", hints, answer)
	}
}

func TestProxyStreams(t *testing.T) {
	next := make(chan struct{})
	s, _ := proxyTo(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Trailer", "X-End")
		for range 2 {
			_ = http.NewResponseController(w).Flush()
			<-next
			_, _ = io.WriteString(w, "data: 1\n\n")
		}
		w.Header().Set("X-End", "yes")
	})
	resp, err := http.Get(s.URL) // returns before the first event: the header was flushed
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body := bufio.NewReader(resp.Body)
	for range 2 {
		next <- struct{}{}
		line, err := body.ReadString('\n')
		if err != nil || line != "data: 1\n" {
			t.Fatalf("read %q, %v", line, err)
		}
		if _, err := body.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := body.ReadByte(); err != io.EOF {
		t.Errorf("after the stream: %v, want EOF", err)
	}
	if got := resp.Trailer.Get("X-End"); got != "yes" {
		t.Errorf("trailer %q, want yes", got)
	}
}

func TestProxyBodies(t *testing.T) {
	s, _ := proxyTo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "HEAD" {
			w.Header().Set("Content-Length", "7")
			return
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	big := strings.Repeat("0123456789", 100_000)
	for _, tc := range []struct {
		name, method string
		body         io.Reader
		want         string
		length       int64
	}{
		{"empty", "POST", nil, "", 0},
		{"known length", "POST", strings.NewReader(big), big, -1},
		{"chunked", "PUT", io.MultiReader(strings.NewReader(big)), big, -1},
		{"GET with a body", "GET", strings.NewReader("q"), "q", 1},
		{"HEAD", "HEAD", nil, "", 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := http.DefaultClient.Do(request(t, tc.method, s.URL, tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, resp); got != tc.want {
				t.Errorf("got %d bytes, want %d", len(got), len(tc.want))
			}
			if resp.ContentLength != tc.length {
				t.Errorf("Content-Length %d, want %d", resp.ContentLength, tc.length)
			}
		})
	}
}

// A broken answer of the upstream never looks whole to the client.
func TestProxyBrokenAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr := serveRaw(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
			})
			s, records := front(t, &Proxy{Pool: newPool(t, Options{}, addr)})
			resp, err := http.Get(s.URL)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if err == nil {
				t.Error("the client took the broken answer for a whole one")
			}
			if rec := <-records; rec.ErrorType != fault.UpstreamFailed.String() || rec.UpstreamHost != addr {
				t.Errorf("record: error %q, upstream %q", rec.ErrorType, rec.UpstreamHost)
			}
		})
	}
}

func TestProxyErrors(t *testing.T) {
	s, _ := front(t, &Proxy{Pool: newPool(t, Options{}, refused(t))})
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, resp); resp.StatusCode != 503 || got != "the upstream could not be reached" || resp.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("answer %d %q %v", resp.StatusCode, got, resp.Header)
	}
}

// The client's own mistakes in a body are its own, not the upstream's.
func TestProxyBadBody(t *testing.T) {
	s, _ := proxyTo(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	answer := raw(t, s.Listener.Addr().String(), "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.HasSuffix(answer, "the request body is malformed") {
		t.Errorf("answer:\n%s", answer)
	}
}

// A client that goes away ends the request upstream.
func TestProxyClientGone(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	s, records := proxyTo(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	resp, err := http.DefaultClient.Do(request(t, "GET", s.URL, nil).WithContext(ctx))
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("an answer to a request that was given up")
	}
	<-ended
	<-records
}

func TestProxyUpgrade(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		proto := r.Header.Get("Upgrade")
		if proto == "" {
			return
		}
		if r.URL.Path == "/liar" {
			proto = "other"
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nX-Key: k\r\nUpgrade: "+proto+"\r\n\r\n")
		_, _ = io.CopyN(conn, rw, 5)
	}
	for _, tc := range []struct{ name, path, proto, want string }{
		{"websocket", "/", "websocket", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Key: k\r\n\r\nhello"},
		{"another protocol than asked for", "/liar", "websocket", "HTTP/1.1 502 Bad Gateway\r\n"},
		{"any protocol", "/", "smtp", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: smtp\r\nX-Key: k\r\n\r\nhello"},
		{"but h2c", "/plain", "h2c", "HTTP/1.1 200 OK\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := proxyTo(t, echo)
			got := raw(t, s.Listener.Addr().String(), "GET "+tc.path+" HTTP/1.1\r\nHost: x\r\nConnection: close, upgrade\r\nUpgrade: "+tc.proto+"\r\n\r\nhello")
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("got\n%s\nwant prefix\n%s", got, tc.want)
			}
		})
	}
}

// A reader that does not read stops the reading upstream: the gateway holds no more
// than its buffers.
func TestProxyBackpressure(t *testing.T) {
	const total = 1 << 30
	sent := make(chan int64, 1)
	s, records := proxyTo(t, func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<20)
		var n int64
		for n < total {
			if _, err := w.Write(block); err != nil {
				break
			}
			n += int64(len(block))
		}
		sent <- n
	})
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if n := <-sent; n >= total {
		t.Error("everything was read from the upstream although nobody read it here")
	}
	<-records
}
