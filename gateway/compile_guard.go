package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/upstream"
)

// An aiPolicy is spec.ai of a policy, compiled. What it does not set is nil.
type aiPolicy struct {
	guard      *guards
	enrichment *llm.Enrichment
	defaults   []llm.FieldDefault
}

// A guards is a promptGuard, of which either may be nil.
type guards struct {
	prompt *guard.Prompt
	answer *guard.Answer
}

// The fields of spec.ai, which are merged each as a whole where policies cover a Backend.
const (
	guardField      = "ai.promptGuard"
	enrichmentField = "ai.promptEnrichment"
	defaultsField   = "ai.fieldDefaults"
)

func (p *aiPolicy) fields() (out []string) {
	if p.guard != nil {
		out = append(out, guardField)
	}
	if p.enrichment != nil {
		out = append(out, enrichmentField)
	}
	if p.defaults != nil {
		out = append(out, defaultsField)
	}
	return out
}

// aiPolicy compiles spec.ai of a policy; ok is false when it has a mistake, so that what the policy covers
// has to answer 500.
func (c *compiler) aiPolicy(o object, spec *v1alpha1.AIPolicy) (out *aiPolicy, ok bool) {
	if spec == nil {
		return nil, true
	}
	out, ok = &aiPolicy{}, true
	invalid := finding{class: config.Invalid, code: config.CodeInvalidValue}
	if g := spec.PromptGuard; g != nil {
		out.guard = &guards{}
		path := "spec.ai.promptGuard"
		if r := g.Request; r != nil {
			out.guard.prompt = c.promptGuard(o, path+".request", r)
			ok = ok && out.guard.prompt != nil
		}
		if r := g.Response; r != nil {
			out.guard.answer = c.answerGuard(o, path+".response", r)
			ok = ok && out.guard.answer != nil
		}
	}
	if e := spec.PromptEnrichment; e != nil {
		out.enrichment = &llm.Enrichment{Prepend: promptMessages(e.Prepend), Append: promptMessages(e.Append)}
	}
	for i := range spec.FieldDefaults {
		f := &spec.FieldDefaults[i]
		d, err := llm.NewFieldDefault(f.Path, f.Value.Raw, f.Override)
		if err != nil {
			ok = false
			c.add(o, fmt.Sprintf("spec.ai.fieldDefaults[%d]", i), invalid, "%s", err)
			continue
		}
		out.defaults = append(out.defaults, d)
	}
	return out, ok
}

func promptMessages(in []v1alpha1.PromptMessage) (out []llm.PromptMessage) {
	for _, m := range in {
		out = append(out, llm.PromptMessage{Role: m.Role, Content: m.Content})
	}
	return out
}

// promptGuard compiles the guard of requests, or reports what is wrong with it and returns nil.
func (c *compiler) promptGuard(o object, path string, spec *v1alpha1.PromptGuardRequest) *guard.Prompt {
	out := &guard.Prompt{Rejection: guard.Rejection{Status: http.StatusForbidden, Message: "The request was rejected due to inappropriate content"}}
	if r := spec.CustomResponse; r != nil {
		out.Rejection = guard.Rejection{Status: cmp.Or(int(r.StatusCode), out.Rejection.Status), Message: cmp.Or(r.Message, out.Rejection.Message)}
	}
	ok := c.guardParts(o, path, spec.Regex, spec.Webhook, &out.Regex, &out.Webhook)
	if m := spec.Moderation; m != nil && m.OpenAIModeration != nil {
		out.Moderation = c.moderation(o, path+".moderation.openAIModeration", m.OpenAIModeration)
		ok = ok && out.Moderation != nil
	}
	if !ok {
		return nil
	}
	return out
}

// answerGuard compiles the guard of answers, or reports what is wrong with it and returns nil.
func (c *compiler) answerGuard(o object, path string, spec *v1alpha1.PromptGuardResponse) *guard.Answer {
	out := &guard.Answer{Rejection: guard.Rejection{Status: http.StatusForbidden, Message: "The response was rejected due to inappropriate content"}}
	if !c.guardParts(o, path, spec.Regex, spec.Webhook, &out.Regex, &out.Webhook) {
		return nil
	}
	return out
}

// guardParts compiles what guards of requests and of answers have in common.
func (c *compiler) guardParts(o object, path string, r *v1alpha1.GuardRegex, w *v1alpha1.GuardWebhook, regex **guard.Regex, webhook **guard.Webhook) bool {
	invalid := finding{class: config.Invalid, code: config.CodeInvalidValue, help: "see https://github.com/google/re2/wiki/Syntax"}
	if r != nil {
		action := guard.Mask
		if r.Action == v1alpha1.GuardReject {
			action = guard.Reject
		}
		var patterns []guard.Pattern
		for _, m := range r.Matches {
			patterns = append(patterns, guard.Pattern{Expression: m.Pattern, Name: m.Name})
		}
		var builtins []guard.Builtin
		for _, b := range r.Builtins {
			builtins = append(builtins, guard.Builtin(b))
		}
		var err error
		if *regex, err = guard.NewRegex(action, patterns, builtins); err != nil {
			c.add(o, path+".regex", invalid, "%s", err)
			return false
		}
	}
	if w == nil {
		return true
	}
	address := hostPort(w.Host.Host, w.Host.Port)
	*webhook = &guard.Webhook{RoundTripper: c.pool("GUARD/"+address, upstream.HTTP1, []string{address}), Host: address}
	for i, m := range w.ForwardHeaderMatches {
		match := guard.HeaderMatch{Name: http.CanonicalHeaderKey(m.Name), Value: m.Value}
		if m.Type == v1alpha1.HeaderMatchRegularExpression {
			var err error
			if match, err = guard.NewHeaderPattern(m.Name, m.Value); err != nil {
				c.add(o, fmt.Sprintf("%s.webhook.forwardHeaderMatches[%d].value", path, i), invalid, "%s", err)
				return false
			}
		}
		(*webhook).Forward = append((*webhook).Forward, match)
	}
	return true
}

// defaultModeration is where the moderation API of OpenAI is.
const defaultModeration = "https://api.openai.com/v1"

// moderation compiles a moderation, or reports what is wrong with it and returns nil.
func (c *compiler) moderation(o object, path string, spec *v1alpha1.OpenAIModeration) *guard.Moderation {
	out := &guard.Moderation{Model: spec.Model}
	switch {
	case spec.AuthToken.Kind == v1alpha1.AuthTokenPassthrough:
		out.Passthrough = true
	case spec.AuthToken.SecretRef != nil:
		// Without it what the guard covers is refused, and heals once it is there.
		out.Token = c.secretToken(o, path+".authToken", spec.AuthToken.SecretRef.Name)
	default:
		out.Token = tokenOf(spec.AuthToken.Inline.Secret().Reveal())
	}
	base := defaultModeration
	if c.rt != nil {
		base = cmp.Or(c.rt.opts.ModerationURL, base)
	}
	u, err := url.Parse(base)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		c.add(o, path, finding{class: config.Unresolved, code: config.CodeInvalidValue}, "the moderation API can't be at %q: it has to be a URL", base)
		return nil
	}
	port := int32(443)
	if u.Scheme == "http" {
		port = 80
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return nil // url.Parse has checked it
		}
		port = int32(n)
	}
	out.Host, out.Path = u.Host, u.Path+"/moderations"
	out.RoundTripper = c.providerPool(connection{}, u.Hostname(), port)
	return out
}

// guarding returns what of spec.ai holds for the requests of a rule at a Backend, with "", and at
// each of its sections that has policies of its own. Each field of a policy on a section beats that of one
// on the Backend, and that the one of the rule.
func (c *compiler) guarding(route *attachedPolicy, d *destination) map[string]*aiPolicy {
	attached := c.attached[attachment{kind: v1alpha1.KindBackend, name: namespaced(d.name)}]
	sections := []string{""}
	for _, a := range attached {
		if s := a.section; a.ai != nil && !slices.Contains(sections, s) {
			sections = append(sections, s)
		}
	}
	out := map[string]*aiPolicy{}
	for _, section := range sections {
		var all []attachedPolicy
		var fields []policy.Attachment
		collect := func(level policy.Level, a *attachedPolicy) {
			if a != nil && a.ai != nil {
				all = append(all, *a)
				fields = append(fields, policy.Attachment{Name: a.object.name.String(), Created: a.created, Level: level, Fields: a.ai.fields()})
			}
		}
		collect(policy.RuleLevel, route)
		for i := range attached {
			switch attached[i].section {
			case "":
				collect(policy.BackendLevel, &attached[i])
			case section:
				collect(policy.SectionLevel, &attached[i])
			}
		}
		if len(all) == 0 {
			continue
		}
		effective := policy.Merge(fields)
		c.overridden(all, fields, effective)
		p := &aiPolicy{}
		for field, winners := range effective.Fields {
			from := all[winners[0]].ai
			switch field {
			case guardField:
				p.guard = from.guard
			case enrichmentField:
				p.enrichment = from.enrichment
			case defaultsField:
				p.defaults = from.defaults
			}
		}
		out[section] = p
		for i := range all {
			c.applied[all[i].object] = true
		}
	}
	return out
}

// namespaced reads namespace/name.
func namespaced(name string) types.NamespacedName {
	var n types.NamespacedName
	for i := range name {
		if name[i] == '/' {
			n.Namespace, n.Name = name[:i], name[i+1:]
		}
	}
	return n
}

// attachAI notes what of spec.ai holds for the requests of a rule at each of its backends.
func (c *compiler) attachAI(r *rule, covering *covering) {
	for _, w := range r.backends {
		d := w.to
		if d.kind != string(v1alpha1.BackendAI) && !d.mcp {
			continue
		}
		holds := c.guarding(covering.ai, d)
		if !d.mcp {
			c.checkPassed(namespaced(d.name), holds, covering.counted)
		}
		if len(holds) == 0 {
			continue
		}
		if d.mcp {
			if r.guards == nil {
				r.guards = map[string]*federation.Guard{}
			}
			r.guards[d.name] = mcpGuard(holds)
			continue
		}
		if r.ai == nil {
			r.ai = map[string]*llm.Policy{}
		}
		r.ai[d.name] = llmPolicy(holds)
	}
}

// checkPassed warns of the routes of a Backend of type AI that pass requests around what is to guard or to count them.
func (c *compiler) checkPassed(name types.NamespacedName, holds map[string]*aiPolicy, counted bool) {
	b := c.backends[name]
	if b == nil || b.Spec.AI == nil {
		return
	}
	around := ""
	if counted {
		around = "budgets that count it"
	}
	for _, p := range holds {
		if p.guard != nil {
			around = "the prompt guard that covers the Backend"
		}
	}
	if around == "" {
		return
	}
	o := objectOf(v1alpha1.KindBackend, b)
	check := func(path string, spec *v1alpha1.LLMProvider) {
		for _, suffix := range slices.Sorted(maps.Keys(spec.Routes)) {
			note := o.String() + path + suffix
			if spec.Routes[suffix] != v1alpha1.LLMPassthrough || c.noted[note] {
				continue
			}
			c.noted[note] = true
			c.add(o, path+".routes."+suffix, finding{
				class: config.Warning, code: config.CodeUnguarded, help: "name a type that is read, or let the path be reached by those only who need it",
			}, "what goes to %s passes as it is: around %s", suffix, around)
		}
	}
	if spec := b.Spec.AI.LLM; spec != nil {
		check("spec.ai.llm", spec)
	}
	for i, group := range b.Spec.AI.PriorityGroups {
		for j := range group.Providers {
			check(fmt.Sprintf("spec.ai.priorityGroups[%d].providers[%d]", i, j), &group.Providers[j].LLMProvider)
		}
	}
}

// llmPolicy returns what holds for a Backend of type AI.
func llmPolicy(holds map[string]*aiPolicy) *llm.Policy {
	var out *llm.Policy
	providers := map[string]*llm.Policy{}
	for section, p := range holds {
		one := &llm.Policy{Defaults: p.defaults}
		if p.enrichment != nil {
			one.Enrichment = *p.enrichment
		}
		if p.guard != nil {
			one.Prompt, one.Answer = p.guard.prompt, p.guard.answer
		}
		if section == "" {
			out = one
		} else {
			providers[section] = one
		}
	}
	if out == nil {
		out = &llm.Policy{}
	}
	out.Providers = providers
	return out
}

// mcpGuard returns what holds for a Backend of type MCP: of spec.ai the guard.
func mcpGuard(holds map[string]*aiPolicy) *federation.Guard {
	out := &federation.Guard{Targets: map[string]*federation.Guard{}}
	for section, p := range holds {
		g := out
		if section != "" {
			g = &federation.Guard{}
			out.Targets[section] = g
		}
		if p.guard != nil {
			g.Prompt, g.Answer = p.guard.prompt, p.guard.answer
		}
	}
	return out
}

// checkApplied reports the policies whose spec.ai has no effect.
func (c *compiler) checkApplied() {
	for _, p := range c.res.TrafficPolicies {
		o := objectOf(v1alpha1.KindTrafficPolicy, p)
		if p.Spec.AI != nil && !c.applied[o] {
			c.add(o, "spec.ai", finding{class: config.Warning, code: config.CodeUnused}, "nothing that the policy covers leads to a Backend of type AI or MCP: ai has no effect")
		}
	}
}
