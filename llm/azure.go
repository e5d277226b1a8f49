package llm

import (
	"net/http"
	"net/url"
	"strings"
)

// azureOpenAI is a deployment of Azure OpenAI: OpenAI's dialects at paths of its own. It is
// asked by the name of the deployment, whatever the client asks for.
type azureOpenAI struct{}

func (azureOpenAI) name() string { return "azure.ai.openai" }

// host is empty: each resource has its own.
func (azureOpenAI) host() string { return "" }

// speaks: tokens it does not count.
func (azureOpenAI) speaks(p *Provider, client form, model string) (form, bool) {
	if client.counts() {
		return countInput, false
	}
	return openAI{}.speaks(p, client, model)
}

// target knows the two layouts: v1, of which preview is a part, and those that are dated.
func (azureOpenAI) target(p *Provider, f form, model string, _ bool) string {
	operation := "/chat/completions"
	switch f {
	case respond:
		operation = "/responses"
	case embed:
		operation = "/embeddings"
	}
	switch p.APIVersion {
	case "v1":
		return "/openai/v1" + operation
	case "preview":
		return "/openai/v1" + operation + "?api-version=preview"
	}
	query := "?api-version=" + url.QueryEscape(p.APIVersion)
	if f == respond {
		return "/openai" + operation + query
	}
	return "/openai/deployments/" + url.PathEscape(model) + operation + query
}

// passed knows the same layouts.
func (azureOpenAI) passed(p *Provider, path string) string {
	switch p.APIVersion {
	case "v1":
		return "/openai" + path
	case "preview":
		return "/openai" + path + "?api-version=preview"
	}
	operation := strings.TrimPrefix(path, "/v1")
	query := "?api-version=" + url.QueryEscape(p.APIVersion)
	for _, of := range []string{"/images/", "/audio/", "/completions", "/embeddings"} { // of a deployment
		if p.Model != "" && strings.HasPrefix(operation, of) {
			return "/openai/deployments/" + url.PathEscape(p.Model) + operation + query
		}
	}
	return "/openai" + operation + query
}

func (azureOpenAI) credential(*Provider, string) (header, prefix string) { return "Api-Key", "" }

func (azureOpenAI) headers(a *attempt, out http.Header) {
	pass(out, a.header, "X-Client-Request-Id", "X-Ms-Client-Request-Id")
}

// realtime: the name of the deployment stands where the layout has it.
func (azureOpenAI) realtime(p *Provider, model string, query url.Values) string {
	name, path := "model", "/openai/v1/realtime?"
	switch p.APIVersion {
	case "v1":
	case "preview":
		query.Set("api-version", "preview")
	default:
		name, path = "deployment", "/openai/realtime?"
		query.Set("api-version", p.APIVersion)
	}
	if model != "" {
		query.Set(name, model)
	}
	return path + query.Encode()
}
