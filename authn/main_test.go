package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
)

// Keys of tests, made once: RSA keys take their time.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	out := map[string]crypto.Signer{}
	for _, name := range []string{"rsa", "other"} {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[name] = k
	}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		out[name] = k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	out["ed"] = ed
	return out
})

// now is when the tests are.
var now = time.Unix(1_800_000_000, 0)

const (
	issuer   = "https://idp.example.com"
	audience = "https://mcp.example.com/mcp"
)

// claims are those of a good token, with changes; a nil value takes a claim away.
func claims(changes map[string]any) map[string]any {
	out := map[string]any{"iss": issuer, "sub": "alice", "aud": audience, "exp": now.Add(time.Hour).Unix()}
	for k, v := range changes {
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

// sign returns a token with the payload, signed with a key of testKeys.
func sign(t testing.TB, key, id string, alg jose.SignatureAlgorithm, payload any, headers map[jose.HeaderKey]any) string {
	t.Helper()
	var signer any = testKeys()[key]
	opts := &jose.SignerOptions{ExtraHeaders: headers}
	if id != "" {
		opts.WithHeader("kid", id)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: signer}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return finish(t, s, payload)
}

func finish(t testing.TB, s jose.Signer, payload any) string {
	t.Helper()
	text, ok := payload.(string)
	if !ok {
		data, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		text = string(data)
	}
	jws, err := s.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// compact returns a token whose parts nobody signs.
func compact(header, payload, signature string) string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload)) + "." + enc.EncodeToString([]byte(signature))
}

// jwks returns a key set of public keys, by id.
func jwks(t testing.TB, keys map[string]string) string {
	t.Helper()
	set := jose.JSONWebKeySet{}
	for id, name := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: testKeys()[name].Public(), KeyID: id, Use: "sig"})
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func keySet(t testing.TB, keys map[string]string) *KeySet {
	t.Helper()
	set, ignored, err := ParseKeys([]byte(jwks(t, keys)))
	if err != nil || len(ignored) > 0 {
		t.Fatal(err, ignored)
	}
	return set
}

// request is one with the headers, given as names and values.
func request(headers ...string) *policy.Request {
	r := httptest.NewRequest(http.MethodPost, "https://mcp.example.com/mcp", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return &policy.Request{
		HTTP: r, Host: "mcp.example.com", Scheme: "https", Client: policy.Client{Principal: "anonymous"},
		Endpoint: policy.Endpoint{URL: audience, Path: "/mcp"},
	}
}

func bearer(token string) *policy.Request { return request("Authorization", "Bearer "+token) }

// checked runs a check and returns the code and the challenge of its fault, or "ok".
func checked(t testing.TB, c policy.Check, req *policy.Request) (code, challenge string, cause error) {
	t.Helper()
	err := c.Check(context.Background(), req)
	if err == nil {
		return "ok", "", nil
	}
	var f *fault.Fault
	if !errors.As(err, &f) {
		t.Fatalf("%v is no fault", err)
	}
	if values := f.Header["Www-Authenticate"]; len(values) == 1 {
		challenge = values[0]
	}
	return f.Code.String(), challenge, f.Err
}
