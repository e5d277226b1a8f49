package v1alpha1

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns every mistake in b.
func (b *Backend) Validate() field.ErrorList { return validate(KindBackend, b) }

func (b *Backend) rules() field.ErrorList {
	p, s := field.NewPath("spec"), &b.Spec
	type block = struct{ name, t string }
	var blocks []block
	choices := []choice{
		{"ai", s.AI != nil}, {"static", s.Static != nil}, {"aws", s.AWS != nil}, {"mcp", s.MCP != nil}, {"dynamicForwardProxy", s.DynamicForwardProxy != nil},
	}
	types := []BackendType{BackendAI, BackendStatic, BackendAWS, BackendMCP, BackendDynamicForwardProxy}
	for i, c := range choices {
		if c.set {
			blocks = append(blocks, block{c.name, string(types[i])})
		}
	}
	var errs field.ErrorList
	switch {
	case len(blocks) == 0 && s.Type == BackendDynamicForwardProxy:
	case len(blocks) == 0 && s.Type != "":
		for i, t := range types {
			if t == s.Type {
				errs = append(errs, field.Required(p.Child(choices[i].name), fmt.Sprintf("type %s needs %s", s.Type, choices[i].name)))
			}
		}
	default:
		errs = append(errs, exactlyOne(p, choices...)...)
		if len(blocks) == 1 {
			errs = append(errs, typed(p, string(s.Type), blocks...)...)
		}
	}
	if s.AI != nil {
		errs = append(errs, s.AI.rules(p.Child("ai"))...)
	}
	if s.Static != nil {
		errs = append(errs, s.Static.rules(p.Child("static"))...)
	}
	if s.AWS != nil {
		errs = append(errs, s.AWS.rules(p.Child("aws"))...)
	}
	if s.MCP != nil {
		errs = append(errs, s.MCP.rules(p.Child("mcp"))...)
	}
	if s.DynamicForwardProxy != nil {
		errs = append(errs, s.DynamicForwardProxy.rules(p.Child("dynamicForwardProxy"))...)
	}
	return append(errs, endpointRules(p, s.LoadBalancer, s.OutlierDetection, s.TCPKeepalive)...)
}

func (s *StaticBackend) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, h := range s.Hosts {
		errs = append(errs, host(p.Child("hosts").Index(i).Child("host"), h.Host)...)
	}
	return errs
}

// hostPattern is a host name, or *. and one.
var hostPattern = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$`)

func (d *DynamicForwardProxyBackend) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, dest := range d.AllowedDestinations {
		if _, err := netip.ParsePrefix(dest); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(dest); err == nil {
			continue
		}
		if strings.Contains(dest, "/") || !hostPattern.MatchString(dest) {
			errs = append(errs, field.Invalid(p.Child("allowedDestinations").Index(i), dest,
				"must be an address, a CIDR such as 10.0.0.0/8, or a host name such as internal.example.com or *.example.com"))
		}
	}
	return errs
}

func (a *AWSBackend) rules(p *field.Path) field.ErrorList {
	lambda := p.Child("lambda")
	errs := a.Auth.rules(p.Child("auth"))
	if a.AccountID == "" && a.Lambda.ARN == "" {
		errs = append(errs, field.Required(p.Child("accountId"), "set the twelve digits of the AWS account, or lambda.arn"))
	}
	if a.Lambda.FunctionName == "" && a.Lambda.ARN == "" {
		errs = append(errs, field.Required(lambda.Child("functionName"), "set the name of the function, or arn"))
	}
	// arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]; the schema has
	// checked its form.
	if parts := strings.Split(a.Lambda.ARN, ":"); len(parts) >= 7 {
		for _, same := range []struct {
			path          *field.Path
			written, part string
		}{
			{p.Child("region"), a.Region, parts[3]},
			{p.Child("accountId"), a.AccountID, parts[4]},
			{lambda.Child("functionName"), a.Lambda.FunctionName, parts[6]},
			{lambda.Child("qualifier"), a.Lambda.Qualifier, strings.Join(parts[7:], ":")},
		} {
			if same.written != "" && same.part != "" && same.written != same.part {
				errs = append(errs, field.Invalid(same.path, same.written, fmt.Sprintf("lambda.arn says %s: remove one of them", same.part)))
			}
		}
	}
	if e := a.Lambda.EndpointURL; e != "" {
		if u, err := url.Parse(e); err != nil || u.Host == "" || u.User != nil {
			errs = append(errs, field.Invalid(lambda.Child("endpointURL"), e, "must be an http or https URL with a host, without user and password"))
		}
	}
	return errs
}

// vendors returns which vendors of l are set, in the order of the type.
func (l *LLMProvider) vendors() []choice {
	return []choice{
		{"openai", l.OpenAI != nil}, {"anthropic", l.Anthropic != nil}, {"gemini", l.Gemini != nil},
		{"vertexAI", l.VertexAI != nil}, {"azureOpenAI", l.AzureOpenAI != nil}, {"bedrock", l.Bedrock != nil},
	}
}

func (a *AIBackend) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"llm", a.LLM != nil}, choice{"priorityGroups", len(a.PriorityGroups) > 0})
	if a.Clocks != nil {
		errs = append(errs, a.Clocks.rules(p.Child("clocks"))...)
	}
	for i, o := range a.AllowedOrigins {
		errs = append(errs, origin(p.Child("allowedOrigins").Index(i), o)...)
	}
	if a.LLM != nil {
		errs = append(errs, a.LLM.rules(p.Child("llm"))...)
	}
	for i := range a.Prices {
		errs = append(errs, a.Prices[i].rules(p.Child("prices").Index(i))...)
	}
	seen := map[string]*field.Path{}
	for i, g := range a.PriorityGroups {
		for j := range g.Providers {
			provider, at := &g.Providers[j], p.Child("priorityGroups").Index(i).Child("providers").Index(j)
			if first := seen[provider.Name]; first != nil && provider.Name != "" {
				errs = append(errs, &field.Error{
					Type: field.ErrorTypeDuplicate, Field: at.Child("name").String(), BadValue: provider.Name,
					Detail: fmt.Sprintf("%s has this name already: names are unique over all groups", first),
				})
			} else {
				seen[provider.Name] = at
			}
			errs = append(errs, provider.rules(at)...)
		}
	}
	return errs
}

func (l *LLMProvider) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, l.vendors()...)
	if l.Host != "" && l.Port == 0 {
		errs = append(errs, field.Required(p.Child("port"), "set host and port together"))
	}
	if l.Host == "" && l.Port != 0 {
		errs = append(errs, field.Required(p.Child("host"), "set host and port together"))
	}
	errs = append(errs, host(p.Child("host"), l.Host)...)
	if h := l.AuthHeader; h != nil && h.HeaderName == "" && h.Prefix == nil {
		errs = append(errs, field.Required(p.Child("authHeader"), "set headerName or prefix, or both"))
	}
	if l.Path != nil {
		errs = append(errs, exactlyOne(p.Child("path"), choice{"full", l.Path.Full != ""}, choice{"prefix", l.Path.Prefix != ""})...)
	}
	for suffix := range l.Routes {
		if suffix != "*" && !strings.HasPrefix(suffix, "/") {
			errs = append(errs, field.Invalid(p.Child("routes", suffix), suffix, "must be the end of a path, beginning with /, or *"))
		}
	}
	for name, token := range l.authTokens() {
		errs = append(errs, token.rules(p.Child(name, "authToken"))...)
	}
	if l.Bedrock != nil {
		errs = append(errs, l.Bedrock.Auth.rules(p.Child("bedrock", "auth"))...)
		errs = append(errs, atMostOne(p.Child("bedrock"), choice{"auth", l.Bedrock.Auth != nil}, choice{"authToken", l.Bedrock.AuthToken != nil})...)
	}
	slices.SortStableFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}

// authTokens returns the credentials of l, by the name of their vendor.
func (l *LLMProvider) authTokens() map[string]*AuthToken {
	tokens := map[string]*AuthToken{}
	if l.OpenAI != nil {
		tokens["openai"] = &l.OpenAI.AuthToken
	}
	if l.Anthropic != nil {
		tokens["anthropic"] = &l.Anthropic.AuthToken
	}
	if l.Gemini != nil {
		tokens["gemini"] = &l.Gemini.AuthToken
	}
	if l.VertexAI != nil && l.VertexAI.AuthToken != nil {
		tokens["vertexAI"] = l.VertexAI.AuthToken
	}
	if l.AzureOpenAI != nil && l.AzureOpenAI.AuthToken != nil {
		tokens["azureOpenAI"] = l.AzureOpenAI.AuthToken
	}
	if l.Bedrock != nil && l.Bedrock.AuthToken != nil {
		tokens["bedrock"] = l.Bedrock.AuthToken
	}
	return tokens
}

func (m *MCPBackend) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]int{}
	for i := range m.Targets {
		t, at := &m.Targets[i], p.Child("targets").Index(i)
		if first, twice := seen[t.Name]; twice && t.Name != "" {
			errs = append(errs, &field.Error{
				Type: field.ErrorTypeDuplicate, Field: at.Child("name").String(), BadValue: t.Name,
				Detail: fmt.Sprintf("%s has this name already: choose another", p.Child("targets").Index(first)),
			})
		} else {
			seen[t.Name] = i
		}
		errs = append(errs, t.rules(at)...)
	}
	for i, o := range m.AllowedOrigins {
		errs = append(errs, origin(p.Child("allowedOrigins").Index(i), o)...)
	}
	for i, h := range m.ForwardHeaders {
		at := p.Child("forwardHeaders").Index(i)
		errs = append(errs, headerName(at, h)...)
		if why := unforwardable(h); why != "" {
			errs = append(errs, field.Forbidden(at, h+" can't be forwarded: "+why))
		}
	}
	return errs
}

// unforwardable returns why a client header never goes to a target, or "".
func unforwardable(name string) string {
	name = strings.ToLower(name)
	switch {
	case name == "authorization" || name == "proxy-authorization":
		return "set auth with kind Passthrough on the target that should get it"
	case name == "cookie":
		return "cookies belong to the gateway's own origin"
	case slices.Contains([]string{
		"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection",
		"host", "content-length", "content-type", "content-encoding", "accept", "accept-encoding", "expect", "last-event-id",
	}, name):
		return "the gateway writes it itself"
	case strings.HasPrefix(name, "mcp-"):
		return "the gateway writes the headers of MCP itself"
	}
	return ""
}

// envName is the name of an environment variable.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (t *MCPTarget) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"service", t.Service != nil}, choice{"static", t.Static != nil}, choice{"selector", t.Selector != nil}, choice{"stdio", t.Stdio != nil})
	if t.Timeout != "" {
		errs = append(errs, atLeast(p.Child("timeout"), t.Timeout, time.Millisecond)...)
	}
	if t.Auth != nil {
		errs = append(errs, t.Auth.rules(p.Child("auth"))...)
		if t.Stdio != nil {
			errs = append(errs, field.Forbidden(p.Child("auth"), "a program has no Authorization header: pass the credential in stdio.env"))
		}
	}
	if t.Static != nil {
		errs = append(errs, host(p.Child("static", "host"), t.Static.Host)...)
		errs = append(errs, mcpPath(p.Child("static", "path"), t.Static.Path)...)
	}
	if t.Service != nil {
		errs = append(errs, mcpPath(p.Child("service", "path"), t.Service.Path)...)
	}
	if t.Selector != nil {
		at := p.Child("selector")
		errs = append(errs, atLeastOne(at, "", choice{"namespace", t.Selector.Namespace != nil}, choice{"service", t.Selector.Service != nil})...)
		errs = append(errs, labelSelector(at.Child("namespace"), t.Selector.Namespace)...)
		errs = append(errs, labelSelector(at.Child("service"), t.Selector.Service)...)
	}
	if t.Stdio != nil {
		errs = append(errs, t.Stdio.rules(p.Child("stdio"))...)
	}
	return errs
}

// mcpPath reports a path that can't be that of an endpoint.
func mcpPath(p *field.Path, path string) field.ErrorList {
	if path == "" {
		return nil
	}
	if u, err := url.ParseRequestURI(path); err != nil || u.Fragment != "" || strings.Contains(path, "#") || strings.ContainsAny(path, " \t\r\n") {
		return field.ErrorList{field.Invalid(p, path, "must be a path beginning with /, with spaces and other special characters escaped as %20")}
	}
	return nil
}

// labelSelector reports a selector that selects nothing because it is malformed.
func labelSelector(p *field.Path, s *metav1.LabelSelector) field.ErrorList {
	return validation.ValidateLabelSelector(s, validation.LabelSelectorValidationOptions{}, p)
}

func (s *MCPStdioTarget) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.ContainsRune(s.Command, 0) {
		errs = append(errs, field.Invalid(p.Child("command"), field.OmitValueType{}, "must not hold a NUL character"))
	}
	if fields := strings.Fields(s.Command); len(fields) > 1 && len(s.Args) == 0 && !strings.ContainsRune(s.Command, filepath.Separator) {
		errs = append(errs, field.Invalid(p.Child("command"), s.Command,
			fmt.Sprintf("must be the program alone, no shell reads it: write command: %s and put the rest into args", fields[0])))
	}
	for i, a := range s.Args {
		if strings.ContainsRune(a, 0) {
			errs = append(errs, field.Invalid(p.Child("args").Index(i), field.OmitValueType{}, "must not hold a NUL character"))
		}
	}
	for name, value := range s.Env {
		if !envName.MatchString(name) {
			errs = append(errs, field.Invalid(p.Child("env", name), name, "must be the name of an environment variable: letters, digits and _, not beginning with a digit"))
		}
		if strings.ContainsRune(string(value), 0) {
			errs = append(errs, field.Invalid(p.Child("env", name), value.String(), "must not hold a NUL character"))
		}
	}
	slices.SortStableFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}
