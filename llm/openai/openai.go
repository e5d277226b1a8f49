// Package openai speaks the dialect of OpenAI's chat completions, which many others speak,
// too.
//
// [Chat] reads and writes both sides of it, what clients send and what providers
// answer, in the canonical form of package dialect. Package llm calls it; nothing
// here does I/O or knows who is asked.
package openai

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// vendor is whose signatures stand in this dialect without saying so.
const vendor = "openai"

// An errorBody is what every API of OpenAI answers instead (API reference, Errors).
type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Message string         `json:"message"`
	Type    string         `json:"type"`
	Param   *string        `json:"param"`
	Code    jsontext.Value `json:"code"` // a string; a number with some that are like it
}

// DecodeError reads the body of an answer that is none. What is no error of OpenAI's is
// quoted.
func (Chat) DecodeError(status int, body []byte) *dialect.Error { return decodeError(status, body) }

// EncodeError writes an error as OpenAI's APIs do.
func (Chat) EncodeError(e *dialect.Error) []byte { return encodeError(e) }

func decodeError(status int, body []byte) *dialect.Error {
	out := &dialect.Error{Status: status}
	var wire errorBody
	if err := json.Unmarshal(body, &wire); err != nil || wire.Error.Message == "" {
		out.Message = dialect.Quote(status, body)
		return out
	}
	fillError(out, &wire.Error)
	return out
}

func fillError(out *dialect.Error, e *errorObject) {
	out.Message, out.Type = e.Message, e.Type
	if e.Param != nil {
		out.Param = *e.Param
	}
	if codes := dialect.Strings(e.Code); len(codes) == 1 {
		out.Code = codes[0]
	}
}

func encodeError(e *dialect.Error) []byte {
	wire := errorBody{errorObject{Message: e.Message, Type: errorType(e.Status), Code: jsontext.Value("null")}}
	if e.Param != "" {
		wire.Error.Param = &e.Param
	}
	if e.Code != "" {
		wire.Error.Code = dialect.String(e.Code)
	}
	out, err := json.Marshal(wire)
	if err != nil {
		return []byte(`{"error":{"message":"internal error","type":"server_error","param":null,"code":null}}`)
	}
	return out
}

// errorType returns OpenAI's word for a status.
func errorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "server_error"
	default:
		return "invalid_request_error"
	}
}

// statusOf returns the status that stands for an error in the middle of a stream.
func statusOf(e *errorObject) int {
	switch e.Type {
	case "invalid_request_error":
		return http.StatusBadRequest
	case "rate_limit_error", "rate_limit_exceeded", "insufficient_quota":
		return http.StatusTooManyRequests
	default:
		return http.StatusInternalServerError
	}
}

// now is when an answer was made whose provider does not say.
func now(created int64) int64 {
	if created != 0 {
		return created
	}
	return time.Now().Unix()
}
