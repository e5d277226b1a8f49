package authn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An APIKey is a key, and what is known of it.
type APIKey struct {
	ID     string // SECRET/ENTRY
	key    secret.Value
	claims *policy.Claims
	known  string // hash of the metadata
}

// Fingerprint tells apart what rules see of keys.
func (k APIKey) Fingerprint() string { return k.known }

// ParseAPIKey reads an entry of a Secret: the key itself, or {"key": …, "metadata": {…}}. hidden is set when
// the metadata has a member id, which rules can't see: theirs is the id of the entry.
// No error holds a part of the value.
func ParseAPIKey(id string, value []byte) (k APIKey, hidden bool, err error) {
	value = bytes.TrimSpace(value)
	entry := struct {
		Key      string                    `json:"key"`
		Metadata map[string]jsontext.Value `json:"metadata"`
	}{Key: string(value)}
	if len(value) > 0 && value[0] == '{' {
		entry.Key = ""
		if err := json.Unmarshal(value, &entry, json.RejectUnknownMembers(true)); err != nil {
			return APIKey{}, false, errors.New(`it begins like JSON, but is not {"key": "…", "metadata": {…}}`)
		}
	}
	k = APIKey{ID: id, key: secret.New(strings.TrimSpace(entry.Key))}
	switch n := len(k.key.Reveal()); {
	case n == 0:
		return APIKey{}, false, errors.New("the key is empty")
	case n > maxCredential:
		return APIKey{}, false, fmt.Errorf("the key is longer than %d bytes", maxCredential)
	case strings.ContainsFunc(k.key.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }):
		return APIKey{}, false, errors.New("the key holds control characters, which no header can")
	}
	if entry.Metadata == nil {
		entry.Metadata = map[string]jsontext.Value{}
	}
	_, hidden = entry.Metadata["id"]
	if entry.Metadata["id"], err = jsontext.AppendQuote(nil, id); err != nil {
		return APIKey{}, false, errors.New("its name is not text")
	}
	object, err := json.Marshal(entry.Metadata, json.Deterministic(true))
	if err != nil {
		return APIKey{}, false, errors.New("the metadata is not JSON")
	}
	digest := sha256.Sum256(object)
	k.known = hex.EncodeToString(digest[:16])
	if k.claims, err = policy.NewClaims(object); err != nil {
		return APIKey{}, false, fmt.Errorf("the metadata: %w", err)
	}
	return k, hidden, nil
}

// APIKeys is the check of API keys. It is immutable and safe for concurrent use.
type APIKeys struct {
	mode     Mode
	location Location
	metrics  *telemetry.Metrics
	scope    string // in which the ids of keys are unique: a namespace
	keys     map[[sha256.Size]byte]APIKey
}

var _ policy.Check = (*APIKeys)(nil)

// NewAPIKeys returns a check of keys whose ids are unique within namespace. Keys are found by
// their hash: how long that takes tells nothing of them. A key that another one before it has, too,
// is left out, and its id returned.
func NewAPIKeys(mode Mode, location Location, namespace string, keys []APIKey, m *telemetry.Metrics) (check *APIKeys, twice []string) {
	c := &APIKeys{mode: mode, location: location, scope: namespace, metrics: m, keys: make(map[[sha256.Size]byte]APIKey, len(keys))}
	for _, k := range keys {
		h := sha256.Sum256([]byte(k.key.Reveal()))
		if _, ok := c.keys[h]; ok {
			twice = append(twice, k.ID)
			continue
		}
		c.keys[h] = k
	}
	return c, twice
}

// Check implements [policy.Check]. Its faults are Unauthenticated.
func (c *APIKeys) Check(_ context.Context, req *policy.Request) error {
	key, found := c.location.find(req.HTTP)
	if !found {
		c.metrics.Authentication("api_key", string(missing))
		if c.mode != Strict {
			return nil
		}
		return unauthenticated(c.challenge(), messageMissing, errNoAPIKey)
	}
	k, ok := c.keys[sha256.Sum256([]byte(key.Reveal()))]
	if !ok {
		c.metrics.Authentication("api_key", string(invalid))
		if c.mode == Permissive {
			return nil
		}
		return unauthenticated(c.challenge(), messageInvalid, errAPIKey)
	}
	c.metrics.Authentication("api_key", string(accepted))
	req.APIKey = k.claims
	establish(req, c.location, "apikey:"+word(c.scope+"/"+k.ID))
	return nil
}

var (
	errNoAPIKey = errors.New("there is no API key")
	errAPIKey   = errors.New("the API key is not known")
)

// challenge names the scheme of the Authorization header, or for another header one of our own: an
// answer 401 has to have a challenge (RFC 9110, section 15.5.2).
func (c *APIKeys) challenge() string {
	name, prefix := c.location.header()
	switch {
	case name != "Authorization":
		return `ApiKey header="` + strings.ToLower(name) + `"`
	case prefix != "":
		return prefix
	}
	return "ApiKey"
}
