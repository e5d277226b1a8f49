package extproc

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// request takes the head of r through the processor, and its body as far as nothing may be sent on before. It returns the request
// as it is to be answered, whose body may go through the processor as it is read.
func (x *exchange) request(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	there := r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
	if there && x.mode.RequestBody == FullDuplex {
		return x.requestInDuplex(w, r, x.mode.RequestHeaders)
	}
	if x.mode.RequestHeaders {
		a, err := x.consult(request, headers, x.requestHead(r, !there))
		if err != nil {
			return nil, err
		}
		if a != nil {
			x.override(a.GetModeOverride(), request)
			out, replaced, err := x.changeRequest(r, a)
			if err != nil || replaced {
				return out, err
			}
			r = out
		}
	}
	switch {
	case !there || x.isOver():
		return r, nil
	case x.mode.RequestBody == FullDuplex:
		return x.requestInDuplex(w, r, false)
	case x.mode.RequestBody == Buffered, x.mode.RequestBody == BufferedPartial:
		return x.held(w, r)
	case x.mode.RequestBody == Streamed:
		x.waits = true
		return withBody(r, &pieces{x: x, from: r.Body, trailer: &r.Trailer}, -1), nil
	case x.mode.RequestTrailers && len(r.Trailer) > 0:
		x.waits = true
		return withBody(r, &pieces{x: x, from: r.Body, trailer: &r.Trailer, unseen: true}, r.ContentLength), nil
	}
	return r, nil
}

// requestHead returns the message of the head of r, after which nothing comes if last.
func (x *exchange) requestHead(r *http.Request, last bool) *question {
	return ofHeaders(request, headerMap(r.Header, x.call.Hidden, ":method", r.Method, ":scheme", x.call.Scheme, ":authority", r.Host, ":path", r.URL.RequestURI()), last)
}

// changeRequest returns r as the processor has it, and whether it has replaced its body.
func (x *exchange) changeRequest(r *http.Request, a *reply) (out *http.Request, replaced bool, err error) {
	c := common(a)
	out = r.WithContext(r.Context())
	path, method := r.URL.RequestURI(), r.Method
	h := head{header: r.Header.Clone(), path: &path}
	if replaced = replaces(c); replaced {
		h.method = &method
	}
	err = h.apply(c.GetHeaderMutation())
	var body []byte
	if err == nil && replaced {
		body, err = mutated(c.GetBodyMutation(), nil)
	}
	if err != nil {
		return r, false, x.wrong(err)
	}
	out.Header, out.Method = h.header, method
	if path != r.URL.RequestURI() {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return r, false, x.wrong(err)
		}
		out.URL, out.RequestURI, x.change.Path = u, path, true
	}
	x.change.Any = x.change.Any || h.changed
	x.change.Headers = append(x.change.Headers, h.set...)
	x.change.Reroute = x.change.Reroute || c.GetClearRouteCache()
	if replaced {
		out = withBytes(out, body)
	}
	return out, replaced, nil
}

// withBody returns r with another body of a length that is known, or -1.
func withBody(r *http.Request, b io.ReadCloser, length int64) *http.Request {
	r = r.WithContext(r.Context())
	r.Body, r.GetBody, r.ContentLength = b, nil, length
	if length < 0 {
		r.Header = r.Header.Clone()
		delete(r.Header, "Content-Length")
	}
	return r
}

// withBytes returns r with a body that is in memory.
func withBytes(r *http.Request, b []byte) *http.Request {
	out := withBody(r, http.NoBody, -1)
	out.ContentLength, out.TransferEncoding = int64(len(b)), nil
	if len(b) > 0 {
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		out.Body, _ = out.GetBody() // which does not fail
	}
	return out
}

// held takes the body of r through the processor as a whole, or as much of it as is held.
func (x *exchange) held(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	partial := x.mode.RequestBody == BufferedPartial
	if !partial && r.ContentLength > maxHeld {
		return nil, errLong
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxHeld+1))
	if err != nil {
		return nil, unreadable(err)
	}
	var rest io.Reader
	if len(b) > maxHeld {
		if !partial {
			return nil, errLong
		}
		rest = io.MultiReader(bytes.NewReader(b[maxHeld:]), r.Body)
		b = b[:maxHeld]
	}
	trailed := rest == nil && x.mode.RequestTrailers && len(r.Trailer) > 0
	a, err := x.consult(request, body, ofBody(request, b, rest == nil && !trailed))
	if err != nil {
		return nil, err
	}
	out := r
	if a != nil {
		part, err := mutated(common(a).GetBodyMutation(), b)
		if err != nil {
			if err := x.wrong(err); err != nil {
				return nil, err
			}
		} else {
			changed, replaced, err := x.changeRequest(r, a)
			if err != nil || replaced {
				return changed, err
			}
			if !x.isOver() {
				out, b = changed, part
			}
		}
	}
	if trailed {
		if err := x.consultTrailers(request, r.Trailer); err != nil {
			return nil, err
		}
	}
	if rest != nil {
		return withBody(out, &joined{io.MultiReader(bytes.NewReader(b), rest), r.Body}, -1), nil
	}
	return withBytes(out, b), nil
}

var errLong = fault.New(fault.TooLarge, "the request body is over the limit of %d bytes", maxHeld)

// unreadable returns the fault for a body that its client does not send as it should.
func unreadable(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) {
		return f
	}
	return fault.Wrap(fault.BadRequest, err, "the request body could not be read")
}

// A joined reads something else in place of a body, which it closes.
type joined struct {
	io.Reader
	io.Closer
}

// A pieces is the body of a request that goes through the processor piece by piece as it is read.
type pieces struct {
	x       *exchange
	from    io.ReadCloser
	trailer *http.Header
	unseen  bool // the processor gets the trailers only
	buf     []byte
	out     []byte // what is to be read next
	err     error  // what follows
}

// Read implements [io.Reader].
func (b *pieces) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.out) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if b.unseen || b.x.isOver() {
			n, err := b.from.Read(p)
			if err == io.EOF && b.x.mode.RequestTrailers && len(*b.trailer) > 0 && !b.x.isOver() {
				if wrong := b.x.consultTrailers(request, *b.trailer); wrong != nil {
					err = wrong
				}
			}
			b.err = err
			return n, err
		}
		b.fill()
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

// fill takes another piece through the processor.
func (b *pieces) fill() {
	if b.buf == nil {
		b.buf = make([]byte, chunk)
	}
	n, err := b.from.Read(b.buf)
	if n > 0 {
		b.piece(b.buf[:n], false)
	}
	if b.err != nil || err == nil {
		return
	}
	b.err = err
	if err != io.EOF || b.x.isOver() {
		return
	}
	if b.x.mode.RequestTrailers && len(*b.trailer) > 0 {
		if wrong := b.x.consultTrailers(request, *b.trailer); wrong != nil {
			b.err = wrong
		}
		return
	}
	b.piece(nil, true)
}

// piece takes one piece through the processor.
func (b *pieces) piece(p []byte, last bool) {
	out, err := b.x.piece(request, p, last)
	if err != nil {
		b.out, b.err = nil, err
		return
	}
	b.out = append(b.out, out...)
}

// piece returns a piece of a body as the processor has it.
func (x *exchange) piece(s side, p []byte, last bool) ([]byte, error) {
	a, err := x.consult(s, body, ofBody(s, p, last))
	if a == nil {
		return p, err
	}
	out, err := mutated(common(a).GetBodyMutation(), p)
	if err != nil {
		return p, x.wrong(err)
	}
	return out, nil
}

// Close implements [io.Closer].
func (b *pieces) Close() error { return b.from.Close() }
