package upstream

import (
	"slices"
	"sync"
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

	serial atomic.Bool // it agreed on HTTP/1.1
	lining sync.Mutex  // guards line
	line   *line

	// What follows is guarded by the pool's mu.
	ejection  ejection
	unhealthy bool // says the health check
	slow      bool // its family is: see Pool.eager
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
	zones  []*zone     // of all, when requests are spread over them; nil otherwise
	shares []share     // of the zones now; nil when all endpoints are picked from
}

// usable returns those of all that are neither ejected nor unhealthy nor slow. The caller holds the pool's mu.
func usable(all []*Endpoint) []*Endpoint {
	out := make([]*Endpoint, 0, len(all))
	for _, e := range all {
		if e.ejection.until.IsZero() && !e.unhealthy && !e.slow {
			out = append(out, e)
		}
	}
	return out
}

// prompt returns those of all that are not slow; all of them when all are. The caller holds the pool's mu.
func prompt(all []*Endpoint) []*Endpoint {
	isSlow := func(e *Endpoint) bool { return e.slow }
	if !slices.ContainsFunc(all, isSlow) {
		return all
	}
	if out := slices.DeleteFunc(slices.Clone(all), isSlow); len(out) > 0 {
		return out
	}
	return all
}

func find(in []*Endpoint, address string) *Endpoint {
	for _, e := range in {
		if e.address == address {
			return e
		}
	}
	return nil
}
