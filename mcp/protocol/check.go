package protocol

import (
	"net/http"
	"strings"
)

// CheckHeaders checks the headers of a POST of the modern era against the
// message in its body (2026-07-28, Streamable HTTP, Request Metadata). It
// returns nil, or the error to answer with status 400:
//
//   - CodeHeaderMismatch when Mcp-Protocol-Version, Mcp-Method or (of methods
//     with a [NameKey]) Mcp-Name is missing, stands more than once,
//     is malformed, or says something else than the body;
//   - CodeInvalidParams when a request lacks the protocol version or the client
//     capabilities in params._meta, or has another type of value there.
//
// Of notifications, for which the revision asks no headers but the version,
// those that are there must agree. Whether the version is one that is spoken,
// and what Mcp-Param headers say, is for the caller to decide: see
// [UnsupportedProtocolVersion] and [HeaderEqualsParam].
func CheckHeaders(h http.Header, m *Message) *Error {
	version, err := single(h, HeaderProtocolVersion)
	if err != nil {
		return err
	}
	if m.Kind == Request {
		if err := checkMeta(m.Params, version); err != nil {
			return err
		}
	}
	if version == "" {
		return HeaderMismatch("%s is missing", HeaderProtocolVersion)
	}

	method, err := single(h, HeaderMethod)
	switch {
	case err != nil:
		return err
	case method == m.Method, method == "" && m.Kind != Request:
	case method == "":
		return HeaderMismatch("%s is missing", HeaderMethod)
	default:
		return HeaderMismatch("%s %q does not match the method %q of the body", HeaderMethod, method, m.Method)
	}

	key := NameKey(m.Method)
	if key == "" || m.Kind != Request {
		return nil
	}
	header, err := single(h, HeaderName)
	if err != nil {
		return err
	}
	if header == "" {
		return HeaderMismatch("%s is missing", HeaderName)
	}
	name, ok := DecodeHeader(header)
	if !ok {
		return HeaderMismatch("%s is malformed", HeaderName)
	}
	switch want, ok := GetString(m.Params, key); {
	case !ok:
		return Errorf(CodeInvalidParams, "Invalid params: %s needs the string params.%s", m.Method, key)
	case name != want:
		return HeaderMismatch("%s %q does not match params.%s %q of the body", HeaderName, name, key, want)
	}
	return nil
}

// checkMeta checks the keys of params._meta that every modern request has, and
// that its version is the one of the header (2026-07-28, Base Protocol, _meta).
func checkMeta(params []byte, header string) *Error {
	meta := Get(params, "_meta")
	version, ok := GetString(meta, MetaProtocolVersion)
	if !ok {
		return missingMeta(MetaProtocolVersion)
	}
	if header == "" {
		return HeaderMismatch("%s is missing", HeaderProtocolVersion)
	}
	if header != version {
		return HeaderMismatch("%s %q does not match %s %q of the body", HeaderProtocolVersion, header, MetaProtocolVersion, version)
	}
	if v := Get(meta, MetaClientCapabilities); len(v) == 0 || v[0] != '{' {
		return missingMeta(MetaClientCapabilities)
	}
	if v := Get(meta, MetaClientInfo); len(v) > 0 && v[0] != '{' {
		return missingMeta(MetaClientInfo)
	}
	return nil
}

// missingMeta returns the error for a request without a _meta key that it needs,
// which HTTP answers with 400 (2026-07-28, Base Protocol, _meta).
func missingMeta(key string) *Error {
	e := Errorf(CodeInvalidParams, "Invalid params: missing or invalid _meta key %q", key)
	e.BadRequest = true
	return e
}

// NameKey returns the key of params that Mcp-Name mirrors for a method, "" for
// methods without Mcp-Name (2026-07-28, Streamable HTTP, Standard Request Headers;
// Tasks extension, Routing Headers).
func NameKey(method string) string {
	switch method {
	case "tools/call", "prompts/get":
		return "name"
	case "resources/read":
		return "uri"
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId"
	default:
		return ""
	}
}

// single returns the one value of a header, without white space around it (RFC
// 9110, section 5.5), "" when there is none. Several values are an error, since
// who reads the first and who reads the last would disagree.
func single(h http.Header, name string) (string, *Error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return strings.Trim(values[0], " \t"), nil
	default:
		return "", HeaderMismatch("%s stands more than once", name)
	}
}
