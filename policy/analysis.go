package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// uses is the set of things that an expression speaks of.
type uses uint8

const (
	usesMCP uses = 1 << iota
	usesMethod
	usesArguments
	usesBackend
	usesClaims
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
			case "jwt", "apiKey":
				out |= usesClaims
			}
		case ast.SelectKind:
			switch e.AsSelect().FieldName() {
			case "method":
				out |= usesMethod // request.method, too: see decideListed
			case "arguments":
				out |= usesArguments
			}
		}
	}))
	if out&usesMCP == 0 {
		out &^= usesMethod | usesArguments
	}
	return out
}

// An analysis is what the form of an expression tells.
type analysis struct {
	uses     uses
	warnings []string
}

// analyse refuses what compiles but can't be served, and collects warnings.
func analyse(source string, checked *cel.Ast) (analysis, error) {
	native := checked.NativeRep()
	if out := checked.OutputType(); !out.IsExactType(types.BoolType) && !out.IsExactType(types.DynType) {
		return analysis{}, &ExpressionError{Message: fmt.Sprintf("the expression is of type %s; a condition is a bool", out)}
	}
	found := analysis{uses: usesOf(native.Expr())}
	operands := map[int64]bool{} // what stands before a dot
	var refusal *ExpressionError
	refuse := func(id int64, format string, args ...any) {
		if refusal == nil {
			refusal = &ExpressionError{Offset: offsetOf(native, id), Message: fmt.Sprintf(format, args...)}
		}
	}
	patterns := regexpFunctions()
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			operands[e.AsSelect().Operand().ID()] = true
		case ast.CallKind:
			call := e.AsCall()
			at, ok := patterns[call.FunctionName()]
			if !ok {
				break
			}
			args := call.Args()
			if call.IsMemberFunction() {
				args = append([]ast.Expr{call.Target()}, args...)
			}
			pattern, ok := stringLiteral(args[at])
			if !ok {
				refuse(args[at].ID(), "the pattern of %s has to be a string literal", call.FunctionName())
				break
			}
			if _, err := compileRegexp(pattern); err != nil {
				refuse(args[at].ID(), "%s", err.Error())
			}
		}
		if t := native.GetType(e.ID()); t.Kind() == types.StructKind && strings.HasPrefix(t.TypeName(), "mcpgw.") && !operands[e.ID()] {
			refuse(e.ID(), "this is no value by itself: name one of its fields, %s", strings.Join(fieldNames(t.TypeName()), ", "))
		}
	}))
	if refusal != nil {
		return analysis{}, refusal
	}
	if found.uses&usesClaims != 0 {
		found.warnings = append(found.warnings, "jwt and apiKey are empty: no authentication is configured that fills them")
	}
	return found, nil
}

// offsetOf returns where the expression of that id begins, in characters.
func offsetOf(a *ast.AST, id int64) int {
	r, ok := a.SourceInfo().GetOffsetRange(id)
	if !ok {
		return 0
	}
	return int(r.Start)
}

func fieldNames(typ string) []string {
	var out []string
	for _, f := range objects()[typ] {
		out = append(out, f.name)
	}
	return out
}

// sizes bounds what the variables hold, so that the cost of most expressions is known
// before they are evaluated. What it does not know makes the cost unbounded.
type sizes struct{}

var _ checker.CostEstimator = sizes{}

// maxHeaders bounds the entries of request.headers and request.query.
const maxHeaders = 100

// EstimateSize implements [checker.CostEstimator].
func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	if t := n.Type(); t != nil && t.Kind() == types.StringKind && !slices.Contains(n.Path(), "arguments") {
		return &checker.SizeEstimate{Max: maxText}
	}
	if p := n.Path(); len(p) == 2 && p[0] == "request" && (p[1] == "headers" || p[1] == "query") {
		return &checker.SizeEstimate{Max: maxHeaders}
	}
	return nil
}

// EstimateCallCost implements [checker.CostEstimator] for the functions of this
// package.
func (sizes) EstimateCallCost(function, overload string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if function == inCIDR {
		return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: 10}}
	}
	if !ownFunction(overload) {
		return nil
	}
	if function == "regexReplace" || function == "json" {
		return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: math.MaxUint64}}
	}
	return &checker.CallEstimate{
		CostEstimate: checker.CostEstimate{Min: 1, Max: maxText / 10},
		ResultSize:   &checker.SizeEstimate{Max: maxText},
	}
}

// ownFunction tells the overloads of functions() from those of CEL by their prefixes.
func ownFunction(overload string) bool {
	switch {
	case strings.HasPrefix(overload, "base64_"), overload == "json_string", overload == "regex_replace_string", strings.HasPrefix(overload, "list_join"):
		return true
	}
	for _, name := range []string{"char_at", "index_of", "last_index_of", "lower_ascii", "upper_ascii", "replace", "split", "substring", "trim"} {
		if strings.HasPrefix(overload, "string_"+name) {
			return true
		}
	}
	return false
}
