package federation

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The statuses of the endpoint.
func TestStatuses(t *testing.T) {
	s := newServer(t, "s", true, nil)
	s.echo("x")
	g := newGateway(t, Config{Targets: targets(s), AllowedOrigins: []string{"https://app.example.com"}})
	sid := g.initialize("2025-11-25")
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	discover := `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + meta + `}}`
	modern := []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "server/discover"}
	with := func(h ...string) []string { return append(append([]string{}, modern...), h...) }
	for _, tt := range []struct {
		name   string
		body   string
		header []string
		status int
		answer string // contained
	}{
		{"a ping of a session", ping, []string{"Mcp-Session-Id", sid}, 200, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{"no session", ping, nil, 400, `"id":1`},
		{"an unknown session", ping, []string{"Mcp-Session-Id", "nonsense"}, 404, "session not found"},
		{"another's session", ping, []string{"Mcp-Session-Id", sid, "X-Test-Principal", "mallory"}, 404, "session not found"},
		{"two session ids", ping, []string{"Mcp-Session-Id", sid, "Mcp-Session-Id", sid}, 400, ""},
		{"an unknown revision", ping, []string{"Mcp-Session-Id", sid, "Mcp-Protocol-Version", "1999-01-01"}, 400, ""},
		{"a revision of the future", discover, []string{"Mcp-Protocol-Version", "2030-01-01", "Mcp-Method", "server/discover"}, 400, "-3202"},
		{"Accept without streams", ping, []string{"Accept", "", "Accept", "application/json"}, 406, ""},
		{"Accept anything", ping, []string{"Accept", "", "Accept", "*/*", "Mcp-Session-Id", sid}, 200, ""},
		{"Accept that refuses streams", ping, []string{"Accept", "", "Accept", "application/json, text/event-stream;q=0", "Mcp-Session-Id", sid}, 406, ""},
		{"text/plain", ping, []string{"Content-Type", "", "Content-Type", "text/plain"}, 415, ""},
		{"a charset", ping, []string{"Content-Type", "", "Content-Type", "application/json; charset=utf-8", "Mcp-Session-Id", sid}, 200, ""},
		{"gzip", ping, []string{"Content-Encoding", "gzip"}, 415, ""},
		{"no JSON", "{", nil, 400, "-32700"},
		{"no JSON-RPC", "{}", nil, 400, "-32600"},
		{"a duplicate key", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, nil, 400, "-32"},
		{"a key that differs in case", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`, nil, 400, `-32600`},
		{"a body at the limit", padded(ping, maxBody), []string{"Mcp-Session-Id", sid}, 200, ""},
		{"a body over the limit", padded(ping, maxBody+1), []string{"Mcp-Session-Id", sid}, 413, ""},
		{"an unknown method, legacy", `{"jsonrpc":"2.0","id":1,"method":"no/such"}`, []string{"Mcp-Session-Id", sid}, 200, "-32601"},
		{"an unknown method, modern", strings.Replace(discover, "server/discover", "no/such", 1), []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "no/such"}, 404, "-32601"},
		{"a notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, []string{"Mcp-Session-Id", sid}, 202, ""},
		{"an answer to nothing", `{"jsonrpc":"2.0","id":"x","result":{}}`, []string{"Mcp-Session-Id", sid}, 202, ""},
		{"discover", discover, modern, 200, `"supportedVersions":[`},
		{"discover with a session id", discover, with("Mcp-Session-Id", "nonsense"), 200, `"supportedVersions":[`},
		{"no method header", discover, modern[:2], 400, "-32020"},
		{"another method header", discover, []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"}, 400, "-32020"},
		{"no version header", discover, modern[2:], 400, "-32020"},
		{"no _meta", `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`, modern, 400, "-32602"},
		{"initialize twice", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`, []string{"Mcp-Session-Id", sid}, 400, "-32600"},
		{"initialize without a version", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`, nil, 200, "-32602"},
		{"a batch without a session", `[` + ping + `]`, nil, 400, ""},
		{"a batch of a later revision", `[` + ping + `]`, []string{"Mcp-Session-Id", sid}, 400, "-32600"},

		{"a foreign origin", discover, with("Origin", "https://evil.example"), 403, ""},
		{"the null origin", discover, with("Origin", "null"), 403, ""},
		{"two origins", discover, with("Origin", "https://app.example.com", "Origin", "https://evil.example"), 403, ""},
		{"an origin with a path", discover, with("Origin", "https://app.example.com/x"), 403, ""},
		{"an allowed origin", discover, with("Origin", "https://app.example.com"), 200, ""},
		{"an allowed origin with its port", discover, with("Origin", "https://app.example.com:443"), 200, ""},
		{"an allowed host on another port", discover, with("Origin", "https://app.example.com:8443"), 403, ""},
		{"an allowed host without TLS", discover, with("Origin", "http://app.example.com"), 403, ""},
		{"a loopback origin", discover, with("Origin", "http://localhost:5173"), 200, ""},
		{"the same origin", discover, with("Origin", g.url), 200, ""},
		{"a rebound host", discover, with("Host", "evil.example"), 403, ""},
		{"a rebound host and its origin", discover, with("Host", "evil.example", "Origin", "http://evil.example"), 403, ""},
		{"a host that is allowed", discover, with("Host", "app.example.com"), 200, ""},
		{"localhost", discover, with("Host", "localhost:8080"), 200, ""},
		{"IPv6 loopback", discover, with("Host", "[::1]:8080"), 200, ""},
		{"a name that begins like localhost", discover, with("Host", "localhost.evil.example"), 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer, h := g.post(tt.body, tt.header...)
			if status != tt.status || !strings.Contains(answer, tt.answer) {
				t.Errorf("%d %s, want %d with %s", status, answer, tt.status, tt.answer)
			}
			if strings.HasPrefix(answer, "{") && h.Get("Content-Type") != "application/json" {
				t.Errorf("Content-Type %s", h.Get("Content-Type"))
			}
		})
	}
}

func padded(body string, size int) string { return body + strings.Repeat(" ", size-len(body)) }

func TestMethods(t *testing.T) {
	g := newGateway(t, Config{AllowedOrigins: []string{"https://app.example.com"}})
	sid := g.initialize("2025-11-25")
	do := func(method string, header ...string) *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), method, g.url, nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	for _, tt := range []struct {
		name   string
		method string
		header []string
		status int
		want   map[string]string
	}{
		{"PUT", "PUT", nil, 405, map[string]string{"Allow": "GET, POST, DELETE"}},
		{"OPTIONS without an origin", "OPTIONS", nil, 405, nil},
		{"a preflight", "OPTIONS", []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type, mcp-param-region,bad name"}, 204, map[string]string{
			"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Methods": "GET, POST, DELETE", "Access-Control-Allow-Headers": "content-type, mcp-param-region"}},
		{"a foreign preflight", "OPTIONS", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, 403, map[string]string{"Access-Control-Allow-Origin": ""}},
		{"GET without a session", "GET", []string{"Accept", "text/event-stream"}, 400, nil},
		{"GET of an unknown session", "GET", []string{"Accept", "text/event-stream", "Mcp-Session-Id", "x"}, 404, nil},
		{"GET of JSON", "GET", []string{"Accept", "application/json", "Mcp-Session-Id", sid}, 406, nil},
		{"GET in the modern era", "GET", []string{"Accept", "text/event-stream", "Mcp-Protocol-Version", "2026-07-28"}, 405, map[string]string{"Allow": "POST"}},
		{"GET of two sessions", "GET", []string{"Accept", "text/event-stream", "Mcp-Session-Id", sid, "Mcp-Session-Id", "x"}, 400, nil},
		{"DELETE of two sessions", "DELETE", []string{"Mcp-Session-Id", sid, "Mcp-Session-Id", "x"}, 400, nil},
		{"DELETE without a session", "DELETE", nil, 400, nil},
		{"DELETE", "DELETE", []string{"Mcp-Session-Id", sid}, 204, nil},
		{"DELETE again", "DELETE", []string{"Mcp-Session-Id", sid}, 404, nil},
	} {
		resp := do(tt.method, tt.header...)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d, want %d", tt.name, resp.StatusCode, tt.status)
		}
		for k, v := range tt.want {
			if got := resp.Header.Get(k); got != v {
				t.Errorf("%s: %s is %q, want %q", tt.name, k, got, v)
			}
		}
	}
	if status, _, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Mcp-Session-Id", sid); status != 404 {
		t.Errorf("the ended session answers %d", status)
	}
}

// A batch is answered as a batch: each message under the rules of its own.
func TestBatch(t *testing.T) {
	s := newServer(t, "s", false, nil)
	s.echo("x")
	g := newGateway(t, Config{Targets: targets(s)})
	sid := g.initialize("2025-03-26")
	status, body, _ := g.post(`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},
		{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"s_x","arguments":{"text":"t"}}},
		{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"s_no"}},{"jsonrpc":"1.0"},{"jsonrpc":"2.0","id":4,"method":"initialize"}]`, "Mcp-Session-Id", sid)
	want := `[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":"b","result":{"content":[{"type":"text","text":"x:t"}]}},` +
		`{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"Unknown tool: s_no"}},`
	if status != 200 || !strings.HasPrefix(body, want) || !strings.Contains(body, `must be \"2.0\"`) || !strings.Contains(body, "part of a batch") {
		t.Errorf("%d %s", status, cmp.Diff(want, body))
	}
	if status, body, _ := g.post(`[{"jsonrpc":"2.0","method":"notifications/initialized"}]`, "Mcp-Session-Id", sid); status != 202 || body != "" {
		t.Errorf("notifications only: %d %s", status, body)
	}
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for n, want := range map[int]int{maxBatch: 200, maxBatch + 1: 400} {
		if status, body, _ := g.post("["+strings.Repeat(ping+",", n-1)+ping+"]", "Mcp-Session-Id", sid); status != want {
			t.Errorf("a batch of %d: %d %.200s", n, status, body)
		}
	}
}

// Targets get the headers that they may have, and no others.
func TestForwardedHeaders(t *testing.T) {
	var got http.Header
	srv := newRaw(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Method") == "tools/call" {
			got = r.Header.Clone()
		}
		body := drain(r.Body)
		_, rest, _ := strings.Cut(body, `"id":`)
		id := rest[:strings.IndexAny(rest, ",}")]
		w.Header().Set("Content-Type", "application/json")
		result := `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public","content":[],` +
			`"tools":[{"name":"x","inputSchema":{"properties":{"r":{"type":"string","x-mcp-header":"Region"}}}}]}`
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}`))
	})
	s := server{}
	s.target.Name, s.target.Transport, s.target.URL, s.target.RoundTripper, s.target.Identity = "s", 1, srv.URL, srv.transport, srv.URL
	g := newGateway(t, Config{Targets: targets(&s), ForwardHeaders: []string{"x-tenant", "authorization", "Mcp-Session-Id"}})
	call := func(header ...string) {
		got = nil
		header = append(header, "Authorization", "Bearer secret", "Cookie", "a=b", "X-Tenant", "t1", "X-Other", "no",
			"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Accept-Language", "de", "Idempotency-Key", "k")
		g.modern("tools/call", "s_x", `"name":"s_x","arguments":{"r":"eu"}`, header...)
	}
	call("Mcp-Param-Region", "eu")
	for name, want := range map[string]string{
		"Authorization": "", "Cookie": "", "X-Other": "", "Idempotency-Key": "", "Mcp-Session-Id": "",
		"X-Tenant": "t1", "Accept-Language": "de", "Mcp-Param-Region": "eu", "Mcp-Name": "x",
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		if v := got.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	call("Mcp-Param-Region", "us")
	if got != nil {
		t.Error("a call whose header and argument differ was sent")
	}
	sid := g.initialize("2025-11-25", "X-Tenant", "t1")
	got = nil
	_, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s_x","arguments":{"r":"grün"}}}`, "Mcp-Session-Id", sid, "X-Tenant", "t1")
	if v := got.Get("Mcp-Param-Region"); v != "=?base64?Z3LDvG4=?=" {
		t.Errorf("a legacy client's argument is mirrored as %q: %s", v, body)
	}
}
