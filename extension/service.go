// Package extension asks the external services that a GatewayExtension describes: over gRPC in the
// protocols that Envoy has for them, and over HTTP.
//
// Its central type is [Service], a gRPC service behind an http.RoundTripper, which package gateway makes of
// a GatewayExtension when it compiles a configuration: a pool of package upstream, so that the endpoints are chosen,
// checked, left out and spoken to over TLS as those of any backend are, and outlive configurations.
//
// Nothing here decides: what a service said, or that it could not be asked, is handed back. Nothing here knows of
// routes, policies or expressions, and nothing runs after a call has returned and its stream has ended.
package extension

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"connectrpc.com/connect"
)

// maxMessage bounds one message to or from a service, in bytes, as gRPC does.
const maxMessage = 4 << 20

// A Service is a gRPC service. It is not changed once it is used, and safe for concurrent use.
type Service struct {
	// RoundTripper reaches the service over HTTP/2. It replaces scheme and host of the URL, and keeps Host.
	RoundTripper http.RoundTripper
	// Authority is what :authority says.
	Authority string
	// Timeout bounds a call with all of its tries, or a stream as a whole; 0 is no bound.
	Timeout time.Duration
	// Retry says when a call is made again. Whoever opens streams asks it by [Retry.Again].
	Retry Retry
}

// A Retry says when to ask a service again that is not available: one that can't be reached, or says so by
// UNAVAILABLE. The zero Retry never does.
type Retry struct {
	Attempts int           // beside the first
	Base     time.Duration // the first wait, which doubles with each
	Max      time.Duration // the longest wait; 0 is ten times Base
}

// Again reports whether a service that failed with err is to be asked once more, after n times beside the first, and has waited
// before it does. It reports false once ctx has ended.
func (r *Retry) Again(ctx context.Context, n int, err error) bool {
	return n < r.Attempts && connect.CodeOf(err) == connect.CodeUnavailable && pause(ctx, r.wait(n))
}

// wait returns how long to wait before the n-th new try, counted from 0: half of the interval at least.
func (r *Retry) wait(n int) time.Duration {
	most := r.Max
	if most <= 0 {
		most = 10 * r.Base
	}
	interval := r.Base
	for ; n > 0 && interval < most; n-- {
		interval *= 2
	}
	if interval = min(interval, most); interval <= 1 {
		return interval
	}
	return interval/2 + rand.N(interval/2)
}

// Do implements [connect.HTTPClient].
func (s *Service) Do(r *http.Request) (*http.Response, error) {
	if s.Authority != "" {
		r.Host = s.Authority
	}
	return s.RoundTripper.RoundTrip(r)
}

// client returns a client of one method, whose name is /package.Service/Method.
func client[Q, A any](s *Service, method string) *connect.Client[Q, A] {
	return connect.NewClient[Q, A](s, "http://extension"+method, connect.WithGRPC(),
		connect.WithReadMaxBytes(maxMessage), connect.WithSendMaxBytes(maxMessage),
		connect.WithAcceptCompression("gzip", nil, nil)) // the peers are near
}

// Unary returns a function that calls a method of the service, whose name is /package.Service/Method. Q and A are
// messages generated from Protocol Buffers. Its errors are [*connect.Error]s, those of the RoundTripper in their chain.
func Unary[Q, A any](s *Service, method string) func(context.Context, *Q) (*A, error) {
	c := client[Q, A](s, method)
	return func(ctx context.Context, q *Q) (*A, error) {
		if s.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.Timeout)
			defer cancel()
		}
		for n := 0; ; n++ {
			a, err := c.CallUnary(ctx, connect.NewRequest(q))
			if err == nil {
				return a.Msg, nil
			}
			if !s.Retry.Again(ctx, n, err) {
				return nil, err
			}
		}
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// A Stream is a stream of messages in both directions. One goroutine may send while another receives. Whoever opened it
// calls CloseRequest when there is nothing more to send, and CloseResponse in the end; the end of its context ends
// it, too.
type Stream[Q, A any] = connect.BidiStreamForClient[Q, A]

// Bidi returns a function that opens a stream by a method of the service, as [Unary] does: nothing is sent before
// the first message is.
func Bidi[Q, A any](s *Service, method string) func(context.Context) *Stream[Q, A] {
	c := client[Q, A](s, method)
	return func(ctx context.Context) *Stream[Q, A] { return c.CallBidiStream(ctx) }
}
