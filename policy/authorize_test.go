package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// by returns an expression for each result that an evaluation can have.
func by(result string) string {
	switch result {
	case "true":
		return `mcp.tool.name == 'x'`
	case "false":
		return `mcp.tool.name == 'y'`
	case "error":
		return `mcp.tool.name == request.headers['absent']`
	case "undecided":
		return `mcp.tool.arguments.a == mcp.tool.name`
	}
	panic(result)
}

// TestTruthTable holds what becomes of a tool for each result of the rules that allow and
// that deny. An undecided rule is one that needs arguments while tools are listed.
func TestTruthTable(t *testing.T) {
	want := map[string]string{
		"none/none":      "",
		"true/none":      "",
		"false/none":     "denied",
		"error/none":     "denied",
		"undecided/none": "",
		"none/true":      "denied",
		"none/false":     "",
		"none/error":     "denied",
		"none/undecided": "",
	}
	results := []string{"true", "false", "error", "undecided"}
	for _, a := range results {
		for _, d := range results {
			switch {
			case d == "true", d == "error", a == "false", a == "error":
				want[a+"/"+d] = "denied"
			default:
				want[a+"/"+d] = ""
			}
		}
	}
	for name, want := range want {
		a, d, _ := strings.Cut(name, "/")
		t.Run("allow "+a+", deny "+d, func(t *testing.T) {
			var sets []RuleSet
			if a != "none" {
				sets = append(sets, allow(t, by("false"), by(a)))
			}
			if d != "none" {
				sets = append(sets, deny(t, by("false"), by(d)))
			}
			op := Operation{Kind: Tool, Method: "tools/call", Name: "x", Target: "t"}
			// The rules decide the same, whether they come with the route or the Backend.
			if got := code(Authorize(admit(t, request(), sets, nil), op)); got != want {
				t.Errorf("rules of the route: %q, want %q", got, want)
			}
			if got := code(Authorize(admit(t, request(), nil, sets), op)); got != want {
				t.Errorf("rules of the Backend: %q, want %q", got, want)
			}
		})
	}
}

// TestAdmitTruthTable is the same for a request as a whole.
func TestAdmitTruthTable(t *testing.T) {
	expressions := map[string]string{"true": `request.method == 'POST'`, "false": `request.method == 'GET'`, "error": `request.headers['absent'] == 'x'`, "undecided": by("true")}
	for _, tt := range []struct{ allow, deny, want string }{
		{"", "", ""},
		{"true", "", ""},
		{"false", "", "denied"},
		{"error", "", "denied"},
		{"undecided", "", ""},
		{"", "true", "denied"},
		{"", "false", ""},
		{"", "error", "denied"},
		{"", "undecided", ""},
		{"true", "true", "denied"},
		{"true", "error", "denied"},
		{"true", "false", ""},
		{"undecided", "true", "denied"},
		{"false", "undecided", "denied"},
	} {
		var sets []RuleSet
		if tt.allow != "" {
			sets = append(sets, allow(t, expressions[tt.allow]))
		}
		if tt.deny != "" {
			sets = append(sets, deny(t, expressions[tt.deny]))
		}
		_, err := New(Options{Rules: sets}).Admit(context.Background(), request())
		if got := code(err); got != tt.want {
			t.Errorf("allow %s, deny %s: %q, want %q", tt.allow, tt.deny, got, tt.want)
		}
		if err != nil && fault.Of(err).Message != "authorization failed" {
			t.Errorf("the client reads %q", fault.Of(err).Message)
		}
	}
}

func TestAuthorize(t *testing.T) {
	deny403 := "denied"
	call := tool("read", `{}`)
	prompt := Operation{Kind: Prompt, Method: "prompts/get", Target: "files", Name: "greet"}
	none := Operation{}
	for _, tt := range []struct {
		name           string
		route, backend []RuleSet
		op             Operation
		want           string
	}{
		{name: "no rules", op: call},
		{name: "both levels have to allow: route", route: []RuleSet{allow(t, `mcp.tool.name == 'other'`)}, backend: []RuleSet{allow(t, `true`)}, op: call, want: deny403},
		{name: "both levels have to allow: Backend", route: []RuleSet{allow(t, `true`)}, backend: []RuleSet{allow(t, `mcp.tool.name == 'other'`)}, op: call, want: deny403},
		{name: "both levels allow", route: []RuleSet{allow(t, `mcp.tool.name == 'read'`)}, backend: []RuleSet{allow(t, `true`)}, op: call},
		{name: "rule sets of a level are alternatives", backend: []RuleSet{allow(t, `false`), allow(t, `mcp.tool.name == 'read'`)}, op: call},
		{name: "a Deny wins over an Allow", backend: []RuleSet{allow(t, `true`), deny(t, `mcp.tool.name == 'read'`)}, op: call, want: deny403},
		{name: "another target's rules", backend: []RuleSet{{Target: "db", Action: Allow, Expressions: compile(t, `false`)}}, op: call},
		{name: "the target's rules", backend: []RuleSet{{Target: "files", Action: Allow, Expressions: compile(t, `false`)}}, op: call, want: deny403},
		{name: "broken", backend: []RuleSet{{Broken: true}, allow(t, `true`)}, op: call, want: "misconfigured"},
		{name: "broken for another target", backend: []RuleSet{{Target: "db", Broken: true}}, op: call},
		{name: "broken for the target", backend: []RuleSet{{Target: "files", Broken: true}}, op: call, want: "misconfigured"},
		{name: "a rule on tools allows no prompt", backend: []RuleSet{allow(t, `mcp.tool.name != 'x'`)}, op: prompt, want: deny403},
		{name: "a rule on tools denies no prompt", backend: []RuleSet{deny(t, `mcp.tool.name != 'x'`)}, op: prompt},
		{name: "a rule on arguments denies no prompt", backend: []RuleSet{deny(t, `mcp.tool.arguments.path == '/etc'`)}, op: prompt},
		{name: "a rule on arguments denies a tool without them", backend: []RuleSet{deny(t, `mcp.tool.arguments.path == '/etc'`)}, op: call, want: deny403},
		{name: "a Deny that fails beside the tool denies a prompt", backend: []RuleSet{deny(t, `mcp.tool.name == 'x' || request.headers['absent'] == 'y'`)}, op: prompt, want: deny403},
		{name: "a rule that asks for the kind", backend: []RuleSet{allow(t, `has(mcp.prompt) && mcp.prompt.name == 'greet'`)}, op: prompt},
		{name: "no operation: a rule on tools allows nothing", route: []RuleSet{allow(t, `mcp.tool.name == 'x'`)}, op: none, want: deny403},
		{name: "no operation: a rule on tools denies nothing", route: []RuleSet{deny(t, `mcp.tool.name == 'x'`)}, op: none},
		{name: "arguments that are no object, allowed", backend: []RuleSet{allow(t, `!has(mcp.tool.arguments.x)`)}, op: tool("read", `[]`), want: deny403},
		{name: "arguments that are no object, denied", backend: []RuleSet{deny(t, `has(mcp.tool.arguments.x)`)}, op: tool("read", `[]`), want: deny403},
		{name: "a duplicate key", backend: []RuleSet{allow(t, `mcp.tool.arguments.x == 1`)}, op: tool("read", `{"x": 1, "x": 2}`), want: deny403},
		{name: "a method", backend: []RuleSet{allow(t, `mcp.method == 'tools/call'`)}, op: call},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := code(Authorize(admit(t, request(), tt.route, tt.backend), tt.op)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// What nobody admitted is denied, also when rules of a Backend were added to it.
func TestAuthorizeWithoutAdmission(t *testing.T) {
	ctx := WithBackend(context.Background(), NewRules([]RuleSet{allow(t, `true`)}))
	if got := code(Authorize(ctx, tool("read", ""))); got != "denied" {
		t.Errorf("%q, want denied", got)
	}
}

func TestBrokenPolicyIsNotOpen(t *testing.T) {
	_, err := New(Options{Rules: []RuleSet{{Source: "TrafficPolicy/ns/p", Broken: true}, allow(t, `true`)}}).Admit(context.Background(), request())
	if got := code(err); got != "misconfigured" {
		t.Errorf("%q, want misconfigured", got)
	}
}

// refusing is a check that refuses.
type refusing struct{ err error }

func (c refusing) Check(context.Context, *Request) error { return c.err }

func TestChecksRunInOrder(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	_, err := New(Options{Checks: []Check{refusing{}, refusing{first}, refusing{second}}}).Admit(context.Background(), request())
	if !errors.Is(err, first) {
		t.Errorf("got %v, want the first", err)
	}
}

// The operator learns which rule decided; the client does not.
func TestDenial(t *testing.T) {
	for _, tt := range []struct {
		name string
		sets []RuleSet
		want *Denial
		text string
	}{
		{"deny", []RuleSet{deny(t, `false`, `mcp.tool.name == 'read'`)},
			&Denial{Source: "TrafficPolicy/ns/deny", Expression: `mcp.tool.name == 'read'`, Reason: "a Deny rule matches"},
			"a Deny rule matches (TrafficPolicy/ns/deny): mcp.tool.name == 'read'"},
		{"allow", []RuleSet{allow(t, `false`)},
			&Denial{Source: "TrafficPolicy/ns/allow", Reason: "no Allow rule matches"},
			"no Allow rule matches (TrafficPolicy/ns/allow)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Authorize(admit(t, request(), nil, tt.sets), tool("read", ""))
			var got *Denial
			if !errors.As(err, &got) {
				t.Fatalf("no denial in %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Error() != tt.text || got.DecidedBy() != tt.want.Source {
				t.Errorf("reads %q, decided by %q", got.Error(), got.DecidedBy())
			}
			if msg := fault.Of(err).Message; msg != "authorization failed" {
				t.Errorf("the client reads %q", msg)
			}
		})
	}
}

// What may not be used is not listed, whatever a rule says about methods.
func TestListedAsUsed(t *testing.T) {
	for _, tt := range []struct{ expression, list, call string }{
		{`mcp.method == 'tools/call'`, "denied", ""},
		{`mcp.method == 'tools/list'`, "denied", "denied"},
		{`mcp.method.startsWith('tools/')`, "", ""},
		{`mcp.?method.orValue('') == 'tools/list'`, "denied", "denied"},
	} {
		ctx := admit(t, request(), nil, []RuleSet{allow(t, tt.expression)})
		list := Operation{Kind: Tool, Method: "tools/list", Target: "t", Name: "x"}
		call := Operation{Kind: Tool, Method: "tools/call", Target: "t", Name: "x", Arguments: []byte(`{}`)}
		if got := code(Authorize(ctx, list)); got != tt.list {
			t.Errorf("%s: list %q, want %q", tt.expression, got, tt.list)
		}
		if got := code(Authorize(ctx, call)); got != tt.call {
			t.Errorf("%s: call %q, want %q", tt.expression, got, tt.call)
		}
	}
}

// anExpression draws conditions over the request, the tool and its arguments, with parts
// that fail and parts that are undecided while tools are listed.
func anExpression(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		if depth == 0 || rapid.Bool().Draw(t, "leaf") {
			return rapid.SampledFrom([]string{
				`true`, `false`,
				`mcp.tool.name == 'a'`, `mcp.tool.name in ['a', 'b']`, `mcp.tool.target == 't'`, `mcp.method == 'tools/call'`, `mcp.method == 'tools/list'`,
				`mcp.tool.arguments.n == 1`, `mcp.tool.arguments.n > 0 && mcp.tool.arguments.s == mcp.tool.name`, `has(mcp.tool.arguments.n)`,
				`['a', 'c'].exists(v, v == mcp.tool.name && mcp.tool.arguments.s == v)`, `size(mcp.tool.arguments) == 0`,
				`request.headers['x-a'] == '1'`, `has(request.headers['X-A'])`, `request.headers['absent'] == ''`,
				`mcp.prompt.name == 'a'`, `has(mcp.tool)`, `has(mcp.resource)`, `request.path.matches('^/mcp')`,
			}).Draw(t, "expression")
		}
		sub := anExpression(depth - 1)
		switch rapid.IntRange(0, 3).Draw(t, "operator") {
		case 0:
			return fmt.Sprintf("(%s && %s)", sub.Draw(t, "left"), sub.Draw(t, "right"))
		case 1:
			return fmt.Sprintf("(%s || %s)", sub.Draw(t, "left"), sub.Draw(t, "right"))
		case 2:
			return fmt.Sprintf("!(%s)", sub.Draw(t, "inner"))
		default:
			return fmt.Sprintf("(%s ? %s : %s)", sub.Draw(t, "if"), sub.Draw(t, "then"), sub.Draw(t, "else"))
		}
	})
}

func someRules(t *rapid.T, compiler *Compiler, label string) []RuleSet {
	var out []RuleSet
	for range rapid.IntRange(0, 3).Draw(t, label) {
		set := RuleSet{Action: Action(rapid.IntRange(0, 1).Draw(t, "action")), Target: rapid.SampledFrom([]string{"", "t"}).Draw(t, "target")}
		for range rapid.IntRange(1, 2).Draw(t, "expressions") {
			e, err := compiler.Compile(anExpression(2).Draw(t, "expression"))
			if err != nil {
				t.Fatal(err)
			}
			set.Expressions = append(set.Expressions, e)
		}
		out = append(out, set)
	}
	return out
}

// TestListedMeansCallable holds what a list promises: a tool that is denied in a list is
// denied to every call, whatever its arguments (MCP tools/list and tools/call).
func TestListedMeansCallable(t *testing.T) {
	compiler := NewCompiler(nil)
	arguments := []string{`{}`, `{"n": 1}`, `{"n": 1, "s": "a"}`, `{"n": 2.5, "s": "b"}`, `{"n": "x"}`, `[1]`}
	rapid.Check(t, func(t *rapid.T) {
		req := request()
		if rapid.Bool().Draw(t, "header") {
			req = request("x-a", rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value"))
		}
		ctx, err := New(Options{Rules: someRules(t, compiler, "route")}).Admit(context.Background(), req)
		if err != nil {
			return // and TestAdmitIsNoStricterThanAuthorize holds why
		}
		ctx = WithBackend(ctx, NewRules(someRules(t, compiler, "backend")))
		for _, name := range []string{"a", "b", "c"} {
			op := Operation{Kind: Tool, Method: "tools/list", Target: "t", Name: name}
			listed := Authorize(ctx, op) == nil
			op.Method = "tools/call"
			visible := Authorize(ctx, op) == nil
			if listed && !visible {
				t.Fatalf("%s is listed, but a call does not see it", name)
			}
			for _, a := range arguments {
				op.Arguments = []byte(a)
				if called := Authorize(ctx, op) == nil; called && !visible {
					t.Fatalf("%s is not visible, but called with %s", name, a)
				}
			}
		}
	})
}

// TestAdmitIsNoStricterThanAuthorize holds that what Admit refuses, every operation would
// have been refused: Admit only decides early.
func TestAdmitIsNoStricterThanAuthorize(t *testing.T) {
	compiler := NewCompiler(nil)
	rapid.Check(t, func(t *rapid.T) {
		sets := someRules(t, compiler, "route")
		for i := range sets {
			sets[i].Target = "" // a route has no targets
		}
		req := request("x-a", "1")
		_, err := New(Options{Rules: sets}).Admit(context.Background(), req)
		if err == nil {
			return
		}
		ctx, err := New(Options{}).Admit(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		ctx = WithBackend(ctx, NewRules(sets))
		for _, op := range []Operation{{Kind: Tool, Method: "tools/call", Target: "t", Name: "a", Arguments: []byte(`{"n": 1, "s": "a"}`)}, {Kind: Prompt, Method: "prompts/get", Name: "a"}, {}} {
			if Authorize(ctx, op) == nil {
				t.Fatalf("Admit refused what rules permit: %+v", op)
			}
		}
	})
}

// TestTakenApart holds that an expression that is taken apart at its logical operators
// comes to what CEL makes of the whole.
func TestTakenApart(t *testing.T) {
	env, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		source := anExpression(3).Draw(t, "expression")
		e, err := CompileExpression(source)
		if err != nil {
			t.Fatal(err)
		}
		ast, issues := env.Compile(source)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		whole, err := env.Program(ast)
		if err != nil {
			t.Fatal(err)
		}
		op := tool(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"), rapid.SampledFrom([]string{`{}`, `{"n": 1, "s": "a"}`}).Draw(t, "arguments"))
		want := isError
		if v, _, err := whole.Eval(newScope(request("x-a", "1"), nil, &op)); err == nil {
			want = isFalse
			if v.Value() == true {
				want = isTrue
			}
		}
		g := newGroup([]RuleSet{{Expressions: []*Expression{e}}})
		r := g.begin()
		if got := r.evaluate(context.Background(), newScope(request("x-a", "1"), nil, &op), &r.sets[0], 0, 0); got != want {
			t.Fatalf("%s: %v, want %v", source, got, want)
		}
	})
}

func TestHeaderCase(t *testing.T) {
	e := map[string]*Expression{}
	rapid.Check(t, func(t *rapid.T) {
		flip := func(s, label string) string {
			b := []byte(s)
			for i := range b {
				if rapid.Bool().Draw(t, label) {
					b[i] = strings.ToUpper(s)[i]
				}
			}
			return string(b)
		}
		key := flip("x-api-key", "written")
		if e[key] == nil {
			var err error
			if e[key], err = CompileExpression(fmt.Sprintf(`has(request.headers[%[1]q]) && %[1]q in request.headers && request.headers[%[1]q] == 'v'`, key)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := New(Options{Rules: []RuleSet{{Expressions: []*Expression{e[key]}}}}).Admit(context.Background(), request(flip("x-api-key", "sent"), "v"))
		if err != nil {
			t.Fatal(err)
		}
	})
}

// One admitted context serves all that a request asks for at once.
func TestAuthorizeConcurrently(t *testing.T) {
	ctx := admit(t, request("x-team", "a"),
		[]RuleSet{allow(t, `request.headers['x-team'] == 'a' && (mcp.tool.name.startsWith('a') || mcp.tool.arguments.n > 1)`)},
		[]RuleSet{deny(t, `request.headers.exists(k, k == 'x-evil') || mcp.tool.name == 'b'`)})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 200 {
				name, want := "a", ""
				if i%2 == 0 {
					name, want = "b", "denied"
				}
				if got := code(Authorize(ctx, tool(name, `{"n": 2}`))); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}
