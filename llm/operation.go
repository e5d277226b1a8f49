package llm

import (
	"net/http"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/glob"
	"github.com/mcpgw/mcpgw/llm/gemini"
)

// A RouteType says what a request is.
type RouteType uint8

// The route types.
const (
	Completions     RouteType = iota // OpenAI's chat completions
	Messages                         // Anthropic's
	Models                           // the list of models, and one of them
	Passthrough                      // anything, as it is
	Responses                        // OpenAI's
	TokenCount                       // a count of tokens, of any dialect
	GenerateContent                  // Google's
	Realtime                         // OpenAI's WebSocket
	Embeddings                       // of any dialect
	unserved                         // what is well known, and leads nowhere without a Route
)

// A Route says what requests to a provider are.
type Route struct {
	// Suffix is how their path ends; * in it is any text.
	Suffix string
	Type   RouteType
}

// An operation is what a request asks for, as its path tells.
type operation struct {
	kind   RouteType
	usual  RouteType // what it is at providers without a Route for it
	routed bool      // a Route said so
	path   string
	form   form
	list   lister // with Models: in whose form
	model  string // that the path names
	stream bool   // that the path asks for
	array  bool   // the stream is to be a JSON array
	fault  *fault.Fault
}

// codec returns what speaks to the client.
func (op *operation) codec() codec {
	if op.array {
		return gemini.ArrayStream{}
	}
	return op.form.codec()
}

// operationOf returns what r asks for, by the end of its path: a backend stands under any
// prefix. The first provider that has a Route for it says what it is.
func (b *Backend) operationOf(r *http.Request) operation {
	op := wellKnown(r)
	if b.mapped {
		for p := range b.providers() {
			if t, ok := p.route(op.path); ok {
				op.become(t)
				break
			}
		}
	}
	method := http.MethodPost
	switch op.kind {
	case Passthrough:
		return op
	case unserved:
		op.fault = fault.New(fault.NotImplemented, "%.200s is sent to no provider: give one that has it routes: {%q: Passthrough}", op.path, routeFor(op.path))
		return op
	case Models, Realtime:
		method = http.MethodGet
	default:
	}
	if r.Method != method {
		op.fault = &fault.Fault{Code: fault.MethodNotAllowed, Message: "use " + method, Header: http.Header{"Allow": {method}}}
	}
	return op
}

// wellKnown returns what r is by the well-known paths of each API. What is none of them is a
// chat completion.
func wellKnown(r *http.Request) operation {
	path := strings.TrimSuffix(r.URL.Path, "/")
	op := operation{path: path}
	is := func(t RouteType, f form) { op.kind, op.form = t, f }
	switch {
	case op.isModels(r, path):
		op.kind = Models
	case strings.HasSuffix(path, "/v1/messages"):
		is(Messages, messages)
	case strings.HasSuffix(path, "/v1/messages/count_tokens"):
		is(TokenCount, count)
	case strings.HasSuffix(path, "/v1/responses/input_tokens"):
		is(TokenCount, countInput)
	case strings.HasSuffix(path, ":countTokens"):
		is(TokenCount, countContents)
	case strings.HasSuffix(path, "/v1/responses"):
		is(Responses, respond)
	case strings.HasSuffix(path, "/v1/realtime"):
		is(Realtime, chat)
	case strings.HasSuffix(path, "/embeddings"):
		is(Embeddings, embed)
	case strings.HasSuffix(path, ":embedContent"):
		is(Embeddings, embedContent)
	case strings.HasSuffix(path, ":batchEmbedContents"):
		is(Embeddings, embedContents)
	case strings.HasSuffix(path, ":generateContent"):
		is(GenerateContent, generate)
	case strings.HasSuffix(path, ":streamGenerateContent"):
		is(GenerateContent, generate)
		op.stream, op.array = true, r.URL.Query().Get("alt") != "sse"
	case routeFor(path) != "":
		is(unserved, chat)
	}
	op.usual = op.kind
	if op.form.pathNames() && op.kind != Models {
		op.model = pathModel(path)
	}
	return op
}

// become makes the operation what a Route says it is.
func (op *operation) become(t RouteType) {
	op.routed = true
	if t == op.kind {
		return
	}
	*op = operation{kind: t, usual: op.usual, routed: true, path: op.path}
	switch t {
	case Messages:
		op.form = messages
	case Responses:
		op.form = respond
	case TokenCount:
		op.form = count
	case GenerateContent:
		op.form = generate
		if strings.Contains(op.path, ":") {
			op.model = pathModel(op.path)
		}
	case Embeddings:
		op.form = embed
	case Models:
		op.list = openaiModels
	default:
	}
}

// route returns what the provider's routes say of a path.
func (p *Provider) route(path string) (t RouteType, ok bool) {
	longest := -1
	for _, r := range p.Routes {
		if len(r.Suffix) > longest && glob.Match("*"+r.Suffix, path) {
			t, ok, longest = r.Type, true, len(r.Suffix)
		}
	}
	return t, ok
}

// takes reports whether the operation is the same at the provider.
func (p *Provider) takes(op *operation) bool {
	if t, ok := p.route(op.path); ok {
		return t == op.kind
	}
	return op.usual == op.kind
}

// takers returns the groups without the providers at which the operation is another.
func (b *Backend) takers(groups [][]*Provider, op *operation) [][]*Provider {
	if !b.mapped {
		return groups
	}
	return only(groups, func(p *Provider) bool { return p.takes(op) })
}

// pathModel returns the model in a path of the Gemini API: …/models/NAME:METHOD. That of a
// tuned model keeps its collection.
func pathModel(path string) string {
	path = path[:strings.LastIndexByte(path, ':')]
	if i := strings.LastIndex(path, "/tunedModels/"); i >= 0 {
		return path[i+1:]
	}
	if i := strings.LastIndex(path, "/models/"); i >= 0 {
		return path[i+len("/models/"):] // it may be PROVIDER/MODEL
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// others are the parts of the APIs of OpenAI and Anthropic, behind /v1/, that are neither
// translated nor a chat completion.
var others = []string{
	"images", "audio", "files", "moderations", "completions", "batches", "fine_tuning", "uploads", "vector_stores", "assistants", "threads",
	"evals", "containers", "videos", "conversations", "responses", "realtime", "messages", "rerank", "complete", "skills",
}

// routeFor returns the suffix of the Route that a path needs which is none of those that are
// served without one; "" when it is not known at all.
func routeFor(path string) string {
	if i := strings.LastIndex(path, "/v1/"); i >= 0 {
		part, more, deeper := strings.Cut(path[i+len("/v1/"):], "/")
		switch {
		case !slices.Contains(others, part):
		case !deeper:
			return "/v1/" + part
		case part == "images" || part == "audio" || part == "realtime" || more == "compact": // names, not ids
			return path[i:]
		default:
			return "/v1/" + part + "/*"
		}
	}
	if _, last, ok := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ":"); ok && strings.Contains(path, "/models/") {
		return "/*:" + last
	}
	return ""
}
