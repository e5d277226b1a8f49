package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Bounds of a target's pool of leased legs.
const (
	// maxLeased bounds the legs of one key, and with it the calls that one
	// principal can have under way to a legacy target.
	maxLeased = 64
	// maxPooled bounds the legs of all keys.
	maxPooled = 1024
	// poolIdle is how long a leg waits for its next call.
	poolIdle = 5 * time.Minute
)

// A poolKey tells callers apart that may not share legs.
type poolKey struct {
	isolation    string
	capabilities [sha256.Size]byte
}

func keyOf(c Client) poolKey {
	return poolKey{c.Isolation, sha256.Sum256(object(c.Capabilities))}
}

// A pool holds the legs through which modern clients reach a legacy target. A
// leg is lent to one call at a time, so that what the target asks on it can
// only concern that call.
type pool struct {
	t *Target

	mu     sync.Mutex
	shelf  map[poolKey]*shelf
	total  int
	closed bool
}

// A shelf holds the legs of one key.
type shelf struct {
	idle  []*Leg
	count int           // legs in all, lent ones and those being made included
	freed chan struct{} // closed when a leg, or room for one, is there; nil if nobody waits
}

// A lease is what a pooled leg knows of its pool.
type lease struct {
	key   poolKey
	lent  bool
	timer *time.Timer // while idle

	hearing *hearing // once a call wants one; guarded by the leg
}

func (p *pool) init(t *Target) { p.t, p.shelf = t, make(map[poolKey]*shelf) }

// Lease returns a leg for the use of one call, from the pool that belongs to the
// caller's isolation key and capabilities; Release puts it back. Toward targets
// that keep no sessions a leg costs nothing and is made on the spot. A
// server→client request outside a lease is refused by the leg. When all legs of the
// caller are lent, Lease waits up to the target's timeout for one; an
// Overloaded fault says that there was none.
func (t *Target) Lease(ctx context.Context, c Client, f Forward) (*Leg, error) {
	if t.bad != nil {
		return nil, t.enter()
	}
	disc, err := t.Discover(ctx, c, f)
	if err != nil {
		return nil, err
	}
	if !t.leases(disc.Era) {
		return t.Open(ctx, c, f)
	}
	var timeout <-chan time.Time
	for key := keyOf(c); ; {
		l, freed, err := t.pool.take(key)
		switch {
		case err != nil:
			return nil, err
		case l != nil:
			return l, nil
		case freed == nil: // there is room for a new one
			l = &Leg{t: t, client: &c, lease: &lease{key: key, lent: true}}
			if _, err := l.wire(ctx, f); err != nil {
				_ = l.Close(ctx) // what may still come of it is not wanted
				t.pool.remove(key)
				return nil, err
			}
			return l, nil
		}
		if timeout == nil {
			timer := time.NewTimer(t.cfg.Timeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-freed:
			continue
		case <-ctx.Done():
			err = t.fault(ctx, ctx.Err())
		case <-t.ctx.Done():
			err = t.closedFault()
		case <-timeout:
			err = t.busy()
		}
		t.pool.tidy(key)
		return nil, err
	}
}

// leases reports whether calls of modern clients go through pooled legs.
func (t *Target) leases(era protocol.Era) bool {
	if t.cfg.Transport == Stdio {
		return t.cfg.Command.PerSession
	}
	return era == protocol.Legacy
}

func (t *Target) busy() error {
	f := fault.Wrap(fault.Overloaded, t.wrap(errors.New("all legs are in use")), "too many calls are under way to this server")
	f.RetryAfter = time.Second
	return f
}

// take returns an idle leg of key; or, when there is none but room, nothing,
// having counted the leg that the caller will make; or a channel to wait on.
func (p *pool) take(key poolKey) (*Leg, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, p.t.closedFault()
	}
	s := p.shelf[key]
	if s == nil {
		s = new(shelf)
		p.shelf[key] = s
	}
	if n := len(s.idle); n > 0 {
		l := s.idle[n-1]
		s.idle = s.idle[:n-1]
		l.lease.timer.Stop()
		l.lease.lent = true
		return l, nil, nil
	}
	if s.count < maxLeased && (p.total < maxPooled || p.evict()) {
		s.count++
		p.total++
		return nil, nil, nil
	}
	if s.freed == nil {
		s.freed = make(chan struct{})
	}
	return nil, s.freed, nil
}

// put takes back a leg that was lent.
func (p *pool) put(l *Leg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.lease.lent {
		return
	}
	l.lease.lent = false
	l.mu.Lock()
	clear(l.asked)
	if l.lease.hearing != nil {
		l.lease.hearing.set(nil, "")
	}
	fit := !l.closed && l.w != nil && l.w.usable()
	l.mu.Unlock()
	if !fit || p.closed {
		p.discard(l)
		return
	}
	s := p.shelf[l.lease.key]
	s.idle = append(s.idle, l)
	l.lease.timer = time.AfterFunc(poolIdle, func() { p.expire(l) })
	s.free()
}

// donate gives the pool a wire that was made to find out what the target is.
func (p *pool) donate(w wire, c Client) {
	if !p.t.leases(w.era()) {
		return // it holds nothing that could be used again
	}
	key := keyOf(c)
	l, freed, err := p.take(key)
	if l != nil {
		p.put(l)
	}
	if l != nil || freed != nil || err != nil {
		p.t.parting(w.close)
		return
	}
	p.put(&Leg{t: p.t, client: &c, w: w, lease: &lease{key: key, lent: true}})
}

// expire ends a leg that was idle for long.
func (p *pool) expire(l *Leg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.shelf[l.lease.key]; !l.lease.lent && s != nil && s.drop(l) {
		p.discard(l)
	}
}

// evict makes room by ending one idle leg of any key. It reports whether there
// was one.
func (p *pool) evict() bool {
	for _, s := range p.shelf {
		if len(s.idle) > 0 {
			l := s.idle[0]
			s.drop(l)
			l.lease.timer.Stop()
			p.discard(l)
			return true
		}
	}
	return false
}

// drop takes l off the shelf; false if it is not on it.
func (s *shelf) drop(l *Leg) bool {
	for i, o := range s.idle {
		if o == l {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			return true
		}
	}
	return false
}

// free tells those who wait that a leg, or room for one, is there.
func (s *shelf) free() {
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}

// discard counts out a leg that is on no shelf, and ends it.
func (p *pool) discard(l *Leg) {
	p.uncount(l.lease.key)
	p.t.parting(func(ctx context.Context) { _ = l.Close(ctx) })
}

// remove counts out a leg that was never made.
func (p *pool) remove(key poolKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uncount(key)
}

func (p *pool) uncount(key poolKey) {
	s := p.shelf[key]
	s.count--
	p.total--
	s.free()
	if p.total == maxPooled-1 { // there is room for callers of other keys too
		for _, s := range p.shelf {
			s.free()
		}
	}
	if s.count == 0 {
		delete(p.shelf, key)
	}
}

// tidy drops the shelf of a caller that waited in vain.
func (p *pool) tidy(key poolKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.shelf[key]; s != nil && s.count == 0 {
		delete(p.shelf, key)
	}
}

// close ends the idle legs; those that are lent end when they are put back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.shelf {
		for _, l := range s.idle {
			l.lease.timer.Stop()
			p.discard(l)
		}
		s.idle = nil
		s.free()
	}
}
