package policy

import (
	"fmt"
	"iter"
	"net/netip"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// each goes over the elements of a list.
func each(list ref.Val) iter.Seq2[int, ref.Val] {
	return func(yield func(int, ref.Val) bool) {
		l, ok := list.(traits.Lister)
		if !ok {
			return
		}
		i := 0
		for it := l.Iterator(); it.HasNext() == types.True; i++ {
			if !yield(i, it.Next()) {
				return
			}
		}
	}
}

// An addressRewriter turns comparisons of source.address with literals into
// containment: CEL compares strings, so source.address == '10.0.0.0/8' would never be
// true.
type addressRewriter struct {
	factory  ast.ExprFactory
	nextID   int64
	warnings []string
}

// rewriteAddresses rewrites the parsed expression in place and returns what its
// author should know.
func rewriteAddresses(a *ast.AST) []string {
	r := &addressRewriter{factory: ast.NewExprFactory(), nextID: ast.MaxID(a) + 1}
	var calls []ast.Expr
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind {
			calls = append(calls, e)
		}
	}))
	for _, e := range calls {
		r.rewrite(e)
	}
	return r.warnings
}

func (r *addressRewriter) rewrite(e ast.Expr) {
	call := e.AsCall()
	args := call.Args()
	if len(args) != 2 {
		return
	}
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals:
		address, other := args[0], args[1]
		if !isSourceAddress(address) {
			address, other = other, address
		}
		literal, ok := stringLiteral(other)
		if !isSourceAddress(address) || !ok || !r.check(literal) {
			return
		}
		contains := r.contains(address, other)
		if call.FunctionName() == operators.NotEquals {
			contains = r.factory.NewCall(r.id(), operators.LogicalNot, contains)
		}
		e.SetKindCase(contains)
	case operators.In:
		if isSourceAddress(args[0]) && args[1].Kind() == ast.ListKind {
			r.rewriteIn(e, args[0], args[1].AsList().Elements())
		}
	}
}

// rewriteIn rewrites address in [elements] to an alternative an element.
func (r *addressRewriter) rewriteIn(e, address ast.Expr, elements []ast.Expr) {
	var any ast.Expr
	for _, el := range elements {
		copied := r.factory.CopyExpr(address)
		copied.RenumberIDs(func(int64) int64 { return r.id() })
		var one ast.Expr
		if literal, ok := stringLiteral(el); ok && r.check(literal) {
			one = r.contains(copied, el)
		} else {
			one = r.factory.NewCall(r.id(), operators.Equals, copied, el)
		}
		if any == nil {
			any = one
			continue
		}
		any = r.factory.NewCall(r.id(), operators.LogicalOr, any, one)
	}
	if any != nil {
		e.SetKindCase(any)
	}
}

func (r *addressRewriter) contains(address, literal ast.Expr) ast.Expr {
	return r.factory.NewCall(r.id(), inCIDR, address, literal)
}

func (r *addressRewriter) id() int64 {
	r.nextID++
	return r.nextID
}

// check reports whether the literal is an address or CIDR, and warns of what is not
// meant.
func (r *addressRewriter) check(literal string) bool {
	if _, ok := parsePrefix(literal); !ok {
		r.warnings = append(r.warnings, fmt.Sprintf("source.address is never %q: it is an IP address", literal))
		return false
	}
	if _, err := netip.ParseAddr(literal); err != nil {
		r.warnings = append(r.warnings, fmt.Sprintf("source.address is compared with the CIDR %q, which is read as containment; cidr('%s').containsIP(source.address) says so", literal, literal))
	}
	return true
}

func isSourceAddress(e ast.Expr) bool {
	if e.Kind() != ast.SelectKind {
		return false
	}
	s := e.AsSelect()
	return s.FieldName() == "address" && !s.IsTestOnly() &&
		s.Operand().Kind() == ast.IdentKind && strings.TrimPrefix(s.Operand().AsIdent(), ".") == "source"
}

func stringLiteral(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}
