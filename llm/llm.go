// Package llm is the LLM engine: backends that take requests in the dialect of the
// client, send them to one of several providers in the provider's, and answer in the
// client's again.
//
// Its central type is [Backend], which package gateway makes of a Backend resource of
// type AI and hands requests to. Where client and provider speak the same dialect, bytes
// are checked, patched and passed; where they don't, the packages llm/openai,
// llm/responses, llm/anthropic, llm/gemini and llm/bedrock translate by way of the canonical form of llm/dialect.
// Nothing is sent to the client before the first content of an answer, so that until then
// any failure of a provider is made good by the next one; after it, a stream that breaks
// ends with an error in the client's dialect, never as if it were whole.
//
// The package knows providers as http.RoundTrippers. It never reads configuration, and
// keeps credentials, and the signatures that providers put into answers, to whom they
// belong to.
package llm

import (
	"cmp"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm/price"
	"github.com/mcpgw/mcpgw/telemetry"
)

// Limits on what is held in memory.
const (
	maxBody   = 32 << 20 // of a request; the largest that a provider takes
	maxAnswer = 64 << 20 // of an answer, streamed or not
	maxEvent  = 16 << 20 // of one event of a stream
	maxError  = 1 << 20  // of a provider's error
	maxHeld   = 1 << 20  // of what comes before the first content
	maxNamed  = 4 << 10  // of the header that names dropped fields
	maxLosses = 256      // places that are noted as lost in an answer
)

// Clocks bound how long a request waits. A zero field means its default.
type Clocks struct {
	// FirstContent bounds the time until the first content of a stream, from when the
	// request is sent to a provider; default 2 minutes. Then the next one is asked.
	FirstContent time.Duration
	// Idle bounds the time between two events of a stream; default 2 minutes.
	Idle time.Duration
	// Total bounds an answer that is not streamed, from when the request is sent to a
	// provider; default 10 minutes, which is what the providers' own clients wait. A
	// stream has no total of its own: the route's timeout bounds it.
	Total time.Duration
	// Silence is how long the client of a stream waits before it is told that the
	// request is being served: 200 and a comment; default 10 seconds.
	Silence time.Duration
	// Comment is the time between two comments to the client of a silent stream;
	// default 15 seconds.
	Comment time.Duration
	// RealtimeIdle bounds the time between two messages of a realtime session, whoever
	// sends them; default 15 minutes.
	RealtimeIdle time.Duration
	// Ping is the time between two pings to each side of a realtime session, which is
	// given up when it leaves three without an answer; default 20 seconds.
	Ping time.Duration
}

func (c Clocks) withDefaults() Clocks {
	c.FirstContent = cmp.Or(c.FirstContent, 2*time.Minute)
	c.Idle = cmp.Or(c.Idle, 2*time.Minute)
	c.Total = cmp.Or(c.Total, 10*time.Minute)
	c.Silence = cmp.Or(c.Silence, 10*time.Second)
	c.Comment = cmp.Or(c.Comment, 15*time.Second)
	c.RealtimeIdle = cmp.Or(c.RealtimeIdle, 15*time.Minute)
	c.Ping = cmp.Or(c.Ping, 20*time.Second)
	return c
}

// A Config says what a [Backend] is.
type Config struct {
	// Name is namespace/name.
	Name string
	// Groups are the providers, most preferred group first. There is at least one.
	Groups [][]*Provider
	// Strict refuses a request that holds what a provider can't express.
	Strict bool
	Clocks Clocks
	// AllowedOrigins are those of web pages that may open WebSockets beside its own.
	AllowedOrigins []string
	// Prices say what answers cost; default is [price.BuiltIn].
	Prices *price.Table
	// ShowCost tells clients what an answer costs, in the header x-mcpgw-cost; of a stream it is a trailer.
	ShowCost bool

	// Logger gets what operators should know; default [slog.Default].
	Logger *slog.Logger
	// Metrics, when set, counts.
	Metrics *telemetry.Metrics
}

// A Provider is one LLM API with the credential for it. It is not changed once a Backend
// has it.
type Provider struct {
	// Name is what logs call it in its priority group; "" without one.
	Name   string
	Vendor Vendor
	// RoundTripper sends requests; it replaces scheme and host of their URLs.
	RoundTripper http.RoundTripper
	// Host is what the provider's requests say in Host.
	Host string
	// Catalogue, when set, is asked which models there are, in place of the provider itself.
	Catalogue *Provider
	// Path replaces the path of the vendor's API, or Prefix what all of its paths begin
	// with.
	Path, Prefix string
	// Model replaces the model that the client asks for.
	Model string
	// Models are the models that it is asked for: names, or patterns in which * is any
	// text. None: those that no other provider lists.
	Models []string
	// Routes say what requests are where the well-known paths don't; the longest that fits.
	Routes     []Route
	APIVersion string // see the field of that name
	// Compat asks Google by the chat completions that it has, too.
	Compat    bool
	Vertex    VertexModel      // of Vertex AI
	Guardrail BedrockGuardrail // of Amazon Bedrock
	// Credential is zero when RoundTripper shows one.
	Credential Credential
	// Ruled says that rules are attached to it: [policy.Authorize] is asked for the operation
	// whose Target is Name before it is sent anything.
	Ruled bool
	// Fault, when set, is why nothing can be sent to it.
	Fault *fault.Fault
	// Health is what is known of it; it outlives the Provider.
	Health *Health
}

// A Credential is what a provider is shown.
type Credential struct {
	// Passthrough sends what the client shows instead of Token.
	Passthrough bool
	Token       secret.Value
	// Header and Prefix replace where the vendor wants it. A nil Prefix is the
	// vendor's.
	Header string
	Prefix *string
}

// label returns what metrics call the provider.
func (p *Provider) label() string { return cmp.Or(p.Name, p.Vendor.String()) }

// A Backend answers requests to language models. It is safe for concurrent use and keeps
// nothing between requests but what is in the [Health] of its providers.
type Backend struct {
	cfg    Config
	routed bool // a provider lists models
	mapped bool // a provider has routes

	unpriced sync.Map // models of whose missing price the log was told
	// turns are taken while large bodies are translated, see turn.
	turns chan struct{}
}

// New returns a backend for cfg.
func New(cfg Config) *Backend {
	cfg.Clocks = cfg.Clocks.withDefaults()
	if cfg.Prices == nil {
		cfg.Prices = price.BuiltIn()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	b := &Backend{cfg: cfg, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
	for p := range b.providers() {
		b.routed = b.routed || len(p.Models) > 0
		b.mapped = b.mapped || len(p.Routes) > 0
	}
	return b
}
