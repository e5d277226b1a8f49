package federation

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// stateLifetime bounds how long a client may take to gather the input that a
// server asked for.
const stateLifetime = 30 * time.Minute

// What a sealed state begins with: it is the text of a modern target, or the id of
// a call that is parked here; or it says that the retry of a call follows visits
// to web pages.
const (
	stateTarget = "t"
	stateParked = "p"
	stateURLs   = "u"
)

// sealState wraps a target's requestState, so that only the caller that got it
// can bring it back, only to the target that made it, only with the same request,
// and only for a while (2026-07-28, Multi Round-Trip Requests, Server
// Requirements). The target's own text stays as it was.
func (q *request) sealState(target int, state string) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(q.b.hub.now().Add(stateLifetime).Unix()))
	digest := requestDigest(q.msg)
	plain = append(plain, digest[:]...)
	plain = append(plain, state...)
	return q.b.hub.opts.Sealer.Seal("state", plain, q.stateBinding(target))
}

// openState reverses sealState; ok is false for a state that is not this
// request's.
func (q *request) openState(target int, sealed string) (state string, ok bool) {
	plain, ok := q.b.hub.opts.Sealer.Open("state", sealed, q.stateBinding(target))
	if !ok || len(plain) < 8+sha256.Size {
		return "", false
	}
	if q.b.hub.now().Unix() > int64(binary.BigEndian.Uint64(plain)) {
		return "", false
	}
	digest := requestDigest(q.msg)
	if string(digest[:]) != string(plain[8:8+sha256.Size]) {
		return "", false
	}
	return string(plain[8+sha256.Size:]), true
}

func (q *request) stateBinding(target int) []byte {
	cfg := &q.b.cfg.Targets[target]
	return append(q.b.binding(q.client.Isolation), "\x00"+cfg.Name...)
}

// requestDigest identifies what a request asks for, whatever the order of its
// keys: its retry is written anew by the client.
func requestDigest(m *protocol.Message) [sha256.Size]byte {
	params := protocol.Splice(m.Params,
		protocol.Edit{Path: []string{"_meta"}},
		protocol.Edit{Path: []string{"inputResponses"}},
		protocol.Edit{Path: []string{"requestState"}})
	v := jsontext.Value(append([]byte(nil), params...))
	// What does not canonicalize is compared as it is.
	_ = v.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
	h := sha256.New()
	h.Write([]byte(m.Method))
	h.Write([]byte{0})
	h.Write(v)
	return [sha256.Size]byte(h.Sum(nil))
}
