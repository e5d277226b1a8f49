package bedrock

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/anthropic"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// EncodeRequest writes a request. What can't be carried is noted in c.
func (v *Converse) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	return json.Marshal(v.encode(c))
}

// encode returns a request.
func (v *Converse) encode(c *dialect.Carrier) *request {
	v.id, v.model = fmt.Sprintf("bedrock-%016x%016x", rand.Uint64(), rand.Uint64()), c.Model
	e := encoder{Carrier: c, converse: v, family: familyOf(c.Model), documents: map[string]bool{}}
	wire := request{Messages: []message{}}
	for i := range c.Messages {
		m := &c.Messages[i]
		if m.Role == dialect.FromSystem {
			wire.System = append(wire.System, e.system(m.Parts)...)
			continue
		}
		blocks := e.parts(m.Parts)
		if len(blocks) > 0 {
			wire.Messages = appendMessage(wire.Messages, [...]string{"user", "", "assistant"}[m.Role], blocks)
		}
	}
	for i := range wire.Messages {
		wire.Messages[i].Content = described(wire.Messages[i].Content)
	}
	if e.family == claude {
		e.settings = anthropic.SettingsOf(c)
	}
	e.tools(&wire)
	e.output(&wire)
	e.inference(&wire)
	wire.Additional = e.own.Value()
	return &wire
}

// An encoder writes one request.
type encoder struct {
	*dialect.Carrier
	converse  *Converse
	family    family
	settings  anthropic.Settings // of Claude
	documents map[string]bool    // names that were given
	called    bool               // the conversation has calls of tools
	own       dialect.Object     // the fields that are the model's own
}

// appendMessage appends a message. Turns alternate, and the results of tools come first in
// theirs.
func appendMessage(messages []message, role string, blocks []block) []message {
	if n := len(messages); n > 0 && messages[n-1].Role == role {
		blocks = append(messages[n-1].Content, blocks...)
		messages = messages[:n-1]
	}
	var results, others []block
	for i, b := range blocks {
		after := b.CachePoint != nil && i > 0 && blocks[i-1].ToolResult != nil // it belongs to what it stands behind
		if b.ToolResult != nil || after {
			results = append(results, b)
		} else {
			others = append(others, b)
		}
	}
	return append(messages, message{Role: role, Content: append(results, others...)})
}

// described returns the blocks of a message with a text in it if there are documents,
// which demand one (DocumentBlock): the name of the first.
func described(blocks []block) []block {
	name := ""
	for i := range blocks {
		if blocks[i].Text != nil {
			return blocks
		}
		if d := blocks[i].Document; d != nil && name == "" {
			name = d.Name
		}
	}
	if name == "" {
		return blocks
	}
	return append(blocks, block{Text: &name})
}

// system returns the parts of a system prompt, which is text.
func (e *encoder) system(parts []dialect.Part) (out []block) {
	for i := range parts {
		p := &parts[i]
		if p.Kind != dialect.Text {
			e.Drop(p.Path)
			continue
		}
		if strings.TrimSpace(p.Text) != "" {
			out = append(out, block{Text: &p.Text})
			out = e.cached(out, p.Cache, p.Path)
		}
	}
	return out
}

// parts returns the parts of a message, or of a tool's result.
func (e *encoder) parts(parts []dialect.Part) (out []block) {
	for i := range parts {
		p := &parts[i]
		b := e.part(p)
		if b == (block{}) {
			continue
		}
		out = e.cached(append(out, b), p.Cache, p.Path)
	}
	return out
}

// part returns a part; an empty block where it can't be carried.
func (e *encoder) part(p *dialect.Part) (b block) {
	switch p.Kind {
	case dialect.Text, dialect.Refusal:
		if strings.TrimSpace(p.Text) == "" {
			return b // the API refuses empty text
		}
		e.Drop(p.SignedAt)
		b.Text = &p.Text
	case dialect.Thinking:
		if e.Owns(p) {
			b.Reasoning = &reasoning{ReasoningText: &reasoningText{Text: p.Text, Signature: p.Signature}}
		}
	case dialect.Redacted:
		if e.Owns(p) {
			b.Reasoning = &reasoning{RedactedContent: p.Text}
		}
	case dialect.ToolCall:
		e.called = true
		e.Drop(p.SignedAt)
		input := jsontext.Value(p.Text)
		if !input.IsValid() || input.Kind() != '{' {
			if strings.TrimSpace(p.Text) != "" {
				e.Drop(p.Path + ".arguments")
			}
			input = jsontext.Value("{}")
		}
		b.ToolUse = &toolUse{ToolUseID: legal(p.ID), Name: e.converse.tool(p.Name), Input: input}
	case dialect.ToolResult:
		e.called = true
		b.ToolResult = e.result(p)
	default:
		b = e.media(p)
		if b == (block{}) {
			e.Drop(p.Path)
		}
		if p.Media.Detail != "" && p.Media.Detail != "auto" {
			e.Drop(p.Path + ".detail")
		}
		if p.Media.Name != "" && b.Document == nil {
			e.Drop(p.Path + ".name")
		}
	}
	return b
}

func (e *encoder) result(p *dialect.Part) *result {
	r := &result{ToolUseID: legal(p.ID), Content: []block{}}
	for i := range p.Parts {
		inner := &p.Parts[i]
		if inner.Cache != nil { // which stands between blocks of messages only
			e.Drop(inner.Path + ".cache_control")
		}
		if b := e.part(inner); b != (block{}) && b.Audio == nil {
			r.Content = append(r.Content, b)
		} else if b.Audio != nil {
			e.Drop(inner.Path)
		}
	}
	switch {
	case p.Failed && e.family.caches():
		r.Status = "error"
	case p.Failed:
		e.Drop(p.Path + ".is_error")
	}
	return r
}

// cached appends the cache point that stands for a cache_control of what stands before.
func (e *encoder) cached(blocks []block, control jsontext.Value, path string) []block {
	if point := e.cachePoint(control, path); point != nil {
		return append(blocks, block{CachePoint: point})
	}
	return blocks
}

func (e *encoder) cachePoint(control jsontext.Value, path string) *cache {
	if control.Kind() != '{' {
		return nil
	}
	point := &cache{Type: "default"}
	ok := e.family.caches()
	dialect.Members(control, func(name string, v jsontext.Value) {
		switch s := dialect.Strings(v); {
		case name == "type" && len(s) == 1 && s[0] == "ephemeral":
		case name == "ttl" && len(s) == 1 && (s[0] == "5m" || s[0] == "1h"):
			point.TTL = s[0]
		default:
			ok = false
		}
	})
	if !ok {
		e.Drop(path + ".cache_control")
		return nil
	}
	return point
}

// tools writes what the model may call.
func (e *encoder) tools(wire *request) {
	var tools []tool
	none := e.Choice.Mode == dialect.ChoiceNone && e.family != claude // there is no such choice
	for i := range e.Tools {
		t := &e.Tools[i]
		if none {
			e.Drop(t.Path)
			continue
		}
		schema := t.Schema
		if schema == nil {
			schema = jsontext.Value(`{"type":"object"}`)
		}
		tools = append(tools, tool{ToolSpec: &toolSpec{Name: e.converse.tool(t.Name), Description: t.Description, InputSchema: inputSchema{schema}, Strict: t.Strict}})
		if point := e.cachePoint(t.Cache, t.Path); point != nil {
			tools = append(tools, tool{CachePoint: point})
		}
	}
	if len(tools) == 0 {
		if e.Choice.Mode == dialect.ChoiceRequired || e.Choice.Mode == dialect.ChoiceNamed {
			e.Drop(e.Choice.Path)
		}
		if e.called { // calls are refused where there are no tools at all
			wire.ToolConfig = &toolConfig{Tools: []tool{{ToolSpec: &toolSpec{
				Name: "unavailable", Description: "Not to be called: there are no tools any more.", InputSchema: inputSchema{jsontext.Value(`{"type":"object"}`)},
			}}}}
		}
		return
	}
	wire.ToolConfig = &toolConfig{Tools: tools}
	e.choice(wire.ToolConfig)
}

// choice writes which tools the model may call. What the API can't say, and Anthropic's can, is
// said to Claude in its own words; both at once are refused.
func (e *encoder) choice(wire *toolConfig) {
	kind := [...]string{
		dialect.ChoiceDefault: "", dialect.ChoiceAuto: "auto", dialect.ChoiceNone: "", dialect.ChoiceRequired: "any", dialect.ChoiceNamed: "tool",
	}[e.Choice.Mode]
	if e.family == claude {
		kind = e.settings.Choice
	} else {
		e.TakeDefault(dialect.ParallelTools, "true")
	}
	var o, inner dialect.Object
	if kind == "tool" {
		inner.Set("name", dialect.String(e.converse.tool(e.Choice.Name)))
	}
	switch {
	case kind == "none" || e.family == claude && e.settings.One:
		o.Set("type", dialect.String(kind))
		dialect.Members(inner.Value(), o.Set)
		if e.settings.One {
			o.Set("disable_parallel_tool_use", jsontext.Value("true"))
		}
		e.own.Set("tool_choice", o.Value())
	case kind != "" && inner.Value() == nil:
		o.Set(kind, jsontext.Value("{}"))
		wire.ToolChoice = o.Value()
	case kind != "":
		o.Set(kind, inner.Value())
		wire.ToolChoice = o.Value()
	}
}

// output writes the form of the answer.
func (e *encoder) output(wire *request) {
	switch o := &e.Output; o.Format {
	case dialect.JSONSchema:
		wire.OutputConfig = &outputConfig{textFormat{"json_schema", structure{jsonSchema{string(o.Schema), o.Name, o.Description}}}}
		if o.Strict == nil || !*o.Strict {
			e.Drop(o.Path + ".strict") // it always is
		}
	case dialect.JSONObject:
		e.Drop(o.Path)
	}
}

// inference writes how the model is to answer.
func (e *encoder) inference(wire *request) {
	var config dialect.Object
	samples := true
	if e.family == claude {
		config.Set("maxTokens", e.settings.MaxTokens)
		samples = e.settings.Samples
		e.claude()
	} else {
		limit := e.Take(dialect.MaxTokens)
		config.Set("maxTokens", limit)
		samples = !e.thinking(limit != nil)
	}
	if samples {
		config.SetFields(e.Carrier, sampling[:])
		e.topK()
	}
	if stop := dialect.Array(e.Take(dialect.Stop)); stop != nil {
		config.Set("stopSequences", stop)
		if e.family == claude { // which says which one it met
			wire.ResponseFields = []string{stopSequence}
		}
	}
	wire.InferenceConfig = config.Value()
	e.TakeDefault(dialect.Candidates, "1")
	e.TakeDefault(dialect.LogProbs, "false")
	wire.RequestMetadata = e.metadata()
	e.tier(wire)
	var rest dialect.Object
	rest.SetOwn(e.Carrier, "performanceConfig")
	wire.Rest = rest.Value()
	set := map[string]bool{}
	dialect.Members(e.own.Value(), func(name string, _ jsontext.Value) { set[name] = true })
	dialect.Members(e.Take("additionalModelRequestFields"), func(name string, v jsontext.Value) {
		if set[name] {
			e.Drop("additionalModelRequestFields." + name)
			return
		}
		e.own.Set(name, v)
	})
}

// stopSequence is where Claude names the stop sequence that it met.
const stopSequence = "/stop_sequence"

// sampling are the members of inferenceConfig that mean what the field of package dialect
// means.
var sampling = [...][2]string{{"temperature", dialect.Temperature}, {"topP", dialect.TopP}}

// claude writes how much Claude is to think, by the rules of Anthropic's own API.
func (e *encoder) claude() {
	e.own.Set("thinking", e.settings.Thinking)
	if e.settings.Effort != "" {
		var o dialect.Object
		o.Set("effort", dialect.String(e.settings.Effort))
		e.own.Set("output_config", o.Value())
	}
}

func (e *encoder) topK() {
	switch e.family {
	case claude, mistral:
		e.own.Set("top_k", e.Take(dialect.TopK))
	case nova:
		if k := e.Take(dialect.TopK); k != nil {
			var o dialect.Object
			o.Set("topK", k)
			e.own.Set("inferenceConfig", o.Value())
		}
	}
}

// metadata returns who asks, for the invocation log.
func (e *encoder) metadata() map[string]string {
	for _, user := range dialect.Strings(e.Field(dialect.User)) {
		if IsMetadata(user) {
			e.Take(dialect.User)
			return map[string]string{"user": user}
		}
	}
	return nil
}

// IsMetadata reports whether s may stand in requestMetadata (API reference, Converse).
func IsMetadata(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(" \t\n:_@$#=/+,-.", r) {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

func (e *encoder) tier(wire *request) {
	e.TakeDefault(dialect.ServiceTier, `"auto"`)
	for _, s := range dialect.Strings(e.Field(dialect.ServiceTier)) {
		switch s {
		case "default", "flex", "priority", "reserved":
			e.Take(dialect.ServiceTier)
			wire.ServiceTier = &serviceTier{s}
		}
	}
}

// document returns a name for a document that the API takes (DocumentBlock) and that no other
// has.
func (e *encoder) document(name string) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" -()[]", r) {
			return r
		}
		return '-'
	}, name)), " ")
	if name = name[:min(len(name), 180)]; name == "" {
		name = "document"
	}
	unique := name
	for i := 2; e.documents[unique]; i++ {
		unique = fmt.Sprintf("%s (%d)", name, i)
	}
	e.documents[unique] = true
	return unique
}
