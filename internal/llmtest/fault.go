package llmtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Fault is a way in which a provider fails, on the wire.
type Fault struct {
	Name string
	// Stream and Whole say for which answers there is such a fault.
	Stream, Whole bool
	// After says that it comes after the first content, and No that it is no failure of
	// the provider but its answer: with that status.
	After bool
	No    int
	// Slow says that it is only noticed by a clock.
	Slow bool

	refused bool // nobody listens
	do      func(*Wire)
}

// A Wire is a request to a [Faulty], and the connection on which to fail.
type Wire struct {
	Dialect Dialect
	Stream  bool

	conn  net.Conn
	r     *bufio.Reader
	began func() // it was done what is done before the wait
}

// Faults returns all of them.
func Faults() []Fault {
	status := func(status int, header ...string) func(*Wire) {
		return func(w *Wire) {
			w.head(status, "application/json", append(w.beside(status), header...)...)
			w.end(w.Dialect.Error(status, "we are down"))
		}
	}
	both := []Fault{
		{Name: "no connection", refused: true},
		{Name: "closed before the head", do: func(*Wire) {}},
		{Name: "reset before the head", do: (*Wire).reset},
		{Name: "cut in the head", do: func(w *Wire) { w.say("HTTP/1.1 200 OK\r\nContent-Ty") }},
		{Name: "no HTTP", do: func(w *Wire) { w.say("SSH-2.0-OpenSSH_9.2\r\n") }},
		{Name: "silence before the head", Slow: true, do: (*Wire).wait},
		{Name: "408", do: status(408)},
		{Name: "429", do: status(429)},
		{Name: "429, `retry-after` in seconds", do: status(429, "Retry-After: 20")},
		{Name: "429, `retry-after` as a date", do: func(w *Wire) {
			status(429, "Retry-After: "+time.Now().Add(20*time.Second).UTC().Format(http.TimeFormat))(w)
		}},
		{Name: "429, `retry-after-ms`", do: status(429, "Retry-After-Ms: 20000")},
		{Name: "429, `x-ratelimit-reset-requests`", do: status(429, "X-Ratelimit-Remaining-Requests: 0", "X-Ratelimit-Reset-Requests: 20s")},
		{Name: "429, `retry-after` that is none", do: status(429, "Retry-After: soon")},
		{Name: "500", do: status(500)},
		{Name: "502 with a page", do: func(w *Wire) {
			w.head(502, "text/html")
			w.end([]byte("<html>Bad Gateway</html>"))
		}},
		{Name: "503", do: status(503)},
		{Name: "503, `retry-after`", do: status(503, "Retry-After: 20")},
		{Name: "504", do: status(504)},
		{Name: "529", do: status(529)},
		{Name: "a status, and a body that is cut", do: func(w *Wire) {
			w.head(503, "application/json", w.beside(503)...)
			w.chunk([]byte(`{"error":`))
		}},
		{Name: "a page with 200", do: func(w *Wire) {
			w.head(200, "text/html")
			w.end([]byte("<html>"))
		}},
		{Name: "compressed, unasked", do: func(w *Wire) {
			w.head(200, w.Dialect.MediaType(), "Content-Encoding: gzip")
			w.end([]byte("\x1f\x8b\x08"))
		}},
		{Name: "an error with 200", do: func(w *Wire) {
			if w.Stream {
				w.open()
				w.end(w.Dialect.ErrorEvent(500, "we are down"))
				return
			}
			w.head(200, "application/json")
			w.end(w.Dialect.Error(500, "we are down"))
		}},
		{Name: "nothing with 200", do: func(w *Wire) {
			w.open()
			w.end(nil)
		}},
		{Name: "something else with 200", do: func(w *Wire) {
			w.open()
			if w.Stream {
				w.end(w.Dialect.foreign())
			} else {
				w.end([]byte(`{"hello":1}`))
			}
		}},
		{Name: "400", No: 400, do: status(400)},
		{Name: "401", No: 502, do: status(401)},
		{Name: "403", No: 403, do: status(403)},
		{Name: "404", No: 404, do: status(404)},
		{Name: "422", No: 422, do: status(422)},
	}
	for i := range both {
		both[i].Stream, both[i].Whole = true, true
	}
	whole := []Fault{
		{Name: "silence in the body", Slow: true, do: func(w *Wire) {
			w.open()
			w.chunk(w.half())
			w.wait()
		}},
		{Name: "cut in the body", do: func(w *Wire) {
			w.open()
			w.chunk(w.half())
		}},
		{Name: "reset in the body", do: func(w *Wire) {
			w.open()
			w.chunk(w.half())
			w.reset()
		}},
		{Name: "shorter than its content-length", do: func(w *Wire) {
			w.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n" + string(w.half()))
		}},
		{Name: "a part of the body, ended", do: func(w *Wire) {
			w.open()
			w.end(w.half())
		}},
	}
	for i := range whole {
		whole[i].Whole = true
	}
	before := []Fault{
		{Name: "silence before the first event", Slow: true, do: func(w *Wire) {
			w.open()
			w.wait()
		}},
		{Name: "silence before the first content", Slow: true, do: func(w *Wire) {
			w.open()
			w.prelude()
			w.wait()
		}},
		{Name: "cut before the first content", do: func(w *Wire) {
			w.open()
			w.prelude()
		}},
		{Name: "reset before the first content", do: func(w *Wire) {
			w.open()
			w.prelude()
			w.reset()
		}},
		{Name: "ended before the first content", do: func(w *Wire) {
			w.open()
			w.prelude()
			w.end(nil)
		}},
		{Name: "malformed before the first content", do: func(w *Wire) {
			w.open()
			w.prelude()
			w.end(w.Dialect.broken())
		}},
		{Name: "an error before the first content", do: func(w *Wire) {
			w.open()
			w.prelude()
			w.end(w.Dialect.ErrorEvent(529, "we are down"))
		}},
	}
	after := []Fault{
		{Name: "silence after content", Slow: true, do: func(w *Wire) { w.wait() }},
		{Name: "cut after content", do: func(*Wire) {}},
		{Name: "reset after content", do: (*Wire).reset},
		{Name: "ended after content, without its end", do: func(w *Wire) { w.end(nil) }},
		{Name: "malformed after content", do: func(w *Wire) { w.end(w.Dialect.broken()) }},
		{Name: "an error after content", do: func(w *Wire) { w.end(w.Dialect.ErrorEvent(500, "we are down")) }},
	}
	for i := range after {
		then := after[i].do
		after[i].After = true
		after[i].do = func(w *Wire) {
			w.open()
			w.prelude()
			w.content()
			then(w)
		}
	}
	streams := slices.Concat(before, after)
	for i := range streams {
		streams[i].Stream = true
	}
	return slices.Concat(both, whole, streams)
}

// say writes s; a gateway that is gone is no fault.
func (w *Wire) say(s string) { _, _ = io.WriteString(w.conn, s) }

// head begins an answer whose body is chunked. The connection is for one answer only, and
// says so: the next request would race with its end.
func (w *Wire) head(status int, typ string, header ...string) {
	more := ""
	for _, h := range header {
		more += h + "\r\n"
	}
	w.say(fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n%s\r\n", status, http.StatusText(status), typ, more))
}

// beside returns the headers that the dialect has beside an error.
func (w *Wire) beside(status int) (lines []string) {
	h := http.Header{}
	w.Dialect.head(h, status)
	for name, values := range h {
		lines = append(lines, name+": "+values[0])
	}
	return lines
}

// open begins a good answer.
func (w *Wire) open() {
	if w.Stream {
		w.head(200, w.Dialect.MediaType())
	} else {
		w.head(200, "application/json")
	}
}

// chunk writes a part of a body.
func (w *Wire) chunk(b []byte) {
	if len(b) > 0 {
		w.say(fmt.Sprintf("%x\r\n%s\r\n", len(b), b))
	}
}

// end writes the last part of a body.
func (w *Wire) end(b []byte) {
	w.chunk(b)
	w.say("0\r\n\r\n")
}

// half returns the first half of an answer.
func (w *Wire) half() []byte {
	b := w.Dialect.Whole(Broken, nil)
	return b[:len(b)/2]
}

// Broken is what a faulty provider says before it fails. No client may read it of an
// answer that fails before its first content.
var Broken = Answer{Text: "broken"}

// prelude writes the events of a stream before its first content.
func (w *Wire) prelude() {
	for _, e := range w.Dialect.Stream(Broken) {
		if e.Content {
			return
		}
		w.chunk(e.Wire)
	}
}

// content writes the first event that has content.
func (w *Wire) content() {
	for _, e := range w.Dialect.Stream(Broken) {
		if e.Content {
			w.chunk(e.Wire)
			return
		}
	}
}

// wait says nothing until the gateway closes the connection.
func (w *Wire) wait() {
	w.began()
	_, _ = w.r.ReadByte() // nothing comes: the gateway does not write after its request
}

// reset ends the connection by a reset.
func (w *Wire) reset() {
	if c, ok := w.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = w.conn.Close()
}

// A Faulty is a provider on raw sockets that fails. It is safe for concurrent use.
type Faulty struct {
	// Host and Port are where it is.
	Host, Port string
	// Waits gets a value when a fault begins to wait until the gateway gives up, and Left
	// the time at which the gateway did.
	Waits chan struct{}
	Left  chan time.Time

	fault Fault
	l     net.Listener
	fd    int // of a socket on which nobody listens
	wg    sync.WaitGroup
	mu    sync.Mutex
	asked int
	conns []net.Conn
}

// Fail starts a provider that fails at every request, until Close.
func Fail(f Fault) (*Faulty, error) {
	p := &Faulty{fault: f, fd: -1, Host: "127.0.0.1", Waits: make(chan struct{}, 16), Left: make(chan time.Time, 16)}
	if f.refused {
		return p, p.hold()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.l = l
	_, p.Port, _ = net.SplitHostPort(l.Addr().String()) // as started
	p.wg.Go(p.accept)
	return p, nil
}

// hold binds a port on which it does not listen, so that nobody else does either.
func (p *Faulty) hold() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.fd = fd
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	p.Port = fmt.Sprint(at.(*syscall.SockaddrInet4).Port)
	return nil
}

// Close ends it and its connections.
func (p *Faulty) Close() {
	if p.fd >= 0 {
		_ = syscall.Close(p.fd)
		return
	}
	_ = p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Asked returns how often it was asked.
func (p *Faulty) Asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *Faulty) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		p.wg.Go(func() {
			p.serve(c)
			_ = c.Close()
		})
	}
}

// serve takes one request and fails.
func (p *Faulty) serve(c net.Conn) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked++
	p.mu.Unlock()
	w := &Wire{Dialect: Chat, Stream: bytes.Contains(body, []byte(`"stream":true`)), conn: c, r: r}
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/responses"):
		w.Dialect = Responses
	case strings.HasSuffix(path, "/messages"):
		w.Dialect = Messages
	case strings.HasSuffix(path, "/embeddings"):
		w.Dialect = Embeddings
	case strings.HasSuffix(path, ":batchEmbedContents"):
		w.Dialect = Contents
	case strings.HasSuffix(path, "awPredict"):
		w.Dialect, w.Stream = Messages, strings.HasSuffix(path, ":streamRawPredict")
	case strings.Contains(path, "/converse"):
		w.Dialect, w.Stream = Converse, strings.HasSuffix(path, "-stream")
	case strings.Contains(path, "/invoke"):
		w.Dialect, w.Stream = Invoke, strings.HasSuffix(path, "-stream")
	case strings.Contains(path, "enerateContent"):
		w.Dialect, w.Stream = Generate, strings.HasSuffix(path, ":streamGenerateContent")
	}
	waited := false
	w.began = func() {
		waited = true
		select {
		case p.Waits <- struct{}{}:
		default: // nobody counts that many
		}
	}
	p.fault.do(w)
	if waited {
		select {
		case p.Left <- time.Now():
		default:
		}
	}
}
