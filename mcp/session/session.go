// Package session is where MCP calls go: the targets behind a backend, the legs
// to them, and the sealed sessions of legacy clients.
//
// A [Target] is one MCP server (streamable HTTP, legacy HTTP+SSE, or a child
// process on stdio) whose era is probed once. A [Leg] is one session's connection
// to one target; it speaks whatever era the target speaks, behind one
// modern-shaped [Call]. A [Session] is what a legacy client's Mcp-Session-Id
// stands for: sealed into the id itself, so that any replica with the key can
// open it. Package mcp/federation is the only caller; nothing here knows of
// catalogues, client-visible names or policies.
package session

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A Client is what is known of the client on whose behalf a leg exists, fixed
// for the life of the leg.
type Client struct {
	// Isolation is the isolation key (decisions 27): two callers with equal keys
	// may share legs and lists, others never do.
	Isolation string
	// Version is the revision the client speaks.
	Version string
	// Capabilities and Info are the client's capabilities and clientInfo, raw
	// JSON objects; nil means {}.
	Capabilities, Info []byte
}

// A Forward is what of one client request may go on to a target.
type Forward struct {
	// Header holds the allow-listed headers (decisions 13), Mcp-Param-* included.
	Header http.Header
	// Authorization is the client's own; only Passthrough targets get it.
	Authorization secret.Value
}

// A Transport is a way to reach a target.
type Transport uint8

// The transports of targets.
const (
	StreamableHTTP Transport = iota + 1
	SSE                      // the HTTP+SSE transport of 2024-11-05
	Stdio
)

// A TargetConfig describes a target. It is compiled from a Backend and immutable.
type TargetConfig struct {
	Backend   string // namespace/name of the Backend, for logs and metrics
	Name      string
	Transport Transport

	// URL is the endpoint of HTTP targets; RoundTripper reaches it (an
	// *upstream.Pool, which pins the endpoint a session lives on).
	URL          string
	RoundTripper http.RoundTripper
	// Passthrough sends the client's Authorization; otherwise AuthHeader, when
	// set, is sent with AuthValue.
	Passthrough bool
	AuthHeader  string
	AuthValue   secret.Value

	// Command is the child of stdio targets.
	Command *Command

	// Timeout bounds initialize, discover and each list page; default 5s.
	Timeout time.Duration
	// Idle bounds the silence within one call; progress resets it; default 5m.
	Idle time.Duration
	// MaxMessage bounds one message or event from the target; default 16 MiB.
	MaxMessage int

	// Identity is equal for two configurations exactly when a running Target made
	// from the one can serve the other. Credentials enter it hashed.
	Identity string
}

// A Command is how to start a stdio target. The environment of the child is Env
// and a fixed list of harmless variables (PATH, HOME, LANG, …), nothing else of ours.
type Command struct {
	Path string
	Args []string
	Env  []string // KEY=value
	Dir  string
	// PerSession starts a child for each session; otherwise one is shared by the
	// callers with the same isolation key and capabilities (decisions 15).
	PerSession bool
}

// Options are what all targets share.
type Options struct {
	Logger *slog.Logger
	// OnHealth, when set, is told of each target when it is found up or down.
	OnHealth func(cfg *TargetConfig, up bool)
}

// A Target is one MCP server. It outlives configuration changes that leave its
// Identity alone, and is safe for concurrent use.
type Target struct{}

// NewTarget returns a target; nothing is contacted before it is used.
func NewTarget(cfg TargetConfig, opts Options) *Target { panic("unwritten") }

// Config returns what the target was made from.
func (t *Target) Config() *TargetConfig { panic("unwritten") }

// A Discovery is what a target says about itself, in modern shape whatever its era.
type Discovery struct {
	Era          protocol.Era
	Version      string // the revision that calls to it will use
	Capabilities []byte // raw JSON object
	ServerInfo   []byte // raw JSON object
	Instructions string
}

// Discover returns what the target says about itself to this caller, asking it when that is
// not known yet: server/discover first, initialize where that is not understood
// (a target is modern only when it says that it speaks 2026-07-28). The answer is cached; an
// inconclusive probe is not.
func (t *Target) Discover(ctx context.Context, c Client, f Forward) (*Discovery, error) {
	panic("unwritten")
}

// Open makes a new leg for one session: initialize and notifications/initialized toward a
// legacy target, nothing at all toward a modern one.
func (t *Target) Open(ctx context.Context, c Client, f Forward) (*Leg, error) { panic("unwritten") }

// Lease returns a leg for the use of one call, from the pool that belongs to the
// caller's isolation key and capabilities; Release puts it back. A server→client request outside a
// lease is refused by the leg.
func (t *Target) Lease(ctx context.Context, c Client, f Forward) (*Leg, error) { panic("unwritten") }

// Watch calls changed with the method of each list_changed notification (and
// notifications/resources/updated with its message) that the target sends to this caller, from a standalone
// stream (GET, subscriptions/listen, stdio), reconnecting with backoff, until ctx
// ends. A target that offers no such stream makes it wait for ctx. After each reconnect it calls changed
// once for every list the target has, since changes may have been missed.
func (t *Target) Watch(ctx context.Context, c Client, f Forward, changed func(*protocol.Message)) {
	panic("unwritten")
}

// Close ends the target's legs and children. Calls in flight end with an error.
func (t *Target) Close() { panic("unwritten") }

// A Leg is one session's connection to one target. It is safe for concurrent
// use.
type Leg struct{}

// A Call is one request on its way to a target, in modern shape.
type Call struct {
	Method string
	// Params is the JSON object to send, names and URIs already the target's. Its
	// _meta is the client's: the leg replaces the keys that belong to one hop (version, client
	// info and capabilities, log level, progress token) by what the target's era wants.
	Params  []byte
	Forward Forward
	// Emit is called, in order and from one goroutine at a time, with each message that belongs to this call and
	// precedes its response: progress (with the client's own token), log messages
	// and, of legacy targets, server→client requests with the target's id. An error from
	// it cancels the call; while it blocks, reading from the target pauses. nil discards (and
	// refuses requests).
	Emit func(*protocol.Message) error
}

// Target returns the target the leg goes to.
func (l *Leg) Target() *Target { panic("unwritten") }

// Call sends one request and returns its response, result or error, as the target
// wrote it (the ID is of no meaning). Ids on the wire are the leg's own. When ctx ends the target is told, in
// its era's way. A target that lost our session is initialised anew, once,
// and asked again, as far as decisions 34 allows. Errors are faults; a peer's JSON-RPC
// error is not an error here but part of the response.
func (l *Leg) Call(ctx context.Context, c *Call) (*protocol.Message, error) { panic("unwritten") }

// Notify sends a notification.
func (l *Leg) Notify(ctx context.Context, method string, params []byte, f Forward) error {
	panic("unwritten")
}

// Respond answers a server→client request of this leg. answer holds either
// "result" or "error" (Message of kind Response; its ID is replaced by id).
func (l *Leg) Respond(ctx context.Context, id protocol.ID, answer *protocol.Message, f Forward) error {
	panic("unwritten")
}

// Listen passes on the messages of the leg that belong to no call (the GET stream of a legacy HTTP
// target) until ctx ends or the target ends the stream for good.
func (l *Leg) Listen(ctx context.Context, f Forward, emit func(*protocol.Message) error) error {
	panic("unwritten")
}

// Release puts a leased leg back; on others it does nothing.
func (l *Leg) Release() { panic("unwritten") }

// Close ends the leg: DELETE toward a legacy HTTP target.
func (l *Leg) Close(ctx context.Context) error { panic("unwritten") }
