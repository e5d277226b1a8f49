package gateway

import (
	"bytes"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A wire is a client's connection that is read by the letter of RFC 9112 before
// net/http reads it, which accepts what another reader in front of or behind the gateway
// may frame in another way: Content-Length beside Transfer-Encoding, folded header
// lines, lines that end in a bare LF. A connection on which such a message is found fails from
// there on, and net/http answers 400 and closes it.
//
// A wire follows the framing of each message, so that it knows a head from a body.
// It steps aside for HTTP/2, which has no such ambiguities, and once the connection
// is hijacked. What it goes on to do is to bound how long a write may take.
type wire struct {
	net.Conn
	closed   func()
	patience time.Duration // how long one write may take, beside what its size allows; 0 is no bound
	writing  sync.Mutex    // held by a write
	atOnce   atOnce        // what it writes first with

	unread  []byte      // was read, and is to be read again first
	opaque  atomic.Bool // nothing is checked any more
	gone    atomic.Bool
	state   wireState
	left    uint64 // bytes left of a body or chunk
	line    []byte // what has been read of a line that is not complete
	err     error
	message struct {
		length  int64 // Content-Length, -1 without
		chunked bool
		old     bool // not HTTP/1.1
	}
}

type wireState uint8

const (
	wireStart     wireState = iota // before a request line
	wireHead                       // in the header section
	wireBody                       // in a body of known length
	wireChunkSize                  // before a chunk
	wireChunk                      // in a chunk
	wireChunkEnd                   // after a chunk's data
	wireTrailer                    // in the trailer section
)

// maxWireLine bounds what is kept of a line: more than any that is looked at needs.
// Longer lines are only followed to their end.
const maxWireLine = 1024

// Read implements net.Conn.
func (w *wire) Read(b []byte) (int, error) {
	if len(w.unread) > 0 {
		n := copy(b, w.unread)
		if w.unread = w.unread[n:]; len(w.unread) == 0 {
			w.unread = nil
		}
		return n, nil
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.Conn.Read(b)
	if !w.opaque.Load() {
		if w.err = w.follow(b[:n]); w.err != nil {
			return 0, w.err
		}
	}
	return n, err
}

// Write implements net.Conn. It gives up on a peer that does not read. What the kernel takes at once, as a rule
// all, needs no deadline, which would cost a timer a write.
func (w *wire) Write(b []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	n := w.writeAtOnce(b)
	if n == len(b) {
		return n, nil
	}
	b = b[n:]
	if w.patience > 0 {
		allowed := w.patience + time.Duration(len(b))*time.Second/slowest
		if err := w.Conn.SetWriteDeadline(time.Now().Add(allowed)); err != nil {
			return n, err
		}
	}
	more, err := w.Conn.Write(b)
	return n + more, err
}

// Close implements net.Conn.
func (w *wire) Close() error {
	if !w.gone.Swap(true) && w.closed != nil {
		w.closed()
	}
	return w.Conn.Close()
}

// CloseWrite lets net/http end a connection so that the peer still reads the last
// answer.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// stepAside ends the checking, as the connection speaks another protocol from now on.
func (w *wire) stepAside() { w.opaque.Store(true) }

func (w *wire) follow(b []byte) error {
	for len(b) > 0 && !w.opaque.Load() {
		switch w.state {
		case wireBody, wireChunk:
			n := min(uint64(len(b)), w.left)
			b, w.left = b[n:], w.left-n
			if w.left == 0 && w.state == wireBody {
				w.state = wireStart
			} else if w.left == 0 {
				w.state = wireChunkEnd
			}
			continue
		default:
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			if len(w.line) < maxWireLine {
				w.line = append(w.line, b...)
			} else {
				w.line[maxWireLine-1] = b[len(b)-1] // so that the end is known
			}
			return nil
		}
		line := b[:i]
		if len(w.line) > 0 {
			line = append(w.line, line...)
			w.line = w.line[:0]
		}
		b = b[i+1:]
		if len(line) == 0 || line[len(line)-1] != '\r' {
			return fault.New(fault.BadRequest, "a line ends without CR")
		}
		if err := w.takeLine(line[:len(line)-1]); err != nil {
			return err
		}
	}
	return nil
}

// takeLine takes one line, without its end.
func (w *wire) takeLine(line []byte) error {
	switch w.state {
	case wireStart:
		if len(line) == 0 {
			return nil // RFC 9112 section 2.2 has servers ignore an empty line here
		}
		if string(line) == "PRI * HTTP/2.0" {
			w.stepAside()
			return nil
		}
		w.message.length, w.message.chunked = -1, false
		w.message.old = !bytes.HasSuffix(line, []byte(" HTTP/1.1"))
		w.state = wireHead
	case wireHead:
		if len(line) == 0 {
			return w.endHead()
		}
		return w.takeField(line)
	case wireChunkSize:
		return w.startChunk(line)
	case wireChunkEnd:
		if len(line) != 0 {
			return fault.New(fault.BadRequest, "a chunk is longer than it says")
		}
		w.state = wireChunkSize
	case wireTrailer:
		if len(line) == 0 {
			w.state = wireStart
		} else if line[0] == ' ' || line[0] == '\t' {
			return fault.New(fault.BadRequest, "a header line is folded")
		}
	case wireBody, wireChunk: // follow has taken these
	}
	return nil
}

func (w *wire) takeField(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return fault.New(fault.BadRequest, "a header line is folded")
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(bytes.Trim(value, " \t")), 10, 63)
		if err != nil || w.message.length >= 0 && w.message.length != int64(n) {
			return fault.New(fault.BadRequest, "the Content-Length is malformed")
		}
		w.message.length = int64(n)
	case len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if w.message.chunked || !bytes.EqualFold(bytes.Trim(value, " \t"), []byte("chunked")) {
			return fault.New(fault.BadRequest, "the Transfer-Encoding is not served")
		}
		w.message.chunked = true
	}
	return nil
}

func (w *wire) endHead() error {
	m := &w.message
	switch {
	case m.chunked && m.length >= 0:
		return fault.New(fault.BadRequest, "the request has both Content-Length and Transfer-Encoding")
	case m.chunked && m.old:
		return fault.New(fault.BadRequest, "only HTTP/1.1 has Transfer-Encoding")
	case m.chunked:
		w.state = wireChunkSize
	case m.length > 0:
		w.state, w.left = wireBody, uint64(m.length)
	default:
		w.state = wireStart
	}
	return nil
}

func (w *wire) startChunk(line []byte) error {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 63)
	if err != nil || len(digits) == 0 || digits[0] == '+' {
		return fault.New(fault.BadRequest, "a chunk size is malformed")
	}
	if n == 0 {
		w.state = wireTrailer
		return nil
	}
	w.state, w.left = wireChunk, n
	return nil
}
