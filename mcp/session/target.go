// Package session is where MCP calls go: the targets behind a backend, the legs
// to them, and the sealed sessions of legacy clients.
//
// A [Target] is one MCP server (streamable HTTP, legacy HTTP+SSE, or a child
// process on stdio) whose era is probed once. A [Leg] is one session's connection
// to one target; it speaks whatever era the target speaks, behind one
// modern-shaped [Call]. A [Session] is what a legacy client's Mcp-Session-Id
// stands for: sealed into the id itself, so that any replica with the key can
// open it.
//
// Targets are not trusted. What one sends is bounded in size and time, is
// checked strictly, and reaches only the call it belongs to: ids and progress
// tokens on the wire are the leg's own, and an answer to anything else is
// dropped. Package mcp/federation is the only caller; nothing here knows of
// catalogues, client-visible names or policies.
package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A Client is what is known of the client on whose behalf a leg exists, fixed
// for the life of the leg.
type Client struct {
	// Isolation is the isolation key, which says whose credentials the calls
	// carry: two callers with equal keys may share legs and lists, others never do.
	Isolation string
	// Version is the revision the client speaks.
	Version string
	// Capabilities and Info are the client's capabilities and clientInfo, raw
	// JSON objects that were checked; nil means {}.
	Capabilities, Info []byte
}

// A Forward is what of one client request may go on to a target.
type Forward struct {
	// Header holds the headers that may go on, Mcp-Param-* included. Headers that
	// the transport itself sets, and credentials, are left out even if they are
	// here.
	Header http.Header
	// Authorization is the client's own; only Passthrough targets get it.
	Authorization secret.Value
}

// A Transport is a way to reach a target.
type Transport uint8

// The transports of targets.
const (
	StreamableHTTP Transport = iota + 1 // since 2025-03-26
	SSE                                 // the HTTP+SSE transport of 2024-11-05
	Stdio                               // a child process
)

// String returns "streamable-http", "sse" or "stdio".
func (t Transport) String() string {
	switch t {
	case StreamableHTTP:
		return "streamable-http"
	case SSE:
		return "sse"
	case Stdio:
		return "stdio"
	default:
		return "unknown"
	}
}

// A TargetConfig describes a target. It is compiled from a Backend and immutable.
type TargetConfig struct {
	Backend   string // namespace/name of the Backend, for logs and metrics
	Name      string // the target's name within the Backend
	Transport Transport

	// URL is the endpoint of HTTP targets; RoundTripper reaches it (an
	// *upstream.Pool, which pins the endpoint a session lives on).
	URL          string
	RoundTripper http.RoundTripper
	// Passthrough sends the client's Authorization; otherwise AuthHeader, when
	// set, is sent with AuthValue as its whole value.
	Passthrough bool
	AuthHeader  string
	AuthValue   secret.Value

	// Command is the child of stdio targets.
	Command *Command

	// Timeout bounds initialize, discover and each list page; default 5s.
	Timeout time.Duration
	// Idle bounds the silence within one call; progress resets it; default 5m.
	Idle time.Duration
	// MaxMessage bounds one message or event from the target, in bytes; default
	// 16 MiB.
	MaxMessage int

	// Identity is equal for two configurations exactly when a running Target made
	// from the one can serve the other. Credentials enter it hashed.
	Identity string
}

// Bounds of a target that are not configured.
const (
	defaultTimeout    = 5 * time.Second
	defaultIdle       = 5 * time.Minute
	defaultMaxMessage = 16 << 20
	// maxInFlight bounds the calls under way to one target.
	maxInFlight = 1024
	// farewell bounds what is sent to a target nobody waits for: cancellations
	// and the DELETE of a session.
	farewell = 5 * time.Second
	// maxFarewells bounds how many of these are under way.
	maxFarewells = 256
)

// Options are what all targets share.
type Options struct {
	// Logger gets what operators should know of targets; nil discards it.
	Logger *slog.Logger
	// ClientInfo is the clientInfo to use for clients that sent none, a raw JSON
	// object; nil names the gateway.
	ClientInfo []byte
	// OnHealth, when set, is told of each target when it is found up or down. It
	// must not block.
	OnHealth func(cfg *TargetConfig, up bool)
}

// A Target is one MCP server. It outlives configuration changes that leave its
// Identity alone, and is safe for concurrent use.
type Target struct {
	cfg  TargetConfig
	url  *url.URL // of HTTP targets
	bad  error    // why the target cannot be used at all
	info []byte   // clientInfo of clients without one
	id   targetID
	log  *slog.Logger

	onHealth func(*TargetConfig, bool)
	health   atomic.Int32 // 0 not known, 1 up, -1 down

	life      lifetime.Lifetime // ends with Close
	ctx       context.Context   // of life
	silence   lifetime.Watchdog // over the calls under way
	spawnMu   sync.Mutex        // guards closed against tasks.Add
	closed    bool
	tasks     sync.WaitGroup
	inFlight  atomic.Int64
	farewells atomic.Int64
	dropped   atomic.Int64

	discoveries discoveries
	pool        pool
	children    children
}

// NewTarget returns a target; nothing is contacted before it is used. Mistakes
// in cfg show as faults of its calls.
func NewTarget(cfg TargetConfig, opts Options) *Target {
	t := &Target{cfg: cfg, id: identify(cfg.Identity), log: opts.Logger, onHealth: opts.OnHealth, info: opts.ClientInfo}
	if t.cfg.Timeout <= 0 {
		t.cfg.Timeout = defaultTimeout
	}
	if t.cfg.Idle <= 0 {
		t.cfg.Idle = defaultIdle
	}
	if t.cfg.MaxMessage <= 0 {
		t.cfg.MaxMessage = defaultMaxMessage
	}
	if t.info == nil {
		t.info = []byte(`{"name":"mcpgw","version":"1"}`)
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.log = t.log.With("backend", cfg.Backend, "target", cfg.Name)
	t.life.Begin(context.Background())
	t.ctx, t.silence.After = &t.life, t.cfg.Idle
	switch cfg.Transport {
	case StreamableHTTP, SSE:
		u, err := url.Parse(cfg.URL)
		switch {
		case err != nil:
			t.bad = errors.New("the URL of the target does not parse")
		case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
			t.bad = errors.New("the URL of the target must be absolute, of scheme http or https")
		case cfg.RoundTripper == nil:
			t.bad = errors.New("the target has no RoundTripper")
		}
		if u != nil {
			u.User, u.Fragment = nil, ""
		}
		t.url = u
	case Stdio:
		if cfg.Command == nil || cfg.Command.Path == "" {
			t.bad = errors.New("the target has no command")
		}
	default:
		t.bad = errors.New("the target has no transport")
	}
	t.discoveries.init()
	t.pool.init(t)
	t.children.init(t)
	return t
}

// Config returns what the target was made from, with its defaults filled in. It
// is not to be changed.
func (t *Target) Config() *TargetConfig { return &t.cfg }

// Dropped returns how many messages of the target were dropped because they
// belong to no call: answers that nobody waits for, second answers, progress
// without a token, and what a full queue could not hold.
func (t *Target) Dropped() int64 { return t.dropped.Load() }

// Close ends the target's legs and children. Calls in flight end with an error.
// It returns when all goroutines of the target have ended.
func (t *Target) Close() {
	t.pool.close()
	t.spawnMu.Lock()
	t.closed = true
	t.spawnMu.Unlock()
	t.life.End(errClosed)
	t.tasks.Wait()
}

// spawn runs f in a goroutine that Close waits for. It reports whether it did: a
// closed target starts nothing.
func (t *Target) spawn(f func()) bool {
	t.spawnMu.Lock()
	defer t.spawnMu.Unlock()
	if t.closed {
		return false
	}
	t.tasks.Add(1)
	go func() {
		defer t.tasks.Done()
		f()
	}()
	return true
}

// parting runs f, which sends something that nobody waits for, with a context
// of its own that outlives neither the farewell time nor, by much, the target.
func (t *Target) parting(f func(ctx context.Context)) {
	if t.farewells.Add(1) > maxFarewells {
		t.farewells.Add(-1)
		return
	}
	started := t.spawn(func() {
		defer t.farewells.Add(-1)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), farewell)
		defer cancel()
		stop := context.AfterFunc(t.ctx, func() {
			// What is under way when the target closes gets a moment, not five
			// seconds.
			time.AfterFunc(farewell/10, cancel)
		})
		defer stop()
		f(ctx)
	})
	if !started {
		t.farewells.Add(-1)
	}
}

// enter counts a call in, or refuses it.
func (t *Target) enter() error {
	switch {
	case t.bad != nil:
		return fault.Wrap(fault.Misconfigured, t.wrap(t.bad), "the server behind this request is not configured correctly")
	case t.ctx.Err() != nil:
		return t.closedFault()
	case t.inFlight.Add(1) > maxInFlight:
		t.inFlight.Add(-1)
		f := fault.Wrap(fault.Overloaded, t.wrap(errors.New("too many calls in flight")), "too many calls are under way to this server")
		f.RetryAfter = time.Second
		return f
	}
	return nil
}

func (t *Target) leave() { t.inFlight.Add(-1) }

func (t *Target) closedFault() error {
	return fault.Wrap(fault.UpstreamUnreachable, t.wrap(errors.New("the target is closed")), "the server behind this request was removed")
}

// found notes that the target is up or down.
func (t *Target) found(up bool) {
	now := int32(-1)
	if up {
		now = 1
	}
	if t.health.Load() == now || t.health.Swap(now) == now {
		return
	}
	if up {
		t.log.Info("target is up")
	} else {
		t.log.Warn("target is down")
	}
	if t.onHealth != nil {
		t.onHealth(&t.cfg, up)
	}
}

// drop counts a message that belongs to no call.
func (t *Target) drop(reason string, m *protocol.Message) {
	t.dropped.Add(1)
	t.log.Debug("dropped a message of the target", "reason", reason, "kind", m.Kind.String())
}

// limits bound a message of the target. Only its size is particular to the
// target: a string may fill the message, as images do.
func (t *Target) limits() protocol.Limits {
	return protocol.Limits{Bytes: t.cfg.MaxMessage, String: t.cfg.MaxMessage}
}
