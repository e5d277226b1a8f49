package federation

import (
	"bytes"
	"context"
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
	if err := q.openSession(q.header); err != nil {
		return err
	}
	return q.message(ctx)
}

// openSession finds the session that the header names.
func (q *request) openSession(h http.Header) error {
	q.era = protocol.Legacy
	q.rec.MCP.Era = q.era.String()
	sess, err := q.b.openSession(h, q.client.Isolation)
	if err != nil {
		return err
	}
	q.useSession(sess)
	return nil
}

func (b *Backend) openSession(h http.Header, isolation string) (*session.Session, error) {
	if v := h.Get(protocol.HeaderProtocolVersion); v != "" && protocol.EraOf(v) != protocol.Legacy {
		return nil, fault.New(fault.BadRequest, "Bad Request: unsupported protocol version")
	}
	id := h.Get(protocol.HeaderSessionID)
	if id == "" {
		return nil, fault.New(fault.BadRequest, "Bad Request: %s header is required", protocol.HeaderSessionID)
	}
	sess, ok := b.hub.opts.Sessions.Open(id, b.cfg.Name, isolation)
	if !ok {
		return nil, fault.New(fault.NotFound, "session not found")
	}
	return sess, nil
}

func (q *request) useSession(sess *session.Session) {
	q.era = protocol.Legacy
	q.sess = sess
	q.client = sess.Client()
	q.live = liveOf(sess)
	q.rec.MCP.ProtocolVersion = q.client.Version
}

// message serves one message within a session.
func (q *request) message(ctx context.Context) error {
	switch q.msg.Kind {
	case protocol.Response:
		q.live.answered(ctx, q.msg, q.forward, q.b.hub.opts.Logger)
		return q.accepted()
	case protocol.Notification:
		q.notification(ctx)
		return q.accepted()
	}
	ctx, cancel := q.outlive(ctx)
	defer cancel()
	done, err := q.live.begin(q.msg.ID, cancel)
	if err != nil {
		return err
	}
	defer done()
	if !q.answer.batch && !q.answer.shared {
		q.answer.keep()
	}
	return q.serve(ctx)
}

func (q *request) accepted() error {
	if !q.answer.batch && !q.answer.shared {
		q.answer.w.WriteHeader(http.StatusAccepted)
	}
	return nil
}

// notification passes a notification on to whom it concerns.
func (q *request) notification(ctx context.Context) {
	switch q.msg.Method {
	case "notifications/cancelled":
		if id := protocol.Get(q.msg.Params, "requestId"); id != nil {
			q.live.cancel(protocol.ID(id))
		}
	case "notifications/progress":
		q.live.progress(ctx, q.msg, q.forward)
	case "notifications/tasks/status":
		q.live.taskStatus(ctx, q.msg, q.forward)
	case "notifications/roots/list_changed":
		q.each(ctx, func(ctx context.Context, _ int, leg *session.Leg, _ *session.Discovery) {
			if err := leg.Notify(ctx, q.msg.Method, q.msg.Params, q.forward); err != nil {
				q.b.hub.opts.Logger.Debug("notification was not delivered", "method", q.msg.Method, "error", err)
			}
		})
	}
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

// delete ends a session.
func (b *Backend) delete(w http.ResponseWriter, r *http.Request) error {
	if protocol.EraOf(r.Header.Get(protocol.HeaderProtocolVersion)) == protocol.Modern {
		return methodNotAllowed("POST")
	}
	rec := telemetry.FromContext(r.Context())
	rec.MCP.Era = protocol.Legacy.String()
	f := b.forwardOf(r)
	sess, err := b.openSession(r.Header, b.isolationOf(r, &f))
	if err != nil {
		return err
	}
	liveOf(sess).end()
	b.hub.trails.forget(sess.Nonce())
	sess.End(context.WithoutCancel(r.Context()))
	w.WriteHeader(http.StatusNoContent)
	return nil
}
