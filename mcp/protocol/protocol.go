// Package protocol is the wire of MCP: JSON-RPC envelopes, MCP's HTTP headers, the
// protocol revisions and their errors. It does no I/O.
//
// Its central type is [Message], one JSON-RPC message that was checked strictly
// once and whose parts stay bytes. Packages mcp/session and mcp/federation parse
// every message with [Parse], look at its parts with [Get], [Members] and
// [Elements], and change what must change with [Splice]; everything else reaches
// the peer byte for byte. Nothing outside this package decodes an envelope.
//
// Parse is strict so that every decoder behind the gateway reads what the
// gateway read: duplicate keys, invalid UTF-8, lone surrogates and keys that
// only a lenient decoder would take for a known one are refused. The functions
// that look into checked bytes rely on that and are fast; on unchecked bytes
// they return rubbish, but they do not panic.
package protocol

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

// SupportedVersions returns the revisions that mcpgw speaks, newest first, as
// server/discover lists them. The slice is the caller's.
func SupportedVersions() []string {
	return []string{Version20260728, Version20251125, Version20250618, Version20250326, Version20241105}
}

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
func EraOf(version string) Era {
	switch version {
	case Version20260728:
		return Modern
	case Version20251125, Version20250618, Version20250326, Version20241105:
		return Legacy
	default:
		return EraUnknown
	}
}

// String returns "legacy", "modern" or "unknown".
func (e Era) String() string {
	switch e {
	case Legacy:
		return "legacy"
	case Modern:
		return "modern"
	default:
		return "unknown"
	}
}

// NegotiateLegacy returns the revision to answer an initialize request with:
// the requested one when it is a legacy revision, else LatestLegacy
// (2025-11-25, Lifecycle, Version Negotiation).
func NegotiateLegacy(requested string) string {
	if EraOf(requested) == Legacy {
		return requested
	}
	return LatestLegacy
}

// MetaPrefix begins the keys of _meta that MCP reserves, but for those that are older.
const MetaPrefix = "io.modelcontextprotocol/"

// The keys of params._meta and result._meta that MCP reserves.
const (
	MetaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo         = "io.modelcontextprotocol/clientInfo"
	MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaServerInfo         = "io.modelcontextprotocol/serverInfo"
	MetaLogLevel           = "io.modelcontextprotocol/logLevel"
	MetaSubscriptionID     = "io.modelcontextprotocol/subscriptionId"
	MetaProgressToken      = "progressToken"
	MetaRelatedTask        = "io.modelcontextprotocol/related-task" // 2025-11-25
	MetaTraceParent        = "traceparent"                          // this and the next as in W3C Trace Context (SEP-414)
	MetaTraceState         = "tracestate"
)

// TasksExtension is the name of the Tasks extension of 2026-07-28.
const TasksExtension = "io.modelcontextprotocol/tasks"

// The HTTP headers of the streamable transport, in the canonical form of
// net/http.
const (
	HeaderSessionID       = "Mcp-Session-Id"
	HeaderProtocolVersion = "Mcp-Protocol-Version"
	HeaderMethod          = "Mcp-Method"
	HeaderName            = "Mcp-Name"
	HeaderParamPrefix     = "Mcp-Param-"
	HeaderLastEventID     = "Last-Event-Id"
)
