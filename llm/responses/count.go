package responses

import (
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// InputTokens counts the tokens of a response's input (API reference, Responses, Get input
// token counts): it answers how many the request would take, as the input of an answer
// without choices.
type InputTokens struct{ Responses }

type countResponse struct {
	Object      string         `json:"object"`
	InputTokens *int64         `json:"input_tokens"`
	Rest        jsontext.Value `json:",embed"`
}

var errNoCount = errors.New("the answer is no count of tokens")

// EncodeRequest writes a request to a provider of this dialect. What can't be carried is
// noted in c.
func (InputTokens) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire, err := encode(c)
	if err != nil {
		return nil, err
	}
	var rest dialect.Object
	rest.Set("parallel_tool_calls", c.Take(dialect.ParallelTools))
	rest.Set("truncation", c.Take("truncation"))
	wire.Rest = rest.Value()
	return json.Marshal(wire)
}

// DecodeResponse reads a provider's answer.
func (InputTokens) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire countResponse
	if err := json.Unmarshal(body, &wire); err != nil || wire.InputTokens == nil {
		return nil, errNoCount
	}
	r := &dialect.Response{Usage: dialect.Usage{Known: true, Input: *wire.InputTokens}}
	r.Lose(wire.Rest, "")
	return r, nil
}

// EncodeResponse writes an answer to a client.
func (InputTokens) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	return json.Marshal(countResponse{Object: "response.input_tokens", InputTokens: &r.Usage.Input})
}
