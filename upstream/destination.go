package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// Destinations have a [Pool] send each request to the host that its Host names. Addresses that are
// the gateway's own or near it are refused: loopback, link-local, the metadata services of clouds, unspecified,
// multicast, and those of its interfaces, also where they stand inside an IPv6 address. It is the address that is dialled that
// counts, whatever a name was resolved to before.
type Destinations struct {
	// Allowed are addresses that are not refused.
	Allowed []netip.Prefix
	// Hosts are names that are not refused whatever they resolve to, in lower case: exact, or *. and what
	// names end in.
	Hosts []string
}

// Bounds on idle connections of a pool with destinations; the one that was used least recently goes first.
const (
	maxIdlePerDestination = 32
	maxIdleDestinations   = 1024
)

// destination returns the address that a request of that Host goes to.
func destination(r *http.Request, scheme string) (*Endpoint, error) {
	host, port := r.Host, map[string]string{"http": "80", "https": "443"}[scheme]
	if h, p, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fault.New(fault.BadRequest, "the port of the Host header is not one")
		}
		host, port = h, p
	} else if strings.HasPrefix(host, "[") {
		host = strings.Trim(host, "[]")
	}
	if host == "" {
		return nil, fault.New(fault.BadRequest, "the Host header names no host")
	}
	return &Endpoint{address: net.JoinHostPort(host, port), since: time.Now()}, nil
}

var errRefused = errors.New("the address is refused unless allowedDestinations has it or its host")

// guard returns dialling by d that connects to what is permitted only. It is asked between the resolution of a name and
// the connection to each address.
func (d *Destinations) guard(dialer *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	own := new(ownAddresses)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		var refused atomic.Bool
		dialer := *dialer
		if !d.permitsHost(host) {
			dialer.ControlContext = func(_ context.Context, _, dialled string, _ syscall.RawConn) error {
				to, err := netip.ParseAddrPort(dialled)
				if err == nil && d.permits(to.Addr(), own) {
					return nil
				}
				refused.Store(true)
				return fmt.Errorf("%s: %w", dialled, errRefused)
			}
		}
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil && refused.Load() {
			return nil, fault.Wrap(fault.Denied, err, "the destination is not permitted")
		}
		return c, err
	}
}

// permitsHost reports whether a name is permitted whatever it resolves to.
func (d *Destinations) permitsHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(d.Hosts, func(pattern string) bool {
		if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
			return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
		}
		return host == pattern
	})
}

// permits reports whether an address may be dialled.
func (d *Destinations) permits(ip netip.Addr, own *ownAddresses) bool {
	ip = ip.Unmap().WithZone("")
	if slices.ContainsFunc(d.Allowed, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return true
	}
	for _, meant := range append(embedded(ip), ip) {
		if own.has(meant) || slices.ContainsFunc(refusedDestinations[:], func(p netip.Prefix) bool { return p.Contains(meant) }) {
			return false
		}
	}
	return true
}

// refusedDestinations are what nobody may name from outside, see [Destinations].
var refusedDestinations = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // unspecified, and "this network" (RFC 1122)
	netip.MustParsePrefix("::/128"),             // unspecified
	netip.MustParsePrefix("127.0.0.0/8"),        // loopback
	netip.MustParsePrefix("::1/128"),            // loopback
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local, and the metadata of most clouds
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fec0::/10"),          // site-local, as it was once (RFC 3879)
	netip.MustParsePrefix("fd00:ec2::/32"),      // metadata and credentials of AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // metadata of Google Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // the platform of Azure
	netip.MustParsePrefix("100.100.100.200/32"), // metadata of Alibaba Cloud
	netip.MustParsePrefix("192.0.0.192/32"),     // metadata of Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast
	netip.MustParsePrefix("240.0.0.0/4"),        // reserved, and broadcast
	netip.MustParsePrefix("ff00::/8"),           // multicast
}

// Where IPv4 addresses stand inside IPv6 ones.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")      // RFC 4380
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291
)

// embedded returns the IPv4 addresses to which translators and tunnels may take an IPv6 address.
func embedded(ip netip.Addr) (out []netip.Addr) {
	if !ip.Is6() {
		return nil
	}
	b := ip.As16()
	at := func(i, j, k, l int) { out = append(out, netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]})) }
	switch {
	case nat64.Contains(ip), compatible.Contains(ip):
		at(12, 13, 14, 15)
	case localNAT64.Contains(ip): // a prefix of any length may be in it
		at(12, 13, 14, 15)
		at(6, 7, 9, 10)
		at(7, 9, 10, 11)
		at(9, 10, 11, 12)
	case sixToFour.Contains(ip):
		at(2, 3, 4, 5)
	case teredo.Contains(ip):
		out = append(out, netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	return out
}

// ownTime is how long the addresses of the interfaces are believed.
const ownTime = 5 * time.Second

// ownAddresses are those of this machine's interfaces.
type ownAddresses struct {
	mu     sync.Mutex
	looked time.Time
	list   []netip.Addr
}

// has reports whether ip is one of them. When they can't be told, the last ones count.
func (o *ownAddresses) has(ip netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.looked) > ownTime {
		if all, err := net.InterfaceAddrs(); err == nil {
			o.looked, o.list = time.Now(), o.list[:0]
			for _, a := range all {
				if n, ok := a.(*net.IPNet); ok {
					if addr, ok := netip.AddrFromSlice(n.IP); ok {
						o.list = append(o.list, addr.Unmap())
					}
				}
			}
		}
	}
	return slices.Contains(o.list, ip)
}
