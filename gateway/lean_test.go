package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serveHandler serves h on a port of a gateway: with lean connections, or as net/http alone would.
func serveHandler(t *testing.T, h http.Handler, lean bool, with ...func(*Server)) (addr string, b *binding) {
	t.Helper()
	return serveIdle(t, h, lean, idleTimeout, with...)
}

// serveIdle is serveHandler with a time for idle connections.
func serveIdle(t *testing.T, h http.Handler, lean bool, idle time.Duration, with ...func(*Server)) (addr string, b *binding) {
	t.Helper()
	s := NewServer(Options{Logger: slog.New(slog.DiscardHandler), Runtime: new(Runtime)})
	for _, f := range with {
		f(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b = &binding{sockets: []net.Listener{l}, idle: idle}
	var base context.Context
	base, b.cutOff = context.WithCancelCause(t.Context())
	b.server = s.newHTTPServer(&port{number: 1, idle: b.idle}, base)
	b.server.Handler = h
	var accept net.Listener = &wireListener{Listener: l, server: s}
	if lean {
		on := newLeanServer(s, accept, h, b.server.BaseContext(l), b.idle)
		b.leans, accept = append(b.leans, on), on
		s.serving.Go(on.run)
	}
	s.serving.Go(func() { _ = b.server.Serve(accept) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		b.end(ctx)
		s.serving.Wait()
		if n := s.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
	return l.Addr().String(), b
}

// said is how an answer reads.
type said struct {
	Status          int
	Header, Trailer http.Header
	Length          int64
	Close           bool
	Body            string
}

// ask sends raw bytes and returns the answers up to the end of the connection.
func ask(t *testing.T, addr, raw string) (answers []said) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = io.WriteString(conn, raw)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	for r := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			body = append(body, "…"...)
		}
		resp.Header.Del("Date")
		answers = append(answers, said{resp.StatusCode, resp.Header, resp.Trailer, resp.ContentLength, resp.Close, string(body)})
	}
}

// A lean connection answers as one of net/http does, whatever comes on it.
func TestLeanLikeNetHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/length":
			h.Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		case "/long":
			for range 20 {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 10_000))
			}
		case "/flush":
			h.Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "one")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "two")
		case "/trailer":
			h.Set("Trailer", "X-End")
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "body")
			h.Set("X-Late", "no")
			h.Set("X-End", "yes")
			h.Set(http.TrailerPrefix+"X-More", "yes")
			_ = http.NewResponseController(w).Flush()
		case "/empty":
			w.WriteHeader(http.StatusAccepted)
		case "/none":
			h.Set("Content-Length", "7")
			w.WriteHeader(http.StatusNoContent)
			_, _ = io.WriteString(w, "nothing")
		case "/short":
			h.Set("Content-Length", "9")
			_, _ = io.WriteString(w, "short")
		case "/over":
			h.Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ok")
			if _, err := io.WriteString(w, "over"); !errors.Is(err, http.ErrContentLength) {
				t.Errorf("writing more than was declared: %v", err)
			}
		case "/close":
			h.Set("Connection", "close")
			_, _ = io.WriteString(w, "bye")
		case "/unread":
			w.WriteHeader(http.StatusForbidden)
		case "/abort":
			_, _ = io.WriteString(w, "part")
			panic(http.ErrAbortHandler)
		case "/headers":
			h.Set("X-Split", "a\r\nEvil: 1")
			h["X-Two"] = []string{"1", "2"}
			_, _ = io.WriteString(w, "<html>")
		default:
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s %s %s %d %q %v", r.Method, r.RequestURI, r.Proto, r.Host, r.Header, r.ContentLength, body, err)
		}
	})
	leanAddr, _ := serveHandler(t, handler, true)
	plainAddr, _ := serveHandler(t, handler, false)
	post := func(path, headers, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
	}
	requests := map[string]string{
		"plain":            post("/echo", "Content-Type: application/json\r\nx-Lower: 1\r\nX-Twice: 1\r\nX-Twice:  2 \r\n", "{}"),
		"no body":          post("/echo", "", ""),
		"two":              post("/echo", "", "1") + post("/length", "", "2"),
		"after another":    post("/echo", "", "1") + "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n" + post("/echo", "", "2"),
		"keep-alive":       post("/echo", "Connection: Keep-Alive\r\n", "{}") + post("/echo", "", "2"),
		"two connections":  post("/echo", "Connection: keep-alive\r\nConnection: close\r\n", "{}") + post("/echo", "", "2"),
		"query":            post("/echo?a=b%20c", "", "{}"),
		"large body":       post("/echo", "", strings.Repeat("x", leanBody)),
		"larger body":      post("/echo", "", strings.Repeat("x", leanBody+1)),
		"large head":       post("/echo", "X-Large: "+strings.Repeat("x", 2*leanHead)+"\r\n", "{}"),
		"chunked":          "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"close":            post("/echo", "Connection: close\r\n", "{}"),
		"HTTP/1.0":         "POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\nok",
		"no length":        "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n",
		"absolute":         "POST http://y/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok",
		"two hosts":        post("/echo", "Host: y\r\n", "{}"),
		"no host":          "POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
		"bad host":         "POST /echo HTTP/1.1\r\nHost: a b\r\nContent-Length: 2\r\n\r\nok",
		"two lengths":      post("/echo", "Content-Length: 3\r\n", "{}"),
		"equal lengths":    post("/echo", "Content-Length: 2\r\n", "{}"),
		"signed length":    "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\nok",
		"both framings":    post("/echo", "Transfer-Encoding: chunked\r\n", "{}"),
		"folded":           post("/echo", "X: a\r\n b\r\n", "{}"),
		"bare LF":          "POST /echo HTTP/1.1\nHost: x\nContent-Length: 2\n\nok",
		"space in a name":  post("/echo", "X : a\r\n", "{}"),
		"no colon":         post("/echo", "X\r\n", "{}"),
		"control in value": post("/echo", "X: \x01\r\n", "{}"),
		"bad target":       post("/%zz", "", "{}"),
		"spaces":           "POST  /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok",
		"expect":           post("/echo", "Expect: 100-continue\r\n", "{}"),
		"body cut off":     "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nok",
		"head cut off":     "POST /echo HTTP/1.1\r\nHost: x\r\nConte",
		"junk after it":    post("/echo", "", "{}") + "junk",
		"nothing":          "",
		"length":           post("/length", "", "{}"),
		"long":             post("/long", "", "{}") + post("/echo", "", "2"),
		"flush":            post("/flush", "", "{}") + post("/echo", "", "2"),
		"trailer":          post("/trailer", "", "{}") + post("/echo", "", "2"),
		"empty":            post("/empty", "", "{}") + post("/echo", "", "2"),
		"none":             post("/none", "", "{}") + post("/echo", "", "2"),
		"short":            post("/short", "", "{}") + post("/echo", "", "2"),
		"over":             post("/over", "", "{}") + post("/echo", "", "2"),
		"server closes":    post("/close", "", "{}") + post("/echo", "", "2"),
		"unread":           post("/unread", "", "{}") + post("/echo", "", "2"),
		"abort":            post("/abort", "", "{}") + post("/echo", "", "2"),
		"headers":          post("/headers", "", "{}"),
	}
	for name, raw := range requests {
		t.Run(name, func(t *testing.T) {
			want, got := ask(t, plainAddr, raw), ask(t, leanAddr, raw)
			if name == "body cut off" {
				want[0].Close = true // there is nothing to come on the connection
			}
			for i := range want {
				if want[i].Length < 0 && i < len(got) && got[i].Length >= 0 && want[i].Close == got[i].Close {
					want[i].Length = got[i].Length // a longer answer is held back for its length
					want[i].Header["Content-Length"] = got[i].Header["Content-Length"]
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answers (-net/http +lean):\n%s", diff)
			}
		})
	}
}

// The context of a request ends when its client goes, and not when it sends on.
func TestLeanClientGone(t *testing.T) {
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	release := make(chan struct{})
	addr, b := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		began <- struct{}{}
		select {
		case <-r.Context().Done():
			ended <- context.Cause(r.Context())
		case <-release:
			_, _ = io.WriteString(w, "released")
		}
	}), true)
	const raw = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	send := func(s string) {
		if _, err := io.WriteString(conn, s); err != nil {
			t.Fatal(err)
		}
	}
	send(raw)
	<-began
	until(t, func() bool { return watched(b.leans[0]) })
	send(raw) // before there is an answer to the first
	for i := range 2 {
		release <- struct{}{}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != "released" {
			t.Errorf("got %q", body)
		}
		if i == 0 {
			<-began
		}
	}
	send(raw)
	<-began
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the context has not ended")
	}
}

// watched reports whether it is being looked whether a client is still there.
func watched(l *leanServer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.mu.Lock()
		watching := c.watching != nil
		c.mu.Unlock()
		if watching {
			return true
		}
	}
	return false
}

// At the end idle connections are closed at once, and those with a request after its answer.
func TestLeanEnds(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	addr, b := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			began <- struct{}{}
			<-release
		}
	}), true)
	open := func(path string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path); err != nil {
			t.Fatal(err)
		}
		return conn, bufio.NewReader(conn)
	}
	_, idle := open("/")
	if _, err := http.ReadResponse(idle, nil); err != nil {
		t.Fatal(err)
	}
	_, busy := open("/wait")
	<-began
	ended := make(chan struct{})
	go func() { defer close(ended); b.end(t.Context()) }()
	if _, err := idle.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection: %v", err)
	}
	close(release)
	resp, err := http.ReadResponse(busy, nil)
	if err != nil || !resp.Close {
		t.Errorf("the busy connection: %v, %v", resp, err)
	}
	<-ended
}

// A connection that is idle for long is closed, sooner when nothing has come on it.
func TestLeanIdle(t *testing.T) {
	for _, served := range []bool{false, true} {
		fresh, idle := 20*time.Millisecond, time.Hour
		if served {
			fresh, idle = idle, fresh
		}
		addr, _ := serveIdle(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), true, idle, func(s *Server) { s.fresh.After = fresh })
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if served {
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		}
		answer, err := io.ReadAll(conn)
		if err != nil || strings.HasPrefix(string(answer), "HTTP/1.1 200") != served {
			t.Errorf("served %v: got %q, %v", served, answer, err)
		}
	}
}
