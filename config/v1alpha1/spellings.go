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
	case "Gateway", "HTTPRoute", "ListenerSet":
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
