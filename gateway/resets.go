package gateway

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits on the streams of an HTTP/2 connection that its client resets: a request that is begun and given up at once
// costs the client next to nothing (CVE-2023-44487).
const (
	maxResets   = 200
	resetWindow = 10 * time.Second
)

// resets counts the requests of a connection that its client has given up. net/http bounds those
// that have not been begun.
type resets struct {
	conn net.Conn

	mu    sync.Mutex
	since time.Time
	n     int
}

type resetsKey struct{}

// noteReset counts a request of HTTP/2 that ended because its client gave it up, and closes a connection with too many.
func noteReset(r *http.Request) {
	if r.ProtoMajor != 2 || r.Context().Err() == nil {
		return
	}
	c, ok := r.Context().Value(resetsKey{}).(*resets)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.since) > resetWindow {
		c.since, c.n = now, 0
	}
	if c.n++; c.n == maxResets+1 {
		_ = c.conn.Close() // its requests end
	}
}
