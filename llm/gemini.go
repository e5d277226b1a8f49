package llm

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
)

// geminiAPI is the Gemini API of Google, with an API key.
type geminiAPI struct{}

func (geminiAPI) name() string { return "gcp.gemini" }

func (geminiAPI) host() string { return "generativelanguage.googleapis.com" }

func (geminiAPI) speaks(p *Provider, client form) (form, bool) {
	if p.Compat {
		return chat, client != count
	}
	return generate, client != count
}

func (geminiAPI) target(p *Provider, f form, model string, stream bool) string {
	version := "/" + cmp.Or(p.APIVersion, "v1beta")
	if f == chat {
		return version + "/openai/chat/completions"
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

func (geminiAPI) headers(_ *Provider, out, in http.Header) { pass(out, in, "X-Goog-Api-Client") }
