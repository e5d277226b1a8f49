package v1alpha1

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// authRules reports what is wrong with how clients are authenticated.
func (s *TrafficPolicySpec) authRules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.JWTAuthentication != nil {
		errs = append(errs, s.JWTAuthentication.rules(p.Child("jwtAuthentication"))...)
	}
	if s.APIKeyAuthentication != nil {
		errs = append(errs, s.APIKeyAuthentication.rules(p.Child("apiKeyAuthentication"))...)
	}
	if s.BasicAuthentication != nil {
		errs = append(errs, s.BasicAuthentication.rules(p.Child("basicAuthentication"))...)
	}
	for _, c := range s.authentications() {
		for i, r := range s.TargetRefs {
			if c.set && r.Kind == KindBackend {
				errs = append(errs, field.Forbidden(p.Child(c.name), "clients are authenticated before a backend is chosen, but targetRefs["+strconv.Itoa(i)+"] names a Backend: cover its HTTPRoute or the Gateway, with a policy of its own"))
				break
			}
		}
	}
	return append(errs, s.oneCredential(p)...)
}

// authentications lists the ways to authenticate.
func (s *TrafficPolicySpec) authentications() []choice {
	return []choice{
		{"jwtAuthentication", s.JWTAuthentication != nil},
		{"apiKeyAuthentication", s.APIKeyAuthentication != nil},
		{"basicAuthentication", s.BasicAuthentication != nil},
	}
}

// A demand is a credential that every request must carry.
//
// +kubebuilder:object:generate=false
type demand struct {
	field    string
	mode     AuthenticationMode
	off      bool
	location *CredentialLocation
}

// header returns the header that must hold the credential, or "".
func (d demand) header() string {
	switch {
	case d.off || d.mode != "" && d.mode != AuthenticationStrict:
		return ""
	case d.location != nil:
		return strings.ToLower(d.location.Header.Name)
	}
	return "authorization"
}

// oneCredential reports two ways to authenticate that are both demanded, and read one
// header: no request could meet both.
func (s *TrafficPolicySpec) oneCredential(p *field.Path) field.ErrorList {
	var demands []demand
	if j := s.JWTAuthentication; j != nil {
		demands = append(demands, demand{"jwtAuthentication", j.Mode, j.Disable != nil, j.Location})
	}
	if k := s.APIKeyAuthentication; k != nil {
		demands = append(demands, demand{"apiKeyAuthentication", k.Mode, k.Disable != nil, k.Location})
	}
	if b := s.BasicAuthentication; b != nil {
		demands = append(demands, demand{"basicAuthentication", b.Mode, b.Disable != nil, nil})
	}
	taken := map[string]string{}
	for _, d := range demands {
		h := d.header()
		if h == "" {
			continue
		}
		if other, ok := taken[h]; ok {
			return field.ErrorList{field.Forbidden(p.Child(d.field), other+" demands another credential in the same header, "+h+
				": give one of them location, or set mode: Optional on both and ask for either in rbac: has(jwt.sub) || has(apiKey.id) || has(basicAuth.username)")}
		}
		taken[h] = d.field
	}
	return nil
}

func (j *JWTAuthentication) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"providers", len(j.Providers) > 0}, choice{"disable", j.Disable != nil})
	if j.MCP != nil && j.Mode != "" && j.Mode != AuthenticationStrict {
		errs = append(errs, field.Forbidden(p.Child("mcp"), "an MCP client looks for an authorization server when it is answered 401: mode must be Strict"))
	}
	for i := range j.Providers {
		errs = append(errs, j.Providers[i].rules(p.Child("providers").Index(i))...)
	}
	for i, s := range j.RequiredScopes {
		errs = append(errs, scope(p.Child("requiredScopes").Index(i), s)...)
	}
	errs = append(errs, j.Location.rules(p.Child("location"))...)
	if j.MCP != nil && j.MCP.ResourceMetadata != nil {
		errs = append(errs, j.MCP.ResourceMetadata.rules(p.Child("mcp", "resourceMetadata"))...)
	}
	return errs
}

func (v *JWTProvider) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !visible(v.Issuer) {
		errs = append(errs, field.Invalid(p.Child("issuer"), v.Issuer, "must be the issuer's URL or name, without spaces"))
	}
	at := p.Child("jwks")
	errs = append(errs, exactlyOne(at, choice{"remote", v.JWKS.Remote != nil}, choice{"inline", v.JWKS.Inline != ""})...)
	if v.JWKS.Inline != "" && !json.Valid([]byte(v.JWKS.Inline)) {
		errs = append(errs, field.Invalid(at.Child("inline"), field.OmitValueType{}, `must be a JSON Web Key Set: {"keys": [{"kty": "RSA", …}]}`))
	}
	if r := v.JWKS.Remote; r != nil {
		errs = append(errs, r.rules(at.Child("remote"))...)
	}
	return errs
}

func (r *RemoteJWKS) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case r.URL != "" && r.JWKSPath != "":
		errs = append(errs, field.Forbidden(p.Child("jwksPath"), "set only one of url and jwksPath"))
	case r.URL != "":
		errs = append(errs, webURL(p.Child("url"), r.URL)...)
	case r.BackendRef == nil:
		errs = append(errs, field.Required(p, "set url, such as https://idp.example.com/jwks.json, or backendRef and jwksPath"))
	case r.JWKSPath == "":
		errs = append(errs, field.Required(p.Child("jwksPath"), "backendRef needs jwksPath, the path of the key set, or url"))
	}
	if r.TLS != nil && r.URL != "" && !strings.HasPrefix(strings.ToLower(r.URL), "https:") || r.TLS != nil && r.URL == "" {
		errs = append(errs, field.Forbidden(p.Child("tls"), "goes with a url that begins with https"))
	}
	return append(errs, atLeast(p.Child("cacheDuration"), r.CacheDuration, time.Second)...)
}

func (m *ResourceMetadata) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.Resource != "" {
		errs = append(errs, webURL(p.Child("resource"), m.Resource)...)
		if u, err := url.Parse(m.Resource); err == nil && (u.RawQuery != "" || strings.HasSuffix(m.Resource, "/")) {
			errs = append(errs, field.Invalid(p.Child("resource"), m.Resource, "must have no query and no / at the end"))
		}
	}
	for i, s := range m.AuthorizationServers {
		errs = append(errs, webURL(p.Child("authorizationServers").Index(i), s)...)
	}
	for i, s := range m.ScopesSupported {
		errs = append(errs, scope(p.Child("scopesSupported").Index(i), s)...)
	}
	for _, page := range []struct{ name, url string }{
		{"resourceDocumentation", m.ResourceDocumentation}, {"resourcePolicyUri", m.ResourcePolicyURI}, {"resourceTosUri", m.ResourceTOSURI},
	} {
		if page.url != "" {
			errs = append(errs, webURL(p.Child(page.name), page.url)...)
		}
	}
	return errs
}

func (l *CredentialLocation) rules(p *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	at := p.Child("header")
	var errs field.ErrorList
	if l.Header.Name != "" {
		errs = headerName(at.Child("name"), l.Header.Name)
	}
	if l.Header.Prefix != "" && !visible(strings.TrimRight(l.Header.Prefix, " ")) {
		errs = append(errs, field.Invalid(at.Child("prefix"), l.Header.Prefix, "must be a word, such as Bearer"))
	}
	return errs
}

func (k *APIKeyAuthentication) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"secretRef", k.SecretRef != nil}, choice{"secretSelector", k.SecretSelector != nil}, choice{"disable", k.Disable != nil})
	return append(errs, k.Location.rules(p.Child("location"))...)
}

func (b *BasicAuthentication) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"users", len(b.Users) > 0}, choice{"secretRef", b.SecretRef != nil}, choice{"disable", b.Disable != nil})
	for i, u := range b.Users {
		if name, hash, ok := strings.Cut(string(u), ":"); !ok || name == "" || hash == "" {
			errs = append(errs, field.Invalid(p.Child("users").Index(i), u.String(), "must be a line of an htpasswd file, USER:HASH: htpasswd -nB USER prints one"))
		}
	}
	if strings.ContainsAny(b.Realm, "\"\\") || strings.ContainsFunc(b.Realm, func(r rune) bool { return r < ' ' || r > '~' }) {
		errs = append(errs, field.Invalid(p.Child("realm"), b.Realm, "must be text of ASCII characters, without quotes and backslashes"))
	}
	return errs
}

// webURL reports what is not an http or https URL without user and fragment.
func webURL(p *field.Path, s string) field.ErrorList {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.User != nil || strings.Contains(s, "@"): // what stands before it may be a secret, and is not repeated
		return field.ErrorList{field.Invalid(p, field.OmitValueType{}, "must be a URL without user and password")}
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" || !visible(s):
		return field.ErrorList{field.Invalid(p, s, "must be a URL such as https://idp.example.com/path, without fragment")}
	}
	return host(p, u.Hostname())
}

// scope reports what is not a scope (RFC 6749, section 3.3).
func scope(p *field.Path, s string) field.ErrorList {
	if !visible(s) || strings.ContainsAny(s, `"\`) {
		return field.ErrorList{field.Invalid(p, s, "must be one scope: no spaces, quotes and backslashes; write several as items of the list")}
	}
	return nil
}

// visible reports whether s consists of visible ASCII characters, and is not checked
// when it is empty: the schema says so.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
