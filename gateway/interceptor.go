package gateway

import "net/http"

// An interceptor stands between the admission of a request and the backend that answers it. It sees both the request and
// the answer, and may change either, or answer itself.
//
// It is called from the goroutine of the request, and is safe for concurrent use. A request whose rule has
// interceptors is not detached from its goroutine while its answer is silent, unless their writers say how.
type interceptor interface {
	// intercept serves r, as a rule by calling next once with r and w, or with what stands in for them. A writer that
	// stands in for w flushes, and unwraps to it ([net/http.ResponseController]) unless it changes the body. The context of
	// the request that next gets is that of r, or one that is derived from it. An error is rendered as one of the backend is, if
	// nothing of the answer was written; then it cuts the answer off.
	intercept(w http.ResponseWriter, r *http.Request, next serve) error
}

// A serve answers a request, or returns the error that says why it could not.
type serve func(w http.ResponseWriter, r *http.Request) error

// intercept serves r by next, inside the interceptors, of which the first is the outermost.
func intercept(by []interceptor, w http.ResponseWriter, r *http.Request, next serve) error {
	if len(by) == 0 {
		return next(w, r)
	}
	return by[0].intercept(w, r, func(w http.ResponseWriter, r *http.Request) error { return intercept(by[1:], w, r, next) })
}
