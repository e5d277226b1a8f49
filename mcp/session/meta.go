package session

import (
	"context"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/telemetry"
)

// hopPaths are where in params is what belongs to one hop and never passes
// from the client to the target as it is (2026-07-28, Base Protocol, _meta).
var hopPaths = [...][2]string{
	{"_meta", protocol.MetaProtocolVersion},
	{"_meta", protocol.MetaClientInfo},
	{"_meta", protocol.MetaClientCapabilities},
	{"_meta", protocol.MetaLogLevel},
	{"_meta", protocol.MetaSubscriptionID},
}

// tokenPath is where the progress token is.
var tokenPath = []string{"_meta", protocol.MetaProgressToken}

// legacyParams returns params as a legacy target gets them: without the keys
// of one hop, with id for a progress token where the client sent one. It also
// returns the client's token, nil if there was none.
func legacyParams(params []byte, id protocol.ID) (adapted, token []byte) {
	meta := protocol.Get(params, "_meta")
	if meta == nil {
		return params, nil
	}
	var room [len(hopPaths) + 1]protocol.Edit
	edits := room[:0]
	if token = protocol.Get(meta, protocol.MetaProgressToken); token != nil {
		edits = append(edits, protocol.Edit{Path: tokenPath, Value: []byte(id)})
	}
	if protocol.MayHold(meta, protocol.MetaPrefix) {
		for i := range hopPaths {
			if path := hopPaths[i][:]; protocol.Get(meta, path[1]) != nil {
				edits = append(edits, protocol.Edit{Path: path})
			}
		}
	}
	if len(edits) == 0 {
		return params, nil
	}
	return protocol.Splice(params, edits...), token
}

// modernParams returns params as a modern target gets them: with the keys that
// every request must carry, with id for a progress token where the client sent
// one, and with the log level that the client asked for in its own way. It also
// returns the client's token, nil if there was none.
func modernParams(params []byte, id protocol.ID, version string, capabilities, info, level []byte) (adapted, token []byte) {
	edits := make([]protocol.Edit, 0, 6)
	edits = append(edits,
		edit(protocol.Quote(version), protocol.MetaProtocolVersion),
		edit(info, protocol.MetaClientInfo),
		edit(capabilities, protocol.MetaClientCapabilities))
	if token = protocol.Get(params, "_meta", protocol.MetaProgressToken); token != nil {
		edits = append(edits, edit([]byte(id), protocol.MetaProgressToken))
	}
	meta := protocol.Get(params, "_meta")
	if level != nil && protocol.Get(meta, protocol.MetaLogLevel) == nil {
		edits = append(edits, edit(level, protocol.MetaLogLevel))
	}
	if protocol.Get(meta, protocol.MetaSubscriptionID) != nil {
		edits = append(edits, edit(nil, protocol.MetaSubscriptionID))
	}
	return protocol.Splice(params, edits...), token
}

// tracedParams returns params with the trace that ctx is within in its _meta (SEP-414).
func tracedParams(ctx context.Context, params []byte) []byte {
	traceparent, tracestate := telemetry.TraceParent(ctx)
	if traceparent == "" {
		return params
	}
	edits := []protocol.Edit{edit(protocol.Quote(traceparent), protocol.MetaTraceParent), edit(nil, protocol.MetaTraceState)}
	if tracestate != "" {
		edits[1].Value = protocol.Quote(tracestate)
	}
	return protocol.Splice(params, edits...)
}

func edit(value []byte, key string) protocol.Edit {
	return protocol.Edit{Path: []string{"_meta", key}, Value: value}
}

// logLevel returns the log level that a modern client asks for in the _meta of
// one request, decoded; "" if it asks for none.
func logLevel(params []byte) string {
	level, _ := protocol.GetString(params, "_meta", protocol.MetaLogLevel)
	return level
}

// capabilitiesFor returns the capabilities of the client that a target of that era
// is told of: not those that only the other era has, of which the target could
// make nothing that reaches the client. The tasks of the two eras are not the same
// thing, and roots change without notice in the modern one.
func capabilitiesFor(era protocol.Era, c *Client) []byte {
	if len(c.Capabilities) == 0 {
		return []byte("{}")
	}
	client := protocol.EraOf(c.Version)
	var edits []protocol.Edit
	drop := func(path ...string) {
		if protocol.Get(c.Capabilities, path...) != nil {
			edits = append(edits, protocol.Edit{Path: path})
		}
	}
	if era == protocol.Modern || client == protocol.Modern {
		drop("tasks")
	}
	if era == protocol.Legacy || client == protocol.Legacy {
		drop("extensions", protocol.TasksExtension)
	}
	if era == protocol.Legacy && client == protocol.Modern {
		drop("roots", "listChanged")
	}
	if edits == nil {
		return c.Capabilities
	}
	return protocol.Splice(c.Capabilities, edits...)
}

// object returns raw, or {} when it is nil.
func object(raw []byte) []byte {
	if len(raw) == 0 {
		return []byte("{}")
	}
	return raw
}
