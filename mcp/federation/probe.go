package federation

import (
	"errors"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A probe keeps callers from waiting for a target that was just found not to
// answer, whoever found it: one attempt in each backoff is enough. It is safe for
// concurrent use.
type probe struct {
	mu       sync.Mutex
	failures int
	retryAt  time.Time
	err      error
}

// try calls f, unless the target has not answered a moment ago: then it returns
// the error of that time. What a target says to one caller is no reason to keep
// others from it.
func (p *probe) try(now func() time.Time, f func() error) error {
	p.mu.Lock()
	if err := p.err; err != nil && now().Before(p.retryAt) {
		p.mu.Unlock()
		return err
	}
	p.mu.Unlock()
	err := f()
	var cause *fault.Fault
	silent := errors.As(err, &cause) && (cause.Code == fault.UpstreamTimeout || cause.Code == fault.UpstreamUnreachable)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.failures, p.err = 0, nil
	case silent:
		p.failures++
		p.err, p.retryAt = err, now().Add(min(minBackoff<<min(p.failures-1, 10), maxBackoff))
	}
	return err
}
