// Package upstream is all that leaves the process over HTTP: a [Pool] of
// endpoints behind one http.RoundTripper, with the connections, the choice
// among them and what is known of their load; and a [Proxy] that passes whole
// requests on to a Pool.
//
// Package gateway makes Pools when it compiles a configuration and hands them to
// mcp/session, llm and the Proxies, which know them as http.RoundTrippers. A Pool
// outlives configurations: its endpoints can be exchanged while it is in use.
// Nothing here knows of MCP, LLM dialects or policies, and nothing here sends a
// request a second time once a byte of it may have left the process, unless the context of
// the request says so with a [Retry].
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
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
	pingAfter             = 15 * time.Second // of silence, on connections that carry several requests
	maxIdlePerHost        = 1024
	maxIdle               = 4096
	maxResponseHeader     = 256 << 10
	firstWindow           = 65535     // of a connection of HTTP/2 (RFC 9113 section 6.9.2)
	leastWindow           = 64 << 10  // that net/http lets be added to that
	maxWindow             = 4<<20 - 1 // likewise
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
	HTTP1  Protocol = iota
	H2C             // HTTP/2 without TLS, with prior knowledge (RFC 9113 section 3.3)
	HTTP2           // HTTP/2 only, over TLS
	HTTP11          // HTTP/1.1 only, whatever the peer offers over TLS
)

// Options configure a [Pool]. The zero value is a plain HTTP/1.1 pool.
type Options struct {
	Protocol Protocol
	// TLS, when set, makes the pool speak https. It is not changed.
	TLS *tls.Config
	// Strategy is how to choose among the endpoints; default [LeastRequest].
	Strategy Strategy
	// ByZone spreads requests over the zones of the endpoints, which [Pool.SetZones] tells, and then over the endpoints of the
	// zone: Envoy's locality weighted load balancing.
	ByZone bool
	// MergeWindow is how long after a change of which endpoints are usable the next ones are collected, to take effect together at its
	// end; 0 is not at all. Endpoints come and go at once whatever it is.
	MergeWindow time.Duration
	// PanicPercent is the share of usable endpoints below which all are used; nil means
	// [DefaultPanicPercent].
	PanicPercent *int
	// Outlier, when set, leaves out endpoints that fail.
	Outlier *Outlier
	// Check, when set, asks endpoints whether they work, while [Pool.Run] runs.
	Check *HealthCheck
	// ConnectTimeout bounds the time to a TCP connection, default 5s, and that of the TLS
	// handshake on it.
	ConnectTimeout time.Duration
	// KeepAlive is the TCP keepalive of connections; default is a probe each 30s.
	KeepAlive *net.KeepAliveConfig
	// IdleTimeout is how long a connection is kept without a request; default 60s.
	IdleTimeout time.Duration
	// MaxDuration bounds a request with its answer; 0 is no bound.
	MaxDuration time.Duration
	// MaxResponseHeaders bounds the header fields of an answer; 0 is no bound but that
	// of their size.
	MaxResponseHeaders int
	// MaxRequests is how many requests a connection serves; 0 is no bound.
	MaxRequests int
	// BufferLimit is how many bytes of answers are held for a connection before they are read; 0 is what net/http holds. It is
	// between 128 KiB and 4 MiB for a connection of HTTP/2, of which one request gets a quarter. One of HTTP/1.1 holds 4 KiB, and
	// [Proxy] holds 32 KiB for it, or the limit if that is less.
	BufferLimit int
	// CloseOnChange closes idle connections when the endpoints change.
	CloseOnChange bool
	// Destinations, when set, have each request go to the host that it names itself: the pool has
	// no endpoints.
	Destinations *Destinations
	// Resolver resolves names; default is [net.DefaultResolver].
	Resolver *net.Resolver
	// ResolveEvery is how often the names of hosts are resolved anew, while [Pool.Run] runs; default 10s.
	ResolveEvery time.Duration
	// Dial makes connections; default is a net.Dialer, which resolves names.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger gets what operators should know of endpoints; default [slog.Default].
	Logger *slog.Logger
}

// DefaultPanicPercent is the share of usable endpoints below which all are used, as Envoy has it.
const DefaultPanicPercent = 50

// A Pool sends requests to one of its endpoints. It replaces scheme and host of
// the request's URL, keeps Host, and is safe for concurrent use. It uses no
// proxy from the environment, asks for no compression and follows no redirect.
type Pool struct {
	transport *http.Transport
	lean      *lean // nil when the pool speaks TLS or HTTP/2
	scheme    string
	strategy  Strategy
	panic     int // percent
	byZone    bool
	window    time.Duration // see Options.MergeWindow
	perConn   int           // requests; 0 is no bound
	held      int           // the bytes that a Proxy holds; 0 is what it likes
	detector  *detector     // of outliers; nil without
	check     *HealthCheck
	bounds    bounds
	onChange  bool // close connections
	dynamic   bool // requests name their destinations
	multiplex bool // connections carry several requests at once
	lined     bool // they may: what bounds their requests is a line
	log       *slog.Logger

	retryable atomic.Int64 // requests under way that may be tried again
	retrying  atomic.Int64 // those of them that are, or were
	mirrored  atomic.Int64 // copies under way

	dial         dialFunc      // as it is asked for
	delay        time.Duration // see attemptDelay
	resolver     *net.Resolver
	resolveEvery time.Duration
	hasRoute     func(netip.Addr) bool // whether there is a way to an address
	changed      chan struct{}         // the hosts are others

	mu        sync.Mutex        // serialises changes of what endpoints there are and which are usable
	zones     map[string]string // by address
	merged    time.Time         // when changes of what is usable took effect last
	merging   *time.Timer       // has the next ones take effect; nil while there are none
	hosts     []string          // as configured
	resolved  map[string][]string
	named     atomic.Bool // some of hosts are names
	endpoints atomic.Pointer[set]
}

// bounds are on what a request and its answer may take; zero fields are none.
type bounds struct {
	duration time.Duration
	headers  int
}

// NewPool returns a pool of the addresses, each host:port.
func NewPool(opts Options, addresses ...string) *Pool {
	dial, timeout, handshake := opts.Dial, opts.ConnectTimeout, opts.ConnectTimeout
	if timeout <= 0 {
		timeout, handshake = defaultConnectTimeout, tlsHandshakeTimeout
	}
	if dial == nil {
		dialer := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, Resolver: opts.Resolver}
		if opts.KeepAlive != nil {
			dialer.KeepAlive, dialer.KeepAliveConfig = 0, *opts.KeepAlive
		}
		dial = dialer.DialContext
		if opts.Destinations != nil {
			dial = opts.Destinations.guard(dialer)
		}
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	p := &Pool{
		scheme:    "http",
		strategy:  opts.Strategy,
		panic:     DefaultPanicPercent,
		byZone:    opts.ByZone,
		window:    opts.MergeWindow,
		perConn:   opts.MaxRequests,
		detector:  newDetector(opts.Outlier, opts.Logger),
		check:     opts.Check,
		bounds:    bounds{opts.MaxDuration, opts.MaxResponseHeaders},
		onChange:  opts.CloseOnChange,
		dynamic:   opts.Destinations != nil,
		multiplex: opts.Protocol == H2C || opts.Protocol == HTTP2,
		log:       opts.Logger,

		resolver:     opts.Resolver,
		resolveEvery: cmp.Or(opts.ResolveEvery, resolveEvery),
		hasRoute:     hasRoute,
		delay:        attemptDelay,
		changed:      make(chan struct{}, 1),
		resolved:     map[string][]string{},
	}
	if p.resolver == nil {
		p.resolver = net.DefaultResolver
	}
	if opts.PanicPercent != nil {
		p.panic = *opts.PanicPercent
	}
	if p.strategy == nil {
		p.strategy = LeastRequest{}
	}
	open := &openings{each: maxOpenPerDestination, all: maxOpenDestinations, evict: p.Close, open: map[string]int{}}
	if p.dial = dial; p.dynamic {
		dial = open.bound(dial)
	} else {
		dial = p.eager(dial)
	}
	idle := cmp.Or(opts.IdleTimeout, idleConnTimeout)
	protocols := new(http.Protocols)
	switch {
	case opts.Protocol == H2C:
		protocols.SetUnencryptedHTTP2(true)
	case opts.Protocol == HTTP2:
		protocols.SetHTTP2(true)
	case opts.TLS != nil && opts.Protocol != HTTP11:
		protocols.SetHTTP1(true)
		// What is known of endpoints, which destinations are not, is what bounds the requests of a connection of HTTP/2.
		protocols.SetHTTP2(opts.Destinations == nil || opts.MaxRequests == 0)
	default:
		protocols.SetHTTP1(true)
	}
	tlsConfig := opts.TLS
	if tlsConfig != nil {
		p.scheme = "https"
		tlsConfig = tlsConfig.Clone()
	}
	p.lined = protocols.HTTP2() || protocols.UnencryptedHTTP2()
	p.transport = &http.Transport{
		DialContext:            countWrites(dial),
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    handshake,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
	}
	if n := opts.BufferLimit; n > 0 {
		window := min(max(n-firstWindow, leastWindow), maxWindow)
		p.transport.HTTP2.MaxReceiveBufferPerConnection, p.transport.HTTP2.MaxReceiveBufferPerStream = window, (firstWindow+window)/4
		p.held = max(n, readSize)
	}
	if tlsConfig != nil && tlsConfig.ServerName == "" && !p.dynamic {
		p.transport.DialTLSContext = p.dialTLS(tlsConfig, protocols, handshake)
	}
	switch {
	case p.dynamic: // the transport bounds what is idle, wherever it leads
		p.transport.MaxIdleConns, p.transport.MaxIdleConnsPerHost = maxIdleDestinations, maxIdlePerDestination
		p.detector, p.check = nil, nil
	case p.scheme == "http" && !p.multiplex:
		p.lean = &lean{dial: dial, keep: idle, perConn: opts.MaxRequests, idle: map[string][]*leanConn{}}
	}
	p.SetEndpoints(addresses...)
	return p
}

// SetEndpoints exchanges the hosts, each host:port. All addresses of a name are endpoints, as soon as [Pool.Run] has resolved it; until
// then it is one that is resolved for each connection. Requests under way go on where they are;
// an endpoint whose address stays keeps its connections and what is known of it.
func (p *Pool) SetEndpoints(addresses ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.hosts, addresses) && p.endpoints.Load() != nil {
		return
	}
	p.hosts = slices.Clone(addresses)
	p.named.Store(slices.ContainsFunc(p.hosts, isName))
	maps.DeleteFunc(p.resolved, func(host string, _ []string) bool { return !slices.Contains(p.hosts, host) })
	p.rebuild()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// SetZones says in which zones addresses are, for a pool that spreads requests over them. Of those that it does not name nothing is
// known. The map is not changed any more.
func (p *Pool) SetZones(zones map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.byZone || maps.Equal(p.zones, zones) {
		return
	}
	p.zones = zones
	p.exchange(p.endpoints.Load().all)
}

// rebuild makes the endpoints of the hosts and what they resolve to. The caller holds mu.
func (p *Pool) rebuild() {
	var old []*Endpoint
	if s := p.endpoints.Load(); s != nil {
		old = s.all
	}
	all := make([]*Endpoint, 0, len(p.hosts))
	for _, host := range p.hosts {
		addresses := p.resolved[host]
		if len(addresses) == 0 {
			addresses = []string{host}
		}
		for _, a := range addresses {
			if find(all, a) != nil {
				continue
			}
			e := find(old, a)
			if e == nil || e.Host() != host {
				e = &Endpoint{address: a, host: host, since: time.Now()}
			}
			all = append(all, e)
		}
	}
	if old != nil && slices.Equal(old, all) {
		return
	}
	p.exchange(all)
	for _, e := range old {
		if !slices.Contains(all, e) {
			e.closeIdle()
		}
	}
	if p.onChange && old != nil {
		p.Close()
	}
}

// exchange has other endpoints be picked. The caller holds mu.
func (p *Pool) exchange(all []*Endpoint) {
	s := &set{all: all, picker: p.strategy.Picker(all)}
	if p.byZone {
		s.zones = zonesOf(all, p.zones, p.strategy)
	}
	p.refresh(s)
}

// refresh has the endpoints of s be picked, those that are usable now; all of them when these are fewer than the
// percentage that it takes not to panic. The caller holds mu.
func (p *Pool) refresh(s *set) {
	if p.merging != nil {
		p.merging.Stop()
		p.merging = nil
	}
	next := &set{all: s.all, usable: usable(s.all), picker: s.picker, zones: s.zones}
	if all, n := prompt(next.all), len(next.usable); n == 0 || n*100 < p.panic*len(all) {
		next.usable = all
	} else {
		next.shares = sharesOf(next.zones)
	}
	p.endpoints.Store(next)
}

// merge has a change of which endpoints are usable take effect: at once, or with those that are collected. The caller holds
// mu.
func (p *Pool) merge() {
	wait := time.Until(p.merged.Add(p.window))
	switch {
	case p.merging != nil:
	case wait <= 0:
		p.merged = time.Now()
		p.refresh(p.endpoints.Load())
	default:
		p.merging = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.merging != nil { // nothing has done it meanwhile
				p.merged = time.Now()
				p.refresh(p.endpoints.Load())
			}
		})
	}
}

// Endpoints returns the endpoints there are now; the slice is not to be changed.
func (p *Pool) Endpoints() []*Endpoint { return p.endpoints.Load().all }

// Close closes idle connections. Requests under way go on, and the pool stays
// usable: Close only gives back what an unused pool would hold on to.
func (p *Pool) Close() {
	p.transport.CloseIdleConnections()
	for _, e := range p.Endpoints() {
		e.closeIdle()
	}
	if p.lean != nil {
		p.lean.closeIdle()
	}
}

// A Pin ties requests to one endpoint of a Pool: the first RoundTrip with an
// empty Pin fills in the endpoint it chose, later ones go there, or fail with
// UpstreamUnreachable when it is gone, unless the pool has names, whose addresses come and go. The first RoundTrip has to return before
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
// request is sent a second time only when nothing of it was sent before, or a [Retry] of the context says
// so. Reading the body of the response fails with the same faults.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	pin, _ := r.Context().Value(pinKey{}).(*Pin)
	return p.send(r, &sending{pin: pin})
}

// attempt sends r once.
func (p *Pool) attempt(a *attempt, r *http.Request) (*http.Response, error) {
	if p.lean.takes(r) {
		resp, sent, reused, err := p.lean.exchange(r, a)
		a.leanSent, a.reused = sent, reused
		return resp, err
	}
	a.transfer = new(transfer)
	out, err := a.request(r, p.scheme)
	if err != nil {
		return nil, err
	}
	var t *http.Transport
	t, a.end = p.via(a.endpoint)
	resp, err := t.RoundTrip(out)
	if err != nil && a.end != nil {
		a.end()
	}
	return resp, err
}

// pick returns the endpoint for r: what it names, the pinned one, or the picker's choice among
// those that are usable and were not tried yet.
func (p *Pool) pick(r *http.Request, pin *Pin, tried []*Endpoint) (*Endpoint, error) {
	if p.dynamic {
		return destination(r, p.scheme)
	}
	if p.detector != nil {
		p.sweepIfDue()
	}
	s := p.endpoints.Load()
	if pin != nil && pin.Endpoint != "" {
		if e := find(s.all, pin.Endpoint); e != nil {
			return e, nil
		}
		if !p.named.Load() {
			return nil, fault.Wrap(fault.UpstreamUnreachable, errGone, "the upstream is gone")
		}
		// The name has other addresses now, where the session may well be known, too.
	}
	if z := s.zone(r); z != nil {
		if from := without(z.usable, tried); len(from) > 0 {
			return z.picker.Pick(r, from), nil
		}
	}
	from := without(s.usable, tried)
	if len(from) == 0 { // what is not usable is better than nothing
		from = without(s.all, tried)
	}
	if len(from) == 0 {
		return nil, fault.Wrap(fault.UpstreamUnreachable, errNone, "no healthy upstream")
	}
	return s.picker.Pick(r, from), nil
}

// without returns list without the endpoints that were tried.
func without(list, tried []*Endpoint) []*Endpoint {
	if len(tried) == 0 {
		return list
	}
	from := make([]*Endpoint, 0, len(list))
	for _, e := range list {
		if !slices.Contains(tried, e) {
			from = append(from, e)
		}
	}
	return from
}

// fields returns how many header fields there are.
func fields(h http.Header) int {
	n := 0
	for _, values := range h {
		n += len(values)
	}
	return n
}

var (
	errGone = errors.New("the endpoint that the session lives on is no longer configured")
	errNone = errors.New("no endpoint is configured")

	errDuration = fault.New(fault.UpstreamTimeout, "the request took longer than maxStreamDuration")
)

// target returns the URL of r with the scheme and host replaced, written to u.
func target(r *http.Request, scheme, host string, u *url.URL) {
	*u = *r.URL
	u.Scheme, u.Host = scheme, host
}
