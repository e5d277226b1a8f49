package v1alpha1

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns every mistake in t but those within CEL expressions, which
// package policy compiles.
func (t *TrafficPolicy) Validate() field.ErrorList { return validate(KindTrafficPolicy, t) }

func (t *TrafficPolicy) rules() field.ErrorList {
	p, s := field.NewPath("spec"), &t.Spec
	errs := targetRules(KindTrafficPolicy, s.TargetRefs, s.TargetSelectors,
		[]string{"Gateway", "HTTPRoute", "ListenerSet", "XListenerSet", "Backend"}, []string{"Gateway", "HTTPRoute", "ListenerSet", "XListenerSet"})
	errs = append(errs, s.targetLimits(p)...)
	errs = append(errs, s.authRules(p)...)
	if s.AI != nil {
		errs = append(errs, s.AI.rules(p.Child("ai"))...)
	}
	if s.RBAC != nil {
		for i, e := range s.RBAC.Policy.MatchExpressions {
			if strings.TrimSpace(e) == "" {
				errs = append(errs, field.Required(p.Child("rbac", "policy", "matchExpressions").Index(i), "write a CEL expression, such as request.method == 'GET'"))
			}
		}
	}
	if s.RateLimit != nil {
		errs = append(errs, s.RateLimit.rules(p.Child("rateLimit"))...)
	}
	errs = append(errs, s.Budgets.rules(p.Child("budgets"))...)
	if s.Transformation != nil {
		errs = append(errs, s.Transformation.rules(p.Child("transformation"))...)
	}
	if e := s.ExtAuth; e != nil {
		errs = append(errs, exactlyOne(p.Child("extAuth"), choice{"extensionRef", e.ExtensionRef != nil}, choice{"disable", e.Disable != nil})...)
	}
	if e := s.ExtProc; e != nil {
		errs = append(errs, exactlyOne(p.Child("extProc"), choice{"extensionRef", e.ExtensionRef != nil}, choice{"disable", e.Disable != nil})...)
	}
	if s.CORS != nil {
		errs = append(errs, s.CORS.rules(p.Child("cors"))...)
	}
	if s.CSRF != nil {
		errs = append(errs, s.CSRF.rules(p.Child("csrf"))...)
	}
	if h := s.HeaderModifiers; h != nil {
		errs = append(errs, atLeastOne(p.Child("headerModifiers"), "", choice{"request", h.Request != nil}, choice{"response", h.Response != nil})...)
	}
	if s.Buffer != nil {
		errs = append(errs, s.Buffer.rules(p.Child("buffer"))...)
	}
	if s.Retry != nil && s.Timeouts != nil {
		try, all := s.Retry.PerTryTimeout, s.Timeouts.Request
		if try != "" && all != "" && all.Value() > 0 && try.Value() >= all.Value() {
			errs = append(errs, field.Invalid(p.Child("retry", "perTryTimeout"), string(try), "must be shorter than timeouts.request, which is "+string(all)))
		}
	}
	return errs
}

// targetLimits reports fields that work on certain targets only.
func (s *TrafficPolicySpec) targetLimits(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, r := range s.TargetRefs {
		if s.AutoHostRewrite != nil && r.Kind != "HTTPRoute" {
			errs = append(errs, field.Forbidden(p.Child("autoHostRewrite"), "works on HTTPRoutes only, but targetRefs names a "+r.Kind+": use a policy of its own"))
			break
		}
		if s.Retry != nil && r.Kind == "Gateway" && r.SectionName == "" {
			errs = append(errs, field.Required(p.Child("targetRefs").Index(i).Child("sectionName"), "retry on a Gateway needs the name of the listener to cover"))
		}
	}
	for i, r := range s.TargetSelectors {
		if s.AutoHostRewrite != nil && r.Kind != "HTTPRoute" {
			errs = append(errs, field.Forbidden(p.Child("autoHostRewrite"), "works on HTTPRoutes only, but targetSelectors selects objects of kind "+r.Kind+": use a policy of its own"))
			break
		}
		if s.Retry != nil && r.Kind == "Gateway" && r.SectionName == "" {
			errs = append(errs, field.Required(p.Child("targetSelectors").Index(i).Child("sectionName"), "retry on a Gateway needs the name of the listener to cover"))
		}
	}
	return errs
}

func (a *AIPolicy) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if g := a.PromptGuard; g != nil {
		at := p.Child("promptGuard")
		errs = append(errs, atLeastOne(at, "", choice{"request", g.Request != nil}, choice{"response", g.Response != nil})...)
		if r := g.Request; r != nil {
			in := at.Child("request")
			errs = append(errs, atLeastOne(in, ": the guard checks nothing", choice{"regex", r.Regex != nil}, choice{"webhook", r.Webhook != nil}, choice{"moderation", r.Moderation != nil})...)
			errs = append(errs, r.Regex.rules(in.Child("regex"))...)
			errs = append(errs, r.Webhook.rules(in.Child("webhook"))...)
			if m := r.Moderation; m != nil && m.OpenAIModeration != nil {
				errs = append(errs, m.OpenAIModeration.AuthToken.rules(in.Child("moderation", "openAIModeration", "authToken"))...)
			}
		}
		if r := g.Response; r != nil {
			in := at.Child("response")
			errs = append(errs, atLeastOne(in, ": the guard checks nothing", choice{"regex", r.Regex != nil}, choice{"webhook", r.Webhook != nil})...)
			errs = append(errs, r.Regex.rules(in.Child("regex"))...)
			errs = append(errs, r.Webhook.rules(in.Child("webhook"))...)
		}
	}
	if e := a.PromptEnrichment; e != nil {
		errs = append(errs, atLeastOne(p.Child("promptEnrichment"), "", choice{"prepend", len(e.Prepend) > 0}, choice{"append", len(e.Append) > 0})...)
	}
	for i := range a.FieldDefaults {
		errs = append(errs, a.FieldDefaults[i].rules(p.Child("fieldDefaults").Index(i))...)
	}
	return errs
}

func (g *GuardRegex) rules(p *field.Path) field.ErrorList {
	if g == nil {
		return nil
	}
	errs := atLeastOne(p, ": nothing would be found", choice{"matches", len(g.Matches) > 0}, choice{"builtins", len(g.Builtins) > 0})
	for i, m := range g.Matches {
		errs = append(errs, regex(p.Child("matches").Index(i).Child("pattern"), m.Pattern)...)
	}
	return errs
}

func (w *GuardWebhook) rules(p *field.Path) field.ErrorList {
	if w == nil {
		return nil
	}
	errs := host(p.Child("host", "host"), w.Host.Host)
	for i := range w.ForwardHeaderMatches {
		errs = append(errs, w.ForwardHeaderMatches[i].rules(p.Child("forwardHeaderMatches").Index(i))...)
	}
	return errs
}

func (m *HeaderMatch) rules(p *field.Path) field.ErrorList {
	if m.Type != HeaderMatchRegularExpression {
		return nil
	}
	return regex(p.Child("value"), m.Value)
}

// rules reports a path that leads nowhere, and a value that looks like JSON and
// is not.
func (f *FieldDefault) rules(p *field.Path) field.ErrorList {
	errs := fieldPath(p.Child("path"), f.Path)
	var s string
	if json.Unmarshal(f.Value.Raw, &s) != nil {
		return errs // any other JSON stands for itself
	}
	if trimmed := strings.TrimSpace(s); strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[") {
		if !json.Valid([]byte(s)) {
			errs = append(errs, field.Invalid(p.Child("value"), s, "begins like JSON but is not: mend it, or write it as YAML without quotes"))
		}
	}
	return errs
}

// fieldPath reports what is not a path of keys and indexes such as a.b[0].c.
func fieldPath(p *field.Path, path string) field.ErrorList {
	if path == "" {
		return nil // the schema says so
	}
	invalid := field.ErrorList{field.Invalid(p, path, `must be a key or a path such as response_format.type or tools[0].name, with a dot inside a key written \.`)}
	rest := strings.TrimPrefix(path, "$.")
	part, indexed := "", false
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest):
			i++
			part += rest[i : i+1]
		case c == '.':
			if part == "" && !indexed {
				return invalid
			}
			part, indexed = "", false
		case c == '[':
			end := strings.IndexByte(rest[i:], ']')
			if end < 2 || strings.Trim(rest[i+1:i+end], "0123456789") != "" || part == "" && !indexed {
				return invalid
			}
			i += end
			indexed = true
			if i+1 < len(rest) && rest[i+1] != '.' && rest[i+1] != '[' {
				return invalid
			}
		default:
			part += string(c)
		}
	}
	if part == "" && !indexed {
		return invalid
	}
	return nil
}

func (r *RateLimit) rules(p *field.Path) field.ErrorList {
	errs := atLeastOne(p, ": nothing would be limited", choice{"local", r.Local != nil}, choice{"global", r.Global != nil}, choice{"rateLimits", len(r.RateLimits) > 0})
	if r.Local != nil && r.Local.TokenBucket != nil {
		at, b := p.Child("local", "tokenBucket"), r.Local.TokenBucket
		errs = append(errs, atLeast(at.Child("fillInterval"), b.FillInterval, 50*time.Millisecond)...)
		if b.TokensPerFill > b.MaxTokens && b.MaxTokens > 0 {
			errs = append(errs, field.Invalid(at.Child("tokensPerFill"), b.TokensPerFill, "must not be more than maxTokens: the bucket could not hold them"))
		}
	}
	if r.Global != nil {
		for i, d := range r.Global.Descriptors {
			for j, e := range d.Entries {
				at := p.Child("global", "descriptors").Index(i).Child("entries").Index(j)
				if e.Type == "" && (e.Generic != nil) == (e.Header != "") {
					errs = append(errs, field.Required(at.Child("type"), "set type: Generic, Header, RemoteAddress or Path"))
					continue
				}
				errs = append(errs, entryRules(at, e.Type, e.Generic != nil, e.Header != "")...)
			}
		}
	}
	for i, l := range r.RateLimits {
		for j := range l.Actions {
			errs = append(errs, l.Actions[j].rules(p.Child("rateLimits").Index(i).Child("actions").Index(j))...)
		}
	}
	return errs
}

// entryRules reports a type without its value, and a value without its type.
func entryRules(p *field.Path, t RateLimitEntryType, generic, header bool) field.ErrorList {
	if t == "" && generic != header {
		return nil // what is set says the type
	}
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		t    RateLimitEntryType
		set  bool
	}{{"generic", RateLimitGeneric, generic}, {"header", RateLimitHeader, header}} {
		if t == f.t && !f.set {
			errs = append(errs, field.Required(p.Child(f.name), "type "+string(t)+" needs "+f.name))
		}
		if t != f.t && f.set {
			errs = append(errs, field.Forbidden(p.Child(f.name), "goes with type "+string(f.t)+" only"))
		}
	}
	return errs
}

func (a *RateLimitAction) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p,
		choice{"genericKey", a.GenericKey != nil}, choice{"requestHeaders", a.RequestHeaders != nil}, choice{"remoteAddress", a.RemoteAddress != nil},
		choice{"headerValueMatch", a.HeaderValueMatch != nil}, choice{"sourceCluster", a.SourceCluster != nil},
		choice{"destinationCluster", a.DestinationCluster != nil}, choice{"metadata", a.Metadata != nil}, choice{"path", a.Path != nil}, choice{"type", a.Type != ""})
	errs = append(errs, entryRules(p, a.Type, a.Generic != nil, a.Header != "")...)
	if a.RequestHeaders != nil && a.RequestHeaders.HeaderName != "" {
		errs = append(errs, headerName(p.Child("requestHeaders", "headerName"), a.RequestHeaders.HeaderName)...)
	}
	if a.HeaderValueMatch == nil {
		return errs
	}
	for i, h := range a.HeaderValueMatch.Headers {
		at := p.Child("headerValueMatch", "headers").Index(i)
		errs = append(errs, atMostOne(at, choice{"exactMatch", h.ExactMatch != ""}, choice{"regexMatch", h.RegexMatch != ""},
			choice{"prefixMatch", h.PrefixMatch != ""}, choice{"suffixMatch", h.SuffixMatch != ""}, choice{"presentMatch", h.PresentMatch != nil})...)
		errs = append(errs, regex(at.Child("regexMatch"), h.RegexMatch)...)
	}
	return errs
}

func (t *Transformation) rules(p *field.Path) field.ErrorList {
	errs := atLeastOne(p, "", choice{"request", t.Request != nil}, choice{"response", t.Response != nil})
	if t.Request != nil {
		errs = append(errs, headerNames(p.Child("request", "remove"), t.Request.Remove)...)
	}
	if t.Response != nil {
		errs = append(errs, headerNames(p.Child("response", "remove"), t.Response.Remove)...)
	}
	return errs
}

func (c *CORSPolicy) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Disable != nil {
		for _, f := range []choice{
			{"allowOrigins", len(c.AllowOrigins) > 0}, {"allowCredentials", c.AllowCredentials != nil}, {"allowMethods", len(c.AllowMethods) > 0},
			{"allowHeaders", len(c.AllowHeaders) > 0}, {"exposeHeaders", len(c.ExposeHeaders) > 0}, {"maxAge", c.MaxAge != 0},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(p.Child(f.name), "disable stands alone: remove one of them"))
			}
		}
	}
	for i, o := range c.AllowOrigins {
		at := p.Child("allowOrigins").Index(i)
		if o == "*" {
			continue
		}
		errs = append(errs, origin(at, strings.Replace(o, "://*.", "://", 1))...)
	}
	return errs
}

func (c *CSRFPolicy) rules(p *field.Path) field.ErrorList {
	errs := atMostOne(p, choice{"percentageEnabled", c.PercentageEnabled != nil}, choice{"percentageShadowed", c.PercentageShadowed != nil})
	for i, m := range c.AdditionalOrigins {
		at := p.Child("additionalOrigins").Index(i)
		errs = append(errs, exactlyOne(at, choice{"exact", m.Exact != ""}, choice{"prefix", m.Prefix != ""}, choice{"suffix", m.Suffix != ""},
			choice{"contains", m.Contains != ""}, choice{"safeRegex", m.SafeRegex != ""})...)
		errs = append(errs, regex(at.Child("safeRegex"), m.SafeRegex)...)
	}
	return errs
}

func (b *BufferPolicy) rules(p *field.Path) field.ErrorList {
	errs := exactlyOne(p, choice{"maxRequestSize", b.MaxRequestSize != ""}, choice{"disable", b.Disable != nil})
	if b.MaxRequestSize == "" {
		return errs
	}
	size, err := resource.ParseQuantity(b.MaxRequestSize)
	if err != nil || size.Value() <= 0 || size.Value() >= math.MaxUint32+1 {
		errs = append(errs, field.Invalid(p.Child("maxRequestSize"), b.MaxRequestSize, "must be a size such as 64Ki or 10Mi, more than 0 and less than 4Gi"))
	}
	return errs
}
