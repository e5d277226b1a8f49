package federation

import "github.com/mcpgw/mcpgw/policy"

// A kind is one of the four lists of a catalogue.
type kind uint8

const (
	tools kind = iota
	prompts
	resources
	templates
	kinds // how many there are

	task // of which there is no catalogue
)

// changes is a set of kinds whose lists changed. Resources and templates share a
// notification.
type changes uint8

const (
	toolsChanged changes = 1 << iota
	promptsChanged
	resourcesChanged
	allChanged = toolsChanged | promptsChanged | resourcesChanged
)

// A feature is what MCP says of a kind.
type feature struct {
	method     string // of the list request
	member     string // of the list in its result
	id         string // member of an item that names it
	capability string // of a server that has the list
	policy     policy.Kind
	change     changes
	changed    string // the list_changed notification
}

var features = [kinds]feature{
	tools:     {"tools/list", "tools", "name", "tools", policy.Tool, toolsChanged, "notifications/tools/list_changed"},
	prompts:   {"prompts/list", "prompts", "name", "prompts", policy.Prompt, promptsChanged, "notifications/prompts/list_changed"},
	resources: {"resources/list", "resources", "uri", "resources", policy.Resource, resourcesChanged, "notifications/resources/list_changed"},
	templates: {"resources/templates/list", "resourceTemplates", "uriTemplate", "resources", policy.Resource, resourcesChanged, "notifications/resources/list_changed"},
}

// listKind returns the kind whose list the method asks for.
func listKind(method string) (k kind, ok bool) {
	for k := range features {
		if features[k].method == method {
			return kind(k), true
		}
	}
	return 0, false
}

// changeOf returns what a list_changed notification says has changed.
func changeOf(method string) changes {
	for k := range features {
		if features[k].changed == method {
			return features[k].change
		}
	}
	return 0
}

// methods returns the notifications that tell a client of the changes.
func (c changes) methods() []string {
	var out []string
	for _, k := range []kind{tools, prompts, resources} {
		if c&features[k].change != 0 {
			out = append(out, features[k].changed)
		}
	}
	return out
}
