package anthropic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The wire of an answer.
type (
	response struct {
		ID           string         `json:"id"`
		Type         string         `json:"type"` // message, or error
		Role         string         `json:"role"`
		Model        string         `json:"model"`
		Content      []block        `json:"content"`
		StopReason   *string        `json:"stop_reason"`
		StopSequence *string        `json:"stop_sequence"`
		Usage        *usage         `json:"usage"`
		Error        *errorObject   `json:"error,omitzero"`
		Rest         jsontext.Value `json:",embed"`
	}
	usage struct {
		InputTokens   *int64         `json:"input_tokens,omitzero"`
		CacheCreation *int64         `json:"cache_creation_input_tokens,omitzero"`
		Creation      *cacheCreation `json:"cache_creation,omitzero"`
		CacheRead     *int64         `json:"cache_read_input_tokens,omitzero"`
		OutputTokens  *int64         `json:"output_tokens,omitzero"`
		OutputDetails *outputDetails `json:"output_tokens_details,omitzero"`
		Rest          jsontext.Value `json:",embed"`
	}
	cacheCreation struct { // of cache_creation_input_tokens
		Minutes int64          `json:"ephemeral_5m_input_tokens"`
		Hour    int64          `json:"ephemeral_1h_input_tokens"`
		Rest    jsontext.Value `json:",embed"`
	}
	outputDetails struct {
		ThinkingTokens int64 `json:"thinking_tokens"`
	}
)

// merge takes over what later says. What it does not speak of stays.
func (u *usage) merge(later *usage) {
	if later == nil {
		return
	}
	for _, f := range [...]struct{ to, from **int64 }{
		{&u.InputTokens, &later.InputTokens}, {&u.CacheCreation, &later.CacheCreation},
		{&u.CacheRead, &later.CacheRead}, {&u.OutputTokens, &later.OutputTokens},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	if later.OutputDetails != nil {
		u.OutputDetails = later.OutputDetails
	}
	if later.Creation != nil {
		u.Creation = later.Creation
	}
}

// canonical returns the usage with what Anthropic counts beside the input counted into it.
func (u *usage) canonical() dialect.Usage {
	if u == nil || u.InputTokens == nil && u.OutputTokens == nil {
		return dialect.Usage{}
	}
	value := func(n *int64) int64 {
		if n == nil {
			return 0
		}
		return *n
	}
	out := dialect.Usage{Known: true, Output: value(u.OutputTokens), CacheRead: value(u.CacheRead), CacheWrite: value(u.CacheCreation)}
	out.Input = value(u.InputTokens) + out.CacheRead + out.CacheWrite
	if u.OutputDetails != nil {
		out.Reasoning = u.OutputDetails.ThinkingTokens
	}
	if u.Creation != nil {
		out.CacheWriteHour = u.Creation.Hour
	}
	return out
}

func usageOf(u dialect.Usage) *usage {
	input := u.Input - u.CacheRead - u.CacheWrite
	out := &usage{InputTokens: &input, CacheCreation: &u.CacheWrite, CacheRead: &u.CacheRead, OutputTokens: &u.Output}
	if u.Reasoning > 0 {
		out.OutputDetails = &outputDetails{u.Reasoning}
	}
	if u.CacheWriteHour > 0 {
		out.Creation = &cacheCreation{Minutes: u.CacheWrite - u.CacheWriteHour, Hour: u.CacheWriteHour}
	}
	return out
}

// reason reads a stop_reason.
func reason(s string) dialect.StopReason {
	switch s {
	case "max_tokens":
		return dialect.StopLength
	case "stop_sequence":
		return dialect.StopSequence
	case "tool_use":
		return dialect.StopTools
	case "pause_turn":
		return dialect.StopPause
	case "refusal":
		return dialect.StopFilter
	case "model_context_window_exceeded":
		return dialect.StopContext
	default: // end_turn, and what may come
		return dialect.StopEnd
	}
}

func reasonOf(r dialect.StopReason) string {
	switch r {
	case dialect.StopLength:
		return "max_tokens"
	case dialect.StopSequence:
		return "stop_sequence"
	case dialect.StopTools:
		return "tool_use"
	case dialect.StopPause:
		return "pause_turn"
	case dialect.StopFilter:
		return "refusal"
	case dialect.StopContext:
		return "model_context_window_exceeded"
	default:
		return "end_turn"
	}
}

var errNoMessage = errors.New("the answer is no message")

// DecodeResponse reads a provider's answer.
func (Messages) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire response
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Error != nil {
		return nil, &dialect.Error{Status: statusOf(wire.Error.Type), Type: wire.Error.Type, Message: wire.Error.Message}
	}
	if wire.Type != "message" || wire.StopReason == nil {
		return nil, errNoMessage
	}
	a := dialect.Answer{Reason: reason(*wire.StopReason)}
	if wire.StopSequence != nil {
		a.Sequence = *wire.StopSequence
	}
	r := &dialect.Response{ID: wire.ID, Model: wire.Model, Usage: wire.Usage.canonical()}
	r.Lose(wire.Rest, "")
	for i := range wire.Content {
		path := blockPath(i)
		p, ok := answerPart(&wire.Content[i])
		if !ok {
			r.Lost = append(r.Lost, path)
			continue
		}
		p.Citations = citations(wire.Content[i].Citations, i)
		a.Parts = append(a.Parts, p)
		leftover(&wire.Content[i], path, func(at string) { r.Lost = append(r.Lost, at) })
	}
	r.Choices = []dialect.Answer{a}
	return r, nil
}

func blockPath(i int) string { return "content[" + strconv.Itoa(i) + "]" }

// leftover calls lost with the places of what a block of an answer says beside its part. Who
// calls a tool is said of each call: the model itself, where nothing else is.
func leftover(b *block, path string, lost func(at string)) {
	dialect.Leftover(b.Rest, path, func(at string) {
		if at != path+".caller" {
			lost(at)
		}
	})
}

// answerPart returns a block of an answer; ok is false for those of the provider's own
// tools, which it has used already.
func answerPart(b *block) (p dialect.Part, ok bool) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	switch b.Type {
	case "text":
		return dialect.Part{Kind: dialect.Text, Text: text(b.Text)}, true
	case "thinking":
		return dialect.Part{Kind: dialect.Thinking, Text: text(b.Thinking), Signature: text(b.Signature)}, true
	case "redacted_thinking":
		return dialect.Part{Kind: dialect.Redacted, Text: b.Data, Signature: b.Data}, true
	case "tool_use":
		return dialect.Part{Kind: dialect.ToolCall, ID: b.ID, Name: b.Name, Text: string(b.Input)}, true
	default:
		return p, false
	}
}

// EncodeResponse writes an answer to a client.
func (Messages) EncodeResponse(r *dialect.Response, o dialect.WriterOptions) ([]byte, error) {
	a := &r.Choices[0]
	for i := range r.Choices[1:] {
		o.LoseChoice(i + 1)
	}
	stop := reasonOf(a.Reason)
	wire := response{
		ID: id(r.ID), Type: "message", Role: "assistant", Model: r.Model, Content: []block{}, StopReason: &stop, Usage: usageOf(r.Usage),
	}
	if a.Reason == dialect.StopSequence {
		wire.StopSequence = &a.Sequence
	}
	for i := range a.Parts {
		p := &a.Parts[i]
		b := answerBlock(p, o.Origin)
		switch p.Kind {
		case dialect.Text, dialect.Refusal:
			b.Text = &p.Text
			for i := range p.Citations {
				b.Citations = dialect.Concat(b.Citations, dialect.Array(encodeCitation(&p.Citations[i], &o)))
			}
			o.LoseBeside(p)
		case dialect.Thinking:
			signature := foreign(o.Origin, p.Signature)
			b.Thinking, b.Signature = &p.Text, &signature
		case dialect.ToolCall:
			if strings.TrimSpace(p.Text) != "" {
				b.Input = jsontext.Value(p.Text)
			}
			if !b.Input.IsValid() {
				return nil, fmt.Errorf("the arguments of %s are not JSON", p.Name)
			}
		}
		if b.Type == "" {
			o.Lose(p.Path) // a picture
			continue
		}
		wire.Content = append(wire.Content, b)
	}
	return json.Marshal(wire)
}

// answerBlock returns a part as the block that it begins as in a stream.
func answerBlock(p *dialect.Part, origin string) block {
	empty := ""
	switch p.Kind {
	case dialect.Text, dialect.Refusal:
		return block{Type: "text", Text: &empty}
	case dialect.Thinking:
		return block{Type: "thinking", Thinking: &empty, Signature: &empty}
	case dialect.Redacted:
		return block{Type: "redacted_thinking", Data: foreign(origin, p.Text)}
	case dialect.ToolCall:
		return block{Type: "tool_use", ID: dialect.PackID(p.ID, origin, p.Signature), Name: p.Name, Input: jsontext.Value("{}")}
	default:
		return block{}
	}
}

// foreign returns a signature as a client of this dialect keeps it: thoughts come back with
// one, also those that had none.
func foreign(origin, signature string) string {
	if origin == vendor {
		return signature
	}
	return dialect.Foreign(origin, signature)
}

// id returns the id of a message, made up where the provider gives none.
func id(s string) string {
	if s != "" {
		return s
	}
	return fmt.Sprintf("msg_%016x%016x", rand.Uint64(), rand.Uint64())
}
