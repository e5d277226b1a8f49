package anthropic

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// An event is one event of a stream, of any type (Messages, Streaming).
type event struct {
	Type         string       `json:"type"`
	Message      *response    `json:"message,omitzero"`       // message_start
	Index        *int         `json:"index,omitzero"`         // content_block_…
	ContentBlock *block       `json:"content_block,omitzero"` // content_block_start
	Delta        *delta       `json:"delta,omitzero"`         // content_block_delta, message_delta
	Usage        *usage       `json:"usage,omitzero"`         // message_delta
	Error        *errorObject `json:"error,omitzero"`         // error
}

// A delta adds to a block, or to the message.
type delta struct {
	Type         string  `json:"type,omitzero"`
	Text         string  `json:"text,omitzero"`
	Thinking     string  `json:"thinking,omitzero"`
	Signature    string  `json:"signature,omitzero"`
	PartialJSON  *string `json:"partial_json,omitzero"`
	StopReason   *string `json:"stop_reason,omitzero"`
	StopSequence *string `json:"stop_sequence,omitzero"`

	Citation jsontext.Value `json:"citation,omitzero"`

	Rest jsontext.Value `json:",embed"`
}

var errEvent = errors.New("an event does not fit into the stream of a message")

// NewReader returns a reader of a provider's events.
func (Messages) NewReader() dialect.StreamReader { return &reader{} }

// A reader reads the events of one message.
type reader struct {
	begun, stopped, done bool
	open                 bool // a block is
	index                int
	part                 dialect.Part // the open block
	known                bool         // it is one that goes on
	empty                bool         // it had no delta
	cited                int          // citations that it had
	usage                usage
	out                  []dialect.Event
}

// Read takes one event off the wire. It implements dialect.StreamReader.
func (r *reader) Read(_ string, data []byte) ([]dialect.Event, error) {
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", errEvent, err)
	}
	r.out = r.out[:0]
	switch e.Type {
	case "message_start":
		if r.begun || e.Message == nil {
			return nil, errEvent
		}
		r.begun = true
		r.usage.merge(e.Message.Usage)
		r.out = append(r.out, dialect.Event{Kind: dialect.Start, ID: e.Message.ID, Model: e.Message.Model})
		r.say()
		dialect.Leftover(e.Message.Rest, "", r.lose)
	case "content_block_start":
		return r.start(&e)
	case "content_block_delta":
		return r.delta(&e)
	case "content_block_stop":
		return r.stop(&e)
	case "message_delta":
		if !r.begun || r.open || e.Delta == nil {
			return nil, errEvent
		}
		r.usage.merge(e.Usage)
		r.say()
		dialect.Leftover(e.Delta.Rest, "", r.lose)
		if e.Delta.StopReason != nil && !r.stopped {
			r.stopped = true
			finish := dialect.Event{Kind: dialect.Finish, Reason: reason(*e.Delta.StopReason)}
			if e.Delta.StopSequence != nil {
				finish.Sequence = *e.Delta.StopSequence
			}
			r.out = append(r.out, finish)
		}
	case "message_stop":
		if !r.stopped {
			return nil, io.ErrUnexpectedEOF // it ends without having said why
		}
		r.done = true
		r.out = append(r.out, dialect.Event{Kind: dialect.End})
	case "error":
		if e.Error == nil {
			return nil, errEvent
		}
		return nil, &dialect.Error{Status: statusOf(e.Error.Type), Type: e.Error.Type, Message: e.Error.Message}
	}
	return r.out, nil // ping, and what may come
}

// lose tells what has no other event.
func (r *reader) lose(path string) {
	r.out = append(r.out, dialect.Event{Kind: dialect.Lost, Text: path})
}

// say tells the usage as far as it is known.
func (r *reader) say() {
	if u := r.usage.canonical(); u.Known {
		r.out = append(r.out, dialect.Event{Kind: dialect.UsageKnown, Usage: u})
	}
}

func (r *reader) start(e *event) ([]dialect.Event, error) {
	if !r.begun || r.open || r.stopped || e.ContentBlock == nil || e.Index == nil {
		return nil, errEvent
	}
	r.open, r.index, r.empty, r.cited = true, *e.Index, true, 0
	r.part, r.known = answerPart(e.ContentBlock)
	if !r.known {
		r.lose(blockPath(r.index))
		return r.out, nil
	}
	leftover(e.ContentBlock, blockPath(r.index), r.lose)
	text := r.part.Text
	if r.part.Kind == dialect.ToolCall {
		if text == "{}" {
			text = ""
		}
	}
	if r.part.Kind != dialect.Redacted {
		r.part.Text = ""
	}
	signature := r.part.Signature
	if r.part.Kind == dialect.Thinking {
		r.part.Signature = ""
	}
	r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Part: r.part})
	if r.part.Kind != dialect.Redacted {
		r.text(dialect.Delta, text)
	}
	if r.part.Kind == dialect.Thinking {
		r.text(dialect.Signed, signature)
	}
	return r.out, nil
}

func (r *reader) text(kind dialect.EventKind, text string) {
	if text == "" {
		return
	}
	if kind == dialect.Delta {
		r.empty = false
	}
	r.out = append(r.out, dialect.Event{Kind: kind, Text: text})
}

func (r *reader) delta(e *event) ([]dialect.Event, error) {
	if !r.open || e.Delta == nil || e.Index == nil || *e.Index != r.index {
		return nil, errEvent
	}
	if !r.known {
		return r.out, nil
	}
	switch d := e.Delta; {
	case d.Type == "text_delta" && r.part.Kind == dialect.Text:
		r.text(dialect.Delta, d.Text)
	case d.Type == "thinking_delta" && r.part.Kind == dialect.Thinking:
		r.text(dialect.Delta, d.Thinking)
	case d.Type == "signature_delta" && r.part.Kind == dialect.Thinking:
		r.text(dialect.Signed, d.Signature)
	case d.Type == "input_json_delta" && r.part.Kind == dialect.ToolCall && d.PartialJSON != nil:
		r.text(dialect.Delta, *d.PartialJSON)
	case d.Type == "citations_delta" && r.part.Kind == dialect.Text:
		var c citation
		if json.Unmarshal(d.Citation, &c) == nil {
			r.out = append(r.out, dialect.Event{Kind: dialect.Cited, Citation: c.canonical(r.index, r.cited, d.Citation)})
			r.cited++
		}
	}
	return r.out, nil // what may come
}

func (r *reader) stop(e *event) ([]dialect.Event, error) {
	if !r.open || e.Index == nil || *e.Index != r.index {
		return nil, errEvent
	}
	r.open = false
	if !r.known {
		return r.out, nil
	}
	if r.part.Kind == dialect.ToolCall && r.empty {
		r.text(dialect.Delta, "{}")
	}
	r.out = append(r.out, dialect.Event{Kind: dialect.BlockEnd})
	return r.out, nil
}

// End is told that the provider has closed the stream. It implements
// dialect.StreamReader.
func (r *reader) End() ([]dialect.Event, error) {
	if !r.done {
		return nil, io.ErrUnexpectedEOF
	}
	return nil, nil
}

// NewWriter returns a writer of events for a client.
func (Messages) NewWriter(o dialect.WriterOptions) dialect.StreamWriter {
	return &writer{options: o, index: -1}
}

// A writer writes one answer as events.
type writer struct {
	options dialect.WriterOptions
	index   int
	kind    dialect.Kind // of the open block
	signed  bool
	usage   dialect.Usage
	finish  dialect.Event
}

// Write appends an event as the client reads it. It implements dialect.StreamWriter.
func (w *writer) Write(dst []byte, e *dialect.Event) []byte {
	if e.Choice != 0 { // a message is one answer
		w.options.LoseChoice(e.Choice)
		return dst
	}
	switch e.Kind {
	case dialect.Start:
		return appendEvent(dst, &event{Type: "message_start", Message: &response{
			ID: id(e.ID), Type: "message", Role: "assistant", Model: e.Model, Content: []block{}, Usage: usageOf(dialect.Usage{}),
		}})
	case dialect.BlockStart:
		if e.Part.Kind == dialect.Image {
			w.kind = e.Part.Kind
			w.options.Lose(e.Part.Path)
			return dst
		}
		w.index++
		w.kind, w.signed = e.Part.Kind, false
		b := answerBlock(&e.Part, w.options.Origin)
		return appendEvent(dst, &event{Type: "content_block_start", Index: w.at(), ContentBlock: &b})
	case dialect.Cited:
		if c := encodeCitation(&e.Citation, &w.options); c != nil && w.kind == dialect.Text {
			return w.delta(dst, &delta{Type: "citations_delta", Citation: c})
		}
	case dialect.Delta:
		w.options.Lose(e.LogAt)
		switch w.kind {
		case dialect.Text, dialect.Refusal:
			return w.delta(dst, &delta{Type: "text_delta", Text: e.Text})
		case dialect.Thinking:
			return w.delta(dst, &delta{Type: "thinking_delta", Thinking: e.Text})
		case dialect.ToolCall:
			return w.delta(dst, &delta{Type: "input_json_delta", PartialJSON: &e.Text})
		}
	case dialect.Signed:
		if w.kind == dialect.Thinking {
			w.signed = true
			return w.delta(dst, &delta{Type: "signature_delta", Signature: foreign(w.options.Origin, e.Text)})
		}
		w.options.Lose(e.Part.SignedAt)
	case dialect.BlockEnd:
		if w.kind == dialect.Image {
			return dst
		}
		if w.kind == dialect.Thinking && !w.signed && w.options.Origin != vendor {
			dst = w.delta(dst, &delta{Type: "signature_delta", Signature: foreign(w.options.Origin, "")})
		}
		return appendEvent(dst, &event{Type: "content_block_stop", Index: w.at()})
	case dialect.Finish:
		w.finish = *e
	case dialect.UsageKnown:
		w.usage = e.Usage
	case dialect.End:
		stop := reasonOf(w.finish.Reason)
		d := &delta{StopReason: &stop}
		if w.finish.Reason == dialect.StopSequence {
			d.StopSequence = &w.finish.Sequence
		}
		dst = appendEvent(dst, &event{Type: "message_delta", Delta: d, Usage: usageOf(w.usage)})
		return appendEvent(dst, &event{Type: "message_stop"})
	}
	return dst
}

func (w *writer) at() *int {
	i := w.index
	return &i
}

func (w *writer) delta(dst []byte, d *delta) []byte {
	return appendEvent(dst, &event{Type: "content_block_delta", Index: w.at(), Delta: d})
}

// Error ends the stream with an error. It implements dialect.StreamWriter.
func (w *writer) Error(dst []byte, e *dialect.Error) []byte {
	return events.Append(dst, events.Event{Type: "error", Data: Messages{}.EncodeError(e)})
}

func appendEvent(dst []byte, e *event) []byte {
	data, err := json.Marshal(e)
	if err != nil {
		return dst // strings, numbers and checked JSON: they can be written
	}
	return events.Append(dst, events.Event{Type: e.Type, Data: data})
}
