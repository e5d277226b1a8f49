package llm

import "net/http"

// openAI is OpenAI, and what is like it: vLLM, Ollama and many more.
type openAI struct{}

func (openAI) name() string { return "openai" }

func (openAI) host() string { return "api.openai.com" }

func (openAI) speaks(_ *Provider, client form) (form, bool) { return chat, client != count }

func (openAI) target(*Provider, form, string, bool) string { return "/v1/chat/completions" }

func (openAI) credential(*Provider, string) (header, prefix string) {
	return "Authorization", "Bearer "
}

// headers passes on what belongs to the account of the client only with its own
// credential.
func (openAI) headers(p *Provider, out, in http.Header) {
	pass(out, in, "Openai-Beta", "X-Client-Request-Id")
	if p.Credential.Passthrough {
		pass(out, in, "Openai-Organization", "Openai-Project")
	}
}
