package kube

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mcpgw/mcpgw/config"
)

// maxMessage bounds the message of a condition, in bytes; the API permits 32,768.
const maxMessage = 4096

// A finding is what a condition says.
type finding struct {
	kind    string // of condition
	yes     bool
	reason  string
	message string
}

// merged returns the conditions of before with findings about one generation in it. The time of a transition is
// that of a change of status. transitions are those that readers should be told of.
func merged(before []metav1.Condition, generation int64, findings ...finding) (after []metav1.Condition, transitions []transition) {
	after = slices.Clone(before)
	for _, f := range findings {
		c := metav1.Condition{Type: f.kind, Status: metav1.ConditionFalse, Reason: f.reason, Message: clip(f.message, maxMessage), ObservedGeneration: generation}
		if f.yes {
			c.Status = metav1.ConditionTrue
		}
		old := meta.FindStatusCondition(before, f.kind)
		if old != nil && old.Status != c.Status && old.Status != metav1.ConditionUnknown || (old == nil || old.Status == metav1.ConditionUnknown) && !f.yes && f.kind != "Conflicted" {
			transitions = append(transitions, transition{c})
		}
		meta.SetStatusCondition(&after, c)
	}
	return after, transitions
}

// problemsOf returns the problems of the report, by object.
func problemsOf(report *config.Report) map[config.ObjectRef][]config.Problem {
	out := map[config.ObjectRef][]config.Problem{}
	for _, p := range report.Problems {
		out[p.Object] = append(out[p.Object], p)
	}
	return out
}

// serious returns the problems that keep something from being served, and the rest, which are
// notes.
func serious(problems []config.Problem) (bad, notes []config.Problem) {
	for _, p := range problems {
		if p.Class == config.Warning {
			notes = append(notes, p)
		} else {
			bad = append(bad, p)
		}
	}
	return bad, notes
}

// text says what problems there are and what to do about them, or else that all is well.
func text(problems []config.Problem, well string) string {
	var out []string
	for _, p := range problems {
		s := p.Message
		if p.Path != "" {
			s = p.Path + ": " + s
		}
		if p.Help != "" {
			s += " (" + p.Help + ")"
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return well
	}
	return strings.Join(out, "; ")
}

// noted returns well, with the notes behind it.
func noted(well string, notes []config.Problem) string {
	if len(notes) == 0 {
		return well
	}
	return well + ". Note: " + text(notes, "")
}

// within reports whether path is the field at parent, or in it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// at returns the problems with the field at path.
func at(problems []config.Problem, path string) (out []config.Problem) {
	for _, p := range problems {
		if within(p.Path, path) {
			out = append(out, p)
		}
	}
	return out
}

// because returns the problems with one of the reasons.
func because(problems []config.Problem, reasons ...string) (out []config.Problem) {
	for _, p := range problems {
		if slices.Contains(reasons, p.Reason) {
			out = append(out, p)
		}
	}
	return out
}
