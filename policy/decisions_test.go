package policy

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Callers with equal Decisions get the same answer about everything that could be listed.
func TestDecisions(t *testing.T) {
	expressions := []string{
		`request.headers['x-team'] == 'a'`,
		`has(request.headers['x-team'])`,
		`source.port > 1000`,
		`mcp.tool.name == 'read'`,
		`mcp.tool.name in ['read', 'write'] && request.headers['x-team'] == 'a'`,
		`request.headers['x-team'] == 'b' || mcp.tool.target == 'files'`,
		`mcp.tool.arguments.path == '/'`,
		`!(mcp.tool.name == 'write') && !has(request.headers['x-team'])`,
		`['read', 'list'].exists(n, n == mcp.tool.name)`,
		`mcp.method == 'tools/call' && mcp.tool.name == 'list'`,
		`mcp.tool.name == request.headers['x-team']`,
		`request.headers['x-team'].startsWith(mcp.tool.name)`,
		`['a', 'b'].exists(n, n == request.headers['x-team'] && mcp.tool.name == 'read')`,
	}
	const comparing = 10 // from which on they speak of both at once
	var callers []*Request
	for _, team := range []string{"", "a", "b", "read"} {
		if team == "" {
			callers = append(callers, request())
			continue
		}
		callers = append(callers, request("X-Team", team))
	}
	shared := 0
	rapid.Check(t, func(t *rapid.T) {
		compares := false
		draw := func(name string) (out []RuleSet) {
			for i := range rapid.IntRange(0, 2).Draw(t, name) {
				set := RuleSet{Source: fmt.Sprint(name, i), Action: Action(rapid.IntRange(0, 1).Draw(t, "action"))}
				for range rapid.IntRange(1, 2).Draw(t, "expressions") {
					at := rapid.IntRange(0, len(expressions)-1).Draw(t, "expression")
					compares = compares || at >= comparing
					e, err := CompileExpression(expressions[at])
					if err != nil {
						t.Fatal(err)
					}
					set.Expressions = append(set.Expressions, e)
				}
				out = append(out, set)
			}
			return out
		}
		p, rules := New(Options{Rules: draw("route")}), NewRules(draw("backend"))
		seen := map[Decisions]string{}
		for _, caller := range callers {
			ctx, err := p.Admit(t.Context(), caller)
			if err != nil {
				continue
			}
			ctx = WithBackend(ctx, rules)
			d, ok := DecisionsOf(ctx)
			if !ok {
				if !compares {
					t.Fatal("no decisions, though no rule compares")
				}
				continue
			}
			got := ""
			for _, name := range []string{"read", "write", "list", "a"} {
				for _, target := range []string{"files", "db"} {
					got += code(Authorize(ctx, Operation{Kind: Tool, Method: "tools/list", Target: target, Name: name})) + ","
				}
			}
			if before, had := seen[d]; had {
				shared++
				if before != got {
					t.Fatalf("one caller is answered %s, another %s", before, got)
				}
			}
			seen[d] = got
		}
	})
	if shared == 0 {
		t.Error("no two callers share their decisions")
	}
}

// What was not admitted has no Decisions, and neither has what compares the caller with
// the operation.
func TestDecisionsUnknown(t *testing.T) {
	if _, ok := DecisionsOf(t.Context()); ok {
		t.Error("a context that nobody admitted")
	}
	ctx := admit(t, request("X-Team", "read"), nil, []RuleSet{allow(t, `mcp.tool.name == request.headers['x-team']`)})
	if _, ok := DecisionsOf(ctx); ok {
		t.Error("a rule that compares")
	}
	for expression, want := range map[string]bool{
		`mcp.tool.arguments.all(k, k != 'x')`:                     false, // may be cut off
		`request.headers['x-team'].split('').exists(v, v == 'r')`: true,
		`request.headers['absent'].split('').exists(v, v == 'r')`: false, // as this may have been
	} {
		if _, ok := DecisionsOf(admit(t, request("X-Team", "read"), nil, []RuleSet{allow(t, expression+" || mcp.tool.name == 'x'")})); ok != want {
			t.Errorf("%s: %v", expression, ok)
		}
	}
	if _, ok := DecisionsOf(admit(t, request(), nil, nil)); !ok {
		t.Error("no rules")
	}
}
