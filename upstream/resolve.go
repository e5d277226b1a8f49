package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// resolveEvery is how often names are resolved anew. What a record says of its time to live is not known
	// here: the system's resolver keeps to it.
	resolveEvery = 10 * time.Second
	// resolveTime bounds one resolution.
	resolveTime = 5 * time.Second
	// maxAddresses bounds how many addresses of one name are endpoints.
	maxAddresses = 256
	// resolvers is how many names of a pool are resolved at a time.
	resolvers = 8
)

// isName reports whether the host of an address is a name whose addresses are endpoints. Localhost is left to the
// dialer, which tries both of its addresses: what runs there is one server.
func isName(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host != "localhost" && !strings.HasSuffix(host, ".localhost")
}

// Resolves reports whether the pool has names to resolve, for which [Pool.Run] has to run.
func (p *Pool) Resolves() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dynamic && slices.ContainsFunc(p.hosts, isName)
}

// runResolver resolves the names again and again until ctx ends. What can't be resolved keeps its last addresses.
func (p *Pool) runResolver(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.changed:
		}
		p.resolveAll(ctx, failing)
		p.hurry(ctx)
		timer.Reset(p.resolveEvery)
	}
}

// resolveAll resolves all names once. failing are those that could not be the last time.
func (p *Pool) resolveAll(ctx context.Context, failing map[string]bool) {
	p.mu.Lock()
	hosts := slices.DeleteFunc(slices.Clone(p.hosts), func(h string) bool { return !isName(h) })
	p.mu.Unlock()
	found := make([][]string, len(hosts))
	errs := make([]error, len(hosts))
	var wait sync.WaitGroup
	slots := make(chan struct{}, resolvers)
	for i, h := range hosts {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			found[i], errs[i] = p.resolve(ctx, h)
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, h := range hosts {
		switch {
		case errs[i] != nil && !failing[h]:
			p.log.Warn("a name can't be resolved: its last addresses are used", slog.String("host", h), slog.Any("error", errs[i]))
		case errs[i] == nil && failing[h]:
			p.log.Info("a name is resolved again", slog.String("host", h))
		}
		failing[h] = errs[i] != nil
		if errs[i] == nil && slices.Contains(p.hosts, h) {
			p.resolved[h] = found[i]
		}
	}
	p.rebuild()
}

// resolve returns the addresses of a host:port, each with the port. Addresses to which this machine has no route are left
// out, if it has one to others: IPv6 is often known and not there.
func (p *Pool) resolve(ctx context.Context, hostPort string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	found, err := p.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortFunc(found, netip.Addr.Compare)
	found = slices.Compact(found)
	if routed := slices.DeleteFunc(slices.Clone(found), func(a netip.Addr) bool { return !p.hasRoute(a) }); len(routed) > 0 {
		found = routed
	}
	found = found[:min(len(found), maxAddresses)]
	out := make([]string, 0, len(found))
	for _, a := range found {
		out = append(out, net.JoinHostPort(a.String(), port))
	}
	return out, nil
}

// hasRoute reports whether there is a way to an address. Nothing is sent.
func hasRoute(a netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err != nil {
		return false
	}
	_ = c.Close() // it has told what it knows
	return true
}

// Host returns the host:port that the endpoint was configured as.
func (e *Endpoint) Host() string { return cmp.Or(e.host, e.address) }

// dialTLS returns dialling with TLS to endpoints whose certificates are for the hosts that they were configured as.
func (p *Pool) dialTLS(base *tls.Config, protocols *http.Protocols, timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	base = base.Clone()
	if len(base.NextProtos) == 0 {
		if protocols.HTTP2() {
			base.NextProtos = append(base.NextProtos, "h2")
		}
		if protocols.HTTP1() {
			base.NextProtos = append(base.NextProtos, "http/1.1")
		}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := p.transport.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		named := address
		if e := find(p.Endpoints(), address); e != nil {
			named = e.Host()
		}
		cfg := base.Clone()
		if cfg.ServerName, _, err = net.SplitHostPort(named); err != nil {
			cfg.ServerName = named
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn := tls.Client(raw, cfg)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // the handshake says why
			return nil, err
		}
		return conn, nil
	}
}
