package v1alpha1

import (
	"maps"
	"slices"
	"strings"
)

// A spelling is one way to write something that [Normalize] knows beside that of
// the Go types.
//
// +kubebuilder:object:generate=false
type spelling struct {
	kinds []string
	in    string // where: a pattern, see normalizer.each

	// from is the name that is written, to the name of the Go types, both
	// relative to the object at in. A to of "." means that the fields of from
	// belong into the object itself.
	from, to string
	// fold says that from is written in any case, with or without underscores.
	fold bool

	// convert, where set, is what happens instead of or, with from, after the
	// rename.
	convert func(n *normalizer, path string, m map[string]any)
	// inferred are the fields that convert fills in, loose those that may have
	// another form than that of the Go types, extra those that it takes away.
	inferred []string
	loose    []string
	extra    map[string]string
}

// apply brings the object m at path to the spelling of the Go types.
func (s *spelling) apply(n *normalizer, path string, m map[string]any) {
	for _, from := range s.names(m) {
		n.move(path, m, from, s.to)
	}
	if s.convert != nil {
		s.convert(n, path, m)
	}
}

// names returns the names in m that s renames.
func (s *spelling) names(m map[string]any) []string {
	if s.from == "" {
		return nil
	}
	if !s.fold {
		return []string{s.from}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k != s.to && fold(k) == fold(s.from) {
			out = append(out, k)
		}
	}
	return out
}

// spellings lists all spellings. Those of an outer object stand before those of
// what it holds.
func spellings() []spelling {
	return slices.Concat(
		targetSpellings(), backendSpellings(), mcpSpellings(), trafficPolicySpellings(),
		listenerPolicySpellings(), loadBalancerSpellings(), extensionSpellings(), parametersSpellings(),
	)
}

// targetSpellings are about what policies cover and refer to.
func targetSpellings() []spelling {
	policies := []string{KindTrafficPolicy, KindHTTPListenerPolicy, KindBackendConfigPolicy}
	return []spelling{
		{kinds: policies, in: "spec.targetRefs[]", convert: targetGroup},
		{kinds: policies, in: "spec.targetSelectors[]", convert: targetGroup},
		{kinds: []string{KindHTTPListenerPolicy}, in: "spec.accessLog[].grpcService.backendRef", convert: backendRefKind},
		{kinds: []string{KindGatewayExtension}, in: "spec.*.grpcService.backendRef", convert: backendRefKind},
		{kinds: []string{KindGatewayExtension}, in: "spec.*.httpService.backendRef", convert: backendRefKind},
	}
}

// targetGroup fills in the group of a target's kind.
func targetGroup(_ *normalizer, _ string, m map[string]any) {
	if m["group"] != nil {
		return
	}
	switch m["kind"] {
	case "Gateway", "HTTPRoute":
		m["group"] = "gateway.networking.k8s.io"
	case "XListenerSet":
		m["group"] = "gateway.networking.x-k8s.io"
	case "Backend":
		m["group"] = GroupName
	case "Service":
		m["group"] = ""
	}
}

// backendRefKind fills in kind and group of a reference to a Service or Backend.
func backendRefKind(_ *normalizer, _ string, m map[string]any) {
	if m["kind"] == nil {
		m["kind"] = "Service"
		if m["group"] == GroupName {
			m["kind"] = KindBackend
		}
	}
	if kind, _ := m["kind"].(string); m["group"] == nil && fold(kind) == fold(KindBackend) {
		m["group"] = GroupName
	}
}

// backendSpellings are about Backends, but for their MCP targets.
func backendSpellings() []spelling {
	backend := []string{KindBackend}
	out := []spelling{
		{kinds: backend, in: "spec", convert: backendType},
		{kinds: backend, in: "spec.ai", from: "groups", to: "priorityGroups"},
		{kinds: backend, in: "spec.ai", from: "multipool.priorities", to: "priorityGroups"},
		{kinds: backend, in: "spec.ai", from: "provider", to: "llm"},
		{kinds: backend, in: "spec.ai.llm", from: "provider", to: "."},
		{kinds: backend, in: "spec.ai.priorityGroups[]", from: "pool", to: "providers"},
		{kinds: backend, in: "spec.ai.priorityGroups[].providers[]", from: "provider", to: "."},
		{kinds: backend, in: "spec.aws.auth", convert: infer("type", "secretRef", string(AWSAuthSecret))},
	}
	for _, provider := range []string{"spec.ai.llm", "spec.ai.priorityGroups[].providers[]"} {
		out = append(out,
			spelling{kinds: backend, in: provider, from: "azureOpenai", to: "azureOpenAI", fold: true},
			spelling{kinds: backend, in: provider, from: "vertexAi", to: "vertexAI", fold: true},
			spelling{kinds: backend, in: provider, from: "openAI", to: "openai", fold: true},
			spelling{kinds: backend, in: provider + ".vertexAI", from: "projectId", to: "project"},
			spelling{kinds: backend, in: provider + ".vertexAI", from: "region", to: "location"},
			spelling{kinds: backend, in: provider + ".*.authToken", convert: authTokenKind},
			spelling{kinds: backend, in: provider + ".bedrock.auth", convert: infer("type", "secretRef", string(AWSAuthSecret))},
		)
	}
	return out
}

// backendType fills in the type of a Backend, and the block that its type may
// leave out.
func backendType(_ *normalizer, _ string, m map[string]any) {
	if t, ok := m["type"].(string); ok {
		if _, written := m["dynamicForwardProxy"]; fold(t) == fold(string(BackendDynamicForwardProxy)) && (!written || m["dynamicForwardProxy"] == nil) {
			m["dynamicForwardProxy"] = map[string]any{}
		}
		return
	}
	inferType(m, map[string]string{
		"ai": string(BackendAI), "static": string(BackendStatic), "aws": string(BackendAWS),
		"mcp": string(BackendMCP), "dynamicForwardProxy": string(BackendDynamicForwardProxy),
	})
}

// inferType sets type when m has exactly one of the blocks.
func inferType(m map[string]any, blocks map[string]string) {
	if m["type"] != nil {
		return
	}
	found := ""
	for block, t := range blocks {
		if m[block] == nil {
			continue
		}
		if found != "" {
			return
		}
		found = t
	}
	if found != "" {
		m["type"] = found
	}
}

// infer returns a conversion that sets field to value when block is set.
func infer(field, block, value string) func(*normalizer, string, map[string]any) {
	return func(_ *normalizer, _ string, m map[string]any) {
		if m[field] == nil && m[block] != nil {
			m[field] = value
		}
	}
}

// authTokenKind fills in the kind of a credential.
func authTokenKind(_ *normalizer, _ string, m map[string]any) {
	if m["kind"] != nil || m["inline"] != nil && m["secretRef"] != nil {
		return
	}
	infer("kind", "inline", string(AuthTokenInline))(nil, "", m)
	infer("kind", "secretRef", string(AuthTokenSecretRef))(nil, "", m)
}

// mcpSpellings are about the targets of MCP Backends.
func mcpSpellings() []spelling {
	backend, target := []string{KindBackend}, "spec.mcp.targets[]"
	return []spelling{
		{kinds: backend, in: target, convert: mcpBackendRef},
		{kinds: backend, in: target + ".static", inferred: []string{"host", "port"}, extra: map[string]string{"backendRef": "A Service, as in service."}},
		{kinds: backend, in: target + ".selector", from: "services", to: "service"},
		{kinds: backend, in: target + ".selector", from: "namespaces", to: "namespace"},
		{kinds: backend, in: target + ".auth", convert: authTokenKind},
	}
}

// mcpBackendRef turns a static target that refers to a Service into a service
// target.
func mcpBackendRef(n *normalizer, path string, m map[string]any) {
	ref, ok := get(m, "static.backendRef")
	if !ok {
		return
	}
	if _, ok := get(m, "static.host"); ok {
		n.conflict(path+".static.backendRef", "static has host and backendRef: keep one of them")
		return
	}
	service, ok := ref.(map[string]any)
	if !ok {
		return
	}
	if kind, ok := service["kind"].(string); ok && fold(kind) != fold("Service") {
		n.conflict(path+".static.backendRef.kind", "a target can refer to a Service only")
		return
	}
	delete(service, "kind")
	delete(service, "group")
	if _, ok := m["service"]; !ok {
		for _, k := range []string{"path", "protocol"} {
			n.move(path, m, "static."+k, "static.backendRef."+k)
		}
	}
	n.move(path, m, "static.backendRef", "service")
}

// trafficPolicySpellings are about TrafficPolicies.
func trafficPolicySpellings() []spelling {
	policy := []string{KindTrafficPolicy}
	guard := "spec.ai.promptGuard"
	return []spelling{
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

// loadBalancerSpellings are about how endpoints are reached.
func loadBalancerSpellings() []spelling {
	kinds := []string{KindBackend, KindBackendConfigPolicy}
	lb := "spec.loadBalancer"
	return []spelling{
		{kinds: kinds, in: lb, convert: loadBalancerBlocks, extra: map[string]string{
			"roundRobin": "The same as type: RoundRobin and these fields.", "leastRequest": "The same as type: LeastRequest and these fields.",
			"ringHash": "The same as type: RingHash and these fields.", "maglev": "The same as type: Maglev and these fields.",
			"random": "The same as type: Random.",
		}},
		{kinds: kinds, in: lb, from: "hashPolicies", to: "hashPolicy"},
		{kinds: kinds, in: lb + ".hashPolicy[].header", from: "name", to: "headerName"},
		{kinds: kinds, in: lb + ".hashPolicy[]", convert: hashSourceIP, loose: []string{"sourceIP"}, extra: map[string]string{
			"connectionProperties": "Its field sourceIp, if true, is the same as sourceIP: {}.",
		}},
		{kinds: kinds, in: "spec.tcpKeepalive", from: "keepAliveProbes", to: "probes"},
		{kinds: kinds, in: "spec.tcpKeepalive", from: "keepAliveTime", to: "time"},
		{kinds: kinds, in: "spec.tcpKeepalive", from: "keepAliveInterval", to: "interval"},
	}
}

// loadBalancerBlocks turns a block named after a type into that type and the
// block's fields.
func loadBalancerBlocks(n *normalizer, path string, m map[string]any) {
	for _, b := range []struct {
		block string
		t     LoadBalancerType
	}{
		{"roundRobin", LoadBalancerRoundRobin},
		{"leastRequest", LoadBalancerLeastRequest},
		{"ringHash", LoadBalancerRingHash},
		{"maglev", LoadBalancerMaglev},
		{"random", LoadBalancerRandom},
	} {
		v, ok := m[b.block]
		if !ok {
			continue
		}
		if t, ok := m["type"].(string); ok && fold(t) != fold(string(b.t)) {
			n.conflict(child(path, b.block), "%s is a load balancer of type %s, but the type is %s: keep one of them", b.block, b.t, t)
			continue
		}
		if m["type"] == nil {
			m["type"] = string(b.t)
			n.renamed(child(path, b.block), child(path, "type"))
		}
		if v == nil {
			delete(m, b.block)
			continue
		}
		n.hoist(path, m, b.block)
	}
}

// hashSourceIP brings the ways to hash the client's address to one.
func hashSourceIP(n *normalizer, path string, m map[string]any) {
	if v, ok := get(m, "connectionProperties.sourceIp"); ok {
		if v == true {
			n.move(path, m, "connectionProperties.sourceIp", "sourceIP")
		} else if v == false {
			remove(m, "connectionProperties.sourceIp")
		}
	}
	switch m["sourceIP"] {
	case true:
		m["sourceIP"] = map[string]any{}
	case false:
		delete(m, "sourceIP")
	}
}

// extensionSpellings are about GatewayExtensions.
func extensionSpellings() []spelling {
	return []spelling{{
		kinds: []string{KindGatewayExtension}, in: "spec",
		convert: func(_ *normalizer, _ string, m map[string]any) {
			inferType(m, map[string]string{
				"extAuth": string(ExtensionExtAuth), "extProc": string(ExtensionExtProc), "rateLimit": string(ExtensionRateLimit),
			})
		},
	}}
}

// parametersSpellings are about GatewayParameters.
func parametersSpellings() []spelling {
	kinds := []string{KindGatewayParameters}
	return []spelling{
		{kinds: kinds, in: "spec.kube", from: "deployment.container.resources", to: "agentgateway.resources"},
		{kinds: kinds, in: "spec.kube", from: "deployment.container.securityContext", to: "agentgateway.securityContext"},
		{kinds: kinds, in: "spec.kube.podTemplate", from: "spec", to: "."},
	}
}

// aliases returns the other names of the fields of the object at pattern, by the
// name of the Go types. Only those within one object count.
func aliases(kind, pattern string) map[string][]string {
	out := map[string][]string{}
	for _, s := range spellings() {
		if s.from == "" || s.to == "." || strings.Contains(s.from+s.to, ".") || !slices.Contains(s.kinds, kind) || s.in != pattern {
			continue
		}
		out[s.to] = append(out[s.to], s.from)
	}
	return out
}
