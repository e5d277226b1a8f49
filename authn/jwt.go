package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

const (
	// leeway is how far the clocks of issuer and gateway may differ.
	leeway = 30 * time.Second
	// maxSubject bounds the length of the claim sub, in bytes (OpenID Connect Core, section 2).
	maxSubject = 255
)

// A Provider is an issuer whose tokens are accepted.
type Provider struct {
	Issuer string
	// Audiences are those that a token must be for, one of them. Without any, a token has to be
	// for the resource of the [JWT], and where that has no metadata, for nobody in particular.
	Audiences []string
	Keys      Keys
}

// A JWT is the check of JSON Web Tokens (RFC 7519) that are signed (RFC 7515) with the key
// of a provider. It is immutable and safe for concurrent use.
//
// A token has to carry exp, and sub, which with the issuer is the principal. Claims are read strictly;
// what a token says of its own key (jwk, jku, x5u) is not looked at, and one with critical headers
// (crit) is refused.
type JWT struct {
	Mode      Mode
	Location  Location
	Providers []Provider
	Scopes    []string  // that a token must have
	Metadata  *Metadata // of the resource, nil when none is published
	Memory    *Memory   // may be nil
	Metrics   *telemetry.Metrics
	Now       func() time.Time // default [time.Now]
}

var _ policy.Check = (*JWT)(nil)

// Check implements [policy.Check]. Its faults are Unauthenticated, Denied where a scope is missing,
// and Unverifiable while the keys of the issuer are not known.
func (j *JWT) Check(ctx context.Context, req *policy.Request) error {
	token, found := j.Location.find(req.HTTP)
	if !found {
		j.count(missing)
		if j.Mode != Strict {
			return nil
		}
		return unauthenticated(j.challenge(req, "", ""), messageMissing, errNoToken)
	}
	v, err := j.verify(ctx, req, token)
	switch {
	case err == nil:
	case j.Mode == Permissive:
		j.count(invalid)
		return nil
	case errors.Is(err, errNoKeys):
		j.count(undecided)
		return unverifiable(err)
	default:
		j.count(invalid)
		return unauthenticated(j.challenge(req, "invalid_token", descriptionOf(err)), messageInvalid, err)
	}
	if lacking := v.lacking(j.Scopes); lacking != "" && j.Mode != Permissive {
		j.count(insufficient)
		f := fault.Wrap(fault.Denied, fmt.Errorf("the token lacks the scope %q", lacking), "insufficient scope")
		f.Header = map[string][]string{"Www-Authenticate": {j.challenge(req, "insufficient_scope", "")}}
		return f
	}
	j.count(accepted)
	req.JWT, req.Expires = v.claims, v.expires.Add(leeway)
	establish(req, j.Location, "jwt:"+v.issuer+" "+word(v.subject))
	return nil
}

func (j *JWT) count(r result) { j.Metrics.Authentication("jwt", string(r)) }

func (j *JWT) now() time.Time {
	if j.Now != nil {
		return j.Now()
	}
	return time.Now()
}

// A verified is a token whose signature holds, with what has to be asked of it each time.
type verified struct {
	keys      *KeySet // that verify it: it counts as long as they are the issuer's
	claims    *policy.Claims
	issuer    string
	subject   string
	audiences []string
	scopes    []string
	notBefore time.Time // zero without
	expires   time.Time
}

// lacking returns the first of the scopes that the token does not have, or "".
func (v *verified) lacking(scopes []string) string {
	for _, s := range scopes {
		if !slices.Contains(v.scopes, s) {
			return s
		}
	}
	return ""
}

// A tokenError says why a token is refused: its text is told to the client, its cause is not.
type tokenError struct {
	text  string
	cause error
}

func (e *tokenError) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

func (e *tokenError) Unwrap() error { return e.cause }

// Why tokens are refused.
var (
	errNoToken  = errors.New("there is no token")
	errNoKeys   = errors.New("the keys of the issuer were never fetched")
	errTooLong  = &tokenError{text: fmt.Sprintf("the token is longer than %d bytes", maxCredential)}
	errExpired  = &tokenError{text: "the token has expired"}
	errEarly    = &tokenError{text: "the token is not valid yet"}
	errAudience = &tokenError{text: "the token is not for this resource"}
	errKey      = &tokenError{text: "the token is signed with a key that the issuer does not have"}
	errCritical = &tokenError{text: "the token has critical headers"}
)

func malformed(format string, args ...any) error {
	return &tokenError{text: "the token is malformed", cause: fmt.Errorf(format, args...)}
}

// descriptionOf returns what the client is told about a refusal.
func descriptionOf(err error) string {
	var t *tokenError
	if errors.As(err, &t) {
		return t.text
	}
	return ""
}

// verify returns what a token says, if all of it holds.
func (j *JWT) verify(ctx context.Context, req *policy.Request, token secret.Value) (*verified, error) {
	v, err := j.signed(ctx, token.Reveal())
	if err != nil {
		return nil, err
	}
	switch now := j.now(); {
	case now.After(v.expires.Add(leeway)):
		return nil, errExpired
	case now.Add(leeway).Before(v.notBefore):
		return nil, errEarly
	}
	for i := range j.Providers {
		if p := &j.Providers[i]; p.Issuer == v.issuer && p.Keys.Current() == v.keys && j.accepts(p, v, req) {
			return v, nil
		}
	}
	return nil, errAudience
}

// accepts reports whether a token is for an audience of the provider.
func (j *JWT) accepts(p *Provider, v *verified, req *policy.Request) bool {
	if len(p.Audiences) > 0 {
		return slices.ContainsFunc(p.Audiences, func(a string) bool { return slices.Contains(v.audiences, a) })
	}
	if j.Metadata == nil {
		return true
	}
	own := j.Metadata.audience(req)
	return own != "" && slices.ContainsFunc(v.audiences, func(a string) bool { return strings.TrimSuffix(a, "/") == own })
}

// signed returns what a token says whose signature holds.
func (j *JWT) signed(ctx context.Context, token string) (*verified, error) {
	if len(token) > maxCredential {
		return nil, errTooLong
	}
	var place [32]byte
	if j.Memory != nil {
		place = j.Memory.hash(token)
		if v, ok := j.Memory.tokens.Get(place); ok && j.current(v) {
			return v, nil
		}
	}
	jws, err := jose.ParseSignedCompact(token, algorithms())
	if err != nil {
		return nil, malformed("%s", strings.TrimPrefix(err.Error(), "go-jose/go-jose: "))
	}
	header := jws.Signatures[0].Protected
	if _, ok := header.ExtraHeaders["crit"]; ok {
		return nil, errCritical
	}
	v, err := read(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	if v.keys, err = j.check(ctx, v.issuer, jws, header.KeyID, jose.SignatureAlgorithm(header.Algorithm)); err != nil {
		return nil, err
	}
	if j.Memory != nil && len(token) <= maxRemembered {
		j.Memory.tokens.Add(place, v)
	}
	return v, nil
}

// current reports whether a token that was verified would be again: its key is still one of its
// issuer's.
func (j *JWT) current(v *verified) bool {
	return slices.ContainsFunc(j.Providers, func(p Provider) bool { return p.Issuer == v.issuer && p.Keys.Current() == v.keys })
}

// check verifies the signature with the keys of the issuer, and returns those.
func (j *JWT) check(ctx context.Context, issuer string, jws *jose.JSONWebSignature, id string, alg jose.SignatureAlgorithm) (*KeySet, error) {
	known, fetched := false, false
	var failure error
	for i := range j.Providers {
		p := &j.Providers[i]
		if p.Issuer != issuer {
			continue
		}
		known = true
		keys := p.Keys.Current()
		if keys == nil || len(keys.candidates(id, alg)) == 0 {
			keys = p.Keys.Refresh(ctx, keys)
		}
		if keys == nil {
			continue
		}
		fetched = true
		for _, k := range keys.candidates(id, alg) {
			if _, err := jws.Verify(k.public); err == nil {
				return keys, nil
			}
			failure = &tokenError{text: "the signature of the token does not hold", cause: fmt.Errorf("key %q, algorithm %s", id, alg)}
		}
	}
	switch {
	case !known:
		return nil, &tokenError{text: "the issuer of the token is not accepted", cause: fmt.Errorf("%q", issuer)}
	case !fetched:
		return nil, fmt.Errorf("%w: %s", errNoKeys, issuer)
	case failure != nil:
		return nil, failure
	}
	return nil, &tokenError{text: errKey.text, cause: fmt.Errorf("key %q, algorithm %s", id, alg)}
}

// read returns what the claims of a token say, which nobody has verified yet.
func read(payload []byte) (*verified, error) {
	claims, err := policy.NewClaims(payload)
	if err != nil {
		return nil, malformed("%w", err)
	}
	v := &verified{claims: claims}
	var ok bool
	if v.issuer, ok = claims.Text("iss"); !ok {
		return nil, malformed("the claim iss is not a string")
	}
	if v.subject, ok = claims.Text("sub"); !ok || v.subject == "" || len(v.subject) > maxSubject {
		return nil, malformed("the claim sub is not a string of 1 to %d bytes", maxSubject)
	}
	if v.expires, ok = instant(claims, "exp"); !ok {
		return nil, malformed("the claim exp is not a time")
	}
	if claims.Has("nbf") {
		if v.notBefore, ok = instant(claims, "nbf"); !ok {
			return nil, malformed("the claim nbf is not a time")
		}
	}
	if claims.Has("aud") {
		if v.audiences, ok = claims.Texts("aud"); !ok {
			return nil, malformed("the claim aud is neither a string nor a list of strings")
		}
	}
	v.scopes = scopesOf(claims)
	return v, nil
}

func instant(c *policy.Claims, name string) (time.Time, bool) {
	n, ok := c.Number(name)
	if !ok || n < 0 || n > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

// scopesOf returns the scopes of a token: words in scope (RFC 9068), or in scp, or a list there.
func scopesOf(c *policy.Claims) []string {
	var out []string
	for _, name := range []string{"scope", "scp"} {
		lines, _ := c.Texts(name)
		for _, l := range lines {
			out = append(out, strings.Fields(l)...)
		}
	}
	return out
}

// challenge returns the value of WWW-Authenticate (RFC 6750, section 3; RFC 9728, section 5.1).
func (j *JWT) challenge(req *policy.Request, code, description string) string {
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+`="`+value+`"`)
		}
	}
	add("error", code)
	add("error_description", description)
	add("scope", strings.Join(j.Scopes, " "))
	if j.Metadata != nil {
		add("resource_metadata", j.Metadata.url(req))
	}
	if len(params) == 0 {
		return "Bearer"
	}
	return "Bearer " + strings.Join(params, ", ")
}
