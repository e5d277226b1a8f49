package gemini

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// anySignature stands for the signature of a call that Gemini did not make: from version 3
// on it demands one (Gemini API, Thought signatures).
const anySignature = "skip_thought_signature_validator"

// EncodeRequest writes a request to a provider of this dialect. What can't be carried
// is noted in c.
func (GenerateContent) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire := encode(c)
	var rest dialect.Object
	rest.SetOwn(c, "safetySettings", "cachedContent")
	wire.Rest = rest.Value()
	return json.Marshal(wire)
}

// encode returns a request, all but for what may be written for this provider alone.
func encode(c *dialect.Carrier) *request {
	e := encoder{Carrier: c, names: map[string]string{}, order: map[string]int{}, vertex: c.Origin == vertex}
	wire := &request{Contents: []content{}}
	for i := range c.Messages {
		m := &c.Messages[i]
		if m.Role == dialect.FromSystem {
			if parts := e.parts(m); len(parts) > 0 {
				if wire.SystemInstruction == nil {
					wire.SystemInstruction = &content{}
				}
				wire.SystemInstruction.Parts = append(wire.SystemInstruction.Parts, parts...)
			}
			continue
		}
		wire.Contents = e.message(wire.Contents, m)
	}
	var declarations []declaration
	strict := false
	for i := range c.Tools {
		t := &c.Tools[i]
		if t.Cache != nil {
			c.Drop(t.Path + ".cache_control")
		}
		strict = strict || t.Strict != nil && *t.Strict
		declarations = append(declarations, declaration{Name: t.Name, Description: t.Description, ParametersJSONSchema: t.Schema})
	}
	if len(declarations) > 0 {
		wire.Tools = []tool{{FunctionDeclarations: declarations}}
	}
	if choice := encodeChoice(&c.Choice, strict); choice != nil {
		wire.ToolConfig = &toolConfig{FunctionCallingConfig: choice}
	}
	wire.GenerationConfig = e.generation()
	return wire
}

// An encoder writes one request.
type encoder struct {
	*dialect.Carrier
	names map[string]string // of functions, by the ids of their calls
	order map[string]int    // of calls, by id
	// vertex says that the provider is Vertex AI, where calls have no ids, and files are
	// of a stated type.
	vertex bool
}

// id returns the id of a call or its result, where the provider has ids.
func (e *encoder) id(p *dialect.Part) string {
	if e.vertex {
		return ""
	}
	return p.ID
}

// message appends a message. Turns alternate; results stand alone in theirs, in the order of
// the calls.
func (e *encoder) message(contents []content, m *dialect.Message) []content {
	role := "user"
	if m.Role == dialect.FromAssistant {
		role = "model"
	}
	var results, others []part
	for _, p := range e.parts(m) {
		if p.FunctionResponse != nil {
			results = append(results, p)
		} else {
			others = append(others, p)
		}
	}
	contents = appendParts(contents, role, results, true)
	contents = appendParts(contents, role, others, false)
	if n := len(contents); len(results) > 0 {
		last := &contents[n-1]
		if last.Parts[0].FunctionResponse == nil {
			last = &contents[n-2]
		}
		slices.SortStableFunc(last.Parts, func(a, b part) int { return a.order - b.order })
	}
	return contents
}

// appendParts appends parts to the last content if it is of that role and kind, or as a new
// one. A turn has text, if only a space, beside its pictures.
func appendParts(contents []content, role string, parts []part, results bool) []content {
	if len(parts) == 0 {
		return contents
	}
	if n := len(contents); n > 0 && contents[n-1].Role == role && (contents[n-1].Parts[0].FunctionResponse != nil) == results {
		contents[n-1].Parts = append(contents[n-1].Parts, parts...)
		return contents
	}
	if role == "user" && !results && !slices.ContainsFunc(parts, func(p part) bool { return p.Text != nil }) {
		space := " "
		parts = append(parts, part{Text: &space})
	}
	return append(contents, content{Role: role, Parts: parts})
}

func (e *encoder) parts(m *dialect.Message) (out []part) {
	signed := false // a call of this turn has a signature
	for i := range m.Parts {
		p := &m.Parts[i]
		if p.Cache != nil {
			e.Drop(p.Path + ".cache_control")
		}
		switch p.Kind {
		case dialect.Text, dialect.Refusal:
			if p.Text == "" {
				continue
			}
			out = append(out, part{Text: &p.Text, ThoughtSignature: e.signature(p)})
		case dialect.Thinking:
			if e.Owns(p) {
				out = append(out, part{Text: &p.Text, Thought: true, ThoughtSignature: p.Signature})
			}
		case dialect.ToolCall:
			e.names[p.ID], e.order[p.ID] = p.Name, len(e.order)
			call := part{FunctionCall: &functionCall{ID: e.id(p), Name: p.Name, Args: e.arguments(p)}, ThoughtSignature: e.signature(p)}
			if call.ThoughtSignature == "" && !signed && leveled(e.Model) {
				call.ThoughtSignature = anySignature
			}
			signed = true
			out = append(out, call)
		case dialect.ToolResult:
			out = append(out, e.result(p)...)
		default:
			if wire, ok := e.media(p); ok {
				out = append(out, wire)
			} else {
				e.Drop(p.Path)
			}
			if p.Media.Detail != "" && p.Media.Detail != "auto" {
				e.Drop(p.Path + ".detail")
			}
			if p.Media.Name != "" {
				e.Drop(p.Path + ".name")
			}
		}
	}
	return out
}

// signature returns the signature of a part, if the provider made it.
func (e *encoder) signature(p *dialect.Part) string {
	if p.Signature == "" || e.Made(p) {
		return p.Signature
	}
	e.Drop(p.SignedAt)
	return ""
}

func (e *encoder) arguments(p *dialect.Part) jsontext.Value {
	args := jsontext.Value(p.Text)
	if !args.IsValid() || args.Kind() != '{' {
		if strings.TrimSpace(p.Text) != "" {
			e.Drop(p.Path + ".arguments")
		}
		return jsontext.Value("{}")
	}
	return args
}

// result returns a tool's result, and the pictures in it, which it can't hold.
func (e *encoder) result(p *dialect.Part) []part {
	name := p.Name
	if name == "" {
		name = e.names[p.ID]
	}
	var text strings.Builder
	var pictures []part
	for i := range p.Parts {
		r := &p.Parts[i]
		if r.Cache != nil {
			e.Drop(r.Path + ".cache_control")
		}
		if r.Kind == dialect.Text {
			if text.Len() > 0 {
				text.WriteByte('\n')
			}
			text.WriteString(r.Text)
		} else if wire, ok := e.media(r); ok {
			pictures = append(pictures, wire)
		} else {
			e.Drop(r.Path)
		}
	}
	response := jsontext.Value(text.String())
	if !response.IsValid() || response.Kind() != '{' || p.Failed {
		key := "output"
		if p.Failed {
			key = "error"
		}
		var o dialect.Object
		o.Set(key, dialect.String(text.String()))
		response = o.Value()
	}
	return append([]part{{FunctionResponse: &functionResponse{ID: e.id(p), Name: name, Response: response}, order: e.order[p.ID]}}, pictures...)
}

func (e *encoder) media(p *dialect.Part) (part, bool) {
	m := &p.Media
	switch {
	case p.Kind != dialect.Image && p.Kind != dialect.Audio && p.Kind != dialect.Document:
		return part{}, false
	case m.Data != "" && m.Type != "":
		return part{InlineData: &blob{MimeType: m.Type, Data: m.Data}}, true
	case strings.HasPrefix(m.URL, "gs://") && (m.Type != "" || !e.vertex),
		strings.HasPrefix(m.URL, "https://generativelanguage.googleapis.com/") && !e.vertex:
		return part{FileData: &fileData{MimeType: m.Type, FileURI: m.URL}}, true
	default:
		return part{}, false // the provider does not fetch from elsewhere
	}
}

func encodeChoice(c *dialect.Choice, strict bool) *callingConfig {
	switch c.Mode {
	case dialect.ChoiceNone:
		return &callingConfig{Mode: "NONE"}
	case dialect.ChoiceRequired:
		return &callingConfig{Mode: "ANY"}
	case dialect.ChoiceNamed:
		return &callingConfig{Mode: "ANY", AllowedFunctionNames: []string{c.Name}}
	}
	switch {
	case strict: // the arguments conform to the schema
		return &callingConfig{Mode: "VALIDATED"}
	case c.Mode == dialect.ChoiceAuto:
		return &callingConfig{Mode: "AUTO"}
	default:
		return nil
	}
}

func (e *encoder) generation() *generationConfig {
	g := &generationConfig{ThinkingConfig: e.thinking()}
	switch o := &e.Output; o.Format {
	case dialect.JSONObject:
		g.ResponseMimeType = "application/json"
	case dialect.JSONSchema:
		g.ResponseMimeType, g.ResponseJSONSchema = "application/json", o.Titled()
		if o.Strict == nil || !*o.Strict {
			e.Drop(o.Path + ".strict") // it always is
		}
	}
	var rest dialect.Object
	rest.SetFields(e.Carrier, fields[:])
	e.TakeDefault(dialect.ParallelTools, "true")
	g.Rest = rest.Value()
	if g.Rest == nil && g.ThinkingConfig == nil && g.ResponseMimeType == "" {
		return nil
	}
	return g
}

// leveled reports whether a model thinks by levels and signs its calls: those from version
// 3 on.
func leveled(model string) bool {
	_, version, ok := strings.Cut(model, "gemini-")
	return ok && version != "" && version[0] >= '3' && version[0] <= '9'
}

// leastLevel returns the lowest level of a model that is told a level: those of Pro can't go below low, nor can Flash from
// 3.7 on.
func leastLevel(model string) string {
	_, version, _ := strings.Cut(model, "gemini-")
	number, rest, _ := strings.Cut(version, "-")
	if n, err := strconv.ParseFloat(number, 64); strings.HasPrefix(rest, "pro") || err == nil && n >= 3.7 && strings.HasPrefix(rest, "flash") && !strings.HasPrefix(rest, "flash-lite") {
		return "low"
	}
	return "minimal"
}

// level returns how a model is told how much to think.
func level(model string, r *dialect.Reasoning) string {
	switch said := r.Level(); said {
	case "none", "minimal":
		return leastLevel(model)
	case "medium":
		switch {
		case !strings.Contains(model, "gemini-3-pro"): // which has but two
			return said
		case r.Effort == "":
			return "low"
		}
		return "high"
	case "xhigh", "max":
		return "high"
	default:
		return said
	}
}

// leastBudget is what Gemini 2.5 Pro thinks at least.
const leastBudget = 128

// thinking returns how much the model is to think.
func (e *encoder) thinking() *thinkingConfig {
	r := e.Thinking()
	if r.Path == "" {
		return nil
	}
	t := &thinkingConfig{IncludeThoughts: !r.Hidden && !r.Off}
	budget := r.Tokens()
	switch {
	case r.Off && leveled(e.Model):
		t.ThinkingLevel = leastLevel(e.Model) // it can't do without
	case r.Off:
		if budget = 0; strings.Contains(e.Model, "2.5-pro") { // nor can this one
			budget = leastBudget
		}
		t.ThinkingBudget = &budget
	case r.Adaptive && r.Effort == "":
		if !leveled(e.Model) {
			budget = -1
			t.ThinkingBudget = &budget
		}
	case budget == 0:
		e.Drop(r.Path)
		return nil
	case leveled(e.Model):
		t.ThinkingLevel = level(e.Model, &r)
		if r.Budget > 0 && r.Effort != "" {
			e.Drop(r.Path + ".budget_tokens")
		}
	default:
		t.ThinkingBudget = &budget
		if r.Budget > 0 && r.Effort != "" {
			e.Drop("output_config.effort")
		}
	}
	return t
}
