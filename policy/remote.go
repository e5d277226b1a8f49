package policy

import (
	"context"
	"net/http"
	"slices"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/fault"
)

// A Remote is a limit that an external service keeps. It is not changed once it is used.
type Remote struct {
	Extension string // the extension that describes the service, Kind/namespace/name
	Service   *extension.RateLimit
	// Descriptors are what the service is asked about, at once. They have one stage.
	Descriptors []Descriptor
	// FailOpen lets requests through about which the service can't be asked.
	FailOpen bool
	// Tokens says that the tokens of language models are counted, once they are known; before, the service is asked if
	// a limit is exceeded.
	Tokens bool
}

func (r *Remote) stage() Stage { return r.Descriptors[0].Stage() }

// of returns the descriptors of a subject: those all of whose entries have a value.
func (r *Remote) of(s *Subject) (out []extension.Descriptor) {
	for _, d := range r.Descriptors {
		if e, ok := d.entries(s); ok {
			out = append(out, e)
		}
	}
	return out
}

// take counts a request, or returns the fault that says that there is none left or that the service can't be asked.
func (r *Remote) take(ctx context.Context, l *Limiter, s *Subject) error {
	descriptors := r.of(s)
	if len(descriptors) == 0 {
		return nil
	}
	ask := r.Service.Take
	if r.Tokens {
		ask = func(ctx context.Context, list []extension.Descriptor) (*extension.Counted, error) {
			return r.Service.Add(ctx, list, 0)
		}
	}
	c, err := ask(ctx, descriptors)
	switch {
	case err != nil && ctx.Err() != nil:
		return fault.Of(context.Cause(ctx)) // nobody waits for it
	case err != nil:
		return r.failed(l, err)
	case c.Over:
		l.Metrics.Extension(r.Extension, "", "over_limit")
		return r.exceeded(l, c)
	}
	l.Metrics.Extension(r.Extension, "", "ok")
	if r.stage() == AtOperation || r.Tokens {
		return nil // there may be several at once, and answers that have begun
	}
	if err := s.Request.Tell(RateLimitNamespace, c.Metadata); err != nil {
		return r.failed(l, err)
	}
	s.Request.Response = append(s.Request.Response, c.Response...)
	s.Request.changeHeaders(c.Request)
	return nil
}

// failed says what becomes of a request about which the service can't be asked.
func (r *Remote) failed(l *Limiter, err error) error {
	l.Metrics.Extension(r.Extension, "", "failed")
	if r.FailOpen {
		return nil
	}
	return &fault.Fault{
		Code: fault.Internal, Message: "the rate limit service is not available",
		Err: &failure{Denial{Source: l.Source, Reason: r.Extension + " can't be asked"}, err},
	}
}

// exceeded is the fault of a request over the limit.
func (r *Remote) exceeded(l *Limiter, c *extension.Counted) error {
	l.Metrics.Limited(l.Source, "requests")
	f := &fault.Fault{
		Code: fault.RateLimited, Message: "rate limit exceeded", RetryAfter: c.Reset, Header: c.Header(),
		Err: &Denial{Source: l.Source, Reason: "rate limit exceeded, says " + r.Extension},
	}
	f.Header["X-Envoy-Ratelimited"] = []string{"true"}
	if len(c.Body) > 0 {
		if f.Header["Content-Type"] == nil {
			f.Header["Content-Type"] = []string{"text/plain"}
		}
		f.Answer = &fault.Answer{Status: http.StatusTooManyRequests, Body: c.Body}
	}
	return f
}

// A spending is a limit of tokens that a request is counted against once they are known.
type spending struct {
	limiter     *Limiter
	descriptors []extension.Descriptor
}

// spendings returns the limits of tokens of the request that was admitted as a, after it has asked if one of them is
// exceeded.
func (a *admission) spendings(ctx context.Context) (out []spending, err error) {
	if a.request.Passed {
		return nil, nil
	}
	s := &Subject{Request: a.request, Backend: a.destination}
	for _, l := range a.tokens() {
		descriptors := l.Remote.of(s)
		if len(descriptors) == 0 {
			continue
		}
		if err := l.take(ctx, s); err != nil {
			return nil, err
		}
		out = append(out, spending{l, descriptors})
	}
	return out, nil
}

// tokens returns the limits of tokens, of the policy and of the Backend.
func (a *admission) tokens() (out []*Limiter) {
	for i := range a.policy.tokens {
		out = append(out, &a.policy.tokens[i])
	}
	if a.backend != nil {
		for i := range a.backend.tokens {
			out = append(out, &a.backend.tokens[i])
		}
	}
	return out
}

// spend counts tokens.
func (s *spending) spend(ctx context.Context, tokens int64) {
	if tokens <= 0 {
		return
	}
	r := s.limiter.Remote
	result := "ok"
	if _, err := r.Service.Add(ctx, s.descriptors, uint64(tokens)); err != nil {
		result = "failed" // it has been answered: there is nobody to tell but the metric
	}
	s.limiter.Metrics.Extension(r.Extension, "", result)
}

// tokenLimiters takes those that count tokens out of the limiters.
func tokenLimiters(all []Limiter) (requests, tokens []Limiter) {
	isToken := func(l Limiter) bool { return l.Remote != nil && l.Remote.Tokens }
	for _, l := range all {
		if isToken(l) {
			tokens = append(tokens, l)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), isToken), tokens
}
