package federation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// canned answers every request at once, without a network.
type canned struct{ tools string }

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	_, rest, _ := strings.Cut(string(body), `"id":`)
	id := rest[:strings.IndexAny(rest, ",}")]
	result := `{"resultType":"complete","content":[{"type":"text","text":"hello"}]}`
	switch r.Header.Get("Mcp-Method") {
	case "server/discover":
		result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public"}`
	case "tools/list":
		result = `{"tools":[` + c.tools + `],"ttlMs":3600000}`
	}
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}`))}, nil
}

func benchmark(b *testing.B, tools int, targets int, body string) {
	sealer, _ := session.NewSealer()
	h := NewHub(HubOptions{Sealer: sealer, Sessions: session.NewSessions(session.SessionsOptions{Sealer: sealer})})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Run(ctx) }()
	defer func() { cancel(); <-done }()
	var list []string
	for i := range tools {
		list = append(list, fmt.Sprintf(`{"name":"tool%d","description":"does something with its arguments","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}`, i))
	}
	var cfg Config
	cfg.Name = "default/bench"
	for i := range targets {
		cfg.Targets = append(cfg.Targets, session.TargetConfig{Backend: cfg.Name, Name: fmt.Sprintf("t%d", i), Transport: session.StreamableHTTP,
			URL: "http://target/mcp", RoundTripper: canned{strings.Join(list, ",")}, Identity: fmt.Sprint(i)})
	}
	backend := h.Backend(cfg)
	h.Commit([]*Backend{backend})
	rules := policy.NewRules([]policy.RuleSet{rule(b, policy.Allow, `mcp.tool.name.startsWith("tool")`)})
	none := policy.New(policy.Options{})
	serve := func(body, sid string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/mcp", bytes.NewReader([]byte(body)))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Session-Id": {sid}}
		if sid == "" {
			r.Header.Del("Mcp-Session-Id")
		}
		ctx, _ := none.Admit(telemetry.NewContext(r.Context(), &telemetry.Record{}), &policy.Request{HTTP: r})
		r = r.WithContext(policy.WithBackend(ctx, rules))
		w := httptest.NewRecorder()
		if err := backend.Serve(w, r); err != nil {
			b.Fatal(err)
		}
		return w
	}
	sid := serve(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}`, "").Header().Get("Mcp-Session-Id")
	if got := serve(body, sid).Body.String(); !strings.Contains(got, `"result"`) {
		b.Fatal(got)
	}
	b.ReportAllocs()
	for b.Loop() {
		serve(body, sid)
	}
}

func BenchmarkCall(b *testing.B) {
	benchmark(b, 10, 3, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t1_tool3","arguments":{"text":"hello"}}}`)
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmark(b, 10, n, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`) })
	}
}
