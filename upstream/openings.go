package upstream

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// Bounds on open connections of a pool with destinations, those that are being made included.
const (
	maxOpenPerDestination = 256
	maxOpenDestinations   = 4096
)

// An openings counts the open connections of a pool with destinations. One more than may be is answered, rather than waited for.
type openings struct {
	each, all int    // the bounds
	evict     func() // closes idle connections

	mu   sync.Mutex
	open map[string]int // by address
	sum  int
}

var errOpenings = errors.New("all connections that there may be are in use")

// bound returns dialling by dial within the bounds.
func (o *openings) bound(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ok, full := o.begin(address)
		if full {
			o.evict()
			ok, _ = o.begin(address)
		}
		if !ok {
			return nil, fault.Wrap(fault.UpstreamUnreachable, errOpenings, "too many connections to the destination, or to all")
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			o.end(address)
			return nil, err
		}
		return &opening{Conn: c, closed: func() { o.end(address) }}, nil
	}
}

// begin counts a connection, if there may be one more to the address. full says that there may be none to any.
func (o *openings) begin(address string) (ok, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.open[address] >= o.each:
		return false, false
	case o.sum >= o.all:
		return false, true
	}
	o.sum++
	o.open[address]++
	return true, false
}

func (o *openings) end(address string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sum--
	if o.open[address]--; o.open[address] == 0 {
		delete(o.open, address)
	}
}

// An opening is a connection that counts until it is closed.
type opening struct {
	net.Conn
	once   sync.Once
	closed func()
}

// Close implements [net.Conn].
func (c *opening) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}
