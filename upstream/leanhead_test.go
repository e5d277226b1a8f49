package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// A scripted is a connection on which the peer says what was written down.
type scripted struct {
	net.Conn
	r      io.Reader
	closed bool
}

func (s *scripted) Read(b []byte) (int, error)  { return s.r.Read(b) }
func (s *scripted) Write(b []byte) (int, error) { return len(b), nil }
func (s *scripted) Close() error                { s.closed = true; return nil }

// answerOf returns what the lean client makes of the bytes that r yields.
func answerOf(t *testing.T, r io.Reader) (resp *http.Response, body []byte, kept bool, err error) {
	t.Helper()
	c, err := newLeanConn(&scripted{r: r}, &lean{keep: idleConnTimeout, idle: map[string][]*leanConn{}}, "x:1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.client.closeIdle()
	b := &leanBody{conn: c}
	if err := b.head(&http.Request{Method: http.MethodGet}, nil); err != nil {
		return nil, nil, false, err
	}
	body, err = io.ReadAll(b)
	return &b.resp, body, c.client.count == 1, err
}

// What the lean client takes, net/http takes in the same way, and however it is cut into
// reads.
func FuzzLeanAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2;x=y\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3 \r\nabc\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\nx: c\r\n\r\nto the end",
		"HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 1\n\nx",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		resp, body, _, err := answerOf(t, bytes.NewReader(in))
		slow, slowBody, _, slowErr := answerOf(t, iotest.OneByteReader(bytes.NewReader(in)))
		if (err == nil) != (slowErr == nil) || !bytes.Equal(body, slowBody) {
			t.Fatalf("in one read: %q, %v; byte by byte: %q, %v", body, err, slowBody, slowErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(resp.Header, slow.Header); diff != "" {
			t.Fatalf("header (-in one read +byte by byte):\n%s", diff)
		}
		r := bufio.NewReaderSize(bytes.NewReader(in), 64<<10)
		var want *http.Response
		for want == nil || want.StatusCode < 200 {
			if want, err = http.ReadResponse(r, &http.Request{Method: http.MethodGet}); err != nil {
				t.Fatalf("net/http refuses the header: %v", err)
			}
		}
		wantBody, err := io.ReadAll(want.Body)
		if err != nil {
			t.Fatalf("net/http refuses the body: %v", err)
		}
		for name := range want.Header { // it keeps the space before a colon
			if trimmed := strings.TrimRight(name, " "); trimmed != name {
				delete(want.Header, name)
				delete(resp.Header, http.CanonicalHeaderKey(trimmed))
				want.ContentLength, want.Close = resp.ContentLength, resp.Close
				wantBody = body
			}
		}
		delete(want.Header, "Cache-Control") // made of Pragma
		delete(resp.Header, "Cache-Control")
		type answer struct {
			Status          int
			Header, Trailer http.Header
			Length          int64
			Close           bool
			Body            string
		}
		if diff := cmp.Diff(
			answer{want.StatusCode, want.Header, want.Trailer, want.ContentLength, want.Close, string(wantBody)},
			answer{resp.StatusCode, resp.Header, resp.Trailer, resp.ContentLength, resp.Close, string(body)},
		); diff != "" {
			t.Fatalf("answer (-net/http +lean):\n%s", diff)
		}
	})
}

// A request that the lean client writes is read as it was meant, and as net/http writes it.
func TestLeanRequest(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"plain":       {Method: "GET", URL: &url.URL{Path: "/a b", RawQuery: "x=y"}, Host: "example.com:80"},
		"no path":     {Method: "DELETE", URL: &url.URL{Host: "example.com"}},
		"no body":     {Method: "POST", URL: &url.URL{Path: "/"}, Host: "x"},
		"zone":        {Method: "GET", URL: &url.URL{Path: "/"}, Host: "[fe80::1%25eth0]:8080"},
		"punycode":    {Method: "GET", URL: &url.URL{Path: "/"}, Host: "bücher.example"},
		"headers":     {Method: "GET", URL: &url.URL{Path: "/"}, Host: "x", Header: http.Header{"A": {"1", "2 "}, "Bad Name": {"x"}, "Split": {"a\r\nEvil: 1"}}},
		"agent":       {Method: "GET", URL: &url.URL{Path: "/"}, Host: "x", Header: http.Header{"User-Agent": {"me"}}},
		"no agent":    {Method: "GET", URL: &url.URL{Path: "/"}, Host: "x", Header: http.Header{"User-Agent": {""}}},
		"own framing": {Method: "GET", URL: &url.URL{Path: "/"}, Host: "x", Header: http.Header{"Content-Length": {"7"}, "Transfer-Encoding": {"chunked"}, "Host": {"evil"}}},
		"bad host":    {Method: "GET", URL: &url.URL{Path: "/"}, Host: "x\r\nEvil: 1"},
		"bad method":  {Method: "GET / HTTP/1.1\r\nEvil: 1\r\n", URL: &url.URL{Path: "/"}, Host: "x"},
		"bad target":  {Method: "GET", URL: &url.URL{Opaque: "/ HTTP/1.1\r\nEvil: 1\r\n"}, Host: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			wantErr := r.Clone(t.Context()).Write(&buf)
			if strings.HasPrefix(name, "bad") { // it mends some of it, or leaves it to http.Transport
				wantErr = io.EOF
			}
			got, err := appendRequest(nil, r, false)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("error %v, net/http: %v", err, wantErr)
			}
			if err != nil {
				return
			}
			want, err := http.ReadRequest(bufio.NewReader(&buf))
			if err != nil {
				t.Fatal(err)
			}
			read, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(got)))
			if err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if diff := cmp.Diff([]any{want.Method, want.RequestURI, want.Host, want.Header, want.ContentLength},
				[]any{read.Method, read.RequestURI, read.Host, read.Header, read.ContentLength}); diff != "" {
				t.Errorf("request (-net/http +lean):\n%s", diff)
			}
		})
	}
}

// A body that is not as long as the request says is not sent.
func TestLeanRequestLength(t *testing.T) {
	for body, ok := range map[string]bool{"abc": true, "ab": false, "abcd": false} {
		r := request(t, "POST", "http://x/", strings.NewReader(body))
		r.ContentLength = 3
		got, err := appendRequest(nil, r, false)
		if (err == nil) != ok || ok && !bytes.HasSuffix(got, []byte("Content-Length: 3\r\n\r\nabc")) {
			t.Errorf("%q: %v\n%s", body, err, got)
		}
	}
}

// While a stream is silent its connection has no buffer.
func TestLeanStreamAtRest(t *testing.T) {
	said := make(chan string)
	addr := serveRaw(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for s := range said {
			_, _ = io.WriteString(c, s)
		}
		_ = c.Close()
	})
	p := newPool(t, Options{}, addr)
	resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil))
	if err != nil {
		t.Fatal(err)
	}
	body := resp.Body.(*attempt).answer.(*leanBody)
	got := make(chan string)
	go func() {
		defer close(got)
		b := make([]byte, 100)
		for {
			n, err := resp.Body.Read(b)
			if n > 0 {
				got <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	for _, s := range []string{"one", "two"} {
		said <- "3\r\n" + s + "\r\n"
		if v := <-got; v != s {
			t.Errorf("got %q, want %q", v, s)
		}
	}
	said <- "3\r\nth"
	if v := <-got; v != "th" {
		t.Errorf("got %q of a chunk that has not ended", v)
	}
	said <- "r\r\n0\r\n\r\n"
	if v := <-got; v != "r" {
		t.Errorf("got %q of the rest", v)
	}
	<-got
	if body.conn.buf != nil {
		t.Error("the buffer is kept")
	}
	close(said)
}
