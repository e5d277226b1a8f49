package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// TestOpenings checks the bounds on connections, at the limit.
func TestOpenings(t *testing.T) {
	var idle []net.Conn
	evicted := 0
	o := &openings{each: 2, all: 3, open: map[string]int{}}
	o.evict = func() {
		evicted++
		for _, c := range idle {
			_ = c.Close()
		}
	}
	broken := errors.New("no way")
	dial := o.bound(func(_ context.Context, _, address string) (net.Conn, error) {
		if address == "broken" {
			return nil, broken
		}
		c, other := net.Pipe()
		t.Cleanup(func() { _ = other.Close() })
		return c, nil
	})
	get := func(address string) (net.Conn, bool) {
		t.Helper()
		c, err := dial(t.Context(), "tcp", address)
		if err != nil && fault.Of(err).Code != fault.UpstreamUnreachable {
			t.Fatal(err)
		}
		return c, err == nil
	}
	a, _ := get("a")
	if _, ok := get("a"); !ok {
		t.Fatal("two to one destination")
	}
	if _, ok := get("a"); ok || evicted != 0 {
		t.Fatalf("three to one destination; %d times evicted", evicted)
	}
	if _, err := dial(t.Context(), "tcp", "broken"); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	b, ok := get("b")
	if !ok {
		t.Fatal("three in all: what could not be made does not count")
	}
	if _, ok := get("c"); ok || evicted != 1 {
		t.Fatalf("four in all; %d times evicted", evicted)
	}
	idle = []net.Conn{b}
	if _, ok := get("c"); !ok || evicted != 2 {
		t.Fatalf("idle ones go; %d times evicted", evicted)
	}
	_ = a.Close()
	_ = a.Close() // counts once
	if _, ok := get("a"); !ok {
		t.Fatal("closed ones do not count")
	}
	if _, ok := get("d"); ok {
		t.Fatal("four in all, after one was closed twice")
	}
}

// TestOpenDestination checks that requests to one host beyond the connections that it may have are answered 503, that those to
// others go on, and that they are served again afterwards.
func TestOpenDestination(t *testing.T) {
	var waiting atomic.Int64
	release := make(chan struct{})
	h := func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			waiting.Add(1)
			<-release
		}
	}
	busy, other := serve(t, h), serve(t, h)
	p := newPool(t, Options{ConnectTimeout: time.Minute, Destinations: &Destinations{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	ask := func(host, path string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://"+host+path, nil)
		proxy := &Proxy{Pool: p}
		if err := proxy.Serve(w, r); err != nil {
			proxy.WriteError(w, r, err)
		}
		_, _ = io.Copy(io.Discard, w.Body)
		return w.Code
	}
	var wait sync.WaitGroup
	var failed atomic.Int64
	for range maxOpenPerDestination {
		wait.Go(func() {
			if ask(busy, "/wait") != 200 {
				failed.Add(1)
			}
		})
	}
	becomes(t, "all connections are in use", func() bool { return waiting.Load() == maxOpenPerDestination })
	if got := ask(busy, "/"); got != 503 {
		t.Errorf("one more: %d, want 503", got)
	}
	if got := ask(other, "/"); got != 200 {
		t.Errorf("another host: %d", got)
	}
	close(release)
	wait.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d of those within the bound were not served", failed.Load())
	}
	if got := ask(busy, "/"); got != 200 {
		t.Errorf("afterwards: %d", got)
	}
}
