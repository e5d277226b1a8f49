package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"

	"github.com/mcpgw/mcpgw/internal/lifetime"
)

// A framing says how the end of a body is known (RFC 9112 section 6.3).
type framing uint8

const (
	framedEmpty framing = iota
	framedLength
	framedChunked
	framedToEnd // of the connection
)

const (
	maxChunkLine = 4 << 10
	// maxChunkExcess bounds what chunks may hold beside data, beyond a fair share.
	maxChunkExcess = 16 << 10
	maxTrailer     = 4 << 10
)

var errChunk = errors.New("the chunked encoding is malformed")

// A leanBody is a response of a lean client, and its body. Read to its end it gives the connection
// back; closed before, it closes it. While it waits for more it holds no buffer.
type leanBody struct {
	resp http.Response
	conn *leanConn

	framing framing
	again   bool   // the connection can be used again after the body
	left    uint64 // bytes left of the body or chunk
	tail    bool   // the end of a chunk is to be read
	excess  int64  // see maxChunkExcess
	err     error  // what Read met; it stays

	mu    sync.Mutex
	ended bool
	hook  lifetime.Hook // on the context of the request, if it is a lifetime
	stop  func() bool   // on another; nil when there is none, or it can't end
}

// follow has the connection fail once ctx ends.
func (b *leanBody) follow(ctx context.Context) {
	if l, ok := ctx.(*lifetime.Lifetime); ok {
		l.Hook(&b.hook, b.conn.abort)
	} else if ctx.Done() != nil {
		b.stop = context.AfterFunc(ctx, b.conn.abort)
	}
}

// unfollow ends what follow began, and reports whether the connection was failed.
func (b *leanBody) unfollow() (failed bool) {
	if b.stop != nil {
		return !b.stop()
	}
	return !b.hook.Stop() && b.hook.Set()
}

// Read implements io.Reader.
func (b *leanBody) Read(p []byte) (n int, err error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	switch b.framing {
	case framedLength:
		n, err = b.readLength(p)
	case framedChunked:
		n, err = b.readChunks(p)
	case framedToEnd:
		n, err = b.readSome(p)
	case framedEmpty:
		err = io.EOF
	}
	if err != nil && err != syscall.EAGAIN {
		b.err = err
		b.end(err == io.EOF && b.again)
	}
	return n, err
}

// readSome reads what is in the buffer, or past it.
func (b *leanBody) readSome(p []byte) (int, error) {
	c := b.conn
	if c.pos == c.end {
		return c.Conn.Read(p)
	}
	n := copy(p, c.buffered())
	c.pos += n
	return n, nil
}

func (b *leanBody) readLength(p []byte) (int, error) {
	n, err := b.readSome(p[:min(uint64(len(p)), b.left)])
	b.left -= uint64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	default:
		return n, cutOff(err)
	}
}

// readChunks reads as much as is there of the data of chunks, and waits only for the first of it.
func (b *leanBody) readChunks(p []byte) (n int, err error) {
	c := b.conn
	for {
		there := c.buffered()
		switch {
		case len(there) == 0 && n > 0, n == len(p):
			return n, nil
		case len(there) == 0 && b.left >= readSize && len(p) >= readSize:
			n, err = c.Conn.Read(p[:min(uint64(len(p)), b.left)])
			b.took(n)
			return n, cutOff(err)
		case len(there) == 0:
			if err := c.await(); err != nil {
				return n, cutOff(err)
			}
		case b.left > 0:
			m := copy(p[n:], there[:min(uint64(len(there)), b.left)])
			c.pos += m
			n += m
			b.took(m)
		case n > 0 && bytes.IndexByte(there[min(2, len(there)):], '\n') < 0:
			return n, nil // the next chunk has not come yet
		default:
			if err := b.nextChunk(); err != nil {
				return n, err
			}
		}
	}
}

// took notes that n bytes of a chunk's data were read.
func (b *leanBody) took(n int) {
	b.left -= uint64(n)
	b.tail = b.left == 0
}

// nextChunk reads the end of one chunk and the head of the next; io.EOF after the last.
func (b *leanBody) nextChunk() error {
	c := b.conn
	if b.tail {
		if line, err := c.line(0, true); err != nil {
			return err
		} else if len(line) > 0 {
			return errChunk
		}
		b.tail = false
		if c.pos == c.end {
			if err := c.await(); err != nil {
				return cutOff(err)
			}
		}
	}
	line, err := c.line(maxChunkLine, true)
	if err != nil {
		return err
	}
	b.excess += int64(len(line)) + 2
	size, _, _ := bytes.Cut(line, []byte(";"))
	b.left, err = strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 63)
	if err != nil || size[0] == '+' || bytes.IndexByte(line, '\r') >= 0 {
		return errChunk
	}
	if b.left == 0 {
		return b.trailer()
	}
	b.excess = max(b.excess-16-2*int64(min(b.left, 1<<60)), 0)
	if b.excess > maxChunkExcess {
		return errChunk
	}
	return nil
}

// trailer reads the trailer section, and returns io.EOF after it.
func (b *leanBody) trailer() error {
	var text []byte
	for {
		line, err := b.conn.line(maxTrailer, true)
		switch {
		case err != nil:
			return err
		case len(line) == 0 && text == nil:
			return io.EOF
		case len(line) == 0:
			if b.resp.Trailer == nil {
				b.resp.Trailer = http.Header{}
			}
			if err := parseFields(string(text), b.resp.Trailer); err != nil {
				return err
			}
			return io.EOF
		case len(text)+len(line) > maxTrailer:
			return errHeaderTooLarge
		}
		text = append(append(text, line...), '\n')
	}
}

// NoWait implements [Rester]. Only chunks are read so: other streams of events are rare.
func (b *leanBody) NoWait() bool {
	b.conn.noWait = canRest && b.framing == framedChunked && b.conn.raw != nil
	return b.conn.noWait
}

// Rest implements [Rester].
func (b *leanBody) Rest(resume func()) { b.conn.rest(resume) }

// Close implements io.Closer. It may be called while Read waits, which then fails.
func (b *leanBody) Close() error {
	b.end(false)
	return nil
}

// end lets go of the connection: it is given back when it is good, else closed.
func (b *leanBody) end(good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	c := b.conn
	aborted := b.unfollow()
	if good && !aborted && c.pos == c.end {
		c.noWait = false
		c.client.lookout.Stop(&c.watch)
		c.release()
		c.client.put(c)
		return
	}
	_ = c.Conn.Close() // it is not used any more either way
	c.client.lookout.Stop(&c.watch)
}
