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
	some := func(path ...string) bool {
		for _, d := range found {
			if d != nil && has(d.Capabilities, path...) {
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
	if some("completions") {
		add("completions", "{}")
	}
	if some("logging") {
		add("logging", "{}")
	}
	if some("prompts") {
		add("prompts", `{"listChanged":true}`)
	}
	if some("resources") {
		if some("resources", "subscribe") {
			add("resources", `{"listChanged":true,"subscribe":true}`)
		} else {
			add("resources", `{"listChanged":true}`)
		}
	}
	// A gateway without any target still has a list of tools, which may fill.
	if some("tools") || !some("resources") && !some("prompts") {
		add("tools", `{"listChanged":true}`)
	}
	if era == protocol.Legacy {
		if v := mergeTasks(found); v != nil {
			add("tasks", string(v))
		}
	}
	for _, group := range []string{"extensions", "experimental"} {
		if v := mergeGroup(found, group, era); v != nil {
			add(group, string(v))
		}
	}
	return append(out, '}')
}

// mergeTasks returns the tasks capability of 2025-11-25: what of it some legacy
// target has, nil for nothing.
func mergeTasks(found []*session.Discovery) []byte {
	var edits []protocol.Edit
	for _, path := range [][]string{{"list"}, {"cancel"}, {"requests", "tools", "call"}} {
		for _, d := range found {
			if d != nil && takesTask(d) && has(d.Capabilities, append([]string{"tasks"}, path...)...) {
				edits = append(edits, protocol.Edit{Path: path, Value: []byte("{}")})
				break
			}
		}
	}
	if edits == nil {
		return nil
	}
	return protocol.Splice(nil, edits...)
}

// mergeGroup returns the union of one group of named capabilities. One that
// several targets have with different settings is there without any. Tasks are
// there only for modern clients of modern targets.
func mergeGroup(found []*session.Discovery, group string, era protocol.Era) []byte {
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
			case name == protocol.TasksExtension && (era != protocol.Modern || d.Era != protocol.Modern):
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
