package telemetry

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpgw/mcpgw/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// decided is an error that names the object whose rule denied.
type decided string

func (d decided) Error() string     { return "no Allow rule matches" }
func (d decided) DecidedBy() string { return string(d) }

// fixed returns metrics whose scrape does not depend on the machine.
func fixed() *Metrics { return NewMetrics(MetricsOptions{Version: "v1.2.3", WithoutRuntime: true}) }

// scrape returns what Prometheus gets, without the build info.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("scrape: status %d, %v", w.Code, err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(body)) {
		if !strings.Contains(line, "mcpgw_build_info{") && !strings.Contains(line, "_bucket{") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestScrape(t *testing.T) {
	m := fixed()
	a := &Account{Metrics: m}
	record := func() *Record {
		return &Record{Gateway: "ns/gw", Listener: "http", Route: "ns/mcp", Rule: "0", Backend: "ns/tools", Status: 200, Duration: 3 * time.Millisecond}
	}
	m.Catalogue("ns/tools", "files", CatalogueSize{Tools: 2, Prompts: 1, Resources: 3}, []string{"read", "write", "greet"})
	m.TargetUp("ns/tools", "files", true)
	m.TargetUp("ns/tools", "db", false)
	m.BreakerOpened("ns/tools", "db")
	m.BreakerOpened("ns/tools", "files")
	m.BreakerClosed("ns/tools", "files")
	m.Listed("ns/tools", "files", true)
	m.Listed("ns/tools", "db", false)
	m.Reloaded("abc", time.Unix(1000, 500e6))
	m.Reloaded("def", time.Unix(2000, 0))
	m.ReloadRefused()
	m.Sessions(7)
	m.StreamOpened(GetStream)
	closed := m.StreamOpened(ListenStream)
	closed()
	closed()
	m.Panic()
	m.CELError("TrafficPolicy/ns/p")

	r := record()
	r.MCP = MCP{Method: "tools/call", Target: "files", Name: "read", ProtocolVersion: "2025-11-25"}
	a.Begin(r)
	a.End(r)
	a.End(r)
	r = record()
	r.MCP = MCP{Method: "tools/call", Target: "files", Name: "read", ProtocolVersion: "2025-11-25", ToolError: true}
	a.Begin(r)
	a.End(r)
	r = record()
	r.MCP = MCP{Method: "prompts/get", Target: "files", Name: "greet", ProtocolVersion: "2026-07-28"}
	a.End(r)
	r = record()
	r.ErrorType, r.Err = fault.Denied.String(), fault.Wrap(fault.Denied, decided("TrafficPolicy/ns/p"), "authorization failed")
	r.Status = 403
	a.End(r)
	a.Begin(record()) // is being served
	r = &Record{Status: 404, ErrorType: fault.NotFound.String(), Duration: time.Millisecond}
	a.End(r)

	golden(t, "testdata/scrape.golden", scrape(t, m))
	if problems, err := testutil.GatherAndLint(m.Gatherer()); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// A client that invents names, methods, versions and errors makes no series.
func TestFloodMakesNoSeries(t *testing.T) {
	m := fixed()
	m.Catalogue("ns/b", "t", CatalogueSize{Tools: 1}, []string{"known"})
	flood := func(from, to int) {
		for i := from; i < to; i++ {
			s := fmt.Sprintf("x%d", i)
			op := MCP{Method: s, Target: "t", Name: s, ProtocolVersion: s, URI: s, ClientName: s}
			m.Operation(&Record{}, &op, s, time.Millisecond)
			op.Method = "tools/call"
			m.Operation(&Record{}, &op, "-9"+s[1:], time.Millisecond)
		}
	}
	flood(0, 1)
	count := func() int {
		n, err := testutil.GatherAndCount(m.Gatherer())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, kept := count(), len(m.calls)
	flood(1, 5000)
	if after := count(); after != before || len(m.calls) != kept {
		t.Errorf("%d series and %d handles became %d and %d", before, kept, after, len(m.calls))
	}
}

// The number of names is bounded, and names that go make room.
func TestNamesAreBounded(t *testing.T) {
	m := fixed()
	list := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("tool%d", i))
		}
		return out
	}
	called := func(target, name string) string {
		m.operations.Reset()
		m.mu.Lock()
		clear(m.calls)
		m.mu.Unlock()
		m.Operation(&Record{}, &MCP{Method: "tools/call", Target: target, Name: name}, "", time.Millisecond)
		families, err := m.Gatherer().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "mcp_server_operation_duration_seconds" {
				continue
			}
			for _, l := range f.GetMetric()[0].GetLabel() {
				if l.GetName() == "gen_ai_tool_name" {
					return l.GetValue()
				}
			}
		}
		return ""
	}
	m.Catalogue("ns/b", "big", CatalogueSize{}, list(maxNames-1))
	m.Catalogue("ns/b", "small", CatalogueSize{}, []string{"one", "two"})
	for _, tt := range []struct{ target, name, want string }{
		{"big", "tool0", "tool0"},
		{"big", fmt.Sprintf("tool%d", maxNames-2), fmt.Sprintf("tool%d", maxNames-2)},
		{"small", "one", "one"},
		{"small", "two", Other},
		{"big", "one", Other},
	} {
		if got := called(tt.target, tt.name); got != tt.want {
			t.Errorf("%s/%s: label %q, want %q", tt.target, tt.name, got, tt.want)
		}
	}
	m.Catalogue("ns/b", "big", CatalogueSize{}, list(1))
	m.Catalogue("ns/b", "small", CatalogueSize{}, []string{"one", "two"})
	if got := called("small", "two"); got != "two" {
		t.Errorf("after room was made: label %q", got)
	}
	m.Catalogue("ns/other", "small", CatalogueSize{}, []string{"one"})
	m.TargetGone("ns/b", "small")
	if got := called("small", "one"); got != "one" {
		t.Errorf("a name that another backend has: label %q", got)
	}
	m.TargetGone("ns/other", "small")
	if got := called("small", "one"); got != Other {
		t.Errorf("a name that nobody has: label %q", got)
	}
}

// What callers see in private adds up, and goes with the target.
func TestPrivateNames(t *testing.T) {
	m := fixed()
	m.PrivateNames("ns/b", "t", []string{"one", "two"})
	m.PrivateNames("ns/b", "t", []string{"two", "three"})
	for _, s := range []string{"one", "two", "three"} {
		if !m.names.has("t", s) {
			t.Errorf("%s is not known", s)
		}
	}
	if got := scrape(t, m); strings.Contains(got, "mcpgw_mcp_catalogue") && strings.Contains(got, `target="t"`) {
		t.Errorf("a total of private lists:\n%s", got)
	}
	for i := range maxNames {
		m.PrivateNames("ns/b", "t", []string{fmt.Sprintf("tool%d", i)})
	}
	if n := len(m.names.known); n != maxNames {
		t.Errorf("%d names, want %d", n, maxNames)
	}
	m.TargetGone("ns/b", "t")
	if n := len(m.names.known) + len(m.names.owned); n != 0 {
		t.Errorf("%d names are left", n)
	}
}

// The series of a tool that goes, go.
func TestForget(t *testing.T) {
	m := fixed()
	m.Catalogue("ns/b", "t", CatalogueSize{Tools: 1}, []string{"gone"})
	m.TargetUp("ns/b", "t", true)
	m.BreakerOpened("ns/b", "t")
	m.Listed("ns/b", "t", true)
	m.Operation(&Record{}, &MCP{Method: "tools/call", Target: "t", Name: "gone"}, "", time.Millisecond)
	m.TargetGone("ns/b", "t")
	if got := scrape(t, m); strings.Contains(got, "gone") || strings.Contains(got, `target="t"`) {
		t.Errorf("the scrape still has it:\n%s", got)
	}
	m.Catalogue("ns/b", "t", CatalogueSize{Tools: 1}, []string{"gone"})
	m.Operation(&Record{}, &MCP{Method: "tools/call", Target: "t", Name: "gone"}, "", time.Millisecond)
	if got := scrape(t, m); !strings.Contains(got, `gen_ai_tool_name="gone"`) {
		t.Errorf("a name that came back is not counted:\n%s", got)
	}
}

func TestNilMetrics(t *testing.T) {
	var m *Metrics
	m.Denied("", "")
	m.Panic()
	m.CELError("")
	m.Reloaded("", time.Time{})
	m.ReloadRefused()
	m.Catalogue("", "", CatalogueSize{}, nil)
	m.TargetUp("", "", true)
	m.BreakerOpened("", "")
	m.BreakerClosed("", "")
	m.Listed("", "", true)
	m.TargetGone("", "")
	m.Sessions(1)
	m.StreamOpened(GetStream)()
	m.Operation(&Record{}, &MCP{}, "", 0)
	(&Account{}).End(&Record{Err: errors.New("x")})
}

func BenchmarkEnd(b *testing.B) {
	m := fixed()
	m.Catalogue("ns/tools", "files", CatalogueSize{Tools: 1}, []string{"read"})
	req := httptest.NewRequest("POST", "http://h/mcp", nil)
	for _, bb := range []struct {
		name string
		a    Account
	}{{"metrics", Account{Metrics: m}}, {"metrics and log", Account{Metrics: m, Log: NewAccessLog(io.Discard, JSON)}}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := Record{Start: time.Now(), Request: req, RequestID: "id", Gateway: "ns/gw", Listener: "http", Route: "ns/mcp", Rule: "0", Backend: "ns/tools", Status: 200, Principal: "anonymous",
					MCP: MCP{Method: "tools/call", Target: "files", Name: "read", ClientName: "files_read", ProtocolVersion: "2025-11-25", Era: "legacy"}}
				bb.a.Begin(&r)
				bb.a.End(&r)
			}
		})
	}
}
