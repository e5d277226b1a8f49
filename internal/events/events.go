// Package events reads and writes server-sent events (WHATWG HTML, section 9.2), on
// both sides of the gateway: the streams of MCP and those of LLM dialects.
//
// Its central type is [Reader]. Packages mcp/session and llm read with it what
// targets and providers send, however that is cut into reads; mcp/federation and llm
// write with [Append]. Nothing here knows what an event says.
//
// It is a leaf: it imports the standard library only.
package events

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"syscall"
)

// Keepalive is the comment that keeps idle streams open.
const Keepalive = ": keep-alive\n\n"

// ErrTooLarge is the error of an event that is over its reader's limit.
var ErrTooLarge = errors.New("server-sent event is too large")

// An Event is one server-sent event.
type Event struct {
	Type string // "" means message
	ID   string // the id field of this very event, "" when it has none
	// Data is the data lines, joined by line feeds. It is nil when the event has
	// no data field, and empty when the field is. In what a reader returns it
	// aliases the reader's buffer and is valid until the next call of Next.
	Data []byte
	// Retry is the reconnection time in milliseconds, -1 when a read event has
	// none. Append writes it when it is positive.
	Retry int
}

// Append appends the wire form of ev to dst and returns the extended slice.
// Data with line breaks becomes several data lines; Type and ID, which can hold
// neither line breaks nor NUL, are written without them.
func Append(dst []byte, ev Event) []byte {
	if ev.Type != "" {
		dst = appendField(dst, "event: ", ev.Type)
	}
	if ev.ID != "" {
		dst = appendField(dst, "id: ", ev.ID)
	}
	if ev.Retry > 0 {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, int64(ev.Retry), 10)
		dst = append(dst, '\n')
	}
	for data, more := ev.Data, ev.Data != nil; more; {
		line := data
		if i := bytes.IndexAny(data, "\r\n"); i < 0 {
			more = false
		} else {
			line = data[:i]
			if data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n' {
				i++
			}
			data = data[i+1:]
		}
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
	}
	return append(dst, '\n')
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	for i := range len(value) {
		if c := value[i]; c != '\r' && c != '\n' && c != 0 {
			dst = append(dst, c)
		}
	}
	return append(dst, '\n')
}

const (
	defaultEventSize = 16 << 20 // of an event's data
	maxFieldSize     = 64 << 10 // of any other line that is kept
	minReadSize      = 1 << 8   // of the read buffer at first: most streams are silent
	maxReadSize      = 32 << 10 // and once reads fill it
	keepDataSize     = 64 << 10 // of a data buffer that outlives its event
)

// An Reader reads server-sent events (WHATWG HTML, section 9.2). However
// the stream is cut into reads, the same events come out, and an event comes out
// as soon as the line break of the empty line that ends it was read. It is not
// safe for concurrent use.
type Reader struct {
	r   io.Reader
	max int
	err error // what Next returns once the buffer is used up; it stays

	buf      []byte // buf[pos:end] was read and is not used yet
	pos, end int
	begun    bool // the byte order mark, if any, is behind us
	afterCR  bool // the last line ended in CR: an LF that follows belongs to it
	again    bool // the last read would have waited
	partly   bool // and an event, or nothing, was read so far when it did

	line     []byte // what earlier reads brought of a line that is collected
	lineKind lineKind
	event    pending
	lastID   string
	lastType string // spares an allocation for each event of the same type
}

// A lineKind says what becomes of a line of which only a part was read so far.
type lineKind uint8

const (
	lineUndecided lineKind = iota // its bytes are collected
	lineData                      // its bytes are data
	lineComment                   // its bytes are dropped
)

// A pending is the event whose fields are being read.
type pending struct {
	begun bool // it has a field, known or not, and was not dispatched
	typ   string
	id    string
	hasID bool
	retry int
	data  []byte // the data lines, a line feed after each
}

// NewReader returns a reader of r whose events have at most max bytes of
// data each; max <= 0 means 16 MiB.
func NewReader(r io.Reader, max int) *Reader {
	if max <= 0 {
		max = defaultEventSize
	}
	return &Reader{r: r, max: max, event: pending{retry: -1}}
}

// LastEventID returns the id that a reconnecting client names in Last-Event-ID:
// that of the last event which had the field, "" when there was none.
func (r *Reader) LastEventID() string { return r.lastID }

// Next returns the next event that has data, or an id or retry to remember. It
// returns io.EOF when the stream ends between events, io.ErrUnexpectedEOF when
// it ends inside one, which is then lost, and ErrTooLarge. After an error it
// keeps returning it, but for [syscall.EAGAIN]: where the stream read returns that in place of waiting, so
// does Next, and goes on from there when it is called again.
func (r *Reader) Next() (Event, error) {
	if !r.partly {
		r.event.clear()
	}
	r.partly = false
	for {
		line, ended, err := r.nextPart()
		switch {
		case err == syscall.EAGAIN:
			r.partly = true
			return Event{}, err
		case err != nil:
			return Event{}, err
		case !ended:
			err = r.addPart(line)
		case len(line) > 0 || len(r.line) > 0 || r.lineKind != lineUndecided:
			err = r.endLine(line)
		default:
			if ev, ok := r.dispatch(); ok {
				return ev, nil
			}
			r.event.clear()
		}
		if err != nil {
			r.err, r.pos = err, r.end
			return Event{}, err
		}
	}
}

// Ready reports whether Next returns, without reading, an event that it has read already.
func (r *Reader) Ready() bool {
	rest := r.buf[r.pos:r.end]
	return bytes.Contains(rest, []byte("\n\n")) || bytes.Contains(rest, []byte("\n\r\n"))
}

// nextPart returns the bytes of the current line that were read and not
// returned yet, and whether the line ends after them.
func (r *Reader) nextPart() (part []byte, ended bool, err error) {
	for {
		if r.pos == r.end || !r.begun {
			if err := r.fill(); err != nil {
				return nil, false, err
			}
		}
		if !r.afterCR {
			break
		}
		r.afterCR = false
		if r.buf[r.pos] != '\n' {
			break
		}
		r.pos++
	}
	part = r.buf[r.pos:r.end]
	if i := bytes.IndexByte(part, '\n'); i >= 0 {
		part, ended = part[:i], true
	}
	if i := bytes.IndexByte(part, '\r'); i >= 0 {
		part, ended, r.afterCR = part[:i], true, true
	}
	r.pos += len(part)
	if ended {
		r.pos++
	}
	return part, ended, nil
}

// fill reads at least one byte into the buffer, which is used up.
func (r *Reader) fill() error {
	for (r.pos == r.end || !r.begun) && r.err == nil {
		if r.end == len(r.buf) && len(r.buf) < maxReadSize {
			r.buf = make([]byte, max(minReadSize, 2*len(r.buf)))
		}
		if r.begun {
			r.pos, r.end = 0, 0
		}
		r.read()
		if !r.begun {
			r.skipMark()
		}
		if r.again {
			r.again = false
			return syscall.EAGAIN
		}
	}
	if r.pos < r.end {
		return nil
	}
	if r.err == io.EOF && (r.event.begun || len(r.line) > 0) {
		r.err = io.ErrUnexpectedEOF
	}
	return r.err
}

// read adds at least one byte to the buffer, or sets err.
func (r *Reader) read() {
	for range 100 {
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		if err == syscall.EAGAIN {
			r.again = n == 0
			return
		}
		if err != nil {
			r.err = err
			return
		}
		if n > 0 {
			return
		}
	}
	r.err = io.ErrNoProgress
}

// skipMark skips the byte order mark that a stream may begin with. It reads on
// while what was read could be the beginning of one.
func (r *Reader) skipMark() {
	const mark = "\uFEFF"
	for r.end < len(mark) && r.err == nil && string(r.buf[:r.end]) == mark[:r.end] {
		if r.again {
			return
		}
		r.read()
	}
	if bytes.HasPrefix(r.buf[:r.end], []byte(mark)) {
		r.pos = len(mark)
	}
	r.begun = true
}

// addPart takes a part of a line that has not ended.
func (r *Reader) addPart(part []byte) error {
	switch r.lineKind {
	case lineComment:
		return nil
	case lineData:
		return r.addData(part)
	}
	r.line = append(r.line, part...)
	switch {
	case r.line[0] == ':':
		r.lineKind = lineComment
	case len(r.line) > len(dataField) && string(r.line[:len(dataField)]) == dataField:
		r.lineKind = lineData
		value, _ := bytes.CutPrefix(r.line[len(dataField):], []byte(" "))
		if err := r.addData(value); err != nil {
			return err
		}
	case len(r.line) > maxFieldSize:
		return ErrTooLarge
	default:
		return nil
	}
	r.line = r.line[:0]
	return nil
}

// dataField is how a data line begins.
const dataField = "data:"

// addData adds a part of a data line to the event.
func (r *Reader) addData(part []byte) error {
	r.event.begun = true
	if len(r.event.data)+len(part) > r.max {
		return ErrTooLarge
	}
	r.event.data = append(r.event.data, part...)
	return nil
}

// endLine takes the last part of a line, or the whole of it.
func (r *Reader) endLine(part []byte) error {
	kind := r.lineKind
	r.lineKind = lineUndecided
	switch kind {
	case lineComment:
		return nil
	case lineData:
		if err := r.addData(part); err != nil {
			return err
		}
		r.event.data = append(r.event.data, '\n')
		return nil
	}
	if len(r.line) == 0 {
		return r.field(part)
	}
	line := append(r.line, part...)
	r.line = line[:0]
	if len(line) > maxFieldSize && !bytes.HasPrefix(line, []byte(dataField)) {
		return ErrTooLarge
	}
	return r.field(line)
}

// field takes one whole line.
func (r *Reader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if len(name) == 0 {
		return nil // a comment
	}
	value, _ = bytes.CutPrefix(value, []byte(" "))
	r.event.begun = true
	switch string(name) {
	case "data":
		if err := r.addData(value); err != nil {
			return err
		}
		r.event.data = append(r.event.data, '\n')
	case "event":
		if string(value) != r.lastType {
			r.lastType = string(value)
		}
		r.event.typ = r.lastType
	case "id":
		if bytes.IndexByte(value, 0) >= 0 {
			break
		}
		r.event.hasID = true
		if string(value) != r.event.id {
			r.event.id = string(value)
		}
	case "retry":
		if n, ok := milliseconds(value); ok {
			r.event.retry = n
		}
	}
	return nil
}

// milliseconds returns the number that is made of ASCII digits only.
func milliseconds(value []byte) (int, bool) {
	if len(value) == 0 || len(value) > 15 {
		return 0, false
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// dispatch ends the pending event; ok is false when there is nothing in it.
func (r *Reader) dispatch() (ev Event, ok bool) {
	p := &r.event
	if p.hasID {
		r.lastID = p.id
	}
	ev = Event{Type: p.typ, ID: p.id, Retry: p.retry}
	if n := len(p.data); n > 0 {
		ev.Data = p.data[: n-1 : n-1]
	}
	p.begun = false
	return ev, ev.Data != nil || ev.ID != "" || ev.Retry >= 0
}

// clear makes room for the next event.
func (p *pending) clear() {
	data := p.data[:0]
	if cap(data) > keepDataSize {
		data = nil
	}
	*p = pending{data: data, retry: -1}
}
