// Package gemini speaks the dialect of Google's Gemini API, generateContent.
//
// [GenerateContent] reads and writes both sides of it, what clients send and what
// providers answer, in the canonical form of package dialect. Package llm calls it;
// nothing here does I/O or knows who is asked. The model and whether to stream stand in
// the URL, which is package llm's.
package gemini

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// GenerateContent is the API of that name (API reference, models.generateContent). It has
// no state.
type GenerateContent struct{}

// vendor is whose signatures stand in this dialect without saying so.
const vendor = "gcp.gemini"

// vertex is Google's other vendor of the dialect, whose signatures are its own.
const vertex = "gcp.vertex_ai"

// The wire of a request. Members that have no field stand in Rest.
type (
	request struct {
		Model             string            `json:"model,omitzero"` // in a count of tokens
		SystemInstruction *content          `json:"systemInstruction,omitzero"`
		Contents          []content         `json:"contents"`
		Tools             []tool            `json:"tools,omitzero"`
		ToolConfig        *toolConfig       `json:"toolConfig,omitzero"`
		GenerationConfig  *generationConfig `json:"generationConfig,omitzero"`
		Rest              jsontext.Value    `json:",embed"`
	}
	content struct {
		Role  string         `json:"role,omitzero"` // user, model
		Parts []part         `json:"parts"`
		Rest  jsontext.Value `json:",embed"`
	}
	part struct {
		Text             *string           `json:"text,omitzero"`
		Thought          bool              `json:"thought,omitzero"`
		ThoughtSignature string            `json:"thoughtSignature,omitzero"` // base64
		InlineData       *blob             `json:"inlineData,omitzero"`
		FileData         *fileData         `json:"fileData,omitzero"`
		FunctionCall     *functionCall     `json:"functionCall,omitzero"`
		FunctionResponse *functionResponse `json:"functionResponse,omitzero"`
		Rest             jsontext.Value    `json:",embed"`

		order int // of the call that is answered
	}
	blob struct {
		MimeType string         `json:"mimeType"`
		Data     string         `json:"data"`
		Rest     jsontext.Value `json:",embed"`
	}
	fileData struct {
		MimeType string         `json:"mimeType,omitzero"`
		FileURI  string         `json:"fileUri"`
		Rest     jsontext.Value `json:",embed"`
	}
	functionCall struct {
		ID   string         `json:"id,omitzero"`
		Name string         `json:"name"`
		Args jsontext.Value `json:"args,omitzero"`
		Rest jsontext.Value `json:",embed"`
	}
	functionResponse struct {
		ID       string         `json:"id,omitzero"`
		Name     string         `json:"name"`
		Response jsontext.Value `json:"response"`
		Rest     jsontext.Value `json:",embed"`
	}
	tool struct {
		FunctionDeclarations []declaration  `json:"functionDeclarations,omitzero"`
		Rest                 jsontext.Value `json:",embed"`
	}
	declaration struct {
		Name                 string         `json:"name"`
		Description          string         `json:"description,omitzero"`
		Parameters           jsontext.Value `json:"parameters,omitzero"`           // in the words of OpenAPI
		ParametersJSONSchema jsontext.Value `json:"parametersJsonSchema,omitzero"` // in those of JSON Schema
		Rest                 jsontext.Value `json:",embed"`
	}
	toolConfig struct {
		FunctionCallingConfig *callingConfig `json:"functionCallingConfig,omitzero"`
		Rest                  jsontext.Value `json:",embed"`
	}
	callingConfig struct {
		Mode                 string         `json:"mode,omitzero"` // AUTO, ANY, NONE, VALIDATED
		AllowedFunctionNames []string       `json:"allowedFunctionNames,omitzero"`
		Rest                 jsontext.Value `json:",embed"`
	}
	generationConfig struct {
		ResponseMimeType   string          `json:"responseMimeType,omitzero"`
		ResponseSchema     jsontext.Value  `json:"responseSchema,omitzero"`
		ResponseJSONSchema jsontext.Value  `json:"responseJsonSchema,omitzero"`
		ThinkingConfig     *thinkingConfig `json:"thinkingConfig,omitzero"`
		Rest               jsontext.Value  `json:",embed"`
	}
	thinkingConfig struct {
		IncludeThoughts bool           `json:"includeThoughts,omitzero"`
		ThinkingBudget  *int64         `json:"thinkingBudget,omitzero"`
		ThinkingLevel   string         `json:"thinkingLevel,omitzero"`
		Rest            jsontext.Value `json:",embed"`
	}
)

// fields are the members of generationConfig that mean what the field of package dialect
// means.
var fields = [...][2]string{
	{"maxOutputTokens", dialect.MaxTokens}, {"temperature", dialect.Temperature}, {"topP", dialect.TopP}, {"topK", dialect.TopK},
	{"stopSequences", dialect.Stop}, {"seed", dialect.Seed}, {"candidateCount", dialect.Candidates},
	{"presencePenalty", dialect.PresencePenalty}, {"frequencyPenalty", dialect.FrequencyPenalty},
	{"responseLogprobs", dialect.LogProbs}, {"logprobs", dialect.TopLogProbs},
}

// An errorBody is what Google's APIs answer instead (AIP-193).
type errorBody struct {
	Error *status `json:"error"`
}

type status struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Status  string    `json:"status"`
	Details []details `json:"details,omitzero"`
}

type details struct {
	Type       string         `json:"@type"`
	RetryDelay string         `json:"retryDelay,omitzero"` // of a RetryInfo
	Rest       jsontext.Value `json:",embed"`
}

// DecodeError reads the body of an answer that is none. What is no error of Google's is
// quoted.
func (GenerateContent) DecodeError(code int, body []byte) *dialect.Error {
	out := &dialect.Error{Status: code}
	if list := bytes.TrimSpace(body); len(list) > 1 && list[0] == '[' { // where an array would have been streamed
		body = list[1 : len(list)-1]
	}
	var wire errorBody
	if err := json.Unmarshal(body, &wire); err != nil || wire.Error == nil || wire.Error.Message == "" {
		out.Message = dialect.Quote(code, body)
		return out
	}
	fillError(out, wire.Error)
	return out
}

func fillError(out *dialect.Error, s *status) {
	out.Message, out.Type = s.Message, s.Status
	for _, d := range s.Details {
		if wait, err := time.ParseDuration(d.RetryDelay); err == nil && wait > 0 {
			out.RetryAfter = wait
		}
	}
}

// EncodeError writes an error as Google's APIs do.
func (GenerateContent) EncodeError(e *dialect.Error) []byte {
	message := e.Message
	if e.Param != "" && e.Status == http.StatusBadRequest {
		message = e.Param + ": " + message
	}
	out, err := json.Marshal(errorBody{&status{Code: e.Status, Message: message, Status: statusName(e.Status)}})
	if err != nil {
		return []byte(`{"error":{"code":500,"message":"internal error","status":"INTERNAL"}}`)
	}
	return out
}

// statusName returns the name of the canonical code that stands for a status (AIP-193).
func statusName(code int) string {
	switch code {
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case http.StatusNotImplemented:
		return "UNIMPLEMENTED"
	case http.StatusBadGateway, http.StatusServiceUnavailable, 529:
		return "UNAVAILABLE"
	case http.StatusGatewayTimeout:
		return "DEADLINE_EXCEEDED"
	}
	if code >= 500 {
		return "INTERNAL"
	}
	return "INVALID_ARGUMENT"
}

// redacted begins the signature of thoughts that only their maker can read: here such a
// thought is a signature without text.
const redacted = "redacted:"

// signatureOf reads a thoughtSignature, which is base64 of whatever its maker wants: where
// another vendor made it, of what [dialect.Foreign] returns.
func signatureOf(s string) (origin, signature string) {
	if raw, err := base64.StdEncoding.DecodeString(s); err == nil {
		if origin, signature := dialect.Signature(string(raw), ""); origin != "" {
			return origin, signature
		}
	}
	return vendor, s
}

// foreign is the inverse of signatureOf.
func foreign(origin, signature string) string {
	if origin == vendor || origin == "" {
		return signature
	}
	return base64.StdEncoding.EncodeToString([]byte(dialect.Foreign(origin, signature)))
}
