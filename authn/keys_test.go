package authn

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestParseKeys(t *testing.T) {
	one := func(name string, change func(*jose.JSONWebKey)) string {
		k := jose.JSONWebKey{Key: testKeys()[name].Public(), KeyID: name}
		if change != nil {
			change(&k)
		}
		data, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	set := func(keys ...string) string { return `{"keys": [` + strings.Join(keys, ",") + `]}` }
	good := one("ed", nil)
	private, err := json.Marshal(jose.JSONWebKey{Key: testKeys()["p256"]})
	if err != nil {
		t.Fatal(err)
	}
	with := func(key, member string) string { return strings.TrimSuffix(key, "}") + "," + member + "}" }
	small := `{"kty":"RSA","n":"` + strings.Repeat("_", 171) + `","e":"AQAB"}` // 1024 bits
	large := `{"kty":"RSA","n":"` + strings.Repeat("_", 2731) + `","e":"AQAB"}`
	for _, tt := range []struct {
		name, data string
		keys       int
		ignored    string
		err        string
	}{
		{name: "all kinds", data: set(one("rsa", nil), one("p256", nil), one("p384", nil), one("p521", nil), good), keys: 5},
		{name: "a single key", data: one("rsa", nil), keys: 1},
		{name: "with algorithm and use", data: set(one("rsa", func(k *jose.JSONWebKey) { k.Algorithm, k.Use = "PS256", "sig" })), keys: 1},
		{name: "for verification", data: set(with(good, `"key_ops":["verify"]`)), keys: 1},
		{name: "members that are not known", data: `{"x": 1, "keys": [` + with(good, `"z":2`) + `]}`, keys: 1},
		{name: "for encryption", data: set(good, one("rsa", func(k *jose.JSONWebKey) { k.Use = "enc" })), keys: 1, ignored: `key 1: its use is "enc", not sig`},
		{name: "for signing", data: set(good, with(one("rsa", nil), `"key_ops":["sign"]`)), keys: 1, ignored: `key 1: its key_ops do not name verify`},
		{name: "another algorithm", data: set(good, one("p256", func(k *jose.JSONWebKey) { k.Algorithm = "ES384" })), keys: 1, ignored: `key 1: its algorithm "ES384" is not one of [ES256]`},
		{name: "HMAC over a public key", data: set(good, one("rsa", func(k *jose.JSONWebKey) { k.Algorithm = "HS256" })), keys: 1, ignored: `its algorithm "HS256" is not one of`},
		{name: "a small key", data: set(good, small), keys: 1, ignored: `key 1: an RSA key of 1024 bits: 2048 to 8192 are used`},
		{name: "a large key", data: set(good, large), keys: 1, ignored: `key 1: unsupported key type`},
		{name: "a kind that is not known", data: set(good, `{"kty":"XYZ"}`), keys: 1, ignored: `key 1: `},
		{name: "a broken key", data: set(good, `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`), keys: 1, ignored: `key 1: `},
		{name: "a key that is a number", data: set(good, `1`), keys: 1, ignored: `key 1: `},
		{name: "private", data: set(good, string(private)), err: "key 1: it is private or symmetric"},
		{name: "symmetric", data: set(good, `{"kty":"oct","k":"aHVudGVyMg"}`), err: "key 1: it is private or symmetric"},
		{name: "none", data: set(), err: "there are no keys"},
		{name: "an empty object", data: `{}`, err: "there are no keys"},
		{name: "none that can be used", data: set(small), ignored: "key 0", err: "no key can be used: key 0: an RSA key of 1024 bits"},
		{name: "no JSON", data: `keys`, err: "not a JSON Web Key Set: at byte 0"},
		{name: "a list", data: `[]`, err: "not a JSON Web Key Set"},
		{name: "keys twice", data: `{"keys": [], "keys": []}`, err: "not a JSON Web Key Set: at byte"},
		{name: "many", data: set(strings.Split(strings.Repeat(good+"\n", maxKeys), "\n")[:maxKeys]...), keys: maxKeys},
		{name: "too many", data: set(strings.Split(strings.Repeat(good+"\n", maxKeys+1), "\n")[:maxKeys+1]...), err: "more than 100 keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ignored, err := ParseKeys([]byte(tt.data))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("%v, want %s", err, tt.err)
				}
				if strings.Contains(err.Error(), "aHVudGVyMg") {
					t.Errorf("%v shows the key", err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if len(got.keys) != tt.keys {
				t.Errorf("%d keys, want %d", len(got.keys), tt.keys)
			}
			if text := fmt.Sprint(ignored); tt.ignored == "" && len(ignored) > 0 || !strings.Contains(text, tt.ignored) {
				t.Errorf("ignored %s, want %s", text, tt.ignored)
			}
		})
	}
}

// A token that names no key is tried with some keys, not with all that there can be.
func TestCandidates(t *testing.T) {
	var set KeySet
	for i := range maxTried + 1 {
		set.keys = append(set.keys, key{id: fmt.Sprint(i), algorithms: []jose.SignatureAlgorithm{jose.ES256}})
	}
	if n := len(set.candidates("", jose.ES256)); n != maxTried {
		t.Errorf("%d keys are tried", n)
	}
	if n := len(set.candidates(fmt.Sprint(maxTried), jose.ES256)); n != 1 {
		t.Errorf("%d keys of one id", n)
	}
	if n := len(set.candidates("0", jose.RS256)); n != 0 {
		t.Errorf("%d keys of another algorithm", n)
	}
	set.keys = []key{{algorithms: []jose.SignatureAlgorithm{jose.ES256}}}
	if n := len(set.candidates("any", jose.ES256)); n != 1 {
		t.Errorf("a single key without id is not tried")
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(jwks(f, map[string]string{"a": "rsa", "b": "p256", "c": "ed"})))
	f.Add([]byte(`{"kty":"RSA","n":"AQ","e":"AQAB"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, _, err := ParseKeys(data)
		if err != nil {
			return
		}
		for _, k := range set.keys {
			if len(k.algorithms) == 0 {
				t.Errorf("a key of type %T verifies nothing", k.public)
			}
		}
	})
}
