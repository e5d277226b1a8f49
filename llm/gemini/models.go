package gemini

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Models is the list of models (Gemini API reference, models.list).
type Models struct{}

type listed struct {
	Name             string   `json:"name"`
	Version          string   `json:"version"`
	DisplayName      string   `json:"displayName"`
	InputTokenLimit  int64    `json:"inputTokenLimit,omitzero"`
	OutputTokenLimit int64    `json:"outputTokenLimit,omitzero"`
	Methods          []string `json:"supportedGenerationMethods,omitempty"`
}

type modelPage struct {
	Models        []listed `json:"models"`
	NextPageToken string   `json:"nextPageToken,omitzero"`
}

// DecodeModels reads a page.
func (Models) DecodeModels(body []byte) (models []dialect.Model, next string, err error) {
	var page modelPage
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", err
	}
	for _, m := range page.Models {
		models = append(models, dialect.Model{
			ID: strings.TrimPrefix(m.Name, "models/"), Title: m.DisplayName, Owner: "google",
			Input: m.InputTokenLimit, Output: m.OutputTokenLimit, Methods: m.Methods,
		})
	}
	return models, page.NextPageToken, nil
}

// EncodeModels writes all models as one page.
func (Models) EncodeModels(models []dialect.Model) []byte {
	page := modelPage{Models: make([]listed, len(models))}
	for i := range models {
		page.Models[i] = of(&models[i])
	}
	return marshal(page)
}

// EncodeModel writes one model.
func (Models) EncodeModel(m *dialect.Model) []byte { return marshal(of(m)) }

func of(m *dialect.Model) listed {
	out := listed{Name: "models/" + m.ID, DisplayName: m.Title, InputTokenLimit: m.Input, OutputTokenLimit: m.Output, Methods: m.Methods}
	if out.DisplayName == "" {
		out.DisplayName = m.ID
	}
	return out
}

func marshal(v any) []byte {
	b, _ := json.Marshal(v, jsontext.AllowInvalidUTF8(true)) // names and numbers only
	return b
}
