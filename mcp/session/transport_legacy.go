package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/upstream"
)

// A legacyHTTP is a session with a legacy target over streamable HTTP
// (2025-11-25, Transports, Streamable HTTP). The id of the session, the revision
// and the endpoint it lives on are fixed by initialize.
type legacyHTTP struct {
	t        *Target
	sid      string // "" when the target keeps no sessions
	revision string
	pin      upstream.Pin // to the endpoint that the RoundTripper chose, if any; not changed any more

	mu     sync.Mutex
	tokens map[protocol.ID][]byte // progress tokens of the calls under way
	tasks  taskTokens
}

const (
	// maxResumes bounds how often in a row a stream is taken up again that then
	// brings nothing.
	maxResumes = 5
	// maxSessionID bounds the session id of a target, in bytes.
	maxSessionID = 8 << 10
)

func (w *legacyHTTP) era() protocol.Era { return protocol.Legacy }
func (w *legacyHTTP) version() string   { return w.revision }
func (w *legacyHTTP) usable() bool      { return true }

// header returns the headers of a request within the session.
func (w *legacyHTTP) header(accept string) http.Header {
	h := make(http.Header, 8)
	values := [...]string{accept, w.sid, w.revision}
	h["Accept"] = values[0:1:1]
	if w.sid != "" {
		h[protocol.HeaderSessionID] = values[1:2:2]
	}
	if w.revision != "" {
		h[protocol.HeaderProtocolVersion] = values[2:3:3]
	}
	return h
}

// do sends one HTTP request within the session.
func (w *legacyHTTP) do(ctx context.Context, method string, body []byte, f Forward, h http.Header) (*http.Response, error) {
	var pin *upstream.Pin
	if w.pin.Endpoint != "" {
		pin = &w.pin
	}
	resp, err := w.t.do(ctx, method, pin, body, f, h)
	if err != nil && pin != nil && unreachable(err) && ctx.Err() == nil {
		// The endpoint that knows the session is gone, and nothing was sent.
		return nil, &unsent{err: w.t.fault(ctx, err)}
	}
	return resp, err
}

func (w *legacyHTTP) call(ctx context.Context, r *request) (*protocol.Message, error) {
	ctx = w.t.begin(ctx, r)
	defer r.end()
	if r.token != nil {
		w.track(r.id, r.token)
		defer w.track(r.id, nil)
	}
	m, err := w.exchange(ctx, r)
	if err == nil {
		if r.token != nil && madeTask(r, m) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tasks.add(r.id, r.token)
		}
		return m, nil
	}
	if ctx.Err() != nil || isEmit(err) {
		w.abandon(r)
	}
	return nil, w.t.fault(ctx, err)
}

// exchange sends r and reads its response.
func (w *legacyHTTP) exchange(ctx context.Context, r *request) (*protocol.Message, error) {
	body := protocol.AppendRequest(make([]byte, 0, len(r.params)+96), r.id, r.method, r.params)
	resp, err := w.do(ctx, http.MethodPost, body, r.f, w.header(bothTypes))
	if err != nil {
		return nil, err
	}
	if !success(resp.StatusCode) {
		return w.refused(resp, r.id)
	}
	var at cursor
	m, err := w.t.answer(ctx, resp, r, w, &at)
	for failures := 0; errors.Is(err, errStreamEnd) && at.id != "" && ctx.Err() == nil; {
		if at.any {
			failures = 0
		}
		if failures++; failures > maxResumes {
			break
		}
		m, err = w.resume(ctx, r, &at, failures, err)
	}
	return m, err
}

// refused returns what a response that is no success says: the target's error,
// or that it no longer knows the session. It closes the body.
func (w *legacyHTTP) refused(resp *http.Response, id protocol.ID) (*protocol.Message, error) {
	m, err := w.t.rejection(resp, id)
	if m != nil && modernCode(m.Error.Code) {
		return nil, &unsent{err: w.t.failed(&refusal{m.Error}), era: true}
	}
	if w.sid == "" {
		return m, err
	}
	// A session that the target does not know is answered with 404. Servers that
	// were made from an early example of the TypeScript SDK answer 400, with a
	// code that MCP does not define. Either way the request went no further than
	// the transport.
	lost := resp.StatusCode == http.StatusNotFound ||
		resp.StatusCode == http.StatusBadRequest && m != nil && m.Error.Code == -32000 &&
			strings.Contains(strings.ToLower(m.Error.Message), "session")
	if lost {
		return nil, &unsent{err: w.t.failed(errors.New("the target lost its session"))}
	}
	return m, err
}

// resume takes up the stream of r where it was left (2025-11-25, Transports,
// Resumability and Redelivery): what comes on it is the rest of that stream.
func (w *legacyHTTP) resume(ctx context.Context, r *request, at *cursor, attempt int, ended error) (*protocol.Message, error) {
	wait := at.retry
	if attempt > 1 || wait == 0 {
		wait = max(wait, (&backoff{attempts: attempt - 1}).next())
	}
	if err := sleep(ctx, wait); err != nil {
		return nil, err
	}
	at.any = false
	h := w.header(streamType)
	h[protocol.HeaderLastEventID] = []string{at.id}
	resp, err := w.do(ctx, http.MethodGet, nil, r.f, h)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, ended // and once more, up to maxResumes
	case resp.StatusCode >= 500:
		drain(resp)
		return nil, ended
	case !success(resp.StatusCode) || mediaType(resp) != streamType:
		drain(resp)
		return nil, fmt.Errorf("taking up the stream again: %w", &statusError{status: resp.StatusCode})
	}
	return w.t.answer(ctx, resp, r, w, at)
}

func drain(resp *http.Response) { ended(resp) }

// track notes the progress token of a call under way; nil forgets it.
func (w *legacyHTTP) track(id protocol.ID, token []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if token == nil {
		delete(w.tokens, id)
		return
	}
	if w.tokens == nil {
		w.tokens = make(map[protocol.ID][]byte)
	}
	w.tokens[id] = token
}

// abandon tells the target that nobody waits for r any more.
func (w *legacyHTTP) abandon(r *request) {
	if r.method == "initialize" {
		return // it may not be cancelled
	}
	w.t.parting(func(ctx context.Context) {
		_ = w.send(ctx, "notifications/cancelled", cancelled(r.id), r.f) // there is nobody to tell
	})
}

// cancelled returns the notification that cancels the request id.
func cancelled(id protocol.ID) []byte {
	params := append([]byte(`{"requestId":`), id...)
	return protocol.AppendNotification(nil, "notifications/cancelled", append(params, '}'))
}

func isEmit(err error) bool {
	var e *emitError
	return errors.As(err, &e)
}

func (w *legacyHTTP) send(ctx context.Context, _ string, msg []byte, f Forward) error {
	ctx, cancel := context.WithTimeout(ctx, w.t.cfg.Timeout)
	defer cancel()
	resp, err := w.do(ctx, http.MethodPost, msg, f, w.header(bothTypes))
	if err != nil {
		return w.t.fault(ctx, err)
	}
	if success(resp.StatusCode) {
		ended(resp)
		return nil
	}
	m, err := w.refused(resp, "")
	if err == nil {
		err = &refusal{m.Error}
	}
	return w.t.fault(ctx, err)
}

// A legacyListening is what listens to the GET streams of a session, one after the other.
type legacyListening struct {
	life    lifetime.Lifetime
	closing lifetime.Hook // on the target
	at      cursor
	pause   backoff
	begun   time.Time // the stream
	body    io.ReadCloser
	rests   upstream.Rester // the body, where nobody need wait for it; else nil
	reader  *events.Reader  // nil while no stream is open
}

func (w *legacyHTTP) listen(ctx context.Context, in *intake) error {
	l := in.stream
	if l == nil {
		l = new(legacyListening)
		l.life.Begin(ctx)
		l.life.EndWith(&l.closing, &w.t.life)
		in.stream = l
	}
	err := w.listenOn(&l.life, in, l)
	if err == errResting {
		return err
	}
	in.stream = nil
	l.closing.Stop()
	l.life.End(nil)
	return err
}

// listenOn listens until there is no use in it, or the stream is at rest.
func (w *legacyHTTP) listenOn(ctx context.Context, in *intake, l *legacyListening) error {
	for {
		var err error
		if l.reader == nil {
			l.begun = time.Now()
			err = w.open(ctx, in, l)
		}
		if err == nil {
			err = w.read(ctx, in, l)
		}
		var u *unsent
		switch {
		case err == errResting:
			return err
		case ctx.Err() != nil:
			return w.t.fault(ctx, ctx.Err())
		case errors.Is(err, errNoStream), errors.As(err, &u), isEmit(err):
			return err
		}
		if l.at.any || time.Since(l.begun) >= steady {
			l.pause.reset()
		}
		wait := l.pause.next()
		if l.at.any && l.at.retry > 0 {
			wait = l.at.retry
		}
		l.at.any = false
		w.t.log.Debug("the stream of the target ended", "error", err, "again", wait)
		if err := sleep(ctx, wait); err != nil {
			return w.t.fault(ctx, err)
		}
	}
}

// open opens the GET stream.
func (w *legacyHTTP) open(ctx context.Context, in *intake, l *legacyListening) error {
	h := w.header(streamType)
	if l.at.id != "" {
		h[protocol.HeaderLastEventID] = []string{l.at.id}
	}
	resp, err := w.do(ctx, http.MethodGet, nil, in.f, h)
	if err != nil {
		return err
	}
	if !success(resp.StatusCode) {
		ended(resp)
		return w.noStream(ctx, resp.StatusCode, in.f)
	}
	if err := check(resp); err != nil || mediaType(resp) != streamType {
		ended(resp)
		return errNoStream
	}
	resp.Header, resp.Request = nil, nil // nothing of the heads is held while the stream is silent
	l.body, l.rests, l.reader = resp.Body, nil, events.NewReader(resp.Body, w.t.cfg.MaxMessage)
	if r, ok := resp.Body.(upstream.Rester); ok && in.resume != nil && r.NoWait() {
		l.rests = r
	}
	if in.connected != nil {
		in.connected(nil)
	}
	if in.interest == nil {
		return nil
	}
	i, _ := in.interest()
	return in.moved(i.uris, l.at.id == "") // else the target says again what was missed
}

// read reads the stream that is open to its end, or until it is at rest.
func (w *legacyHTTP) read(ctx context.Context, in *intake, l *legacyListening) error {
	reply := func(msg []byte) { w.t.reply(ctx, w, msg, in.f) }
	err := w.t.eventsOf(l.reader, &l.at, func(m *protocol.Message) error {
		if m.Method == "notifications/progress" && m.Kind == protocol.Notification {
			if m = w.progress(m); m == nil {
				w.t.dropped.Add(1)
				return nil
			}
		}
		return in.take(w.t, m, w, reply)
	}, func(err error) error {
		w.t.log.Warn("dropped a broken message of the target", "error", err)
		w.t.dropped.Add(1)
		return nil
	})
	if err == syscall.EAGAIN {
		return errResting
	}
	_ = l.body.Close() // it is read no more
	l.body, l.rests, l.reader = nil, nil, nil
	return err
}

// noStream says what a status means that refuses the GET stream.
func (w *legacyHTTP) noStream(ctx context.Context, status int, f Forward) error {
	switch {
	case status == http.StatusNotFound && w.sid != "":
		// Either the session is lost or the target knows no GET at all. A ping
		// tells.
		r := &request{id: nextID(), method: "ping", f: f}
		ctx, cancel := context.WithTimeout(ctx, w.t.cfg.Timeout)
		defer cancel()
		_, err := w.call(ctx, r)
		var u *unsent
		if errors.As(err, &u) {
			return u
		}
		return errNoStream
	case status == http.StatusConflict, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		// A conflict is with a stream that the target has not yet seen end: a session has one.
		return &statusError{status: status}
	default:
		return errNoStream
	}
}

// progress maps the token of a progress notification that came on the GET
// stream; nil if it is of no call under way and no task.
func (w *legacyHTTP) progress(m *protocol.Message) *protocol.Message {
	w.mu.Lock()
	token := w.tokens[protocol.ID(protocol.Get(m.Params, protocol.MetaProgressToken))]
	w.mu.Unlock()
	if token == nil {
		return w.taskProgress(m)
	}
	return retoken(m, token)
}

// taskProgress maps the token of a progress notification about a task, which
// comes on any stream of the session; nil if it is of none.
func (w *legacyHTTP) taskProgress(m *protocol.Message) *protocol.Message {
	w.mu.Lock()
	token := w.tasks.get(m)
	w.mu.Unlock()
	if token == nil {
		return nil
	}
	return retoken(m, token)
}

func (w *legacyHTTP) close(ctx context.Context) {
	if w.sid == "" {
		return
	}
	resp, err := w.do(ctx, http.MethodDelete, nil, Forward{}, w.header(bothTypes))
	if err != nil {
		w.t.log.Debug("ending a session of the target", "error", err)
		return
	}
	ended(resp)
}

// initializeHTTP opens a session with a legacy target. An answer that refuses
// is a *refusal or a *statusError.
func (t *Target) initializeHTTP(ctx context.Context, c Client, f Forward) (*legacyHTTP, *Discovery, error) {
	w := &legacyHTTP{t: t}
	r := &request{id: nextID(), method: "initialize", params: t.initializeParams(c), f: f}
	ctx = t.begin(ctx, r)
	defer r.end()
	pin := new(upstream.Pin)
	resp, err := t.do(ctx, http.MethodPost, pin,
		protocol.AppendRequest(nil, r.id, r.method, r.params), f, w.header(bothTypes))
	if err != nil {
		return nil, nil, t.fault(ctx, err)
	}
	var m *protocol.Message
	if success(resp.StatusCode) {
		m, err = t.answer(ctx, resp, r, w, new(cursor))
	} else {
		m, err = t.rejection(resp, r.id)
	}
	var status *statusError
	switch {
	case errors.As(err, &status):
		return nil, nil, err
	case err != nil:
		return nil, nil, t.fault(ctx, err)
	case m.Error != nil:
		return nil, nil, &refusal{m.Error}
	}
	disc, err := discoveryOfInitialize(m.Result)
	if err != nil {
		return nil, nil, t.failed(err)
	}
	sid := resp.Header.Get(protocol.HeaderSessionID)
	if !visible(sid) || len(sid) > maxSessionID {
		return nil, nil, t.failed(errors.New("the session id of the target is not valid"))
	}
	w.sid, w.revision, w.pin = sid, disc.Version, *pin
	if err := w.send(ctx, "", initialized(), f); err != nil {
		return nil, nil, t.fault(ctx, err)
	}
	return w, disc, nil
}

// initialized returns the notification that ends the handshake.
func initialized() []byte {
	return protocol.AppendNotification(nil, "notifications/initialized", nil)
}

// initializeParams returns the params of initialize for the client.
func (t *Target) initializeParams(c Client) []byte {
	return protocol.Splice(nil,
		protocol.Edit{Path: []string{"protocolVersion"}, Value: protocol.Quote(protocol.LatestLegacy)},
		protocol.Edit{Path: []string{"capabilities"}, Value: capabilitiesFor(protocol.Legacy, &c)},
		protocol.Edit{Path: []string{"clientInfo"}, Value: t.clientInfo(c)})
}

// clientInfo returns the clientInfo to send for the client.
func (t *Target) clientInfo(c Client) []byte {
	if len(c.Info) == 0 {
		return t.info
	}
	return c.Info
}

// visible reports whether s has visible ASCII characters only, as session ids
// must.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
