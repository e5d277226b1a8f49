package openai

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// EncodeRequest writes a request to a provider of this dialect. What can't be carried
// is noted in c.
func (Chat) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire := chatRequest{Model: c.Model, Stream: c.Stream}
	if c.Stream {
		wire.StreamOptions = &chatStreamOptions{IncludeUsage: true}
	}
	for i := range c.Messages {
		wire.Messages = encodeChatMessage(c, wire.Messages, &c.Messages[i])
	}
	for i := range c.Tools {
		t := &c.Tools[i]
		if t.Cache != nil {
			c.Drop(t.Path + ".cache_control")
		}
		wire.Tools = append(wire.Tools, chatTool{Type: "function", Function: &chatToolFunction{
			Name: t.Name, Description: t.Description, Parameters: t.Schema, Strict: t.Strict,
		}})
	}
	wire.ToolChoice = encodeChatChoice(&c.Choice)
	if o := &c.Output; o.Format == dialect.JSONObject {
		wire.ResponseFormat = &chatFormat{Type: "json_object"}
	} else if o.Format == dialect.JSONSchema {
		name := o.Name
		if name == "" {
			name = "answer"
		}
		wire.ResponseFormat = &chatFormat{Type: "json_schema", JSONSchema: &chatSchema{
			Name: name, Description: o.Description, Schema: o.Schema, Strict: o.Strict,
		}}
	}
	wire.ReasoningEffort = encodeEffort(c)
	var rest dialect.Object
	rest.SetFields(c, chatFields[:])
	rest.SetOwn(c, "metadata", "logit_bias", "verbosity", "prediction", "prompt_cache_key", "safety_identifier")
	wire.Rest = rest.Value()
	return json.Marshal(wire)
}

// encodeEffort returns the effort of a request. What else is said of thinking is lost.
func encodeEffort(c *dialect.Carrier) string {
	r := &c.Reasoning
	level := r.Level()
	if level == "" {
		c.Drop(r.Path) // that the model decides is what it does anyway, if it can think
	}
	if r.Budget > 0 && r.Effort != "" {
		c.Drop(r.Path + ".budget_tokens")
	}
	if r.Hidden {
		c.Drop(r.HiddenAt)
	}
	return level
}

func encodeChatChoice(choice *dialect.Choice) jsontext.Value {
	switch choice.Mode {
	case dialect.ChoiceAuto:
		return jsontext.Value(`"auto"`)
	case dialect.ChoiceNone:
		return jsontext.Value(`"none"`)
	case dialect.ChoiceRequired:
		return jsontext.Value(`"required"`)
	case dialect.ChoiceNamed:
		return jsontext.Value(`{"type":"function","function":{"name":` + string(dialect.String(choice.Name)) + `}}`)
	default:
		return nil
	}
}

// encodeChatMessage appends a message to out. Results of tools become messages of their
// own, before what else the message says.
func encodeChatMessage(c *dialect.Carrier, out []chatMessage, m *dialect.Message) []chatMessage {
	wire := chatMessage{Role: [...]string{"user", "system", "assistant"}[m.Role]}
	var parts []chatPart
	var texts strings.Builder
	for i := range m.Parts {
		p := &m.Parts[i]
		if p.Cache != nil {
			c.Drop(p.Path + ".cache_control")
		}
		switch p.Kind {
		case dialect.ToolResult:
			var pictures []chatPart
			var result chatMessage
			result, pictures = encodeChatResult(c, p)
			out = append(out, result)
			parts = append(parts, pictures...)
		case dialect.ToolCall:
			c.Drop(p.SignedAt)
			wire.ToolCalls = append(wire.ToolCalls, chatToolCall{
				ID: p.ID, Type: "function", Function: &chatFunction{Name: p.Name, Arguments: arguments(p.Text)},
			})
		case dialect.Refusal:
			wire.Refusal = &p.Text
		case dialect.Text:
			c.Drop(p.SignedAt)
			texts.WriteString(p.Text)
			parts = append(parts, chatPart{Type: "text", Text: p.Text})
		default:
			if part, ok := encodeChatMedia(p); ok && m.Role == dialect.FromUser {
				parts = append(parts, part)
			} else {
				c.Drop(p.Path) // thoughts of another vendor's, and what has no place here
			}
		}
	}
	switch {
	case m.Role == dialect.FromAssistant && len(parts) > 0:
		wire.Content = dialect.String(texts.String()) // an assistant's has no other form that all servers take
	case len(parts) > 0:
		wire.Content = chatContent(parts)
	case len(wire.ToolCalls) > 0 || wire.Refusal != nil:
		wire.Content = jsontext.Value("null")
	case len(m.Parts) > 0:
		return out // all of it was results, or dropped
	default:
		wire.Content = jsontext.Value(`""`)
	}
	return append(out, wire)
}

// chatContent returns parts as the content of a message: one text as a string, which
// every server takes.
func chatContent(parts []chatPart) jsontext.Value {
	if len(parts) == 1 && parts[0].Type == "text" {
		return dialect.String(parts[0].Text)
	}
	v, err := json.Marshal(parts)
	if err != nil {
		return jsontext.Value(`""`) // strings and numbers: they can be written
	}
	return v
}

// arguments returns the arguments of a call, which are a JSON object even when there
// are none.
func arguments(s string) string {
	if strings.TrimSpace(s) == "" {
		return "{}"
	}
	return s
}

// encodeChatResult returns the message of a tool's result, and the pictures in it, which
// such a message can't hold: they go into the user's message behind it.
func encodeChatResult(c *dialect.Carrier, p *dialect.Part) (chatMessage, []chatPart) {
	var texts, pictures []chatPart
	for i := range p.Parts {
		r := &p.Parts[i]
		if r.Cache != nil {
			c.Drop(r.Path + ".cache_control")
		}
		if r.Kind == dialect.Text {
			texts = append(texts, chatPart{Type: "text", Text: r.Text})
		} else if part, ok := encodeChatMedia(r); ok {
			pictures = append(pictures, part)
		} else {
			c.Drop(r.Path)
		}
	}
	if p.Failed {
		c.Drop(p.Path + ".is_error")
	}
	m := chatMessage{Role: "tool", ToolCallID: p.ID, Content: jsontext.Value(`""`)}
	if len(texts) > 0 {
		m.Content = chatContent(texts)
	}
	return m, pictures
}

func encodeChatMedia(p *dialect.Part) (chatPart, bool) {
	m := &p.Media
	switch {
	case p.Kind == dialect.Image && m.File == "":
		return chatPart{Type: "image_url", ImageURL: &chatImage{URL: m.DataURL(), Detail: m.Detail}}, true
	case p.Kind == dialect.Audio && m.Data != "" && strings.HasPrefix(m.Type, "audio/"):
		return chatPart{Type: "input_audio", InputAudio: &chatAudio{Data: m.Data, Format: strings.TrimPrefix(m.Type, "audio/")}}, true
	case p.Kind == dialect.Document && m.URL == "" && m.File == "":
		name := m.Name
		if name == "" {
			name = "document"
		}
		return chatPart{Type: "file", File: &chatFile{FileData: m.DataURL(), Filename: name}}, true
	default:
		return chatPart{}, false
	}
}
