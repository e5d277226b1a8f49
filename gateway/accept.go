package gateway

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
	"github.com/mcpgw/mcpgw/upstream"
)

// Limits on what a client sends before anybody looks at it.
const (
	maxHeaderBytes = 64 << 10
	maxHeaderLines = 100
	maxTarget      = 8 << 10
	maxRequestID   = 128
)

// internalPrefix begins the names of headers that only the gateway sets.
const internalPrefix = "X-Mcpgw-"

// A front is the accept station of one port: the http.Handler of its server.
type front struct {
	server *Server
	port   int
	base   context.Context // ends when the port is closed; of those a lifetime
	// peer says that another replica passes requests on, and accounts for them; backend
	// is the one that it chose.
	peer    bool
	backend string
	changes *policy.Changes // of services, at the replica that passes the request on
}

// An exchange is all that the stations keep of one request.
type exchange struct {
	rec     telemetry.Record
	life    *lifetime.Lifetime // ended with the request; nil before it is routed, and where the connection ends it
	writer  responseWriter
	body    requestBody
	request policy.Request
	// render answers an error in the protocol of the backend, once there is one.
	render func(http.ResponseWriter, *http.Request, error)
	cancel context.CancelFunc
	// streams ends when the drain begins.
	streams context.Context
	logged  logged
	sending upstream.Sending
	idle    *idleness // nil where nothing ends it
	// still is for how long nothing may move where the rule does not say it, of requests to services.
	still *lifetime.Watchdog
	// port ends when the port is closed.
	port context.Context
	// left says that the answer goes on without the goroutine that began it.
	left bool
	// processed says that an external processor has had the request: it goes through one.
	processed bool
	// peer and backend are those of the front.
	peer    bool
	backend string
}

// ServeHTTP implements [http.Handler]: it takes a request through the stations and
// accounts for it once.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := f.server
	s.inflight.enter()
	x := &exchange{streams: s.streams, port: f.base, still: &s.still, peer: f.peer, backend: f.backend}
	x.rec.Start = time.Now()
	x.rec.Request = r
	x.writer = responseWriter{ResponseWriter: w, rec: &x.rec, request: &x.request}
	if s.opts.Account != nil && !x.peer {
		s.opts.Account.Begin(&x.rec)
	}
	defer s.finish(x)

	err := f.serve(x, r)
	if err == nil && x.writer.detached != nil {
		x.left = true
		go x.writer.detached.run(s, x, f.base)
	}
	if err == nil {
		return
	}
	flt := fault.Of(err)
	x.fail(flt, err)
	x.logged.reply = flt.Message
	if x.writer.wrote || flt.Code == fault.ClientGone {
		panic(http.ErrAbortHandler)
	}
	if x.body.slow {
		w.Header()["Connection"] = []string{"close"} // nobody knows where the next request begins
	}
	x.writer.modifiers = [3][]headerModifier{2: x.writer.modifiers[2]} // pages may read why
	if fault.IsGRPC(r) {
		flt.WriteGRPC(&x.writer)
		return
	}
	if x.render != nil {
		x.render(&x.writer, r.WithContext(telemetry.NewContext(r.Context(), &x.rec)), err)
		return
	}
	flt.WriteText(&x.writer)
}

// fail notes why the request failed, unless that is known better.
func (x *exchange) fail(f *fault.Fault, err error) {
	if x.rec.ErrorType == "" {
		x.rec.ErrorType = f.Code.String()
	}
	if x.rec.Err == nil {
		x.rec.Err = err
	}
	if f.Code == fault.ClientGone && x.rec.Status == 0 {
		x.rec.Status = f.Code.Status()
	}
}

// blame corrects who ended the request: on a port that is closed it was not the client that left.
func (x *exchange) blame() {
	if x.rec.ErrorType != fault.ClientGone.String() || x.port.Err() == nil {
		return
	}
	x.rec.ErrorType, x.rec.Err = fault.Draining.String(), errDraining
	if x.rec.Status == fault.ClientGone.Status() {
		x.rec.Status = fault.Draining.Status()
	}
}

// finish ends the account of a request, whatever became of it, once its handler returns.
func (s *Server) finish(x *exchange) {
	x.body.release() // once the handler has returned there is nothing to set a deadline on
	if !x.writer.taken {
		x.body.abandon()
	}
	noteReset(x.rec.Request)
	if !x.left && s.end(x, recover()) {
		panic(http.ErrAbortHandler)
	}
}

// end ends the account of a request whose handler panicked with v, which is nil if it did not. It
// reports whether the connection is of no use any more.
func (s *Server) end(x *exchange, v any) (abort bool) {
	abort = v == http.ErrAbortHandler //nolint:errorlint // net/http compares it so, too
	if v != nil && !abort {
		err := fmt.Errorf("panic: %v", v)
		x.fail(fault.Wrap(fault.Internal, err, "internal error"), err)
		s.metrics().Panic()
		s.logger.Error("request panicked", slog.Any("panic", v), slog.String("request_id", x.rec.RequestID), slog.String("stack", string(debug.Stack())))
		if abort = x.writer.wrote; !abort {
			fault.New(fault.Internal, "internal error").WriteText(&x.writer)
		}
	}
	if x.cancel != nil {
		x.cancel()
	}
	x.idle.end()
	x.retried()
	if x.life != nil {
		x.life.End(nil)
	}
	if x.rec.Status == 0 && !abort {
		x.rec.Status = http.StatusOK // what net/http sends when nothing was written
	}
	x.blame()
	x.rec.Duration = time.Since(x.rec.Start)
	if x.rec.Traced() {
		x.rec.Facts = &x.request
	}
	x.logged.write(x)
	switch {
	case x.peer:
		x.tellPeer()
		if s.opts.Account != nil {
			s.opts.Account.Passed(&x.rec)
		}
	case s.opts.Account != nil:
		s.opts.Account.End(&x.rec)
	}
	s.inflight.leave()
	return abort
}

// retried notes how often requests were tried again.
func (x *exchange) retried() {
	tried, over := x.sending.Retries()
	x.rec.Retries += tried
	x.rec.Unretried += over
	if x.rec.Attempts > 0 { // those of MCP are not counted
		x.rec.Attempts += tried
	}
}

// serve takes the request through accept, match and admit to its backend.
func (f *front) serve(x *exchange, r *http.Request) error {
	if err := x.accept(r, f); err != nil {
		return err
	}
	snapshot := f.server.snapshot.Load()
	p := snapshot.ports[f.port]
	if p == nil {
		return fault.New(fault.NotFound, "listener not found")
	}
	if p.tls {
		x.request.Scheme = "https"
		if r.TLS == nil {
			r.TLS, _ = r.Context().Value(tlsStateKey{}).(*tls.ConnectionState)
		}
	}
	if r.Host == "" && isOld(r) {
		r.Host, x.request.Host = p.oldHost, p.oldHost
	}
	l := p.listener(x.request.Host)
	if l == nil {
		return fault.New(fault.NotFound, "listener not found")
	}
	x.rec.Gateway, x.rec.Listener = l.gateway, l.name
	x.request.Gateway, x.request.Passed, x.request.Carried = l.gateway, x.peer, f.changes
	if answered, err := l.edge.enter(x, r, f.server.Ready()); answered || err != nil {
		return err
	}
	if p.tls && !x.peer && !p.directed(l, x.request.Host, r.TLS) {
		return errMisdirected
	}
	x.rec.Trace(l.tracer)
	life, ok := r.Context().(*lifetime.Lifetime)
	if !ok { // it is not the lifetime that a lean connection has given the request
		life = new(lifetime.Lifetime)
		life.Begin(r.Context())
		x.life = life
	}
	ctx := l.edge.forwarding(telemetry.NewContext(life, &x.rec))
	return x.route(ctx, &x.writer, p, l)
}

// route takes the request through match and admit to its backend, which answers to w, as often as a service has its route be
// chosen again.
func (x *exchange) route(ctx context.Context, w http.ResponseWriter, p *port, l *listener) error {
	for {
		err := x.routeOnce(ctx, w, p, l)
		if err != policy.ErrRerouted { //nolint:errorlint // it is not wrapped
			return err
		}
	}
}

func (x *exchange) routeOnce(ctx context.Context, w http.ResponseWriter, p *port, l *listener) error {
	r := x.request.HTTP
	m := l.router.find(x.request.Host, r)
	if m == nil {
		return fault.New(fault.NotFound, "route not found")
	}
	x.rec.Route, x.rec.Rule, x.rec.Path = m.rule.route, m.rule.name, m.written()
	x.rec.Events().Add(telemetry.RouteMatched, "")
	x.request.Endpoint = m.endpoint
	if m.rule.metadata != nil {
		return m.rule.metadata.Serve(w, &x.request)
	}
	x.writer.modifiers[2] = nil
	if c := m.rule.cors; c != nil && len(r.Header["Origin"]) > 0 && !x.peer {
		if isPreflight(r) {
			c.preflight(w, r)
			return nil
		}
		x.writer.modifiers[2] = c.answer(r)
	}
	if p.loopback && !x.peer {
		if err := m.checkPage(r); err != nil {
			return err
		}
	}
	if isPreflight(r) && m.rule.mcp() {
		return x.forward(ctx, w, m, p, l, r) // browsers send no credential with it, and it does nothing
	}
	admitted, err := m.rule.policy.Admit(ctx, &x.request)
	r = x.request.HTTP
	if x.request.Principal != anonymous {
		x.rec.Principal = x.request.Principal
	}
	if err != nil {
		m.rule.crossOrigin(x.writer.Header(), r)
		return err
	}
	x.rec.Events().Add(telemetry.PoliciesPassed, "")
	return x.forward(admitted, w, m, p, l, r)
}

var errMisdirected = fault.New(fault.Misdirected, "the connection is for another host")

const anonymous = "anonymous"

// isPreflight reports whether a browser asks by r if a page may send a request (Fetch,
// CORS-preflight request).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) > 0 && len(r.Header["Access-Control-Request-Method"]) > 0
}

// crossOrigin lets a page of an origin that may use the MCP backends of the rule read why its
// request is refused: a client in a browser needs the challenge.
func (r *rule) crossOrigin(h http.Header, req *http.Request) {
	if !r.mcp() {
		return
	}
	if b, ok := r.backends[0].to.backend.(*federation.Backend); ok {
		b.AllowOrigin(h, req)
	}
}

// accept checks the head of the request and notes what is known of it.
func (x *exchange) accept(r *http.Request, f *front) error {
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil {
		x.rec.Source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
	}
	err = checkHeaders(r.Header)
	x.rec.RequestID = requestID(r)
	x.writer.Header()["X-Request-Id"] = r.Header["X-Request-Id"]
	if len(r.RequestURI) > maxTarget {
		return fault.New(fault.URITooLong, "the request target is over the limit of %d bytes", maxTarget)
	}
	if err != nil {
		return err
	}
	if !x.peer {
		if err := checkTarget(r); err != nil {
			return err
		}
	}
	if err := checkPath(r.URL); err != nil {
		return err
	}
	host, ok := hostOf(r.Host)
	if !ok {
		return fault.New(fault.BadRequest, "the Host header is malformed")
	}
	x.request = policy.Request{
		HTTP: r, Host: host, Scheme: "http", Source: x.rec.Source, Client: policy.Client{Principal: anonymous}, ID: x.rec.RequestID, Time: x.rec.Start,
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.body.ReadCloser, x.body.rec, x.body.w, x.body.grace, x.body.port = r.Body, &x.rec, x.writer.ResponseWriter, &f.server.bodies, f.base
		if b, ok := r.Body.(*leanRequestBody); ok && b.there() {
			x.body.grace = nil // it came with the head: nobody is waited for
		}
		r.Body = &x.body
	}
	return nil
}

// checkHeaders enforces the limits on the headers and takes away those that only the
// gateway may set.
func checkHeaders(h http.Header) error {
	size, lines := 0, 0
	underscores, twice := false, ""
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
		lines += len(values)
		underscores = underscores || strings.IndexByte(name, '_') >= 0
		if len(values) > 1 && (name == "Authorization" || name == "Content-Type") {
			twice = name
		}
		if strings.HasPrefix(name, internalPrefix) {
			delete(h, name)
		}
	}
	switch {
	case size > maxHeaderBytes:
		return fault.New(fault.HeadersTooLarge, "the headers are over the limit of %d bytes", maxHeaderBytes)
	case lines > maxHeaderLines:
		return fault.New(fault.HeadersTooLarge, "the request has more than %d header lines", maxHeaderLines)
	case twice != "": // one reader takes the first, another the last (RFC 9110 section 5.3)
		return fault.New(fault.BadRequest, "the header %s stands more than once", twice)
	case underscores:
		return checkUnderscores(h)
	}
	return nil
}

// checkUnderscores refuses a header that another reader may take for one that is there,
// too: CGI and its heirs do not tell _ from -.
func checkUnderscores(h http.Header) error {
	for name := range h {
		if strings.IndexByte(name, '_') < 0 {
			continue
		}
		twin := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if _, ok := h[twin]; ok || strings.HasPrefix(twin, internalPrefix) {
			return fault.New(fault.BadRequest, "two headers differ only in _ and -")
		}
	}
	return nil
}

// requestID returns the X-Request-Id of r, which is set to a random UUID when there
// is none that can be kept.
func requestID(r *http.Request) string {
	if v := r.Header["X-Request-Id"]; len(v) == 1 && isRequestID(v[0]) {
		return v[0]
	}
	id := newUUID()
	r.Header["X-Request-Id"] = []string{id}
	return id
}

func isRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// newUUID returns a random UUID (RFC 9562, version 4). It names, it does not protect.
func newUUID() string {
	var b [16]byte
	for i := 0; i < 16; i += 8 {
		n := rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(n >> (8 * j))
		}
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}
