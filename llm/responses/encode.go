package responses

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// EncodeRequest writes a request to a provider of this dialect, which keeps nothing of it.
// What can't be carried is noted in c.
func (Responses) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire, err := encode(c)
	if err != nil {
		return nil, err
	}
	wire.Stream, wire.Store, wire.Include = c.Stream, new(bool), []string{"reasoning.encrypted_content"}
	if c.Take(dialect.LogProbs).Kind() == 't' {
		wire.Include = append(wire.Include, includeLogProbs)
	}
	var rest dialect.Object
	rest.SetFields(c, fields[:])
	rest.SetOwn(c, "metadata", "truncation", "prompt_cache_key", "safety_identifier")
	c.TakeDefault(dialect.Candidates, "1")
	wire.Rest = rest.Value()
	return json.Marshal(wire)
}

// encode returns what of a request is the model's input.
func encode(c *dialect.Carrier) (*request, error) {
	wire := &request{Model: c.Model}
	items := []item{}
	for i := range c.Messages {
		items = encodeMessage(c, items, &c.Messages[i])
	}
	var err error
	if wire.Input, err = json.Marshal(items); err != nil {
		return nil, err
	}
	for i := range c.Tools {
		t := &c.Tools[i]
		if t.Cache != nil {
			c.Drop(t.Path + ".cache_control")
		}
		strict := t.Strict
		if strict == nil {
			strict = new(bool) // which is not what this API takes it for
		}
		wire.Tools = append(wire.Tools, tool{Type: "function", Name: t.Name, Description: t.Description, Parameters: t.Schema, Strict: strict})
	}
	wire.ToolChoice = encodeChoice(&c.Choice)
	switch o := &c.Output; o.Format {
	case dialect.JSONObject:
		wire.Text = &text{Format: &format{Type: "json_object"}}
	case dialect.JSONSchema:
		name := o.Name
		if name == "" {
			name = "answer"
		}
		wire.Text = &text{Format: &format{Type: "json_schema", Name: name, Description: o.Description, Schema: o.Schema, Strict: o.Strict}}
	}
	wire.Reasoning = encodeEffort(c)
	return wire, nil
}

func encodeChoice(c *dialect.Choice) jsontext.Value {
	switch c.Mode {
	case dialect.ChoiceAuto:
		return jsontext.Value(`"auto"`)
	case dialect.ChoiceNone:
		return jsontext.Value(`"none"`)
	case dialect.ChoiceRequired:
		return jsontext.Value(`"required"`)
	case dialect.ChoiceNamed:
		return jsontext.Value(`{"type":"function","name":` + string(dialect.String(c.Name)) + `}`)
	default:
		return nil
	}
}

// encodeEffort returns the effort of a request. What else is said of thinking is lost.
func encodeEffort(c *dialect.Carrier) *reasoning {
	r := &c.Reasoning
	level := r.Level()
	if level == "" {
		c.Drop(r.Path)
		return nil
	}
	if r.Budget > 0 && r.Effort != "" {
		c.Drop(r.Path + ".budget_tokens")
	}
	out := &reasoning{Effort: level, Summary: "auto"}
	if r.Hidden || r.Off {
		out.Summary = ""
	}
	return out
}

func encodeMessage(c *dialect.Carrier, items []item, m *dialect.Message) []item {
	role := [...]string{"user", "system", "assistant"}[m.Role]
	var said []part
	flush := func() {
		if len(said) == 0 {
			return
		}
		content, err := json.Marshal(said)
		if err == nil { // strings: they can be written
			items = append(items, item{Type: "message", Role: role, Content: content})
		}
		said = nil
	}
	for i := range m.Parts {
		p := &m.Parts[i]
		if p.Cache != nil {
			c.Drop(p.Path + ".cache_control")
		}
		switch p.Kind {
		case dialect.ToolCall:
			flush()
			c.Drop(p.SignedAt)
			arguments := p.Text
			if strings.TrimSpace(arguments) == "" {
				arguments = "{}"
			}
			items = append(items, item{Type: "function_call", CallID: p.ID, Name: p.Name, Arguments: &arguments})
		case dialect.ToolResult:
			flush()
			if p.Failed {
				c.Drop(p.Path + ".is_error")
			}
			items = append(items, item{Type: "function_call_output", CallID: p.ID, Output: encodeResult(c, p)})
		case dialect.Thinking:
			if !c.Owns(p) {
				continue
			}
			flush()
			thought := item{Type: "reasoning", ID: p.ID, Summary: []part{}, Encrypted: &p.Signature}
			if p.Text != "" {
				thought.Summary = append(thought.Summary, part{Type: "summary_text", Text: &p.Text})
			}
			items = append(items, thought)
		default:
			if wire, ok := encodePart(p, m.Role); ok {
				c.Drop(p.SignedAt)
				said = append(said, wire)
			} else {
				c.Drop(p.Path)
			}
		}
	}
	flush()
	return items
}

func encodeResult(c *dialect.Carrier, p *dialect.Part) jsontext.Value {
	parts := []part{}
	for i := range p.Parts {
		r := &p.Parts[i]
		if r.Cache != nil {
			c.Drop(r.Path + ".cache_control")
		}
		if wire, ok := encodePart(r, dialect.FromUser); ok {
			parts = append(parts, wire)
		} else {
			c.Drop(r.Path)
		}
	}
	if len(parts) == 0 {
		return jsontext.Value(`""`)
	}
	if len(parts) == 1 && parts[0].Type == "input_text" {
		return dialect.String(*parts[0].Text)
	}
	v, err := json.Marshal(parts)
	if err != nil {
		return jsontext.Value(`""`) // strings: they can be written
	}
	return v
}

func encodePart(p *dialect.Part, role dialect.Role) (part, bool) {
	m := &p.Media
	switch {
	case p.Kind == dialect.Text && role == dialect.FromAssistant:
		return part{Type: "output_text", Text: &p.Text, Annotations: jsontext.Value("[]")}, true
	case p.Kind == dialect.Text:
		return part{Type: "input_text", Text: &p.Text}, true
	case p.Kind == dialect.Refusal && role == dialect.FromAssistant:
		return part{Type: "refusal", Refusal: &p.Text}, true
	case role != dialect.FromUser || m.File != "":
		return part{}, false
	case p.Kind == dialect.Image:
		detail := m.Detail
		if detail == "" {
			detail = "auto"
		}
		return part{Type: "input_image", ImageURL: m.DataURL(), Detail: detail}, true
	case p.Kind == dialect.Document && m.Data != "":
		name := m.Name
		if name == "" {
			name = "document"
		}
		return part{Type: "input_file", FileData: m.DataURL(), Filename: name}, true
	case p.Kind == dialect.Document && m.URL != "" && m.Name == "":
		return part{Type: "input_file", FileURL: m.URL}, true
	default:
		return part{}, false
	}
}
