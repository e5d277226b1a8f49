package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// full returns a Record of which everything is known.
func full() *Record {
	r := httptest.NewRequest(http.MethodPost, "http://mcp.example.com/mcp/a%20b?token=secret-in-query&sessionId=secret-session", nil)
	r.Header.Set("Authorization", "Bearer secret-in-header")
	r.Header.Set("Mcp-Session-Id", "secret-session")
	r.Header.Set("Cookie", "secret-cookie")
	return &Record{
		Start: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), RequestID: "id-1", Request: r,
		Source: netip.MustParseAddrPort("[2001:db8::1]:1234"), Gateway: "ns/gw", Listener: "http", Route: "ns/mcp", Rule: "0", Backend: "ns/tools",
		Status: 403, BytesSent: 20, BytesRead: 10, Duration: 1500 * time.Microsecond, Principal: "anonymous", UpstreamHost: "10.0.0.1:80", Attempts: 2, Retries: 1, Peer: "10.0.0.7:15010",
		ErrorType: fault.Denied.String(), Err: fault.Wrap(fault.Denied, decided("TrafficPolicy/ns/p"), "authorization failed"),
		MCP: MCP{Method: "tools/call", Target: "files", Name: "read", ClientName: "files_read", URI: "https://user:secret-password@host/x?key=secret-key#f", ProtocolVersion: "2025-11-25", Era: "legacy"},
	}
}

func logged(r *Record, f Format) string {
	var b strings.Builder
	(&Account{Log: NewAccessLog(&b, f)}).End(r)
	return b.String()
}

func TestAccessLog(t *testing.T) {
	for _, tt := range []struct {
		name   string
		record *Record
		format Format
		want   string
	}{
		{"everything", full(), JSON, `{"time":"2026-01-02T03:04:05.678Z","level":"INFO","msg":"request","request_id":"id-1","source":"[2001:db8::1]:1234","method":"POST","host":"mcp.example.com","path":"/mcp/a b","protocol":"HTTP/1.1","status":403,"duration_ms":1.5,"bytes_received":10,"bytes_sent":20,"gateway":"ns/gw","listener":"http","route":"ns/mcp","rule":"0","backend":"ns/tools","upstream":"10.0.0.1:80","attempts":2,"retries":1,"peer":"10.0.0.7:15010","mcp.method":"tools/call","mcp.target":"files","mcp.name":"read","mcp.client_name":"files_read","mcp.resource":"https://host/x","mcp.version":"2025-11-25","mcp.era":"legacy","principal":"anonymous","error_type":"denied","policy":"TrafficPolicy/ns/p","error":"authorization failed: no Allow rule matches"}` + "\n"},
		{"everything as text", full(), Text, `time=2026-01-02T03:04:05.678Z level=INFO msg=request request_id=id-1 source=[2001:db8::1]:1234 method=POST host=mcp.example.com path="/mcp/a b" protocol=HTTP/1.1 status=403 duration_ms=1.5 bytes_received=10 bytes_sent=20 gateway=ns/gw listener=http route=ns/mcp rule=0 backend=ns/tools upstream=10.0.0.1:80 attempts=2 retries=1 peer=10.0.0.7:15010 mcp.method=tools/call mcp.target=files mcp.name=read mcp.client_name=files_read mcp.resource=https://host/x mcp.version=2025-11-25 mcp.era=legacy principal=anonymous error_type=denied policy=TrafficPolicy/ns/p error="authorization failed: no Allow rule matches"` + "\n"},
		{"nothing", &Record{Start: time.Unix(0, 0).UTC(), Duration: time.Second}, JSON, `{"time":"1970-01-01T00:00:00Z","level":"INFO","msg":"request","status":0,"duration_ms":1000,"bytes_received":0,"bytes_sent":0}` + "\n"},
		{"a tool's own error", &Record{Start: time.Unix(0, 0).UTC(), Duration: time.Second, Status: 200, MCP: MCP{ToolError: true}}, JSON, `{"time":"1970-01-01T00:00:00Z","level":"INFO","msg":"request","status":200,"duration_ms":1000,"bytes_received":0,"bytes_sent":0,"error_type":"tool_error"}` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, logged(tt.record, tt.format)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// No credential, cookie, session id or query is in a line, in either format.
func TestAccessLogHoldsNoSecrets(t *testing.T) {
	for _, f := range []Format{JSON, Text} {
		if got := logged(full(), f); strings.Contains(got, "secret") {
			t.Errorf("a secret is logged: %s", got)
		}
	}
	for uri, want := range map[string]string{
		"file:///a/b": "file:///a/b", "https://u:p@h/x": "https://h/x", "custom:x?y": "custom:x", "%zz://u:p@h?q": "h", "a#b": "a",
	} {
		if got := withoutCredentials(uri); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}

// What a client sends can't forge a field or a line.
func TestAccessLogIsNotForged(t *testing.T) {
	evil := "x\",\"status\":200}\n{\"a\":\"\xff\u2028\x00 b=c"
	r := full()
	r.MCP.Method, r.RequestID = evil, evil
	got := logged(r, JSON)
	if strings.Count(got, "\n") != 1 {
		t.Errorf("more than a line: %q", got)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(got), &fields); err != nil {
		t.Fatal(err)
	}
	if fields["status"] != 403.0 || fields["mcp.method"] != strings.ToValidUTF8(evil, "\uFFFD") {
		t.Errorf("%v", fields)
	}
	r = full()
	r.MCP.Method, r.RequestID = evil, evil
	got = logged(r, Text)
	if strings.Count(got, "\n") != 1 || !strings.Contains(got, ` mcp.method="x\",\"status`) {
		t.Errorf("text: %q", got)
	}
}

// A line reads as if log/slog had written it.
func TestAccessLogReadsAsSlog(t *testing.T) {
	values := []string{"plain", "two words", `q"uote`, "back\\slash", "new\nline", "ü", "a=b", "\u2028", "<html>&"}
	for _, v := range values {
		var b bytes.Buffer
		at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
		rec := slog.NewRecord(at, slog.LevelInfo, "request", 0)
		rec.AddAttrs(slog.String("request_id", v), slog.Int("status", 200), slog.Float64("duration_ms", 1.25), slog.Int64("bytes_received", 0), slog.Int64("bytes_sent", 3))
		record := func() *Record {
			return &Record{Start: at, RequestID: v, Status: 200, Duration: 1250 * time.Microsecond, BytesSent: 3}
		}
		if err := slog.NewTextHandler(&b, nil).Handle(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b.String(), logged(record(), Text)); diff != "" {
			t.Errorf("text (-slog +ours):\n%s", diff)
		}
		b.Reset()
		if err := slog.NewJSONHandler(&b, nil).Handle(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		var want, got map[string]any
		if err := errors.Join(json.Unmarshal(b.Bytes(), &want), json.Unmarshal([]byte(logged(record(), JSON)), &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("JSON (-slog +ours):\n%s", diff)
		}
	}
}

func TestAccessLogLimits(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc…"}, {"aü", 2, "a…"}, {"üü", 2, "ü…"}, {"", 0, ""},
	} {
		if got := clip(tt.in, tt.limit); got != tt.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
	r := full()
	r.Request.URL.Path = "/" + strings.Repeat("a", 100_000)
	r.Err = errors.New(strings.Repeat("e", 100_000))
	r.MCP.URI = strings.Repeat("u", 100_000)
	r.MCP.Method = strings.Repeat("m", 100_000)
	if n := len(logged(r, JSON)); n > 8<<10 {
		t.Errorf("a line of %d bytes", n)
	}
}

// writes counts lines, and fails on a write that is none.
type writes struct {
	t     *testing.T
	lines int
}

func (w *writes) Write(b []byte) (int, error) {
	if !bytes.HasSuffix(b, []byte("\n")) || bytes.Count(b, []byte("\n")) != 1 {
		w.t.Errorf("a write that is no line: %q", b)
	}
	w.lines++
	return len(b), nil
}

func TestEndOnce(t *testing.T) {
	w := &writes{t: t}
	m := fixed()
	a := &Account{Metrics: m, Log: NewAccessLog(w, JSON)}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			r := &Record{RequestID: fmt.Sprint(i), Status: 200}
			a.Begin(r)
			a.End(r)
			a.End(r)
		})
	}
	wg.Wait()
	if w.lines != 100 {
		t.Errorf("%d lines of 100 requests", w.lines)
	}
	got := scrape(t, m)
	for _, want := range []string{`code="200",gateway="",listener="",route=""} 100`, "mcpgw_http_requests_in_flight 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("the scrape has no %s:\n%s", want, got)
		}
	}
}

func TestEndSetsDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Record{Start: time.Now()}
		time.Sleep(time.Second)
		(&Account{}).End(r)
		if r.Duration != time.Second {
			t.Errorf("duration %v", r.Duration)
		}
	})
}

func TestContext(t *testing.T) {
	r := full()
	if FromContext(NewContext(t.Context(), r)) != r {
		t.Error("another record came back")
	}
	if FromContext(t.Context()) == nil {
		t.Error("no record without one")
	}
}

func BenchmarkAccessLog(b *testing.B) {
	r := full()
	l := NewAccessLog(io.Discard, JSON)
	b.ReportAllocs()
	for b.Loop() {
		l.write(r)
	}
}
