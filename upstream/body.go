package upstream

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// replayLimit bounds how much of a request's body is kept for another try.
const replayLimit = 64 << 10

// A source is the body of a request that comes from a client. One try after the
// other reads it through a [watchedBody], each from its beginning: what was read is kept
// while it may be wanted again and is not too much. Of a try that was given up a read may
// still be waiting for the client; what it gets is the next try's.
type source struct {
	body io.ReadCloser

	mu      sync.Mutex
	turn    sync.Cond   // a read has ended, or a try was given up
	limit   int         // how much is kept; nothing more once it is settled
	kept    []byte      // the beginning, unless lost
	lost    bool        // more was read than is kept
	err     error       // how the body ended; io.EOF is well
	trailer http.Header // of the client, complete once the body has ended well
	current *watchedBody
	settled bool // current is the last try
	reading bool
	release bool // the body is to be closed once nobody reads it
	closed  bool
	stopped bool // nothing is read any more
	// breaks says that to close the body ends a read that waits, as in HTTP/2: who reads then need not wait for a client that
	// says nothing.
	breaks bool
}

// A watchedBody is the body of a client's request as one try reads it. It remembers
// the client's mistakes, which the transport cannot tell from the upstream's, and
// stays open until it is settled, so that the request can be offered to another endpoint.
type watchedBody struct {
	*source
	off  int  // read of what is kept
	over bool // the try has ended
	// trailer is that of the try: the names that were announced and, once it has read the body, all that may be passed on. It is nil
	// where none are announced.
	trailer http.Header
}

// watchBody returns the body of a first try. Up to limit bytes are kept for others.
func watchBody(body io.ReadCloser, limit int) *watchedBody {
	b := &watchedBody{source: &source{body: body, limit: limit}}
	b.turn.L = &b.mu
	b.current = b
	return b
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.over || b.stopped:
			return 0, http.ErrBodyReadAfterClose
		case b.off < len(b.kept):
			n := copy(p, b.kept[b.off:])
			if b.off += n; b.settled && b.off == len(b.kept) {
				b.kept, b.off, b.lost = nil, 0, true
			}
			return n, nil
		case b.err != nil:
			b.trail()
			return 0, b.err
		case b.reading:
			b.turn.Wait()
		default:
			return b.readOn(p)
		}
	}
}

// readOn reads more of the body. The caller holds mu.
func (b *watchedBody) readOn(p []byte) (int, error) {
	b.reading = true
	b.mu.Unlock()
	n, err := b.body.Read(p)
	b.mu.Lock()
	b.reading = false
	switch {
	case n == 0:
	case b.current != b: // it was given up meanwhile
		b.kept = append(b.kept, p[:n]...)
	case b.lost:
	case b.settled || len(b.kept)+n > b.limit:
		b.kept, b.off, b.lost = nil, 0, true
	default:
		b.kept = append(b.kept, p[:n]...)
		b.off = len(b.kept)
	}
	if err != nil && !b.stopped && !b.closed && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.err = err
	}
	b.trail()
	_ = b.closeIfDue() // there is nobody to tell
	b.turn.Broadcast()
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.turn.Broadcast()
	b.release = b.release || b.settled && b.current == b
	return b.closeIfDue()
}

// settle says that the request is not sent again, so that a close is final.
func (b *watchedBody) settle() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
	if b.off == len(b.kept) {
		b.lost, b.kept, b.off = b.lost || b.off > 0, nil, 0
	}
	b.release = b.release || b.over
	_ = b.closeIfDue() // there is nobody to tell
}

// closeIfDue closes the body once that is wanted and nobody reads it. The caller holds mu.
func (s *source) closeIfDue() error {
	if s.release && s.reading && s.breaks && !s.closed {
		s.closed = true
		s.mu.Unlock()
		err := s.body.Close()
		s.mu.Lock()
		return err
	}
	if !s.release || s.closed || s.reading {
		return nil
	}
	s.closed, s.reading = true, true // net/http looks for the end of the body
	s.mu.Unlock()
	err := s.body.Close()
	s.mu.Lock()
	s.reading = false
	s.turn.Broadcast()
	return err
}

// failure returns the error that reading met; nil on a nil body.
func (b *watchedBody) failure() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// again returns a body for another try, which gives up this one; nil when more was read than is
// kept.
func (b *watchedBody) again() *watchedBody {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost || b.err != nil && b.err != io.EOF {
		return nil
	}
	b.over = true
	b.current = &watchedBody{source: b.source}
	if b.trailer != nil {
		b.current.trailer = announce(slices.Collect(maps.Keys(b.trailer)))
	}
	b.turn.Broadcast()
	return b.current
}

// unread reports whether the client may have more of the body to send.
func (b *watchedBody) unread() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == nil
}

// stop ends the reading, now that the handler of the request returns. Of a body that has not ended nothing
// is read any more, by net/http neither, which in full duplex would take its end for that of
// the next request: the caller has said in the head of the answer, or stop says in a head that has not gone, that
// there is none. In HTTP/2 a stream ends by itself.
func (b *watchedBody) stop(w http.ResponseWriter, r *http.Request) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if !b.reading {
		return
	}
	b.mu.Unlock()
	w.Header()["Connection"] = []string{"close"}                       // if the head has not gone
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // a closed connection needs none
	b.mu.Lock()
	for b.reading {
		b.turn.Wait()
	}
}

// ofClient returns the fault for an error in reading the body of a client's request.
func ofClient(err error) *fault.Fault {
	var f *fault.Fault
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &tooLarge):
		return fault.Wrap(fault.TooLarge, err, "the request body is over the limit of %d bytes", tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Wrap(fault.RequestTimeout, err, "the request body came too slowly")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return fault.Wrap(fault.ClientGone, err, "the client closed the request")
	default:
		return fault.Wrap(fault.BadRequest, err, "the request body is malformed")
	}
}
