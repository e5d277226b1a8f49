package llm

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/llm/anthropic"
)

// anthropicAPI is the API of Anthropic.
type anthropicAPI struct{}

func (anthropicAPI) name() string { return "anthropic" }

func (anthropicAPI) host() string { return "api.anthropic.com" }

func (anthropicAPI) speaks(_ *Provider, client form, _ string) (form, bool) {
	if client.counts() {
		return count, true
	}
	return messages, !client.embeds() // of which it has none
}

func (anthropicAPI) target(_ *Provider, f form, _ string, _ bool) string {
	if f == count {
		return "/v1/messages/count_tokens"
	}
	return "/v1/messages"
}

// credential tells API keys from the OAuth tokens of subscriptions.
func (anthropicAPI) credential(_ *Provider, token string) (header, prefix string) {
	if strings.HasPrefix(token, "sk-ant-oat") {
		return "Authorization", "Bearer "
	}
	return "X-Api-Key", ""
}

// anthropicVersion is the one version of the API that there is.
const anthropicVersion = "2023-06-01"

func (anthropicAPI) headers(a *attempt, out http.Header) {
	pass(out, a.header, "Anthropic-Beta")
	out["Anthropic-Version"] = []string{cmp.Or(a.provider.APIVersion, a.header.Get("Anthropic-Version"), anthropicVersion)}
}

func (anthropicAPI) catalogue(_ *Provider, page string) (target string, l listReader) {
	target = "/v1/models?limit=1000"
	if page != "" {
		target += "&after_id=" + url.QueryEscape(page)
	}
	return target, anthropic.Models{}
}
