package federation

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// ttlOfAnswer returns the ttlMs of an answer; −1 when it has none.
func ttlOfAnswer(t *testing.T, answer string) int {
	t.Helper()
	_, rest, ok := strings.Cut(answer, `"ttlMs":`)
	if !ok {
		return -1
	}
	end := strings.IndexAny(rest, ",}")
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		t.Fatal(answer)
	}
	return n
}

// What is said about the whole may be kept as long as what is said about each
// target.
func TestDiscoverHints(t *testing.T) {
	long, short, old := newScripted(t, "long", true, `{}`), newScripted(t, "short", true, `{}`), newScripted(t, "old", false, `{}`)
	long.ttl, short.ttl = `,"ttlMs":900000,"cacheScope":"public"`, `,"ttlMs":300000,"cacheScope":"public"`
	silent := newScripted(t, "silent", true, `{}`)
	silent.ttl = `,"x":1`
	for _, tt := range []struct {
		what     string
		targets  []*scripted
		min, max int
	}{
		{"one", []*scripted{long}, 800_000, 900_000},
		{"two", []*scripted{long, short}, 200_000, 300_000},
		{"with a legacy one", []*scripted{long, old}, 0, 0},
		{"with one that says nothing", []*scripted{long, silent}, 0, 0},
		{"none", nil, 0, 0},
	} {
		g := newGateway(t, Config{Targets: scripts(tt.targets...)})
		c := g.caller("2026-07-28", `{}`)
		_, got := c.do("server/discover", "", "", "")
		if ttl := ttlOfAnswer(t, got); ttl < tt.min || ttl > tt.max || !strings.Contains(got, `"cacheScope":"private"`) {
			t.Errorf("%s: %s", tt.what, got)
		}
		g.hub.now = func() time.Time { return time.Now().Add(time.Hour) }
		if _, got := c.do("server/discover", "", "", ""); ttlOfAnswer(t, got) != 0 {
			t.Errorf("%s, later: %s", tt.what, got)
		}
	}
	if n := len(long.reached("server/discover")); n > 5 {
		t.Errorf("asked %d times", n)
	}
}

// A resource may be kept as long as its target says, by its caller alone; what
// input was needed for is not kept, nor what asks for it.
func TestReadHints(t *testing.T) {
	s := newScripted(t, "s", true, `{"resources":{}}`)
	hints := ""
	s.handle("resources/read", func(x *exchange) string {
		if strings.Contains(x.params, "x://ask") && !strings.Contains(x.params, "inputResponses") {
			return `"result":{"resultType":"input_required","ttlMs":5,"cacheScope":"public","requestState":"s"}`
		}
		return `"result":{"resultType":"complete","contents":[]` + hints + `}`
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2026-07-28", `{}`)
	read := func(uri, more string) string {
		_, answer := c.do("resources/read", uri, `"uri":"`+uri+`"`+more, "")
		return answer
	}
	for _, tt := range []struct {
		hints string
		want  int
	}{
		{`,"ttlMs":1234,"cacheScope":"public"`, 1234},
		{`,"ttlMs":-7,"cacheScope":"private"`, 0},
		{`,"ttlMs":"never"`, 0},
		{``, 0},
	} {
		hints = tt.hints
		got := read("s+x://1", "")
		if ttlOfAnswer(t, got) != tt.want || strings.Count(got, `"cacheScope":"private"`) != 1 || strings.Contains(got, "public") {
			t.Errorf("%s: %s", tt.hints, got)
		}
	}
	hints = `,"ttlMs":1234,"cacheScope":"public"`
	first := read("s+x://ask", "")
	if strings.Contains(first, "ttlMs") || strings.Contains(first, "cacheScope") {
		t.Errorf("what asks: %s", first)
	}
	if got := read("s+x://ask", `,"inputResponses":{},"requestState":"`+member(t, first, "requestState")+`"`); ttlOfAnswer(t, got) != 0 {
		t.Errorf("the retry: %s", got)
	}
	legacy := g.caller("2025-11-25", `{}`)
	if _, got := legacy.do("resources/read", "", `"uri":"s+x://1"`, ""); !strings.Contains(got, `"contents":[]`) {
		t.Error(got)
	}
}

// No target is asked for what it does not have.
func TestTargetsAreNotAskedForWhatTheyLack(t *testing.T) {
	for _, modern := range []bool{true, false} {
		t.Run(fmt.Sprint(modern), func(t *testing.T) {
			bare := newScripted(t, "bare", modern, `{"tools":{},"prompts":{},"resources":{}}`)
			bare.handle("prompts/list", func(*exchange) string { return `"result":{"prompts":[{"name":"p"}]}` })
			full := newScripted(t, "full", modern, `{"tools":{},"prompts":{},"completions":{},"logging":{},"resources":{"subscribe":true}}`)
			full.handle("prompts/list", func(*exchange) string { return `"result":{"prompts":[{"name":"p"}]}` })
			full.handle("completion/complete", func(x *exchange) string {
				return `"result":{"completion":{"values":["a"],"total":1,"hasMore":false}}`
			})
			tool := newScripted(t, "tool", modern, `{"tools":{}}`)
			for _, s := range []*scripted{bare, full, tool} {
				s.handle("resources/subscribe", func(*exchange) string { return `"result":{}` })
				s.handle("resources/unsubscribe", func(*exchange) string { return `"result":{}` })
			}
			g := newGateway(t, Config{Targets: scripts(bare, full, tool)})
			for _, version := range []string{"2025-11-25", "2026-07-28"} {
				c := g.caller(version, `{}`)
				complete := func(target string) string {
					_, got := c.do("completion/complete", "", `"ref":{"type":"ref/prompt","name":"`+target+`_p"},"argument":{"name":"x","value":"y"},"context":{"arguments":{"z":"w"}}`, "")
					return got
				}
				if got := complete("bare"); !strings.Contains(got, `"completion":{"values":[]}`) {
					t.Errorf("%s: %s", version, got)
				}
				if got := complete("full"); !strings.Contains(got, `"values":["a"],"total":1`) {
					t.Errorf("%s: %s", version, got)
				}
				if _, got := c.do("completion/complete", "", `"ref":{"type":"ref/resource","uri":"full+x://{id}"},"argument":{"name":"id","value":"y"}`, ""); !strings.Contains(got, `"values":["a"]`) {
					t.Errorf("%s: %s", version, got)
				}
				if _, got := c.do("resources/read", "tool+x://1", `"uri":"tool+x://1"`, ""); !strings.Contains(got, "Resource not found") {
					t.Errorf("%s: %s", version, got)
				}
				if c.modern {
					continue
				}
				for method, wants := range map[string]string{"resources/subscribe": "-32601", "resources/unsubscribe": "-32601"} {
					if _, got := c.do(method, "", `"uri":"bare+x://1"`, ""); !strings.Contains(got, wants) {
						t.Errorf("%s: %s", method, got)
					}
					if _, got := c.do(method, "", `"uri":"full+x://1"`, ""); !strings.Contains(got, `"result":{}`) {
						t.Errorf("%s: %s", method, got)
					}
				}
				c.do("logging/setLevel", "", `"level":"error"`, "")
			}
			for _, method := range []string{"completion/complete", "resources/subscribe", "resources/unsubscribe", "resources/read", "logging/setLevel"} {
				if got := append(bare.reached(method), tool.reached(method)...); len(got) > 0 && method != "resources/read" {
					t.Errorf("%s reached a target that lacks it: %s", method, got)
				}
			}
			if n := len(tool.reached("resources/read")) + len(tool.reached("prompts/list")) + len(tool.reached("resources/list")); n > 0 {
				t.Error("a target that has only tools was asked for more")
			}
			for _, got := range full.reached("completion/complete") {
				name, _ := protocol.GetString([]byte(got), "ref", "name")
				uri, _ := protocol.GetString([]byte(got), "ref", "uri")
				if name != "p" && uri != "x://{id}" || name == "p" && !strings.Contains(got, `"context":{"arguments":{"z":"w"}}`) {
					t.Errorf("the target got %s", got)
				}
			}
		})
	}
}

// The level that a client set holds for targets that come later, in their era's way.
func TestLogLevelOfLateTargets(t *testing.T) {
	old, modern, first := newScripted(t, "old", false, `{"tools":{},"logging":{}}`), newScripted(t, "new", true, `{"tools":{},"logging":{}}`), newScripted(t, "first", false, `{"tools":{},"logging":{}}`)
	for _, s := range []*scripted{old, modern, first} {
		s.tool(slowTool, func(x *exchange) string {
			for _, level := range []string{"debug", "warning", "alert"} {
				x.send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":1}}`)
			}
			level, _ := protocol.GetString([]byte(x.params), "_meta", protocol.MetaLogLevel)
			return said("level " + level)
		})
	}
	g := newGateway(t, Config{Targets: scripts(first)})
	c := g.caller("2025-11-25", `{}`)
	c.do("logging/setLevel", "", `"level":"warning"`, "")
	g.apply(Config{Targets: scripts(first, old, modern)})
	for target, level := range map[string]string{"first": "", "old": "", "new": "warning"} {
		got := c.call(target+"_slow", "")
		if !strings.Contains(got, "level "+level) || strings.Contains(got, "debug") || !strings.Contains(got, `"level":"warning"`) || !strings.Contains(got, `"level":"alert"`) {
			t.Errorf("%s: %s", target, got)
		}
	}
	for _, s := range []*scripted{old, first} {
		if got := strings.Join(s.reached("logging/setLevel"), " "); got != `{"level":"warning"}` {
			t.Errorf("%s was told %s", s.target.Name, got)
		}
	}
	// A modern client asks with each request, of legacy targets too.
	m := g.caller("2026-07-28", `{}`)
	for target := range map[string]bool{"old": true, "new": true} {
		_, got := m.do("tools/call", target+"_slow", `"name":"`+target+`_slow"`, `"io.modelcontextprotocol/logLevel":"alert"`)
		if strings.Contains(got, `"level":"warning"`) || !strings.Contains(got, `"level":"alert"`) {
			t.Errorf("%s: %s", target, got)
		}
		if got := m.call("old_slow", ""); strings.Contains(got, "notifications/message") {
			t.Errorf("not asked for: %s", got)
		}
	}
}

// A list may be kept for what is left of the time that its targets give.
func TestListHints(t *testing.T) {
	list := func(name string, modern bool, hints ...string) *scripted {
		s := newScripted(t, name, modern, `{"tools":{"listChanged":true}}`)
		s.handle("tools/list", func(x *exchange) string {
			cursor, _ := protocol.GetString([]byte(x.params), "cursor")
			page, _ := strconv.Atoi(cursor)
			next := ""
			if page+1 < len(hints) {
				next = fmt.Sprintf(`,"nextCursor":"%d"`, page+1)
			}
			return fmt.Sprintf(`"result":{"tools":[{"name":"t%d","inputSchema":{"type":"object"}}]%s%s}`, page, next, hints[page])
		})
		return s
	}
	ttl := func(n int) string { return fmt.Sprintf(`,"resultType":"complete","ttlMs":%d,"cacheScope":"public"`, n) }
	const long, short = 900_000, 300_000
	down := list("down", true, ttl(long))
	down.target.URL = "http://127.0.0.1:1"
	for _, tt := range []struct {
		what    string
		targets []*scripted
		most    int // of the ttlMs, and almost that
	}{
		{"one", []*scripted{list("a", true, ttl(long))}, long},
		{"two", []*scripted{list("a", true, ttl(long)), list("b", true, ttl(short))}, short},
		{"pages", []*scripted{list("a", true, ttl(long), ttl(short), ttl(long))}, short},
		{"one without the list", []*scripted{list("a", true, ttl(long)), newScripted(t, "b", false, `{"prompts":{}}`)}, long},
		{"one that says nothing", []*scripted{list("a", true, ttl(long)), list("b", true, "")}, 0},
		{"a legacy one", []*scripted{list("a", true, ttl(long)), list("b", false, "")}, 0},
		{"stale at once", []*scripted{list("a", true, ttl(0))}, 0},
		{"rubbish", []*scripted{list("a", true, `,"ttlMs":"x"`)}, 0},
		{"one that is down", []*scripted{list("a", true, ttl(long)), down}, 0},
		{"for years", []*scripted{list("a", true, ttl(int(maxTTL/time.Millisecond)*1000))}, int(maxTTL / time.Millisecond)},
	} {
		t.Run(tt.what, func(t *testing.T) {
			g := newGateway(t, Config{Targets: scripts(tt.targets...)})
			c := g.caller("2026-07-28", `{}`)
			_, got := c.do("tools/list", "", "", "")
			if ttl := ttlOfAnswer(t, got); ttl > tt.most || ttl < tt.most-60_000 || !strings.Contains(got, `"cacheScope":"private"`) {
				t.Errorf("%s", got)
			}
			if tt.most == 0 {
				return
			}
			half := time.Duration(tt.most/2) * time.Millisecond
			g.hub.now = func() time.Time { return time.Now().Add(half) }
			if _, got := c.do("tools/list", "", "", ""); ttlOfAnswer(t, got) > tt.most/2 || ttlOfAnswer(t, got) < tt.most/2-60_000 {
				t.Errorf("later: %s", got)
			}
			if n := len(tt.targets[0].reached("tools/list")); n > 3 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}
