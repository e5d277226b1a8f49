package federation

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// An item is one tool, prompt, resource or resource template of a target, with
// the bytes that clients get. It is immutable.
type item struct {
	own    string // name, URI or template as the target has it
	client string // as clients see it
	raw    []byte // the object, its names and URIs the client-visible ones
	params []paramHeader
	// onlyTask says that a tool is only run as a task of 2025-11-25.
	onlyTask bool
	match    *regexp.Regexp // of templates: the URIs that it stands for
}

// A paramHeader is one x-mcp-header of a tool: the argument at path is mirrored
// in the header Mcp-Param-<name> (2026-07-28, Streamable HTTP, Custom Headers).
type paramHeader struct {
	header string // canonical, with the prefix
	path   []string
}

// newItem checks one element of a list and rewrites it for clients. Its error is
// for the operator: the item is left out.
func newItem(k kind, raw []byte, s scope) (*item, error) {
	f := &features[k]
	if len(raw) == 0 || raw[0] != '{' {
		return nil, fmt.Errorf("an element of %s is no object", f.member)
	}
	own, ok := protocol.GetString(raw, f.id)
	if !ok || own == "" {
		return nil, fmt.Errorf("an element of %s has no %s", f.member, f.id)
	}
	it := &item{own: own}
	edits := make([]protocol.Edit, 0, 3)
	switch k {
	case tools, prompts:
		if len(own) > maxOwnName {
			return nil, fmt.Errorf("the name of an element of %s is longer than %d bytes", f.member, maxOwnName)
		}
		it.client = s.name(own)
	default:
		it.client = s.uri(own)
	}
	if it.client != own {
		edits = append(edits, protocol.Edit{Path: []string{f.id}, Value: protocol.Quote(it.client)})
	}
	switch k {
	case tools:
		schema := protocol.Get(raw, "inputSchema")
		if len(schema) == 0 || schema[0] != '{' {
			return nil, fmt.Errorf("tool %q has no inputSchema that is an object", own)
		}
		params, err := paramHeaders(schema)
		if err != nil {
			return nil, fmt.Errorf("tool %q: %w", own, err)
		}
		it.params = params
		support, _ := protocol.GetString(raw, "execution", "taskSupport")
		it.onlyTask = support == "required"
		edits = appendUIEdits(edits, raw, s)
	case templates:
		it.match = templatePattern(own)
	}
	if len(edits) == 0 {
		it.raw = bytes.Clone(raw)
	} else {
		it.raw = bytes.Clone(protocol.Splice(raw, edits...))
	}
	return it, nil
}

// The places where an object refers to the user interface of an MCP app: the
// member of _meta as the extension defines it, and its older, flat spelling.
var uiPaths = [][]string{{"_meta", "ui", "resourceUri"}, {"_meta", "ui/resourceUri"}}

func appendUIEdits(edits []protocol.Edit, obj []byte, s scope) []protocol.Edit {
	if s.bare {
		return edits
	}
	for _, path := range uiPaths {
		if uri, ok := protocol.GetString(obj, path...); ok {
			edits = append(edits, protocol.Edit{Path: path, Value: protocol.Quote(s.uri(uri))})
		}
	}
	return edits
}

// maxParamHeaders bounds the mirrored arguments of one tool.
const maxParamHeaders = 64

// paramHeaders returns the x-mcp-headers of a tool's input schema, or an error
// when one of them makes the tool invalid.
func paramHeaders(schema []byte) ([]paramHeader, error) {
	if !bytes.Contains(schema, []byte("x-mcp-header")) && !bytes.Contains(schema, []byte(`\u`)) {
		return nil, nil
	}
	w := headerWalk{seen: map[string]bool{}}
	if err := w.schema(schema, nil, true); err != nil {
		return nil, err
	}
	return w.found, nil
}

type headerWalk struct {
	found []paramHeader
	seen  map[string]bool // lower case
}

// schema looks for x-mcp-headers in one schema. They are only valid where a
// chain of properties keys leads from the root.
func (w *headerWalk) schema(obj []byte, path []string, reachable bool) error {
	for name, value := range protocol.Members(obj) {
		switch name {
		case "x-mcp-header":
			if !reachable || len(path) == 0 {
				return fmt.Errorf("x-mcp-header stands where no argument can be read")
			}
			if err := w.add(obj, value, path); err != nil {
				return err
			}
		case "properties":
			if len(value) == 0 || value[0] != '{' {
				continue
			}
			for property, sub := range protocol.Members(value) {
				if len(sub) == 0 || sub[0] != '{' {
					continue
				}
				if err := w.schema(sub, append(path[:len(path):len(path)], property), reachable); err != nil {
					return err
				}
			}
		case "enum", "const", "default", "examples":
			// Data, not schemas.
		default:
			if err := w.unreachable(value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *headerWalk) unreachable(value []byte) error {
	switch {
	case len(value) == 0:
	case value[0] == '{':
		return w.schema(value, nil, false)
	case value[0] == '[':
		for e := range protocol.Elements(value) {
			if err := w.unreachable(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *headerWalk) add(schema, value []byte, path []string) error {
	name, ok := protocol.GetString(schema, "x-mcp-header")
	if !ok || !token(name) {
		return fmt.Errorf("x-mcp-header %s is no header name", value)
	}
	switch typ, _ := protocol.GetString(schema, "type"); typ {
	case "string", "integer", "boolean":
	default:
		return fmt.Errorf("x-mcp-header %q is on an argument that is no string, integer or boolean", name)
	}
	lower := strings.ToLower(name)
	if w.seen[lower] {
		return fmt.Errorf("x-mcp-header %q stands twice", name)
	}
	if len(w.found) == maxParamHeaders {
		return fmt.Errorf("more than %d x-mcp-headers", maxParamHeaders)
	}
	w.seen[lower] = true
	w.found = append(w.found, paramHeader{header: protocol.HeaderParamPrefix + name, path: path})
	return nil
}

// token reports whether s is an HTTP field name (RFC 9110, section 5.1).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !nameByte(c) && !strings.ContainsRune("!#$%&'*+.^`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// templatePattern returns an expression that matches what the URI template (RFC
// 6570) can expand to, and maybe more; nil when the template is malformed.
func templatePattern(template string) *regexp.Regexp {
	if len(template) > 2048 {
		return nil
	}
	var b strings.Builder
	b.WriteByte('^')
	for template != "" {
		literal, rest, found := strings.Cut(template, "{")
		b.WriteString(regexp.QuoteMeta(literal))
		if !found {
			break
		}
		expr, after, closed := strings.Cut(rest, "}")
		if !closed || expr == "" {
			return nil
		}
		if strings.ContainsRune("+#/?&;.", rune(expr[0])) {
			b.WriteString(`.*`)
		} else {
			b.WriteString(`[^/]*`)
		}
		template = after
	}
	b.WriteByte('$')
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil
	}
	return re
}
