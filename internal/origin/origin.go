// Package origin tells the requests that web pages of foreign origins have browsers send: an [Allowed] holds the
// origins whose pages may. It reads the headers Host and Origin and nothing else.
package origin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// An Allowed holds the origins of web pages that may use something beside its own. It is immutable; nil holds
// none.
type Allowed struct {
	any   bool
	exact map[string]bool
	hosts map[string]bool // of the exact ones
}

// New returns the origins of a list, such as https://app.example.com; "*" is all. What is no origin is left
// out.
func New(allowed []string) *Allowed {
	a := &Allowed{exact: map[string]bool{}, hosts: map[string]bool{}}
	for _, s := range allowed {
		if s == "*" {
			a.any = true
			continue
		}
		if u, ok := parse(s); ok {
			a.exact[text(u)] = true
			a.hosts[strings.ToLower(u.Hostname())] = true
		}
	}
	return a
}

// CheckHost refuses requests to a listener on loopback whose Host names neither this machine nor an
// allowed origin: a page on the web could reach it by DNS rebinding.
func (a *Allowed) CheckHost(host string) error {
	if host = hostname(host); isLoopback(host) || a != nil && a.hosts[host] {
		return nil
	}
	return forbidden("Forbidden: invalid Host header")
}

// Check refuses requests that a web page of a foreign origin may have caused (MCP 2026-07-28, Streamable HTTP,
// Security & Endpoint). Pages of this machine are not foreign to a listener on loopback. cross is
// the Origin of a page that may read the answer, "" where there is none.
func (a *Allowed) Check(r *http.Request, loopback bool) (cross string, err error) {
	switch values := r.Header["Origin"]; len(values) {
	case 0:
		return "", nil
	case 1:
		u, ok := parse(values[0])
		if !ok {
			return "", forbidden("Forbidden: invalid Origin header")
		}
		switch {
		case a != nil && (a.any || a.exact[text(u)]):
		case sameHost(u, r.Host):
		case loopback && isLoopback(strings.ToLower(u.Hostname())):
		default:
			return "", forbidden("Forbidden: Origin not allowed")
		}
		return values[0], nil
	default:
		return "", forbidden("Forbidden: more than one Origin header")
	}
}

func forbidden(message string) error { return fault.New(fault.Denied, "%s", message) }

// parse returns the origin that s is the serialization of; the opaque origin "null" is none.
func parse(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return nil, false
	}
	return u, true
}

func text(u *url.URL) string {
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + portOf(u)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// sameHost reports whether the page comes from the host that the request goes
// to. The scheme is not compared, since TLS may have ended in front of us.
func sameHost(u *url.URL, host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	name = strings.Trim(name, "[]")
	if !strings.EqualFold(name, u.Hostname()) {
		return false
	}
	return port == portOf(u) || port == "" && u.Port() == "" ||
		port == "" && (u.Port() == "443" || u.Port() == "80")
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
