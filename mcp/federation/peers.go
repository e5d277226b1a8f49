package federation

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/lifetime"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// The replicas of a gateway serve each other's sessions. A session has a home, the
// replica that made it, where everything is that came after initialize. What needs
// that goes there, whichever replica the client reached; everything else runs where
// it arrives. What waits for a client (a question, a parked call, a stream to take
// up) has an id that names the replica it waits at, sealed.

// Headers of requests between replicas. Clients can't set them: the accept station
// takes away what begins like them.
const (
	// PeerHeader says what a request of another replica is about: PeerRequest, or
	// what [Hub.ServePeer] serves.
	PeerHeader = "X-Mcpgw-Peer"
	// PeerAddrHeader is the address at which the replica that asks is reached.
	PeerAddrHeader = "X-Mcpgw-Peer-Addr"

	// PeerRequest is a request of a client that is passed on.
	PeerRequest = "request"
	peerCall    = "call"  // a call runs away from the home of its session
	peerEnded   = "ended" // a session has ended
	peerOwn     = "own"   // a session has lists of its own, at home
	peerShared  = "shared"
)

const (
	// callMoment is how long a call runs away from home before home is told: most
	// have ended by then.
	callMoment = 200 * time.Millisecond
	// earlyFor is how long a cancellation is remembered that came before anybody
	// knew of the call; maxEarly bounds how many.
	earlyFor = 10 * time.Second
	maxEarly = 10_000
	// maxKnown bounds the replicas that are told of what has ended, tellTimeout how
	// long that may take.
	maxKnown    = 64
	tellTimeout = time.Second
	// maxPeerNote bounds what replicas say to each other beside requests of clients.
	maxPeerNote = 64 << 10
	// maxOwnID bounds an id of ours that a client gives back.
	maxOwnID = 1 << 10
	// carryBuffer is what a stream that is passed on takes.
	carryBuffer = 4 << 10
)

// An elsewhere is the error of a request that another replica has to serve.
type elsewhere struct {
	addr string
	// gone is what the client gets when that replica is no more; nil when it need not
	// know.
	gone error
	// instead, when set, answers in place of that.
	instead func(http.ResponseWriter) error
}

func (e *elsewhere) Error() string { return "another replica serves this" }

var errNoSession = fault.New(fault.NotFound, "session not found")

type peerKey struct{}

// FromPeer returns a context for a request that another replica passed on. It is
// served here or not at all.
func FromPeer(ctx context.Context) context.Context { return context.WithValue(ctx, peerKey{}, true) }

func fromPeer(ctx context.Context) bool { return ctx.Value(peerKey{}) != nil }

// addr returns the address at which other replicas reach this one, "" when there is none.
func (h *Hub) addr() string { return h.opts.Sessions.Addr() }

// other reports whether addr is the address of another replica.
func (h *Hub) other(addr string) bool { return addr != "" && addr != h.addr() }

// away returns the error for a request that another replica, the one at addr, has to
// serve: gone when it can't be passed on.
func (h *Hub) away(ctx context.Context, addr string, gone error) error {
	if addr == "" || fromPeer(ctx) || h.opts.Peers == nil {
		return gone
	}
	return &elsewhere{addr: addr, gone: gone}
}

// pass sends a request of a client to the replica that serves it.
func (h *Hub) pass(ctx context.Context, e *elsewhere, body []byte) (*http.Response, error) {
	rec := telemetry.FromContext(ctx)
	from := rec.Request
	u := *from.URL
	u.Scheme, u.Host = "https", e.addr
	r := (&http.Request{
		Method: from.Method, URL: &u, Host: from.Host, Header: from.Header.Clone(),
		Body: http.NoBody, ContentLength: int64(len(body)),
	}).WithContext(ctx)
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	for _, name := range []string{"Connection", "Content-Length", "Expect", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(r.Header, name)
	}
	r.Header[PeerHeader], r.Header[PeerAddrHeader] = []string{PeerRequest}, []string{h.addr()}
	rec.Peer = e.addr
	h.meet(e.addr)
	resp, err := h.opts.Peers.RoundTrip(r)
	switch {
	case err == nil:
		return resp, nil
	case ctx.Err() != nil:
		return nil, fault.Wrap(fault.ClientGone, ctx.Err(), "the client closed the request")
	}
	h.opts.Logger.WarnContext(ctx, "another replica can't be reached", "replica", e.addr, "error", err)
	return nil, e.gone
}

// carry has another replica serve the message.
func (q *request) carry(ctx context.Context, e *elsewhere) error {
	resp, err := q.b.hub.pass(ctx, e, q.msg.Raw)
	if resp == nil {
		if err == nil {
			return q.accepted()
		}
		return err
	}
	defer resp.Body.Close()
	if q.answer.batch || !q.answer.claim() {
		return q.merge(resp)
	}
	copyAnswer(q.answer.w, resp)
	return nil
}

// claim makes the response the caller's, who writes it; false says that it has
// begun.
func (s *sse) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return false
	}
	s.started, s.ended = true, true
	return true
}

// carryStream has another replica serve a GET.
func (b *Backend) carryStream(w http.ResponseWriter, r *http.Request, e *elsewhere) error {
	h := b.hub
	if h.streamCount.Add(1) > maxStreams {
		h.streamCount.Add(-1)
		return &fault.Fault{Code: fault.Overloaded, Message: "too many streams are open", RetryAfter: 5 * time.Second}
	}
	detach(r.Context(), w, func(ctx context.Context) {
		defer h.streamCount.Add(-1)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.drained, cancel)()
		resp, err := h.pass(ctx, e, nil)
		if err != nil && e.instead != nil && ctx.Err() == nil {
			err = e.instead(w)
		}
		if resp == nil {
			if err != nil {
				b.WriteError(w, r, err)
			}
			return
		}
		defer resp.Body.Close()
		copyAnswer(w, resp)
	})
	return nil
}

// carryRequest has another replica serve a request that is no message, or one of
// the HTTP+SSE transport.
func (b *Backend) carryRequest(w http.ResponseWriter, r *http.Request, e *elsewhere, body []byte) error {
	resp, err := b.hub.pass(r.Context(), e, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	copyAnswer(w, resp)
	return nil
}

// copyAnswer passes on what another replica answers, as it comes.
func copyAnswer(w http.ResponseWriter, resp *http.Response) {
	h := w.Header()
	for name, values := range resp.Header {
		if name != "Date" && name != "Trailer" && !strings.HasPrefix(name, PeerHeader) {
			h[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	rc := http.NewResponseController(w)
	if resp.ContentLength != 0 || resp.StatusCode == http.StatusOK {
		_ = rc.Flush() // the client may wait for the head
	}
	buf := make([]byte, carryBuffer)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil || rc.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// merge passes on what another replica answers as part of an answer that has begun,
// or that is one of several.
func (q *request) merge(resp *http.Response) error {
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		for r := events.NewReader(resp.Body, maxBody); ; {
			ev, err := r.Next()
			if err != nil {
				return nil // the response was there, or nobody has it
			}
			if len(ev.Data) == 0 {
				continue
			}
			m, err := protocol.Parse(bytes.Clone(ev.Data), protocol.Limits{})
			if err != nil {
				continue
			}
			if m.Kind == protocol.Response {
				err = q.answer.respond(http.StatusOK, m.Raw)
			} else {
				err = q.answer.emit(m.Raw)
			}
			if err != nil {
				return err
			}
		}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return errNoSession
	}
	switch m, err := protocol.Parse(body, protocol.Limits{}); {
	case resp.StatusCode == http.StatusAccepted:
		return q.accepted()
	case err == nil && m.Kind == protocol.Response:
		return q.answer.respond(http.StatusOK, m.Raw)
	default:
		return errNoSession
	}
}

// ownID returns an id for a request of the gateway to the client of a session. No
// client can know it before it is told; it names this replica.
func (l *live) ownID() protocol.ID {
	if l.h == nil || l.h.addr() == "" {
		return protocol.ID(`"mcpgw-` + rand.Text() + `"`)
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	sealed := l.h.opts.Sealer.Seal("ask", append(random[:], l.h.addr()...), l.nonce[:])
	return protocol.ID(`"mcpgw-` + sealed + `"`)
}

// waits returns the address of the replica at which the answer to the id of ours
// is waited for, "" when it is none of ours, or this one's.
func (l *live) waits(id protocol.ID) string {
	text, ok := strings.CutPrefix(string(id), `"mcpgw-`)
	if !ok || len(text) > maxOwnID || l.h.addr() == "" {
		return ""
	}
	plain, ok := l.h.opts.Sealer.Open("ask", strings.TrimSuffix(text, `"`), l.nonce[:])
	if !ok || len(plain) <= 16 {
		return ""
	}
	return string(plain[16:])
}

// A callID stands for a request of a session's client.
type callID [sha256.Size]byte

func callOf(nonce [16]byte, id protocol.ID) callID {
	return sha256.Sum256(append(nonce[:], id...))
}

// cancelEarly remembers the cancellation of a call that nobody knows of yet.
func (h *Hub) cancelEarly(nonce [16]byte, id protocol.ID) {
	h.early.Add(callOf(nonce, id), h.now())
}

func (h *Hub) wasCancelled(nonce [16]byte, id protocol.ID) bool {
	at, ok := h.early.Get(callOf(nonce, id))
	return ok && h.now().Sub(at) < earlyFor
}

// A peerNote is what a replica says to another.
type peerNote struct {
	Session [16]byte    `json:"session"`
	Call    protocol.ID `json:"call,omitempty"`
}

// note sends a note to another replica, and waits for its answer until ctx ends.
func (h *Hub) note(ctx context.Context, addr, kind string, n peerNote) (status int, err error) {
	body, err := json.Marshal(n)
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header[PeerHeader], r.Header[PeerAddrHeader] = []string{kind}, []string{h.addr()}
	resp, err := h.opts.Peers.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// tellHome has the home of the session know of a call that runs here, once that has
// taken a moment, so that its cancellation finds it. cancel ends the call; ctx ends
// with it.
func (q *request) tellHome(ctx context.Context, cancel context.CancelFunc) (done func()) {
	h := q.b.hub
	if h.opts.Peers == nil || q.sess.AtHome() || fromPeer(ctx) {
		return func() {}
	}
	id, nonce, home := q.msg.ID, q.sess.Nonce(), q.sess.Home()
	var telling sync.WaitGroup
	telling.Add(1)
	timer := time.AfterFunc(callMoment, func() {
		defer telling.Done()
		if status, err := h.note(ctx, home, peerCall, peerNote{Session: nonce, Call: id}); err == nil && status == http.StatusOK {
			cancel()
		}
	})
	return func() {
		cancel()
		if !timer.Stop() {
			telling.Wait()
		}
	}
}

// ServePeer serves what another replica says of its own: PeerHeader tells what.
func (h *Hub) ServePeer(w http.ResponseWriter, r *http.Request) {
	var n peerNote
	if err := json.NewDecoder(io.LimitReader(r.Body, maxPeerNote)).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.Meet(r)
	switch r.Header.Get(PeerHeader) {
	case peerCall:
		w.WriteHeader(h.peerCall(r.Context(), n))
	case peerOwn:
		h.moved.Add(n.Session, struct{}{})
		w.WriteHeader(http.StatusNoContent)
	case peerShared:
		h.moved.Remove(n.Session)
		w.WriteHeader(http.StatusNoContent)
	case peerEnded:
		h.forget(n.Session)
		h.opts.Sessions.Ended(n.Session)
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "not known", http.StatusNotFound)
	}
}

// peerCall waits until a call that runs at another replica has ended, or is
// cancelled, which the status tells.
func (h *Hub) peerCall(ctx context.Context, n peerNote) int {
	l := h.enter(n.Session, nil)
	defer h.leave(l)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var life lifetime.Lifetime
	life.BeginApart(ctx)
	defer life.End(nil)
	done, ok := l.beginRemote(n.Call, &life)
	if !ok {
		return http.StatusServiceUnavailable
	}
	defer done()
	defer context.AfterFunc(h.drained, cancel)()
	if h.wasCancelled(n.Session, n.Call) {
		return http.StatusOK
	}
	select {
	case <-life.Done():
		return http.StatusOK
	case <-ctx.Done():
		return http.StatusNoContent
	}
}

// Meet notes the replica that sent r.
func (h *Hub) Meet(r *http.Request) { h.meet(r.Header.Get(PeerAddrHeader)) }

func (h *Hub) meet(addr string) {
	if addr != "" && addr != h.addr() {
		h.known.Add(addr, struct{}{})
	}
}

// forget ends what this process has under way for a session that has ended.
func (h *Hub) forget(nonce [16]byte) {
	l := h.enter(nonce, nil)
	l.end()
	h.leave(l)
	h.trails.forget(nonce)
}

// tellPeers tells the replicas that are known here of a session that they could
// serve without asking: that it has ended, or has lists of its own.
func (h *Hub) tellPeers(ctx context.Context, kind string, nonce [16]byte) {
	if h.opts.Peers == nil || h.addr() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	var telling sync.WaitGroup
	for _, addr := range h.known.Keys() {
		telling.Go(func() {
			if _, err := h.note(ctx, addr, kind, peerNote{Session: nonce}); err != nil {
				h.known.Remove(addr) // until it is heard of again
			}
		})
	}
	telling.Wait()
}

// enter returns what a session has under way in this process, for a use that ends
// with leave. sess is nil where only its nonce is known.
func (h *Hub) enter(nonce [16]byte, sess *session.Session) *live {
	h.living.Lock()
	defer h.living.Unlock()
	l := h.lives[nonce]
	if l == nil {
		if sess != nil {
			l, _ = sess.Peek().(*live)
		}
		if l == nil {
			l = &live{h: h, nonce: nonce}
		}
		h.lives[nonce] = l
	}
	l.users++
	return l
}

func (h *Hub) leave(l *live) {
	h.living.Lock()
	defer h.living.Unlock()
	if l.users--; l.users == 0 {
		delete(h.lives, l.nonce)
	}
}

// hold keeps l for as long as the session lasts.
func (l *live) hold(sess *session.Session) { sess.Live(func() any { return l }) }

// carried serves a request that belongs elsewhere, if err says so.
func (q *request) carried(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var e *elsewhere
	if errors.As(err, &e) {
		return q.carry(ctx, e)
	}
	return err
}
