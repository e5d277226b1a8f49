package llm

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/bits"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// minLent is from how many bytes on bodies are read into buffers that are used again. Smaller ones are
// gone with the next collection of garbage; large ones would double what the process holds until then.
const minLent = 256 << 10

// maxStep bounds how much more a body may take than what has come of it: a Content-Length is only
// what a client says.
const maxStep = 8

// classes is how many sizes of buffers there are: four between two powers of two.
const classes = 30

// lentBuffers are those that nobody uses, by class.
var lentBuffers [classes]sync.Pool

// class returns the class of the buffers for n bytes, and how large they are.
func class(n int) (i, size int) {
	shift := bits.Len(uint(n-1)) - 3
	quarter := (n-1)>>shift + 1 // 5 to 8 of them
	return 4*(shift+4-bits.Len(minLent)) + quarter - 8, quarter << shift
}

// A lent is a large buffer that is used again once nobody reads it any more: neither the query that read a body
// into it, nor a transport that was given it.
type lent struct {
	buf   []byte
	users atomic.Int32
}

func (l *lent) done() {
	if l == nil || l.users.Add(-1) > 0 || cap(l.buf) < minLent {
		return
	}
	i, size := class(cap(l.buf))
	if size == cap(l.buf) && i < classes {
		b := l.buf[:0]
		lentBuffers[i].Put(&b)
	}
}

// readBody reads r to its end. size is how many bytes will come, as far as that is known; -1: it is not.
// The result is in memory of its own unless there is a lent.
func readBody(r io.Reader, size int64) ([]byte, *lent, error) {
	if size < minLent || size > maxBody {
		b := make([]byte, 0, cmp.Or(max(size, 0), 512)+1) // where the end is read, too
		b, err := readOn(r, b, func(b []byte) []byte { return slices.Grow(b, len(b)) })
		return b, nil, err
	}
	i, whole := class(int(size) + 1)
	var b []byte
	if p, ok := lentBuffers[i].Get().(*[]byte); ok {
		b = *p
	} else {
		b = make([]byte, 0, whole/(maxStep*maxStep))
	}
	b, err := readOn(r, b, func(b []byte) []byte {
		next := 2 * cap(b)
		if cap(b) < whole {
			next = min(maxStep*cap(b), whole)
			if next*maxStep > whole {
				next = whole
			}
		}
		return append(make([]byte, 0, next), b...)
	})
	l := &lent{buf: b}
	l.users.Store(1)
	return b, l, err
}

// readOn reads r into b to the end of r.
func readOn(r io.Reader, b []byte, grow func([]byte) []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = grow(b)
		}
		n, err := r.Read(b[len(b):cap(b)])
		if b = b[:len(b)+n]; err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// A payload is what is sent to a provider, in pieces.
type payload struct {
	pieces [][]byte
	lent   *lent // of which pieces are parts; nil: of none
}

// size returns the length of the payload.
func (p payload) size() (n int64) {
	for _, b := range p.pieces {
		n += int64(len(b))
	}
	return n
}

// open returns a reader of the payload, which is to be closed.
func (p payload) open() (io.ReadCloser, error) {
	if p.lent != nil {
		p.lent.users.Add(1)
	}
	return &payloadReader{left: slices.Clone(p.pieces), lent: p.lent}, nil
}

var errPayloadClosed = errors.New("the body was read after it was closed")

// A payloadReader reads a payload. Transports may close it while they read.
type payloadReader struct {
	mu     sync.Mutex
	left   net.Buffers
	lent   *lent
	closed bool
}

func (r *payloadReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, errPayloadClosed
	}
	return r.left.Read(b)
}

func (r *payloadReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.left = nil
		r.lent.done()
	}
	return nil
}

// largeBody is from how many bytes on a body is large.
const largeBody = 1 << 20

// turn waits until a body of that size may be translated: large ones take several times their size for a moment, and more of them at once than there
// are processors would only take more memory. The turn ends with done.
func (b *Backend) turn(ctx context.Context, size int) (done func(), err error) {
	if size <= largeBody {
		return func() {}, nil
	}
	select {
	case b.turns <- struct{}{}:
		return func() { <-b.turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
