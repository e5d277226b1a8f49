package bedrock

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
	"github.com/go-json-experiment/json"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// MediaType is that of the streams.
const MediaType = "application/vnd.amazon.eventstream"

// preludeSize is the size of what begins a frame: its length, that of its headers, and the
// checksum of both.
const preludeSize = 12

// firstBuffer is what is held for a frame before it has come: one that only says that it is
// long costs nothing.
const firstBuffer = 64 << 10

var errFrame = errors.New("the stream is not made of event-stream frames")

// A Frames cuts a stream into events (Smithy, Amazon Event Stream specification). The type of
// an event is that of its frame. Chunks, in which InvokeModelWithResponseStream wraps what
// the model streams, are unwrapped: theirs is what the event itself says in the member type. It is
// not safe for concurrent use.
type Frames struct {
	from  *bufio.Reader
	limit int
	frame bytes.Buffer
}

// NewFrames returns a Frames that reads from r frames of up to limit bytes.
func NewFrames(r io.Reader, limit int) *Frames {
	return &Frames{from: bufio.NewReader(r), limit: limit}
}

// Next returns the next event, whose data is valid until the next call. An exception in the
// stream is a *[dialect.Error]. The error is io.EOF when the stream has ended between two
// frames, and events.ErrTooLarge for a frame over the limit.
func (f *Frames) Next() (events.Event, error) {
	for {
		m, err := f.message()
		if err != nil {
			return events.Event{}, err
		}
		switch header(m, eventstreamapi.MessageTypeHeader) {
		case eventstreamapi.EventMessageType:
			typ := header(m, eventstreamapi.EventTypeHeader)
			if typ == "chunk" {
				return chunk(m.Payload)
			}
			if typ != "initial-response" {
				return events.Event{Type: typ, Data: m.Payload, Retry: -1}, nil
			}
		case eventstreamapi.ExceptionMessageType:
			return events.Event{}, Error(http.StatusInternalServerError, header(m, eventstreamapi.ExceptionTypeHeader), m.Payload)
		case eventstreamapi.ErrorMessageType:
			return events.Event{}, &dialect.Error{
				Status: http.StatusInternalServerError, Type: header(m, eventstreamapi.ErrorCodeHeader), Message: header(m, eventstreamapi.ErrorMessageHeader),
			}
		default:
			return events.Event{}, errFrame
		}
	}
}

// message reads a whole frame.
func (f *Frames) message() (eventstream.Message, error) {
	prelude, err := f.from.Peek(preludeSize)
	if err != nil {
		if err == io.EOF && len(prelude) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return eventstream.Message{}, err
	}
	if crc32.ChecksumIEEE(prelude[:8]) != binary.BigEndian.Uint32(prelude[8:]) {
		return eventstream.Message{}, errFrame // or its length would be waited for
	}
	size := int64(binary.BigEndian.Uint32(prelude))
	if size > int64(f.limit) {
		return eventstream.Message{}, events.ErrTooLarge
	}
	if f.frame.Cap() > firstBuffer {
		f.frame = bytes.Buffer{}
	}
	f.frame.Reset()
	if _, err := io.CopyN(&f.frame, f.from, size); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return eventstream.Message{}, err
	}
	m, err := eventstream.NewDecoder().Decode(&f.frame, nil)
	if err != nil {
		return m, fmt.Errorf("%w: %w", errFrame, err)
	}
	return m, nil
}

// header returns a header of a frame that is a string, "" otherwise.
func header(m eventstream.Message, name string) string {
	v, ok := m.Headers.Get(name).(eventstream.StringValue)
	if !ok {
		return ""
	}
	return string(v)
}

// chunk returns the event that a chunk holds.
func chunk(payload []byte) (events.Event, error) {
	var wire struct {
		Bytes []byte `json:"bytes"`
	}
	if err := json.Unmarshal(payload, &wire); err != nil {
		return events.Event{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	var inner struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(wire.Bytes, &inner); err != nil {
		return events.Event{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	return events.Event{Type: inner.Type, Data: wire.Bytes, Retry: -1}, nil
}
