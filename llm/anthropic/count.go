package anthropic

import (
	"github.com/go-json-experiment/json"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// CountTokens counts the tokens of a message (API reference, Messages, Count tokens): it
// answers how many the request would take, as the input of an answer without choices.
type CountTokens struct{ Messages }

type countResponse struct {
	InputTokens int64 `json:"input_tokens"`
}

// EncodeRequest writes a request to a provider of this dialect. What can't be carried is
// noted in c.
func (CountTokens) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire := encode(c)
	encodeThinking(c, wire)
	wire.MaxTokens = nil // which thinking sets
	return json.Marshal(wire)
}

// DecodeResponse reads a provider's answer.
func (CountTokens) DecodeResponse(body []byte) (*dialect.Response, error) {
	return dialect.DecodeCount(body, "input_tokens", "")
}

// EncodeResponse writes an answer to a client.
func (CountTokens) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	return json.Marshal(countResponse{InputTokens: r.Usage.Input})
}
