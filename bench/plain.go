package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/bench/internal/stats"
)

// plainPath is where the mock answers plain requests.
const plainPath = "/plain"

// plainBody is what it answers: 1 KiB of JSON.
var plainBody = []byte(`{"text":"` + strings.Repeat("a", 1<<10-11) + `"}`)

// A plainUse is what was measured of plain requests, a run each.
type plainUse struct{ cpu, allocs, rps, p50, p99 []float64 }

func servePlain(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(plainBody)))
	_, _ = w.Write(plainBody)
}

// appendPlain appends a Backend of type Static and its route.
func appendPlain(text []byte, host, port string) []byte {
	return fmt.Appendf(text, `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: plain}
spec: {type: Static, static: {hosts: [{host: %s, port: %s}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain}
spec:
  parentRefs: [{name: bench}]
  rules: [{matches: [{path: {value: %s}}], backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: plain}]}]
`, host, port, plainPath)
}

// plain measures a subject's plain requests.
func (b *bench) plain(ctx context.Context, s *subject) error {
	if !b.plainRows {
		return nil
	}
	run, err := s.start(ctx)
	if err != nil {
		return err
	}
	if run.process != nil {
		defer run.stop()
	}
	of := *run
	of.url = strings.TrimSuffix(run.url, "/mcp") + plainPath
	of.request = func(_ *h1.Conn, t h1.Target) ([]byte, error) { return t.Request("GET", nil, nil), nil }
	of.check = func(r h1.Response) error {
		if r.Status != 200 || len(r.Body) != len(plainBody) {
			return fmt.Errorf("%s: %d %.300s", plainPath, r.Status, r.Body)
		}
		return nil
	}
	closed, err := b.quiet(ctx, s, &of, 0)
	if err != nil {
		return err
	}
	open, err := b.quiet(ctx, s, &of, b.rate)
	if err != nil {
		return err
	}
	u := &s.plain
	u.cpu, u.allocs, u.rps = append(u.cpu, closed.cpu), append(u.allocs, closed.allocs), append(u.rps, closed.rps)
	u.p50, u.p99 = append(u.p50, open.p50), append(u.p99, open.p99)
	fmt.Fprintf(os.Stderr, "%-12s plain: %.0f µs CPU, %.0f allocations, %.0f/s, p99 %.0f µs\n", s.name, closed.cpu, closed.allocs, closed.rps, open.p99)
	return nil
}

// plainMeasures returns the rows of plain requests.
func (b *bench) plainMeasures(subjects []*subject) []measure {
	if !b.plainRows {
		return nil
	}
	var proxy float64
	for _, s := range subjects {
		if s.name == "proxy" {
			proxy = stats.Median(s.plain.cpu)
		}
	}
	return []measure{
		{"plain HTTP: CPU a request, µs (to proxy)", func(s *subject) string {
			v := stats.Median(s.plain.cpu)
			if v == 0 || proxy == 0 {
				return number("%.1f", v)
			}
			return fmt.Sprintf("%.1f (%.2f ×)", v, v/proxy)
		}},
		{"plain HTTP: requests a second", func(s *subject) string { return number("%.0f", stats.Median(s.plain.rps)) }},
		{"plain HTTP: allocations a request", func(s *subject) string { return number("%.1f", stats.Median(s.plain.allocs)) }},
		{fmt.Sprintf("plain HTTP: p50 and p99 at %.0f/s, µs", b.rate), func(s *subject) string {
			if len(s.plain.p50) == 0 {
				return "–"
			}
			return fmt.Sprintf("%.0f, %.0f", stats.Median(s.plain.p50), stats.Median(s.plain.p99))
		}},
	}
}
