package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/lookout"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A lean client sends HTTP/1.1 requests whose body is in memory over connections of
// its own, in the goroutine of the caller. It is what most requests to MCP servers and
// LLM providers need: beside http.Transport it saves the two goroutines of each connection
// with their buffers, and the hand-overs between them. It writes a request at once and reads
// an answer by the rules of net/http, to which its tests compare it; all that is not this simple
// case goes through http.Transport.
type lean struct {
	lookout lookout.Lookout // over responses at rest

	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	keep    time.Duration // how long a connection may be idle
	perConn int           // the requests that one serves; 0 is no bound

	mu     sync.Mutex
	idle   map[string][]*leanConn // by address, the one used last at the end
	count  int
	sweep  *time.Timer // runs while there are idle connections
	closed bool        // since the last request: what comes back is not kept
}

// maxLeanBody bounds the bodies that are written before anything is read: more might
// wait for a peer that wants to be read first.
const maxLeanBody = 64 << 10

// maxInformational bounds the 1xx responses before a response: those that tell of progress may be many.
const maxInformational = 32

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

var errHeaderTooLarge = fmt.Errorf("the header of the response is larger than %d bytes", maxResponseHeader)

// errStale says that an idle connection was not good any more, before anything was sent on it.
var errStale = errors.New("the peer has closed the idle connection, or said what nobody asked for")

// get returns an idle connection, or a new one.
func (l *lean) get(ctx context.Context, address string) (*leanConn, error) {
	for {
		c := l.take(address)
		if c == nil {
			break
		}
		if time.Since(c.since) < l.keep {
			c.reused = true
			return c, nil
		}
		_ = c.Conn.Close() // it is not used any more
	}
	conn, err := l.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c, err := newLeanConn(conn, l, address)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
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
	c.served++
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.perConn > 0 && c.served >= l.perConn || l.count >= maxIdle || len(l.idle[c.address]) >= maxIdlePerHost {
		_ = c.Conn.Close()
		return
	}
	l.idle[c.address] = append(l.idle[c.address], c)
	l.count++
	if l.sweep == nil {
		l.sweep = time.AfterFunc(l.keep, l.sweepIdle)
	}
}

// sweepIdle closes the connections that were idle for long.
func (l *lean) sweepIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := time.Now().Add(-l.keep)
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
		l.sweep = time.AfterFunc(l.keep/4, l.sweepIdle)
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

// exchange sends a request to the endpoint of an attempt and returns the response once its header has
// been read. sent says whether a byte of the request may have left, reused whether the connection
// had served before.
func (l *lean) exchange(r *http.Request, a *attempt) (resp *http.Response, sent, reused bool, err error) {
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, false, false, err
	}
	buf := requestBuffers.Get().(*[]byte)
	defer putRequestBuffer(buf)
	if *buf, err = appendRequest((*buf)[:0], r, a.replay); err != nil {
		return nil, false, false, err
	}
	b := new(leanBody)
	var n int
	for {
		if b.conn, err = l.get(ctx, a.endpoint.address); err != nil {
			return nil, false, false, err
		}
		reused = b.conn.reused // once the body has ended the connection is somebody else's
		b.follow(ctx)
		if n, err = b.conn.ask(*buf); err != errStale {
			break
		}
		_ = b.conn.Conn.Close() // it is not used any more
		if b.unfollow() {
			return nil, false, false, ctx.Err()
		}
	}
	if err == nil {
		a.events.Add(telemetry.RequestSent, "")
		err = b.head(r, a.inform)
	}
	if err != nil {
		b.end(false)
		return nil, n > 0, reused, cutOff(err)
	}
	if b.framing == framedEmpty {
		b.end(b.again)
		b.resp.Body = http.NoBody
	}
	return &b.resp, true, reused, nil
}

var (
	errInformational = errors.New("too many informational responses")
	requestBuffers   = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}
)

func putRequestBuffer(b *[]byte) {
	if cap(*b) <= maxLeanBody {
		requestBuffers.Put(b)
	}
}
