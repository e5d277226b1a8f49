// Package responses speaks the dialect of OpenAI's Responses API: the part of it that
// needs no memory of the provider's.
//
// [Responses] reads and writes both sides of it, what clients send and what providers
// answer, in the canonical form of package dialect. Package llm calls it; nothing here
// does I/O or knows who is asked.
package responses

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/openai"
)

// Responses is the API of that name (API reference, Responses). It has no state.
type Responses struct{}

// vendor is whose signatures stand in this dialect without saying so.
const vendor = "openai"

// redacted begins the signature of thoughts that only their maker can read.
const redacted = "redacted:"

// The wire of a request. Members that have no field stand in Rest.
type (
	request struct {
		Model        string         `json:"model,omitzero"`
		Instructions *string        `json:"instructions,omitzero"`
		Input        jsontext.Value `json:"input,omitzero"` // a string or items
		Stream       bool           `json:"stream,omitzero"`
		Tools        []tool         `json:"tools,omitzero"`
		ToolChoice   jsontext.Value `json:"tool_choice,omitzero"`
		Text         *text          `json:"text,omitzero"`
		Reasoning    *reasoning     `json:"reasoning,omitzero"`
		Store        *bool          `json:"store,omitzero"`
		Include      []string       `json:"include,omitzero"`
		Rest         jsontext.Value `json:",embed"`
	}
	// An item is an item of input or output, of any type.
	item struct {
		Type      string         `json:"type,omitzero"` // message, function_call, function_call_output, reasoning
		ID        string         `json:"id,omitzero"`
		Status    string         `json:"status,omitzero"`
		Role      string         `json:"role,omitzero"`
		Content   jsontext.Value `json:"content,omitzero"` // a string or parts
		CallID    string         `json:"call_id,omitzero"`
		Name      string         `json:"name,omitzero"`
		Arguments *string        `json:"arguments,omitzero"`
		Output    jsontext.Value `json:"output,omitzero"` // a string or parts
		Summary   []part         `json:"summary,omitzero"`
		Encrypted *string        `json:"encrypted_content,omitzero"`
		Result    string         `json:"result,omitzero"`        // of an image_generation_call: base64
		Format    string         `json:"output_format,omitzero"` // of it: png, jpeg, webp
		Rest      jsontext.Value `json:",embed"`
	}
	part struct {
		Type        string         `json:"type"`
		Text        *string        `json:"text,omitzero"`
		Annotations jsontext.Value `json:"annotations,omitzero"`
		LogProbs    jsontext.Value `json:"logprobs,omitzero"`
		Refusal     *string        `json:"refusal,omitzero"`
		ImageURL    string         `json:"image_url,omitzero"`
		Detail      string         `json:"detail,omitzero"`
		FileData    string         `json:"file_data,omitzero"`
		FileID      string         `json:"file_id,omitzero"`
		FileURL     string         `json:"file_url,omitzero"`
		Filename    string         `json:"filename,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	tool struct {
		Type        string         `json:"type"`
		Name        string         `json:"name,omitzero"`
		Description string         `json:"description,omitzero"`
		Parameters  jsontext.Value `json:"parameters,omitzero"`
		Strict      *bool          `json:"strict,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	choice struct {
		Type string         `json:"type"`
		Name string         `json:"name,omitzero"`
		Rest jsontext.Value `json:",embed"`
	}
	text struct {
		Format *format        `json:"format,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
	format struct {
		Type        string         `json:"type"`
		Name        string         `json:"name,omitzero"`
		Description string         `json:"description,omitzero"`
		Schema      jsontext.Value `json:"schema,omitzero"`
		Strict      *bool          `json:"strict,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	reasoning struct {
		Effort  string         `json:"effort,omitzero"`
		Summary string         `json:"summary,omitzero"`
		Rest    jsontext.Value `json:",embed"`
	}
)

// includeLogProbs has the answer include them.
const includeLogProbs = "message.output_text.logprobs"

// fields are the members that mean what the field of package dialect means.
var fields = [...][2]string{
	{"max_output_tokens", dialect.MaxTokens}, {"temperature", dialect.Temperature}, {"top_p", dialect.TopP}, {"user", dialect.User},
	{"parallel_tool_calls", dialect.ParallelTools}, {"top_logprobs", dialect.TopLogProbs},
}

// read are those that are read only: each vendor has values of its own for them.
var read = [...][2]string{{"service_tier", dialect.ServiceTier}}

// stateful are the members that ask for the provider's memory, which no other provider has.
var stateful = [...]string{"previous_response_id", "conversation", "background", "prompt"}

// DecodeError reads the body of an answer that is none.
func (Responses) DecodeError(status int, body []byte) *dialect.Error {
	return openai.Chat{}.DecodeError(status, body)
}

// EncodeError writes an error as OpenAI's APIs do.
func (Responses) EncodeError(e *dialect.Error) []byte { return openai.Chat{}.EncodeError(e) }

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (Responses) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire request
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	var err error
	dialect.Members(wire.Rest, func(name string, v jsontext.Value) {
		for _, s := range stateful {
			if name == s && v.Kind() != 'n' && v.Kind() != 'f' {
				err = dialect.Invalid(name, "this provider has no memory: send the whole conversation")
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if wire.Store != nil && *wire.Store {
		return nil, dialect.Invalid("store", "this provider has no memory: send store: false, and the whole conversation each time")
	}
	r := &dialect.Request{Model: wire.Model, Stream: wire.Stream, Usage: true}
	if wire.Instructions != nil {
		r.Messages = append(r.Messages, dialect.Message{Role: dialect.FromSystem, Path: "instructions", Parts: []dialect.Part{
			{Kind: dialect.Text, Path: "instructions", Text: *wire.Instructions},
		}})
	}
	if err := decodeInput(r, wire.Input); err != nil {
		return nil, err
	}
	for i := range wire.Tools {
		t := &wire.Tools[i]
		path := "tools[" + strconv.Itoa(i) + "]"
		if t.Type != "function" {
			r.Note("", path, jsontext.Value("{}")) // a tool of the provider's own
			continue
		}
		r.Tools = append(r.Tools, dialect.Tool{Path: path, Name: t.Name, Description: t.Description, Schema: t.Parameters, Strict: t.Strict})
		r.Unknown(t.Rest, path)
	}
	if err := decodeChoice(r, wire.ToolChoice); err != nil {
		return nil, err
	}
	decodeText(r, wire.Text)
	if o := wire.Reasoning; o != nil {
		r.Reasoning = dialect.Reasoning{Path: "reasoning", Effort: o.Effort, EffortAt: "reasoning.effort", Off: o.Effort == "none", Adaptive: o.Effort == ""}
		if o.Summary != "" {
			r.Note("", "reasoning.summary", dialect.String(o.Summary))
		}
		r.Unknown(o.Rest, "reasoning")
	}
	for i, s := range wire.Include {
		path := "include[" + strconv.Itoa(i) + "]"
		switch s {
		case "reasoning.encrypted_content": // which is always there
		case includeLogProbs:
			r.Note(dialect.LogProbs, path, jsontext.Value("true"))
		default:
			r.Note("", path, dialect.String(s))
		}
	}
	r.Unknown(wire.Rest, "", fields[:], read[:])
	return r, nil
}

func decodeInput(r *dialect.Request, input jsontext.Value) error {
	switch input.Kind() {
	case '"':
		r.Messages = append(r.Messages, dialect.Message{Path: "input", Parts: []dialect.Part{
			{Kind: dialect.Text, Path: "input", Text: dialect.Strings(input)[0]},
		}})
		return nil
	case '[':
	default:
		return dialect.Invalid("input", "input is required: a string or a list of items")
	}
	var items []item
	if err := json.Unmarshal(input, &items); err != nil {
		return dialect.Misread(err)
	}
	for i := range items {
		m, err := decodeItem(r, &items[i], "input["+strconv.Itoa(i)+"]")
		if err != nil {
			return err
		}
		// What the model says in one turn is several items.
		if n := len(r.Messages); n > 0 && m.Role == dialect.FromAssistant && r.Messages[n-1].Role == dialect.FromAssistant {
			r.Messages[n-1].Parts = append(r.Messages[n-1].Parts, m.Parts...)
			continue
		}
		r.Messages = append(r.Messages, m)
	}
	return nil
}

func decodeItem(r *dialect.Request, i *item, path string) (m dialect.Message, err error) {
	m.Path = path
	switch i.Type {
	case "message", "":
		switch i.Role {
		case "user":
		case "system", "developer":
			m.Role = dialect.FromSystem
		case "assistant":
			m.Role = dialect.FromAssistant
		default:
			return m, dialect.Invalid(path+".role", path+".role is none of user, system, developer and assistant")
		}
		m.Parts, err = decodeContent(r, i.Content, path+".content")
	case "function_call":
		m.Role = dialect.FromAssistant
		p := dialect.Part{Kind: dialect.ToolCall, Path: path, Name: i.Name}
		if i.Arguments != nil {
			p.Text = *i.Arguments
		}
		if p.ID, p.Origin, p.Signature = dialect.UnpackID(i.CallID); p.Signature != "" {
			p.SignedAt = path + ".call_id"
		}
		m.Parts = []dialect.Part{p}
	case "function_call_output":
		p := dialect.Part{Kind: dialect.ToolResult, Path: path}
		p.ID, _, _ = dialect.UnpackID(i.CallID)
		p.Parts, err = decodeContent(r, i.Output, path+".output")
		m.Parts = []dialect.Part{p}
	case "reasoning":
		m.Role = dialect.FromAssistant
		m.Parts = []dialect.Part{decodeReasoning(i, path)}
	case "item_reference":
		return m, dialect.Invalid(path, "this provider has no memory: send the item itself")
	default:
		m.Role = dialect.FromAssistant
		m.Parts = []dialect.Part{{Kind: dialect.Opaque, Path: path}}
		return m, nil
	}
	r.Unknown(i.Rest, path)
	return m, err
}

func decodeReasoning(i *item, path string) dialect.Part {
	p := dialect.Part{Kind: dialect.Thinking, Path: path, ID: i.ID, Origin: vendor}
	for _, s := range i.Summary {
		if s.Text != nil {
			p.Text += *s.Text
		}
	}
	if i.Encrypted == nil {
		return p
	}
	p.Origin, p.Signature = dialect.Signature(*i.Encrypted, vendor)
	p.SignedAt = path + ".encrypted_content"
	if data, ok := strings.CutPrefix(p.Signature, redacted); ok && p.Origin != vendor {
		p.Kind, p.Text, p.Signature = dialect.Redacted, data, data
	}
	return p
}

func decodeContent(r *dialect.Request, content jsontext.Value, path string) (parts []dialect.Part, err error) {
	switch content.Kind() {
	case '"':
		return []dialect.Part{{Kind: dialect.Text, Path: path, Text: dialect.Strings(content)[0]}}, nil
	case '[':
	default:
		return nil, dialect.Invalid(path, path+" is neither a string nor a list of parts")
	}
	var wire []part
	if err := json.Unmarshal(content, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	for i := range wire {
		w := &wire[i]
		p := dialect.Part{Path: path + "[" + strconv.Itoa(i) + "]"}
		switch {
		case (w.Type == "input_text" || w.Type == "output_text") && w.Text != nil:
			p.Kind, p.Text = dialect.Text, *w.Text
		case w.Type == "refusal" && w.Refusal != nil:
			p.Kind, p.Text = dialect.Refusal, *w.Refusal
		case w.Type == "input_image":
			p.Kind, p.Media = dialect.Image, dialect.MediaOf(w.ImageURL)
			p.Media.Detail, p.Media.File = w.Detail, w.FileID
		case w.Type == "input_file":
			p.Kind, p.Media = dialect.Document, dialect.MediaOf(w.FileData)
			if w.FileURL != "" {
				p.Media.URL = w.FileURL
			}
			p.Media.Name, p.Media.File = w.Filename, w.FileID
		default:
			p.Kind = dialect.Opaque
			parts = append(parts, p)
			continue // which is dropped as a whole
		}
		r.Unknown(w.Rest, p.Path)
		parts = append(parts, p)
	}
	return parts, nil
}

func decodeChoice(r *dialect.Request, v jsontext.Value) error {
	const path = "tool_choice"
	r.Choice.Path = path
	switch v.Kind() {
	case 0, 'n':
		return nil
	case '"':
		modes := map[string]dialect.ChoiceMode{"auto": dialect.ChoiceAuto, "none": dialect.ChoiceNone, "required": dialect.ChoiceRequired}
		mode, ok := modes[dialect.Strings(v)[0]]
		if !ok {
			return dialect.Invalid(path, "tool_choice is none of auto, none, required and a tool")
		}
		r.Choice.Mode = mode
		return nil
	}
	var wire choice
	if err := json.Unmarshal(v, &wire); err != nil {
		return dialect.Misread(err)
	}
	if wire.Type != "function" {
		r.Note("", path, v)
		return nil
	}
	r.Choice.Mode, r.Choice.Name = dialect.ChoiceNamed, wire.Name
	r.Unknown(wire.Rest, path)
	return nil
}

func decodeText(r *dialect.Request, t *text) {
	if t == nil {
		return
	}
	r.Unknown(t.Rest, "text")
	f := t.Format
	if f == nil {
		return
	}
	const path = "text.format"
	r.Unknown(f.Rest, path)
	switch f.Type {
	case "json_object":
		r.Output = dialect.Output{Format: dialect.JSONObject, Path: path}
	case "json_schema":
		r.Output = dialect.Output{Format: dialect.JSONSchema, Path: path, Name: f.Name, Description: f.Description, Schema: f.Schema, Strict: f.Strict}
	case "text":
	default:
		r.Note("", path, dialect.String(f.Type))
	}
}
