package gemini

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Predict is how Vertex AI is asked for embeddings of texts (Vertex AI, Text embeddings API).
type Predict struct{ GenerateContent }

type (
	predictRequest struct {
		Instances  []instance     `json:"instances"`
		Parameters jsontext.Value `json:"parameters,omitzero"`
	}
	instance struct {
		Content  string `json:"content"`
		TaskType string `json:"task_type,omitzero"`
		Title    string `json:"title,omitzero"`
	}
	predictResponse struct {
		Predictions []prediction   `json:"predictions"`
		Metadata    metadata       `json:"metadata,omitzero"`
		Rest        jsontext.Value `json:",embed"`
	}
	metadata struct {
		Characters int64          `json:"billableCharacterCount,omitzero"`
		Rest       jsontext.Value `json:",embed"`
	}
	prediction struct {
		Embeddings struct {
			Values     jsontext.Value `json:"values"`
			Statistics *statistics    `json:"statistics,omitzero"`
			Rest       jsontext.Value `json:",embed"`
		} `json:"embeddings"`
		Rest jsontext.Value `json:",embed"`
	}
	statistics struct {
		Tokens float64        `json:"token_count"`
		Rest   jsontext.Value `json:",embed"`
	}
)

// EncodeRequest writes a request. What can't be carried is noted in c.
func (Predict) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	var wire predictRequest
	for i := range c.Inputs {
		in := &c.Inputs[i]
		text, err := in.Text()
		if err != nil {
			return nil, err
		}
		wire.Instances = append(wire.Instances, instance{Content: text, TaskType: in.Task.Text, Title: in.Title.Text})
	}
	var parameters dialect.Object
	parameters.Set("outputDimensionality", c.Take(dialect.Dimensions))
	parameters.SetOwn(c, "autoTruncate")
	wire.Parameters = parameters.Value()
	return json.Marshal(wire)
}

// DecodeResponse reads an answer.
func (Predict) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire predictResponse
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if len(wire.Predictions) == 0 {
		return nil, errNoEmbedding
	}
	r := &dialect.Response{Usage: dialect.Usage{Known: true}}
	r.Lose(wire.Rest, "")
	r.Lose(wire.Metadata.Rest, "metadata")
	for i := range wire.Predictions {
		p := &wire.Predictions[i]
		path := "predictions[" + strconv.Itoa(i) + "]"
		r.Lose(p.Rest, path)
		addVector(r, &vector{p.Embeddings.Values, p.Embeddings.Rest}, path+".embeddings")
		s := p.Embeddings.Statistics
		if s == nil {
			r.Usage.Known = false
			continue
		}
		r.Usage.Input += int64(s.Tokens)
		r.Lose(s.Rest, path+".embeddings.statistics")
	}
	if !r.Usage.Known {
		r.Usage = dialect.Usage{}
	}
	return r, nil
}
