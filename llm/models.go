package llm

import (
	"net/http"

	"github.com/go-json-experiment/json"
)

// serveModels answers with the models that the configuration names, as OpenAI lists them
// (API reference, List models).
func (b *Backend) serveModels(w http.ResponseWriter) error {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	list := struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{Object: "list", Data: []model{}}
	named := map[string]bool{}
	for _, group := range b.cfg.Groups {
		for _, p := range group {
			if p.Model != "" && !named[p.Model] {
				named[p.Model] = true
				list.Data = append(list.Data, model{p.Model, "model", 0, p.Vendor.String()})
			}
		}
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // a client that is gone needs no list
	return nil
}
