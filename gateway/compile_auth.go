package gateway

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/authn"
	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/upstream"
)

// The fields of a TrafficPolicy that authenticate clients.
const (
	jwtField    = "jwtAuthentication"
	apiKeyField = "apiKeyAuthentication"
	basicField  = "basicAuthentication"
)

// authenticationFields lists the ways to authenticate, in the order in which they are tried.
func authenticationFields() []string { return []string{jwtField, apiKeyField, basicField} }

// An authentication is how one policy authenticates clients.
type authentication struct {
	checks map[string]*authCheck // by field
	shows  []any                 // plain data that tells apart what rules see by it
	// jwt is that of the field of that name; nil when it has none or switches it off.
	jwt *authn.JWT
	// unbound says that a provider of jwt takes its audience from the endpoint.
	unbound bool
}

// An authCheck is what one field comes to.
type authCheck struct {
	check  policy.Check // nil where the field switches off what is less specific
	strict bool         // it lets nobody pass without a credential
}

// authentication compiles how a TrafficPolicy authenticates clients; nil when it says nothing about it.
func (c *compiler) authentication(o object, p *v1alpha1.TrafficPolicy) *authentication {
	a := &authentication{checks: map[string]*authCheck{}}
	add := func(field string, mode v1alpha1.AuthenticationMode, disable *v1alpha1.PolicyDisable, check func() policy.Check) {
		f := &authCheck{strict: disable == nil && modeOf(mode) == authn.Strict}
		if disable == nil {
			f.check = check()
		}
		a.checks[field] = f
	}
	if j := p.Spec.JWTAuthentication; j != nil {
		add(jwtField, j.Mode, j.Disable, func() policy.Check { return c.jwt(o, a, j) })
	}
	if k := p.Spec.APIKeyAuthentication; k != nil {
		add(apiKeyField, k.Mode, k.Disable, func() policy.Check { return c.apiKeys(o, a, k) })
	}
	if b := p.Spec.BasicAuthentication; b != nil {
		add(basicField, b.Mode, b.Disable, func() policy.Check { return c.basic(o, b) })
	}
	if len(a.checks) == 0 {
		return nil
	}
	a.shows = append(a.shows, p.Spec.JWTAuthentication, p.Spec.APIKeyAuthentication, p.Spec.BasicAuthentication)
	return a
}

func modeOf(m v1alpha1.AuthenticationMode) authn.Mode {
	switch m {
	case v1alpha1.AuthenticationOptional:
		return authn.Optional
	case v1alpha1.AuthenticationPermissive:
		return authn.Permissive
	}
	return authn.Strict
}

func locationOf(l *v1alpha1.CredentialLocation) authn.Location {
	if l == nil {
		return authn.Location{}
	}
	return authn.Location{Header: http.CanonicalHeaderKey(l.Header.Name), Prefix: strings.TrimSpace(l.Header.Prefix)}
}

// jwt compiles jwtAuthentication. A provider whose keys can't be used is left out: nobody gets in by
// its tokens.
func (c *compiler) jwt(o object, a *authentication, spec *v1alpha1.JWTAuthentication) policy.Check {
	j := &authn.JWT{
		Mode: modeOf(spec.Mode), Location: locationOf(spec.Location), Scopes: spec.RequiredScopes,
		Memory: c.rt.memory(), Metrics: c.rt.metrics(),
	}
	for i := range spec.Providers {
		p := &spec.Providers[i]
		path := fmt.Sprintf("spec.%s.providers[%d]", jwtField, i)
		if len(p.Audiences) == 0 {
			a.unbound = true
			if spec.MCP == nil {
				c.add(o, path, finding{class: config.Warning, code: config.CodeAudience, help: "add audiences"},
					"tokens of %s are accepted whatever service they were made for", p.Issuer)
			}
		}
		if keys := c.keys(o, path+".jwks", p); keys != nil {
			j.Providers = append(j.Providers, authn.Provider{Issuer: p.Issuer, Audiences: p.Audiences, Keys: keys})
		}
	}
	if spec.MCP != nil {
		j.Metadata = metadataOf(spec)
	}
	a.jwt = j
	if len(j.Providers) == 0 {
		a.jwt = nil
		return authn.Missing{Cause: fmt.Errorf("%s: no provider of %s has keys that can be used", o, jwtField)}
	}
	return j
}

// metadataOf returns what a policy publishes about the resources that it covers.
func metadataOf(spec *v1alpha1.JWTAuthentication) *authn.Metadata {
	m := &authn.Metadata{Scopes: spec.RequiredScopes}
	for _, p := range spec.Providers {
		if !slices.Contains(m.AuthorizationServers, p.Issuer) {
			m.AuthorizationServers = append(m.AuthorizationServers, p.Issuer)
		}
	}
	r := spec.MCP.ResourceMetadata
	if r == nil {
		return m
	}
	m.Resource = r.Resource
	if len(r.AuthorizationServers) > 0 {
		m.AuthorizationServers = r.AuthorizationServers
	}
	if len(r.ScopesSupported) > 0 {
		m.Scopes = r.ScopesSupported
	}
	m.Name, m.Documentation, m.Policy, m.Terms = r.ResourceName, r.ResourceDocumentation, r.ResourcePolicyURI, r.ResourceTOSURI
	return m
}

// keys returns the keys of a provider, or nil when they can't be used.
func (c *compiler) keys(o object, path string, p *v1alpha1.JWTProvider) authn.Keys {
	if r := p.JWKS.Remote; r != nil {
		if k := c.remoteKeys(o, path+".remote", p.Issuer, r); k != nil {
			return k
		}
		return nil
	}
	set, ignored, err := authn.ParseKeys([]byte(p.JWKS.Inline))
	for _, reason := range ignored {
		c.add(o, path+".inline", finding{class: config.Warning, code: config.CodeKeys}, "a key is not used: %v", reason)
	}
	if err != nil {
		c.add(o, path+".inline", finding{class: config.Invalid, code: config.CodeKeys, help: `write the set of public keys that the issuer publishes: {"keys": [{"kty": "RSA", …}]}`},
			"the keys can't be used: %v", err)
		return nil
	}
	return set
}

// A keyServer is where a key set is fetched from.
type keyServer struct {
	url       *url.URL
	via       string   // the reference that says where it is, "" without
	addresses []string // host:port
	protocol  upstream.Protocol
	tls       *tls.Config
	trust     []byte // the authorities of tls, in PEM; nil for the system's
}

// remoteKeys returns the keys of a remote key set: those that are in use already, if it is the
// same. They are fetched once the snapshot is served.
func (c *compiler) remoteKeys(o object, path, issuer string, spec *v1alpha1.RemoteJWKS) authn.Keys {
	s, ok := c.keyServer(o, path, spec)
	if !ok {
		return nil
	}
	if c.rt == nil {
		return authn.NewRemoteKeys(authn.RemoteOptions{})
	}
	opts := upstream.Options{Protocol: s.protocol, TLS: s.tls}
	identity := fmt.Sprintf("jwks/%s/%s/%d", s.url, s.via, s.protocol)
	if s.tls != nil {
		identity += fmt.Sprintf("/%s/%x", s.tls.ServerName, sha256.Sum256(s.trust))
	}
	pool := c.poolOf(identity, opts, s.addresses)
	identity += fmt.Sprintf("/%s/%s", issuer, spec.CacheDuration)
	if k, ok := c.snapshot.keys[identity]; ok {
		return k
	}
	k := c.rt.remoteKeys(identity, authn.RemoteOptions{
		URL: s.url.String(), Issuer: issuer, Transport: pool, Every: spec.CacheDuration.Value(),
	})
	c.snapshot.keys[identity] = k
	return k
}

// keyServer resolves where a key set is fetched from.
func (c *compiler) keyServer(o object, path string, spec *v1alpha1.RemoteJWKS) (s keyServer, ok bool) {
	if spec.URL != "" {
		u, err := url.Parse(spec.URL)
		if err != nil || u.Hostname() == "" {
			c.add(o, path+".url", finding{class: config.Invalid, code: config.CodeInvalidValue}, "the URL can't be used")
			return s, false
		}
		s.url = u
		port := cmp.Or(u.Port(), map[string]string{"https": "443"}[u.Scheme], "80")
		s.addresses = []string{net.JoinHostPort(u.Hostname(), port)}
		if spec.BackendRef == nil && u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
			c.add(o, path+".url", finding{class: config.Warning, code: config.CodeKeys, help: "use https"},
				"the keys are fetched in plain text: whoever stands between the gateway and %s can make tokens", u.Hostname())
		}
	} else {
		s.url = &url.URL{Scheme: "http", Host: spec.BackendRef.Name, Path: "/" + strings.TrimPrefix(spec.JWKSPath, "/")}
	}
	if spec.BackendRef != nil {
		if ok := c.keyBackend(o, path+".backendRef", spec.BackendRef, &s); !ok {
			return s, false
		}
	}
	if s.url.Scheme != "https" {
		return s, true
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.url.Hostname()}
	if spec.TLS == nil {
		return s, true
	}
	s.tls.ServerName = cmp.Or(spec.TLS.Hostname, s.tls.ServerName)
	if spec.TLS.SecretRef != nil {
		s.tls.RootCAs, s.trust, ok = c.authorities(o, path+".tls.secretRef.name", spec.TLS.SecretRef.Name)
		return s, ok
	}
	return s, true
}

// isLoopbackHost reports whether a host is this machine.
func isLoopbackHost(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// keyBackend resolves the backendRef of a key set.
func (c *compiler) keyBackend(o object, path string, ref *v1alpha1.BackendRef, s *keyServer) bool {
	name := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, o.name.Namespace), Name: ref.Name}
	kind := cmp.Or(ref.Kind, "Service")
	s.via = fmt.Sprintf("%s/%s:%d", kind, name, ref.Port)
	grant := reference{from: v1alpha1.KindTrafficPolicy, fromGroup: v1alpha1.GroupName, to: kind}
	if kind == v1alpha1.KindBackend {
		grant.toGroup = v1alpha1.GroupName
	}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return false
	}
	if kind == v1alpha1.KindBackend {
		b := c.backends[name]
		switch {
		case b == nil:
			candidates := names(c.backends, name.Namespace)
			c.add(o, path+".name", finding{
				class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "BackendNotFound",
				help: didYouMean(name.Name, candidates, listing("Backend in namespace "+name.Namespace, candidates)),
			}, "Backend %q is not there", name.Name)
			return false
		case b.Spec.Static == nil:
			c.add(o, path+".name", finding{class: config.Unresolved, code: config.CodeUnresolvedBackend, help: "use a Backend of type Static, a Service, or url alone"},
				"keys can't be fetched from a Backend of type %s", backendType(b))
			return false
		}
		c.routed[name] = true
		app := string(b.Spec.Static.AppProtocol)
		s.protocol, s.addresses = protocolOf(&app), nil
		for _, h := range b.Spec.Static.Hosts {
			s.addresses = append(s.addresses, hostPort(h.Host, h.Port))
		}
		return true
	}
	svc, port := c.servicePort(o, path, name, cmp.Or(ref.Port, 80))
	if port == nil {
		return false
	}
	if s.url.Host == ref.Name { // not from a URL of its own
		s.url.Host = svc.Name + "." + svc.Namespace + ".svc:" + strconv.Itoa(int(port.Port))
	}
	s.protocol = protocolOf(port.AppProtocol)
	var ok bool
	s.addresses, ok = c.endpoints(o, path, svc, port)
	return ok
}

// authorities returns the authorities in a Secret of the namespace of o.
func (c *compiler) authorities(o object, path, secret string) (*x509.CertPool, []byte, bool) {
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: secret}
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path, name, "Invalid")
		return nil, nil, false
	}
	pem := s.Data[corev1.ServiceAccountRootCAKey]
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "the certificates stand under the key ca.crt, in PEM",
		}, "Secret %q has no usable key ca.crt", name.Name)
		return nil, nil, false
	}
	return pool, pem, true
}

// apiKeys compiles apiKeyAuthentication. An entry that can't be used is left out: nobody gets in by it.
func (c *compiler) apiKeys(o object, a *authentication, spec *v1alpha1.APIKeyAuthentication) policy.Check {
	var secrets []*corev1.Secret
	path := "spec." + apiKeyField
	if spec.SecretRef != nil {
		path += ".secretRef.name"
		name := types.NamespacedName{Namespace: o.name.Namespace, Name: spec.SecretRef.Name}
		s := c.secrets[name]
		if s == nil {
			c.secretNotFound(o, path, name, "Invalid")
			return authn.Missing{Cause: fmt.Errorf("%s: Secret %q is not there", o, name.Name)}
		}
		secrets = append(secrets, s)
	} else {
		path += ".secretSelector"
		selector := labels.SelectorFromSet(spec.SecretSelector.MatchLabels)
		for _, s := range c.res.Secrets {
			if s.Namespace == o.name.Namespace && selector.Matches(labels.Set(s.Labels)) && c.secrets[nameOf(s)] == s {
				secrets = append(secrets, s)
			}
		}
		if len(secrets) == 0 {
			c.add(o, path, finding{class: config.Warning, code: config.CodeUnresolvedSecret}, "no Secret has these labels: no key is known, so nobody is let in by one")
		}
	}
	slices.SortFunc(secrets, func(a, b *corev1.Secret) int { return cmp.Compare(a.Name, b.Name) })
	var keys []authn.APIKey
	for _, s := range secrets {
		for _, entry := range slices.Sorted(maps.Keys(s.Data)) {
			k, hidden, err := authn.ParseAPIKey(s.Name+"/"+entry, s.Data[entry])
			if err != nil {
				c.add(o, path, finding{class: config.Unresolved, code: config.CodeAPIKey, help: "write the key, or a JSON object with key and metadata"},
					"entry %q of Secret %q is no API key: %v", entry, s.Name, err)
				continue
			}
			if hidden {
				c.add(o, path, finding{class: config.Warning, code: config.CodeAPIKey, help: "give it another name"},
					"entry %q of Secret %q has metadata named id, which rules don't see: apiKey.id is %q", entry, s.Name, k.ID)
			}
			keys = append(keys, k)
			a.shows = append(a.shows, k.ID, k.Fingerprint())
		}
	}
	check, twice := authn.NewAPIKeys(modeOf(spec.Mode), locationOf(spec.Location), o.name.Namespace, keys, c.rt.metrics())
	for _, id := range twice {
		c.add(o, path, finding{class: config.Warning, code: config.CodeAPIKey, help: "make a key of its own for each client"},
			"%s is the same key as one before it, which counts", id)
	}
	return check
}

// basic compiles basicAuthentication.
func (c *compiler) basic(o object, spec *v1alpha1.BasicAuthentication) policy.Check {
	path := "spec." + basicField
	var users []authn.User
	source := o.name.Namespace + "/" + o.name.Name
	if spec.SecretRef != nil {
		name := types.NamespacedName{Namespace: o.name.Namespace, Name: spec.SecretRef.Name}
		source = name.String()
		var err error
		if users, err = c.htpasswd(o, path+".secretRef.name", name); err != nil {
			return authn.Missing{Cause: fmt.Errorf("%s: %w", o, err)}
		}
	}
	for i, line := range spec.Users {
		u, err := authn.ParseUser(line.Secret().Reveal())
		if err != nil {
			c.add(o, fmt.Sprintf("%s.users[%d]", path, i), finding{class: config.Invalid, code: config.CodeAPIKey}, "the user can't be used: %v", err)
			continue
		}
		users = append(users, u)
	}
	if len(users) == 0 {
		return authn.Missing{Cause: fmt.Errorf("%s: there is no user that can be used", o)}
	}
	return authn.NewBasic(modeOf(spec.Mode), cmp.Or(spec.Realm, "Restricted"), source, users, c.rt.memory(), c.rt.metrics())
}

// htpasswd returns the users of a Secret.
func (c *compiler) htpasswd(o object, path string, name types.NamespacedName) ([]authn.User, error) {
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path, name, "Invalid")
		return nil, fmt.Errorf("Secret %q is not there", name.Name)
	}
	for _, key := range []string{".htaccess", ".htpasswd", "auth"} {
		file, ok := s.Data[key]
		if !ok {
			continue
		}
		users, ignored := authn.ParseUsers(string(file))
		for _, err := range ignored {
			c.add(o, path, finding{class: config.Unresolved, code: config.CodeAPIKey, help: "write a line USER:HASH for each user, as htpasswd -nB USER prints it"},
				"a user in key %s of Secret %q can't be used: %v", key, name.Name, err)
		}
		if len(users) == 0 {
			break
		}
		return users, nil
	}
	c.add(o, path, finding{class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "the users stand under the key .htaccess, in htpasswd format"},
		"Secret %q has no key .htaccess with users", name.Name)
	return nil, fmt.Errorf("Secret %q has no users", name.Name)
}

// checkClaims warns of rules that look at what no policy fills in.
func (c *compiler) checkClaims() {
	filled := map[string]bool{}
	for _, policies := range c.attached {
		for _, p := range policies {
			for field, check := range p.auth.fields() {
				filled[field] = filled[field] || check.check != nil
			}
		}
	}
	for _, p := range c.res.TrafficPolicies {
		if p.Spec.RBAC == nil {
			continue
		}
		for i, source := range p.Spec.RBAC.Policy.MatchExpressions {
			e := c.expressions[source].expression
			if e == nil {
				continue
			}
			for _, v := range []struct {
				variable, field string
				used            bool
			}{{"jwt", jwtField, e.SpeaksOfJWT()}, {"apiKey", apiKeyField, e.SpeaksOfAPIKey()}, {"basicAuth", basicField, e.SpeaksOfBasicAuth()}} {
				if v.used && !filled[v.field] {
					c.add(objectOf(v1alpha1.KindTrafficPolicy, p), fmt.Sprintf("spec.rbac.policy.matchExpressions[%d]", i),
						finding{class: config.Warning, code: config.CodeNoClaims, help: "add " + v.field + " to a TrafficPolicy that covers the same"},
						"%s is empty: no policy authenticates clients by %s", v.variable, v.field)
				}
			}
		}
	}
}

// fields returns what each field comes to; none for a nil authentication.
func (a *authentication) fields() map[string]*authCheck {
	if a == nil {
		return nil
	}
	return a.checks
}

// fingerprint tells apart what rules see; "" for a nil authentication.
func (a *authentication) fingerprint() string {
	if a == nil {
		return ""
	}
	return fingerprint(a.shows...)
}

// endpointAt returns what a request is matched to by m. Its URL is known where a hostname is written: what a
// client writes into Host is none of ours.
func endpointAt(l *openListener, m *match) policy.Endpoint {
	if m.pathType == pathRegex {
		return policy.Endpoint{}
	}
	e := policy.Endpoint{Path: strings.TrimRight(m.path, "/")}
	if m.hostname == "" || strings.HasPrefix(m.hostname, "*") {
		return e
	}
	scheme, standard := "http", 80
	if l.secure {
		scheme, standard = "https", 443
	}
	host := m.hostname
	if l.port != standard {
		host = net.JoinHostPort(host, strconv.Itoa(l.port))
	}
	e.URL = scheme + "://" + host + e.Path
	return e
}

// resource returns the match at which the metadata of the resource behind m is served; nil when none is
// published.
func (c *compiler) resource(o object, covering *covering, l *openListener, m *match) *match {
	if covering.jwt == nil || covering.jwt.auth.jwt == nil || covering.jwt.auth.jwt.Metadata == nil {
		return nil
	}
	metadata := covering.jwt.auth.jwt.Metadata
	if metadata.Resource == "" && (m.pathType == pathRegex || m.endpoint.URL == "" && covering.jwt.auth.unbound) {
		c.unfixed(o, covering.jwt.object, m)
		if m.pathType == pathRegex {
			return nil
		}
	}
	path := metadata.Path(m.endpoint.Path)
	for _, other := range l.matches {
		if other.rule.metadata != nil && other.hostname == m.hostname && other.path == path {
			return nil // another match of the same path
		}
	}
	return &match{
		hostname: m.hostname, pathType: pathExact, path: path, age: m.age, owner: m.owner, endpoint: m.endpoint,
		rule: &rule{gateway: m.rule.gateway, listener: m.rule.listener, route: m.rule.route, name: m.rule.name, metadata: metadata},
	}
}

// unfixed reports a resource whose URL is not known.
func (c *compiler) unfixed(route, p object, m *match) {
	note := p.String() + " unfixed " + route.String()
	if c.noted[note] {
		return
	}
	c.noted[note] = true
	f := finding{class: config.Unresolved, code: config.CodeAudience, reason: "Pending", help: "write mcp.resourceMetadata.resource, or audiences of the providers, or a hostname on the listener or route"}
	why := "neither the listener nor the route has a hostname"
	if m.pathType == pathRegex {
		why, f.help = "its path is a regular expression", "write mcp.resourceMetadata.resource"
	}
	c.add(p, "spec."+jwtField+".mcp", f, "for whom tokens have to be is not known on %s, so none is accepted there: %s", route, why)
}
