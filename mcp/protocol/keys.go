package protocol

import (
	"strings"
	"unicode"
)

// A scope is an object of a message whose keys have a meaning that a policy or
// a route may rest on: the keys that MCP defines for it, most frequent first.
//
// A key that only a lenient decoder takes for one of these (by folding case, or
// by trimming NUL and space) would let the receiver act on another value than
// the one the gateway decided on, so Parse refuses it. Decoders that do so were
// found in MCP SDKs and gateways (CVE-2026-27896, GHSA-q382-vc8q-7jhj).
type scope []string

var (
	// envelopeScope is the message itself.
	envelopeScope = scope{"jsonrpc", "id", "method", "params", "result", "error"}

	// paramsScope is params of any method.
	paramsScope = scope{
		"name", "arguments", "_meta", "uri", "cursor", "ref", "argument", "context", "level",
		"protocolVersion", "capabilities", "clientInfo",
		"requestId", "reason", "progressToken", "progress", "total", "message",
		"notifications", "requestState", "inputResponses", "task", "taskId",
	}

	// metaScope is params._meta.
	metaScope = scope{
		MetaProtocolVersion, MetaClientCapabilities, MetaClientInfo, MetaProgressToken,
		MetaLogLevel, MetaSubscriptionID, MetaServerInfo,
		MetaTraceParent, MetaTraceState, "baggage",
	}

	// refScope is params.ref of completion/complete.
	refScope = scope{"type", "name", "uri"}

	// argumentScope is params.argument of completion/complete.
	argumentScope = scope{"name", "value"}

	// listenScope is params.notifications of subscriptions/listen.
	listenScope = scope{"toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"}

	// errorScope is the error object of a response.
	errorScope = scope{"code", "message", "data"}
)

// smuggled returns the known key that a lenient decoder could take key for.
// Known keys themselves, and keys that resemble none, give "".
func (s scope) smuggled(key []byte) string {
	for _, known := range s {
		if string(key) == known {
			return ""
		}
	}
	trimmed := strings.TrimFunc(string(key), func(r rune) bool {
		return r == '\uFEFF' || unicode.IsSpace(r) || unicode.IsControl(r)
	})
	for _, known := range s {
		if strings.EqualFold(trimmed, known) {
			return known
		}
	}
	return ""
}
