package llmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// An Answer is what a model says, whatever the dialect.
type Answer struct {
	// Thought and Signature are of its thinking; chat completions have no place for them.
	Thought, Signature string
	Text               string
	Calls              []Call
	// Status, unless 0, is that of an error with Text, and Header comes with it.
	Status int
	Header map[string]string
}

// A Call is a call of a tool.
type Call struct {
	ID, Name  string
	Arguments string // an object, as JSON
}

// Hello is the answer of those who were not told another.
var Hello = Answer{Text: "hello"}

// Usage of every answer.
const (
	InputTokens    = 9 // with CachedTokens
	CachedTokens   = 4
	OutputTokens   = 12 // with ThoughtTokens
	ThoughtTokens  = 7
	CountedTokens  = 14        // what a count of tokens says
	Model          = "model-1" // what answers say of the model
	answeredSecond = 1780000000
)

// An Event is one event of a stream.
type Event struct {
	Wire []byte // with the empty line that ends it
	// Content says that a client can tell from it that the model has begun to speak.
	Content bool
}

// A Dialect is a language in which a provider is asked.
type Dialect uint8

// The dialects.
const (
	Chat       Dialect = iota // OpenAI's chat completions
	Responses                 // OpenAI's Responses
	Messages                  // Anthropic's Messages
	Generate                  // Gemini's generateContent
	Embeddings                // OpenAI's embeddings
	Count                     // any count of tokens
	Contents                  // Gemini's batchEmbedContents
	Predict                   // Vertex AI's embeddings of texts
	Converse                  // Amazon Bedrock's
	Invoke                    // Anthropic's Messages at Amazon Bedrock
)

// Dialects are those that clients speak and that have streams.
var Dialects = []Dialect{Chat, Responses, Messages, Generate}

// Embedders are those in which clients ask for embeddings.
var Embedders = []Dialect{Embeddings, Contents}

// String returns the name of the dialect.
func (d Dialect) String() string {
	return [...]string{"chat completions", "Responses", "Messages", "generateContent", "embeddings", "count", "batchEmbedContents", "predict", "Converse", "InvokeModel"}[d]
}

// Vendor returns whose dialect it is.
func (d Dialect) Vendor() Vendor {
	switch d {
	case Messages:
		return Anthropic
	case Generate, Contents, Predict:
		return Gemini
	default:
		return OpenAI
	}
}

// Path returns where the dialect is spoken below the base of an API.
func (d Dialect) Path(model string, stream bool) string {
	switch d {
	case Responses:
		return "/v1/responses"
	case Messages:
		return "/v1/messages"
	case Embeddings:
		return "/v1/embeddings"
	case Contents:
		return "/v1beta/models/" + model + ":batchEmbedContents"
	case Generate:
		if stream {
			return "/v1beta/models/" + model + ":streamGenerateContent?alt=sse"
		}
		return "/v1beta/models/" + model + ":generateContent"
	default:
		return "/v1/chat/completions"
	}
}

// Request returns a request that says text.
func (d Dialect) Request(text string, stream bool) []byte {
	more := ""
	if stream {
		more = `,"stream":true`
	}
	switch d {
	case Responses:
		return fmt.Appendf(nil, `{"model":"asked","input":%s%s}`, quote(text), more)
	case Messages:
		return fmt.Appendf(nil, `{"model":"asked","max_tokens":100,"messages":[{"role":"user","content":%s}]%s}`, quote(text), more)
	case Generate:
		return fmt.Appendf(nil, `{"contents":[{"role":"user","parts":[{"text":%s}]}]}`, quote(text))
	case Embeddings:
		return fmt.Appendf(nil, `{"model":"asked","input":%s}`, quote(text))
	case Contents:
		return fmt.Appendf(nil, `{"requests":[{"model":"models/asked","content":{"parts":[{"text":%s}]}}]}`, quote(text))
	default:
		return fmt.Appendf(nil, `{"model":"asked","messages":[{"role":"user","content":%s}]%s}`, quote(text), more)
	}
}

// Whole returns an answer that is not streamed, to a request.
func (d Dialect) Whole(a Answer, request []byte) []byte {
	switch d {
	case Responses:
		return fmt.Append(nil, responsesObject(a, "completed", responsesItems(a)))
	case Messages:
		return messagesWhole(a)
	case Generate:
		return generateWhole(a)
	case Embeddings:
		return embeddings(request)
	case Contents, Predict:
		return contentEmbeddings(d, request)
	case Converse:
		return converseWhole(a)
	case Invoke:
		return messagesWhole(a)
	case Count:
		return []byte(fmt.Sprintf(`{"input_tokens":%[1]d,"object":"response.input_tokens","totalTokens":%[1]d,"inputTokens":%[1]d}`, CountedTokens))
	default:
		return chatWhole(a)
	}
}

// Stream returns the events of an answer.
func (d Dialect) Stream(a Answer) []Event {
	switch d {
	case Responses:
		return responsesStream(a)
	case Messages:
		return messagesStream(a)
	case Generate:
		return generateStream(a)
	case Converse:
		return converseStream(a)
	case Invoke:
		return invokeStream(a)
	default:
		return chatStream(a)
	}
}

// Error returns an error as the vendor of the dialect writes it.
func (d Dialect) Error(status int, message string) []byte {
	switch d {
	case Converse, Invoke:
		return fmt.Appendf(nil, `{"message":%s}`, quote(message))
	case Messages:
		typ := map[int]string{400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}[status]
		if typ == "" {
			typ = "api_error"
		}
		return fmt.Appendf(nil, `{"type":"error","error":{"type":%q,"message":%s},"request_id":"req_1"}`, typ, quote(message))
	case Generate, Contents, Predict:
		name := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
		if name == "" {
			name = "INTERNAL"
		}
		return fmt.Appendf(nil, `{"error":{"code":%d,"message":%s,"status":%q}}`, status, quote(message), name)
	default:
		typ := map[int]string{400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}[status]
		if typ == "" {
			typ = "server_error"
		}
		return fmt.Appendf(nil, `{"error":{"message":%s,"type":%q,"param":null,"code":null}}`, quote(message), typ)
	}
}

// head sets what comes beside an error.
func (d Dialect) head(h http.Header, status int) {
	if name := exceptionOf(status); name != "" && d.framed() {
		h.Set("X-Amzn-Errortype", name+":http://internal.amazon.com/coral/com.amazon.bedrock/")
	}
}

// ErrorEvent returns an error in the middle of a stream.
func (d Dialect) ErrorEvent(status int, message string) []byte {
	switch d {
	case Converse, Invoke:
		return bedrockException(status, message)
	case Messages:
		return fmt.Appendf(nil, "event: error\ndata: %s\n\n", d.Error(status, message))
	case Responses:
		return fmt.Appendf(nil, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":9,\"code\":\"server_error\",\"message\":%s,\"param\":null}\n\n", quote(message))
	default:
		return fmt.Appendf(nil, "data: %s\n\n", d.Error(status, message))
	}
}

// quote returns s as JSON.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string is always one
	}
	return string(b)
}

// halves cuts s into two, so that streams have to be put together.
func halves(s string) []string {
	if len(s) < 2 {
		return []string{s}
	}
	return []string{s[:len(s)/2], s[len(s)/2:]}
}
