// Package fault describes errors that the gateway itself raises, as opposed to
// errors of a peer, which pass through unchanged.
//
// A [Fault] keeps two readers apart: Message is what a client may read, Err is
// what the operator needs. One table maps a fault's [Code] to an HTTP status and
// to the error.type of telemetry; the protocol packages map it to
// their own form (JSON-RPC, an LLM dialect, plain text) where they render it.
// A fault is logged where it is rendered, or returned, never both.
//
// It is a leaf: it imports the standard library only.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// A Code says what kind of fault it is. The set is closed: every Code has a row
// in the table of this package.
type Code uint8

// The codes, each with its HTTP status and error.type in the table below.
const (
	Internal            Code = iota // a bug or an unforeseen condition of the gateway
	BadRequest                      // the request is malformed
	Unauthenticated                 // no or wrong client credentials
	Unverifiable                    // client credentials can't be checked: the keys for it are missing
	Denied                          // a policy refuses the request
	NotFound                        // no route, session or object of that name
	MethodNotAllowed                // the HTTP method is not served here
	NotAcceptable                   // the Accept header excludes every answer there is
	UnsupportedMedia                // the Content-Type or Content-Encoding is not served
	TooLarge                        // the body is over its limit
	HeadersTooLarge                 // the headers are over their limit
	URITooLong                      // the request target is over its limit
	RequestTimeout                  // the client was too slow to send its request
	RateLimited                     // a rate limit is exhausted
	Misconfigured                   // what the request needs is invalid or unresolved in the configuration
	Overloaded                      // a limit of the gateway itself is reached
	UpstreamFailed                  // the upstream answered something that cannot be relayed
	UpstreamUnreachable             // no healthy endpoint, or it could not be connected to
	UpstreamTimeout                 // the upstream did not answer in time
	ClientGone                      // the client closed the connection; nothing is rendered
	Draining                        // the gateway is shutting down
	NotImplemented                  // what is asked for is not served yet
	VersionRefused                  // the version of HTTP is not served
	Misdirected                     // the connection is for another host
)

var table = [...]struct {
	status    int
	errorType string
	grpc      int // google.golang.org/grpc/codes
}{
	Internal:            {http.StatusInternalServerError, "internal", 13},
	BadRequest:          {http.StatusBadRequest, "bad_request", 13},
	Unauthenticated:     {http.StatusUnauthorized, "unauthenticated", 16},
	Unverifiable:        {http.StatusServiceUnavailable, "unverifiable", 14},
	Denied:              {http.StatusForbidden, "denied", 7},
	NotFound:            {http.StatusNotFound, "not_found", 12},
	MethodNotAllowed:    {http.StatusMethodNotAllowed, "method_not_allowed", 12},
	NotAcceptable:       {http.StatusNotAcceptable, "not_acceptable", 13},
	UnsupportedMedia:    {http.StatusUnsupportedMediaType, "unsupported_media_type", 13},
	TooLarge:            {http.StatusRequestEntityTooLarge, "too_large", 8},
	HeadersTooLarge:     {http.StatusRequestHeaderFieldsTooLarge, "headers_too_large", 8},
	URITooLong:          {http.StatusRequestURITooLong, "uri_too_long", 8},
	RequestTimeout:      {http.StatusRequestTimeout, "request_timeout", 4},
	RateLimited:         {http.StatusTooManyRequests, "rate_limited", 8},
	Misconfigured:       {http.StatusInternalServerError, "misconfigured", 13},
	Overloaded:          {http.StatusServiceUnavailable, "overloaded", 14},
	UpstreamFailed:      {http.StatusBadGateway, "upstream_failed", 14},
	UpstreamUnreachable: {http.StatusServiceUnavailable, "upstream_unreachable", 14},
	UpstreamTimeout:     {http.StatusGatewayTimeout, "upstream_timeout", 4},
	ClientGone:          {499, "client_gone", 1},
	Draining:            {http.StatusServiceUnavailable, "draining", 14},
	NotImplemented:      {http.StatusNotImplemented, "not_implemented", 12},
	VersionRefused:      {http.StatusUpgradeRequired, "version_refused", 13},
	Misdirected:         {http.StatusMisdirectedRequest, "misdirected", 14},
}

// Status returns the HTTP status that the code is rendered with.
func (c Code) Status() int { return table[c].status }

// String returns the code's error.type, as telemetry records it.
func (c Code) String() string { return table[c].errorType }

// Parse returns the code whose String is s.
func Parse(s string) (Code, bool) {
	for c := range table {
		if table[c].errorType == s {
			return Code(c), true
		}
	}
	return 0, false
}

// A Fault is an error that the gateway raised. It is immutable once returned.
type Fault struct {
	// Code says what kind of fault it is.
	Code Code
	// Message is what the client may read: a sentence without secrets,
	// addresses or names that the client did not send.
	Message string
	// Err is what the operator needs to know; it is logged, never sent.
	Err error
	// RetryAfter, when positive, is sent as Retry-After, rounded up to seconds.
	RetryAfter time.Duration
	// Header holds further headers of the answer, such as Allow or
	// WWW-Authenticate. May be nil.
	Header http.Header
	// Answer, when set, is the answer as somebody else has it, in place of Message and of the status of Code.
	Answer *Answer
}

// An Answer is a status, 200 to 599, and a body. What its headers are says [Fault.Header].
type Answer struct {
	Status int
	Body   []byte
}

// New returns a fault whose message is formatted like [fmt.Sprintf].
func New(code Code, format string, args ...any) *Fault {
	return &Fault{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns a fault with the cause err, which the client does not see.
func Wrap(code Code, err error, format string, args ...any) *Fault {
	return &Fault{Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

// Error returns the message and, for the operator, the cause.
func (f *Fault) Error() string {
	if f.Err == nil {
		return f.Message
	}
	return f.Message + ": " + f.Err.Error()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Of returns err as a fault: the fault in its chain, or one made from it.
// context.Canceled becomes ClientGone, a deadline UpstreamTimeout, anything else
// Internal with a message that tells the client nothing.
func Of(err error) *Fault {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled):
		return &Fault{Code: ClientGone, Message: "the client closed the request", Err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Fault{Code: UpstreamTimeout, Message: "the upstream did not answer in time", Err: err}
	default:
		return &Fault{Code: Internal, Message: "internal error", Err: err}
	}
}

// WriteText renders the fault as plain text: its status, its headers and its
// message. It is for backends whose protocol has no error form of its own, and for a fault with an
// Answer, which it writes as it is.
func (f *Fault) WriteText(w http.ResponseWriter) {
	header := w.Header()
	for k, v := range f.Header {
		header[k] = v
	}
	if f.RetryAfter > 0 {
		seconds := (f.RetryAfter + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	header.Del("Content-Length")
	if a := f.Answer; a != nil {
		if header["Content-Type"] == nil {
			header["Content-Type"] = nil // so that nothing is made up
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body) // likewise
		return
	}
	header.Set("Content-Type", "text/plain")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.Code.Status())
	_, _ = io.WriteString(w, f.Message) // a client that is gone needs no error
}
