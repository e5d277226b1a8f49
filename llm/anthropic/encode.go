package anthropic

import (
	"cmp"
	"encoding/base64"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// EncodeRequest writes a request to a provider of this dialect. What can't be carried
// is noted in c.
func (Messages) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire := encode(c)
	wire.Stream = c.Stream
	if user := c.Take(dialect.User); user != nil {
		wire.Metadata = &metadata{UserID: user}
	}
	wire.MaxTokens = c.Take(dialect.MaxTokens)
	encodeThinking(c, wire)
	if wire.MaxTokens == nil {
		wire.MaxTokens = dialect.Number(defaultMaxTokens)
	}
	var rest dialect.Object
	if samples(c, wire) {
		rest.SetFields(c, sampling[:])
	}
	rest.SetFields(c, fields[:])
	c.TakeDefault(dialect.Candidates, "1")
	c.TakeDefault(dialect.LogProbs, "false")
	rest.SetOwn(c, "cache_control", "container", "context_management", "mcp_servers", "inference_geo", "speed", "fallbacks")
	wire.Rest = rest.Value()
	return json.Marshal(wire)
}

// samples reports whether the model takes settings of sampling.
func samples(c *dialect.Carrier, wire *request) bool {
	if modelOf(c.Model).greedy {
		c.TakeDefault(dialect.Temperature, "1")
		c.TakeDefault(dialect.TopP, "1")
		return false
	}
	return wire.Thinking == nil || wire.Thinking.Type == "disabled" // thinking does without
}

// encode returns what of a request is the model's input.
func encode(c *dialect.Carrier) *request {
	wire := &request{Model: c.Model, Messages: []message{}}
	var system []block
	for i := range c.Messages {
		m := &c.Messages[i]
		blocks := encodeParts(c, m.Parts)
		if m.Role == dialect.FromSystem {
			system = append(system, blocks...)
			continue
		}
		if len(blocks) > 0 {
			wire.Messages = appendMessage(wire.Messages, [...]string{"user", "", "assistant"}[m.Role], blocks)
		}
	}
	wire.System = joined(append(system, own(c.Take("system"))...))
	for i := range c.Tools {
		t := &c.Tools[i]
		schema := t.Schema
		if schema == nil {
			schema = jsontext.Value(`{"type":"object"}`)
		}
		wire.Tools = append(wire.Tools, tool{Name: t.Name, Description: t.Description, InputSchema: schema, Strict: t.Strict, CacheControl: t.Cache})
	}
	wire.ToolChoice = encodeChoice(c)
	encodeOutput(c, wire)
	return wire
}

// own returns the system prompt that a client of another dialect writes for this provider alone.
func own(v jsontext.Value) (out []block) {
	if v == nil || json.Unmarshal(blocksOf(v), &out) != nil {
		return nil
	}
	return out
}

// joined returns system prompts as one text, unless one of them says more than its text.
func joined(system []block) jsontext.Value {
	var texts []string
	for i := range system {
		if b := &system[i]; b.Type != "text" || b.Text == nil || b.CacheControl != nil || b.Rest != nil {
			return content(system)
		}
		texts = append(texts, *system[i].Text)
	}
	if len(texts) == 0 {
		return nil
	}
	return dialect.String(strings.Join(texts, "\n"))
}

// appendMessage appends a message. Turns alternate, and the results of tools come first in
// theirs (Messages, Tool use).
func appendMessage(messages []message, role string, blocks []block) []message {
	if n := len(messages); n > 0 && messages[n-1].Role == role {
		var before []block
		if err := json.Unmarshal(blocksOf(messages[n-1].Content), &before); err == nil {
			blocks = append(before, blocks...)
			messages = messages[:n-1]
		}
	}
	var results, others []block
	for _, b := range blocks {
		if b.Type == "tool_result" {
			results = append(results, b)
		} else {
			others = append(others, b)
		}
	}
	return append(messages, message{Role: role, Content: content(append(results, others...))})
}

// blocksOf returns content as blocks.
func blocksOf(content jsontext.Value) jsontext.Value {
	if content.Kind() == '"' {
		return jsontext.Value(`[{"type":"text","text":` + string(content) + `}]`)
	}
	return content
}

// content returns blocks as content: one plain text as a string. It is nil without any.
func content(blocks []block) jsontext.Value {
	if len(blocks) == 0 {
		return nil
	}
	if b := &blocks[0]; len(blocks) == 1 && b.Type == "text" && b.CacheControl == nil {
		return dialect.String(*b.Text)
	}
	v, err := json.Marshal(blocks)
	if err != nil {
		return jsontext.Value("[]") // strings and checked JSON: they can be written
	}
	return v
}

func encodeParts(c *dialect.Carrier, parts []dialect.Part) (blocks []block) {
	for i := range parts {
		p := &parts[i]
		b := block{CacheControl: p.Cache}
		switch p.Kind {
		case dialect.Text, dialect.Refusal:
			if strings.TrimSpace(p.Text) == "" {
				continue // the API refuses empty text
			}
			c.Drop(p.SignedAt)
			b.Type, b.Text = "text", &p.Text
		case dialect.Thinking:
			if !c.Owns(p) {
				continue
			}
			b = block{Type: "thinking", Thinking: &p.Text, Signature: &p.Signature}
		case dialect.Redacted:
			if !c.Owns(p) {
				continue
			}
			b = block{Type: "redacted_thinking", Data: p.Text}
		case dialect.ToolCall:
			c.Drop(p.SignedAt)
			b.Type, b.ID, b.Name, b.Input = "tool_use", p.ID, p.Name, jsontext.Value(p.Text)
			if !b.Input.IsValid() || b.Input.Kind() != '{' {
				if strings.TrimSpace(p.Text) != "" {
					c.Drop(p.Path + ".arguments")
				}
				b.Input = jsontext.Value("{}")
			}
		case dialect.ToolResult:
			b.Type, b.ToolUseID, b.IsError = "tool_result", p.ID, p.Failed
			b.Content = content(encodeParts(c, p.Parts))
		default:
			s := encodeSource(&p.Media)
			if s == nil || p.Kind != dialect.Image && p.Kind != dialect.Document {
				c.Drop(p.Path)
				continue
			}
			b.Type, b.Source = "image", s
			if p.Kind == dialect.Document {
				b.Type, b.Title = "document", p.Media.Name
			}
			if p.Media.Detail != "" && p.Media.Detail != "auto" {
				c.Drop(p.Path + ".detail")
			}
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// encodeSource returns where an image or document is, nil when it can't be said.
func encodeSource(m *dialect.Media) *source {
	switch {
	case m.Type == "text/plain" && m.Data != "":
		text, err := base64.StdEncoding.DecodeString(m.Data)
		if err != nil {
			return nil
		}
		return &source{Type: "text", MediaType: m.Type, Data: string(text)}
	case m.Data != "":
		return &source{Type: "base64", MediaType: m.Type, Data: m.Data}
	case m.URL != "":
		return &source{Type: "url", URL: m.URL}
	default:
		return nil // a file of another vendor's
	}
}

func encodeBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func encodeChoice(c *dialect.Carrier) *toolChoice {
	var out *toolChoice
	if forced(c) && modelOf(c.Model).free {
		c.Drop(c.Choice.Path)
		out = &toolChoice{Type: "auto"}
	}
	switch mode := c.Choice.Mode; {
	case out != nil:
	case mode == dialect.ChoiceAuto:
		out = &toolChoice{Type: "auto"}
	case mode == dialect.ChoiceNone:
		out = &toolChoice{Type: "none"}
	case mode == dialect.ChoiceRequired:
		out = &toolChoice{Type: "any"}
	case mode == dialect.ChoiceNamed:
		out = &toolChoice{Type: "tool", Name: c.Choice.Name}
	}
	if len(c.Tools) == 0 || out != nil && out.Type == "none" {
		return out
	}
	switch c.Take(dialect.ParallelTools).Kind() {
	case 't':
		// which is so anyway
	case 'f':
		if out == nil {
			out = &toolChoice{Type: "auto"}
		}
		out.DisableParallelToolUse = jsontext.Value("true")
	}
	return out
}

func encodeOutput(c *dialect.Carrier, wire *request) {
	switch o := &c.Output; o.Format {
	case dialect.JSONSchema:
		wire.OutputConfig = &outputConfig{Format: &outputFormat{Type: "json_schema", Schema: o.Titled()}}
		if o.Strict == nil || !*o.Strict {
			c.Drop(o.Path + ".strict") // it always is
		}
	case dialect.JSONObject:
		c.Drop(o.Path)
	}
}

// forced reports whether the model is to call a tool.
func forced(c *dialect.Carrier) bool {
	return c.Choice.Mode == dialect.ChoiceRequired || c.Choice.Mode == dialect.ChoiceNamed
}

// encodeThinking writes how much the model is to think.
func encodeThinking(c *dialect.Carrier, wire *request) {
	m, r := modelOf(c.Model), c.Thinking()
	switch {
	case m.adaptive:
		encodeAdaptive(c, wire, m, &r)
	case r.Path == "":
	case r.Off:
		wire.Thinking = &thinking{Type: "disabled"}
	case r.Adaptive:
		wire.Thinking = &thinking{Type: "adaptive", Display: display(&r)}
		if r.Effort != "" {
			wire.OutputConfig = withEffort(wire.OutputConfig, r.Effort)
		}
	default:
		encodeBudget(c, wire, &r)
	}
}

// encodeAdaptive writes how much a model is to think that decides itself, guided by an effort. It
// does not think where it has to call a tool.
func encodeAdaptive(c *dialect.Carrier, wire *request, m model, r *dialect.Reasoning) {
	mute := forced(c) && !m.free
	switch {
	case (r.Off || mute) && m.off == offDisabled:
		wire.Thinking = &thinking{Type: "disabled"}
	case r.Off && m.off == offBetweenTools:
		wire.Thinking = &thinking{Type: "between_tools"}
	case r.Off:
		c.Drop(r.Path)
	case r.Path != "":
		wire.Thinking = &thinking{Type: "adaptive", Display: cmp.Or(display(r), "summarized")}
	}
	if r.Path == "" || r.Off {
		return
	}
	if mute {
		c.Drop(r.Path)
	}
	if level := m.effort(r.Level()); level != "" {
		wire.OutputConfig = withEffort(wire.OutputConfig, level)
	}
	if wire.MaxTokens == nil { // of which thinking takes its part
		wire.MaxTokens = dialect.Number(defaultMaxTokens + cmp.Or(r.Tokens(), defaultMaxTokens))
	}
}

// encodeBudget writes how many tokens the model is to think. Thinking needs room beside its
// budget, leaves the tools to the model, and its turns of tools begin with what was thought;
// where that can't be had, the request goes without.
func encodeBudget(c *dialect.Carrier, wire *request, r *dialect.Reasoning) {
	budget := max(r.Tokens(), minBudget)
	limit := dialect.Int(wire.MaxTokens)
	if limit == 0 {
		limit = defaultMaxTokens + budget
		wire.MaxTokens = dialect.Number(limit)
	}
	budget = min(budget, limit-1)
	if budget < minBudget || forced(c) || unthought(wire.Messages) {
		c.Drop(r.Path)
		return
	}
	if r.Budget > 0 && r.Effort != "" {
		wire.OutputConfig = withEffort(wire.OutputConfig, r.Effort)
	}
	wire.Thinking = &thinking{Type: "enabled", BudgetTokens: budget, Display: display(r)}
}

func display(r *dialect.Reasoning) string {
	if r.Hidden {
		return "omitted"
	}
	return ""
}

func withEffort(o *outputConfig, effort string) *outputConfig {
	if o == nil {
		o = &outputConfig{}
	}
	o.Effort = effort
	return o
}

// unthought reports whether the last turn of the model called tools without the thoughts
// that led to it.
func unthought(messages []message) bool {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].Role != "assistant" {
			continue
		}
		var blocks []block
		if json.Unmarshal(blocksOf(messages[i].Content), &blocks) != nil || len(blocks) == 0 {
			return false
		}
		if first := blocks[0].Type; first == "thinking" || first == "redacted_thinking" {
			return false
		}
		for _, b := range blocks {
			if b.Type == "tool_use" {
				return true
			}
		}
		return false
	}
	return false
}
