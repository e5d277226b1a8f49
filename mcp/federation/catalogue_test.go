package federation

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/session"
)

func targets(servers ...*server) []session.TargetConfig {
	var out []session.TargetConfig
	for _, s := range servers {
		out = append(out, s.target)
	}
	return out
}

// All pages of all targets come out once, in our own pages.
func TestPages(t *testing.T) {
	var servers []*server
	var want []string
	for i, name := range []string{"a", "b", "c"} {
		s := newServer(t, name, i%2 == 0, &mcp.ServerOptions{PageSize: 40})
		for n := range 250 {
			s.echo(fmt.Sprintf("t%03d", n))
			want = append(want, fmt.Sprintf("%s_t%03d", name, n))
		}
		servers = append(servers, s)
	}
	g := newGateway(t, Config{Targets: targets(servers...), PageSize: 50})
	for _, version := range versions {
		cs := g.connect(version, nil)
		var got []string
		params := &mcp.ListToolsParams{}
		pages := 0
		for {
			list, err := cs.ListTools(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			if pages++; len(list.Tools) > 50 {
				t.Fatalf("a page of %d", len(list.Tools))
			}
			for _, tool := range list.Tools {
				got = append(got, tool.Name)
			}
			if list.NextCursor == "" {
				break
			}
			params.Cursor = list.NextCursor
		}
		if diff := cmp.Diff(want, got); diff != "" || pages != 15 {
			t.Errorf("%d pages: %s", pages, diff)
		}
		params.Cursor = "nonsense"
		if _, err := cs.ListTools(t.Context(), params); err == nil || !strings.Contains(err.Error(), "cursor") {
			t.Errorf("a bad cursor: %v", err)
		}
	}
}

// A walk goes on where it was when the catalogue changes meanwhile.
func TestPagesWhileChanging(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", true, nil)
	a.echo("t1", "t2", "t3")
	b.echo("t1", "t2", "t3")
	g := newGateway(t, Config{Targets: targets(a, b), PageSize: 2})
	page := func(cursor string) (names []string, next string) {
		params := ""
		if cursor != "" {
			params = `"cursor":"` + cursor + `"`
		}
		_, body := g.modern("tools/list", "", params)
		for _, n := range []string{"a_t1", "a_t2", "a_t3", "b_t1", "b_t2", "b_t3"} {
			if strings.Contains(body, `"`+n+`"`) {
				names = append(names, n)
			}
		}
		if _, rest, ok := strings.Cut(body, `"nextCursor":"`); ok {
			next, _, _ = strings.Cut(rest, `"`)
		}
		return names, next
	}
	first, cursor := page("")
	if diff := cmp.Diff([]string{"a_t1", "a_t2"}, first); diff != "" {
		t.Fatal(diff)
	}
	// The target in the middle of the walk goes: the next page begins with the
	// target after it.
	g.apply(Config{Targets: targets(b), PageSize: 2})
	second, cursor := page(cursor)
	if diff := cmp.Diff([]string{"b_t1", "b_t2"}, second); diff != "" {
		t.Fatal(diff)
	}
	g.apply(Config{Targets: targets(a, b), PageSize: 2})
	third, last := page(cursor)
	if diff := cmp.Diff([]string{"b_t3"}, third); diff != "" || last != "" {
		t.Fatal(diff, last)
	}
	// Another caller can't use it.
	status, body := g.modern("tools/list", "", `"cursor":"`+cursor+`"`, "X-Test-Principal", "mallory")
	if !strings.Contains(body, "-32602") {
		t.Errorf("%d %s", status, body)
	}
}

// A target that hangs costs its own timeout, once, and only its own tools.
func TestHangingTarget(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
	a.echo("x")
	b.echo("x")
	b.target.Timeout = 200 * time.Millisecond
	hang := make(chan struct{})
	defer close(hang)
	b.setHang(hang)
	g := newGateway(t, Config{Targets: targets(a, b)})
	for _, version := range versions {
		cs := g.connect(version, nil)
		list, err := cs.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 1 || list.Tools[0].Name != "a_x" {
			t.Fatalf("%+v %v", list, err)
		}
		if diff := cmp.Diff(map[string]any{"b": "unavailable"}, list.Meta[metaDegraded]); diff != "" {
			t.Error(diff)
		}
		if r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "a_x", Arguments: map[string]any{"text": "y"}}); err != nil || text(r) != "x:y" {
			t.Errorf("%+v %v", r, err)
		}
		_, err = cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "b_x", Arguments: map[string]any{"text": "y"}})
		if err == nil || !strings.Contains(err.Error(), "not available") {
			t.Errorf("a tool of the target that hangs: %v", err)
		}
	}
}

// With FailClosed one target that fails fails the list.
func TestFailClosed(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", true, nil)
	a.echo("x")
	b.target.URL = "http://127.0.0.1:1"
	g := newGateway(t, Config{Targets: targets(a, b), FailClosed: true})
	if _, body := g.modern("tools/list", "", ""); !strings.Contains(body, `"error"`) {
		t.Error(body)
	}
	if status, body, _ := g.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}`); status != 503 {
		t.Error(status, body)
	}
}

// A target that dies leaves its last good list, which says so.
func TestLastGood(t *testing.T) {
	a := newServer(t, "a", true, nil)
	a.echo("x")
	g := newGateway(t, Config{Targets: targets(a)})
	if _, body := g.modern("tools/list", "", ""); !strings.Contains(body, `"a_x"`) {
		t.Fatal(body)
	}
	a.http.CloseClientConnections()
	a.http.Close()
	for _, e := range g.hub.entries.Values() {
		e.invalidate(allChanged)
	}
	_, body := g.modern("tools/list", "", "")
	if !strings.Contains(body, `"a_x"`) || !strings.Contains(body, `"`+metaDegraded+`":{"a":"stale"}`) {
		t.Error(body)
	}
}

// In Never mode a name that two targets share is left out of both.
func TestNever(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
	a.echo("x", "y")
	b.echo("x", "z")
	g := newGateway(t, Config{Targets: targets(a, b), PrefixMode: Never})
	for _, version := range versions {
		cs := g.connect(version, nil)
		list, err := cs.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range list.Tools {
			names = append(names, tool.Name)
		}
		if diff := cmp.Diff([]string{"y", "z"}, names); diff != "" {
			t.Error(diff)
		}
		if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "x"}); err == nil {
			t.Error("a shared name was called")
		}
		if r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "z", Arguments: map[string]any{"text": "1"}}); err != nil || text(r) != "z:1" {
			t.Errorf("%+v %v", r, err)
		}
	}
}

// A warm list asks no target.
func TestWarmList(t *testing.T) {
	a := newServer(t, "a", false, nil)
	a.echo("x")
	g := newGateway(t, Config{Targets: targets(a)})
	sid := g.initialize("2025-11-25")
	for range 50 {
		g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "Mcp-Session-Id", sid)
	}
	if n := len(a.reached("tools/list")); n != 1 {
		t.Errorf("%d lists reached the target", n)
	}
}

// A tool that breaks the rules is left out, and nothing else.
func TestBadItems(t *testing.T) {
	s := scope{length: 48, prefix: "t", target: "t"}
	for _, tt := range []struct{ raw, err string }{
		{`{"name":"ok","inputSchema":{"type":"object"}}`, ""},
		{`{"name":"","inputSchema":{}}`, "has no name"},
		{`{"inputSchema":{}}`, "has no name"},
		{`7`, "no object"},
		{`{"name":"x"}`, "no inputSchema"},
		{`{"name":"x","inputSchema":[]}`, "no inputSchema"},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`, ""},
		{`{"name":"x","inputSchema":{"properties":{"o":{"type":"object","properties":{"a":{"type":"integer","x-mcp-header":"A"}}}}}}`, ""},
		{`{"name":"x","inputSchema":{"properties":{"x-mcp-header":{"type":"string"}}}}`, ""},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"string","default":{"x-mcp-header":1}}}}}`, ""},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}`, "no string, integer or boolean"},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":""}}}}`, "no header name"},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}}`, "no header name"},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}}`, "stands twice"},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}}`, "no argument can be read"},
		{`{"name":"x","inputSchema":{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}}`, "no argument can be read"},
		{`{"name":"x","inputSchema":{"x-mcp-header":"A"}}`, "no argument can be read"},
		{`{"name":"x","inputSchema":{"properties":{"a":{"type":"string","x-mcp-\u0068eader":""}}}}`, "no header name"},
	} {
		_, err := newItem(tools, []byte(tt.raw), s)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want %q", tt.raw, err, tt.err)
		}
	}
	it, err := newItem(tools, []byte(`{"name":"a.b","x":1.0,"_meta":{"ui":{"resourceUri":"ui://app/x","y":[1]}},"inputSchema":{"maximum":9007199254740993}}`), s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"` + it.client + `","x":1.0,"_meta":{"ui":{"resourceUri":"ui://t+app/x","y":[1]}},"inputSchema":{"maximum":9007199254740993}}`
	if diff := cmp.Diff(want, string(it.raw)); diff != "" {
		t.Error(diff)
	}
}

// What a target sends may be anything: rawTarget answers as a test says.
func rawTarget(t *testing.T, name string, answer func(method string, n int, body string) string) (*server, *int) {
	t.Helper()
	n := 0
	s := &server{}
	srv := newRaw(t, func(w http.ResponseWriter, r *http.Request) {
		body := drain(r.Body)
		n++
		w.Header().Set("Content-Type", "application/json")
		_, rest, _ := strings.Cut(body, `"id":`)
		id := rest[:strings.IndexAny(rest, ",}")]
		method := r.Header.Get("Mcp-Method")
		if method == "server/discover" {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":60000,"cacheScope":"public"}}`, id)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, answer(method, n, body))
	})
	s.target = session.TargetConfig{Name: name, Transport: session.StreamableHTTP, URL: srv.URL, RoundTripper: srv.transport, Identity: name + srv.URL}
	return s, &n
}

// A target can fill the catalogue only up to its limits.
func TestListLimits(t *testing.T) {
	tool := func(name string, size int) string {
		return fmt.Sprintf(`{"name":%q,"description":%q,"inputSchema":{}}`, name, strings.Repeat("d", size))
	}
	for _, tt := range []struct {
		name   string
		answer func(method string, n int, body string) string
		want   int
	}{
		{"cursors in a circle", func(_ string, n int, _ string) string {
			return fmt.Sprintf(`{"tools":[%s],"nextCursor":"again"}`, tool(fmt.Sprint("t", n), 1))
		}, 2},
		{"items at the limit", func(string, int, string) string {
			var b []string
			for i := range maxItems + 1 {
				b = append(b, tool(fmt.Sprint("t", i), 1))
			}
			return `{"tools":[` + strings.Join(b, ",") + `]}`
		}, maxItems},
		{"an item over the limit", func(string, int, string) string {
			return `{"tools":[` + tool("big", maxItemBytes) + "," + tool("small", maxItemBytes-100) + `]}`
		}, 1},
		{"pages over the limit", func(_ string, n int, _ string) string {
			return fmt.Sprintf(`{"tools":[%s],"nextCursor":"c%d"}`, tool(fmt.Sprint("t", n), 1), n)
		}, maxPages},
		{"a name twice", func(string, int, string) string {
			return `{"tools":[` + tool("x", 1) + "," + tool("x", 2) + `]}`
		}, 1},
		{"no list", func(string, int, string) string { return `{"tools":7}` }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := rawTarget(t, "raw", tt.answer)
			other := newServer(t, "ok", true, nil)
			other.echo("x")
			g := newGateway(t, Config{Targets: targets(s, other), PageSize: 10000})
			_, body := g.modern("tools/list", "", "")
			if got := strings.Count(body, `"name":"raw_`); got != tt.want {
				t.Errorf("%d tools, want %d", got, tt.want)
			}
			if !strings.Contains(body, `"ok_x"`) {
				t.Error("the other target is missing")
			}
		})
	}
}

// Lists of a target that gets the caller's credentials are the caller's own.
func TestPrivateLists(t *testing.T) {
	s := newServer(t, "s", true, nil)
	s.echo("x")
	s.target.Passthrough = true
	g := newGateway(t, Config{Targets: targets(s)})
	for _, token := range []string{"alice", "bob", "alice", "bob"} {
		g.modern("tools/list", "", "", "Authorization", "Bearer "+token)
	}
	if n := len(s.reached("tools/list")); n != 2 {
		t.Errorf("%d lists for 2 callers", n)
	}
	keys := g.hub.entries.Keys()
	slices.SortFunc(keys, func(a, b entryKey) int { return strings.Compare(a.isolation, b.isolation) })
	if len(keys) != 2 || keys[0].isolation == keys[1].isolation || strings.Contains(keys[0].isolation, "alice") {
		t.Errorf("%+v", keys)
	}
}
