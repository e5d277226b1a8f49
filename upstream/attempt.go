package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync/atomic"
	"syscall"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An attempt is one request on its way to one endpoint, and afterwards the body
// of the response. It knows whether a byte was sent.
type attempt struct {
	pool      *Pool
	endpoint  *Endpoint
	multiplex bool
	ctx       context.Context
	cancel    context.CancelFunc // ends what bounds the try; nil until it is answered
	cancelAll context.CancelFunc // ends what bounds all of them; nil without bounds
	body      *watchedBody       // the request's, unless it is in memory
	replay    bool               // the body that is in memory was given away before
	trailer   http.Header        // of that body; nil when there is none
	inform    informer           // gets informational responses; nil when nobody does
	events    *telemetry.Events  // of the span that the attempt is within; nil unless they are wanted

	reused    bool // the connection had served before
	leanSent  bool // the lean client may have sent a byte
	*transfer      // when it goes through the transport

	answer io.ReadCloser
	ended  bool // the answer was read to its end
	done   atomic.Bool
}

// A transfer is what an attempt knows of its way through the transport.
type transfer struct {
	url   url.URL
	trace httptrace.ClientTrace

	sending http.Header   // of the request, where it may be the last of a connection; nil otherwise
	end     func()        // of its part in a line; nil when it has none
	conn    *countingConn // nil before there is one
	before  int64         // bytes written to conn before this request
	written atomic.Bool   // on multiplexed connections: headers were written
}

// request returns r as it goes to the endpoint.
func (a *attempt) request(r *http.Request, scheme string) (*http.Request, error) {
	a.trace.GotConn = a.gotConn
	if a.events != nil {
		a.trace.WroteRequest = func(httptrace.WroteRequestInfo) { a.events.Add(telemetry.RequestSent, "") }
	}
	if a.multiplex || scheme == "https" {
		a.trace.WroteHeaders = func() { a.written.Store(true) }
	}
	if a.inform != nil {
		a.trace.Got1xxResponse = func(code int, h textproto.MIMEHeader) error { return a.inform(code, http.Header(h)) }
	}
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &a.trace))
	if err := a.complete(out, r, scheme); err != nil {
		return nil, err
	}
	// net/http takes these headers as leave to send a request again although it
	// was sent. It knows them by their canonical keys only; on the wire the case
	// does not matter.
	hideKey(out, "Idempotency-Key", "idempotency-key")
	hideKey(out, "X-Idempotency-Key", "x-idempotency-key")
	if a.pool.perConn > 0 && out.Header["Upgrade"] == nil {
		out.Header = out.Header.Clone()
		a.sending = out.Header
	}
	return out, nil
}

// complete sets the URL and body of the copy out of r.
func (a *attempt) complete(out, r *http.Request, scheme string) error {
	target(r, scheme, a.endpoint.address, &a.url)
	out.URL = &a.url
	if out.Host == "" {
		out.Host = r.URL.Host
	}
	out.Trailer = a.trailer
	switch {
	case a.body != nil:
		out.Body, out.Trailer = a.body, a.body.trailer
	case a.replay && r.GetBody != nil:
		body, err := r.GetBody()
		if err != nil {
			return fault.Wrap(fault.Internal, err, "internal error")
		}
		out.Body = body
	}
	return nil
}

func hideKey(r *http.Request, canonical, hidden string) {
	v, ok := r.Header[canonical]
	if !ok {
		return
	}
	r.Header = r.Header.Clone()
	delete(r.Header, canonical)
	if len(v) > 0 {
		r.Header[hidden] = v
	}
}

func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	c := info.Conn
	a.reused = info.Reused
	if t, ok := c.(*tls.Conn); ok {
		a.multiplex = t.ConnectionState().NegotiatedProtocol == "h2"
		if !a.multiplex {
			a.endpoint.serial.Store(true)
		}
		c = t.NetConn()
	}
	a.conn, _ = c.(*countingConn)
	if a.conn == nil {
		return
	}
	a.before = a.conn.written.Load()
	if n := a.conn.requests.Add(1); a.sending != nil && n >= int64(a.pool.perConn) && !a.multiplex {
		a.sending["Connection"] = []string{"close"}
	}
}

// sent reports whether a byte of the request may have left.
func (a *attempt) sent() bool {
	switch {
	case a.answer != nil:
		return true
	case a.transfer == nil:
		return a.leanSent
	case a.conn == nil:
		return false
	case a.multiplex:
		return a.written.Load()
	default:
		return a.conn.written.Load() != a.before
	}
}

// fault says whose mistake err is, which the transport returned.
func (a *attempt) fault(err error) *fault.Fault {
	var f *fault.Fault
	if cause := a.body.failure(); cause != nil {
		return ofClient(cause)
	}
	switch ctxErr := context.Cause(a.ctx); {
	case errors.As(err, &f):
		return f
	case ctxErr != nil:
		return fault.Of(ctxErr)
	case !a.sent():
		return fault.Wrap(fault.UpstreamUnreachable, err, "the upstream could not be reached")
	default:
		return fault.Wrap(fault.UpstreamFailed, err, "the upstream failed")
	}
}

// watch puts the attempt between the caller and the body of resp.
func (a *attempt) watch(resp *http.Response) {
	a.answer = resp.Body
	a.endpoint.active.Add(1)
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &duplex{attempt: a, w: rwc}
		return
	}
	resp.Body = a
}

// Read implements io.Reader for the body of the response.
func (a *attempt) Read(b []byte) (int, error) {
	n, err := a.answer.Read(b)
	if err == nil || err == io.EOF || err == syscall.EAGAIN {
		if err == io.EOF && !a.ended {
			a.ended = true
			a.events.Add(telemetry.AnswerRead, "")
		}
		return n, err
	}
	f := a.fault(err)
	a.failed(f)
	return n, f
}

// failed counts f, unless it is the client's.
func (a *attempt) failed(f *fault.Fault) {
	switch f.Code {
	case fault.UpstreamUnreachable, fault.UpstreamFailed, fault.UpstreamTimeout:
		a.pool.report(a.endpoint, false)
	}
}

// A Rester is the body of a response that can be read without a goroutine that waits for it.
type Rester interface {
	// NoWait has Read return [syscall.EAGAIN] from now on when it would wait for long. It reports false, and
	// changes nothing, where that is not possible.
	NoWait() bool
	// Rest has resume called, in a goroutine of its own, once Read is worth to be called again: there is something to read, the
	// body has ended, or the context of the request has. Nobody uses the body until then.
	Rest(resume func())
}

// NoWait implements [Rester].
func (a *attempt) NoWait() bool {
	r, ok := a.answer.(Rester)
	return ok && r.NoWait()
}

// Rest implements [Rester].
func (a *attempt) Rest(resume func()) { a.answer.(Rester).Rest(resume) } // NoWait has looked

// Close implements io.Closer for the body of the response.
func (a *attempt) Close() error {
	if !a.done.Swap(true) {
		a.endpoint.active.Add(-1)
		if a.transfer != nil && a.end != nil {
			defer a.end()
		}
		for _, cancel := range [...]context.CancelFunc{a.cancel, a.cancelAll} {
			if cancel != nil {
				defer cancel()
			}
		}
	}
	return a.answer.Close()
}

// duplex is the body of a 101: it can be written, too.
type duplex struct {
	*attempt
	w io.Writer
}

func (d *duplex) Write(b []byte) (int, error) { return d.w.Write(b) }

// A countingConn knows how many bytes were written to it: the only proof that
// nothing of a request was sent.
type countingConn struct {
	net.Conn
	written  atomic.Int64
	requests atomic.Int64 // that it got
}

// countWrites returns dial with connections that count.
func countWrites(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countingConn{Conn: c}, nil
	}
}

func (c *countingConn) Write(b []byte) (int, error) {
	// Counted before, so that no answer can come before its request was counted.
	c.written.Add(int64(len(b)))
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n - len(b)))
	return n, err
}
