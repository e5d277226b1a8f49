package v1alpha1

import (
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testkind"
)

// TestRules makes each mistake, and just does not make it.
func TestRules(t *testing.T) {
	for _, r := range testkind.Rules() {
		bad := object(t, r.Bad)
		if _, conflicts := Normalize(r.Kind, bad); conflicts != nil {
			t.Errorf("%s %s: conflicts %v", r.Kind, r.Bad, conflicts)
			continue
		}
		_, errs := Parse(r.Kind, bad)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), r.Want) {
			t.Errorf("%s %s:\ngot  %v\nwant %s", r.Kind, r.Bad, errs, r.Want)
		}
		good := object(t, r.Good)
		Normalize(r.Kind, good)
		o, errs := Parse(r.Kind, good)
		if errs != nil {
			t.Errorf("%s %s: %v", r.Kind, r.Good, errs)
			continue
		}
		if errs := o.Validate(); errs != nil {
			t.Errorf("%s %s: Validate of the decoded object: %v", r.Kind, r.Good, errs)
		}
	}
}
