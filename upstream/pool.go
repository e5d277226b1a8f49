// Package upstream is all that leaves the process over HTTP: a [Pool] of
// endpoints behind one http.RoundTripper, with the connections, the choice
// among them and what is known of their load; and a [Proxy] that passes whole
// requests on to a Pool.
//
// Package gateway makes Pools when it compiles a configuration and hands them to
// mcp/session, llm and the Proxies, which know them as http.RoundTrippers. A Pool
// outlives configurations: its endpoints can be exchanged while it is in use.
// Nothing here knows of MCP, LLM dialects or policies, and nothing here sends a
// request a second time once a byte of it may have left the process.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// Limits and times that every Pool has.
const (
	defaultConnectTimeout = 5 * time.Second
	tlsHandshakeTimeout   = 10 * time.Second
	idleConnTimeout       = 60 * time.Second
	maxIdlePerHost        = 1024
	maxIdle               = 4096
	maxResponseHeader     = 256 << 10
	// maxAttempts bounds how many endpoints one request is offered to. Only a
	// request of which nothing was sent is offered again.
	maxAttempts = 3
	// maxStale bounds how many idle connections that turn out to be closed one
	// request may meet.
	maxStale = 16
)

// A Protocol says how a Pool speaks HTTP.
type Protocol uint8

// The protocols. The zero value is HTTP/1.1, and what ALPN agrees on over TLS.
const (
	HTTP1 Protocol = iota
	H2C            // HTTP/2 without TLS, with prior knowledge (RFC 9113 section 3.3)
	HTTP2          // HTTP/2 only, over TLS
)

// Options configure a [Pool]. The zero value is a plain HTTP/1.1 pool.
type Options struct {
	Protocol Protocol
	// TLS, when set, makes the pool speak https. It is not changed.
	TLS *tls.Config
	// Picker chooses among the endpoints; default [LeastOfTwo].
	Picker Picker
	// ConnectTimeout bounds the time to a TCP connection, default 5s, and that of the TLS
	// handshake on it.
	ConnectTimeout time.Duration
	// Dial makes connections; default is a net.Dialer, which resolves names.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Pool sends requests to one of its endpoints. It replaces scheme and host of
// the request's URL, keeps Host, and is safe for concurrent use. It uses no
// proxy from the environment, asks for no compression and follows no redirect.
type Pool struct {
	transport *http.Transport
	lean      *lean // nil when the pool speaks TLS or HTTP/2
	scheme    string
	picker    Picker
	multiplex bool // connections carry several requests at once

	mu        sync.Mutex // serialises SetEndpoints
	endpoints atomic.Pointer[[]*Endpoint]
}

// NewPool returns a pool of the addresses, each host:port.
func NewPool(opts Options, addresses ...string) *Pool {
	dial, timeout, handshake := opts.Dial, opts.ConnectTimeout, opts.ConnectTimeout
	if timeout <= 0 {
		timeout, handshake = defaultConnectTimeout, tlsHandshakeTimeout
	}
	if dial == nil {
		dial = (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext
	}
	p := &Pool{
		scheme:    "http",
		picker:    opts.Picker,
		multiplex: opts.Protocol == H2C || opts.Protocol == HTTP2,
	}
	if p.picker == nil {
		p.picker = LeastOfTwo{}
	}
	protocols := new(http.Protocols)
	switch {
	case opts.Protocol == H2C:
		protocols.SetUnencryptedHTTP2(true)
	case opts.Protocol == HTTP2:
		protocols.SetHTTP2(true)
	case opts.TLS != nil:
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
	default:
		protocols.SetHTTP1(true)
	}
	tlsConfig := opts.TLS
	if tlsConfig != nil {
		p.scheme = "https"
		tlsConfig = tlsConfig.Clone()
	}
	p.transport = &http.Transport{
		DialContext:            countWrites(dial),
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    handshake,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
		Protocols:              protocols,
	}
	if p.scheme == "http" && !p.multiplex {
		p.lean = &lean{dial: dial, idle: map[string][]*leanConn{}}
	}
	p.SetEndpoints(addresses...)
	return p
}

// SetEndpoints exchanges the endpoints. Requests under way go on where they are;
// an endpoint whose address stays keeps its connections and its load.
func (p *Pool) SetEndpoints(addresses ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*Endpoint
	if e := p.endpoints.Load(); e != nil {
		old = *e
	}
	next := make([]*Endpoint, 0, len(addresses))
	for _, a := range addresses {
		if find(next, a) != nil {
			continue
		}
		e := find(old, a)
		if e == nil {
			e = &Endpoint{address: a}
		}
		next = append(next, e)
	}
	p.endpoints.Store(&next)
}

// Endpoints returns the endpoints there are now; the slice is not to be changed.
func (p *Pool) Endpoints() []*Endpoint { return *p.endpoints.Load() }

// Close closes idle connections. Requests under way go on, and the pool stays
// usable: Close only gives back what an unused pool would hold on to.
func (p *Pool) Close() {
	p.transport.CloseIdleConnections()
	if p.lean != nil {
		p.lean.closeIdle()
	}
}

// A Pin ties requests to one endpoint of a Pool: the first RoundTrip with an
// empty Pin fills in the endpoint it chose, later ones go there, or fail with
// UpstreamUnreachable when it is gone. The first RoundTrip has to return before
// others use the Pin; from then on it is read-only.
type Pin struct{ Endpoint string }

type pinKey struct{}

// WithPin returns a context whose requests are tied by pin.
func WithPin(ctx context.Context, pin *Pin) context.Context {
	return lifetime.WithValue(ctx, pinKey{}, pin)
}

// RoundTrip picks an endpoint, sends r and reports the outcome. It implements
// http.RoundTripper; r is not changed.
//
// Its errors are faults: UpstreamUnreachable when nothing was sent,
// UpstreamFailed or UpstreamTimeout otherwise, and the client's own (ClientGone,
// TooLarge, BadRequest, …) when it was the request's body that could not be read. A
// request is sent a second time only when nothing of it was sent before. Reading the body of the
// response fails with the same faults.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	pin, _ := r.Context().Value(pinKey{}).(*Pin)
	resp, _, err := p.send(r, pin)
	return resp, err
}

// send is RoundTrip with the pin at hand. It also returns the request's body as it was
// watched; nil if it was not.
func (p *Pool) send(r *http.Request, pin *Pin) (*http.Response, *watchedBody, error) {
	var body *watchedBody
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		body = &watchedBody{body: r.Body}
	}
	resp, body, err := p.offer(r, pin, body)
	if err != nil && body != nil {
		_ = body.Close() // the caller gave the body away: there is nobody to tell
	}
	body.settle()
	return resp, body, err
}

// offer sends r to one endpoint after the other until one takes it. It returns the
// body as the last of them got it.
func (p *Pool) offer(r *http.Request, pin *Pin, body *watchedBody) (*http.Response, *watchedBody, error) {
	var tried []*Endpoint
	stale := 0
	for {
		e, err := p.pick(r, pin, tried)
		if err != nil {
			return nil, body, err
		}
		a := &attempt{endpoint: e, multiplex: p.multiplex, ctx: r.Context(), body: body, replay: stale+len(tried) > 0}
		resp, err := p.attempt(a, r)
		if err == nil {
			if pin != nil && pin.Endpoint == "" {
				pin.Endpoint = e.address
			}
			a.watch(resp)
			return resp, body, nil
		}
		f := a.fault(err)
		if f.Code != fault.UpstreamUnreachable {
			return nil, body, f
		}
		switch {
		case a.reused && stale < maxStale: // the server had closed an idle connection: there may be more of those
			stale++
		case pin != nil && pin.Endpoint != "":
			return nil, body, f
		default:
			if tried = append(tried, e); len(tried) == maxAttempts || len(tried) >= len(p.Endpoints()) {
				return nil, body, f
			}
		}
		if body != nil {
			next := body.again()
			if next == nil {
				return nil, body, f
			}
			body = next
		}
	}
}

// attempt sends r once.
func (p *Pool) attempt(a *attempt, r *http.Request) (*http.Response, error) {
	if p.lean.takes(r) {
		resp, sent, reused, err := p.lean.exchange(r, a.endpoint.address, a.replay)
		a.leanSent, a.reused = sent, reused
		return resp, err
	}
	a.transfer = new(transfer)
	out, err := a.request(r, p.scheme)
	if err != nil {
		return nil, err
	}
	return p.transport.RoundTrip(out)
}

// pick returns the endpoint for r: the pinned one, or the picker's choice among
// those not tried yet.
func (p *Pool) pick(r *http.Request, pin *Pin, tried []*Endpoint) (*Endpoint, error) {
	all := p.Endpoints()
	if pin != nil && pin.Endpoint != "" {
		if e := find(all, pin.Endpoint); e != nil {
			return e, nil
		}
		return nil, fault.Wrap(fault.UpstreamUnreachable, errGone, "the upstream is gone")
	}
	from := all
	if len(tried) > 0 {
		from = make([]*Endpoint, 0, len(all))
		for _, e := range all {
			if find(tried, e.address) == nil {
				from = append(from, e)
			}
		}
	}
	if len(from) == 0 {
		return nil, fault.Wrap(fault.UpstreamUnreachable, errNone, "no healthy upstream")
	}
	return p.picker.Pick(r, from), nil
}

var (
	errGone = errors.New("the endpoint that the session lives on is no longer configured")
	errNone = errors.New("no endpoint is configured")
)

// target returns the URL of r with the scheme and host replaced, written to u.
func target(r *http.Request, scheme, host string, u *url.URL) {
	*u = *r.URL
	u.Scheme, u.Host = scheme, host
}
