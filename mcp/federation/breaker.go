package federation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// A breaker keeps callers from a target that was found not to answer, whoever found
// it. While it is open the target costs nobody any time; whether it is back is found
// out behind the first caller who comes when that is due, by one request at a time.
// It is safe for concurrent use.
type breaker struct {
	hub    *Hub
	target *session.Target // set before the first use

	broken atomic.Bool // err is set: what is closed costs callers one load

	mu       sync.Mutex
	err      error // why it is open, nil while it is closed
	silent   bool  // the target took its time for not answering
	failures int
	retryAt  time.Time
	pinging  bool
}

// A ping asks a target for a sign of life.
type ping func(context.Context) error

// check returns why the target is to be left alone, nil when it is not.
func (b *breaker) check(p ping) error {
	err, _ := b.state(p)
	return err
}

// checkCall is check for calls. One that is refused at once costs no time, and says
// more than the breaker does, so that only silence keeps calls back.
func (b *breaker) checkCall(l *lister) error {
	if !b.broken.Load() {
		return nil
	}
	if err, silent := b.state(l.ping); silent {
		return err
	}
	return nil
}

func (b *breaker) state(p ping) (err error, silent bool) { //nolint:revive // the error is what is asked for
	if !b.broken.Load() {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil && !b.hub.now().Before(b.retryAt) {
		b.ping(p)
	}
	return b.err, b.err != nil && b.silent
}

// heard notes the outcome of a contact. An answer of any kind closes the breaker,
// silence opens it; what the gateway itself refused says nothing.
func (b *breaker) heard(err error) {
	switch {
	case answered(err):
		b.close()
	case isSilence(err):
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open(err)
	}
}

// heardFor is heard for a contact in the course of a request: that its client went, or
// gave it less time than the target has, says nothing about the target.
func (b *breaker) heardFor(ctx context.Context, err error) {
	if ctx.Err() == nil {
		b.heard(err)
	}
}

// suspect notes that the target did not answer one thing, which may be for that
// alone: whether it answers at all is asked at once.
func (b *breaker) suspect(err error, p ping) {
	if answered(err) || !isSilence(err) {
		b.heard(err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open(err) {
		b.ping(p)
	}
}

// answered reports whether err, which may be nil, came from a target that lives.
func answered(err error) bool {
	if err == nil {
		return true
	}
	var f *fault.Fault
	return errors.As(err, &f) && f.Code == fault.UpstreamFailed
}

// isSilence reports whether a target can't have said anything.
func isSilence(err error) bool {
	var f *fault.Fault
	return errors.As(err, &f) && (f.Code == fault.UpstreamTimeout || f.Code == fault.UpstreamUnreachable)
}

// open opens the breaker, unless it is: then it reports false. The caller holds the
// lock.
func (b *breaker) open(err error) bool {
	if b.err != nil {
		return false
	}
	b.err, b.silent, b.failures = err, fault.Of(err).Code == fault.UpstreamTimeout, 1
	b.retryAt = b.hub.now().Add(minBackoff)
	b.broken.Store(true)
	cfg := b.target.Config()
	b.hub.opts.Metrics.BreakerOpened(cfg.Backend, cfg.Name)
	b.hub.opts.Logger.Warn("target does not answer: it is left alone for a while",
		"backend", cfg.Backend, "target", cfg.Name, slog.Any("error", err))
	return true
}

func (b *breaker) close() {
	if !b.broken.Load() {
		return
	}
	b.mu.Lock()
	was := b.err
	b.err, b.silent, b.failures = nil, false, 0
	b.broken.Store(false)
	b.mu.Unlock()
	if was == nil {
		return
	}
	cfg := b.target.Config()
	b.hub.opts.Metrics.BreakerClosed(cfg.Backend, cfg.Name)
	b.hub.opts.Logger.Info("target answers again", "backend", cfg.Backend, "target", cfg.Name)
	b.hub.spawn(func(context.Context) { b.hub.recovered(b.target) })
}

// ping asks the target behind the caller, who holds the lock, whether it is back.
func (b *breaker) ping(p ping) {
	if b.pinging {
		return
	}
	b.pinging = b.hub.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, timeoutOf(b.target))
		defer cancel()
		err := p(ctx)
		b.mu.Lock()
		b.pinging = false
		if b.err != nil && !answered(err) {
			b.failures++
			b.retryAt = b.hub.now().Add(min(minBackoff<<min(b.failures-1, 10), maxBackoff))
			if isSilence(err) {
				b.err, b.silent = err, fault.Of(err).Code == fault.UpstreamTimeout
			}
		}
		b.mu.Unlock()
		if answered(err) {
			b.close()
		}
	})
}

// recovered has the lists fetched anew that could not be while the target was away.
func (h *Hub) recovered(t *session.Target) {
	for _, e := range h.entriesOf(t) {
		e.recover()
	}
}

// entriesOf returns the entries of a target.
func (h *Hub) entriesOf(t *session.Target) []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*entry
	for _, e := range h.entries.Values() {
		if e.key.target == t {
			out = append(out, e)
		}
	}
	return out
}
