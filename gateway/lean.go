package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// A leanServer serves the most common request over HTTP/1.1, a POST with a small body whose
// head comes in one piece, with the goroutine of the connection alone: net/http starts
// another with each request, to hear of a client that leaves. Here that is looked at once a
// request takes longer than a moment. A connection on which anything else arrives is handed to
// net/http with what has been read of it, for good. What a [wire] refuses never gets here.
type leanServer struct {
	server  *Server
	handler http.Handler
	base    context.Context   // ends when the port is closed
	idle    lifetime.Watchdog // over idle connections; without a time they are kept

	listener net.Listener
	rest     chan net.Conn // connections for net/http
	done     chan struct{}
	once     sync.Once

	closing atomic.Bool // answers say that the connection ends

	ending  atomic.Bool // connections are not kept; set with the lock held
	mu      sync.Mutex
	conns   map[*leanConn]struct{}
	changed chan struct{} // capacity 1: has a token when a connection has gone
}

const (
	leanHead = 4 << 10  // bytes of a head, with what comes with it
	leanBody = 64 << 10 // bytes of a body
	leanHold = 64 << 10 // bytes of an answer that are held back
	// leanMoment is after which a client is watched. What it began is given up within 50 ms of
	// its leaving, whenever that is.
	leanMoment = 20 * time.Millisecond
)

func newLeanServer(s *Server, l net.Listener, h http.Handler, base context.Context, idle time.Duration) *leanServer {
	return &leanServer{server: s, handler: h, base: base, idle: lifetime.Watchdog{After: idle}, listener: l, rest: make(chan net.Conn), done: make(chan struct{}),
		conns: map[*leanConn]struct{}{}, changed: make(chan struct{}, 1)}
}

// Accept implements [net.Listener] for net/http.
func (l *leanServer) Accept() (net.Conn, error) {
	for {
		select {
		case c := <-l.rest:
			return c, nil
		case <-l.done:
			return nil, net.ErrClosed
		}
	}
}

// Addr implements [net.Listener].
func (l *leanServer) Addr() net.Addr { return l.listener.Addr() }

// Close implements [net.Listener]: it ends the accepting of connections.
func (l *leanServer) Close() error {
	l.closing.Store(true)
	l.once.Do(func() { close(l.done) })
	return l.listener.Close()
}

// run accepts connections until the listener is closed.
func (l *leanServer) run() {
	defer l.once.Do(func() { close(l.done) })
	var pause time.Duration
	for {
		c, err := l.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			l.begin(c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, say: as net/http does
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-l.done:
				return
			}
		}
	}
}

// begin serves a connection, if it can be of HTTP/1.1.
func (l *leanServer) begin(conn net.Conn) {
	w, ok := conn.(*wire)
	if !ok || w.opaque.Load() {
		go l.hand(conn)
		return
	}
	c := &leanConn{lean: l, wire: w, remote: w.RemoteAddr().String()}
	c.onQuiet, c.onSlow = c.closeIdle, c.watch
	l.mu.Lock()
	ending := l.ending.Load()
	if !ending {
		l.conns[c] = struct{}{}
	}
	l.mu.Unlock()
	if ending {
		_ = w.Close() // nobody is served any more
		return
	}
	go c.serve()
}

// hand gives a connection to net/http.
func (l *leanServer) hand(conn net.Conn) {
	select {
	case l.rest <- conn:
	case <-l.done:
		_ = conn.Close() // nobody is served any more
	}
}

// end closes the connections, those with a request once it has ended or ctx has.
func (l *leanServer) end(ctx context.Context) {
	l.closing.Store(true)
	l.mu.Lock()
	l.ending.Store(true)
	for c := range l.conns {
		c.closeIdle()
	}
	l.mu.Unlock()
	for l.open() > 0 {
		select {
		case <-l.changed:
			continue
		case <-ctx.Done():
		}
		break
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.wire.Close() // the time is up
	}
}

func (l *leanServer) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// A leanConn is one connection of a leanServer.
type leanConn struct {
	lean   *leanServer
	wire   *wire
	remote string
	life   lifetime.Lifetime

	buf      []byte
	pos, end int
	header   http.Header    // of one answer after the other: none is touched once its handler has returned
	served   bool           // a request has come
	state    atomic.Int32   // leanBusy, leanIdle or leanGone
	quiet    lifetime.Watch // over the idle connection
	onQuiet  func()         // what that calls, made once
	slow     lifetime.Watch // over the request
	onSlow   func()         // likewise

	mu       sync.Mutex // guards these
	request  *leanRequest
	watching chan struct{} // closed when the reader that looks for the end has ended
}

// The states of a leanConn.
const (
	leanBusy int32 = iota
	leanIdle       // no request is being served
	leanGone       // it was closed while it was idle
)

// serve serves requests until the connection ends or is net/http's.
func (c *leanConn) serve() {
	l := c.lean
	c.life.Begin(connContext(l.base, c.wire))
	c.buf, c.header = make([]byte, leanHead), make(http.Header, 8)
	ours := c.loop()
	c.quiet.Stop()
	c.life.End(nil)
	if ours {
		_ = c.wire.Close() // the peer knows, or is gone
	} else {
		c.wire.unread = c.buf[c.pos:c.end]
		l.hand(c.wire)
	}
	// Only now: who waits for the last connection waits for its end.
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// loop serves requests. It reports false once net/http is to go on.
func (c *leanConn) loop() (ours bool) {
	for {
		if c.pos == c.end {
			switch err := c.await(); {
			case err == nil:
			case c.wire.err != nil:
				return false // it knows what to say
			default:
				return true
			}
		}
		r := c.parse()
		if r == nil {
			return false
		}
		c.served = true
		if !c.respond(r) {
			return true
		}
	}
}

// await reads the beginning of a request.
func (c *leanConn) await() error {
	l := c.lean
	c.state.Store(leanIdle) // before it is looked whether the server ends, which is noted before it is looked who is idle
	if l.ending.Load() {
		c.closeIdle()
	}
	patience := &l.idle
	if !c.served {
		patience = &l.server.fresh
	}
	if patience.After > 0 {
		patience.Start(&c.quiet, c.onQuiet)
	}
	if c.served {
		// Others first: under load the next request is there by then, which saves
		// a read that finds nothing and the wait after it. At rest this costs nothing.
		runtime.Gosched()
	}
	n, err := c.wire.Read(c.buf)
	c.quiet.Stop()
	if !c.state.CompareAndSwap(leanIdle, leanBusy) {
		return net.ErrClosed
	}
	if c.pos, c.end = 0, n; n > 0 {
		return nil
	}
	return err
}

// closeIdle closes the connection if it is idle.
func (c *leanConn) closeIdle() {
	if c.state.CompareAndSwap(leanIdle, leanGone) {
		_ = c.wire.Close() // its reader ends
	}
}

// A leanRequest is a request that is being served: its context, its body, and the answer to it.
type leanRequest struct {
	*http.Request
	life lifetime.Lifetime
	body leanRequestBody
	w    leanWriter
}

// parse returns the request in the buffer, nil unless it is one to be served here.
func (c *leanConn) parse() *leanRequest {
	b := c.buf[c.pos:c.end]
	n := bytes.Index(b, []byte("\r\n\r\n"))
	if n < 0 || !bytes.HasPrefix(b, []byte("POST /")) {
		return nil
	}
	head := string(b[:n+2])
	line, fields, _ := strings.Cut(head, "\r\n")
	target, proto, ok := strings.Cut(line[len("POST "):], " ")
	if !ok || proto != "HTTP/1.1" {
		return nil
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil
	}
	h, host, length := leanHeader(fields)
	if h == nil || length > leanBody {
		return nil
	}
	c.pos += n + 4
	r := &leanRequest{}
	r.life.Begin(&c.life)
	r.Request = (&http.Request{
		Method: http.MethodPost, URL: u, Proto: proto, ProtoMajor: 1, ProtoMinor: 1, Header: h,
		ContentLength: length, Host: host, RemoteAddr: c.remote, RequestURI: target, Body: http.NoBody,
	}).WithContext(&r.life)
	if r.body.conn, r.body.left = c, length; length > 0 {
		r.Body = &r.body
	} else {
		r.body.whole.Store(true)
	}
	r.w.conn, r.w.body, r.w.header, r.w.declared = c, &r.body, c.header, -1
	return r
}

// leanHeader reads header lines. It returns no header when there is something among them
// that net/http is to see.
func leanHeader(fields string) (h http.Header, host string, length int64) {
	lines := strings.Count(fields, "\n")
	h = make(http.Header, lines) // which is also what there is with X-Request-Id, and without Host
	values := make([]string, lines)
	hosts, lengths := 0, 0
	for fields != "" {
		line, rest, ok := strings.Cut(fields, "\r\n")
		if !ok {
			return nil, "", 0
		}
		fields = rest
		colon := strings.IndexByte(line, ':')
		if colon < 1 {
			return nil, "", 0
		}
		name, value := line[:colon], textproto.TrimString(line[colon+1:])
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, "", 0
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") { // which says nothing in HTTP/1.1
				return nil, "", 0
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma", "Http2-Settings", "Proxy-Connection", "Keep-Alive":
			return nil, "", 0
		case "Host":
			hosts++
			host = value
			continue
		case "Content-Length":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return nil, "", 0
			}
			lengths++
			length = int64(n)
		}
		have, twice := h[name]
		switch {
		case twice:
			h[name] = append(have, value)
		case len(values) > 0:
			values[0] = value
			h[name], values = values[:1:1], values[1:]
		default:
			h[name] = []string{value}
		}
	}
	if hosts != 1 || lengths != 1 || !httpguts.ValidHostHeader(host) {
		return nil, "", 0
	}
	return h, host, length
}

// respond has the handler answer r. It reports false when the connection is to be closed.
func (c *leanConn) respond(r *leanRequest) (goesOn bool) {
	c.mu.Lock()
	c.request = r
	c.mu.Unlock()
	c.lean.server.moments.Start(&c.slow, c.onSlow)
	defer func() {
		v := recover()
		c.slow.Stop()
		goesOn = c.unwatch() && v == nil && goesOn
		r.life.End(nil)
		if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			c.lean.server.logger.Error("serving a connection panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
	}()
	c.lean.handler.ServeHTTP(&r.w, r.Request)
	err := r.w.finish()
	clear(c.header)
	return r.body.drop() && err == nil && !r.w.close
}

// watch looks whether the client is still there, once a request has taken a moment: a
// reader waits for what comes next, which as a rule is nothing before the answer.
func (c *leanConn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.request
	switch {
	case r == nil || c.watching != nil:
		return
	case !r.body.whole.Load(): // its reader hears of it
		c.slow.Reset()
		return
	case c.pos < c.end || c.end == len(c.buf):
		return // it has sent on already: it is still there
	}
	done := make(chan struct{})
	c.watching = done
	go func() {
		defer close(done)
		n, err := c.wire.Read(c.buf[c.end:])
		c.end += n
		if n == 0 && err != nil && !isTimeout(err) {
			r.life.End(errClientLeft)
		}
	}()
}

// unwatch ends what watch began. It reports false when the connection has ended.
func (c *leanConn) unwatch() bool {
	c.mu.Lock()
	c.request = nil
	done := c.watching
	c.watching = nil
	c.mu.Unlock()
	if done == nil {
		return true
	}
	if c.wire.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	<-done
	return c.wire.SetReadDeadline(time.Time{}) == nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// A leanRequestBody is the body of a leanRequest: what came with the head, and what follows.
type leanRequestBody struct {
	conn  *leanConn
	left  int64
	whole atomic.Bool // all of it was read
	err   error
}

// Read implements [io.Reader].
func (b *leanRequestBody) Read(p []byte) (n int, err error) {
	c := b.conn
	switch {
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	}
	p = p[:min(int64(len(p)), b.left)]
	if c.pos < c.end {
		n = copy(p, c.buf[c.pos:c.end])
		c.pos += n
	} else {
		n, err = c.wire.Read(p)
	}
	b.left -= int64(n)
	switch {
	case b.left == 0:
		b.err = io.EOF
		b.whole.Store(true)
	case err == io.EOF:
		b.err = io.ErrUnexpectedEOF
	case err != nil && !isTimeout(err):
		b.err = err
	default:
		return n, err
	}
	return n, b.err
}

// Close implements [io.Closer].
func (b *leanRequestBody) Close() error { return nil }

// there reports whether what was not read of the body has arrived.
func (b *leanRequestBody) there() bool {
	return b.whole.Load() || b.left <= int64(b.conn.end-b.conn.pos)
}

// drop passes over what was not read of the body. It reports false when that is not there: nobody
// knows where the next request begins.
func (b *leanRequestBody) drop() bool {
	if b.whole.Load() {
		return true
	}
	if !b.there() {
		return false
	}
	b.conn.pos += int(b.left)
	b.left = 0
	return true
}
