package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A lean client sends HTTP/1.1 requests whose body is in memory over connections of
// its own, in the goroutine of the caller. It is what most requests to MCP servers and
// LLM providers need: beside http.Transport it saves the two goroutines of each connection
// and the hand-overs between them, a third of what such a request costs. All reading and
// writing of messages is that of net/http ([http.Request.Write], [http.ReadResponse]); all
// that is not this simple case goes through http.Transport.
type lean struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex
	idle   map[string][]*leanConn // by address, the one used last at the end
	count  int
	sweep  *time.Timer // runs while there are idle connections
	closed bool        // since the last request: what comes back is not kept
}

// maxLeanBody bounds the bodies that are written before anything is read: more might
// wait for a peer that wants to be read first.
const maxLeanBody = 64 << 10

// maxInformational bounds the 1xx responses before a response.
const maxInformational = 5

// takes reports whether the lean client can send r.
func (l *lean) takes(r *http.Request) bool {
	if l == nil || r.Close || r.Method == http.MethodConnect || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 {
		return false
	}
	if r.Header["Expect"] != nil || r.Header["Upgrade"] != nil || r.Header["Connection"] != nil {
		return false
	}
	if r.Body == nil || r.Body == http.NoBody {
		return true
	}
	return r.GetBody != nil && r.ContentLength > 0 && r.ContentLength <= maxLeanBody
}

// A leanConn is one connection. One goroutine at a time uses it.
type leanConn struct {
	net.Conn
	client  *lean
	address string
	raw     syscall.RawConn // nil when the connection has none
	r       *bufio.Reader
	w       *bufio.Writer
	left    int64 // bytes that may still be read; see Read
	written int64
	since   time.Time // when it became idle
	reused  bool
}

var errHeaderTooLarge = fmt.Errorf("the header of the response is larger than %d bytes", maxResponseHeader)

// Read implements io.Reader below the buffer: it bounds what is read for a header.
func (c *leanConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLarge
	}
	if int64(len(b)) > c.left {
		b = b[:c.left]
	}
	n, err := c.Conn.Read(b)
	c.left -= int64(n)
	return n, err
}

// Write implements io.Writer below the buffer: it counts.
func (c *leanConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written += int64(n)
	return n, err
}

// get returns an idle connection that is still good, or a new one.
func (l *lean) get(ctx context.Context, address string) (*leanConn, error) {
	for {
		c := l.take(address)
		if c == nil {
			break
		}
		if time.Since(c.since) < idleConnTimeout && c.quiet() {
			c.reused = true
			return c, nil
		}
		_ = c.Conn.Close() // the peer has closed it, or said what nobody asked for
	}
	conn, err := l.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &leanConn{Conn: conn, client: l, address: address}
	if s, ok := conn.(syscall.Conn); ok {
		if c.raw, err = s.SyscallConn(); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	c.r, c.w = bufio.NewReader(c), bufio.NewWriter(c)
	return c, nil
}

// take removes the connection that was used last from the idle ones.
func (l *lean) take(address string) *leanConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = false
	list := l.idle[address]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	l.idle[address] = list[:len(list)-1]
	l.count--
	return c
}

// put gives back a connection on which a response was read to its end.
func (l *lean) put(c *leanConn) {
	c.since = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.count >= maxIdle || len(l.idle[c.address]) >= maxIdlePerHost {
		_ = c.Conn.Close()
		return
	}
	l.idle[c.address] = append(l.idle[c.address], c)
	l.count++
	if l.sweep == nil {
		l.sweep = time.AfterFunc(idleConnTimeout, l.sweepIdle)
	}
}

// sweepIdle closes the connections that were idle for long.
func (l *lean) sweepIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := time.Now().Add(-idleConnTimeout)
	for address, list := range l.idle {
		n := 0 // the first are the oldest
		for n < len(list) && !list[n].since.After(oldest) {
			_ = list[n].Conn.Close()
			n++
		}
		l.count -= n
		if n == len(list) {
			delete(l.idle, address)
			continue
		}
		l.idle[address] = slices.Delete(list, 0, n)
	}
	l.sweep = nil
	if l.count > 0 {
		l.sweep = time.AfterFunc(idleConnTimeout/4, l.sweepIdle)
	}
}

// closeIdle closes all idle connections.
func (l *lean) closeIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.idle {
		for _, c := range list {
			_ = c.Conn.Close()
		}
	}
	clear(l.idle)
	l.count, l.closed = 0, true
	if l.sweep != nil {
		l.sweep.Stop()
		l.sweep = nil
	}
}

// exchange sends a request to an address and returns the response once its header has
// been read. sent says whether a byte of the request may have left, reused whether the connection
// had served before.
func (l *lean) exchange(r *http.Request, address string) (resp *http.Response, sent, reused bool, err error) {
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, false, false, err
	}
	c, err := l.get(ctx, address)
	if err != nil {
		return nil, false, false, err
	}
	before := c.written
	b := &leanBody{conn: c}
	if ctx.Done() != nil {
		b.stop = context.AfterFunc(ctx, c.abort)
	}
	resp, err = c.roundTrip(r)
	sent, reused = c.written != before, c.reused
	if err != nil {
		b.end(false)
		return nil, sent, reused, err
	}
	b.body, b.again = resp.Body, !resp.Close
	if resp.Body == http.NoBody {
		b.end(b.again)
		return resp, sent, reused, nil
	}
	resp.Body = b
	return resp, sent, reused, nil
}

// abort makes whatever is going on on the connection fail at once.
func (c *leanConn) abort() { _ = c.SetDeadline(time.Unix(1, 0)) } // on a closed connection there is nothing to end

func (c *leanConn) roundTrip(r *http.Request) (*http.Response, error) {
	c.left = maxResponseHeader
	if err := r.Write(c.w); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	for range maxInformational + 1 {
		resp, err := http.ReadResponse(c.r, r)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitch
		case resp.StatusCode >= 200:
			c.left = math.MaxInt64
			return resp, nil
		}
	}
	return nil, errInformational
}

var errInformational = errors.New("too many informational responses")

// A leanBody is the body of a response. Read to its end it gives the connection back; closed before,
// it closes it.
type leanBody struct {
	conn  *leanConn
	body  io.ReadCloser
	again bool // the connection can be used again after the body
	mu    sync.Mutex
	ended bool
	stop  func() bool // nil when the request can't be cancelled
}

// Read implements io.Reader.
func (b *leanBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.end(err == io.EOF && b.again)
	}
	return n, err
}

// Close implements io.Closer. It may be called while Read waits, which then fails.
func (b *leanBody) Close() error {
	b.end(false)
	return nil
}

// end lets go of the connection: it is given back when it is good, else closed.
func (b *leanBody) end(good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	c := b.conn
	aborted := b.stop != nil && !b.stop()
	if good && !aborted && c.r.Buffered() == 0 {
		c.client.put(c)
		return
	}
	_ = c.Conn.Close() // it is not used any more either way
}
