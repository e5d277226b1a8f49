package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// raw sends one request as a client without any state does.
func raw(t testing.TB, method, url, body string, header ...string) (status int, answer string, h http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for n := 0; n+1 < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, readAll(t, response), response.Header
}

// tokenPolicy is a TrafficPolicy on the Gateway that takes tokens of the provider for the audience, with
// more fields of jwtAuthentication in flow style.
func tokenPolicy(s *oidcServer, audience, more string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: tokens}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  jwtAuthentication:
    providers:
    - issuer: %s
      audiences: [%s]
      jwks: {remote: {url: %q, cacheDuration: 1s}}
%s`, s.issuer, audience, s.jwks(), more)
}

// A token that a provider made for the gateway is let in; what somebody could try in its place is not.
func TestTokensOfAProvider(t *testing.T) {
	t.Parallel()
	provider := startOIDC(t)
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) + tokenPolicy(provider, "mcpgw", "")
	})
	open := func(token string) (int, string) {
		t.Helper()
		status, _, h := raw(t, http.MethodPost, g.url(), initialize, "Authorization", "Bearer "+token)
		return status, h.Get("Www-Authenticate")
	}
	provider.mu.Lock()
	key := provider.key
	provider.mu.Unlock()
	public, err := x509.MarshalPKIXPublicKey(key.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": provider.issuer, "sub": userOne, "aud": "mcpgw", "exp": time.Now().Add(time.Hour).Unix()}
	good := provider.token(t, "mcpgw", nil)
	for _, tt := range []struct{ name, token, refused string }{
		{"valid", good, ""},
		{"expired", provider.token(t, "mcpgw", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "the token has expired"},
		{"without an end", provider.token(t, "mcpgw", map[string]any{"exp": nil}), "the token is malformed"},
		{"not yet", provider.token(t, "mcpgw", map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), "the token is not valid yet"},
		{"wrong audience", provider.token(t, "another", nil), "the token is not for this resource"},
		{"wrong issuer", provider.token(t, "mcpgw", map[string]any{"iss": "https://idp.example.com"}), "the issuer of the token is not accepted"},
		{"without a subject", provider.token(t, "mcpgw", map[string]any{"sub": nil}), "the token is malformed"},
		{"unsigned", unsigned(good), "the token is malformed"},
		{"another key", signJWT(t, jose.RS256, stranger, key.id, claims), "the signature of the token does not hold"},
		{"another algorithm", signJWT(t, jose.ES256, curve, key.id, claims), "the token is signed with a key that the issuer does not have"},
		{"the public key as a secret", signJWT(t, jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), key.id, claims), "the token is malformed"},
		{"no token", "hunter2", "the token is malformed"},
	} {
		status, challenge := open(tt.token)
		want, wantChallenge := http.StatusOK, ""
		if tt.refused != "" {
			want, wantChallenge = http.StatusUnauthorized, `Bearer error="invalid_token", error_description="`+tt.refused+`"`
		}
		if status != want || challenge != wantChallenge {
			t.Errorf("%s: %d %s", tt.name, status, challenge)
		}
	}
	if status, answer, h := raw(t, http.MethodPost, g.url(), initialize); status != http.StatusUnauthorized || h.Get("Www-Authenticate") != "Bearer" || answer != "authentication required" {
		t.Errorf("without a token: %d %s %v", status, answer, h)
	}

	// The provider exchanges its key: tokens of the new one are let in at once, those of the old one no more.
	provider.rotate(t, "second", false)
	testgateway.Eventually(t, "a token of the new key is let in", func() error {
		if status, challenge := open(provider.token(t, "mcpgw", nil)); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, challenge)
		}
		return nil
	})
	if status, challenge := open(good); status != http.StatusUnauthorized {
		t.Errorf("a token of the old key: %d %s", status, challenge)
	}

	// The keys can't be fetched any more: the last good ones stay.
	provider.setDown(true)
	before := provider.fetches()
	testgateway.Eventually(t, "the provider was asked in vain", func() error {
		if n := provider.fetches() - before; n < 2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if status, challenge := open(provider.token(t, "mcpgw", nil)); status != http.StatusOK {
		t.Errorf("while the provider is down: %d %s", status, challenge)
	}
	g.Writes(t, &g.Stderr, "the last good ones stay in use")
	_, metrics := get(t, "http://"+g.Metrics+"/metrics")
	for _, want := range []string{
		`mcpgw_jwks_fetches_total{issuer="` + provider.issuer + `",result="failure"}`,
		`mcpgw_authentications_total{method="jwt",result="accepted"}`, `mcpgw_authentications_total{method="jwt",result="missing"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("there is no metric %s", want)
		}
	}
}

// A provider that is down when the gateway starts: nobody gets in, it is said so, and it heals.
func TestProviderDownAtStart(t *testing.T) {
	t.Parallel()
	provider := startOIDC(t)
	provider.setDown(true)
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) + tokenPolicy(provider, "mcpgw", "")
	})
	token := "Bearer " + provider.token(t, "mcpgw", nil)
	if status, answer, h := raw(t, http.MethodPost, g.url(), initialize, "Authorization", token); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, answer)
	}
	g.Writes(t, &g.Stderr, "its tokens are answered 503")
	provider.setDown(false)
	testgateway.Eventually(t, "the token is let in", func() error {
		if status, answer, _ := raw(t, http.MethodPost, g.url(), initialize, "Authorization", token); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, answer)
		}
		return nil
	})
}

// An MCP client that knows the URL and nothing else: it finds the provider by the metadata of the resource, its user logs
// in there, and it asks for more when a rule wants more.
func TestOAuth(t *testing.T) {
	t.Parallel()
	provider := startOIDC(t)
	demo := serveDemo(t)
	policies := func(port int, scopes string) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) + fmt.Sprintf(`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: tokens}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: tools}]
  jwtAuthentication:
    providers:
    - issuer: %s
      jwks: {remote: {url: %q}}
    requiredScopes: [%s]
    mcp:
      resourceMetadata: {resource: 'http://127.0.0.1:%d/mcp', scopesSupported: ["mcp:read", "mcp:write"]}
  rbac:
    policy:
      matchExpressions:
      - jwt.sub == '%s'
`, provider.issuer, provider.jwks(), scopes, port, userOne)
	}
	g := serve(t, func(port int) string { return policies(port, `"mcp:read"`) })
	connectAs := func(user, revision string) (*mcp.ClientSession, error) {
		c := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		return c.Connect(t.Context(), &mcp.StreamableClientTransport{
			Endpoint: g.url(), MaxRetries: -1, OAuthHandler: provider.oauth(t, user),
			HTTPClient: &http.Client{Transport: tr},
		}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	}
	one := "test-user@127.0.0.1"
	for _, revision := range revisions {
		cs, err := connectAs(one, revision)
		if err != nil {
			t.Fatalf("%s: %v", revision, err)
		}
		result, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_echo", Arguments: map[string]any{"message": "x"}})
		if err != nil || resultText(result) != "x" {
			t.Errorf("%s: %v %v", revision, result, err)
		}
		if revision == revisions[0] {
			// The policy wants more: the client is told what, and its user grants it.
			g.Rewrite(t, policies(g.Port, `"mcp:read", "mcp:write"`))
			testgateway.Eventually(t, "the edit is live", func() error {
				if status, answer, _ := raw(t, http.MethodPost, g.url(), listTools, "Authorization", "Bearer "+provider.token(t, g.url(), nil)); status != http.StatusForbidden {
					return fmt.Errorf("%d %s", status, answer)
				}
				return nil
			})
			before := len(provider.resources())
			if result, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_echo", Arguments: map[string]any{"message": "y"}}); err != nil || resultText(result) != "y" {
				t.Errorf("%s after the step up: %v %v", revision, result, err)
			}
			if len(provider.resources()) == before {
				t.Error("nobody was asked for more")
			}
		}
		_ = cs.Close()
	}
	if resources := provider.resources(); len(resources) == 0 || slices.ContainsFunc(resources, func(r string) bool { return r != g.url() }) {
		t.Errorf("tokens were asked for %q, want %s", resources, g.url())
	}
	// Who has logged in and may not: the rules say so.
	if cs, err := connectAs("test-user2", revisions[0]); err == nil {
		t.Error("the other user is let in")
		_ = cs.Close()
	}
	// The access log names who called.
	g.Writes(t, &g.Stderr, `"principal":"jwt:`+provider.issuer+" "+userOne+`"`)
	g.Writes(t, &g.Stderr, `"principal":"jwt:`+provider.issuer+" "+userTwo+`"[^\n]*"error_type":"denied"`)
}

// subjectOf returns for whom a token is, which nobody has to verify here.
func subjectOf(h http.Header) string {
	parts := strings.Split(h.Get("Authorization"), ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct{ Sub string }
	_ = json.Unmarshal(payload, &claims)
	return claims.Sub
}

// startPersonal serves MCP to whoever a token is of: each gets tools of their own, more than fit a page. A call is
// answered with the subject of the token it came with; the tool ask asks its user first.
func startPersonal(t testing.TB, stateless bool) (port string) {
	t.Helper()
	var mu sync.Mutex
	servers := map[string]*mcp.Server{}
	serverOf := func(subject string) *mcp.Server {
		mu.Lock()
		defer mu.Unlock()
		if s := servers[subject]; s != nil {
			return s
		}
		s := mcp.NewServer(&mcp.Implementation{Name: "personal", Version: "1"}, nil)
		servers[subject] = s
		tell := func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: subjectOf(r.Extra.Header)}}}, nil, nil
		}
		for i := range 1001 {
			mcp.AddTool(s, &mcp.Tool{Name: fmt.Sprintf("of_%s_%04d", subject, i)}, tell)
		}
		mcp.AddTool(s, &mcp.Tool{Name: "whoami"}, tell)
		mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			if len(r.Params.InputResponses) > 0 {
				return tell(ctx, r, struct{}{})
			}
			question := &mcp.ElicitParams{Message: "sure?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}}
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"sure": question}, RequestState: "of " + subject}, nil, nil
		})
		return s
	}
	s := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(r *http.Request) *mcp.Server { return serverOf(subjectOf(r.Header)) }, &mcp.StreamableHTTPOptions{Stateless: stateless}))
	t.Cleanup(func() {
		s.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, server := range servers {
			for session := range server.Sessions() {
				_ = session.Close()
			}
		}
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// Two users on one target that gets their tokens: what is one's is never the other's, whatever they show.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	for _, stateless := range []bool{false, true} {
		t.Run(fmt.Sprintf("stateless=%v", stateless), func(t *testing.T) {
			t.Parallel()
			provider := startOIDC(t)
			target := startPersonal(t, stateless)
			g := serve(t, func(port int) string {
				return manifest(port, fmt.Sprintf("{name: my, timeout: 30s, auth: {kind: Passthrough}, static: {host: 127.0.0.1, port: %s, path: /}}", target)) + tokenPolicy(provider, "mcpgw", "")
			})
			tokens := map[string]string{}
			for _, user := range []string{userOne, userTwo} {
				tokens[user] = "Bearer " + provider.token(t, "mcpgw", map[string]any{"sub": user})
			}
			other := map[string]string{userOne: userTwo, userTwo: userOne}

			// Both at once, with every revision: lists and answers are their own.
			var all sync.WaitGroup
			for user, token := range tokens {
				for _, revision := range revisions {
					all.Go(func() {
						c := connect(t, g.url(), clientOptions{revision: revision, header: http.Header{"Authorization": {token}}})
						names := c.toolNames(t)
						if !slices.Contains(names, "my_of_"+user+"_1000") || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, other[user]) }) {
							t.Errorf("%s lists %d tools with %s", user, len(names), revision)
						}
						for range 5 {
							if got := c.call(t, "my_whoami", nil); got != user {
								t.Errorf("%s is %s", user, got)
							}
						}
						result, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "my_of_" + other[user] + "_0000", Arguments: map[string]any{}})
						if err == nil || !strings.Contains(err.Error(), "Unknown tool") {
							t.Errorf("%s calls a tool of %s: %v %v", user, other[user], result, err)
						}
					})
				}
			}
			all.Wait()

			// A session id, by whoever it is shown.
			status, answer, h := raw(t, http.MethodPost, g.url(), initialize, "Authorization", tokens[userOne])
			id := h.Get("Mcp-Session-Id")
			if status != http.StatusOK || id == "" {
				t.Fatalf("%d %s", status, answer)
			}
			list := func(user, cursor string) (int, string) {
				params := "{}"
				if cursor != "" {
					params = fmt.Sprintf(`{"cursor":%q}`, cursor)
				}
				status, answer, _ := raw(t, http.MethodPost, g.url(), `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":`+params+`}`, "Authorization", tokens[user], "Mcp-Session-Id", id)
				return status, answer
			}
			if status, answer := list(userOne, ""); status != http.StatusOK || !strings.Contains(answer, "my_of_"+userOne) {
				t.Errorf("its owner: %d %s", status, testgateway.Tail(answer))
			}
			if status, answer := list(userTwo, ""); status != http.StatusNotFound || strings.Contains(answer, "my_of_") {
				t.Errorf("a stolen session id: %d %s", status, testgateway.Tail(answer))
			}
			for _, method := range []string{http.MethodGet, http.MethodDelete} {
				if status, answer, _ := raw(t, method, g.url(), "", "Authorization", tokens[userTwo], "Mcp-Session-Id", id); status != http.StatusNotFound {
					t.Errorf("%s of a stolen session id: %d %s", method, status, testgateway.Tail(answer))
				}
			}
			if status, answer, _ := raw(t, http.MethodPost, g.url(), listTools, "Mcp-Session-Id", id); status != http.StatusUnauthorized || strings.Contains(answer, "my_of_") {
				t.Errorf("without a token: %d %s", status, testgateway.Tail(answer))
			}
			if status, _ := list(userOne, ""); status != http.StatusOK {
				t.Errorf("its owner, after the theft: %d", status)
			}

			// A cursor and a requestState of the modern era.
			modern := func(user, method, params string) (int, string) {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}}}}}}`, method, params)
				header := []string{"Authorization", tokens[user], "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
				if method == "tools/call" {
					header = append(header, "Mcp-Name", "my_ask")
				}
				status, answer, _ := raw(t, http.MethodPost, g.url(), body, header...)
				return status, answer
			}
			status, answer = modern(userOne, "tools/list", "")
			cursor := between(answer, `"nextCursor":"`, `"`)
			if cursor == "" {
				t.Fatalf("%d, and no cursor in %s", status, testgateway.Tail(answer))
			}
			if status, answer := modern(userOne, "tools/list", fmt.Sprintf(`"cursor":%q,`, cursor)); status != http.StatusOK || !strings.Contains(answer, "my_of_"+userOne) {
				t.Errorf("its owner: %d %s", status, testgateway.Tail(answer))
			}
			if status, answer := modern(userTwo, "tools/list", fmt.Sprintf(`"cursor":%q,`, cursor)); !strings.Contains(answer, `"code":-32602`) || strings.Contains(answer, "my_of_") {
				t.Errorf("a stolen cursor: %d %s", status, testgateway.Tail(answer))
			}
			status, answer = modern(userOne, "tools/call", `"name":"my_ask","arguments":{},`)
			state, key := between(answer, `"requestState":"`, `"`), between(answer, `"inputRequests":{"`, `"`)
			if state == "" || key == "" {
				t.Fatalf("%d, and no state in %s", status, testgateway.Tail(answer))
			}
			retry := fmt.Sprintf(`"name":"my_ask","arguments":{},"requestState":%q,"inputResponses":{%q:{"action":"accept","content":{}}},`, state, key)
			if status, answer := modern(userTwo, "tools/call", retry); !strings.Contains(answer, `"error"`) || strings.Contains(answer, userOne) {
				t.Errorf("a stolen state: %d %s", status, testgateway.Tail(answer))
			}
			if status, answer := modern(userOne, "tools/call", retry); status != http.StatusOK || !strings.Contains(answer, userOne) {
				t.Errorf("its owner: %d %s", status, testgateway.Tail(answer))
			}
		})
	}
}

// between returns what stands between two parts of a text, "" without.
func between(text, before, after string) string {
	_, rest, ok := strings.Cut(text, before)
	if !ok {
		return ""
	}
	out, _, _ := strings.Cut(rest, after)
	return out
}

// A request that one replica passes on to another is authenticated there, too: by the same credential, in
// whatever header, and for the same caller.
func TestReplicasAuthenticate(t *testing.T) {
	t.Parallel()
	s := startStateful(t)
	r := startReplicas(t, static("old", s.port, "/")+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: keys}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  apiKeyAuthentication: {secretRef: {name: keys}, location: {header: {name: x-api-key}}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {alice: key-of-alice, bob: key-of-bob}
`)
	status, answer, h := r.raw(t, 0, http.MethodPost, initialize, "X-Api-Key", "key-of-alice")
	id := h.Get("Mcp-Session-Id")
	if status != http.StatusOK || id == "" {
		t.Fatalf("%d %s", status, answer)
	}
	const setLevel = `{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}` // which the home serves
	for i := range r.gateways {
		for key, want := range map[string]int{"key-of-alice": http.StatusOK, "key-of-bob": http.StatusNotFound, "": http.StatusUnauthorized, "key-of-mallory": http.StatusUnauthorized} {
			header := []string{"Mcp-Session-Id", id}
			if key != "" {
				header = append(header, "X-Api-Key", key)
			}
			if status, answer, _ := r.raw(t, i, http.MethodPost, setLevel, header...); status != want || want == http.StatusOK && strings.Contains(answer, `"error"`) {
				t.Errorf("replica %d, %q: %d %s, want %d", i, key, status, answer, want)
			}
		}
	}
}
