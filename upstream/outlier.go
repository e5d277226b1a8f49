package upstream

import (
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// The defaults of an [Outlier], as Envoy has them.
const (
	DefaultOutlierInterval = 10 * time.Second
	DefaultBaseEjection    = 30 * time.Second
	maxEjection            = 300 * time.Second
)

// An Outlier says when endpoints that fail are left out: Envoy's outlier detection. What
// fails is a 5xx answer, a connection that can't be made or breaks, and a timeout; what the
// client does wrong never counts. One endpoint may always be ejected, and when all are,
// all are used.
type Outlier struct {
	// Consecutive is how many failures in a row eject an endpoint; 0 is none.
	Consecutive int
	// ConsecutivePercent is how likely they do.
	ConsecutivePercent int
	// Interval is how often success rates are compared, and ejected endpoints come
	// back. 0 means [DefaultOutlierInterval].
	Interval time.Duration
	// BaseEjection is how long an ejection lasts, times how often the endpoint was
	// ejected lately, at most 300s. 0 means [DefaultBaseEjection].
	BaseEjection time.Duration
	// MaxPercent is the largest share of endpoints that may be ejected.
	MaxPercent int
	// SuccessRate, when set, compares how often requests succeed.
	SuccessRate *SuccessRate
}

// A SuccessRate ejects endpoints whose requests succeed less often than those of others.
type SuccessRate struct {
	// Percent is how likely a low rate ejects.
	Percent int
	// MinHosts is how many endpoints must have RequestVolume requests in an interval.
	MinHosts, RequestVolume int
	// StdevFactor is how far below the mean a rate may be, in thousandths of the
	// standard deviation.
	StdevFactor int
}

// outcomes is what is known of the requests of an endpoint.
type outcomes struct {
	failures            atomic.Int64 // in a row
	requests, successes atomic.Int64 // since the last sweep
}

// An ejection is what is known of the ejections of an endpoint.
type ejection struct {
	at    time.Time
	until time.Time // zero: it is in use
	times int       // that the next one is longer
}

// A detector finds the outliers of a pool.
type detector struct {
	Outlier
	log   *slog.Logger
	sweep atomic.Int64 // when the next one is due, Unix nanoseconds
}

// newDetector returns nil for a nil Outlier.
func newDetector(o *Outlier, log *slog.Logger) *detector {
	if o == nil {
		return nil
	}
	d := &detector{Outlier: *o, log: log}
	if d.Interval <= 0 {
		d.Interval = DefaultOutlierInterval
	}
	if d.BaseEjection <= 0 {
		d.BaseEjection = DefaultBaseEjection
	}
	d.sweep.Store(time.Now().Add(d.Interval).UnixNano())
	return d
}

// report tells what became of a request.
func (p *Pool) report(e *Endpoint, ok bool) {
	d := p.detector
	if d == nil {
		return
	}
	e.requests.Add(1)
	if ok {
		e.successes.Add(1)
		if e.failures.Load() != 0 {
			e.failures.Store(0)
		}
		return
	}
	if n := e.failures.Add(1); d.Consecutive == 0 || n < int64(d.Consecutive) {
		return
	}
	e.failures.Store(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.endpoints.Load()
	if slices.Contains(s.all, e) && d.eject(s.all, e, d.ConsecutivePercent, "failures in a row") {
		p.merge()
	}
}

// eject leaves out an endpoint, unless chance or the largest share is against it. The caller
// holds the pool's mu.
func (d *detector) eject(all []*Endpoint, e *Endpoint, percent int, reason string) bool {
	if !e.ejection.until.IsZero() || rand.IntN(100) >= percent {
		return false
	}
	ejected := 0
	for _, other := range all {
		if !other.ejection.until.IsZero() {
			ejected++
		}
	}
	if ejected > 0 && (ejected+1)*100 > d.MaxPercent*len(all) {
		return false
	}
	now := time.Now()
	e.ejection.times++
	lasts := min(d.BaseEjection*time.Duration(e.ejection.times), max(maxEjection, d.BaseEjection))
	e.ejection.at, e.ejection.until = now, now.Add(lasts)
	d.log.Warn("upstream endpoint ejected", "endpoint", e.address, "reason", reason, "for", lasts)
	return true
}

// sweepIfDue looks at the endpoints once an interval has gone by. There is no goroutine for it:
// nobody asks what is usable while there are no requests.
func (p *Pool) sweepIfDue() {
	d := p.detector
	now := time.Now()
	if now.UnixNano() < d.sweep.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	due := time.Unix(0, d.sweep.Load())
	if now.Before(due) {
		return // another request did it
	}
	intervals := 1 + int(now.Sub(due)/d.Interval)
	d.sweep.Store(now.Add(d.Interval).UnixNano())
	s := p.endpoints.Load()
	changed := false
	for _, e := range s.all {
		switch {
		case e.ejection.until.IsZero():
			e.ejection.times = max(0, e.ejection.times-intervals)
		case !now.Before(e.ejection.until):
			e.ejection.until = time.Time{}
			e.failures.Store(0)
			changed = true
			d.log.Info("upstream endpoint comes back", "endpoint", e.address, "after", now.Sub(e.ejection.at))
		}
	}
	if d.compare(s.all) || changed {
		p.merge()
	}
}

// compare ejects the endpoints whose success rate is far below that of the others, and begins to
// count anew. It reports whether there were some. The caller holds the pool's mu.
func (d *detector) compare(all []*Endpoint) (ejected bool) {
	rates := map[*Endpoint]float64{}
	var sum float64
	for _, e := range all {
		n, ok := e.requests.Swap(0), e.successes.Swap(0)
		if d.SuccessRate != nil && e.ejection.until.IsZero() && n > 0 && n >= int64(d.SuccessRate.RequestVolume) {
			rates[e] = float64(ok) / float64(n)
			sum += rates[e]
		}
	}
	if len(rates) == 0 || len(rates) < d.SuccessRate.MinHosts {
		return false
	}
	mean, variance := sum/float64(len(rates)), 0.0
	for _, r := range rates {
		variance += (r - mean) * (r - mean)
	}
	least := mean - float64(d.SuccessRate.StdevFactor)/1000*math.Sqrt(variance/float64(len(rates)))
	for _, e := range all {
		if r, ok := rates[e]; ok && r < least {
			ejected = d.eject(all, e, d.SuccessRate.Percent, "low success rate") || ejected
		}
	}
	return ejected
}
