package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/upstream"
)

// An edge is what HTTPListenerPolicies say of how a listener deals with the clients of its Gateway. It is
// asked once the listener is known, before a route is looked for.
type edge struct {
	upgrades   map[string]bool // the protocols that a connection may be upgraded to, in lower case
	fromHeader bool            // the client's address stands in X-Forwarded-For, and that goes on as it is
	hops       int             // how many addresses at the end of X-Forwarded-For are those of trusted proxies
	server     serverHeader
	idle       *lifetime.Watchdog // over requests of which nothing moves, where rules do not say it; nil is no bound
	idleSaid   bool               // it holds, also for backends with clocks of their own
	health     string             // the path of health checks, "" for none
	logs       []*logPlan
	refusesOld bool // HTTP/1.0
}

// keepsHeader reports whether a log asks for the header of answers.
func (e *edge) keepsHeader() bool {
	return slices.ContainsFunc(e.logs, func(l *logPlan) bool { return l.NeedsHeader() })
}

// newEdge returns the edge of a listener that no policy covers.
func newEdge() *edge { return &edge{upgrades: map[string]bool{"websocket": true}} }

// serverName is what the gateway writes into the header Server.
const serverName = "mcpgw"

// A serverHeader says what becomes of the header Server of answers.
type serverHeader uint8

// What becomes of it.
const (
	serverPasses serverHeader = iota
	serverOverwritten
	serverFilledIn // where there is none
)

func (s serverHeader) apply(h http.Header) {
	switch s {
	case serverPasses:
		return
	case serverFilledIn:
		if len(h["Server"]) > 0 {
			return
		}
	case serverOverwritten:
	}
	h["Server"] = []string{serverName}
}

// enter takes a request over the edge: it establishes the address of the client and refuses what the edge
// does not let in. It reports whether it has answered the request. What another replica passes on has been over
// the edge there.
func (e *edge) enter(x *exchange, r *http.Request, ready bool) (answered bool, err error) {
	if x.peer {
		return false, nil
	}
	x.writer.server = e.server
	x.logged.begin(x, e)
	if isOld(r) {
		if e.refusesOld {
			return false, errOldHTTP
		}
		if r.Host == "" {
			return false, fault.New(fault.BadRequest, "the request has no Host")
		}
	}
	e.trust(x, r)
	if e.health != "" && r.URL.Path == e.health {
		x.rec.HealthCheck = true
		status := http.StatusOK
		if !ready {
			status = http.StatusServiceUnavailable
		}
		x.writer.Header()["Content-Length"] = []string{"0"}
		x.writer.WriteHeader(status)
		return true, nil
	}
	return false, e.checkUpgrade(r)
}

// isOld reports whether r came over a version of HTTP before 1.1.
func isOld(r *http.Request) bool { return r.ProtoMajor < 1 || r.ProtoMajor == 1 && r.ProtoMinor < 1 }

var errOldHTTP = &fault.Fault{
	Code: fault.VersionRefused, Message: "HTTP/1.0 is not served here",
	Header: http.Header{"Upgrade": {"HTTP/1.1"}, "Connection": {"Upgrade, close"}},
}

// trusting reports whether the hop in front is a proxy that is trusted.
func (e *edge) trusting() bool { return e.fromHeader || e.hops > 0 }

// trust takes the client's address and the scheme from what trusted proxies have written, as Envoy does.
func (e *edge) trust(x *exchange, r *http.Request) {
	if !e.trusting() {
		return
	}
	n := e.hops
	if !e.fromHeader {
		n-- // the last of the trusted proxies is the peer, which is not in the header
	}
	if addr, ok := nthFromLast(r.Header["X-Forwarded-For"], n); ok {
		x.rec.Source = addr
		x.request.Source = addr
	}
	if proto := r.Header["X-Forwarded-Proto"]; len(proto) == 1 && (proto[0] == "http" || proto[0] == "https") {
		x.request.Scheme = proto[0]
	}
}

// nthFromLast returns an address of X-Forwarded-For, the last for 0. Its port is 0 unless the header has one.
func nthFromLast(lines []string, n int) (addr netip.AddrPort, ok bool) {
	for i := len(lines) - 1; i >= 0; i-- {
		for rest := lines[i]; ; n-- {
			comma := strings.LastIndexByte(rest, ',')
			if n == 0 {
				return parseClient(strings.Trim(rest[comma+1:], " \t"))
			}
			if comma < 0 {
				n--
				break
			}
			rest = rest[:comma]
		}
	}
	return netip.AddrPort{}, false
}

// parseClient reads an address with or without port, an IPv6 address in brackets or not.
func parseClient(s string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return netip.AddrPortFrom(a.Unmap().WithZone(""), 0), true
	}
	a, err := netip.ParseAddrPort(s)
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), err == nil
}

// forwarding returns ctx for what the edge says of the X-Forwarded headers toward a backend.
func (e *edge) forwarding(ctx context.Context) context.Context {
	if !e.trusting() {
		return ctx
	}
	return upstream.WithTrustedHop(ctx, upstream.TrustedHop{Complete: e.fromHeader})
}

// checkUpgrade refuses to switch to a protocol that is not enabled. h2c is an offer that may be declined (RFC 9113
// section 3.1), and is. What else asks for an upgrade has no body: nobody would know whose it is.
func (e *edge) checkUpgrade(r *http.Request) error {
	lines := r.Header["Upgrade"]
	if len(lines) == 0 || !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") {
		return nil
	}
	name := strings.ToLower(strings.Join(lines, ","))
	switch {
	case name == "h2c":
		return nil
	case !e.upgrades[name]:
		return fault.New(fault.Denied, "upgrade not enabled")
	case r.ContentLength != 0:
		return fault.New(fault.BadRequest, "a request to upgrade has a body")
	default:
		return nil
	}
}
