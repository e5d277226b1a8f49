package bedrock

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A CountTokens counts the tokens of a request to Converse (API reference, CountTokens): it
// answers how many the request would take, as the input of an answer without choices.
type CountTokens struct{ Converse }

type (
	countRequest struct {
		Input struct {
			Converse countInput `json:"converse"`
		} `json:"input"`
	}
	countInput struct {
		Messages   []message      `json:"messages"`
		System     []block        `json:"system,omitzero"`
		ToolConfig *toolConfig    `json:"toolConfig,omitzero"`
		Additional jsontext.Value `json:"additionalModelRequestFields,omitzero"`
	}
)

// EncodeRequest writes a request. What can't be carried is noted in c, but for what makes no
// difference to the count.
func (v *CountTokens) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	full := v.encode(c)
	var wire countRequest
	wire.Input.Converse = countInput{full.Messages, full.System, full.ToolConfig, full.Additional}
	return json.Marshal(wire)
}

// DecodeResponse reads an answer.
func (*CountTokens) DecodeResponse(body []byte) (*dialect.Response, error) {
	return dialect.DecodeCount(body, "inputTokens", "")
}
