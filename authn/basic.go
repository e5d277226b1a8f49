package authn

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/bcrypt"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

const (
	maxUsers = 10_000
	// Costs of bcrypt: each is twice as much work as the one before it, and anybody can cause it.
	maxBcryptCost = 12
	// maxPassword bounds the length of a password, in bytes: apr1 reads it a thousand times.
	maxPassword = 1024
	maxUser     = 255
)

// A User is a user whose password is known by its hash.
type User struct {
	Name string
	line string // as it was written, so that another password is another one
	hash htpasswd.EncodedPasswd
	cost int // of bcrypt, else 0
}

// ParseUser reads a line of an htpasswd file, USER:HASH. No error holds a part of the line.
func ParseUser(line string) (User, error) {
	name, hash, ok := strings.Cut(strings.TrimSpace(line), ":")
	switch {
	case !ok || name == "":
		return User{}, errors.New("it is not USER:HASH")
	case len(name) > maxUser:
		return User{}, fmt.Errorf("the user is longer than %d bytes", maxUser)
	}
	for _, accept := range []htpasswd.PasswdParser{htpasswd.AcceptBcrypt, htpasswd.AcceptMd5, htpasswd.AcceptSha, htpasswd.AcceptSsha} {
		h, err := accept(hash)
		if err != nil {
			return User{}, errors.New("the hash is malformed")
		}
		if h == nil {
			continue
		}
		if !strings.HasPrefix(hash, "$2") {
			return User{Name: name, line: hash, hash: h}, nil
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return User{}, errors.New("the hash is malformed")
		}
		if cost > maxBcryptCost {
			return User{}, fmt.Errorf("the hash has the cost %d, and at most %d is used: every attempt to log in takes that work", cost, maxBcryptCost)
		}
		return User{Name: name, line: hash, hash: h, cost: cost}, nil
	}
	return User{}, errors.New("the hash is of no kind that is used, which are bcrypt, apr1 and SHA-1: htpasswd -nB USER makes one")
}

// ParseUsers reads an htpasswd file. Empty lines and those that begin with # count as nothing. Lines that
// can't be used are left out: each of the errors names one, and holds no part of it.
func ParseUsers(file string) (users []User, ignored []error) {
	number := 0
	for line := range strings.Lines(file) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if len(users) == maxUsers {
			return users, append(ignored, fmt.Errorf("line %d: more than %d users are not used", number, maxUsers))
		}
		u, err := ParseUser(line)
		if err != nil {
			ignored = append(ignored, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		users = append(users, u)
	}
	return users, ignored
}

// Basic is the check of user and password (RFC 7617). It is immutable and safe for concurrent use.
type Basic struct {
	mode     Mode
	realm    string
	source   string
	users    map[string]User
	stranger User // in place of users that are not there, so that they take as long
	memory   *Memory
	metrics  *telemetry.Metrics
}

var _ policy.Check = (*Basic)(nil)

// NewBasic returns a check of users, of which of two with one name the first counts. source is
// the object that lists them, in which their names are unique. memory is needed to check requests.
func NewBasic(mode Mode, realm, source string, users []User, memory *Memory, m *telemetry.Metrics) *Basic {
	b := &Basic{mode: mode, realm: realm, source: source, users: map[string]User{}, memory: memory, metrics: m}
	for i, u := range users {
		if _, ok := b.users[u.Name]; !ok {
			b.users[u.Name] = u
		}
		if i == 0 || u.cost > b.stranger.cost {
			b.stranger = u
		}
	}
	return b
}

// Check implements [policy.Check]. Its faults are Unauthenticated, and Overloaded when more passwords
// wait to be checked than there is time for.
func (b *Basic) Check(ctx context.Context, req *policy.Request) error {
	location := Location{Header: "Authorization", Prefix: "Basic"}
	credential, found := location.find(req.HTTP)
	if !found {
		b.metrics.Authentication("basic", string(missing))
		if b.mode != Strict {
			return nil
		}
		return unauthenticated(b.challenge(), messageMissing, errNoPassword)
	}
	user, err := b.verify(ctx, credential.Reveal())
	switch {
	case err == nil:
	case errors.Is(err, errBusy):
		b.metrics.Authentication("basic", string(undecided))
		return &fault.Fault{Code: fault.Overloaded, Message: "authentication is not possible at the moment", Err: err, RetryAfter: retryAfter}
	default:
		b.metrics.Authentication("basic", string(invalid))
		if b.mode == Permissive {
			return nil
		}
		return unauthenticated(b.challenge(), messageInvalid, err)
	}
	b.metrics.Authentication("basic", string(accepted))
	req.User = user
	establish(req, location, "basic:"+word(b.source)+" "+word(user))
	return nil
}

func (b *Basic) challenge() string { return `Basic realm="` + b.realm + `", charset="UTF-8"` }

var (
	errNoPassword = errors.New("there are no user and password")
	errPassword   = errors.New("user or password is wrong")
	errBasic      = errors.New("the credential is not USER:PASSWORD in base64")
	errBusy       = errors.New("too many passwords wait to be checked")
)

// verify returns the user that a credential is of.
func (b *Basic) verify(ctx context.Context, credential string) (string, error) {
	if len(credential) > maxCredential {
		return "", errBasic
	}
	text, err := base64.StdEncoding.DecodeString(credential)
	if err != nil {
		return "", errBasic
	}
	name, password, ok := strings.Cut(string(text), ":")
	if !ok || len(name) > maxUser || len(password) > maxPassword {
		return "", errBasic
	}
	u, known := b.users[name]
	if !known {
		u = b.stranger
	}
	place := b.memory.hash(u.Name, u.line, password)
	if known && b.memory.passwords.Contains(place) {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if b.memory.turns.Acquire(ctx, 1) != nil {
		return "", errBusy
	}
	defer b.memory.turns.Release(1)
	if !u.hash.MatchesPassword(password) || !known {
		return "", errPassword
	}
	b.memory.passwords.Add(place, struct{}{})
	return name, nil
}
