// Package anthropic speaks the dialect of Anthropic's Messages API.
//
// [Messages] reads and writes both sides of it, what clients send and what providers
// answer, in the canonical form of package dialect. Package llm calls it; nothing
// here does I/O or knows who is asked.
package anthropic

import (
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// Messages is the Messages API (API reference, Messages). It has no state.
type Messages struct{}

// vendor is whose signatures stand in this dialect without saying so.
const vendor = "anthropic"

// defaultMaxTokens is the limit for clients that set none: here it is required.
const defaultMaxTokens = 4096

// minBudget is the least budget that thinking can have.
const minBudget = 1024

// The wire of a request. Members that have no field stand in Rest.
type (
	request struct {
		Model        string         `json:"model,omitzero"`
		MaxTokens    jsontext.Value `json:"max_tokens,omitzero"`
		System       jsontext.Value `json:"system,omitzero"` // a string or text blocks
		Messages     []message      `json:"messages"`
		Stream       bool           `json:"stream,omitzero"`
		Tools        []tool         `json:"tools,omitzero"`
		ToolChoice   *toolChoice    `json:"tool_choice,omitzero"`
		Thinking     *thinking      `json:"thinking,omitzero"`
		OutputConfig *outputConfig  `json:"output_config,omitzero"`
		OutputFormat *outputFormat  `json:"output_format,omitzero"` // what output_config.format was called before
		Metadata     *metadata      `json:"metadata,omitzero"`
		Rest         jsontext.Value `json:",embed"`
	}
	message struct {
		Role    string         `json:"role"`
		Content jsontext.Value `json:"content"` // a string or blocks
		Rest    jsontext.Value `json:",embed"`
	}
	// A block is a block of content, of any type.
	block struct {
		Type         string         `json:"type"`
		Text         *string        `json:"text,omitzero"`
		Thinking     *string        `json:"thinking,omitzero"`
		Signature    *string        `json:"signature,omitzero"`
		Data         string         `json:"data,omitzero"` // of redacted thinking
		Source       *source        `json:"source,omitzero"`
		Title        string         `json:"title,omitzero"`
		ID           string         `json:"id,omitzero"`
		Name         string         `json:"name,omitzero"`
		Input        jsontext.Value `json:"input,omitzero"`
		ToolUseID    string         `json:"tool_use_id,omitzero"`
		Content      jsontext.Value `json:"content,omitzero"` // of a tool result: a string or blocks
		IsError      bool           `json:"is_error,omitzero"`
		CacheControl jsontext.Value `json:"cache_control,omitzero"`
		Citations    jsontext.Value `json:"citations,omitzero"` // an array; of a document in a request an object
		Rest         jsontext.Value `json:",embed"`
	}
	source struct {
		Type      string         `json:"type"` // base64, url, file, text
		MediaType string         `json:"media_type,omitzero"`
		Data      string         `json:"data,omitzero"`
		URL       string         `json:"url,omitzero"`
		FileID    string         `json:"file_id,omitzero"`
		Rest      jsontext.Value `json:",embed"`
	}
	tool struct {
		Type         string         `json:"type,omitzero"`
		Name         string         `json:"name"`
		Description  string         `json:"description,omitzero"`
		InputSchema  jsontext.Value `json:"input_schema,omitzero"`
		Strict       *bool          `json:"strict,omitzero"`
		CacheControl jsontext.Value `json:"cache_control,omitzero"`
		Rest         jsontext.Value `json:",embed"`
	}
	toolChoice struct {
		Type                   string         `json:"type"` // auto, any, tool, none
		Name                   string         `json:"name,omitzero"`
		DisableParallelToolUse jsontext.Value `json:"disable_parallel_tool_use,omitzero"`
		Rest                   jsontext.Value `json:",embed"`
	}
	thinking struct {
		Type         string         `json:"type"` // enabled, adaptive, between_tools, disabled
		BudgetTokens int64          `json:"budget_tokens,omitzero"`
		Display      string         `json:"display,omitzero"`
		Rest         jsontext.Value `json:",embed"`
	}
	outputConfig struct {
		Effort string         `json:"effort,omitzero"`
		Format *outputFormat  `json:"format,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
	outputFormat struct {
		Type   string         `json:"type"`
		Schema jsontext.Value `json:"schema,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
	metadata struct {
		UserID jsontext.Value `json:"user_id,omitzero"`
		Rest   jsontext.Value `json:",embed"`
	}
)

// sampling are the members that mean what the field of package dialect means, and that some
// models do without.
var sampling = [...][2]string{{"temperature", dialect.Temperature}, {"top_p", dialect.TopP}, {"top_k", dialect.TopK}}

// fields are the others. service_tier is read only: each vendor has values of its own for it.
var (
	fields = [...][2]string{{"stop_sequences", dialect.Stop}}
	read   = [...][2]string{{"service_tier", dialect.ServiceTier}}
)

// An errorBody is what the API answers instead (API reference, Errors).
type errorBody struct {
	Type      string      `json:"type"`
	Error     errorObject `json:"error"`
	RequestID string      `json:"request_id,omitzero"`
}

type errorObject struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// DecodeError reads the body of an answer that is none. What is no error of Anthropic's is
// quoted.
func (Messages) DecodeError(status int, body []byte) *dialect.Error {
	out := &dialect.Error{Status: status}
	var wire errorBody
	if err := json.Unmarshal(body, &wire); err != nil || wire.Error.Message == "" {
		out.Message = dialect.Quote(status, body)
		return out
	}
	out.Message, out.Type = wire.Error.Message, wire.Error.Type
	return out
}

// EncodeError writes an error as Anthropic's APIs do.
func (Messages) EncodeError(e *dialect.Error) []byte {
	message := e.Message
	if e.Param != "" && e.Status == http.StatusBadRequest {
		message = e.Param + ": " + message
	}
	out, err := json.Marshal(errorBody{Type: "error", Error: errorObject{Type: errorType(e.Status), Message: message}})
	if err != nil {
		return []byte(`{"type":"error","error":{"type":"api_error","message":"internal error"}}`)
	}
	return out
}

// errorTypes are Anthropic's words for statuses.
var errorTypes = [...]struct {
	status int
	name   string
}{
	{http.StatusBadRequest, "invalid_request_error"},
	{http.StatusUnauthorized, "authentication_error"},
	{http.StatusPaymentRequired, "billing_error"},
	{http.StatusForbidden, "permission_error"},
	{http.StatusNotFound, "not_found_error"},
	{http.StatusRequestEntityTooLarge, "request_too_large"},
	{http.StatusTooManyRequests, "rate_limit_error"},
	{http.StatusInternalServerError, "api_error"},
	{http.StatusGatewayTimeout, "timeout_error"},
	{529, "overloaded_error"},
}

func errorType(status int) string {
	for _, t := range errorTypes {
		if t.status == status {
			return t.name
		}
	}
	switch {
	case status == http.StatusServiceUnavailable:
		return "overloaded_error"
	case status >= 500:
		return "api_error"
	default:
		return "invalid_request_error"
	}
}

// statusOf returns the status that stands for an error in the middle of a stream.
func statusOf(name string) int {
	for _, t := range errorTypes {
		if t.name == name {
			return t.status
		}
	}
	return http.StatusInternalServerError
}
