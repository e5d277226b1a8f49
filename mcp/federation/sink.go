package federation

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// parkedFor is how long a call waits for what its client is asked.
const parkedFor = 5 * time.Minute

// maxRounds bounds how often one call may ask its client for input.
const maxRounds = 10

// A sink takes what a target sends before its response, and passes it on to the
// client where it belongs. Its emit is called from one goroutine at a time.
type sink struct {
	ctx    context.Context
	q      *request
	leg    *session.Leg
	target int
	voice  *voice // of legacy clients, once something has come
	asked  []protocol.ID
}

func (q *request) newSink(ctx context.Context, target int, leg *session.Leg) *sink {
	return &sink{ctx: ctx, q: q, leg: leg, target: target}
}

func (s *sink) emit(m *protocol.Message) error {
	if q := s.q; q.live != nil && s.voice == nil {
		s.voice = &voice{b: q.b, live: q.live, sess: q.sess, client: &q.client, view: q.catalogue(), leg: s.leg, target: s.target,
			forward: q.forward, send: q.answer.emit}
	}
	switch {
	case s.voice != nil && m.Kind == protocol.Request:
		own, err := s.voice.request(s.ctx, m)
		if own != "" {
			s.asked = append(s.asked, own)
		}
		return err
	case s.voice != nil:
		return s.voice.notification(s.ctx, m)
	case m.Kind == protocol.Request:
		// Such a client has nothing that it can be asked.
		return respond(s.ctx, s.leg, m, declined(s.q.client.Capabilities, m.Method), s.q.forward)
	}
	return s.q.heard(s.leg, m, func() error { return s.q.answer.emit(m.Raw) })
}

// close drops the questions that the call leaves open.
func (s *sink) close() {
	for _, own := range s.asked {
		s.q.live.forget(own)
	}
}

// heard passes a notification of a target on to a modern client, if its era has it
// on the answer to a request.
func (q *request) heard(leg *session.Leg, m *protocol.Message, emit func() error) error {
	switch m.Method {
	case "notifications/cancelled", "notifications/resources/updated", "notifications/elicitation/complete",
		"notifications/tasks", "notifications/tasks/status":
		return nil
	}
	if c := changeOf(m.Method); c != 0 {
		if e := q.catalogue().entry(leg.Target()); e != nil {
			e.invalidate(c)
		}
		return nil
	}
	return emit()
}

// respond answers a request of a target with an error.
func respond(ctx context.Context, leg *session.Leg, m *protocol.Message, e *protocol.Error, f session.Forward) error {
	return leg.Respond(ctx, m.ID, &protocol.Message{Kind: protocol.Response, Error: e}, f)
}

// inputRequired serves a result that asks the client for input before the call
// can go on (2026-07-28, Multi Round-Trip Requests). A modern client gets it with
// the state sealed. For a legacy client the gateway asks on the stream of the
// call, and sends the request again with the answers.
func (q *request) inputRequired(ctx context.Context, r *relayed, s *sink, params, result []byte) error {
	if q.era == protocol.Modern {
		return q.input(r, result)
	}
	for range maxRounds {
		responses, err := q.ask(ctx, r, result)
		var rpc *protocol.Error
		switch {
		case errors.As(err, &rpc):
			return q.refuse(http.StatusOK, rpc)
		case err != nil:
			return q.callFailed(ctx, err)
		}
		next := protocol.Splice(params,
			protocol.Edit{Path: []string{"inputResponses"}, Value: responses},
			protocol.Edit{Path: []string{"requestState"}, Value: protocol.Get(result, "requestState")})
		m, err := r.leg.Call(ctx, &session.Call{Method: q.msg.Method, Params: next, Forward: q.forward, Emit: s.emit})
		if err != nil {
			return q.callFailed(ctx, err)
		}
		if m.Error != nil {
			return q.peerError(r, m.Error)
		}
		if !wantsInput(m.Result) {
			return q.reply(r, m.Result)
		}
		result = m.Result
	}
	return q.refuse(http.StatusOK, protocol.Errorf(protocol.CodeInternal, "the server asked for input too often"))
}

func wantsInput(result []byte) bool {
	typ, _ := protocol.GetString(result, "resultType")
	return typ == "input_required"
}

// input answers a modern client with what a target needs of it, unless the client
// can't be asked that.
func (q *request) input(r *relayed, result []byte) error {
	var edits []protocol.Edit
	if requests := protocol.Get(result, "inputRequests"); requests != nil {
		out, lack, malformed := inputRequests(requests, q.client.Capabilities, q.scope(r.target))
		switch {
		case malformed:
			return q.targetFailed(errMalformedInput)
		case lack != nil:
			return q.refuse(http.StatusBadRequest, protocol.MissingClientCapability(lack))
		}
		edits = append(edits, protocol.Edit{Path: []string{"inputRequests"}, Value: out})
	}
	if state, ok := protocol.GetString(result, "requestState"); ok {
		edits = append(edits, protocol.Edit{Path: []string{"requestState"}, Value: protocol.Quote(q.sealState(r.target, stateTarget+state))})
	}
	if len(edits) == 0 {
		return q.targetFailed(errMalformedInput)
	}
	// What asks for input may not be kept.
	edits = append(edits, protocol.Edit{Path: []string{"ttlMs"}}, protocol.Edit{Path: []string{"cacheScope"}})
	return q.result(protocol.Splice(result, edits...))
}

var errMalformedInput = fault.New(fault.UpstreamFailed, "the server asked the client for something malformed")

// ask sends each of the inputRequests to the client as a request, all at once,
// and returns the inputResponses. Its error is a *protocol.Error when the client
// can't be asked.
func (q *request) ask(ctx context.Context, r *relayed, result []byte) ([]byte, error) {
	type input struct {
		key    string
		own    protocol.ID
		answer chan *protocol.Message
	}
	var questions []input
	defer func() {
		for _, one := range questions {
			q.live.forget(one.own)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, parkedFor)
	defer cancel()
	scope := q.scope(r.target)
	requests := protocol.Get(result, "inputRequests")
	if len(requests) > 0 && requests[0] == '{' {
		for key, value := range protocol.Members(requests) {
			method, ok := protocol.GetString(value, "method")
			if !ok || !inputMethod(method) {
				return nil, errMalformedInput
			}
			params := protocol.Get(value, "params")
			if lack := lacking(q.client.Capabilities, method, params); lack != nil {
				return nil, protocol.MissingClientCapability(lack)
			}
			own, answer, err := q.live.question()
			if err != nil {
				return nil, err
			}
			questions = append(questions, input{key: key, own: own, answer: answer})
			params = asked(method, params, scope, protocol.Legacy)
			params = protocol.Splice(params, protocol.Edit{Path: []string{"_meta", protocol.MetaProgressToken}})
			if err := q.answer.emit(protocol.AppendRequest(nil, own, method, params)); err != nil {
				return nil, err
			}
		}
	}
	edits := make([]protocol.Edit, 0, len(questions))
	for _, one := range questions {
		select {
		case m := <-one.answer:
			if m.Error != nil {
				return nil, fault.Wrap(fault.UpstreamFailed, m.Error, "the client refused what the server asked for")
			}
			edits = append(edits, protocol.Edit{Path: []string{one.key}, Value: bytes.Clone(answeredTo(m.Result, scope))})
		case <-ctx.Done():
			if context.Cause(ctx) == context.DeadlineExceeded {
				return nil, fault.New(fault.UpstreamTimeout, "the client did not answer what the server asked for")
			}
			return nil, ctx.Err()
		}
	}
	return protocol.Splice(nil, edits...), nil
}

// question notes a question that the gateway itself waits for.
func (l *live) question() (protocol.ID, chan *protocol.Message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) >= maxAsked {
		return "", nil, fault.New(fault.Overloaded, "the client has too many unanswered requests")
	}
	own := l.ownID()
	answer := make(chan *protocol.Message, 1)
	l.note(own, &ask{answer: answer})
	return own, answer, nil
}

// each calls f, in parallel, with each target, its leg of the session and what it
// is.
func (q *request) each(ctx context.Context, f func(context.Context, int, *session.Leg, *session.Discovery)) {
	v := q.catalogue()
	var wg sync.WaitGroup
	for i, t := range q.b.targets {
		wg.Go(func() {
			// One that is down was reported when it went.
			if q.b.breakers[i].check(v.entries[i].lister.ping) != nil {
				return
			}
			of := ctx
			ctx, cancel := context.WithTimeout(ctx, timeoutOf(t))
			defer cancel()
			d, err := t.Discover(ctx, q.client, q.forward)
			var leg *session.Leg
			if err == nil {
				leg, err = q.sess.Leg(ctx, t, q.forward)
			}
			q.b.breakers[i].heardFor(of, err)
			if err == nil {
				f(ctx, i, leg, d)
			}
		})
	}
	wg.Wait()
}
