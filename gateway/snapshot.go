package gateway

import (
	"crypto/tls"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/authn"
	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/internal/origin"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
	"github.com/mcpgw/mcpgw/upstream"
	"github.com/mcpgw/mcpgw/upstream/oauth"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

// A Snapshot is a compiled configuration: all that the data plane looks at to
// serve a request. It has no lock, counter or goroutine, and never changes.
type Snapshot struct {
	fingerprint string
	ports       map[int]*port

	// What Commit makes live.
	backends []*federation.Backend
	pools    map[string]poolPlan
	health   map[string]*llm.Health    // of LLM providers, by identity
	tokens   map[string]*oauth.Tokens  // for LLM providers, by identity
	aws      map[string]*sigv4.Ambient // AWS credentials, by region
	keys     map[string]*authn.RemoteKeys
	counts   map[string]any // what limits count with, by identity

	listeners []*listener
}

// A poolPlan is a pool of the Runtime with the endpoints that the snapshot gives it.
type poolPlan struct {
	pool      *upstream.Pool
	addresses []string
	zones     map[string]string // of the addresses, where that matters
}

// A port is a TCP port with the listeners that share it.
type port struct {
	number    int
	loopback  bool // bind loopback addresses only
	tls       bool
	idle      time.Duration // how long connections stay open without a request; 0 is no limit
	oldHost   string        // the host of HTTP/1.0 requests that name none, "" for none
	listeners hostIndex[*listener]
}

// listener returns the listener for a host, or nil.
func (p *port) listener(host string) *listener {
	var found *listener
	p.listeners.each(host, func(l *listener) bool {
		found = l
		return true
	})
	return found
}

// directed reports whether requests for l may come over a connection with that state: l is the listener that its handshake was
// for, and asked clients for what l asks them for (RFC 9110 section 15.5.20).
func (p *port) directed(l *listener, host string, state *tls.ConnectionState) bool {
	if state == nil || !l.clients.passed(state) {
		return false
	}
	name := serverNameOf(state.ServerName)
	return name == host || p.listener(name) == l
}

// serverNameOf returns the name of a server in a TLS handshake as hosts are written here.
func serverNameOf(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// A listener is one Gateway listener with the routes attached to it.
type listener struct {
	gateway     string // namespace/name
	name        string
	owner       config.ObjectRef // where it is written
	path        string           // spec.listeners[i], "" when assumed
	certificate *tls.Certificate // nil without TLS
	clients     *clientCheck     // nil lets in clients without a certificate
	edge        *edge            // never nil
	router      *router
	traced      *tracerPlan       // nil is as the Runtime has it
	tracer      *telemetry.Tracer // set just before the snapshot is served; nil traces nothing
}

// A rule is a rule of a route as attached to one listener.
type rule struct {
	gateway, listener, route, name string

	// policy admits requests: what covers Gateway, listener, route and rule.
	policy *policy.Policy
	// fault, when set, is what admitted requests are answered: the rule can't be
	// served as it is written.
	fault *fault.Fault
	// timeout bounds a request from its receipt to the last byte; 0 is no bound.
	timeout time.Duration
	// try bounds each try at a backend, with its answer; 0 is no bound.
	try time.Duration
	// retry says when a request is tried again, and proven so does of what is only proven not to have been executed;
	// both are nil without.
	retry, proven *upstream.Retry
	// idle bounds how long nothing may move; nil is no bound. Where idleSaid is false, it is the default for services.
	idle     *lifetime.Watchdog
	idleSaid bool
	autoHost bool  // the Host of requests is the name of the host that gets them
	cors     *cors // nil leaves it to the backend
	csrf     *csrf // nil refuses nothing
	buffer   int64 // the largest body, which is held before it is sent on; 0 holds none

	// metadata, when set, is all that the rule serves, to everybody.
	metadata *authn.Metadata

	interceptors []interceptor // what changes requests and answers before and after the filters, in order

	filters  filters
	redirect *redirect
	direct   *directResponse

	ai     map[string]*llm.Policy       // what is changed and checked at Backends of type AI, by their names
	guards map[string]*federation.Guard // what is checked at Backends of type MCP, by their names

	backends []weighted
	total    int // sum of the weights
}

// A weighted is one backend reference of a rule.
type weighted struct {
	weight  int
	filters filters
	to      *destination
	// rule is the rule as it holds for requests to a Backend that has policies of its own; nil where it holds as it is.
	rule *rule
}

// A destination is what a backend reference came to.
type destination struct {
	name    string // namespace/name of the Backend or Service
	backend Backend
	rules   *policy.Rules // what is attached to it, and what rules can say about it
	web     webPolicy     // what the policies on it say of HTTP
	kind    string        // of a Backend its type, else Service
	cluster string        // its name as Envoy has it
	mcp     bool
	hash    *hashing        // what is hashed to choose an endpoint; nil without
	guarded bool            // rules attached to it say who may use it
	pages   *origin.Allowed // of a Backend of type AI: whose pages may use it where not all may
	fault   *fault.Fault    // set in place of backend: it can't be served

	// shows are the policies of the rules that lead here, as far as clients see them.
	shows map[string]bool
}

// shownBy notes the policies of a rule that leads to the destination.
func (d *destination) shownBy(shows string) {
	if d.shows == nil {
		d.shows = map[string]bool{}
	}
	d.shows[shows] = true
}

// guarded reports whether all that the rule leads to is a backend with rules of its own.
func (r *rule) guarded() bool {
	for i := range r.backends {
		if !r.backends[i].to.guarded {
			return false
		}
	}
	return len(r.backends) > 0
}

// backend returns the rule's backend of that name, nil if it has none.
func (r *rule) backend(name string) *weighted {
	for i := range r.backends {
		if r.backends[i].to.name == name {
			return &r.backends[i]
		}
	}
	return nil
}

// mcp reports whether all that the rule leads to is MCP.
func (r *rule) mcp() bool {
	for i := range r.backends {
		if !r.backends[i].to.mcp || r.backends[i].to.backend == nil {
			return false
		}
	}
	return len(r.backends) > 0
}

// choose returns one of the rule's backends, in proportion to their weights, or
// nil when there is none with a weight.
func (r *rule) choose() *weighted {
	if r.total == 0 {
		return nil
	}
	if len(r.backends) == 1 {
		return &r.backends[0]
	}
	n := rand.IntN(r.total)
	for i := range r.backends {
		if n -= r.backends[i].weight; n < 0 {
			return &r.backends[i]
		}
	}
	return nil
}
