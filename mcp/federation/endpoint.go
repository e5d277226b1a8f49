package federation

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

const (
	maxBody  = 4 << 20
	maxBatch = 100
)

// A request is one JSON-RPC request or notification of a client, and what is
// needed to serve it.
type request struct {
	b       *Backend
	rec     *telemetry.Record
	msg     *protocol.Message
	era     protocol.Era
	client  session.Client
	forward session.Forward
	header  http.Header
	answer  *answer
	sess    *session.Session       // of legacy clients
	live    *live                  // of legacy clients
	life    lifetime.Lifetime      // of legacy clients: of the call that it is
	left    lifetime.Hook          // on the client's connection
	view    *view                  // once it is needed
	began   func(*session.Session) // is told of the session that initialize makes; may be nil
}

func methodNotAllowed(allow string) error {
	return &fault.Fault{Code: fault.MethodNotAllowed, Message: "Method Not Allowed", Header: http.Header{"Allow": {allow}}}
}

// post serves a POST: one message, or a batch of them.
func (b *Backend) post(w http.ResponseWriter, r *http.Request) error {
	if json, stream := accepts(r.Header.Values("Accept")); !json || !stream {
		return fault.New(fault.NotAcceptable, "Accept must contain both application/json and text/event-stream")
	}
	if !isJSON(r.Header.Get("Content-Type")) {
		return fault.New(fault.UnsupportedMedia, "Content-Type must be application/json")
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fault.New(fault.UnsupportedMedia, "Content-Encoding is not supported")
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	rec := telemetry.FromContext(r.Context())
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) > 0 && first[0] == '[' {
		return b.postBatch(w, r, body)
	}
	m, err := protocol.Parse(body, protocol.Limits{})
	if err != nil {
		return parseError(m, err)
	}
	q := b.newRequest(w, r, m)
	if isModern(r.Header, m) {
		err = q.serveModern(r.Context())
	} else {
		err = q.serveLegacy(r.Context())
	}
	err = q.carried(r.Context(), err)
	begun := q.answer.begun()
	if err != nil && begun {
		// Too late for a status: the stream ends with an error response, if the
		// client still reads.
		rec.Err = err
		rec.ErrorType = fault.Of(err).Code.String()
		if m.Kind == protocol.Request && fault.Of(err).Code != fault.ClientGone {
			_ = q.answer.emit(protocol.AppendError(nil, m.ID, rpcOf(err)))
		}
	}
	q.answer.finish()
	if err == nil || begun {
		return nil
	}
	return &requestError{id: m.ID, err: err}
}

// parseError returns the error for a message that did not parse, with its id where
// that could be read.
func parseError(m *protocol.Message, err error) error {
	if m == nil {
		return err
	}
	return &requestError{id: m.ID, err: err}
}

func (b *Backend) newRequest(w http.ResponseWriter, r *http.Request, m *protocol.Message) *request {
	one := &struct { // which is one object in place of three
		request
		answer
		sse
	}{}
	q := &one.request
	b.hub.initSSE(&one.sse, w)
	one.answer.sse = &one.sse
	q.b, q.rec, q.msg, q.header, q.answer = b, telemetry.FromContext(r.Context()), m, r.Header, &one.answer
	q.forward = b.forwardOf(r)
	q.client.Isolation = b.isolationOf(r, &q.forward, m)
	q.rec.MCP.Method = m.Method
	if q.rec.Traced() {
		traceparent, _ := protocol.GetString(m.Params, "_meta", protocol.MetaTraceParent)
		tracestate, _ := protocol.GetString(m.Params, "_meta", protocol.MetaTraceState)
		q.rec.TraceMeta(traceparent, tracestate)
	}
	return q
}

// isModern reports whether a message is of the modern era: it says so itself, or
// its headers do (2026-07-28, Versioning, Backward Compatibility).
func isModern(h http.Header, m *protocol.Message) bool {
	version := h.Get(protocol.HeaderProtocolVersion)
	switch {
	case protocol.EraOf(version) == protocol.Modern:
		return true
	case protocol.Get(m.Params, "_meta", protocol.MetaProtocolVersion) != nil:
		return true
	default:
		// A revision of the future is no legacy one.
		return protocol.EraOf(version) == protocol.EraUnknown && version > protocol.LatestModern && m.Method != "initialize"
	}
}

// postBatch serves a batch, which only the revision 2025-03-26 has (Base
// Protocol, Batching): each message on its own, the responses together.
func (b *Backend) postBatch(w http.ResponseWriter, r *http.Request, body []byte) error {
	elements, _, err := protocol.ParseBatch(body, protocol.Limits{}, maxBatch)
	if err != nil {
		return err
	}
	refused := protocol.Errorf(protocol.CodeInvalidRequest, "a batch needs a session of revision %s", protocol.Version20250326)
	if protocol.EraOf(r.Header.Get(protocol.HeaderProtocolVersion)) == protocol.Modern {
		return refused
	}
	a := &answer{sse: b.hub.newSSE(w), batch: true}
	defer a.finish()
	rec := telemetry.FromContext(r.Context())
	rec.MCP = telemetry.MCP{Era: protocol.Legacy.String(), ProtocolVersion: protocol.Version20250326}
	var sess *session.Session
	for _, raw := range elements {
		m, err := protocol.Parse(raw, protocol.Limits{})
		if err != nil {
			var rpc *protocol.Error
			errors.As(err, &rpc)
			var id protocol.ID
			if m != nil {
				id = m.ID
			}
			if err := a.respond(http.StatusOK, protocol.AppendError(nil, id, rpc)); err != nil {
				return nil
			}
			continue
		}
		q := b.newRequest(w, r, m)
		// Each message of a batch is an operation of its own.
		q.rec = &telemetry.Record{Start: b.hub.now()}
		q.rec.MCP.Method = m.Method
		q.answer = a
		if sess == nil {
			if err := q.openSession(r.Context(), r.Header); err != nil {
				return err
			}
			if q.client.Version != protocol.Version20250326 {
				return refused
			}
			sess = q.sess
		} else {
			q.useSession(sess)
		}
		if m.Method == "initialize" {
			if err := a.respond(http.StatusOK, protocol.AppendError(nil, m.ID,
				protocol.Errorf(protocol.CodeInvalidRequest, "initialize can't be part of a batch"))); err != nil {
				return nil
			}
			continue
		}
		err = q.carried(r.Context(), q.message(r.Context()))
		if m.Kind == protocol.Request {
			if err != nil {
				q.rec.ErrorType = fault.Of(err).Code.String()
			}
			b.hub.opts.Metrics.Operation(rec, &q.rec.MCP, q.rec.ErrorType, b.hub.now().Sub(q.rec.Start))
		}
		if err != nil {
			f := fault.Of(err)
			if f.Code == fault.ClientGone {
				return err
			}
			if m.Kind == protocol.Request {
				if err := a.respond(http.StatusOK, protocol.AppendError(nil, m.ID, rpcOf(err))); err != nil {
					return nil
				}
			}
		}
	}
	err = a.close()
	return err
}

// rpcOf returns err as the JSON-RPC error that the client gets.
func rpcOf(err error) *protocol.Error {
	var rpc *protocol.Error
	if errors.As(err, &rpc) && !isFault(err) {
		return rpc
	}
	return rpcError(fault.Of(err))
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// readBody returns the whole body, in no more memory than it takes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var body []byte
	var err error
	switch {
	case r.ContentLength > maxBody:
		return nil, fault.New(fault.TooLarge, "the body is over %d bytes", maxBody)
	case r.ContentLength > 0 && r.ContentLength <= 64<<10:
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	default:
		// What a client says of its length is no reason to have that much ready.
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	if err == nil {
		return body, nil
	}
	var tooLarge *http.MaxBytesError
	var f *fault.Fault
	switch {
	case errors.As(err, &tooLarge):
		return nil, fault.New(fault.TooLarge, "the body is over %d bytes", maxBody)
	case errors.As(err, &f):
		return nil, f
	case errors.Is(err, context.Canceled), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fault.Wrap(fault.ClientGone, err, "the client closed the request")
	default:
		return nil, fault.Wrap(fault.BadRequest, err, "the body can't be read")
	}
}

// accepts reports which of the two content types of the transport the client
// takes (RFC 9110, section 12.5.1).
func accepts(lines []string) (json, stream bool) {
	if len(lines) == 1 && lines[0] == "application/json, text/event-stream" {
		return true, true
	}
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			mediaType, params, _ := strings.Cut(part, ";")
			if q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok && strings.Trim(q, "0.") == "" {
				continue
			}
			switch strings.ToLower(strings.TrimSpace(mediaType)) {
			case "*/*":
				json, stream = true, true
			case "application/json", "application/*":
				json = true
			case "text/event-stream", "text/*":
				stream = true
			}
		}
	}
	return json, stream
}
