package responses

import (
	"github.com/go-json-experiment/json"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// InputTokens counts the tokens of a response's input (API reference, Responses, Get input
// token counts): it answers how many the request would take, as the input of an answer
// without choices.
type InputTokens struct{ Responses }

type countResponse struct {
	Object      string `json:"object"`
	InputTokens int64  `json:"input_tokens"`
}

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
	return dialect.DecodeCount(body, "input_tokens", "", "object")
}

// EncodeResponse writes an answer to a client.
func (InputTokens) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	return json.Marshal(countResponse{Object: "response.input_tokens", InputTokens: r.Usage.Input})
}
