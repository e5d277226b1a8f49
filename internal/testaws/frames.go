package testaws

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
)

// Event returns the frame of an event.
func Event(typ, payload string) []byte {
	return frame(payload, eventstreamapi.MessageTypeHeader, eventstreamapi.EventMessageType,
		eventstreamapi.EventTypeHeader, typ, eventstreamapi.ContentTypeHeader, "application/json")
}

// Exception returns the frame of an exception.
func Exception(typ, payload string) []byte {
	return frame(payload, eventstreamapi.MessageTypeHeader, eventstreamapi.ExceptionMessageType,
		eventstreamapi.ExceptionTypeHeader, typ, eventstreamapi.ContentTypeHeader, "application/json")
}

// Chunk returns the frame of a chunk, which holds an event of what the model streams.
func Chunk(event string) []byte {
	payload, err := json.Marshal(map[string]string{"bytes": base64.StdEncoding.EncodeToString([]byte(event)), "p": "abcdef"})
	if err != nil {
		panic(err) // strings can be written
	}
	return Event("chunk", string(payload))
}

func frame(payload string, headers ...string) []byte {
	m := eventstream.Message{Payload: []byte(payload)}
	for i := 0; i < len(headers); i += 2 {
		m.Headers.Set(headers[i], eventstream.StringValue(headers[i+1]))
	}
	var out bytes.Buffer
	if err := eventstream.NewEncoder().Encode(&out, m); err != nil {
		panic(err) // what tests write fits into a frame
	}
	return out.Bytes()
}

// Frames returns the frames that lines of text stand for: the type of an event and its
// payload; chunk and the event in it; or ! and the type of an exception and its payload.
func Frames(text string) (out []byte) {
	for line := range strings.Lines(text) {
		typ, payload, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, exception := strings.CutPrefix(typ, "!")
		switch {
		case typ == "":
		case exception:
			out = append(out, Exception(name, payload)...)
		case typ == "chunk":
			out = append(out, Chunk(payload)...)
		default:
			out = append(out, Event(typ, payload)...)
		}
	}
	return out
}

// CheckFrames checks the events of Converse in such lines.
func CheckFrames(text string) error {
	for line := range strings.Lines(text) {
		typ, payload, _ := strings.Cut(strings.TrimSpace(line), " ")
		if typ == "" || typ == "chunk" || strings.HasPrefix(typ, "!") {
			continue
		}
		if err := CheckEvent(typ, []byte(payload)); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}
