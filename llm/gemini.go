package llm

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// geminiAPI is the Gemini API of Google, with an API key.
type geminiAPI struct{}

func (geminiAPI) name() string { return "gcp.gemini" }

func (geminiAPI) host() string { return "generativelanguage.googleapis.com" }

func (geminiAPI) speaks(p *Provider, client form, _ string) (form, bool) {
	switch {
	case p.Compat:
		return chat, !client.counts()
	case client.counts():
		return countContents, true
	default:
		return generate, true
	}
}

func (geminiAPI) target(p *Provider, f form, model string, stream bool) string {
	version := "/" + cmp.Or(p.APIVersion, "v1beta")
	if f == chat {
		return version + "/openai/chat/completions"
	}
	if f == countContents {
		return version + "/" + modelPath(model) + ":countTokens"
	}
	return version + "/" + modelPath(model) + method(stream)
}

// modelPath returns the path of a model, which may be that of a tuned one. Nothing in its
// name leads elsewhere.
func modelPath(model string) string {
	collection := "models"
	if before, name, ok := strings.Cut(model, "/"); ok && (before == "models" || before == "tunedModels") {
		collection, model = before, name
	}
	return collection + "/" + url.PathEscape(model)
}

func method(stream bool) string {
	if stream {
		return ":streamGenerateContent?alt=sse"
	}
	return ":generateContent"
}

func (geminiAPI) credential(p *Provider, _ string) (header, prefix string) {
	if p.Compat {
		return "Authorization", "Bearer "
	}
	return "X-Goog-Api-Key", ""
}

func (geminiAPI) headers(a *attempt, out http.Header) { pass(out, a.header, "X-Goog-Api-Client") }

// platformError: its chat completions answer errors as Google does.
func (geminiAPI) platformError(f form, status int, _ http.Header, body []byte) *dialect.Error {
	return googleError(f, status, body)
}
