package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A token is what a sealed session id says: everything about a session that
// never changes after initialize. Backend and isolation key are not in it, the
// seal is bound to them.
type token struct {
	nonce   [16]byte // random; tells sessions apart
	expires time.Time
	home    string
	client  Client // without Isolation
	// partial says that parts of the client did not fit and are known to the home
	// replica alone.
	partial bool
	legs    []legState
}

// A legState is what a leg to a legacy HTTP target needs to go on in another
// process.
type legState struct {
	target   targetID
	revision string
	sid      string
	endpoint string
}

// A targetID stands for the Identity of a target.
type targetID [8]byte

func identify(identity string) targetID {
	sum := sha256.Sum256([]byte(identity))
	return targetID(sum[:8])
}

const (
	tokenVersion = 1
	// maxToken bounds a sealed session id, in bytes: it travels in a header.
	maxToken = 4 << 10
	// maxPlain is what fits into it.
	maxPlain = maxToken*3/4 - headerSize - tagSize
	// maxTokenLegs bounds the legs of one token.
	maxTokenLegs = 255

	flagPartial = 1
)

// revisions number the legacy revisions within a token, from 1.
var revisions = [...]string{
	protocol.Version20241105, protocol.Version20250326, protocol.Version20250618, protocol.Version20251125,
}

func revisionNumber(version string) byte {
	for i, v := range revisions {
		if v == version {
			return byte(i + 1)
		}
	}
	return 0
}

// encode returns tok as bytes, at most maxPlain of them. What does not fit is
// left out: legs one by one, then what describes the client. left are the legs that
// were left out.
func (tok *token) encode() (plain []byte, left []legState) {
	plain = tok.head(tok.client, 0)
	if len(plain)+1 > maxPlain {
		plain = tok.head(Client{Version: tok.client.Version}, flagPartial)
		tok.partial = true
	}
	count := len(plain)
	plain = append(plain, 0)
	for _, l := range tok.legs {
		grown := l.append(plain)
		if len(grown) > maxPlain || plain[count] == maxTokenLegs {
			left = append(left, l)
			continue
		}
		plain = grown
		plain[count]++
	}
	return plain, left
}

func (tok *token) head(c Client, flags byte) []byte {
	b := make([]byte, 0, 512)
	b = append(b, tokenVersion, flags)
	b = append(b, tok.nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(tok.expires.Unix()))
	b = append(b, revisionNumber(c.Version))
	b = appendBytes(b, tok.home)
	b = appendBytes(b, c.Capabilities)
	return appendBytes(b, c.Info)
}

func (l *legState) append(b []byte) []byte {
	b = append(b, l.target[:]...)
	b = append(b, revisionNumber(l.revision))
	b = appendBytes(b, l.sid)
	return appendBytes(b, l.endpoint)
}

func appendBytes[S ~string | ~[]byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

var errToken = errors.New("not a session token")

// decodeToken reverses encode, but for the legs: these it checks and returns as
// they were written. What it returns aliases plain.
func decodeToken(plain []byte) (tok *token, legs []byte, err error) {
	r := tokenReader{rest: plain}
	if r.byte() != tokenVersion {
		return nil, nil, errToken
	}
	tok = &token{partial: r.byte()&flagPartial != 0}
	copy(tok.nonce[:], r.next(len(tok.nonce)))
	if seconds := r.next(8); len(seconds) == 8 {
		tok.expires = time.Unix(int64(binary.BigEndian.Uint64(seconds)), 0)
	}
	tok.client.Version = r.revision()
	tok.home = string(r.bytes())
	tok.client.Capabilities = r.bytes()
	tok.client.Info = r.bytes()
	legs = r.rest
	for range r.byte() {
		r.leg()
		if r.bad {
			return nil, nil, errToken
		}
	}
	if r.bad || len(r.rest) != 0 {
		return nil, nil, errToken
	}
	return tok, legs, nil
}

// findLeg returns the leg to a target among those that decodeToken returned.
func findLeg(legs []byte, id targetID) (legState, bool) {
	r := tokenReader{rest: legs}
	for range r.byte() {
		if l := r.leg(); l.target == id && !r.bad {
			return l, true
		}
	}
	return legState{}, false
}

// A tokenReader reads the parts of a token; bad is set once one is missing.
type tokenReader struct {
	rest []byte
	bad  bool
}

func (r *tokenReader) next(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *tokenReader) byte() byte {
	if b := r.next(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *tokenReader) bytes() []byte {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	r.rest = r.rest[size:]
	b := r.next(int(n))
	if len(b) == 0 {
		return nil
	}
	return b
}

func (r *tokenReader) revision() string {
	n := int(r.byte())
	if n < 1 || n > len(revisions) {
		r.bad = true
		return ""
	}
	return revisions[n-1]
}

func (r *tokenReader) leg() legState {
	var l legState
	copy(l.target[:], r.next(len(l.target)))
	l.revision = r.revision()
	l.sid = string(r.bytes())
	l.endpoint = string(r.bytes())
	return l
}
