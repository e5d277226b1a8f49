package gateway

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A csrf refuses requests that change something and come from pages of another origin, as
// Envoy's filter does: a request that says no origin is refused, too.
type csrf struct {
	source  string // the policy, Kind/namespace/name
	percent int    // of requests are checked
	shadow  bool   // what would be refused is counted only
	origins []stringMatch
	metrics *telemetry.Metrics
}

// A stringMatch matches a text in one way.
type stringMatch struct {
	how   func(s, value string) bool
	value string
	fold  bool
	regex *regexp.Regexp // in place of how
}

func (m *stringMatch) matches(s string) bool {
	if m.regex != nil {
		return m.regex.MatchString(s)
	}
	if m.fold {
		s = strings.ToLower(s)
	}
	return m.how(s, m.value)
}

// check returns nil or why the request is refused.
func (c *csrf) check(req *policy.Request) error {
	switch req.HTTP.Method {
	case http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch:
	default:
		return nil
	}
	if c.percent < 100 && rand.IntN(100) >= c.percent || c.same(req) {
		return nil
	}
	if c.shadow {
		c.metrics.CSRFShadowed(c.source)
		return nil
	}
	c.metrics.Denied(c.source, "")
	return &fault.Fault{Code: fault.Denied, Message: "Invalid origin"}
}

// same reports whether the request comes from its own origin or one that is permitted. As for
// Envoy, an origin is its host and port.
func (c *csrf) same(req *policy.Request) bool {
	from := req.HTTP.Header.Get("Origin")
	if from == "" || from == "null" {
		from = req.HTTP.Header.Get("Referer")
	}
	u, err := url.Parse(from)
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, req.HTTP.Host) {
		return true
	}
	for i := range c.origins {
		if c.origins[i].matches(u.Host) {
			return true
		}
	}
	return false
}
