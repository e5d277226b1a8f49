package telemetry

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxNames bounds the tool and prompt names that become labels, over all targets.
const maxNames = 1000

// names are the tool and prompt names that may become labels: those in the catalogue of
// a target.
type names struct {
	mu    sync.RWMutex
	known map[name]int // how many backends have it
	owned map[[2]string][]name
}

type name struct{ target, name string }

func (n *names) has(target, s string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.known[name{target, s}] > 0
}

// add adds to what a target of a backend offers.
func (n *names) add(backend, target string, list []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known, n.owned = map[name]int{}, map[[2]string][]name{}
	}
	owner := [2]string{backend, target}
	have := make(map[name]bool, len(n.owned[owner])+len(list))
	for _, k := range n.owned[owner] {
		have[k] = true
	}
	for _, s := range list {
		k := name{target, s}
		if _, known := n.known[k]; have[k] || !known && len(n.known) >= maxNames {
			continue
		}
		have[k] = true
		n.known[k]++
		n.owned[owner] = append(n.owned[owner], k)
	}
}

// set replaces what a target of a backend offers. It returns the names that nobody has
// any more.
func (n *names) set(backend, target string, list []string) (gone []name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known, n.owned = map[name]int{}, map[[2]string][]name{}
	}
	owner := [2]string{backend, target}
	before := n.owned[owner]
	for _, k := range before {
		n.known[k]--
	}
	var now []name
	for _, s := range list {
		k := name{target, s}
		if _, known := n.known[k]; !known && len(n.known) >= maxNames {
			continue
		}
		n.known[k]++
		now = append(now, k)
	}
	for _, k := range before {
		if count, ok := n.known[k]; ok && count == 0 {
			delete(n.known, k)
			gone = append(gone, k)
		}
	}
	n.owned[owner] = now
	if len(now) == 0 {
		delete(n.owned, owner)
	}
	return gone
}

// A CatalogueSize is how much a target offers.
type CatalogueSize struct {
	Tools, Prompts, Resources, Templates int
}

// Catalogue notes what a target of a backend offers: how much, and the names of its tools
// and prompts, as the target has them, which may become label values.
func (m *Metrics) Catalogue(backend, target string, size CatalogueSize, names []string) {
	if m == nil {
		return
	}
	for kind, n := range map[string]int{"tool": size.Tools, "prompt": size.Prompts, "resource": size.Resources, "template": size.Templates} {
		m.catalogue.WithLabelValues(backend, target, kind).Set(float64(n))
	}
	m.forget(m.names.set(backend, target, names))
}

// PrivateNames notes names of tools and prompts that some callers are offered by a
// target whose lists are private to callers. They may become label values until the
// target is gone, since nobody knows when the last caller lost one.
func (m *Metrics) PrivateNames(backend, target string, names []string) {
	if m != nil {
		m.names.add(backend, target, names)
	}
}

// BreakerOpened notes that a target of a backend does not answer and is left alone.
func (m *Metrics) BreakerOpened(backend, target string) {
	if m != nil {
		m.broken.WithLabelValues(backend, target).Set(1)
		m.trips.WithLabelValues(backend, target).Inc()
	}
}

// BreakerClosed notes that it answers again.
func (m *Metrics) BreakerClosed(backend, target string) {
	if m != nil {
		m.broken.WithLabelValues(backend, target).Set(0)
	}
}

// Listed counts a list that a target of a backend was asked for.
func (m *Metrics) Listed(backend, target string, ok bool) {
	if m == nil {
		return
	}
	result := "ok"
	if !ok {
		result = "error"
	}
	m.lists.WithLabelValues(backend, target, result).Inc()
}

// TargetUp notes whether the last contact with a target of a backend succeeded.
func (m *Metrics) TargetUp(backend, target string, up bool) {
	if m == nil {
		return
	}
	v := 0.0
	if up {
		v = 1
	}
	m.targetUp.WithLabelValues(backend, target).Set(v)
}

// TargetGone removes the series of a target that a backend no longer has.
func (m *Metrics) TargetGone(backend, target string) {
	if m == nil {
		return
	}
	labels := prometheus.Labels{"backend": backend, "target": target}
	m.targetUp.DeletePartialMatch(labels)
	m.catalogue.DeletePartialMatch(labels)
	m.broken.DeletePartialMatch(labels)
	m.trips.DeletePartialMatch(labels)
	m.lists.DeletePartialMatch(labels)
	m.forget(m.names.set(backend, target, nil))
}

// forget removes the series of names that no catalogue has any more.
func (m *Metrics) forget(gone []name) {
	if len(gone) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.calls) // it would keep counters that are no longer registered
	for _, n := range gone {
		m.operations.DeletePartialMatch(prometheus.Labels{"mcp_target": n.target, "gen_ai_tool_name": n.name})
		m.compatible.DeletePartialMatch(prometheus.Labels{"server": n.target, "resource": n.name})
	}
}

// Sessions sets how many MCP sessions this process holds state of.
func (m *Metrics) Sessions(n int) {
	if m != nil {
		m.sessions.Set(float64(n))
	}
}

// A StreamKind is a kind of stream that a client holds open.
type StreamKind uint8

// The kinds of streams.
const (
	GetStream    StreamKind = iota // the GET stream of a session (MCP 2025-03-26 to 2025-11-25)
	ListenStream                   // subscriptions/listen (MCP 2026-07-28)
	SSEStream                      // the stream of the HTTP+SSE transport (MCP 2024-11-05)
	CallStream                     // an answer to a POST that is sent as events
)

// String returns the kind as its label value.
func (k StreamKind) String() string {
	return [...]string{"get", "listen", "sse", "call"}[k]
}

// StreamOpened counts an open stream until the function it returns is called, once.
func (m *Metrics) StreamOpened(kind StreamKind) (closed func()) {
	if m == nil {
		return func() {}
	}
	g := m.streams.WithLabelValues(kind.String())
	g.Inc()
	return sync.OnceFunc(g.Dec)
}

type callKey struct {
	method, target, tool, errorType, version string
	gateway, listener, route, rule           string
	kind, resource                           string
}

type callSeries struct {
	operations prometheus.Observer
	compatible prometheus.Counter
}

// Operation counts one MCP operation of the request of r: the one that r.MCP holds, or
// another of a batch. errorType is as [Record.ErrorType].
func (m *Metrics) Operation(r *Record, op *MCP, errorType string, took time.Duration) {
	if m == nil {
		return
	}
	if op.ToolError && errorType == "" {
		errorType = ToolError
	}
	kind := resourceType(op.Method)
	known := op.Name != "" && m.names.has(op.Target, op.Name)
	key := callKey{
		method: bounded(op.Method, knownMethod), target: op.Target,
		errorType: bounded(errorType, knownError), version: bounded(op.ProtocolVersion, knownVersion),
		gateway: r.Gateway, listener: r.Listener, route: r.Route, rule: r.Rule, kind: kind,
	}
	if op.Name != "" {
		if key.resource = op.Name; !known {
			key.resource = Other
		}
		if kind == "tool" {
			key.tool = key.resource
		}
	}
	m.mu.RLock()
	s, ok := m.calls[key]
	m.mu.RUnlock()
	if !ok {
		s = m.newCallSeries(key)
	}
	s.operations.Observe(took.Seconds())
	s.compatible.Inc()
}

func (m *Metrics) newCallSeries(key callKey) callSeries {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := callSeries{
		operations: m.operations.WithLabelValues(key.method, key.target, key.tool, key.errorType, key.version),
		compatible: m.compatible.WithLabelValues(key.method, key.kind, key.target, key.resource, key.gateway, key.listener, key.route, key.rule),
	}
	m.calls[key] = s
	return s
}

// resourceType is what agentgateway calls the kind of thing that a method acts on.
func resourceType(method string) string {
	switch head, _, _ := strings.Cut(method, "/"); {
	case head == "tools":
		return "tool"
	case head == "prompts":
		return "prompt"
	case method == "resources/templates/list":
		return "templates"
	case head == "resources":
		return "resource"
	case head == "tasks":
		return "task"
	}
	return ""
}

// ToolError is the error type of a tool call that was answered with isError.
const ToolError = "tool_error"

func bounded(s string, known func(string) bool) string {
	if s == "" || known(s) {
		return s
	}
	return Other
}

// knownMethod reports whether s is a method of some revision of MCP.
func knownMethod(s string) bool {
	switch s {
	case "initialize", "ping", "server/discover", "subscriptions/listen",
		"tools/list", "tools/call", "prompts/list", "prompts/get",
		"resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe",
		"completion/complete", "logging/setLevel", "tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update",
		"notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed":
		return true
	}
	return false
}

// knownVersion reports whether s is a revision of MCP.
func knownVersion(s string) bool {
	switch s {
	case "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28":
		return true
	}
	return false
}

// knownError reports whether s is the name of a fault, a code that JSON-RPC or MCP
// defines, or ToolError.
func knownError(s string) bool {
	switch s {
	case ToolError, "-32700", "-32600", "-32601", "-32602", "-32603",
		"-32000", "-32001", "-32002", "-32020", "-32021", "-32022", "-32042":
		return true
	}
	return s[0] >= 'a' && s[0] <= 'z' && isFault(s)
}
