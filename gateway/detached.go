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
	"github.com/mcpgw/mcpgw/policy"
)

// A detached answer goes on after its handler has returned: an event stream over
// HTTP/1.1 that may be silent for hours. What net/http holds for a request is
// given back while it lasts: the goroutine with the stack of all stations, and the
// buffers of the connection. It is the [http.ResponseWriter] from then on. Its
// writes go out at once, a chunk each; the connection is closed after it.
type detached struct {
	conn   net.Conn
	header http.Header
	serve  func(context.Context)
	ctx    context.Context
	cancel context.CancelCauseFunc
	expiry *time.Timer // of the client's credential; nil when it does not end

	buf    []byte // what is written next
	wrote  bool   // the head was written, or is in buf
	failed bool
	cut    atomic.Bool // the connection is about to be closed
}

const (
	// maxUnasked bounds what a client may send on the connection of a detached answer,
	// after which no request is served (RFC 9112 section 9.6). It is not looked at.
	maxUnasked = 16 << 10
	// keepChunk bounds the buffer that is kept between two writes.
	keepChunk = 1 << 10
)

var errClientLeft = fault.New(fault.ClientGone, "the client closed the stream")

// Detach has serve write the answer to the request of ctx once the handler has
// returned, which it must do at once. The context that serve gets ends when the
// client has gone, or the port is closed. Detach reports false, and does nothing, where
// the protocol has no connection to give away.
func (w *responseWriter) Detach(ctx context.Context, serve func(ctx context.Context)) bool {
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
	d := &detached{conn: conn, header: header, serve: serve}
	d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if at := policy.Expires(ctx); !at.IsZero() {
		d.expiry = time.AfterFunc(time.Until(at), func() { d.cutOff(errExpired) })
	}
	w.ResponseWriter, w.detached = d, d
	return true
}

// run serves the answer of x to its end.
func (d *detached) run(s *Server, x *exchange, port context.Context) {
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch()
	}()
	stop := context.AfterFunc(port, func() { d.cutOff(errDraining) })
	defer func() {
		v := recover()
		stop()
		if d.expiry != nil {
			d.expiry.Stop()
		}
		d.end(v == nil)
		<-watched
		s.end(x, v)
	}()
	d.serve(d.ctx)
}

// watch waits until the client closes the connection.
func (d *detached) watch() {
	var b [64]byte
	for left := maxUnasked; left > 0; {
		n, err := d.conn.Read(b[:])
		if err != nil {
			break
		}
		left -= n
	}
	d.cancel(errClientLeft)
}

// errExpired ends streams whose client's credential has ended. It is like a client that leaves: it can come
// back with another credential, and what it has begun goes on for so long.
var errExpired = fault.New(fault.ClientGone, "the credential of the client has expired")

// cutOff ends the answer for cause, within the time for last words.
func (d *detached) cutOff(cause error) {
	d.cut.Store(true)
	d.cancel(cause)
	time.AfterFunc(lastWords, func() { _ = d.conn.Close() }) // it is closed for good either way
}

// end ends the answer, which is whole if nothing went wrong, and closes the connection.
func (d *detached) end(whole bool) {
	if whole && d.wrote && (d.ctx.Err() == nil || d.cut.Load()) {
		_, _ = d.send(append(d.buf, "0\r\n\r\n"...)) // the client may be gone
	}
	d.cancel(nil)
	_ = d.conn.Close() // likewise
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
	buf := strconv.AppendInt(d.buf, int64(len(b)), 16)
	buf = append(append(append(buf, "\r\n"...), b...), "\r\n"...)
	if _, err := d.send(buf); err != nil {
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
	if d.buf = b[:0]; cap(b) > keepChunk {
		d.buf = nil
	}
	return n, err
}

// FlushError implements what [http.ResponseController] flushes with: there is nothing
// held back but a head without a body.
func (d *detached) FlushError() error {
	if len(d.buf) == 0 {
		return nil
	}
	_, err := d.send(d.buf)
	return err
}

// SetWriteDeadline implements what [http.ResponseController] calls.
func (d *detached) SetWriteDeadline(t time.Time) error { return d.conn.SetWriteDeadline(t) }
