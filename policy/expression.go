package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	lru "github.com/hashicorp/golang-lru/v2"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"github.com/mcpgw/mcpgw/telemetry"
)

// evalTimeout bounds one evaluation of an expression whose cost is not bounded by
// its form.
const evalTimeout = 50 * time.Millisecond

// interruptEvery is after how many turns of its loops an evaluation looks at the time: a
// short one is not failed because the machine was busy. What a turn can take is bounded by
// maxCost.
const interruptEvery = 100

// An Expression is one compiled CEL expression. It is immutable and safe for
// concurrent use.
type Expression struct {
	source   string
	root     *node
	leaves   []*leaf
	uses     uses
	warnings []string
	// slots counts the leaves that are evaluated once a request.
	slots int
	// metrics counts the evaluations that fail; may be nil.
	metrics *telemetry.Metrics
}

// A leaf is a part of an expression without a logical operator at its top.
type leaf struct {
	program    cel.Program
	comparison *comparison // in place of program; may be nil
	uses       uses
	// bounded says that the form of the leaf bounds its cost, so that nothing has
	// to be counted while it is evaluated.
	bounded bool
	// slot is the place of its result among those that hold for a request, or -1.
	slot int
	// varies says that what it comes to for an operation is not the same for all callers: it
	// speaks of both, or may be cut off.
	varies bool
}

// String returns the expression as it was written.
func (e *Expression) String() string { return e.source }

// Warnings returns what is legal in the expression but surely not meant, such as a
// comparison that is never true; nil when there is nothing to say.
func (e *Expression) Warnings() []string { return slices.Clone(e.warnings) }

// SpeaksOfMCP reports whether the expression uses mcp.*: it is then decided for each
// operation, and undecided for the request as a whole.
func (e *Expression) SpeaksOfMCP() bool { return e.uses&usesMCP != 0 }

// SpeaksOfArguments reports whether the expression uses mcp.tool.arguments: it may
// then be undecided while tools are listed.
func (e *Expression) SpeaksOfArguments() bool { return e.uses&usesArguments != 0 }

// SpeaksOfJWT, SpeaksOfAPIKey and SpeaksOfBasicAuth report whether the expression uses jwt.*,
// apiKey.* or basicAuth.*, which only authentication of that kind fills.
func (e *Expression) SpeaksOfJWT() bool { return e.uses&usesJWT != 0 }

// SpeaksOfAPIKey: see [Expression.SpeaksOfJWT].
func (e *Expression) SpeaksOfAPIKey() bool { return e.uses&usesAPIKey != 0 }

// SpeaksOfBasicAuth: see [Expression.SpeaksOfJWT].
func (e *Expression) SpeaksOfBasicAuth() bool { return e.uses&usesBasic != 0 }

// CompileExpression compiles source to a condition: a CEL expression of type bool over
// the variables request, source, backend, mcp, jwt, apiKey and basicAuth. Its error is an
// *[ExpressionError]. A [Compiler] keeps what it has compiled.
func CompileExpression(source string) (*Expression, error) {
	env, checked, warnings, err := check(source, environment, analyse)
	if err != nil {
		return nil, err
	}
	c := &compilation{env: env}
	e := &Expression{source: source, warnings: warnings}
	if c.whole, err = cel.AstToCheckedExpr(checked); err != nil {
		return nil, &ExpressionError{Message: err.Error()}
	}
	if e.root, err = c.node(c.whole.GetExpr()); err != nil {
		return nil, &ExpressionError{Message: err.Error()}
	}
	e.leaves, e.slots = c.leaves, c.slots
	for _, l := range e.leaves {
		e.uses |= l.uses
	}
	return e, nil
}

// check parses source, checks it in an environment and has it analysed. Its error is an *[ExpressionError].
func check(source string, environment func() (*cel.Env, error), analyse func(*cel.Ast) error) (env *cel.Env, checked *cel.Ast, warnings []string, err error) {
	if n := utf8.RuneCountInString(source); n > maxExpression {
		return nil, nil, nil, &ExpressionError{Offset: maxExpression, Message: fmt.Sprintf("the expression has %d characters; the limit is %d", n, maxExpression)}
	}
	if env, err = environment(); err != nil {
		return nil, nil, nil, &ExpressionError{Message: err.Error()}
	}
	parsed, issues := env.Parse(source)
	if issues.Err() != nil {
		return nil, nil, nil, explain(source, issues)
	}
	warnings = rewriteAddresses(parsed.NativeRep())
	if checked, issues = env.Check(parsed); issues.Err() != nil {
		return nil, nil, nil, explain(source, issues)
	}
	return env, checked, warnings, analyse(checked)
}

// program returns what evaluates a checked expression as a whole. Its error is an *[ExpressionError].
func program(env *cel.Env, checked *cel.Ast) (cel.Program, error) {
	p, err := env.Program(checked, regexps(), cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.CostTracking(costs{}), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		return nil, &ExpressionError{Message: err.Error()}
	}
	return p, nil
}

// A compilation takes one checked expression apart.
type compilation struct {
	env    *cel.Env
	whole  *exprpb.CheckedExpr
	leaves []*leaf
	slots  int
}

func (c *compilation) node(e *exprpb.Expr) (*node, error) {
	call := e.GetCallExpr()
	var op operator
	switch {
	case call == nil:
		return c.leaf(e)
	case call.GetFunction() == operators.LogicalAnd:
		op = andOp
	case call.GetFunction() == operators.LogicalOr:
		op = orOp
	case call.GetFunction() == operators.LogicalNot:
		op = notOp
	case call.GetFunction() == operators.Conditional:
		op = ifOp
	default:
		return c.leaf(e)
	}
	n := &node{op: op}
	for _, a := range call.GetArgs() {
		arg, err := c.node(a)
		if err != nil {
			return nil, err
		}
		if arg.op == op && (op == andOp || op == orOp) {
			n.args = append(n.args, arg.args...)
			continue
		}
		n.args = append(n.args, arg)
	}
	return n, nil
}

func (c *compilation) leaf(e *exprpb.Expr) (*node, error) {
	part, err := c.part(e)
	if err != nil {
		return nil, err
	}
	l := &leaf{comparison: nativeComparison(e), uses: usesOf(part.NativeRep().Expr()), slot: -1}
	cost, err := c.env.EstimateCost(part, sizes{})
	if err != nil {
		return nil, err
	}
	l.bounded = cost.Max <= maxCost
	options := []cel.ProgramOption{regexps(), cel.EvalOptions(cel.OptOptimize)}
	if !l.bounded {
		options = append(options, cel.CostLimit(maxCost), cel.CostTracking(costs{}), cel.InterruptCheckFrequency(interruptEvery))
	}
	if l.program, err = c.env.Program(part, options...); err != nil {
		return nil, err
	}
	if l.uses&(usesMCP|usesBackend) == 0 {
		l.slot = c.slots
		c.slots++
	} else {
		l.varies = !l.bounded || speaksOfCaller(part.NativeRep().Expr())
	}
	c.leaves = append(c.leaves, l)
	return &node{leaf: l}, nil
}

// part returns e as an expression of its own.
func (c *compilation) part(e *exprpb.Expr) (*cel.Ast, error) {
	part := &exprpb.CheckedExpr{Expr: e, TypeMap: map[int64]*exprpb.Type{}, ReferenceMap: map[int64]*exprpb.Reference{}, SourceInfo: &exprpb.SourceInfo{}}
	native, err := ast.ProtoToExpr(e)
	if err != nil {
		return nil, err
	}
	take := func(id int64) {
		if t, ok := c.whole.GetTypeMap()[id]; ok {
			part.TypeMap[id] = t
		}
		if r, ok := c.whole.GetReferenceMap()[id]; ok {
			part.ReferenceMap[id] = r
		}
	}
	ast.PreOrderVisit(native, ast.NewExprVisitor(func(e ast.Expr) { take(e.ID()) }))
	return cel.CheckedExprToAst(part), nil
}

// evaluate returns what the leaf comes to for s, and the error behind isError.
func (l *leaf) evaluate(ctx context.Context, s *scope) (outcome, error) {
	if l.comparison != nil {
		return l.comparison.evaluate(s)
	}
	return l.interpret(ctx, s)
}

// interpret runs the program of the leaf.
func (l *leaf) interpret(ctx context.Context, s *scope) (outcome, error) {
	var err error
	var v any
	if l.bounded {
		v, _, err = l.program.Eval(s)
	} else {
		v, err = l.evaluateWithin(ctx, s)
	}
	switch {
	case err != nil:
		return isError, err
	case v == types.True:
		return isTrue, nil
	case v == types.False:
		return isFalse, nil
	}
	if _, ok := v.(*types.Unknown); ok {
		return undecided, nil
	}
	return isError, errNotBool
}

var errNotBool = errors.New("the expression is not a bool")

func (l *leaf) evaluateWithin(ctx context.Context, s *scope) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, evalTimeout)
	defer cancel()
	v, _, err := l.program.ContextEval(ctx, s)
	return v, err
}

// A Compiler compiles expressions and keeps the results, so that a new configuration
// compiles only what it changes. It is safe for concurrent use.
type Compiler struct {
	metrics *telemetry.Metrics
	cache   *lru.Cache[string, compiled]
}

type compiled struct {
	expression *Expression
	err        error
}

// compilerSize is how many expressions a Compiler keeps.
const compilerSize = 4096

// NewCompiler returns a Compiler that has compiled nothing. Evaluations of its
// expressions that fail are counted in m, which may be nil.
func NewCompiler(m *telemetry.Metrics) *Compiler {
	cache, err := lru.New[string, compiled](compilerSize)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &Compiler{metrics: m, cache: cache}
}

// Compile is [CompileExpression] with a memory.
func (c *Compiler) Compile(source string) (*Expression, error) {
	if len(source) > utf8.UTFMax*maxExpression {
		return CompileExpression(source) // an error, not worth its room
	}
	if known, ok := c.cache.Get(source); ok {
		return known.expression, known.err
	}
	e, err := CompileExpression(source)
	if e != nil {
		e.metrics = c.metrics
	}
	c.cache.Add(source, compiled{e, err})
	return e, err
}
