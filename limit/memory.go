package limit

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// MaxKeys is how many keys a [Memory] keeps, unless it is told otherwise.
const MaxKeys = 1 << 14

// A Memory is a [Counter] in this process. It keeps the keys that were used last: when there
// are more than it can keep, the one that was used longest ago is forgotten, and begins
// anew when it comes back. That is said to Forgotten.
type Memory struct {
	window    Window
	most      int // keys
	forgotten func()

	mu   sync.Mutex
	keys *simplelru.LRU[string, *used]
}

type used struct {
	start, reset time.Time
	amount       int64
}

// A MemoryOptions configures a [Memory]. The zero value works.
type MemoryOptions struct {
	// MaxKeys bounds the keys; default [MaxKeys].
	MaxKeys int
	// Forgotten, when set, is called for each key that is forgotten while it counts.
	// It is called with a lock held, and must not use the Memory.
	Forgotten func()
}

// NewMemory returns a counter for windows of that kind.
func NewMemory(w Window, opts MemoryOptions) *Memory {
	if opts.MaxKeys <= 0 {
		opts.MaxKeys = MaxKeys
	}
	m := &Memory{window: w, most: opts.MaxKeys, forgotten: opts.Forgotten}
	m.keys, _ = simplelru.NewLRU[string, *used](opts.MaxKeys, nil) // it fails for no size only
	return m
}

// Take implements [Counter].
func (m *Memory) Take(_ context.Context, key string, amount, most int64, now time.Time) (Taken, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.keys.Get(key)
	if !ok {
		u = &used{}
		m.makeRoom(now)
		m.keys.Add(key, u)
	}
	// A clock that is set back by a little counts in the window that has begun.
	if !now.Before(u.reset) || u.start.Sub(now) > time.Minute {
		u.start, u.reset = m.window.Span(now)
		u.amount = 0
	}
	t := Taken{Key: key, Start: u.start, Reset: u.reset}
	if u.amount <= most && amount <= most-u.amount {
		u.amount += amount
		t.OK = true
	}
	t.Left = max(most-u.amount, 0)
	return t, nil
}

// makeRoom forgets the key that was used longest ago, if there are as many as can be kept.
func (m *Memory) makeRoom(now time.Time) {
	if m.keys.Len() < m.most {
		return
	}
	if _, u, ok := m.keys.RemoveOldest(); ok && now.Before(u.reset) && m.forgotten != nil {
		m.forgotten()
	}
}

// Add implements [Counter].
func (m *Memory) Add(_ context.Context, t Taken, delta int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u, ok := m.keys.Peek(t.Key); ok && u.start.Equal(t.Start) {
		u.amount = max(u.amount+delta, 0)
	}
	return nil
}

// Len returns how many keys there are.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys.Len()
}
