package upstream

import (
	"bytes"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/internal/lookout"
)

// A leanConn is one connection of a lean client. One goroutine at a time uses it. It has a
// buffer only while there is something in it, or about to be.
type leanConn struct {
	net.Conn
	client  *lean
	address string
	raw     syscall.RawConn // nil when the connection has none
	since   time.Time       // when it became idle
	reused  bool
	served  int // requests that were answered to the end

	buf      []byte // buf[pos:end] was read and is not used yet; nil at rest
	pos, end int
	abort    func() // makes whatever is going on on the connection fail at once

	poll    func(fd uintptr) bool // turn, once it was needed
	request []byte                // that it is to send
	sent    int                   // how much of that it has sent
	polled  error                 // what it met
	noWait  bool                  // nothing is waited for: syscall.EAGAIN takes the place of that

	mu      sync.Mutex // guards these
	aborted bool       // abort was called
	resume  func()     // is called when there is something to read again
	watch   lookout.Watch
}

// readSize is the size of the buffer, until a header is larger.
const readSize = 4 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

func newLeanConn(conn net.Conn, client *lean, address string) (*leanConn, error) {
	c := &leanConn{Conn: conn, client: client, address: address}
	c.abort = func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // on a closed connection there is nothing to end
		c.mu.Lock()
		c.aborted = true
		c.mu.Unlock()
		c.wake()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return c, nil
	}
	var err error
	c.raw, err = s.SyscallConn()
	return c, err
}

// rest has resume called, in a goroutine of its own, when there is something to read, or abort is called.
func (c *leanConn) rest(resume func()) {
	c.mu.Lock()
	c.resume = resume
	aborted := c.aborted
	c.mu.Unlock()
	switch {
	case aborted:
		c.wake()
	case !c.client.lookout.Start(&c.watch, c.raw, c.wake):
		if resume := c.taken(); resume != nil {
			c.noWait = false // the next read waits
			go resume()
		}
	}
}

// wake calls what rest was given, once.
func (c *leanConn) wake() {
	if resume := c.taken(); resume != nil {
		go resume()
	}
}

// taken returns what rest was given, to the first who asks.
func (c *leanConn) taken() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	resume := c.resume
	c.resume = nil
	return resume
}

// buffered returns what was read and is not used yet.
func (c *leanConn) buffered() []byte { return c.buf[c.pos:c.end] }

// fill reads at least one byte more into the buffer, after what is in it.
func (c *leanConn) fill() error {
	switch {
	case c.buf == nil:
		c.buf = readBuffers.Get().(*[readSize]byte)[:]
	case c.pos == c.end:
		c.pos, c.end = 0, 0
	case c.end == len(c.buf) && c.pos > 0:
		c.pos, c.end = 0, copy(c.buf, c.buf[c.pos:c.end])
	case c.end == len(c.buf):
		grown := make([]byte, 2*len(c.buf))
		copy(grown, c.buf)
		c.recycle()
		c.buf = grown
	}
	n, err := c.Conn.Read(c.buf[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// release gives the buffer back if there is nothing in it.
func (c *leanConn) release() {
	if c.pos == c.end {
		c.recycle()
		c.buf, c.pos, c.end = nil, 0, 0
	}
}

func (c *leanConn) recycle() {
	if len(c.buf) == readSize {
		readBuffers.Put((*[readSize]byte)(c.buf))
	}
}

// line returns the next line without its end, of at most limit bytes. Ends that are a
// bare LF are refused where strict. What it returns is valid until the next read.
func (c *leanConn) line(limit int, strict bool) ([]byte, error) {
	searched := 0
	for {
		b := c.buffered()
		if i := bytes.IndexByte(b[searched:], '\n'); i >= 0 {
			line := b[:searched+i]
			c.pos += searched + i + 1
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			} else if strict {
				return nil, errChunk
			}
			if len(line) > limit {
				return nil, errChunk
			}
			return line, nil
		}
		if searched = len(b); searched > limit+1 {
			return nil, errChunk
		}
		if err := c.fill(); err != nil {
			return nil, cutOff(err)
		}
	}
}

// cutOff returns err, or what stands for it when the peer closed the connection in the
// middle of a message.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
