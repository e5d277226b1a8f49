package llm

import (
	"context"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A passer is a vendor that has operations of OpenAI's at other paths.
type passer interface {
	// passed returns the path, with its query if it has one, of an operation at path, which
	// begins with /v1/.
	passed(p *Provider, path string) string
}

// servePassthrough sends a request of any method to a provider as it is and answers with what
// comes, both as they come. Nobody else is asked when that fails: the body is gone.
func (b *Backend) servePassthrough(w http.ResponseWriter, r *http.Request, op *operation) error {
	p, err := b.passTo(r.Context(), op)
	if err != nil {
		return err
	}
	rec := telemetry.FromContext(r.Context())
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	a := &attempt{query: &query{Backend: b, ctx: r.Context(), header: r.Header, rec: rec}, provider: p, vendor: vendorOf(p.Vendor)}
	h := passedHeader(r.Header)
	a.vendor.headers(a, h)
	out, err := a.outgoing(ctx, r.Method, a.passedTarget(r.URL), h)
	if err != nil {
		p.Health.unclaim()
		return err
	}
	var body *upload
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		rc := http.NewResponseController(w)
		if r.ProtoMajor == 1 { // the answer may begin before the body has ended
			if err := rc.EnableFullDuplex(); err != nil {
				return fault.Wrap(fault.Internal, err, "internal error")
			}
		}
		body = &upload{ReadCloser: r.Body, connection: r.ProtoMajor == 1}
		defer body.stop(rc)
		out.Body, out.ContentLength = body, r.ContentLength
	}
	rec.LLM.Provider, rec.LLM.Name = p.Vendor.String(), p.Name
	rec.Attempts++
	rec.UpstreamHost = p.Host
	p.Health.active.Add(1)
	defer p.Health.active.Add(-1)
	clock := time.AfterFunc(b.cfg.Clocks.Total, func() { cancel(errTotal) })
	defer clock.Stop()
	resp, err := p.RoundTripper.RoundTrip(out)
	body.last(w.Header())
	if err != nil {
		f, err := a.lost(err)
		if f == nil {
			p.Health.unclaim()
			return err
		}
		if p.Health.fail(f, time.Now()) {
			b.cfg.Logger.Warn("LLM provider left out", "backend", b.cfg.Name, "provider", p.label(), "reason", f.err)
		}
		return ofProvider(f.err)
	}
	defer func() { _ = resp.Body.Close() }() // all that can be learned was learned by reading
	if resp.StatusCode < http.StatusInternalServerError && resp.StatusCode != http.StatusTooManyRequests {
		p.Health.answered()
	} else {
		p.Health.unclaim()
	}
	if resp.StatusCode == http.StatusUnauthorized && !p.Credential.Passthrough {
		b.cfg.Logger.Error("LLM provider refuses the credential", "backend", b.cfg.Name, "provider", p.label())
		return fault.New(fault.UpstreamFailed, "the provider refuses the gateway's credential")
	}
	for name, values := range resp.Header {
		if name != "Set-Cookie" {
			w.Header()[name] = values
		}
	}
	removeHop(w.Header())
	body.last(w.Header())
	w.WriteHeader(resp.StatusCode)
	if err := a.copy(w, resp, clock); err != nil {
		rec.ErrorType, rec.Err = fault.Of(err).Code.String(), err
		panic(http.ErrAbortHandler) // or the client takes a broken answer for a whole one
	}
	return nil
}

// An upload is the body of a request that may outlast the answer to it.
type upload struct {
	io.ReadCloser
	connection bool // it is what the connection goes on after

	mu   sync.Mutex // held while it is read
	over bool       // nothing is read any more
	eof  atomic.Bool
}

// Read implements [io.Reader].
func (u *upload) Read(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := u.ReadCloser.Read(b)
	if err == io.EOF {
		u.eof.Store(true)
	}
	return n, err
}

// last says in the header of an answer that the connection ends with it, unless the body has
// ended; see stop.
func (u *upload) last(h http.Header) {
	if u != nil && u.connection && !u.eof.Load() {
		h["Connection"] = []string{"close"}
	}
}

// stop ends the reading. Of a body that has not ended nothing is read any more, by net/http
// neither, which in full duplex would take its end for that of the next request.
func (u *upload) stop(rc *http.ResponseController) {
	if !u.eof.Load() {
		_ = rc.SetReadDeadline(time.Unix(1, 0)) // a closed connection needs none
	}
	u.mu.Lock()
	u.over = true
	u.mu.Unlock()
}

// passTo returns the provider that gets a request as it is.
func (b *Backend) passTo(ctx context.Context, op *operation) (*Provider, error) {
	var unable error // of the first one: there is one, for its Route said so
	able := only(b.takers(b.cfg.Groups, op), func(p *Provider) bool {
		err := p.permitted(ctx)
		if p.Fault != nil {
			err = p.Fault
		}
		if unable == nil {
			unable = err
		}
		return err == nil
	})
	if len(able) == 0 {
		return nil, unable
	}
	return next(able, nil), nil
}

// copy passes on the body of an answer as it comes. A silence of the provider ends it; a client
// that reads slowly is not its fault.
func (a *attempt) copy(w http.ResponseWriter, resp *http.Response, clock *time.Timer) error {
	rc := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		clock.Reset(a.cfg.Clocks.Idle)
		n, err := resp.Body.Read(buf)
		clock.Stop()
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return gone(err)
			}
			if resp.ContentLength < 0 {
				if err := rc.Flush(); err != nil {
					return gone(err)
				}
			}
		}
		if err != nil {
			if err == io.EOF {
				return nil
			}
			f, err := a.lost(err)
			if f != nil {
				err = ofProvider(f.err)
			}
			return err
		}
	}
}

// passedTarget returns path and query of a client's request at the provider: what stands
// before the vendor's own path is the gateway's.
func (a *attempt) passedTarget(u *url.URL) string {
	path := u.EscapedPath()
	target := path
	if v, ok := a.vendor.(passer); ok && strings.Contains(path, "/v1/") && !strings.Contains(path, "/openai/") {
		target = v.passed(a.provider, path[strings.LastIndex(path, "/v1/"):])
	} else {
		for _, base := range []string{"/openai/", "/v1/", "/v1beta/", "/v1alpha/", "/v1beta1/"} {
			if i := strings.LastIndex(path, base); i >= 0 {
				target = path[i:]
				break
			}
		}
	}
	query := u.RawQuery
	if values := u.Query(); values.Has("key") { // which is Google's place for a credential
		values.Del("key")
		query = values.Encode()
	}
	switch {
	case query == "":
		return target
	case strings.Contains(target, "?"):
		return target + "&" + query
	default:
		return target + "?" + query
	}
}

// withheld are the headers of a client that no provider gets: credentials, and what tells of
// the client and of the way to the gateway.
var withheld = map[string]bool{
	"Authorization": true, "X-Api-Key": true, "Api-Key": true, "X-Goog-Api-Key": true, "Cookie": true, "Host": true, "Expect": true,
	"Origin": true, "Referer": true, "Forwarded": true, "Via": true, "X-Real-Ip": true, "True-Client-Ip": true,
	"Openai-Organization": true, "Openai-Project": true, "X-Goog-User-Project": true,
}

// passedHeader returns the headers that go to a provider with a request that is passed as it
// is.
func passedHeader(in http.Header) http.Header {
	h := make(http.Header, len(in))
	for name, values := range in {
		if !withheld[name] && !strings.HasPrefix(name, "X-Forwarded-") && !strings.HasPrefix(name, "Sec-") {
			h[name] = values
		}
	}
	removeHop(h)
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // or net/http sends its own
	}
	return h
}

// removeHop removes the headers that belong to one connection (RFC 9110 section 7.6.1).
func removeHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); httpguts.ValidHeaderFieldName(name) {
				h.Del(name)
			}
		}
	}
	for _, name := range []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(h, name)
	}
}
