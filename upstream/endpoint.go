package upstream

import (
	"sync/atomic"
	"time"
)

// An Endpoint is one address of a [Pool].
type Endpoint struct {
	address string
	host    string    // of which it is an address; "" is its own
	since   time.Time // when the pool got it
	active  atomic.Int64
	outcomes

	// What follows is guarded by the pool's mu.
	ejection  ejection
	unhealthy bool // says the health check
	checks    int  // that came out otherwise, in a row
}

// Address returns host:port, as it is dialled.
func (e *Endpoint) Address() string { return e.address }

// Active returns how many answers of the endpoint are being read.
func (e *Endpoint) Active() int64 { return e.active.Load() }

// A set is the endpoints of a pool at one time. It is not changed.
type set struct {
	all    []*Endpoint
	usable []*Endpoint // those that may be picked
	picker Picker      // over all
}

// usable returns those of all that are neither ejected nor unhealthy; all of them when they
// are fewer than the percentage that it takes not to panic. The caller holds the pool's mu.
func usable(all []*Endpoint, panicPercent int) []*Endpoint {
	out := make([]*Endpoint, 0, len(all))
	for _, e := range all {
		if e.ejection.until.IsZero() && !e.unhealthy {
			out = append(out, e)
		}
	}
	if len(out) == 0 || len(out)*100 < panicPercent*len(all) {
		return all
	}
	return out
}

func find(in []*Endpoint, address string) *Endpoint {
	for _, e := range in {
		if e.address == address {
			return e
		}
	}
	return nil
}
