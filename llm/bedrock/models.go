package bedrock

import (
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Models is what Bedrock lists: the models that are served on demand (API reference, ListFoundationModels), and then the
// inference profiles, page by page (ListInferenceProfiles). It is no dialect of clients.
type Models struct{}

// profiles begins the names of pages of inference profiles; what follows is where the page begins.
const profiles = "profiles:"

// ModelsTarget returns path and query of a page, "" being the first.
func ModelsTarget(page string) string {
	token, ok := strings.CutPrefix(page, profiles)
	switch {
	case !ok:
		return "/foundation-models?byInferenceType=ON_DEMAND"
	case token == "":
		return "/inference-profiles?maxResults=1000"
	default:
		return "/inference-profiles?maxResults=1000&nextToken=" + url.QueryEscape(token)
	}
}

// DecodeModels reads a page; next is the name of the following one. Models and profiles that are not active any more are left
// out, and models that answer neither with text nor with an embedding.
func (Models) DecodeModels(body []byte) (models []dialect.Model, next string, err error) {
	var page struct {
		Models []struct {
			ID        string   `json:"modelId"`
			Name      string   `json:"modelName"`
			Output    []string `json:"outputModalities"`
			Lifecycle struct {
				Status string `json:"status"`
			} `json:"modelLifecycle"`
		} `json:"modelSummaries"`
		Profiles []struct {
			ID     string `json:"inferenceProfileId"`
			Name   string `json:"inferenceProfileName"`
			Status string `json:"status"`
		} `json:"inferenceProfileSummaries"`
		Next string `json:"nextToken"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", err
	}
	for _, m := range page.Models {
		speaks := false
		for _, o := range m.Output {
			speaks = speaks || o == "TEXT" || o == "EMBEDDING"
		}
		if speaks && m.Lifecycle.Status != "LEGACY" {
			models = append(models, dialect.Model{ID: m.ID, Title: m.Name, Owner: "aws.bedrock"})
		}
	}
	for _, p := range page.Profiles {
		if p.Status == "ACTIVE" {
			models = append(models, dialect.Model{ID: p.ID, Title: p.Name, Owner: "aws.bedrock"})
		}
	}
	switch {
	case page.Next != "":
		next = profiles + page.Next
	case page.Models != nil:
		next = profiles
	}
	return models, next, nil
}
