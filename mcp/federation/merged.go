package federation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"weak"

	"github.com/mcpgw/mcpgw/policy"
)

// A merged is the union of the lists of all targets at one time. It is safe for
// concurrent use.
type merged struct {
	lists []*list // by target; nil where there is none
	items []place
	index map[string]int // by client-visible name or URI

	mu    sync.Mutex
	shown map[policy.Decisions]*shown
}

// A place is an item and the target that has it.
type place struct {
	*item
	target int // index into Backend.targets
	index  int // of the item within its target's list
}

// placeSize is about what an item takes in a merged list, in bytes.
const placeSize = 100

// merge returns the union of the lists: from memory when they are the same as the last
// time, or as those of another caller.
func (v *view) merge(k kind, lists []*list) *merged {
	if p := v.merged[k].Load(); p != nil {
		if m := p.Value(); m != nil && slices.Equal(m.lists, lists) {
			return m
		}
	}
	m, p := v.b.merges[k].find(lists)
	if m == nil {
		m = v.b.merge(slices.Clone(lists))
		p = v.b.merges[k].add(m)
		v.b.hub.keeper.keep(m, len(m.items)*placeSize+len(lists)*8)
	}
	v.merged[k].Store(&p)
	return m
}

// merge makes the union of lists.
func (b *Backend) merge(lists []*list) *merged {
	m := &merged{lists: lists}
	n := 0
	for _, l := range lists {
		if l != nil {
			n += len(l.items)
		}
	}
	m.items = make([]place, 0, n)
	m.index = make(map[string]int, n)
	twice := map[string]bool{}
	for t, l := range lists {
		if l == nil {
			continue
		}
		for i, it := range l.items {
			if _, taken := m.index[it.client]; taken {
				twice[it.client] = true
			}
			m.index[it.client] = len(m.items)
			m.items = append(m.items, place{item: it, target: t, index: i})
		}
	}
	if len(twice) == 0 {
		return m
	}
	clear(m.index)
	kept := m.items[:0]
	for _, p := range m.items {
		if twice[p.client] {
			b.hub.opts.Logger.Warn("two targets share a name: left out of the catalogue",
				"backend", b.cfg.Name, "target", b.cfg.Targets[p.target].Name, "name", p.own)
			continue
		}
		m.index[p.client] = len(kept)
		kept = append(kept, p)
	}
	m.items = kept
	return m
}

// maxMerges bounds the merged lists of one kind of one backend that a view looks for
// before it makes its own.
const maxMerges = 16

// merges are the merged lists that were made last, for other views with the same lists:
// there is one for each caller of a target that gets something of its callers, and most
// are equal. It is safe for concurrent use.
type merges struct {
	mu   sync.Mutex
	last []weak.Pointer[merged]
}

func (s *merges) find(lists []*list) (*merged, weak.Pointer[merged]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.last {
		if m := p.Value(); m != nil && slices.Equal(m.lists, lists) {
			return m, p
		}
	}
	return nil, weak.Pointer[merged]{}
}

func (s *merges) add(m *merged) weak.Pointer[merged] {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := weak.Make(m)
	if len(s.last) == maxMerges {
		s.last = slices.Delete(s.last, 0, 1)
	}
	s.last = append(s.last, p)
	return p
}

// maxShown bounds the kinds of callers for whom a merged list is decided beforehand.
const maxShown = 64

// A shown is what callers for whom rules decide alike see of a merged list. It is
// immutable but for its pages, and safe for concurrent use.
type shown struct {
	items []int32 // indexes into the merged items; nil with all
	all   bool

	once sync.Once
	hash uint64 // see sum

	mu    sync.Mutex
	pages map[int]weak.Pointer[excerpt] // by the place in the items where they begin
}

// An excerpt is the items of one page as they go out, joined by commas.
type excerpt struct {
	raw  []byte
	last int // index into the merged items of the last one, -1 if there is none
	more bool
}

// shownTo returns what the caller may see of the list, nil when that is not the same
// for others.
func (v *view) shownTo(ctx context.Context, k kind, m *merged) (*shown, error) {
	d, ok := policy.DecisionsOf(ctx)
	if !ok {
		return nil, nil
	}
	m.mu.Lock()
	s := m.shown[d]
	m.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s = &shown{items: make([]int32, 0, len(m.items))}
	for i := range m.items {
		ok, err := v.listed(ctx, k, &m.items[i])
		if err != nil {
			return nil, err
		}
		if ok {
			s.items = append(s.items, int32(i))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err // what was decided meanwhile may be wrong
	}
	if len(s.items) == len(m.items) {
		s.items, s.all = nil, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown == nil || len(m.shown) >= maxShown {
		m.shown = map[policy.Decisions]*shown{}
	}
	m.shown[d] = s
	return s, nil
}

// listed reports whether the caller may see an item.
func (v *view) listed(ctx context.Context, k kind, p *place) (bool, error) {
	err := v.authorize(ctx, k, features[k].method, p.target, p.own, nil)
	if errors.Is(err, errUnknown) {
		return false, nil
	}
	return err == nil, err
}

// page returns what a caller sees of the list from the item of that index on: at most n
// items.
func (v *view) page(ctx context.Context, k kind, m *merged, from, n int) (*excerpt, error) {
	s, err := v.shownTo(ctx, k, m)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return m.pick(from, n, func(i int) (bool, error) { return v.listed(ctx, k, &m.items[i]) })
	}
	s.mu.Lock()
	e := s.pages[from].Value()
	s.mu.Unlock()
	if e != nil {
		return e, nil
	}
	if s.all {
		e, _ = m.pick(from, n, func(int) (bool, error) { return true, nil })
	} else {
		at, _ := slices.BinarySearch(s.items, int32(from))
		e, _ = m.pick(from, n, func(i int) (bool, error) {
			if at < len(s.items) && int(s.items[at]) == i {
				at++
				return true, nil
			}
			return false, nil
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages == nil {
		s.pages = map[int]weak.Pointer[excerpt]{}
	}
	s.pages[from] = weak.Make(e)
	v.b.hub.keeper.keep(e, len(e.raw))
	return e, nil
}

// pick returns the first n items from the index on that may be seen.
func (m *merged) pick(from, n int, may func(int) (bool, error)) (*excerpt, error) {
	e := &excerpt{last: -1}
	var picked []int
	size := 0
	for i := from; i < len(m.items); i++ {
		ok, err := may(i)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if len(picked) == n {
			e.more = true
			break
		}
		picked = append(picked, i)
		size += len(m.items[i].raw) + 1
	}
	e.raw = make([]byte, 0, size)
	for _, i := range picked {
		if e.last >= 0 {
			e.raw = append(e.raw, ',')
		}
		e.raw = append(e.raw, m.items[i].raw...)
		e.last = i
	}
	return e, nil
}
