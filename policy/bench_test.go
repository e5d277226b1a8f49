package policy

import (
	"fmt"
	"testing"
)

// twenty returns the rules of a team that may use some tools of some targets.
func twenty(b *testing.B) []RuleSet {
	var sources []string
	for i := range 20 {
		sources = append(sources, fmt.Sprintf(`request.headers['x-team'] == 'team%d' && mcp.tool.target == 'files' && mcp.tool.name.startsWith('tool%d')`, i%2, i))
	}
	return []RuleSet{allow(b, sources...)}
}

func BenchmarkAuthorize(b *testing.B) {
	for _, bb := range []struct {
		name string
		sets []RuleSet
		op   Operation
	}{
		{"name", []RuleSet{allow(b, `mcp.tool.name == 'read'`)}, tool("read", `{}`)},
		{"header and name", []RuleSet{allow(b, `request.headers['x-team'] == 'team1' && mcp.tool.name in ['read', 'write']`)}, tool("read", `{}`)},
		{"arguments", []RuleSet{allow(b, `mcp.tool.arguments.path.startsWith('/tmp/')`)}, tool("read", `{"path": "/tmp/x", "limit": 10}`)},
		{"twenty", twenty(b), tool("tool9", `{}`)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			ctx := admit(b, request("x-team", "team1"), nil, bb.sets)
			b.ReportAllocs()
			for b.Loop() {
				if err := Authorize(ctx, bb.op); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A request with rules: admitted, and one operation decided.
func BenchmarkRequest(b *testing.B) {
	p, rules := New(Options{Rules: []RuleSet{allow(b, `has(request.headers['x-team'])`)}}), NewRules([]RuleSet{allow(b, `mcp.tool.name == 'read'`)})
	req, op := request("x-team", "team1"), tool("read", `{}`)
	b.ReportAllocs()
	for b.Loop() {
		ctx, err := p.Admit(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		if err := Authorize(WithBackend(ctx, rules), op); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList decides 1,000 tools under 20 rules; the goal is 5 ms.
func BenchmarkList(b *testing.B) {
	sets := twenty(b)
	var ops []Operation
	for i := range 1000 {
		ops = append(ops, Operation{Kind: Tool, Method: "tools/list", Target: "files", Name: fmt.Sprintf("tool%d", i)})
	}
	req := request("x-team", "team1")
	b.ReportAllocs()
	for b.Loop() {
		ctx := admit(b, req, nil, sets)
		for i := range ops {
			_ = Authorize(ctx, ops[i])
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := CompileExpression(`request.headers['x-team'] == 'a' && mcp.tool.name.startsWith('b')`); err != nil {
			b.Fatal(err)
		}
	}
}
