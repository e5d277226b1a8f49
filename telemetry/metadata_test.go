package telemetry

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMetadata(t *testing.T) {
	var m Metadata
	add := func(namespace string, members map[string]any) {
		t.Helper()
		if err := m.Add(namespace, members); err != nil {
			t.Fatal(err)
		}
	}
	add("a", map[string]any{"x": "1", "y": map[string]any{"z": true}})
	before := m.All()
	add("a", map[string]any{"x": 2.0})
	add("b", map[string]any{"x": nil})
	add("c", nil)
	if want := map[string]map[string]any{"a": {"x": "1", "y": map[string]any{"z": true}}}; !cmp.Equal(before, want) {
		t.Errorf("what was read before has changed: %s", cmp.Diff(want, before))
	}
	cases := []struct {
		namespace, path string
		want            any
		ok              bool
	}{
		{"a", "x", 2.0, true},
		{"a", "y z", true, true},
		{"a", "y", map[string]any{"z": true}, true},
		{"a", "x z", nil, false},
		{"a", "", map[string]any{"x": 2.0, "y": map[string]any{"z": true}}, true},
		{"b", "x", nil, true},
		{"c", "", map[string]any(nil), false},
	}
	for _, c := range cases {
		got, ok := m.Find(c.namespace, strings.Fields(c.path)...)
		if ok != c.ok || !cmp.Equal(got, c.want) {
			t.Errorf("%s %s: %v, %v, want %v, %v", c.namespace, c.path, got, ok, c.want, c.ok)
		}
	}
	if _, ok := (*Metadata)(nil).Find("a", "x"); ok {
		t.Error("nil has something")
	}
}

func TestMetadataLimits(t *testing.T) {
	nested := func(n int) map[string]any {
		out := map[string]any{}
		for range n - 1 {
			out = map[string]any{"a": out}
		}
		return out
	}
	// Beside the text there are the namespace, the object, the name and the value.
	most := strings.Repeat("x", maxMetadata-len("ns")-8-len("a")-8)
	cases := []struct {
		name    string
		members map[string]any
		want    error
	}{
		{"at the limit", map[string]any{"a": most}, nil},
		{"over it", map[string]any{"a": most + "x"}, errMetadataSize},
		{"as deep as may be", map[string]any{"a": nested(maxMetadataDepth - 1)}, nil},
		{"deeper", map[string]any{"a": nested(maxMetadataDepth)}, errMetadataDepth},
		{"no number", map[string]any{"a": []any{math.NaN()}}, errMetadataValue},
		{"no JSON", map[string]any{"a": 1}, errMetadataValue},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var m Metadata
			if err := m.Add("ns", c.members); err != c.want { //nolint:errorlint // it is not wrapped
				t.Errorf("error %v, want %v", err, c.want)
			}
			if (m.All() == nil) != (c.want != nil) {
				t.Errorf("there is %d bytes of it", len(m.All()))
			}
		})
	}
	var m Metadata
	if m.Add("a", map[string]any{"a": most[:maxMetadata/2]}) != nil || m.Add("b", map[string]any{"a": most[:maxMetadata/2]}) == nil {
		t.Error("the limit is not that of all namespaces together")
	}
}
