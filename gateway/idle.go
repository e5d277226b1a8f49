package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// defaultIdle is how long no byte may move between a client and a service.
const defaultIdle = 5 * time.Minute

var (
	errIdle       = fault.New(fault.UpstreamTimeout, "the upstream was silent for too long")
	errIdleClient = fault.New(fault.RequestTimeout, "the request body came too slowly")
)

// An idleness ends an exchange in which no byte moves, from or to the client. Nil ends none.
type idleness struct {
	life   lifetime.Lifetime // of what is done for the request
	watch  lifetime.Watch
	began  time.Time
	last   atomic.Int64 // when a byte moved, since began
	writer http.ResponseWriter

	reading, writing atomic.Int64 // calls that wait for the client
	answering        atomic.Bool  // the head has gone

	mu   sync.Mutex
	over bool
}

// begin returns the context of an exchange from now on. dog knows for how long nothing may move.
func (i *idleness) begin(ctx context.Context, dog *lifetime.Watchdog, x *exchange) context.Context {
	i.life.Begin(ctx)
	i.began, i.writer = time.Now(), x.writer.ResponseWriter
	x.body.idle, x.writer.idle = i, i
	dog.Start(&i.watch, i.look)
	return &i.life
}

// read reads from the client.
func (i *idleness) read(from io.Reader, b []byte) (int, error) {
	if i == nil {
		return from.Read(b)
	}
	i.reading.Add(1)
	n, err := from.Read(b)
	i.last.Store(int64(time.Since(i.began)))
	i.reading.Add(-1)
	return n, err
}

// write writes to the client.
func (i *idleness) write(to io.Writer, b []byte) (int, error) {
	if i == nil {
		return to.Write(b)
	}
	i.writing.Add(1)
	n, err := to.Write(b)
	i.last.Store(int64(time.Since(i.began)))
	i.writing.Add(-1)
	return n, err
}

// answers notes that the head of the answer goes.
func (i *idleness) answers() {
	if i != nil {
		i.last.Store(int64(time.Since(i.began)))
		i.answering.Store(true)
	}
}

// look ends the exchange if nothing has moved for the time of the watchdog.
func (i *idleness) look() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return
	}
	if left := i.watch.After() - (time.Since(i.began) - time.Duration(i.last.Load())); left > 0 {
		i.watch.ResetTo(left)
		return
	}
	rc := http.NewResponseController(i.writer)
	switch {
	case i.writing.Load() > 0: // it waits for the client
		_ = rc.SetWriteDeadline(time.Unix(1, 0)) // a closed connection needs none
		i.life.End(errIdle)
	case i.reading.Load() > 0 && !i.answering.Load(): // likewise
		_ = rc.SetReadDeadline(time.Unix(1, 0)) // likewise
		i.life.End(errIdleClient)
	default:
		i.life.End(errIdle)
	}
}

// end ends the watch, with the exchange.
func (i *idleness) end() {
	if i == nil {
		return
	}
	i.watch.Stop()
	i.mu.Lock()
	i.over = true
	i.mu.Unlock()
	i.life.End(nil)
}

// An idleConn is a connection that was taken from its server, whose bytes count.
type idleConn struct {
	net.Conn
	from *bufio.Reader // what is read from it
	idle *idleness
}

// hijacked returns a connection that was taken from its server, and its reader and writer.
func (i *idleness) hijacked(conn net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
	if i == nil {
		return conn, rw
	}
	c := &idleConn{conn, rw.Reader, i}
	return c, bufio.NewReadWriter(bufio.NewReader(c), rw.Writer)
}

// Read implements [net.Conn].
func (c *idleConn) Read(b []byte) (int, error) { return c.idle.read(c.from, b) }

// Write implements [net.Conn].
func (c *idleConn) Write(b []byte) (int, error) { return c.idle.write(c.Conn, b) }
