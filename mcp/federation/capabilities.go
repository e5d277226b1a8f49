package federation

import (
	"bytes"
	"strings"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// mergeCapabilities returns the capabilities of the whole: what any target can
// do, as far as the gateway passes it on in that era. Lists change whenever the
// configuration does, so listChanged is true for each list that is there.
func mergeCapabilities(found []*session.Discovery, era protocol.Era) []byte {
	has := func(path ...string) bool {
		for _, d := range found {
			if d == nil {
				continue
			}
			if v := protocol.Get(d.Capabilities, path...); v != nil && !bytes.Equal(v, []byte("false")) && !bytes.Equal(v, []byte("null")) {
				return true
			}
		}
		return false
	}
	out := []byte{'{'}
	add := func(name, value string) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, name...)
		out = append(out, `":`...)
		out = append(out, value...)
	}
	if has("completions") {
		add("completions", "{}")
	}
	if has("logging") {
		add("logging", "{}")
	}
	if has("prompts") {
		add("prompts", `{"listChanged":true}`)
	}
	if has("resources") {
		if has("resources", "subscribe") {
			add("resources", `{"listChanged":true,"subscribe":true}`)
		} else {
			add("resources", `{"listChanged":true}`)
		}
	}
	// A gateway without any target still has a list of tools, which may fill.
	if has("tools") || !has("resources") && !has("prompts") {
		add("tools", `{"listChanged":true}`)
	}
	for _, group := range []string{"extensions", "experimental"} {
		if v := mergeGroup(found, group); v != nil {
			add(group, string(v))
		}
	}
	return append(out, '}')
}

// unserved are the extensions whose messages the gateway does not route; what
// targets say of them is not said for them.
var unserved = map[string]bool{"io.modelcontextprotocol/tasks": true}

// mergeGroup returns the union of one group of named capabilities. One that
// several targets have with different settings is there without any.
func mergeGroup(found []*session.Discovery, group string) []byte {
	var names []string
	values := map[string][]byte{}
	for _, d := range found {
		if d == nil {
			continue
		}
		obj := protocol.Get(d.Capabilities, group)
		if len(obj) == 0 || obj[0] != '{' {
			continue
		}
		for name, value := range protocol.Members(obj) {
			had, ok := values[name]
			switch {
			case unserved[name]:
			case !ok:
				names = append(names, name)
				values[name] = value
			case !bytes.Equal(had, value):
				values[name] = []byte("{}")
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	var edits []protocol.Edit
	for _, name := range names {
		edits = append(edits, protocol.Edit{Path: []string{name}, Value: values[name]})
	}
	return protocol.Splice(nil, edits...)
}

// maxInstructions bounds the instructions of one target.
const maxInstructions = 64 << 10

// mergeInstructions returns the instructions of all targets, each under its
// target's name.
func mergeInstructions(cfg *Config, found []*session.Discovery) string {
	var b strings.Builder
	for i, d := range found {
		if d == nil || d.Instructions == "" {
			continue
		}
		text := d.Instructions
		if len(text) > maxInstructions {
			text = strings.ToValidUTF8(text[:maxInstructions], "")
		}
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString("[" + cfg.Targets[i].Name + "]\n" + text)
	}
	return b.String()
}
