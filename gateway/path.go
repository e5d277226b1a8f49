package gateway

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// checkTarget refuses what a client that means well has no use for, and that readers behind the gateway may take
// in their own way.
func checkTarget(r *http.Request) error {
	switch {
	case r.Method == http.MethodTrace: // it shows to pages what they must not see, and to clients what the gateway adds
		return &fault.Fault{Code: fault.MethodNotAllowed, Message: "TRACE is not served", Header: http.Header{"Allow": {"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"}}}
	case r.Host == "" && !isOld(r):
		return fault.New(fault.BadRequest, "the request has no Host")
	case r.URL.User != nil || r.URL.Scheme != "" && r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return fault.New(fault.BadRequest, "the request target has a user, or is no http URL")
	case strings.IndexByte(r.RequestURI, '#') >= 0:
		return fault.New(fault.BadRequest, "the request target has a fragment")
	default:
		return nil
	}
}

// checkPath refuses request targets that two readers could take for two different
// paths: dot segments, encoded slashes and backslashes, control characters. So the
// path that is matched and decided on is the path that upstreams see.
func checkPath(u *url.URL) error {
	path := u.Path
	if path == "" || path[0] != '/' {
		return fault.New(fault.BadRequest, "the request target is not a path")
	}
	if u.RawPath != "" && hasEncodedSlash(u.RawPath) {
		return fault.New(fault.BadRequest, "the path has an encoded slash")
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\':
			return fault.New(fault.BadRequest, "the path has a backslash")
		case c < ' ' || c == 0x7f:
			return fault.New(fault.BadRequest, "the path has a control character")
		case c == '/' && isDotSegment(path[i+1:]):
			return fault.New(fault.BadRequest, "the path has a dot segment")
		}
	}
	return nil
}

// isDotSegment reports whether s begins with the segment . or .., parameters (;…) aside.
func isDotSegment(s string) bool {
	if s == "" || s[0] != '.' {
		return false
	}
	s = s[1:]
	if s != "" && s[0] == '.' {
		s = s[1:]
	}
	return s == "" || s[0] == '/' || s[0] == ';'
}

func hasEncodedSlash(raw string) bool {
	for rest := raw; ; {
		i := strings.IndexByte(rest, '%')
		if i < 0 || len(rest) < i+3 {
			return false
		}
		switch rest[i+1 : i+3] {
		case "2f", "2F", "5c", "5C":
			return true
		}
		rest = rest[i+3:]
	}
}

// hostOf returns the host of a Host header in lower case, without port, the
// brackets of an IPv6 address and the dot of an absolute name. ok is false for what can't be a host.
func hostOf(header string) (host string, ok bool) {
	host = header
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || !isPort(host[end+1:]) {
			return "", false
		}
		addr, err := netip.ParseAddr(host[1:end])
		return host[1:end], err == nil && addr.Is6()
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !isPort(host[i:]) {
			return "", false
		}
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	upper := false
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return "", false
		}
	}
	if upper {
		host = strings.ToLower(host)
	}
	return host, len(host) <= 253
}

// isPort reports whether s is empty or a colon and at most five digits.
func isPort(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != ':' || len(s) > 6 {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
