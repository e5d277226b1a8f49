package llm

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
)

// A VertexModel says where in Vertex AI a model is.
type VertexModel struct {
	Project, Location string
	// Publisher is whose models are asked for that do not say so: google, in any
	// spelling, or another one's name.
	Publisher string
	// Path replaces the method, with its query, behind the model.
	Path string
}

// VertexHost returns the host of a location of Vertex AI: a region, us or eu, which are of
// several regions, or global.
func VertexHost(location string) string {
	switch location {
	case "global":
		return "aiplatform.googleapis.com"
	case "us", "eu":
		return "aiplatform." + location + ".rep.googleapis.com"
	default:
		return location + "-aiplatform.googleapis.com"
	}
}

// vertexAI is Vertex AI of Google Cloud: Gemini by Google's dialect, Claude by Anthropic's,
// and what others publish by chat completions.
type vertexAI struct{}

func (vertexAI) name() string { return "gcp.vertex_ai" }

// host is empty: each location has its own.
func (vertexAI) host() string { return "" }

// publisher returns who publishes a model, and its name there: what the name says itself, then
// the configuration. Claude is Anthropic's wherever it says nothing.
func (vertexAI) publisher(p *Provider, model string) (publisher, name string) {
	if rest, ok := strings.CutPrefix(model, "publishers/"); ok { // its whole name
		publisher, name, _ = strings.Cut(rest, "/models/")
		return publisher, name
	}
	publisher = strings.ToLower(cmp.Or(p.Vertex.Publisher, "google"))
	if before, after, ok := strings.Cut(model, "/"); ok && before != "models" && before != "endpoints" {
		return before, after
	} else if ok && before == "models" {
		model = after
	}
	if strings.HasPrefix(model, "claude-") {
		publisher = "anthropic"
	}
	return publisher, model
}

func (v vertexAI) speaks(p *Provider, client form, model string) (form, bool) {
	publisher, _ := v.publisher(p, model)
	switch {
	case client.embeds():
		return v.embeds(publisher, model)
	case p.Compat || publisher != "google" && publisher != "anthropic":
		return chat, !client.counts()
	case publisher == "anthropic" && client.counts():
		return count, true
	case publisher == "anthropic":
		return messages, true
	case client.counts():
		return countContents, true
	default:
		return generate, true
	}
}

// embeds returns how a model is asked to embed: those that take more than text by Google's
// embedContent, as does what is served for other publishers, whose own endpoints are asked by OpenAI's.
func (vertexAI) embeds(publisher, model string) (form, bool) {
	switch {
	case publisher == "anthropic":
		return predict, false
	case strings.HasSuffix(model, "-maas"), strings.Contains(model, "gemini-") && !strings.Contains(model, "gemini-embedding-001"):
		return embedContent, true
	case publisher != "google":
		return embed, true
	default:
		return predict, true
	}
}

// named returns the name by which a model is asked for: with its publisher in OpenAI's
// dialects, and where the path would name another one. The dates of Claude's versions stand behind @ here.
func (v vertexAI) named(p *Provider, f form, model string) string {
	publisher, name := v.publisher(p, model)
	switch {
	case f == chat, f == embed, f == embedContent && publisher != "google":
		return publisher + "/" + name
	case publisher != "anthropic":
		return name
	}
	if i := strings.LastIndexByte(name, '-'); i > 0 && len(name)-i == len("-20250929") && strings.Trim(name[i+1:], "0123456789") == "" {
		name = name[:i] + "@" + name[i+1:]
	}
	return name
}

func (v vertexAI) target(p *Provider, f form, model string, stream bool) string {
	at := "/" + cmp.Or(p.APIVersion, "v1beta1") + "/projects/" + url.PathEscape(p.Vertex.Project) + "/locations/" + url.PathEscape(p.Vertex.Location)
	publisher, name := v.publisher(p, model)
	behind := ""
	switch f {
	case messages:
		if behind = ":rawPredict"; stream {
			behind = ":streamRawPredict"
		}
		publisher = "anthropic"
	case count:
		return at + "/publishers/anthropic/models/count-tokens:rawPredict"
	case countContents:
		behind = ":countTokens"
	case embedContent:
		behind = ":embedContent"
	case predict:
		behind = ":predict"
	case generate:
		behind = method(stream)
	case embed:
		return at + "/endpoints/openapi/embeddings"
	default:
		if p.Vertex.Path == "" {
			return at + "/endpoints/openapi/chat/completions"
		}
	}
	if p.Vertex.Path != "" && !f.counts() {
		behind = ":" + strings.TrimPrefix(p.Vertex.Path, ":")
	}
	if id, ok := strings.CutPrefix(name, "endpoints/"); ok { // a tuned model
		return at + "/endpoints/" + url.PathEscape(id) + behind
	}
	return at + "/publishers/" + url.PathEscape(publisher) + "/models/" + url.PathEscape(name) + behind
}

func (vertexAI) credential(*Provider, string) (header, prefix string) {
	return "Authorization", "Bearer "
}

func (vertexAI) headers(a *attempt, out http.Header) {
	pass(out, a.header, "X-Goog-Api-Client", "Anthropic-Beta")
}

// origin: the thoughts that Claude signs are good at all who serve Claude.
func (v vertexAI) origin(a *attempt) string {
	if a.speaks == messages {
		return anthropicAPI{}.name()
	}
	return v.name()
}

// vertexVersion is the one version of Anthropic's API that there is on Vertex AI.
const vertexVersion = "vertex-2023-10-16"

// patches: the model stands in the path, and for Claude the version of the API in the body.
func (vertexAI) patches(a *attempt, body *dialect.Body) (patches []dialect.Patch, _ []string) {
	if a.speaks == embedContent && body.Get("model") != nil {
		return []dialect.Patch{{Name: "model"}}, nil
	}
	if a.speaks != messages && a.speaks != count {
		return nil, nil
	}
	if a.speaks == messages {
		patches = append(patches, dialect.Patch{Name: "model"})
	}
	if body.Get("anthropic_version") == nil {
		patches = append(patches, dialect.Patch{Name: "anthropic_version", Value: dialect.String(vertexVersion)})
	}
	return patches, nil
}

// platformError: what stands before Claude and the chat completions answers as Google does.
func (vertexAI) platformError(f form, status int, _ http.Header, body []byte) *dialect.Error {
	return googleError(f, status, body)
}

// googleError returns the error of Google's in an answer in another dialect than its own.
func googleError(f form, status int, body []byte) *dialect.Error {
	if f != chat && f != messages && f != count && f != embed {
		return nil
	}
	if e := (gemini.GenerateContent{}).DecodeError(status, body); e.Type != "" {
		return e
	}
	return nil
}
