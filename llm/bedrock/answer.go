package bedrock

import (
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The wire of an answer.
type (
	response struct {
		Output *struct {
			Message *struct {
				Content []answerBlock `json:"content"`
			} `json:"message"`
		} `json:"output"`
		StopReason  string          `json:"stopReason"`
		Usage       *usage          `json:"usage"`
		Additional  *modelFields    `json:"additionalModelResponseFields"`
		Metrics     dialect.Ignored `json:"metrics"`
		Trace       dialect.Ignored `json:"trace"` // of the guardrail: the gateway asked for it, for Amazon's log
		Performance dialect.Ignored `json:"performanceConfig"`
		Tier        dialect.Ignored `json:"serviceTier"`
		Rest        jsontext.Value  `json:",embed"`
	}
	// An answerBlock is a block with what else it says.
	answerBlock struct {
		Text      *string        `json:"text"`
		ToolUse   *toolUse       `json:"toolUse"`
		Reasoning *reasoning     `json:"reasoningContent"`
		Cited     *cited         `json:"citationsContent"`
		Rest      jsontext.Value `json:",embed"`
	}
	usage struct {
		InputTokens  int64 `json:"inputTokens"`
		OutputTokens int64 `json:"outputTokens"`
		CacheRead    int64 `json:"cacheReadInputTokens"`
		CacheWrite   int64 `json:"cacheWriteInputTokens"`
	}
	// modelFields is what the model was asked to say beside its answer.
	modelFields struct {
		StopSequence string `json:"stop_sequence"`
	}
)

// canonical returns the usage with what the API counts beside the input counted into it.
func (u *usage) canonical() dialect.Usage {
	return dialect.Usage{
		Known: true, Input: u.InputTokens + u.CacheRead + u.CacheWrite, Output: u.OutputTokens, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite,
	}
}

func (f *modelFields) sequence() string {
	if f == nil {
		return ""
	}
	return f.StopSequence
}

// reason reads a stopReason.
func reason(s string) dialect.StopReason {
	switch s {
	case "max_tokens":
		return dialect.StopLength
	case "stop_sequence":
		return dialect.StopSequence
	case "tool_use":
		return dialect.StopTools
	case "content_filtered", "guardrail_intervened":
		return dialect.StopFilter
	case "model_context_window_exceeded":
		return dialect.StopContext
	default: // end_turn, malformed_model_output, malformed_tool_use, and what may come
		return dialect.StopEnd
	}
}

var errNoMessage = errors.New("the answer is no message")

// DecodeResponse reads an answer.
func (v *Converse) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire response
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Output == nil || wire.Output.Message == nil || wire.StopReason == "" {
		return nil, errNoMessage
	}
	out := &dialect.Response{ID: v.id, Model: v.model}
	out.Lose(wire.Rest, "")
	if wire.Usage != nil {
		out.Usage = wire.Usage.canonical()
	}
	a := dialect.Answer{Reason: reason(wire.StopReason), Sequence: wire.Additional.sequence()}
	for i := range wire.Output.Message.Content {
		b := &wire.Output.Message.Content[i]
		switch p, ok := v.answerPart(b); {
		case ok:
			a.Parts = append(a.Parts, p)
		case b.Cited != nil:
			a.Parts = append(a.Parts, b.Cited.canonical(i))
		default:
			out.Lost = append(out.Lost, blockPath(i))
		}
	}
	out.Choices = []dialect.Answer{a}
	return out, nil
}

func blockPath(i int) string { return "output.message.content[" + strconv.Itoa(i) + "]" }

// answerPart returns a block of an answer; ok is false for those of the provider's own
// tools, which it has used already, and for those that no other dialect has.
func (v *Converse) answerPart(b *answerBlock) (p dialect.Part, ok bool) {
	switch {
	case b.Text != nil:
		return dialect.Part{Kind: dialect.Text, Text: *b.Text}, true
	case b.Reasoning != nil && b.Reasoning.ReasoningText != nil:
		t := b.Reasoning.ReasoningText
		return dialect.Part{Kind: dialect.Thinking, Text: t.Text, Signature: t.Signature}, true
	case b.Reasoning != nil && b.Reasoning.RedactedContent != "":
		return dialect.Part{Kind: dialect.Redacted, Text: b.Reasoning.RedactedContent, Signature: b.Reasoning.RedactedContent}, true
	case b.ToolUse != nil && b.ToolUse.Type == "":
		input := string(b.ToolUse.Input)
		if input == "" {
			input = "{}"
		}
		return dialect.Part{Kind: dialect.ToolCall, ID: b.ToolUse.ToolUseID, Name: v.named(b.ToolUse.Name), Text: input}, true
	default:
		return p, false
	}
}
