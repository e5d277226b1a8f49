package session

import (
	"context"
	"time"
)

// A Sealer seals small texts (session ids, cursors, requestState) so that only a
// process with one of its keys can read or make them: AES-256-GCM under keys derived once by
// HKDF-SHA256. It is safe for concurrent use.
type Sealer struct{}

// NewSealer returns a Sealer that seals with keys[0] and opens with any of keys,
// 32 bytes each. Without keys it makes a random one.
func NewSealer(keys ...[]byte) (*Sealer, error) { panic("unwritten") }

// Seal returns plain sealed for one purpose ("session", "cursor", "state") and
// bound to aad, as base64url text.
func (s *Sealer) Seal(purpose string, plain, aad []byte) string { panic("unwritten") }

// Open reverses Seal; ok is false for anything that was not sealed for this purpose and
// aad by one of the keys. Everything after that is the caller's: expiry is in the plain text.
func (s *Sealer) Open(purpose, sealed string, aad []byte) (plain []byte, ok bool) {
	panic("unwritten")
}

// Sessions opens and keeps the sessions of legacy clients. What initialize fixed is in the sealed
// id and costs nothing here; opened ids are kept in an LRU; what came later (legs made or renewed after
// initialize, subscriptions, log level, being ended) is kept until the session
// expires. Safe for concurrent use.
type Sessions struct{}

// SessionsOptions bound a Sessions.
type SessionsOptions struct {
	Sealer *Sealer
	// Home is the address at which other replicas reach this one; may be empty.
	Home string
	// Cache is how many opened ids are kept; default 10,000.
	Cache int
	// Lifetime is the absolute life of a session; default 24h.
	Lifetime time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// NewSessions returns an empty Sessions.
func NewSessions(opts SessionsOptions) *Sessions { panic("unwritten") }

// Create seals a new session of the backend (namespace/name) for the client, with the legs that initialize
// opened, and returns it.
func (s *Sessions) Create(backend string, c Client, legs []*Leg) (*Session, error) {
	panic("unwritten")
}

// Open returns the session that id stands for. ok is false when the id is unknown, expired, ended, of another
// backend or of another isolation key: these are the same to the client (404).
func (s *Sessions) Open(id, backend, isolation string) (sess *Session, ok bool) { panic("unwritten") }

// Count returns how many opened sessions are held in memory.
func (s *Sessions) Count() int { panic("unwritten") }

// A Session is one legacy client's session. It is safe for concurrent use.
type Session struct{}

// ID returns the sealed id.
func (s *Session) ID() string { panic("unwritten") }

// Client returns what initialize fixed about the client.
func (s *Session) Client() Client { panic("unwritten") }

// Leg returns the session's leg to a target: the one that initialize opened, the one made since, or a
// new one.
func (s *Session) Leg(ctx context.Context, t *Target, f Forward) (*Leg, error) { panic("unwritten") }

// Live returns the part of the session that package federation keeps in this process (its GET stream,
// pending server→client requests, log level), made by create on first use.
func (s *Session) Live(create func() any) any { panic("unwritten") }

// Done is closed when the session is ended.
func (s *Session) Done() <-chan struct{} { panic("unwritten") }

// End ends the session and its legs.
func (s *Session) End(ctx context.Context) { panic("unwritten") }
