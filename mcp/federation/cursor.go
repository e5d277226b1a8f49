package federation

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/mcpgw/mcpgw/mcp/session"
)

// cursorLifetime bounds how long a walk through a list may rest.
const cursorLifetime = time.Hour

// A cursor is a place in a merged list: after which item of which target the
// next page begins. It holds names rather than numbers, so that the walk goes on
// at the same place when the catalogue has changed meanwhile; the numbers are
// for when even the item is gone. It is sealed: the client can't read or make
// one, and no other caller can use it.
type cursor struct {
	kind    kind
	made    int64  // Unix seconds
	ordinal uint32 // of the target
	index   uint32 // of the item within its target
	target  string
	item    [8]byte // of SHA-256 of the item's own name
}

func itemHash(own string) (h [8]byte) {
	sum := sha256.Sum256([]byte(own))
	copy(h[:], sum[:])
	return h
}

func (c *cursor) seal(s *session.Sealer, binding []byte) string {
	b := make([]byte, 0, 32+len(c.target))
	b = append(b, byte(c.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(c.made))
	b = binary.BigEndian.AppendUint32(b, c.ordinal)
	b = binary.BigEndian.AppendUint32(b, c.index)
	b = append(b, c.item[:]...)
	b = append(b, c.target...)
	return s.Seal("cursor", b, binding)
}

// openCursor reverses seal; ok is false for anything that is no cursor of this
// kind of list and this caller, or has expired.
func openCursor(s *session.Sealer, sealed string, k kind, binding []byte, now time.Time) (c cursor, ok bool) {
	b, ok := s.Open("cursor", sealed, binding)
	if !ok || len(b) < 25 || b[0] != byte(k) {
		return cursor{}, false
	}
	c = cursor{
		kind:    k,
		made:    int64(binary.BigEndian.Uint64(b[1:])),
		ordinal: binary.BigEndian.Uint32(b[9:]),
		index:   binary.BigEndian.Uint32(b[13:]),
		item:    [8]byte(b[17:25]),
		target:  string(b[25:]),
	}
	age := now.Unix() - c.made
	return c, age >= -60 && age <= int64(cursorLifetime/time.Second)
}
