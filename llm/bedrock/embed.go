package bedrock

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// The APIs of models that embed, by InvokeModel (User Guide, Inference request parameters): each
// family has its own.
type (
	// Titan is that of Amazon's Titan Embeddings, of one text.
	Titan struct{ Converse }
	// Cohere is that of Cohere's Embed, of at most [CohereTexts] texts.
	Cohere struct{ Converse }
	// Nova is that of Amazon's Nova Multimodal Embeddings, of one input; here of one text.
	Nova struct{ Converse }
)

// CohereTexts is how many texts one request to [Cohere] may hold.
const CohereTexts = 96

// An Embedder says in which of these APIs a model is asked.
type Embedder uint8

// The APIs. The zero value is that of models which embed nothing, as far as is known.
const (
	NoEmbedder Embedder = iota
	TitanEmbedder
	CohereEmbedder
	NovaEmbedder
)

// EmbedderOf returns how a model is asked to embed.
func EmbedderOf(model string) Embedder {
	switch id := model[strings.LastIndexByte(model, '/')+1:]; {
	case strings.Contains(id, "amazon.titan-embed"):
		return TitanEmbedder
	case strings.Contains(id, "cohere.embed"):
		return CohereEmbedder
	case strings.Contains(id, "amazon.nova") && strings.Contains(id, "embeddings"):
		return NovaEmbedder
	default:
		return NoEmbedder
	}
}

type titanRequest struct {
	Text       string         `json:"inputText"`
	Dimensions jsontext.Value `json:"dimensions,omitzero"`
	Normalize  jsontext.Value `json:"normalize,omitzero"`
	Config     *titanConfig   `json:"embeddingConfig,omitzero"`
}

type titanConfig struct {
	Length jsontext.Value `json:"outputEmbeddingLength"`
}

// EncodeRequest writes a request. What can't be carried is noted in c.
func (*Titan) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	in := &c.Inputs[0]
	c.Drop(in.Task.Path)
	c.Drop(in.Title.Path)
	var wire titanRequest
	var err error
	if wire.Text, err = in.Text(); err != nil {
		return nil, err
	}
	switch {
	case strings.Contains(c.Model, "titan-embed-image"):
		if length := c.Take(dialect.Dimensions); length != nil {
			wire.Config = &titanConfig{length}
		}
	case strings.Contains(c.Model, "titan-embed-text-v2"): // the first has no parameters
		wire.Dimensions, wire.Normalize = c.Take(dialect.Dimensions), c.Take("normalize")
	}
	return json.Marshal(wire)
}

// DecodeResponse reads an answer.
func (*Titan) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire struct {
		Embedding jsontext.Value `json:"embedding"`
		Tokens    *int64         `json:"inputTextTokenCount"`
		Message   string         `json:"message"`          // of Titan Multimodal: why it failed
		ByType    jsontext.Value `json:"embeddingsByType"` // the same again
		Rest      jsontext.Value `json:",embed"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire.Message != "" {
		return nil, errors.New("the model says: " + wire.Message)
	}
	r := &dialect.Response{}
	r.Lose(wire.Rest, "")
	if wire.Tokens != nil {
		r.Usage = dialect.Usage{Known: true, Input: *wire.Tokens}
	}
	r.Vectors = []dialect.Vector{{Values: wire.Embedding}}
	return r, nil
}

type cohereRequest struct {
	Texts      []string       `json:"texts"`
	InputType  string         `json:"input_type"`
	Dimensions jsontext.Value `json:"output_dimension,omitzero"`
	Truncate   jsontext.Value `json:"truncate,omitzero"`
}

// EncodeRequest writes a request. What can't be carried is noted in c. The type of the inputs
// is required: they are documents where the client says nothing.
func (*Cohere) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	wire := cohereRequest{InputType: "search_document"}
	for i := range c.Inputs {
		in := &c.Inputs[i]
		c.Drop(in.Title.Path)
		text, err := in.Text()
		if err != nil {
			return nil, err
		}
		wire.Texts = append(wire.Texts, text)
		switch task := dialect.CohereTask(in.Task.Text); {
		case in.Task.Text == c.Inputs[0].Task.Text && task != "":
			wire.InputType = task
		default:
			c.Drop(in.Task.Path)
		}
	}
	if strings.Contains(c.Model, "embed-v4") {
		wire.Dimensions = c.Take(dialect.Dimensions)
	}
	wire.Truncate = c.Take("truncate")
	return json.Marshal(wire)
}

// DecodeResponse reads an answer. How much it took is said beside it.
func (*Cohere) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire struct {
		Embeddings jsontext.Value `json:"embeddings"`
		ID         string         `json:"id"`
		Type       string         `json:"response_type"`
		Texts      jsontext.Value `json:"texts"`  // the request again
		Inputs     jsontext.Value `json:"inputs"` // likewise
		Rest       jsontext.Value `json:",embed"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	r := &dialect.Response{ID: wire.ID}
	r.Lose(wire.Rest, "")
	list := wire.Embeddings
	dialect.Members(wire.Embeddings, func(name string, values jsontext.Value) {
		if name == "float" { // where they stand by the type of their numbers
			list = values
		}
	})
	dialect.Elements(list, func(_ int, values jsontext.Value) { r.Vectors = append(r.Vectors, dialect.Vector{Values: values}) })
	if len(r.Vectors) == 0 {
		return nil, errNoEmbedding
	}
	return r, nil
}

var errNoEmbedding = errors.New("the answer holds no embeddings")

type (
	novaRequest struct {
		SchemaVersion string     `json:"schemaVersion"`
		TaskType      string     `json:"taskType"`
		Params        novaParams `json:"singleEmbeddingParams"`
	}
	novaParams struct {
		Purpose   string         `json:"embeddingPurpose"`
		Dimension jsontext.Value `json:"embeddingDimension,omitzero"`
		Text      novaText       `json:"text"`
	}
	novaText struct {
		Truncation string `json:"truncationMode"`
		Value      string `json:"value"`
	}
)

// EncodeRequest writes a request. What can't be carried is noted in c. The purpose is required:
// it is an index where the client says nothing.
func (*Nova) EncodeRequest(c *dialect.Carrier) ([]byte, error) {
	in := &c.Inputs[0]
	c.Drop(in.Title.Path)
	text, err := in.Text()
	if err != nil {
		return nil, err
	}
	wire := novaRequest{SchemaVersion: "nova-multimodal-embed-v1", TaskType: "SINGLE_EMBEDDING"}
	wire.Params = novaParams{Purpose: "GENERIC_INDEX", Dimension: c.Take(dialect.Dimensions), Text: novaText{"NONE", text}}
	switch in.Task.Text {
	case "RETRIEVAL_QUERY":
		wire.Params.Purpose = "GENERIC_RETRIEVAL"
	case "CLASSIFICATION", "CLUSTERING":
		wire.Params.Purpose = in.Task.Text
	case "RETRIEVAL_DOCUMENT":
	default:
		c.Drop(in.Task.Path)
	}
	return json.Marshal(wire)
}

// DecodeResponse reads an answer. How much it took is said beside it.
func (*Nova) DecodeResponse(body []byte) (*dialect.Response, error) {
	var wire struct {
		Embeddings []struct {
			Type      string         `json:"embeddingType"`
			Embedding jsontext.Value `json:"embedding"`
			Rest      jsontext.Value `json:",embed"`
		} `json:"embeddings"`
		Rest jsontext.Value `json:",embed"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if len(wire.Embeddings) == 0 {
		return nil, errNoEmbedding
	}
	r := &dialect.Response{}
	r.Lose(wire.Rest, "")
	for i := range wire.Embeddings {
		r.Vectors = append(r.Vectors, dialect.Vector{Values: wire.Embeddings[i].Embedding})
		path := "embeddings[" + strconv.Itoa(i) + "]"
		if wire.Embeddings[i].Type != "TEXT" {
			r.Lost = append(r.Lost, path+".embeddingType")
		}
		r.Lose(wire.Embeddings[i].Rest, path)
	}
	return r, nil
}
