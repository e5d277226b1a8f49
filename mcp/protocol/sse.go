package protocol

import "io"

// An Event is one server-sent event. Data aliases the reader's buffer and is
// valid until the next call of Next.
type Event struct {
	Type string // "" means message
	ID   string
	Data []byte
	// Retry is the reconnection time in milliseconds, -1 when the event has none.
	Retry int
}

// An EventReader reads server-sent events (WHATWG HTML, section 9.2) of at most max bytes
// each. However the stream is cut into reads, the same events come out.
type EventReader struct{}

// NewEventReader returns a reader of r; max <= 0 means 16 MiB.
func NewEventReader(r io.Reader, max int) *EventReader { panic("unwritten") }

// Next returns the next event that has data, or an id or retry to remember. It returns io.EOF at a
// clean end, io.ErrUnexpectedEOF when the stream ends inside an event, and
// ErrEventTooLarge.
func (r *EventReader) Next() (Event, error) { panic("unwritten") }

// AppendEvent appends the wire form of ev to dst; data with line breaks becomes
// several data lines.
func AppendEvent(dst []byte, ev Event) []byte { panic("unwritten") }

// Keepalive is the comment that keeps idle streams open.
const Keepalive = ": keep-alive\n\n"
