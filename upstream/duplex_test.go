package upstream

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/telemetry"
)

// A journal is a log that a test looks at.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// answerEarly answers a request once its head has come.
func answerEarly(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	_, _ = io.Copy(io.Discard, r)
}

// TestProxyEarlyAnswer is about an answer that ends before the request has: what is still to come of the request
// is not taken for another one, by whoever reads it, and nothing panics.
func TestProxyEarlyAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ framing, begin, rest string }{
		"length":  {"Content-Length: 100", strings.Repeat("a", 50), "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("a", 15)},
		"chunked": {"Transfer-Encoding: chunked", "32\r\n" + strings.Repeat("a", 50) + "\r\n", "23\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serveRaw(t, answerEarly)
			p := &Proxy{Pool: newPool(t, Options{}, addr)}
			var mu sync.Mutex
			var paths []string
			var said journal
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				paths = append(paths, r.URL.Path)
				mu.Unlock()
				if err := p.Serve(w, r.WithContext(telemetry.NewContext(r.Context(), new(telemetry.Record)))); err != nil {
					p.WriteError(w, r, err)
				}
			}))
			s.Config.ErrorLog = log.New(&said, "", 0)
			s.Start()
			t.Cleanup(s.Close)

			for range 5 {
				c, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(c, "POST /first HTTP/1.1\r\nHost: x\r\n"+tc.framing+"\r\n\r\n"+tc.begin); err != nil {
					t.Fatal(err)
				}
				from := bufio.NewReader(c)
				resp, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "ok" || !resp.Close {
					t.Fatalf("answer %q, %v, closes: %v", got, err, resp.Close)
				}
				_, _ = io.WriteString(c, tc.rest+"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // nobody may be there any more
				if rest, _ := io.ReadAll(from); len(rest) > 0 {
					t.Fatalf("after the answer came %q", rest)
				}
				_ = c.Close()
			}
			s.Close()
			mu.Lock()
			defer mu.Unlock()
			for _, path := range paths {
				if path != "/first" {
					t.Errorf("a request for %s was read", path)
				}
			}
			if strings.Contains(said.String(), "panic") {
				t.Errorf("the server says:\n%s", said.String())
			}
		})
	}
}

// TestProxyEarlyAnswerHTTP2 is the same in HTTP/2, where the connection goes on.
func TestProxyEarlyAnswerHTTP2(t *testing.T) {
	p := &Proxy{Pool: newPool(t, Options{}, serveRaw(t, answerEarly))}
	var mu sync.Mutex
	from := map[string]bool{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr] = true
		mu.Unlock()
		if err := p.Serve(w, r.WithContext(telemetry.NewContext(r.Context(), new(telemetry.Record)))); err != nil {
			p.WriteError(w, r, err)
		}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	for range 5 {
		body, client := io.Pipe()
		resp, err := s.Client().Do(request(t, "POST", s.URL, body))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp); got != "ok" || resp.ProtoMajor != 2 {
			t.Errorf("answer %q in %s", got, resp.Proto)
		}
		_ = client.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(from) != 1 {
		t.Errorf("it took %d connections", len(from))
	}
}

// TestProxyEarlyFailure checks that nothing of a request's body is taken for a request when the upstream breaks off before it has
// all of it, whoever reads the body at that moment.
func TestProxyEarlyFailure(t *testing.T) {
	addr := serveRaw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1)) // something of the request has come; the rest is refused
		_ = c.Close()
	})
	p := &Proxy{Pool: newPool(t, Options{}, addr)}
	var mu sync.Mutex
	var paths []string
	var said journal
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		if err := p.Serve(w, r.WithContext(telemetry.NewContext(r.Context(), new(telemetry.Record)))); err != nil {
			p.WriteError(w, r, err)
		}
	}))
	s.Config.ErrorLog = log.New(&said, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	for i := range 30 {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		begin := strings.Repeat("a", 50)
		if i%2 == 0 {
			begin = "" // the body has not begun
		}
		smuggled := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
		rest := strings.Repeat("a", 100-len(begin)-len(smuggled)) + smuggled
		if _, err := io.WriteString(c, "POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"+begin); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, rest+"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // nobody may be there any more
		from := bufio.NewReader(c)
		if resp, err := http.ReadResponse(from, nil); err == nil && resp.StatusCode != http.StatusBadGateway {
			t.Errorf("answer %s", resp.Status)
		}
		_, _ = io.Copy(io.Discard, from)
		_ = c.Close()
	}
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	for _, path := range paths {
		if path == "/smuggled" {
			t.Error("a part of a body was taken for a request")
		}
	}
	if strings.Contains(said.String(), "panic") {
		t.Errorf("the server says:\n%s", said.String())
	}
}
