package dialect

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A Response is a whole answer.
type Response struct {
	ID      string
	Model   string // that answered, which need not be the one that was asked for
	Created int64  // in seconds since 1970; 0 when the dialect does not say
	Choices []Answer
	Vectors []Vector // one for each input, of a request for embeddings
	Usage   Usage
	// Lost are the places in the provider's answer of what stands in no other field,
	// and can't reach the client of another dialect.
	Lost []string
}

// Lose notes the members of rest, which stand at path and which a dialect does not
// understand, as lost; empty ones say nothing.
func (r *Response) Lose(rest jsontext.Value, path string) {
	Leftover(rest, path, func(at string) { r.Lost = append(r.Lost, at) })
}

// Leftover calls lost with the places of the members of rest, which stands at path.
func Leftover(rest jsontext.Value, path string, lost func(at string)) {
	Members(rest, func(name string, v jsontext.Value) {
		switch string(v) {
		case "null", "[]", "{}", `""`, "false":
			return
		}
		if path != "" {
			name = path + "." + name
		}
		lost(name)
	})
}

// An Ignored is a member of an answer that is read by nobody: what a provider notes for
// itself, and what only says again what stands elsewhere.
type Ignored struct{}

// UnmarshalJSONFrom skips the value.
func (*Ignored) UnmarshalJSONFrom(dec *jsontext.Decoder) error { return dec.SkipValue() }

// An Answer is one of the alternatives that a [Response] holds; there is one, unless
// the request asked for more.
type Answer struct {
	Index    int
	Parts    []Part
	Reason   StopReason
	Sequence string // the stop sequence that was met
}

// A Citation is a source of what a text says.
type Citation struct {
	Path       string // where it stands in the provider's answer
	URL, Title string // of the source; "" when it has none
	Quote      string // from the source
	// Start and End are the characters of the part's text that it is about. Both are 0
	// when it is about all of it.
	Start, End int
	RangeAt    [2]string // where they stand in the provider's answer
	// Native is how the provider wrote it, for a client of its own dialect.
	Native jsontext.Value
}

// In returns the characters of a text that the citation is about, of which n are in its part,
// and before stand in front of that.
func (c *Citation) In(n, before int) (start, end int) {
	if c.Start == 0 && c.End == 0 {
		return before, before + n
	}
	start = min(max(c.Start, 0), n)
	return before + start, before + min(max(start, c.End), n)
}

// A StopReason says why an answer ended.
type StopReason uint8

// The reasons. The zero value is that of an answer that has not ended.
const (
	NotStopped   StopReason = iota
	StopEnd                 // it was said
	StopSequence            // a stop sequence was met
	StopLength              // the limit on tokens
	StopContext             // the model's context is full
	StopTools               // tools are to be called
	StopFilter              // a safety filter, or a refusal
	StopPause               // the provider wants to be asked to go on
)

// Usage is what an answer cost. Input includes what came from a cache and what was
// written to one, and Output includes reasoning, whatever the provider's own
// convention.
type Usage struct {
	Known          bool
	Input          int64 // tokens
	Output         int64
	CacheRead      int64 // of Input
	CacheWrite     int64 // of Input
	CacheWriteHour int64 // of CacheWrite: for an hour, and not for minutes
	Reasoning      int64 // of Output
	AudioInput     int64 // of Input
	AudioOutput    int64 // of Output
}

// Total returns the sum.
func (u Usage) Total() int64 { return u.Input + u.Output }

// An EventKind says what an [Event] is.
type EventKind uint8

// The kinds of events, in the order in which a stream has them: Start; for each
// choice blocks, each a BlockStart, Deltas and a BlockEnd, one after the other and
// never two at once, and never a ToolCall without arguments; a Finish for each choice; End. Usage may come anywhere between
// Start and End, the last one counts, and Lost anywhere before End.
const (
	Start      EventKind = iota // Response: ID, Model, Created
	BlockStart                  // Part: Kind, and what is known of it
	Delta                       // Text, more of the block's text, and its LogProbs
	Signed                      // Text, the signature of the block; Part: SignedAt
	Cited                       // Citation, of the text block so far
	BlockEnd                    //
	Finish                      // Reason, Sequence
	UsageKnown                  // Usage
	Lost                        // Text, the place in the provider's answer of what has no other event
	End                         // the stream is complete
)

// An Event is one step of an answer.
type Event struct {
	Kind     EventKind
	Choice   int // of which choice, in all but Start, UsageKnown and End
	ID       string
	Model    string
	Created  int64
	Part     Part
	Text     string
	Reason   StopReason
	Sequence string
	Usage    Usage
	Citation Citation
	LogProbs jsontext.Value // as in a [Part], with its place
	LogAt    string
}

// Rewrite makes text of a delta other words: what was said of each token is not so any more, and
// might tell the former ones.
func (e *Event) Rewrite(text string) {
	e.Text, e.LogProbs, e.LogAt = text, nil, ""
}

// IsContent reports whether the event is something that a client wanted: once it
// was sent, nobody else can answer instead.
func (e *Event) IsContent() bool {
	switch e.Kind {
	case Delta, Signed:
		return e.Text != ""
	case BlockStart:
		return e.Part.Kind != Text && e.Part.Kind != Thinking && e.Part.Kind != Refusal
	case Finish:
		return true // an empty answer is one
	default:
		return false
	}
}

// An Error is what a provider answers instead, or in the middle of a stream.
type Error struct {
	Status  int    // HTTP status; made from Type where there is none
	Message string // for the client
	Type    string // the provider's word for it
	Code    string // OpenAI's code
	Param   string // the field that is wrong, "" when none is named
	// RetryAfter is how long the provider asks to wait; 0 when it does not say.
	RetryAfter time.Duration
	// Elsewhere says that nothing is wrong with the request, but this provider can't be
	// asked it.
	Elsewhere bool
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("the provider answered %d: %s", e.Status, e.Message)
}

// Quote returns the message of an answer that is no error of its dialect: what stands in
// it, as far as that is text, cut to 256 bytes.
func Quote(status int, body []byte) string {
	const most = 256
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), most)]), "")), " ")
	if text == "" || text[0] == '<' {
		return fmt.Sprintf("the provider answered %d", status)
	}
	return fmt.Sprintf("the provider answered %d: %s", status, text)
}

// String returns the reason as OpenAI's chat completions name it, for logs.
func (r StopReason) String() string {
	return [...]string{"", "stop", "stop", "length", "length", "tool_calls", "content_filter", "pause"}[r]
}
