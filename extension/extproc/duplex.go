package extproc

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A kept is what was sent in the mode FullDuplex while nothing has come back: nobody else has it. Once something has come back,
// nobody can tell what of it is missing.
type kept struct {
	bytes []byte
	lost  bool // it was more than is held
	begun bool // something of the body has come back
}

func (k *kept) add(p []byte) {
	switch {
	case k.begun || k.lost:
	case len(k.bytes)+len(p) > maxHeld:
		k.bytes, k.lost = nil, true
	default:
		k.bytes = append(k.bytes, p...)
	}
}

// answered notes that something has come back.
func (k *kept) answered() { k.bytes, k.begun = nil, true }

// whole reports whether it is all that was sent.
func (k *kept) whole() bool { return !k.begun && !k.lost }

// requestInDuplex takes a request through the processor in the mode FullDuplex: its body is sent while the answer to its head is
// waited for, which may come once the processor has all.
func (x *exchange) requestInDuplex(w http.ResponseWriter, r *http.Request, heads bool) (*http.Request, error) {
	if r.ProtoMajor == 1 {
		// Without this net/http would take the rest of the request away when the answer begins.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return nil, failed(err)
		}
	}
	c, err := x.connected()
	if c == nil {
		return r, err
	}
	in := &c.inboxes[request]
	in.flow()
	if heads {
		c.send(x.requestHead(r, false))
	}
	d := &duplexReader{x: x, conn: c, in: in, from: r.Body, trailer: &r.Trailer, broken: make(chan struct{}), done: make(chan struct{})}
	x.pump, x.waits = d, true
	go d.run()
	out := r
	if heads {
		a, err := x.receive(c, in, d.broken)
		switch {
		case err != nil:
			return nil, d.reason(err)
		case a == nil: // it goes on without the processor
		case kindOf(a) != headers:
			if err := x.wrong(errOtherKind); err != nil {
				return nil, err
			}
		default:
			x.override(a.GetModeOverride(), request)
			changed, replaced, err := x.changeRequest(r, a)
			if err != nil {
				return nil, err
			}
			if out = changed; replaced {
				in.close() // what comes of the body is nobody's
				return out, nil
			}
		}
	}
	return withBody(out, d, -1), nil
}

// A duplexReader is the body of a request in the mode FullDuplex. Its goroutine sends what the client does; what is read of it
// is what comes back.
type duplexReader struct {
	x       *exchange
	conn    *conn
	in      *inbox
	from    io.ReadCloser
	trailer *http.Header
	broken  chan struct{} // closed when the client's body did not end well
	done    chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	kept    kept
	err     error // how the client's body ended; nil if nobody has seen its end
	stopped bool

	out  []byte
	tail error // what follows out
	raw  bool  // nothing more comes back
}

// run sends the body until it ends or nobody wants it.
func (d *duplexReader) run() {
	defer close(d.done)
	buf := make([]byte, chunk)
	for {
		n, err := d.from.Read(buf)
		d.mu.Lock()
		d.kept.add(buf[:n])
		d.err = err
		stopped := d.stopped
		d.mu.Unlock()
		last := err == io.EOF && len(*d.trailer) == 0
		if n > 0 || last {
			d.conn.send(ofBody(request, append([]byte(nil), buf[:n]...), last))
		}
		if err == io.EOF && !last {
			d.conn.send(ofTrailers(request, *d.trailer))
		}
		if err != nil && err != io.EOF {
			close(d.broken)
		}
		select {
		case <-d.conn.ended:
			return
		default:
		}
		if err != nil || stopped || d.x.isOver() {
			return
		}
	}
}

// Read implements [io.Reader].
func (d *duplexReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.out) == 0 {
		if d.tail != nil {
			return 0, d.tail
		}
		if d.raw {
			return d.rest(p)
		}
		d.next()
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// next gets what comes back next.
func (d *duplexReader) next() {
	a, err := d.x.receive(d.conn, d.in, d.broken)
	switch {
	case err != nil:
		d.tail = d.reason(err)
	case a == nil:
		d.replay()
	case kindOf(a) == trailers && *d.trailer == nil:
		d.tail = d.x.lost(errUnasked)
	case kindOf(a) == trailers:
		if err := d.x.changeTrailers(a, *d.trailer); err != nil {
			d.tail = err
			return
		}
		d.tail = io.EOF
	case kindOf(a) == body:
		s := common(a).GetBodyMutation().GetStreamedResponse()
		d.mu.Lock()
		d.kept.answered()
		d.mu.Unlock()
		if d.out = s.GetBody(); s.GetEndOfStream() {
			d.tail = io.EOF
		}
	default:
		d.tail = d.x.wrong(errOtherKind)
		if d.tail == nil {
			d.replay()
		}
	}
}

// reason returns the error that err is for whoever reads.
func (d *duplexReader) reason(err error) error {
	if err != errBroken { //nolint:errorlint // it is not wrapped
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return unreadable(d.err)
}

// replay goes on with what was sent, and then with the client's body as it comes.
func (d *duplexReader) replay() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.kept.whole() {
		d.tail = d.x.lost(d.conn.err)
		return
	}
	d.raw, d.out = true, d.kept.bytes
	d.kept.bytes = nil
}

// rest reads what the client sends after what was replayed.
func (d *duplexReader) rest(p []byte) (int, error) {
	<-d.done // what it was reading is kept
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.kept.bytes) > 0 {
		n := copy(p, d.kept.bytes)
		d.kept.bytes = d.kept.bytes[n:]
		return n, nil
	}
	if d.err != nil {
		return 0, d.err
	}
	return d.from.Read(p)
}

// Close implements [io.Closer]. The client's body is closed by whoever serves it.
func (d *duplexReader) Close() error {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	d.in.close()
	return nil
}

// stop ends the sending: the request is answered.
func (d *duplexReader) stop(w http.ResponseWriter) {
	_ = d.Close() // it does not fail
	select {
	case <-d.done:
		return
	default:
	}
	d.x.finish()
	d.conn.cut()
	w.Header()["Connection"] = []string{"close"}                       // if the head has not gone: nobody knows where the next request begins
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // a closed connection needs none
	<-d.done
}

// A duplexWriter takes an answer through the processor in the mode FullDuplex. Its goroutine sends on what comes back, the head
// first.
type duplexWriter struct {
	a    *answer
	to   *answer // as far as the goroutine has sent it on; its own until done is closed
	conn *conn
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // held while something is sent on
	kept    kept
	trailer http.Header
	raw     bool  // nothing more comes back
	err     error // nothing more goes on; io.EOF: all has
}

// newDuplexWriter begins with the head, which the processor sees if heads. From here on what is written to the head are trailers.
func newDuplexWriter(a *answer, heads bool) *duplexWriter {
	d := &duplexWriter{a: a, done: make(chan struct{})}
	delete(a.head, "Content-Length")
	own := *a
	d.to = &own
	d.to.head = a.head.Clone()
	d.conn, d.err = a.x.connected()
	if d.conn == nil {
		d.raw = true
		if d.err == nil {
			d.to.commit()
		}
		close(d.done)
		return d
	}
	in := &d.conn.inboxes[response]
	in.flow()
	if heads {
		d.conn.send(a.headMessage())
	} else {
		d.to.commit()
		_ = http.NewResponseController(a.w).Flush() // a client that is gone is noticed
	}
	go d.run(in, heads)
	return d
}

// run sends on what comes back.
func (d *duplexWriter) run(in *inbox, heads bool) {
	defer close(d.done)
	for {
		r, err := d.to.x.receive(d.conn, in, nil)
		d.mu.Lock()
		switch {
		case d.err != nil: // it is given up
		case err != nil:
			d.err = err
		case r == nil:
			d.replay()
		case heads && kindOf(r) == headers:
			heads = false
			d.came(r)
		case heads || kindOf(r) == headers:
			if d.err = d.to.x.wrong(errOtherKind); d.err == nil {
				d.replay()
			}
		case kindOf(r) == trailers && d.trailer == nil:
			d.err = d.to.x.lost(errUnasked)
		case kindOf(r) == trailers:
			d.kept.answered()
			if d.err = d.to.x.changeTrailers(r, d.trailer); d.err == nil {
				d.to.sendTrailer(d.trailer)
				d.err = io.EOF
			}
		default:
			d.kept.answered()
			s := common(r).GetBodyMutation().GetStreamedResponse()
			if d.send(s.GetBody()); d.err == nil && s.GetEndOfStream() {
				d.err = io.EOF
			}
		}
		over := d.err != nil || d.raw
		d.mu.Unlock()
		if over {
			return
		}
	}
}

// came sends the head on as the processor has it. The caller holds mu.
func (d *duplexWriter) came(r *reply) {
	if d.to.change(r) {
		d.to.commit()
		d.send(nil)
	}
	if err := d.to.stopped(); err != nil {
		d.err = err
	}
}

// send sends a part of the body on, at once. The caller holds mu, or the goroutine has ended.
func (d *duplexWriter) send(p []byte) {
	_, err := d.to.w.Write(p)
	if err == nil {
		err = http.NewResponseController(d.to.w).Flush()
	}
	if err != nil {
		d.err = d.to.x.decide(fault.Wrap(fault.ClientGone, err, "the client closed the request"))
	}
}

// replay goes on with what was sent. The caller holds mu.
func (d *duplexWriter) replay() {
	if !d.kept.whole() {
		d.err = d.to.x.lost(d.conn.err)
		return
	}
	d.raw = true
	d.to.commit()
	d.send(d.kept.bytes)
	d.kept.bytes = nil
}

// write takes a part of the body.
func (d *duplexWriter) write(p []byte) error {
	d.mu.Lock()
	switch {
	case d.err == io.EOF: // the processor has said all that there is
		defer d.mu.Unlock()
		return nil
	case d.err != nil, d.raw:
		defer d.mu.Unlock()
		if d.err == nil {
			d.send(p)
		}
		return d.err
	}
	d.kept.add(p)
	d.mu.Unlock()
	d.conn.send(ofBody(response, append([]byte(nil), p...), false))
	return nil
}

// end says that all was written, and waits until all has gone on.
func (d *duplexWriter) end() {
	trailer := d.a.trailer()
	d.mu.Lock()
	going := d.err == nil && !d.raw
	d.trailer = trailer
	d.mu.Unlock()
	switch {
	case !going:
	case len(trailer) > 0:
		d.conn.send(ofTrailers(response, trailer.Clone()))
	default:
		d.conn.send(ofBody(response, nil, true))
	}
	d.join()
	if d.raw && d.err == nil {
		d.to.sendTrailer(trailer)
	}
}

// abort ends the sending on.
func (d *duplexWriter) abort() {
	select {
	case <-d.done:
	default:
		d.mu.Lock()
		if d.err == nil {
			d.err = errHolding
		}
		d.mu.Unlock()
		d.to.x.finish()
		d.conn.fail(errHolding)
	}
	d.join()
}

func (d *duplexWriter) join() {
	<-d.done
	d.a.sent, d.a.replaced = d.to.sent, d.to.replaced
}
