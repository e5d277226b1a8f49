package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
)

// An issuer signs tokens with a key, and serves its set of keys.
type issuer struct {
	t   *testing.T
	url string // of its key set, which is also its name

	mu     sync.Mutex
	id     string
	key    *ecdsa.PrivateKey
	down   bool
	served int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t}
	i.rotate("k1")
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.url = s.URL + "/keys"
	return i
}

// rotate exchanges the key.
func (i *issuer) rotate(id string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.id, i.key = id, key
}

func (i *issuer) set() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: i.id, Use: "sig"}}})
	if err != nil {
		i.t.Error(err)
	}
	return data
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	i.served++
	down := i.down
	i.mu.Unlock()
	if down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(i.set())
}

func (i *issuer) setDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

func (i *issuer) requests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.served
}

// token is one of subject for the audience, valid for an hour, with further claims.
func (i *issuer) token(subject, audience string, more map[string]any) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", i.id))
	if err != nil {
		i.t.Fatal(err)
	}
	claims := map[string]any{"iss": i.url, "sub": subject, "aud": audience, "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range more {
		claims[k] = v
	}
	out, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return out
}

// authPolicy is a TrafficPolicy with the fields, written in YAML at the top of its spec.
func authPolicy(name, targets, fields string) string {
	return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s}\nspec:\n  %s\n  %s\n", name, targets, strings.ReplaceAll(strings.TrimSpace(fields), "\n", "\n  "))
}

func (i *issuer) jwt(more string) string {
	return fmt.Sprintf("jwtAuthentication: {providers: [{issuer: %q, audiences: [us], jwks: {remote: {url: %q}}}]%s}", i.url, i.url, more)
}

func secretOf(name, labels string, entries map[string]string) string {
	out := fmt.Sprintf("\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, labels: {%s}}\nstringData:\n", name, labels)
	for k, v := range entries {
		out += fmt.Sprintf("  %s: %q\n", k, v)
	}
	return out
}

const passwords = "alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n" // password

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// Fields at several levels: the more specific one counts, field by field, and one can be switched off.
func TestAuthenticationLevels(t *testing.T) {
	i := newIssuer(t)
	g := start(t, rbacSetting(t)+
		secretOf("keys", "", map[string]string{"one": "k1"})+secretOf("users", "", map[string]string{".htaccess": passwords})+
		authPolicy("gateway", gatewayRef("Gateway", "gw", ""), i.jwt(""))+
		authPolicy("listener", gatewayRef("Gateway", "gw", "two"), "apiKeyAuthentication: {secretRef: {name: keys}, location: {header: {name: x-api-key}}}")+
		authPolicy("route", gatewayRef("HTTPRoute", "r", ""), "basicAuthentication: {secretRef: {name: users}}\njwtAuthentication: {disable: {}}")+
		authPolicy("rule", gatewayRef("HTTPRoute", "r", "named"), "basicAuthentication: {disable: {}}")+
		rbac("only", gatewayRef("Gateway", "gw", ""), "Allow", "has(jwt.sub)", "has(apiKey.id)", "basicAuth.username == 'alice'", "request.path == '/named'"))
	bearer := "Bearer " + i.token("alice", "us", nil)
	for _, tt := range []struct {
		port, path string
		headers    []string
		want       int
	}{
		{"8080", "/free", nil, 401},
		{"8080", "/free", []string{"Authorization", bearer}, 200},
		{"8080", "/free", []string{"Authorization", "Bearer x"}, 401},
		{"8081", "/free", []string{"Authorization", bearer}, 401},
		{"8081", "/free", []string{"Authorization", bearer, "X-Api-Key", "k2"}, 401},
		{"8081", "/free", []string{"Authorization", bearer, "X-Api-Key", "k1"}, 200},
		{"8080", "/other", []string{"Authorization", bearer}, 401},
		{"8080", "/other", []string{"Authorization", basicOf("alice", "password")}, 200},
		{"8080", "/other", []string{"Authorization", basicOf("alice", "no")}, 401},
		{"8080", "/named", nil, 200},
		{"8081", "/named", nil, 401},
		{"8081", "/named", []string{"X-Api-Key", "k1"}, 200},
		{"8080", "/nowhere", nil, 404},
	} {
		if got := g.do("GET", g.url(tt.port, tt.path), nil, tt.headers...); got.Status != tt.want {
			t.Errorf("%s%s %v: %d %s, want %d", tt.port, tt.path, tt.headers, got.Status, got.Body, tt.want)
		}
	}
}

// What a plain backend gets: not the credential that was for the gateway, and what else the client sent.
// The access log has the principal.
func TestConsumedCredential(t *testing.T) {
	i := newIssuer(t)
	setting := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]") + secretOf("keys", "", map[string]string{"one": "k1"})
	gateway := gatewayRef("Gateway", "default", "")
	for _, tt := range []struct {
		name, policy    string
		headers         []string
		principal       string
		gone, kept      []string
		wantPassedOther string
	}{
		{
			name: "a token", policy: authPolicy("p", gateway, i.jwt("")), headers: []string{"Authorization", "Bearer " + i.token("alice", "us", nil), "X-Api-Key", "k1"},
			principal: "jwt:" + i.url + " alice", gone: []string{"Authorization"}, kept: []string{"X-Api-Key"},
		},
		{
			name: "a key", policy: authPolicy("p", gateway, "apiKeyAuthentication: {secretRef: {name: keys}, location: {header: {name: x-api-key}}}"),
			headers:   []string{"Authorization", "Bearer upstream", "X-Api-Key", "k1"},
			principal: "apikey:default/keys/one", gone: []string{"X-Api-Key"}, kept: []string{"Authorization"},
		},
		{
			name: "a token that nobody has looked at", policy: authPolicy("p", gateway, "apiKeyAuthentication: {mode: Optional, secretRef: {name: keys}, location: {header: {name: x-api-key}}}"),
			headers: []string{"Authorization", "Bearer upstream"}, kept: []string{"Authorization"},
		},
		{
			name: "none", headers: []string{"Authorization", "Bearer upstream", "X-Api-Key", "k1"}, kept: []string{"Authorization", "X-Api-Key"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, setting+tt.policy)
			got := g.get("/", tt.headers...)
			if got.Status != 200 {
				t.Fatalf("%d %s", got.Status, got.Body)
			}
			seen := decode(t, got).Header
			for _, name := range tt.gone {
				if seen.Get(name) != "" {
					t.Errorf("the upstream gets %s: %s", name, seen.Get(name))
				}
			}
			for _, name := range tt.kept {
				if seen.Get(name) == "" {
					t.Errorf("the upstream does not get %s", name)
				}
			}
			if r := g.ended(1)[0]; r.Principal != tt.principal {
				t.Errorf("the principal is %q, want %q", r.Principal, tt.principal)
			}
		})
	}
}

// A filter of the route may set the header anew.
func TestConsumedCredentialSetAgain(t *testing.T) {
	i := newIssuer(t)
	g := start(t, static("a", upstreamServer(t, "a"))+
		route("r", "backendRefs: ["+to("a")+"]\nfilters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Authorization, value: Bearer own}]}}]")+
		authPolicy("p", gatewayRef("Gateway", "default", ""), i.jwt("")))
	got := g.get("/", "Authorization", "Bearer "+i.token("alice", "us", nil))
	if got.Status != 200 || decode(t, got).Header.Get("Authorization") != "Bearer own" {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

// The target of kind Passthrough gets the client's token, which the gateway has verified, and no other target does.
func TestPassthroughToken(t *testing.T) {
	i := newIssuer(t)
	open, closed := newMCPServer(t, "/mcp", true, "echo"), newMCPServer(t, "/mcp", true, "sum")
	g := start(t, fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  type: MCP
  mcp:
    forwardHeaders: [x-api-key, x-tenant]
    targets:
    - {name: pass, static: {host: %q, port: %s}, auth: {kind: Passthrough}}
    - {name: keep, static: {host: %q, port: %s}}
`, open.host, open.port, closed.host, closed.port)+
		secretOf("keys", "", map[string]string{"one": "k1"})+
		authPolicy("p", gatewayRef("Gateway", "default", ""), i.jwt("")+"\napiKeyAuthentication: {secretRef: {name: keys}, location: {header: {name: x-api-key}}}"))
	bearer := "Bearer " + i.token("alice", "us", nil)
	cs := g.connect(t, "/mcp", "2026-07-28", http.Header{"Authorization": {bearer}, "X-Api-Key": {"k1"}, "X-Tenant": {"acme"}})
	if got := call(t, cs, "pass_echo", nil) + call(t, cs, "keep_sum", nil); got != "echosum" {
		t.Fatal(got)
	}
	for _, s := range []struct {
		server *mcpServer
		want   string
	}{{open, bearer}, {closed, ""}} {
		s.server.mu.Lock()
		h := s.server.header
		if h.Get("Authorization") != s.want || h.Get("X-Api-Key") != "" || h.Get("X-Tenant") != "acme" {
			t.Errorf("Authorization %q, X-Api-Key %q, X-Tenant %q", h.Get("Authorization"), h.Get("X-Api-Key"), h.Get("X-Tenant"))
		}
		s.server.mu.Unlock()
	}
}

// An MCP endpoint that is a protected resource: what a client without token is told, in a browser, too, and where
// it finds the metadata, and that it is nowhere else.
func TestProtectedResource(t *testing.T) {
	i := newIssuer(t)
	tools := newMCPServer(t, "/mcp", true, "echo")
	g := start(t, fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: tools}
spec:
  hostnames: [mcp.localhost]
  rules:
  - matches: [{path: {value: /mcp}}, {path: {type: Exact, value: /exact}}, {path: {value: /mcp}, method: POST}]
    backendRefs: [%s]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: open}
spec:
  rules:
  - matches: [{path: {value: /open}}]
    backendRefs: [%s]
`, to("b"), to("b"))+mcpStatic("b", "", map[string]*mcpServer{"one": tools})+
		authPolicy("p", gatewayRef("HTTPRoute", "tools", ""), fmt.Sprintf("jwtAuthentication: {providers: [{issuer: %q, jwks: {remote: {url: %q}}}], requiredScopes: [mcp:use], mcp: {resourceMetadata: {scopesSupported: [mcp:use, mcp:more], resourceName: Tools}}}", i.url, i.url)))
	const resource = "http://mcp.localhost:8080/mcp"
	const metadata = "/.well-known/oauth-protected-resource"
	body := strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
	got := g.do("POST", g.url("8080", "/mcp"), body, "Host", "mcp.localhost", "Origin", "https://evil.example.com", "X-Forwarded-Host", "evil.example.com")
	want := `Bearer scope="mcp:use", resource_metadata="http://mcp.localhost:8080` + metadata + `/mcp"`
	if got.Status != 401 || got.Header.Get("Www-Authenticate") != want || got.Body != "authentication required" {
		t.Errorf("%d %s %s", got.Status, got.Header.Get("Www-Authenticate"), got.Body)
	}
	// No page may read it that may not use the endpoint; see the origins of spec.mcp.
	if got.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a page of a foreign origin reads the challenge")
	}
	got = g.do("POST", g.url("8080", "/mcp"), nil, "Host", "mcp.localhost", "Origin", "http://localhost:6274")
	if got.Status != 401 || got.Header.Get("Access-Control-Allow-Origin") == "" || !strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "Www-Authenticate") {
		t.Errorf("%d %v", got.Status, got.Header)
	}
	got = g.do("OPTIONS", g.url("8080", "/mcp"), nil, "Host", "mcp.localhost", "Origin", "http://localhost:6274", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	if got.Status != 204 || !strings.EqualFold(got.Header.Get("Access-Control-Allow-Headers"), "authorization") {
		t.Errorf("preflight: %d %v", got.Status, got.Header)
	}
	if got := g.do("OPTIONS", g.url("8080", "/mcp"), nil, "Host", "mcp.localhost"); got.Status != 401 {
		t.Errorf("OPTIONS that is no preflight: %d", got.Status)
	}
	for path, wantResource := range map[string]string{"/mcp": resource, "/exact": "http://mcp.localhost:8080/exact"} {
		got := g.get(metadata+path, "Host", "mcp.localhost")
		var doc map[string]any
		if err := json.Unmarshal([]byte(got.Body), &doc); err != nil || got.Status != 200 {
			t.Fatalf("%s: %d %s", path, got.Status, got.Body)
		}
		if diff := cmp.Diff(map[string]any{
			"resource": wantResource, "authorization_servers": []any{i.url}, "scopes_supported": []any{"mcp:use", "mcp:more"},
			"bearer_methods_supported": []any{"header"}, "resource_name": "Tools",
		}, doc); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	for _, at := range [][2]string{{metadata, "mcp.localhost"}, {metadata + "/", "mcp.localhost"}, {metadata + "/mcp/x", "mcp.localhost"}, {metadata + "/open", "mcp.localhost"}, {metadata + "/mcp", "other.example.com"}} {
		if got := g.get(at[0], "Host", at[1]); got.Status != 404 {
			t.Errorf("%s of %s: %d", at[0], at[1], got.Status)
		}
	}
	// Who has a token for this resource is let in, and nobody else.
	for aud, want := range map[string]int{resource: 200, resource + "/": 200, "http://mcp.localhost:8080/exact": 401, "http://mcp.localhost/mcp": 401, "https://evil.example.com/mcp": 401} {
		token := i.token("alice", aud, map[string]any{"scope": "mcp:use"})
		got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`),
			"Host", "mcp.localhost", "Authorization", "Bearer "+token, "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
		if got.Status != want {
			t.Errorf("a token for %s: %d %s", aud, got.Status, got.Body)
		}
	}
	got = g.do("POST", g.url("8080", "/mcp"), nil, "Host", "mcp.localhost", "Authorization", "Bearer "+i.token("alice", resource, nil))
	if got.Status != 403 || !strings.HasPrefix(got.Header.Get("Www-Authenticate"), `Bearer error="insufficient_scope", scope="mcp:use", resource_metadata=`) {
		t.Errorf("%d %v", got.Status, got.Header)
	}
	got = g.do("POST", g.url("8080", "/mcp"), nil, "Host", "mcp.localhost", "Authorization", "Bearer x")
	if got.Status != 401 || !strings.HasPrefix(got.Header.Get("Www-Authenticate"), `Bearer error="invalid_token", error_description="the token is malformed", scope="mcp:use", resource_metadata=`) {
		t.Errorf("%d %v", got.Status, got.Header)
	}
}

// A resource whose URL is written, as of a gateway behind a proxy that changes it.
func TestWrittenResource(t *testing.T) {
	i := newIssuer(t)
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", "backendRefs: ["+to("a")+"]")+
		authPolicy("p", gatewayRef("Gateway", "default", ""), fmt.Sprintf("jwtAuthentication: {providers: [{issuer: %q, jwks: {remote: {url: %q}}}], mcp: {resourceMetadata: {resource: 'https://public.example.com/gw/mcp'}}}", i.url, i.url)))
	if got := g.get("/x"); got.Status != 401 || got.Header.Get("Www-Authenticate") != `Bearer resource_metadata="https://public.example.com/.well-known/oauth-protected-resource/gw/mcp"` {
		t.Errorf("%d %v", got.Status, got.Header)
	}
	if got := g.get("/.well-known/oauth-protected-resource/gw/mcp"); got.Status != 200 || !strings.Contains(got.Body, `"resource":"https://public.example.com/gw/mcp"`) {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	if got := g.get("/x", "Authorization", "Bearer "+i.token("alice", "https://public.example.com/gw/mcp", nil)); got.Status != 200 {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	if got := g.get("/x", "Authorization", "Bearer "+i.token("alice", "http://127.0.0.1/x", nil)); got.Status != 401 {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

// Where nothing fixes the host, what the client writes into Host decides nothing.
func TestUnfixedResource(t *testing.T) {
	i := newIssuer(t)
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", "matches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("a")+"]")+
		authPolicy("p", gatewayRef("Gateway", "default", ""), fmt.Sprintf("jwtAuthentication: {providers: [{issuer: %q, jwks: {remote: {url: %q}}}], mcp: {}}", i.url, i.url)))
	for _, aud := range []string{"http://evil.example.com/mcp", "http:///mcp", "", "/mcp"} {
		if got := g.get("/mcp", "Host", "evil.example.com", "Authorization", "Bearer "+i.token("alice", aud, nil)); got.Status != 401 {
			t.Errorf("a token for %q: %d", aud, got.Status)
		}
	}
}

// Keys that change, a server of keys that fails, and a reload, which loses nothing of what is known.
func TestRemoteKeys(t *testing.T) {
	i := newIssuer(t)
	i.setDown(true)
	text := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]")
	secured := text + authPolicy("p", gatewayRef("Gateway", "default", ""), i.jwt(""))
	g := start(t, secured)
	first := "Bearer " + i.token("alice", "us", nil)
	if got := g.get("/", "Authorization", first); got.Status != 503 || got.Header.Get("Retry-After") == "" || strings.Contains(got.Body, i.url) {
		t.Fatalf("before there are keys: %d %s %v", got.Status, got.Body, got.Header)
	}
	if got := g.get("/"); got.Status != 401 {
		t.Fatalf("without a token: %d", got.Status)
	}
	i.setDown(false)
	until(t, func() bool { return g.get("/", "Authorization", first).Status == 200 })
	i.setDown(true)
	before := i.requests()
	g.apply(secured + "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: other}\n")
	if got := g.get("/", "Authorization", first); got.Status != 200 {
		t.Errorf("after a reload: %d %s", got.Status, got.Body)
	}
	if n := i.requests() - before; n != 0 {
		t.Errorf("a reload makes for %d fetches", n)
	}
	g.apply(text)
	if got := g.get("/"); got.Status != 200 {
		t.Errorf("without the policy: %d", got.Status)
	}
}

// Keys behind a Service, behind a Static Backend, and over https with an authority of its own.
func TestKeyServers(t *testing.T) {
	i := newIssuer(t)
	host, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(i.url, "http://"), "/keys"))
	pemText, _ := certificate(t, "idp.example")
	pair, err := tls.X509KeyPair([]byte(pemText[0]), []byte(pemText[1]))
	if err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(i)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	setting := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]") +
		static("idp", fmt.Sprintf("{host: %q, port: %s}", host, port)) +
		fmt.Sprintf("\n---\napiVersion: v1\nkind: Service\nmetadata: {name: idp}\nspec: {externalName: %q, ports: [{port: %s}]}\n", host, port) +
		secretOf("authority", "", map[string]string{"ca.crt": pemText[0]}) +
		secretOf("wrong", "", map[string]string{"ca.crt": func() string { other, _ := certificate(t, "idp.example"); return other[0] }()})
	for _, tt := range []struct {
		name, remote string
		want         int
	}{
		{"Service", fmt.Sprintf("{backendRef: {name: idp, port: %s}, jwksPath: keys}", port), 200},
		{"Backend", "{backendRef: {group: gateway.kgateway.dev, kind: Backend, name: idp}, jwksPath: /keys}", 200},
		{"Backend with a URL", "{backendRef: {group: gateway.kgateway.dev, kind: Backend, name: idp}, url: 'http://idp.invalid/keys'}", 200},
		{"https", fmt.Sprintf("{url: %q, tls: {hostname: idp.example, secretRef: {name: authority}}}", secure.URL), 200},
		{"https of another name", fmt.Sprintf("{url: %q, tls: {secretRef: {name: authority}}}", secure.URL), 503},
		{"https of another authority", fmt.Sprintf("{url: %q, tls: {hostname: idp.example, secretRef: {name: wrong}}}", secure.URL), 503},
		{"https of the system's", fmt.Sprintf("{url: %q}", secure.URL), 503},
		{"a Secret that is missing", fmt.Sprintf("{url: %q, tls: {secretRef: {name: missing}}}", secure.URL), 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, setting+authPolicy("p", gatewayRef("Gateway", "default", ""), fmt.Sprintf("jwtAuthentication: {providers: [{issuer: %q, audiences: [us], jwks: {remote: %s}}]}", i.url, tt.remote)))
			if got := g.get("/", "Authorization", "Bearer "+i.token("alice", "us", nil)); got.Status != tt.want {
				t.Errorf("%d %s, want %d", got.Status, got.Body, tt.want)
			}
		})
	}
}

// What a missing Secret covers is closed, and heals.
func TestMissingCredentials(t *testing.T) {
	setting := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]")
	gateway := gatewayRef("Gateway", "default", "")
	for _, tt := range []struct {
		name, field, secret string
		header              []string
	}{
		{"keys", "apiKeyAuthentication: {mode: Optional, secretRef: {name: s}}", secretOf("s", "", map[string]string{"one": "k1"}), []string{"Authorization", "Bearer k1"}},
		{"users", "basicAuthentication: {secretRef: {name: s}}", secretOf("s", "", map[string]string{"auth": passwords}), []string{"Authorization", basicOf("alice", "password")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, setting+authPolicy("p", gateway, tt.field))
			for _, header := range [][]string{nil, tt.header} {
				if got := g.get("/", header...); got.Status != 503 {
					t.Errorf("without the Secret: %d %s", got.Status, got.Body)
				}
			}
			g.apply(setting + authPolicy("p", gateway, tt.field) + tt.secret)
			if got := g.get("/", tt.header...); got.Status != 200 {
				t.Errorf("with the Secret: %d %s", got.Status, got.Body)
			}
		})
	}
}

// Secrets that are selected come and go; what a key is known by decides.
func TestSelectedKeys(t *testing.T) {
	setting := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]") +
		authPolicy("p", gatewayRef("Gateway", "default", ""), "apiKeyAuthentication: {secretSelector: {matchLabels: {keys: 'yes'}}}\nrbac: {policy: {matchExpressions: [\"apiKey.team == 'a'\", \"apiKey.id == 'two/key'\"]}}")
	keys := func(name, label, value string) string {
		return secretOf(name, "keys: '"+label+"'", map[string]string{"key": value})
	}
	g := start(t, setting+keys("one", "yes", `{"key": "k1", "metadata": {"team": "a"}}`)+keys("two", "yes", "k2")+keys("three", "no", "k3")+keys("four", "yes", `{"key": "k4", "metadata": {"team": "b"}}`))
	for key, want := range map[string]int{"k1": 200, "k2": 200, "k3": 401, "k4": 403} {
		if got := g.get("/", "Authorization", "Bearer "+key); got.Status != want {
			t.Errorf("%s: %d, want %d", key, got.Status, want)
		}
	}
	g.apply(setting + keys("three", "yes", `{"key": "k3", "metadata": {"team": "a"}}`))
	for key, want := range map[string]int{"k1": 401, "k3": 200} {
		if got := g.get("/", "Authorization", "Bearer "+key); got.Status != want {
			t.Errorf("after an edit %s: %d, want %d", key, got.Status, want)
		}
	}
}

// A Gateway that everybody can reach is not open when each of its routes asks who calls.
func TestAuthenticatedIsNotOpen(t *testing.T) {
	i := newIssuer(t)
	setting := rbacSetting(t)
	for _, tt := range []struct {
		fields string
		open   bool
	}{
		{i.jwt(""), false},
		{i.jwt(", mode: Optional"), true},
		{i.jwt(", mode: Permissive"), true},
		{"jwtAuthentication: {disable: {}}", true},
	} {
		_, report := Compile(load(t, setting+authPolicy("p", gatewayRef("Gateway", "gw", ""), tt.fields)), nil)
		open := slices.ContainsFunc(report.Problems, func(p config.Problem) bool { return p.Code == config.CodeOpenToAll })
		if open != tt.open {
			t.Errorf("%s: open %v", tt.fields, open)
		}
	}
}

// A Backend that a policy which authenticates covers answers 500, where nobody has refused the policy.
func TestAuthenticationOnBackend(t *testing.T) {
	res := load(t, mcpStatic("b", "", map[string]*mcpServer{"one": newMCPServer(t, "/mcp", true, "echo")})+
		secretOf("keys", "", map[string]string{"one": "k1"})+authPolicy("p", gatewayRef("HTTPRoute", "none", ""), "apiKeyAuthentication: {secretRef: {name: keys}}"))
	res.TrafficPolicies[0].Spec.TargetRefs[0].Kind = "Backend"
	res.TrafficPolicies[0].Spec.TargetRefs[0].Name = "b"
	g := start(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n")
	g.Apply(res)
	got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`),
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list")
	if got.Status < 500 {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

// Streams end with the token that opened them, and not before; calls do not.
func TestStreamsEndWithTheToken(t *testing.T) {
	i := newIssuer(t)
	tools := newMCPServer(t, "/mcp", true, "echo")
	left := make(chan struct{})
	events := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": hello\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	})
	g := start(t, mcpStatic("b", "", map[string]*mcpServer{"one": tools})+static("a", events)+
		route("m", "matches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("b")+"]")+route("e", "matches: [{path: {value: /events}}]\nbackendRefs: ["+to("a")+"]")+
		authPolicy("p", gatewayRef("Gateway", "default", ""), i.jwt("")))
	const mcpAccept = "application/json, text/event-stream"
	ok := "Bearer " + i.token("alice", "us", nil)
	opened := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`),
		"Authorization", ok, "Content-Type", "application/json", "Accept", mcpAccept)
	id := opened.Header.Get("Mcp-Session-Id")
	if opened.Status != 200 || id == "" {
		t.Fatalf("%d %s", opened.Status, opened.Body)
	}
	// What clocks may differ by is counted: this token ends in a few seconds.
	end := time.Now().Add(4 * time.Second)
	short := "Bearer " + i.token("alice", "us", map[string]any{"exp": float64(end.Add(-30 * time.Second).Unix())})
	var all sync.WaitGroup
	for _, s := range []struct {
		name, method, path, body string
		header                   []string
	}{
		{"the GET stream of a session", "GET", "/mcp", "", []string{"Mcp-Session-Id", id, "Accept", "text/event-stream"}},
		{"a listen", "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
			[]string{"Accept", mcpAccept, "Content-Type", "application/json", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen"}},
		{"events of a plain backend", "GET", "/events", "", []string{"Accept", "text/event-stream"}},
	} {
		all.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), s.method, g.url("8080", s.path), strings.NewReader(s.body))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Authorization", short)
			for n := 0; n < len(s.header); n += 2 {
				r.Header.Set(s.header[n], s.header[n+1])
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != 200 {
				t.Errorf("%s: %s", s.name, resp.Status)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body) // to its end, whichever way it comes
			if early := time.Until(end.Truncate(time.Second)); early > 0 {
				t.Errorf("%s ends %s before its token", s.name, early)
			}
		})
	}
	all.Wait()
	<-left
	if got := g.get("/events", "Authorization", short, "Accept", "text/event-stream"); got.Status != 401 {
		t.Errorf("after the end: %d", got.Status)
	}
}
