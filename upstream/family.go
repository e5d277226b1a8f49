package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// attemptDelay is how long an address may take to be connected to before the name's addresses of the other family are used (RFC 8305
// section 5, Connection Attempt Delay).
const attemptDelay = 250 * time.Millisecond

var errSlow = errors.New("the address takes longer to be connected to than the other family's may")

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// eager returns dialling by dial that does not wait for long for an endpoint whose host has addresses of the other family: IPv6 is
// often known, and leads nowhere. Nothing was sent, so another endpoint gets the request; the family is left out until
// one of its addresses can be connected to.
func (p *Pool) eager(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !p.named.Load() || !p.hasOtherFamily(address) {
			return dial(ctx, network, address)
		}
		short, cancel := context.WithTimeout(ctx, p.delay)
		defer cancel()
		c, err := dial(short, network, address)
		if err != nil && short.Err() != nil && ctx.Err() == nil {
			p.slowed(address)
			return nil, fmt.Errorf("%w: %w", errSlow, err)
		}
		return c, err
	}
}

// isSix reports whether an address with its port is of IPv6.
func isSix(address string) bool { return strings.HasPrefix(address, "[") }

// hasOtherFamily reports whether the host of an endpoint has addresses of the other family that are not slow.
func (p *Pool) hasOtherFamily(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.endpoints.Load().all
	e := find(all, address)
	if e == nil || e.slow {
		return false
	}
	for _, o := range all {
		if o.host == e.host && isSix(o.address) != isSix(address) && !o.slow {
			return true
		}
	}
	return false
}

// slowed leaves out the addresses of an endpoint's host that are of its family.
func (p *Pool) slowed(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.endpoints.Load()
	e := find(s.all, address)
	if e == nil || e.slow {
		return
	}
	for _, o := range s.all {
		if o.host == e.host && isSix(o.address) == isSix(address) {
			o.slow = true
		}
	}
	p.log.Warn("the addresses of one family can't be connected to in time: those of the other are used", "host", e.host, "address", address)
	p.refresh(s)
}

// hurry connects to the addresses that are left out, to see whether they can be used again.
func (p *Pool) hurry(ctx context.Context) {
	p.mu.Lock()
	var slow []*Endpoint
	for _, e := range p.endpoints.Load().all {
		if e.slow {
			slow = append(slow, e)
		}
	}
	p.mu.Unlock()
	var wait sync.WaitGroup
	slots := make(chan struct{}, resolvers)
	for _, e := range slow {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			short, cancel := context.WithTimeout(ctx, p.delay)
			defer cancel()
			c, err := p.dial(short, "tcp", e.address)
			if err != nil {
				return
			}
			_ = c.Close() // it has told what it was made for
			p.mu.Lock()
			defer p.mu.Unlock()
			e.slow = false
			p.log.Info("an address can be connected to in time again", "host", e.host, "address", e.address)
			p.refresh(p.endpoints.Load())
		})
	}
	wait.Wait()
}
