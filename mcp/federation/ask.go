package federation

import (
	"bytes"
	"crypto/rand"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// What servers ask clients: whether a client may be asked it, and what changes of
// it on the way there and of the answer on the way back.

// has reports whether a set of capabilities has the one at path.
func has(capabilities []byte, path ...string) bool {
	v := string(protocol.Get(capabilities, path...))
	return v != "" && v != "null" && v != "false"
}

// lacking returns the capabilities that a client needs to be asked something and
// did not declare, as a raw JSON object of their shape; nil when it may be asked.
// Of methods that MCP does not define nothing is known: they are for vendors and
// their clients to agree on.
func lacking(capabilities []byte, method string, params []byte) []byte {
	switch method {
	case "roots/list":
		if !has(capabilities, "roots") {
			return []byte(`{"roots":{}}`)
		}
	case "sampling/createMessage":
		if !has(capabilities, "sampling") {
			return []byte(`{"sampling":{}}`)
		}
		tools := has(params, "tools") || has(params, "toolChoice")
		if tools && !has(capabilities, "sampling", "tools") {
			return []byte(`{"sampling":{"tools":{}}}`)
		}
	case "elicitation/create":
		form, url := has(capabilities, "elicitation", "form"), has(capabilities, "elicitation", "url")
		if mode, _ := protocol.GetString(params, "mode"); mode == "url" {
			if !url {
				return []byte(`{"elicitation":{"url":{}}}`)
			}
		} else if !form && (url || !has(capabilities, "elicitation")) {
			// One without any mode means the form.
			return []byte(`{"elicitation":{"form":{}}}`)
		}
	case "tasks/get", "tasks/result":
		if !has(capabilities, "tasks") {
			return []byte(`{"tasks":{}}`)
		}
	case "tasks/list", "tasks/cancel":
		if _, what, _ := strings.Cut(method, "/"); !has(capabilities, "tasks", what) {
			return []byte(`{"tasks":{"` + what + `":{}}}`)
		}
	}
	return nil
}

// declined returns the error with which a client of the legacy era answers what
// it can't be asked.
func declined(capabilities []byte, method string) *protocol.Error {
	switch {
	case method == "elicitation/create" && has(capabilities, "elicitation"):
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: the client does not support this mode of elicitation")
	case method == "sampling/createMessage" && has(capabilities, "sampling"):
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: the client does not support sampling with tools")
	default:
		return protocol.Errorf(protocol.CodeMethodNotFound, "the client does not support %s", method)
	}
}

// inputMethod reports whether a client of the modern era can be asked that
// (2026-07-28, Multi Round-Trip Requests, Server Requirements).
func inputMethod(method string) bool {
	return method == "elicitation/create" || method == "sampling/createMessage" || method == "roots/list"
}

// asked returns the params of a request of a target as a client of that era gets
// them: URIs as the client knows them, and of an elicitation by URL an id only
// where the era has one.
func asked(method string, params []byte, s scope, era protocol.Era) []byte {
	switch method {
	case "sampling/createMessage":
		if messages, changed := messageList(protocol.Get(params, "messages"), s.uri); changed {
			return protocol.Splice(params, protocol.Edit{Path: []string{"messages"}, Value: messages})
		}
	case "elicitation/create":
		mode, _ := protocol.GetString(params, "mode")
		known := protocol.Get(params, "elicitationId") != nil
		switch id := []string{"elicitationId"}; {
		case mode != "url":
		case era == protocol.Modern && known:
			return protocol.Splice(params, protocol.Edit{Path: id})
		case era == protocol.Legacy && !known:
			return protocol.Splice(params, protocol.Edit{Path: id, Value: protocol.Quote(rand.Text())})
		}
	}
	return params
}

// answeredTo returns a client's answer as the target gets it: what the client
// links to by the names that it knows has the target's own.
func answeredTo(result []byte, s scope) []byte {
	if s.bare || has(result, "action") { // that of an elicitation is a form, not content
		return result
	}
	content, changed := anyContent(protocol.Get(result, "content"), s.own)
	if !changed {
		return result
	}
	return protocol.Splice(result, protocol.Edit{Path: []string{"content"}, Value: content})
}

// inputResponses returns the answers in the retry of a request as the target gets
// them.
func inputResponses(responses []byte, s scope) []byte {
	if s.bare || len(responses) == 0 || responses[0] != '{' {
		return responses
	}
	var edits []protocol.Edit
	for key, value := range protocol.Members(responses) {
		if out := answeredTo(value, s); !bytes.Equal(out, value) {
			edits = append(edits, protocol.Edit{Path: []string{key}, Value: out})
		}
	}
	return splice(responses, edits)
}

// inputRequests returns what a target asks in an input_required result or a task
// as a client of the modern era gets it, or the capabilities that the client lacks
// for it. malformed says that it is no such thing.
func inputRequests(requests, capabilities []byte, s scope) (out, lack []byte, malformed bool) {
	if len(requests) == 0 || requests[0] != '{' {
		return nil, nil, true
	}
	var edits []protocol.Edit
	for key, value := range protocol.Members(requests) {
		method, ok := protocol.GetString(value, "method")
		if !ok || !inputMethod(method) {
			return nil, nil, true
		}
		params := protocol.Get(value, "params")
		if lack := lacking(capabilities, method, params); lack != nil {
			return nil, lack, false
		}
		if changed := asked(method, params, s, protocol.Modern); !bytes.Equal(changed, params) {
			edits = append(edits, protocol.Edit{Path: []string{key, "params"}, Value: changed})
		}
	}
	return splice(requests, edits), nil, false
}

// urlsRequired returns the inputRequests that say to a client of the modern era
// what the error −32042 says to others (2025-11-25, Elicitation, URL Elicitation
// Required Error); ok is false for an error that names none.
func urlsRequired(e *protocol.Error) (requests []byte, ok bool) {
	var edits []protocol.Edit
	for one := range protocol.Elements(protocol.Get(e.Data, "elicitations")) {
		if _, isURL := protocol.GetString(one, "url"); !isURL || len(edits) == maxAsked {
			return nil, false
		}
		key := urlKey + strconv.Itoa(len(edits)+1)
		params := protocol.Splice(one,
			protocol.Edit{Path: []string{"mode"}, Value: []byte(`"url"`)},
			protocol.Edit{Path: []string{"elicitationId"}})
		edits = append(edits, protocol.Edit{Path: []string{key}, Value: protocol.Splice(nil,
			protocol.Edit{Path: []string{"method"}, Value: []byte(`"elicitation/create"`)},
			protocol.Edit{Path: []string{"params"}, Value: params})})
	}
	return splice([]byte("{}"), edits), len(edits) > 0
}

// urlKey begins the keys of inputRequests that urlsRequired makes.
const urlKey = "url"

// urlsDeclined reports whether the client did not accept one of urlsRequired.
func urlsDeclined(responses []byte) bool {
	for key, value := range protocol.Members(responses) {
		if action, _ := protocol.GetString(value, "action"); strings.HasPrefix(key, urlKey) && action != "accept" {
			return true
		}
	}
	return false
}
