package upstream

import (
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// trailed returns r as it is sent with the trailers that the client has announced for it.
func (s *sending) trailed(r *http.Request) *http.Request {
	if r.Trailer == nil {
		return r // it has none, or is not the request of the client itself
	}
	all := r.Trailer
	r = r.WithContext(r.Context())
	r.Trailer = nil // others may be filling it in
	switch {
	case len(s.Trailers) == 0 || r.Body == nil:
		return r
	case s.body != nil:
		s.body.source.trailer, s.body.trailer = all, announce(s.Trailers)
	default: // the body is in memory: they are there
		s.trailer = passedTrailer(all)
	}
	r.ContentLength = -1 // in HTTP/1.1 they come only behind chunks
	return r
}

// announce returns the trailers of a try, of which nothing but the names is known.
func announce(names []string) http.Header {
	h := make(http.Header, len(names))
	for _, name := range names {
		if passesBehind(name) {
			h[http.CanonicalHeaderKey(name)] = nil
		}
	}
	return h
}

// passedTrailer returns those trailers that may be passed on.
func passedTrailer(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		if passesBehind(name) {
			out[name] = values
		}
	}
	return out
}

// passesBehind reports whether a field may stand in the trailers of a request. What routes, frames, authenticates
// or describes the body does not (RFC 9110 section 6.5.1): it was decided on from the head, and an upstream might take the
// trailers for more of that.
func passesBehind(name string) bool {
	name = http.CanonicalHeaderKey(name)
	return httpguts.ValidTrailerHeader(name) && name != "Cookie" && name != "Forwarded" && name != "Upgrade" &&
		!strings.HasPrefix(name, "X-Forwarded-") && !strings.HasPrefix(name, "X-Mcpgw-")
}

// trail fills in the trailers of the try once the body has ended well. The caller holds mu.
func (b *watchedBody) trail() {
	if b.trailer == nil || b.err != io.EOF || b.current != b {
		return
	}
	for name, values := range b.source.trailer {
		if passesBehind(name) {
			b.trailer[name] = values
		}
	}
}
