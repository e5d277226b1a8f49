package upstream

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFamilies checks that a name whose addresses of one family lead nowhere is served over the other's, without that
// requests wait for the time that a connection may take, and over both again once they can be connected to.
func TestFamilies(t *testing.T) {
	for _, hole := range []string{"::1", "127.0.0.1"} {
		names, _ := namesFor(t)
		address := serve(t, func(http.ResponseWriter, *http.Request) {})
		_, port, _ := net.SplitHostPort(address)
		names.Set("both.test", "127.0.0.1", "::1")
		var open atomic.Bool
		var slow, fast atomic.Int64
		dial := func(ctx context.Context, network, to string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(to)
			switch {
			case host != hole:
				fast.Add(1)
			case !open.Load():
				slow.Add(1)
				<-ctx.Done() // nothing comes back
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		p := newPool(t, Options{Dial: dial, Strategy: RoundRobin{}, MaxRequests: 1, Resolver: names.Resolver(), ResolveEvery: 5 * time.Millisecond}, "both.test:"+port)
		p.hasRoute = func(netip.Addr) bool { return true }
		p.delay = 2 * time.Second // what is there must not take longer, on a slow machine either
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		t.Cleanup(func() { cancel(); <-ended })
		becomes(t, "the name has two addresses", func() bool { return len(p.Endpoints()) == 2 })
		for range 20 {
			resp, err := p.RoundTrip(request(t, "POST", "http://both.test/", strings.NewReader("x")))
			if err != nil {
				t.Fatal(err) // only the end of the test would end it otherwise
			}
			readAll(t, resp)
		}
		used := func() int { return len(p.endpoints.Load().usable) }
		if used() != 1 || fast.Load() < 20 {
			t.Errorf("%s leads nowhere: %d addresses are used, %d connections", hole, used(), fast.Load())
		}
		open.Store(true)
		becomes(t, "both addresses are used again", func() bool { return used() == 2 })
	}
}
