// Package federation is what an MCP client sees of a backend: one endpoint for
// both eras, and one catalogue of the tools, prompts and resources of all its
// targets, under names of its own.
//
// Its central type is [Backend], made by a [Hub] for each MCP Backend of a
// snapshot; the Hub outlives snapshots, and with it targets, sessions and catalogues. Package gateway
// calls [Backend.Serve] for each request of the rules that refer to it. This
// package never decides who may do what: it asks policy.Authorize.
package federation

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A PrefixMode says when names carry their target's (decisions 6).
type PrefixMode uint8

// The prefix modes; the zero value is Always.
const (
	Always PrefixMode = iota
	Conditional
	Never
)

// A Config is a compiled MCP Backend. It is immutable.
type Config struct {
	Name           string // namespace/name
	Targets        []session.TargetConfig
	PrefixMode     PrefixMode
	MaxNameLength  int      // default 48, ceiling 64 (decisions 7)
	FailClosed     bool     // one failed target fails the whole list (decisions 12)
	AllowedOrigins []string // beside same origin and, on loopback listeners, loopback origins
	ForwardHeaders []string // client headers that targets get beside the standard ones
	PageSize       int      // items a list page; default 1000
	// PolicyFingerprint changes whenever what a client may see could change:
	// connected clients then get list_changed.
	PolicyFingerprint string
	// Version is the gateway's own, for serverInfo.
	Version string
}

// HubOptions are what all backends share.
type HubOptions struct {
	Logger   *slog.Logger
	Metrics  *telemetry.Metrics
	Sealer   *session.Sealer
	Sessions *session.Sessions
}

// A Hub holds what outlives snapshots: targets by identity, catalogues, live streams. It is safe for
// concurrent use.
type Hub struct{}

// NewHub returns an empty hub.
func NewHub(opts HubOptions) *Hub { panic("unwritten") }

// Backend returns the backend for cfg, sharing what the hub already holds for it.
// It starts nothing: see Commit.
func (h *Hub) Backend(cfg Config) *Backend { panic("unwritten") }

// Commit makes live the backends of the configuration: targets that none of them has any more are closed, connected
// clients whose catalogue may have changed are told. It is called once
// after each swap of the snapshot.
func (h *Hub) Commit(live []*Backend) { panic("unwritten") }

// Run keeps catalogues fresh until ctx ends, then closes all targets.
func (h *Hub) Run(ctx context.Context) error { panic("unwritten") }

// Drain ends GET and listen streams so that clients reconnect elsewhere; calls
// in flight go on.
func (h *Hub) Drain() { panic("unwritten") }

// A Backend serves MCP clients of both eras. It is safe for concurrent use.
type Backend struct{}

// Serve answers one HTTP request of an MCP client. The context carries the telemetry.Record and the admitted policy. An error before
// the first byte is returned, to be rendered by WriteError.
func (b *Backend) Serve(w http.ResponseWriter, r *http.Request) error { panic("unwritten") }

// WriteError renders err as the MCP endpoint answers it (decisions 26).
func (b *Backend) WriteError(w http.ResponseWriter, r *http.Request, err error) { panic("unwritten") }
