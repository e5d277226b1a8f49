package upstream

import (
	"fmt"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// zoned returns a pool with endpoints in zones: an address is the letter of its zone and a number. Those of down are ejected.
func zoned(strategy Strategy, panicPercent int, sizes, down map[string]int) *Pool {
	p := NewPool(Options{Strategy: strategy, ByZone: true, PanicPercent: &panicPercent, Logger: slog.New(slog.DiscardHandler)})
	zones := map[string]string{}
	var addresses []string
	for z, n := range sizes {
		for i := range n {
			a := fmt.Sprintf("%s%d:80", z, i)
			zones[a] = z
			addresses = append(addresses, a)
		}
	}
	p.SetZones(zones)
	p.SetEndpoints(addresses...)
	p.mu.Lock()
	defer p.mu.Unlock()
	for z, n := range down {
		for i := range n {
			find(p.Endpoints(), fmt.Sprintf("%s%d:80", z, i)).unhealthy = true
		}
	}
	p.merge()
	return p
}

// shareOfZone returns which share of many requests a zone gets, and fails for what can't be used.
func shareOfZone(t *testing.T, p *Pool, zone byte) float64 {
	t.Helper()
	const n = 20_000
	got := 0
	for i := range n {
		e, err := p.pick(hashed(t, i), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if e.unhealthy && len(p.endpoints.Load().shares) > 0 {
			t.Fatalf("%s was picked", e.address)
		}
		if e.address[0] == zone {
			got++
		}
	}
	return float64(got) / n
}

// TestZones has the table of Envoy's documentation (locality weighted load balancing), with endpoints in place of weights, for all
// strategies.
func TestZones(t *testing.T) {
	sizes := map[string]int{"x": 100, "y": 200}
	for name, s := range strategies() {
		t.Run(name, func(t *testing.T) {
			for _, tc := range []struct {
				down int // of x
				want float64
			}{{0, 0.333}, {30, 0.329}, {31, 0.326}, {50, 0.259}, {75, 0.149}, {100, 0}} {
				p := zoned(s, 0, sizes, map[string]int{"x": tc.down})
				if got := shareOfZone(t, p, 'x'); math.Abs(got-tc.want) > 0.02 {
					t.Errorf("%d of 100 down: %.3f of the requests, want %.3f", tc.down, got, tc.want)
				}
			}
		})
	}
}

// TestZonesInPanic checks that zones do not count while all endpoints are used.
func TestZonesInPanic(t *testing.T) {
	sizes, down := map[string]int{"x": 10, "y": 10}, map[string]int{"x": 9, "y": 2}
	if got := shareOfZone(t, zoned(Random{}, 50, sizes, down), 'x'); math.Abs(got-0.5) > 0.02 {
		t.Errorf("in panic x gets %.3f", got)
	}
	if got := shareOfZone(t, zoned(Random{}, 40, sizes, down), 'x'); math.Abs(got-0.14/1.14) > 0.02 {
		t.Errorf("without panic x gets %.3f", got)
	}
}

// TestZonesKeep checks that a hash keeps its endpoint while the weights of its zones change: what moves is what one
// zone loses to others, and what the endpoints had that are gone.
func TestZonesKeep(t *testing.T) {
	sizes := map[string]int{"x": 10, "y": 10, "z": 10}
	before := zoned(RingHash{}, 0, sizes, nil)
	after := zoned(RingHash{}, 0, sizes, map[string]int{"x": 5})
	for i := range 20_000 {
		r := hashed(t, i)
		a, _ := before.pick(r, nil, nil)
		b, _ := after.pick(r, nil, nil)
		if stays := a.address == b.address; !stays && a.address[0] != 'x' {
			t.Fatalf("%s moved to %s", a.address, b.address)
		}
	}
}

// TestZonesUnknown checks that zones count only where there are several, what is not known being one, and that they may be
// told after the endpoints.
func TestZonesUnknown(t *testing.T) {
	p := NewPool(Options{ByZone: true}, "a:1", "b:1", "c:1")
	zones := func() (names []string) {
		for _, s := range p.endpoints.Load().shares {
			names = append(names, s.name)
		}
		return names
	}
	if got := zones(); got != nil {
		t.Errorf("without zones: %q", got)
	}
	p.SetZones(map[string]string{"a:1": "n", "b:1": "n"})
	if got := fmt.Sprintf("%q", zones()); got != `["" "n"]` {
		t.Errorf("two in a zone, one in none: %s", got)
	}
	p.SetEndpoints("a:1", "b:1")
	if got := zones(); got != nil {
		t.Errorf("one zone is left: %q", got)
	}
	other := NewPool(Options{}, "a:1", "b:1")
	other.SetZones(map[string]string{"a:1": "n"})
	if other.endpoints.Load().shares != nil {
		t.Error("a pool that was not asked to counts zones")
	}
}

// TestMergeWindow checks when changes take effect: the first at once, those after it together at the end of the window, and with
// endpoints that come or go.
func TestMergeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(Options{MergeWindow: time.Second, PanicPercent: new(0), Logger: slog.New(slog.DiscardHandler)}, "a:1", "b:1", "c:1", "d:1")
		change := func(address string, unhealthy bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			find(p.endpoints.Load().all, address).unhealthy = unhealthy
			p.merge()
		}
		want := func(when, want string) {
			t.Helper()
			synctest.Wait()
			got := ""
			for _, e := range p.endpoints.Load().usable {
				got += e.address[:1]
			}
			if got != want {
				t.Errorf("%s: %s are usable, want %s", when, got, want)
			}
		}
		change("a:1", true)
		want("the first change", "bcd")
		time.Sleep(300 * time.Millisecond)
		change("b:1", true)
		time.Sleep(300 * time.Millisecond)
		change("c:1", true)
		want("in the window", "bcd")
		time.Sleep(399 * time.Millisecond)
		want("at its end", "bcd")
		time.Sleep(time.Millisecond)
		want("after it", "d")
		change("a:1", false)
		want("in the next window, which began with the change", "d")
		time.Sleep(time.Second)
		want("after that", "ad")
		time.Sleep(5 * time.Second)
		change("b:1", false)
		want("later, at once", "abd")
		change("c:1", false)
		want("in a window", "abd")
		p.SetEndpoints("a:1", "b:1", "c:1", "d:1", "e:1")
		want("an endpoint that comes takes it along", "abcde")
		change("e:1", true)
		p.SetEndpoints("a:1", "e:1")
		want("so does one that goes", "a")
		time.Sleep(5 * time.Second)
		want("nothing is left to do", "a")
	})
}
