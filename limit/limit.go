// Package limit counts what is used, against limits on it.
//
// A [Bucket] lets requests through at a rate. A [Counter] keeps for each key how much
// of an amount (requests, tokens, money) was taken in the current [Window]: in this process
// ([Memory]). Package policy says what is counted under which key, and what a
// request is told that finds nothing left.
//
// A Counter takes before something is done and is corrected afterwards, so that what is being
// done at the same time can't use together what only one of them may.
package limit

import (
	"context"
	"time"
)

// A Counter keeps how much was taken for each key, in the windows of one limit. It is safe
// for concurrent use.
type Counter interface {
	// Take takes amount for key in the window of now, if no more than most is taken in it
	// then; else it takes nothing. Its error says that it can't be known.
	Take(ctx context.Context, key string, amount, most int64, now time.Time) (Taken, error)
	// Add corrects what was taken by delta, which may be negative, unless its window is
	// over and forgotten. What was taken is never less than nothing.
	Add(ctx context.Context, t Taken, delta int64) error
}

// A Taken is what a [Counter] answers.
type Taken struct {
	OK    bool // it was taken
	Key   string
	Start time.Time // of the window
	Reset time.Time // when the window ends
	Left  int64     // of the limit, afterwards; at least 0
	// Local says that it was counted in this process, though the counter is shared.
	Local bool
}
