package gateway

import (
	"net/http"
)

// checkPage refuses what web pages of foreign origins have browsers send to the Gateway that is assumed on loopback, whose
// clients nobody may have authenticated: browsers ask nobody before they send a POST as text/plain, or anything
// to a name that has come to mean this machine (DNS rebinding). What is sent without an Origin comes of no page that changes something. What a route names in its hostnames is a Host that is
// meant, and what says no origin may ask a service by any name: it was there without a gateway. MCP
// backends look for themselves.
func (m *match) checkPage(r *http.Request) error {
	origins := r.Header["Origin"]
	if m.rule.mcp() || m.rule.csrf != nil { // which says by itself whose pages may
		return nil
	}
	if c := m.rule.cors; c != nil && len(origins) == 1 && (c.any || c.allows(origins[0])) {
		return nil
	}
	backends := m.rule.backends
	if len(backends) == 0 { // the rule answers itself
		backends = []weighted{{to: &destination{}}}
	}
	for i := range backends {
		pages := backends[i].to.pages
		if pages == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions) && r.Header["Upgrade"] == nil {
			continue // it changes nothing, and the page can't read the answer
		}
		if m.hostname == "" && len(origins) > 0 {
			if err := pages.CheckHost(r.Host); err != nil {
				return err
			}
		}
		if _, err := pages.Check(r, true); err != nil {
			return err
		}
	}
	return nil
}
