package policy

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// A comparison is a leaf of the most common form, a name or method of the operation or a header
// against literals, which is decided without an interpreter: a list of tools asks
// thousands of them. It comes to what CEL would.
type comparison struct {
	header string // in canonical form; if it is empty:
	kind   Kind   // of the item; 0 is mcp.method
	target bool   // the item's target, else its name
	test   func(string) bool
}

// nativeComparison recognises the form in e; else it returns nil.
func nativeComparison(e *exprpb.Expr) *comparison {
	call := e.GetCallExpr()
	if call == nil {
		return nil
	}
	args := call.GetArgs()
	if call.GetTarget() != nil {
		args = append([]*exprpb.Expr{call.GetTarget()}, args...)
	}
	if len(args) != 2 {
		return nil
	}
	c := comparedAttribute(args[0])
	other := args[1]
	if c == nil && (call.GetFunction() == operators.Equals || call.GetFunction() == operators.NotEquals) {
		c, other = comparedAttribute(args[1]), args[0]
	}
	if c == nil {
		return nil
	}
	if call.GetFunction() == operators.In {
		list, ok := literals(other)
		if !ok {
			return nil
		}
		c.test = func(s string) bool { return slices.Contains(list, s) }
		return c
	}
	text, ok := literal(other)
	if !ok {
		return nil
	}
	switch call.GetFunction() {
	case operators.Equals:
		c.test = func(s string) bool { return s == text }
	case operators.NotEquals:
		c.test = func(s string) bool { return s != text }
	case overloads.StartsWith:
		c.test = func(s string) bool { return strings.HasPrefix(s, text) }
	case overloads.EndsWith:
		c.test = func(s string) bool { return strings.HasSuffix(s, text) }
	case overloads.Contains:
		c.test = func(s string) bool { return strings.Contains(s, text) }
	default:
		return nil
	}
	return c
}

// comparedAttribute recognises request.headers[<literal>], mcp.method and mcp.<kind>.<name or target>.
func comparedAttribute(e *exprpb.Expr) *comparison {
	if call := e.GetCallExpr(); call.GetFunction() == operators.Index && len(call.GetArgs()) == 2 {
		name, ok := literal(call.GetArgs()[1])
		if path := selection(call.GetArgs()[0]); !ok || name == "" || !slices.Equal(path, []string{"request", "headers"}) {
			return nil
		}
		return &comparison{header: http.CanonicalHeaderKey(name)}
	}
	path := selection(e)
	if len(path) < 2 || path[0] != "mcp" {
		return nil
	}
	if len(path) == 2 && path[1] == "method" {
		return &comparison{}
	}
	if len(path) != 3 || path[2] != "name" && path[2] != "target" {
		return nil
	}
	kind := map[string]Kind{"tool": Tool, "prompt": Prompt, "resource": Resource}[path[1]]
	if kind == 0 {
		return nil
	}
	return &comparison{kind: kind, target: path[2] == "target"}
}

// selection returns the names of a.b.c, or nil. A leaf has no local variables around
// it, so that its names are global.
func selection(e *exprpb.Expr) []string {
	if s := e.GetSelectExpr(); s != nil && !s.GetTestOnly() {
		if path := selection(s.GetOperand()); path != nil {
			return append(path, s.GetField())
		}
		return nil
	}
	if i := e.GetIdentExpr(); i != nil {
		return []string{strings.TrimPrefix(i.GetName(), ".")}
	}
	return nil
}

func literal(e *exprpb.Expr) (string, bool) {
	v, ok := e.GetConstExpr().GetConstantKind().(*exprpb.Constant_StringValue)
	if !ok {
		return "", false
	}
	return v.StringValue, true
}

func literals(e *exprpb.Expr) ([]string, bool) {
	list := e.GetListExpr()
	if list == nil || len(list.GetElements()) == 0 || len(list.GetOptionalIndices()) > 0 {
		return nil, false
	}
	var out []string
	for _, el := range list.GetElements() {
		s, ok := literal(el)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// errNoHeader is what CEL says of a key that a map does not have.
var errNoHeader = errors.New("no such key")

// evaluate returns what the comparison comes to for s.
func (c *comparison) evaluate(s *scope) (outcome, error) {
	var text string
	switch {
	case c.header != "":
		var ok bool
		if text, ok = s.headers.value(c.header); !ok {
			return isError, errNoHeader
		}
	case c.kind == 0 && s.method != "":
		text = s.method
	case c.kind != 0 && s.kind == c.kind:
		if text = s.item.name; c.target {
			text = s.item.target
		}
	case s.open:
		return undecided, nil
	default:
		return isError, errAbsent
	}
	if c.test(text) {
		return isTrue, nil
	}
	return isFalse, nil
}
