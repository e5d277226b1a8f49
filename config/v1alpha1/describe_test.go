package v1alpha1

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/mcpgw/mcpgw/internal/testkind"
)

// TestEveryFieldIsDocumented demands a sentence for each field of each kind, and
// what happens without it for each of ours.
func TestEveryFieldIsDocumented(t *testing.T) {
	says := regexp.MustCompile(`Required|Default|Absent|Exactly one|One of|With type|With kind|Set together|Write |Only true|Accepted and without effect|at least two|Written by|Empty: what|Switches off|At least|Not for files|Unless|unless|needed`)
	for _, kind := range Kinds() {
		count := 0
		eachSchema("", kindSchema(kind), func(path string, s *apiextensionsv1.JSONSchemaProps) {
			if path == "" || strings.HasSuffix(path, "[]") || strings.HasSuffix(path, "*") {
				return
			}
			count++
			doc, ok := Describe(kind + "." + path)
			if !ok {
				t.Errorf("%s.%s is not found", kind, path)
				return
			}
			if foreign(path) {
				// Kubernetes documents the fields of its own types, and leaves a few out.
				return
			}
			if len(doc.Description) < 10 || !strings.HasSuffix(doc.Description, ".") {
				t.Errorf("%s.%s: description %q", kind, path, doc.Description)
			}
			if doc.Default != "" && !strings.Contains(doc.Description, "Default:") {
				t.Errorf("%s.%s has the default %s but does not say so: %q", kind, path, doc.Default, doc.Description)
			}
			if doc.Required && !strings.Contains(doc.Description, "Required") {
				t.Errorf("%s.%s is required but does not say so: %q", kind, path, doc.Description)
			}
			if !doc.Required && strings.Contains(doc.Description, " Required.") && !strings.Contains(doc.Description, "type") && !impliedRequired(path) {
				t.Errorf("%s.%s is not required but says so: %q", kind, path, doc.Description)
			}
			if !says.MatchString(doc.Description) && !oneOfSeveral(kind, path) {
				t.Errorf("%s.%s does not say what happens without it: %q", kind, path, doc.Description)
			}
		})
		if count < 3 {
			t.Errorf("%s has %d fields", kind, count)
		}
	}
}

// foreign reports whether a field belongs to a type of Kubernetes or the Gateway
// API.
func foreign(path string) bool {
	if path == "apiVersion" || path == "kind" || strings.HasPrefix(path, "status.") || strings.HasPrefix(path, "spec.kube.") ||
		strings.HasPrefix(path, "metadata.") || strings.HasPrefix(path, "spec.headerModifiers.re") {
		return true
	}
	return strings.Contains(path, ".selector.namespace.") || strings.Contains(path, ".selector.service.")
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		path string
		want FieldDoc
	}{
		{"Backend.spec.mcp.prefixMode", FieldDoc{
			Kind: KindBackend, Path: "spec.mcp.prefixMode", Type: "string", Default: `"Always"`, Values: []string{"Always", "Conditional", "Never"},
			Description: "When the names of tools and prompts carry their target's, as TARGET_NAME. Always: adding a target never renames a tool. Conditional: bare names while there is one target. Never: bare names; a name that two targets share is left out, with a problem. It governs resource URIs likewise. Default: Always.",
		}},
		{"backends.spec.static.hosts.port", FieldDoc{
			Kind: KindBackend, Path: "spec.static.hosts[].port", Type: "whole number", Required: true,
			Description: "The port, 1 to 65535. Required. Port 443 does not imply TLS.",
		}},
		{"backend.spec.static.hosts[0]", FieldDoc{
			Kind: KindBackend, Path: "spec.static.hosts", Type: "list of object", Required: true,
			Description: "The hosts, at least one. All of their addresses form one set of endpoints among which requests are balanced; names are resolved again every 10s. Required.",
			Fields:      []string{"spec.static.hosts[].host", "spec.static.hosts[].port"},
		}},
		{"Backend.spec.ai.llm.vertexai.projectId", FieldDoc{
			Kind: KindBackend, Path: "spec.ai.llm.vertexAI.project", Type: "string", Required: true, OtherNames: []string{"projectId"},
			Description: "The id of the Google Cloud project. Required.",
		}},
		{"HTTPListenerPolicy.spec.tracing.tags.any.literal", FieldDoc{
			Kind: KindHTTPListenerPolicy, Path: "spec.tracing.tags.*.literal", Type: "object",
			Description: "A fixed value. Exactly one source is set.", Fields: []string{"spec.tracing.tags.*.literal.value"},
		}},
		{"Backend.spec.mcp.targets.timeout", FieldDoc{
			Kind: KindBackend, Path: "spec.mcp.targets[].timeout", Type: "duration", Default: `"5s"`,
			Description: "How long the target may take to initialize and to answer a list, before the others answer without it. Calls of tools are not concerned. Default: 5s.",
		}},
	}
	for _, tt := range tests {
		got, ok := Describe(tt.path)
		if diff := cmp.Diff(tt.want, got); !ok || diff != "" {
			t.Errorf("Describe(%s), %v (-want +got):\n%s", tt.path, ok, diff)
		}
	}
	for _, path := range []string{"", "Service", "Service.spec", "Backend.spec.nothing", "Backend.spec.static.hosts.port.more"} {
		if got, ok := Describe(path); ok {
			t.Errorf("Describe(%s) = %v, want nothing", path, got)
		}
	}
	if got, ok := Describe("directresponse"); !ok || got.Fields == nil || !strings.HasPrefix(got.Description, "A DirectResponse is a fixed response.") {
		t.Errorf("Describe(directresponse) = %v, %v", got, ok)
	}
}

// TestSchema validates, with a validator of JSON Schema, every object in every
// spelling, and objects with mistakes.
func TestSchema(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	document := func(kind, text string) map[string]any {
		obj := object(t, text)
		obj["apiVersion"], obj["kind"] = GroupVersion.String(), kind
		meta, _ := obj["metadata"].(map[string]any)
		if meta == nil {
			meta = map[string]any{}
		}
		meta["name"] = "a"
		obj["metadata"] = meta
		return obj
	}
	for _, tt := range testkind.Spellings() {
		for _, text := range append(tt.Others, tt.Canonical) {
			if err := resolved.Validate(document(tt.Kind, text)); err != nil {
				t.Errorf("%s: %v in:\n%s", tt.Name, err, text)
			}
		}
	}
	for _, r := range testkind.Rules() {
		if err := resolved.Validate(document(r.Kind, r.Good)); err != nil {
			t.Errorf("%s: %v in %s", r.Kind, err, r.Good)
		}
	}
	for _, bad := range []struct{ kind, text string }{
		{KindDirectResponse, `spec: {status: 199}`},
		{KindDirectResponse, `spec: {}`},
		{KindDirectResponse, `spec: {status: 200, text: a}`},
		{KindBackend, `spec: {static: {hosts: [{host: a, port: "80"}]}}`},
		{KindBackend, `spec: {static: {hosts: []}}`},
		{KindBackend, `spec: {mcp: {prefixMode: Sometimes, targets: [{name: a}]}}`},
		{KindBackend, `spec: {mcp: {targets: [{name: A, static: {host: h, port: 1}}]}}`},
		{KindTrafficPolicy, `spec: {ai: {fieldDefaults: [{pth: a, value: b}]}}`},
		{"Bakend", `spec: {}`},
	} {
		if err := resolved.Validate(document(bad.kind, bad.text)); err == nil {
			t.Errorf("%s %s is valid", bad.kind, bad.text)
		}
	}
	if err := resolved.Validate(map[string]any{"apiVersion": "v1", "kind": "Secret", "anything": 1.0}); err != nil {
		t.Errorf("an object of another API: %v", err)
	}
}

// TestCRDs shows that the definitions for an API server name every field in every
// spelling, so that none is dropped, and no rule speaks of what they don't name.
func TestCRDs(t *testing.T) {
	crds := map[string]*apiextensionsv1.JSONSchemaProps{}
	for _, crd := range CRDs() {
		crds[crd.Spec.Names.Kind] = crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	}
	for _, tt := range testkind.Spellings() {
		for _, text := range append(tt.Others, tt.Canonical) {
			obj := object(t, text)
			walk("", crds[tt.Kind], obj, func(path string, s *apiextensionsv1.JSONSchemaProps, v any) any {
				m, ok := v.(map[string]any)
				if !ok || path == "metadata" || isOpen(s) || values(s) != nil {
					return v
				}
				for k := range m {
					if _, ok := s.Properties[k]; !ok {
						t.Errorf("%s: %s would be dropped of:\n%s", tt.Name, child(path, k), text)
					}
				}
				return v
			})
		}
	}
	for kind, s := range crds {
		eachSchema("", s, func(path string, s *apiextensionsv1.JSONSchemaProps) {
			if s.Pattern != "" {
				if _, err := regexp.Compile(s.Pattern); err != nil {
					t.Errorf("%s %s: %v", kind, path, err)
				}
			}
			for _, rule := range s.XValidations {
				for _, m := range regexp.MustCompile(`has\(self\.(\w+)\)`).FindAllStringSubmatch(rule.Rule, -1) {
					if p, ok := s.Properties[m[1]]; !ok || p.Type == "" && !p.XIntOrString {
						t.Errorf("%s %s: the rule %q speaks of %s", kind, path, rule.Rule, m[1])
					}
				}
			}
		})
	}
}

// impliedRequired reports whether a field is required by a rule and not by the
// schema, since something else can stand for it.
func impliedRequired(path string) bool {
	return strings.HasSuffix(path, ".auth.secretRef") || strings.HasSuffix(path, ".stringValue")
}

// oneOfSeveral reports whether a rule of the object that holds the field speaks of
// whether it is there.
func oneOfSeveral(kind, path string) bool {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return false
	}
	for _, r := range schemaAt(kindSchema(kind), path[:i]).XValidations {
		if strings.Contains(r.Rule, "has(self."+path[i+1:]+")") {
			return true
		}
	}
	return false
}
