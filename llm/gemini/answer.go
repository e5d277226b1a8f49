package gemini

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The wire of an answer, and of each part of a stream.
type (
	response struct {
		Candidates     []candidate     `json:"candidates,omitzero"`
		PromptFeedback *feedback       `json:"promptFeedback,omitzero"`
		UsageMetadata  *usage          `json:"usageMetadata,omitzero"`
		ModelVersion   string          `json:"modelVersion,omitzero"`
		ResponseID     string          `json:"responseId,omitzero"`
		Error          *status         `json:"error,omitzero"`
		CreateTime     dialect.Ignored `json:"createTime,omitzero"`
		Rest           jsontext.Value  `json:",embed"`
	}
	candidate struct {
		Content      *content        `json:"content,omitzero"`
		FinishReason string          `json:"finishReason,omitzero"`
		Index        int             `json:"index"`
		TokenCount   dialect.Ignored `json:"tokenCount,omitzero"` // which the usage has
		Grounding    *grounding      `json:"groundingMetadata,omitzero"`
		Citing       *citing         `json:"citationMetadata,omitzero"`
		LogProbs     *logProbs       `json:"logprobsResult,omitzero"`
		Rest         jsontext.Value  `json:",embed"`
	}
	feedback struct {
		BlockReason string         `json:"blockReason,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	usage struct {
		Prompt    int64 `json:"promptTokenCount"`
		Cached    int64 `json:"cachedContentTokenCount,omitzero"`
		Answer    int64 `json:"candidatesTokenCount,omitzero"`
		ToolUse   int64 `json:"toolUsePromptTokenCount,omitzero"`
		Thoughts  int64 `json:"thoughtsTokenCount,omitzero"`
		TotalSize int64 `json:"totalTokenCount"`

		PromptDetails modalities     `json:"promptTokensDetails,omitzero"`
		AnswerDetails modalities     `json:"candidatesTokensDetails,omitzero"`
		Rest          jsontext.Value `json:",embed"`
	}
	modality struct {
		Modality string         `json:"modality"` // TEXT, AUDIO, …
		Count    int64          `json:"tokenCount,omitzero"`
		Rest     jsontext.Value `json:",embed"`
	}
	modalities []modality
)

// audio returns how many of the tokens are sound.
func (m modalities) audio() (n int64) {
	for _, d := range m {
		if d.Modality == "AUDIO" {
			n += d.Count
		}
	}
	return n
}

// audioOf is the inverse of audio.
func audioOf(all, audio int64) modalities {
	if audio == 0 {
		return nil
	}
	return modalities{{Modality: "TEXT", Count: all - audio}, {Modality: "AUDIO", Count: audio}}
}

// canonical returns the usage with the thoughts, which Gemini counts beside the answer,
// counted into it.
func (u *usage) canonical() dialect.Usage {
	return dialect.Usage{
		Known: true, Input: u.Prompt + u.ToolUse, Output: u.Answer + u.Thoughts, CacheRead: u.Cached, Reasoning: u.Thoughts,
		AudioInput: u.PromptDetails.audio(), AudioOutput: u.AnswerDetails.audio(),
	}
}

func usageOf(u dialect.Usage) *usage {
	if !u.Known {
		return nil
	}
	answer := u.Output - u.Reasoning
	return &usage{
		Prompt: u.Input, Cached: u.CacheRead, Answer: answer, Thoughts: u.Reasoning, TotalSize: u.Total(),
		PromptDetails: audioOf(u.Input, u.AudioInput), AnswerDetails: audioOf(answer, u.AudioOutput),
	}
}

// reason reads a finishReason. called says that the model called a function, of which the
// reason says nothing.
func reason(s string, called bool) dialect.StopReason {
	switch s {
	case "MAX_TOKENS":
		return dialect.StopLength
	case "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII",
		"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION":
		return dialect.StopFilter
	}
	if called {
		return dialect.StopTools
	}
	return dialect.StopEnd // STOP, OTHER, MALFORMED_FUNCTION_CALL, and what may come
}

func reasonOf(r dialect.StopReason) string {
	switch r {
	case dialect.StopLength, dialect.StopContext:
		return "MAX_TOKENS"
	case dialect.StopFilter:
		return "SAFETY"
	default:
		return "STOP"
	}
}

var errNoCandidate = errors.New("the answer has no candidate that has ended")

// DecodeResponse reads a provider's answer.
func (GenerateContent) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire response
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Error != nil {
		return nil, wire.Error.canonical()
	}
	r := &dialect.Response{ID: wire.ResponseID, Model: wire.ModelVersion}
	if wire.UsageMetadata != nil {
		r.Usage = wire.UsageMetadata.canonical()
	}
	r.Lose(wire.Rest, "")
	if wire.PromptFeedback != nil {
		r.Lose(wire.PromptFeedback.Rest, "promptFeedback")
	}
	if len(wire.Candidates) == 0 && wire.PromptFeedback != nil && wire.PromptFeedback.BlockReason != "" {
		r.Choices = []dialect.Answer{{Reason: dialect.StopFilter}}
		return r, nil
	}
	if len(wire.Candidates) == 0 {
		return nil, errNoCandidate
	}
	for i := range wire.Candidates {
		c := &wire.Candidates[i]
		if c.FinishReason == "" {
			return nil, errNoCandidate
		}
		a := dialect.Answer{Index: c.Index}
		called := false
		r.Lose(c.Rest, candidatePath(c.Index))
		if c.Content != nil {
			for j := range c.Content.Parts {
				p, ok := answerPart(&c.Content.Parts[j], c.Index, j)
				if !ok {
					r.Lost = append(r.Lost, partPath(c.Index, j))
					continue
				}
				r.Lose(c.Content.Parts[j].Rest, partPath(c.Index, j))
				called = called || p.Kind == dialect.ToolCall
				if n := len(a.Parts); n > 0 && p.Kind != dialect.ToolCall && p.Kind != dialect.Image && a.Parts[n-1].Kind == p.Kind && a.Parts[n-1].Signature == "" {
					a.Parts[n-1].Text += p.Text
					a.Parts[n-1].Signature, a.Parts[n-1].SignedAt = p.Signature, p.SignedAt
					continue
				}
				a.Parts = append(a.Parts, p)
			}
		}
		attach(c, a.Parts, func(at string) { r.Lost = append(r.Lost, at) })
		a.Reason = reason(c.FinishReason, called)
		r.Choices = append(r.Choices, a)
	}
	return r, nil
}

// attach gives the sources of a candidate, and its log probabilities, to the texts that they are
// about. lost is told of those that have none.
func attach(c *candidate, parts []dialect.Part, lost func(at string)) {
	probs := c.LogProbs.canonical()
	var text strings.Builder
	for i := range parts {
		if p := &parts[i]; p.Kind == dialect.Text {
			text.WriteString(p.Text)
			if probs != nil {
				p.LogAt = candidatePath(c.Index) + ".logprobsResult"
			}
			p.LogProbs, probs = probs, nil
		}
	}
	if probs != nil {
		lost(candidatePath(c.Index) + ".logprobsResult")
	}
	for _, cited := range c.citations(text.String(), lost) {
		before := 0
		found := false
		for i := range parts {
			p := &parts[i]
			if p.Kind != dialect.Text {
				continue
			}
			n := utf8.RuneCountInString(p.Text)
			if found = cited.Start < before+n; found {
				if cited.End > 0 {
					cited.Start, cited.End = max(cited.Start-before, 0), cited.End-before
				}
				p.Citations = append(p.Citations, cited)
				break
			}
			before += n
		}
		if !found {
			lost(cited.Path)
		}
	}
}

func candidatePath(i int) string { return "candidates[" + strconv.Itoa(i) + "]" }

func partPath(candidate, i int) string {
	return candidatePath(candidate) + ".content.parts[" + strconv.Itoa(i) + "]"
}

// canonical returns the error that s is, whose status is its code.
func (s *status) canonical() *dialect.Error {
	e := &dialect.Error{Status: s.Code}
	if e.Status < 400 || e.Status > 599 {
		e.Status = 500
	}
	fillError(e, s)
	return e
}

// answerPart returns part i of a candidate's answer; ok is false for what the provider's own
// tools say, and for sound.
func answerPart(wire *part, candidate, i int) (p dialect.Part, ok bool) {
	p.Signature = wire.ThoughtSignature
	switch {
	case wire.InlineData != nil && !wire.Thought && mediaKind(wire.InlineData.MimeType) == dialect.Image:
		p.Kind, p.Path = dialect.Image, partPath(candidate, i)
		p.Media = dialect.Media{Type: wire.InlineData.MimeType, Data: wire.InlineData.Data}
	case wire.FunctionCall != nil:
		f := wire.FunctionCall
		p.Kind, p.ID, p.Name, p.Text = dialect.ToolCall, f.ID, f.Name, string(f.Args)
		if p.ID == "" {
			p.ID = fmt.Sprintf("call_%016x", rand.Uint64())
		}
		if p.Text == "" {
			p.Text = "{}"
		}
	case wire.Text != nil && wire.Thought:
		p.Kind, p.Text = dialect.Thinking, *wire.Text
	case wire.Text != nil:
		p.Kind, p.Text = dialect.Text, *wire.Text
		if p.Signature != "" {
			p.SignedAt = partPath(candidate, i) + ".thoughtSignature"
		}
	default:
		return p, false
	}
	return p, true
}

// EncodeResponse writes an answer to a client.
func (GenerateContent) EncodeResponse(r *dialect.Response, o dialect.WriterOptions) ([]byte, error) {
	wire := response{ModelVersion: r.Model, ResponseID: r.ID, UsageMetadata: usageOf(r.Usage)}
	for i := range r.Choices {
		a := &r.Choices[i]
		c := &content{Role: "model", Parts: []part{}}
		var cited sources
		var probs jsontext.Value
		for j := range a.Parts {
			part := &a.Parts[j]
			p, ok := encodePart(part, o.Origin)
			if !ok {
				o.Lose(part.Path)
				continue
			}
			c.Parts = append(c.Parts, p)
			if part.Kind == dialect.Text {
				cited.block.WriteString(part.Text)
				for k := range part.Citations {
					cited.cite(&part.Citations[k], &o)
				}
				cited.end()
				probs = dialect.Concat(probs, part.LogProbs)
			} else {
				o.Lose(part.LogAt)
			}
		}
		wire.Candidates = append(wire.Candidates, candidate{
			Content: c, FinishReason: reasonOf(a.Reason), Index: a.Index, Grounding: cited.ground, LogProbs: logProbsOf(probs),
		})
	}
	return json.Marshal(wire)
}

func encodePart(p *dialect.Part, origin string) (part, bool) {
	out := part{}
	if p.Signature != "" {
		out.ThoughtSignature = foreign(origin, p.Signature)
		if !isBase64(out.ThoughtSignature) {
			out.ThoughtSignature = "" // no client of this dialect could read it
		}
	}
	switch p.Kind {
	case dialect.Text, dialect.Refusal:
		out.Text = &p.Text
	case dialect.Image:
		out.InlineData = &blob{MimeType: p.Media.Type, Data: p.Media.Data}
		if p.Media.Data == "" || p.Media.Type == "" {
			out = part{FileData: &fileData{MimeType: p.Media.Type, FileURI: p.Media.URL}}
		}
	case dialect.Thinking:
		out.Text, out.Thought = &p.Text, true
	case dialect.Redacted:
		empty := ""
		out.Text, out.Thought, out.ThoughtSignature = &empty, true, foreign(origin, redacted+p.Text)
	case dialect.ToolCall:
		out.FunctionCall = &functionCall{ID: p.ID, Name: p.Name, Args: jsontext.Value(p.Text)}
		if !out.FunctionCall.Args.IsValid() || out.FunctionCall.Args.Kind() != '{' {
			var o dialect.Object
			o.Set("arguments", dialect.String(p.Text)) // the model did not write an object
			out.FunctionCall.Args = o.Value()
		}
	default:
		return part{}, false
	}
	return out, true
}
