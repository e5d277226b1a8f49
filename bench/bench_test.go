package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof" // what memStats reads
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
)

// TestMock lets a client of go-sdk use the mock.
func TestMock(t *testing.T) {
	srv := httptest.NewServer(newMock())
	defer srv.Close()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: srv.URL + "/mcp", DisableStandaloneSSE: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 10 {
		t.Fatalf("%+v, %v", tools, err)
	}
	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tools.Tools[3].Name})
	if err != nil || res.IsError || len(res.Content) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}

// TestLoads runs both loads against the mock, and one against a server whose
// answers are wrong: that is an error, never a fast answer.
func TestLoads(t *testing.T) {
	good := httptest.NewServer(newMock())
	defer good.Close()
	b := &bench{options: &options{seconds: 1, conns: 2}}
	for _, rate := range []float64{0, 2000} {
		r, err := b.load(t.Context(), &running{url: good.URL + "/mcp"}, rate)
		if err != nil || r.rps <= 0 || r.p50 <= 0 {
			t.Errorf("rate %v: %+v, %v", rate, r, err)
		}
	}
	mock := newMock()
	mock.call = []byte(`{"isError":true,"content":[]}`)
	bad := httptest.NewServer(mock)
	defer bad.Close()
	if _, err := b.load(t.Context(), &running{url: bad.URL + "/mcp"}, 0); err == nil || !strings.Contains(err.Error(), "isError") {
		t.Errorf("error is %v", err)
	}
}

// TestLists lists what the mock has in place of N targets, and hears of its changes.
func TestLists(t *testing.T) {
	srv := httptest.NewServer(newMock())
	t.Cleanup(srv.Close)
	b := &bench{options: &options{seconds: 0.2, conns: 2, retries: 1, targets: []int{1, 3}, fanout: 40}, mockAddr: strings.TrimPrefix(srv.URL, "http://")}
	s := &subject{name: "direct", start: func(context.Context) (*running, error) { return &running{url: srv.URL + "/mcp"}, nil }}
	if err := b.lists(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, n := range b.targets {
		if l := s.listing(n); len(l.rps) != 1 || l.rps[0] <= 0 || l.cold[0] <= 0 {
			t.Errorf("%d targets: %+v", n, l)
		}
	}
	if err := b.fan(t.Context(), s); err != nil || len(s.fanWall) != fanRounds {
		t.Errorf("%v, %v", s.fanWall, err)
	}
	b.targets = []int{2}
	s.start = func(context.Context) (*running, error) { return &running{url: srv.URL + "/lists/9/mcp"}, nil }
	if err := b.lists(t.Context(), s); err == nil || !strings.Contains(err.Error(), "10 tools") {
		t.Errorf("a list of the wrong length: %v", err)
	}
}

// TestModels asks the mock for each kind of answer, and one that answers something else.
func TestModels(t *testing.T) {
	srv := httptest.NewServer(newMock())
	t.Cleanup(srv.Close)
	b := &bench{options: &options{rounds: 1, seconds: 0.2, conns: 2, rate: 500, retries: 1, modelRows: true}}
	s := &subject{name: "direct", start: func(context.Context) (*running, error) { return &running{url: srv.URL + "/mcp"}, nil }}
	if err := b.models(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for i, c := range modelCases {
		if u := s.modelUses[i]; len(u.rps) != 1 || u.rps[0] <= 0 || (len(u.first) == 1 && u.first[0] > 0) != c.stream {
			t.Errorf("%s: %+v", c.name, u)
		}
	}
	if rows := b.modelMeasures([]*subject{s}); len(rows) != 13+len(largeCases) {
		t.Errorf("%d rows", len(rows))
	}
	s.start = func(context.Context) (*running, error) { return &running{url: srv.URL + "/other/mcp"}, nil }
	s.name = "gateway" // whose paths the mock does not have
	if err := b.models(t.Context(), s); err == nil {
		t.Error("another answer is one")
	}
}

// TestPlain asks the mock plainly, and where it answers something else.
func TestPlain(t *testing.T) {
	srv := httptest.NewServer(newMock())
	t.Cleanup(srv.Close)
	b := &bench{options: &options{rounds: 1, seconds: 0.2, conns: 2, rate: 500, retries: 1, plainRows: true}}
	s := &subject{name: "proxy", start: func(context.Context) (*running, error) { return &running{url: srv.URL + "/mcp"}, nil }}
	if err := b.plain(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if u := s.plain; len(u.rps) != 1 || u.rps[0] <= 0 || u.p99[0] < u.p50[0] || u.p50[0] <= 0 {
		t.Errorf("%+v", u)
	}
	if rows := b.plainMeasures([]*subject{s}); len(rows) != 4 {
		t.Errorf("%d rows", len(rows))
	}
	s.start = func(context.Context) (*running, error) { return &running{url: srv.URL + "/other/mcp"}, nil }
	if err := b.plain(t.Context(), s); err == nil {
		t.Error("another answer is one")
	}
}

// TestHold opens sessions and streams at the mock and closes them.
func TestHold(t *testing.T) {
	srv := httptest.NewServer(newMock())
	target, err := h1.Parse(srv.URL + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	for _, open := range []func(h1.Target, int) (func(), error){b.openSessions, b.openStreams} {
		closeAll, err := open(target, 40)
		if err != nil {
			t.Fatal(err)
		}
		closeAll()
	}
	srv.Close() // which waits for the streams
	if _, err := b.openSessions(target, 3); err == nil {
		t.Error("sessions at a server that is gone")
	}
}

func TestMemStats(t *testing.T) {
	srv := httptest.NewServer(http.DefaultServeMux)
	defer srv.Close()
	m, err := memStats(t.Context(), srv.URL, true)
	if err != nil || m["Mallocs"] == 0 || m["HeapAlloc"] == 0 || m["Stack"] == 0 {
		t.Errorf("%v, %v", m, err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	if m, err := memStats(t.Context(), other.URL, false); err == nil {
		t.Errorf("%v", m)
	}
}

func TestProxyRole(t *testing.T) {
	upstream := httptest.NewServer(newMock())
	defer upstream.Close()
	ctx, cancel := context.WithCancel(t.Context())
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- runProxy(ctx, []string{"-addr", addr, "-debug", "127.0.0.1:0", "-upstream", upstream.URL})
	}()
	target, err := h1.Parse("http://" + addr + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	c := h1.NewConn(target, time.Minute)
	for _, err = openSession(c, target); err != nil && t.Context().Err() == nil; _, err = openSession(c, target) {
	} // until it listens
	c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	t.Setenv("BENCH_ROUNDS", "3")
	t.Setenv("BENCH_ONLY", "nginx")
	o, err := parse([]string{"-only", "proxy,gateway"})
	if err != nil || o.rounds != 3 || o.only != "proxy,gateway" || o.sessions != 10_000 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse([]string{"-lists", "1, 20"}); err != nil || !slices.Equal(o.targets, []int{1, 20}) {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parse([]string{"-lists", "ten"}); err == nil {
		t.Error("ten is a number of targets")
	}
	if _, err := parse([]string{"-rounds", "0"}); err == nil {
		t.Error("no rounds are accepted")
	}
	t.Setenv("BENCH_SECONDS", "x")
	if _, err := parse(nil); err == nil || !strings.Contains(err.Error(), "BENCH_SECONDS") {
		t.Errorf("error is %v", err)
	}
}

func TestPrint(t *testing.T) {
	subjects := []*subject{
		{name: "direct", p50: []float64{100, 110, 90}, rps: []float64{5}, foreign: []float64{0.5}},
		{name: "nginx", cpu: []float64{50}, p50: []float64{150}, p99: []float64{1500}, session: memoryUse{measured: true, rss: 8}},
		{name: "proxy", cpu: []float64{100, 1, 1000}, p50: []float64{200}, allocs: []float64{95.5}, session: memoryUse{true, 4000, 100}, stream: memoryUse{true, 60_000, 50_000}},
	}
	var out strings.Builder
	*subjects[0].listing(10) = listing{cold: []float64{1.5}}
	*subjects[1].listing(10) = listing{cpu: []float64{40}, cold: []float64{2, 3, 4}}
	*subjects[2].listing(10) = listing{cpu: []float64{80}, cold: []float64{2}}
	subjects[1].fanWall, subjects[1].fanCPU = []float64{100, 200, 300}, []float64{9.5}
	(&bench{options: &options{rounds: 3, seconds: 1, conns: 32, rate: 500, sessions: 10, streams: 20, targets: []int{10}, fanout: 50}}).print(&out, subjects)
	const want = `tools/call over legacy sessions, medians of 3 interleaved rounds of 1s, not pinned.

|  | direct | nginx | proxy |
| --- | ---: | ---: | ---: |
| CPU a call, c=32, µs (to proxy) | – | 50.0 (0.50 ×) | 100.0 (1.00 ×) |
| calls a second | 5 | – | – |
| allocations a call | – | – | 95.5 |
| p50 at 500/s, µs (added) | 100 | 150 (+50) | 200 (+100) |
| p99 at 500/s, µs | – | 1500 | – |
| session id sealed, and opened, µs | – | – | – |
| idle session, of 10: resident bytes (live) | – | 8 | 4000 (100) |
| GET stream, of 20: resident bytes (live) | – | – | 60000 (50000) |
| CPU a tools/list, 10 targets × 10 tools, µs (to proxy) | – | 40 (0.50 ×) | 80 (1.00 ×) |
| first initialize and tools/list, 10 targets, ms | 1.5 | 3.0 | 2.0 |
| one change to 50 listeners: ms to the last | – | 200 | – |
| the same: CPU a listener, µs | – | 9.5 | – |
| processors held by other work | 0.50 | 0.00 | 0.00 |
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTokenTimes(t *testing.T) {
	seal, open, err := tokenTimes()
	if err != nil || seal <= 0 || open <= 0 {
		t.Errorf("%v, %v, %v", seal, open, err)
	}
}
