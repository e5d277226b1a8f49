package policy

import (
	"cmp"
	"slices"
	"time"
)

// A Level says how specific an attachment is: the greater, the more.
type Level uint8

// The levels at which a policy can be attached to what covers a route rule.
const (
	GatewayLevel     Level = iota // a Gateway
	ListenerSetLevel              // a ListenerSet
	ListenerLevel                 // a section of a Gateway or ListenerSet
	RouteLevel                    // an HTTPRoute
	RuleLevel                     // a section of an HTTPRoute
	BackendLevel                  // a Backend
	SectionLevel                  // a section of a Backend
)

// An Attachment is one policy that covers a route rule.
type Attachment struct {
	Name    string    // namespace/name
	Created time.Time // creationTimestamp; the zero time is the oldest
	Level   Level
	Fields  []string // the fields that it sets, each merged as a whole: rbac, rateLimit.local, …
}

// A Standing is what became of an attached policy, as its Attached condition says it.
type Standing uint8

// The standings, from best to worst.
const (
	Attached   Standing = iota // all of its fields apply, or lost to a more specific policy only
	Merged                     // some of its fields lost to an older policy of the same level
	Overridden                 // all of its fields lost so
)

// String returns the reason of the condition.
func (s Standing) String() string { return [...]string{"Attached", "Merged", "Overridden"}[s] }

// Both returns the standing of a policy that has the standings s and o at two places: it is
// attached where all of it is, overridden where none of it is at either.
func (s Standing) Both(o Standing) Standing {
	if s == o {
		return s
	}
	return Merged
}

// An Effective is what covers a route rule. Its numbers are indexes of the attachments that
// were merged.
type Effective struct {
	// Fields holds the attachments of which each field applies, in the order in which they
	// count: one, except for fields that accumulate.
	Fields map[string][]int
	// Standings holds what became of each attachment.
	Standings []Standing
}

// accumulates reports whether all policies that set a field apply: the rules of rbac are
// evaluated together, and budgets count together.
func accumulates(field string) bool { return field == "rbac" || field == "budgets" }

// Merge says which of the policies that cover a route rule apply, field by field (Gateway
// API, GEP-713): the more specific policy wins; of two at the same level the older one, then
// the one whose name is first. Fields are not merged inside. rbac and budgets accumulate: adding a policy to
// a rule can't take away what another one demands.
func Merge(policies []Attachment) Effective {
	order := make([]int, len(policies))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := &policies[a], &policies[b]
		return cmp.Or(cmp.Compare(q.Level, p.Level), p.Created.Compare(q.Created), cmp.Compare(p.Name, q.Name))
	})
	out := Effective{Fields: map[string][]int{}, Standings: make([]Standing, len(policies))}
	type claim struct {
		field string
		level Level
	}
	claimed := map[claim]bool{}
	for _, i := range order {
		p := &policies[i]
		lost := 0
		for _, f := range p.Fields {
			if len(out.Fields[f]) == 0 || accumulates(f) {
				out.Fields[f] = append(out.Fields[f], i)
			} else if claimed[claim{f, p.Level}] {
				lost++
			}
			claimed[claim{f, p.Level}] = true
		}
		switch {
		case lost == 0:
			out.Standings[i] = Attached
		case lost == len(p.Fields):
			out.Standings[i] = Overridden
		default:
			out.Standings[i] = Merged
		}
	}
	return out
}
