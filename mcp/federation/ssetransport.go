package federation

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// initializeWait is how long a client of the HTTP+SSE transport may take to
// initialize its session.
const initializeWait = 30 * time.Second

// A connection is a session over the HTTP+SSE transport (2024-11-05, Transports):
// the client opens one stream with GET, is told where to POST its messages, and
// gets everything on the stream. The session ends with the stream.
type connection struct {
	backend   string
	isolation string
	out       *sse
	ended     context.Context
	ready     chan *session.Session // capacity 1: the session, once it is initialized

	mu   sync.Mutex
	sess *session.Session
}

// isSSE reports whether a request is of the HTTP+SSE transport: that lives at
// /sse, and knows no session header. Its messages may name a revision, as the SDKs
// do that also speak later transports.
func isSSE(r *http.Request) bool {
	if !strings.HasSuffix(r.URL.Path, "/sse") || r.Header.Get(protocol.HeaderSessionID) != "" {
		return false
	}
	if r.Method == http.MethodPost {
		return r.URL.Query().Has("sessionId")
	}
	return r.Method == http.MethodGet && r.Header.Get(protocol.HeaderProtocolVersion) == ""
}

// getSSE serves the stream.
func (b *Backend) getSSE(w http.ResponseWriter, r *http.Request) error {
	if _, stream := accepts(r.Header.Values("Accept")); !stream {
		return fault.New(fault.NotAcceptable, "Accept must contain text/event-stream")
	}
	rec := telemetry.FromContext(r.Context())
	rec.MCP.Era = protocol.Legacy.String()
	f := b.forwardOf(r)
	out := b.hub.newSSE(w)
	ctx, cancel := context.WithCancel(r.Context())
	c := &connection{backend: b.cfg.Name, isolation: b.isolationOf(r, &f, nil), out: out, ended: ctx, ready: make(chan *session.Session, 1)}
	id := b.hub.connectionID(b.binding(c.isolation))
	waiting := b.newStream(ctx, out, &session.Client{Isolation: c.isolation})
	waiting.only = 0
	if err := b.hub.register(waiting); err != nil {
		cancel()
		return err
	}
	defer b.hub.opts.Metrics.StreamOpened(telemetry.SSEStream)()
	defer out.finish()
	b.hub.connect(id, c)
	defer b.hub.disconnect(id)
	if err := out.named("endpoint", []byte("?sessionId="+id)); err != nil {
		b.hub.unregister(waiting)
		cancel()
		return nil
	}
	out.keep()
	timer := time.NewTimer(initializeWait)
	defer timer.Stop()
	var sess *session.Session
	select {
	case sess = <-c.ready:
	case <-timer.C:
	case <-waiting.life.Done():
	case <-ctx.Done():
	}
	b.hub.unregister(waiting)
	if sess == nil {
		cancel()
		return nil
	}
	defer sess.End(context.WithoutCancel(ctx))
	client := sess.Client()
	rec.MCP.ProtocolVersion = client.Version
	s := b.newStream(ctx, out, &client)
	s.live = b.hub.enter(sess.Nonce(), sess)
	defer b.hub.leave(s.live)
	s.live.hold(sess)
	if err := b.hub.register(s); err != nil {
		cancel()
		return nil
	}
	defer b.hub.unregister(s)
	s.live.open(s)
	defer s.live.end()
	listening := &listening{ctx: ctx, b: b, sess: sess, stream: s, forward: f}
	defer listening.wait()
	defer cancel()
	listening.follow(b)
	s.serve(ctx, sess, listening.follow, func(method string) []byte {
		return protocol.AppendNotification(nil, method, nil)
	})
	return nil
}

// postSSE serves one message: it is accepted at once, and answered on the stream.
func (b *Backend) postSSE(w http.ResponseWriter, r *http.Request) error {
	if !isJSON(r.Header.Get("Content-Type")) {
		return fault.New(fault.UnsupportedMedia, "Content-Type must be application/json")
	}
	f := b.forwardOf(r)
	id := r.URL.Query().Get("sessionId")
	c := b.hub.connection(id)
	var e *elsewhere
	if addr := b.hub.connectionAddr(id, b.binding(b.isolationOf(r, &f, nil))); b.hub.other(addr) && errors.As(b.hub.away(r.Context(), addr, errNoSession), &e) {
		body, err := readBody(w, r)
		if err != nil {
			return err
		}
		return b.carryRequest(w, r, e, body)
	}
	if c == nil || c.backend != b.cfg.Name || c.isolation != b.isolationOf(r, &f, nil) {
		return fault.New(fault.NotFound, "session not found")
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	m, err := protocol.Parse(body, protocol.Limits{})
	if err != nil {
		return parseError(m, err)
	}
	q := b.newRequest(w, r, m)
	q.answer = &answer{sse: c.out, streaming: true, shared: true}
	q.era = protocol.Legacy
	q.rec.MCP.Era = q.era.String()
	if err := c.use(q); err != nil {
		return &requestError{id: m.ID, err: err}
	}
	w.Header().Set("Content-Length", "0")
	if r.ProtoMajor == 1 && m.Kind == protocol.Request {
		// The connection is busy until the call has ended: the client must not wait
		// behind it with what the call may need from it.
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(http.StatusAccepted)
	_ = http.NewResponseController(w).Flush() // the client need not wait for the call

	// The call belongs to the stream: the POST that brought it is over.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(c.ended, cancel)()
	if q.sess == nil {
		// The session is there before the client hears of it.
		q.began = c.begin
		err = q.initialize(ctx)
	} else {
		err = q.message(ctx)
	}
	if err != nil {
		q.rec.Err, q.rec.ErrorType = err, fault.Of(err).Code.String()
		if m.Kind == protocol.Request && fault.Of(err).Code != fault.ClientGone {
			_ = q.answer.emit(protocol.AppendError(nil, m.ID, rpcOf(err)))
		}
	}
	return nil
}

// use gives the request the session of the connection; without one only
// initialize can be served.
func (c *connection) use(q *request) error {
	c.mu.Lock()
	sess := c.sess
	c.mu.Unlock()
	switch {
	case sess != nil:
		q.useSession(sess)
	case q.msg.Method != "initialize" || q.msg.Kind != protocol.Request:
		return fault.New(fault.BadRequest, "the session is not initialized")
	}
	return nil
}

// begin makes sess the session of the connection; of several there is one.
func (c *connection) begin(sess *session.Session) {
	c.mu.Lock()
	first := c.sess == nil
	if first {
		c.sess = sess
	}
	c.mu.Unlock()
	if first {
		c.ready <- sess
		return
	}
	sess.End(context.WithoutCancel(c.ended))
}

// connectionID returns the id of a new session of the HTTP+SSE transport, which
// names this replica.
func (h *Hub) connectionID(binding []byte) string {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return h.opts.Sealer.Seal("sse", append(random[:], h.addr()...), binding)
}

// connectionAddr returns the address of the replica that made the id, "" when none did.
func (h *Hub) connectionAddr(id string, binding []byte) string {
	if h.addr() == "" || len(id) > maxOwnID {
		return ""
	}
	plain, ok := h.opts.Sealer.Open("sse", id, binding)
	if !ok || len(plain) <= 16 {
		return ""
	}
	return string(plain[16:])
}

func (h *Hub) connect(id string, c *connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connections[id] = c
}

func (h *Hub) disconnect(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.connections, id)
}

func (h *Hub) connection(id string) *connection {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connections[id]
}
