package upstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// connections counts the open connections of a server.
type connections struct {
	made, open atomic.Int64
}

func (c *connections) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.made.Add(1)
		c.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	default:
	}
}

// serveCounted starts a server that counts its connections.
func serveCounted(t *testing.T, h http.HandlerFunc) (addr string, c *connections) {
	t.Helper()
	c = new(connections)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = c.state
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), c
}

func until(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test ended before what it waits for")
		}
	}
}

func TestLeanReuses(t *testing.T) {
	addr, c := serveCounted(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-End")
		_, _ = w.Write(b)
		_ = http.NewResponseController(w).Flush() // chunked
		w.Header().Set("X-End", "yes")
	})
	p := newPool(t, Options{}, addr)
	for _, size := range []int{0, 1, 4096, maxLeanBody, maxLeanBody + 1, 10} {
		body := bytes.Repeat([]byte("x"), size)
		r := request(t, "POST", "http://x/", bytes.NewReader(body))
		if lean := p.lean.takes(r); lean != (size <= maxLeanBody) {
			t.Errorf("body of %d bytes: taken %v", size, lean)
		}
		resp, err := p.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp); got != string(body) || resp.Trailer.Get("X-End") != "yes" {
			t.Errorf("body of %d bytes: got %d back, trailer %v", size, len(got), resp.Trailer)
		}
	}
	if n := c.made.Load(); n != 2 {
		t.Errorf("%d connections, want 1 and another for the big body", n)
	}
	p.Close()
	until(t, func() bool { return c.open.Load() == 0 })
}

// Many callers share the connections; none gets the answer of another.
func TestLeanConcurrent(t *testing.T) {
	addr, c := serveCounted(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	p := newPool(t, Options{}, addr)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 100 {
				want := fmt.Sprint(i, " ", j)
				ctx, cancel := context.WithCancel(t.Context())
				r := request(t, "POST", "http://x/", strings.NewReader(want)).WithContext(ctx)
				if j%10 == 9 {
					time.AfterFunc(time.Duration(i*10)*time.Microsecond, cancel)
				}
				resp, err := p.RoundTrip(r)
				if err == nil {
					var b []byte
					b, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err == nil && string(b) != want {
						t.Errorf("got %q, want %q", b, want)
					}
				}
				if err != nil && fault.Of(err).Code != fault.ClientGone {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	p.Close()
	until(t, func() bool { return c.open.Load() == 0 })
}

// A connection that the server has closed while it was idle is not used again.
func TestLeanIdleClosed(t *testing.T) {
	closed := make(chan struct{}, 10)
	addr := serveRaw(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		_ = c.Close()
		closed <- struct{}{}
	})
	p := newPool(t, Options{}, addr)
	for range 5 {
		resp, err := p.RoundTrip(request(t, "POST", "http://x/", strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		<-closed
	}
}

// What a server says unasked is nobody's answer.
func TestLeanUnsolicited(t *testing.T) {
	said := make(chan struct{}, 10)
	addr := serveRaw(t, func(c net.Conn) {
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for n := 1; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
			_, _ = io.WriteString(c, answer+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			said <- struct{}{}
		}
	})
	p := newPool(t, Options{}, addr)
	for i := range 5 {
		want := fmt.Sprint(i)
		resp, err := p.RoundTrip(request(t, "POST", "http://x/", strings.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		<-said
	}
}

// An answer may come before the request is whole, and the connection end before it or after it: what is made of
// it is the same as with http.Transport. A request that was sent is not sent again.
func TestLeanEarly(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, serve := range map[string]func(c net.Conn, r *bufio.Reader){
		"answer before the request is whole": func(c net.Conn, r *bufio.Reader) {
			_, _ = io.WriteString(c, ok)
			_, _ = http.ReadRequest(r)
		},
		"half-closed after the head": func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, ok)
			_ = c.(*net.TCPConn).CloseWrite()
		},
		"half-closed before the answer": func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_ = c.(*net.TCPConn).CloseWrite()
		},
		"half-closed in the head": func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, ok[:20])
			_ = c.(*net.TCPConn).CloseWrite()
		},
		"in pieces": func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			for i := range ok {
				_, _ = io.WriteString(c, ok[i:i+1])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			addr := serveRaw(t, func(c net.Conn) {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				if _, err := r.Peek(1); err == nil {
					requests.Add(1)
					serve(c, r)
					_, _ = io.Copy(io.Discard, r)
				}
			})
			outcome := func(p *Pool) string {
				defer p.Close()
				resp, err := p.RoundTrip(request(t, "POST", "http://x/", bytes.NewReader(make([]byte, maxLeanBody))))
				if err != nil {
					return fault.Of(err).Code.String()
				}
				return fmt.Sprint(resp.StatusCode, readAll(t, resp))
			}
			plain := newPool(t, Options{}, addr)
			plain.lean = nil
			want := outcome(plain)
			if got := outcome(newPool(t, Options{}, addr)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if n := requests.Load(); n != 2 {
				t.Errorf("%d requests, want one of each", n)
			}
		})
	}
}

// Cancelling ends the wait for the header and for the body, and the connection with it.
func TestLeanCancel(t *testing.T) {
	arrived := make(chan struct{}, 2)
	addr, c := serveCounted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	p := newPool(t, Options{}, addr)
	for _, path := range []string{"/header", "/body"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		resp, err := p.RoundTrip(request(t, "GET", "http://x"+path, nil).WithContext(ctx))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil || fault.Of(err).Code != fault.ClientGone {
			t.Errorf("%s: %v, want ClientGone", path, err)
		}
		cancel()
	}
	until(t, func() bool { return c.open.Load() == 0 })
}

// The lean client takes and refuses the same responses as http.Transport.
func TestLeanResponses(t *testing.T) {
	header := func(n int) string {
		return "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", n) + "\r\nContent-Length: 2\r\n\r\nok"
	}
	for name, answer := range map[string]string{
		"length":                  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"chunked":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
		"to the end":              "HTTP/1.1 200 OK\r\n\r\nok",
		"HTTP/1.0":                "HTTP/1.0 200 OK\r\n\r\nok",
		"no body":                 "HTTP/1.1 204 No Content\r\n\r\n",
		"informational":           "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"length and chunked":      "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"two lengths":             "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"equal lengths":           "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"negative length":         "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
		"unknown coding":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
		"bad chunk":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
		"chunk cut off":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
		"length cut off":          "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
		"header cut off":          "HTTP/1.1 200 OK\r\nContent-Le",
		"nothing":                 "",
		"no HTTP":                 "220 mail ready\r\n\r\n",
		"space in a name":         "HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 2\r\n\r\nok",
		"header under the limit":  header(maxResponseHeader - 200),
		"header over the limit":   header(maxResponseHeader + 8192),
		"not asked to switch":     "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"informational for ever":  strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10_000),
		"more than was asked for": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr := serveRaw(t, func(c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, answer)
				}
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			})
			outcome := func(p *Pool) string {
				resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil))
				if err != nil {
					return fault.Of(err).Code.String()
				}
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				p.Close()
				code := ""
				if err != nil {
					code = fault.Of(err).Code.String()
				}
				return fmt.Sprintf("%d %q %d %v %s", resp.StatusCode, b, resp.ContentLength, resp.Trailer, code)
			}
			plain := newPool(t, Options{}, addr)
			plain.lean = nil
			want, got := outcome(plain), outcome(newPool(t, Options{}, addr))
			if name == "not asked to switch" {
				want = fault.UpstreamFailed.String() // the transport leaves that to its caller
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("outcome (-transport +lean):\n%s", diff)
			}
		})
	}
}

// A response that is read without waiting brings what it would bring otherwise; its connection is used again after its
// end, and cancelling or the end of the connection resumes it.
func TestLeanRests(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	more := make(chan string)
	var conns atomic.Int64
	addr := serveRaw(t, func(c net.Conn) {
		conns.Add(1)
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			for text := range more {
				if text == "close" {
					return
				}
				_, _ = io.WriteString(c, text)
				if strings.HasSuffix(text, "0\r\n\r\n") {
					break
				}
			}
		}
	})
	p := newPool(t, Options{}, addr)
	var rests atomic.Int64
	// read reads a body to its end, with rests, and calls rested when it has one.
	read := func(body io.ReadCloser, rested func()) (string, error) {
		var got []byte
		done := make(chan error, 1)
		var resume func()
		resume = func() {
			b := make([]byte, 8)
			for {
				n, err := body.Read(b)
				got = append(got, b[:n]...)
				switch err {
				case nil:
					continue
				case syscall.EAGAIN:
					rests.Add(1)
					rested()
					body.(Rester).Rest(resume)
				default:
					done <- err
				}
				return
			}
		}
		resume()
		err := <-done
		_ = body.Close()
		return string(got), err
	}
	exchange := func(ctx context.Context, first string) io.ReadCloser {
		t.Helper()
		sent := make(chan struct{})
		go func() { defer close(sent); more <- first }()
		resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		<-sent
		if r, ok := resp.Body.(Rester); !ok || r.NoWait() != canRest {
			t.Fatal("it can't rest")
		}
		return resp.Body
	}
	if !canRest {
		return
	}
	pieces := []string{"5\r\nhel", "lo\r\n", "2\r\n, ", "\r\n5\r\nworld\r\n", "0\r\n\r\n"}
	for range 2 {
		rest := pieces
		got, err := read(exchange(t.Context(), head), func() {
			if len(rest) > 0 {
				next := rest[0]
				rest = rest[1:]
				go func() { more <- next }()
			}
		})
		if got != "hello, world" || err != io.EOF {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if conns.Load() != 1 || rests.Load() < 4 {
		t.Errorf("%d connections for two responses, %d rests", conns.Load(), rests.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	if got, err := read(exchange(ctx, head+"2\r\nok"), cancel); got != "ok" || fault.Of(err).Code != fault.ClientGone {
		t.Errorf("cancelled: got %q, %v", got, err)
	}
	more <- "close"
	if got, err := read(exchange(t.Context(), head+"2\r\nok"), sync.OnceFunc(func() { go func() { more <- "close" }() })); got != "ok" || fault.Of(err).Code != fault.UpstreamFailed {
		t.Errorf("broken: got %q, %v", got, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	body := exchange(ctx, head)
	cancel()
	if got, err := read(body, func() {}); got != "" || fault.Of(err).Code != fault.ClientGone {
		t.Errorf("cancelled before: got %q, %v", got, err)
	}
	more <- "close"
}

// Idle connections are closed in time, also when nobody asks for them any more.
func TestLeanSweeps(t *testing.T) {
	addr, c := serveCounted(t, func(http.ResponseWriter, *http.Request) {})
	p := newPool(t, Options{}, addr)
	resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	p.lean.sweepIdle()
	if p.lean.count != 1 {
		t.Errorf("%d idle connections, want the fresh one", p.lean.count)
	}
	p.lean.mu.Lock()
	p.lean.idle[addr][0].since = time.Now().Add(-idleConnTimeout)
	p.lean.mu.Unlock()
	p.lean.sweepIdle()
	if p.lean.count != 0 || p.lean.sweep != nil {
		t.Errorf("%d idle connections, want none and no timer", p.lean.count)
	}
	until(t, func() bool { return c.open.Load() == 0 })
}

func BenchmarkPool(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	}))
	defer s.Close()
	for _, name := range []string{"lean", "transport"} {
		b.Run(name, func(b *testing.B) {
			p := NewPool(Options{}, s.Listener.Addr().String())
			defer p.Close()
			if name == "transport" {
				p.lean = nil
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, err := http.NewRequestWithContext(b.Context(), "POST", "http://x/", strings.NewReader("abc"))
					if err != nil {
						b.Fatal(err)
					}
					resp, err := p.RoundTrip(r)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		})
	}
}
