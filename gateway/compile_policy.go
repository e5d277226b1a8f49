package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/policy"
)

// An attachment is what a policy covers: an object, or a section of it.
type attachment struct {
	kind    string
	name    types.NamespacedName
	section string
}

// An attachedPolicy is a policy as it covers something.
type attachedPolicy struct {
	object  object
	created time.Time
	// rules are those of rbac, which add up, and what is broken; nil without.
	rules *policy.RuleSet
	// auth is how clients are authenticated; nil when the policy says nothing about it.
	auth *authentication
	// limits are those of requests, by field; of a field that is switched off there are none.
	limits map[string][]policy.Limiter
	// budgets are those of language models and tool calls, which add up.
	budgets []policy.Budget
	// ai is what it changes and checks in requests of language models; nil when it says nothing about it.
	ai *aiPolicy
	// web is what it says of HTTP itself.
	web webPolicy
	// section is the part of a Backend that it covers, "" for all of it.
	section string
	// shows tells apart what clients see by the policy.
	shows string
}

// A compiledExpression is the outcome of compiling one expression.
type compiledExpression struct {
	expression *policy.Expression
	err        error
}

// compilePolicies compiles the policies and notes what each covers. What a policy
// with a mistake covers is broken: it answers 500, it is never open.
func (c *compiler) compilePolicies() {
	for _, p := range c.res.TrafficPolicies {
		o := objectOf(v1alpha1.KindTrafficPolicy, p)
		a := attachedPolicy{object: o, created: p.CreationTimestamp.Time, auth: c.authentication(o, p)}
		set, ok := c.ruleSet(o, p)
		limits, served := c.limiting(o, p)
		var countable bool
		if a.budgets, countable = c.budgets(o, p); !served || !countable {
			set.Broken, ok = true, true
		}
		targets := c.targets(o, p.Spec.TargetRefs, p.Spec.TargetSelectors)
		c.applied[o] = len(targets) == 0 // which was reported
		var sound bool
		if a.ai, sound = c.aiPolicy(o, p.Spec.AI); !sound {
			set.Broken, ok = true, true
		}
		if a.web, sound = c.web(o, &p.Spec); !sound {
			set.Broken, ok = true, true
		}
		if !ok && a.auth == nil && limits == nil && a.budgets == nil && a.ai == nil && len(a.web) == 0 {
			continue
		}
		if ok {
			a.rules = &set
		}
		a.shows = fingerprint(p.Spec.RBAC, set.Broken, a.auth.fingerprint())
		for _, t := range targets {
			a.limits = c.limiters(limits, t)
			if t.kind == v1alpha1.KindBackend {
				c.attach(t, c.forBackend(o, t, a))
				continue
			}
			c.attach(t, a)
		}
	}
	for _, p := range c.res.HTTPListenerPolicies {
		o := objectOf(v1alpha1.KindHTTPListenerPolicy, p)
		targets := c.targets(o, p.Spec.TargetRefs, p.Spec.TargetSelectors)
		c.listening[o] = targets
		if c.protects(o, p) {
			for _, t := range targets {
				c.attach(t, broken(o))
			}
		}
	}
}

// forBackend returns what of a policy holds at a Backend that it covers, and reports what does not.
func (c *compiler) forBackend(o object, t attachment, p attachedPolicy) attachedPolicy {
	if _, ok := p.web["cors"]; ok {
		c.add(o, "spec.cors", finding{class: config.Warning, code: config.CodeUnused, help: "cover the HTTPRoute instead"},
			"pages are told what they may do before a backend is chosen: cors has no effect on Backend %q", t.name.Name)
		p.web = maps.Clone(p.web)
		delete(p.web, "cors")
	}
	field, why := "", "is served on whole Backends, not on their sections"
	switch fields := p.web.fields(); {
	case p.budgets != nil:
		field, why = budgetsField, "is served on Gateways and HTTPRoutes"
	case t.section == "":
	case p.limits != nil:
		field = "rateLimit"
	case len(fields) > 0:
		field = fields[0]
	}
	if field != "" {
		c.add(o, "spec."+field, finding{class: config.Unresolved, code: config.CodeUnserved, help: "cover the HTTPRoute instead"},
			"%s %s: Backend %q answers 500, rather than going on without it", field, why, t.name.Name)
	}
	return p
}

// onBackend returns what the policies on a Backend ask, and what they say of HTTP: of each field one policy's.
func (c *compiler) onBackend(policies []attachedPolicy) (opts policy.Options, web webPolicy) {
	var whole []attachedPolicy
	var fields []policy.Attachment
	for _, p := range policies {
		if p.section == "" {
			whole = append(whole, p)
			fields = append(fields, policy.Attachment{Name: p.object.name.String(), Created: p.created, Level: policy.BackendLevel, Fields: p.fields()})
		}
	}
	effective := policy.Merge(fields)
	c.overridden(whole, fields, effective)
	web = webPolicy{}
	for _, f := range webFields() {
		for _, i := range effective.Fields[f.name] {
			web[f.name] = whole[i].web[f.name]
			if check := web[f.name].check; check != nil {
				opts.Checks = append(opts.Checks, check)
			}
		}
	}
	for _, field := range limitFields() {
		for _, i := range effective.Fields[field] {
			opts.Limiters = append(opts.Limiters, whole[i].limits[field]...)
		}
	}
	return opts, web
}

// fingerprint returns a hash of plain data.
func fingerprint(data ...any) string {
	hash := sha256.New()
	_ = json.NewEncoder(hash).Encode(data) // into a hash, of plain data
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// whole returns the attachment under which what covers it is kept: the targets of a
// Backend are parts of it.
func (t attachment) whole() attachment {
	if t.kind == v1alpha1.KindBackend {
		t.section = ""
	}
	return t
}

// part returns what the attachment covers of the whole.
func (t attachment) part() string {
	if t.kind == v1alpha1.KindBackend && t.section != "" {
		return t.section + " "
	}
	return ""
}

// broken is what makes all that it is attached to answer 500.
func broken(o object) attachedPolicy {
	return attachedPolicy{object: o, rules: &policy.RuleSet{Source: o.String(), Broken: true}}
}

func (c *compiler) attach(t attachment, p attachedPolicy) {
	if t.kind == v1alpha1.KindBackend {
		p.section = t.section
		// It authenticates or has budgets, which a Backend is too late for, or says what a part of a Backend does not get by itself.
		late := p.auth != nil || p.budgets != nil || t.section != "" && (p.limits != nil || len(p.web) > 0)
		if p.rules == nil && late {
			p.rules = broken(p.object).rules
		}
		if p.rules != nil {
			set := *p.rules
			set.Target = t.section
			set.Broken = set.Broken || late
			p.rules = &set
		}
	}
	p.shows = t.part() + p.shows
	c.attached[t.whole()] = append(c.attached[t.whole()], p)
}

// ruleSets returns the rules of policies that cover the same.
func ruleSets(policies []attachedPolicy) (out []policy.RuleSet) {
	for _, p := range policies {
		if p.rules != nil {
			out = append(out, *p.rules)
		}
	}
	return out
}

// ruleSet compiles what a TrafficPolicy restricts; ok is false when it restricts nothing.
func (c *compiler) ruleSet(o object, p *v1alpha1.TrafficPolicy) (set policy.RuleSet, ok bool) {
	set = policy.RuleSet{Source: o.String(), Broken: c.protects(o, p)}
	if p.Spec.RBAC == nil {
		return set, set.Broken
	}
	if p.Spec.RBAC.Action == v1alpha1.RBACDeny {
		set.Action = policy.Deny
	}
	for i, source := range p.Spec.RBAC.Policy.MatchExpressions {
		path := fmt.Sprintf("spec.rbac.policy.matchExpressions[%d]", i)
		e, err := c.expression(source)
		if err != nil {
			set.Broken = true
			c.addExpression(o, path, err)
			continue
		}
		set.Expressions = append(set.Expressions, e)
		for _, w := range e.Warnings() {
			c.add(o, path, finding{class: config.Warning, code: config.CodeExpressionWarning}, "%s", w)
		}
	}
	return set, true
}

// addExpression reports an expression that does not compile, at the place in it.
func (c *compiler) addExpression(o object, path string, err error) {
	p := config.Problem{
		Class: config.Invalid, Code: config.CodeExpression, Object: o.ref(), Path: path,
		Message: err.Error(),
	}
	var at *policy.ExpressionError
	if errors.As(err, &at) {
		p.Message = at.Message
		if c.res.Positions != nil {
			p.Position = c.res.Positions.FindOffset(p.Object, path, at.Offset)
			p.Path = c.res.Positions.Written(p.Object, path)
		}
	}
	c.report.AddAt(c.res.Positions, p)
}

func (c *compiler) expression(source string) (*policy.Expression, error) {
	if e, ok := c.expressions[source]; ok {
		return e.expression, e.err
	}
	e, err := c.rt.expression(source)
	c.expressions[source] = compiledExpression{e, err}
	return e, err
}

// targets returns what a policy covers, and reports what of it is not there.
func (c *compiler) targets(o object, refs []v1alpha1.PolicyTargetRef, selectors []v1alpha1.PolicyTargetSelector) []attachment {
	var out []attachment
	for i, r := range refs {
		a := attachment{kind: targetKind(r.Kind), name: types.NamespacedName{Namespace: o.name.Namespace, Name: r.Name}, section: r.SectionName}
		path := fmt.Sprintf("spec.targetRefs[%d]", i)
		if c.checkTarget(o, path, a) {
			out = append(out, a)
			c.covers(o, path, a)
		}
	}
	for i, s := range selectors {
		found := c.selectTargets(o.name.Namespace, s)
		if len(found) == 0 {
			c.add(o, fmt.Sprintf("spec.targetSelectors[%d]", i), finding{
				class: config.Warning, code: config.CodeUnresolvedTarget, reason: "TargetNotFound",
				help: "policies select objects in their own namespace",
			}, "no %s has these labels", s.Kind)
		}
		out = append(out, found...)
		for _, a := range found {
			c.covers(o, fmt.Sprintf("spec.targetSelectors[%d]", i), a)
		}
	}
	if len(refs)+len(selectors) == 0 {
		c.add(o, "spec", finding{
			class: config.Warning, code: config.CodeUnused, reason: "TargetNotFound",
			help: "add spec.targetRefs",
		}, "the policy covers nothing")
	}
	return out
}

// The kind of ListenerSets, and the one by that policies know them from the time when they were experimental.
const listenerSet, experimentalSet = "ListenerSet", "XListenerSet"

// targetKind returns the kind of what a policy covers.
func targetKind(kind string) string {
	if kind == experimentalSet {
		return listenerSet
	}
	return kind
}

// covers notes in the report what a policy covers.
func (c *compiler) covers(o object, path string, a attachment) {
	c.report.Attachments = append(c.report.Attachments, config.Attachment{
		Object: o.ref(), Path: path, To: object{a.kind, a.name}.ref(), Section: a.section,
	})
}

// checkTarget reports whether the target of a policy is there.
func (c *compiler) checkTarget(o object, path string, a attachment) bool {
	var exists bool
	var candidates, sections []string
	switch a.kind {
	case "Gateway":
		var g *gatewayv1.Gateway
		if g, exists = c.gateways[a.name]; exists {
			for _, l := range g.Spec.Listeners {
				sections = append(sections, string(l.Name))
			}
		} else if c.assumes() && a.name == assumedGateway.name {
			exists, sections = true, []string{assumedListener}
		}
		candidates = names(c.gateways, a.name.Namespace)
	case listenerSet:
		var s *gatewayv1.ListenerSet
		if s, exists = c.sets[a.name]; exists {
			for _, l := range s.Spec.Listeners {
				sections = append(sections, string(l.Name))
			}
		}
		candidates = names(c.sets, a.name.Namespace)
	case "HTTPRoute":
		var r *gatewayv1.HTTPRoute
		if r, exists = c.routes[a.name]; exists {
			for _, rule := range r.Spec.Rules {
				if rule.Name != nil {
					sections = append(sections, string(*rule.Name))
				}
			}
		}
		candidates = names(c.routes, a.name.Namespace)
	case v1alpha1.KindBackend:
		var b *v1alpha1.Backend
		if b, exists = c.backends[a.name]; exists {
			sections = c.backendSections(b)
		}
		candidates = names(c.backends, a.name.Namespace)
	case "Service":
		_, exists = c.services[a.name]
		candidates = names(c.services, a.name.Namespace)
	default:
		c.add(o, path+".kind", finding{class: config.Unresolved, code: config.CodeUnserved, reason: "TargetNotFound"},
			"policies on %s objects are not served yet", a.kind)
		return false
	}
	missing := finding{class: config.Unresolved, code: config.CodeUnresolvedTarget, reason: "TargetNotFound"}
	if !exists {
		missing.help = didYouMean(a.name.Name, candidates, listing(a.kind+" in this namespace", candidates))
		c.add(o, path+".name", missing, "the policy covers %s %q, which is not there", a.kind, a.name.Name)
		return false
	}
	if a.section != "" && !contains(sections, a.section) {
		missing.help = didYouMean(a.section, sections, listing("named section", sections))
		c.add(o, path+".sectionName", missing, "%s %q has no section %q", a.kind, a.name.Name, a.section)
		// The policy is kept: of a Backend's targets one may appear later, and until then
		// there is nothing that it could leave open.
		return a.kind == v1alpha1.KindBackend
	}
	return true
}

// selectTargets returns the objects in a namespace that a target selector selects.
func (c *compiler) selectTargets(namespace string, s v1alpha1.PolicyTargetSelector) []attachment {
	selector := labels.SelectorFromSet(s.MatchLabels)
	var out []attachment
	take := func(o metav1.Object) {
		if o.GetNamespace() == namespace && selector.Matches(labels.Set(o.GetLabels())) {
			out = append(out, attachment{kind: targetKind(s.Kind), name: nameOf(o), section: s.SectionName})
		}
	}
	switch s.Kind {
	case "Gateway":
		for _, g := range c.res.Gateways {
			take(g)
		}
	case listenerSet, experimentalSet:
		for _, l := range c.res.ListenerSets {
			take(l)
		}
	case "HTTPRoute":
		for _, r := range c.res.HTTPRoutes {
			take(r)
		}
	case v1alpha1.KindBackend:
		for _, b := range c.res.Backends {
			take(b)
		}
	case "Service":
		for _, v := range c.res.Services {
			take(v)
		}
	}
	return out
}

// A covering is what covers a rule as attached to a listener.
type covering struct {
	policy *policy.Policy
	// shows tells apart what clients see by it.
	shows string
	// restricted says that it keeps somebody out.
	restricted bool
	// jwt is the policy that authenticates by tokens; nil without.
	jwt *attachedPolicy
	// ai is the policy whose spec.ai applies; nil without.
	ai *attachedPolicy
	// counted says that budgets count what is used.
	counted bool
	// web is what the policies say of HTTP itself.
	web webPolicy
}

// covering returns what covers a rule as attached to a listener: the rule sets of Gateway, ListenerSet, listener,
// route and rule add up, and of each other field one policy's applies.
func (c *compiler) covering(l *openListener, route types.NamespacedName, rule string) *covering {
	var all []attachedPolicy
	var fields []policy.Attachment
	var key strings.Builder
	collect := func(level policy.Level, a attachment) {
		for _, p := range c.attached[a] {
			fmt.Fprintf(&key, "%v\x00", a)
			all = append(all, p)
			fields = append(fields, policy.Attachment{Name: p.object.name.String(), Created: p.created, Level: level, Fields: p.fields()})
		}
	}
	collect(policy.GatewayLevel, attachment{kind: "Gateway", name: l.of})
	if l.object.kind == listenerSet {
		collect(policy.ListenerSetLevel, attachment{kind: listenerSet, name: l.object.name})
	}
	collect(policy.ListenerLevel, attachment{kind: l.object.kind, name: l.object.name, section: l.section})
	collect(policy.RouteLevel, attachment{kind: "HTTPRoute", name: route})
	if rule != "" {
		collect(policy.RuleLevel, attachment{kind: "HTTPRoute", name: route, section: rule})
	}
	if known, ok := c.coverings[key.String()]; ok {
		return known
	}
	out := &covering{web: webPolicy{}}
	sets := ruleSets(all)
	out.restricted = len(sets) > 0
	for _, p := range all {
		out.shows += p.shows + ","
	}
	effective := policy.Merge(fields)
	var checks []policy.Check
	for _, field := range authenticationFields() {
		for _, i := range effective.Fields[field] {
			check := all[i].auth.checks[field]
			if check.check == nil {
				continue // switched off
			}
			checks = append(checks, check.check)
			out.restricted = out.restricted || check.strict
			if field == jwtField {
				out.jwt = &all[i]
			}
		}
	}
	for _, i := range effective.Fields[aiField] {
		out.ai = &all[i]
	}
	for _, f := range webFields() {
		for _, i := range effective.Fields[f.name] {
			part := all[i].web[f.name]
			out.web[f.name] = part
			if part.check != nil {
				checks = append(checks, part.check)
				out.restricted = true
			}
		}
	}
	c.overridden(all, fields, effective)
	var limiters []policy.Limiter
	for _, field := range limitFields() {
		for _, i := range effective.Fields[field] {
			limiters = append(limiters, all[i].limits[field]...)
		}
	}
	var budgets []policy.Budget
	counted := map[object]bool{}
	for _, i := range effective.Fields[budgetsField] {
		if o := all[i].object; !counted[o] { // it may cover the same twice
			counted[o] = true
			budgets = append(budgets, all[i].budgets...)
		}
	}
	out.counted = len(budgets) > 0
	out.policy = policy.New(policy.Options{Checks: checks, Rules: sets, Limiters: limiters, Budgets: budgets})
	c.coverings[key.String()] = out
	return out
}

// fields returns the fields of a policy that are merged, each as a whole.
func (p *attachedPolicy) fields() []string {
	var out []string
	if p.rules != nil {
		out = append(out, "rbac")
	}
	for _, field := range authenticationFields() {
		if p.auth.fields()[field] != nil {
			out = append(out, field)
		}
	}
	if p.budgets != nil {
		out = append(out, budgetsField)
	}
	for _, field := range limitFields() {
		if _, ok := p.limits[field]; ok {
			out = append(out, field)
		}
	}
	if p.ai != nil {
		out = append(out, aiField)
	}
	return append(out, p.web.fields()...)
}

// aiField is the field of a policy that is merged as a whole on routes.
const aiField = "ai"

// overridden reports the fields that have no effect, since another policy of the same level has them.
func (c *compiler) overridden(all []attachedPolicy, fields []policy.Attachment, effective policy.Effective) {
	for i, standing := range effective.Standings {
		for _, field := range fields[i].Fields {
			winners := effective.Fields[field]
			if contains(winners, i) {
				c.holds[all[i].object] = true
				continue
			}
			if fields[winners[0]].Level > fields[i].Level {
				c.outdone[all[i].object] = append(c.outdone[all[i].object], outdone{field, all[winners[0]].object})
				continue
			}
			loser, winner := all[i].object, all[winners[0]].object
			if loser == winner {
				continue // it covers the same by name and by label, say
			}
			if note := loser.String() + " " + field + " " + winner.String(); !c.noted[note] {
				c.noted[note] = true
				c.add(loser, "spec."+field, finding{
					class: config.Warning, code: config.CodeOverridden, reason: standing.String(),
					help: "of policies on the same object, the older one counts, then the one whose name is first: join them, or cover another section",
				}, "%s has %s, too, and covers the same: this one has no effect there", winner, field)
			}
		}
	}
}

// An outdone is a field of a policy in whose place that of a more specific one holds.
type outdone struct {
	field string
	by    object
}

// checkOutdone reports the policies none of whose fields hold anywhere, since all that they cover has more specific ones.
func (c *compiler) checkOutdone() {
	for _, p := range c.res.TrafficPolicies {
		o := objectOf(v1alpha1.KindTrafficPolicy, p)
		if by := c.outdone[o]; len(by) > 0 && !c.holds[o] {
			c.add(o, "spec."+by[0].field, finding{
				class: config.Warning, code: config.CodeOverridden, reason: policy.Overridden.String(),
				help: "delete it, or cover a route that has none of its own",
			}, "all that the policy covers has more specific ones, such as %s: it has no effect", by[0].by)
		}
	}
}

func contains[T comparable](in []T, s T) bool {
	for _, v := range in {
		if v == s {
			return true
		}
	}
	return false
}
