package v1alpha1

import (
	"maps"
	"slices"
)

// trafficPolicySpellings are about TrafficPolicies.
func trafficPolicySpellings() []spelling {
	policy := []string{KindTrafficPolicy}
	guard := "spec.ai.promptGuard"
	return []spelling{
		{kinds: policy, in: "spec.jwtAuthentication.providers[].jwks", from: "local.inline", to: "inline"},
		{kinds: policy, in: "spec.jwtAuthentication.providers[].jwks.remote.backendRef", convert: backendRefKind},
		{kinds: policy, in: "spec.ai", from: "defaults", to: "fieldDefaults"},
		{kinds: policy, in: "spec.ai", convert: fieldOverrides, extra: map[string]string{"overrides": "The same as fieldDefaults with override: true."}},
		{kinds: policy, in: "spec.ai.fieldDefaults[]", from: "field", to: "path"},
		{kinds: policy, in: guard, convert: guardLists, loose: []string{"request", "response"}},
		{kinds: policy, in: guard + ".request", from: "response", to: "customResponse"},
		{kinds: policy, in: guard + ".*.regex", convert: regexStrings, loose: []string{"matches"}},
		{kinds: policy, in: guard + ".request.moderation.openAIModeration.authToken", convert: authTokenKind},
		{kinds: policy, in: "spec.rateLimit.global.descriptors[].entries[]", convert: entryType},
		{kinds: policy, in: "spec.rateLimit.rateLimits[].actions[]", convert: entryType},
	}
}

// fieldOverrides appends ai.overrides to ai.fieldDefaults.
func fieldOverrides(n *normalizer, path string, m map[string]any) {
	overrides, ok := m["overrides"].([]any)
	if !ok {
		return
	}
	defaults, ok := m["fieldDefaults"].([]any)
	if !ok && m["fieldDefaults"] != nil {
		return
	}
	for i, o := range overrides {
		if o, ok := o.(map[string]any); ok {
			if o["override"] == false {
				n.conflict(index(path+".overrides", i)+".override", "an item of overrides always overrides: remove override, or move the item to fieldDefaults")
			}
			o["override"] = true
		}
		n.renamed(index(path+".overrides", i), index(path+".fieldDefaults", len(defaults)))
		defaults = append(defaults, o)
	}
	m["fieldDefaults"] = defaults
	delete(m, "overrides")
}

// guardLists makes one guard of a list of guards, which run in a fixed order
// whatever that of the list. Two that both have a regex, say, can't be one.
func guardLists(n *normalizer, path string, m map[string]any) {
	for _, phase := range []string{"request", "response"} {
		list, ok := m[phase].([]any)
		if !ok {
			continue
		}
		at := child(path, phase)
		merged := map[string]any{}
		from := map[string]string{}
		clash := false
		for i := range list {
			guard, ok := list[i].(map[string]any)
			if !ok {
				clash = true
				continue
			}
			for _, k := range slices.Sorted(maps.Keys(guard)) {
				if _, twice := merged[k]; twice {
					n.conflict(child(index(at, i), k), "a second %s in %s: write one guard with all of it", k, phase)
					clash = true
					continue
				}
				merged[k], from[k] = guard[k], child(index(at, i), k)
			}
		}
		if clash {
			continue
		}
		m[phase] = merged
		for _, k := range slices.Sorted(maps.Keys(merged)) {
			n.renamed(from[k], child(at, k))
		}
	}
}

// regexStrings makes objects of the items of matches that are strings.
func regexStrings(n *normalizer, path string, m map[string]any) {
	matches, _ := m["matches"].([]any)
	for i := range matches {
		if s, ok := matches[i].(string); ok {
			matches[i] = map[string]any{"pattern": s}
			at := index(path+".matches", i)
			n.renamed(at, at+".pattern")
		}
	}
}

// entryType fills in the type of a rate limit entry.
func entryType(_ *normalizer, _ string, m map[string]any) {
	inferType(m, map[string]string{"generic": string(RateLimitGeneric), "header": string(RateLimitHeader)})
}

// listenerPolicySpellings are about HTTPListenerPolicies.
func listenerPolicySpellings() []spelling {
	policy := []string{KindHTTPListenerPolicy}
	return []spelling{
		{kinds: policy, in: "spec", from: "upgrades", to: "upgradeConfig.enabledUpgrades"},
		{kinds: policy, in: "spec.accessLog[]", from: "openTelemetry", to: "otel"},
		{kinds: policy, in: "spec.accessLog[].otel.grpcService.backendRef", convert: backendRefKind},
		{kinds: policy, in: "spec.tracing.provider", from: "openTelemetry", to: "otel"},
		{kinds: policy, in: "spec.tracing.provider.otel.grpcService.backendRef", convert: backendRefKind},
		{kinds: policy, in: "spec.tracing", from: "randomSampling", to: "samplingRate"},
		{kinds: policy, in: "spec.tracing", from: "customTags", to: "tags"},
		{kinds: policy, in: "spec.tracing", convert: tagList, extra: map[string]string{"attributes": "The same as tags, as a list of tags with name."}},
		{kinds: policy, in: "spec.tracing.tags.*", convert: tagStrings, loose: []string{"literal", "environment", "requestHeader"}},
	}
}

// tagList turns tracing.attributes, a list of tags with names, into tracing.tags.
func tagList(n *normalizer, path string, m map[string]any) {
	list, ok := m["attributes"].([]any)
	if !ok {
		return
	}
	for i := range list {
		if tag, ok := list[i].(map[string]any); !ok || tag["name"] == nil {
			n.conflict(index(path+".attributes", i), "an item of attributes needs name, the name of the attribute")
			return
		}
	}
	tags, ok := m["tags"].(map[string]any)
	if !ok && m["tags"] != nil {
		return
	}
	if tags == nil {
		tags = map[string]any{}
	}
	for i := range list {
		tag, from := list[i].(map[string]any), index(path+".attributes", i)
		name, ok := tag["name"].(string)
		if _, twice := tags[name]; twice || !ok {
			n.conflict(from+".name", "the attribute is there twice, or its name is not a string: keep one")
			return
		}
		delete(tag, "name")
		tags[name] = tag
		n.renamed(from, child(path+".tags", name))
	}
	m["tags"] = tags
	delete(m, "attributes")
}

// tagStrings makes objects of the sources of a tag that are strings.
func tagStrings(n *normalizer, path string, m map[string]any) {
	for source, field := range map[string]string{"literal": "value", "environment": "name", "requestHeader": "name"} {
		if s, ok := m[source].(string); ok {
			m[source] = map[string]any{field: s}
			n.renamed(child(path, source), child(path, source)+"."+field)
		}
	}
}
