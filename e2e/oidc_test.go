package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The client that MCP clients are registered as, and the users of zitadel's example.
const (
	oidcClient   = "mcp-client"
	oidcRedirect = "http://127.0.0.1/callback"
	userOne      = "id1"
	userTwo      = "id2"
	passwordOf   = "verysecure"
)

// An oidcServer is zitadel's OpenID provider over its example storage: discovery, authorization code
// with PKCE, and access tokens that are JWTs. It knows resource indicators (RFC 8707): tokens are for the
// resource that was asked for.
type oidcServer struct {
	*storage.Storage
	op       *op.Provider
	server   *httptest.Server
	issuer   string
	resource sync.Map // by the id of the request

	mu      sync.Mutex
	key     *signingKey
	keys    []op.Key // published
	down    bool
	fetched int // how often the keys were
	named   []string
}

// A signingKey is an RSA key under an id.
type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) Key() any                                    { return k.key }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

// A publicKey is what is published of a signingKey.
type publicKey struct{ *signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.key.Public() }

// jwtClient makes access tokens JWTs.
type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (jwtClient) IsScopeAllowed(scope string) bool    { return strings.HasPrefix(scope, "mcp:") }

// A grant is a request for a token of which the resource is known.
type grant struct {
	op.AuthRequest
	audience []string
}

func (g *grant) GetAudience() []string { return g.audience }

// startOIDC runs a provider with a key until the test ends.
func startOIDC(t testing.TB) *oidcServer {
	t.Helper()
	s := &oidcServer{}
	mux := http.NewServeMux()
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	s.issuer = s.server.URL
	clients := map[string]*storage.Client{oidcClient: storage.NativeClient(oidcClient, oidcRedirect)}
	s.Storage = storage.NewStorageWithClients(storage.NewUserStore(s.issuer), clients)
	s.rotate(t, "first", false)
	var err error
	s.op, err = op.NewProvider(&op.Config{
		CryptoKey: sha256.Sum256([]byte("e2e")), CryptoKeyId: "key", CodeMethodS256: true, SupportedScopes: []string{"openid", "mcp:read", "mcp:write"},
	}, s, op.StaticIssuer(s.issuer), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("POST /login/username", s.login)
	mux.Handle("/keys", http.HandlerFunc(s.serveKeys))
	mux.Handle("/authorize", http.HandlerFunc(s.authorize))
	mux.Handle("/", s.op)
	return s
}

// jwks is the URL of the keys.
func (s *oidcServer) jwks() string { return s.issuer + "/keys" }

// rotate makes a new key; the one before it is still published if keep says so.
func (s *oidcServer) rotate(t testing.TB, id string, keep bool) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = &signingKey{id, key}
	if !keep {
		s.keys = nil
	}
	s.keys = append(s.keys, publicKey{s.key})
}

// setDown makes the keys unreachable.
func (s *oidcServer) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// fetches returns how often the keys were asked for.
func (s *oidcServer) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched
}

func (s *oidcServer) serveKeys(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.fetched++
	down := s.down
	s.mu.Unlock()
	if down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	s.op.ServeHTTP(w, r)
}

// authorize notes the resource that is asked for.
func (s *oidcServer) authorize(w http.ResponseWriter, r *http.Request) {
	s.op.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), resourceKey{}, r.FormValue("resource"))))
}

type resourceKey struct{}

// login takes the form of the login page.
func (s *oidcServer) login(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	if err := s.CheckUsernamePassword(r.FormValue("username"), r.FormValue("password"), id); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	ctx := op.ContextWithIssuer(r.Context(), s.issuer)
	http.Redirect(w, r, op.AuthCallbackURL(s.op)(ctx, id), http.StatusFound)
}

// What the storage does otherwise than the example.

func (s *oidcServer) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key, nil
}

func (s *oidcServer) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, nil
}

func (s *oidcServer) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return jwtClient{c}, nil
}

func (s *oidcServer) CreateAuthRequest(ctx context.Context, req *oidc.AuthRequest, user string) (op.AuthRequest, error) {
	r, err := s.Storage.CreateAuthRequest(ctx, req, user)
	if err == nil {
		resource, _ := ctx.Value(resourceKey{}).(string)
		s.resource.Store(r.GetID(), resource)
		s.mu.Lock()
		s.named = append(s.named, resource)
		s.mu.Unlock()
	}
	return r, err
}

func (s *oidcServer) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	r, err := s.Storage.AuthRequestByCode(ctx, code)
	if err != nil {
		return nil, err
	}
	resource, _ := s.resource.Load(r.GetID())
	return &grant{r, []string{resource.(string)}}, nil
}

func (s *oidcServer) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	if g, ok := r.(*grant); ok {
		r = g.AuthRequest
	}
	return s.Storage.CreateAccessToken(ctx, r)
}

// GetPrivateClaimsFromScopes adds the scopes to the access token (RFC 9068, section 2.2.3), which the provider leaves to its
// storage.
func (s *oidcServer) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(scopes, " ")}, nil
}

// resources returns the resources that tokens were asked for.
func (s *oidcServer) resources() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.named...)
}

// token is one that the provider could have made, with changes; nil takes a claim away.
func (s *oidcServer) token(t testing.TB, audience string, changes map[string]any) string {
	t.Helper()
	s.mu.Lock()
	key := s.key
	s.mu.Unlock()
	claims := map[string]any{"iss": s.issuer, "sub": userOne, "aud": []string{audience}, "exp": time.Now().Add(time.Hour).Unix(), "scope": "mcp:read"}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	return signJWT(t, jose.RS256, key.key, key.id, claims)
}

func signJWT(t testing.TB, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unsigned is the token without a signature.
func unsigned(token string) string {
	parts := strings.Split(token, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
}

// oauth is go-sdk's handler of the authorization code flow, for a user who types name and password
// into the page of the provider.
func (s *oidcServer) oauth(t testing.TB, username string) auth.OAuthHandler {
	t.Helper()
	h, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient: &oauthex.ClientCredentials{ClientID: oidcClient},
		RedirectURL:         oidcRedirect,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			return browse(ctx, args.URL, username)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// browse is what user and browser do.
func browse(ctx context.Context, start, username string) (*auth.AuthorizationResult, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	method, at, form := http.MethodGet, start, url.Values(nil)
	for range 10 {
		r, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		next, err := resp.Location()
		if err != nil {
			return nil, fmt.Errorf("%s answers %s: %s", at, resp.Status, text)
		}
		switch {
		case strings.HasPrefix(next.String(), oidcRedirect):
			q := next.Query()
			if q.Get("error") != "" {
				return nil, fmt.Errorf("the provider says %s", q.Get("error_description"))
			}
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		case next.Path == "/login/username":
			form = url.Values{"id": {next.Query().Get("authRequestID")}, "username": {username}, "password": {passwordOf}}
			method, next.RawQuery = http.MethodPost, ""
		default:
			method, form = http.MethodGet, nil
		}
		at = next.String()
	}
	return nil, fmt.Errorf("%s leads nowhere", start)
}
