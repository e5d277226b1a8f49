package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Published failures of MCP gateways, proxies and SDKs, and what users of other gateways complain about, each with a
// test here or where it says. Those that can't happen here say why.
//
//	agentgateway CVE-2026-29791 (arguments in OpenAPI paths)      does not apply: there are no OpenAPI targets
//	agentgateway 963, 95 (renaming, fixing parameters)            does not apply: tools are filtered by rules, not changed
//	agentgateway 1239 (progressive disclosure)                    does not apply: there is no tool search
//	agentgateway 2191 (comparing keys, reachable admin)           policy: keys are compared hashed; the admin listener is on loopback
//	Envoy AI Gateway 2072, Kuadrant 137, ContextForge 3385        does not apply: there is no token exchange
//	Kuadrant GHSA-g53w-w6mj-hrpp (internal headers, default keys) TestServeStatic, TestFaultsOfTheFront; session keys are made at random
//	LiteLLM CVE-2026-42271, MCP Inspector CVE-2025-49596,         does not apply: nothing that is asked over HTTP starts a program;
//	  the stdio class CVE-2026-30623                              TestStdio: from a cluster neither does configuration
//	LiteLLM CVE-2026-12773 (a refused credential ignored)         TestAuthenticationLevels, TestMissingCredentials
//	LiteLLM CVE-2026-42208 (SQL injection)                        does not apply: there is no SQL
//	LiteLLM CVE-2026-12798, MCP registry CVE-2026-44430 (SSRF)    TestHostileRedirect: targets are configured, and redirects not followed
//	Docker MCP CVE-2026-55887, gateway 318, 483 (containers)      does not apply: there are no containers
//	mcp-remote CVE-2025-6514 (a URL in a shell)                   does not apply: no URL is opened
//	Contour CVE-2026-41246 (configuration in generated code)      does not apply: no code is generated
//	TypeScript SDK CVE-2026-25536 (another's response)            TestNoneCrossed, TestHostileOrder
//	ToolHive 4062, mcp-go, postiz-app 1696 (sessions left over)   TestLifecycles
//	go-sdk 1158, 1137 (goroutines left over)                      TestMain, which looks for them
//	metamcp 140 (one bad server delays all)                       TestHostileLists, "nothing for ever"
//	XcodeMCPKit 210, Kuadrant 422 (cancelled at the wrong server) mcp/federation
//	Kuadrant 949, LiteLLM 23761 (no way back for questions)       TestLitellm23761Elicitation; mcp/federation, TestAsking
//	openai-go 368, mcp-go 61, ragflow 15381 (long lines)          TestOpenaiGo368LongEvents, TestHostileSizes
//	aigw 1939 (cold connect and list)                             docs/performance.md

// smuggled are messages whose tool is good to one JSON parser and bad to another.
var smuggled = map[string]string{
	"case":               `"name":"peer_good","Name":"peer_bad"`,
	"upper case":         `"NAME":"peer_bad","name":"peer_good"`,
	"a key twice":        `"name":"peer_good","name":"peer_bad"`,
	"an escaped key":     `"name":"peer_good","n\u0061me":"peer_bad"`,
	"a key with NUL":     `"name":"peer_good","name\u0000":"peer_bad"`,
	"a key with a space": `"name":"peer_good","name ":"peer_bad"`,
	"nested twice":       `"name":"peer_good","arguments":{"text":"a","text":"b"}`,
}

// go-sdk CVE-2026-27896 (case), GHSA-q382-vc8q-7jhj (NUL) and Envoy AI Gateway GHSA-4gph-2hhr-5mwg (duplicates):
// no message passes of which another parser reads another tool.
func TestCVE202627896SmuggledKeys(t *testing.T) {
	for _, s := range []style{modernJSON, legacyJSON} {
		var mu sync.Mutex
		reached := 0
		p := newPeer(t, s, func(x *peerExchange) { mu.Lock(); reached++; mu.Unlock(); x.send(good) })
		g := start(t, mcpTargets(p.target("peer", ""))+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: good-only}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: b}]
  rbac: {policy: {matchExpressions: ["mcp.tool.name == 'good'"]}}
`)
		for _, modern := range []bool{true, false} {
			c := g.newCaller(t, modern)
			for name, params := range smuggled {
				m, _, err := c.do("tools/call", "peer_good", params)
				if err != nil || m.Error == nil || m.Error.Code != protocol.CodeInvalidRequest {
					t.Errorf("%s: %s, modern client %v: %v %v", s.name, name, modern, m, err)
				}
			}
			if got := c.call("peer_good", "x"); got != "x" {
				t.Errorf("%s: what is permitted answers %q", s.name, got)
			}
			if got := c.call("peer_bad", "x"); got != "error: Unknown tool: peer_bad" {
				t.Errorf("%s: what is denied answers %q", s.name, got)
			}
		}
		if reached > 0 {
			t.Errorf("%s: %d calls reached the denied tool", s.name, reached)
		}
	}
}

// go-sdk CVE-2026-34742, Docker MCP CVE-2025-64443 and GHSA-89xv-2j6f-qhc8: no page of another site calls a tool.
func TestCVE202634742CrossSite(t *testing.T) {
	p := newPeer(t, modernJSON, func(x *peerExchange) { x.send(good) })
	g := start(t, mcpTargets(p.target("peer", "")))
	c := g.newCaller(t, false)
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"peer_bad","arguments":{"text":"x"}}}`
	for name, tc := range map[string]struct {
		header []string
		want   int
	}{
		"text/plain":     {[]string{"Content-Type", "text/plain"}, 415},
		"a form":         {[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		"a foreign site": {[]string{"Content-Type", "application/json", "Origin", "https://evil.example"}, 403},
		"no site":        {[]string{"Content-Type", "application/json", "Origin", "null"}, 403},
		"a rebound host": {[]string{"Content-Type", "application/json", "Host", "evil.example"}, 403},
		"same origin":    {[]string{"Content-Type", "application/json", "Origin", strings.TrimSuffix(g.url("8080", ""), "/")}, 200},
	} {
		header := append([]string{"Accept", "application/json, text/event-stream", "Mcp-Session-Id", c.sid}, tc.header...)
		if got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(body), header...); got.Status != tc.want {
			t.Errorf("%s: %d %s, want %d", name, got.Status, got.Body, tc.want)
		}
	}
	if n := p.count(p.calls, "x"); n != 1 {
		t.Errorf("the tool was called %d times", n)
	}
}

// The catalogue has all pages of all targets, and the client gets all of it.
func TestAgentgateway3476Pagination(t *testing.T) {
	var targets, want []string
	for _, s := range []style{modernJSON, legacyStream} {
		p := newPeer(t, s, nil)
		p.list = func(x *peerExchange) {
			at := 0
			if cursor, ok := protocol.GetString(x.m.Params, "cursor"); ok {
				_, _ = fmt.Sscan(cursor, &at)
			}
			next := ""
			if at < 4 {
				next = fmt.Sprintf(`"%d"`, at+1)
			}
			x.send(page(next, fmt.Sprintf("a%d", at), fmt.Sprintf("b%d", at)))
		}
		name := fmt.Sprintf("t%d", len(targets))
		targets = append(targets, p.target(name, ""))
		for i := range 5 {
			want = append(want, fmt.Sprintf("%s_a%d", name, i), fmt.Sprintf("%s_b%d", name, i))
		}
	}
	slices.Sort(want)
	for n := 1; n <= len(targets); n++ {
		g := start(t, mcpTargets(targets[:n]...))
		for _, modern := range []bool{true, false} {
			got := g.newCaller(t, modern).tools()
			slices.Sort(got)
			if diff := cmp.Diff(want[:n*10], got); diff != "" {
				t.Errorf("%d targets, modern client %v (-want +got):\n%s", n, modern, diff)
			}
		}
	}
}

// A target that forgot the session is initialized anew, unseen, and the call is executed once.
func TestAgentgateway3622SessionExpired(t *testing.T) {
	var mu sync.Mutex
	sessions, forgotten := 0, false
	p := newPeer(t, legacyJSON, nil)
	p.hello = func(x *peerExchange) {
		mu.Lock()
		sessions++
		forgotten = false
		sid := fmt.Sprintf("s%d", sessions)
		mu.Unlock()
		x.hello(sid)
	}
	p.bad = func(x *peerExchange) {
		mu.Lock()
		gone := forgotten
		mu.Unlock()
		if gone {
			x.status(404, "text/plain", "no such session")
			return
		}
		x.send(good)
	}
	g := start(t, mcpTargets(p.target("peer", ""), newPeer(t, modernJSON, nil).target("other", "")))
	for _, modern := range []bool{true, false} {
		c := g.newCaller(t, modern)
		for i := range 3 {
			nonce := fmt.Sprintf("%v %d", modern, i)
			if got := c.call("peer_bad", nonce); got != nonce {
				t.Errorf("modern client %v: %q", modern, got)
			}
			if got := c.call("other_good", nonce); got != nonce {
				t.Errorf("modern client %v: the other target answers %q", modern, got)
			}
			mu.Lock()
			forgotten = true
			mu.Unlock()
		}
	}
}

// One target that is down takes nothing else with it.
func TestAgentgateway138OneBadTarget(t *testing.T) {
	p := newPeer(t, modernJSON, nil)
	down := newPeer(t, modernJSON, nil)
	_ = down.l.Close()
	g := start(t, mcpTargets(p.target("up", ""), down.target("down", ", timeout: 1s")))
	for _, modern := range []bool{true, false} {
		c := g.newCaller(t, modern)
		if got := c.tools(); len(got) != 2 {
			t.Errorf("modern client %v: tools %v", modern, got)
		}
		if got := c.call("up_good", "x"); got != "x" {
			t.Errorf("modern client %v: %q", modern, got)
		}
	}
}

func TestAgentgateway2982ModernClientLegacyServer(t *testing.T) {
	s := newMCPServer(t, "/mcp", false, "echo")
	g := start(t, mcpStatic("b", "", map[string]*mcpServer{"old": s}))
	cs := g.connect(t, "/mcp", "2026-07-28", nil)
	if got := call(t, cs, "old_echo", nil); got != "echo" {
		t.Errorf("the call answers %q", got)
	}
}

// Rules on arguments hold, and do not deny everything (3092).
func TestAgentgateway2069RulesOnArguments(t *testing.T) {
	p := newPeer(t, legacyJSON, nil)
	g := start(t, mcpTargets(p.target("peer", ""))+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: arguments}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: b}]
  rbac: {policy: {matchExpressions: ["mcp.tool.name == 'good' && mcp.tool.arguments.text == 'yes'"]}}
`)
	for _, modern := range []bool{true, false} {
		c := g.newCaller(t, modern)
		if diff := cmp.Diff([]string{"peer_good"}, c.tools()); diff != "" {
			t.Errorf("modern client %v: tools (-want +got):\n%s", modern, diff)
		}
		for nonce, want := range map[string]string{"yes": "yes", "no": "Not permitted with these arguments"} {
			if got := c.call("peer_good", nonce); got != want {
				t.Errorf("modern client %v: %q answers %q", modern, nonce, got)
			}
		}
	}
}

// A target that comes is there for connected clients, who are told; no name changes (495).
func TestAgentgateway2322LiveSessions(t *testing.T) {
	one, two := newMCPServer(t, "/mcp", false, "a"), newMCPServer(t, "/mcp", true, "b")
	for _, era := range eras {
		g := start(t, mcpStatic("b", "", map[string]*mcpServer{"one": one}))
		told := make(chan struct{}, 100)
		c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
			ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { told <- struct{}{} },
		})
		tr := &http.Transport{}
		cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: g.url("8080", "/mcp"), MaxRetries: -1, HTTPClient: &http.Client{Transport: tr}},
			&mcp.ClientSessionOptions{ProtocolVersion: era})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"one_a"}, toolNames(t, cs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", era, diff)
		}
		g.apply(mcpStatic("b", "", map[string]*mcpServer{"one": one, "two": two}))
		<-told
		if diff := cmp.Diff([]string{"one_a", "two_b"}, toolNames(t, cs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", era, diff)
		}
		_ = cs.Close()
		tr.CloseIdleConnections()
		g.stop()
	}
}

// Names are such that clients take them, and every one of them can be called (VS Code 243602, Docker 263, LiteLLM 12372).
func TestClaudeCode19882LegalNames(t *testing.T) {
	long := strings.Repeat("long", 32)
	p := newPeer(t, modernJSON, nil)
	own := map[string]bool{}
	var mu sync.Mutex
	p.list = func(x *peerExchange) { x.send(page("", "dots.in.it", "slashes/and:colons", long, "bad", "good")) }
	p.bad = func(x *peerExchange) { x.send(good) }
	p.called = func(name string) { mu.Lock(); own[name] = true; mu.Unlock() }
	g := start(t, mcpTargets(p.target("peer", "")))
	legal := regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	c := g.newCaller(t, false)
	for _, name := range c.tools() {
		if !legal.MatchString(name) {
			t.Errorf("%q is no name that clients take", name)
		}
		if got := c.call(name, "x"); got != "x" {
			t.Errorf("%s answers %q", name, got)
		}
	}
	for _, name := range []string{"dots.in.it", "slashes/and:colons", long, "bad", "good"} {
		if !own[name] {
			t.Errorf("%.40s was not called", name)
		}
	}
}

// A session goes on at another replica that has the key, and nowhere else.
func TestAgentgateway754SessionOnAnyReplica(t *testing.T) {
	p := newPeer(t, legacyJSON, nil)
	p.hello = func(x *peerExchange) { x.hello("s1") }
	key := []byte(strings.Repeat("k", 32))
	replica := func(keys ...[]byte) *testGateway {
		return startOn(t, RuntimeOptions{SessionKeys: keys}, Options{}, mcpTargets(p.target("peer", "")))
	}
	one, two, stranger := replica(key), replica(key), replica([]byte(strings.Repeat("x", 32)))
	c := one.newCaller(t, false)
	c.url = two.url("8080", "/mcp")
	if got := c.call("peer_good", "x"); got != "x" {
		t.Errorf("another replica answers %q", got)
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	header := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Mcp-Session-Id", c.sid}
	if got := stranger.do("POST", stranger.url("8080", "/mcp"), strings.NewReader(body), header...); got.Status != 404 {
		t.Errorf("one without the key answers %d", got.Status)
	}
}

// A session id can't be made, changed, or used by somebody else (agentgateway 818).
func TestEnvoy46581ForgedSession(t *testing.T) {
	p := newPeer(t, legacyJSON, nil)
	p.hello = func(x *peerExchange) { x.hello("s1") }
	g := start(t, mcpTargets(p.target("peer", ", auth: {kind: Passthrough}")))
	c := g.newCallerAt(t, "/mcp", false, "Bearer alice")
	ping := func(sid, authorization string) int {
		return g.do("POST", g.url("8080", "/mcp"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`), "Content-Type", "application/json",
			"Accept", "application/json, text/event-stream", "Mcp-Session-Id", sid, "Authorization", authorization).Status
	}
	if got := ping(c.sid, "Bearer alice"); got != 200 {
		t.Fatalf("its owner gets %d", got)
	}
	if got := ping(c.sid, "Bearer mallory"); got != 404 {
		t.Errorf("somebody else gets %d", got)
	}
	for _, i := range []int{0, len(c.sid) / 2, len(c.sid) - 2} {
		forged := []byte(c.sid)
		forged[i] ^= 1
		if got := ping(string(forged), "Bearer alice"); got != 404 {
			t.Errorf("changed at %d: %d", i, got)
		}
	}
	for _, sid := range []string{"x", "eyJzdWIiOiJhbGljZSJ9", strings.Repeat("A", len(c.sid))} {
		if got := ping(sid, "Bearer alice"); got != 404 {
			t.Errorf("made up: %d", got)
		}
	}
}

// A server asks in the middle of a call, and the answer reaches it.
func TestLitellm23761Elicitation(t *testing.T) {
	s := mcp.NewServer(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "who?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}}}})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(res.Content["name"])}}}, nil, nil
	})
	host := serveUpstream(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil).ServeHTTP)
	t.Cleanup(func() {
		for session := range s.Sessions() {
			_ = session.Close()
		}
	})
	g := start(t, mcpTargets("{name: one, static: "+host+"}"))
	for _, era := range eras {
		c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": era}}, nil
			},
		})
		tr := &http.Transport{}
		cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: g.url("8080", "/mcp"), MaxRetries: -1, HTTPClient: &http.Client{Transport: tr}},
			&mcp.ClientSessionOptions{ProtocolVersion: era})
		if err != nil {
			t.Fatal(err)
		}
		if got := call(t, cs, "one_ask", nil); got != era {
			t.Errorf("%s: %q", era, got)
		}
		_ = cs.Close()
		tr.CloseIdleConnections()
	}
}

// A result that says isError is an error to who looks at the gateway.
func TestEnvoyAIGateway1661ToolErrors(t *testing.T) {
	p := newPeer(t, modernJSON, func(x *peerExchange) {
		x.send(result(`{"resultType":"complete","content":[],"isError":true}`))
	})
	g := start(t, mcpTargets(p.target("peer", "")))
	g.newCaller(t, true).call("peer_bad", "x")
	records := g.ended(1)
	if r := records[len(records)-1]; !r.MCP.ToolError || r.MCP.Name != "bad" {
		t.Errorf("record %+v", r.MCP)
	}
}

// The session id of the client stays here: a target gets its own, or none.
func TestAgentgateway1985SessionIDForwarded(t *testing.T) {
	for _, s := range []style{modernJSON, legacyJSON} {
		p := newPeer(t, s, nil)
		p.hello = func(x *peerExchange) { x.hello("own") }
		g := start(t, mcpTargets(p.target("peer", "")))
		c := g.newCaller(t, false)
		if got := c.call("peer_good", "x"); got != "x" {
			t.Errorf("%s: %q", s.name, got)
		}
		p.mu.Lock()
		for sid := range p.sids {
			if sid != "" && (sid != "own" || s.modern) {
				t.Errorf("%s: the target got the session id %.40s", s.name, sid)
			}
		}
		p.mu.Unlock()
	}
}

// A session belongs to the Backend that it was made at.
func TestAgentgateway2691SessionPinned(t *testing.T) {
	one, two := newPeer(t, legacyJSON, nil), newPeer(t, legacyJSON, nil)
	g := start(t, mcpTargets(one.target("one", ""))+strings.Replace(mcpTargets(two.target("two", "")), "{name: b}", "{name: c}", 1))
	c := g.newCallerAt(t, "/mcp/b", false, "")
	if got := c.call("one_good", "x"); got != "x" {
		t.Errorf("at its own Backend: %q", got)
	}
	if got := g.do("POST", g.url("8080", "/mcp/c"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`), "Content-Type", "application/json",
		"Accept", "application/json, text/event-stream", "Mcp-Session-Id", c.sid); got.Status != 404 {
		t.Errorf("at another Backend: %d %s", got.Status, got.Body)
	}
}

// A target that fails to list is left out; its error is not the answer of the others.
func TestAgentgateway2428ErrorsMerged(t *testing.T) {
	p, q := newPeer(t, legacyStream, nil), newPeer(t, modernJSON, nil)
	q.list = func(x *peerExchange) { x.send(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"boom"}}`) }
	g := start(t, mcpTargets(p.target("one", ""), q.target("two", "")))
	for _, modern := range []bool{true, false} {
		c := g.newCaller(t, modern)
		m, _, err := c.do("tools/list", "", "")
		if err != nil || m.Error != nil || !strings.Contains(string(m.Result), "one_good") || strings.Contains(string(m.Result), "boom") {
			t.Errorf("modern client %v: %v %v", modern, m, err)
		}
	}
}

func TestAgentgateway3009DiscoveryErrorsMasked(t *testing.T) {
	down := newPeer(t, modernJSON, nil)
	down.hello = func(x *peerExchange) { x.status(500, "text/plain", "boom") }
	g := start(t, mcpTargets(newPeer(t, legacyJSON, nil).target("up", ""), down.target("down", "")))
	m, _, err := g.newCaller(t, true).do("tools/list", "", "")
	if err != nil || !strings.Contains(string(m.Result), "up_good") || !strings.Contains(string(protocol.Get(m.Result, "_meta")), `"down"`) {
		t.Errorf("what is missing is not said: %v %v", m, err)
	}
}

// Nothing that is logged opens a session.
func TestAgentgateway2743SessionIDLogged(t *testing.T) {
	var logged synced
	p := newPeer(t, legacyJSON, func(x *peerExchange) { x.status(500, "text/plain", "boom") })
	p.hello = func(x *peerExchange) { x.hello("the-session-of-the-target") }
	logger := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := startOn(t, RuntimeOptions{Logger: logger}, Options{Logger: logger}, mcpTargets(p.target("peer", "")))
	c := g.newCaller(t, false)
	c.call("peer_bad", "x")
	g.stop()
	if text := logged.String(); text == "" || strings.Contains(text, c.sid) || strings.Contains(text, "the-session-of-the-target") {
		t.Errorf("the log has a session id:\n%s", text)
	}
}

// synced is a log that several goroutines write.
type synced struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *synced) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// A policy that only denies permits the rest; one of each does both; no policy permits all.
func TestAgentgateway1058DenyOnly(t *testing.T) {
	p := newPeer(t, modernJSON, func(x *peerExchange) { x.send(good) })
	policy := func(name, action, expression string) string {
		return fmt.Sprintf(`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: %s}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: b}]
  rbac: {action: %s, policy: {matchExpressions: ["%s"]}}
`, name, action, expression)
	}
	deny, allow := policy("deny", "Deny", "mcp.tool.name == 'bad'"), policy("allow", "Allow", "mcp.tool.name == 'bad'")
	all := policy("all", "Allow", "true")
	for name, tc := range map[string]struct {
		policies string
		want     []string
	}{
		"none":       {"", []string{"peer_bad", "peer_good"}},
		"deny only":  {deny, []string{"peer_good"}},
		"allow only": {allow, []string{"peer_bad"}},
		"both":       {all + deny, []string{"peer_good"}},
	} {
		c := start(t, mcpTargets(p.target("peer", ""))+tc.policies).newCaller(t, true)
		if diff := cmp.Diff(tc.want, c.tools()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, tool := range []string{"peer_bad", "peer_good"} {
			if got := c.call(tool, "x"); (got == "x") != slices.Contains(tc.want, tool) {
				t.Errorf("%s: %s answers %q", name, tool, got)
			}
		}
	}
}

// A rule sees all values of a header, and no header that counts stands twice.
func TestIstioCVE202626308MultipleValues(t *testing.T) {
	p := newPeer(t, modernJSON, nil)
	g := start(t, mcpTargets(p.target("peer", ""))+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: team}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: b}]
  rbac: {policy: {matchExpressions: ["request.headers['x-team'] == 'platform'"]}}
`)
	c := g.newCaller(t, false)
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"peer_good","arguments":{"text":"x"}}}`
	post := func(header ...string) reply {
		header = append(header, "Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Mcp-Session-Id", c.sid)
		return g.do("POST", g.url("8080", "/mcp"), strings.NewReader(body), header...)
	}
	if got := post("X-Team", "platform"); !strings.Contains(got.Body, `"text":"x"`) {
		t.Errorf("one value: %+v", got)
	}
	for _, values := range [][]string{{"X-Team", "platform", "X-Team", "evil"}, {"X-Team", "evil", "X-Team", "platform"}} {
		if got := post(values...); !strings.Contains(got.Body, "Unknown tool") {
			t.Errorf("two values: %+v", got)
		}
	}
	for _, name := range []string{"Authorization", "Mcp-Session-Id", "Origin", "Content-Type"} {
		if got := post(name, "a", name, "b"); got.Status < 400 {
			t.Errorf("%s twice: %+v", name, got)
		}
	}
}

// A drain ends a client's listening, and does not wait for it.
func TestGoSDK1166CloseWithListen(t *testing.T) {
	g := start(t, mcpTargets(newPeer(t, legacyJSON, nil).target("old", ""), newPeer(t, modernJSON, nil).target("new", "")))
	c := g.newCaller(t, true)
	resp, err := c.post(`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`,
		"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("listening: %d", resp.StatusCode)
	}
	g.stop()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
}

// A target that does not answer DELETE holds up neither the client nor the end.
func TestGoSDK1184SilentDelete(t *testing.T) {
	p := newPeer(t, legacyJSON, nil)
	p.hello = func(x *peerExchange) { x.hello("s1") }
	p.bye = func(x *peerExchange) { x.gone() }
	g := start(t, mcpTargets(p.target("peer", "")))
	c := g.newCaller(t, false)
	if got := c.call("peer_good", "x"); got != "x" {
		t.Errorf("%q", got)
	}
	if got := g.do("DELETE", g.url("8080", "/mcp"), nil, "Mcp-Session-Id", c.sid); got.Status != 204 {
		t.Errorf("DELETE: %+v", got)
	}
	g.stop()
}

// A stream that breaks again and again is taken up a few times, not for ever, and the call fails.
func TestGoSDK742EndlessRetry(t *testing.T) {
	p := newPeer(t, legacyStream, func(x *peerExchange) { x.events("id: 1\nretry: 1\ndata\n\n") })
	p.again = func(x *peerExchange) { x.http("200 OK", "Content-Type: text/event-stream\r\n", ":\n\n") }
	g := start(t, mcpTargets(p.target("peer", "")))
	if got := g.newCaller(t, true).call("peer_bad", "x"); got != failed {
		t.Errorf("%q", got)
	}
	if n := p.count(p.seen, http.MethodGet); n == 0 || n > 20 {
		t.Errorf("the stream was taken up %d times", n)
	}
}

// Events longer than the buffers that others read with come through whole.
func TestOpenaiGo368LongEvents(t *testing.T) {
	for _, s := range []style{modernStream, legacySSE} {
		p := newPeer(t, s, func(x *peerExchange) {
			var n int
			_, _ = fmt.Sscan(x.nonce(), &n)
			x.send(strings.Replace(x.fill(good), `"content"`, `"pad":"`+strings.Repeat("x", n)+`","content"`, 1))
		})
		c := start(t, mcpTargets(p.target("peer", ""))).newCaller(t, true)
		for _, size := range []int{64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 4 << 20} {
			m, _, err := c.do("tools/call", "peer_bad", fmt.Sprintf(`"name":"peer_bad","arguments":{"text":"%d"}`, size))
			if err != nil || len(protocol.Get(m.Result, "pad")) != size+2 {
				t.Errorf("%s, %d: %v", s.name, size, err)
			}
		}
	}
}

// Headers of informational answers do not come through: hostility looks at all that could.
func TestGo81319InformationalHeaders(t *testing.T) {
	hostility{modernJSON, "103", func(x *peerExchange) {
		x.write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Peer: 1\r\nConnection: close\r\nProxy-Authenticate: Basic\r\n\r\n")
		x.send(good)
	}, fine}.run(t)
}

// A stream that a target breaks off is an error of that call, not a panic.
func TestMCPAuthProxy128BrokenStream(t *testing.T) {
	hostility{legacyStream, "broken off", func(x *peerExchange) {
		x.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		x.chunk(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}` + "\n\n")
		x.ended = true
	}, failed}.run(t)
}

// The gateway says who it is, and in which version.
func TestAgentgateway2564ServerInfo(t *testing.T) {
	g := start(t, mcpTargets(newPeer(t, modernJSON, nil).target("peer", "")))
	m, _, err := g.newCaller(t, true).do("server/discover", "", "")
	if err != nil {
		t.Fatal(err)
	}
	info := protocol.Get(m.Result, "_meta", protocol.MetaServerInfo)
	if version, _ := protocol.GetString(info, "version"); version != "test" {
		t.Errorf("serverInfo is %s", info)
	}
}
