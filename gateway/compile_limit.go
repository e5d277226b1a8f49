package gateway

import (
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
)

func limitFields() []string { return []string{localLimitField, rateLimitsField} }

// A limiting is how one policy limits requests, before it is known where.
type limiting struct {
	source   string
	bucket   *v1alpha1.TokenBucket
	switches bool // rateLimit.local is set: with no bucket it switches off what is less specific
	items    []limitItem
}

// A limitItem is one item of rateLimits.
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
	for i := range r.RateLimits {
		item := &r.RateLimits[i]
		if item.Limit == nil {
			continue // a rate limit service keeps it: checkUnserved says that it is not asked
		}
		l := limitItem{most: int64(item.Limit.RequestsPerUnit), window: unitOf(item.Limit.Unit)}
		for j := range item.Actions {
			path := fmt.Sprintf("spec.rateLimit.rateLimits[%d].actions[%d]", i, j)
			e, served := c.limitEntry(o, path, &item.Actions[j])
			ok = ok && served
			l.descriptor = append(l.descriptor, e)
		}
		out.items = append(out.items, l)
	}
	return out, ok
}

func unitOf(u v1alpha1.RateLimitUnit) limit.Window {
	switch u {
	case v1alpha1.RateLimitSecond:
		return limit.Second
	case v1alpha1.RateLimitMinute:
		return limit.Minute
	case v1alpha1.RateLimitHour:
		return limit.Hour
	default:
		return limit.Day
	}
}

// limitEntry compiles an action.
func (c *compiler) limitEntry(o object, path string, a *v1alpha1.RateLimitAction) (e policy.Entry, ok bool) {
	switch {
	case a.GenericKey != nil:
		return policy.Fixed(a.GenericKey.DescriptorValue), true
	case a.Generic != nil:
		return policy.Fixed(a.Generic.Value), true
	case a.RequestHeaders != nil:
		e = policy.FromHeader(a.RequestHeaders.HeaderName)
		e.Optional = a.RequestHeaders.SkipIfAbsent
		return e, true
	case a.Header != "":
		return policy.FromHeader(a.Header), true
	case a.RemoteAddress != nil, a.Type == v1alpha1.RateLimitRemoteAddress:
		return policy.FromAddress(), true
	case a.HeaderValueMatch != nil:
		return headerEntry(a.HeaderValueMatch), true
	case a.SourceCluster != nil:
		return policy.FromGateway(), true
	case a.DestinationCluster != nil:
		return policy.FromBackend(), true
	case a.Metadata != nil:
		return c.metadataEntry(o, path+".metadata.metadataKey", a.Metadata)
	default:
		return policy.FromPath(), true
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
	case "mcp":
		e, ok = policy.FromMCP(keys, m.DefaultValue)
	default:
		ok = false
	}
	if !ok {
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnserved,
			help: "key is jwt or apiKey, with a claim or a member as path, or mcp, with the path method, or with tool, prompt or resource and then name or target",
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
