package bedrock

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// An event is one event of a stream, of any type (API reference, ConverseStreamOutput).
type event struct {
	Role       string       `json:"role"`              // messageStart
	Index      *int         `json:"contentBlockIndex"` // contentBlock…
	Start      *answerBlock `json:"start"`             // contentBlockStart
	Delta      *delta       `json:"delta"`             // contentBlockDelta
	StopReason string       `json:"stopReason"`        // messageStop
	Additional *modelFields `json:"additionalModelResponseFields"`
	Usage      *usage       `json:"usage"` // metadata
}

// A delta adds to a block.
type delta struct {
	Text    *string `json:"text"`
	ToolUse *struct {
		Input string `json:"input"`
	} `json:"toolUse"`
	Reasoning *struct {
		Text      string `json:"text"`
		Signature string `json:"signature"`
		Redacted  string `json:"redactedContent"`
	} `json:"reasoningContent"`
	Citation *citation      `json:"citation"`
	Rest     jsontext.Value `json:",embed"`
}

var errEvent = errors.New("an event does not fit into the stream of a message")

// NewReader returns a reader of the events of a stream, as a [Frames] cuts them.
func (v *Converse) NewReader() dialect.StreamReader { return &reader{converse: v} }

// A reader reads the events of one message.
type reader struct {
	converse             *Converse
	begun, stopped, done bool
	open                 bool // a block is
	index                int
	known                bool // it is one that goes on
	empty                bool // it had no delta
	kind                 dialect.Kind
	redacted             string
	cited                int // citations of the open block
	out                  []dialect.Event
}

// Read takes one event off the wire. It implements dialect.StreamReader.
func (r *reader) Read(typ string, data []byte) ([]dialect.Event, error) {
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", errEvent, err)
	}
	r.out = r.out[:0]
	switch typ {
	case "messageStart":
		if r.begun {
			return nil, errEvent
		}
		r.begun = true
		r.out = append(r.out, dialect.Event{Kind: dialect.Start, ID: r.converse.id, Model: r.converse.model})
	case "contentBlockStart":
		if !r.begun || r.open || r.stopped || e.Index == nil || e.Start == nil {
			return nil, errEvent
		}
		p, ok := r.converse.answerPart(e.Start)
		p.Text = ""
		r.start(*e.Index, p, ok)
	case "contentBlockDelta":
		return r.delta(&e)
	case "contentBlockStop":
		if !r.begun || e.Index == nil || r.open && *e.Index != r.index {
			return nil, errEvent
		}
		r.stop()
	case "messageStop":
		if !r.begun || r.open || r.stopped || e.StopReason == "" {
			return nil, errEvent
		}
		r.stopped = true
		r.out = append(r.out, dialect.Event{Kind: dialect.Finish, Reason: reason(e.StopReason), Sequence: e.Additional.sequence()})
	case "metadata":
		if !r.begun {
			return nil, errEvent
		}
		if e.Usage != nil {
			r.out = append(r.out, dialect.Event{Kind: dialect.UsageKnown, Usage: e.Usage.canonical()})
		}
		if r.stopped && !r.done { // it is the last
			r.done = true
			r.out = append(r.out, dialect.Event{Kind: dialect.End})
		}
	}
	return r.out, nil // and what may come
}

// start begins a block.
func (r *reader) start(index int, p dialect.Part, known bool) {
	r.open, r.index, r.known, r.empty, r.kind, r.redacted, r.cited = true, index, known, true, p.Kind, "", 0
	switch {
	case !known:
		r.lose(blockPath(index))
	case p.Kind != dialect.Redacted:
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Part: p})
	}
}

// delta adds to a block. Those of text and of thoughts begin with it.
func (r *reader) delta(e *event) ([]dialect.Event, error) {
	d := e.Delta
	if !r.begun || r.stopped || e.Index == nil || d == nil || r.open && *e.Index != r.index {
		return nil, errEvent
	}
	kind, known := dialect.Text, true
	switch {
	case d.Text != nil:
	case d.Reasoning != nil && d.Reasoning.Redacted != "":
		kind = dialect.Redacted
	case d.Reasoning != nil:
		kind = dialect.Thinking
	case d.ToolUse != nil:
		kind = dialect.ToolCall
	default:
		known = false // pictures, and what may come
	}
	dialect.Leftover(d.Rest, blockPath(*e.Index), r.lose)
	if d.Citation != nil && r.open && r.kind == dialect.Text && r.known {
		r.out = append(r.out, dialect.Event{Kind: dialect.Cited, Citation: d.Citation.canonical(r.index, r.cited)})
		r.cited++
		return r.out, nil
	}
	if !r.open && !known {
		return r.out, nil
	}
	if !r.open {
		if kind == dialect.ToolCall {
			return nil, errEvent
		}
		r.start(*e.Index, dialect.Part{Kind: kind}, known)
	}
	if !known || !r.known {
		return r.out, nil
	}
	if kind != r.kind {
		return nil, errEvent
	}
	switch kind {
	case dialect.Text:
		r.text(dialect.Delta, *d.Text)
	case dialect.ToolCall:
		r.text(dialect.Delta, d.ToolUse.Input)
	case dialect.Redacted:
		r.redacted += d.Reasoning.Redacted
	default:
		r.text(dialect.Delta, d.Reasoning.Text)
		r.text(dialect.Signed, d.Reasoning.Signature)
	}
	return r.out, nil
}

// lose tells what has no other event.
func (r *reader) lose(path string) {
	r.out = append(r.out, dialect.Event{Kind: dialect.Lost, Text: path})
}

func (r *reader) text(kind dialect.EventKind, text string) {
	if text == "" {
		return
	}
	r.empty = r.empty && kind != dialect.Delta
	r.out = append(r.out, dialect.Event{Kind: kind, Text: text})
}

// stop ends the open block.
func (r *reader) stop() {
	if !r.open {
		return // it was empty
	}
	r.open = false
	if !r.known {
		return
	}
	switch {
	case r.kind == dialect.Redacted:
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Part: dialect.Part{Kind: dialect.Redacted, Text: r.redacted, Signature: r.redacted}})
	case r.kind == dialect.ToolCall && r.empty:
		r.text(dialect.Delta, "{}")
	}
	r.out = append(r.out, dialect.Event{Kind: dialect.BlockEnd})
}

// End is told that the provider has closed the stream, which is whole when it has said
// why it ended. It implements dialect.StreamReader.
func (r *reader) End() ([]dialect.Event, error) {
	if !r.stopped {
		return nil, io.ErrUnexpectedEOF
	}
	if r.done {
		return nil, nil
	}
	r.done = true
	return []dialect.Event{{Kind: dialect.End}}, nil
}
