package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits on the keys of an issuer.
const (
	maxKeys    = 100
	minRSABits = 2048
	maxRSABits = 8192
	// maxTried is how many keys are tried on a token that names none: each try costs.
	maxTried = 16
)

// Keys are the keys that an issuer signs with. They are safe for concurrent use.
type Keys interface {
	// Current returns the keys that are known, nil before there are any.
	Current() *KeySet
	// Refresh returns newer keys than those of old, if there are any to be had in a time that
	// a request can wait; else what Current returns.
	Refresh(ctx context.Context, old *KeySet) *KeySet
}

// A KeySet is a set of public keys (RFC 7517). It is immutable, and the [Keys] of an issuer whose
// keys never change.
type KeySet struct {
	keys []key
}

var _ Keys = (*KeySet)(nil)

// A key is a public key, with the algorithms that it verifies.
type key struct {
	id         string
	algorithms []jose.SignatureAlgorithm
	public     any
}

// ParseKeys reads a JSON Web Key Set, or a single key. Keys that can't verify signatures are
// left out; ignored says why, for each. It is an error when none is left, and when
// one is private or symmetric: whoever can read the set could then make tokens.
func ParseKeys(data []byte) (set *KeySet, ignored []error, err error) {
	var doc struct {
		Keys []jsontext.Value `json:"keys"`
		Type string           `json:"kty"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, nil, fmt.Errorf("not a JSON Web Key Set: %w", syntax(err))
	}
	if doc.Type != "" {
		doc.Keys = []jsontext.Value{data}
	}
	if len(doc.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	set = new(KeySet)
	for i, raw := range doc.Keys {
		k, err := parseKey(raw)
		switch {
		case errors.Is(err, errSecretKey):
			return nil, nil, fmt.Errorf("key %d: %w", i, err)
		case err != nil:
			ignored = append(ignored, fmt.Errorf("key %d: %w", i, err))
		default:
			set.keys = append(set.keys, k)
		}
	}
	if len(set.keys) == 0 {
		if len(ignored) > 0 {
			return nil, ignored, fmt.Errorf("no key can be used: %w", ignored[0])
		}
		return nil, nil, errors.New("there are no keys")
	}
	return set, ignored, nil
}

// syntax returns err without the text around it, which may be long.
func syntax(err error) error {
	var at *jsontext.SyntacticError
	if errors.As(err, &at) {
		return fmt.Errorf("at byte %d: %w", at.ByteOffset, at.Err)
	}
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		return fmt.Errorf("%s is not of the right type", semantic.JSONPointer)
	}
	return err
}

var errSecretKey = errors.New("it is private or symmetric: publish public keys only")

func parseKey(raw jsontext.Value) (key, error) {
	var use struct {
		Operations []string `json:"key_ops"`
		Type       string   `json:"kty"`
		Private    any      `json:"d"`
	}
	if err := json.Unmarshal(raw, &use); err != nil {
		return key{}, syntax(err)
	}
	if use.Private != nil || use.Type == "oct" {
		return key{}, errSecretKey
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(raw); err != nil {
		return key{}, errors.New(strings.TrimPrefix(err.Error(), "go-jose/go-jose: "))
	}
	switch {
	case !k.IsPublic():
		return key{}, errSecretKey
	case !k.Valid():
		return key{}, errors.New("it is not valid")
	case k.Use != "" && k.Use != "sig":
		return key{}, fmt.Errorf("its use is %q, not sig", k.Use)
	case len(use.Operations) > 0 && !slices.Contains(use.Operations, "verify"):
		return key{}, errors.New("its key_ops do not name verify")
	}
	algorithms, err := algorithmsOf(k.Key)
	if err != nil {
		return key{}, err
	}
	if k.Algorithm != "" {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(k.Algorithm)) {
			return key{}, fmt.Errorf("its algorithm %q is not one of %v", k.Algorithm, algorithms)
		}
		algorithms = []jose.SignatureAlgorithm{jose.SignatureAlgorithm(k.Algorithm)}
	}
	return key{id: k.KeyID, algorithms: algorithms, public: k.Key}, nil
}

// algorithmsOf returns the algorithms that a public key verifies. The type of the key decides, never
// the token: so a public key is no HMAC secret.
func algorithmsOf(public any) ([]jose.SignatureAlgorithm, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits: %d to %d are used", bits, minRSABits, maxRSABits)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case 384:
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case 521:
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, fmt.Errorf("keys of type %T are not used", public)
}

// algorithms returns all algorithms that a token may be signed with.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// Current implements [Keys].
func (s *KeySet) Current() *KeySet { return s }

// Refresh implements [Keys].
func (s *KeySet) Refresh(context.Context, *KeySet) *KeySet { return s }

// candidates returns the keys that a token may be signed with: those of its key id, or all when
// it has none, as far as they verify its algorithm. A set with one key without id needs no ids.
func (s *KeySet) candidates(id string, alg jose.SignatureAlgorithm) []key {
	var out []key
	for _, k := range s.keys {
		if (id == "" || k.id == id || k.id == "" && len(s.keys) == 1) && slices.Contains(k.algorithms, alg) {
			out = append(out, k)
		}
	}
	return out[:min(len(out), maxTried)]
}
