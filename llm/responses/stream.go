package responses

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// An event is one event of a stream, of any type (Responses, Streaming).
type event struct {
	Type         string         `json:"type"`
	Sequence     int            `json:"sequence_number"`
	Response     *response      `json:"response,omitzero"`
	OutputIndex  *int           `json:"output_index,omitzero"`
	Item         *item          `json:"item,omitzero"`
	ItemID       string         `json:"item_id,omitzero"`
	ContentIndex *int           `json:"content_index,omitzero"`
	SummaryIndex *int           `json:"summary_index,omitzero"`
	Part         *part          `json:"part,omitzero"`
	Annotation   jsontext.Value `json:"annotation,omitzero"`
	AnnotationAt *int           `json:"annotation_index,omitzero"`
	Delta        string         `json:"delta,omitzero"`
	LogProbs     jsontext.Value `json:"logprobs,omitzero"`
	Text         *string        `json:"text,omitzero"`
	Refusal      *string        `json:"refusal,omitzero"`
	Arguments    *string        `json:"arguments,omitzero"`
	Name         string         `json:"name,omitzero"`
	Code         jsontext.Value `json:"code,omitzero"`
	Message      *string        `json:"message,omitzero"`
	Param        jsontext.Value `json:"param,omitzero"`
	Rest         jsontext.Value `json:",embed"`
}

var errEvent = errors.New("an event does not fit into the stream of a response")

// NewReader returns a reader of a provider's events.
func (Responses) NewReader() dialect.StreamReader { return &reader{} }

// A reader reads the events of one response.
type reader struct {
	begun, done bool
	open        bool // a block is
	kind        dialect.Kind
	empty       bool // it had no delta
	called      bool
	out         []dialect.Event
}

// Read takes one event off the wire. It implements dialect.StreamReader.
func (r *reader) Read(_ string, data []byte) ([]dialect.Event, error) {
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", errEvent, err)
	}
	r.out = r.out[:0]
	if r.done {
		return nil, nil
	}
	switch e.Type {
	case "response.created":
		if r.begun || e.Response == nil {
			return nil, errEvent
		}
		r.begun = true
		r.out = append(r.out, dialect.Event{Kind: dialect.Start, ID: e.Response.ID, Model: e.Response.Model, Created: dialect.Int(e.Response.CreatedAt)})
		return r.out, nil
	case "error":
		failure := &responseError{Code: strings.Join(dialect.Strings(e.Code), "")}
		if e.Message != nil {
			failure.Message = *e.Message
		}
		return nil, failure.canonical()
	}
	if !r.begun {
		return nil, errEvent
	}
	switch e.Type {
	case "response.output_text.delta":
		r.text(dialect.Text, e.Delta, probabilities(e.LogProbs))
	case "response.output_text.annotation.added":
		if r.open && r.kind == dialect.Text {
			if c, ok := citation(e.Annotation, e.annotationPath(), r.lose); ok {
				r.out = append(r.out, dialect.Event{Kind: dialect.Cited, Citation: c})
			}
		} else {
			r.lose(e.annotationPath())
		}
	case "response.refusal.delta":
		r.text(dialect.Refusal, e.Delta, nil)
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		r.text(dialect.Thinking, e.Delta, nil)
	case "response.function_call_arguments.delta":
		if r.open && r.kind == dialect.ToolCall {
			r.text(dialect.ToolCall, e.Delta, nil)
		}
	case "response.output_item.added":
		if e.Item != nil && e.Item.Type == "function_call" {
			r.close()
			r.begin(dialect.Part{Kind: dialect.ToolCall, ID: e.Item.CallID, Name: e.Item.Name})
			r.called = true
		}
	case "response.output_item.done":
		if e.Item != nil {
			r.item(e.Item, e.index())
			r.leftover(&e)
		}
	case "response.completed", "response.incomplete":
		if e.Response == nil {
			return nil, errEvent
		}
		r.close()
		r.done = true
		e.Response.leftover(r.lose)
		if u := e.Response.Usage.canonical(); u.Known {
			r.out = append(r.out, dialect.Event{Kind: dialect.UsageKnown, Usage: u})
		}
		r.out = append(r.out, dialect.Event{Kind: dialect.Finish, Reason: e.Response.reason(r.called)}, dialect.Event{Kind: dialect.End})
	case "response.failed":
		if e.Response == nil || e.Response.Error == nil {
			return nil, errEvent
		}
		return nil, e.Response.Error.canonical()
	}
	return r.out, nil // what else there is says the same in other words
}

// item takes the end of an item, which says it whole.
func (r *reader) item(i *item, index int) {
	if p, ok := picture(i, index); ok {
		r.close()
		r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Part: p}, dialect.Event{Kind: dialect.BlockEnd})
		return
	}
	switch {
	case i.Type == "function_call" && r.open && r.kind == dialect.ToolCall:
		if r.empty && i.Arguments != nil {
			r.text(dialect.ToolCall, *i.Arguments, nil)
		}
		r.close()
	case i.Type == "reasoning" && i.Encrypted != nil && *i.Encrypted != "":
		if !r.open || r.kind != dialect.Thinking {
			r.close()
			r.begin(dialect.Part{Kind: dialect.Thinking})
		}
		r.out = append(r.out, dialect.Event{Kind: dialect.Signed, Text: *i.Encrypted})
		r.close()
	case i.Type == "reasoning" || i.Type == "message":
		r.close()
	}
}

// leftover tells what of the item that ends has no other event.
func (r *reader) leftover(e *event) { answerParts(e.Item, e.index(), r.lose) }

// lose tells what has no other event.
func (r *reader) lose(path string) {
	r.out = append(r.out, dialect.Event{Kind: dialect.Lost, Text: path})
}

// index returns the place of the item that an event is about.
func (e *event) index() int {
	if e.OutputIndex == nil {
		return 0
	}
	return *e.OutputIndex
}

// annotationPath returns the place of the annotation that an event adds.
func (e *event) annotationPath() string {
	content, i := 0, 0
	if e.ContentIndex != nil {
		content = *e.ContentIndex
	}
	if e.AnnotationAt != nil {
		i = *e.AnnotationAt
	}
	return annotationPath(itemPath(e.index())+".content["+strconv.Itoa(content)+"]", i)
}

func (r *reader) begin(p dialect.Part) {
	r.open, r.kind, r.empty = true, p.Kind, true
	r.out = append(r.out, dialect.Event{Kind: dialect.BlockStart, Part: p})
}

func (r *reader) text(kind dialect.Kind, text string, probs jsontext.Value) {
	if text == "" {
		return
	}
	if !r.open || r.kind != kind {
		r.close()
		r.begin(dialect.Part{Kind: kind})
	}
	r.empty = false
	delta := dialect.Event{Kind: dialect.Delta, Text: text, LogProbs: probs}
	if probs != nil {
		delta.LogAt = "logprobs"
	}
	r.out = append(r.out, delta)
}

func (r *reader) close() {
	if !r.open {
		return
	}
	if r.kind == dialect.ToolCall && r.empty {
		r.text(dialect.ToolCall, "{}", nil)
	}
	r.open = false
	r.out = append(r.out, dialect.Event{Kind: dialect.BlockEnd})
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
func (Responses) NewWriter(o dialect.WriterOptions) dialect.StreamWriter {
	return &writer{options: o}
}

// A writer writes one answer as events, and keeps it: the last event says it all again.
type writer struct {
	options  dialect.WriterOptions
	sequence int
	skipped  bool // the open block has no place here
	head     *response
	output   []item

	// Of the open block.
	part      dialect.Part
	text      strings.Builder
	signature string
	cited     []jsontext.Value // annotations of the text
	probs     jsontext.Value   // of its tokens

	finish dialect.StopReason
	usage  dialect.Usage
}

func (w *writer) start(id, model string, created int64) { w.head = newResponse(id, model, created) }

// begin opens a block; it reports false for one that has no place here.
func (w *writer) begin(p *dialect.Part) bool {
	w.part, w.signature, w.cited, w.probs = *p, "", nil, nil
	w.text.Reset()
	if p.Kind == dialect.Image && p.Media.Data == "" {
		w.options.Lose(p.Path)
		return false
	}
	return true
}

// cite adds a source of the open block, and returns it; nil if it can't be said.
func (w *writer) cite(c *dialect.Citation) jsontext.Value {
	v := encodeCitation(c, utf8.RuneCountInString(w.text.String()), &w.options)
	if v != nil {
		w.cited = append(w.cited, v)
	}
	return v
}

// addLogProbs adds the log probabilities of tokens of the open block, and returns them.
func (w *writer) addLogProbs(v jsontext.Value, at string) jsontext.Value {
	if v != nil && w.part.Kind != dialect.Text {
		w.options.Lose(at)
		v = nil
	}
	w.probs = dialect.Concat(w.probs, v)
	return list(v)
}

// list returns an array, the empty one for nil.
func list(v jsontext.Value) jsontext.Value {
	if v == nil {
		return jsontext.Value("[]")
	}
	return v
}

// id returns the id of the open block's item.
func (w *writer) id() string {
	prefix := "msg_"
	switch w.part.Kind {
	case dialect.ToolCall:
		prefix = "fc_"
	case dialect.Thinking, dialect.Redacted:
		prefix = "rs_"
	case dialect.Image:
		prefix = "ig_"
	}
	return prefix + strings.TrimPrefix(w.head.ID, "resp_") + "_" + strconv.Itoa(len(w.output))
}

// item returns the open block as an item of that status.
func (w *writer) item(status string) item {
	said := w.text.String()
	i := item{ID: w.id(), Status: status}
	switch w.part.Kind {
	case dialect.ToolCall:
		i.Type, i.CallID, i.Name, i.Arguments = "function_call", dialect.PackID(w.part.ID, w.options.Origin, w.part.Signature), w.part.Name, &said
	case dialect.Thinking:
		i.Type, i.Status, i.Summary = "reasoning", "", []part{}
		if said != "" {
			i.Summary = []part{{Type: "summary_text", Text: &said}}
		}
		if w.signature != "" {
			signature := w.foreign(w.signature)
			i.Encrypted = &signature
		}
	case dialect.Redacted:
		data := w.foreign(redacted + w.part.Text)
		i.Type, i.Status, i.Summary, i.Encrypted = "reasoning", "", []part{}, &data
	case dialect.Image:
		i.Type, i.Result = "image_generation_call", w.part.Media.Data
		if format := strings.TrimPrefix(w.part.Media.Type, "image/"); format != "png" {
			i.Format = format
		}
	default:
		i.Type, i.Role, i.Content = "message", "assistant", jsontext.Value("[]")
		if status != "in_progress" {
			if content, err := json.Marshal([]part{w.content(said)}); err == nil { // strings: they can be written
				i.Content = content
			}
		}
	}
	return i
}

func (w *writer) content(said string) part {
	if w.part.Kind == dialect.Refusal {
		return part{Type: "refusal", Refusal: &said}
	}
	p := part{Type: "output_text", Text: &said, Annotations: jsontext.Value("[]"), LogProbs: list(w.probs)}
	if len(w.cited) > 0 {
		if v, err := json.Marshal(w.cited); err == nil { // checked JSON: it can be written
			p.Annotations = v
		}
	}
	return p
}

func (w *writer) foreign(signature string) string {
	if w.options.Origin == vendor {
		return signature
	}
	return dialect.Foreign(w.options.Origin, signature)
}

// response returns the whole answer.
func (w *writer) response(reason dialect.StopReason, u dialect.Usage) *response {
	r := *w.head
	r.Status, r.Output, r.Usage = "completed", w.output, usageOf(u)
	if r.Output == nil {
		r.Output = []item{}
	}
	switch reason {
	case dialect.StopLength, dialect.StopContext:
		r.Status, r.Incomplete = "incomplete", &incomplete{Reason: "max_output_tokens"}
	case dialect.StopFilter:
		r.Status, r.Incomplete = "incomplete", &incomplete{Reason: "content_filter"}
	}
	return &r
}

// Write appends an event as the client reads it. It implements dialect.StreamWriter.
func (w *writer) Write(dst []byte, e *dialect.Event) []byte {
	if e.Choice != 0 { // a response is one answer
		w.options.LoseChoice(e.Choice)
		return dst
	}
	switch e.Kind {
	case dialect.Start:
		w.start(e.ID, e.Model, e.Created)
		dst = w.event(dst, &event{Type: "response.created", Response: w.head})
		return w.event(dst, &event{Type: "response.in_progress", Response: w.head})
	case dialect.BlockStart:
		if w.skipped = !w.begin(&e.Part); w.skipped {
			return dst
		}
		i := w.item("in_progress")
		dst = w.event(dst, &event{Type: "response.output_item.added", OutputIndex: w.at(), Item: &i})
		switch w.part.Kind {
		case dialect.Text, dialect.Refusal:
			p := w.content("")
			return w.event(dst, &event{Type: "response.content_part.added", OutputIndex: w.at(), ItemID: w.id(), ContentIndex: new(int), Part: &p})
		case dialect.Thinking:
			empty := ""
			p := part{Type: "summary_text", Text: &empty}
			return w.event(dst, &event{Type: "response.reasoning_summary_part.added", OutputIndex: w.at(), ItemID: w.id(), SummaryIndex: new(int), Part: &p})
		}
	case dialect.Cited:
		n := len(w.cited)
		if v := w.cite(&e.Citation); v != nil {
			return w.event(dst, &event{
				Type: "response.output_text.annotation.added", OutputIndex: w.at(), ItemID: w.id(), ContentIndex: new(int), AnnotationAt: &n, Annotation: v,
			})
		}
	case dialect.Delta:
		w.text.WriteString(e.Text)
		d := &event{OutputIndex: w.at(), ItemID: w.id(), Delta: e.Text}
		switch w.part.Kind {
		case dialect.Text:
			d.Type, d.ContentIndex, d.LogProbs = "response.output_text.delta", new(int), w.addLogProbs(e.LogProbs, e.LogAt)
		case dialect.Refusal:
			w.addLogProbs(e.LogProbs, e.LogAt)
			d.Type, d.ContentIndex = "response.refusal.delta", new(int)
		case dialect.Thinking:
			d.Type, d.SummaryIndex = "response.reasoning_summary_text.delta", new(int)
		case dialect.ToolCall:
			d.Type = "response.function_call_arguments.delta"
		default:
			return dst
		}
		return w.event(dst, d)
	case dialect.Signed:
		w.signature += e.Text
		w.options.Lose(e.Part.SignedAt)
	case dialect.BlockEnd:
		if !w.skipped {
			return w.end(dst)
		}
	case dialect.Finish:
		w.finish = e.Reason
	case dialect.UsageKnown:
		w.usage = e.Usage
	case dialect.End:
		if w.head == nil {
			return dst // the provider's own events have said it all
		}
		r := w.response(w.finish, w.usage)
		return w.event(dst, &event{Type: "response." + r.Status, Response: r})
	}
	return dst
}

// end closes the open block.
func (w *writer) end(dst []byte) []byte {
	said := w.text.String()
	switch w.part.Kind {
	case dialect.Text, dialect.Refusal:
		d := &event{Type: "response.output_text.done", OutputIndex: w.at(), ItemID: w.id(), ContentIndex: new(int), Text: &said, LogProbs: list(w.probs)}
		if w.part.Kind == dialect.Refusal {
			d.Type, d.Text, d.Refusal, d.LogProbs = "response.refusal.done", nil, &said, nil
		}
		dst = w.event(dst, d)
		p := w.content(said)
		dst = w.event(dst, &event{Type: "response.content_part.done", OutputIndex: w.at(), ItemID: w.id(), ContentIndex: new(int), Part: &p})
	case dialect.Thinking:
		dst = w.event(dst, &event{Type: "response.reasoning_summary_text.done", OutputIndex: w.at(), ItemID: w.id(), SummaryIndex: new(int), Text: &said})
		p := part{Type: "summary_text", Text: &said}
		dst = w.event(dst, &event{Type: "response.reasoning_summary_part.done", OutputIndex: w.at(), ItemID: w.id(), SummaryIndex: new(int), Part: &p})
	case dialect.ToolCall:
		dst = w.event(dst, &event{Type: "response.function_call_arguments.done", OutputIndex: w.at(), ItemID: w.id(), Name: w.part.Name, Arguments: &said})
	}
	i := w.item("completed")
	dst = w.event(dst, &event{Type: "response.output_item.done", OutputIndex: w.at(), Item: &i})
	w.output = append(w.output, i)
	return dst
}

func (w *writer) at() *int {
	i := len(w.output)
	return &i
}

// Error ends the stream with an error. It implements dialect.StreamWriter.
func (w *writer) Error(dst []byte, e *dialect.Error) []byte {
	code := e.Code
	if code == "" {
		code = "server_error"
	}
	return w.event(dst, &event{Type: "error", Code: dialect.String(code), Message: &e.Message, Param: jsontext.Value("null")})
}

func (w *writer) event(dst []byte, e *event) []byte {
	e.Sequence = w.sequence
	w.sequence++
	data, err := json.Marshal(e)
	if err != nil {
		return dst // strings and numbers: they can be written
	}
	return events.Append(dst, events.Event{Type: e.Type, Data: data})
}
