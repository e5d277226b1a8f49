package protocol

import (
	"fmt"
	"strconv"
)

// A Code is a JSON-RPC error code.
type Code int

// The codes that MCP uses (JSON-RPC 2.0, section 5.1; 2026-07-28, Base Protocol,
// Error Codes). CodeResourceNotFoundLegacy is CodeInvalidParams since
// 2026-07-28; CodeURLElicitationRequired is of 2025-11-25 only.
const (
	CodeParse                      Code = -32700
	CodeInvalidRequest             Code = -32600
	CodeMethodNotFound             Code = -32601
	CodeInvalidParams              Code = -32602
	CodeInternal                   Code = -32603
	CodeResourceNotFoundLegacy     Code = -32002
	CodeHeaderMismatch             Code = -32020
	CodeMissingClientCapability    Code = -32021
	CodeUnsupportedProtocolVersion Code = -32022
	CodeURLElicitationRequired     Code = -32042
)

// An Error is a JSON-RPC error object. It implements error. An error that a peer
// sent keeps its bytes in Raw and passes through unchanged.
type Error struct {
	Code    Code
	Message string
	Data    []byte // raw JSON, nil when absent
	Raw     []byte // the object as a peer wrote it; nil for our own
	// BadRequest says that HTTP answers 400 although the code does not ask for it:
	// the message was refused for its form, not for what it asks.
	BadRequest bool
}

// Error returns "<message> (<code>)".
func (e *Error) Error() string { return e.Message + " (" + strconv.Itoa(int(e.Code)) + ")" }

// append appends the error object to dst: the peer's bytes where there are any.
func (e *Error) append(dst []byte) []byte {
	if e.Raw != nil {
		return append(dst, e.Raw...)
	}
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, e.Message)
	if e.Data != nil {
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	}
	return append(dst, '}')
}

// Errorf returns an error of ours whose message is formatted like [fmt.Sprintf].
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// HeaderMismatch returns the error for headers that are missing, malformed or
// say something else than the body (2026-07-28, Streamable HTTP, Server
// Validation). It is answered with status 400.
func HeaderMismatch(format string, args ...any) *Error {
	return Errorf(CodeHeaderMismatch, "Header mismatch: "+format, args...)
}

// UnsupportedProtocolVersion returns the error for a revision that the peer
// does not serve (2026-07-28, Versioning, Protocol Version Negotiation), with
// data.supported and data.requested. It is answered with status 400.
func UnsupportedProtocolVersion(requested string, supported []string) *Error {
	data := []byte(`{"supported":[`)
	for i, v := range supported {
		if i > 0 {
			data = append(data, ',')
		}
		data = appendQuoted(data, v)
	}
	data = append(data, `],"requested":`...)
	data = appendQuoted(data, requested)
	data = append(data, '}')
	return &Error{Code: CodeUnsupportedProtocolVersion, Message: "Unsupported protocol version", Data: data}
}

// MissingClientCapability returns the error for a request that needs
// capabilities which the client did not declare (2026-07-28, Base Protocol,
// Error Codes), with data.requiredCapabilities. required is a raw JSON object
// of the shape of ClientCapabilities. It is answered with status 400.
func MissingClientCapability(required []byte) *Error {
	data := append([]byte(`{"requiredCapabilities":`), required...)
	data = append(data, '}')
	return &Error{Code: CodeMissingClientCapability, Message: "Missing required client capability", Data: data}
}

// MethodNotFound returns the error for a method that is not served, which is
// answered with status 404 since 2026-07-28 and with 200 before.
func MethodNotFound(method string) *Error {
	return Errorf(CodeMethodNotFound, "Method not found: %s", method)
}
