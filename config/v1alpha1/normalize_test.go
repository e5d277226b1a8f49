package v1alpha1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
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
	for _, tt := range spellingPairs() {
		t.Run(tt.name, func(t *testing.T) {
			want := object(t, tt.canonical)
			if _, conflicts := Normalize(tt.kind, want); conflicts != nil {
				t.Fatalf("the canonical spelling has conflicts: %v", conflicts)
			}
			for _, text := range tt.others {
				got := object(t, text)
				if _, conflicts := Normalize(tt.kind, got); conflicts != nil {
					t.Errorf("conflicts %v in:\n%s", conflicts, text)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("normalised differently (-canonical +other):\n%s\nwritten:\n%s", diff, text)
				}
			}
			if unknown := UnknownFields(tt.kind, want); unknown != nil {
				t.Errorf("unknown fields: %v", unknown)
			}
			if _, errs := Parse(tt.kind, want); errs != nil {
				t.Errorf("Parse: %v", errs)
			}
		})
	}
}
