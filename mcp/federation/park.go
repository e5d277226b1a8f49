package federation

import (
	"context"
	"crypto/rand"
	"strconv"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// maxParked bounds the calls of this process that wait for input.
const maxParked = 1000

// A parked is a call of a modern client to a legacy target. When the target asks
// the client something, the client's request ends with input_required, and the
// call waits here for the retry that brings the answers (2026-07-28, Multi
// Round-Trip Requests). Whoever serves a request of the client is attached to it
// in between. It is safe for concurrent use.
type parked struct {
	id     string
	leg    *session.Leg
	target int
	cancel context.CancelFunc
	done   chan struct{} // closed when the call has ended, with m or err
	m      *protocol.Message
	err    error
	asked  chan struct{} // capacity 1: there is a question

	mu        sync.Mutex
	attached  *request // whose client hears of the call; nil while parked
	questions []question
	over      bool // the call has ended: nothing is asked any more
	count     int
	timer     *time.Timer // ends the call while it is parked
}

// A question is a request of the target that waits for the client.
type question struct {
	key     string
	id      protocol.ID // the target's
	request []byte      // as an element of inputRequests
}

// park begins a call that can be parked, and serves it for q.
func (q *request) park(ctx context.Context, r *relayed, params []byte, release func()) error {
	h, leg := q.b.hub, r.leg
	// The call outlives the request, and so must not write into its Record.
	callCtx, cancel := context.WithCancel(telemetry.Detach(ctx))
	p := &parked{id: rand.Text(), leg: leg, target: r.target, cancel: cancel, done: make(chan struct{}), asked: make(chan struct{}, 1), attached: q}
	started := h.spawn(func(stop context.Context) {
		defer context.AfterFunc(stop, cancel)()
		defer cancel()
		defer close(p.done)
		defer release() // before the answer: the next call takes the leg again, and needs no other
		emit := func(m *protocol.Message) error { return p.emit(callCtx, q, m) }
		leg.Hear(callCtx, params, q.forward, emit)
		p.m, p.err = r.call(callCtx, &session.Call{Method: q.msg.Method, Params: params, Forward: q.forward,
			Emit: emit})
		p.close(callCtx, q)
	})
	if !started {
		cancel()
		release()
		return errClosed
	}
	return q.attend(ctx, p, r)
}

// close refuses what the target still asks, after the call has ended.
func (p *parked) close(ctx context.Context, q *request) {
	p.mu.Lock()
	open := p.questions
	p.questions, p.over = nil, true
	p.mu.Unlock()
	for _, one := range open {
		m := &protocol.Message{ID: one.id}
		if err := respond(ctx, p.leg, m, errOver, q.forward); err != nil {
			q.b.hub.opts.Logger.DebugContext(ctx, "a target did not take an answer", "error", err)
		}
	}
}

// errOver is what a target is answered that asks on behalf of a call that has ended.
var errOver = protocol.Errorf(protocol.CodeInvalidRequest, "the call that this belongs to has ended")

// emit takes what the target sends before the response. q is the request that
// began the call.
func (p *parked) emit(ctx context.Context, q *request, m *protocol.Message) error {
	if m.Kind == protocol.Request && (!inputMethod(m.Method) || lacking(q.client.Capabilities, m.Method, m.Params) != nil) {
		return respond(ctx, p.leg, m, declined(q.client.Capabilities, m.Method), q.forward)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Kind == protocol.Request {
		if p.over {
			return errOver
		}
		if len(p.questions) >= maxAsked {
			return fault.New(fault.UpstreamFailed, "the server asked the client too much")
		}
		p.count++
		params := asked(m.Method, m.Params, q.scope(p.target), protocol.Modern)
		params = protocol.Splice(params, protocol.Edit{Path: []string{"_meta", protocol.MetaProgressToken}})
		p.questions = append(p.questions, question{key: "q" + strconv.Itoa(p.count), id: m.ID,
			request: protocol.Splice(nil,
				protocol.Edit{Path: []string{"method"}, Value: protocol.Quote(m.Method)},
				protocol.Edit{Path: []string{"params"}, Value: params})})
		select {
		case p.asked <- struct{}{}:
		default:
		}
		return nil
	}
	return q.heard(p.leg, m, func() error {
		if p.attached == nil {
			return nil // nobody is there to hear it
		}
		if m.Method != "notifications/progress" {
			return p.attached.answer.emit(m.Raw)
		}
		// Its token is that of the request that began the call.
		token := protocol.Get(p.attached.msg.Params, "_meta", protocol.MetaProgressToken)
		if token == nil {
			return nil
		}
		params := protocol.Splice(m.Params, protocol.Edit{Path: []string{protocol.MetaProgressToken}, Value: token})
		return p.attached.answer.emit(protocol.AppendNotification(nil, m.Method, params))
	})
}

// attend serves the call for q until it ends, or asks for input.
func (q *request) attend(ctx context.Context, p *parked, r *relayed) error {
	detach := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.attached = nil
	}
	for waiting := true; waiting; {
		select {
		case <-p.done:
			waiting = false
		case <-ctx.Done():
			detach()
			p.cancel()
			return q.callFailed(ctx, ctx.Err())
		case <-p.asked:
			if p.open() {
				detach()
				return q.inputWanted(p)
			}
		}
	}
	detach()
	switch {
	case p.err != nil:
		return q.callFailed(ctx, p.err)
	case p.m.Error != nil:
		return q.peerError(r, p.m.Error)
	default:
		return q.reply(r, p.m.Result)
	}
}

// open reports whether the call goes on and waits for an answer of the client.
func (p *parked) open() bool {
	select {
	case <-p.done:
		return false
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.questions) > 0
}

// inputWanted answers with what the target asks, and parks the call.
func (q *request) inputWanted(p *parked) error {
	h := q.b.hub
	if !h.park(p) {
		p.cancel()
		return &fault.Fault{Code: fault.Overloaded, Message: "too many calls wait for input", RetryAfter: 5 * time.Second}
	}
	p.mu.Lock()
	edits := make([]protocol.Edit, 0, len(p.questions))
	for _, one := range p.questions {
		edits = append(edits, protocol.Edit{Path: []string{one.key}, Value: one.request})
	}
	p.mu.Unlock()
	return q.result(protocol.Splice(nil,
		protocol.Edit{Path: []string{"resultType"}, Value: []byte(`"input_required"`)},
		protocol.Edit{Path: []string{"inputRequests"}, Value: protocol.Splice(nil, edits...)},
		protocol.Edit{Path: []string{"requestState"}, Value: protocol.Quote(q.sealState(p.target, stateParked+p.id+"@"+h.addr()))}))
}

// resume serves the retry of a parked call: it passes the client's answers on to
// the target. What is not answered is asked again. A call that has ended meanwhile
// gives its result all the same.
func (q *request) resume(ctx context.Context, p *parked, r *relayed) error {
	r.leg = p.leg
	responses := protocol.Get(q.msg.Params, "inputResponses")
	p.mu.Lock()
	if p.timer != nil {
		p.timer.Stop()
	}
	var answered, open []question
	for _, one := range p.questions {
		if len(responses) > 0 && responses[0] == '{' && protocol.Get(responses, one.key) != nil {
			answered = append(answered, one)
		} else {
			open = append(open, one)
		}
	}
	p.questions = open
	p.attached = q
	p.mu.Unlock()
	select {
	case <-p.done:
		return q.attend(ctx, p, r)
	default:
	}
	for _, one := range answered {
		m := &protocol.Message{Kind: protocol.Response, Result: answeredTo(protocol.Get(responses, one.key), q.scope(p.target))}
		if err := p.leg.Respond(ctx, one.id, m, q.forward); err != nil {
			p.cancel()
			return q.callFailed(ctx, err)
		}
	}
	if len(open) > 0 {
		select {
		case p.asked <- struct{}{}:
		default:
		}
	}
	return q.attend(ctx, p, r)
}

// park keeps a call for its retry, for as long as a client may take.
func (h *Hub) park(p *parked) bool {
	h.parking.Lock()
	defer h.parking.Unlock()
	if len(h.parked) >= maxParked {
		return false
	}
	h.parked[p.id] = p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(parkedFor, func() { h.unpark(p) })
	return true
}

// take returns the parked call of that id, for one retry; nil when there is none.
func (h *Hub) take(id string) *parked {
	h.parking.Lock()
	defer h.parking.Unlock()
	p := h.parked[id]
	delete(h.parked, id)
	return p
}

// unpark ends a parked call whose client did not come back.
func (h *Hub) unpark(p *parked) {
	h.parking.Lock()
	delete(h.parked, p.id)
	h.parking.Unlock()
	p.cancel()
}

// asksClients reports whether a client said that it can be asked anything.
func asksClients(capabilities []byte) bool {
	for _, name := range []string{"elicitation", "sampling", "roots"} {
		if protocol.Get(capabilities, name) != nil {
			return true
		}
	}
	return false
}
