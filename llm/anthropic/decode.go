package anthropic

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (Messages) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire request
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	r := &dialect.Request{Model: wire.Model, Stream: wire.Stream, Usage: true}
	if wire.MaxTokens != nil {
		r.Note(dialect.MaxTokens, "max_tokens", wire.MaxTokens)
	}
	if wire.System.Kind() != 'n' && wire.System != nil {
		m := dialect.Message{Role: dialect.FromSystem, Path: "system"}
		if err := decodeContent(r, &m.Parts, wire.System, "system"); err != nil {
			return nil, err
		}
		r.Messages = append(r.Messages, m)
	}
	for i := range wire.Messages {
		path := "messages[" + strconv.Itoa(i) + "]"
		m := dialect.Message{Path: path}
		switch wire.Messages[i].Role {
		case "user":
		case "assistant":
			m.Role = dialect.FromAssistant
		case "system":
			m.Role = dialect.FromSystem
		default:
			return nil, dialect.Invalid(path+".role", "it is none of user and assistant")
		}
		r.Unknown(wire.Messages[i].Rest, path)
		if err := decodeContent(r, &m.Parts, wire.Messages[i].Content, path+".content"); err != nil {
			return nil, err
		}
		r.Messages = append(r.Messages, m)
	}
	for i := range wire.Tools {
		t := &wire.Tools[i]
		path := "tools[" + strconv.Itoa(i) + "]"
		if t.Type != "" && t.Type != "custom" {
			r.Note("", path, jsontext.Value("{}")) // a tool of the provider's own
			continue
		}
		r.Tools = append(r.Tools, dialect.Tool{
			Path: path, Name: t.Name, Description: t.Description, Schema: t.InputSchema, Strict: t.Strict, Cache: t.CacheControl,
		})
		r.Unknown(t.Rest, path)
	}
	if err := decodeChoice(r, wire.ToolChoice); err != nil {
		return nil, err
	}
	if err := decodeThinking(r, &wire); err != nil {
		return nil, err
	}
	if m := wire.Metadata; m != nil {
		if m.UserID != nil {
			r.Note(dialect.User, "metadata.user_id", m.UserID)
		}
		r.Unknown(m.Rest, "metadata")
	}
	r.Unknown(wire.Rest, "", sampling[:], fields[:], read[:])
	return r, nil
}

func decodeChoice(r *dialect.Request, c *toolChoice) error {
	if c == nil {
		return nil
	}
	const path = "tool_choice"
	r.Choice.Path = path
	switch c.Type {
	case "auto":
		r.Choice.Mode = dialect.ChoiceAuto
	case "any":
		r.Choice.Mode = dialect.ChoiceRequired
	case "none":
		r.Choice.Mode = dialect.ChoiceNone
	case "tool":
		r.Choice.Mode, r.Choice.Name = dialect.ChoiceNamed, c.Name
	default:
		return dialect.Invalid(path+".type", "it is none of auto, any, tool and none")
	}
	switch c.DisableParallelToolUse.Kind() {
	case 't':
		r.Note(dialect.ParallelTools, path+".disable_parallel_tool_use", jsontext.Value("false"))
	case 'f':
		r.Note(dialect.ParallelTools, path+".disable_parallel_tool_use", jsontext.Value("true"))
	}
	r.Unknown(c.Rest, path)
	return nil
}

// decodeThinking reads what the request says about thinking, and about the answer's form.
func decodeThinking(r *dialect.Request, wire *request) error {
	if t := wire.Thinking; t != nil {
		r.Reasoning.Path = "thinking"
		r.Reasoning.HiddenAt = "thinking.display"
		if r.Reasoning.Hidden = t.Display == "omitted"; t.Display != "" && !r.Reasoning.Hidden {
			r.Note("", "thinking.display", dialect.String(t.Display))
		}
		switch t.Type {
		case "enabled":
			r.Reasoning.Budget = t.BudgetTokens
		case "adaptive":
			r.Reasoning.Adaptive = true
		case "disabled":
			r.Reasoning.Off = true
		case "between_tools": // which is Claude's alone
			r.Reasoning.Off = true
			r.Note("", "thinking.type", dialect.String(t.Type))
		default:
			return dialect.Invalid("thinking.type", "it is none of enabled, adaptive, between_tools and disabled")
		}
		r.Unknown(t.Rest, "thinking")
	}
	decodeFormat(r, wire.OutputFormat, "output_format")
	o := wire.OutputConfig
	if o == nil {
		return nil
	}
	if o.Effort != "" {
		r.Reasoning.Effort, r.Reasoning.EffortAt = o.Effort, "output_config.effort"
		if r.Reasoning.Path == "" {
			r.Reasoning.Path = "output_config.effort"
		}
	}
	decodeFormat(r, o.Format, "output_config.format")
	r.Unknown(o.Rest, "output_config")
	return nil
}

func decodeFormat(r *dialect.Request, f *outputFormat, path string) {
	switch {
	case f == nil:
	case f.Type != "json_schema":
		r.Note("", path, jsontext.Value("{}"))
	default:
		strict := true
		r.Output = dialect.Output{Format: dialect.JSONSchema, Path: path, Schema: f.Schema, Strict: &strict}
		r.Unknown(f.Rest, path)
	}
}

func decodeContent(r *dialect.Request, parts *[]dialect.Part, content jsontext.Value, path string) error {
	switch content.Kind() {
	case '"':
		*parts = append(*parts, dialect.Part{Kind: dialect.Text, Path: path, Text: dialect.Strings(content)[0]})
	case '[':
		var wire []block
		if err := json.Unmarshal(content, &wire); err != nil {
			return dialect.Misread(err)
		}
		for i := range wire {
			p, err := decodeBlock(r, &wire[i], path+"["+strconv.Itoa(i)+"]")
			if err != nil {
				return err
			}
			*parts = append(*parts, p)
		}
	default:
		return dialect.Invalid(path, "it is neither a string nor a list of blocks")
	}
	return nil
}

func decodeBlock(r *dialect.Request, b *block, path string) (dialect.Part, error) {
	p := dialect.Part{Path: path, Cache: b.CacheControl}
	switch {
	case b.Type == "text" && b.Text != nil:
		p.Kind, p.Text = dialect.Text, *b.Text
	case b.Type == "thinking":
		p.Kind = dialect.Thinking
		if b.Thinking != nil {
			p.Text = *b.Thinking
		}
		if b.Signature != nil {
			p.Origin, p.Signature = dialect.Signature(*b.Signature, vendor)
		}
	case b.Type == "redacted_thinking":
		p.Kind = dialect.Redacted
		p.Origin, p.Signature = dialect.Signature(b.Data, vendor)
		p.Text = p.Signature
	case b.Type == "image" && b.Source != nil:
		p.Kind = dialect.Image
		p.Media = decodeSource(r, b.Source, path)
	case b.Type == "document" && b.Source != nil && b.Source.Type != "content":
		p.Kind = dialect.Document
		p.Media = decodeSource(r, b.Source, path)
		p.Media.Name = b.Title
	case b.Type == "tool_use":
		p.Kind, p.Name, p.Text = dialect.ToolCall, b.Name, string(b.Input)
		if p.ID, p.Origin, p.Signature = dialect.UnpackID(b.ID); p.Signature != "" {
			p.SignedAt = path + ".id"
		}
	case b.Type == "tool_result":
		p.Kind, p.Failed = dialect.ToolResult, b.IsError
		p.ID, _, _ = dialect.UnpackID(b.ToolUseID)
		if b.Content != nil {
			if err := decodeContent(r, &p.Parts, b.Content, path+".content"); err != nil {
				return p, err
			}
		}
	default:
		p.Kind = dialect.Opaque
		return p, nil // which is dropped as a whole
	}
	if b.Citations != nil {
		r.Note("", path+".citations", b.Citations)
	}
	r.Unknown(b.Rest, path)
	return p, nil
}

func decodeSource(r *dialect.Request, s *source, path string) dialect.Media {
	r.Unknown(s.Rest, path+".source")
	m := dialect.Media{Type: s.MediaType, Data: s.Data, URL: s.URL, File: s.FileID}
	switch s.Type {
	case "base64", "url", "file":
	case "text":
		m.Type, m.Data = "text/plain", encodeBase64(s.Data)
	default:
		r.Note("", path+".source.type", dialect.String(s.Type))
	}
	return m
}
