package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/bench/internal/procfs"
)

// memory measures what idle sessions and open streams cost a subject.
func (b *bench) memory(ctx context.Context, s *subject) error {
	var err error
	if b.sessions > 0 {
		if s.session, err = b.hold(ctx, s, "sessions", b.sessions, b.openSessions); err != nil {
			return err
		}
	}
	if b.streams > 0 {
		s.stream, err = b.hold(ctx, s, "streams", b.streams, b.openStreams)
	}
	return err
}

// hold starts a subject, opens a tenth of n things to get it past what is paid
// once, then n of them, and measures the difference. open returns what closes
// them.
func (b *bench) hold(ctx context.Context, s *subject, what string, n int, open func(h1.Target, int) (func(), error)) (memoryUse, error) {
	run, err := s.start(ctx)
	if err != nil || run.process == nil {
		return memoryUse{}, err
	}
	defer run.stop()
	t, err := h1.Parse(run.url)
	if err != nil {
		return memoryUse{}, err
	}
	closeFirst, err := open(t, max(1, n/10))
	if err != nil {
		return memoryUse{}, err
	}
	defer closeFirst()
	before, err := used(ctx, run)
	if err != nil {
		return memoryUse{}, err
	}
	closeAll, err := open(t, n)
	if err != nil {
		return memoryUse{}, err
	}
	defer closeAll()
	after, err := used(ctx, run)
	if err != nil {
		return memoryUse{}, err
	}
	if b.profile != "" && s.name == "gateway" {
		if err := download(ctx, run.debug+"/debug/pprof/heap", b.profile+"."+what); err != nil {
			return memoryUse{}, err
		}
	}
	u := memoryUse{measured: true, rss: (after.rss - before.rss) / float64(n), live: (after.live - before.live) / float64(n)}
	fmt.Fprintf(os.Stderr, "%-12s %d %s: %.0f bytes each resident, %.0f live\n", s.name, n, what, u.rss, u.live)
	return u, nil
}

// used returns the memory in use by a subject, after two collections of garbage.
func used(ctx context.Context, run *running) (u memoryUse, err error) {
	if run.debug != "" {
		for range 2 {
			m, err := memStats(ctx, run.debug, true)
			if err != nil {
				return u, err
			}
			u.live = float64(m["HeapAlloc"] + m["Stack"])
		}
	}
	u.rss = float64(procfs.Tree(run.pid()).RSS)
	return u, nil
}

// openSessions makes n sessions over a few connections.
func (b *bench) openSessions(t h1.Target, n int) (func(), error) {
	return each(n, 32, func(c *h1.Conn, _ func(*h1.Conn)) error {
		_, err := openSession(c, t)
		return err
	}, t)
}

// openStreams makes n sessions, each with a GET stream on a connection of its
// own.
func (b *bench) openStreams(t h1.Target, n int) (func(), error) {
	return each(n, 32, func(c *h1.Conn, keep func(*h1.Conn)) error {
		session, err := openSession(c, t)
		if err != nil {
			return err
		}
		stream := h1.NewConn(t, 30*time.Second)
		keep(stream)
		r, err := stream.Open(t.Request("GET", headers(session, false), nil))
		if err != nil {
			return err
		}
		if r.Status != 200 || !r.SSE {
			return fmt.Errorf("GET: %d, event stream %t", r.Status, r.SSE)
		}
		return nil
	}, t)
}

// each does do n times over a number of connections at a time, which are closed
// before it returns. What do keeps, the function that it returns closes.
func each(n, conns int, do func(c *h1.Conn, keep func(*h1.Conn)) error, t h1.Target) (closeAll func(), err error) {
	var (
		mu   sync.Mutex
		kept []*h1.Conn
		errs []error
		todo = make(chan struct{})
		wg   sync.WaitGroup
	)
	keep := func(c *h1.Conn) { mu.Lock(); kept = append(kept, c); mu.Unlock() }
	for range conns {
		wg.Go(func() {
			c := h1.NewConn(t, 30*time.Second)
			defer c.Close()
			for range todo {
				if err := do(c, keep); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	wg.Wait()
	closeAll = func() {
		for _, c := range kept {
			c.Close()
		}
	}
	if len(errs) > 0 {
		closeAll()
		return nil, fmt.Errorf("%d of %d failed: %w", len(errs), n, errs[0])
	}
	return closeAll, nil
}

// memStats reads the memory statistics that net/http/pprof writes at the end of a
// heap profile, after a collection of garbage when gc is set.
func memStats(ctx context.Context, debug string, gc bool) (map[string]uint64, error) {
	url := debug + "/debug/pprof/heap?debug=1"
	if gc {
		url += "&gc=1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	stats := map[string]uint64{}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// "# Mallocs = 1234", "# Stack = 1234 / 5678"
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[0] != "#" || f[2] != "=" {
			continue
		}
		if n, err := strconv.ParseUint(f[3], 10, 64); err == nil {
			stats[f[1]] = n
		}
	}
	if stats["Mallocs"] == 0 {
		return nil, errors.Join(lines.Err(), fmt.Errorf("%s: %s, without memory statistics", url, res.Status))
	}
	return stats, lines.Err()
}
