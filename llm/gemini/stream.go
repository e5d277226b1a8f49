package gemini

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

var errEvent = errors.New("an event is no part of an answer")

// maxCandidates bounds the alternatives of one answer.
const maxCandidates = 64

// NewReader returns a reader of a provider's events.
func (GenerateContent) NewReader() dialect.StreamReader { return &reader{} }

// A reader reads the parts of one answer. The dialect has no mark of the end: an answer is
// whole when each of its candidates has said why it ended.
type reader struct {
	begun      bool
	candidates map[int]*state
	finished   int
	out        []dialect.Event
}

// A state is what is known of one candidate.
type state struct {
	open, called, finished bool
	signed                 bool // the open block is whole: what follows belongs to another
	kind                   dialect.Kind
	text                   strings.Builder // all that was said, in which sources have their places
	block                  int             // where the open block begins in it
	probs                  jsontext.Value  // of the tokens of the next text
}

// Read takes one event off the wire. It implements dialect.StreamReader.
func (r *reader) Read(_ string, data []byte) ([]dialect.Event, error) {
	var wire response
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", errEvent, err)
	}
	if wire.Error != nil {
		return nil, wire.Error.canonical()
	}
	blocked := wire.PromptFeedback != nil && wire.PromptFeedback.BlockReason != ""
	if wire.Candidates == nil && wire.UsageMetadata == nil && !blocked {
		return nil, errEvent
	}
	r.out = r.out[:0]
	if !r.begun {
		r.begun = true
		r.candidates = map[int]*state{}
		r.out = append(r.out, dialect.Event{Kind: dialect.Start, ID: wire.ResponseID, Model: wire.ModelVersion})
	}
	dialect.Leftover(wire.Rest, "", r.lose)
	if wire.PromptFeedback != nil {
		dialect.Leftover(wire.PromptFeedback.Rest, "promptFeedback", r.lose)
	}
	for i := range wire.Candidates {
		if err := r.candidate(&wire.Candidates[i]); err != nil {
			return nil, err
		}
	}
	if blocked && len(r.candidates) == 0 {
		r.candidates[0] = &state{finished: true}
		r.finished++
		r.out = append(r.out, dialect.Event{Kind: dialect.Finish, Reason: dialect.StopFilter})
	}
	if wire.UsageMetadata != nil {
		r.out = append(r.out, dialect.Event{Kind: dialect.UsageKnown, Usage: wire.UsageMetadata.canonical()})
	}
	return r.out, nil
}

func (r *reader) candidate(wire *candidate) error {
	s := r.candidates[wire.Index]
	if s == nil {
		if len(r.candidates) == maxCandidates {
			return errEvent
		}
		s = &state{}
		r.candidates[wire.Index] = s
	}
	if s.finished {
		return nil
	}
	if wire.Rest != nil {
		dialect.Leftover(wire.Rest, candidatePath(wire.Index), r.lose)
	}
	s.probs = wire.LogProbs.canonical()
	if wire.Content != nil {
		for i := range wire.Content.Parts {
			p, ok := answerPart(&wire.Content.Parts[i], wire.Index, i)
			if !ok {
				r.lose(partPath(wire.Index, i))
				continue
			}
			if rest := wire.Content.Parts[i].Rest; rest != nil {
				dialect.Leftover(rest, partPath(wire.Index, i), r.lose)
			}
			r.part(s, wire.Index, &p)
		}
	}
	if s.probs != nil {
		r.lose(candidatePath(wire.Index) + ".logprobsResult")
	}
	r.cite(s, wire)
	if wire.FinishReason == "" {
		return nil
	}
	r.close(s, wire.Index)
	s.finished = true
	r.finished++
	r.out = append(r.out, dialect.Event{Kind: dialect.Finish, Choice: wire.Index, Reason: reason(wire.FinishReason, s.called)})
	return nil
}

// cite tells the sources of the text that is open. Those of a text before it come too late.
func (r *reader) cite(s *state, wire *candidate) {
	if wire.Grounding == nil && wire.Citing == nil {
		return
	}
	text := s.text.String()
	before := characters(text, s.block)
	for _, c := range wire.citations(text, r.lose) {
		switch {
		case !s.open || s.kind != dialect.Text || c.End > 0 && c.End <= before:
			r.lose(c.Path)
			continue
		case c.End > 0:
			c.Start, c.End = max(c.Start-before, 0), c.End-before
		}
		r.out = append(r.out, dialect.Event{Kind: dialect.Cited, Choice: wire.Index, Citation: c})
	}
}

// lose tells what has no other event.
func (r *reader) lose(path string) {
	r.out = append(r.out, dialect.Event{Kind: dialect.Lost, Text: path})
}

func (r *reader) part(s *state, choice int, p *dialect.Part) {
	if p.Kind == dialect.ToolCall { // it comes whole
		r.close(s, choice)
		s.called = true
		args := p.Text
		p.Text = ""
		r.out = append(r.out,
			dialect.Event{Kind: dialect.BlockStart, Choice: choice, Part: *p},
			dialect.Event{Kind: dialect.Delta, Choice: choice, Text: args},
			dialect.Event{Kind: dialect.BlockEnd, Choice: choice})
		return
	}
	if p.Kind == dialect.Image {
		r.close(s, choice)
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Choice: choice, Part: *p}, dialect.Event{Kind: dialect.BlockEnd, Choice: choice})
		return
	}
	if p.Text == "" && p.Signature == "" {
		return
	}
	if !s.open || s.kind != p.Kind || s.signed {
		r.close(s, choice)
		s.open, s.kind, s.block = true, p.Kind, s.text.Len()
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Choice: choice, Part: dialect.Part{Kind: p.Kind}})
	}
	if p.Text != "" {
		delta := dialect.Event{Kind: dialect.Delta, Choice: choice, Text: p.Text}
		if p.Kind == dialect.Text {
			s.text.WriteString(p.Text)
			if s.probs != nil {
				delta.LogAt = candidatePath(choice) + ".logprobsResult"
			}
			delta.LogProbs, s.probs = s.probs, nil
		}
		r.out = append(r.out, delta)
	}
	if p.Signature != "" {
		r.out = append(r.out, dialect.Event{Kind: dialect.Signed, Choice: choice, Text: p.Signature, Part: dialect.Part{SignedAt: p.SignedAt}})
		s.signed = true // it is for what came until here
	}
}

func (r *reader) close(s *state, choice int) {
	if s.open {
		s.open, s.signed = false, false
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockEnd, Choice: choice})
	}
}

// End is told that the provider has closed the stream. It implements
// dialect.StreamReader.
func (r *reader) End() ([]dialect.Event, error) {
	if r.finished == 0 || r.finished < len(r.candidates) {
		return nil, io.ErrUnexpectedEOF
	}
	return []dialect.Event{{Kind: dialect.End}}, nil
}

// NewWriter returns a writer of events for a client.
func (GenerateContent) NewWriter(o dialect.WriterOptions) dialect.StreamWriter {
	return newWriter(o, false)
}

// ArrayStream is GenerateContent as it is streamed to clients that do not ask for events:
// the answers are the elements of one JSON array.
type ArrayStream struct{ GenerateContent }

// NewWriter returns a writer of elements for a client, each as [AppendElement] writes it.
func (ArrayStream) NewWriter(o dialect.WriterOptions) dialect.StreamWriter {
	return newWriter(o, true)
}

// EncodeError writes an error as it is answered instead of an array.
func (ArrayStream) EncodeError(e *dialect.Error) []byte {
	return EncloseElement(GenerateContent{}.EncodeError(e))
}

// AppendElement appends an element of an array with the comma before it, in place of which
// the first one that is sent has a bracket.
func AppendElement(dst, element []byte) []byte { return append(append(dst, ",\r\n"...), element...) }

// EncloseElement returns an array of one element.
func EncloseElement(element []byte) []byte { return slices.Concat([]byte{'['}, element, []byte{']'}) }

// endArray closes an array.
const endArray = "\r\n]"

func newWriter(o dialect.WriterOptions, array bool) *writer {
	return &writer{options: o, array: array, open: map[int]*block{}, cited: map[int]*sources{}}
}

// A writer writes one answer as events.
type writer struct {
	options dialect.WriterOptions
	array   bool
	head    response
	begun   bool
	open    map[int]*block
	cited   map[int]*sources // by choice
	ends    []candidate
	usage   dialect.Usage
}

// A block is what is written of the block that is open: a call is kept until it is whole.
type block struct {
	part      dialect.Part
	arguments strings.Builder
}

// Write appends an event as the client reads it. It implements dialect.StreamWriter.
func (w *writer) Write(dst []byte, e *dialect.Event) []byte {
	b := w.open[e.Choice]
	switch e.Kind {
	case dialect.Start:
		w.begun = true
		w.head = response{ModelVersion: e.Model, ResponseID: e.ID}
	case dialect.BlockStart:
		w.open[e.Choice] = &block{part: e.Part}
		if e.Part.Kind == dialect.Redacted || e.Part.Kind == dialect.Image {
			return w.part(dst, e.Choice, &e.Part, nil)
		}
	case dialect.Delta:
		if b == nil {
			return dst
		}
		if b.part.Kind == dialect.ToolCall {
			b.arguments.WriteString(e.Text)
			return dst
		}
		var probs *logProbs
		if b.part.Kind == dialect.Text {
			w.sources(e.Choice).block.WriteString(e.Text)
			probs = logProbsOf(e.LogProbs)
		} else {
			w.options.Lose(e.LogAt)
		}
		return w.part(dst, e.Choice, &dialect.Part{Kind: b.part.Kind, Text: e.Text}, probs)
	case dialect.Cited:
		w.sources(e.Choice).cite(&e.Citation, &w.options)
	case dialect.Signed:
		if b != nil && b.part.Kind != dialect.ToolCall {
			return w.part(dst, e.Choice, &dialect.Part{Kind: b.part.Kind, Signature: e.Text}, nil)
		}
	case dialect.BlockEnd:
		if b == nil {
			return dst
		}
		delete(w.open, e.Choice)
		w.sources(e.Choice).end()
		if b.part.Kind == dialect.ToolCall {
			b.part.Text = b.arguments.String()
			return w.part(dst, e.Choice, &b.part, nil)
		}
	case dialect.Finish:
		w.ends = append(w.ends, candidate{
			Index: e.Choice, FinishReason: reasonOf(e.Reason), Content: &content{Role: "model", Parts: []part{}}, Grounding: w.sources(e.Choice).ground,
		})
	case dialect.UsageKnown:
		w.usage = e.Usage
	case dialect.End:
		if w.begun { // else the provider's own events have said it all
			last := w.head
			last.Candidates, last.UsageMetadata = w.ends, usageOf(w.usage)
			dst = w.event(dst, &last)
		}
		return w.end(dst)
	}
	return dst
}

// end closes the array, if it is one.
func (w *writer) end(dst []byte) []byte {
	if w.array {
		return append(dst, endArray...)
	}
	return dst
}

// sources returns what a choice has cited.
func (w *writer) sources(choice int) *sources {
	s := w.cited[choice]
	if s == nil {
		s = &sources{}
		w.cited[choice] = s
	}
	return s
}

func (w *writer) part(dst []byte, choice int, p *dialect.Part, probs *logProbs) []byte {
	wire, ok := encodePart(p, w.options.Origin)
	if !ok {
		return dst
	}
	r := w.head
	r.Candidates = []candidate{{Index: choice, Content: &content{Role: "model", Parts: []part{wire}}, LogProbs: probs}}
	return w.event(dst, &r)
}

// Error ends the stream with an error. It implements dialect.StreamWriter.
func (w *writer) Error(dst []byte, e *dialect.Error) []byte {
	return w.end(w.data(dst, GenerateContent{}.EncodeError(e)))
}

func (w *writer) event(dst []byte, r *response) []byte {
	data, err := json.Marshal(r)
	if err != nil {
		return dst // strings, numbers and checked JSON: they can be written
	}
	return w.data(dst, data)
}

func (w *writer) data(dst, data []byte) []byte {
	if w.array {
		return AppendElement(dst, data)
	}
	return events.Append(dst, events.Event{Data: data})
}
