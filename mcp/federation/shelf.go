package federation

import (
	"crypto/sha256"
	"sync"

	"github.com/mcpgw/mcpgw/mcp/session"
)

// maxShelf bounds the lists that are kept for callers who are not listening, in bytes:
// beyond it, those that were not used for longest are dropped and fetched anew when
// they are asked for.
const maxShelf = 256 << 20

// A shelf holds each list once, however many callers are shown it: lists that are
// private to callers are mostly equal. Equal lists of one target are one pointer. It
// is safe for concurrent use.
type shelf struct {
	mu    sync.Mutex
	lists map[shelfKey]*list
	bytes int
}

// A shelfKey tells lists apart.
type shelfKey struct {
	target *session.Target
	scope  scope
	kind   kind
	digest [sha256.Size]byte
}

// put returns the list of that key: l, or the one that is there already. drop is
// called once for each put.
func (s *shelf) put(key shelfKey, l *list) *list {
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.lists[key]; had != nil {
		had.holders++
		return had
	}
	if s.lists == nil {
		s.lists = map[shelfKey]*list{}
	}
	l.key, l.holders = key, 1
	s.lists[key] = l
	s.bytes += l.size
	return l
}

func (s *shelf) drop(l *list) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.holders--; l.holders == 0 {
		delete(s.lists, l.key)
		s.bytes -= l.size
	}
}

// held returns how many bytes of lists there are.
func (s *shelf) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// trim drops entries that no stream shows, the least recently used first, while
// there is more on the shelf than may be.
func (h *Hub) trim() {
	if h.shelf.held() <= h.maxShelf {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.entries.Values() { // the oldest first
		if h.shelf.held() <= h.maxShelf {
			return
		}
		if e.streams.Load() == 0 {
			h.entries.Remove(e.key)
		}
	}
}
