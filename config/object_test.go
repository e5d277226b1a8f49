package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// TestParseObject shows what becomes of objects that an API server has.
func TestParseObject(t *testing.T) {
	ref := config.ObjectRef{Kind: "TrafficPolicy", Namespace: "ns", Name: "p"}
	for _, tt := range []struct {
		name, text string
		want       []config.Problem
	}{
		{"another spelling", "spec: {targetRefs: [{kind: HTTPRoute, name: r}], ai: {defaults: [{field: a, value: b}]}}", nil},
		{"a mistake, at the path as it is written", "spec: {targetRefs: [{kind: HTTPRoute, name: r}], ai: {defaults: [{field: 1, value: b}]}}", []config.Problem{{
			Class: config.Invalid, Code: config.CodeType, Object: ref, Path: "spec.ai.defaults[0].field",
			Message: "`path` must be a string, not a number", Label: "put it in quotes", Help: "put it in quotes",
		}}},
		{"two spellings", "spec: {targetRefs: [{kind: HTTPRoute, name: r}], ai: {defaults: [{field: a, value: b}], fieldDefaults: [{path: c, value: d}]}}", []config.Problem{{
			Class: config.Invalid, Code: config.CodeConflict, Object: ref, Path: "spec.ai.defaults",
			Message: "defaults and fieldDefaults are two spellings of one field, here with different values: keep one of them",
		}}},
	} {
		obj := map[string]any{}
		if err := yaml.Unmarshal([]byte("kind: TrafficPolicy\nmetadata: {namespace: ns, name: p}\n"+tt.text), &obj); err != nil {
			t.Fatal(err)
		}
		o, problems := config.ParseObject(obj)
		if diff := cmp.Diff(tt.want, problems); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", tt.name, diff)
		}
		p, ok := o.(*v1alpha1.TrafficPolicy)
		if !ok || p.Namespace != "ns" || p.Name != "p" || len(p.Spec.TargetRefs) != 1 {
			t.Errorf("%s: what it covers is lost: %+v", tt.name, o)
		}
	}
	if o, problems := config.ParseObject(map[string]any{"kind": "Service"}); o != nil || problems != nil {
		t.Errorf("a Service: %v, %v", o, problems)
	}
}
