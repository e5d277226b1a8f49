package session

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Sessions opens and keeps the sessions of legacy clients. What initialize
// fixed is in the sealed id and costs nothing here; opened ids are kept in an
// LRU; what came later (legs made or renewed after initialize, subscriptions,
// log level, being ended) is kept until the session expires, or until more
// sessions than Live have such parts: then the one that was not used for
// longest is ended, and its client starts anew. Safe for concurrent use.
type Sessions struct {
	opts   SessionsOptions
	opened *lru.Cache[string, *Session] // as they were sealed

	mu    sync.Mutex
	live  *simplelru.LRU[string, *Session] // with parts that are only here
	ended *simplelru.LRU[[16]byte, time.Time]
	swept time.Time

	coarse atomic.Int64 // counts sweeps
}

// SessionsOptions bound a Sessions.
type SessionsOptions struct {
	// Sealer seals the ids; default is one with a random key.
	Sealer *Sealer
	// Home is the address at which other replicas reach this one; may be empty.
	Home string
	// Cache is how many opened ids are kept; default 10,000.
	Cache int
	// Live is how many sessions with parts that are only in this process are
	// kept; default 10,000.
	Live int
	// Lifetime is the absolute life of a session; default 24h.
	Lifetime time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

const (
	defaultSessions = 10_000
	defaultLifetime = 24 * time.Hour
	// endedFactor times Live is how many ended sessions are remembered.
	endedFactor = 10
	sweepEvery  = time.Minute
	// idleSweeps is after how many sweeps an opened id that nobody used is let go.
	idleSweeps = 3
	// maxHome bounds the address of the home replica: what is sealed has a byte for its length.
	maxHome = 255
)

// NewSessions returns an empty Sessions.
func NewSessions(opts SessionsOptions) *Sessions {
	if opts.Cache <= 0 {
		opts.Cache = defaultSessions
	}
	if opts.Live <= 0 {
		opts.Live = defaultSessions
	}
	if opts.Lifetime <= 0 {
		opts.Lifetime = defaultLifetime
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Sealer == nil {
		opts.Sealer, _ = NewSealer() // fails for bad keys only
	}
	s := &Sessions{opts: opts, swept: opts.Now()}
	// The errors are for sizes that are not positive.
	s.opened, _ = lru.New[string, *Session](opts.Cache)
	s.live, _ = simplelru.NewLRU[string, *Session](opts.Live, nil)
	s.ended, _ = simplelru.NewLRU[[16]byte, time.Time](opts.Live*endedFactor, nil)
	return s
}

// aad returns what a session id is bound to.
func aad(backend, isolation string) []byte {
	b := make([]byte, 0, len(backend)+len(isolation)+4)
	b = appendBytes(b, backend)
	return append(b, isolation...)
}

// Create seals a new session of the backend (namespace/name) for the client,
// with the legs that initialize opened, and returns it. Legs that cannot be
// taken up elsewhere (stdio, HTTP+SSE, ids that are too long for a token) make
// it a session that lives in this process only.
func (s *Sessions) Create(backend string, c Client, legs []*Leg) (*Session, error) {
	if protocol.EraOf(c.Version) != protocol.Legacy {
		return nil, fault.Wrap(fault.Internal, errors.New("a session for a client that has none"), "internal error")
	}
	if len(s.opts.Home) > maxHome {
		return nil, fault.Wrap(fault.Misconfigured, errors.New("the address of this replica is too long"), "sessions are not configured correctly")
	}
	tok := &token{home: s.opts.Home, client: c, expires: s.opts.Now().Add(s.opts.Lifetime).Truncate(time.Second)}
	rand.Read(tok.nonce[:]) // never fails
	sess := &Session{
		all: s, nonce: tok.nonce, backend: backend, home: s.opts.Home, expires: tok.expires, client: &c, legs: slices.Clone(legs),
	}
	stay := false
	for _, l := range legs {
		state, portable := l.state()
		if portable {
			tok.legs = append(tok.legs, state)
		}
		stay = stay || !portable && l.Era() == protocol.Legacy
		l.setChanged(sess.keep)
	}
	plain, left := tok.encode()
	sess.id = s.opts.Sealer.Seal("session", plain, aad(backend, c.Isolation))
	s.sweep()
	if stay || tok.partial || len(left) > 0 {
		sess.keep()
	} // else its id is all there is to it, until it is used
	return sess, nil
}

// state returns what of the leg a token can hold; portable is false when there
// is nothing, or when it takes more than that to go on elsewhere.
func (l *Leg) state() (state legState, portable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state.target = l.t.id
	w, ok := l.w.(*legacyHTTP)
	if !ok {
		return state, false
	}
	state.revision, state.sid, state.endpoint = w.revision, w.sid, w.pin.Endpoint
	return state, true
}

func (l *Leg) setChanged(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = f
}

// Open returns the session that id stands for. ok is false when the id is
// unknown, expired, ended, of another backend or of another isolation key: these
// are the same to the client (404).
func (s *Sessions) Open(id, backend, isolation string) (sess *Session, ok bool) {
	return s.open(id, backend, isolation, true)
}

// Glance is Open for those who ask nothing of the session: it does not make it one
// that is held.
func (s *Sessions) Glance(id, backend, isolation string) (sess *Session, ok bool) {
	return s.open(id, backend, isolation, false)
}

func (s *Sessions) open(id, backend, isolation string, hold bool) (sess *Session, ok bool) {
	s.sweep()
	s.mu.Lock()
	sess, ok = s.live.Get(id)
	s.mu.Unlock()
	if !ok {
		sess, ok = s.opened.Get(id)
	}
	if ok {
		if !sess.AtHome() && s.hasEnded(sess.nonce) {
			return nil, false
		}
		if !s.opts.Sealer.Holds(id) || sess.backend != backend || sess.client.Isolation != isolation || sess.over() {
			return nil, false
		}
		sess.used.Store(s.coarse.Load())
		return sess, true
	}
	sess, ok = s.unseal(id, backend, isolation)
	if !ok || !hold {
		return sess, ok
	}
	sess.used.Store(s.coarse.Load())
	// Of those who open the same id at the same time, all get the same session.
	if first, ok, _ := s.opened.PeekOrAdd(sess.id, sess); ok {
		sess = first
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.live.Get(id); ok { // it was kept meanwhile
		return first, true
	}
	return sess, !s.ended.Contains(sess.nonce)
}

func (s *Sessions) hasEnded(nonce [16]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended.Contains(nonce)
}

// token returns what a sealed id says, unless it is expired or ended.
func (s *Sessions) token(id, backend, isolation string) (tok *token, legs []byte, ok bool) {
	if len(id) > maxToken {
		return nil, nil, false
	}
	plain, ok := s.opts.Sealer.Open("session", id, aad(backend, isolation))
	if !ok {
		return nil, nil, false
	}
	tok, legs, err := decodeToken(plain)
	if err != nil || !s.opts.Now().Before(tok.expires) {
		return nil, nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return tok, legs, !s.ended.Contains(tok.nonce)
}

func (s *Sessions) unseal(id, backend, isolation string) (*Session, bool) {
	tok, legs, ok := s.token(id, backend, isolation)
	if !ok || tok.partial { // what it lacks is in the process that made it, or nowhere
		return nil, false
	}
	tok.client.Isolation = strings.Clone(isolation)
	sess := &Session{
		all: s, id: strings.Clone(id), nonce: tok.nonce, backend: backend, home: tok.home,
		expires: tok.expires, client: &tok.client, sealed: legs,
	}
	return sess, true
}

// Home returns the address of the replica that made the session, for requests
// that only it can serve; "" when it has none. ok is as with Open, but for
// sessions whose parts are all at home.
func (s *Sessions) Home(id, backend, isolation string) (home string, ok bool) {
	tok, _, ok := s.token(id, backend, isolation)
	if !ok {
		return "", false
	}
	return tok.home, true
}

// Ended notes that the session of that nonce was ended in another process.
func (s *Sessions) Ended(nonce [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended.Add(nonce, s.opts.Now().Add(s.opts.Lifetime))
}

// Addr returns the address at which other replicas reach this one; may be empty.
func (s *Sessions) Addr() string { return s.opts.Home }

// Count returns how many opened sessions are held in memory.
func (s *Sessions) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened.Len() + s.live.Len()
}

// keep holds on to a session that has parts which are nowhere else.
func (s *Sessions) keep(sess *Session) {
	s.mu.Lock()
	if s.ended.Contains(sess.nonce) || s.live.Contains(sess.id) {
		// The other is the same session, opened twice because the cache is too
		// small. What it holds is there already.
		s.mu.Unlock()
		return
	}
	var out *Session
	if s.live.Len() >= s.opts.Live {
		_, out, _ = s.live.RemoveOldest()
		s.ended.Add(out.nonce, out.expires)
	}
	s.live.Add(sess.id, sess)
	s.mu.Unlock()
	s.opened.Remove(sess.id)
	if out != nil {
		out.finish()
	}
}

// forgetIdle lets go of opened ids that were not used of late: opening them again
// takes microseconds.
func (s *Sessions) forgetIdle(now int64) {
	for {
		id, sess, ok := s.opened.GetOldest()
		if !ok || now-sess.used.Load() < idleSweeps {
			return
		}
		s.opened.Remove(id)
	}
}

// sweep ends the sessions that expired, now and then.
func (s *Sessions) sweep() {
	now := s.opts.Now()
	s.mu.Lock()
	if now.Sub(s.swept) < sweepEvery {
		s.mu.Unlock()
		return
	}
	s.swept = now
	s.forgetIdle(s.coarse.Add(1))
	var expired []*Session
	for _, sess := range s.live.Values() {
		if !now.Before(sess.expires) {
			s.live.Remove(sess.id)
			expired = append(expired, sess)
		}
	}
	for _, nonce := range s.ended.Keys() {
		if at, _ := s.ended.Peek(nonce); !now.Before(at) {
			s.ended.Remove(nonce)
		}
	}
	s.mu.Unlock()
	for _, sess := range expired {
		sess.finish()
	}
}
