package upstream

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// retryHeader says in a request that is tried again which retry it is, from 1.
const retryHeader = "X-Retry-Attempt"

// A sending is one request on its way through a pool, try by try.
type sending struct {
	*Sending
	pin   *Pin
	spans bool // each try has a span

	inform  informer     // gets informational responses; nil when nobody does
	body    *watchedBody // the request's, as the last try got it; nil if it is in memory
	given   bool         // a body that is in memory was given away before
	attempt *attempt     // the last one; nil before
	trailer http.Header  // of a body that is in memory; nil when there is none
	failed  []*Endpoint  // those of tries that failed
}

// noSending is how requests are sent of which nothing is said.
var noSending Sending

// host returns where the last try went, "" if nowhere.
func (s *sending) host() string {
	if s.attempt == nil {
		return ""
	}
	return s.attempt.endpoint.address
}

// send sends r, as the context says.
func (p *Pool) send(r *http.Request, s *sending) (*http.Response, error) {
	s.Sending, _ = r.Context().Value(sendingKey{}).(*Sending)
	if s.Sending == nil {
		s.Sending = &noSending
	}
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		limit := 0
		if s.Retry != nil && r.ContentLength <= replayLimit {
			limit = replayLimit
		}
		s.body = watchBody(r.Body, limit)
		s.body.breaks = r.ProtoMajor == 2
	}
	r = s.trailed(r)
	cancel := context.CancelFunc(nil)
	if p.bounds.duration > 0 {
		var ctx context.Context
		ctx, cancel = context.WithTimeoutCause(r.Context(), p.bounds.duration, errDuration)
		r = r.WithContext(ctx)
	}
	resp, err := p.tries(r, s)
	switch {
	case err == nil:
		s.attempt.cancelAll = cancel
	case cancel != nil:
		cancel()
	}
	if err != nil && s.body != nil {
		_ = s.body.Close() // the caller gave the body away: there is nobody to tell
	}
	s.body.settle()
	return resp, err
}

// tries sends r, and again while the budget lasts and it may help.
func (p *Pool) tries(r *http.Request, s *sending) (*http.Response, error) {
	if s.Retry == nil {
		return p.try(r, s)
	}
	s.spans = true
	p.retryable.Add(1)
	defer p.retryable.Add(-1)
	for n := 1; ; n++ {
		resp, err := p.try(r, s)
		if n > s.Retry.Attempts || r.Context().Err() != nil || !s.Retry.failed(resp, err) {
			return resp, err
		}
		if n == 1 {
			if !p.takeRetry() {
				s.over.Add(1)
				return resp, err
			}
			defer p.retrying.Add(-1)
		}
		if s.body != nil {
			next := s.body.again()
			if next == nil {
				return resp, err
			}
			s.body = next
		}
		if resp != nil {
			_ = resp.Body.Close() // it is not passed on
		}
		if s.attempt != nil {
			s.failed = p.avoided(append(s.failed, s.attempt.endpoint))
		}
		s.given = true
		s.retries.Add(1)
		if err := s.Retry.rest(r.Context(), n); err != nil {
			return nil, err
		}
		r = again(r, n)
	}
}

// rest waits before the nth retry.
func (r *Retry) rest(ctx context.Context, n int) error {
	t := time.NewTimer(r.wait(n))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.Of(context.Cause(ctx))
	}
}

// again returns r as it is sent for the nth retry.
func again(r *http.Request, n int) *http.Request {
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	r.Header[retryHeader] = []string{strconv.Itoa(n)}
	return r
}

// takeRetry reports whether the budget has room for another request that is tried again. It
// counts until retrying is lowered.
func (p *Pool) takeRetry() bool {
	for {
		n := p.retrying.Load()
		if n >= max(leastRetries, p.retryable.Load()*retryPercent/100) {
			return false
		}
		if p.retrying.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// avoided returns which of the endpoints that have failed get no other try while there are others: those
// that have failed last.
func (p *Pool) avoided(failed []*Endpoint) []*Endpoint {
	usable := p.endpoints.Load().usable
	for len(failed) > 0 && len(without(usable, failed)) == 0 {
		failed = failed[1:]
	}
	return failed
}

// try sends r once, within the time of a try.
func (p *Pool) try(r *http.Request, s *sending) (*http.Response, error) {
	ctx, begun, cancel := s.within(r.Context())
	var call *telemetry.Call
	if s.spans {
		ctx, call = telemetry.StartCall(ctx, r.Method)
	}
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	if call != nil {
		r.Header = r.Header.Clone()
		telemetry.Propagate(ctx, r.Header)
		call.Set("http.request.resend_count", r.Header.Get(retryHeader))
	}
	resp, err := p.offer(r, s)
	if call != nil {
		endCall(call, s.host(), resp, err)
	}
	begun()
	if err != nil {
		cancel()
		return nil, err
	}
	s.attempt.cancel = cancel
	return resp, nil
}

var (
	errTry    = fault.New(fault.UpstreamTimeout, "the upstream took longer than its timeout")
	errPerTry = fault.New(fault.UpstreamTimeout, "the upstream did not begin to answer within its timeout")
)

// within returns the context of a try. begun is called once its answer has begun, or there is none, and
// cancel at the end of the answer.
func (s *sending) within(ctx context.Context) (of context.Context, begun, cancel func()) {
	perTry := time.Duration(0)
	if s.Retry != nil {
		perTry = s.Retry.PerTry
	}
	if s.Try <= 0 && perTry <= 0 {
		return ctx, nothing, nothing
	}
	ctx, end := context.WithCancelCause(ctx)
	begun, cancel = nothing, func() { end(nil) }
	if perTry > 0 {
		t := time.AfterFunc(perTry, func() { end(errPerTry) })
		begun = func() { t.Stop() }
	}
	if s.Try > 0 {
		t := time.AfterFunc(s.Try, func() { end(errTry) })
		cancel = func() { t.Stop(); end(nil) }
	}
	return ctx, begun, cancel
}

func nothing() {}

// offer sends r to one endpoint after the other until one takes it: those that were not reached do not
// count as tries.
func (p *Pool) offer(r *http.Request, s *sending) (*http.Response, error) {
	tried := s.failed[:len(s.failed):len(s.failed)]
	unreached, stale := 0, 0
	for {
		e, err := p.pick(r, s.pin, tried)
		if err != nil {
			return nil, err
		}
		a := &attempt{pool: p, endpoint: e, multiplex: p.multiplex, ctx: r.Context(), body: s.body, replay: s.given, trailer: s.trailer, inform: s.inform, events: telemetry.EventsOf(r.Context())}
		a.events.Add(telemetry.UpstreamChosen, e.address)
		s.attempt = a
		resp, err := p.attempt(a, s.named(r, e))
		if err == nil {
			return p.answered(a, s.pin, resp)
		}
		f := a.fault(err)
		if stale := f.Code == fault.UpstreamUnreachable && a.reused; !stale {
			a.failed(f)
		}
		if f.Code != fault.UpstreamUnreachable {
			return nil, f
		}
		switch {
		case a.reused && stale < maxStale: // the server had closed an idle connection: there may be more of those
			stale++
		case s.pin != nil && s.pin.Endpoint != "":
			return nil, f
		default:
			unreached++
			if tried = append(tried, e); unreached == maxAttempts || len(without(p.Endpoints(), tried)) == 0 {
				return nil, f
			}
		}
		s.given = true
		if s.body != nil {
			next := s.body.again()
			if next == nil {
				return nil, f
			}
			s.body = next
		}
	}
}

// answered returns the answer to an attempt as the caller reads it.
func (p *Pool) answered(a *attempt, pin *Pin, resp *http.Response) (*http.Response, error) {
	if pin != nil && pin.Endpoint == "" {
		pin.Endpoint = a.endpoint.address
	}
	a.events.Add(telemetry.AnswerBegun, "")
	a.watch(resp)
	if n := p.bounds.headers; n > 0 && fields(resp.Header) > n {
		_ = resp.Body.Close() // it is not passed on
		p.report(a.endpoint, false)
		return nil, fault.New(fault.UpstreamFailed, "the upstream's answer has more than %d headers", n)
	}
	p.report(a.endpoint, resp.StatusCode < 500)
	return resp, nil
}

// named returns r with the name of e as its Host, where that is wanted and e has one.
func (s *sending) named(r *http.Request, e *Endpoint) *http.Request {
	if !s.HostOfEndpoint {
		return r
	}
	name, _, err := net.SplitHostPort(e.Host())
	if err != nil || net.ParseIP(name) != nil {
		return r
	}
	r = r.WithContext(r.Context())
	r.Host = name
	return r
}
