package policy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// compile compiles expressions that have to be right.
func compile(t testing.TB, sources ...string) []*Expression {
	t.Helper()
	var out []*Expression
	for _, s := range sources {
		e, err := CompileExpression(s)
		if err != nil {
			t.Fatalf("compiling %q: %v", s, err)
		}
		out = append(out, e)
	}
	return out
}

func allow(t testing.TB, sources ...string) RuleSet {
	return RuleSet{Source: "TrafficPolicy/ns/allow", Action: Allow, Expressions: compile(t, sources...)}
}

func deny(t testing.TB, sources ...string) RuleSet {
	return RuleSet{Source: "TrafficPolicy/ns/deny", Action: Deny, Expressions: compile(t, sources...)}
}

// request returns a request with the headers, as name and value in turn.
func request(headers ...string) *Request {
	r := httptest.NewRequest(http.MethodPost, "http://mcp.example.com/mcp/tools?q=1&q=2&r=x", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return &Request{HTTP: r, Host: "mcp.example.com", Scheme: "https", Source: netip.MustParseAddrPort("10.1.2.3:4567"), Client: Client{Principal: "anonymous"}}
}

// admit returns the context of a request that route rules admit, with backend rules.
func admit(t testing.TB, req *Request, route, backend []RuleSet) context.Context {
	t.Helper()
	ctx, err := New(Options{Rules: route}).Admit(context.Background(), req)
	if err != nil {
		t.Fatalf("not admitted: %v", err)
	}
	return WithBackend(ctx, NewRules(backend))
}

// code returns the code of a decision as text; "" is permitted.
func code(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Code.String()
}

func tool(name string, args string) Operation {
	op := Operation{Kind: Tool, Method: "tools/call", Target: "files", Name: name}
	if args != "" {
		op.Arguments = []byte(args)
	}
	return op
}

func TestExpressions(t *testing.T) {
	req := request("Authorization", "Bearer x", "X-Tenant", "acme", "X-Tenant", "corp")
	for _, tt := range []struct {
		expression string
		want       bool
	}{
		{`has(request.headers['authorization'])`, true},
		{`has(request.headers['x-api-key'])`, false},
		{`request.headers['X-TENANT'] == 'acme,corp'`, true},
		{`'x-TENANT' in request.headers`, true},
		{`request.headers['x-tenant'].contains('acme')`, true},
		{`request.headers.exists(k, k == 'x-tenant')`, true},
		{`request.headers['host'] == 'mcp.example.com'`, true},
		{`request.headers[?'x-none'].orValue('') == ''`, true},
		{`request.path.startsWith('/mcp/')`, true},
		{`request.method == 'POST'`, true},
		{`request.host == 'mcp.example.com' && request.scheme == 'https'`, true},
		{`request.uri == 'https://mcp.example.com/mcp/tools?q=1&q=2&r=x'`, true},
		{`request.query['q'] == '1' && request.query.r == 'x'`, true},
		{`source.address == '10.0.0.0/8'`, true},
		{`'10.0.0.0/8' == source.address`, true},
		{`source.address != '10.0.0.0/8'`, false},
		{`source.address == '::ffff:10.0.0.0/104'`, true},
		{`source.address == '::ffff:10.1.2.3'`, true},
		{`source.address == '10.1.2.3'`, true},
		{`source.address == '10.1.2.99/24'`, true},
		{`source.address in ['192.168.0.0/16', '10.1.0.0/16']`, true},
		{`source.address in ['192.168.0.0/16', '10.2.0.0/16']`, false},
		{`cidr('10.0.0.0/8').containsIP(source.address)`, true},
		{`source.port == 4567`, true},
		{`has(jwt.sub)`, false},
		{`has(mcp.tool)`, true},
		{`has(mcp.prompt)`, false},
		{`mcp.method == 'tools/call'`, true},
		{`mcp.tool.name == 'read' && mcp.tool.target == 'files'`, true},
		{`mcp.tool.arguments.path.startsWith('/tmp')`, true},
		{`mcp.tool.arguments['count'] == 3 && mcp.tool.arguments.count < 3.5`, true},
		{`mcp.tool.arguments.big == 9007199254740993`, true},
		{`has(mcp.tool.arguments.path) && !has(mcp.tool.arguments['none'])`, true},
		{`request.path.matches('^/mcp/[a-z]+$')`, true},
		{`regexReplace(request.path, '[a-z]', 'x') == '/xxx/xxxxx'`, true},
		{`json('{"a": [1, 2]}').a[1] == 2`, true},
		{`base64Decode(base64Encode('ü')) == 'ü'`, true},
		{`'a,b'.split(',').join('-') == 'a-b'`, true},
		{`'Ab'.lowerAscii() == 'ab' && 'Ab'.upperAscii() == 'AB'`, true},
		{`'abc'.charAt(1) == 'b' && 'abcb'.indexOf('b') == 1 && 'abcb'.indexOf('b', 2) == 3 && 'abcb'.lastIndexOf('b') == 3`, true},
		{`'abc'.substring(1) == 'bc' && 'abc'.substring(1, 2) == 'b' && ' a '.trim() == 'a'`, true},
		{`'aaa'.replace('a', 'b') == 'bbb' && 'aaa'.replace('a', 'b', 1) == 'baa'`, true},
		{`request.method == 'GET' ? false : true`, true},
		{`['read', 'write'].exists(n, n == mcp.tool.name)`, true},
		{`backend.name == 'ns/files' && backend.type == 'MCP'`, true},
	} {
		t.Run(tt.expression, func(t *testing.T) {
			ctx, err := (*Policy)(nil).Admit(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			ctx = WithBackend(ctx, NewBackendRules(BackendInfo{Name: "ns/files", Type: "MCP"}, Options{Rules: []RuleSet{allow(t, tt.expression)}}))
			err = Authorize(ctx, tool("read", `{"path": "/tmp/x", "count": 3, "big": 9007199254740993}`))
			if got := err == nil; got != tt.want {
				t.Errorf("allowed = %v, want %v (%v)", got, tt.want, err)
			}
		})
	}
}

func TestListTime(t *testing.T) {
	ctx := admit(t, request(), nil, []RuleSet{allow(t, `mcp.tool.name == 'x' && mcp.tool.arguments.path.startsWith('/tmp')`)})
	for _, tt := range []struct {
		name, args, want string
	}{
		{"x", "", ""},
		{"y", "", "denied"},
		{"x", `{"path": "/tmp/a"}`, ""},
		{"x", `{"path": "/etc"}`, "denied"},
		{"x", `{}`, "denied"},
	} {
		if got := code(Authorize(ctx, tool(tt.name, tt.args))); got != tt.want {
			t.Errorf("%s(%s): %q, want %q", tt.name, tt.args, got, tt.want)
		}
	}
}
