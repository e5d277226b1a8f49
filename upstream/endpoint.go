package upstream

import (
	"math/rand/v2"
	"net/http"
	"sync/atomic"
)

// An Endpoint is one address of a [Pool].
type Endpoint struct {
	address string
	active  atomic.Int64
}

// Address returns host:port.
func (e *Endpoint) Address() string { return e.address }

// Active returns how many answers of the endpoint are being read.
func (e *Endpoint) Active() int64 { return e.active.Load() }

// A Picker chooses the endpoint for a request. It is safe for concurrent use.
type Picker interface {
	// Pick returns one of from, which is never empty.
	Pick(r *http.Request, from []*Endpoint) *Endpoint
}

// LeastOfTwo picks the less loaded of two random endpoints.
type LeastOfTwo struct{}

// Pick implements [Picker].
func (LeastOfTwo) Pick(_ *http.Request, from []*Endpoint) *Endpoint {
	if len(from) == 1 {
		return from[0]
	}
	i := rand.IntN(len(from))
	j := rand.IntN(len(from) - 1)
	if j >= i {
		j++
	}
	if from[j].Active() < from[i].Active() {
		return from[j]
	}
	return from[i]
}

func find(in []*Endpoint, address string) *Endpoint {
	for _, e := range in {
		if e.address == address {
			return e
		}
	}
	return nil
}
