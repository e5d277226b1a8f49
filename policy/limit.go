package policy

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/limit"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A Limiter says how many requests there may be. It has either a Bucket, which all requests
// share, or a Counter for each descriptor, or a Remote that counts.
type Limiter struct {
	Source string // the object it comes from, Kind/namespace/name
	Bucket *limit.Bucket

	Descriptor Descriptor
	Counter    limit.Counter
	Most       int64 // in each window of Counter

	Remote *Remote

	Metrics *telemetry.Metrics
}

// stage returns what the limiter has to know.
func (l *Limiter) stage() Stage {
	if l.Remote != nil {
		return l.Remote.stage()
	}
	return l.Descriptor.Stage()
}

// take takes one request, or returns the fault that says that there is none left.
func (l *Limiter) take(ctx context.Context, s *Subject) error {
	if l.Remote != nil {
		return l.Remote.take(ctx, l, s)
	}
	now := time.Now()
	if l.Bucket != nil {
		ok, left, next := l.Bucket.Take(now)
		if ok {
			return nil
		}
		return l.exceeded(l.Bucket.Most(), left, next.Sub(now))
	}
	key, ok := l.Descriptor.key("", s)
	if !ok {
		return nil
	}
	t, err := l.Counter.Take(ctx, key, 1, l.Most, now)
	if err != nil {
		return err
	}
	if t.OK {
		return nil
	}
	return l.exceeded(l.Most, t.Left, t.Reset.Sub(now))
}

// exceeded is the fault of a request over the limit.
func (l *Limiter) exceeded(most, left int64, wait time.Duration) error {
	l.Metrics.Limited(l.Source, "requests")
	return &fault.Fault{
		Code: fault.RateLimited, Message: "rate limit exceeded", RetryAfter: wait,
		Header: limitHeader(most, left, wait),
		Err:    &Denial{Source: l.Source, Reason: "rate limit exceeded"},
	}
}

// limitHeader returns what the client of a request that is over a limit is told about it. The reset is in
// seconds, rounded up.
func limitHeader(most, left int64, wait time.Duration) http.Header {
	text := func(n int64) []string { return []string{strconv.FormatInt(n, 10)} }
	return http.Header{
		"X-Ratelimit-Limit":     text(most),
		"X-Ratelimit-Remaining": text(left),
		"X-Ratelimit-Reset":     text(int64((wait + time.Second - 1) / time.Second)),
	}
}

// takeAll takes one request of each of the limits that are for the stages from first to last.
func takeAll(ctx context.Context, limiters []Limiter, first, last Stage, s *Subject) error {
	for i := range limiters {
		if l := &limiters[i]; first <= l.stage() && l.stage() <= last {
			if err := l.take(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// TakeBackend counts the request that was admitted as ctx against the limits that ask which
// backend it goes to, and those of the Backend that [WithBackend] has added. It returns nil, or [fault.RateLimited].
func TakeBackend(ctx context.Context, backend string) error {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.policy == nil {
		return nil
	}
	var own []Limiter // of the Backend
	if a.backend != nil {
		own = a.backend.limiters
	}
	if a.destination = backend; a.request.Passed || len(a.policy.limiters)+len(own) == 0 {
		return nil
	}
	s := &Subject{Request: a.request, Backend: backend}
	if err := takeAll(ctx, a.policy.limiters, AtBackend, AtBackend, s); err != nil {
		return err
	}
	return takeAll(ctx, own, AtRequest, AtBackend, s)
}

// TakeOperation counts one operation of the request that was admitted as ctx against the limits
// that ask about operations, once it is authorized, and a tool call against its budgets. The Reservation is released
// if the operation is not executed. Its errors are [fault.RateLimited] and those of [Reserve].
func TakeOperation(ctx context.Context, op Operation) (*Reservation, error) {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok || a.policy == nil {
		return nil, nil
	}
	limiters := [][]Limiter{a.policy.limiters, nil}
	if a.backend != nil {
		limiters[1] = a.backend.limiters
	}
	for _, list := range limiters {
		if len(list) == 0 {
			continue
		}
		if err := takeAll(ctx, list, AtOperation, AtOperation, &Subject{Request: a.request, Backend: a.destination, Operation: op}); err != nil {
			return nil, err
		}
	}
	if op.Kind != Tool || op.Method != "tools/call" {
		return nil, nil
	}
	return reserveCall(ctx)
}
