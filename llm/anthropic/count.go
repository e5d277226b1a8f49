package anthropic

import (
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// CountTokens counts the tokens of a message (API reference, Messages, Count tokens): it
// answers how many the request would take, as the input of an answer without choices.
type CountTokens struct{ Messages }

type countResponse struct {
	InputTokens *int64         `json:"input_tokens"`
	Rest        jsontext.Value `json:",embed"`
}

var errNoCount = errors.New("the answer is no count of tokens")

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
	var wire countResponse
	if err := json.Unmarshal(body, &wire); err != nil || wire.InputTokens == nil {
		return nil, errNoCount
	}
	r := &dialect.Response{Usage: dialect.Usage{Known: true, Input: *wire.InputTokens}}
	r.Lose(wire.Rest, "")
	return r, nil
}

// EncodeResponse writes an answer to a client.
func (CountTokens) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	return json.Marshal(countResponse{InputTokens: &r.Usage.Input})
}
