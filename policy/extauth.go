package policy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An ExtAuth is a [Check] that asks an external service whether a request may proceed. It is not changed once it is used.
type ExtAuth struct {
	Source    string // the policy that asks, Kind/namespace/name
	Extension string // the extension that describes the service, Kind/namespace/name

	Authorizer extension.Authorizer
	// FailOpen lets requests through about which the service can't be asked; else they are answered
	// StatusOnError, 200 to 599.
	FailOpen      bool
	StatusOnError int
	// MaxBody is how much of the body the service gets, in bytes; 0 is none of it. A longer body is cut if Partial says so, else
	// the request is refused.
	MaxBody int64
	Partial bool
	// Context is what the service gets beside the request.
	Context map[string]string
	// Reroute has the route be chosen again for a request whose headers the service changed.
	Reroute bool

	Prefix  string // for metrics
	Metrics *telemetry.Metrics
}

// Check implements [Check]. It changes what req holds of the request as the service says. Its errors are [fault.Denied] with the
// service's answer, [fault.Unverifiable] when the service can't be asked, [fault.TooLarge], and those of reading the body.
func (e *ExtAuth) Check(ctx context.Context, req *Request) error {
	if req.Passed {
		return nil // it was asked where the request was accepted
	}
	q := &extension.Question{
		HTTP: req.HTTP, Scheme: req.Scheme, Source: req.Source, Destination: localAddress(req.HTTP), ID: req.ID, Time: req.Time,
		Hidden: req.Consumed, Claims: req.JWT.JSON(), Context: e.Context,
	}
	if e.MaxBody > 0 {
		if err := e.read(req, q); err != nil {
			return err
		}
		q.HTTP = req.HTTP
	}
	a, err := e.Authorizer.Authorize(ctx, q)
	if err == nil && a.Allowed {
		err = e.allow(req, a)
	}
	switch {
	case err == nil && a.Allowed:
		e.count("allowed")
		if e.Reroute && len(a.Headers) > 0 {
			return ErrRerouted
		}
		return nil
	case err == nil:
		e.count("denied")
		return e.denied(req, a)
	case ctx.Err() != nil:
		return fault.Of(context.Cause(ctx)) // nobody waits for it
	}
	e.count("failed")
	if e.FailOpen {
		return nil
	}
	const message = "external authorization is not available"
	return &fault.Fault{
		Code: fault.Unverifiable, Message: message, Err: &failure{Denial{Source: e.Source, Reason: e.Extension + " can't be asked"}, err},
		Header: http.Header{"Content-Type": {"text/plain"}}, Answer: &fault.Answer{Status: e.StatusOnError, Body: []byte(message)},
	}
}

// localAddress returns where a request was accepted, which a server of net/http knows.
func localAddress(r *http.Request) netip.AddrPort {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := a.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

func (e *ExtAuth) count(result string) { e.Metrics.Extension(e.Extension, e.Prefix, result) }

// A failure is a denial for want of an answer.
type failure struct {
	Denial
	err error
}

func (f *failure) Error() string { return f.Denial.Error() + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// allow changes the request and the answer to it as the service says.
func (e *ExtAuth) allow(req *Request, a *extension.Authorization) error {
	if err := req.Tell(ExtAuthNamespace, a.Metadata); err != nil {
		return err
	}
	req.changeHeaders(a.Headers)
	req.changeQuery(a.Query)
	req.rerouted = req.rerouted || e.Reroute && len(a.Headers) > 0
	req.Response = append(req.Response, a.Response...)
	return nil
}

// denied is the fault of a request that the service refuses.
func (e *ExtAuth) denied(req *Request, a *extension.Authorization) error {
	_ = req.Tell(ExtAuthNamespace, a.Metadata) // for the account: what it can't take does not make a refusal void
	f := &fault.Fault{Code: fault.Denied, Message: "external authorization failed", Err: &Denial{Source: e.Source, Reason: e.Extension + " refuses"}}
	if a.Status != 0 {
		f.Header, f.Answer = a.Header, &fault.Answer{Status: a.Status, Body: a.Body}
	}
	return f
}

// read reads what the service gets of the body. The request keeps all of it.
func (e *ExtAuth) read(req *Request, q *extension.Question) error {
	r := req.HTTP
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	tooLarge := fault.New(fault.TooLarge, "the request body is over the limit of %d bytes", e.MaxBody)
	if r.ContentLength > e.MaxBody && !e.Partial {
		return tooLarge
	}
	read, err := io.ReadAll(io.LimitReader(r.Body, e.MaxBody+1))
	var f *fault.Fault
	switch {
	case errors.As(err, &f):
		return f
	case err != nil:
		return fault.Wrap(fault.BadRequest, err, "the request body could not be read")
	}
	whole := int64(len(read)) <= e.MaxBody
	if !whole && !e.Partial {
		return tooLarge
	}
	out := r.WithContext(r.Context())
	if whole {
		out.ContentLength, out.TransferEncoding = int64(len(read)), nil
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(read)), nil }
		out.Body, _ = out.GetBody() // it does not fail
	} else {
		out.Body = &resumed{Reader: io.MultiReader(bytes.NewReader(read), r.Body), Closer: r.Body}
	}
	req.HTTP = out
	q.Body, q.Partial = read[:min(int64(len(read)), e.MaxBody)], !whole
	return nil
}

// A resumed is a body whose beginning was read before.
type resumed struct {
	io.Reader
	io.Closer
}
