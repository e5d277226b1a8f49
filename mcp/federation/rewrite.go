package federation

import "github.com/mcpgw/mcpgw/mcp/protocol"

// What a client sees of a target's URIs it must be able to read back, so they
// are rewritten wherever MCP says that a string is one.

// uriEdit returns the edit that makes the URI at path what rename makes of it.
func uriEdit(obj []byte, rename func(string) string, path ...string) (protocol.Edit, bool) {
	uri, ok := protocol.GetString(obj, path...)
	if !ok || uri == "" {
		return protocol.Edit{}, false
	}
	renamed := rename(uri)
	return protocol.Edit{Path: path, Value: protocol.Quote(renamed)}, renamed != uri
}

// toolResult rewrites the resource links and embedded resources of a
// CallToolResult, and its reference to an app.
func toolResult(result []byte, s scope) []byte {
	if s.bare {
		return result
	}
	edits := appendUIEdits(nil, result, s)
	if content, changed := contentList(protocol.Get(result, "content"), s.uri); changed {
		edits = append(edits, protocol.Edit{Path: []string{"content"}, Value: content})
	}
	return splice(result, edits)
}

// promptResult rewrites the contents of the messages of a GetPromptResult.
func promptResult(result []byte, s scope) []byte {
	if s.bare {
		return result
	}
	messages, changed := messageList(protocol.Get(result, "messages"), s.uri)
	if !changed {
		return result
	}
	return protocol.Splice(result, protocol.Edit{Path: []string{"messages"}, Value: messages})
}

// messageList rewrites the contents of the messages of a prompt or of sampling.
func messageList(messages []byte, rename func(string) string) ([]byte, bool) {
	return elements(messages, func(m []byte) ([]byte, bool) {
		content, changed := anyContent(protocol.Get(m, "content"), rename)
		if !changed {
			return m, false
		}
		return protocol.Splice(m, protocol.Edit{Path: []string{"content"}, Value: content}), true
	})
}

// anyContent rewrites a content that is one block or a list of them.
func anyContent(content []byte, rename func(string) string) ([]byte, bool) {
	if len(content) > 0 && content[0] == '[' {
		return contentList(content, rename)
	}
	return contentBlock(content, rename)
}

// readResult rewrites the contents of a ReadResourceResult.
func readResult(result []byte, s scope) []byte {
	if s.bare {
		return result
	}
	contents, changed := elements(protocol.Get(result, "contents"), func(c []byte) ([]byte, bool) {
		edits := appendUIEdits(nil, c, s)
		if e, ok := uriEdit(c, s.uri, "uri"); ok {
			edits = append(edits, e)
		}
		return splice(c, edits), len(edits) > 0
	})
	if !changed {
		return result
	}
	return protocol.Splice(result, protocol.Edit{Path: []string{"contents"}, Value: contents})
}

func contentList(list []byte, rename func(string) string) ([]byte, bool) {
	return elements(list, func(block []byte) ([]byte, bool) { return contentBlock(block, rename) })
}

// contentBlock rewrites one ContentBlock. A tool_result of sampling holds blocks
// of its own.
func contentBlock(block []byte, rename func(string) string) ([]byte, bool) {
	if len(block) == 0 || block[0] != '{' {
		return block, false
	}
	var edits []protocol.Edit
	switch typ, _ := protocol.Text(protocol.Get(block, "type")); string(typ) {
	case "resource_link":
		if e, ok := uriEdit(block, rename, "uri"); ok {
			edits = append(edits, e)
		}
	case "resource":
		if e, ok := uriEdit(block, rename, "resource", "uri"); ok {
			edits = append(edits, e)
		}
	case "tool_result":
		if content, changed := contentList(protocol.Get(block, "content"), rename); changed {
			edits = append(edits, protocol.Edit{Path: []string{"content"}, Value: content})
		}
	}
	return splice(block, edits), len(edits) > 0
}

// elements applies f to each object of an array and returns the array made of
// the results.
func elements(arr []byte, f func([]byte) ([]byte, bool)) (out []byte, changed bool) {
	if len(arr) == 0 || arr[0] != '[' {
		return arr, false
	}
	n := 0 // elements before this one, as they were
	for e := range protocol.Elements(arr) {
		if len(e) > 0 && e[0] == '{' {
			r, ok := f(e)
			if ok && !changed {
				changed, out = true, firstElements(arr, n)
			}
			e = r
		}
		n++
		if !changed {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, e...)
	}
	if !changed {
		return arr, false
	}
	return append(out, ']'), true
}

// firstElements returns the beginning of an array of the first n elements of arr.
func firstElements(arr []byte, n int) []byte {
	out := append(make([]byte, 0, len(arr)+64), '[')
	for e := range protocol.Elements(arr) {
		if n--; n < 0 {
			break
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, e...)
	}
	return out
}

func splice(obj []byte, edits []protocol.Edit) []byte {
	if len(edits) == 0 {
		return obj
	}
	return protocol.Splice(obj, edits...)
}
