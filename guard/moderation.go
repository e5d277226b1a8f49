package guard

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/internal/secret"
)

// A Moderation asks the moderation API of OpenAI. It is immutable and safe for concurrent use.
type Moderation struct {
	// RoundTripper sends requests; it may replace scheme and host of their URLs.
	RoundTripper http.RoundTripper
	Host         string // as the service is called in Host
	Path         string // default /v1/moderations
	Token        secret.Value
	// Passthrough shows the service the credential of the client instead.
	Passthrough bool
	Model       string // default omni-moderation-latest
}

type moderationKey struct{}

// WithCredential returns a context in which a [Moderation] with Passthrough shows token.
func WithCredential(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, moderationKey{}, token)
}

// flags reports whether the service flags one of the texts (OpenAI API reference,
// Moderations).
func (m *Moderation) flags(ctx context.Context, messages []Message) (bool, error) {
	type request struct {
		Input []string `json:"input"`
		Model string   `json:"model"`
	}
	in := request{Model: cmp.Or(m.Model, "omni-moderation-latest")}
	for _, msg := range messages {
		if strings.TrimSpace(msg.Text) != "" {
			in.Input = append(in.Input, msg.Text)
		}
	}
	if len(in.Input) == 0 {
		return false, nil
	}
	token := m.Token.Reveal()
	if m.Passthrough {
		token, _ = ctx.Value(moderationKey{}).(string)
	}
	if token == "" {
		return false, unavailable("moderation", errors.New("there is no credential for it"))
	}
	var out struct {
		Results []struct {
			Flagged bool `json:"flagged"`
		} `json:"results"`
	}
	h := http.Header{"Authorization": {"Bearer " + token}}
	if err := post(ctx, m.RoundTripper, "https", m.Host, cmp.Or(m.Path, "/v1/moderations"), h, in, &out); err != nil {
		return false, unavailable("moderation", err)
	}
	if len(out.Results) != len(in.Input) {
		return false, unavailable("moderation", errors.New("its answer has not as many results as it was shown texts"))
	}
	for _, r := range out.Results {
		if r.Flagged {
			return true, nil
		}
	}
	return false, nil
}
