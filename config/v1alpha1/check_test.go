package v1alpha1

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"
)

// TestCheckGenerated shows that what schemas permit has no errors.
func TestCheckGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(Kinds()).Draw(t, "kind")
		obj := generated(t, kindSchema(kind)).(map[string]any)
		if errs := Check(kind, obj); errs != nil {
			t.Fatalf("errors %v in %v", errs, obj)
		}
		if unknown := UnknownFields(kind, obj); unknown != nil {
			t.Fatalf("unknown fields %v", unknown)
		}
	})
}

// TestCheckConstraints breaks each constraint of each field of each kind, at its
// limit and one beyond.
func TestCheckConstraints(t *testing.T) {
	for _, kind := range Kinds() {
		c := checker{patterns: kindPatterns(kind)}
		eachSchema("", kindSchema(kind), func(path string, s *apiextensionsv1.JSONSchemaProps) {
			try := func(v any, bad bool, why string) {
				c.errs = nil
				c.value(path, s, v)
				if got := len(c.errs) > 0; got != bad {
					t.Errorf("%s %s, %s: %v gives %v", kind, path, why, v, c.errs)
				}
			}
			if s.Minimum != nil && s.Type == "integer" {
				try(int64(*s.Minimum), false, "minimum")
				try(int64(*s.Minimum)-1, true, "minimum")
			}
			if s.Maximum != nil {
				try(*s.Maximum, false, "maximum")
				try(*s.Maximum+1, true, "maximum")
			}
			if s.Format == "int32" && s.Maximum == nil {
				try(int64(math.MaxInt32)+1, true, "32 bits")
			}
			if len(s.Enum) > 0 {
				try(enumValues(s)[0], false, "enum")
				try("another", true, "enum")
			}
			if s.MinLength != nil {
				try(strings.Repeat("a", int(*s.MinLength)-1), true, "minLength")
			}
			if s.MaxLength != nil {
				try(strings.Repeat("a", int(*s.MaxLength)+1), true, "maxLength")
				if s.Pattern == "" {
					try(strings.Repeat("ä", int(*s.MaxLength)), false, "maxLength")
				}
			}
			if s.Pattern != "" && s.Pattern != "^/" {
				try("\x00 ", true, "pattern")
			}
			if s.MinItems != nil {
				try(make([]any, *s.MinItems-1), true, "minItems")
			}
			if s.MaxItems != nil {
				try(make([]any, *s.MaxItems+1), true, "maxItems")
			}
			for _, wrong := range []any{"text", int64(300), true, []any{}, map[string]any{}} {
				if s.Type == "" || s.XIntOrString || s.MinItems != nil || s.MinProperties != nil || typeOf(wrong) == s.Type || len(s.Required) > 0 {
					continue
				}
				if s.Type == "number" && typeOf(wrong) == "integer" {
					continue
				}
				try(wrong, true, "type "+s.Type)
			}
		})
	}
}

// typeOf returns the JSON type of v.
func typeOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "integer"
}

// TestCheckMessages shows what users read, for each kind of mistake that schemas
// find.
func TestCheckMessages(t *testing.T) {
	tests := []struct{ name, kind, text, want string }{
		{"a missing field", KindBackend, `spec: {type: Static, static: {hosts: [{host: a}]}}`,
			`spec.static.hosts[0].port: Required value: The port, 1 to 65535`},
		{"an empty list", KindBackend, `spec: {type: Static, static: {hosts: []}}`,
			`spec.static.hosts: Invalid value: must have at least 1 item`},
		{"a port of text", KindBackend, `spec: {type: Static, static: {hosts: [{host: a, port: "80"}]}}`,
			`spec.static.hosts[0].port: Invalid value: "80": must be a whole number, not a string: remove the quotes`},
		{"a port out of range", KindBackend, `spec: {type: Static, static: {hosts: [{host: a, port: 65536}]}}`,
			`spec.static.hosts[0].port: Invalid value: 65536: must be between 1 and 65535`},
		{"a fraction", KindBackend, `spec: {type: Static, static: {hosts: [{host: a, port: 80.5}]}}`,
			`spec.static.hosts[0].port: Invalid value: 80.5: must be a whole number, not 80.5`},
		{"an object for a list", KindBackend, `spec: {type: Static, static: {hosts: {host: a, port: 80}}}`,
			`spec.static.hosts: Invalid value: must be a list, not an object: put - in front of each item`},
		{"text for an object", KindBackend, `spec: {type: Static, static: here}`,
			`spec.static: Invalid value: "here": must be an object, not a string`},
		{"an unknown type", KindBackend, `spec: {type: Statik, static: {hosts: [{host: a, port: 80}]}}`,
			`spec.type: Unsupported value: "Statik": must be one of AI, Static, AWS, MCP, DynamicForwardProxy`},
		{"a name with an underscore", KindBackend, `spec: {type: MCP, mcp: {targets: [{name: a_b, static: {host: h, port: 1}}]}}`,
			`spec.mcp.targets[0].name: Invalid value: "a_b": must be lower-case letters, digits, - and ., beginning and ending with a letter or digit, at most 253`},
		{"a duration with a fraction", KindBackend, `spec: {type: MCP, mcp: {targets: [{name: a, timeout: 1.5s, static: {host: h, port: 1}}]}}`,
			`spec.mcp.targets[0].timeout: Invalid value: "1.5s": must be a duration such as 500ms, 30s or 1h30m: digits and a unit of h, m, s or ms, without sign and fraction`},
		{"two targets of a name", KindBackend, `spec: {type: MCP, mcp: {targets: [{name: a, static: {host: h, port: 1}}, {name: a, static: {host: h, port: 1}}]}}`,
			`spec.mcp.targets[1].name: Duplicate value: "a": spec.mcp.targets[0] has this name already: choose another`},
		{"a label that YAML reads as a boolean", KindDirectResponse, "metadata: {name: a, labels: {enabled: true}}\nspec: {status: 200}",
			`metadata.labels.enabled: Invalid value: true: must be a string, not true or false: put it in quotes`},
		{"a secret of a wrong type", KindBackend, `spec: {type: MCP, mcp: {targets: [{name: a, auth: {inline: 12345}, static: {host: h, port: 1}}]}}`,
			`spec.mcp.targets[0].auth.inline: Invalid value: "[redacted]": must be a string, not a number: put it in quotes`},
		{"a body that is too long", KindDirectResponse, `spec: {status: 200, body: "` + strings.Repeat("x", 4097) + `"}`,
			`spec.body: Too long: must have at most 4096 characters, has 4097`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := object(t, tt.text)
			Normalize(tt.kind, obj)
			_, errs := Parse(tt.kind, obj)
			if diff := cmp.Diff([]string{tt.want}, printed(errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// printed returns errors as text.
func printed(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		if e.Type == field.ErrorTypeTooLong {
			e.BadValue = field.OmitValueType{}
			out = append(out, e.Field+": Too long: "+e.Detail)
			continue
		}
		out = append(out, e.Error())
	}
	return out
}

// TestParseAll shows that one run reports every mistake, and that what is right
// is decoded with its defaults.
func TestParseAll(t *testing.T) {
	obj := object(t, `
metadata: {name: b}
spec:
  type: MCP
  mcp:
    prefixMode: Sometimes
    targets:
    - {name: a, static: {host: "http://h", port: 0}}
    - {name: a, timeout: 7s, stdio: {command: c}}`)
	before := object(t, `
metadata: {name: b}
spec:
  type: MCP
  mcp:
    prefixMode: Sometimes
    targets:
    - {name: a, static: {host: "http://h", port: 0}}
    - {name: a, timeout: 7s, stdio: {command: c}}`)
	o, errs := Parse(KindBackend, obj)
	if diff := cmp.Diff([]string{
		`spec.mcp.prefixMode: Unsupported value: "Sometimes": must be one of Always, Conditional, Never`,
		`spec.mcp.targets[0].static.port: Invalid value: 0: must be between 1 and 65535`,
		`spec.mcp.targets[1].name: Duplicate value: "a": spec.mcp.targets[0] has this name already: choose another`,
		`spec.mcp.targets[0].static.host: Invalid value: "http://h": must be a host name or IP address alone, without scheme: write h`,
	}, printed(errs)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	mcp := o.(*Backend).Spec.MCP
	if mcp.MaxNameLength != 48 || mcp.FailureMode != MCPFailOpen || mcp.Targets[0].Timeout != "5s" || mcp.Targets[1].Timeout != "7s" || mcp.Targets[1].Stdio.Sharing != MCPStdioCaller {
		t.Errorf("defaults are missing in %+v", mcp)
	}
	if diff := cmp.Diff(before, obj); diff != "" {
		t.Errorf("Parse changed its argument (-before +after):\n%s", diff)
	}
}

// TestUnknownFields shows that unknown fields are found with what is known there,
// accepted spellings included, and that open blocks have none.
func TestUnknownFields(t *testing.T) {
	tests := []struct {
		name, kind, text string
		want             []UnknownField
	}{
		{"at the top", KindDirectResponse, `{spec: {status: 200}, data: {}}`, []UnknownField{
			{"data", []string{"apiVersion", "kind", "metadata", "spec", "status"}},
		}},
		{"in a list", KindBackend, `spec: {static: {hosts: [{host: a, prot: 80}]}}`, []UnknownField{
			{"spec.static.hosts[0].prot", []string{"host", "port"}},
		}},
		{"with other spellings", KindBackend, `spec: {ai: {llm: {vertexai: {projectID: a}}}}`, []UnknownField{
			{"spec.ai.llm.vertexAI.projectID", []string{"apiVersion", "authToken", "compat", "location", "model", "modelPath", "project", "projectId", "publisher", "region"}},
		}},
		{"in metadata", KindDirectResponse, `{metadata: {name: a, label: {}}}`, []UnknownField{
			{"metadata.label", []string{"annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName",
				"generation", "labels", "managedFields", "name", "namespace", "ownerReferences", "resourceVersion", "selfLink", "uid"}},
		}},
		{"in what holds anything", KindHTTPListenerPolicy, `spec: {accessLog: [{fileSink: {path: p, jsonFormat: {a: {b: c}}}}]}`, nil},
		{"in an ignored block", KindGatewayParameters, `spec: {kube: {istio: {anything: 1}}}`, nil},
		{"in a map", KindTrafficPolicy, `spec: {extAuth: {contextExtensions: {anything: a}}}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := object(t, tt.text)
			Normalize(tt.kind, obj)
			if diff := cmp.Diff(tt.want, UnknownFields(tt.kind, obj)); diff != "" {
				t.Errorf("unknown fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKnownFields(t *testing.T) {
	tests := []struct {
		kind, path string
		want       []string
	}{
		{KindBackend, "spec.static.hosts[3]", []string{"host", "port"}},
		{KindBackend, "spec.static.hosts[]", []string{"host", "port"}},
		{KindBackend, "spec.ai", []string{"allowedOrigins", "clocks", "groups", "llm", "prices", "priorityGroups", "provider", "showCost", "strict"}},
		{KindHTTPListenerPolicy, "spec.tracing.tags.any", []string{"environment", "literal", "metadata", "requestHeader"}},
		{KindBackend, "spec.mcp.targets[0].stdio.env", nil},
		{KindBackend, "spec.nothing", nil},
		{"Service", "spec", nil},
	}
	for _, tt := range tests {
		got, ok := KnownFields(tt.kind, tt.path)
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != (tt.want != nil) {
			t.Errorf("KnownFields(%s, %s) = %v, %v; (-want +got):\n%s", tt.kind, tt.path, got, ok, diff)
		}
	}
}

// TestParseNumbers shows that numbers are read whichever decoder made them.
func TestParseNumbers(t *testing.T) {
	for _, port := range []any{443, int32(443), int64(443), uint64(443), float32(443), 443.0, json.Number("443")} {
		o, errs := Parse(KindBackend, map[string]any{"spec": map[string]any{
			"type": "Static", "static": map[string]any{"hosts": []any{map[string]any{"host": "h", "port": port}}},
		}})
		if errs != nil || o.(*Backend).Spec.Static.Hosts[0].Port != 443 {
			t.Errorf("port %T(%v): %v, %v", port, port, o, errs)
		}
	}
	for _, port := range []any{uint64(math.MaxUint64), json.Number("1e999"), math.Inf(1), math.NaN()} {
		if _, errs := Parse(KindBackend, map[string]any{"spec": map[string]any{
			"type": "Static", "static": map[string]any{"hosts": []any{map[string]any{"host": "h", "port": port}}},
		}}); len(errs) != 1 {
			t.Errorf("port %T(%v): errors %v, want one", port, port, errs)
		}
	}
}
