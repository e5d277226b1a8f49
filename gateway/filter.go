package gateway

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/mcpgw/mcpgw/upstream"
)

// filters are the changes that a rule or a backend reference makes to requests and
// responses (Gateway API, HTTPRouteFilter).
type filters struct {
	request  []headerModifier
	response []headerModifier
	rewrite  *rewrite
	mirrors  []*upstream.Mirror
}

// A headerModifier sets, adds and removes headers, in this order.
type headerModifier struct {
	set, add []header
	remove   []string
}

// A header is one header line; the name is canonical.
type header struct{ name, value string }

// modifyRequest applies the modifiers to r, and returns it as it is forwarded: the request
// that rules and the access log look at stays as it was accepted. The Host header is the
// request's Host.
func modifyRequest(ms []headerModifier, r *http.Request) *http.Request {
	if len(ms) == 0 {
		return r
	}
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	for i := range ms {
		for _, h := range ms[i].set {
			if h.name == "Host" {
				r.Host = h.value
			}
		}
		ms[i].apply(r.Header)
	}
	return r
}

func (m *headerModifier) apply(to http.Header) {
	for _, h := range m.set {
		if h.name != "Host" {
			to[h.name] = []string{h.value}
		}
	}
	for _, h := range m.add {
		if h.name != "Host" {
			to[h.name] = append(to[h.name][:len(to[h.name]):len(to[h.name])], h.value)
		}
	}
	for _, name := range m.remove {
		delete(to, name)
	}
}

// A pathChange replaces a path, or the part of it that the rule's prefix matched.
type pathChange struct {
	full   bool
	prefix bool
	value  string
}

// apply returns u's path and raw path changed; matched is the length of the prefix that matched.
func (c *pathChange) apply(u *url.URL, matched int) (path, raw string) {
	switch {
	case c.full:
		return c.value, ""
	case c.prefix:
		rest, rawRest := u.Path[matched:], ""
		if u.RawPath != "" {
			rawRest = u.RawPath[rawLength(u.RawPath, matched):]
		}
		head := strings.TrimSuffix(c.value, "/")
		if head == "" && rest == "" {
			return "/", ""
		}
		if rawRest != "" {
			rawRest = (&url.URL{Path: head}).EscapedPath() + rawRest
		}
		return head + rest, rawRest
	default:
		return u.Path, u.RawPath
	}
}

// rawLength returns how much of an escaped path is the first n bytes of the path.
func rawLength(raw string, n int) int {
	i := 0
	for ; n > 0 && i < len(raw); n-- {
		if raw[i] == '%' {
			i += 2
		}
		i++
	}
	return min(i, len(raw))
}

// A rewrite changes host and path of a request before it is forwarded.
type rewrite struct {
	hostname string // "" keeps the host
	path     pathChange
}

// apply returns r as it is forwarded, as modifyRequest does.
func (w *rewrite) apply(r *http.Request, matched int) *http.Request {
	if w == nil {
		return r
	}
	r = r.WithContext(r.Context())
	if w.hostname != "" {
		r.Host = w.hostname
	}
	if w.path == (pathChange{}) {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = w.path.apply(r.URL, matched)
	r.URL = &u
	return r
}

// A redirect answers a request with another URL.
type redirect struct {
	scheme, hostname string // "" keeps the request's
	port             int    // 0: see location
	path             pathChange
	status           int
}

// location returns the URL to redirect to: the port is left out where the scheme
// implies it, and is the listener's where neither scheme nor port is given.
func (d *redirect) location(r *http.Request, host, scheme string, listenerPort, matched int) string {
	u := url.URL{Scheme: scheme, Host: host, RawQuery: r.URL.RawQuery}
	u.Path, u.RawPath = d.path.apply(r.URL, matched)
	port := d.port
	if d.scheme != "" {
		u.Scheme = d.scheme
	} else if port == 0 {
		port = listenerPort
	}
	if d.hostname != "" {
		u.Host = d.hostname
	}
	if strings.Contains(u.Host, ":") {
		u.Host = "[" + u.Host + "]"
	}
	if port != 0 && !(u.Scheme == "http" && port == 80) && !(u.Scheme == "https" && port == 443) {
		u.Host = net.JoinHostPort(strings.Trim(u.Host, "[]"), strconv.Itoa(port))
	}
	return u.String()
}

// A directResponse is a fixed answer.
type directResponse struct {
	status      int
	contentType string // "" without a body
	body        string
}

func (d *directResponse) write(w http.ResponseWriter) error {
	if d.body != "" {
		w.Header()["Content-Type"] = []string{d.contentType}
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(d.body))}
	if d.status == http.StatusNoContent || d.status == http.StatusNotModified {
		delete(w.Header(), "Content-Length") // these have no body (RFC 9110 section 8.6)
		w.WriteHeader(d.status)
		return nil
	}
	w.WriteHeader(d.status)
	_, err := w.Write([]byte(d.body))
	return err
}
