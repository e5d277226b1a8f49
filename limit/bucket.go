package limit

import (
	"sync"
	"time"
)

// A Bucket holds tokens, of which each request takes one. It starts full. It is safe for
// concurrent use.
type Bucket struct {
	most, fill int64
	every      time.Duration

	mu     sync.Mutex
	tokens int64
	filled time.Time // when tokens were added last; zero: it has not been used
}

// NewBucket returns a bucket that holds at most tokens, and gets fill of them every so often.
func NewBucket(most, fill int64, every time.Duration) *Bucket {
	return &Bucket{most: most, fill: fill, every: every, tokens: most}
}

// Take takes a token, if there is one. It returns how many are left, and when
// some are added.
func (b *Bucket) Take(now time.Time) (ok bool, left int64, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filled.IsZero() {
		b.filled = now
	}
	if fills := int64(now.Sub(b.filled) / b.every); fills > 0 {
		b.filled = b.filled.Add(time.Duration(fills) * b.every)
		if missing := b.most - b.tokens; fills >= (missing+b.fill-1)/b.fill {
			b.tokens = b.most
		} else {
			b.tokens += fills * b.fill
		}
	}
	if b.tokens > 0 {
		b.tokens--
		ok = true
	}
	return ok, b.tokens, b.filled.Add(b.every)
}

// Most returns how many tokens the bucket can hold.
func (b *Bucket) Most() int64 { return b.most }
