package gateway

import (
	"cmp"
	"slices"
)

// An Endpoint is a path at which a Snapshot serves one backend, whatever the
// method, headers and query of the request.
type Endpoint struct {
	Port    int
	TLS     bool
	Host    string // "" is any; wildcards are left out
	Path    string // exact, or the prefix
	Backend string // namespace/name
	MCP     bool   // the backend is of type MCP
}

// Endpoints returns what clients can use, for people who ask where: MCP first, then
// by port, path length and path. Rules that redirect, split traffic or ask for more than a path
// are left out.
func (s *Snapshot) Endpoints() []Endpoint {
	var endpoints []Endpoint
	for _, p := range s.ports {
		p.listeners.all(func(l *listener) {
			l.router.hosts.all(func(t *pathTable) {
				for _, matches := range []map[string][]*match{t.exact, t.prefixes} {
					for _, m := range matches {
						if e, ok := endpointOf(p, m[0]); ok && !slices.Contains(endpoints, e) {
							endpoints = append(endpoints, e)
						}
					}
				}
			})
		})
	}
	slices.SortFunc(endpoints, func(a, b Endpoint) int {
		return cmp.Or(
			compareBool(b.MCP, a.MCP),
			cmp.Compare(a.Port, b.Port),
			cmp.Compare(len(a.Path), len(b.Path)),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Host, b.Host),
		)
	})
	return endpoints
}

// endpointOf returns where the rule of m is served; ok is false when that takes
// more than a path, or is not one backend.
func endpointOf(p *port, m *match) (e Endpoint, ok bool) {
	conditional := m.method != "" || len(m.headers) > 0 || len(m.query) > 0 || len(m.hostname) > 0 && m.hostname[0] == '*'
	if conditional || m.rule.redirect != nil || m.rule.direct != nil || len(m.rule.backends) != 1 {
		return Endpoint{}, false
	}
	to := m.rule.backends[0].to
	return Endpoint{
		Port: p.number, TLS: p.tls, Host: m.hostname, Path: cmp.Or(m.path, "/"), Backend: to.name, MCP: to.mcp,
	}, to.backend != nil
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
