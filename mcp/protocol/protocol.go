// Package protocol is the wire of MCP: JSON-RPC envelopes, SSE events, MCP's HTTP
// headers, the protocol revisions and their errors. It does no I/O of its own
// beyond the readers and writers it is handed.
//
// Its central type is [Message], one JSON-RPC message that was checked strictly
// once and whose parts stay bytes. Packages mcp/session and mcp/federation parse
// every message with [Parse], look at its parts, and splice what must change;
// everything else reaches the peer byte for byte. Nothing outside this package
// decodes an envelope.
package protocol

import "iter"

// The protocol revisions that mcpgw speaks, oldest first.
const (
	Version20241105 = "2024-11-05"
	Version20250326 = "2025-03-26"
	Version20250618 = "2025-06-18"
	Version20251125 = "2025-11-25"
	Version20260728 = "2026-07-28"
)

// LatestLegacy is the newest revision with sessions, LatestModern the newest
// without.
const (
	LatestLegacy = Version20251125
	LatestModern = Version20260728
)

// An Era is one of the two families of revisions: Legacy (initialize, sessions)
// up to 2025-11-25, Modern (stateless) since 2026-07-28.
type Era uint8

// The eras; EraUnknown is a peer that has not been asked.
const (
	EraUnknown Era = iota
	Legacy
	Modern
)

// EraOf returns the era of a revision, EraUnknown for one that mcpgw does not
// speak.
func EraOf(version string) Era { panic("unwritten") }

// String returns "legacy", "modern" or "unknown".
func (e Era) String() string { panic("unwritten") }

// NegotiateLegacy returns the revision to answer an initialize request with:
// the requested one when it is a legacy revision, else LatestLegacy.
func NegotiateLegacy(requested string) string { panic("unwritten") }

// The keys of params._meta and result._meta that MCP reserves.
const (
	MetaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo         = "io.modelcontextprotocol/clientInfo"
	MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaServerInfo         = "io.modelcontextprotocol/serverInfo"
	MetaLogLevel           = "io.modelcontextprotocol/logLevel"
	MetaSubscriptionID     = "io.modelcontextprotocol/subscriptionId"
	MetaProgressToken      = "progressToken"
)

// The HTTP headers of the streamable transport.
const (
	HeaderSessionID       = "Mcp-Session-Id"
	HeaderProtocolVersion = "Mcp-Protocol-Version"
	HeaderMethod          = "Mcp-Method"
	HeaderName            = "Mcp-Name"
	HeaderParamPrefix     = "Mcp-Param-"
	HeaderLastEventID     = "Last-Event-Id"
)

// A Kind says what a Message is.
type Kind uint8

// The kinds of JSON-RPC messages.
const (
	Request Kind = iota + 1
	Notification
	Response // with a result or an error
)

// An ID is a request id as it was written: a JSON string or an integer, as raw
// JSON bytes (so that 9007199254740993 and "a" come back exactly). The empty ID
// is absent.
type ID string

// Limits bounds what Parse accepts. A zero field means its default: body 4 MiB,
// depth 128, 10,000 members an object, strings of 2 MiB, numbers of 64 digits, ids
// of 256 bytes.
type Limits struct {
	Bytes, Depth, Members, String, Number, ID int
}

// A Message is one JSON-RPC 2.0 message. Its byte slices alias the parsed buffer
// and must not be changed.
type Message struct {
	Kind   Kind
	ID     ID     // empty for notifications
	Method string // of requests and notifications
	Params []byte // the raw JSON object, nil when absent
	Result []byte // the raw JSON of a result, nil when absent
	Error  *Error // of an error response
	Raw    []byte // the whole message
}

// Parse checks b strictly and returns the message in it. It refuses duplicate
// keys, invalid UTF-8, lone surrogates, trailing data, anything over the limits,
// and keys of the envelope, params, params._meta and reference objects that equal a known key
// only after case folding or trimming of NUL and space (decisions 33). Its errors are *[Error] with
// CodeParse or CodeInvalidRequest, fit for the client; the ID of the broken
// message, where it could still be read, is in the returned Message.
func Parse(b []byte, limits Limits) (*Message, error) { panic("unwritten") }

// ParseBatch splits a JSON-RPC batch of 2025-03-26 into its messages, strictly
// like Parse, and reports whether b was an array at all. At most max elements.
func ParseBatch(b []byte, limits Limits, max int) (elements [][]byte, isBatch bool, err error) {
	panic("unwritten")
}

// Get returns the raw JSON value at the path of member names inside the JSON
// object obj, nil when there is none. obj must have been checked by Parse.
func Get(obj []byte, path ...string) []byte { panic("unwritten") }

// GetString is Get for a string value, decoded; ok tells whether there was one.
func GetString(obj []byte, path ...string) (s string, ok bool) { panic("unwritten") }

// Members iterates over the members of a checked JSON object in order: decoded
// name, raw value.
func Members(obj []byte) iter.Seq2[string, []byte] { panic("unwritten") }

// Elements iterates over the raw elements of a checked JSON array.
func Elements(arr []byte) iter.Seq[[]byte] { panic("unwritten") }

// An Edit is one change to a checked JSON object: set the value at Path to
// Value (raw JSON), or remove it when Value is nil. Missing objects on the way are made.
type Edit struct {
	Path  []string
	Value []byte
}

// Splice returns obj with the edits applied and every other byte as it was. obj
// may be nil, which stands for {}.
func Splice(obj []byte, edits ...Edit) []byte { panic("unwritten") }

// Quote returns s as a JSON string.
func Quote(s string) []byte { panic("unwritten") }

// AppendRequest, AppendNotification, AppendResult and AppendError append one
// complete message to dst. params may be nil.
func AppendRequest(dst []byte, id ID, method string, params []byte) []byte { panic("unwritten") }
func AppendNotification(dst []byte, method string, params []byte) []byte   { panic("unwritten") }
func AppendResult(dst []byte, id ID, result []byte) []byte                 { panic("unwritten") }
func AppendError(dst []byte, id ID, err *Error) []byte/* id "" is null */ { panic("unwritten") }

// A Code is a JSON-RPC error code.
type Code int

// The codes that MCP uses.
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
	Data    []byte // raw JSON, may be nil
	Raw     []byte // the object as a peer wrote it; nil for our own
}

// Error returns "<message> (<code>)".
func (e *Error) Error() string { panic("unwritten") }
