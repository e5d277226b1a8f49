package federation

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// serveLegacy serves a message of a client that speaks a revision with sessions
// (2025-11-25, Transports, Streamable HTTP).
func (q *request) serveLegacy(ctx context.Context) error {
	q.era = protocol.Legacy
	q.rec.MCP.Era = q.era.String()
	if q.msg.Method == "initialize" && q.msg.Kind == protocol.Request && q.header.Get(protocol.HeaderSessionID) == "" {
		return q.initialize(ctx)
	}
	if q.msg.Method == "notifications/initialized" {
		// It asks nothing of the session, which its client may leave at that.
		return q.initialized(ctx)
	}
	if err := q.openSession(ctx, q.header); err != nil {
		return err
	}
	return q.message(ctx)
}

// initialized accepts the notification that ends the handshake.
func (q *request) initialized(ctx context.Context) error {
	sess, ok := q.b.hub.opts.Sessions.Glance(q.header.Get(protocol.HeaderSessionID), q.b.cfg.Name, q.client.Isolation)
	if !ok { // or it is elsewhere
		if err := q.openSession(ctx, q.header); err != nil {
			return err
		}
		sess = q.sess
	}
	q.client = sess.Client()
	q.rec.MCP.ProtocolVersion = q.client.Version
	return q.accepted()
}

// openSession finds the session that the header names.
func (q *request) openSession(ctx context.Context, h http.Header) error {
	q.era = protocol.Legacy
	q.rec.MCP.Era = q.era.String()
	sess, err := q.b.openSession(ctx, h, q.client.Isolation)
	if err != nil {
		return err
	}
	q.useSession(sess)
	return nil
}

func (b *Backend) openSession(ctx context.Context, h http.Header, isolation string) (*session.Session, error) {
	if v := h.Get(protocol.HeaderProtocolVersion); v != "" && protocol.EraOf(v) != protocol.Legacy {
		return nil, fault.New(fault.BadRequest, "Bad Request: unsupported protocol version")
	}
	id := h.Get(protocol.HeaderSessionID)
	if id == "" {
		return nil, fault.New(fault.BadRequest, "Bad Request: %s header is required", protocol.HeaderSessionID)
	}
	sess, ok := b.hub.opts.Sessions.Open(id, b.cfg.Name, isolation)
	if !ok {
		if home, ok := b.hub.opts.Sessions.Home(id, b.cfg.Name, isolation); ok && b.hub.other(home) {
			return nil, b.hub.away(ctx, home, errNoSession) // all of it is there
		}
		return nil, errNoSession
	}
	return sess, nil
}

func (q *request) useSession(sess *session.Session) {
	q.era = protocol.Legacy
	q.sess = sess
	q.client = sess.Client()
	q.rec.MCP.ProtocolVersion = q.client.Version
}

// message serves one message within a session.
func (q *request) message(ctx context.Context) error {
	h := q.b.hub
	q.live = h.enter(q.sess.Nonce(), q.sess)
	defer h.leave(q.live)
	defer func() {
		if q.live.lasts() {
			q.live.hold(q.sess)
		}
	}()
	switch q.msg.Kind {
	case protocol.Response:
		if addr := q.live.waits(q.msg.ID); h.other(addr) {
			if err := h.away(ctx, addr, nil); err != nil {
				return err
			}
		}
		q.live.answered(ctx, q.msg, q.forward, h.opts.Logger)
		return q.accepted()
	case protocol.Notification:
		if err := q.notification(ctx); err != nil {
			return err
		}
		return q.accepted()
	}
	if q.needsHome() {
		if err := q.home(ctx); err != nil {
			return err
		}
	}
	end := q.outlive(ctx)
	defer end()
	if err := q.live.begin(q.msg.ID, &q.life); err != nil {
		return err
	}
	defer q.live.done(q.msg.ID)
	defer q.tellHome(&q.life, end)()
	if !q.answer.batch && !q.answer.shared {
		q.answer.keep()
	}
	err := q.serve(&q.life)
	if err != nil && errors.Is(err, session.ErrAtHome) {
		return h.away(&q.life, q.sess.Home(), errNoSession)
	}
	return err
}

// needsHome reports whether the request asks for what only the home of a session
// knows, or changes it: tasks are remembered there, on both sides, and lists that are
// the session's own.
func (q *request) needsHome() bool {
	if q.b.hub.moved.Contains(q.sess.Nonce()) {
		return q.msg.Method != "ping"
	}
	switch q.msg.Method {
	case "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/list":
		return true
	case "tools/call":
		return protocol.Get(q.msg.Params, "task") != nil || has(q.client.Capabilities, "tasks")
	default:
		return false
	}
}

// home returns an error unless this process is the home of the session.
func (q *request) home(ctx context.Context) error {
	if q.sess.AtHome() {
		return nil
	}
	return q.b.hub.away(ctx, q.sess.Home(), errNoSession)
}

func (q *request) accepted() error {
	if !q.answer.batch && !q.answer.shared {
		q.answer.w.WriteHeader(http.StatusAccepted)
	}
	return nil
}

// notification passes a notification on to whom it concerns. Its error says that
// this is elsewhere.
func (q *request) notification(ctx context.Context) error {
	h := q.b.hub
	switch q.msg.Method {
	case "notifications/cancelled":
		id := protocol.ID(protocol.Get(q.msg.Params, "requestId"))
		if id == "" || q.live.cancel(id) {
			return nil
		}
		if !q.sess.AtHome() {
			return h.away(ctx, q.sess.Home(), nil)
		}
		h.cancelEarly(q.sess.Nonce(), id)
	case "notifications/progress":
		id := protocol.ID(protocol.Get(q.msg.Params, protocol.MetaProgressToken))
		if addr := q.live.waits(id); h.other(addr) {
			return h.away(ctx, addr, nil)
		}
		q.live.progress(ctx, q.msg, q.forward)
	case "notifications/tasks/status":
		if err := q.home(ctx); err != nil {
			return err
		}
		q.live.taskStatus(ctx, q.msg, q.forward)
	case "notifications/roots/list_changed":
		if err := q.home(ctx); err != nil {
			return err
		}
		q.each(ctx, func(ctx context.Context, _ int, leg *session.Leg, _ *session.Discovery) {
			if err := leg.Notify(ctx, q.msg.Method, q.msg.Params, q.forward); err != nil {
				h.opts.Logger.Debug("notification was not delivered", "method", q.msg.Method, "error", err)
			}
		})
	}
	return nil
}

// initialize begins a session (2025-11-25, Lifecycle): it opens a leg to each
// target, all at once, and says what they can do together. A target that does
// not answer in its time is left out, and gets its leg when it is needed.
func (q *request) initialize(ctx context.Context) error {
	requested, ok := protocol.GetString(q.msg.Params, "protocolVersion")
	if !ok {
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: initialize needs the string params.protocolVersion")
	}
	if !q.b.hub.mayInitialize(q.client.Isolation) {
		return &fault.Fault{Code: fault.RateLimited, Message: "too many sessions are being made", RetryAfter: time.Second}
	}
	q.client.Version = protocol.NegotiateLegacy(requested)
	q.client.Capabilities = objectOrNil(protocol.Get(q.msg.Params, "capabilities"))
	q.client.Info = objectOrNil(protocol.Get(q.msg.Params, "clientInfo"))
	q.rec.MCP.ProtocolVersion = q.client.Version

	found, legs, short, err := q.discover(ctx, true)
	if err != nil {
		return err
	}
	sess, err := q.b.hub.opts.Sessions.Create(q.b.cfg.Name, q.client, legs)
	if err != nil {
		return err
	}
	result := append([]byte(nil), `{"protocolVersion":`...)
	result = append(result, protocol.Quote(q.client.Version)...)
	result = append(result, `,"capabilities":`...)
	result = append(result, mergeCapabilities(found, protocol.Legacy)...)
	result = append(result, `,"serverInfo":`...)
	result = append(result, q.b.serverInfo()...)
	if text := mergeInstructions(&q.b.cfg, found); text != "" {
		result = append(result, `,"instructions":`...)
		result = append(result, protocol.Quote(text)...)
	}
	if short.any() {
		result = short.append(append(result, `,"_meta":{`...))
		result = append(result, '}')
	}
	result = append(result, '}')
	if q.began != nil {
		q.began(sess)
	} else {
		q.answer.w.Header().Set(protocol.HeaderSessionID, sess.ID())
	}
	return q.result(result)
}

func objectOrNil(raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	return bytes.Clone(raw)
}

// endTimeout bounds how long targets may take to end their sessions.
const endTimeout = 5 * time.Second

// delete ends a session.
func (b *Backend) delete(w http.ResponseWriter, r *http.Request) error {
	if protocol.EraOf(r.Header.Get(protocol.HeaderProtocolVersion)) == protocol.Modern {
		return methodNotAllowed("POST")
	}
	rec := telemetry.FromContext(r.Context())
	rec.MCP.Era = protocol.Legacy.String()
	f := b.forwardOf(r)
	ctx := context.WithoutCancel(r.Context())
	sess, err := b.openSession(r.Context(), r.Header, b.isolationOf(r, &f, nil))
	if err == nil && !sess.AtHome() {
		err = b.hub.away(r.Context(), sess.Home(), errNoSession)
	}
	var e *elsewhere
	if errors.As(err, &e) {
		if sess != nil {
			b.hub.opts.Sessions.Ended(sess.Nonce())
			b.hub.forget(sess.Nonce())
		}
		return b.carryRequest(w, r, e, nil)
	}
	if err != nil {
		return err
	}
	b.hub.forget(sess.Nonce())
	// Targets may wait for the calls of the session, which also run elsewhere.
	b.hub.tellPeers(ctx, peerEnded, sess.Nonce())
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	sess.End(ctx, b.targets...)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
