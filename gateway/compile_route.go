package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/fault"
)

// maxRegex bounds the length of a regular expression.
const maxRegex = 4 << 10

// A compiledRule is a rule of a route before it is attached to listeners.
type compiledRule struct {
	section string // the rule's name, "" without
	rule    rule
	timed   bool // it says itself how long requests may take
	retried bool // and when they are tried again
	matches []match
}

// An anyRoute is an HTTPRoute, or a GRPCRoute as one.
type anyRoute struct {
	*gatewayv1.HTTPRoute
	object object
	age    int                  // among those of its kind
	grpc   *gatewayv1.GRPCRoute // nil for an HTTPRoute
}

// allRoutes returns the routes, the oldest first.
func (c *compiler) allRoutes() (out []anyRoute) {
	for age, r := range c.res.HTTPRoutes {
		out = append(out, anyRoute{HTTPRoute: r, object: objectOf("HTTPRoute", r), age: age})
	}
	if len(c.res.GRPCRoutes) == 0 {
		return out
	}
	for age, r := range c.res.GRPCRoutes {
		out = append(out, anyRoute{HTTPRoute: asHTTPRoute(r), object: objectOf("GRPCRoute", r), age: age, grpc: r})
	}
	slices.SortStableFunc(out, func(a, b anyRoute) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(nameOf(a).String(), nameOf(b).String()))
	})
	return out
}

// compileRoutes compiles the HTTPRoutes and GRPCRoutes and attaches them to listeners.
func (c *compiler) compileRoutes() {
	for _, r := range c.allRoutes() {
		rules, ok := c.compileShown(r)
		if !ok {
			continue // invalid: left out as a whole
		}
		for _, a := range c.attachments(r.object, r.HTTPRoute) {
			c.attachRoute(r.object, r.age, a, rules[c.identities[a.listener.of].key()])
		}
	}
}

// compileShown compiles the rules of a route for each identity that its Gateways have.
func (c *compiler) compileShown(r anyRoute) (rules map[string][]compiledRule, ok bool) {
	report, shown := c.report, c.shown
	defer func() { c.report, c.shown = report, shown }()
	rules = map[string][]compiledRule{}
	for _, c.shown = range c.identitiesFor(r) {
		rules[c.shown.key()], ok = c.compileRules(r)
		c.report = new(config.Report) // of the others it says the same
	}
	return rules, ok
}

// An attachedHost is one hostname under which a listener takes a route.
type attachedHost struct {
	listener *openListener
	hostname string
}

// attachRoute adds the rules of a route to a listener.
func (c *compiler) attachRoute(o object, age int, a attachedHost, rules []compiledRule) {
	var route types.NamespacedName // that policies can cover: none where it is assumed
	if o.kind == "HTTPRoute" {
		route = o.name
	}
	index := 0
	for i := range rules {
		covering := c.covering(a.listener, route, rules[i].section)
		rule := rules[i].rule
		rule.gateway, rule.listener, rule.policy = a.listener.gateway, a.listener.name, covering.policy
		a.listener.open = a.listener.open || !covering.restricted && !rule.guarded()
		for _, w := range rule.backends {
			w.to.shownBy(covering.shows)
		}
		rule.idle, rule.idleSaid = a.listener.edge.idle, a.listener.edge.idleSaid
		c.attachAI(&rule, covering)
		rule.backends = towards(rule, covering.web, &rules[i])
		rule.attachWeb(covering.web, &rules[i])
		for _, m := range rules[i].matches {
			m.hostname, m.age, m.owner, m.index, m.rule = a.hostname, age, o.name.String(), index, &rule
			m.endpoint = endpointAt(a.listener, &m)
			index++
			a.listener.matches = append(a.listener.matches, &m)
			if r := c.resource(o, covering, a.listener, &m); r != nil {
				r.index = index
				index++
				a.listener.matches = append(a.listener.matches, r)
			}
		}
	}
}

// towards returns the backends of a rule, which is not attached to yet, with the rule as it holds for requests to those that have
// policies of their own: these are more specific than what covers the rule.
func towards(r rule, web webPolicy, written *compiledRule) []weighted {
	out := slices.Clone(r.backends)
	for i := range out {
		if own := out[i].to.web; len(own) > 0 {
			both := maps.Clone(web)
			maps.Copy(both, own)
			variant := r
			variant.attachWeb(both, written)
			out[i].rule = &variant
		}
	}
	return out
}

// attachments returns where a route is attached, and reports where it can't be.
func (c *compiler) attachments(o object, r *gatewayv1.HTTPRoute) []attachedHost {
	parents := r.Spec.ParentRefs
	if len(parents) == 0 && c.assumed {
		parents = []gatewayv1.ParentReference{{Name: gatewayv1.ObjectName(assumedGateway.name.Name), Namespace: (*gatewayv1.Namespace)(&assumedGateway.name.Namespace)}}
	}
	if len(parents) == 0 {
		c.add(o, "spec", finding{
			class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NoMatchingParent",
			help: "add spec.parentRefs with the name of a Gateway",
		}, "the route names no Gateway, so nothing is served from it")
	}
	var out []attachedHost
	seen := map[attachedHost]bool{}
	for i, p := range parents {
		for _, a := range c.attachTo(o, r, fmt.Sprintf("spec.parentRefs[%d]", i), p) {
			if !seen[a] {
				seen[a] = true
				out = append(out, a)
			}
		}
	}
	return out
}

// attachTo returns where one parentRef attaches a route.
func (c *compiler) attachTo(o object, r *gatewayv1.HTTPRoute, path string, p gatewayv1.ParentReference) []attachedHost {
	kind := "Gateway"
	if p.Kind != nil {
		kind = string(*p.Kind)
	}
	if kind != "Gateway" && kind != listenerSet || p.Group != nil && *p.Group != gatewayv1.GroupName {
		c.add(o, path+".kind", finding{class: config.Unresolved, code: config.CodeUnresolvedBackend, reason: "NoMatchingParent", help: "use kind Gateway or ListenerSet"},
			"routes attach to Gateways and ListenerSets only")
		return nil
	}
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: string(p.Name)}
	if p.Namespace != nil {
		name.Namespace = string(*p.Namespace)
	}
	if kind == listenerSet && !c.hasSet(o, path, name) {
		return nil
	}
	g := c.gateways[name]
	if kind == "Gateway" && g == nil && !(c.assumed && name == assumedGateway.name) {
		candidates := names(c.gateways, name.Namespace)
		help := didYouMean(name.Name, candidates, listing("Gateway in namespace "+name.Namespace, candidates))
		if c.assumed {
			help = "remove parentRefs to use the Gateway that is assumed where none is written, or write this one"
		}
		c.add(o, path+".name", finding{class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NoMatchingParent", help: help},
			"Gateway %q is not there", name.Name)
		return nil
	}
	if kind == "Gateway" && g != nil && !c.serves(g) {
		return nil // another controller's
	}
	var fitting, allowing []*openListener
	var sections []string
	for _, l := range slices.Concat(c.listeners, c.closed) {
		if l.object.kind != kind || l.object.name != name {
			continue
		}
		sections = append(sections, l.section)
		if p.SectionName != nil && string(*p.SectionName) != l.section || p.Port != nil && int(*p.Port) != l.port {
			continue
		}
		fitting = append(fitting, l)
		if l.takes[o.kind] && c.allows(l, o.name.Namespace) {
			allowing = append(allowing, l)
		}
	}
	switch {
	case len(fitting) == 0 && p.SectionName != nil:
		c.add(o, path+".sectionName", finding{
			class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NoMatchingParent",
			help: didYouMean(string(*p.SectionName), sections, listing("listener that can be served", sections)),
		}, "%s %q has no listener %q that can be served", kind, name.Name, *p.SectionName)
		return nil
	case len(fitting) == 0:
		c.add(o, path, finding{class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NoMatchingParent"},
			"%s %q has no listener for this route that can be served", kind, name.Name)
		return nil
	case !slices.ContainsFunc(fitting, func(l *openListener) bool { return l.takes[o.kind] }):
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NotAllowedByListeners",
			help: "add kind " + o.kind + " to allowedRoutes.kinds of the listener",
		}, "no listener of %s %q takes %ss", kind, name.Name, o.kind)
		return nil
	case len(allowing) == 0:
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NotAllowedByListeners",
			help: "set allowedRoutes.namespaces.from on the listener; its default is Same",
		}, "no listener of %s %q takes %ss from namespace %q", kind, name.Name, o.kind, o.name.Namespace)
		return nil
	}
	out := c.contested(o, path, c.intersectHosts(o, r, object{kind, name}, allowing))
	for i, a := range out {
		if i == 0 || out[i-1].listener != a.listener {
			c.report.Attachments = append(c.report.Attachments, config.Attachment{
				Object: o.ref(), Path: path, To: a.listener.object.ref(), Section: a.listener.section,
			})
		}
	}
	return slices.DeleteFunc(out, func(a attachedHost) bool { return slices.Contains(c.closed, a.listener) })
}

// hasSet reports whether a ListenerSet that a route names adds to a Gateway that is served here, or reports that it is not there.
func (c *compiler) hasSet(o object, path string, name types.NamespacedName) bool {
	if c.sets[name] == nil {
		candidates := names(c.sets, name.Namespace)
		c.add(o, path+".name", finding{
			class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NoMatchingParent",
			help: didYouMean(name.Name, candidates, listing("ListenerSet in namespace "+name.Namespace, candidates)),
		}, "ListenerSet %q is not there", name.Name)
		return false
	}
	_, ours := c.setParents[name]
	return ours // else it is another controller's, or what is wrong with it was said
}

func (c *compiler) intersectHosts(o object, r *gatewayv1.HTTPRoute, parent object, listeners []*openListener) []attachedHost {
	hostnames := []string{""}
	if len(r.Spec.Hostnames) > 0 {
		hostnames = hostnames[:0]
		for i := range r.Spec.Hostnames {
			hostnames = append(hostnames, hostnameOf(&r.Spec.Hostnames[i]))
		}
	}
	var out []attachedHost
	for _, l := range listeners {
		for _, h := range hostnames {
			if common, ok := intersect(l.hostname, h); ok {
				out = append(out, attachedHost{l, common})
			}
		}
	}
	if len(out) == 0 {
		c.add(o, "spec.hostnames", finding{
			class: config.Unresolved, code: config.CodeUnresolvedParent, reason: "NoMatchingListenerHostname",
			help: "a listener without hostname takes all",
		}, "no hostname of the route fits a listener of %s %q", parent.kind, parent.name.Name)
	}
	return out
}

// compileRules compiles the rules of a route; ok is false when it holds a mistake that
// leaves open what it would match.
func (c *compiler) compileRules(r anyRoute) (out []compiledRule, ok bool) {
	o := r.object
	ok = true
	for i := range r.Spec.Rules {
		spec := &r.Spec.Rules[i]
		path := fmt.Sprintf("spec.rules[%d]", i)
		cr := compiledRule{rule: rule{route: o.name.String(), name: fmt.Sprint(i)}}
		if spec.Name != nil {
			cr.section = string(*spec.Name)
			cr.rule.name = cr.section
		}
		var good bool
		if r.grpc != nil {
			cr.matches, good = c.compileMethods(o, path, r.grpc.Spec.Rules[i].Matches)
		} else {
			cr.matches, good = c.compileMatches(o, path, spec.Matches)
		}
		ok = ok && good
		c.routeTimeouts(o, path, spec.Timeouts, &cr)
		c.routeRetry(o, path, spec.Retry, &cr)
		c.compileFilters(o, path+".filters", spec.Filters, &cr)
		c.compileBackendRefs(o, path, spec, &cr)
		if spec.SessionPersistence != nil {
			c.add(o, path+".sessionPersistence", finding{class: config.Warning, code: config.CodeUnserved},
				"sessionPersistence is not served: sessions of MCP backends keep to their endpoint without it")
		}
		out = append(out, cr)
	}
	if len(r.Spec.Rules) == 0 {
		c.add(o, "spec.rules", finding{class: config.Warning, code: config.CodeNoBackend}, "the route has no rules, so it matches nothing")
	}
	return out, ok
}

// compileMatches compiles the matches of a rule; a rule without any matches all.
func (c *compiler) compileMatches(o object, path string, specs []gatewayv1.HTTPRouteMatch) (out []match, ok bool) {
	if len(specs) == 0 {
		return []match{{}}, true
	}
	ok = true
	for i := range specs {
		spec := &specs[i]
		at := fmt.Sprintf("%s.matches[%d]", path, i)
		var m match
		good := c.compilePath(o, at+".path", spec.Path, &m)
		if spec.Method != nil {
			m.method = string(*spec.Method)
		}
		for j, h := range spec.Headers {
			v := valueMatch{name: http.CanonicalHeaderKey(string(h.Name)), value: h.Value}
			if h.Type != nil && *h.Type == gatewayv1.HeaderMatchRegularExpression {
				v.regex, good = c.regex(o, fmt.Sprintf("%s.headers[%d].value", at, j), h.Value, good)
			}
			m.headers = appendFirst(m.headers, v)
		}
		for j, q := range spec.QueryParams {
			v := valueMatch{name: string(q.Name), value: q.Value}
			if q.Type != nil && *q.Type == gatewayv1.QueryParamMatchRegularExpression {
				v.regex, good = c.regex(o, fmt.Sprintf("%s.queryParams[%d].value", at, j), q.Value, good)
			}
			m.query = appendFirst(m.query, v)
		}
		ok = ok && good
		out = append(out, m)
	}
	return out, ok
}

// appendFirst appends v unless there is one of its name: of equal names the first
// counts.
func appendFirst(to []valueMatch, v valueMatch) []valueMatch {
	for i := range to {
		if to[i].name == v.name {
			return to
		}
	}
	return append(to, v)
}

func (c *compiler) compilePath(o object, path string, spec *gatewayv1.HTTPPathMatch, m *match) bool {
	if spec == nil {
		return true
	}
	value := "/"
	if spec.Value != nil {
		value = *spec.Value
	}
	kind := gatewayv1.PathMatchPathPrefix
	if spec.Type != nil {
		kind = *spec.Type
	}
	switch kind {
	case gatewayv1.PathMatchExact:
		m.pathType, m.path = pathExact, value
	case gatewayv1.PathMatchPathPrefix:
		m.pathType, m.path = pathPrefix, strings.TrimRight(value, "/")
	case gatewayv1.PathMatchRegularExpression:
		var ok bool
		m.pathType, m.path = pathRegex, value
		m.regex, ok = c.regex(o, path+".value", value, true)
		return ok
	default:
		c.add(o, path+".type", finding{class: config.Invalid, code: config.CodeRegexp, reason: "UnsupportedValue", help: "use Exact, PathPrefix or RegularExpression"},
			"a path match of type %q is not served", kind)
		return false
	}
	if !strings.HasPrefix(value, "/") {
		c.add(o, path+".value", finding{class: config.Invalid, code: config.CodeInvalidValue, reason: "UnsupportedValue"}, "a path begins with /")
		return false
	}
	return true
}

// regex compiles an expression that has to match the whole value.
func (c *compiler) regex(o object, path, source string, before bool) (*regexp.Regexp, bool) {
	invalid := finding{class: config.Invalid, code: config.CodeRegexp, reason: "UnsupportedValue", help: "the syntax is that of RE2: https://github.com/google/re2/wiki/Syntax"}
	if len(source) > maxRegex {
		c.add(o, path, invalid, "the regular expression is longer than %d bytes", maxRegex)
		return nil, false
	}
	if _, err := regexp.Compile(source); err != nil {
		c.add(o, path, invalid, "the regular expression does not compile: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil, false
	}
	return regexp.MustCompile("^(?:" + source + ")$"), before
}

// misconfigured is what a rule or its share answers that can't be served as written.
var misconfigured = fault.New(fault.Misconfigured, "the configuration of this route has a problem")

// headerModifier compiles a header filter.
func (c *compiler) headerModifier(o object, path string, spec *gatewayv1.HTTPHeaderFilter) (headerModifier, bool) {
	var m headerModifier
	if spec == nil {
		return m, true
	}
	ok := true
	compile := func(what string, in []gatewayv1.HTTPHeader) (out []header) {
		for i, h := range in {
			if !httpguts.ValidHeaderFieldName(string(h.Name)) || !httpguts.ValidHeaderFieldValue(h.Value) {
				c.add(o, fmt.Sprintf("%s.%s[%d]", path, what, i), finding{class: config.Invalid, code: config.CodeInvalidValue}, "%q can't be sent as a header", h.Name)
				ok = false
			}
			out = append(out, header{http.CanonicalHeaderKey(string(h.Name)), h.Value})
		}
		return out
	}
	m.set = compile("set", spec.Set)
	m.add = compile("add", spec.Add)
	for _, name := range spec.Remove {
		m.remove = append(m.remove, http.CanonicalHeaderKey(name))
	}
	return m, ok
}
