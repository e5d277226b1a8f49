// Package federation is what an MCP client sees of a backend: one endpoint for
// both eras, and one catalogue of the tools, prompts and resources of all its
// targets, under names of its own.
//
// Its central type is [Backend], made by a [Hub] for each MCP Backend of a
// snapshot. The Hub outlives snapshots, and with it targets, sessions and
// catalogues: a Backend is only the compiled configuration and what follows from
// it. Package gateway calls [Backend.Serve] for each request of the rules that
// refer to it.
//
// Messages stay bytes: what must change on the way (names, URIs, ids, sealed
// state) is spliced, the rest passes as it was. This package never decides who
// may do what: it asks policy.Authorize, for each item that it lists and for
// each operation, and it never contacts a target for what was denied.
package federation

import (
	"crypto/sha256"
	"net/http"
	"sort"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/origin"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
)

// A PrefixMode says when names and URIs carry their target's name.
type PrefixMode uint8

// The prefix modes; the zero value is Always.
const (
	// Always gives names that do not change when targets come and go.
	Always PrefixMode = iota
	// Conditional leaves names bare while there is one target.
	Conditional
	// Never leaves all names bare. A name that two targets share is left out.
	Never
)

const (
	defaultPageSize = 1000
	maxViews        = 4096
)

// A Config is a compiled MCP Backend. It is immutable.
type Config struct {
	Name           string // namespace/name
	Targets        []session.TargetConfig
	PrefixMode     PrefixMode
	MaxNameLength  int      // of client-visible names, in bytes; 0 means 48, at most 64
	FailClosed     bool     // one failed target fails initialize and every list
	AllowedOrigins []string // beside the same origin and, on loopback listeners, loopback origins; "*" allows any
	ForwardHeaders []string // client headers that targets get beside the standard ones
	PageSize       int      // items a list page; 0 means 1000
	// PolicyFingerprint changes whenever what a client may see could change:
	// connected clients then get list_changed.
	PolicyFingerprint string
	// Version is the gateway's own, for serverInfo.
	Version string
}

// A Backend serves MCP clients of both eras. It is safe for concurrent use.
type Backend struct {
	hub         *Hub
	cfg         Config
	naming      *naming
	origins     *origin.Allowed
	targets     []*session.Target
	breakers    []*breaker // of the targets
	passthrough bool       // some target gets the client's Authorization
	views       *lru.Cache[string, *view]
	merges      [kinds]merges
}

// The client headers that targets get in any case: W3C trace context, the
// language, and the arguments that a modern request mirrors.
var standardHeaders = []string{"Traceparent", "Tracestate", "Baggage", "Accept-Language"}

// neverForwarded are headers that ForwardHeaders can't name: what one hop of
// HTTP or MCP says to the next, and credentials, which need Passthrough.
var neverForwarded = map[string]bool{
	"Authorization": true, "Proxy-Authorization": true, "Host": true, "Connection": true, "Content-Length": true,
	"Content-Type": true, "Content-Encoding": true, "Transfer-Encoding": true, "Te": true, "Trailer": true,
	"Upgrade": true, "Keep-Alive": true, "Expect": true, "Accept": true, "Accept-Encoding": true, "Origin": true,
	"Mcp-Session-Id": true, "Mcp-Protocol-Version": true, "Mcp-Method": true, "Mcp-Name": true, "Last-Event-Id": true,
}

// forwardOf returns what of the request may go on to targets.
func (b *Backend) forwardOf(r *http.Request) session.Forward {
	var f session.Forward
	set := func(name string, values []string) {
		if f.Header == nil {
			f.Header = http.Header{}
		}
		f.Header[name] = values
	}
	for _, name := range standardHeaders {
		if v, ok := r.Header[name]; ok {
			set(name, v)
		}
	}
	for _, name := range b.cfg.ForwardHeaders {
		name = http.CanonicalHeaderKey(name)
		if v, ok := r.Header[name]; ok && !neverForwarded[name] {
			set(name, v)
		}
	}
	for name, v := range r.Header {
		if strings.HasPrefix(name, protocol.HeaderParamPrefix) {
			set(name, v)
		}
	}
	for _, name := range policy.Consumed(r.Context()) {
		delete(f.Header, name)
	}
	if v := r.Header["Authorization"]; b.passthrough && len(v) == 1 {
		f.Authorization = secret.New(v[0])
	}
	return f
}

// private reports whether what a target answers may depend on who asks, because
// it gets credentials or headers of the caller, or is a process of the caller's own.
func (b *Backend) private(cfg *session.TargetConfig) bool {
	return cfg.Passthrough || len(b.cfg.ForwardHeaders) > 0 || cfg.Transport == session.Stdio && !cfg.Command.PerSession
}

// isolationOf returns the isolation key of the caller: its principal, and a keyed hash
// of everything of its request that targets may tell callers apart by. m is the
// message of the request, if it has one.
func (b *Backend) isolationOf(r *http.Request, f *session.Forward, m *protocol.Message) string {
	principal := policy.Principal(r.Context())
	if f.Authorization.IsZero() && len(b.cfg.ForwardHeaders) == 0 {
		return principal
	}
	h := sha256.New()
	part := func(s string) {
		var n [8]byte
		for i := range n {
			n[i] = byte(len(s) >> (8 * i))
		}
		h.Write(n[:])
		h.Write([]byte(s))
	}
	part("mcpgw isolation key")
	part(principal)
	part(f.Authorization.Reveal())
	names := make([]string, 0, len(b.cfg.ForwardHeaders))
	for _, name := range b.cfg.ForwardHeaders {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	sort.Strings(names)
	for _, name := range names {
		part(name)
		for _, v := range f.Header[name] {
			part(v)
		}
	}
	return principal + "\x00" + b.hub.opts.Sealer.Isolate(broughtBack(r, m), h.Sum(nil))
}

// broughtBack returns the sealed text that a request brings back, "" when there is
// none: what that is bound to was made with its key.
func broughtBack(r *http.Request, m *protocol.Message) string {
	if id := r.Header.Get(protocol.HeaderSessionID); id != "" {
		return id
	}
	if m == nil || isSSE(r) {
		return r.URL.Query().Get("sessionId")
	}
	for _, name := range []string{"requestState", "cursor", "taskId"} {
		if text, ok := protocol.GetString(m.Params, name); ok {
			return text[strings.LastIndex(text, taskSeparator)+1:]
		}
	}
	return ""
}

// binding is what sealed texts of this backend are bound to.
func (b *Backend) binding(isolation string) []byte {
	return []byte(b.cfg.Name + "\x00" + isolation)
}

// serverInfo is how the gateway names itself to clients.
func (b *Backend) serverInfo() []byte {
	version := b.cfg.Version
	if version == "" {
		version = "unknown"
	}
	out := []byte(`{"name":"mcpgw","version":`)
	out = append(out, protocol.Quote(version)...)
	return append(out, '}')
}

// Serve answers one HTTP request of an MCP client. The context carries the
// telemetry.Record of the request and what policy.Policy.Admit returned; see also
// [WithListener]. An error before the first byte is returned, for WriteError;
// after it, Serve ends the answer itself and returns nil.
func (b *Backend) Serve(w http.ResponseWriter, r *http.Request) error {
	cross, err := b.checkOrigin(r)
	if err != nil {
		return err
	}
	allowOrigin(w.Header(), cross)
	if len(r.Header["Mcp-Session-Id"]) > 1 || len(r.Header["Mcp-Protocol-Version"]) > 1 {
		return fault.New(fault.BadRequest, "an MCP header stands more than once")
	}
	switch sse := isSSE(r); {
	case sse && r.Method == http.MethodGet:
		return b.getSSE(w, r)
	case sse:
		return b.postSSE(w, r)
	}
	switch r.Method {
	case http.MethodPost:
		return b.post(w, r)
	case http.MethodGet:
		return b.get(w, r)
	case http.MethodDelete:
		return b.delete(w, r)
	case http.MethodOptions:
		if cross != "" && r.Header.Get("Access-Control-Request-Method") != "" {
			preflight(w, r)
			return nil
		}
	}
	return methodNotAllowed("GET, POST, DELETE")
}
