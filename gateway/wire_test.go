package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// textConn is a connection on which text comes in pieces of at most n bytes.
type textConn struct {
	net.Conn
	text io.Reader
	n    int
}

func (c *textConn) Read(b []byte) (int, error) { return c.text.Read(b[:min(len(b), c.n)]) }

func readWire(text string, n int) error {
	w := &wire{Conn: &textConn{text: strings.NewReader(text), n: n}}
	_, err := io.Copy(io.Discard, io.LimitReader(w, 1<<20))
	return err
}

func TestWire(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"several requests", "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\ncGET / HTTP/1.1\r\n\r\n", ""},
		{"empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", ""},
		{"chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\n\n\n\n\r\n0a \r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n", ""},
		{"equal lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n\n", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\x00anything\n", ""},
		{"long line", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n", ""},

		{"length and chunked", "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "the request has both Content-Length and Transfer-Encoding"},
		{"chunked and length", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "the request has both Content-Length and Transfer-Encoding"},
		{"in the second request", "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "the request has both Content-Length and Transfer-Encoding"},
		{"after a body", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab\nGET / HTTP/1.1\r\n\r\n", "a line ends without CR"},
		{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", "a line ends without CR"},
		{"bare LF in the head", "GET / HTTP/1.1\r\nX: a\nHost: a\r\n\r\n", "a line ends without CR"},
		{"bare LF after a long line", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 5000) + "\n\r\n", "a line ends without CR"},
		{"folded line", "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "a header line is folded"},
		{"folded trailer", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\t2\r\n\r\n", "a header line is folded"},
		{"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "the Content-Length is malformed"},
		{"signed length", "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "the Content-Length is malformed"},
		{"list of lengths", "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", "the Content-Length is malformed"},
		{"chunked twice", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "the Transfer-Encoding is not served"},
		{"another coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "the Transfer-Encoding is not served"},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "only HTTP/1.1 has Transfer-Encoding"},
		{"chunk size", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", "a chunk size is malformed"},
		{"chunk with bare LF", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n", "a line ends without CR"},
		{"chunk too long", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "a chunk is longer than it says"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, n := range []int{1, 2, 7, 4096} {
				got := ""
				if err := readWire(tc.text, n); err != nil {
					got = err.Error()
				}
				if got != tc.want {
					t.Errorf("in pieces of %d: %q, want %q", n, got, tc.want)
				}
			}
		})
	}
}

// What the kernel does not take at once is written all the same, in its order.
func TestWireWrites(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Conn: conn, patience: time.Minute}
	var want bytes.Buffer
	for i := range 1 << 20 {
		_, _ = fmt.Fprintln(&want, i)
	}
	go func() {
		for b := want.Bytes(); len(b) > 0; {
			n, err := w.Write(b[:min(len(b), 1<<20)])
			if b = b[n:]; err != nil {
				break // what is missing says so
			}
		}
		_ = w.Close()
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got %d bytes, want %d: %v", len(got), want.Len(), err)
	}
	if n, err := w.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("on the closed connection: %d, %v", n, err)
	}
}

// Whatever bytes come, and in whatever pieces: the wire never frames a message in
// another way than net/http does, which reads behind it.
func FuzzWire(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if readWire(string(text), 3) != nil || bytes.HasPrefix(text, []byte("PRI * HTTP/2.0\r\n")) {
			return
		}
		w := &wire{Conn: &textConn{text: bytes.NewReader(text), n: 1}}
		r := bufio.NewReaderSize(w, 16)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			// One byte at a time, so little can be buffered: when net/http is at the end of a message, so is the wire.
			if r.Buffered() == 0 && w.state != wireStart {
				t.Fatalf("net/http has read a whole request of %q; the wire is in state %d", text, w.state)
			}
		}
	})
}
