package federation

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// What one session may have under way.
const (
	maxCalls         = 1000
	maxAsked         = 64   // requests of servers that the client has not answered
	maxSubscriptions = 1000 // resources that the client subscribed to
)

// live is the part of a legacy session that lives in this process: its calls,
// its stream, and what its targets are asking the client. A session has one while
// something is under way, and for good once it has a stream or a subscription. Its
// maps are made when they are needed. It is safe for concurrent use.
type live struct {
	h     *Hub
	nonce [16]byte // of the session
	users int      // that are using it now; guarded by the hub

	mu     sync.Mutex
	stream *stream
	calls  []call                         // few at a time
	room   [1]call                        // for as many as there are in most
	remote map[*call]struct{}             // calls that run at other replicas
	asked  map[protocol.ID]*ask           // by the id that the client knows
	tokens map[protocol.ID]*progressToken // by the progress token that the client knows
	subs   map[string]struct{}            // by client-visible URI
	tasks  map[string]*session.Leg        // the client's own, and whom they are for

	elicitations []string // by URL, the latest last

	own     owned
	special atomic.Bool // own holds anything
}

// A call is a request of the client that is being served.
type call struct {
	id   protocol.ID
	life *lifetime.Lifetime
}

// An ask is a request of a target to the client.
type ask struct {
	leg    *session.Leg
	scope  scope // of its target
	method string
	id     protocol.ID // the target's
	answer chan *protocol.Message
}

// A progressToken is one of a target.
type progressToken struct {
	leg *session.Leg
	raw []byte // the target's
}

// begin notes a request that is being served, so that it can be cancelled by id,
// until done is called.
func (l *live) begin(id protocol.ID, life *lifetime.Lifetime) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) >= maxCalls {
		return &fault.Fault{Code: fault.Overloaded, Message: "too many requests of this session are being served", RetryAfter: time.Second}
	}
	if l.call(id) >= 0 {
		return protocol.Errorf(protocol.CodeInvalidRequest, "a request with this id is being served")
	}
	if l.calls == nil {
		l.calls = l.room[:0]
	}
	l.calls = append(l.calls, call{id, life})
	return nil
}

// done ends what begin began.
func (l *live) done(id protocol.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.call(id)
	l.calls = slices.Delete(l.calls, i, i+1)
	if len(l.calls) == 0 && cap(l.calls) > 4 {
		l.calls = nil
	}
}

// call returns the index of the call with that id, -1 if there is none. The
// caller holds the lock.
func (l *live) call(id protocol.ID) int {
	return slices.IndexFunc(l.calls, func(c call) bool { return c.id == id })
}

// beginRemote notes a request that is being served by another replica; done ends
// that. It reports false when there are too many.
func (l *live) beginRemote(id protocol.ID, life *lifetime.Lifetime) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.remote) >= maxCalls {
		return nil, false
	}
	if l.remote == nil {
		l.remote = map[*call]struct{}{}
	}
	c := &call{id, life}
	l.remote[c] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.remote, c)
	}, true
}

// cancel cancels the request of that id, and so what the one target it went to
// does for it. It reports false when no such request is known.
func (l *live) cancel(id protocol.ID) bool {
	l.mu.Lock()
	var life *lifetime.Lifetime
	if i := l.call(id); i >= 0 {
		life = l.calls[i].life
	}
	var remote []*call
	for c := range l.remote {
		if c.id == id {
			remote = append(remote, c)
		}
	}
	l.mu.Unlock()
	if life != nil {
		life.End(nil)
	}
	for _, c := range remote {
		c.life.End(nil)
	}
	return life != nil || len(remote) > 0
}

// ask notes a request of a target and returns it as the client gets it, under an
// id of the gateway's own: ids of several targets would meet.
func (l *live) ask(leg *session.Leg, m *protocol.Message, s scope) (own protocol.ID, raw []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) >= maxAsked {
		return "", nil, fault.New(fault.Overloaded, "the client has too many unanswered requests")
	}
	own = l.ownID()
	l.note(own, &ask{leg: leg, scope: s, method: m.Method, id: m.ID})
	params := asked(m.Method, m.Params, s, protocol.Legacy)
	if raw := protocol.Get(params, "_meta", protocol.MetaProgressToken); raw != nil {
		if l.tokens == nil {
			l.tokens = map[protocol.ID]*progressToken{}
		}
		l.tokens[own] = &progressToken{leg: leg, raw: append([]byte(nil), raw...)}
		params = protocol.Splice(params, protocol.Edit{Path: []string{"_meta", protocol.MetaProgressToken}, Value: []byte(own)})
	}
	return own, protocol.AppendRequest(nil, own, m.Method, params), nil
}

// note notes what the client is asked under the id own. The caller holds the lock.
func (l *live) note(own protocol.ID, a *ask) {
	if l.asked == nil {
		l.asked = map[protocol.ID]*ask{}
	}
	l.asked[own] = a
}

// forget drops an ask that nobody waits for any more.
func (l *live) forget(own protocol.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.asked, own)
	delete(l.tokens, own)
}

// answered passes the client's answer on to the leg that asked. An answer to
// what nobody asked is dropped.
func (l *live) answered(ctx context.Context, m *protocol.Message, f session.Forward, logger *slog.Logger) {
	l.mu.Lock()
	a := l.asked[m.ID]
	delete(l.asked, m.ID)
	delete(l.tokens, m.ID)
	l.mu.Unlock()
	switch {
	case a == nil:
	case a.answer != nil:
		a.answer <- m
	default:
		if m.Error == nil {
			result := a.scope.relatedOwn(answeredTo(l.ownTasks(a, m.Result), a.scope))
			m = &protocol.Message{Kind: protocol.Response, Result: result}
		}
		if err := a.leg.Respond(ctx, a.id, m, f); err != nil {
			logger.DebugContext(ctx, "the target did not take an answer", "target", a.leg.Target().Config().Name, "error", err)
		}
	}
}

// progress passes the client's progress on to the leg whose request it is about.
func (l *live) progress(ctx context.Context, m *protocol.Message, f session.Forward) {
	id := protocol.ID(protocol.Get(m.Params, protocol.MetaProgressToken))
	l.mu.Lock()
	t := l.tokens[id]
	l.mu.Unlock()
	if t != nil {
		params := protocol.Splice(m.Params, protocol.Edit{Path: []string{protocol.MetaProgressToken}, Value: t.raw})
		_ = t.leg.Notify(ctx, m.Method, params, f)
	}
}

// cancelled returns the target's cancellation of its own request as the client
// knows it, nil when the client knows of no such request.
func (l *live) cancelled(leg *session.Leg, m *protocol.Message) []byte {
	id := protocol.ID(protocol.Get(m.Params, "requestId"))
	l.mu.Lock()
	defer l.mu.Unlock()
	for own, a := range l.asked {
		if a.leg == leg && a.id == id {
			delete(l.asked, own)
			delete(l.tokens, own)
			params := protocol.Splice(m.Params, protocol.Edit{Path: []string{"requestId"}, Value: []byte(own)})
			return protocol.AppendNotification(nil, m.Method, params)
		}
	}
	return nil
}

// subscribe notes a subscription to a client-visible URI; it reports false when
// there are too many.
func (l *live) subscribe(uri string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.subs[uri]; !ok && len(l.subs) >= maxSubscriptions {
		return false
	}
	if l.subs == nil {
		l.subs = map[string]struct{}{}
	}
	l.subs[uri] = struct{}{}
	return true
}

func (l *live) unsubscribe(uri string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.subs, uri)
}

// subscribed reports whether the client subscribed to the URI or to what holds
// it, or to anything when uri is empty.
func (l *live) subscribed(uri string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uri == "" {
		return len(l.subs) > 0
	}
	if _, ok := l.subs[uri]; ok {
		return true
	}
	for one := range l.subs {
		if within(uri, one) {
			return true
		}
	}
	return false
}

// lasts reports whether there is something that outlives requests.
func (l *live) lasts() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.subs) > 0 || len(l.tasks) > 0 || len(l.elicitations) > 0
}

// open makes s the session's stream; the one before ends.
func (l *live) open(s *stream) {
	l.mu.Lock()
	before := l.stream
	l.stream = s
	l.mu.Unlock()
	if before != nil {
		before.end()
	}
}

func (l *live) close(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream == s {
		l.stream = nil
	}
}

// send writes a message on the session's stream, if it is open.
func (l *live) send(raw []byte) error {
	l.mu.Lock()
	s := l.stream
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.sse.event(raw)
}

// end ends everything of the session that is under way.
func (l *live) end() {
	l.mu.Lock()
	s := l.stream
	calls := slices.Clone(l.calls)
	for c := range l.remote {
		calls = append(calls, *c)
	}
	clear(l.subs)
	l.mu.Unlock()
	for _, c := range calls {
		c.life.End(nil)
	}
	if s != nil {
		s.end()
	}
}
