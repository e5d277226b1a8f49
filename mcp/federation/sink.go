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
	asked  []protocol.ID
}

func (s *sink) emit(m *protocol.Message) error {
	if m.Kind == protocol.Request {
		return s.request(m)
	}
	switch m.Method {
	case "notifications/cancelled":
		if s.q.live == nil {
			return nil
		}
		raw := s.q.live.cancelled(s.leg, m)
		if raw == nil {
			return nil
		}
		return s.q.answer.emit(raw)
	case "notifications/resources/updated":
		if s.q.live == nil {
			return nil
		}
		return s.q.b.updated(s.q.live, s.target, m, nil)
	case "notifications/elicitation/complete":
		if s.q.live == nil {
			return nil // its era has no such thing
		}
	}
	if c := changeOf(m.Method); c != 0 {
		if e := s.q.catalogue().entry(s.leg.Target()); e != nil {
			e.invalidate(c)
		}
		return nil
	}
	return s.q.answer.emit(m.Raw)
}

// request passes a request of the target on to the client, under an id of the
// gateway's own. A client that can't be asked would answer that it can't: that
// is said for it.
func (s *sink) request(m *protocol.Message) error {
	capabilities := s.q.client.Capabilities
	if s.q.live == nil || lacking(capabilities, m.Method, m.Params) != nil {
		return s.leg.Respond(s.ctx, m.ID, &protocol.Message{Kind: protocol.Response, Error: declined(capabilities, m.Method)}, s.q.forward)
	}
	own, raw, err := s.q.live.ask(s.leg, m, s.q.scope(s.target))
	if err != nil {
		return err
	}
	s.asked = append(s.asked, own)
	return s.q.answer.emit(raw)
}

// close drops the questions that the call leaves open.
func (s *sink) close() {
	for _, own := range s.asked {
		s.q.live.forget(own)
	}
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
			return q.result(r.rewrite(m.Result))
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
	own := unguessable()
	answer := make(chan *protocol.Message, 1)
	l.note(own, &ask{answer: answer})
	return own, answer, nil
}

// updated passes a notifications/resources/updated on to a legacy client, with
// the URI that the client knows. allowed, when not nil, says which it may hear of.
func (b *Backend) updated(l *live, target int, m *protocol.Message, allowed func(own string) bool) error {
	uri, ok := protocol.GetString(m.Params, "uri")
	if !ok || allowed != nil && !allowed(uri) {
		return nil
	}
	client := b.naming.scope(b.cfg.Targets[target].Name).uri(uri)
	if !l.subscribed(client) {
		return nil
	}
	params := protocol.Splice(m.Params, protocol.Edit{Path: []string{"uri"}, Value: protocol.Quote(client)})
	return l.send(protocol.AppendNotification(nil, m.Method, params))
}

// each calls f, in parallel, with the session's leg to each target.
func (q *request) each(ctx context.Context, f func(context.Context, *session.Leg, *session.Discovery)) {
	var wg sync.WaitGroup
	for i, t := range q.b.targets {
		wg.Go(func() {
			// One that is down was reported when it went.
			_ = q.b.probes[i].try(q.b.hub.now, func() error {
				ctx, cancel := context.WithTimeout(ctx, timeoutOf(t))
				defer cancel()
				d, err := t.Discover(ctx, q.client, q.forward)
				if err != nil {
					return err
				}
				leg, err := q.sess.Leg(ctx, t, q.forward)
				if err != nil {
					return err
				}
				f(ctx, leg, d)
				return nil
			})
		})
	}
	wg.Wait()
}
