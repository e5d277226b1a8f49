package federation

import (
	"context"
	"errors"
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

var errRefused = errors.New("the client can't be asked")

// A sink takes what a target sends before its response, and passes it on to the
// client where it belongs. Its emit is called from one goroutine at a time.
type sink struct {
	q       *request
	leg     *session.Leg
	target  int
	asked   []protocol.ID
	refused string // the method of a request that can't be passed on
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
// gateway's own. The client of the modern era knows no such requests.
func (s *sink) request(m *protocol.Message) error {
	if s.q.live == nil {
		s.refused = m.Method
		return errRefused
	}
	own, raw, err := s.q.live.ask(s.leg, m)
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
func (q *request) inputRequired(ctx context.Context, target int, leg *session.Leg, params []byte, s *sink, result []byte, rewrite func([]byte) []byte) error {
	if q.era == protocol.Modern {
		if state, ok := protocol.GetString(result, "requestState"); ok {
			result = protocol.Splice(result, protocol.Edit{
				Path: []string{"requestState"}, Value: protocol.Quote(q.sealState(target, stateTarget+state))})
		}
		return q.result(result)
	}
	for range maxRounds {
		responses, err := q.ask(ctx, result)
		if err != nil {
			return q.callFailed(ctx, err)
		}
		next := protocol.Splice(params,
			protocol.Edit{Path: []string{"inputResponses"}, Value: responses},
			protocol.Edit{Path: []string{"requestState"}, Value: protocol.Get(result, "requestState")})
		m, err := leg.Call(ctx, &session.Call{Method: q.msg.Method, Params: next, Forward: q.forward, Emit: s.emit})
		if err != nil {
			return q.callFailed(ctx, err)
		}
		if m.Error != nil {
			return q.peerError(kinds, "", m.Error)
		}
		if typ, _ := protocol.GetString(m.Result, "resultType"); typ != "input_required" {
			return q.result(rewrite(m.Result))
		}
		result = m.Result
	}
	return q.refuse(200, protocol.Errorf(protocol.CodeInternal, "the server asked for input too often"))
}

// ask sends each of the inputRequests to the client as a request, all at once,
// and returns the inputResponses.
func (q *request) ask(ctx context.Context, result []byte) ([]byte, error) {
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
	requests := protocol.Get(result, "inputRequests")
	if len(requests) > 0 && requests[0] == '{' {
		for key, value := range protocol.Members(requests) {
			method, ok := protocol.GetString(value, "method")
			if !ok {
				return nil, fault.New(fault.UpstreamFailed, "the server asked the client for something malformed")
			}
			own, answer, err := q.live.question()
			if err != nil {
				return nil, err
			}
			questions = append(questions, input{key: key, own: own, answer: answer})
			params := protocol.Splice(protocol.Get(value, "params"), protocol.Edit{Path: []string{"_meta", protocol.MetaProgressToken}})
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
			edits = append(edits, protocol.Edit{Path: []string{one.key}, Value: append([]byte(nil), m.Result...)})
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
