package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A Proxy passes HTTP requests on to a [Pool] as they are: a reverse proxy
// (RFC 9110 section 7.6). It drops what belongs to one hop, adds the
// X-Forwarded headers, streams both bodies, and lets upgrades through but for those to h2c:
// which protocols a client may ask for is not decided here.
// Informational responses are passed on, but for 100. It is safe for concurrent use.
type Proxy struct {
	// Pool is where requests go.
	Pool *Pool
}

// hopHeaders belong to one connection (RFC 9110 section 7.6.1), with those that
// older peers send.
var hopHeaders = [...]string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// Serve answers r with what the pool answers. An error before the first byte is
// returned; afterwards the connection is aborted by panicking with
// [http.ErrAbortHandler], so that no client takes a broken answer for a whole one.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request) error {
	upgrade := upgradeType(r.Header)
	if strings.EqualFold(upgrade, "h2c") { // an offer that may be declined (RFC 9113 section 3.1)
		upgrade = ""
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// An answer may begin before the request has ended; without this net/http
		// would then take the rest of the request away.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			return fault.Wrap(fault.Internal, err, "internal error")
		}
	}
	rec := telemetry.FromContext(r.Context())
	out := outgoing(r, upgrade)
	s := sending{spans: true}
	hints := inform(w, r)
	if hints != nil {
		s.inform = hints.pass
	}
	resp, err := p.Pool.send(out, &s)
	hints.end()
	defer s.body.stop(w, r)
	rec.Attempts++
	rec.UpstreamHost = s.host()
	if err != nil {
		if r.ProtoMajor == 1 && s.body.failure() != nil {
			w.Header()["Connection"] = []string{"close"} // nobody knows where the next request begins
		}
		return err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return switchProtocols(w, r, resp, upgrade)
	}
	defer func() { _ = resp.Body.Close() }() // everything that can be learned from it was learned by reading

	header := w.Header()
	for k, v := range resp.Header {
		header[k] = v
	}
	removeHop(header)
	announceTrailers(header, resp.Trailer)
	if r.ProtoMajor == 1 && s.body.unread() {
		header["Connection"] = []string{"close"} // the answer may end before the request has
	}
	w.WriteHeader(resp.StatusCode)
	if err := copyBody(w, resp, p.Pool.held); err != nil {
		f := fault.Of(err)
		rec.ErrorType, rec.Err = f.Code.String(), err
		if fault.IsGRPC(r) && f.Code != fault.ClientGone {
			f.SetGRPC(header, http.TrailerPrefix)
			return nil
		}
		panic(http.ErrAbortHandler)
	}
	if err := s.body.failure(); err != nil {
		rec.ErrorType, rec.Err = ofClient(err).Code.String(), err
		panic(http.ErrAbortHandler) // nobody knows where the next request begins
	}
	for k, v := range resp.Trailer {
		if _, announced := header["Trailer"]; !announced {
			k = http.TrailerPrefix + k
		}
		header[k] = v
	}
	return nil
}

// endCall ends the span of an exchange when its answer begins (OpenTelemetry semantic
// conventions, HTTP client).
func endCall(call *telemetry.Call, host string, resp *http.Response, err error) {
	errorType := ""
	call.Set("server.address", host)
	switch {
	case err != nil:
		errorType = fault.Of(err).Code.String()
	case resp.StatusCode >= http.StatusBadRequest:
		errorType = strconv.Itoa(resp.StatusCode)
	}
	if resp != nil {
		call.Set("http.response.status_code", strconv.Itoa(resp.StatusCode))
	}
	call.End(errorType)
}

// WriteError renders err as plain text.
func (p *Proxy) WriteError(w http.ResponseWriter, _ *http.Request, err error) {
	fault.Of(err).WriteText(w)
}

// outgoing returns r as it goes to the pool.
func outgoing(r *http.Request, upgrade string) *http.Request {
	out := (&http.Request{
		Method:        r.Method,
		ProtoMajor:    r.ProtoMajor, // of the client, whose body it is
		URL:           r.URL,
		Header:        make(http.Header, len(r.Header)+3),
		Body:          r.Body,
		ContentLength: r.ContentLength,
		Host:          r.Host,
		Trailer:       r.Trailer,
	}).WithContext(r.Context())
	if r.ContentLength == 0 {
		out.Body = nil // net/http would otherwise wait to see whether there is one
	}
	for k, v := range r.Header {
		out.Header[k] = v
	}
	trailers := httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers")
	removeHop(out.Header)
	if trailers {
		out.Header["Te"] = []string{"trailers"}
	}
	delete(out.Header, "Expect") // what was expected was answered here
	if upgrade != "" {
		out.Header["Connection"] = []string{"Upgrade"}
		out.Header["Upgrade"] = []string{upgrade}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{""} // or net/http sends its own
	}
	forwarded(out.Header, r, telemetry.FromContext(r.Context()).Request)
	return out
}

// A TrustedHop is a proxy in front of the gateway whose X-Forwarded-Proto and X-Forwarded-Host are kept.
type TrustedHop struct {
	// Complete says that X-Forwarded-For is kept as it is, too, without the address of that proxy.
	Complete bool
}

type trustedHopKey struct{}

// WithTrustedHop returns a context for a request that a proxy has sent which is trusted.
func WithTrustedHop(ctx context.Context, hop TrustedHop) context.Context {
	return context.WithValue(ctx, trustedHopKey{}, hop)
}

// forwarded says in the X-Forwarded headers where r came from. What the client
// says about addresses is kept before ours; about scheme and host it is not, unless it is a proxy that
// is trusted. The host is the one that the client asked for: accepted, if it is not nil, is r
// before filters rewrote it.
func forwarded(h http.Header, r, accepted *http.Request) {
	hop, trusted := r.Context().Value(trustedHopKey{}).(TrustedHop)
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && !hop.Complete {
		if prior := r.Header["X-Forwarded-For"]; len(prior) > 0 {
			ip = strings.Join(prior, ", ") + ", " + ip
		}
		h["X-Forwarded-For"] = []string{ip}
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	if !trusted || len(h["X-Forwarded-Proto"]) != 1 {
		h["X-Forwarded-Proto"] = []string{proto}
	}
	host := r.Host
	if accepted != nil {
		host = accepted.Host
	}
	if !trusted || len(h["X-Forwarded-Host"]) != 1 {
		h["X-Forwarded-Host"] = []string{host}
	}
}

// removeHop removes the headers that belong to one hop.
func removeHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopHeaders {
		delete(h, name)
	}
}

// upgradeType returns the protocol that h asks to switch to, or "".
func upgradeType(h http.Header) string {
	up := h["Upgrade"]
	if len(up) == 0 || !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return up[0]
}

func announceTrailers(header, trailer http.Header) {
	if len(trailer) == 0 {
		return
	}
	names := make([]string, 0, len(trailer))
	for k := range trailer {
		names = append(names, k)
	}
	header["Trailer"] = []string{strings.Join(names, ", ")}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copyBody copies the body of resp to w, flushing as it comes when it is a stream, and holds limit bytes of it at most; 0 is
// no limit but that of a buffer. A slow reader stops the reading upstream.
func copyBody(w http.ResponseWriter, resp *http.Response, limit int) error {
	if resp.ContentLength == 0 || resp.Request.Method == http.MethodHead {
		return nil
	}
	stream := resp.ContentLength < 0
	flush := http.NewResponseController(w)
	if stream && (resp.ProtoMajor == 2 || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")) {
		if err := flush.Flush(); err != nil { // the client may wait for the header alone
			return gone(err)
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	part := *buf
	if limit > 0 {
		part = part[:min(limit, len(part))]
	}
	for {
		n, err := resp.Body.Read(part)
		if n > 0 {
			if _, err := w.Write(part[:n]); err != nil {
				return gone(err)
			}
			if stream {
				if err := flush.Flush(); err != nil {
					return gone(err)
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// gone returns the fault for a client that cannot be written to any more.
func gone(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Wrap(fault.ClientGone, err, "the client closed the request")
}
