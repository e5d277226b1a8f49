package federation

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
)

// Callers whose targets list the same share the merged list, and those for whom the
// rules decide alike the bytes of its pages.
func TestMergedIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newVirtual("a", 60_000, "x", "y", "z"), newVirtual("b", 60_000, "x")
		l := newLab(t, Config{ForwardHeaders: []string{"X-Tenant"}, PageSize: 2}, a, b)
		defer l.stop()
		l.rules = policy.NewRules([]policy.RuleSet{rule(t, policy.Deny, `mcp.tool.name == 'y' && request.headers['x-team'] == 'red'`)})
		var first string
		distinct := map[*merged]bool{}
		pages := map[*excerpt]bool{}
		for i := range 50 {
			team := []string{"red", "blue"}[i%2]
			got := l.send("tools/list", "", "", "X-Tenant", fmt.Sprint(i), "X-Team", team)
			want := map[string]string{"red": `"a_x"..."a_z"...`, "blue": `"a_x"..."a_y"...`}[team]
			for part := range strings.SplitSeq(want, "...") {
				if !strings.Contains(got, part) {
					t.Fatalf("%s gets %s", team, got)
				}
			}
			if strings.Contains(got, `"a_y"`) == (team == "red") || !strings.Contains(got, `"nextCursor"`) {
				t.Fatalf("%s gets %s", team, got)
			}
			if first == "" {
				first = got
			}
		}
		for _, v := range l.backend.views.Values() {
			m := v.merged[tools].Load().Value()
			distinct[m] = true
			for _, s := range m.shown {
				for _, p := range s.pages {
					pages[p.Value()] = true
				}
			}
		}
		if len(distinct) != 1 || len(pages) != 2 || l.backend.views.Len() != 50 {
			t.Errorf("%d merged lists and %d pages for %d callers", len(distinct), len(pages), l.backend.views.Len())
		}
	})
}

// What is kept beside the lists has a bound, beyond which the oldest goes; what is gone
// is made anew.
func TestKeeper(t *testing.T) {
	k := keeper{max: 100}
	k.keep("too large", 51)
	for i := range 10 {
		k.keep(i, 20)
	}
	if k.size != 100 || len(k.queue) != 5 || k.queue[0].what != 5 {
		t.Errorf("%d bytes, %v", k.size, k.queue)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, Config{}, newVirtual("a", 60_000, "x"))
		defer l.stop()
		l.hub.keeper.max = 0
		for range 3 {
			if names, _ := l.tools(); len(names) != 1 {
				t.Error(names)
			}
			runtime.GC()
		}
	})
}

// listing returns what serves a list of targets with tools each, and what makes the next one cold, for benchmarks of what a
// list costs.
func listing(b *testing.B, targets, tools int, rules ...policy.RuleSet) (serve func(), cold func()) {
	var list []string
	for i := range tools {
		list = append(list, fmt.Sprintf(`{"name":"tool%d","description":"does something with its arguments, and says nothing else of note about itself in this text of the usual length","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}`, i))
	}
	sealer, _ := session.NewSealer()
	h := NewHub(HubOptions{Sealer: sealer, Sessions: session.NewSessions(session.SessionsOptions{Sealer: sealer})})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	cfg := Config{Name: "default/bench", PageSize: 100_000}
	for i := range targets {
		cfg.Targets = append(cfg.Targets, session.TargetConfig{Backend: cfg.Name, Name: fmt.Sprintf("t%d", i), Transport: session.StreamableHTTP,
			URL: "http://target/mcp", RoundTripper: canned{strings.Join(list, ",")}, Identity: fmt.Sprint(i)})
	}
	l := &lab{hub: h, backend: h.Backend(cfg), rules: policy.NewRules(rules)}
	h.Commit([]*Backend{l.backend})
	serve = func() {
		p := &sized{header: http.Header{}}
		l.serveTo(context.Background(), p, "tools/list", "", "")
		if p.size < targets*tools*100 && len(rules) == 0 {
			b.Fatalf("%d bytes", p.size)
		}
	}
	cold = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.entries.Purge()
	}
	serve()
	return serve, cold
}

// A sized takes an answer and keeps its length.
type sized struct {
	header http.Header
	size   int
}

func (s *sized) Header() http.Header         { return s.header }
func (s *sized) WriteHeader(int)             {}
func (s *sized) Write(b []byte) (int, error) { s.size += len(b); return len(b), nil }

// BenchmarkLists lists from memory, under 20 rules that ask the caller and the tool
// something each, and from the targets.
func BenchmarkLists(b *testing.B) {
	var expressions []string
	for i := range 20 {
		expressions = append(expressions, fmt.Sprintf(`request.headers['x-team'] == 'team%d' || mcp.tool.name.startsWith('tool%d')`, i, i))
	}
	for _, size := range []struct{ targets, tools int }{{1, 10}, {10, 10}, {100, 10}, {100, 100}} {
		name := fmt.Sprintf("%dx%d", size.targets, size.tools)
		b.Run(name+"/warm", func(b *testing.B) {
			serve, _ := listing(b, size.targets, size.tools)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
		b.Run(name+"/rules", func(b *testing.B) {
			serve, _ := listing(b, size.targets, size.tools, rule(b, policy.Allow, expressions...))
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
		b.Run(name+"/comparing", func(b *testing.B) {
			serve, _ := listing(b, size.targets, size.tools, rule(b, policy.Deny, `mcp.tool.name == request.headers['x-team']`))
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
		b.Run(name+"/cold", func(b *testing.B) {
			serve, cold := listing(b, size.targets, size.tools)
			b.ReportAllocs()
			for b.Loop() {
				cold()
				serve()
			}
		})
	}
}
