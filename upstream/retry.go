package upstream

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// The budget of a Pool for retries, as Envoy has it: of the requests under way that may be tried
// again, how many are at one time, in percent, and how many are in any case.
const (
	retryPercent = 20
	leastRetries = 3
)

// DefaultBackoff is how long to wait before a first retry, at most.
const DefaultBackoff = 25 * time.Millisecond

// maxBackoff is the longest wait, in multiples of the first.
const maxBackoff = 10

// Failures are ways in which a try fails.
type Failures uint8

// The failures. What went wrong on the client's side is none.
const (
	// Unconnected is that no byte of the request was sent.
	Unconnected Failures = 1 << iota
	// Refused is that the upstream refused an HTTP/2 stream before it did anything (RFC 9113 section
	// 8.7).
	Refused
	// Unanswered is that no answer began, whatever was sent: a connection that broke, a try that took too
	// long, and the two before.
	Unanswered
)

// A Retry says when a request is tried again. It is not changed once it is used.
type Retry struct {
	// Attempts is how many tries there may be beside the first.
	Attempts int
	// On are the failures after which there is another try.
	On Failures
	// Statuses are the first and last statuses after which there is.
	Statuses [][2]int
	// GRPC are the values of a Grpc-Status header of the answer after which there is.
	GRPC []string
	// RateLimited says that there is after an answer with X-Envoy-Ratelimited.
	RateLimited bool
	// PerTry bounds each try until its answer begins; 0 is no bound.
	PerTry time.Duration
	// Backoff is the wait before the second try, which doubles with each, up to 10 times. 0 means
	// [DefaultBackoff].
	Backoff time.Duration
	// AtLeast makes Backoff the shortest wait (Gateway API, HTTPRouteRetry). Else it is the longest, and any
	// shorter one is as likely, as Envoy has it.
	AtLeast bool
}

// Unexecuted returns what of r holds for requests that must not be executed twice: nothing is tried again
// unless it is proven that it was not executed. It returns nil for nil.
func (r *Retry) Unexecuted() *Retry {
	if r == nil {
		return nil
	}
	on := r.On & (Unconnected | Refused)
	if r.On&Unanswered != 0 {
		on = Unconnected | Refused
	}
	return &Retry{Attempts: r.Attempts, On: on, Backoff: r.Backoff, AtLeast: r.AtLeast}
}

// wait returns how long to wait before the nth retry, from 1.
func (r *Retry) wait(n int) time.Duration {
	first := r.Backoff
	if first <= 0 {
		first = DefaultBackoff
	}
	longest := first * time.Duration(min(1<<min(n-1, 8), maxBackoff))
	if r.AtLeast {
		return longest + rand.N(longest/4+1)
	}
	return rand.N(longest + 1)
}

// refusedStream is how net/http names the code of RFC 9113 section 7. It gives the error itself away only
// where the request had no body.
const refusedStream = "REFUSED_STREAM"

// failed reports whether a try that ended so is one after which there is another.
func (r *Retry) failed(resp *http.Response, err error) bool {
	if err == nil {
		for _, s := range r.Statuses {
			if resp.StatusCode >= s[0] && resp.StatusCode <= s[1] {
				return true
			}
		}
		return r.RateLimited && len(resp.Header["X-Envoy-Ratelimited"]) > 0 ||
			len(r.GRPC) > 0 && slices.Contains(r.GRPC, resp.Header.Get("Grpc-Status"))
	}
	switch fault.Of(err).Code {
	case fault.UpstreamUnreachable:
		return r.On&(Unconnected|Unanswered) != 0
	case fault.UpstreamFailed:
		return r.On&Unanswered != 0 || r.On&Refused != 0 && strings.Contains(err.Error(), refusedStream)
	case fault.UpstreamTimeout:
		return r.On&Unanswered != 0
	default:
		return false
	}
}

// A Sending is how the requests are sent that one client's request comes to, and how often they were. Its
// fields are not changed once it is in a context; it is safe for concurrent use, and must not be copied then.
type Sending struct {
	// Retry, when set, says when requests are tried again.
	Retry *Retry
	// Try bounds each try with its answer; 0 is no bound.
	Try time.Duration
	// HostOfEndpoint has the Host of requests be the name of the endpoint that gets them, if it has one.
	HostOfEndpoint bool
	// Trailers are the names of the trailers that the client has announced. Without it those of a request are not sent on.
	Trailers []string

	retries, over atomic.Int64
}

// Retries returns how often a request was tried again, and how often it was not since the budget for it was
// used up.
func (s *Sending) Retries() (tried, over int) { return int(s.retries.Load()), int(s.over.Load()) }

type sendingKey struct{}

// WithSending returns a context whose requests are sent as s says.
func WithSending(ctx context.Context, s *Sending) context.Context {
	return lifetime.WithValue(ctx, sendingKey{}, s)
}
