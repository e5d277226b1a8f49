package llm

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A failure is why a provider did not answer, and what the client is told when nobody
// else does.
type failure struct {
	err         error          // for the operator
	says        *dialect.Error // what the provider said, if it did
	header      http.Header    // beside it
	body        []byte         // its words, when the client speaks its dialect
	unreachable bool           // nothing was sent
	unable      bool           // it was not asked: it can't answer such a question
	limited     bool           // it has too many requests
	retryAfter  time.Duration  // until it may be asked again; 0 when it does not say
}

func failed(err error) *failure { return &failure{err: err} }

var (
	errTotal        = fault.New(fault.UpstreamTimeout, "the provider did not answer in time")
	errFirstContent = fault.New(fault.UpstreamTimeout, "the provider did not begin to answer in time")
	errIdle         = fault.New(fault.UpstreamTimeout, "the provider stopped in the middle of its answer")
	errBroken       = errors.New("the stream broke off")
)

// no takes an answer with an error's status.
func (a *attempt) no(resp *http.Response) (*failure, error) {
	body, err := readAll(resp.Body, maxError)
	if err != nil && !errors.Is(err, errTooLarge) {
		return a.lost(err)
	}
	return a.denied(resp.StatusCode, resp.Header, body)
}

// denied is no for an answer that was read.
func (a *attempt) denied(status int, h http.Header, body []byte) (*failure, error) {
	if v, ok := a.vendor.(platform); ok {
		if e := v.platformError(a.speaks, status, h, body); e != nil {
			return a.says(e, h, nil)
		}
	}
	return a.says(a.dialect.DecodeError(status, body), h, body)
}

// says takes a provider's no: some make the next provider be asked, the others are the
// client's answer.
func (a *attempt) says(e *dialect.Error, h http.Header, body []byte) (*failure, error) {
	if e.RetryAfter == 0 {
		e.RetryAfter = retryAfter(h, time.Now())
	}
	if v := jsontext.Value(body); !a.same || !v.IsValid() || v.Kind() != '{' { // as the page of something in between
		body = nil
	}
	f := &failure{err: e, says: e, header: h, body: body, limited: e.Status == http.StatusTooManyRequests, retryAfter: e.RetryAfter}
	switch {
	case isFailure(e):
		return f, nil
	case e.Status == http.StatusUnauthorized && !a.provider.Credential.Passthrough:
		// Whose key it is, is not the client's business, and what is said of it neither.
		a.cfg.Logger.Error("LLM provider refuses the credential", "backend", a.cfg.Name, "provider", a.provider.label())
		a.refused = e
		return nil, a.out.fail(a.query, &failure{err: fault.New(fault.UpstreamFailed, "the provider refuses the gateway's credential")})
	case e.Status == http.StatusForbidden:
		a.cfg.Logger.Error("LLM provider refuses a request", "backend", a.cfg.Name, "provider", a.provider.label(), "reason", e.Message)
	}
	a.refused = e
	return nil, a.out.fail(a.query, f)
}

// isFailure reports whether the same request may fare better elsewhere: the provider is
// overloaded or broken. What is wrong with the request is wrong everywhere.
func isFailure(e *dialect.Error) bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, 529:
		return true
	default:
		return e.Status < 400 || e.Status > 504
	}
}

// giveUp answers a query that no provider answered.
func (q *query) giveUp(last *failure) error {
	if q.ctx.Err() != nil {
		return context.Cause(q.ctx)
	}
	if last == nil {
		last = failed(fault.New(fault.Misconfigured, "no provider is configured"))
	}
	return q.out.fail(q, last)
}

// retryAfter returns how long a provider asks to wait (RFC 9110 section 10.2.3, and the
// headers of OpenAI and those like it), or 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return seconds(ms / 1000)
	}
	if v := h.Get("Retry-After"); v != "" {
		if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 {
			return seconds(s)
		}
		if at, err := http.ParseTime(v); err == nil {
			return max(at.Sub(now), 0)
		}
	}
	var wait time.Duration
	for _, what := range []string{"Requests", "Tokens"} {
		if h.Get("X-Ratelimit-Remaining-"+what) == "0" {
			wait = max(wait, resetIn(h.Get("X-Ratelimit-Reset-"+what), now))
		}
	}
	if wait == 0 {
		wait = resetIn(h.Get("X-Ratelimit-Reset"), now)
	}
	return wait
}

// resetIn returns the time until a limit is reset, which is written as a duration, in
// seconds, or as seconds or milliseconds since 1970.
func resetIn(v string, now time.Time) time.Duration {
	if d, err := time.ParseDuration(v); err == nil {
		return max(d, 0)
	}
	if at, err := time.Parse(time.RFC3339, v); err == nil {
		return max(at.Sub(now), 0)
	}
	s, err := strconv.ParseFloat(v, 64)
	switch {
	case err != nil || s <= 0:
		return 0
	case s > 1e11:
		return max(time.UnixMilli(int64(s)).Sub(now), 0)
	case s > 1e9:
		return max(time.Unix(int64(s), 0).Sub(now), 0)
	default:
		return seconds(s)
	}
}

// seconds returns s seconds, at most a day.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 86400) * float64(time.Second))
}

// WriteError renders err in the dialect of the client.
func (b *Backend) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	e, h := canonicalError(err)
	op := b.operationOf(r)
	writeError(w, op.codec(), e, h)
}

// canonicalError returns an error of the gateway as one of a dialect.
func canonicalError(err error) (*dialect.Error, http.Header) {
	var e *dialect.Error
	if errors.As(err, &e) {
		return e, nil
	}
	f := fault.Of(err)
	return &dialect.Error{Status: f.Code.Status(), Message: f.Message, RetryAfter: f.RetryAfter}, f.Header
}

// writeError answers with an error.
func writeError(w http.ResponseWriter, d clientDialect, e *dialect.Error, h http.Header) {
	header := w.Header()
	for k, v := range h {
		header[k] = v
	}
	if e.RetryAfter > 0 && header["Retry-After"] == nil {
		header["Retry-After"] = []string{strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)}
	}
	header["Content-Type"] = []string{"application/json"}
	header["X-Content-Type-Options"] = []string{"nosniff"}
	header.Del("Content-Length")
	w.WriteHeader(e.Status)
	_, _ = w.Write(d.EncodeError(e)) // a client that is gone needs no error
}
