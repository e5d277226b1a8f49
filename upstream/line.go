package upstream

import "net/http"

// A line is the connection of HTTP/2 to an endpoint while connections serve a number of requests only, see
// [Options.MaxRequests]. net/http has no such number, and to end a connection that it keeps could fail requests that
// are about to go there; so each line has a transport of its own, which is left alone once it has got its number. (It may have several
// connections, where the endpoint permits few streams.)
type line struct {
	transport *http.Transport
	left      int // the requests it may still get
	active    int // those under way
}

// via returns the transport for a request to e, and what is to be called at its end.
func (p *Pool) via(e *Endpoint) (t *http.Transport, end func()) {
	if p.perConn == 0 || !p.lined || e.serial.Load() {
		return p.transport, nil
	}
	e.lining.Lock()
	defer e.lining.Unlock()
	if e.line == nil || e.line.left == 0 {
		e.line = &line{transport: p.transport.Clone(), left: p.perConn}
	}
	l := e.line
	l.left--
	l.active++
	return l.transport, func() {
		e.lining.Lock()
		defer e.lining.Unlock()
		if l.active--; l.left == 0 && l.active == 0 {
			l.transport.CloseIdleConnections()
		}
	}
}

// closeIdle closes what is idle of the endpoint's own connections.
func (e *Endpoint) closeIdle() {
	e.lining.Lock()
	defer e.lining.Unlock()
	if e.line != nil {
		e.line.transport.CloseIdleConnections()
	}
}
