package session

import (
	"sync"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

const (
	// maxQueued and maxQueuedBytes bound what waits for one reader of a connection
	// that several share.
	maxQueued      = 256
	maxQueuedBytes = 4 << 20
)

// A mailbox holds the messages of a duplex for one call or one listener until it
// takes them.
type mailbox struct {
	mu    sync.Mutex
	queue []*protocol.Message
	bytes int
	err   error // why nothing more will come

	ready chan struct{} // has a token when there may be something to take
	space chan struct{} // has a token when there may be room again
	done  chan struct{} // closed when nobody takes any more
}

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1), space: make(chan struct{}, 1), done: make(chan struct{})}
}

// put adds m unless the box is full; force adds it all the same.
func (b *mailbox) put(m *protocol.Message, force bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := len(b.queue) >= maxQueued || len(b.queue) > 0 && b.bytes+len(m.Raw) > maxQueuedBytes
	if full && !force {
		return false
	}
	b.queue = append(b.queue, m)
	b.bytes += len(m.Raw)
	poke(b.ready)
	return true
}

// fail says that nothing more will come, and why.
func (b *mailbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	poke(b.ready)
}

// take returns the next message; nil and an error when none will come; nil and
// nil when there is none yet.
func (b *mailbox) take() (*protocol.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil, b.err
	}
	m := b.queue[0]
	b.queue[0] = nil
	b.queue = b.queue[1:]
	b.bytes -= len(m.Raw)
	poke(b.space)
	return m, nil
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
