package extproc

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"golang.org/x/net/http/httpguts"
)

// headerMap returns headers in the form of the protocol, those of hidden left out. Pseudo headers come first.
func headerMap(h http.Header, hidden []string, pseudo ...string) *corev3.HeaderMap {
	out := &corev3.HeaderMap{}
	add := func(name, value string) {
		out.Headers = append(out.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	for i := 0; i+1 < len(pseudo); i += 2 {
		add(pseudo[i], pseudo[i+1])
	}
	names := make([]string, 0, len(h))
	for name := range h {
		if !slices.Contains(hidden, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range h[name] {
			add(strings.ToLower(name), v)
		}
	}
	return out
}

// A head is what a mutation of headers applies to: that of a request or of an answer, or trailers.
type head struct {
	header  http.Header
	path    *string // :path; nil of all but requests
	method  *string // :method, where it may be changed
	status  *int    // :status; nil of all but answers
	changed bool
	set     []string // canonical names
}

// apply changes the head as the processor has it: what is to go first (Envoy's order), then what is set. Headers that it may not change stay
// as they are. An error is the processor's mistake, and leaves the head half changed.
func (h *head) apply(m *extprocv3.HeaderMutation) error {
	for _, name := range m.GetRemoveHeaders() {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case name == "" || name[0] != ':' && !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("the processor removes a header of a name that HTTP does not permit: %q", name)
		case changeable(canonical):
			delete(h.header, canonical)
			h.changed = true
		}
	}
	for _, o := range m.GetSetHeaders() {
		if err := h.setOption(o); err != nil {
			return err
		}
	}
	return h.limits()
}

// setOption sets one header. What is there is overwritten unless the processor says otherwise: this protocol has it so.
func (h *head) setOption(o *corev3.HeaderValueOption) error {
	name, value := o.GetHeader().GetKey(), o.GetHeader().GetValue()
	if value == "" {
		value = string(o.GetHeader().GetRawValue())
	}
	if strings.HasPrefix(name, ":") {
		return h.setPseudo(name, value)
	}
	value = strings.Trim(value, " \t")
	if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("the processor sets a header %q in a way that HTTP does not permit", name)
	}
	canonical := http.CanonicalHeaderKey(name)
	if !changeable(canonical) {
		return nil
	}
	there := len(h.header[canonical]) > 0
	switch o.GetAppendAction() {
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		if there {
			return nil
		}
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		if !there {
			return nil
		}
	}
	if o.GetAppend().GetValue() { //nolint:staticcheck // it is how processors say it
		h.header[canonical] = append(slices.Clip(h.header[canonical]), value)
	} else {
		h.header[canonical] = []string{value}
	}
	h.changed = true
	h.set = append(h.set, canonical)
	return nil
}

// setPseudo sets one of the headers that stand for what is no header.
func (h *head) setPseudo(name, value string) error {
	switch {
	case name == ":path" && h.path != nil:
		if u, err := url.ParseRequestURI(value); err != nil || !strings.HasPrefix(value, "/") || u.Host != "" || len(value) > maxPath {
			return fmt.Errorf("the processor sets a path that can't be: %.100q", value)
		}
		*h.path = value
	case name == ":method" && h.method != nil:
		if !httpguts.ValidHeaderFieldName(value) { // both are tokens
			return fmt.Errorf("the processor sets a method that can't be: %.100q", value)
		}
		*h.method = value
	case name == ":status" && h.status != nil:
		n, err := strconv.Atoi(value)
		if err != nil || n < 200 || n > 599 {
			return fmt.Errorf("the processor sets a status that can't be: %.100q", value)
		}
		*h.status = n
	default:
		return nil
	}
	h.changed = true
	return nil
}

// limits checks what the head has come to.
func (h *head) limits() error {
	size, lines := 0, 0
	for name, values := range h.header {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
		lines += len(values)
	}
	if size > maxHeadBytes || lines > maxHeadLines {
		return fmt.Errorf("what the processor sets makes more than %d bytes or %d lines of headers", maxHeadBytes, maxHeadLines)
	}
	return nil
}

// changeable reports whether a processor may change a header, by its canonical name: none that frames the message or belongs to the
// connection, not Host, and none that only the gateway sets.
func changeable(canonical string) bool {
	switch canonical {
	case "", "Host", "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect":
		return false
	}
	return canonical[0] != ':' && !strings.HasPrefix(http.CanonicalHeaderKey(strings.ReplaceAll(canonical, "_", "-")), "X-Mcpgw-")
}

// common returns what an answer to a head or a part of a body says; nil of others.
func common(a *reply) *extprocv3.CommonResponse {
	switch r := a.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_RequestHeaders:
		return r.RequestHeaders.GetResponse()
	case *extprocv3.ProcessingResponse_ResponseHeaders:
		return r.ResponseHeaders.GetResponse()
	case *extprocv3.ProcessingResponse_RequestBody:
		return r.RequestBody.GetResponse()
	case *extprocv3.ProcessingResponse_ResponseBody:
		return r.ResponseBody.GetResponse()
	}
	return nil
}

// replaces reports whether an answer replaces all that was to come of its side.
func replaces(c *extprocv3.CommonResponse) bool {
	return c.GetStatus() == extprocv3.CommonResponse_CONTINUE_AND_REPLACE
}

// mutated returns a part of a body as the processor has it.
func mutated(m *extprocv3.BodyMutation, part []byte) ([]byte, error) {
	switch m := m.GetMutation().(type) {
	case *extprocv3.BodyMutation_Body:
		return m.Body, nil
	case *extprocv3.BodyMutation_ClearBody:
		if m.ClearBody {
			return nil, nil
		}
	case *extprocv3.BodyMutation_StreamedResponse:
		return nil, errOtherKind
	}
	return part, nil
}

// A kind is what a message is about.
type kind int

const (
	headers kind = iota
	body
	trailers
)

// kindOf returns what an answer is about.
func kindOf(a *reply) kind {
	switch a.GetResponse().(type) {
	case *extprocv3.ProcessingResponse_RequestHeaders, *extprocv3.ProcessingResponse_ResponseHeaders:
		return headers
	case *extprocv3.ProcessingResponse_RequestBody, *extprocv3.ProcessingResponse_ResponseBody:
		return body
	default:
		return trailers
	}
}

// ofHeaders returns the message of a head, after which nothing comes if last.
func ofHeaders(s side, h *corev3.HeaderMap, last bool) *question {
	m := &extprocv3.HttpHeaders{Headers: h, EndOfStream: last}
	if s == request {
		return &question{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: m}}
	}
	return &question{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: m}}
}

// ofBody returns the message of a part of a body, after which nothing comes if last.
func ofBody(s side, part []byte, last bool) *question {
	m := &extprocv3.HttpBody{Body: part, EndOfStream: last}
	if s == request {
		return &question{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: m}}
	}
	return &question{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: m}}
}

// ofTrailers returns the message of trailers.
func ofTrailers(s side, h http.Header) *question {
	m := &extprocv3.HttpTrailers{Trailers: headerMap(h, nil)}
	if s == request {
		return &question{Request: &extprocv3.ProcessingRequest_RequestTrailers{RequestTrailers: m}}
	}
	return &question{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: m}}
}

// consult asks about k, which q is, and returns what is answered, as ask does.
func (x *exchange) consult(s side, k kind, q *question) (*reply, error) {
	a, err := x.ask(s, q)
	if a != nil && kindOf(a) != k {
		x.conn.fail(errOtherKind)
		return nil, x.fail(errOtherKind)
	}
	return a, err
}

// wrong notes a mistake of the processor, which fails.
func (x *exchange) wrong(err error) error {
	x.conn.fail(err)
	return x.fail(err)
}

// consultTrailers asks about trailers, and changes them.
func (x *exchange) consultTrailers(s side, h http.Header) error {
	a, err := x.consult(s, trailers, ofTrailers(s, h))
	if a == nil {
		return err
	}
	return x.changeTrailers(a, h)
}

func (x *exchange) changeTrailers(a *reply, h http.Header) error {
	m := a.GetRequestTrailers().GetHeaderMutation()
	if m == nil {
		m = a.GetResponseTrailers().GetHeaderMutation()
	}
	t := head{header: h.Clone()}
	if err := t.apply(m); err != nil {
		return x.wrong(err)
	}
	clear(h)
	for k, v := range t.header {
		h[k] = v
	}
	return nil
}
