// Package oauth shows access tokens to upstreams that want them: Google Cloud and
// Microsoft Entra ID.
//
// A [Transport] puts the token of [Tokens] into each request. Tokens fetches one when it
// is needed, keeps it, and fetches the next one before it ends, whoever asks how often.
// Where tokens come from is a [Source]: [Google], [GoogleDefault], [Entra]. Package gateway
// wraps the pools of providers in Transports; nobody else knows that they are there.
package oauth

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
)

const (
	// fetchTimeout bounds one fetch of a token.
	fetchTimeout = 10 * time.Second
	// early is how long before its end a token is replaced, in the background. Google's
	// metadata server gives the same token until a little before.
	early = 3 * time.Minute
	// margin is how long before its end a token is not used any more.
	margin = 10 * time.Second
	// pause is the least time between two fetches, but for the first.
	pause = 2 * time.Second
	// unknownLife is how long a token is kept of which nobody says when it ends.
	unknownLife = 5 * time.Minute
	// maxResponse bounds what is read of the answer of a token endpoint.
	maxResponse = 1 << 20
)

// A Token is an access token.
type Token struct {
	Value secret.Value
	// Expiry is when it ends; the zero Time when that is not known.
	Expiry time.Time
}

// A Source fetches tokens. It is called by one goroutine at a time, with a context that ends
// with the time that a fetch may take.
type Source func(ctx context.Context) (Token, error)

// Tokens keeps the token of a [Source]. It is safe for concurrent use, and keeps no
// goroutine beyond a fetch.
type Tokens struct {
	source Source

	mu       sync.Mutex
	token    Token
	fetching chan struct{} // closed when the fetch under way has ended; nil without one
	failed   error         // why the last fetch failed; nil when it did not
	fetched  time.Time     // when the last fetch ended
}

// NewTokens returns an empty Tokens. Nothing is fetched yet.
func NewTokens(source Source) *Tokens { return &Tokens{source: source} }

// Token returns a token that is valid, fetching it if there is none. It waits at most for ctx
// and for one fetch; its errors are a [fault.UpstreamFailed], or that of ctx.
func (t *Tokens) Token(ctx context.Context) (secret.Value, error) {
	for waited := false; ; waited = true {
		t.mu.Lock()
		now := time.Now()
		left := t.token.Expiry.Sub(now)
		if left < early && t.fetching == nil && !waited && now.Sub(t.fetched) >= pause {
			t.fetching = make(chan struct{})
			go t.fetch(t.fetching)
		}
		value, failed, fetching := t.token.Value, t.failed, t.fetching
		t.mu.Unlock()
		switch {
		case left > margin:
			return value, nil
		case fetching == nil:
			return secret.Value{}, fault.Wrap(fault.UpstreamFailed, failed, "the gateway has no credential for the provider")
		}
		select {
		case <-fetching:
		case <-ctx.Done():
			return secret.Value{}, context.Cause(ctx)
		}
	}
}

// fetch fetches a token and closes done.
func (t *Tokens) fetch(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	token, err := t.source(ctx)
	now := time.Now()
	if err == nil && token.Expiry.IsZero() {
		token.Expiry = now.Add(unknownLife)
	}
	if err == nil && token.Expiry.Sub(now) <= margin {
		err = errors.New("the token that was fetched has ended already")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed = err; err == nil {
		t.token = token
	}
	t.fetching, t.fetched = nil, now
	close(done)
}

// forget gives up a token that the upstream refuses: the next request fetches another.
func (t *Tokens) forget(value secret.Value) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token.Value.Equal(value) && time.Since(t.fetched) >= pause { // else it would be refused, too
		t.token = Token{}
	}
}

// A Transport shows a token with each request, and has Base send it. A request for which
// there is no token is not sent.
type Transport struct {
	Base   http.RoundTripper
	Tokens *Tokens
	// Header and Prefix say where the token stands: Authorization and "Bearer ".
	Header, Prefix string
}

// RoundTrip implements http.RoundTripper. It does not change r.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.Tokens.Token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as every RoundTripper does
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header[http.CanonicalHeaderKey(t.Header)] = []string{t.Prefix + token.Reveal()}
	resp, err := t.Base.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.Tokens.forget(token)
	}
	return resp, err
}
