// Package dialect is the canonical form of what LLM clients and providers say to
// each other: requests, answers, streams, errors and usage, in no vendor's words.
//
// A dialect is a wire format. Each has a package beside this one (openai, anthropic,
// gemini) that reads its wire into this form and writes it out; package llm joins
// any two of them. What a dialect does not understand of a [Request] is kept as raw
// JSON in [Request.Fields] with the place where it stood, and a [Carrier] accounts for
// what of a Request reached the provider: what nobody took is reported, so that
// nothing is lost in silence.
//
// Where client and provider speak the same dialect nothing is translated: a [Body]
// is checked, and patched where it must be.
//
// Nothing here does I/O. It is a leaf: it imports no package of this module.
package dialect

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A Request asks a model for an answer.
type Request struct {
	Model  string // as the client wrote it
	Stream bool   // the client wants events
	// Usage says that the client of a stream asked for the usage, in dialects
	// where that is a question.
	Usage bool

	Messages  []Message
	Tools     []Tool
	Choice    Choice    // of tools
	Output    Output    // structured output
	Reasoning Reasoning // thinking before the answer

	// Inputs are what is to be embedded, in a request for embeddings, which has nothing
	// of the above.
	Inputs []Input
	// Base64 says that the client of embeddings wants them in base64.
	Base64 bool

	// Fields are the other things that the request says, in its order: those with
	// one of the names below, and those that its dialect does not understand.
	Fields []Field

	joined map[string][]string // see Join
}

// Join notes that what stands at path is a part of the one that stands at into: the two are
// dropped together.
func (r *Request) Join(into, path string) {
	if r.joined == nil {
		r.joined = map[string][]string{}
	}
	r.joined[into] = append(r.joined[into], path)
}

// Names of fields that several dialects have. Values are as OpenAI's chat
// completions write them.
const (
	MaxTokens        = "max_tokens"
	Temperature      = "temperature"
	TopP             = "top_p"
	TopK             = "top_k"
	Stop             = "stop" // an array of strings
	Seed             = "seed"
	PresencePenalty  = "presence_penalty"
	FrequencyPenalty = "frequency_penalty"
	Candidates       = "n"
	LogProbs         = "logprobs"
	TopLogProbs      = "top_logprobs"
	User             = "user"
	ServiceTier      = "service_tier"
	ParallelTools    = "parallel_tool_calls"
	Dimensions       = "dimensions" // of embeddings
)

// A Field is a member of a request that is not part of its structure.
type Field struct {
	// Name is one of the names above, or the member's own when it stands at the
	// top and is not known; "" when it stands deeper.
	Name  string
	Path  string // where the client wrote it: messages[0].name
	Value jsontext.Value
}

// A Role says whose words a message holds.
type Role uint8

// The roles. The zero value is FromUser: results of tools are part of what the user
// says.
const (
	FromUser Role = iota
	FromSystem
	FromAssistant
)

// A Message is a turn of the conversation.
type Message struct {
	Role  Role
	Path  string
	Parts []Part
}

// A Kind says what a [Part] is.
type Kind uint8

// The kinds of parts.
const (
	Text       Kind = iota
	Thinking        // what the model thought, with the provider's signature
	Redacted        // the same, readable by the provider alone
	Refusal         // the model's words for not answering
	Image           // Media
	Audio           // Media
	Document        // Media
	ToolCall        // ID, Name, Text: the arguments
	ToolResult      // ID, Name, Parts
	Opaque          // what only the dialect it came from understands
)

// A Part is a piece of a message.
type Part struct {
	Kind Kind
	Path string // where the client wrote it; in answers, of Media only: the provider

	// Text of Text, Thinking and Refusal; the data of Redacted; of a ToolCall the
	// arguments as JSON text, as they were written.
	Text  string
	Media Media

	ID     string // of a ToolCall, and of the call that a ToolResult answers
	Name   string // of the tool
	Parts  []Part // of a ToolResult: text, images and documents
	Failed bool   // the ToolResult says that the tool failed

	// Signature is what the provider wants back with the part, unchanged; on
	// Thinking, ToolCall and Text. Origin is who made it: no other provider may see
	// it. In answers, "" is the provider that answers. SignedAt is where it stands in
	// the client's request, or on Text in the provider's answer.
	Signature string
	Origin    string
	SignedAt  string

	// Citations are the sources of a Text in an answer.
	Citations []Citation
	// LogProbs are the log probabilities of the tokens of a Text or Refusal in an
	// answer, an array as chat completions have it; nil when they are not said. LogAt
	// is where they stand in the provider's answer.
	LogProbs jsontext.Value
	LogAt    string

	// Cache is an Anthropic cache_control, {"type":"ephemeral"}: the prompt up to
	// here is worth keeping. Nil: it is not said.
	Cache jsontext.Value
}

// Rewrite makes the text of a part of an answer other words: what was said of each token is not
// so any more, and might tell the former ones; and sources are those of all of it.
func (p *Part) Rewrite(text string) {
	p.Text, p.LogProbs, p.LogAt = text, nil, ""
	for i := range p.Citations {
		c := &p.Citations[i]
		c.Start, c.End, c.Quote, c.Native = 0, 0, "", nil
	}
}

// A Tool is a function that the model may call.
type Tool struct {
	Path        string
	Name        string
	Description string
	Schema      jsontext.Value // JSON Schema of the arguments; nil: none
	Strict      *bool
	Cache       jsontext.Value // see [Part.Cache]
}

// A ChoiceMode says whether the model is to call tools.
type ChoiceMode uint8

// The modes. The zero value leaves it to the provider's default.
const (
	ChoiceDefault ChoiceMode = iota
	ChoiceAuto
	ChoiceNone
	ChoiceRequired // any tool
	ChoiceNamed    // the tool of that name
)

// A Choice is the choice of tools that a request leaves to the model.
type Choice struct {
	Mode ChoiceMode
	Name string // with ChoiceNamed
	Path string
}

// An OutputFormat says what the answer's text is.
type OutputFormat uint8

// The formats. The zero value is prose.
const (
	Prose      OutputFormat = iota
	JSONObject              // any JSON object
	JSONSchema              // JSON that conforms to a schema
)

// An Output is the form in which a request wants the answer's text.
type Output struct {
	Format      OutputFormat
	Path        string
	Name        string
	Description string
	Schema      jsontext.Value
	Strict      *bool
}

// Titled returns the schema with the name and the description of the output in it, for
// dialects that have no other place for them. Those that it has itself stay.
func (o *Output) Titled() jsontext.Value {
	if o.Schema.Kind() != '{' {
		return o.Schema
	}
	has := map[string]bool{}
	Members(o.Schema, func(name string, _ jsontext.Value) { has[name] = true })
	var out Object
	if o.Name != "" && !has["title"] {
		out.Set("title", String(o.Name))
	}
	if o.Description != "" && !has["description"] {
		out.Set("description", String(o.Description))
	}
	Members(o.Schema, out.Set)
	return out.Value()
}

// A Reasoning says how much the model is to think before it answers. The zero
// value leaves it to the provider.
type Reasoning struct {
	Path     string // "" when the request says nothing
	Off      bool
	Adaptive bool   // the model decides, guided by the effort
	Effort   string // as the client wrote it, see Carrier.Thinking; "" when a budget is set, or nothing is said
	EffortAt string // where it says so, "" when it does not
	Budget   int64  // tokens; 0 when only an effort is said
	Hidden   bool   // the client does not want to see it
	HiddenAt string // where it says so, "" when it does not
}

// efforts are the efforts with the tokens that stand for them where a dialect
// counts tokens.
var efforts = [...]struct {
	name   string
	budget int64
}{{"minimal", 1024}, {"low", 1024}, {"medium", 2048}, {"high", 4096}, {"xhigh", 8192}, {"max", 16384}}

// Tokens returns the budget, or the one that stands for the effort.
func (r *Reasoning) Tokens() int64 {
	if r.Budget > 0 {
		return r.Budget
	}
	return r.effort()
}

// effort returns the tokens that stand for the effort, 0 when it is none of the known ones.
func (r *Reasoning) effort() int64 {
	for _, e := range efforts {
		if e.name == r.Effort {
			return e.budget
		}
	}
	return 0
}

// Level returns the effort, or the one of low, medium and high that stands for the
// budget; "" when nothing is said.
func (r *Reasoning) Level() string {
	switch {
	case r.Off:
		return "none"
	case r.Effort != "" || r.Budget == 0:
		return r.Effort
	case r.Budget <= 1024:
		return "low"
	case r.Budget <= 2048:
		return "medium"
	default:
		return "high"
	}
}

// foreign begins a signature that stands in a field of another vendor's dialect. It
// says whose it is, so that it comes back to that vendor and to nobody else.
const foreign = "mcpgw:signature:"

// foreignBase64 is how the base64 of it begins, for dialects in which a signature is that.
const foreignBase64 = "bWNwZ3c6c2lnbmF0dXJl"

// Foreign returns the form in which a client keeps a signature of origin that its
// dialect has no place for: it comes back as it is, and [Signature] reads it.
func Foreign(origin, signature string) string { return foreign + origin + ":" + signature }

// Signature returns a signature as a client sent it, and whose it is: that of
// native, the vendor of the client's dialect, unless it says otherwise.
func Signature(s, native string) (origin, signature string) {
	rest, ok := strings.CutPrefix(s, foreign)
	if !ok {
		return native, s
	}
	origin, signature, _ = strings.Cut(rest, ":")
	return origin, signature
}

// PackID returns the id of a tool call with the signature that has to come back with
// it, for dialects in which nothing else of a call does.
func PackID(id, origin, signature string) string {
	if signature == "" {
		return id
	}
	return id + "." + Foreign(origin, signature)
}

// UnpackID is the inverse of [PackID]. The signature of an id without one is "".
func UnpackID(packed string) (id, origin, signature string) {
	id, rest, ok := strings.Cut(packed, "."+foreign)
	if !ok {
		return packed, "", ""
	}
	origin, signature, _ = strings.Cut(rest, ":")
	return id, origin, signature
}
