package openai

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Chat is the chat completions API (API reference, Chat). It has no state.
type Chat struct{}

// The wire of a request. Members that have no field stand in Rest.
type (
	chatRequest struct {
		Model           string             `json:"model,omitzero"`
		Messages        []chatMessage      `json:"messages"`
		Stream          bool               `json:"stream,omitzero"`
		StreamOptions   *chatStreamOptions `json:"stream_options,omitzero"`
		Tools           []chatTool         `json:"tools,omitzero"`
		ToolChoice      jsontext.Value     `json:"tool_choice,omitzero"`
		ResponseFormat  *chatFormat        `json:"response_format,omitzero"`
		ReasoningEffort string             `json:"reasoning_effort,omitzero"`
		Rest            jsontext.Value     `json:",embed"`
	}
	chatStreamOptions struct {
		IncludeUsage bool           `json:"include_usage"`
		Rest         jsontext.Value `json:",embed"`
	}
	chatMessage struct {
		Role             string          `json:"role"`
		Content          jsontext.Value  `json:"content,omitzero"` // a string, parts, or null
		Refusal          *string         `json:"refusal,omitzero"`
		ReasoningContent string          `json:"reasoning_content,omitzero"`
		ReasoningDetails []chatReasoning `json:"reasoning_details,omitzero"`
		ToolCalls        []chatToolCall  `json:"tool_calls,omitzero"`
		ToolCallID       string          `json:"tool_call_id,omitzero"`
		Rest             jsontext.Value  `json:",embed"`
	}
	// A chatReasoning is a thought with its signature, as OpenRouter shows them.
	chatReasoning struct {
		Type      string         `json:"type"` // reasoning.text, reasoning.encrypted
		Text      string         `json:"text,omitzero"`
		Data      string         `json:"data,omitzero"`
		Signature string         `json:"signature,omitzero"`
		Index     int            `json:"index"`
		Rest      jsontext.Value `json:",embed"`
	}
	chatPart struct {
		Type         string         `json:"type"`
		Text         string         `json:"text,omitzero"`
		Refusal      string         `json:"refusal,omitzero"`
		ImageURL     *chatImage     `json:"image_url,omitzero"`
		InputAudio   *chatAudio     `json:"input_audio,omitzero"`
		File         *chatFile      `json:"file,omitzero"`
		CacheControl jsontext.Value `json:"cache_control,omitzero"`
		Rest         jsontext.Value `json:",embed"`
	}
	chatImage struct {
		URL    string         `json:"url"`
		Detail string         `json:"detail,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
	chatAudio struct {
		Data   string         `json:"data"`
		Format string         `json:"format"`
		Rest   jsontext.Value `json:",embed"`
	}
	chatFile struct {
		FileData string         `json:"file_data,omitzero"`
		FileID   string         `json:"file_id,omitzero"`
		Filename string         `json:"filename,omitzero"`
		Rest     jsontext.Value `json:",embed"`
	}
	chatToolCall struct {
		Index    *int           `json:"index,omitzero"` // in streams
		ID       string         `json:"id,omitzero"`
		Type     string         `json:"type,omitzero"`
		Function *chatFunction  `json:"function,omitzero"`
		Rest     jsontext.Value `json:",embed"`
	}
	chatFunction struct {
		Name      string         `json:"name,omitzero"`
		Arguments string         `json:"arguments"`
		Rest      jsontext.Value `json:",embed"`
	}
	chatTool struct {
		Type         string            `json:"type"`
		Function     *chatToolFunction `json:"function,omitzero"`
		CacheControl jsontext.Value    `json:"cache_control,omitzero"`
		Rest         jsontext.Value    `json:",embed"`
	}
	chatToolFunction struct {
		Name        string         `json:"name"`
		Description string         `json:"description,omitzero"`
		Parameters  jsontext.Value `json:"parameters,omitzero"`
		Strict      *bool          `json:"strict,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	chatChoice struct {
		Type     string         `json:"type"`
		Function *chatNamed     `json:"function,omitzero"`
		Rest     jsontext.Value `json:",embed"`
	}
	chatNamed struct {
		Name string         `json:"name"`
		Rest jsontext.Value `json:",embed"`
	}
	chatFormat struct {
		Type       string         `json:"type"`
		JSONSchema *chatSchema    `json:"json_schema,omitzero"`
		Rest       jsontext.Value `json:",embed"`
	}
	chatSchema struct {
		Name        string         `json:"name"`
		Description string         `json:"description,omitzero"`
		Schema      jsontext.Value `json:"schema,omitzero"`
		Strict      *bool          `json:"strict,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
)

// chatFields are the members that mean what the field of package dialect means.
var chatFields = [...][2]string{
	{"max_completion_tokens", dialect.MaxTokens}, {"temperature", dialect.Temperature}, {"top_p", dialect.TopP},
	{"stop", dialect.Stop}, {"seed", dialect.Seed}, {"n", dialect.Candidates}, {"user", dialect.User},
	{"presence_penalty", dialect.PresencePenalty}, {"frequency_penalty", dialect.FrequencyPenalty},
	{"logprobs", dialect.LogProbs}, {"top_logprobs", dialect.TopLogProbs}, {"parallel_tool_calls", dialect.ParallelTools},
}

// chatRead are those that are read only: another name, what servers like it have, and what each
// vendor has values of its own for.
var chatRead = [...][2]string{{"max_tokens", dialect.MaxTokens}, {"top_k", dialect.TopK}, {"service_tier", dialect.ServiceTier}}

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error].
func (Chat) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire chatRequest
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	r := &dialect.Request{Model: wire.Model, Stream: wire.Stream}
	if o := wire.StreamOptions; o != nil {
		r.Usage = o.IncludeUsage
		r.Unknown(o.Rest, "stream_options")
	}
	for i := range wire.Messages {
		if err := decodeChatMessage(r, &wire.Messages[i], "messages["+strconv.Itoa(i)+"]"); err != nil {
			return nil, err
		}
	}
	for i := range wire.Tools {
		decodeChatTool(r, &wire.Tools[i], "tools["+strconv.Itoa(i)+"]")
	}
	if err := decodeChatChoice(r, wire.ToolChoice); err != nil {
		return nil, err
	}
	decodeChatFormat(r, wire.ResponseFormat)
	if wire.ReasoningEffort != "" {
		r.Reasoning = dialect.Reasoning{Path: "reasoning_effort", Effort: wire.ReasoningEffort, EffortAt: "reasoning_effort", Off: wire.ReasoningEffort == "none"}
	}
	dialect.Members(wire.Rest, func(name string, v jsontext.Value) {
		if name == "stop" && v.Kind() != 'n' {
			r.Note(dialect.Stop, name, dialect.Array(v))
		}
	})
	r.Unknown(without(wire.Rest, "stop"), "", chatFields[:], chatRead[:])
	return r, nil
}

// without returns an object without the member of that name.
func without(object jsontext.Value, name string) jsontext.Value {
	var out dialect.Object
	dialect.Members(object, func(n string, v jsontext.Value) {
		if n != name {
			out.Set(n, v)
		}
	})
	return out.Value()
}

func decodeChatMessage(r *dialect.Request, wire *chatMessage, path string) error {
	r.Unknown(wire.Rest, path)
	m := dialect.Message{Path: path}
	if wire.Role == "tool" {
		p := dialect.Part{Kind: dialect.ToolResult, Path: path}
		p.ID, _, _ = dialect.UnpackID(wire.ToolCallID)
		err := decodeChatContent(r, &p.Parts, wire.Content, path+".content")
		m.Parts = []dialect.Part{p}
		r.Messages = append(r.Messages, m)
		return err
	}
	switch wire.Role {
	case "system", "developer":
		m.Role = dialect.FromSystem
	case "assistant":
		m.Role = dialect.FromAssistant
		decodeChatReasoning(r, &m, wire, path)
	case "user":
	default:
		return dialect.Invalid(path+".role", path+".role is none of system, developer, user, assistant and tool")
	}
	if err := decodeChatContent(r, &m.Parts, wire.Content, path+".content"); err != nil {
		return err
	}
	if wire.Refusal != nil && *wire.Refusal != "" {
		m.Parts = append(m.Parts, dialect.Part{Kind: dialect.Refusal, Path: path + ".refusal", Text: *wire.Refusal})
	}
	for i := range wire.ToolCalls {
		call := &wire.ToolCalls[i]
		at := path + ".tool_calls[" + strconv.Itoa(i) + "]"
		if call.Function == nil || call.Type != "function" && call.Type != "" {
			m.Parts = append(m.Parts, dialect.Part{Kind: dialect.Opaque, Path: at})
			continue
		}
		p := dialect.Part{Kind: dialect.ToolCall, Path: at, Name: call.Function.Name, Text: call.Function.Arguments}
		if p.ID, p.Origin, p.Signature = dialect.UnpackID(call.ID); p.Signature != "" {
			p.SignedAt = at + ".id"
		}
		r.Unknown(call.Rest, at)
		r.Unknown(call.Function.Rest, at+".function")
		m.Parts = append(m.Parts, p)
	}
	r.Messages = append(r.Messages, m)
	return nil
}

// decodeChatReasoning reads what the model thought, with signatures where the client
// brings them back.
func decodeChatReasoning(r *dialect.Request, m *dialect.Message, wire *chatMessage, path string) {
	for i := range wire.ReasoningDetails {
		d := &wire.ReasoningDetails[i]
		p := dialect.Part{Kind: dialect.Thinking, Path: path + ".reasoning_details[" + strconv.Itoa(i) + "]", Text: d.Text}
		signature := d.Signature
		switch d.Type {
		case "reasoning.encrypted":
			p.Kind, signature = dialect.Redacted, d.Data
		case "reasoning.text":
		default:
			m.Parts = append(m.Parts, dialect.Part{Kind: dialect.Opaque, Path: p.Path})
			continue
		}
		p.Origin, p.Signature = dialect.Signature(signature, vendor)
		if p.Kind == dialect.Redacted {
			p.Text = p.Signature
		} else if i > 0 && len(m.Parts) > 0 && d.Index == wire.ReasoningDetails[i-1].Index && d.Type == wire.ReasoningDetails[i-1].Type {
			before := &m.Parts[len(m.Parts)-1] // as it was streamed
			before.Text += p.Text
			r.Join(before.Path, p.Path)
			if before.Signature += p.Signature; signature != "" {
				before.Origin = p.Origin
			}
			continue
		}
		m.Parts = append(m.Parts, p)
	}
	if wire.ReasoningContent != "" && len(wire.ReasoningDetails) == 0 {
		m.Parts = append(m.Parts, dialect.Part{Kind: dialect.Thinking, Path: path + ".reasoning_content", Text: wire.ReasoningContent, Origin: vendor})
	}
}

func decodeChatContent(r *dialect.Request, parts *[]dialect.Part, content jsontext.Value, path string) error {
	switch content.Kind() {
	case '"':
		*parts = append(*parts, dialect.Part{Kind: dialect.Text, Path: path, Text: dialect.Strings(content)[0]})
	case '[':
		var wire []chatPart
		if err := json.Unmarshal(content, &wire); err != nil {
			return dialect.Misread(err)
		}
		for i := range wire {
			*parts = append(*parts, decodeChatPart(r, &wire[i], path+"["+strconv.Itoa(i)+"]"))
		}
	case 'n', 0:
	default:
		return dialect.Invalid(path, path+" is neither a string nor a list of parts")
	}
	return nil
}

func decodeChatPart(r *dialect.Request, wire *chatPart, path string) dialect.Part {
	p := dialect.Part{Path: path, Cache: wire.CacheControl}
	switch {
	case wire.Type == "text":
		p.Kind, p.Text = dialect.Text, wire.Text
	case wire.Type == "refusal":
		p.Kind, p.Text = dialect.Refusal, wire.Refusal
	case wire.Type == "image_url" && wire.ImageURL != nil:
		p.Kind, p.Media = dialect.Image, dialect.MediaOf(wire.ImageURL.URL)
		p.Media.Detail = wire.ImageURL.Detail
		r.Unknown(wire.ImageURL.Rest, path+".image_url")
	case wire.Type == "input_audio" && wire.InputAudio != nil:
		p.Kind = dialect.Audio
		p.Media = dialect.Media{Type: "audio/" + wire.InputAudio.Format, Data: wire.InputAudio.Data}
		r.Unknown(wire.InputAudio.Rest, path+".input_audio")
	case wire.Type == "file" && wire.File != nil:
		p.Kind, p.Media = dialect.Document, dialect.MediaOf(wire.File.FileData)
		p.Media.File, p.Media.Name = wire.File.FileID, wire.File.Filename
		r.Unknown(wire.File.Rest, path+".file")
	default:
		p.Kind = dialect.Opaque
		return p // which is dropped as a whole
	}
	r.Unknown(wire.Rest, path)
	return p
}

func decodeChatTool(r *dialect.Request, wire *chatTool, path string) {
	if wire.Function == nil || wire.Type != "function" {
		r.Note("", path, jsontext.Value("{}")) // a tool of the provider's own
		return
	}
	f := wire.Function
	r.Tools = append(r.Tools, dialect.Tool{
		Path: path, Name: f.Name, Description: f.Description, Schema: f.Parameters, Strict: f.Strict, Cache: wire.CacheControl,
	})
	r.Unknown(wire.Rest, path)
	r.Unknown(f.Rest, path+".function")
}

func decodeChatChoice(r *dialect.Request, choice jsontext.Value) error {
	const path = "tool_choice"
	r.Choice.Path = path
	switch choice.Kind() {
	case 0, 'n':
	case '"':
		switch dialect.Strings(choice)[0] {
		case "auto":
			r.Choice.Mode = dialect.ChoiceAuto
		case "none":
			r.Choice.Mode = dialect.ChoiceNone
		case "required":
			r.Choice.Mode = dialect.ChoiceRequired
		default:
			return dialect.Invalid(path, "tool_choice is none of auto, none, required and a tool")
		}
	default:
		var wire chatChoice
		if err := json.Unmarshal(choice, &wire); err != nil {
			return dialect.Misread(err)
		}
		if wire.Function == nil || wire.Type != "function" {
			r.Note("", path, choice) // allowed_tools, custom
			return nil
		}
		r.Choice.Mode, r.Choice.Name = dialect.ChoiceNamed, wire.Function.Name
		r.Unknown(wire.Rest, path)
	}
	return nil
}

func decodeChatFormat(r *dialect.Request, wire *chatFormat) {
	if wire == nil {
		return
	}
	const path = "response_format"
	r.Output.Path = path
	r.Unknown(wire.Rest, path)
	switch {
	case wire.Type == "json_object":
		r.Output.Format = dialect.JSONObject
	case wire.Type == "json_schema" && wire.JSONSchema != nil:
		s := wire.JSONSchema
		r.Output = dialect.Output{Format: dialect.JSONSchema, Path: path, Name: s.Name, Description: s.Description, Schema: s.Schema, Strict: s.Strict}
		r.Unknown(s.Rest, path+".json_schema")
	case wire.Type != "text":
		r.Note("", path, dialect.String(wire.Type))
	}
}
