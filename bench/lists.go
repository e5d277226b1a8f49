package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/bench/internal/stats"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// toolsEach is how many tools a target of the mock has.
const toolsEach = 10

// A listing is what was measured of tools/list over some number of targets, a run each.
type listing struct {
	cpu, rps []float64
	cold     []float64 // milliseconds of the first initialize and tools/list together
}

// targetCounts returns the numbers of targets that the options ask for.
func targetCounts(spec string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(spec, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			return nil, fmt.Errorf("%q is no number of targets from 1 to 1000", s)
		}
		out = append(out, n)
	}
	return out, nil
}

// lists measures tools/list over targets of toolsEach tools each. What is no gateway
// relays one server that lists the same bytes.
func (b *bench) lists(ctx context.Context, s *subject) error {
	for _, n := range b.targets {
		run, err := s.start(ctx)
		if err != nil {
			return err
		}
		err = b.list(ctx, s, run, n)
		if run.process != nil {
			run.stop()
		}
		if err != nil {
			return fmt.Errorf("tools/list of %d targets: %w", n, err)
		}
	}
	return nil
}

func (b *bench) list(ctx context.Context, s *subject, run *running, n int) error {
	of := *run
	of.url = strings.TrimSuffix(run.url, "/mcp") + listPath(n)
	t, err := h1.Parse(of.url)
	if err != nil {
		return err
	}
	check := func(r h1.Response) error {
		if got := bytes.Count(r.Body, []byte(`"inputSchema"`)); r.Status != 200 || got != n*toolsEach {
			return fmt.Errorf("%d, %d tools: %.300s", r.Status, got, r.Body)
		}
		return nil
	}
	began := time.Now()
	first := h1.NewConn(t, 30*time.Second)
	defer first.Close()
	request, err := listRequest(first, t)
	if err != nil {
		return err
	}
	r, err := first.Do(request)
	if err == nil {
		err = check(r)
	}
	if err != nil {
		return err
	}
	l := s.listing(n)
	l.cold = append(l.cold, float64(time.Since(began).Microseconds())/1000)
	of.request, of.check = listRequest, check
	got, err := b.quiet(ctx, s, &of, 0)
	if err != nil {
		return err
	}
	l.cpu, l.rps = append(l.cpu, got.cpu), append(l.rps, got.rps)
	fmt.Fprintf(os.Stderr, "%-12s tools/list of %d targets: %.0f µs CPU, %.0f/s, cold %.1f ms\n", s.name, n, got.cpu, got.rps, l.cold[len(l.cold)-1])
	return nil
}

// listPath is where subjects serve the tools of n targets.
func listPath(n int) string { return fmt.Sprintf("/lists/%d/mcp", n) }

// listing returns what was measured of lists of n targets.
func (s *subject) listing(n int) *listing {
	if s.listings == nil {
		s.listings = map[int]*listing{}
	}
	if s.listings[n] == nil {
		s.listings[n] = new(listing)
	}
	return s.listings[n]
}

// listRequest opens a session over c and returns the bytes of a tools/list.
func listRequest(c *h1.Conn, t h1.Target) ([]byte, error) {
	session, err := openSession(c, t)
	if err != nil {
		return nil, err
	}
	return post(t, session, protocol.AppendRequest(nil, "2", "tools/list", nil)), nil
}

// listMeasures returns the rows of lists and of the fan-out.
func (b *bench) listMeasures(subjects []*subject) []measure {
	var out []measure
	for _, n := range b.targets {
		var proxy float64
		for _, s := range subjects {
			if s.name == "proxy" {
				proxy = stats.Median(s.listing(n).cpu)
			}
		}
		out = append(out,
			measure{fmt.Sprintf("CPU a tools/list, %d targets × %d tools, µs (to proxy)", n, toolsEach), func(s *subject) string {
				v := stats.Median(s.listing(n).cpu)
				if v == 0 || proxy == 0 {
					return number("%.0f", v)
				}
				return fmt.Sprintf("%.0f (%.2f ×)", v, v/proxy)
			}},
			measure{fmt.Sprintf("first initialize and tools/list, %d targets, ms", n), func(s *subject) string {
				return number("%.1f", stats.Median(s.listing(n).cold))
			}})
	}
	if b.fanout > 0 {
		out = append(out,
			measure{fmt.Sprintf("one change to %d listeners: ms to the last", b.fanout), func(s *subject) string { return number("%.0f", stats.Median(s.fanWall)) }},
			measure{"the same: CPU a listener, µs", func(s *subject) string { return number("%.1f", stats.Median(s.fanCPU)) }})
	}
	return out
}
