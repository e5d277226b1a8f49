package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/mcpgw/mcpgw/internal/secret"
)

// cloudPlatform is the scope of all of Google Cloud: roles say what a token may do.
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// Google returns the source of tokens for the key of a service account, the JSON file that
// Google Cloud hands out. Its error says what is wrong with the key, and nothing that is in it.
func Google(key secret.Value) (Source, error) {
	if _, err := google.JWTConfigFromJSON([]byte(key.Reveal()), cloudPlatform); err != nil {
		return nil, errors.New("it is no key of a service account")
	}
	return func(ctx context.Context) (Token, error) {
		c, err := google.CredentialsFromJSONWithType(withClient(ctx), []byte(key.Reveal()), google.ServiceAccount, cloudPlatform)
		if err != nil {
			return Token{}, err
		}
		return take(c.TokenSource)
	}, nil
}

// GoogleDefault is the source of tokens of the application default credentials: the file
// that GOOGLE_APPLICATION_CREDENTIALS names (a service account's key, or workload identity
// federation), else gcloud's, else the metadata server. They are looked up for each
// token, so a file that is exchanged takes effect.
func GoogleDefault(ctx context.Context) (Token, error) {
	c, err := google.FindDefaultCredentials(withClient(ctx), cloudPlatform)
	if err != nil {
		return Token{}, err
	}
	return take(c.TokenSource)
}

// take fetches a token of a library's source, whose context is that of the fetch.
func take(source oauth2.TokenSource) (Token, error) {
	t, err := source.Token()
	if err != nil {
		return Token{}, plain(err)
	}
	return Token{Value: secret.New(t.AccessToken), Expiry: t.Expiry}, nil
}

// plain returns an error of a token endpoint without the body of its answer, which may hold
// what it was asked with.
func plain(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil {
		var answer struct {
			Error string `json:"error"` // RFC 6749 section 5.2
		}
		_ = json.Unmarshal(refused.Body, &answer) // what is none has no code
		return fmt.Errorf("the token endpoint answered %d %s", refused.Response.StatusCode, oneLine(answer.Error))
	}
	return err
}

// oneLine returns a word of an answer as logs may hold it, at most 64 bytes.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	return s[:min(len(s), 64)]
}

// withClient has the libraries fetch tokens by a client of ours: net/http's default, but for
// what it reads at most.
func withClient(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, client())
}

func client() *http.Client {
	return &http.Client{Timeout: fetchTimeout, Transport: limited{}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("token endpoints do not redirect")
	}}
}

// limited is http.DefaultTransport with answers of at most maxResponse bytes.
type limited struct{}

// RoundTrip implements http.RoundTripper.
func (limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxResponse), resp.Body}
	}
	return resp, err
}

// readFile reads a file of a credential up to maxResponse bytes.
func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxResponse))
	return strings.TrimSpace(string(b)), err
}
