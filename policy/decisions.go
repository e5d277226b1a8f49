package policy

import (
	"context"

	"github.com/google/cel-go/common/ast"
)

// Decisions stand for what [Authorize] decides for one caller about all operations
// whose arguments are not known: callers with equal Decisions may see the same. They
// are comparable, and hold on to the rules that they come from.
type Decisions struct {
	rules, attached *group
	outcomes        string // of what the rules ask of the caller
}

// DecisionsOf returns the Decisions for an admitted context. Rules mostly ask one thing
// of the caller and another of the operation, so that there are few of them. ok is false
// when a rule compares the two, or may take so long that it is cut off: then only Authorize can
// tell.
func DecisionsOf(ctx context.Context) (d Decisions, ok bool) {
	a, admitted := ctx.Value(admissionKey{}).(*admission)
	if !admitted {
		return Decisions{}, false
	}
	s := newScope(a.request, nil, nil)
	var outcomes []byte
	if !a.settled {
		d.rules = a.rules.group
		if outcomes, ok = a.rules.outcomes(ctx, s, outcomes); !ok {
			return Decisions{}, false
		}
	}
	if !a.attached.empty() {
		d.attached = a.attached.group
		if outcomes, ok = a.attached.outcomes(ctx, s, outcomes); !ok {
			return Decisions{}, false
		}
	}
	d.outcomes = string(outcomes)
	return d, true
}

// outcomes appends what the rules ask of the caller comes to, a byte each; false says
// that some rule asks something of the caller and the operation together.
func (r *run) outcomes(ctx context.Context, s *scope, out []byte) ([]byte, bool) {
	for i := range r.sets {
		set := &r.sets[i]
		s.open = set.Action == Deny
		for j, e := range set.Expressions {
			for _, l := range e.leaves {
				if l.slot < 0 {
					if l.varies {
						return nil, false
					}
					continue
				}
				result := &r.results[set.bases[j]+l.slot]
				o := outcome(result.Load())
				if o == 0 {
					var err error
					switch o, err = l.evaluate(ctx, s); {
					case err == nil:
						result.Store(uint32(o)) // an error is counted when the rule is evaluated
					case !l.bounded:
						return nil, false // it may have been cut off, and not be the next time
					}
				}
				out = append(out, byte(o))
			}
		}
	}
	return out, true
}

// speaksOfCaller reports whether e speaks of anything but the operation and the backend.
// What is not known to be one of these counts.
func speaksOfCaller(e ast.Expr) bool {
	local := map[string]bool{"mcp": true, "backend": true, ".mcp": true, ".backend": true}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind {
			c := e.AsComprehension()
			local[c.IterVar()], local[c.IterVar2()], local[c.AccuVar()] = true, true, true
		}
	}))
	found := false
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && !local[e.AsIdent()] {
			found = true
		}
	}))
	return found
}
