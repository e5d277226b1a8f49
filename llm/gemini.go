package llm

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/llm/openai"
)

// geminiAPI is the Gemini API of Google, with an API key.
type geminiAPI struct{}

func (geminiAPI) name() string { return "gcp.gemini" }

func (geminiAPI) host() string { return "generativelanguage.googleapis.com" }

func (geminiAPI) speaks(p *Provider, client form, _ string) (form, bool) {
	switch {
	case client.embeds() && p.Compat:
		return embed, true
	case client == embedContent:
		return embedContent, true
	case client.embeds():
		return embedContents, true
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
	switch f {
	case chat:
		return version + "/openai/chat/completions"
	case embed:
		return version + "/openai/embeddings"
	case countContents:
		return version + "/" + modelPath(model) + ":countTokens"
	case embedContent:
		return version + "/" + modelPath(model) + ":embedContent"
	case embedContents:
		return version + "/" + modelPath(model) + ":batchEmbedContents"
	default:
		return version + "/" + modelPath(model) + method(stream)
	}
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

// patches: the model stands in the path, and in the requests of a batch again.
func (geminiAPI) patches(a *attempt, body *dialect.Body) ([]dialect.Patch, []string) {
	if !a.same || a.named == a.asked {
		return nil, nil
	}
	model := dialect.Patch{Name: "model", Value: dialect.String("models/" + a.named)}
	switch {
	case a.speaks == embedContent && body.Get("model") != nil:
		return []dialect.Patch{model}, nil
	case a.speaks == embedContents && body.Get("requests").Kind() == '[':
		var requests []jsontext.Value
		dialect.Elements(body.Get("requests"), func(_ int, v jsontext.Value) {
			if b, err := dialect.ParseBody(v); err == nil {
				v = b.Patched(model)
			}
			requests = append(requests, v)
		})
		return []dialect.Patch{{Name: "requests", Value: array(requests)}}, nil
	default:
		return nil, nil
	}
}

// platformError: its chat completions answer errors as Google does.
func (geminiAPI) platformError(f form, status int, _ http.Header, body []byte) *dialect.Error {
	return googleError(f, status, body)
}

// catalogue: where it is asked by chat completions it has a list of that dialect.
func (geminiAPI) catalogue(p *Provider, page string) (target string, l listReader) {
	target = "/" + cmp.Or(p.APIVersion, "v1beta")
	if p.Compat {
		return target + "/openai/models", compatModels{}
	}
	target += "/models?pageSize=1000"
	if page != "" {
		target += "&pageToken=" + url.QueryEscape(page)
	}
	return target, gemini.Models{}
}

// compatModels is the list that Google has for clients of OpenAI.
type compatModels struct{ openai.Models }

// DecodeModels takes off what the names begin with.
func (m compatModels) DecodeModels(body []byte) (models []dialect.Model, next string, err error) {
	models, next, err = m.Models.DecodeModels(body)
	for i := range models {
		models[i].ID = strings.TrimPrefix(models[i].ID, "models/")
	}
	return models, next, err
}
