package policy

import "strings"

// An outcome is the set of results that an evaluation may have: one of them when all
// that it needs is known.
type outcome uint8

const (
	isTrue outcome = 1 << iota
	isFalse
	isError

	undecided = isTrue | isFalse | isError
)

// String names the results of the set, for messages and tests.
func (o outcome) String() string {
	var out []string
	for i, name := range []string{"true", "false", "error"} {
		if o&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, "|")
}

// An operator joins the parts of an expression.
type operator uint8

const (
	leafOp operator = iota
	notOp
	andOp
	orOp
	ifOp
)

// A node is an expression taken apart at its logical operators. Each leaf is a
// program of its own, so that one that speaks only of the request is evaluated once a
// request, and so that what is undecided is known as narrowly as the expression allows.
type node struct {
	op   operator
	args []*node
	leaf *leaf
}

// evaluate returns what the node may come to, given what each leaf may come to.
func (n *node) evaluate(leaf func(*leaf) outcome) outcome {
	switch n.op {
	case notOp:
		return not(n.args[0].evaluate(leaf))
	case andOp:
		out := isTrue
		for _, a := range n.args {
			if out = and(out, a.evaluate(leaf)); out == isFalse {
				break
			}
		}
		return out
	case orOp:
		out := isFalse
		for _, a := range n.args {
			if out = or(out, a.evaluate(leaf)); out == isTrue {
				break
			}
		}
		return out
	case ifOp:
		cond := n.args[0].evaluate(leaf)
		out := cond & isError
		if cond&isTrue != 0 {
			out |= n.args[1].evaluate(leaf)
		}
		if cond&isFalse != 0 {
			out |= n.args[2].evaluate(leaf)
		}
		return out
	default:
		return leaf(n.leaf)
	}
}

func not(a outcome) outcome {
	out := a & isError
	if a&isTrue != 0 {
		out |= isFalse
	}
	if a&isFalse != 0 {
		out |= isTrue
	}
	return out
}

// and joins two outcomes as CEL does: a false on either side hides an error on the
// other.
func and(a, b outcome) outcome {
	out := (a | b) & isFalse
	if a&isTrue != 0 && b&isTrue != 0 {
		out |= isTrue
	}
	if a&isError != 0 && b&(isTrue|isError) != 0 || b&isError != 0 && a&(isTrue|isError) != 0 {
		out |= isError
	}
	return out
}

// or joins two outcomes as CEL does: a true on either side hides an error on the
// other.
func or(a, b outcome) outcome { return not(and(not(a), not(b))) }
