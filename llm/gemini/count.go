package gemini

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// CountTokens is the API of that name (API reference, models.countTokens): it answers how
// many tokens the request would take, as the input of an answer without choices.
type CountTokens struct{ GenerateContent }

// The wire of it. The request stands in a member of its own, or its members at the top.
type (
	countRequest struct {
		Request *request       `json:"generateContentRequest,omitzero"`
		Rest    jsontext.Value `json:",embed"`
	}
	countResponse struct {
		Total  int64 `json:"totalTokens"`
		Cached int64 `json:"cachedContentTokenCount,omitzero"`
	}
)

// DecodeRequest reads what a client asks. Its errors are *[dialect.Error]. The model is
// that of the path.
func (CountTokens) DecodeRequest(body []byte) (*dialect.Request, error) {
	var wire countRequest
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, dialect.Misread(err)
	}
	if wire.Request == nil {
		return GenerateContent{}.DecodeRequest(body)
	}
	r, err := decode(wire.Request, "generateContentRequest.")
	if err != nil {
		return nil, err
	}
	r.Unknown(wire.Rest, "")
	return r, nil
}

// EncodeRequest writes a request to a provider of this dialect. What can't be carried is
// noted in c.
func (CountTokens) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire := encode(c)
	if c.Origin == vertex { // which knows no member of its own, and no choice
		if wire.ToolConfig != nil {
			c.Drop(c.Choice.Path)
			wire.ToolConfig = nil
		}
		return json.Marshal(wire)
	}
	wire.Model = "models/" + c.Model
	return json.Marshal(countRequest{Request: wire})
}

// DecodeResponse reads a provider's answer.
func (CountTokens) DecodeResponse(body []byte) (*dialect.Response, error) {
	return dialect.DecodeCount(body, "totalTokens", "cachedContentTokenCount")
}

// EncodeResponse writes an answer to a client.
func (CountTokens) EncodeResponse(r *dialect.Response, _ dialect.WriterOptions) ([]byte, error) {
	return json.Marshal(countResponse{Total: r.Usage.Input, Cached: r.Usage.CacheRead})
}
