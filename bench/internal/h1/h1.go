// Package h1 is a small HTTP/1.1 client that writes prebuilt requests and parses
// just enough of a response to be honest about it. It is cheap on purpose, so
// that the load generator is not what a measurement measures; it is no client for
// anything else: it trusts the server's framing and speaks plain TCP.
package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"time"
)

// A Target is a URL, ready to be dialled and written to.
type Target struct{ Addr, Path string }

// Parse reads an http URL with a port.
func Parse(raw string) (Target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Target{}, err
	}
	if u.Scheme != "http" || u.Port() == "" {
		return Target{}, fmt.Errorf("%s: want http://HOST:PORT/PATH", raw)
	}
	return Target{Addr: u.Host, Path: u.RequestURI()}, nil
}

// Request returns the bytes of one request. Each header is a line without its
// end; a nil body sends none.
func (t Target) Request(method string, header []string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, t.Path, t.Addr)
	for _, h := range header {
		b.WriteString(h)
		b.WriteString("\r\n")
	}
	if body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// A Conn is one keep-alive connection, dialled on first use and again after an
// error or a close. It is not safe for concurrent use.
type Conn struct {
	// Blocking makes reads and writes plain blocking system calls, past Go's
	// network poller: for a goroutine with a thread of its own, whose wake-up
	// must not wait for another's.
	Blocking bool

	target  Target
	timeout time.Duration
	conn    net.Conn
	r       *bufio.Reader
	body    []byte
	first   time.Time
}

// NewConn returns a connection to t whose requests may take as long as timeout.
func NewConn(t Target, timeout time.Duration) *Conn { return &Conn{target: t, timeout: timeout} }

// Close drops the connection.
func (c *Conn) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is lost: every answer was read
		c.conn = nil
	}
}

func (c *Conn) dial() error {
	conn, err := net.DialTimeout("tcp", c.target.Addr, c.timeout)
	if err != nil {
		return err
	}
	if c.Blocking {
		if conn, err = newBlocking(conn, c.timeout); err != nil {
			return err
		}
	}
	c.conn, c.r = conn, bufio.NewReaderSize(conn, 8<<10) // session ids may be 4 KiB long
	return nil
}

// A Response is what a request got.
type Response struct {
	Status  int
	Session string    // Mcp-Session-Id
	SSE     bool      // the body is an event stream
	First   time.Time // when the first chunk of a chunked body was there
	Body    []byte    // valid until the next Do
}

// Do writes req and reads the whole response.
func (c *Conn) Do(req []byte) (Response, error) {
	r, f, err := c.start(req)
	if err == nil {
		err = c.readBody(f, r.Status)
		r.Body, r.First = c.body, c.first
	}
	if err != nil || !f.keep {
		c.Close()
	}
	return r, err
}

// Open writes req and reads the head of the response only: its body is held open
// until Close.
func (c *Conn) Open(req []byte) (Response, error) {
	r, _, err := c.start(req)
	if err != nil {
		c.Close()
		return r, err
	}
	return r, c.conn.SetDeadline(time.Time{})
}

// Await reads the body of a response that [Conn.Open] holds open until a line contains
// s, or the deadline.
func (c *Conn) Await(s string, deadline time.Time) error {
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.Contains(line, []byte(s)) {
			return nil
		}
	}
}

// start writes req and reads the head of the final response.
func (c *Conn) start(req []byte) (r Response, f framing, err error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return Response{}, framing{}, err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return Response{}, framing{}, err
	}
	if _, err := c.conn.Write(req); err != nil {
		return Response{}, framing{}, err
	}
	for r.Status < 200 {
		if r, f, err = c.readHead(); err != nil {
			break
		}
	}
	return r, f, err
}

// A framing says how long a body is and what becomes of the connection.
type framing struct {
	length        int // -1: until the end, unless chunked
	chunked, keep bool
}

func (c *Conn) readHead() (r Response, f framing, err error) {
	f = framing{length: -1, keep: true}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return r, f, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return r, f, errors.New("short status line")
	}
	if r.Status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return r, f, err
	}
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return r, f, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return r, f, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "content-length"):
			if f.length, err = strconv.Atoi(string(value)); err != nil {
				return r, f, err
			}
		case is(name, "mcp-session-id"):
			r.Session = string(value)
		case is(name, "transfer-encoding"):
			f.chunked = is(value, "chunked")
		case is(name, "connection"):
			f.keep = f.keep && !is(value, "close")
		case is(name, "content-type"):
			r.SSE = bytes.HasPrefix(value, []byte("text/event-stream"))
		}
	}
}

// is reports whether b is s, whatever the case of its letters.
func is(b []byte, s string) bool { return len(b) == len(s) && bytes.EqualFold(b, []byte(s)) }

// readBody reads the body into c.body.
func (c *Conn) readBody(f framing, status int) (err error) {
	c.body, c.first = c.body[:0], time.Time{}
	switch {
	case f.chunked:
		for {
			line, err := c.r.ReadSlice('\n')
			if err != nil {
				return err
			}
			n, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 31)
			if err != nil {
				return err
			}
			if err := c.take(int(n)); err != nil {
				return err
			}
			if c.first.IsZero() {
				c.first = time.Now()
			}
			if _, err := c.r.Discard(len("\r\n")); err != nil || n == 0 {
				return err
			}
		}
	case f.length >= 0:
		return c.take(f.length)
	case status == 204 || status == 304:
		return nil
	default:
		var b []byte
		b, err = io.ReadAll(c.r)
		c.body = append(c.body, b...)
		c.Close()
		return err
	}
}

// take reads n bytes of body.
func (c *Conn) take(n int) error {
	start := len(c.body)
	if cap(c.body) < start+n {
		c.body = append(make([]byte, 0, 2*(start+n)), c.body...)
	}
	c.body = c.body[:start+n]
	_, err := io.ReadFull(c.r, c.body[start:])
	return err
}
