package v1alpha1

// An AuthenticationMode says what becomes of requests without a valid credential.
//
// +kubebuilder:validation:Enum=Strict;Optional;Permissive
type AuthenticationMode string

// The modes of authentication.
const (
	// AuthenticationStrict wants a valid credential.
	AuthenticationStrict AuthenticationMode = "Strict"
	// AuthenticationOptional lets requests without credential pass, and refuses those
	// with one that is not valid.
	AuthenticationOptional AuthenticationMode = "Optional"
	// AuthenticationPermissive refuses nobody: a credential that is not valid counts
	// as none.
	AuthenticationPermissive AuthenticationMode = "Permissive"
)

// A JWTAuthentication authenticates clients by JSON Web Tokens, such as the access
// tokens of an OAuth 2 authorization server. Rules see the claims as jwt.*.
//
// +kubebuilder:validation:XValidation:rule="has(self.providers) != has(self.disable)",message="set exactly one of providers and disable"
// +kubebuilder:validation:XValidation:rule="!has(self.mcp) || !has(self.mode) || self.mode == 'Strict'",message="mcp requires mode Strict"
type JWTAuthentication struct {
	// What becomes of requests without a valid token. Strict: they are answered
	// 401. Optional: a request without token passes, one with a token that is
	// not valid is answered 401. Permissive: all pass; rules have to look at
	// jwt. Default: Strict.
	// +optional
	// +kubebuilder:default=Strict
	Mode AuthenticationMode `json:"mode,omitempty"`

	// Who issues tokens, 1 to 64. A token has to be one of any of them.
	// Required, unless disable is set.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Providers []JWTProvider `json:"providers,omitempty"`

	// Where requests carry the token. Default: the Authorization header, after
	// Bearer.
	// +optional
	Location *CredentialLocation `json:"location,omitempty"`

	// The scopes that a token must have, all of them, in its claim scope or scp.
	// A valid token that lacks one is answered 403 with a challenge that names
	// them, so that a client can ask its user for more. What no challenge should
	// tell of belongs into rbac, as an expression over jwt.scope. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	RequiredScopes []string `json:"requiredScopes,omitempty"`

	// Makes what the policy covers OAuth 2 protected resources, as MCP clients
	// expect it: they find by it where to get a token (RFC 9728). Write mcp: {}
	// to derive all of it. Absent: nothing is published.
	// +optional
	MCP *JWTMCP `json:"mcp,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}

// A JWTProvider is one issuer of tokens.
type JWTProvider struct {
	// The issuer: the claim iss of its tokens, to the letter. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Issuer string `json:"issuer"`

	// The audiences, one of which a token must name in its claim aud. Default:
	// with mcp the URL of the resource; else any audience, so that a token made
	// for another service is good here, too.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=2048
	Audiences []string `json:"audiences,omitempty"`

	// The public keys that the issuer signs with. Required.
	JWKS JWKS `json:"jwks"`
}

// A JWKS says where the keys of an issuer are (RFC 7517). RSA keys of at least 2048
// bits, EC keys on P-256, P-384 and P-521, and Ed25519 keys are used.
//
// +kubebuilder:validation:XValidation:rule="has(self.remote) != has(self.inline)",message="set exactly one of remote and inline"
type JWKS struct {
	// Fetches the keys over HTTP, and again as they change.
	// +optional
	Remote *RemoteJWKS `json:"remote,omitempty"`

	// The key set itself, as JSON. Public keys only.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=65536
	Inline string `json:"inline,omitempty"`
}

// A RemoteJWKS is a key set that a server has. It is fetched in the background. The
// last good one stays in use while the server can't be reached; before the first,
// tokens are answered 503.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(self.backendRef) && has(self.jwksPath)",message="set url, or backendRef and jwksPath"
// +kubebuilder:validation:XValidation:rule="!has(self.url) || !has(self.jwksPath)",message="set only one of url and jwksPath"
type RemoteJWKS struct {
	// The URL of the key set: https://HOST/PATH, as the issuer's
	// /.well-known/openid-configuration names it under jwks_uri; http for a
	// server that nobody can stand in front of. Required, unless backendRef and
	// jwksPath are set.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`

	// The Service or Static Backend to fetch the key set from. With url, it says
	// where to connect to, and url what to ask for. Default: the host of url.
	// +optional
	BackendRef *BackendRef `json:"backendRef,omitempty"`

	// The path of the key set at backendRef, such as .well-known/jwks.json.
	// +optional
	// +kubebuilder:validation:MaxLength=2000
	JWKSPath string `json:"jwksPath,omitempty"`

	// How to check the certificate of an https server. Default: against the
	// authorities of the system, for the host of url.
	// +optional
	TLS *JWKSTLS `json:"tls,omitempty"`

	// How often the keys are fetched, at least 1s. A token signed with a key
	// that is not known makes for a fetch before that. Default: 5m.
	// +optional
	// +kubebuilder:default="5m"
	CacheDuration Duration `json:"cacheDuration,omitempty"`
}

// A JWKSTLS says how the certificate of a server of keys is checked.
type JWKSTLS struct {
	// The name to ask for (SNI) and to find in the certificate. Default: the host
	// of url.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Hostname string `json:"hostname,omitempty"`

	// A Secret in the policy's namespace whose key ca.crt holds the authorities to
	// trust, in PEM. Default: those of the system.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`
}

// A JWTMCP makes MCP endpoints OAuth 2 protected resources.
type JWTMCP struct {
	// What clients can read about the resource, without a token, at
	// /.well-known/oauth-protected-resource followed by its path. Default: all of
	// it is derived.
	// +optional
	ResourceMetadata *ResourceMetadata `json:"resourceMetadata,omitempty"`
}

// A ResourceMetadata describes a protected resource (RFC 9728, section 2).
type ResourceMetadata struct {
	// The URL under which clients know the endpoint, without query, fragment and
	// / at the end. It is also the audience of tokens, where the provider names
	// none (RFC 8707). Default: scheme, hostname and port of the listener with the
	// path that the route matches. Set it where clients come through a proxy that
	// changes one of these, and where neither listener nor route has a hostname
	// and providers name no audiences.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Resource string `json:"resource,omitempty"`

	// The issuers of the authorization servers where clients get tokens. Default:
	// those of providers.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=2048
	AuthorizationServers []string `json:"authorizationServers,omitempty"`

	// The scopes that a client may ask for. Default: requiredScopes.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	ScopesSupported []string `json:"scopesSupported,omitempty"`

	// How tokens are sent: header is the only way there is. Default: header.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=header
	BearerMethodsSupported []string `json:"bearerMethodsSupported,omitempty"`

	// The name of the resource, for people. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	ResourceName string `json:"resourceName,omitempty"`

	// A page for developers. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	ResourceDocumentation string `json:"resourceDocumentation,omitempty"`

	// A page about what clients may do with the data. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	ResourcePolicyURI string `json:"resourcePolicyUri,omitempty"`

	// A page with the terms of service. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	ResourceTOSURI string `json:"resourceTosUri,omitempty"`
}

// A CredentialLocation says where requests carry a credential.
type CredentialLocation struct {
	// The header that holds it. Required.
	Header CredentialHeader `json:"header"`
}

// A CredentialHeader is a header that holds a credential.
type CredentialHeader struct {
	// The name of the header, such as x-api-key. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`

	// What stands before the credential, in any case, such as Bearer. Default:
	// nothing.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Prefix string `json:"prefix,omitempty"`
}

// An APIKeyAuthentication authenticates clients by keys that are theirs for long.
// Rules see what is known of a key as apiKey.*.
//
// +kubebuilder:validation:XValidation:rule="(has(self.secretRef) ? 1 : 0) + (has(self.secretSelector) ? 1 : 0) + (has(self.disable) ? 1 : 0) == 1",message="set exactly one of secretRef, secretSelector and disable"
type APIKeyAuthentication struct {
	// What becomes of requests without a valid key. Strict: they are answered
	// 401. Optional: a request without key passes, one with a key that is not
	// known is answered 401. Permissive: all pass; rules have to look at apiKey.
	// Default: Strict.
	// +optional
	// +kubebuilder:default=Strict
	Mode AuthenticationMode `json:"mode,omitempty"`

	// The Secret that holds the keys, one an entry. The value of an entry is the
	// key itself, or a JSON object {"key": …, "metadata": {…}}: the metadata is
	// what rules see as apiKey.*, beside apiKey.id, which is SECRET/ENTRY. While
	// the Secret is missing, what the policy covers answers 503.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`

	// The Secrets that hold the keys, by label, each as secretRef describes it.
	// +optional
	SecretSelector *SecretSelector `json:"secretSelector,omitempty"`

	// Where requests carry the key. Default: the Authorization header, after
	// Bearer.
	// +optional
	Location *CredentialLocation `json:"location,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}

// A SecretSelector chooses Secrets by label.
type SecretSelector struct {
	// The labels that a Secret in the policy's namespace must have, all of them.
	// Required, at least one.
	// +kubebuilder:validation:MinProperties=1
	MatchLabels map[string]string `json:"matchLabels"`
}

// A BasicAuthentication authenticates clients by user and password (RFC 7617). Rules
// see the user as basicAuth.username.
//
// +kubebuilder:validation:XValidation:rule="(has(self.users) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) + (has(self.disable) ? 1 : 0) == 1",message="set exactly one of users, secretRef and disable"
type BasicAuthentication struct {
	// What becomes of requests without valid user and password. Strict: they are
	// answered 401. Optional: a request without them passes, one with a wrong
	// password is answered 401. Permissive: all pass; rules have to look at
	// basicAuth. Default: Strict.
	// +optional
	// +kubebuilder:default=Strict
	Mode AuthenticationMode `json:"mode,omitempty"`

	// What a browser shows when it asks for the password. Default: Restricted.
	// +optional
	// +kubebuilder:default=Restricted
	// +kubebuilder:validation:MaxLength=256
	Realm string `json:"realm,omitempty"`

	// Lines of an htpasswd file, USER:HASH, as htpasswd -nB USER prints them, at
	// most 256. Hashes are bcrypt of cost 4 to 12, apr1 and SHA-1.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Users []Sensitive `json:"users,omitempty"`

	// The Secret whose key .htaccess (or .htpasswd, or auth) holds an htpasswd
	// file. While it is missing, what the policy covers answers 503.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}
