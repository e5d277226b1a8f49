package openai

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

var (
	errNoChoice = errors.New("the answer has no choice")
	errChunk    = errors.New("an event is no chunk of a chat completion")
)

// maxCalls bounds the tool calls of one choice.
const maxCalls = 256

// NewReader returns a reader of a provider's chunks.
func (Chat) NewReader() dialect.StreamReader { return &chatReader{} }

// A chatReader reads the chunks of one answer. It makes one block after the other of
// them, although the calls of a chunk may belong to different tools.
type chatReader struct {
	begun    bool
	done     bool // [DONE] came
	choices  map[int]*chatState
	finished int
	out      []dialect.Event
}

// A chatState is what is known of one choice.
type chatState struct {
	open     bool // a block is
	kind     dialect.Kind
	call     int // its index, when it is a call
	calls    []*chatCall
	cited    int // annotations that came
	finished bool
}

// A chatCall is one tool call of a choice.
type chatCall struct {
	index        int // as the provider counts
	begun, ended bool
	said         bool // arguments were sent
	name, id     string
	waiting      strings.Builder // arguments that came while another block was open
	json         jsonScanner
}

// Read takes one event off the wire. It implements dialect.StreamReader.
func (r *chatReader) Read(_ string, data []byte) ([]dialect.Event, error) {
	r.out = r.out[:0]
	if string(data) == "[DONE]" {
		if r.done {
			return nil, nil
		}
		if r.finished == 0 {
			return nil, io.ErrUnexpectedEOF // it ends without having said why
		}
		r.done = true
		return append(r.out, dialect.Event{Kind: dialect.End}), nil
	}
	var wire chatResponse
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", errChunk, err)
	}
	if wire.Error != nil {
		e := &dialect.Error{Status: statusOf(wire.Error)}
		fillError(e, wire.Error)
		return nil, e
	}
	if wire.Choices == nil && wire.Usage == nil && wire.ID == "" {
		return nil, errChunk
	}
	if !r.begun && len(wire.Choices) > 0 {
		r.begun = true
		r.out = append(r.out, dialect.Event{Kind: dialect.Start, ID: wire.ID, Model: wire.Model, Created: wire.Created})
	}
	dialect.Leftover(wire.Rest, "", r.lose)
	for i := range wire.Choices {
		if err := r.choice(&wire.Choices[i]); err != nil {
			return nil, err
		}
	}
	if wire.Usage != nil {
		r.out = append(r.out, dialect.Event{Kind: dialect.UsageKnown, Usage: wire.Usage.canonical()})
	}
	return r.out, nil
}

// End is told that the provider has closed the stream. It implements
// dialect.StreamReader.
func (r *chatReader) End() ([]dialect.Event, error) {
	if r.done {
		return nil, nil
	}
	if r.finished == 0 || r.finished < len(r.choices) {
		return nil, io.ErrUnexpectedEOF
	}
	r.done = true // some leave out [DONE]
	return []dialect.Event{{Kind: dialect.End}}, nil
}

func (r *chatReader) choice(wire *chatCompletion) error {
	s := r.choices[wire.Index]
	if s == nil {
		if r.choices == nil {
			r.choices = map[int]*chatState{}
		}
		if len(r.choices) == maxCalls {
			return errChunk
		}
		s = &chatState{}
		r.choices[wire.Index] = s
	}
	wire.leftover(r.lose)
	if s.finished {
		return nil // filters report after the end
	}
	if d := wire.Delta; d != nil {
		probs := wire.LogProbs.of()
		r.text(s, wire.Index, dialect.Thinking, d.ReasoningContent+d.Reasoning, nil)
		if d.Content != nil {
			r.text(s, wire.Index, dialect.Text, *d.Content, probs.Content)
		}
		if d.Refusal != nil {
			r.text(s, wire.Index, dialect.Refusal, *d.Refusal, probs.Refusal)
		}
		r.beside(s, wire)
		for i := range d.ToolCalls {
			if err := r.tool(s, wire.Index, &d.ToolCalls[i]); err != nil {
				return err
			}
		}
	}
	if wire.FinishReason == nil || *wire.FinishReason == "" {
		return nil
	}
	r.close(s, wire.Index)
	for i := range s.calls {
		r.next(s, wire.Index, i)
		r.close(s, wire.Index)
	}
	s.finished = true
	r.finished++
	r.out = append(r.out, dialect.Event{Kind: dialect.Finish, Choice: wire.Index, Reason: chatReason(*wire.FinishReason)})
	return nil
}

// lose tells what has no other event.
func (r *chatReader) lose(path string) {
	r.out = append(r.out, dialect.Event{Kind: dialect.Lost, Text: path})
}

// beside takes the annotations and the pictures of a chunk.
func (r *chatReader) beside(s *chatState, wire *chatCompletion) {
	d := wire.Delta
	for i := range d.Annotations {
		path := wire.annotationPath(s.cited)
		s.cited++
		c, ok := d.Annotations[i].canonical(path, r.lose)
		switch {
		case ok && s.open && s.kind == dialect.Text:
			r.out = append(r.out, dialect.Event{Kind: dialect.Cited, Choice: wire.Index, Citation: c})
		case ok:
			r.lose(path)
		}
	}
	for i := range d.Images {
		if p, ok := wire.image(i, r.lose); ok {
			r.close(s, wire.Index)
			r.out = append(r.out,
				dialect.Event{Kind: dialect.BlockStart, Choice: wire.Index, Part: p}, dialect.Event{Kind: dialect.BlockEnd, Choice: wire.Index})
		}
	}
}

// text takes more text of a kind, with the log probabilities of its tokens.
func (r *chatReader) text(s *chatState, choice int, kind dialect.Kind, text string, probs jsontext.Value) {
	if text == "" {
		if probs != nil {
			r.lose(choicePath(choice) + ".logprobs")
		}
		return
	}
	if !s.open || s.kind != kind {
		r.close(s, choice)
		s.open, s.kind = true, kind
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Choice: choice, Part: dialect.Part{Kind: kind}})
	}
	delta := dialect.Event{Kind: dialect.Delta, Choice: choice, Text: text, LogProbs: probs}
	if probs != nil {
		delta.LogAt = choicePath(choice) + ".logprobs"
	}
	r.out = append(r.out, delta)
}

// close ends the block that is open.
func (r *chatReader) close(s *chatState, choice int) {
	if !s.open {
		return
	}
	s.open = false
	if s.kind == dialect.ToolCall {
		call := s.calls[s.call]
		if call.ended = true; !call.said {
			r.out = append(r.out, dialect.Event{Kind: dialect.Delta, Choice: choice, Text: "{}"})
		}
	}
	r.out = append(r.out, dialect.Event{Kind: dialect.BlockEnd, Choice: choice})
}

// tool takes a fragment of a call.
func (r *chatReader) tool(s *chatState, choice int, wire *chatToolCall) error {
	i := s.find(wire)
	if i == len(s.calls) {
		if i == maxCalls {
			return errChunk
		}
		s.calls = append(s.calls, &chatCall{index: i})
		if wire.Index != nil {
			s.calls[i].index = *wire.Index
		}
	}
	call := s.calls[i]
	if call.id == "" {
		call.id = wire.ID
	}
	fragment := ""
	if wire.Function != nil {
		if call.name == "" {
			call.name = wire.Function.Name
		}
		fragment = wire.Function.Arguments
	}
	call.json.write(fragment)
	switch {
	case call.ended:
		if strings.TrimSpace(fragment) != "" {
			return errChunk
		}
	case s.open && s.kind == dialect.ToolCall && s.call != i && !s.calls[s.call].json.complete():
		call.waiting.WriteString(fragment) // until the call before it is whole
	default:
		call.waiting.WriteString(fragment)
		if call.name != "" {
			r.next(s, choice, i)
		}
	}
	return nil
}

// find returns which call a fragment belongs to, the number of calls for a new one. Some
// leave out the index, and send calls whole.
func (s *chatState) find(wire *chatToolCall) int {
	for i, c := range s.calls {
		if wire.Index != nil && c.index == *wire.Index || wire.Index == nil && wire.ID != "" && c.id == wire.ID {
			return i
		}
	}
	if wire.Index == nil && wire.ID == "" && len(s.calls) > 0 {
		return len(s.calls) - 1
	}
	return len(s.calls)
}

// next makes call i the open block and sends what waits of it.
func (r *chatReader) next(s *chatState, choice, i int) {
	call := s.calls[i]
	if call.ended {
		return
	}
	if !call.begun {
		r.close(s, choice)
		call.begun, s.open, s.kind, s.call = true, true, dialect.ToolCall, i
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Choice: choice, Part: dialect.Part{
			Kind: dialect.ToolCall, ID: call.id, Name: call.name,
		}})
	}
	if call.waiting.Len() > 0 {
		call.said = true
		r.out = append(r.out, dialect.Event{Kind: dialect.Delta, Choice: choice, Text: call.waiting.String()})
		call.waiting.Reset()
	}
}

// A jsonScanner knows whether what it was given is one whole JSON value.
type jsonScanner struct {
	depth           int
	begun, inString bool
	escaped         bool
}

func (s *jsonScanner) write(text string) {
	for i := range len(text) {
		c := text[i]
		switch {
		case s.escaped:
			s.escaped = false
		case s.inString && c == '\\':
			s.escaped = true
		case c == '"':
			s.inString = !s.inString
		case s.inString:
		case c == '{' || c == '[':
			s.depth++
			s.begun = true
		case c == '}' || c == ']':
			s.depth--
		}
	}
}

// complete reports whether the value is whole.
func (s *jsonScanner) complete() bool { return s.begun && s.depth <= 0 && !s.inString }

// NewWriter returns a writer of chunks for a client.
func (Chat) NewWriter(o dialect.WriterOptions) dialect.StreamWriter {
	return &chatWriter{options: o, calls: map[int]int{}, thoughts: map[int]int{}, texts: map[int]chatText{}}
}

// A chatWriter writes one answer as chunks.
type chatWriter struct {
	options  dialect.WriterOptions
	head     chatResponse
	kind     map[int]dialect.Kind // of the open block, by choice
	spoke    map[int]bool         // the role was said
	calls    map[int]int          // tool calls that began, by choice
	thoughts map[int]int
	texts    map[int]chatText
	usage    dialect.Usage
}

// A chatText counts the characters of a choice's content: those of the open block, and those
// before it.
type chatText struct{ block, before int }

// Write appends an event as the client reads it. It implements dialect.StreamWriter.
func (w *chatWriter) Write(dst []byte, e *dialect.Event) []byte {
	var said chatSaid
	var probs *chatLogProbs
	switch e.Kind {
	case dialect.Start:
		w.head = chatResponse{ID: e.ID, Object: "chat.completion.chunk", Created: now(e.Created), Model: e.Model}
		w.kind, w.spoke = map[int]dialect.Kind{}, map[int]bool{}
		empty := ""
		return w.chunk(dst, 0, &chatSaid{Content: &empty}, nil, nil)
	case dialect.BlockStart:
		w.kind[e.Choice] = e.Part.Kind
		switch e.Part.Kind {
		case dialect.ToolCall:
			i := w.calls[e.Choice]
			w.calls[e.Choice]++
			said.ToolCalls = []chatToolCall{{
				Index: &i, ID: dialect.PackID(e.Part.ID, w.options.Origin, e.Part.Signature), Type: "function",
				Function: &chatFunction{Name: e.Part.Name},
			}}
		case dialect.Redacted:
			said.ReasoningDetails = []chatReasoning{{Type: "reasoning.encrypted", Data: foreign(w.options.Origin, e.Part.Text), Index: w.thoughts[e.Choice]}}
			w.thoughts[e.Choice]++
		case dialect.Image:
			said.Images = []chatPart{imagePart(&e.Part)}
		default:
			return dst
		}
	case dialect.Cited:
		t := w.texts[e.Choice]
		c, ok := annotation(&e.Citation, t.block, t.before, &w.options)
		if !ok {
			return dst
		}
		said.Annotations = []chatAnnotation{c}
	case dialect.Delta:
		probs = logProbs(nil, w.kind[e.Choice], e.LogProbs)
		switch w.kind[e.Choice] {
		case dialect.Text:
			said.Content = &e.Text
			t := w.texts[e.Choice]
			t.block += utf8.RuneCountInString(e.Text)
			w.texts[e.Choice] = t
		case dialect.Refusal:
			said.Refusal = &e.Text
		case dialect.Thinking:
			said.ReasoningContent = e.Text
			said.ReasoningDetails = []chatReasoning{{Type: "reasoning.text", Text: e.Text, Index: w.thoughts[e.Choice]}}
		case dialect.ToolCall:
			i := w.calls[e.Choice] - 1
			said.ToolCalls = []chatToolCall{{Index: &i, Function: &chatFunction{Arguments: e.Text}}}
		default:
			return dst
		}
	case dialect.Signed:
		if w.kind[e.Choice] != dialect.Thinking {
			w.options.Lose(e.Part.SignedAt)
			return dst
		}
		said.ReasoningDetails = []chatReasoning{{Type: "reasoning.text", Signature: foreign(w.options.Origin, e.Text), Index: w.thoughts[e.Choice]}}
	case dialect.BlockEnd:
		if w.kind[e.Choice] == dialect.Thinking {
			w.thoughts[e.Choice]++
		}
		t := w.texts[e.Choice]
		w.texts[e.Choice] = chatText{before: t.before + t.block}
		return dst
	case dialect.Finish:
		reason := chatReasonOf(e.Reason)
		return w.chunk(dst, e.Choice, &chatSaid{}, nil, &reason)
	case dialect.UsageKnown:
		w.usage = e.Usage
		return dst
	case dialect.Lost:
		return dst
	case dialect.End:
		if u := chatUsageOf(w.usage); u != nil && w.options.Usage {
			chunk := w.head
			chunk.Choices, chunk.Usage = []chatCompletion{}, u
			dst = event(dst, &chunk)
		}
		return append(dst, "data: [DONE]\n\n"...)
	}
	return w.chunk(dst, e.Choice, &said, probs, nil)
}

func (w *chatWriter) chunk(dst []byte, choice int, said *chatSaid, probs *chatLogProbs, reason *string) []byte {
	if !w.spoke[choice] && w.spoke != nil {
		w.spoke[choice] = true
		said.Role = "assistant"
	}
	chunk := w.head
	chunk.Choices = []chatCompletion{{Index: choice, Delta: said, LogProbs: probs, FinishReason: reason}}
	return event(dst, &chunk)
}

// Error ends the stream with an error. It implements dialect.StreamWriter.
func (w *chatWriter) Error(dst []byte, e *dialect.Error) []byte {
	return events.Append(dst, events.Event{Data: encodeError(e)})
}

// event appends a chunk as an event.
func event(dst []byte, chunk *chatResponse) []byte {
	data, err := json.Marshal(chunk)
	if err != nil {
		return dst // strings and numbers: they can be written
	}
	return events.Append(dst, events.Event{Data: data})
}
