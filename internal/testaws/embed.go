package testaws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// CheckEmbedding checks the body of a request to InvokeModel of a model that embeds, which the path
// names, by what the User Guide says of its family.
func CheckEmbedding(path string, body []byte) error {
	strictly := func(typed any) error {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		return d.Decode(typed)
	}
	var err error
	switch {
	case strings.Contains(path, "titan-embed-text-v1"):
		var r struct {
			Text string `json:"inputText"`
		}
		if err = strictly(&r); r.Text == "" && err == nil {
			err = fmt.Errorf("inputText is required")
		}
	case strings.Contains(path, "titan-embed-text-v2"):
		var r struct {
			Text       string   `json:"inputText"`
			Dimensions *int     `json:"dimensions"`
			Normalize  *bool    `json:"normalize"`
			Types      []string `json:"embeddingTypes"`
		}
		if err = strictly(&r); err == nil && (r.Text == "" || r.Dimensions != nil && !slices.Contains([]int{256, 512, 1024}, *r.Dimensions)) {
			err = fmt.Errorf("inputText is required, and dimensions is one of 256, 512 and 1024")
		}
	case strings.Contains(path, "titan-embed-image"):
		var r struct {
			Text   string `json:"inputText"`
			Image  string `json:"inputImage"`
			Config *struct {
				Length int `json:"outputEmbeddingLength"`
			} `json:"embeddingConfig"`
		}
		err = strictly(&r)
	case strings.Contains(path, "cohere.embed"):
		var r struct {
			Texts      []string `json:"texts"`
			InputType  string   `json:"input_type"`
			Types      []string `json:"embedding_types"`
			Truncate   string   `json:"truncate"`
			Dimensions *int     `json:"output_dimension"`
			MaxTokens  *int     `json:"max_tokens"`
		}
		types := []string{"search_document", "search_query", "classification", "clustering"}
		if err = strictly(&r); err == nil && (len(r.Texts) == 0 || len(r.Texts) > 96 || !slices.Contains(types, r.InputType)) {
			err = fmt.Errorf("texts are 1 to 96, and input_type is one of %v", types)
		}
		if err == nil && !strings.Contains(path, "embed-v4") && (r.Dimensions != nil || r.MaxTokens != nil) {
			err = fmt.Errorf("extraneous key [output_dimension] is not permitted")
		}
	case strings.Contains(path, "nova-2-multimodal-embeddings"):
		var r struct {
			Schema string `json:"schemaVersion"`
			Task   string `json:"taskType"`
			Params struct {
				Purpose    string `json:"embeddingPurpose"`
				Dimensions *int   `json:"embeddingDimension"`
				Text       *struct {
					Truncation string `json:"truncationMode"`
					Value      string `json:"value"`
				} `json:"text"`
			} `json:"singleEmbeddingParams"`
		}
		if err = strictly(&r); err == nil && (r.Task != "SINGLE_EMBEDDING" || r.Params.Purpose == "" || r.Params.Text == nil) {
			err = fmt.Errorf("taskType, embeddingPurpose and text are required")
		}
	default:
		err = fmt.Errorf("no model embeds at %s", path)
	}
	if err != nil {
		return fmt.Errorf("Malformed input request: %w: %s", err, body) //nolint:staticcheck // as Bedrock has it
	}
	return nil
}

// embeddings answers one vector for each text of a request.
func embeddings(body []byte) string {
	var r struct {
		Texts []json.RawMessage
		Task  string `json:"taskType"`
	}
	_ = json.Unmarshal(body, &r) // was checked
	const vector = "[0.25,-0.5,1]"
	switch {
	case r.Texts != nil:
		list := strings.Join(slices.Repeat([]string{vector}, len(r.Texts)), ",")
		return `{"id":"e-1","response_type":"embeddings_floats","embeddings":[` + list + `]}`
	case r.Task != "":
		return `{"embeddings":[{"embeddingType":"TEXT","embedding":` + vector + `}]}`
	default:
		return `{"embedding":` + vector + `,"inputTextTokenCount":9}`
	}
}
