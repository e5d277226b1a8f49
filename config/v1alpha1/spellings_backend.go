package v1alpha1

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
