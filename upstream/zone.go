package upstream

import (
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// overprovisioning is how many times what a zone needs its endpoints can serve, as Envoy takes it: a zone keeps its share
// until fewer than 1 in 1.4 of them are usable.
const overprovisioning = 1.4

// A zone is the endpoints of a pool that are in one place. It is not changed.
type zone struct {
	name   string
	all    []*Endpoint
	picker Picker // over all
}

// A share is a zone as requests are spread over it at one time.
type share struct {
	*zone
	usable []*Endpoint
	weight float64
}

// zonesOf returns the zones of the endpoints, in the order of their names; nil if there is only one. Endpoints of which nothing
// is known are one, too.
func zonesOf(all []*Endpoint, zones map[string]string, strategy Strategy) []*zone {
	members := map[string][]*Endpoint{}
	for _, e := range all {
		name := zones[e.address]
		members[name] = append(members[name], e)
	}
	if len(members) < 2 {
		return nil
	}
	out := make([]*zone, 0, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		out = append(out, &zone{name, members[name], strategy.Picker(members[name])})
	}
	return out
}

// sharesOf returns the zones that have usable endpoints. Each weighs as much as it has endpoints, or less when many of
// them are not usable. The caller holds the pool's mu.
func sharesOf(zones []*zone) []share {
	var out []share
	for _, z := range zones {
		if u := usable(z.all); len(u) > 0 {
			out = append(out, share{z, u, min(float64(len(z.all)), overprovisioning*float64(len(u)))})
		}
	}
	return out
}

// zone returns the zone for r, nil where all endpoints are picked from. The same hash has the same zone, while their
// weights stay; when one changes, only what it gains or loses moves (weighted rendezvous hashing).
func (s *set) zone(r *http.Request) *share {
	if len(s.shares) == 0 {
		return nil
	}
	if hash, ok := r.Context().Value(hashKey{}).(uint64); ok {
		return byHash(s.shares, hash)
	}
	sum := 0.0
	for i := range s.shares {
		sum += s.shares[i].weight
	}
	at := rand.Float64() * sum
	for i := range s.shares {
		if at -= s.shares[i].weight; at < 0 {
			return &s.shares[i]
		}
	}
	return &s.shares[len(s.shares)-1] // rounding
}

func byHash(shares []share, hash uint64) *share {
	best, most := 0, math.Inf(-1)
	for i := range shares {
		h := mix(hash ^ xxhash.Sum64String(shares[i].name))
		// Even between 0 and 1, without either.
		u := (float64(h>>11) + 0.5) / (1 << 53)
		if score := -shares[i].weight / math.Log(u); score > most {
			best, most = i, score
		}
	}
	return &shares[best]
}

// mix spreads the bits of a hash (the finalizer of splitmix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
