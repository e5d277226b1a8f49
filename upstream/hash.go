package upstream

import (
	"cmp"
	"context"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/mcpgw/mcpgw/internal/lifetime"
)

type hashKey struct{}

// WithHash returns a context whose requests have the hash by which [RingHash] and [Maglev]
// choose. Without one they choose at random.
func WithHash(ctx context.Context, hash uint64) context.Context {
	return lifetime.WithValue(ctx, hashKey{}, hash)
}

// hashOf returns the hash of a request.
func hashOf(r *http.Request) uint64 {
	if h, ok := r.Context().Value(hashKey{}).(uint64); ok {
		return h
	}
	return rand.Uint64()
}

// byAddress returns the places in all, in the order of the addresses, so that every
// process makes the same of the same endpoints.
func byAddress(all []*Endpoint) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(all[i].address, all[j].address) })
	return order
}

// among returns e if it is one of from, which is a part of the n endpoints.
func among(e *Endpoint, from []*Endpoint, n int) bool {
	return len(from) == n || slices.Contains(from, e)
}

// The sizes of rings.
const (
	DefaultMinRing = 1024
	MaxRing        = 8 << 20
)

// RingHash picks the same endpoint for the same hash: the next one on a ring on which each
// endpoint has many places. When an endpoint goes, only what it had moves, to all others.
type RingHash struct {
	// MinSize and MaxSize bound the places on the ring; 0 means [DefaultMinRing] and
	// [MaxRing]. Every endpoint has as many as another, and at least one.
	MinSize, MaxSize int
}

// Picker implements [Strategy].
func (h RingHash) Picker(all []*Endpoint) Picker {
	if len(all) == 0 {
		return random{}
	}
	size := cmp.Or(h.MinSize, DefaultMinRing)
	// A power of two, or a few endpoints more or less would change what all others have.
	each := 1 << bits.Len(uint((size-1)/len(all)))
	each = max(1, min(each, cmp.Or(h.MaxSize, MaxRing)/len(all)))
	r := &ring{places: make([]place, 0, each*len(all)), size: len(all)}
	for _, i := range byAddress(all) {
		for n := range each {
			r.places = append(r.places, place{xxhash.Sum64String(all[i].address + "_" + strconv.Itoa(n)), all[i]})
		}
	}
	slices.SortStableFunc(r.places, func(a, b place) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// A place is where an endpoint is on a ring.
type place struct {
	hash     uint64
	endpoint *Endpoint
}

type ring struct {
	places []place // by hash
	size   int     // of the set
}

// Pick implements [Picker].
func (r *ring) Pick(req *http.Request, from []*Endpoint) *Endpoint {
	at, _ := slices.BinarySearchFunc(r.places, hashOf(req), func(p place, h uint64) int { return cmp.Compare(p.hash, h) })
	for n := range r.places {
		if e := r.places[(at+n)%len(r.places)].endpoint; among(e, from, r.size) {
			return e
		}
	}
	return from[0] // not reached: every endpoint has a place
}

// maglevSize is the size of a table: a prime, as Envoy has it.
const maglevSize = 65537

// Maglev picks the same endpoint for the same hash, by a table in which all have nearly
// the same share (Eisenbud and others, NSDI 2016, section 3.4). It is faster than a [RingHash] and spreads more
// evenly, and moves a little more than it must when an endpoint goes.
type Maglev struct{}

// Picker implements [Strategy].
func (Maglev) Picker(all []*Endpoint) Picker {
	if len(all) == 0 || len(all) > maglevSize {
		return random{}
	}
	type preference struct {
		endpoint   *Endpoint
		next, skip uint64
	}
	list := make([]preference, 0, len(all))
	for _, i := range byAddress(all) {
		a := all[i].address
		list = append(list, preference{
			endpoint: all[i],
			next:     xxhash.Sum64String(a) % maglevSize,
			skip:     xxhash.Sum64String(a+"_skip")%(maglevSize-1) + 1,
		})
	}
	m := &maglev{table: make([]*Endpoint, maglevSize), size: len(all)}
	for filled := 0; filled < maglevSize; {
		for i := range list {
			p := &list[i]
			for m.table[p.next] != nil {
				p.next = (p.next + p.skip) % maglevSize
			}
			m.table[p.next] = p.endpoint
			if filled++; filled == maglevSize {
				break
			}
		}
	}
	return m
}

type maglev struct {
	table []*Endpoint
	size  int // of the set
}

// Pick implements [Picker].
func (m *maglev) Pick(r *http.Request, from []*Endpoint) *Endpoint {
	hash := hashOf(r)
	for range 64 {
		if e := m.table[hash%maglevSize]; among(e, from, m.size) {
			return e
		}
		// What an endpoint has that can't be used is spread over all others.
		hash = (hash ^ hash>>29) * 0xbf58476d1ce4e5b9
		hash ^= hash >> 32
	}
	return from[hash%uint64(len(from))]
}
