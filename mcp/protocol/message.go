package protocol

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A Kind says what a Message is.
type Kind uint8

// The kinds of JSON-RPC messages.
const (
	Request Kind = iota + 1
	Notification
	Response // with a result or an error
)

// String returns "request", "notification", "response" or "invalid".
func (k Kind) String() string {
	switch k {
	case Request:
		return "request"
	case Notification:
		return "notification"
	case Response:
		return "response"
	default:
		return "invalid"
	}
}

// An ID is a request id as it was written: a JSON string or an integer, as raw
// JSON bytes, so that 9007199254740993 and "a" come back exactly. The empty ID
// is absent. IDs are compared as written: 1 and "1" differ.
type ID string

// IntID returns the ID of an integer.
func IntID(n int64) ID { return ID(strconv.FormatInt(n, 10)) }

// A Message is one JSON-RPC 2.0 message. Its byte slices alias the parsed buffer
// and must not be changed. Exactly one of these holds: it is a request (ID and
// Method), a notification (Method), or a response (Result or Error).
type Message struct {
	Kind   Kind
	ID     ID     // empty for notifications, and for error responses without one
	Method string // of requests and notifications, decoded
	Params []byte // the raw JSON object, nil when absent or null
	Result []byte // the raw JSON object of a result, nil when absent
	Error  *Error // of an error response
	Raw    []byte // the whole message
}

// AppendRequest appends a complete request to dst and returns the extended
// slice. params is a raw JSON object or nil.
func AppendRequest(dst []byte, id ID, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"method":`...)
	return appendCall(dst, method, params)
}

// AppendNotification appends a complete notification to dst and returns the
// extended slice. params is a raw JSON object or nil.
func AppendNotification(dst []byte, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":`...)
	return appendCall(dst, method, params)
}

func appendCall(dst []byte, method string, params []byte) []byte {
	dst = appendQuoted(dst, method)
	if params != nil {
		dst = append(dst, `,"params":`...)
		dst = append(dst, params...)
	}
	return append(dst, '}')
}

// AppendResult appends a complete response with a result to dst and returns the
// extended slice. A nil result is written as {}.
func AppendResult(dst []byte, id ID, result []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"result":`...)
	if result == nil {
		dst = append(dst, '{', '}')
	} else {
		dst = append(dst, result...)
	}
	return append(dst, '}')
}

// AppendError appends a complete error response to dst and returns the extended
// slice. With an empty id, that of a request whose id could not be read, the
// response has no id: MCP's schema allows that (2025-11-25, JSONRPCErrorResponse)
// and refuses the null of JSON-RPC 2.0.
func AppendError(dst []byte, id ID, err *Error) []byte {
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if id != "" {
		dst = append(dst, `"id":`...)
		dst = append(dst, id...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"error":`...)
	dst = err.append(dst)
	return append(dst, '}')
}

// Quote returns s as a JSON string. Invalid UTF-8 in s becomes U+FFFD.
func Quote(s string) []byte { return appendQuoted(make([]byte, 0, len(s)+2), s) }

// appendQuoted appends s as a JSON string to dst.
func appendQuoted(dst []byte, s string) []byte {
	// The error only tells of invalid UTF-8, which was replaced.
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
