package gateway

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/upstream/oauth"
)

// tokens returns the access tokens of that identity: those in use, or new ones.
func (c *compiler) tokens(identity string, source oauth.Source) *oauth.Tokens {
	t := c.snapshot.tokens[identity]
	if t == nil {
		t = c.rt.tokensOf(identity, source)
		c.snapshot.tokens[identity] = t
	}
	return t
}

// tokensOf returns the access tokens of that identity: those in use, or new ones, which are
// kept once a snapshot with them is prepared.
func (rt *Runtime) tokensOf(identity string, source oauth.Source) *oauth.Tokens {
	if rt != nil {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if t := rt.tokens[identity]; t != nil {
			return t
		}
	}
	return oauth.NewTokens(source)
}

// withTokens returns base with an access token in each request, where header says.
func withTokens(base http.RoundTripper, tokens *oauth.Tokens, header *v1alpha1.LLMAuthHeader) http.RoundTripper {
	t := &oauth.Transport{Base: base, Tokens: tokens, Header: "Authorization", Prefix: "Bearer "}
	if header != nil {
		t.Header = cmp.Or(header.HeaderName, t.Header)
		if header.Prefix != nil {
			t.Prefix = *header.Prefix
		}
	}
	return t
}

// entraResource returns the resource for which Microsoft Entra ID gives tokens that are good
// at a host of Azure OpenAI.
func entraResource(host string) string {
	switch {
	case strings.HasSuffix(host, ".services.ai.azure.com"):
		return "https://ai.azure.com"
	case strings.HasSuffix(host, ".azure.us"):
		return "https://cognitiveservices.azure.us"
	case strings.HasSuffix(host, ".azure.cn"):
		return "https://cognitiveservices.azure.cn"
	default:
		return "https://cognitiveservices.azure.com"
	}
}
