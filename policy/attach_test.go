package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestMerge(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	for _, tt := range []struct {
		name     string
		policies []Attachment
		want     Effective
	}{
		{name: "none", want: Effective{}},
		{
			name: "the more specific wins, and nobody is overridden by it",
			policies: []Attachment{
				{Name: "ns/gw", Level: GatewayLevel, Fields: []string{"ai"}},
				{Name: "ns/rule", Level: RuleLevel, Fields: []string{"ai"}, Created: at(9)},
				{Name: "ns/route", Level: RouteLevel, Fields: []string{"ai"}},
				{Name: "ns/listener", Level: ListenerLevel, Fields: []string{"ai", "extAuth"}},
			},
			want: Effective{Fields: map[string][]int{"ai": {1}, "extAuth": {3}}, Standings: []Standing{Attached, Attached, Attached, Attached}},
		},
		{
			name: "of one level the older wins",
			policies: []Attachment{
				{Name: "ns/a", Level: RouteLevel, Fields: []string{"ai"}, Created: at(2)},
				{Name: "ns/b", Level: RouteLevel, Fields: []string{"ai"}, Created: at(1)},
				{Name: "ns/c", Level: RouteLevel, Fields: []string{"ai", "extProc"}, Created: at(3)},
			},
			want: Effective{Fields: map[string][]int{"ai": {1}, "extProc": {2}}, Standings: []Standing{Overridden, Attached, Merged}},
		},
		{
			name: "of one age the first name wins",
			policies: []Attachment{
				{Name: "ns/b", Level: RouteLevel, Fields: []string{"ai"}},
				{Name: "ns/a", Level: RouteLevel, Fields: []string{"ai"}},
			},
			want: Effective{Fields: map[string][]int{"ai": {1}}, Standings: []Standing{Overridden, Attached}},
		},
		{
			name: "a loser to both levels",
			policies: []Attachment{
				{Name: "ns/old", Level: GatewayLevel, Fields: []string{"ai"}, Created: at(1)},
				{Name: "ns/new", Level: GatewayLevel, Fields: []string{"ai"}, Created: at(2)},
				{Name: "ns/route", Level: RouteLevel, Fields: []string{"ai"}, Created: at(3)},
			},
			want: Effective{Fields: map[string][]int{"ai": {2}}, Standings: []Standing{Attached, Overridden, Attached}},
		},
		{
			name: "rbac accumulates",
			policies: []Attachment{
				{Name: "ns/gw", Level: GatewayLevel, Fields: []string{"rbac"}},
				{Name: "ns/a", Level: RouteLevel, Fields: []string{"rbac", "ai"}, Created: at(2)},
				{Name: "ns/b", Level: RouteLevel, Fields: []string{"rbac", "ai"}, Created: at(1)},
			},
			want: Effective{Fields: map[string][]int{"rbac": {2, 1, 0}, "ai": {2}}, Standings: []Standing{Attached, Merged, Attached}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Merge(tt.policies), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The order in which policies are delivered decides nothing, and no rbac is ever lost.
func TestMergeIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var policies []Attachment
		for i := range rapid.IntRange(0, 6).Draw(t, "policies") {
			policies = append(policies, Attachment{
				Name: fmt.Sprintf("ns/p%d", i), Level: Level(rapid.IntRange(0, 3).Draw(t, "level")),
				Created: time.Unix(rapid.Int64Range(0, 2).Draw(t, "created"), 0),
				Fields:  rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"rbac", "ai", "extAuth"}), 1, 3, func(s string) string { return s }).Draw(t, "fields"),
			})
		}
		named := func(in []Attachment) (map[string][]string, map[string]Standing) {
			e := Merge(in)
			fields, standings := map[string][]string{}, map[string]Standing{}
			for f, list := range e.Fields {
				for _, i := range list {
					fields[f] = append(fields[f], in[i].Name)
				}
			}
			for i, s := range e.Standings {
				standings[in[i].Name] = s
			}
			return fields, standings
		}
		fields, standings := named(policies)
		shuffled, standings2 := named(rapid.Permutation(slices.Clone(policies)).Draw(t, "order"))
		if diff := cmp.Diff(fields, shuffled); diff != "" {
			t.Fatalf("fields depend on the order:\n%s", diff)
		}
		if diff := cmp.Diff(standings, standings2); diff != "" {
			t.Fatalf("standings depend on the order:\n%s", diff)
		}
		for _, p := range policies {
			if slices.Contains(p.Fields, "rbac") != slices.Contains(fields["rbac"], p.Name) {
				t.Fatalf("the rbac of %s: %v", p.Name, fields["rbac"])
			}
		}
	})
}

func TestStandings(t *testing.T) {
	for _, tt := range []struct{ a, b, want Standing }{
		{Attached, Attached, Attached}, {Attached, Overridden, Merged}, {Overridden, Overridden, Overridden}, {Merged, Attached, Merged},
	} {
		if got := tt.a.Both(tt.b); got != tt.want {
			t.Errorf("%v and %v: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
