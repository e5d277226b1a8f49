package federation

import (
	"context"
	"hash/maphash"
	"sync"
)

// A sight is what the client of a stream may see, so that it is told of what changes
// that and of nothing else: what is denied is unseen, its changes included. It is safe
// for concurrent use.
type sight struct {
	mu   sync.Mutex
	ctx  context.Context // that rules are asked with; nil while everything is told
	view *view
	last [kinds]uint64
}

// look begins with what the client may see of v, as the rules that admitted ctx have it.
func (s *sight) look(ctx context.Context, v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.view = ctx, v
	for k := range s.last {
		s.last[k], _ = v.visible(ctx, kind(k))
	}
}

// lose has everything told from then on: other rules hold than those that are known.
func (s *sight) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.view = nil, nil
}

// notices returns those of the changes that the client may see. What can't be told is
// one.
func (s *sight) notices(c changes) (seen changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return c
	}
	for k := range s.last {
		if c&features[k].change == 0 {
			continue
		}
		now, ok := s.view.visible(s.ctx, kind(k))
		if !ok || now != s.last[k] {
			seen |= features[k].change
		}
		s.last[k] = now
	}
	return seen
}

// hidesNothing returns those of the lists that the client may see all of.
func (s *sight) hidesNothing(c changes) (seen changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return c
	}
	for k := range s.last {
		if c&features[k].change == 0 {
			continue
		}
		if shown, _ := s.view.shows(s.ctx, kind(k)); shown != nil && shown.all {
			seen |= features[k].change
		}
	}
	return seen
}

// visible returns a number that tells apart what a caller may see of the lists in
// memory; ok is false when that takes a decision for each caller.
func (v *view) visible(ctx context.Context, k kind) (sum uint64, ok bool) {
	s, m := v.shows(ctx, k)
	if s == nil {
		return 0, false
	}
	return s.sum(m, v.b.hub.seed), true
}

// shows returns what a caller may see of the lists in memory; nil when that takes a
// decision for each caller.
func (v *view) shows(ctx context.Context, k kind) (*shown, *merged) {
	lists := make([]*list, len(v.entries))
	for i, e := range v.entries {
		s := &e.slots[k]
		s.mu.Lock()
		lists[i] = s.lastGood(e.hub.now())
		s.mu.Unlock()
	}
	m := v.merge(k, lists)
	s, err := v.shownTo(ctx, k, m)
	if err != nil {
		return nil, m
	}
	return s, m
}

// sum returns a hash of the items.
func (s *shown) sum(m *merged, seed maphash.Seed) uint64 {
	s.once.Do(func() {
		var h maphash.Hash
		h.SetSeed(seed)
		add := func(i int) {
			_, _ = h.Write(m.items[i].raw) // never fails
			_ = h.WriteByte(0)
		}
		if s.all {
			for i := range m.items {
				add(i)
			}
		}
		for _, i := range s.items {
			add(int(i))
		}
		s.hash = h.Sum64()
	})
	return s.hash
}
