package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/bench/internal/procfs"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// fanRounds is how many changes are announced to one set of listeners.
const fanRounds = 5

const listen = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{"` +
	protocol.MetaProtocolVersion + `":"` + protocol.LatestModern + `","` + protocol.MetaClientCapabilities + `":{}}}}`

// listenRequest returns the bytes of a subscriptions/listen.
func listenRequest(t h1.Target) []byte {
	return t.Request("POST", []string{
		"Accept: application/json, text/event-stream", "Content-Type: application/json",
		protocol.HeaderProtocolVersion + ": " + protocol.LatestModern, protocol.HeaderMethod + ": subscriptions/listen",
	}, []byte(listen))
}

// fans runs fan until it succeeds, at most as often as the options say: on a machine
// without time a stream of thousands may break.
func (b *bench) fans(ctx context.Context, s *subject) (err error) {
	for range b.retries {
		s.fanWall, s.fanCPU = nil, nil
		if err = b.fan(ctx, s); err == nil || ctx.Err() != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "%-12s a change to %d listeners: %v\n", s.name, b.fanout, err)
	}
	return err
}

// fan opens listeners and measures how long it takes until all of them hear that the
// tools of a target changed. What is no gateway relays a stream of the server for each.
func (b *bench) fan(ctx context.Context, s *subject) error {
	run, err := s.start(ctx)
	if err != nil {
		return err
	}
	if run.process != nil {
		defer run.stop()
	}
	t, err := h1.Parse(strings.TrimSuffix(run.url, "/mcp") + "/fan/mcp")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var streams []*h1.Conn
	closeAll, err := each(b.fanout, 32, func(_ *h1.Conn, keep func(*h1.Conn)) error {
		c := h1.NewConn(t, 60*time.Second)
		keep(c)
		r, err := c.Open(listenRequest(t))
		if err != nil || r.Status != 200 || !r.SSE {
			return errors.Join(err, fmt.Errorf("subscriptions/listen: %d, event stream %t", r.Status, r.SSE))
		}
		mu.Lock()
		defer mu.Unlock()
		streams = append(streams, c)
		return c.Await("acknowledged", time.Now().Add(30*time.Second))
	}, t)
	if err != nil {
		return err
	}
	defer closeAll()
	// Somebody lists, or there is nothing that could change.
	first := h1.NewConn(t, 30*time.Second)
	defer first.Close()
	request, err := listRequest(first, t)
	if err != nil {
		return err
	}
	for range fanRounds {
		if _, err := first.Do(request); err != nil {
			return err
		}
		wall, cpu, err := b.announce(ctx, run, streams)
		if err != nil {
			return err
		}
		s.fanWall = append(s.fanWall, float64(wall.Microseconds())/1000)
		s.fanCPU = append(s.fanCPU, float64(cpu.Microseconds())/float64(len(streams)))
	}
	fmt.Fprintf(os.Stderr, "%-12s a change to %d listeners: %.0f ms, %.1f µs CPU each\n", s.name, len(streams), s.fanWall, s.fanCPU)
	return nil
}

// announce changes the tools of the mock and waits until all streams say so.
func (b *bench) announce(ctx context.Context, run *running, streams []*h1.Conn) (wall, cpu time.Duration, err error) {
	used := func() time.Duration {
		if run.process == nil {
			return 0
		}
		return procfs.Tree(run.pid()).CPU
	}
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	before, deadline := used(), time.Now().Add(30*time.Second)
	for i, c := range streams {
		wg.Go(func() { errs[i] = c.Await("tools/list_changed", deadline) })
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.mockAddr+"/announce", nil)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	_ = res.Body.Close()
	wg.Wait()
	wall = time.Since(began)
	select { // what ends the work is not what the last listener waits for
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
	}
	return wall, used() - before, errors.Join(errs...)
}
