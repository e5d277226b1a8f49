package upstream

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// endpoints returns n endpoints that are not new.
func endpoints(n int) []*Endpoint {
	all := make([]*Endpoint, n)
	for i := range all {
		all[i] = &Endpoint{address: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)}
	}
	return all
}

// hashed returns a request with a hash, which is the n-th of many.
func hashed(t testing.TB, n int) *http.Request {
	r, err := http.NewRequestWithContext(WithHash(t.Context(), uint64(n)*0x9e3779b97f4a7c15), "GET", "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// spread returns how often each endpoint was picked in n requests.
func spread(t testing.TB, p Picker, from []*Endpoint, n int) map[*Endpoint]int {
	count := map[*Endpoint]int{}
	for i := range n {
		count[p.Pick(hashed(t, i), from)]++
	}
	return count
}

// strategies are all there are, by name.
func strategies() map[string]Strategy {
	return map[string]Strategy{
		"LeastRequest": LeastRequest{}, "LeastRequest of 5": LeastRequest{Choices: 5},
		"RoundRobin": RoundRobin{}, "Random": Random{}, "RingHash": RingHash{MinSize: 64 << 10}, "Maglev": Maglev{},
	}
}

// TestSpread checks that all endpoints get about the same, and all of it stays among those
// that are usable.
func TestSpread(t *testing.T) {
	const n = 60_000
	for name, s := range strategies() {
		t.Run(name, func(t *testing.T) {
			all := endpoints(12)
			p := s.Picker(all)
			for _, from := range [][]*Endpoint{all, all[3:9], all[:1]} {
				count := spread(t, p, from, n)
				for _, e := range from {
					want := float64(n) / float64(len(from))
					if got := float64(count[e]); math.Abs(got-want) > want/5 {
						t.Errorf("of %d endpoints, %s got %g of %d requests, want about %g", len(from), e.address, got, n, want)
					}
					delete(count, e)
				}
				if len(count) > 0 {
					t.Errorf("endpoints that can't be used were picked: %v", count)
				}
			}
		})
	}
}

// TestMinimalDisruption checks that a hash keeps its endpoint while that is there: when another
// one can't be used, when it goes, and when one comes.
func TestMinimalDisruption(t *testing.T) {
	const n = 20_000
	// Maglev trades a little disruption for an even table.
	for name, tc := range map[string]struct {
		strategy Strategy
		moves    float64 // of what need not move, at most
	}{"RingHash": {RingHash{}, 0}, "Maglev": {Maglev{}, 0.02}} {
		t.Run(name, func(t *testing.T) {
			all := endpoints(20)
			before := tc.strategy.Picker(all)
			without := append(append([]*Endpoint{}, all[:7]...), all[8:]...)
			gone := tc.strategy.Picker(without)
			moved, must := 0, 0
			for i := range n {
				was := before.Pick(hashed(t, i), all)
				left, unusable := gone.Pick(hashed(t, i), without), before.Pick(hashed(t, i), without)
				switch {
				case was == all[7]:
					must++
				case unusable != was:
					t.Fatalf("hash %d moved from %s to %s when another endpoint was ejected", i, was.address, unusable.address)
				case left != was:
					moved++
				}
			}
			if share := float64(must) / n; share < 0.03 || share > 0.07 {
				t.Errorf("the endpoint that goes had %.3f of the hashes, want about 0.05", share)
			}
			if got := float64(moved) / n; got > tc.moves {
				t.Errorf("%.4f of the hashes moved between endpoints that stay, want at most %g", got, tc.moves)
			}
		})
	}
}

// TestHashIsOrderFree checks that processes that learn of endpoints in another order pick the same.
func TestHashIsOrderFree(t *testing.T) {
	all := endpoints(9)
	other := []*Endpoint{all[4], all[8], all[0], all[2], all[6], all[1], all[7], all[3], all[5]}
	for _, s := range []Strategy{RingHash{}, Maglev{}} {
		a, b := s.Picker(all), s.Picker(other)
		for i := range 1000 {
			if x, y := a.Pick(hashed(t, i), all), b.Pick(hashed(t, i), other); x != y {
				t.Fatalf("%T: hash %d leads to %s and to %s", s, i, x.address, y.address)
			}
		}
	}
}

func TestRingSize(t *testing.T) {
	for _, tc := range []struct {
		ring      RingHash
		endpoints int
		want      int
	}{
		{RingHash{}, 3, 1536},
		{RingHash{}, 2000, 2000},
		{RingHash{MinSize: 10, MaxSize: 10}, 3, 9},
		{RingHash{MinSize: 4, MaxSize: 4}, 9, 9}, // each has one
	} {
		if got := len(tc.ring.Picker(endpoints(tc.endpoints)).(*ring).places); got != tc.want {
			t.Errorf("%+v of %d endpoints has %d places, want %d", tc.ring, tc.endpoints, got, tc.want)
		}
	}
}

func TestLeastRequestPrefersIdle(t *testing.T) {
	all := endpoints(3)
	all[2].active.Store(100)
	count := spread(t, LeastRequest{}.Picker(all), all, 3000)
	if count[all[2]] != 0 || count[all[0]] < 1200 || count[all[1]] < 1200 {
		t.Errorf("picks %v: want the loaded one never, the others alike", count)
	}
}

func TestRoundRobinIsInTurn(t *testing.T) {
	all := endpoints(4)
	p := RoundRobin{}.Picker(all)
	at := -1
	for range 40 {
		e := p.Pick(nil, all)
		for i := range all {
			if all[i] == e {
				if at >= 0 && i != (at+1)%4 {
					t.Fatalf("endpoint %d after %d", i, at)
				}
				at = i
			}
		}
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := endpoints(3)
		all[1].since = time.Now()
		slow := SlowStart{Window: 100 * time.Second, MinPercent: 10}
		const n = 30_000
		for _, step := range []struct {
			after time.Duration
			share float64 // of its full share
		}{{0, 0.1}, {50 * time.Second, 0.5}, {50 * time.Second, 1}} {
			time.Sleep(step.after)
			if got := slow.share(all[1], time.Now()); math.Abs(got-step.share) > 1e-9 {
				t.Errorf("share %g after %v, want %g", got, step.after, step.share)
			}
			for name, s := range map[string]Strategy{"RoundRobin": RoundRobin{slow}, "LeastRequest": LeastRequest{SlowStart: slow}} {
				got := float64(spread(t, s.Picker(all), all, n)[all[1]]) / (n / 3)
				// Of two that are idle, LeastRequest takes the one that is not new.
				if want := step.share; name == "RoundRobin" && math.Abs(got-want) > 0.2 || name == "LeastRequest" && step.share == 1 && got < 0.5 {
					t.Errorf("%s: the new endpoint got %.2f of its share, want %.2f", name, got, want)
				}
			}
		}
	})
}

func BenchmarkPick(b *testing.B) {
	for name, s := range strategies() {
		b.Run(name, func(b *testing.B) {
			all := endpoints(20)
			p := s.Picker(all)
			r := hashed(b, 7)
			b.ReportAllocs()
			for b.Loop() {
				p.Pick(r, all)
			}
		})
	}
}
