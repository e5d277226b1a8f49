package session

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A Leg is one session's connection to one target. It is safe for concurrent
// use. It holds no goroutine: what breaks is made anew by the next call.
type Leg struct {
	t      *Target
	client *Client

	lease *lease // of leased legs
	away  bool   // of a session that has its home elsewhere: it is not made anew here
	// changed, when set, is called when the state that the leg had at first no
	// longer holds. It is fixed before the leg is used.
	changed func()

	mu       sync.Mutex
	w        wire // nil before the first use of a leg that was restored
	renewing *renewal
	asked    map[protocol.ID]wire // requests of the target that wait for an answer
	level    []byte               // the log level, raw; nil when none was set
	subs     map[string]struct{}  // resources subscribed to
	tasks    []string             // tasks that are followed
	subsDone chan struct{}        // closed when subs or tasks change
	ears     int                  // that listen for the leg
	heard    []string             // resources that a modern target tells one of them of
	hears    chan struct{}        // closed when heard changes, or there is nobody to hear
	closed   bool

	answered atomic.Int64 // when the client last answered a request of the target, UnixNano
}

const (
	// maxAsked bounds the requests of a target that wait for an answer, for one
	// leg.
	maxAsked = 64
	// maxSubscriptions bounds the resources one leg subscribes to.
	maxSubscriptions = 1000
)

// A Call is one request on its way to a target, in modern shape.
type Call struct {
	Method string
	// Params is the JSON object to send, names and URIs already the target's. Its
	// _meta is the client's: the leg replaces the keys that belong to one hop
	// (revision, client info and capabilities, log level, progress token) by what
	// the target's era wants. It must have been checked by protocol.Parse.
	Params  []byte
	Forward Forward
	// Emit is called, in order and from one goroutine at a time, with each message
	// that belongs to this call and precedes its response: progress (with the
	// client's own token), log messages and, of legacy targets, server→client
	// requests with the target's id. An error from it cancels the call and is
	// returned by it; while it blocks, reading from the target pauses. nil discards
	// (and refuses requests).
	Emit func(*protocol.Message) error
}

// Open makes a new leg for one session: initialize and notifications/initialized
// toward a legacy target, nothing at all toward a modern one.
func (t *Target) Open(ctx context.Context, c Client, f Forward) (*Leg, error) {
	l := &Leg{t: t, client: &c, w: t.wireAtHand(&c, f)}
	if _, err := l.wire(ctx, f); err != nil {
		_ = l.Close(ctx) // what may still come of it is not wanted
		return nil, err
	}
	return l, nil
}

// Target returns the target the leg goes to.
func (l *Leg) Target() *Target { return l.t }

// Era returns the era that the leg speaks with its target, EraUnknown when it
// has not been used yet.
func (l *Leg) Era() protocol.Era {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil {
		return protocol.EraUnknown
	}
	return l.w.era()
}

// Call sends one request and returns its response, result or error, as the
// target wrote it (the ID is of no meaning). Ids on the wire are the leg's own.
// When ctx ends the target is told, in its era's way. A target that lost our
// session, or that speaks another era than it did, is connected anew, once, and
// asked again, when it is certain that it did not execute the request. Errors
// are faults, or what Emit returned; a peer's JSON-RPC error is not an error
// here but part of the response.
//
// What one era has and the other has not is answered by the leg: ping,
// logging/setLevel, resources/subscribe and resources/unsubscribe toward a
// modern target.
func (l *Leg) Call(ctx context.Context, c *Call) (*protocol.Message, error) {
	if err := l.t.enter(); err != nil {
		return nil, err
	}
	defer l.t.leave()
	ctx, span := l.startCall(ctx, c)
	bounded := isList(c.Method)
	if bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.t.cfg.Timeout)
		defer cancel()
	}
	m, err := l.retry(ctx, c.Forward, func(w wire) (*protocol.Message, error) {
		if m, done := l.local(w, c); done {
			return m, nil
		}
		r, err := l.prepare(ctx, w, c)
		if err != nil {
			return nil, err
		}
		m, err := w.call(ctx, r)
		if level, _ := protocol.GetString(r.params, "level"); r.method == "logging/setLevel" && err == nil && m.Error == nil {
			told(w, level)
		}
		return m, err
	})
	if err == nil {
		l.remember(ctx, c, m)
	}
	if bounded || unreachable(err) {
		l.t.note(err)
	}
	endCall(span, m, err)
	return m, err
}

// startCall begins the span of a call, if it is to have one (OpenTelemetry semantic
// conventions, MCP client).
func (l *Leg) startCall(ctx context.Context, c *Call) (context.Context, *telemetry.Call) {
	ctx, span := telemetry.StartCall(ctx, c.Method)
	if span == nil {
		return ctx, nil
	}
	span.Set("mcp.method.name", c.Method)
	span.Set("mcp.target", l.t.cfg.Name)
	name, _ := protocol.GetString(c.Params, "name")
	switch c.Method {
	case "tools/call":
		span.Name(c.Method + " " + name)
		span.Set("gen_ai.tool.name", name)
	case "prompts/get":
		span.Name(c.Method + " " + name)
		span.Set("gen_ai.prompt.name", name)
	}
	if l.t.url != nil {
		span.Set("server.address", l.t.url.Host)
	}
	return ctx, span
}

// endCall ends the span of a call with what came of it.
func endCall(span *telemetry.Call, m *protocol.Message, err error) {
	if span == nil {
		return
	}
	errorType := ""
	switch {
	case err != nil:
		errorType = fault.Of(err).Code.String()
	case m.Error != nil:
		errorType = strconv.Itoa(int(m.Error.Code))
	case string(protocol.Get(m.Result, "isError")) == "true":
		errorType = telemetry.ToolError
	}
	span.End(errorType)
}

// isList reports whether method is one that the target's timeout bounds.
func isList(method string) bool {
	switch method {
	case "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return true
	default:
		return false
	}
}

// retry runs do with the wire of the leg, and once more with a new one when the
// first was of no use.
func (l *Leg) retry(ctx context.Context, f Forward, do func(wire) (*protocol.Message, error)) (*protocol.Message, error) {
	w, err := l.wire(ctx, f)
	if err != nil {
		return nil, err
	}
	m, err := do(w)
	if err == nil {
		return m, nil
	}
	var u *unsent
	if !errors.As(err, &u) {
		return m, plain(err)
	}
	if w, err = l.renew(ctx, w, f, u.era); err != nil {
		return nil, err
	}
	m, err = do(w)
	return m, plain(err)
}

// plain returns err as callers get it.
func plain(err error) error {
	if err == nil {
		return nil
	}
	var u *unsent
	var e *emitError
	switch {
	case errors.As(err, &u):
		return u.err
	case errors.As(err, &e):
		return e.err
	default:
		return err
	}
}

// prepare returns the request for c as it goes over w.
func (l *Leg) prepare(ctx context.Context, w wire, c *Call) (*request, error) {
	r := &request{id: nextID(), method: c.Method, f: c.Forward, emit: c.Emit, leg: l}
	params := tracedParams(ctx, c.Params)
	if w.era() == protocol.Modern {
		r.params, r.token = modernParams(params, r.id, w.version(),
			capabilitiesFor(protocol.Modern, l.client), l.t.clientInfo(*l.client), l.loggingLevel())
		level := logLevel(r.params)
		r.quiet, r.level = level == "", severity(level)
		return r, nil
	}
	r.params, r.token = legacyParams(params, r.id)
	if level, ok := protocol.GetString(r.params, "level"); ok && r.method == "logging/setLevel" {
		if enough := toTell(w, level); enough != level && enough != "" {
			r.params = protocol.Splice(r.params, protocol.Edit{Path: []string{"level"}, Value: protocol.Quote(enough)})
		}
	}
	if l.perRequest() {
		// Such a client asks for log messages with each request; a legacy target knows
		// one level a session.
		level := logLevel(c.Params)
		r.level = severity(level)
		if r.quiet = level == ""; !r.quiet {
			if err := l.setLevel(ctx, w, level, c.Forward); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// setLevel makes level the log level of a legacy target that has such a thing,
// unless it is.
func (l *Leg) setLevel(ctx context.Context, w wire, level string, f Forward) error {
	d := l.t.discoveries.get(l.t.scope(*l.client, f))
	has := d == nil || d.disc == nil || protocol.Get(d.disc.Capabilities, "logging") != nil
	level = toTell(w, level)
	quoted := protocol.Quote(level)
	if level == "" || !has || string(l.loggingLevel()) == string(quoted) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.t.cfg.Timeout)
	defer cancel()
	params := protocol.Splice(nil, protocol.Edit{Path: []string{"level"}, Value: quoted})
	if _, err := w.call(ctx, &request{id: nextID(), method: "logging/setLevel", params: params, f: f}); err != nil {
		return err
	}
	l.mu.Lock()
	l.level = quoted
	l.mu.Unlock()
	told(w, level)
	return nil
}

// begin brings a new leg to the log level of its session.
func (l *Leg) begin(ctx context.Context, level string, f Forward) error {
	w, err := l.wire(ctx, f)
	if err != nil {
		return err
	}
	if w.era() == protocol.Legacy {
		err = l.setLevel(ctx, w, level, f)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level = protocol.Quote(level)
	return plain(err)
}

func (l *Leg) loggingLevel() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.level
}

// local answers what a modern target has no method for.
func (l *Leg) local(w wire, c *Call) (m *protocol.Message, done bool) {
	if c.Method != "logging/setLevel" && w.era() != protocol.Modern {
		return nil, false
	}
	ok := &protocol.Message{Kind: protocol.Response, Result: []byte("{}"), Raw: protocol.AppendResult(nil, "0", nil)}
	if level, _ := protocol.GetString(c.Params, "level"); c.Method == "logging/setLevel" && toTell(w, level) == "" {
		return ok, true // the leg itself leaves out what is too little
	}
	if w.era() != protocol.Modern {
		return nil, false
	}
	switch c.Method {
	case "ping", "logging/setLevel", "resources/unsubscribe":
	case "resources/subscribe":
		l.mu.Lock()
		full := len(l.subs) >= maxSubscriptions
		l.mu.Unlock()
		if full {
			err := protocol.Errorf(protocol.CodeInvalidRequest, "more than %d subscriptions", maxSubscriptions)
			return &protocol.Message{Kind: protocol.Response, Error: err, Raw: protocol.AppendError(nil, "", err)}, true
		}
	default:
		return nil, false
	}
	return ok, true
}

// remember notes what a call changed that a new wire would not know.
func (l *Leg) remember(ctx context.Context, c *Call, m *protocol.Message) {
	switch c.Method {
	case "logging/setLevel", "resources/subscribe", "resources/unsubscribe":
	default:
		return
	}
	if m.Error != nil {
		return
	}
	l.note(c)
	if l.changed != nil {
		l.changed()
	}
	if uri, ok := protocol.GetString(c.Params, "uri"); ok && c.Method == "resources/subscribe" {
		l.subscribed(ctx, uri)
	}
}

func (l *Leg) note(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Method == "logging/setLevel" {
		l.level = slices.Clone(protocol.Get(c.Params, "level"))
		return
	}
	uri, ok := protocol.GetString(c.Params, "uri")
	_, had := l.subs[uri]
	switch {
	case !ok, had == (c.Method == "resources/subscribe"), !had && len(l.subs) >= maxSubscriptions:
		return
	case had:
		delete(l.subs, uri)
	default:
		if l.subs == nil {
			l.subs = make(map[string]struct{})
		}
		l.subs[uri] = struct{}{}
	}
	if l.subsDone != nil {
		close(l.subsDone)
		l.subsDone = nil
	}
}

// ackWait bounds how long an answer to resources/subscribe waits for the acknowledgement of the target: one that is away does not
// keep its client waiting.
const ackWait = 2 * time.Second

// subscribed waits until a modern target tells of the resource, so that whoever subscribed misses nothing from the
// answer on. It does not wait while nobody listens.
func (l *Leg) subscribed(ctx context.Context, uri string) {
	timer := time.NewTimer(ackWait)
	defer timer.Stop()
	for {
		l.mu.Lock()
		if l.ears == 0 || slices.Contains(l.heard, uri) {
			l.mu.Unlock()
			return
		}
		if l.hears == nil {
			l.hears = make(chan struct{})
		}
		hears := l.hears
		l.mu.Unlock()
		select {
		case <-hears:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// hear notes that n more listen for the leg, and what a modern target tells them of.
func (l *Leg) hear(n int, uris []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ears += n
	l.heard = uris
	if l.hears != nil {
		close(l.hears)
		l.hears = nil
	}
}

// An interest is what a listener wants to hear of beside changed lists.
type interest struct {
	uris  []string // resources
	tasks []string // of modern targets
}

// interest returns what the leg wants to hear of and a channel that is closed
// when that changes.
func (l *Leg) interest() (interest, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subsDone == nil {
		l.subsDone = make(chan struct{})
	}
	return interest{uris: slices.Collect(maps.Keys(l.subs)), tasks: l.tasks}, l.subsDone
}

// FollowTasks has Listen ask a modern target for the notifications/tasks of these
// tasks, which have the target's own ids (Tasks extension, Task Status
// Notifications).
func (l *Leg) FollowTasks(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks = slices.Clone(ids)
	if l.subsDone != nil {
		close(l.subsDone)
		l.subsDone = nil
	}
}

// Notify sends a notification. Toward a modern target those that its revision no
// longer has are left out.
func (l *Leg) Notify(ctx context.Context, method string, params []byte, f Forward) error {
	if err := l.t.enter(); err != nil {
		return err
	}
	defer l.t.leave()
	params, _ = legacyParams(params, "0")
	msg := protocol.AppendNotification(nil, method, params)
	_, err := l.retry(ctx, f, func(w wire) (*protocol.Message, error) {
		if w.era() == protocol.Modern && slices.Contains(legacyNotifications, method) {
			return nil, nil
		}
		return nil, w.send(ctx, method, msg, f)
	})
	return err
}

// legacyNotifications are the client's notifications that 2026-07-28 removed, or
// that it has on stdio only.
var legacyNotifications = []string{
	"notifications/initialized", "notifications/roots/list_changed", "notifications/cancelled", "notifications/progress",
}

// ask notes a request of the target that the client is to answer. It reports
// false when there are too many.
func (l *Leg) ask(id protocol.ID, w wire) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) >= maxAsked {
		return false
	}
	if l.asked == nil {
		l.asked = make(map[protocol.ID]wire)
	}
	l.asked[id] = w
	return true
}

// sinceAnswer returns how long ago the client last answered the target, or a
// long time while it has yet to answer nothing.
func (l *Leg) sinceAnswer() time.Duration {
	at := l.answered.Load()
	if at == 0 {
		return time.Duration(1 << 62)
	}
	return time.Since(time.Unix(0, at))
}

// Respond answers a server→client request of this leg. answer holds either
// "result" or "error" (Message of kind Response; its ID is replaced by id). An
// id that the target did not ask with, or that was answered, is a NotFound fault.
func (l *Leg) Respond(ctx context.Context, id protocol.ID, answer *protocol.Message, f Forward) error {
	l.mu.Lock()
	w, ok := l.asked[id]
	delete(l.asked, id)
	l.mu.Unlock()
	if !ok {
		return fault.New(fault.NotFound, "no request waits for this answer")
	}
	var msg []byte
	if answer.Error != nil {
		msg = protocol.AppendError(nil, id, answer.Error)
	} else {
		msg = protocol.AppendResult(nil, id, answer.Result)
	}
	l.answered.Store(time.Now().UnixNano())
	return plain(w.send(ctx, "", msg, f))
}

// Listen passes on the messages of the leg that belong to no call (the GET
// stream of a legacy HTTP target, subscriptions/listen of a modern one, what a
// child writes unasked) until ctx ends, which gives its error, or the target
// turns out to offer no such stream, which gives nil. Streams that break are
// opened again. It is resources/subscribe that says which
// notifications/resources/updated come, in both eras. granted, when not nil, is
// called each time a stream is there, with what a modern target says that the
// stream carries: the notifications of its acknowledgement; nil for others.
func (l *Leg) Listen(ctx context.Context, f Forward, granted func(notifications []byte), emit func(*protocol.Message) error) error {
	return l.listen(ctx, l.intake(f, granted, emit))
}

// Follow is Listen for who does not wait: done is called at the end, with what Listen would return. While a stream is
// silent there is no goroutine for it, where that is possible. there is called each time a stream is there: what was said
// before was missed.
func (l *Leg) Follow(ctx context.Context, f Forward, there func(), emit func(*protocol.Message) error, done func(error)) {
	in := l.intake(f, func([]byte) { there() }, emit)
	in.resume = func() {
		if err := l.listen(ctx, in); err != errResting {
			done(err)
			return
		}
		in.stream.rests.Rest(in.resume) // after which all of it may be going on already
	}
	in.resume()
}

func (l *Leg) intake(f Forward, granted func(notifications []byte), emit func(*protocol.Message) error) *intake {
	in := &intake{f: f, leg: l, emit: emit, interest: l.interest, heard: l.hear, connected: granted}
	if l.lease != nil {
		in.leg = nil // outside a call nobody answers for a leased leg
	}
	return in
}

func (l *Leg) listen(ctx context.Context, in *intake) error {
	for {
		w, err := in.wire, error(nil)
		if in.wire = nil; w == nil {
			in.begun = time.Now()
			w, err = l.wire(ctx, in.f)
		}
		if err == nil {
			err = w.listen(ctx, in)
		}
		if err == errResting {
			in.wire = w
			return err
		}
		var u *unsent
		switch {
		case errors.Is(err, errNoStream):
			return nil
		case isEmit(err), ctx.Err() != nil, l.t.ctx.Err() != nil:
			return plain(err)
		case errors.As(err, &u):
			if time.Since(in.begun) >= steady {
				in.pause.reset()
			}
			if errors.Is(err, errUnused) && in.leg == nil {
				// Nobody but a watcher used the child. It listens again once somebody
				// does.
				l.t.children.nextStart(ctx, *l.client)
				l.discard(w)
				continue
			}
			if in.pause.attempts == 0 {
				in.pause.attempts++
				if _, err := l.renew(ctx, w, in.f, u.era); err == nil {
					continue
				}
			}
			l.discard(w)
		}
		if err := sleep(ctx, in.pause.next()); err != nil {
			return l.t.fault(ctx, err)
		}
	}
}

// Release puts a leased leg back; on others, and the second time, it does nothing.
func (l *Leg) Release() {
	if l.lease != nil {
		l.t.pool.put(l)
	}
}

// Close ends the leg: DELETE toward a legacy HTTP target, the end of the
// connection or child that is its own elsewhere. Later calls are NotFound faults.
// Its error is always nil: a target that does not take note loses nothing of ours.
func (l *Leg) Close(ctx context.Context) error {
	l.mu.Lock()
	w := l.w
	l.w, l.closed, l.asked = nil, true, nil
	if l.lease != nil && l.lease.hearing != nil {
		l.lease.hearing.stop()
	}
	l.mu.Unlock()
	if w != nil {
		w.close(ctx)
	}
	return nil
}
