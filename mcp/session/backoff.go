package session

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of waiting before something is tried again.
const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
	// steady is how long something must have lasted to count as a success.
	steady = 10 * time.Second
)

// A backoff says how long to wait before the next attempt: longer each time, with
// some jitter, so that many that lost the same target do not return at once.
type backoff struct{ attempts int }

// next returns the time to wait now.
func (b *backoff) next() time.Duration {
	d := min(minBackoff<<min(b.attempts, 10), maxBackoff)
	b.attempts++
	return d/2 + rand.N(d/2+1)
}

// reset forgets the attempts so far.
func (b *backoff) reset() { b.attempts = 0 }

// sleep waits for d; its error is that of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
