package gateway

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/origin"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/upstream"
	"github.com/mcpgw/mcpgw/upstream/oauth"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// aiBackend compiles a Backend of type AI. A provider whose credential is missing is passed
// over; one that is not served makes the Backend answer 500. sets are the rules attached to it
// and to its providers.
func (c *compiler) aiBackend(o object, spec *v1alpha1.AIBackend, d *destination, sets []policy.RuleSet) {
	cfg := llm.Config{Name: d.name, Strict: spec.Strict, Prices: priceTable(spec.Prices), ShowCost: spec.ShowCost}
	var clocks v1alpha1.AIClocks
	if spec.Clocks != nil {
		clocks = *spec.Clocks
	}
	cfg.AllowedOrigins, d.pages = spec.AllowedOrigins, origin.New(spec.AllowedOrigins)
	cfg.Clocks = llm.Clocks{FirstContent: clocks.FirstContent.Value(), Idle: clocks.Idle.Value(), Total: clocks.Total.Value(), RealtimeIdle: clocks.Idle.Value()}
	if c.rt != nil {
		cfg.Logger, cfg.Metrics = c.rt.opts.Logger, c.rt.opts.Metrics
	}
	served := true
	add := func(path, name string, spec *v1alpha1.LLMProvider) *llm.Provider {
		p := c.provider(o, path, name, spec, clocks.Connect.Value())
		served = served && p != nil
		if p != nil {
			p.Ruled = slices.ContainsFunc(sets, func(s policy.RuleSet) bool { return s.Target != "" && s.Target == name })
		}
		return p
	}
	if spec.LLM != nil {
		cfg.Groups = [][]*llm.Provider{{add("spec.ai.llm", "", spec.LLM)}}
	}
	for i := range spec.PriorityGroups {
		var group []*llm.Provider
		for j := range spec.PriorityGroups[i].Providers {
			n := &spec.PriorityGroups[i].Providers[j]
			group = append(group, add(fmt.Sprintf("spec.ai.priorityGroups[%d].providers[%d]", i, j), n.Name, &n.LLMProvider))
		}
		cfg.Groups = append(cfg.Groups, group)
	}
	if !served || c.backendConnection(c.backends[o.name]).broken {
		d.fault = misconfigured
		return
	}
	d.backend = llm.New(cfg)
}

// provider compiles one provider, or reports that it is not served and returns nil.
func (c *compiler) provider(o object, path, name string, spec *v1alpha1.LLMProvider, connect time.Duration) *llm.Provider {
	p := &llm.Provider{Name: name, Models: spec.Models, Routes: llmRoutes(spec.Routes)}
	var auth *v1alpha1.AuthToken
	home := ""                 // of the vendor's API, where each customer has one
	lists := ""                // the host that lists the models, where it is another one
	var signing *sigv4.Options // of requests to AWS
	switch {
	case spec.OpenAI != nil:
		p.Vendor, p.Model, auth = llm.OpenAI, spec.OpenAI.Model, &spec.OpenAI.AuthToken
		path += ".openai"
	case spec.Anthropic != nil:
		p.Vendor, p.Model, p.APIVersion, auth = llm.Anthropic, spec.Anthropic.Model, spec.Anthropic.APIVersion, &spec.Anthropic.AuthToken
		path += ".anthropic"
	case spec.Gemini != nil:
		p.Vendor, p.Model, p.APIVersion, p.Compat, auth = llm.Gemini, spec.Gemini.Model, spec.Gemini.APIVersion, spec.Gemini.Compat, &spec.Gemini.AuthToken
		path += ".gemini"
	case spec.AzureOpenAI != nil:
		a := spec.AzureOpenAI
		p.Vendor, p.Model, p.APIVersion, auth = llm.AzureOpenAI, a.DeploymentName, a.APIVersion, a.AuthToken
		home = endpointHost(a.Endpoint)
		path += ".azureOpenAI"
	case spec.VertexAI != nil:
		v := spec.VertexAI
		p.Vendor, p.Model, p.APIVersion, p.Compat, auth = llm.VertexAI, v.Model, v.APIVersion, v.Compat, v.AuthToken
		p.Vertex = llm.VertexModel{Project: v.Project, Location: v.Location, Publisher: v.Publisher, Path: v.ModelPath}
		home = llm.VertexHost(v.Location)
		path += ".vertexAI"
	default:
		b := spec.Bedrock
		p.Vendor, p.Model, auth = llm.Bedrock, b.Model, b.AuthToken
		if g := b.Guardrail; g != nil {
			p.Guardrail = llm.BedrockGuardrail{Identifier: g.Identifier, Version: g.Version}
		}
		region := cmp.Or(b.Region, defaultRegion)
		home, lists = llm.BedrockHost(region), llm.BedrockCatalogueHost(region)
		path += ".bedrock"
		if auth == nil && (b.Auth != nil || bedrockKey().IsZero()) {
			signing = &sigv4.Options{Service: "bedrock", Region: region, Credentials: c.awsCredentials(o, path+".auth", b.Auth, region)}
		}
	}
	var tokens *oauth.Tokens
	switch {
	case signing == nil:
		tokens = c.providerCredential(o, path+".authToken", auth, p, home)
	case signing.Credentials == nil:
		p.Fault = withoutCredential
	}
	if h := spec.AuthHeader; h != nil {
		p.Credential.Header, p.Credential.Prefix = h.HeaderName, h.Prefix
	}
	if spec.Path != nil {
		p.Path, p.Prefix = spec.Path.Full, spec.Path.Prefix
	}
	host, port := cmp.Or(home, p.Vendor.Host()), int32(443)
	if spec.Host != "" {
		host, port = spec.Host, spec.Port
	}
	p.Host = host
	if port != 443 {
		p.Host = hostPort(host, port)
	}
	reach := func(host string, port int32) http.RoundTripper {
		pool := c.providerPool(c.providerConnection(o, connect), host, port)
		if signing != nil {
			return sigv4.New(pool, *signing)
		}
		return pool
	}
	p.RoundTripper = reach(host, port)
	if lists != "" && spec.Host == "" {
		catalogue := *p
		catalogue.Host, catalogue.RoundTripper = lists, reach(lists, 443)
		p.Catalogue = &catalogue
	}
	if tokens != nil {
		p.RoundTripper = withTokens(p.RoundTripper, tokens, spec.AuthHeader)
	}
	p.Health = c.health(fmt.Sprintf("%s/%s/%d/%s:%d%s%s", o, name, p.Vendor, host, port, p.Path, p.Prefix))
	return p
}

// llmRoutes returns the routes of a provider.
func llmRoutes(spec map[string]v1alpha1.LLMRouteType) (routes []llm.Route) {
	types := map[v1alpha1.LLMRouteType]llm.RouteType{
		v1alpha1.LLMCompletions: llm.Completions, v1alpha1.LLMMessages: llm.Messages, v1alpha1.LLMModels: llm.Models, v1alpha1.LLMPassthrough: llm.Passthrough,
		v1alpha1.LLMResponses: llm.Responses, v1alpha1.LLMAnthropicTokenCount: llm.TokenCount,
		v1alpha1.LLMGenerateContent: llm.GenerateContent, v1alpha1.LLMRealtime: llm.Realtime, v1alpha1.LLMEmbeddings: llm.Embeddings,
	}
	for suffix, t := range spec {
		routes = append(routes, llm.Route{Suffix: suffix, Type: types[t]})
	}
	return routes
}

// endpointHost returns the host of an endpoint, from which a scheme and a path are taken off.
func endpointHost(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		endpoint = rest
	}
	host, _, _ := strings.Cut(endpoint, "/")
	return host
}

// bedrockKey returns the API key of Amazon Bedrock that the environment holds, in the variable that the
// AWS SDKs read before they look for credentials.
func bedrockKey() secret.Value { return tokenOf(os.Getenv("AWS_BEARER_TOKEN_BEDROCK")) }

// providerConnection returns how the providers of a Backend are reached. A connect of 0 is the
// default; a policy on connections wins over it.
func (c *compiler) providerConnection(o object, connect time.Duration) connection {
	conn := *c.backendConnection(c.backends[o.name])
	if connect > 0 && conn.opts.ConnectTimeout == 0 {
		conn.opts.ConnectTimeout = connect
		conn.identity += "/" + connect.String()
	}
	return conn
}

// providerPool returns the pool of a host, which all providers there share that are reached alike: by
// https on port 443 or where conn says so, in plain text on others.
func (c *compiler) providerPool(conn connection, host string, port int32) *upstream.Pool {
	address := hostPort(host, port)
	identity := "LLM/" + address
	if conn.opts.TLS == nil && port == 443 {
		conn.opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	}
	if conn.opts.TLS != nil {
		identity = "LLM/tls/" + address
	}
	return c.connected(&conn, identity, upstream.HTTP1, []string{address})
}

// providerCredential sets what a provider is shown; without it nothing is sent. It returns the
// access tokens that are fetched for it, if that is how it is: home is the host of its API.
func (c *compiler) providerCredential(o object, path string, auth *v1alpha1.AuthToken, p *llm.Provider, home string) *oauth.Tokens {
	switch {
	case auth == nil && p.Vendor == llm.VertexAI:
		return c.tokens("google", oauth.GoogleDefault)
	case auth == nil && p.Vendor == llm.Bedrock:
		p.Credential.Token = bedrockKey()
		return nil
	case auth == nil:
		resource := entraResource(home)
		return c.tokens("entra "+resource, oauth.Entra(resource, os.Getenv))
	case auth.Kind == v1alpha1.AuthTokenPassthrough:
		p.Credential.Passthrough = true
		c.add(o, path+".kind", finding{class: config.Warning, code: config.CodePassthrough}, "the provider gets the credential of the client")
		return nil
	case auth.SecretRef != nil:
		p.Credential.Token = c.secretToken(o, path, auth.SecretRef.Name)
	default:
		p.Credential.Token = tokenOf(auth.Inline.Secret().Reveal())
		if p.Credential.Token.IsZero() {
			c.add(o, path+".inline", finding{class: config.Invalid, code: config.CodeUnresolvedSecret}, "the token is empty")
		}
	}
	if key := p.Credential.Token; p.Vendor == llm.VertexAI && strings.HasPrefix(key.Reveal(), "{") {
		p.Credential.Token = secret.Value{}
		source, err := oauth.Google(key)
		if err == nil {
			return c.tokens(fmt.Sprintf("google %x", sha256.Sum256([]byte(key.Reveal()))), source)
		}
		c.add(o, path, finding{class: config.Unresolved, code: config.CodeUnresolvedSecret}, "what should be the key of a service account can't be used: %s", err)
	}
	if p.Credential.Token.IsZero() {
		p.Fault = withoutCredential
	}
	return nil
}

// secretToken returns the token in a Secret, or reports that there is none.
func (c *compiler) secretToken(o object, path, secretName string) secret.Value {
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: secretName}
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path+".secretRef.name", name, "Invalid")
		return secret.Value{}
	}
	token := tokenOf(string(s.Data["Authorization"]))
	if token.IsZero() {
		c.add(o, path+".secretRef.name", finding{
			class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "the token stands under the key Authorization",
		}, "Secret %q has no usable key Authorization", name.Name)
	}
	return token
}

// health returns what is known of a provider of that identity.
func (c *compiler) health(identity string) *llm.Health {
	h := c.rt.health(identity)
	c.snapshot.health[identity] = h
	return h
}
