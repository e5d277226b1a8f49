package anthropic

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Settings are how Claude is to answer, as far as that depends on its version: for the
// dialects of platforms that take what Anthropic's API has for it beside fields of their own.
type Settings struct {
	// MaxTokens is nil where the client says nothing and thinking needs no room.
	MaxTokens jsontext.Value
	Samples   bool           // the settings of sampling are taken
	Thinking  jsontext.Value // as Anthropic's API has it
	Effort    string         // of its output_config
	Choice    string         // auto, any, tool or none; "" where that is not said
	One       bool           // tools are called one at a time
}

// SettingsOf returns the settings of a request. What can't be carried is noted in c.
func SettingsOf(c *dialect.Carrier) Settings {
	wire := &request{MaxTokens: c.Take(dialect.MaxTokens)}
	for i := range c.Messages { // of which thinking takes account
		if m := &c.Messages[i]; m.Role == dialect.FromAssistant {
			wire.Messages = append(wire.Messages, message{Role: "assistant", Content: content(encodeParts(c, m.Parts))})
		}
	}
	encodeThinking(c, wire)
	out := Settings{MaxTokens: wire.MaxTokens, Samples: samples(c, wire)}
	if choice := encodeChoice(c); choice != nil {
		out.Choice, out.One = choice.Type, choice.DisableParallelToolUse != nil
	}
	if wire.OutputConfig != nil {
		out.Effort = wire.OutputConfig.Effort
	}
	if wire.Thinking != nil {
		v, err := json.Marshal(wire.Thinking)
		if err == nil { // strings and numbers: they can be written
			out.Thinking = v
		}
	}
	return out
}
