package openai

import (
	"cmp"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The wire of an answer, whole and in chunks.
type (
	chatResponse struct {
		ID      string           `json:"id"`
		Object  string           `json:"object"`
		Created int64            `json:"created"`
		Model   string           `json:"model"`
		Choices []chatCompletion `json:"choices"`
		Usage   *chatUsage       `json:"usage,omitzero"`
		Error   *errorObject     `json:"error,omitzero"` // what ends a broken stream

		Fingerprint dialect.Ignored `json:"system_fingerprint,omitzero"`
		Tier        dialect.Ignored `json:"service_tier,omitzero"`
		Obfuscation dialect.Ignored `json:"obfuscation,omitzero"`
		Rest        jsontext.Value  `json:",embed"`
	}
	chatCompletion struct {
		Index        int            `json:"index"`
		Message      *chatSaid      `json:"message,omitzero"`
		Delta        *chatSaid      `json:"delta,omitzero"`
		LogProbs     *chatLogProbs  `json:"logprobs,omitzero"`
		FinishReason *string        `json:"finish_reason"`
		Rest         jsontext.Value `json:",embed"`
	}
	// A chatSaid is what the model says: a message, or what a chunk adds to it.
	chatSaid struct {
		Role             string           `json:"role,omitzero"`
		Content          *string          `json:"content,omitzero"`
		Refusal          *string          `json:"refusal,omitzero"`
		ReasoningContent string           `json:"reasoning_content,omitzero"`
		Reasoning        string           `json:"reasoning,omitzero"` // vLLM's and OpenRouter's name for it
		ReasoningDetails []chatReasoning  `json:"reasoning_details,omitzero"`
		Annotations      []chatAnnotation `json:"annotations,omitzero"`
		Images           []chatPart       `json:"images,omitzero"` // as OpenRouter has them
		ToolCalls        []chatToolCall   `json:"tool_calls,omitzero"`
		Rest             jsontext.Value   `json:",embed"`
	}
	// A chatAnnotation is a page of the web that the content cites.
	chatAnnotation struct {
		Type        string         `json:"type"` // url_citation
		URLCitation *chatCitation  `json:"url_citation,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	chatCitation struct {
		StartIndex int            `json:"start_index"`
		EndIndex   int            `json:"end_index"`
		Title      string         `json:"title"`
		URL        string         `json:"url"`
		Rest       jsontext.Value `json:",embed"`
	}
	chatLogProbs struct {
		Content jsontext.Value `json:"content"`
		Refusal jsontext.Value `json:"refusal"`
		Rest    jsontext.Value `json:",embed"`
	}
	chatUsage struct {
		PromptTokens     int64              `json:"prompt_tokens"`
		CompletionTokens int64              `json:"completion_tokens"`
		TotalTokens      int64              `json:"total_tokens"`
		PromptDetails    *chatPromptDetails `json:"prompt_tokens_details,omitzero"`
		OutputDetails    *chatOutputDetails `json:"completion_tokens_details,omitzero"`
	}
	chatPromptDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
		AudioTokens  int64 `json:"audio_tokens,omitzero"`
	}
	chatOutputDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
		AudioTokens     int64 `json:"audio_tokens,omitzero"`
	}
)

func (u *chatUsage) canonical() dialect.Usage {
	if u == nil {
		return dialect.Usage{}
	}
	out := dialect.Usage{Known: true, Input: u.PromptTokens, Output: u.CompletionTokens}
	if u.PromptDetails != nil {
		out.CacheRead, out.AudioInput = u.PromptDetails.CachedTokens, u.PromptDetails.AudioTokens
	}
	if u.OutputDetails != nil {
		out.Reasoning, out.AudioOutput = u.OutputDetails.ReasoningTokens, u.OutputDetails.AudioTokens
	}
	return out
}

func chatUsageOf(u dialect.Usage) *chatUsage {
	if !u.Known {
		return nil
	}
	return &chatUsage{
		PromptTokens: u.Input, CompletionTokens: u.Output, TotalTokens: u.Total(),
		PromptDetails: &chatPromptDetails{u.CacheRead, u.AudioInput}, OutputDetails: &chatOutputDetails{u.Reasoning, u.AudioOutput},
	}
}

// chatReason reads a finish_reason.
func chatReason(s string) dialect.StopReason {
	switch s {
	case "length":
		return dialect.StopLength
	case "tool_calls", "function_call":
		return dialect.StopTools
	case "content_filter":
		return dialect.StopFilter
	default: // stop, and what servers like it invent
		return dialect.StopEnd
	}
}

func chatReasonOf(r dialect.StopReason) string {
	switch r {
	case dialect.StopLength, dialect.StopContext:
		return "length"
	case dialect.StopTools:
		return "tool_calls"
	case dialect.StopFilter:
		return "content_filter"
	default:
		return "stop"
	}
}

// DecodeResponse reads a provider's answer.
func (Chat) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire chatResponse
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Error != nil { // some say so with status 200
		e := &dialect.Error{Status: statusOf(wire.Error)}
		fillError(e, wire.Error)
		return nil, e
	}
	if len(wire.Choices) == 0 {
		return nil, errNoChoice
	}
	r := &dialect.Response{ID: wire.ID, Model: wire.Model, Created: wire.Created, Usage: wire.Usage.canonical()}
	r.Lose(wire.Rest, "")
	for i := range wire.Choices {
		c := &wire.Choices[i]
		if c.Message == nil {
			return nil, errNoChoice
		}
		a := dialect.Answer{Index: c.Index, Reason: dialect.StopEnd}
		if c.FinishReason != nil {
			a.Reason = chatReason(*c.FinishReason)
		}
		lose := func(at string) { r.Lost = append(r.Lost, at) }
		c.leftover(lose)
		a.Parts = c.parts(lose)
		for j := range c.Message.ToolCalls {
			if c.Message.ToolCalls[j].Function == nil {
				lose(messagePath(c.Index) + ".tool_calls[" + strconv.Itoa(j) + "]")
			}
		}
		r.Choices = append(r.Choices, a)
	}
	return r, nil
}

func choicePath(i int) string { return "choices[" + strconv.Itoa(i) + "]" }

func messagePath(choice int) string { return choicePath(choice) + ".message" }

// leftover calls lost with the places of what a choice says beside its parts.
func (c *chatCompletion) leftover(lost func(at string)) {
	if c.Rest != nil {
		dialect.Leftover(c.Rest, choicePath(c.Index), lost)
	}
	if said := cmp.Or(c.Message, c.Delta); said != nil && said.Rest != nil {
		dialect.Leftover(said.Rest, messagePath(c.Index), lost)
	}
}

// parts returns what a choice says. lost is told what has no part.
func (c *chatCompletion) parts(lost func(at string)) (parts []dialect.Part) {
	m := c.Message
	probs := c.LogProbs.of()
	if t := m.ReasoningContent + m.Reasoning; t != "" {
		parts = append(parts, dialect.Part{Kind: dialect.Thinking, Text: t})
	}
	if m.Content != nil && *m.Content != "" {
		p := dialect.Part{Kind: dialect.Text, Text: *m.Content, LogProbs: probs.Content, LogAt: c.logAt(probs.Content)}
		probs.Content = nil
		for i := range m.Annotations {
			if c, ok := m.Annotations[i].canonical(c.annotationPath(i), lost); ok {
				p.Citations = append(p.Citations, c)
			}
		}
		parts = append(parts, p)
	} else if len(m.Annotations) > 0 {
		lost(messagePath(c.Index) + ".annotations")
	}
	if m.Refusal != nil && *m.Refusal != "" {
		parts = append(parts, dialect.Part{Kind: dialect.Refusal, Text: *m.Refusal, LogProbs: probs.Refusal, LogAt: c.logAt(probs.Refusal)})
		probs.Refusal = nil
	}
	if probs.Content != nil || probs.Refusal != nil {
		lost(choicePath(c.Index) + ".logprobs")
	}
	for i := range m.Images {
		if p, ok := c.image(i, lost); ok {
			parts = append(parts, p)
		}
	}
	for _, call := range m.ToolCalls {
		if call.Function != nil {
			parts = append(parts, dialect.Part{Kind: dialect.ToolCall, ID: call.ID, Name: call.Function.Name, Text: arguments(call.Function.Arguments)})
		}
	}
	return parts
}

// logAt returns where log probabilities stand, "" when there are none.
func (c *chatCompletion) logAt(probs jsontext.Value) string {
	if probs == nil {
		return ""
	}
	return choicePath(c.Index) + ".logprobs"
}

// of returns the log probabilities; those that are empty as nil.
func (l *chatLogProbs) of() (out chatLogProbs) {
	if l == nil {
		return out
	}
	if l.Content.Kind() == '[' {
		out.Content = l.Content
	}
	if l.Refusal.Kind() == '[' {
		out.Refusal = l.Refusal
	}
	return out
}

func (c *chatCompletion) annotationPath(i int) string {
	return messagePath(c.Index) + ".annotations[" + strconv.Itoa(i) + "]"
}

// canonical returns the citation that an annotation is; ok is false if it is none.
func (a *chatAnnotation) canonical(path string, lost func(at string)) (c dialect.Citation, ok bool) {
	if a.Type != "url_citation" || a.URLCitation == nil {
		lost(path)
		return c, false
	}
	u := a.URLCitation
	dialect.Leftover(u.Rest, path+".url_citation", lost)
	return dialect.Citation{
		Path: path, URL: u.URL, Title: u.Title, Start: u.StartIndex, End: u.EndIndex,
		RangeAt: [2]string{path + ".url_citation.start_index", path + ".url_citation.end_index"},
	}, true
}

// image returns a picture of an answer; ok is false if it is none.
func (c *chatCompletion) image(i int, lost func(at string)) (p dialect.Part, ok bool) {
	path := messagePath(c.Index) + ".images[" + strconv.Itoa(i) + "]"
	wire := &cmp.Or(c.Message, c.Delta).Images[i]
	if wire.ImageURL == nil {
		lost(path)
		return p, false
	}
	return dialect.Part{Kind: dialect.Image, Path: path, Media: dialect.MediaOf(wire.ImageURL.URL)}, true
}

// annotation returns a citation of a text of n characters, before which stand others; ok is
// false when the source has no address.
func annotation(c *dialect.Citation, n, before int, o *dialect.WriterOptions) (chatAnnotation, bool) {
	if c.URL == "" {
		o.Lose(c.Path)
		return chatAnnotation{}, false
	}
	o.LoseQuote(c)
	start, end := c.In(n, before)
	return chatAnnotation{Type: "url_citation", URLCitation: &chatCitation{StartIndex: start, EndIndex: end, Title: c.Title, URL: c.URL}}, true
}

// logProbs returns what a text or a refusal adds to the log probabilities before, which may
// be nil.
func logProbs(before *chatLogProbs, kind dialect.Kind, v jsontext.Value) *chatLogProbs {
	if v == nil {
		return before
	}
	null := jsontext.Value("null")
	out := cmp.Or(before, &chatLogProbs{Content: null, Refusal: null})
	to := &out.Content
	if kind == dialect.Refusal {
		to = &out.Refusal
	}
	if to.Kind() == 'n' {
		*to = nil
	}
	*to = dialect.Concat(*to, v)
	return out
}

// EncodeResponse writes an answer to a client.
func (Chat) EncodeResponse(r *dialect.Response, o dialect.WriterOptions) ([]byte, error) {
	wire := chatResponse{ID: r.ID, Object: "chat.completion", Created: now(r.Created), Model: r.Model, Usage: chatUsageOf(r.Usage)}
	for i := range r.Choices {
		a := &r.Choices[i]
		said := &chatSaid{Role: "assistant"}
		var text string
		var probs *chatLogProbs
		spoken := false
		for j := range a.Parts {
			p := &a.Parts[j]
			switch p.Kind {
			case dialect.Text:
				for k := range p.Citations {
					if c, ok := annotation(&p.Citations[k], utf8.RuneCountInString(p.Text), utf8.RuneCountInString(text), &o); ok {
						said.Annotations = append(said.Annotations, c)
					}
				}
				text, spoken = text+p.Text, true
				o.Lose(p.SignedAt)
				probs = logProbs(probs, p.Kind, p.LogProbs)
			case dialect.Refusal:
				said.Refusal = &p.Text
				probs = logProbs(probs, p.Kind, p.LogProbs)
			case dialect.Image:
				said.Images = append(said.Images, imagePart(p))
			case dialect.Thinking:
				said.ReasoningContent += p.Text
				d := chatReasoning{Type: "reasoning.text", Text: p.Text, Index: len(said.ReasoningDetails)}
				if p.Signature != "" {
					d.Signature = foreign(o.Origin, p.Signature)
				}
				said.ReasoningDetails = append(said.ReasoningDetails, d)
			case dialect.Redacted:
				said.ReasoningDetails = append(said.ReasoningDetails, chatReasoning{
					Type: "reasoning.encrypted", Data: foreign(o.Origin, p.Text), Index: len(said.ReasoningDetails),
				})
			case dialect.ToolCall:
				said.ToolCalls = append(said.ToolCalls, chatToolCall{
					ID: dialect.PackID(p.ID, o.Origin, p.Signature), Type: "function",
					Function: &chatFunction{Name: p.Name, Arguments: arguments(p.Text)},
				})
			}
		}
		if spoken || len(said.ToolCalls) == 0 && said.Refusal == nil {
			said.Content = &text
		}
		reason := chatReasonOf(a.Reason)
		wire.Choices = append(wire.Choices, chatCompletion{Index: a.Index, Message: said, LogProbs: probs, FinishReason: &reason})
	}
	return json.Marshal(wire)
}

// imagePart returns a picture of an answer.
func imagePart(p *dialect.Part) chatPart {
	return chatPart{Type: "image_url", ImageURL: &chatImage{URL: p.Media.DataURL()}}
}

// foreign returns a signature as a client of this dialect keeps it.
func foreign(origin, signature string) string {
	if origin == vendor {
		return signature
	}
	return dialect.Foreign(origin, signature)
}
