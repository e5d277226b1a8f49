package oauth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
)

// lasting returns a source whose tokens last that long and are numbered, and the count.
func lasting(life time.Duration) (Source, *atomic.Int64) {
	var n atomic.Int64
	return func(context.Context) (Token, error) {
		time.Sleep(time.Second)
		return Token{Value: secret.New(fmt.Sprint("t", n.Add(1))), Expiry: time.Now().Add(life)}, nil
	}, &n
}

// A token is fetched once for all who wait, kept, replaced before its end without anybody
// waiting, and never used when it has ended.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, n := lasting(time.Hour)
		tokens := NewTokens(source)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if v, err := tokens.Token(t.Context()); err != nil || v.Reveal() != "t1" {
					t.Error(v.Reveal(), err)
				}
			})
		}
		wg.Wait()
		expect := func(want string, wait time.Duration) {
			t.Helper()
			time.Sleep(wait)
			before := time.Now()
			v, err := tokens.Token(t.Context())
			if err != nil || v.Reveal() != want {
				t.Errorf("%q %v, not %q", v.Reveal(), err, want)
			}
			if waited := time.Since(before); waited != 0 && want != "t3" {
				t.Errorf("%q was waited for %s", want, waited)
			}
			synctest.Wait()
		}
		expect("t1", 50*time.Minute)
		expect("t1", 8*time.Minute) // which has the next one fetched
		expect("t2", 2*time.Second)
		expect("t3", 2*time.Hour)
		if n.Load() != 3 {
			t.Errorf("%d were fetched", n.Load())
		}
	})
}

// While the source fails, a request waits for one fetch at most, and few of them are made.
func TestTokensFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		var heal atomic.Bool
		tokens := NewTokens(func(ctx context.Context) (Token, error) {
			if calls.Add(1); heal.Load() {
				return Token{Value: secret.New("good")}, nil
			}
			<-ctx.Done()
			return Token{}, ctx.Err()
		})
		begin := time.Now()
		_, err := tokens.Token(t.Context())
		if fault.Of(err).Code != fault.UpstreamFailed || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != fetchTimeout {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		for range 1000 {
			if _, err := tokens.Token(t.Context()); err == nil {
				t.Error("there is a token")
			}
		}
		if calls.Load() != 1 {
			t.Errorf("%d fetches", calls.Load())
		}
		time.Sleep(pause)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the client is gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := tokens.Token(ctx); !errors.Is(err, gone) {
			t.Error(err)
		}
		time.Sleep(fetchTimeout + pause)
		heal.Store(true)
		if v, err := tokens.Token(t.Context()); err != nil || v.Reveal() != "good" || calls.Load() != 3 {
			t.Error(v.Reveal(), err, calls.Load())
		}
	})
}

// A token that has ended when it comes is none.
func TestTokensEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, n := lasting(margin)
		tokens := NewTokens(source)
		if v, err := tokens.Token(t.Context()); err == nil || n.Load() != 1 {
			t.Error(v.Reveal(), err, n.Load())
		}
	})
}

// roundTripper is a function that sends requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The token stands where it should, the request is not changed, and a token that is refused
// is given up.
func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, _ := lasting(time.Hour)
		var shown []string
		status := http.StatusOK
		tr := &Transport{Tokens: NewTokens(source), Header: "x-token", Prefix: "T ", Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			shown = append(shown, r.Header.Get("X-Token"))
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		})}
		send := func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
			if _, err := tr.RoundTrip(r); err != nil || len(r.Header) != 0 {
				t.Error(err, r.Header)
			}
		}
		send()
		send()
		time.Sleep(time.Minute)
		status = http.StatusUnauthorized
		send()
		send()
		send()
		if got := strings.Join(shown, ","); got != "T t1,T t1,T t1,T t2,T t2" {
			t.Errorf("shown: %s", got)
		}
	})
}

// body is a request's body that knows whether it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

// Without a token nothing is sent, and the body is closed.
func TestTransportFails(t *testing.T) {
	tr := &Transport{Tokens: NewTokens(func(context.Context) (Token, error) { return Token{}, errors.New("none") }), Base: roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("it is sent")
		return nil, errors.New("sent")
	})}
	b := &body{Reader: strings.NewReader("{}")}
	if _, err := tr.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", b)); fault.Of(err).Code != fault.UpstreamFailed || !b.closed {
		t.Error(err, b.closed)
	}
}

// serviceAccount returns the key of a service account whose tokens are at uri.
func serviceAccount(t *testing.T, uri string) (key string, public *rsa.PublicKey) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p-1", "private_key_id": "k-1", "client_email": "gw@p-1.iam.gserviceaccount.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": uri,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b), &private.PublicKey
}

// endpoint is a token endpoint that hands each form to answer.
func endpoint(t *testing.T, answer func(r *http.Request) (status int, body string)) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		status, body := answer(r)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// A service account signs what it asks with, and the application default credentials find
// its key in the file that the environment names.
func TestGoogle(t *testing.T) {
	var public *rsa.PublicKey
	s := endpoint(t, func(r *http.Request) (int, string) {
		token, err := jwt.ParseSigned(r.PostForm.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			return 400, `{"error":"invalid_grant"}`
		}
		var claims struct {
			Issuer   string `json:"iss"`
			Audience string `json:"aud"`
			Scope    string `json:"scope"`
		}
		if err := token.Claims(public, &claims); err != nil || claims.Issuer != "gw@p-1.iam.gserviceaccount.com" || claims.Scope != cloudPlatform {
			return 400, `{"error":"invalid_grant"}`
		}
		return 200, `{"access_token":"ya29.one","expires_in":3599,"token_type":"Bearer"}`
	})
	key, pub := serviceAccount(t, s.URL)
	public = pub
	source, err := Google(secret.New(key))
	if err != nil {
		t.Fatal(err)
	}
	check := func(source Source) {
		t.Helper()
		token, err := source(t.Context())
		if left := time.Until(token.Expiry); err != nil || token.Value.Reveal() != "ya29.one" || left < 58*time.Minute || left > time.Hour {
			t.Error(token.Value.Reveal(), token.Expiry, err)
		}
	}
	check(source)
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	check(GoogleDefault)

	other, _ := serviceAccount(t, s.URL)
	source, err = Google(secret.New(other))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = source(t.Context()); err == nil || err.Error() != "the token endpoint answered 400 invalid_grant" {
		t.Errorf("a foreign key: %v", err)
	}
}

// With workload identity federation the token of another issuer is exchanged for one of
// Google's.
func TestGoogleFederation(t *testing.T) {
	s := endpoint(t, func(r *http.Request) (int, string) {
		if r.PostForm.Get("subject_token") != "eyJ.pod" || r.PostForm.Get("scope") != cloudPlatform {
			return 400, `{"error":"invalid_grant"}`
		}
		return 200, `{"access_token":"ya29.federated","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","expires_in":3599,"token_type":"Bearer"}`
	})
	dir := t.TempDir()
	token, config := filepath.Join(dir, "token"), filepath.Join(dir, "config.json")
	if err := os.WriteFile(token, []byte("eyJ.pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{
		"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": s.URL, "credential_source": map[string]string{"file": token},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", config)
	if token, err := GoogleDefault(t.Context()); err != nil || token.Value.Reveal() != "ya29.federated" {
		t.Error(token.Value.Reveal(), err)
	}
}

// The metadata server of Google Cloud is asked where there is no file.
func TestGoogleMetadata(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		if strings.HasSuffix(r.URL.Path, "/service-accounts/default/token") {
			_, _ = io.WriteString(w, `{"access_token":"ya29.machine","expires_in":600,"token_type":"Bearer"}`)
			return
		}
		_, _ = io.WriteString(w, "p-1")
	}))
	t.Cleanup(s.Close)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	if token, err := GoogleDefault(t.Context()); err != nil || token.Value.Reveal() != "ya29.machine" {
		t.Error(token.Value.Reveal(), err)
	}
}

// What is no key of a service account is refused, without a word of it.
func TestGoogleRefuses(t *testing.T) {
	for _, key := range []string{"", "{}", "hunter2", `{"type":"external_account","token_url":"http://hunter2/"}`} {
		if _, err := Google(secret.New(key)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Microsoft Entra ID is asked in the way that the environment says.
func TestEntra(t *testing.T) {
	var asked url.Values
	var path string
	var head http.Header
	expires := time.Now().Add(time.Hour).Unix()
	s := endpoint(t, func(r *http.Request) (int, string) {
		asked, path, head = r.Form, r.URL.Path, r.Header
		if r.Method == http.MethodPost {
			return 200, `{"access_token":"eyJ.entra","expires_in":3600,"token_type":"Bearer"}`
		}
		return 200, fmt.Sprintf(`{"access_token":"eyJ.entra","expires_on":"%d","resource":"r","token_type":"Bearer"}`, expires)
	})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("eyJ.pod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := map[string]string{"AZURE_AUTHORITY_HOST": s.URL, "AZURE_TENANT_ID": "t-1", "AZURE_CLIENT_ID": "c-1"}
	with := func(more ...string) map[string]string {
		out := map[string]string{}
		for k, v := range client {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	for name, test := range map[string]struct {
		env  map[string]string
		path string
		form url.Values
		head [2]string
	}{
		"a secret": {
			env: with("AZURE_CLIENT_SECRET", "s-1", "AZURE_FEDERATED_TOKEN_FILE", file), path: "/t-1/oauth2/v2.0/token",
			form: url.Values{"grant_type": {"client_credentials"}, "client_id": {"c-1"}, "client_secret": {"s-1"}, "scope": {"https://cognitiveservices.azure.com/.default"}},
		},
		"workload identity": {
			env: with("AZURE_FEDERATED_TOKEN_FILE", file), path: "/t-1/oauth2/v2.0/token",
			form: url.Values{"grant_type": {"client_credentials"}, "client_id": {"c-1"}, "client_assertion": {"eyJ.pod"}, "client_assertion_type": {assertion}, "scope": {"https://cognitiveservices.azure.com/.default"}},
		},
		"the identity of a service": {
			env: map[string]string{"IDENTITY_ENDPOINT": s.URL + "/msi/token", "IDENTITY_HEADER": "h-1"}, path: "/msi/token",
			form: url.Values{"api-version": {serviceVersion}, "resource": {"https://cognitiveservices.azure.com"}}, head: [2]string{"X-Identity-Header", "h-1"},
		},
		"the identity of a machine": {
			env: map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": s.URL, "AZURE_CLIENT_ID": "c-2"}, path: "/metadata/identity/oauth2/token",
			form: url.Values{"api-version": {metadataVersion}, "resource": {"https://cognitiveservices.azure.com"}, "client_id": {"c-2"}}, head: [2]string{"Metadata", "true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			source := Entra("https://cognitiveservices.azure.com", func(name string) string { return test.env[name] })
			token, err := source(t.Context())
			if left := time.Until(token.Expiry); err != nil || token.Value.Reveal() != "eyJ.entra" || left < 58*time.Minute || left > time.Hour {
				t.Fatal(token.Value.Reveal(), token.Expiry, err)
			}
			if path != test.path || asked.Encode() != test.form.Encode() || test.head[0] != "" && head.Get(test.head[0]) != test.head[1] {
				t.Errorf("asked %s?%s with %v", path, asked.Encode(), head)
			}
		})
	}
	source := Entra("https://x", func(name string) string { return map[string]string{"AZURE_CLIENT_SECRET": "s-1"}[name] })
	if _, err := source(t.Context()); err == nil || !strings.Contains(err.Error(), "AZURE_TENANT_ID") {
		t.Errorf("half of it: %v", err)
	}
}

// An error of a token endpoint tells its status and code, and not what it was asked with; an
// answer that does not end is cut.
func TestEntraFails(t *testing.T) {
	body := `{"error":"invalid_client","error_description":"secret s-1 is wrong"}`
	s := endpoint(t, func(*http.Request) (int, string) { return 401, body })
	env := map[string]string{"AZURE_AUTHORITY_HOST": s.URL, "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s-1"}
	source := Entra("https://x", func(name string) string { return env[name] })
	if _, err := source(t.Context()); err == nil || err.Error() != "the token endpoint answered 401 invalid_client" {
		t.Errorf("refused: %v", err)
	}
	body = `{"access_token":"` + strings.Repeat("x", maxResponse) + `"}`
	s2 := endpoint(t, func(*http.Request) (int, string) { return 200, body })
	env = map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": s2.URL}
	if _, err := source(t.Context()); err == nil {
		t.Error("an answer without an end is taken")
	}
}
