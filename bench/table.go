package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/bench/internal/stats"
)

// print writes a Markdown table of medians over the rounds, with what they are
// relative to the reverse proxy.
func (b *bench) print(out io.Writer, subjects []*subject) {
	pinned := "not pinned"
	if b.pinned {
		pinned = "load and mock on one processor, the subject on another"
	}
	fmt.Fprintf(out, "tools/call over legacy sessions, medians of %d interleaved rounds of %v, %s.\n\n", b.rounds, b.measured(), pinned)
	line := func(cells ...string) { fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | ")) }
	head, rule := []string{""}, []string{"---"}
	for _, s := range subjects {
		head, rule = append(head, s.name), append(rule, "---:")
	}
	line(head...)
	line(rule...)
	for _, m := range b.measures(subjects) {
		cells := []string{m.name}
		for _, s := range subjects {
			cells = append(cells, m.cell(s))
		}
		line(cells...)
	}
}

// A measure is one row of the table.
type measure struct {
	name string
	cell func(*subject) string
}

// measures returns the rows of the table.
func (b *bench) measures(subjects []*subject) []measure {
	median := func(name string, of func(*subject) []float64) float64 {
		i := slices.IndexFunc(subjects, func(s *subject) bool { return s.name == name })
		if i < 0 {
			return 0
		}
		return stats.Median(of(subjects[i]))
	}
	cpu := func(s *subject) []float64 { return s.cpu }
	p50 := func(s *subject) []float64 { return s.p50 }
	proxy, direct := median("proxy", cpu), median("direct", p50)
	measures := []measure{
		{fmt.Sprintf("CPU a call, c=%d, µs (to proxy)", b.conns), func(s *subject) string {
			v := stats.Median(s.cpu)
			if v == 0 || proxy == 0 {
				return number("%.1f", v)
			}
			return fmt.Sprintf("%.1f (%.2f ×)", v, v/proxy)
		}},
		{"calls a second", func(s *subject) string { return number("%.0f", stats.Median(s.rps)) }},
		{"allocations a call", func(s *subject) string { return number("%.1f", stats.Median(s.allocs)) }},
		{fmt.Sprintf("p50 at %.0f/s, µs (added)", b.rate), func(s *subject) string {
			v := stats.Median(s.p50)
			if s.name == "direct" || direct == 0 {
				return number("%.0f", v)
			}
			return fmt.Sprintf("%.0f (%+.0f)", v, v-direct)
		}},
		{fmt.Sprintf("p99 at %.0f/s, µs", b.rate), func(s *subject) string { return number("%.0f", stats.Median(s.p99)) }},
		{"session id sealed, and opened, µs", func(s *subject) string {
			if s.name != "gateway" || b.seal == 0 {
				return "–"
			}
			return fmt.Sprintf("%.2f, %.2f", b.seal, b.open)
		}},
		{fmt.Sprintf("idle session, of %d: resident bytes (live)", b.sessions), func(s *subject) string { return s.session.String() }},
		{fmt.Sprintf("GET stream, of %d: resident bytes (live)", b.streams), func(s *subject) string { return s.stream.String() }},
	}
	measures = append(measures, b.plainMeasures(subjects)...)
	measures = append(measures, b.listMeasures(subjects)...)
	measures = append(measures, b.modelMeasures(subjects)...)
	return append(measures, measure{"processors held by other work", func(s *subject) string { return fmt.Sprintf("%.2f", stats.Median(s.foreign)) }})
}

// number formats v, which is absent when it is zero.
func number(format string, v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// String returns the bytes, without live ones of a program that tells of none.
func (u memoryUse) String() string {
	switch {
	case !u.measured:
		return "–"
	case u.live == 0:
		return fmt.Sprintf("%.0f", u.rss)
	default:
		return fmt.Sprintf("%.0f (%.0f)", u.rss, u.live)
	}
}
