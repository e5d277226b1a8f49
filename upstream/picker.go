package upstream

import (
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// A Strategy is a way to choose among endpoints. It is one of [LeastRequest], [RoundRobin],
// [Random], [RingHash] and [Maglev].
type Strategy interface {
	// Picker returns the picker of a set of endpoints, in which no address stands twice.
	Picker(all []*Endpoint) Picker
}

// A Picker chooses the endpoint for a request. It is safe for concurrent use.
type Picker interface {
	// Pick returns one of from, which is a part of the set that the Picker was made
	// for, in the same order, and never empty.
	Pick(r *http.Request, from []*Endpoint) *Endpoint
}

// A SlowStart gives a new endpoint a share that grows. The zero value gives it its full
// share at once.
type SlowStart struct {
	// Window is how long an endpoint is new.
	Window time.Duration
	// Aggression is how the share grows with time: 1 is evenly, more is faster at first.
	// 0 means 1.
	Aggression float64
	// MinPercent is the least share, 0 to 100.
	MinPercent int
}

// share returns the share of e at a time, above 0 and at most 1.
func (s *SlowStart) share(e *Endpoint, now time.Time) float64 {
	age := now.Sub(e.since)
	if age >= s.Window {
		return 1
	}
	aggression := s.Aggression
	if aggression == 0 {
		aggression = 1
	}
	// A millisecond, so that an endpoint without a least share gets requests at all.
	grown := math.Pow(float64(max(age, time.Millisecond))/float64(s.Window), 1/aggression)
	return min(1, max(grown, float64(s.MinPercent)/100))
}

// LeastRequest picks the least busy of a few endpoints chosen at random.
type LeastRequest struct {
	// Choices is how many are compared; less than 2 means 2.
	Choices   int
	SlowStart SlowStart
}

// Picker implements [Strategy].
func (l LeastRequest) Picker([]*Endpoint) Picker {
	l.Choices = max(l.Choices, 2)
	return &l
}

// Pick implements [Picker].
func (l *LeastRequest) Pick(_ *http.Request, from []*Endpoint) *Endpoint {
	if len(from) == 1 {
		return from[0]
	}
	i := rand.IntN(len(from))
	best := from[i]
	for n := 1; n < l.Choices; n++ {
		e := from[rand.IntN(len(from))]
		if l.Choices == 2 { // two that differ
			j := rand.IntN(len(from) - 1)
			if j >= i {
				j++
			}
			e = from[j]
		}
		if l.less(e, best) {
			best = e
		}
	}
	return best
}

// less reports whether a is less busy than b, for its share.
func (l *LeastRequest) less(a, b *Endpoint) bool {
	if l.SlowStart.Window <= 0 {
		return a.Active() < b.Active()
	}
	now := time.Now()
	load := func(e *Endpoint) float64 { return float64(e.Active()+1) / l.SlowStart.share(e, now) }
	return load(a) < load(b)
}

// RoundRobin picks in turn.
type RoundRobin struct{ SlowStart SlowStart }

// Picker implements [Strategy].
func (r RoundRobin) Picker([]*Endpoint) Picker {
	p := &roundRobin{slow: r.SlowStart}
	p.turn.Store(rand.Uint64()) // replicas do not all begin with the same one
	return p
}

type roundRobin struct {
	slow SlowStart
	turn atomic.Uint64
}

// Pick implements [Picker].
func (r *roundRobin) Pick(_ *http.Request, from []*Endpoint) *Endpoint {
	e := from[r.turn.Add(1)%uint64(len(from))]
	if r.slow.Window <= 0 {
		return e
	}
	now := time.Now()
	for range from { // an endpoint that is new lets a part of its turns pass
		if rand.Float64() < r.slow.share(e, now) {
			break
		}
		e = from[r.turn.Add(1)%uint64(len(from))]
	}
	return e
}

// Random picks any.
type Random struct{}

// Picker implements [Strategy].
func (Random) Picker([]*Endpoint) Picker { return random{} }

type random struct{}

// Pick implements [Picker].
func (random) Pick(_ *http.Request, from []*Endpoint) *Endpoint { return from[rand.IntN(len(from))] }
