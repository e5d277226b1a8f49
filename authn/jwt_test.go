package authn

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// newJWT is a check of tokens of issuer with the keys of the test.
func newJWT(t testing.TB) *JWT {
	keys := keySet(t, map[string]string{"k1": "rsa", "k2": "p256", "k3": "p384", "k4": "p521", "k5": "ed"})
	return &JWT{
		Providers: []Provider{{Issuer: issuer, Audiences: []string{audience, "second"}, Keys: keys}},
		Memory:    NewMemory(), Now: func() time.Time { return now },
	}
}

// What tokens are accepted, and what is told of those that are not. None of the latter says more to
// the client than its description.
func TestTokens(t *testing.T) {
	j := newJWT(t)
	good := func(changes map[string]any) string { return sign(t, "rsa", "k1", jose.RS256, claims(changes), nil) }
	public, err := x509.MarshalPKIXPublicKey(testKeys()["rsa"].Public())
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	hmac := func(secret []byte) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
		if err != nil {
			t.Fatal(err)
		}
		return finish(t, s, claims(nil))
	}
	payload, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	embedded := func(header string, value any) string {
		return sign(t, "other", "k1", jose.RS256, claims(nil), map[jose.HeaderKey]any{jose.HeaderKey(header): value})
	}
	parts := strings.Split(good(nil), ".")
	other := strings.Split(good(map[string]any{"sub": "mallory"}), ".")
	signature := []byte(parts[2])
	signature[10] ^= 1 // another letter, mostly
	if signature[10] == parts[2][10] || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", rune(signature[10])) {
		signature[10] = 'A' + (parts[2][10]-'A'+1)%26
	}
	const (
		malformed = "the token is malformed"
		badKey    = "the token is signed with a key that the issuer does not have"
		badSum    = "the signature of the token does not hold"
		noAud     = "the token is not for this resource"
	)
	for _, tt := range []struct {
		name, token, refused string
	}{
		{"RS256", good(nil), ""},
		{"RS384", sign(t, "rsa", "k1", jose.RS384, claims(nil), nil), ""},
		{"PS512", sign(t, "rsa", "k1", jose.PS512, claims(nil), nil), ""},
		{"ES256", sign(t, "p256", "k2", jose.ES256, claims(nil), nil), ""},
		{"ES384", sign(t, "p384", "k3", jose.ES384, claims(nil), nil), ""},
		{"ES512", sign(t, "p521", "k4", jose.ES512, claims(nil), nil), ""},
		{"EdDSA", sign(t, "ed", "k5", jose.EdDSA, claims(nil), nil), ""},
		{"without a key id", sign(t, "p256", "", jose.ES256, claims(nil), nil), ""},
		{"one of the audiences", good(map[string]any{"aud": []string{"x", "second"}}), ""},
		{"expired within the leeway", good(map[string]any{"exp": now.Add(-leeway).Unix()}), ""},
		{"not yet, within the leeway", good(map[string]any{"nbf": now.Add(leeway).Unix()}), ""},
		{"times with fractions", good(map[string]any{"exp": float64(now.Unix()) + 10.5}), ""},
		{"a subject at the limit", good(map[string]any{"sub": strings.Repeat("s", maxSubject)}), ""},

		{"expired", good(map[string]any{"exp": now.Add(-leeway - time.Second).Unix()}), "the token has expired"},
		{"not yet", good(map[string]any{"nbf": now.Add(leeway + time.Second).Unix()}), "the token is not valid yet"},
		{"without exp", good(map[string]any{"exp": nil}), malformed},
		{"exp as text", good(map[string]any{"exp": "2100"}), malformed},
		{"a huge exp", good(map[string]any{"exp": 1e300}), malformed},
		{"a negative exp", good(map[string]any{"exp": -1}), malformed},
		{"nbf as text", good(map[string]any{"nbf": "0"}), malformed},
		{"nbf null", strings.Join([]string{sign(t, "rsa", "k1", jose.RS256, strings.Replace(string(payload), `"sub"`, `"nbf":null,"sub"`, 1), nil)}, ""), malformed},
		{"another audience", good(map[string]any{"aud": "https://evil.example.com/mcp"}), noAud},
		{"without audience", good(map[string]any{"aud": nil}), noAud},
		{"an audience that begins like ours", good(map[string]any{"aud": audience + "2"}), noAud},
		{"an audience that is no text", good(map[string]any{"aud": []any{audience, 1}}), malformed},
		{"another issuer", good(map[string]any{"iss": "https://evil.example.com"}), "the issuer of the token is not accepted"},
		{"almost the issuer", good(map[string]any{"iss": issuer + "/"}), "the issuer of the token is not accepted"},
		{"without issuer", good(map[string]any{"iss": nil}), malformed},
		{"a list of issuers", good(map[string]any{"iss": []string{issuer}}), malformed},
		{"without subject", good(map[string]any{"sub": nil}), malformed},
		{"an empty subject", good(map[string]any{"sub": ""}), malformed},
		{"a subject over the limit", good(map[string]any{"sub": strings.Repeat("s", maxSubject+1)}), malformed},
		{"two subjects", sign(t, "rsa", "k1", jose.RS256, strings.Replace(string(payload), `"sub"`, `"sub":"root","sub"`, 1), nil), malformed},
		{"a payload that is a list", sign(t, "rsa", "k1", jose.RS256, `[]`, nil), malformed},
		{"a payload that is no JSON", sign(t, "rsa", "k1", jose.RS256, `{"iss":`, nil), malformed},
		{"data after the payload", sign(t, "rsa", "k1", jose.RS256, string(payload)+"{}", nil), malformed},

		{"unsigned", compact(`{"alg":"none"}`, string(payload), ""), malformed},
		{"unsigned, in capitals", compact(`{"alg":"NoNe"}`, string(payload), ""), malformed},
		{"without algorithm", compact(`{}`, string(payload), "x"), malformed},
		{"two algorithms", compact(`{"alg":"none","alg":"RS256"}`, string(payload), "x"), malformed},
		{"HMAC with the public key", hmac(pemKey), malformed},
		{"HMAC with the modulus", hmac(testKeys()["rsa"].Public().(*rsa.PublicKey).N.Bytes()), malformed},
		{"the algorithm of another key", sign(t, "p256", "k1", jose.ES256, claims(nil), nil), badKey},
		{"another key of this id", sign(t, "other", "k1", jose.RS256, claims(nil), nil), badSum},
		{"a key that is not known", sign(t, "other", "k9", jose.RS256, claims(nil), nil), badKey},
		{"another key without an id", sign(t, "other", "", jose.RS256, claims(nil), nil), badSum},
		{"a key of its own", embedded("jwk", jose.JSONWebKey{Key: testKeys()["other"].Public()}), badSum},
		{"a key elsewhere", embedded("jku", "https://evil.example.com/jwks"), badSum},
		{"a certificate elsewhere", embedded("x5u", "https://evil.example.com/cert"), badSum},
		{"critical headers", sign(t, "rsa", "k1", jose.RS256, claims(nil), map[jose.HeaderKey]any{"crit": []string{"exp"}, "exp": 1}), "the token has critical headers"},
		{"a payload that is not encoded", sign(t, "rsa", "k1", jose.RS256, claims(nil), map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}), "the token has critical headers"},
		{"another payload", parts[0] + "." + other[1] + "." + parts[2], badSum},
		{"another signature", parts[0] + "." + parts[1] + "." + string(signature), badSum},
		{"no signature", parts[0] + "." + parts[1] + ".", badSum},
		{"two parts", parts[0] + "." + parts[1], malformed},
		{"four parts", strings.Join(parts, ".") + ".x", malformed},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, malformed},
		{"empty", "", malformed},
		{"over the limit", good(map[string]any{"x": strings.Repeat("x", maxCredential)}), "the token is longer than 16384 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, again := range []string{"first", "again"} { // what is remembered is decided alike
				req := bearer(tt.token)
				code, challenge, cause := checked(t, j, req)
				if tt.refused == "" {
					if code != "ok" || !strings.HasPrefix(req.Principal, "jwt:"+issuer+" ") {
						t.Errorf("%s: %s %v, principal %q", again, code, cause, req.Principal)
					}
					continue
				}
				want := `Bearer error="invalid_token", error_description="` + tt.refused + `"`
				if code != "unauthenticated" || challenge != want {
					t.Errorf("%s: %s, challenge %s (%v), want %s", again, code, challenge, cause, want)
				}
				if req.Principal != "anonymous" || req.JWT != nil || req.Consumed != nil {
					t.Errorf("a token that is refused leaves %q", req.Principal)
				}
			}
		})
	}
}

// The sizes at which tokens are taken and refused.
func TestTokenLimit(t *testing.T) {
	j := newJWT(t)
	token := sign(t, "ed", "k5", jose.EdDSA, claims(nil), nil)
	room := maxCredential - len(token)
	for size := room * 3 / 4; ; size++ { // base64 grows by thirds
		long := sign(t, "ed", "k5", jose.EdDSA, claims(map[string]any{"x": strings.Repeat("x", size)}), nil)
		code, challenge, _ := checked(t, j, bearer(long))
		if len(long) <= maxCredential && code != "ok" {
			t.Fatalf("%d bytes: %s", len(long), code)
		}
		if len(long) > maxCredential {
			if !strings.Contains(challenge, "longer than") {
				t.Fatalf("%d bytes: %s %s", len(long), code, challenge)
			}
			return
		}
	}
}

// What rules see, and what is kept from the upstream.
func TestEstablished(t *testing.T) {
	j := newJWT(t)
	for subject, want := range map[string]string{
		"alice":      "jwt:" + issuer + " alice",
		"a b":        "jwt:" + issuer + ` "a b"`,
		`a "b`:       "jwt:" + issuer + ` "a \"b"`,
		"ü":          "jwt:" + issuer + ` "\u00fc"`,
		"a\nlevel=x": "jwt:" + issuer + ` "a\nlevel=x"`,
	} {
		req := bearer(sign(t, "rsa", "k1", jose.RS256, claims(map[string]any{"sub": subject, "groups": []string{"admins"}}), nil))
		if code, _, cause := checked(t, j, req); code != "ok" {
			t.Fatal(code, cause)
		}
		if req.Principal != want {
			t.Errorf("%q is %s, want %s", subject, req.Principal, want)
		}
		if got, _ := req.JWT.Texts("groups"); !cmp.Equal(got, []string{"admins"}) {
			t.Errorf("groups are %v", got)
		}
		if !cmp.Equal(req.Consumed, []string{"Authorization"}) {
			t.Errorf("consumed %v", req.Consumed)
		}
		if want := now.Add(time.Hour + leeway); !req.Expires.Equal(want) {
			t.Errorf("expires %s, want %s", req.Expires, want)
		}
	}
}

// What each mode makes of requests without a token, and with one that is not valid.
func TestJWTModes(t *testing.T) {
	good := sign(t, "rsa", "k1", jose.RS256, claims(nil), nil)
	for _, tt := range []struct {
		mode         Mode
		none, bad    string
		nonePlain    string // a credential of another scheme
		noneHeader   string
		badChallenge string
	}{
		{mode: Strict, none: "unauthenticated", bad: "unauthenticated", nonePlain: "unauthenticated"},
		{mode: Optional, none: "ok", bad: "unauthenticated", nonePlain: "ok"},
		{mode: Permissive, none: "ok", bad: "ok", nonePlain: "ok"},
	} {
		j := newJWT(t)
		j.Mode = tt.mode
		if code, challenge, _ := checked(t, j, request()); code != tt.none || code != "ok" && challenge != "Bearer" {
			t.Errorf("mode %d without token: %s %s", tt.mode, code, challenge)
		}
		if code, _, _ := checked(t, j, request("Authorization", "Basic eDp5")); code != tt.nonePlain {
			t.Errorf("mode %d with a password: %s", tt.mode, code)
		}
		req := bearer(good + "x")
		if code, _, _ := checked(t, j, req); code != tt.bad || req.JWT != nil || req.Principal != "anonymous" {
			t.Errorf("mode %d with a bad token: %s, principal %s", tt.mode, code, req.Principal)
		}
		for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
			if code, _, _ := checked(t, j, request("Authorization", scheme+" "+good)); code != "ok" {
				t.Errorf("mode %d with %s: %s", tt.mode, scheme, code)
			}
		}
		if code, _, _ := checked(t, j, request("Authorization", "Bearer"+good)); code != tt.none {
			t.Errorf("mode %d without space: %s", tt.mode, code)
		}
	}
}

// A token in a header of its own; a second one makes neither valid.
func TestJWTLocation(t *testing.T) {
	j := newJWT(t)
	j.Location = Location{Header: "X-Token"}
	good := sign(t, "rsa", "k1", jose.RS256, claims(nil), nil)
	req := request("X-Token", good, "Authorization", "Bearer for-the-backend")
	if code, _, cause := checked(t, j, req); code != "ok" || !cmp.Equal(req.Consumed, []string{"X-Token"}) {
		t.Error(code, cause, req.Consumed)
	}
	if code, _, _ := checked(t, j, bearer(good)); code != "unauthenticated" {
		t.Error(code)
	}
	if code, _, _ := checked(t, j, request("X-Token", good, "X-Token", good)); code != "unauthenticated" {
		t.Error(code)
	}
}

// A provider without audiences takes the URL of the resource, where there is one, and never what the
// client writes into Host.
func TestResourceAudience(t *testing.T) {
	keys := keySet(t, map[string]string{"k5": "ed"})
	token := func(aud any) string {
		return sign(t, "ed", "k5", jose.EdDSA, claims(map[string]any{"aud": aud}), nil)
	}
	for _, tt := range []struct {
		name     string
		metadata *Metadata
		endpoint policy.Endpoint
		aud      any
		want     string
	}{
		{"no resource", nil, policy.Endpoint{}, "anything", "ok"},
		{"no resource, no audience", nil, policy.Endpoint{}, nil, "ok"},
		{"the endpoint's", &Metadata{}, policy.Endpoint{URL: audience, Path: "/mcp"}, audience, "ok"},
		{"with a slash", &Metadata{}, policy.Endpoint{URL: audience, Path: "/mcp"}, audience + "/", "ok"},
		{"another's", &Metadata{}, policy.Endpoint{URL: audience, Path: "/mcp"}, "https://evil.example.com/mcp", "unauthenticated"},
		{"none", &Metadata{}, policy.Endpoint{URL: audience, Path: "/mcp"}, nil, "unauthenticated"},
		{"the written one", &Metadata{Resource: "https://public.example.com/x"}, policy.Endpoint{URL: audience, Path: "/mcp"}, "https://public.example.com/x", "ok"},
		{"the endpoint's beside a written one", &Metadata{Resource: "https://public.example.com/x"}, policy.Endpoint{URL: audience, Path: "/mcp"}, audience, "unauthenticated"},
		{"of the Host header", &Metadata{}, policy.Endpoint{Path: "/mcp"}, audience, "unauthenticated"},
		{"empty", &Metadata{}, policy.Endpoint{}, "", "unauthenticated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &JWT{Providers: []Provider{{Issuer: issuer, Keys: keys}}, Metadata: tt.metadata, Memory: NewMemory(), Now: func() time.Time { return now }}
			req := bearer(token(tt.aud))
			req.Endpoint = tt.endpoint
			if code, _, cause := checked(t, j, req); code != tt.want {
				t.Errorf("%s (%v), want %s", code, cause, tt.want)
			}
		})
	}
}

// A token is remembered for all that has the same keys, and still asked for its audience there.
func TestMemoryAsksAgain(t *testing.T) {
	keys, memory := keySet(t, map[string]string{"k5": "ed"}), NewMemory()
	clock := now
	check := func(keys *KeySet, audience string) *JWT {
		return &JWT{Providers: []Provider{{Issuer: issuer, Audiences: []string{audience}, Keys: keys}}, Memory: memory, Now: func() time.Time { return clock }}
	}
	token := sign(t, "ed", "k5", jose.EdDSA, claims(nil), nil)
	if code, _, _ := checked(t, check(keys, audience), bearer(token)); code != "ok" {
		t.Fatal(code)
	}
	if memory.tokens.Len() != 1 {
		t.Fatal("nothing is remembered")
	}
	if code, challenge, _ := checked(t, check(keys, "another"), bearer(token)); code != "unauthenticated" {
		t.Error(code, challenge)
	}
	if code, _, _ := checked(t, check(keySet(t, map[string]string{"k5": "rsa"}), audience), bearer(token)); code != "unauthenticated" {
		t.Error("a token is valid whose key is gone")
	}
	clock = now.Add(2 * time.Hour)
	if code, _, _ := checked(t, check(keys, audience), bearer(token)); code != "unauthenticated" {
		t.Error("a token is valid that has expired meanwhile")
	}
	for i := range memoryTokens + 10 {
		memory.tokens.Add(memory.hash(fmt.Sprint(i)), &verified{})
	}
	if n := memory.tokens.Len(); n != memoryTokens {
		t.Errorf("%d tokens are remembered", n)
	}
}

// Several issuers, and several providers of one issuer: any of them will do.
func TestProviders(t *testing.T) {
	other := "https://other.example.com"
	j := &JWT{Now: func() time.Time { return now }, Providers: []Provider{
		{Issuer: issuer, Audiences: []string{"a"}, Keys: keySet(t, map[string]string{"k": "p256"})},
		{Issuer: issuer, Audiences: []string{"b"}, Keys: keySet(t, map[string]string{"k": "ed"})},
		{Issuer: other, Audiences: []string{"a"}, Keys: keySet(t, map[string]string{"k": "ed"})},
	}}
	token := func(key string, alg jose.SignatureAlgorithm, iss, aud string) string {
		return sign(t, key, "k", alg, claims(map[string]any{"iss": iss, "aud": aud}), nil)
	}
	for _, tt := range []struct{ token, want string }{
		{token("p256", jose.ES256, issuer, "a"), "ok"},
		{token("ed", jose.EdDSA, issuer, "b"), "ok"},
		{token("ed", jose.EdDSA, other, "a"), "ok"},
		{token("ed", jose.EdDSA, issuer, "a"), "unauthenticated"}, // the keys of one provider, the audience of another
		{token("p256", jose.ES256, other, "a"), "unauthenticated"},
	} {
		if code, _, cause := checked(t, j, bearer(tt.token)); code != tt.want {
			t.Errorf("%s (%v), want %s", code, cause, tt.want)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		claims map[string]any
		want   string
	}{
		{"both", map[string]any{"scope": "files:read other files:write"}, "ok"},
		{"a list", map[string]any{"scp": []string{"files:read", "files:write"}}, "ok"},
		{"scp as words", map[string]any{"scp": "files:read files:write"}, "ok"},
		{"one", map[string]any{"scope": "files:read"}, "denied"},
		{"none", nil, "denied"},
		{"one that begins like it", map[string]any{"scope": "files:read files:write2"}, "denied"},
		{"no text", map[string]any{"scope": 1}, "denied"},
	} {
		j := newJWT(t)
		j.Scopes = []string{"files:read", "files:write"}
		j.Metadata = &Metadata{}
		req := bearer(sign(t, "rsa", "k1", jose.RS256, claims(tt.claims), nil))
		code, challenge, _ := checked(t, j, req)
		if code != tt.want {
			t.Errorf("%s: %s", tt.name, code)
		}
		const want = `Bearer error="insufficient_scope", scope="files:read files:write", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"`
		if code == "denied" && challenge != want {
			t.Errorf("%s: %s", tt.name, challenge)
		}
	}
}

// What a client is told, where a resource is published.
func TestChallenge(t *testing.T) {
	for _, tt := range []struct {
		name     string
		metadata *Metadata
		endpoint policy.Endpoint
		want     string
	}{
		{"none", nil, policy.Endpoint{}, "Bearer"},
		{"the endpoint", &Metadata{}, policy.Endpoint{URL: "https://fixed.example.com:8443/a/b", Path: "/a/b"}, `Bearer resource_metadata="https://fixed.example.com:8443/.well-known/oauth-protected-resource/a/b"`},
		{"no path", &Metadata{}, policy.Endpoint{URL: "https://fixed.example.com"}, `Bearer resource_metadata="https://fixed.example.com/.well-known/oauth-protected-resource"`},
		{"no host", &Metadata{}, policy.Endpoint{Path: "/a"}, `Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/a"`},
		{"written", &Metadata{Resource: "https://public.example.com/gw"}, policy.Endpoint{URL: "https://fixed.example.com/a", Path: "/a"}, `Bearer resource_metadata="https://public.example.com/.well-known/oauth-protected-resource/gw"`},
	} {
		j := newJWT(t)
		j.Metadata = tt.metadata
		req := request()
		req.Endpoint = tt.endpoint
		req.HTTP.Header.Set("X-Forwarded-Host", "evil.example.com")
		req.HTTP.Header.Set("X-Forwarded-Proto", "http")
		if code, challenge, _ := checked(t, j, req); code != "unauthenticated" || challenge != tt.want {
			t.Errorf("%s: %s %s, want %s", tt.name, code, challenge, tt.want)
		}
	}
}

// No credential, and nothing of one, is in what is logged, told or counted.
func TestSecretsOfTokens(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsOptions{WithoutRuntime: true})
	j := newJWT(t)
	j.Metrics = m
	for _, token := range []string{
		sign(t, "rsa", "k1", jose.RS256, claims(map[string]any{"exp": 1}), nil),
		sign(t, "other", "k1", jose.RS256, claims(nil), nil),
		"hunter2", "hunter2.hunter2.hunter2",
	} {
		err := j.Check(context.Background(), bearer(token))
		for _, part := range strings.Split(token, ".") {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%v shows the token", err)
			}
		}
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "mcpgw_authentications_total" && (len(f.GetMetric()) != 1 || f.GetMetric()[0].GetCounter().GetValue() != 4) {
			t.Errorf("counted %v", f)
		}
	}
}

func BenchmarkJWT(b *testing.B) {
	j := newJWT(b)
	req := bearer(sign(b, "rsa", "k1", jose.RS256, claims(map[string]any{"groups": []string{"a", "b"}}), nil))
	for name, memory := range map[string]*Memory{"first": nil, "again": NewMemory()} {
		j.Memory = memory
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req.Principal, req.Consumed = "anonymous", nil
				if err := j.Check(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever is sent as a token: no panic, and nobody gets in.
func FuzzToken(f *testing.F) {
	j := newJWT(f)
	good := sign(f, "ed", "k5", jose.EdDSA, claims(nil), nil)
	f.Add(good[:len(good)-2])
	f.Add(compact(`{"alg":"none"}`, `{"iss":"`+issuer+`","sub":"a","exp":9999999999,"aud":"second"}`, ""))
	f.Add(compact(`{"alg":"ES256","kid":"k2"}`, `{"iss":"`+issuer+`","sub":"a","exp":9999999999,"aud":"second"}`, strings.Repeat("\x00", 64)))
	f.Add(compact(`{"alg":"RS256","kid":"k1","crit":["x"]}`, `{}`, "x"))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		req := bearer("")
		req.HTTP.Header["Authorization"] = []string{"Bearer " + token}
		if err := j.Check(context.Background(), req); err == nil {
			t.Errorf("%q gets in as %s", token, req.Principal)
		}
	})
}
