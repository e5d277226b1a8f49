package llm

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// An Enrichment puts messages around those of the client.
type Enrichment struct {
	Prepend, Append []PromptMessage
}

// A PromptMessage is a message of an [Enrichment].
type PromptMessage struct {
	Role    string // in any case
	Content string
}

// isSystem reports whether the message is an instruction, which most dialects have a place of its
// own for.
func (m *PromptMessage) isSystem() bool {
	role := strings.ToLower(m.Role)
	return role == "system" || role == "developer"
}

// enrich puts the messages of the policy into a body. It returns nil when there are none.
func (q *query) enrich(p *Policy, b *dialect.Body) ([]byte, error) {
	e := &p.Enrichment
	if len(e.Prepend) == 0 && len(e.Append) == 0 {
		return nil, nil
	}
	switch q.op.form {
	case messages, count:
		return e.inMessages(b), nil
	case generate, countContents:
		return e.inContents(b)
	case respond, countInput:
		return e.inInput(b), nil
	case chat:
		return b.Patched(dialect.Patch{Name: "messages", Value: around(b.Get("messages"), chatMessages(e.Prepend), chatMessages(e.Append))}), nil
	default:
		return nil, nil // it has no messages
	}
}

// around returns an array with elements before and after its own.
func around(v jsontext.Value, before, after []jsontext.Value) jsontext.Value {
	if v == nil || v.Kind() == 'n' {
		return array(append(before, after...))
	}
	if v.Kind() != '[' {
		return v // which the provider refuses
	}
	inner := v[1 : len(v)-1]
	if strings.TrimSpace(string(inner)) == "" {
		return array(append(before, after...))
	}
	return array(append(append(before, jsontext.Value(inner)), after...))
}

// object returns an object of strings and values by name.
func object(members ...any) jsontext.Value {
	var o dialect.Object
	for i := 0; i < len(members); i += 2 {
		name, _ := members[i].(string)
		switch v := members[i+1].(type) {
		case string:
			o.Set(name, dialect.String(v))
		case jsontext.Value:
			o.Set(name, v)
		}
	}
	return o.Value()
}

func chatMessages(list []PromptMessage) (out []jsontext.Value) {
	for _, m := range list {
		out = append(out, object("role", strings.ToLower(m.Role), "content", m.Content))
	}
	return out
}

// turns returns the messages that are no instructions, each as f has it, and the texts of those that are.
func turns(list []PromptMessage, f func(role, content string) jsontext.Value) (out []jsontext.Value, system []string) {
	for _, m := range list {
		if m.isSystem() {
			system = append(system, m.Content)
			continue
		}
		role := "user"
		if strings.EqualFold(m.Role, "assistant") || strings.EqualFold(m.Role, "model") {
			role = "assistant"
		}
		out = append(out, f(role, m.Content))
	}
	return out, system
}

// inMessages puts the messages into a request of Messages, whose instructions stand in system.
func (e *Enrichment) inMessages(b *dialect.Body) []byte {
	turn := func(role, content string) jsontext.Value { return object("role", role, "content", content) }
	before, first := turns(e.Prepend, turn)
	after, last := turns(e.Append, turn)
	var patches []dialect.Patch
	if len(before)+len(after) > 0 {
		patches = append(patches, dialect.Patch{Name: "messages", Value: around(b.Get("messages"), before, after)})
	}
	if len(first)+len(last) > 0 {
		patches = append(patches, dialect.Patch{Name: "system", Value: systemOf(b.Get("system"), first, last)})
	}
	return b.Patched(patches...)
}

// systemOf returns a system prompt, a string or blocks of text, with texts before and after it.
func systemOf(v jsontext.Value, first, last []string) jsontext.Value {
	if v.Kind() == '[' {
		blocks := func(texts []string) (out []jsontext.Value) {
			for _, t := range texts {
				out = append(out, object("type", "text", "text", t))
			}
			return out
		}
		return around(v, blocks(first), blocks(last))
	}
	return joined(v, first, last)
}

// joined returns a text with others before and after it, a line each.
func joined(v jsontext.Value, first, last []string) jsontext.Value {
	return dialect.String(strings.Join(append(append(first, dialect.Strings(v)...), last...), "\n"))
}

// inContents puts the messages into a request of generateContent, or into the one that is to be counted.
func (e *Enrichment) inContents(b *dialect.Body) ([]byte, error) {
	for _, name := range []string{"generateContentRequest", "generate_content_request"} {
		if v := b.Get(name); v.Kind() == '{' {
			inner, err := dialect.ParseBody(v)
			if err != nil {
				return nil, err
			}
			out, err := e.inContents(inner)
			return b.Patched(dialect.Patch{Name: name, Value: out}), err
		}
	}
	part := func(text string) jsontext.Value { return object("text", text) }
	turn := func(role, content string) jsontext.Value {
		if role == "assistant" {
			role = "model"
		}
		return object("role", role, "parts", array([]jsontext.Value{part(content)}))
	}
	before, first := turns(e.Prepend, turn)
	after, last := turns(e.Append, turn)
	var patches []dialect.Patch
	if len(before)+len(after) > 0 {
		contents := b.Get("contents")
		if contents.Kind() == '{' {
			contents = dialect.Array(contents)
		}
		patches = append(patches, dialect.Patch{Name: "contents", Value: around(contents, before, after)})
	}
	if len(first)+len(last) > 0 {
		name := "systemInstruction"
		if b.Get("system_instruction") != nil {
			name = "system_instruction"
		}
		parts := func(texts []string) (out []jsontext.Value) {
			for _, t := range texts {
				out = append(out, part(t))
			}
			return out
		}
		instruction := &dialect.Body{}
		if v := b.Get(name); v.Kind() == '{' {
			var err error
			if instruction, err = dialect.ParseBody(v); err != nil {
				return nil, err
			}
		}
		own := instruction.Get("parts")
		if own.Kind() == '{' {
			own = dialect.Array(own)
		}
		v := around(own, parts(first), parts(last))
		if len(instruction.Raw) == 0 {
			patches = append(patches, dialect.Patch{Name: name, Value: object("parts", v)})
		} else {
			patches = append(patches, dialect.Patch{Name: name, Value: instruction.Patched(dialect.Patch{Name: "parts", Value: v})})
		}
	}
	return b.Patched(patches...), nil
}

// inInput puts the messages into a request of Responses: instructions before all else into
// instructions, and those after it where they stand.
func (e *Enrichment) inInput(b *dialect.Body) []byte {
	before, first := turns(e.Prepend, func(role, content string) jsontext.Value { return object("role", role, "content", content) })
	var after []jsontext.Value
	for _, m := range e.Append {
		role := strings.ToLower(m.Role)
		if role != "assistant" && !m.isSystem() {
			role = "user"
		}
		after = append(after, object("role", role, "content", m.Content))
	}
	var patches []dialect.Patch
	if len(before)+len(after) > 0 {
		input := b.Get("input")
		if input.Kind() == '"' {
			input = array([]jsontext.Value{object("role", "user", "content", input)})
		}
		patches = append(patches, dialect.Patch{Name: "input", Value: around(input, before, after)})
	}
	if len(first) > 0 {
		patches = append(patches, dialect.Patch{Name: "instructions", Value: joined(b.Get("instructions"), first, nil)})
	}
	return b.Patched(patches...)
}
