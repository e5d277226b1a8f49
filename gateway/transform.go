package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// maxTransformed bounds the bodies that a transformation reads.
const maxTransformed = 2 << 20

// A transformation changes requests and answers by the values of expressions. It is an interceptor.
type transformation struct {
	source          string // the object that says it, for the metric
	metrics         *telemetry.Metrics
	request, answer transform
	requestBody     bool // some expression has to have the body of the request
	answerBody      bool // and some that of the answer
	changesAnswer   bool
}

// A transform is what changes one message. The values are those of the message as it came: one change does not see the
// other.
type transform struct {
	set, add []templated
	remove   []string
	body     *policy.Template
	parsed   bool // the expression of the body sees JSON
}

// A templated is a header whose value is that of an expression.
type templated struct {
	name  string // canonical, or that of a pseudo header
	value *policy.Template
}

// changes reports whether the transform does anything.
func (t *transform) changes() bool {
	return len(t.set)+len(t.add)+len(t.remove) > 0 || t.body != nil
}

type destinationKey struct{}

// intercept implements interceptor.
func (t *transformation) intercept(w http.ResponseWriter, r *http.Request, next serve) error {
	m := &policy.Message{Request: r}
	if to, ok := r.Context().Value(destinationKey{}).(*destination); ok {
		m.Backend = to.rules.Backend()
	}
	if t.requestBody {
		body, rest, err := wholeBody(w, r)
		if err != nil {
			return err
		}
		m.Body, r = body, rest
		m.Request = r
	}
	out := t.changeRequest(m, r)
	switch {
	case !t.changesAnswer:
		return next(w, out)
	case !t.answerBody:
		return next(&changedHead{ResponseWriter: w, change: t, message: m}, out)
	}
	// What is compressed can't be read.
	if out.Header["Accept-Encoding"] != nil {
		if out == r {
			out = r.WithContext(r.Context())
			out.Header = r.Header.Clone()
		}
		out.Header["Accept-Encoding"] = []string{"identity"}
	}
	c := &changedBody{changedHead: changedHead{ResponseWriter: w, change: t, message: m}}
	if err := c.serve(next, out); err != nil {
		return err
	}
	return c.finish()
}

// wholeBody reads the body of r, and returns r as it can be read once more.
func wholeBody(w http.ResponseWriter, r *http.Request) ([]byte, *http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return []byte{}, r, nil
	}
	if r.GetBody != nil { // it is held
		again, err := r.GetBody()
		if err != nil {
			return nil, nil, fault.Wrap(fault.Internal, err, "internal error")
		}
		body, err := io.ReadAll(again)
		return body, r, err
	}
	body, err := bodyWithin(w, r, maxTransformed)
	if err != nil {
		return nil, nil, err
	}
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	withBody(r, body)
	return body, r, nil
}

// failed counts an expression that came to nothing.
func (t *transformation) failed() { t.metrics.CELError(t.source) }

// values returns the headers that a transform sets and adds, by their place in its lists. One whose expression fails, or
// is no value of a header, or comes to null, is missing.
func (t *transformation) values(of []templated, m *policy.Message) []*string {
	out := make([]*string, len(of))
	for i := range of {
		text, ok, err := of[i].value.Text(m.Request.Context(), m)
		switch {
		case err != nil || !httpguts.ValidHeaderFieldValue(text):
			t.failed()
		case ok:
			out[i] = &text
		}
	}
	return out
}

// apply changes headers. A header that is to be set and has no value is removed: what a client sent must not stand in for
// what the gateway would have said.
func (t *transform) apply(h http.Header, set, add []*string) {
	for i, v := range set {
		name := t.set[i].name
		switch {
		case name[0] == ':':
		case v == nil:
			delete(h, name)
		default:
			h[name] = []string{*v}
		}
	}
	for i, v := range add {
		if name := t.add[i].name; v != nil {
			h[name] = append(h[name][:len(h[name]):len(h[name])], *v)
		}
	}
	for _, name := range t.remove {
		delete(h, name)
	}
}

// changeRequest returns r as it goes on.
func (t *transformation) changeRequest(m *policy.Message, r *http.Request) *http.Request {
	c := &t.request
	if !c.changes() {
		return r
	}
	set, add := t.values(c.set, m), t.values(c.add, m)
	var body []byte
	if c.body != nil {
		var err error
		if body, err = c.body.Whole(r.Context(), m, c.parsed); err != nil {
			t.failed()
			body = nil
		}
	}
	out := r.WithContext(r.Context())
	out.Header = r.Header.Clone()
	c.apply(out.Header, set, add)
	for i, v := range set {
		if name := c.set[i].name; name[0] == ':' && v != nil && !setPseudo(out, name, *v) {
			t.failed()
		}
	}
	if body != nil {
		withBody(out, body)
	}
	return out
}

// setPseudo sets a pseudo header of r. It reports false, and changes nothing, where the value is none.
func setPseudo(r *http.Request, name, value string) bool {
	switch name {
	case ":method":
		if !httpguts.ValidHeaderFieldName(value) || strings.EqualFold(value, http.MethodConnect) {
			return false
		}
		r.Method = value
	case ":authority":
		if _, ok := hostOf(value); !ok || value == "" {
			return false
		}
		r.Host = value
	default:
		u, err := url.ParseRequestURI(value)
		if err != nil || !strings.HasPrefix(value, "/") || len(value) > maxTarget || checkPath(u) != nil {
			return false
		}
		to := *r.URL
		to.Path, to.RawPath, to.RawQuery, to.ForceQuery = u.Path, u.RawPath, u.RawQuery, u.ForceQuery
		r.URL = &to
	}
	return true
}

// withBody gives r a body that is in memory.
func withBody(r *http.Request, body []byte) {
	r.ContentLength, r.TransferEncoding, r.Trailer = int64(len(body)), nil, nil
	delete(r.Header, "Trailer")
	delete(r.Header, "Content-Length")
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	if len(body) == 0 {
		r.Body = http.NoBody
	} else {
		r.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
}

// A changedHead changes the head of an answer, and lets its body pass.
type changedHead struct {
	http.ResponseWriter
	change  *transformation
	message *policy.Message
	wrote   bool
}

// Unwrap is for [http.ResponseController].
func (c *changedHead) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (c *changedHead) WriteHeader(status int) {
	if c.wrote {
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		c.wrote = true
		c.changeHeader(status)
	}
	c.ResponseWriter.WriteHeader(status)
}

// changeHeader changes the header of the answer, and returns its new body, nil for the old one.
func (c *changedHead) changeHeader(status int) []byte {
	t, m := &c.change.answer, c.message
	m.Status, m.Header = status, c.Header()
	set, add := c.change.values(t.set, m), c.change.values(t.add, m)
	var body []byte
	if t.body != nil {
		var err error
		if body, err = t.body.Whole(m.Request.Context(), m, t.parsed); err != nil {
			c.change.failed()
			body = nil
		}
	}
	t.apply(c.Header(), set, add)
	return body
}

// Write implements [http.ResponseWriter].
func (c *changedHead) Write(b []byte) (int, error) {
	if !c.wrote {
		c.WriteHeader(http.StatusOK)
	}
	return c.ResponseWriter.Write(b)
}

// FlushError implements what [http.ResponseController] flushes with.
func (c *changedHead) FlushError() error {
	if !c.wrote {
		c.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Flush implements [http.Flusher].
func (c *changedHead) Flush() {
	_ = c.FlushError() // the next write says so, too
}

// A changedBody holds an answer until all of it is there, and changes it then. What is no whole text, a stream of events or
// a tunnel, passes as it comes, with its head changed as far as that does not ask for the body. It unwraps for what concerns the
// connection: times and full duplex.
type changedBody struct {
	changedHead
	status int
	passes bool
	held   []byte
	err    error
}

var errAnswerTooLarge = fault.New(fault.Internal, "the answer is over the limit of %d bytes of what is transformed", maxTransformed)

// serve has the answer written to c. What is too large ends it, before anything was sent.
func (c *changedBody) serve(next serve, r *http.Request) (err error) {
	defer func() {
		if c.err == nil {
			return
		}
		if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			panic(v)
		}
		rec := telemetry.FromContext(r.Context())
		rec.ErrorType, rec.Err = "", nil // who wrote took it for the client's
		err = c.err
	}()
	return next(c, r)
}

// Hijack implements [http.Hijacker].
func (c *changedBody) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c.passes = true
	return http.NewResponseController(c.ResponseWriter).Hijack()
}

// WriteHeader implements [http.ResponseWriter].
func (c *changedBody) WriteHeader(status int) {
	switch {
	case c.status != 0 || c.passes:
	case status < 200 && status != http.StatusSwitchingProtocols:
		c.ResponseWriter.WriteHeader(status)
	case status == http.StatusSwitchingProtocols || isEvents(c.Header()):
		c.passes = true
		c.changedHead.WriteHeader(status)
	default:
		c.status = status
	}
}

// isEvents reports whether an answer is a stream of events.
func isEvents(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/event-stream")
}

// Write implements [http.ResponseWriter].
func (c *changedBody) Write(b []byte) (int, error) {
	if c.status == 0 && !c.passes {
		c.WriteHeader(http.StatusOK)
	}
	switch {
	case c.passes:
		return c.ResponseWriter.Write(b)
	case c.err != nil:
		return 0, c.err
	case len(c.held)+len(b) > maxTransformed:
		c.held, c.err = nil, errAnswerTooLarge
		return 0, c.err
	}
	c.held = append(c.held, b...)
	return len(b), nil
}

// FlushError implements what [http.ResponseController] flushes with. What is held is not flushed.
func (c *changedBody) FlushError() error {
	if c.status == 0 && !c.passes {
		c.WriteHeader(http.StatusOK)
	}
	if !c.passes {
		return nil
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Flush implements [http.Flusher].
func (c *changedBody) Flush() {
	_ = c.FlushError() // the next write says so, too
}

// finish sends what was held.
func (c *changedBody) finish() error {
	if c.passes {
		return nil
	}
	if c.err != nil {
		return c.err
	}
	if c.status == 0 {
		c.status = http.StatusOK // what net/http sends when nothing was written
	}
	r := c.message.Request
	bodiless := r.Method == http.MethodHead || c.status == http.StatusNoContent || c.status == http.StatusNotModified
	if !bodiless {
		c.message.AnswerBody = append([]byte{}, c.held...)
	}
	body := c.changeHeader(c.status)
	if body == nil || bodiless {
		body = c.held
	}
	if !bodiless {
		c.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	c.ResponseWriter.WriteHeader(c.status)
	_, err := c.ResponseWriter.Write(body)
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		return fault.Wrap(fault.ClientGone, err, "the client closed the request")
	}
	return nil
}
