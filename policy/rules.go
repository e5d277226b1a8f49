package policy

import (
	"context"
	"sync/atomic"
)

// A group is a list of rule sets that are evaluated together.
type group struct {
	sets  []set
	uses  uses
	slots int
}

// A set is a RuleSet, with the place of its rules' results.
type set struct {
	RuleSet
	bases []int
}

func newGroup(sets []RuleSet) group {
	g := group{}
	for _, s := range sets {
		c := set{RuleSet: s, bases: make([]int, len(s.Expressions))}
		for i, e := range s.Expressions {
			c.bases[i] = g.slots
			g.slots += e.slots
			g.uses |= e.uses
		}
		g.sets = append(g.sets, c)
	}
	return g
}

// A run is a group at work on one request: it keeps the results of what does not
// depend on the operation. It is safe for concurrent use.
type run struct {
	*group
	results []atomic.Uint32 // an outcome each; 0 while it is not known
}

func (g *group) begin() run {
	r := run{group: g}
	if g.slots > 0 {
		r.results = make([]atomic.Uint32, g.slots)
	}
	return r
}

func (r *run) empty() bool { return r.group == nil || len(r.sets) == 0 }

// A verdict is what a group comes to.
type verdict uint8

const (
	permitted verdict = iota
	// postponed says that it takes more than is known yet.
	postponed
)

// decide evaluates the rule sets that cover target: a Deny rule that matches denies;
// else an Allow rule that matches permits; else it is denied if there are Allow rules
// and permitted if there are none. An expression that fails does not match if it
// allows and does if it denies. What speaks of anything in later is not evaluated.
//
// What an operation does not have, such as the tool of a prompt, is an error in a rule
// that allows. A rule that denies is asked whether it would match whatever the tool
// were: mcp.tool.name == 'x' denies no prompts.
func (r *run) decide(ctx context.Context, s *scope, target string, later uses) (verdict, error) {
	for i := range r.sets {
		if set := &r.sets[i]; set.Broken && set.covers(target, later) {
			return 0, misconfigured(set.Source)
		}
	}
	v := permitted
	for i := range r.sets {
		set := &r.sets[i]
		if set.Action != Deny || !set.covers(target, later) {
			continue
		}
		for j, e := range set.Expressions {
			switch o := r.evaluate(ctx, s, set, j, later); {
			case o&isFalse == 0:
				return 0, denied(&Denial{Source: set.Source, Expression: e.source, Reason: "a Deny rule matches"})
			case o != isFalse && later != 0:
				v = postponed
			}
		}
	}
	allow, err := r.allows(ctx, s, target, later)
	return max(v, allow), err
}

// allows evaluates the Allow rules that cover target.
func (r *run) allows(ctx context.Context, s *scope, target string, later uses) (verdict, error) {
	var last *set
	v, matched := permitted, false
	for i := range r.sets {
		set := &r.sets[i]
		if set.Action == Deny || !set.covers(target, later) {
			continue
		}
		last = set
		for j := range set.Expressions {
			switch o := r.evaluate(ctx, s, set, j, later); {
			case o == isTrue:
				return permitted, nil
			case o&isTrue != 0:
				v, matched = postponed, true
			}
		}
	}
	if last != nil && !matched {
		return 0, denied(&Denial{Source: last.Source, Reason: "no Allow rule matches"})
	}
	return v, nil
}

// covers reports whether the set covers what is sent to target. A set that is attached
// to a target covers nothing before the target is known.
func (s *set) covers(target string, later uses) bool {
	return s.Target == "" || s.Target == target && later == 0
}

// evaluate returns what the expression of that index in set comes to.
func (r *run) evaluate(ctx context.Context, s *scope, set *set, index int, later uses) outcome {
	e := set.Expressions[index]
	s.open = set.Action == Deny
	var failure error
	o := e.root.evaluate(func(l *leaf) outcome {
		if l.uses&later != 0 {
			return undecided
		}
		if l.slot >= 0 {
			if known := r.results[set.bases[index]+l.slot].Load(); known != 0 {
				return outcome(known)
			}
		}
		o, err := l.evaluate(ctx, s)
		if err != nil && !isAbsent(err) {
			failure = err
		}
		if l.slot >= 0 {
			r.results[set.bases[index]+l.slot].Store(uint32(o))
		}
		return o
	})
	if o == isError && failure != nil {
		e.metrics.CELError(set.Source)
	}
	return o
}
