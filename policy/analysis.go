package policy

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// uses is the set of things that an expression speaks of.
type uses uint8

const (
	usesMCP uses = 1 << iota
	usesMethod
	usesArguments
	usesBackend
	usesJWT
	usesAPIKey
	usesBasic
)

// usesOf finds what e speaks of. A local variable of a comprehension that hides a
// global one counts as the global one: that costs a cached result, never a decision.
func usesOf(e ast.Expr) uses {
	var out uses
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			switch strings.TrimPrefix(e.AsIdent(), ".") {
			case "mcp":
				out |= usesMCP
			case "backend":
				out |= usesBackend
			case "jwt":
				out |= usesJWT
			case "apiKey":
				out |= usesAPIKey
			case "basicAuth":
				out |= usesBasic
			}
		case ast.SelectKind:
			out |= usesOfField(e.AsSelect().FieldName())
		case ast.CallKind:
			if call := e.AsCall(); call.FunctionName() == operators.OptSelect {
				name, _ := stringLiteral(call.Args()[1])
				out |= usesOfField(name)
			}
		}
	}))
	if out&usesMCP == 0 {
		out &^= usesMethod | usesArguments
	}
	return out
}

func usesOfField(name string) uses {
	switch name {
	case "method":
		return usesMethod // request.method, too: it costs a second evaluation
	case "arguments":
		return usesArguments
	}
	return 0
}

// analyse refuses what compiles but can't be served.
func analyse(checked *cel.Ast) error {
	if out := checked.OutputType(); !out.IsExactType(types.BoolType) && !out.IsExactType(types.DynType) {
		return &ExpressionError{Message: fmt.Sprintf("the expression is of type %s; a condition is a bool", out)}
	}
	return analyseParts(checked)
}

// analyseParts is analyse for an expression of any type.
func analyseParts(checked *cel.Ast) error {
	native := checked.NativeRep()
	operands := map[int64]bool{} // what stands before a dot
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.SelectKind {
			operands[e.AsSelect().Operand().ID()] = true
		}
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.OptSelect {
			operands[e.AsCall().Args()[0].ID()] = true
		}
	}))
	var refusal *ExpressionError
	refuse := func(e ast.Expr, format string, args ...any) {
		if refusal == nil {
			refusal = &ExpressionError{Offset: offsetOf(native, e), Message: fmt.Sprintf(format, args...)}
		}
	}
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind {
			checkPattern(e.AsCall(), refuse)
		}
		t := native.GetType(e.ID())
		if typ := objectIn(t); typ != "" && (t.Kind() != types.StructKind || !operands[e.ID()]) {
			refuse(e, "this is no value by itself; name one of its fields, %s, or ask has() for it", strings.Join(fieldNames(typ), ", "))
		}
	}))
	if refusal != nil {
		return refusal
	}
	return nil
}

// objectIn returns the name of the object type that t is or holds, or "".
func objectIn(t *types.Type) string {
	if t.Kind() == types.StructKind && strings.HasPrefix(t.TypeName(), "mcpgw.") {
		return t.TypeName()
	}
	for _, p := range t.Parameters() {
		if name := objectIn(p); name != "" {
			return name
		}
	}
	return ""
}

// checkPattern refuses a regular expression that is no literal, is wrong or is too large.
func checkPattern(call ast.CallExpr, refuse func(e ast.Expr, format string, args ...any)) {
	at, ok := regexpFunctions()[call.FunctionName()]
	if !ok {
		return
	}
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	pattern, ok := stringLiteral(args[at])
	if !ok {
		refuse(args[at], "the pattern of %s has to be a string literal", call.FunctionName())
		return
	}
	if _, err := compileRegexp(pattern); err != nil {
		refuse(args[at], "%s", err.Error())
	}
}

// offsetOf returns where e begins, in characters.
func offsetOf(a *ast.AST, e ast.Expr) int {
	switch e.Kind() {
	case ast.SelectKind:
		return offsetOf(a, e.AsSelect().Operand())
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			return offsetOf(a, call.Target())
		}
		if call.FunctionName() == operators.OptSelect || call.FunctionName() == operators.Index {
			return offsetOf(a, call.Args()[0])
		}
	}
	r, ok := a.SourceInfo().GetOffsetRange(e.ID())
	if !ok {
		return 0
	}
	return int(r.Start)
}

func fieldNames(typ string) []string {
	var out []string
	for _, objects := range []map[string][]field{objects(), messageObjects()} {
		for _, f := range objects[typ] {
			out = append(out, f.name)
		}
	}
	return out
}
