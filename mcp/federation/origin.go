package federation

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A Listener is what an MCP endpoint needs to know of the listener that
// accepted a request.
type Listener struct {
	// Loopback says that the listener is bound to a loopback address: then the
	// Host must name this machine, or a page on the web could reach it by DNS
	// rebinding.
	Loopback bool
}

type listenerKey struct{}

// WithListener returns a context for [Backend.Serve] that says where the request
// came in. Without it the listener counts as not loopback.
func WithListener(ctx context.Context, l Listener) context.Context {
	return context.WithValue(ctx, listenerKey{}, l)
}

// ListenerOf returns what WithListener put into the context.
func ListenerOf(ctx context.Context) Listener {
	l, _ := ctx.Value(listenerKey{}).(Listener)
	return l
}

// origins are the origins of web pages that may use a backend beside its own.
type origins struct {
	any   bool
	exact map[string]bool
	hosts map[string]bool // of the exact ones
}

func newOrigins(allowed []string) *origins {
	o := &origins{exact: map[string]bool{}, hosts: map[string]bool{}}
	for _, s := range allowed {
		if s == "*" {
			o.any = true
			continue
		}
		if u, ok := parseOrigin(s); ok {
			o.exact[originString(u)] = true
			o.hosts[strings.ToLower(u.Hostname())] = true
		}
	}
	return o
}

// check refuses requests that a web page of a foreign origin may have caused
// (2026-07-28, Streamable HTTP, Security & Endpoint). cross is the Origin of a
// page that may read the answer, "" where there is none.
func (o *origins) check(r *http.Request) (cross string, err error) {
	loopback := ListenerOf(r.Context()).Loopback
	if loopback {
		if host := hostname(r.Host); !isLoopback(host) && !o.hosts[host] {
			return "", forbidden("Forbidden: invalid Host header")
		}
	}
	switch values := r.Header["Origin"]; len(values) {
	case 0:
		return "", nil
	case 1:
		u, ok := parseOrigin(values[0])
		if !ok {
			return "", forbidden("Forbidden: invalid Origin header")
		}
		switch {
		case o.any, o.exact[originString(u)]:
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

// AllowOrigin lets the page that r comes from, if it may use the backend, read an answer that
// [Backend.Serve] does not give.
func (b *Backend) AllowOrigin(h http.Header, r *http.Request) {
	if cross, err := b.origins.check(r); err == nil {
		allowOrigin(h, cross)
	}
}

// allowOrigin lets the page of that origin read the answer.
func allowOrigin(h http.Header, origin string) {
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, Mcp-Protocol-Version, Www-Authenticate")
}

// preflight answers the question of a browser whether a page of an allowed
// origin may send a request (Fetch, CORS-preflight).
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	var names []string
	for _, line := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); token(name) && len(names) < 100 {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(names, ", "))
	}
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}

// parseOrigin returns the origin that s is the serialization of; the opaque
// origin "null" is none.
func parseOrigin(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return nil, false
	}
	return u, true
}

func originString(u *url.URL) string {
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
