// Package authn establishes who calls: by JSON Web Tokens ([JWT]), API keys ([APIKeys]) or user and
// password ([Basic]). Each is a policy.Check, which package gateway compiles from the fields of
// TrafficPolicies and which runs before anything else is decided about a request.
//
// A check that finds a valid credential says so in the policy.Request: the principal, what rules can
// see as jwt.*, apiKey.* and basicAuth.*, and the header that is not to be sent on. One that
// does not, answers as its [Mode] says, with a challenge (RFC 6750, RFC 7617, RFC 9728). What can't be
// decided, for want of keys, is never decided in favour of the client.
//
// Nothing here contacts a server while a policy is compiled. Keys of issuers are fetched by
// [RemoteKeys], which package gateway runs beside the snapshots.
package authn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/policy"
)

// A Mode says what becomes of requests without a valid credential.
type Mode uint8

// The modes; the zero value is Strict.
const (
	Strict     Mode = iota // they are refused
	Optional               // refused with a credential that is not valid, passed without any
	Permissive             // passed
)

// A Location is the header that holds a credential, and the word in front of it. The zero Location is
// the Authorization header and Bearer.
type Location struct {
	Header string // in canonical form
	Prefix string // in any case; "" is none
}

func (l Location) header() (name, prefix string) {
	if l.Header == "" {
		return "Authorization", "Bearer"
	}
	return l.Header, l.Prefix
}

// find returns the credential of a request. It is missing where the header is, or holds one of
// another scheme; one that stands more than once is empty, which is never valid.
func (l Location) find(r *http.Request) (credential secret.Value, found bool) {
	name, prefix := l.header()
	values := r.Header[name]
	switch {
	case len(values) == 0:
		return secret.Value{}, false
	case len(values) > 1:
		return secret.Value{}, true
	}
	v := values[0]
	if prefix == "" {
		return secret.New(strings.TrimSpace(v)), true
	}
	if len(v) < len(prefix) || !strings.EqualFold(v[:len(prefix)], prefix) {
		return secret.Value{}, false
	}
	rest := v[len(prefix):]
	if rest != "" && rest[0] != ' ' {
		return secret.Value{}, false
	}
	return secret.New(strings.TrimSpace(rest)), true
}

// maxCredential bounds the length of a credential, in bytes.
const maxCredential = 16 << 10

// A Memory keeps what was verified lately, so that a client's next request costs a hash. It outlives
// configurations, holds credentials as keyed hashes only, and is safe for concurrent use.
type Memory struct {
	key       [32]byte
	tokens    *lru.Cache[[32]byte, *verified]
	passwords *lru.Cache[[32]byte, struct{}]
	// turns bounds how many passwords are checked at a time, which is made to be slow: there
	// has to be time left for other requests.
	turns *semaphore.Weighted
}

// How much a Memory keeps.
const (
	memoryTokens    = 4096
	memoryPasswords = 4096
	// maxRemembered bounds the length of a token that is kept, with its claims.
	maxRemembered = 4 << 10
)

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	m := &Memory{turns: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2)))}
	_, _ = rand.Read(m.key[:]) // never fails
	var err error
	if m.tokens, err = lru.New[[32]byte, *verified](memoryTokens); err != nil {
		panic(err) // the size is a positive constant
	}
	if m.passwords, err = lru.New[[32]byte, struct{}](memoryPasswords); err != nil {
		panic(err)
	}
	return m
}

// hash returns the place of what consists of parts.
func (m *Memory) hash(parts ...string) [32]byte {
	h := sha256.New()
	h.Write(m.key[:])
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p))))
		h.Write([]byte{':'})
		h.Write([]byte(p))
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// establish notes in req who calls. Where several ways to authenticate have succeeded, the principal is
// all of them.
func establish(req *policy.Request, location Location, principal string) {
	if req.Principal == "" || req.Principal == anonymous {
		req.Principal = principal
	} else {
		req.Principal += " " + principal
	}
	consume(req, location)
}

const anonymous = "anonymous"

// consume notes that the credential at location is the gateway's.
func consume(req *policy.Request, location Location) {
	name, _ := location.header()
	req.Consumed = append(req.Consumed, name)
}

// word returns s as one word of a principal, which no other s has.
func word(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) || s == "" {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// unauthenticated is the answer to a request without a valid credential. What was wrong is for
// the operator; the client learns it only so far as challenge says it.
func unauthenticated(challenge, message string, cause error) error {
	return &fault.Fault{
		Code: fault.Unauthenticated, Message: message, Err: cause,
		Header: http.Header{"Www-Authenticate": {challenge}, "Cache-Control": {"no-store"}},
	}
}

// The messages that a client reads.
const (
	messageMissing = "authentication required"
	messageInvalid = "authentication failed"
)

// Unavailable is what requests are answered whose credentials can't be checked: a Secret or key is
// missing. cause is for the operator.
func Unavailable(cause error) error {
	return fault.Wrap(fault.Unverifiable, cause, "authentication is not possible at the moment")
}

// Missing is the check in place of one that can't be made for want of a Secret: it refuses all.
type Missing struct {
	Cause error // for the operator
}

var _ policy.Check = Missing{}

// Check implements [policy.Check].
func (m Missing) Check(context.Context, *policy.Request) error { return unverifiable(m.Cause) }

// unverifiable is the answer to a credential that can't be checked at the moment.
func unverifiable(cause error) error {
	return &fault.Fault{
		Code: fault.Unverifiable, Message: "authentication is not possible at the moment", Err: cause, RetryAfter: retryAfter,
	}
}

// retryAfter is when a client may try again whose credential could not be checked.
const retryAfter = 5 * time.Second

// A result is what a check found, as it is counted.
type result string

const (
	accepted     result = "accepted"
	missing      result = "missing"
	invalid      result = "invalid"
	insufficient result = "insufficient_scope"
	undecided    result = "unverifiable"
)
