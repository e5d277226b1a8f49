package authn

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
)

// WellKnown is the path at which the metadata of a resource is, with the path of the
// resource behind it (RFC 9728, section 3.1).
const WellKnown = "/.well-known/oauth-protected-resource"

// A Metadata describes an OAuth 2 protected resource to clients that have no token yet (RFC 9728,
// section 2). It is immutable.
type Metadata struct {
	// Resource is the URL of the resource, without / at the end; "" when it is that of the endpoint
	// that a request was matched to.
	Resource             string
	AuthorizationServers []string
	Scopes               []string
	Name                 string
	Documentation        string
	Policy               string
	Terms                string
}

// audience returns the URL that a token must be for, "" when that is not fixed: what a client writes
// into Host must not decide for whom its token has to be.
func (m *Metadata) audience(req *policy.Request) string {
	if m.Resource != "" {
		return m.Resource
	}
	return req.Endpoint.URL
}

// resource returns the URL of the resource as the client of req knows it.
func (m *Metadata) resource(req *policy.Request) string {
	if fixed := m.audience(req); fixed != "" {
		return fixed
	}
	return req.Scheme + "://" + req.HTTP.Host + req.Endpoint.Path
}

// url returns the URL of the metadata.
func (m *Metadata) url(req *policy.Request) string {
	scheme, rest, _ := strings.Cut(m.resource(req), "://")
	host, path, ok := strings.Cut(rest, "/")
	if ok {
		path = "/" + path
	}
	return scheme + "://" + host + WellKnown + path
}

// Path returns the path of the metadata of a resource that is matched by path, without / at the
// end.
func (m *Metadata) Path(path string) string {
	if m.Resource != "" {
		_, rest, _ := strings.Cut(m.Resource, "://")
		_, own, ok := strings.Cut(rest, "/")
		if path = ""; ok {
			path = "/" + own
		}
	}
	return WellKnown + path
}

// A document is the metadata as it is sent.
type document struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	Scopes               []string `json:"scopes_supported,omitempty"`
	Methods              []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
	Policy               string   `json:"resource_policy_uri,omitempty"`
	Terms                string   `json:"resource_tos_uri,omitempty"`
}

// Serve answers a request for the metadata. It holds nothing that is not public, so any web page may
// read it.
func (m *Metadata) Serve(w http.ResponseWriter, req *policy.Request) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	switch req.HTTP.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions: // what a browser asks before a page may send MCP-Protocol-Version
		h.Set("Access-Control-Allow-Methods", "GET")
		h.Set("Access-Control-Allow-Headers", "*")
		h.Set("Access-Control-Max-Age", "7200")
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		return &fault.Fault{Code: fault.MethodNotAllowed, Message: "Method Not Allowed", Header: http.Header{"Allow": {"GET, HEAD, OPTIONS"}}}
	}
	body, err := json.Marshal(document{
		Resource: m.resource(req), AuthorizationServers: m.AuthorizationServers, Scopes: m.Scopes, Methods: []string{"header"},
		Name: m.Name, Documentation: m.Documentation, Policy: m.Policy, Terms: m.Terms,
	})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "internal error")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	if req.HTTP.Method == http.MethodGet {
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
	return nil
}
