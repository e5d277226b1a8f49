package anthropic

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Models is the list of models (Anthropic API reference, List Models).
type Models struct{}

type listed struct {
	Type        string    `json:"type"`
	ID          string    `json:"id"`
	DisplayName string    `json:"display_name"`
	CreatedAt   time.Time `json:"created_at"`
}

type modelPage struct {
	Data    []listed `json:"data"`
	HasMore bool     `json:"has_more"`
	FirstID *string  `json:"first_id"`
	LastID  *string  `json:"last_id"`
}

// DecodeModels reads a page; next is the id behind which the following one begins.
func (Models) DecodeModels(body []byte) (models []dialect.Model, next string, err error) {
	var page modelPage
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", err
	}
	for _, m := range page.Data {
		models = append(models, dialect.Model{ID: m.ID, Title: m.DisplayName, Created: max(m.CreatedAt.Unix(), 0), Owner: "anthropic"})
	}
	if page.HasMore && page.LastID != nil {
		next = *page.LastID
	}
	return models, next, nil
}

// EncodeModels writes all models as one page.
func (Models) EncodeModels(models []dialect.Model) []byte {
	page := modelPage{Data: make([]listed, len(models))}
	for i := range models {
		page.Data[i] = of(&models[i])
	}
	if n := len(models); n > 0 {
		page.FirstID, page.LastID = &models[0].ID, &models[n-1].ID
	}
	return marshal(page)
}

// EncodeModel writes one model.
func (Models) EncodeModel(m *dialect.Model) []byte { return marshal(of(m)) }

// of: a title is required.
func of(m *dialect.Model) listed {
	out := listed{"model", m.ID, m.Title, time.Unix(m.Created, 0).UTC()}
	if out.DisplayName == "" {
		out.DisplayName = m.ID
	}
	return out
}

func marshal(v any) []byte {
	b, _ := json.Marshal(v, jsontext.AllowInvalidUTF8(true)) // names and times only
	return b
}
