package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// page is the answer to tools/list with these tools, and a cursor unless it is "".
func page(next string, names ...string) string {
	tools := make([]string, len(names))
	for i, name := range names {
		tools[i] = fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object"}}`, name)
	}
	if next != "" {
		next = `,"nextCursor":` + next
	}
	return result(`{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[` + strings.Join(tools, ",") + `]` + next + `}`)
}

// A target that lists in a bad way has what can be read of its list, or none: neither does it keep the
// gateway busy, nor are the other target's tools missing or late.
func TestHostileLists(t *testing.T) {
	send := func(messages ...string) func(*peerExchange) {
		return func(x *peerExchange) { x.send(messages...) }
	}
	cursor := func(x *peerExchange) string { return string(protocol.Get(x.m.Params, "cursor")) }
	for name, tc := range map[string]struct {
		list func(*peerExchange)
		want []string // of the peer's tools, without its prefix
		asks int      // at most, of tools/list
	}{
		"one page": {send(page("", "good")), []string{"good"}, 1},
		"three pages": {func(x *peerExchange) {
			x.send(map[string]string{"": page(`"a"`, "good"), `"a"`: page(`"b"`, "two"), `"b"`: page("", "three")}[cursor(x)])
		}, []string{"good", "two", "three"}, 3},
		"a repeated cursor": {send(page(`"a"`, "good")), []string{"good"}, 2},
		"cursors in a circle": {func(x *peerExchange) {
			x.send(map[string]string{"": page(`"a"`, "good"), `"a"`: page(`"b"`, "two"), `"b"`: page(`"c"`, "three"), `"c"`: page(`"a"`, "four")}[cursor(x)])
		}, []string{"good", "two", "three", "four"}, 4},
		"endless pages without tools":      {func(x *peerExchange) { x.send(page(fmt.Sprintf(`"%s"`, x.m.ID))) }, nil, 1000},
		"endless pages with the same tool": {func(x *peerExchange) { x.send(page(fmt.Sprintf(`"%s"`, x.m.ID), "good")) }, []string{"good"}, 1000},
		"an empty cursor":                  {send(page(`""`, "good")), []string{"good"}, 1},
		"a cursor that is a number":        {send(page(`7`, "good")), []string{"good"}, 1},
		"the null cursor":                  {send(page(`null`, "good")), []string{"good"}, 1},
		"a cursor with escapes": {func(x *peerExchange) {
			x.send(map[string]string{"": page(`"\u0061\"\n"`, "good"), `"\u0061\"\n"`: page("", "two")}[cursor(x)])
		}, []string{"good", "two"}, 2},
		"a tool twice":                 {send(page("", "good", "good", "two")), []string{"good", "two"}, 1},
		"names that are none":          {send(result(`{"tools":[{"name":""},{"name":7},{},7,null,"x",[],{"name":"good","inputSchema":{"type":"object"}}]}`)), []string{"good"}, 1},
		"a tool of 256 KiB and more":   {send(result(`{"tools":[{"name":"good","inputSchema":{}},{"name":"big","inputSchema":{},"description":"` + strings.Repeat("x", 256<<10) + `"}]}`)), []string{"good"}, 1},
		"tools that are no array":      {send(result(`{"tools":{"good":{}}}`)), nil, 2},
		"no tools":                     {send(result(`{}`)), nil, 2},
		"a duplicate key":              {send(result(`{"tools":[{"name":"good","name":"evil","inputSchema":{}}]}`)), nil, 2},
		"an error":                     {send(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"no"}}`), nil, 2},
		"no such method":               {send(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}`), nil, 2},
		"a second page that is broken": {func(x *peerExchange) { x.send(map[string]string{"": page(`"a"`, "good"), `"a"`: "{"}[cursor(x)]) }, nil, 4},
		"nothing for ever":             {func(x *peerExchange) { x.gone() }, nil, 2},
		"a second page for ever": {func(x *peerExchange) {
			if cursor(x) != "" {
				x.gone()
				return
			}
			x.send(page(`"a"`, "good"))
		}, nil, 4},
	} {
		for _, s := range []style{modernJSON, legacyStream} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				honest := newMCPServer(t, "/mcp", !s.modern, "echo")
				p := newPeer(t, s, nil)
				p.list = tc.list
				timeout := ", timeout: 60s"
				if strings.HasSuffix(name, "for ever") {
					timeout = ", timeout: 1s"
				}
				g := start(t, mcpTargets(fmt.Sprintf("{name: honest, static: {host: %q, port: %s}}", honest.host, honest.port), p.target("peer", timeout)))
				want := []string{"honest_echo"}
				for _, name := range tc.want {
					want = append(want, "peer_"+name)
				}
				slices.Sort(want)
				for _, modern := range []bool{true, false} {
					c := g.newCaller(t, modern)
					got := c.tools()
					slices.Sort(got)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("modern client %v: tools (-want +got):\n%s", modern, diff)
					}
					if got := c.call("honest_echo", "x"); got != "echo" {
						t.Errorf("modern client %v: the honest target answers %.300q", modern, got)
					}
				}
				if n := p.count(p.seen, "tools/list"); n > tc.asks {
					t.Errorf("the target was asked %d times, want %d at most", n, tc.asks)
				}
				g.stop()
				until(t, func() bool { open, _ := p.open(); return open == 0 })
			})
		}
	}
}

// A session id of a target is used as it was given first, and only if it may be one.
func TestHostileSessions(t *testing.T) {
	for name, tc := range map[string]struct {
		sid string
		ok  bool
	}{
		"none":             {"", true},
		"visible ASCII":    {"!~\"'<>{}\\,;=", true},
		"8 KiB":            {strings.Repeat("x", 8<<10), true},
		"over 8 KiB":       {strings.Repeat("x", 8<<10+1), false},
		"a space":          {"a b", false},
		"a tab":            {"a\tb", false},
		"beyond ASCII":     {"grün", false},
		"a byte of no use": {"a\x80b", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, legacyJSON, func(x *peerExchange) { // another id with each answer
				x.http("200 OK", "Mcp-Session-Id: changed\r\nContent-Type: application/json\r\n", good)
			})
			p.hello = func(x *peerExchange) { x.hello(tc.sid) }
			g := start(t, mcpTargets(p.target("peer", ""), newPeer(t, modernJSON, nil).target("honest", "")))
			for _, modern := range []bool{true, false} {
				c := g.newCaller(t, modern)
				for _, nonce := range []string{"one", "two", "three"} {
					want := nonce
					if !tc.ok {
						want = "error: the server behind peer_bad is not available"
					}
					if got := c.call("peer_bad", nonce); got != want {
						t.Errorf("modern client %v: %q, want %q", modern, got, want)
					}
				}
			}
			for sid, n := range map[string]int{"changed": 0, tc.sid: 1} {
				if got := p.count(p.sids, sid); n == 0 && got > 0 || n > 0 && tc.ok && got == 0 {
					t.Errorf("%d requests with the session id %.20q", got, sid)
				}
			}
		})
	}
}

// A target that redirects with a call does not get to where it points, credentials and all.
func TestHostileRedirect(t *testing.T) {
	elsewhere := newPeer(t, modernJSON, func(x *peerExchange) { x.send(good) })
	p := newPeer(t, modernJSON, func(x *peerExchange) {
		x.http("307 Temporary Redirect", "Location: http://"+elsewhere.l.Addr().String()+"/mcp\r\n", "")
	})
	g := start(t, mcpTargets(p.target("peer", ", auth: {kind: Inline, inline: s3cret}")))
	if got := g.newCaller(t, true).call("peer_bad", "x"); got != failed {
		t.Errorf("the call answers %q", got)
	}
	if n := elsewhere.count(elsewhere.seen, "tools/call") + elsewhere.count(elsewhere.seen, http.MethodGet); n > 0 {
		t.Errorf("%d requests came to where the target points", n)
	}
}

// Two targets, and many sessions, whose answers come in any order, to whom they do not belong, and more than once: each call gets
// its own, on streams of one call as on those that all share.
func TestHostileOrder(t *testing.T) {
	const n = 16
	for _, s := range []style{modernStream, legacyStream, legacySSE} {
		t.Run(s.name, func(t *testing.T) {
			var mu sync.Mutex
			var waiting []*peerExchange
			answered := make(chan struct{})
			p := newPeer(t, s, func(x *peerExchange) {
				mu.Lock()
				waiting = append(waiting, x)
				all := len(waiting) == n
				mu.Unlock()
				if all {
					close(answered)
				}
				<-answered
				// Everybody's answer, once under its own id and once stolen: under the id of the one whose
				// connection it is, as a string and as a float.
				var messages []string
				mu.Lock()
				for i := len(waiting) - 1; i >= 0; i-- {
					w := waiting[i]
					if w != x {
						messages = append(messages, w.fill(good), w.fill(strings.Replace(good, "ID", `"`+string(x.m.ID)+`"`, 1)))
					}
				}
				mu.Unlock()
				x.send(append(messages, good, textResult("late"))...)
			})
			g := start(t, mcpTargets(p.target("peer", ", timeout: 60s")))
			var wg sync.WaitGroup
			for i := range n {
				c := g.newCaller(t, i%2 == 0)
				wg.Go(func() {
					nonce := fmt.Sprintf("nonce %d", i)
					if got := c.call("peer_bad", nonce); got != nonce {
						t.Errorf("%q got %.300q", nonce, got)
					}
				})
			}
			wg.Wait()
		})
	}
}
