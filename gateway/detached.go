package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/internal/lookout"
	"github.com/mcpgw/mcpgw/policy"
)

// A detached answer goes on after its handler has returned: an event stream over
// HTTP/1.1 that may be silent for hours. What net/http holds for a request is
// given back while it lasts: the goroutine with the stack of all stations, and the
// buffers of the connection. It is the [http.ResponseWriter] from then on. Its
// writes go out at once, a chunk each; the connection is closed after it.
type detached struct {
	conn     net.Conn
	header   http.Header
	begin    func(ctx context.Context, done func(panicked any))
	server   *Server
	exchange *exchange
	life     lifetime.Lifetime
	port     lifetime.Hook // on the port
	stopPort func() bool
	expiry   *time.Timer   // of the client's credential; nil when it does not end
	watched  chan struct{} // closed when the goroutine that waits for the client has ended; nil without
	lookout  lookout.Watch // where that waits for the client
	left     int           // bytes that the client may still send

	buf    []byte // the head, until it is sent
	wrote  bool   // the head was written, or is in buf
	failed bool
	cut    atomic.Bool // the connection is about to be closed
	over   atomic.Bool // it has ended
}

// maxUnasked bounds what a client may send on the connection of a detached answer,
// after which no request is served (RFC 9112 section 9.6). It is not looked at.
const maxUnasked = 16 << 10

var errClientLeft = fault.New(fault.ClientGone, "the client closed the stream")

// Detach has begin called once the handler has returned, which it must do at once, to begin the answer to the request
// of ctx. It goes on until done is called, once, with what a goroutine of the answer panicked with, or nil.
// The context that begin gets ends when the client has gone, or the port is closed. Detach reports false, and does
// nothing, where the protocol has no connection to give away.
func (w *responseWriter) Detach(ctx context.Context, begin func(ctx context.Context, done func(panicked any))) bool {
	r := w.rec.Request
	if w.wrote || r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.Method == http.MethodHead {
		return false
	}
	header := w.Header()
	conn, _, err := w.Hijack()
	if err != nil {
		return false
	}
	w.wrote = false
	d := &detached{conn: conn, header: header, begin: begin, left: maxUnasked}
	d.life.BeginApart(context.WithoutCancel(ctx))
	if at := policy.Expires(ctx); !at.IsZero() {
		d.expiry = time.AfterFunc(time.Until(at), func() { d.cutOff(errExpired) })
	}
	w.ResponseWriter, w.detached = d, d
	return true
}

// run begins the answer of x.
func (d *detached) run(s *Server, x *exchange, port context.Context) {
	d.server, d.exchange = s, x
	if !d.lookOut() {
		d.watched = make(chan struct{})
		go d.watch()
	}
	d.stopPort = lifetime.AfterFunc(port, &d.port, func() { d.cutOff(errDraining) })
	defer func() {
		if v := recover(); v != nil {
			d.done(v)
		}
	}()
	d.begin(&d.life, d.done)
	d.begin = nil
}

// done ends the answer, once.
func (d *detached) done(panicked any) {
	if d.over.Swap(true) {
		return
	}
	d.stopPort()
	if d.expiry != nil {
		d.expiry.Stop()
	}
	if panicked == nil && d.wrote && (d.life.Err() == nil || d.cut.Load()) {
		_, _ = d.send(append(d.buf, "0\r\n\r\n"...)) // the client may be gone
	}
	d.life.End(nil)
	_ = d.conn.Close()                // likewise
	d.server.lookout.Stop(&d.lookout) // only now nothing can start it again
	if d.watched != nil {
		<-d.watched
	}
	d.server.end(d.exchange, panicked)
}

// lookOut has the lookout wait until the client closes the connection. It reports false where that can't.
func (d *detached) lookOut() bool {
	conn := rawConn(d.conn)
	return conn != nil && d.server.lookout.Start(&d.lookout, conn, d.arrived)
}

// arrived passes over what has come on the connection.
func (d *detached) arrived() {
	if d.skip() && d.lookOut() {
		return
	}
	d.life.End(errClientLeft)
}

// watch waits until the client closes the connection.
func (d *detached) watch() {
	defer close(d.watched)
	var b [64]byte
	for d.left > 0 {
		n, err := d.conn.Read(b[:])
		if err != nil {
			break
		}
		d.left -= n
	}
	d.life.End(errClientLeft)
}

// errExpired ends streams whose client's credential has ended. It is like a client that leaves: it can come
// back with another credential, and what it has begun goes on for so long.
var errExpired = fault.New(fault.ClientGone, "the credential of the client has expired")

// cutOff ends the answer for cause, within the time for last words.
func (d *detached) cutOff(cause error) {
	d.cut.Store(true)
	d.life.End(cause)
	time.AfterFunc(lastWords, func() { _ = d.conn.Close() }) // it is closed for good either way
}

// Header implements [http.ResponseWriter].
func (d *detached) Header() http.Header { return d.header }

// WriteHeader implements [http.ResponseWriter].
func (d *detached) WriteHeader(status int) {
	if d.wrote {
		return
	}
	d.wrote = true
	h := d.header
	h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	h["Connection"] = []string{"close"}
	h["Transfer-Encoding"] = []string{"chunked"}
	b := sliceWriter(append(strconv.AppendInt([]byte("HTTP/1.1 "), int64(status), 10), ' '))
	b = append(append(b, http.StatusText(status)...), "\r\n"...)
	_ = h.Write(&b) // a slice takes it
	d.buf = append(b, "\r\n"...)
	d.header = http.Header{} // it is too late for more
}

type sliceWriter []byte

func (s *sliceWriter) Write(b []byte) (int, error) {
	*s = append(*s, b...)
	return len(b), nil
}

var errWriteFailed = errors.New("an earlier write failed")

// Write implements [http.ResponseWriter].
func (d *detached) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	buf := append(takeBuffer(), d.buf...)
	buf = append(strconv.AppendInt(buf, int64(len(b)), 16), "\r\n"...)
	buf = append(append(buf, b...), "\r\n"...)
	d.buf = nil
	_, err := d.send(buf)
	giveBack(buf)
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (d *detached) send(b []byte) (int, error) {
	if d.failed {
		return 0, errWriteFailed
	}
	n, err := d.conn.Write(b)
	d.failed = err != nil
	return n, err
}

// FlushError implements what [http.ResponseController] flushes with: there is nothing
// held back but a head without a body.
func (d *detached) FlushError() error {
	if len(d.buf) == 0 {
		return nil
	}
	head := d.buf
	d.buf = nil
	_, err := d.send(head)
	return err
}

// SetWriteDeadline implements what [http.ResponseController] calls.
func (d *detached) SetWriteDeadline(t time.Time) error { return d.conn.SetWriteDeadline(t) }
