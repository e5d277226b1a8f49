package llm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/openai"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A realtimer is a vendor that has OpenAI's Realtime API.
type realtimer interface {
	// realtime returns path and query of a session with a model, "" where it needs none,
	// given what else the client says in the query, which it may change.
	realtime(p *Provider, model string, query url.Values) string
}

// Subprotocols in which browsers say what others say in headers (OpenAI, Realtime API with
// WebSocket).
const (
	browserKey     = "openai-insecure-api-key."
	browserAccount = "openai-organization."
	browserProject = "openai-project."
)

// A call is a request for a realtime session.
type call struct {
	*query
	r         *http.Request
	values    url.Values // of the client's query, without the model
	protocols []string   // that the client offers and others may see
}

// serveRealtime opens a session with a provider and relays its messages. As long as none has
// accepted it the next one is asked when one fails; only then the client is answered.
func (b *Backend) serveRealtime(w http.ResponseWriter, r *http.Request, op *operation) error {
	if !websocket.IsWebSocketUpgrade(r) || r.ProtoMajor != 1 {
		return fault.New(fault.BadRequest, "realtime sessions are WebSockets: ask for an upgrade")
	}
	if r.Header.Get("Sec-Websocket-Version") != "13" || len(r.Header["Sec-Websocket-Key"]) != 1 {
		return fault.New(fault.BadRequest, "the WebSocket handshake needs one Sec-WebSocket-Key, and Sec-WebSocket-Version: 13")
	}
	rec := telemetry.FromContext(r.Context())
	rec.LLM.Operation, rec.LLM.Stream = "realtime", true
	q := &query{Backend: b, ctx: r.Context(), header: r.Header, rec: rec, form: op.form, codec: op.codec()}
	q.out, q.said = output{w: w, clocks: &b.cfg.Clocks}, new(said)
	c := &call{query: q, r: r, values: r.URL.Query()}
	q.asked = cmp.Or(c.values.Get("model"), c.values.Get("deployment"))
	c.values.Del("model")
	c.values.Del("deployment")
	c.values.Del("api-version")
	rec.LLM.RequestModel = q.asked
	var err error
	if q.groups, q.model, err = b.choose(q.asked); err != nil {
		return err
	}
	if q.groups = b.takers(q.groups, op); len(q.groups) == 0 {
		return fault.New(fault.NotImplemented, "no provider of this model is routed to for %.200s", op.path)
	}
	if err := c.checkOrigin(); err != nil {
		return err
	}
	c.readProtocols()
	taken, err := q.reserve()
	if err != nil {
		return err
	}
	defer q.spend(taken)
	return q.answer(c.ask)
}

// checkOrigin refuses web pages of foreign origins, unless all that is asked with is their own
// credential.
func (c *call) checkOrigin() error {
	origins := c.r.Header["Origin"]
	foreign := only(c.groups, func(p *Provider) bool { return !p.Credential.Passthrough })
	if len(origins) == 0 || len(foreign) == 0 {
		return nil
	}
	u, err := url.Parse(origins[0])
	own := err == nil && u.Host != "" && strings.EqualFold(u.Host, c.r.Host)
	allowed := slices.ContainsFunc(c.cfg.AllowedOrigins, func(o string) bool { return strings.EqualFold(o, origins[0]) })
	if len(origins) > 1 || !own && !allowed {
		return fault.New(fault.Denied, "pages of this origin may not open realtime sessions: see allowedOrigins")
	}
	return nil
}

// readProtocols takes out of the subprotocols what belongs into headers. A browser has no
// other place for the credential.
func (c *call) readProtocols() {
	h := c.header.Clone()
	for _, p := range websocket.Subprotocols(c.r) {
		switch {
		case strings.HasPrefix(p, browserKey):
			if h.Get("Authorization") == "" {
				h.Set("Authorization", "Bearer "+strings.TrimPrefix(p, browserKey))
			}
		case strings.HasPrefix(p, browserAccount):
			h.Set("Openai-Organization", strings.TrimPrefix(p, browserAccount))
		case strings.HasPrefix(p, browserProject):
			h.Set("Openai-Project", strings.TrimPrefix(p, browserProject))
		default:
			c.protocols = append(c.protocols, p)
		}
	}
	c.header = h
}

// ask opens the session with one provider, and serves it once it is open. A failure lets
// another be asked.
func (c *call) ask(p *Provider) (*failure, error) {
	rec := c.rec
	rec.LLM.Provider, rec.LLM.Name = p.Vendor.String(), p.Name
	if p.Fault != nil {
		return &failure{err: p.Fault, unable: true}, nil
	}
	if err := p.permitted(c.ctx); err != nil {
		p.Health.unclaim()
		return &failure{err: err, unable: true}, nil
	}
	if policy := policyOf(c.ctx).at(p.Name); policy.Prompt != nil || policy.Answer != nil {
		p.Health.unclaim()
		return nil, fault.New(fault.Misconfigured, "a prompt guard covers this, and realtime sessions can't be guarded")
	}
	v, ok := vendorOf(p.Vendor).(realtimer)
	if !ok {
		p.Health.unclaim()
		return &failure{err: fault.New(fault.NotImplemented, "the provider has no realtime sessions: ask OpenAI or Azure OpenAI"), unable: true}, nil
	}
	a := &attempt{query: c.query, provider: p, vendor: vendorOf(p.Vendor), dialect: openai.Chat{}, same: true}
	a.named = cmp.Or(p.Model, c.model)
	if a.named == "" && !c.values.Has("intent") && !c.values.Has("call_id") {
		p.Health.unclaim()
		return nil, invalid(dialect.Invalid("model", "model is required: neither the query nor the configuration names one"))
	}
	rec.LLM.SentModel = a.named
	rec.Attempts++
	rec.UpstreamHost = p.Host
	p.Health.active.Add(1)
	defer p.Health.active.Add(-1)
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	clock := time.AfterFunc(c.cfg.Clocks.FirstContent, func() { cancel(errFirstContent) })
	t, err := c.open(ctx, a, v)
	clock.Stop()
	switch {
	case err != nil:
		f, err := a.refusal(t, err)
		outcome := "failed"
		if f == nil {
			p.Health.unclaim()
			outcome = "refused"
		}
		c.cfg.Metrics.LLMAttempt(c.cfg.Name, p.label(), outcome)
		return f, err
	case ctx.Err() != nil:
		_ = t.Close()
		return a.lost(context.Cause(ctx))
	}
	p.Health.answered()
	c.cfg.Metrics.LLMAttempt(c.cfg.Name, p.label(), "answered")
	rec.LLM.ResponseModel = a.named
	err = c.serve(t)
	a.price()
	return nil, err
}

// open opens the session with the provider. The tunnel knows what it answered instead.
func (c *call) open(ctx context.Context, a *attempt, v realtimer) (*tunnel, error) {
	query := url.Values{}
	for name, values := range c.values {
		query[name] = values
	}
	h := http.Header{}
	pass(h, c.header, "User-Agent", "Accept-Language", "Traceparent", "Tracestate", "X-Request-Id", "Openai-Safety-Identifier")
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // or net/http sends its own
	}
	a.vendor.headers(a, h)
	if len(c.protocols) > 0 {
		h["Sec-Websocket-Protocol"] = []string{strings.Join(c.protocols, ", ")}
	}
	r, err := a.outgoing(ctx, http.MethodGet, v.realtime(a.provider, a.named, query), h)
	if err != nil {
		return nil, err
	}
	t := &tunnel{via: a.provider.RoundTripper, request: r}
	d := websocket.Dialer{NetDialContext: t.dial, ReadBufferSize: relayBuffer, WriteBufferSize: relayBuffer}
	t.conn, _, err = d.DialContext(ctx, "ws://provider/", nil)
	return t, err
}

// refusal says what it means that a session was not opened.
func (a *attempt) refusal(t *tunnel, err error) (*failure, error) {
	switch {
	case t == nil: // it was not asked
		return nil, err
	case t.err != nil:
		return a.lost(t.err)
	case t.resp == nil || t.resp.StatusCode == http.StatusSwitchingProtocols:
		return failed(fmt.Errorf("the handshake of the provider: %w", err)), nil
	case t.resp.StatusCode < http.StatusBadRequest:
		return failed(fmt.Errorf("the provider answered %d to a WebSocket handshake", t.resp.StatusCode)), nil
	}
	defer func() { _ = t.resp.Body.Close() }() // it was read
	return a.no(t.resp)
}

// serve answers the client's handshake and relays messages until the session ends.
func (c *call) serve(t *tunnel) error {
	defer func() { _ = t.conn.Close() }() // it has been told why
	h := c.out.w.Header().Clone()
	if p := t.conn.Subprotocol(); p != "" && slices.Contains(c.protocols, p) {
		h["Sec-Websocket-Protocol"] = []string{p}
	}
	var refused error
	u := websocket.Upgrader{
		ReadBufferSize: relayBuffer, WriteBufferSize: relayBuffer,
		CheckOrigin: func(*http.Request) bool { return true }, // it was checked
		Error:       func(_ http.ResponseWriter, _ *http.Request, _ int, reason error) { refused = reason },
	}
	client, err := u.Upgrade(c.out.w, c.r, h)
	if refused != nil {
		return fault.Wrap(fault.BadRequest, refused, "the WebSocket handshake is malformed")
	}
	c.rec.Status = http.StatusSwitchingProtocols
	if err != nil {
		return gone(err)
	}
	defer func() { _ = client.Close() }() // likewise
	s := &relay{rec: c.rec, clocks: &c.cfg.Clocks, client: newSide(client), provider: newSide(t.conn)}
	err = s.run(c.ctx)
	if err != nil {
		c.rec.Err, c.rec.ErrorType = err, fault.Of(err).Code.String()
	}
	return nil
}

var errNoTunnel = errors.New("the connection can't be written to after its upgrade")
