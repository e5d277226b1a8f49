package openai

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Models is the list of models (OpenAI API reference, Models).
type Models struct{}

type listed struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// DecodeModels reads a list, which has one page.
func (Models) DecodeModels(body []byte) (models []dialect.Model, next string, err error) {
	var list struct {
		Data []struct {
			ID      string  `json:"id"`
			Created float64 `json:"created"`
			OwnedBy string  `json:"owned_by"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, "", err
	}
	for _, m := range list.Data {
		models = append(models, dialect.Model{ID: m.ID, Created: int64(m.Created), Owner: m.OwnedBy})
	}
	return models, "", nil
}

// EncodeModels writes a list.
func (Models) EncodeModels(models []dialect.Model) []byte {
	list := struct {
		Object string   `json:"object"`
		Data   []listed `json:"data"`
	}{"list", make([]listed, len(models))}
	for i := range models {
		list.Data[i] = of(&models[i])
	}
	return marshal(list)
}

// EncodeModel writes one model.
func (Models) EncodeModel(m *dialect.Model) []byte { return marshal(of(m)) }

func of(m *dialect.Model) listed { return listed{m.ID, "model", m.Created, m.Owner} }

// marshal writes what is known to be valid.
func marshal(v any) []byte {
	b, _ := json.Marshal(v, jsontext.AllowInvalidUTF8(true)) // names and numbers only
	return b
}
