package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/internal/testkind"
)

// object decodes YAML as a loader does.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return m
}

// TestSpellings shows, pair by pair, that what the project's documents and other
// versions of the API write is the same object as the spelling of the Go types.
func TestSpellings(t *testing.T) {
	for _, tt := range testkind.Spellings() {
		t.Run(tt.Name, func(t *testing.T) {
			want := object(t, tt.Canonical)
			if _, conflicts := Normalize(tt.Kind, want); conflicts != nil {
				t.Fatalf("the canonical spelling has conflicts: %v", conflicts)
			}
			for _, text := range tt.Others {
				got := object(t, text)
				if _, conflicts := Normalize(tt.Kind, got); conflicts != nil {
					t.Errorf("conflicts %v in:\n%s", conflicts, text)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("normalised differently (-canonical +other):\n%s\nwritten:\n%s", diff, text)
				}
			}
			if unknown := UnknownFields(tt.Kind, want); unknown != nil {
				t.Errorf("unknown fields: %v", unknown)
			}
			if _, errs := Parse(tt.Kind, want); errs != nil {
				t.Errorf("Parse: %v", errs)
			}
		})
	}
}

// TestWritten shows that every value of a normalised object is found where it was
// written, through renames of it and of what holds it.
func TestWritten(t *testing.T) {
	for _, tt := range testkind.Spellings() {
		for i, text := range append(tt.Others, tt.Canonical) {
			written, got := object(t, text), object(t, text)
			renames, _ := Normalize(tt.Kind, got)
			places := leaves("", written)
			found := map[string]bool{}
			for path, v := range leaves("", got) {
				at := Written(renames, path)
				was, ok := places[at]
				if !ok || was == nil {
					continue // inferred, like a type
				}
				found[at] = true
				if fold(fmt.Sprint(was)) != fold(fmt.Sprint(v)) {
					t.Errorf("%s, spelling %d: %s is %v, but %s where it was written is %v", tt.Name, i, path, v, at, was)
				}
			}
			for at, v := range places {
				if !found[at] && !dropped(at) {
					t.Errorf("%s, spelling %d: nothing leads to %s, which is %v; renames %v", tt.Name, i, at, v, renames)
				}
			}
		}
	}
}

// dropped reports whether what is written at path is not kept as a value: the
// namespace of a Secret and the kind of a reference that are implied, and
// switches that become blocks.
func dropped(path string) bool {
	for _, suffix := range []string{"secretRef.namespace", "backendRef.kind", "backendRef.group", ".sourceIp", ".sourceIP", "loadBalancer.random"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return strings.Contains(path, "attributes[") && strings.HasSuffix(path, "].name")
}

// leaves returns all strings, numbers and booleans of v by path.
func leaves(path string, v any) map[string]any {
	out := map[string]any{}
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			maps.Copy(out, leaves(child(path, k), v[k]))
		}
	case []any:
		for i := range v {
			maps.Copy(out, leaves(index(path, i), v[i]))
		}
	default:
		out[path] = v
	}
	return out
}

func TestConflicts(t *testing.T) {
	tests := []struct {
		name, kind, text string
		want             []Conflict
	}{
		{"two spellings, equal", KindBackend, `spec: {ai: {llm: {azureOpenai: {endpoint: e}, azureopenai: {endpoint: e}}}}`, nil},
		{"two spellings, different", KindBackend, `spec: {ai: {llm: {azureOpenai: {endpoint: e}, azureopenai: {endpoint: f}}}}`, []Conflict{
			{"spec.ai.llm.azureopenai", "azureopenai and azureOpenAI are two spellings of one field, here with different values: keep one of them"},
		}},
		{"below a renamed field", KindBackend, `spec: {ai: {provider: {vertexai: {project: a, projectId: b}}}}`, []Conflict{
			{"spec.ai.provider.vertexai.projectId", "projectId and project are two spellings of one field, here with different values: keep one of them"},
		}},
		{"host and backendRef", KindBackend, `spec: {mcp: {targets: [{name: t, static: {host: h, backendRef: {name: s}}}]}}`, []Conflict{
			{"spec.mcp.targets[0].static.backendRef", "static has host and backendRef: keep one of them"},
		}},
		{"a target that refers to a Backend", KindBackend, `spec: {mcp: {targets: [{name: t, static: {backendRef: {kind: Backend, name: s}}}]}}`, []Conflict{
			{"spec.mcp.targets[0].static.backendRef.kind", "a target can refer to a Service only"},
		}},
		{"a Secret elsewhere", KindBackend, `
metadata: {namespace: ns1}
spec: {mcp: {targets: [{name: t, auth: {secretRef: {name: s, namespace: ns2}}}]}}`, []Conflict{
			{"spec.mcp.targets[0].auth.secretRef.namespace", "the Secret must be in the namespace of this object: remove namespace, and put the Secret there"},
		}},
		{"a block of another type", KindBackendConfigPolicy, `spec: {loadBalancer: {type: Random, maglev: {}}}`, []Conflict{
			{"spec.loadBalancer.maglev", "maglev is a load balancer of type Maglev, but the type is Random: keep one of them"},
		}},
		{"two guards of a kind", KindTrafficPolicy, `spec: {ai: {promptGuard: {request: [{regex: {builtins: [SSN]}}, {regex: {builtins: [EMAIL]}}]}}}`, []Conflict{
			{"spec.ai.promptGuard.request[1].regex", "a second regex in request: write one guard with all of it"},
		}},
		{"guards of several kinds", KindTrafficPolicy, `spec: {ai: {promptGuard: {request: [{regex: {builtins: [SSN]}}, {webhook: {host: {host: h, port: 1}}}]}}}`, nil},
		{"an override that does not", KindTrafficPolicy, `spec: {ai: {overrides: [{field: a, value: "1", override: false}]}}`, []Conflict{
			{"spec.ai.overrides[0].override", "an item of overrides always overrides: remove override, or move the item to fieldDefaults"},
		}},
		{"an attribute twice", KindHTTPListenerPolicy, `spec: {tracing: {attributes: [{name: a, literal: {value: x}}, {name: a, literal: {value: x}}]}}`, []Conflict{
			{"spec.tracing.attributes[1].name", "the attribute is there twice, or its name is not a string: keep one"},
		}},
		{"an attribute without name", KindHTTPListenerPolicy, `spec: {tracing: {attributes: [{literal: {value: x}}]}}`, []Conflict{
			{"spec.tracing.attributes[0]", "an item of attributes needs name, the name of the attribute"},
		}},
		{"resources in both places", KindGatewayParameters, `spec: {kube: {agentgateway: {resources: {limits: {cpu: "1"}}}, deployment: {container: {resources: {limits: {cpu: "2"}}}}}}`, []Conflict{
			{"spec.kube.deployment.container.resources", "deployment.container.resources and agentgateway.resources are two spellings of one field, here with different values: keep one of them"},
		}},
		{"another API's kind", "Service", `spec: {groups: 1}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := Normalize(tt.kind, object(t, tt.text))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("conflicts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNormalizeTwice normalises objects of every kind, as the Go types spell them
// and as nobody does, and normalises the result again.
func TestNormalizeTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(Kinds()).Draw(t, "kind")
		obj := generated(t, kindSchema(kind)).(map[string]any)
		misspell(t, kind, obj)
		Normalize(kind, obj)
		once := runtime.DeepCopyJSON(obj)
		again, _ := Normalize(kind, obj)
		if diff := cmp.Diff(once, obj); diff != "" {
			t.Fatalf("normalised again, a %s changes (-once +twice):\n%s", kind, diff)
		}
		if len(again) > 0 {
			t.Fatalf("normalised again, a %s is renamed: %v", kind, again)
		}
	})
}

// TestNormalizeAnySpelling writes an object that the Go types spell in any mixture
// of other spellings, and finds it unchanged, with every value where it was
// written.
func TestNormalizeAnySpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(Kinds()).Draw(t, "kind")
		want := generated(t, kindSchema(kind)).(map[string]any)
		written := runtime.DeepCopyJSON(want)
		if _, conflicts := Normalize(kind, want); len(conflicts) > 0 {
			return // the generated object contradicts itself
		}
		misspell(t, kind, written)
		got := runtime.DeepCopyJSON(written)
		renames, conflicts := Normalize(kind, got)
		if len(conflicts) > 0 {
			t.Fatalf("conflicts %v", conflicts)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("a %s comes out differently (-want +got):\n%s", kind, diff)
		}
		places := leaves("", written)
		for path, v := range leaves("", got) {
			if was, ok := places[Written(renames, path)]; ok && fold(fmt.Sprint(was)) != fold(fmt.Sprint(v)) {
				t.Fatalf("%s is %v, but %s where it was written is %v", path, v, Written(renames, path), was)
			}
		}
	})
}

// generated draws a value of schema s that has no mistakes but those that rules
// between fields would find.
func generated(t *rapid.T, s *apiextensionsv1.JSONSchemaProps) any {
	switch {
	case s.XIntOrString:
		return int64(1)
	case s.Type == "":
		return "any"
	case len(s.Enum) > 0:
		return rapid.SampledFrom(enumValues(s)).Draw(t, "enum")
	}
	switch s.Type {
	case "object":
		m := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(s.Properties)) {
			// Few optional fields, so that blocks that exclude each other are
			// rarely together and objects stay small.
			if slices.Contains(s.Required, k) || rapid.IntRange(0, 2).Draw(t, k) == 0 {
				p := s.Properties[k]
				m[k] = generated(t, &p)
			}
		}
		if sub := values(s); sub != nil {
			for i := range rapid.IntRange(int(orZero(s.MinProperties)), 2).Draw(t, "entries") {
				m[fmt.Sprintf("/key%d", i)] = generated(t, sub)
			}
		}
		return m
	case "array":
		l := []any{}
		for i := range rapid.IntRange(int(orZero(s.MinItems)), 2).Draw(t, "items") {
			item := generated(t, items(s))
			if m, ok := item.(map[string]any); ok {
				for _, k := range s.XListMapKeys {
					m[k] = fmt.Sprintf("name%d", i)
				}
			}
			l = append(l, item)
		}
		return l
	case "integer":
		lo, hi := int64(0), int64(1<<20)
		if s.Minimum != nil {
			lo = int64(*s.Minimum)
		}
		if s.Maximum != nil {
			hi = int64(*s.Maximum)
		}
		return rapid.Int64Range(lo, hi).Draw(t, "integer")
	case "number":
		return rapid.Float64Range(*s.Minimum, *s.Maximum).Draw(t, "number")
	case "boolean":
		return rapid.Bool().Draw(t, "boolean")
	}
	switch s.Format {
	case "date-time":
		return "2026-11-23T19:00:00Z"
	}
	if s.Pattern != "" {
		return rapid.StringMatching(strings.ReplaceAll(s.Pattern, "{1,140}", "{1,9}")).Filter(func(v string) bool { return fits(s, v) }).Draw(t, "pattern")
	}
	return rapid.StringN(int(orZero(s.MinLength)), 8, -1).Draw(t, "string")
}

// fits reports whether the length of v is what s wants.
func fits(s *apiextensionsv1.JSONSchemaProps, v string) bool {
	n := int64(utf8.RuneCountInString(v))
	return n >= orZero(s.MinLength) && (s.MaxLength == nil || n <= *s.MaxLength)
}

func orZero(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// misspell writes obj, an object as the Go types spell it, in other spellings.
func misspell(t *rapid.T, kind string, obj map[string]any) {
	n := &normalizer{}
	walk("", kindSchema(kind), obj, func(path string, s *apiextensionsv1.JSONSchemaProps, v any) any {
		str, ok := v.(string)
		if !ok || len(s.Enum) == 0 {
			return v
		}
		return rapid.SampledFrom([]string{str, strings.ToLower(str), strings.ToUpper(str), strings.ReplaceAll(str, "_", "")}).Draw(t, path)
	})
	// Inner objects first: patterns name what holds them by the spelling of the
	// Go types.
	for _, sp := range slices.Backward(spellings()) {
		if sp.from == "" || sp.to == "." || !slices.Contains(sp.kinds, kind) {
			continue
		}
		n.each("", obj, sp.in, func(path string, m map[string]any) {
			if _, ok := get(m, sp.to); !ok || !rapid.Bool().Draw(t, path+" "+sp.from) {
				return
			}
			from := sp.from
			if sp.fold {
				from = rapid.SampledFrom([]string{sp.from, strings.ToLower(sp.from), strings.ToUpper(sp.from)}).Draw(t, from)
			}
			for i, c := range from {
				// Moving back removes what it leaves empty, which this was before.
				if v, _ := get(m, from[:i]); c == '.' && v != nil && len(v.(map[string]any)) == 0 {
					return
				}
			}
			if _, taken := get(m, from); !taken && from != sp.to {
				n.move(path, m, sp.to, from)
			}
		})
	}
}

// FuzzParse feeds what no schema permits: nothing panics, and what Parse accepts,
// Validate accepts too.
func FuzzParse(f *testing.F) {
	for _, tt := range testkind.Spellings() {
		for _, text := range append(tt.Others, tt.Canonical) {
			f.Add(tt.Kind, text)
		}
	}
	for _, r := range testkind.Rules() {
		f.Add(r.Kind, r.Bad)
	}
	f.Add(KindBackend, `spec: {ai: {llm: [], priorityGroups: {provider: 1}}, mcp: {targets: {static: []}}, loadBalancer: []}`)
	f.Add(KindTrafficPolicy, `{metadata: [], spec: {targetRefs: [[]], ai: {overrides: [1], fieldDefaults: 2, promptGuard: {request: [1, {}]}}}}`)
	f.Fuzz(func(t *testing.T, kind, text string) {
		var obj map[string]any
		if yaml.Unmarshal([]byte(text), &obj) != nil || obj == nil {
			return
		}
		Normalize(kind, obj)
		UnknownFields(kind, obj)
		Check(kind, obj)
		o, errs := Parse(kind, obj)
		if o == nil || len(errs) > 0 {
			return
		}
		if errs := o.Validate(); len(errs) > 0 {
			t.Errorf("Parse accepts what Validate refuses: %v in:\n%s", errs, text)
		}
		Unserved(o)
	})
}
