package llm

import (
	"sync"
	"sync/atomic"
	"time"
)

// How long a provider is left out after a failure.
const (
	limited    = 30 * time.Second // rate limited, without a hint for how long
	maxLimited = 10 * time.Minute // whatever the hint
	outBase    = 3 * time.Second  // times how often it was left out in a row
	maxOut     = 5 * time.Minute
	inARow     = 3 // answers of 5xx before it is left out
)

// Health is what is known of a provider from the requests that were sent to it. The zero
// Health is good. It is safe for concurrent use.
type Health struct {
	active atomic.Int64 // requests under way

	mu     sync.Mutex
	failed int       // in a row, since it was last left out
	out    int       // times it was left out since it last answered
	until  time.Time // it is left out
	probed time.Time // since then one request finds out whether it is back

	catalogue catalogue
}

// probeTime is how long a request that finds out may take before another may, too.
const probeTime = 30 * time.Second

// available reports whether requests may be sent to the provider.
func (h *Health) available(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !now.Before(h.until) && now.Sub(h.probed) >= probeTime
}

// claim is available, for a request that is sent now: of a provider that was left out
// it lets one through at a time.
func (h *Health) claim(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.until) || now.Sub(h.probed) < probeTime {
		return false
	}
	if h.out > 0 {
		h.probed = now
	}
	return true
}

// returns says until when the provider is left out.
func (h *Health) returns() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until
}

// answered notes that the provider works.
func (h *Health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed, h.out, h.until, h.probed = 0, 0, time.Time{}, time.Time{}
}

// unclaim notes that nothing was learned.
func (h *Health) unclaim() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probed = time.Time{}
}

// fail notes a failure, and reports whether the provider is left out for it.
func (h *Health) fail(f *failure, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probed = time.Time{}
	var wait time.Duration
	switch {
	case f.limited && f.retryAfter > 0:
		wait = min(f.retryAfter, maxLimited)
	case f.limited:
		wait = limited
	default:
		if h.failed++; !f.unreachable && h.failed < inARow && h.out == 0 {
			return false
		}
		wait = min(time.Duration(h.out+1)*outBase, maxOut)
	}
	h.failed = 0
	h.out++
	if until := now.Add(wait); until.After(h.until) {
		h.until = until
	}
	return true
}
