package llm

import (
	"net/http"
	"strings"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/llm/gemini"
)

// An operation is what a request asks for, as its path tells.
type operation struct {
	form   form
	models bool   // the list of models, or the model that the path names
	list   lister // in whose form
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
// prefix. What is none of the well-known paths is a chat completion.
func operationOf(r *http.Request) operation {
	path := strings.TrimSuffix(r.URL.Path, "/")
	op := operation{form: chat}
	method := http.MethodPost
	switch {
	case op.isModels(r, path):
		method = http.MethodGet
	case strings.HasSuffix(path, "/v1/messages"):
		op.form = messages
	case strings.HasSuffix(path, "/v1/messages/count_tokens"):
		op.form = count
	case strings.HasSuffix(path, "/v1/responses/input_tokens"):
		op.form = countInput
	case strings.HasSuffix(path, ":countTokens"):
		op.form, op.model = countContents, pathModel(path)
	case strings.HasSuffix(path, "/v1/responses"):
		op.form = respond
	case strings.HasSuffix(path, ":generateContent"):
		op.form, op.model = generate, pathModel(path)
	case strings.HasSuffix(path, ":streamGenerateContent"):
		op.form, op.model, op.stream = generate, pathModel(path), true
		op.array = r.URL.Query().Get("alt") != "sse"
	default:
		for _, end := range unserved {
			if strings.HasSuffix(path, end) {
				op.fault = fault.New(fault.NotImplemented, "%s is not served yet", end)
				return op
			}
		}
	}
	if r.Method != method {
		op.fault = &fault.Fault{Code: fault.MethodNotAllowed, Message: "use " + method, Header: http.Header{"Allow": {method}}}
	}
	return op
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

// unserved are the ends of paths that are well known and lead nowhere yet: none of them
// is a chat completion.
var unserved = [...]string{
	"/v1/responses/compact", "/v1/embeddings", "/v1/completions", "/v1/realtime", "/v1/moderations",
	"/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions", ":embedContent",
}
