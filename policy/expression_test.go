package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mcpgw/mcpgw/telemetry"
)

// TestMistakes holds what the author of an expression reads, and where the caret stands.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		expression, at, message string
	}{
		{`request.header['x'] == 'y'`, `header['x']`, `unknown field header; did you mean headers?`},
		{`request.methd == 'GET'`, `methd`, `unknown field methd; did you mean method?`},
		{`mcp.tools.name == 'x'`, `tools`, `unknown field tools; did you mean tool?`},
		{`mcp.tool.nam == 'x'`, `nam ==`, `unknown field nam; did you mean name?`},
		{`mcp.tool.args.x == 'x'`, `args`, `unknown field args; mcp.tool has name, target, arguments`},
		{`mcp.prompt.arguments.x == 'x'`, `arguments`, `unknown field arguments; mcp.prompt has name, target`},
		{`'ü' == 'ü' && requests.path == '/'`, `requests`, `unknown name requests; did you mean request?`},
		{`tool.name == 'x'`, `tool`, `unknown name tool; the variables are request, source, backend, mcp, jwt, apiKey, basicAuth`},
		{`Request.path == '/'`, `Request`, `unknown name Request; did you mean request?`},
		{`request.body == b''`, `body`, `request.body is not available: rules decide before the body is read; use mcp.tool.arguments`},
		{`response.code == 200`, `response`, `response is not available: there is no response yet`},
		{`source.identity.namespace == 'x'`, `identity`, `source.identity is not available: rules don't see the certificates of clients`},
		{`random() < 0.5`, `random`, `random is not available: a rule has to decide the same way each time`},
		{`request.path`, ``, `the expression is of type string; a condition is a bool`},
		{`request.path == 1`, `== 1`, `== does not take (string, int)`},
		{`request.path.startsWith(1)`, `startsWith(1)`, `startsWith does not take string.(int)`},
		{`request.path.matches(request.method)`, `request.method)`, `the pattern of matches has to be a string literal`},
		{`request.path.matches('(')`, `'('`, "error parsing regexp: missing closing ): `(`"},
		{`matches(request.path, '(a{1000}){10}')`, `'(a`, "error parsing regexp: invalid repeat count: `{10}`"},
		{`request.path.matches('(a{1000}|b{1000}|c{1000}|d{1000}|e{1000}|f{1000}|g{1000}|h{1000}|i{1000}|j{1000})')`, `'(a`, `the regular expression is over the limit of 10000 instructions`},
		{`mcp.tool == mcp.tool`, `mcp.tool`, `this is no value by itself; name one of its fields, name, target, arguments, or ask has() for it`},
		{`[request].exists(r, r.path == '/')`, `request]`, `this is no value by itself; name one of its fields, method, path, uri, host, scheme, query, headers, or ask has() for it`},
		{`mcp.?tool.name.orValue('') == 'x'`, `mcp.?tool`, `this is no value by itself; name one of its fields, name, target, arguments, or ask has() for it`},
		{`has(request.path('x'))`, `('x')`, `invalid argument to has() macro`},
		{`true &&`, ``, `mismatched input '<EOF>' expecting`},
		{"true &&\n  requst.path == '/'", `requst`, `unknown name requst; did you mean request?`},
		{``, ``, `mismatched input '<EOF>' expecting`},
		{`'` + strings.Repeat("ü", maxExpression) + `' == ''`, ``, `the expression has 4104 characters; the limit is 4096`},
		{strings.Repeat("(", 2*maxNesting) + "true" + strings.Repeat(")", 2*maxNesting), ``, `expression recursion limit exceeded: 100`},
	} {
		name := tt.expression
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(name, func(t *testing.T) {
			_, err := CompileExpression(tt.expression)
			var at *ExpressionError
			if !errors.As(err, &at) {
				t.Fatalf("got %v, want an *ExpressionError", err)
			}
			if !strings.HasPrefix(at.Message, tt.message) {
				t.Errorf("message %q, want %q", at.Message, tt.message)
			}
			text := []rune(tt.expression)
			if at.Offset < 0 || at.Offset > len(text) {
				t.Fatalf("offset %d of %d characters", at.Offset, len(text))
			}
			if got := string(text[at.Offset:]); tt.at != "" && !strings.HasPrefix(got, tt.at) {
				t.Errorf("the caret stands at %q, want %q", got, tt.at)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for expression, want := range map[string][]string{
		`request.path == '/'`:                                nil,
		`source.address == '10.1.2.3'`:                       nil,
		`cidr('10.0.0.0/8').containsIP(source.address)`:      nil,
		`source.address == '10.0.0.0/8'`:                     {`source.address is compared with the CIDR "10.0.0.0/8", which is read as containment; cidr('10.0.0.0/8').containsIP(source.address) says so`},
		`!(source.address in ['10.0.0.0/8', request.host])`:  {`source.address is compared with the CIDR "10.0.0.0/8", which is read as containment; cidr('10.0.0.0/8').containsIP(source.address) says so`},
		`source.address == 'localhost'`:                      {`source.address is never "localhost": it is an IP address`},
		`source.address != '10.0.0.0/33'`:                    {`source.address is never "10.0.0.0/33": it is an IP address`},
		`[1].exists(source, source == 1)`:                    nil,
		`has(apiKey.group) || source.address == '300.0.0.1'`: {`source.address is never "300.0.0.1": it is an IP address`},
	} {
		if diff := cmp.Diff(want, compile(t, expression)[0].Warnings()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", expression, diff)
		}
	}
}

func TestSpeaksOf(t *testing.T) {
	for expression, want := range map[string][2]bool{
		`request.path == '/'`:                           {false, false},
		`request.headers['arguments'] == 'mcp'`:         {false, false},
		`mcp.tool.name == 'x'`:                          {true, false},
		`mcp.tool.arguments.x == 1`:                     {true, true},
		`mcp.tool.?arguments.x.orValue(0) == 1`:         {true, true},
		`['x'].exists(t, t in mcp.tool.arguments)`:      {true, true},
		`has(mcp.prompt) && mcp.method == 'tools/call'`: {true, false},
	} {
		e := compile(t, expression)[0]
		if got := [2]bool{e.SpeaksOfMCP(), e.SpeaksOfArguments()}; got != want {
			t.Errorf("%s: %v, want %v", expression, got, want)
		}
		if e.String() != expression {
			t.Errorf("%s prints as %s", expression, e)
		}
	}
}

// outcomeOf evaluates an expression that may be of any form.
func outcomeOf(t testing.TB, source string, req *Request, op Operation) outcome {
	t.Helper()
	g := newGroup([]RuleSet{{Source: "test", Expressions: compile(t, source)}})
	r := g.begin()
	return r.evaluate(context.Background(), newScope(req, nil, &op), &r.sets[0], 0, 0)
}

// Each limit holds at the limit and refuses one more.
func TestLimits(t *testing.T) {
	header := func(n int) *Request { return request("x", strings.Repeat("a", n)) }
	nested := func(n int) string { return `{"a": ` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	list := func(n int) string { return `{"a": [` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + `]}` }
	for _, tt := range []struct {
		name, expression string
		req              *Request
		args             string
		want             outcome
	}{
		{"matches at the limit", `request.headers['x'].matches('^a*$')`, header(maxText), ``, isTrue},
		{"matches over it", `request.headers['x'].matches('^a*$')`, header(maxText + 1), ``, isError},
		{"global matches over it", `matches(request.headers['x'], '^a*$')`, header(maxText + 1), ``, isError},
		{"matches on arguments over it", `mcp.tool.arguments.a.matches('a')`, request(), `{"a": "` + strings.Repeat("a", maxText+1) + `"}`, isError},
		{"a function at the limit", `request.headers['x'].lowerAscii() == request.headers['x']`, header(maxText), ``, isTrue},
		{"a function over it", `request.headers['x'].lowerAscii() == request.headers['x']`, header(maxText + 1), ``, isError},
		{"replace at the limit", `size(request.headers['x'].replace('a', 'bb')) == 65536`, header(maxText / 2), ``, isTrue},
		{"replace over it", `size(request.headers['x'].replace('a', 'bb')) > 0`, header(maxText/2 + 1), ``, isError},
		{"regexReplace at the limit", `size(regexReplace(request.headers['x'], 'a', 'bb')) == 65536`, header(maxText / 2), ``, isTrue},
		{"regexReplace over it", `size(regexReplace(request.headers['x'], 'a', 'bb')) > 0`, header(maxText/2 + 1), ``, isError},
		{"regexReplace with a tail over it", `size(regexReplace(request.headers['x'], '^a', 'bbb')) > 0`, header(maxText - 1), ``, isError},
		{"join at the limit", `size([request.headers['x'], request.headers['x']].join()) == 65536`, header(maxText / 2), ``, isTrue},
		{"join over it", `size([request.headers['x'], request.headers['x']].join('-')) > 0`, header(maxText / 2), ``, isError},
		{"base64Encode over it", `size(base64Encode(request.headers['x'])) > 0`, header(maxText), ``, isError},
		{"arguments as deep as the limit", `has(mcp.tool.arguments.a)`, request(), nested(maxDepth), isTrue},
		{"deeper arguments", `has(mcp.tool.arguments.a)`, request(), nested(maxDepth + 1), isError},
		{"arguments of as many values as the limit", `has(mcp.tool.arguments.a)`, request(), list(maxValues - 2), isTrue},
		{"arguments of more values", `has(mcp.tool.arguments.a)`, request(), list(maxValues - 1), isError},
		{"cost", `mcp.tool.arguments.a.all(x, mcp.tool.arguments.a.all(y, x + y >= 0))`, request(), list(3000), isError},
		{"cost of what is small", `mcp.tool.arguments.a.all(x, mcp.tool.arguments.a.all(y, x + y >= 0))`, request(), list(9), isTrue},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := outcomeOf(t, tt.expression, tt.req, tool("x", tt.args)); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	long := `'` + strings.Repeat("ü", maxExpression-len(`'' == ''`)) + `' == ''`
	if _, err := CompileExpression(long); err != nil {
		t.Errorf("an expression of %d characters: %v", maxExpression, err)
	}
}

// An evaluation whose context has ended ends, too, and counts as an error.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e := compile(t, `mcp.tool.arguments.a.all(x, x == 1)`)[0]
	if e.leaves[0].bounded {
		t.Fatal("the cost of the expression counts as bounded")
	}
	op := tool("x", `{"a": [`+strings.Repeat("1,", 5000)+`1]}`)
	if o, err := e.leaves[0].evaluate(ctx, newScope(request(), nil, &op)); o != isError || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", o, err)
	}
}

// The functions cost what they take: a loop over a slow one ends.
func TestFunctionsCost(t *testing.T) {
	list := `['1', '2', '3', '4', '5', '6', '7', '8', '9', '10']`
	source := list + `.all(a, ` + list + `.all(b, ` + list + `.all(c, ` + list + `.all(d, request.headers['x'].split('').join() != a + b + c + d))))`
	l := compile(t, source)[0].leaves[0]
	o, err := l.evaluate(context.Background(), newScope(request("x", strings.Repeat("a", maxText)), nil, nil))
	if o != isError || err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Errorf("%v, %v", o, err)
	}
}

// What is common is not slowed down by counting.
func TestBounded(t *testing.T) {
	for expression, want := range map[string]bool{
		`request.headers['x-team'] == 'a'`:                                               true,
		`request.path.matches('^/api/v[0-9]+/')`:                                         true,
		`mcp.tool.arguments.path.startsWith('/tmp')`:                                     true,
		`source.address == '10.0.0.0/8'`:                                                 true,
		`request.headers.exists(k, k.startsWith('x-'))`:                                  true,
		`request.headers['x'].split(',').exists(v, v == 'a')`:                            false,
		`mcp.tool.arguments.all(k, k != 'x')`:                                            false,
		`request.headers.all(a, request.headers.all(b, request.headers.all(c, a != b)))`: false,
	} {
		if got := compile(t, expression)[0].leaves[0].bounded; got != want {
			t.Errorf("%s: bounded is %v, want %v", expression, got, want)
		}
	}
}

func TestCompilerRemembers(t *testing.T) {
	c := NewCompiler(nil)
	first, err := c.Compile(`request.path == '/'`)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := c.Compile(`request.path == '/'`); second != first || err != nil {
		t.Errorf("compiled again: %v", err)
	}
	_, err1 := c.Compile(`request.pth`)
	_, err2 := c.Compile(`request.pth`)
	if err1 == nil || err1 != err2 {
		t.Errorf("errors %v and %v", err1, err2)
	}
}

// Evaluations that fail are counted by policy; an attribute of another kind is none.
func TestFailuresAreCounted(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsOptions{WithoutRuntime: true})
	c := NewCompiler(m)
	var sets []RuleSet
	for i, s := range []string{`request.headers['absent'] == 'x'`, `mcp.prompt.name == 'x'`, `mcp.tool.arguments.absent == 'x'`} {
		e, err := c.Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, RuleSet{Source: fmt.Sprintf("TrafficPolicy/ns/p%d", i), Expressions: []*Expression{e}})
	}
	_ = Authorize(admit(t, request(), nil, sets), tool("x", `{}`))
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "mcpgw_cel_errors_total" {
			for _, s := range f.GetMetric() {
				got[s.GetLabel()[0].GetValue()] = s.GetCounter().GetValue()
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{"TrafficPolicy/ns/p0": 1, "TrafficPolicy/ns/p2": 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNativeComparison holds that a comparison decided natively comes to what the
// interpreter makes of it.
func TestNativeComparison(t *testing.T) {
	attributes := []string{"mcp.method", "mcp.tool.name", "mcp.tool.target", "mcp.prompt.name", "mcp.resource.target", ".mcp.tool.name",
		`request.headers["x-team"]`, `request.headers["X-TEAM"]`, `request.headers["host"]`, `request.headers["absent"]`, `request.headers[""]`}
	texts := []string{"", "a", "ab", "b", "ü", "tools/call"}
	forms := []string{`%s == '%s'`, `%s != '%s'`, `%s in ['x', '%s']`, `%s in [] || '%s' == 'x'`, `%s.startsWith('%s')`, `%s.endsWith('%s')`, `%s.contains('%s')`}
	native := 0
	rapid.Check(t, func(t *rapid.T) {
		source := fmt.Sprintf(rapid.SampledFrom(forms).Draw(t, "form"), rapid.SampledFrom(attributes).Draw(t, "attribute"), rapid.SampledFrom(texts).Draw(t, "literal"))
		e, err := CompileExpression(source)
		if err != nil {
			t.Fatal(err)
		}
		op := Operation{
			Kind: Kind(rapid.IntRange(0, 3).Draw(t, "kind")), Method: rapid.SampledFrom(texts).Draw(t, "method"),
			Name: rapid.SampledFrom(texts).Draw(t, "name"), Target: rapid.SampledFrom(texts).Draw(t, "target"),
		}
		s := newScope(request("X-Team", "ab"), nil, &op)
		s.open = rapid.Bool().Draw(t, "open")
		for _, l := range e.leaves {
			if l.comparison == nil {
				continue
			}
			native++
			want, _ := l.interpret(context.Background(), s)
			if got, _ := l.evaluate(context.Background(), s); got != want {
				t.Fatalf("%s on %+v: %v, want %v", source, op, got, want)
			}
		}
	})
	if native == 0 {
		t.Error("no comparison was decided natively")
	}
}

// TestSourceAddress holds that comparing with a CIDR is containment for any address, in
// each of its spellings.
func TestSourceAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes"))
		source := netip.AddrFrom4(b)
		if rapid.Bool().Draw(t, "mapped") {
			source = netip.AddrFrom16(source.As16())
		}
		other := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "other")))
		if rapid.Bool().Draw(t, "near") {
			near := b
			near[3] ^= byte(rapid.IntRange(0, 3).Draw(t, "bits"))
			other = netip.AddrFrom4(near)
		}
		prefix := netip.PrefixFrom(other, rapid.IntRange(0, 32).Draw(t, "length"))
		want := prefix.Contains(source.Unmap())
		req := request()
		req.Source = netip.AddrPortFrom(source, 1)
		mapped := fmt.Sprintf("::ffff:%s/%d", prefix.Addr(), prefix.Bits()+96)
		for source, want := range map[string]bool{
			fmt.Sprintf(`source.address == '%s'`, prefix):              want,
			fmt.Sprintf(`source.address == '%s'`, mapped):              want,
			fmt.Sprintf(`'%s' != source.address`, prefix):              !want,
			fmt.Sprintf(`source.address in ['::1/128', '%s']`, prefix): want,
		} {
			e, err := CompileExpression(source)
			if err != nil {
				t.Fatal(err)
			}
			g := newGroup([]RuleSet{{Expressions: []*Expression{e}}})
			r := g.begin()
			if got := r.evaluate(context.Background(), newScope(req, nil, nil), &r.sets[0], 0, 0); (got == isTrue) != want {
				t.Fatalf("%s for %s: %v", source, req.Source, got)
			}
		}
	})
}

func TestIPv6Source(t *testing.T) {
	req := request()
	req.Source = netip.MustParseAddrPort("[2001:db8::1%eth0]:1")
	for source, want := range map[string]outcome{
		`source.address == '2001:db8::/32'`:        isTrue,
		`source.address == '2001:DB8:0:0::1'`:      isTrue,
		`source.address == '2001:db9::/32'`:        isFalse,
		`source.address == '0.0.0.0/0'`:            isFalse,
		`source.address in ['10.0.0.0/8', '::/0']`: isTrue,
	} {
		if got := outcomeOf(t, source, req, Operation{}); got != want {
			t.Errorf("%s: %v, want %v", source, got, want)
		}
	}
	req.Source = netip.AddrPort{}
	if got := outcomeOf(t, `source.address != '::/0'`, req, Operation{}); got != isError {
		t.Errorf("without a source: %v, want an error", got)
	}
}

// A query that readers may understand differently is an error, not one reading of it.
func TestMalformedQuery(t *testing.T) {
	for query, want := range map[string]outcome{"a=1": isTrue, "a=1;b=2": isError, "a=%zz": isError, "b=1": isError} {
		req := request()
		req.HTTP.URL.RawQuery = query
		if got := outcomeOf(t, `request.query.a == '1'`, req, Operation{}); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

// FuzzExpression holds that what compiles can be evaluated: without a panic and within
// its limits.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`request.headers['x'] == 'y' && mcp.tool.name.startsWith('a')`, `mcp.tool.arguments.a.exists(x, x > 1)`,
		`source.address in ['10.0.0.0/8']`, `regexReplace(request.path, '(a)', '$1$1') == 'x'`, `json('[1]')[0] == 1`,
		`has(request.headers['x'].y)`, `[[1, 2], [3]].all(l, l.all(x, x > 0))`, `'a'.replace('a', 'aa').split('').join('b') == 'c'`,
		`optional.of(1).hasValue()`, `request.headers.map(k, k + k).size() > 3`, `duration('1s') < duration('2s')`, `timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026`,
	} {
		f.Add(s, `{"a": [1, 2, {"b": null}]}`)
	}
	f.Fuzz(func(t *testing.T, source, arguments string) {
		e, err := CompileExpression(source)
		if err != nil {
			var at *ExpressionError
			if !errors.As(err, &at) || at.Offset < 0 || at.Offset > len([]rune(source)) || at.Message == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		op := tool("a", arguments)
		for _, l := range e.leaves {
			for _, s := range []*scope{newScope(request("x", "y"), nil, nil), newScope(request(), &BackendInfo{}, &op)} {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				if o, err := l.evaluate(ctx, s); o == 0 || o == isError && err == nil {
					t.Fatalf("%s: %v %v", source, o, err)
				}
				if ctx.Err() != nil {
					t.Fatalf("%s did not end", source)
				}
				cancel()
			}
		}
	})
}

// Whatever is made of arguments that are not known is not known.
func TestUnknownArguments(t *testing.T) {
	for _, source := range []string{
		`has(mcp.tool.arguments.a)`, `'a' in mcp.tool.arguments`, `size(mcp.tool.arguments) > 0`, `mcp.tool.arguments == {}`,
		`mcp.tool.arguments.a.b.c[1] == 1`, `mcp.tool.arguments['a'].startsWith('x')`, `mcp.tool.name in mcp.tool.arguments.list`,
		`[mcp.tool.arguments.a] == [1]`, `{'a': mcp.tool.arguments.a} == {'a': 1}`, `1 in [mcp.tool.arguments.a]`,
		`(mcp.tool.arguments.a ? 'x' : 'y') == 'x'`, `[1, 2][mcp.tool.arguments.n] == 1`,
		`[1].exists(x, x == mcp.tool.arguments.a)`, `[1].all(x, x == mcp.tool.arguments.a)`, `[1].exists_one(x, x == mcp.tool.arguments.a)`,
		`[1].map(x, mcp.tool.arguments.a) == [1]`, `[1].filter(x, mcp.tool.arguments.a) == [1]`, `mcp.tool.arguments.all(k, k != 'x')`,
		`mcp.tool.arguments.list.exists(v, v == 1)`, `string(mcp.tool.arguments.a) == 'x'`, `type(mcp.tool.arguments.a) == int`, `dyn(mcp.tool.arguments.a) == 1`,
		`mcp.tool.arguments.a.matches('x')`, `regexReplace(mcp.tool.arguments.a, 'x', 'y') == 'y'`, `json(mcp.tool.arguments.a) == 1`, `cidr(mcp.tool.arguments.a).containsIP('::1')`,
		`mcp.tool.arguments.?a.orValue(1) == 1`, `mcp.tool.arguments[?'a'].hasValue()`, `-mcp.tool.arguments.a == 1`, `mcp.tool.arguments.a < 1 == true`,
		`mcp.tool.arguments.a + 'x' == 'yx'`, `mcp.tool.arguments.a.split(',').join() == ''`,
	} {
		if got := outcomeOf(t, source, request(), tool("x", "")); got != undecided {
			t.Errorf("%s: %v", source, got)
		}
		if got := outcomeOf(t, source, request(), tool("x", `{}`)); got&(got-1) != 0 {
			t.Errorf("%s with arguments: %v", source, got)
		}
	}
}
