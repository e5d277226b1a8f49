package llm

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/llm/openai"
)

// openAI is OpenAI, and what is like it: vLLM, Ollama and many more.
type openAI struct{}

func (openAI) name() string { return "openai" }

func (openAI) host() string { return "api.openai.com" }

// speaks: a path of the configuration says what is there.
func (openAI) speaks(p *Provider, client form, _ string) (form, bool) {
	switch {
	case client.counts():
		return countInput, p.Path == ""
	case client.embeds(), strings.HasSuffix(p.Path, "/embeddings"):
		return embed, client.embeds() && (p.Path == "" || strings.HasSuffix(p.Path, "/embeddings"))
	case strings.HasSuffix(p.Path, "/responses"), p.Path == "" && client == respond:
		return respond, true
	default:
		return chat, true
	}
}

func (openAI) target(_ *Provider, f form, _ string, _ bool) string {
	switch f {
	case respond:
		return "/v1/responses"
	case countInput:
		return "/v1/responses/input_tokens"
	case embed:
		return "/v1/embeddings"
	default:
		return "/v1/chat/completions"
	}
}

func (openAI) credential(*Provider, string) (header, prefix string) {
	return "Authorization", "Bearer "
}

// headers passes on what belongs to the account of the client only with its own
// credential.
func (openAI) headers(a *attempt, out http.Header) {
	pass(out, a.header, "Openai-Beta", "X-Client-Request-Id")
	if a.provider.Credential.Passthrough {
		pass(out, a.header, "Openai-Organization", "Openai-Project")
	}
}

// catalogue is one page.
func (openAI) catalogue(*Provider, string) (target string, l listReader) {
	return "/v1/models", openai.Models{}
}

func (openAI) realtime(_ *Provider, model string, query url.Values) string {
	if model != "" {
		query.Set("model", model)
	}
	return "/v1/realtime?" + query.Encode()
}
