package gateway

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/limit"
	"github.com/mcpgw/mcpgw/policy"
)

// The fields of a TrafficPolicy that limit requests, each merged as a whole, in the order in which they
// are asked.
const (
	localLimitField = "rateLimit.local"
	rateLimitsField = "rateLimit.rateLimits"
	globalField     = "rateLimit.global"
)

func limitFields() []string { return []string{localLimitField, rateLimitsField, globalField} }

// A limiting is how one policy limits requests, before it is known where.
type limiting struct {
	source   string
	bucket   *v1alpha1.TokenBucket
	switches bool // rateLimit.local is set: with no bucket it switches off what is less specific
	items    []limitItem
	remotes  map[string][]*policy.Remote // by field
}

// A limitItem is one item of rateLimits that this process counts.
type limitItem struct {
	descriptor policy.Descriptor
	most       int64
	window     limit.Window
}

// limiting compiles how a TrafficPolicy limits requests; nil when it says nothing about it. ok is false when it
// can't be served as it is written.
func (c *compiler) limiting(o object, p *v1alpha1.TrafficPolicy) (out *limiting, ok bool) {
	r := p.Spec.RateLimit
	if r == nil {
		return nil, true
	}
	out, ok = &limiting{source: o.String()}, true
	if r.Local != nil {
		out.bucket, out.switches = r.Local.TokenBucket, true
	}
	var asked []policy.Descriptor // of a service
	for i := range r.RateLimits {
		item := &r.RateLimits[i]
		var d policy.Descriptor
		for j := range item.Actions {
			path := fmt.Sprintf("spec.rateLimit.rateLimits[%d].actions[%d]", i, j)
			e, served := c.limitEntry(o, path, &item.Actions[j])
			ok = ok && served
			d = append(d, e)
		}
		if item.Limit == nil {
			asked = append(asked, d)
			continue
		}
		out.items = append(out.items, limitItem{descriptor: d, most: int64(item.Limit.RequestsPerUnit), window: windowOf(v1alpha1.BudgetWindow(item.Limit.Unit))})
	}
	out.remotes = map[string][]*policy.Remote{}
	if asked != nil {
		e := c.rateLimitExtension(o, r.ExtensionRef)
		ok = ok && e != nil
		out.remotes[rateLimitsField] = remotes(e, asked, false)
	}
	if g := r.Global; g != nil {
		e := c.extension(o, "spec.rateLimit.global.extensionRef", &g.ExtensionRef, v1alpha1.ExtensionRateLimit)
		ok = ok && e != nil
		requests, tokens := globalDescriptors(g)
		out.remotes[globalField] = append(remotes(e, requests, false), remotes(e, tokens, true)...)
	}
	return out, ok
}

// rateLimitExtension returns the GatewayExtension that rateLimits without a limit of their own ask: that of extensionRef, or the only one
// in the policy's namespace.
func (c *compiler) rateLimitExtension(o object, ref *v1alpha1.ExtensionRef) *compiledExtension {
	if ref != nil {
		return c.extension(o, "spec.rateLimit.extensionRef", ref, v1alpha1.ExtensionRateLimit)
	}
	var found []string
	for name, e := range c.extensions {
		if name.Namespace == o.name.Namespace && e.kind == v1alpha1.ExtensionRateLimit {
			found = append(found, name.Name)
		}
	}
	if len(found) == 1 {
		return c.extension(o, "spec.rateLimit.rateLimits", &v1alpha1.ExtensionRef{Name: found[0]}, v1alpha1.ExtensionRateLimit)
	}
	c.add(o, "spec.rateLimit", finding{
		class: config.Unresolved, code: config.CodeUnresolvedExtension,
		help: "add extensionRef to rateLimit, or limit to each of rateLimits; " + listing("GatewayExtension of type RateLimit in this namespace", sorted(found)),
	}, "which service keeps rateLimits is not known: what this policy covers answers 500, rather than going on without it")
	return nil
}

// remotes returns the limits that the service of e keeps, one for each stage at which it can be asked; none for a nil e.
func remotes(e *compiledExtension, all []policy.Descriptor, tokens bool) (out []*policy.Remote) {
	if e == nil {
		return nil
	}
	failOpen := e.spec.RateLimit.FailOpen == nil || *e.spec.RateLimit.FailOpen
	for _, stage := range []policy.Stage{policy.AtRequest, policy.AtBackend, policy.AtOperation} {
		r := &policy.Remote{Extension: e.object.String(), Service: e.limit, FailOpen: failOpen, Tokens: tokens}
		for _, d := range all {
			if d.Stage() == stage {
				r.Descriptors = append(r.Descriptors, d)
			}
		}
		if r.Descriptors != nil {
			out = append(out, r)
		}
	}
	return out
}

// globalDescriptors returns the descriptors of a global limit, those that count requests and those that count tokens.
func globalDescriptors(g *v1alpha1.GlobalRateLimit) (requests, tokens []policy.Descriptor) {
	for i := range g.Descriptors {
		spec := &g.Descriptors[i]
		var d policy.Descriptor
		for _, e := range spec.Entries {
			switch {
			case e.Generic != nil:
				d = append(d, policy.Fixed(e.Generic.Value).Named(e.Generic.Key))
			case e.Header != "":
				d = append(d, policy.FromHeader(e.Header).Named(e.Header))
			case e.Type == v1alpha1.RateLimitRemoteAddress:
				d = append(d, policy.FromAddress().Named(remoteAddressKey))
			default:
				d = append(d, policy.FromPath().Named(pathKey))
			}
		}
		if spec.Unit == v1alpha1.RateLimitTokens {
			tokens = append(tokens, d)
		} else {
			requests = append(requests, d)
		}
	}
	return requests, tokens
}

// The keys of entries whose policy does not name them, as Envoy has them.
const (
	genericKey            = "generic_key"
	remoteAddressKey      = "remote_address"
	headerMatchKey        = "header_match"
	sourceClusterKey      = "source_cluster"
	destinationClusterKey = "destination_cluster"
	pathKey               = "path"
)

// limitEntry compiles an action.
func (c *compiler) limitEntry(o object, path string, a *v1alpha1.RateLimitAction) (e policy.Entry, ok bool) {
	switch {
	case a.GenericKey != nil:
		return policy.Fixed(a.GenericKey.DescriptorValue).Named(cmp.Or(a.GenericKey.DescriptorKey, genericKey)), true
	case a.Generic != nil:
		return policy.Fixed(a.Generic.Value).Named(a.Generic.Key), true
	case a.RequestHeaders != nil:
		e = policy.FromHeader(a.RequestHeaders.HeaderName).Named(a.RequestHeaders.DescriptorKey)
		e.Optional = a.RequestHeaders.SkipIfAbsent
		return e, true
	case a.Header != "":
		return policy.FromHeader(a.Header).Named(a.Header), true
	case a.RemoteAddress != nil, a.Type == v1alpha1.RateLimitRemoteAddress:
		return policy.FromAddress().Named(remoteAddressKey), true
	case a.HeaderValueMatch != nil:
		return headerEntry(a.HeaderValueMatch).Named(headerMatchKey), true
	case a.SourceCluster != nil:
		return policy.FromGateway().Named(sourceClusterKey), true
	case a.DestinationCluster != nil:
		return policy.FromBackend().Named(destinationClusterKey), true
	case a.Metadata != nil:
		e, ok = c.metadataEntry(o, path+".metadata.metadataKey", a.Metadata)
		return e.Named(a.Metadata.DescriptorKey), ok
	default:
		return policy.FromPath().Named(pathKey), true
	}
}

func headerEntry(m *v1alpha1.HeaderValueMatchAction) policy.Entry {
	var tests []policy.HeaderTest
	for _, h := range m.Headers {
		t := policy.HeaderTest{Name: h.Name, Invert: h.InvertMatch}
		switch {
		case h.ExactMatch != "":
			t.Test = func(v string) bool { return v == h.ExactMatch }
		case h.PrefixMatch != "":
			t.Test = func(v string) bool { return strings.HasPrefix(v, h.PrefixMatch) }
		case h.SuffixMatch != "":
			t.Test = func(v string) bool { return strings.HasSuffix(v, h.SuffixMatch) }
		case h.RegexMatch != "":
			t.Test = regexp.MustCompile(`^(?:` + h.RegexMatch + `)$`).MatchString // Validate has compiled it
		case h.PresentMatch != nil && !*h.PresentMatch:
			t.Invert = !t.Invert
		}
		tests = append(tests, t)
	}
	return policy.IfHeaders(m.DescriptorValue, m.ExpectMatch == nil || *m.ExpectMatch, tests)
}

// metadataEntry compiles what is known of the client or the operation.
func (c *compiler) metadataEntry(o object, path string, m *v1alpha1.MetadataAction) (e policy.Entry, ok bool) {
	var keys []string
	for _, k := range m.MetadataKey.Path {
		keys = append(keys, k.Key)
	}
	ok = len(keys) > 0
	switch m.MetadataKey.Key {
	case "jwt":
		e = policy.FromJWT(keys, m.DefaultValue)
	case "apiKey":
		e = policy.FromAPIKey(keys, m.DefaultValue)
	case "extauthz", policy.ExtAuthNamespace:
		e = policy.FromMetadata(policy.ExtAuthNamespace, keys, m.DefaultValue)
	case "mcp":
		e, ok = policy.FromMCP(keys, m.DefaultValue)
	default:
		ok = false
	}
	if !ok {
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnserved,
			help: "key is jwt, apiKey or extauthz, with a claim or a member as path, or mcp, with the path method, or with tool, prompt or resource and then name or target",
		}, "there is no metadata %s: what this policy covers answers 500, rather than going on without it", strings.Join(append([]string{m.MetadataKey.Key}, keys...), "."))
	}
	return e, ok
}

// limiters returns what limits requests where the policy covers t, by field.
func (c *compiler) limiters(l *limiting, t attachment) map[string][]policy.Limiter {
	if l == nil {
		return nil
	}
	out := map[string][]policy.Limiter{}
	place := fmt.Sprintf("%s at %s %s %s", l.source, t.kind, t.name, t.section)
	metrics := c.rt.metrics()
	if l.switches {
		out[localLimitField] = nil
	}
	if b := l.bucket; b != nil {
		out[localLimitField] = []policy.Limiter{{Source: l.source, Bucket: c.bucket(place, b), Metrics: metrics}}
	}
	for i, item := range l.items {
		out[rateLimitsField] = append(out[rateLimitsField], policy.Limiter{
			Source: l.source, Descriptor: item.descriptor, Most: item.most, Metrics: metrics,
			Counter: c.memory(fmt.Sprintf("%s rateLimits[%d]", place, i), item.window, l.source, "requests"),
		})
	}
	for field, remotes := range l.remotes {
		for _, r := range remotes {
			out[field] = append(out[field], policy.Limiter{Source: l.source, Remote: r, Metrics: metrics})
		}
	}
	return out
}

// bucket returns the bucket of that place: the one in use, if it is as large and as fast.
func (c *compiler) bucket(place string, spec *v1alpha1.TokenBucket) *limit.Bucket {
	every := spec.FillInterval.Value()
	fill := max(int64(spec.TokensPerFill), 1)
	identity := fmt.Sprintf("%s %d/%d/%s", place, spec.MaxTokens, fill, every)
	return kept(c, identity, func() *limit.Bucket { return limit.NewBucket(int64(spec.MaxTokens), fill, every) })
}

// memory returns the counter of that place in this process: the one in use, if it has such windows.
func (c *compiler) memory(place string, w limit.Window, source, name string) *limit.Memory {
	identity := fmt.Sprintf("%s by %s", place, w)
	metrics := c.rt.metrics()
	return kept(c, identity, func() *limit.Memory {
		return limit.NewMemory(w, limit.MemoryOptions{Forgotten: func() { metrics.LimitForgotten(source, name) }})
	})
}

// kept returns what counts under that identity: what the Runtime has, or a new one.
func kept[T any](c *compiler, identity string, make func() T) T {
	if v, ok := c.snapshot.counts[identity].(T); ok {
		return v
	}
	v, ok := c.rt.count(identity).(T)
	if !ok {
		v = make()
	}
	c.snapshot.counts[identity] = v
	return v
}
