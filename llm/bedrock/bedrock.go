// Package bedrock speaks the dialect of Amazon Bedrock's Converse API, towards providers.
//
// A [Converse] writes a request, and reads the answer to it, in the canonical form of package
// dialect; [NewFrames] cuts the streams of all of Bedrock's APIs into events, and [Error]
// reads their errors. Package llm calls it; nothing here does I/O of its own or knows who
// is asked. Whether to stream stands in the URL, which is package llm's, as does the model.
package bedrock

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A Converse is one exchange by the Converse API (API reference, Converse and
// ConverseStream): the request comes first, since the answer says neither which model it
// is of nor what the client calls its tools. It belongs to one goroutine.
type Converse struct {
	id    string // of the answer, which the API does not give
	model string
	names map[string]string // of tools as the client knows them, where the API has another
}

// The wire of a request.
type (
	request struct {
		Messages        []message         `json:"messages"`
		System          []block           `json:"system,omitzero"`
		InferenceConfig jsontext.Value    `json:"inferenceConfig,omitzero"`
		ToolConfig      *toolConfig       `json:"toolConfig,omitzero"`
		OutputConfig    *outputConfig     `json:"outputConfig,omitzero"`
		Additional      jsontext.Value    `json:"additionalModelRequestFields,omitzero"`
		ResponseFields  []string          `json:"additionalModelResponseFieldPaths,omitzero"`
		RequestMetadata map[string]string `json:"requestMetadata,omitzero"`
		ServiceTier     *serviceTier      `json:"serviceTier,omitzero"`
		Rest            jsontext.Value    `json:",embed"`
	}
	message struct {
		Role    string  `json:"role"` // user, assistant
		Content []block `json:"content"`
	}
	// A block is a block of content, of which one member is set.
	block struct {
		Text       *string    `json:"text,omitzero"`
		Image      *media     `json:"image,omitzero"`
		Audio      *media     `json:"audio,omitzero"`
		Document   *media     `json:"document,omitzero"`
		ToolUse    *toolUse   `json:"toolUse,omitzero"`
		ToolResult *result    `json:"toolResult,omitzero"`
		Reasoning  *reasoning `json:"reasoningContent,omitzero"`
		CachePoint *cache     `json:"cachePoint,omitzero"`
	}
	media struct {
		Format string `json:"format,omitzero"`
		Name   string `json:"name,omitzero"` // of a document
		Source source `json:"source"`
	}
	source struct {
		Bytes      string    `json:"bytes,omitzero"` // base64
		S3Location *location `json:"s3Location,omitzero"`
	}
	location struct {
		URI string `json:"uri"`
	}
	toolUse struct {
		ToolUseID string         `json:"toolUseId"`
		Name      string         `json:"name"`
		Input     jsontext.Value `json:"input,omitzero"` // an object; in a stream a part of its text, as a string
		Type      string         `json:"type,omitzero"`  // server_tool_use: Bedrock has used it already
	}
	result struct {
		ToolUseID string  `json:"toolUseId"`
		Content   []block `json:"content"`
		Status    string  `json:"status,omitzero"` // error
	}
	reasoning struct {
		ReasoningText   *reasoningText `json:"reasoningText,omitzero"`
		RedactedContent string         `json:"redactedContent,omitzero"` // base64
	}
	reasoningText struct {
		Text      string `json:"text"`
		Signature string `json:"signature,omitzero"`
	}
	cache struct {
		Type string `json:"type"` // default
		TTL  string `json:"ttl,omitzero"`
	}
	toolConfig struct {
		Tools      []tool         `json:"tools"`
		ToolChoice jsontext.Value `json:"toolChoice,omitzero"`
	}
	tool struct {
		ToolSpec   *toolSpec `json:"toolSpec,omitzero"`
		CachePoint *cache    `json:"cachePoint,omitzero"`
	}
	toolSpec struct {
		Name        string      `json:"name"`
		Description string      `json:"description,omitzero"`
		InputSchema inputSchema `json:"inputSchema"`
		Strict      *bool       `json:"strict,omitzero"`
	}
	inputSchema struct {
		JSON jsontext.Value `json:"json"`
	}
	outputConfig struct {
		TextFormat textFormat `json:"textFormat"`
	}
	textFormat struct {
		Type      string    `json:"type"` // json_schema
		Structure structure `json:"structure"`
	}
	structure struct {
		JSONSchema jsonSchema `json:"jsonSchema"`
	}
	jsonSchema struct {
		Schema      string `json:"schema"` // JSON, as text
		Name        string `json:"name,omitzero"`
		Description string `json:"description,omitzero"`
	}
	serviceTier struct {
		Type string `json:"type"` // default, flex, priority, reserved
	}
)

// Error returns the error that stands for an answer of any API of Bedrock: its status, the
// name that a header or the stream has for it, and its body (API reference, Common
// errors). What is no error of Amazon's is quoted.
func Error(status int, name string, body []byte) *dialect.Error {
	out := &dialect.Error{Status: status, Type: name}
	var wire struct {
		Message string `json:"message,case:ignore"`
		Type    string `json:"__type"`
	}
	if err := json.Unmarshal(body, &wire); err != nil || wire.Message == "" {
		wire.Message = dialect.Quote(status, body)
	}
	out.Message = wire.Message
	if out.Type == "" {
		out.Type = wire.Type[strings.LastIndexByte(wire.Type, '#')+1:]
	}
	if status := statusOf(out.Type); status != 0 {
		out.Status = status
	}
	return out
}

// statusOf returns the status that stands for an error: where Bedrock's own would say
// something else about who is to blame, and in streams, where there is none. It is 0 for those
// that are not known.
func statusOf(name string) int {
	if name == "" {
		return 0
	}
	switch strings.ToUpper(name[:1]) + name[1:] {
	case "ThrottlingException", "ModelNotReadyException", "ServiceQuotaExceededException":
		return http.StatusTooManyRequests
	case "ValidationException":
		return http.StatusBadRequest
	case "AccessDeniedException":
		return http.StatusForbidden
	case "ResourceNotFoundException":
		return http.StatusNotFound
	case "ModelTimeoutException":
		return http.StatusRequestTimeout
	case "ModelErrorException", "ModelStreamErrorException": // 424
		return http.StatusBadGateway
	case "InternalServerException":
		return http.StatusInternalServerError
	case "ServiceUnavailableException":
		return http.StatusServiceUnavailable
	default:
		return 0
	}
}

// DecodeError reads the body of an answer that is none, without what its header says.
func (*Converse) DecodeError(status int, body []byte) *dialect.Error { return Error(status, "", body) }

// maxName is how long names and ids of tools may be.
const maxName = 64

// legal returns s as a name or id that the API takes (ToolSpecification, ToolUseBlock):
// what had to be changed is closed with a hash, the same for the same s.
func legal(s string) string {
	mapped := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, s)
	if mapped == s && len(s) <= maxName && s != "" {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	end := "_" + hex.EncodeToString(sum[:4])
	return mapped[:min(len(mapped), maxName-len(end))] + end
}

// tool returns the name by which the API knows a tool.
func (c *Converse) tool(name string) string {
	out := legal(name)
	if out != name {
		if c.names == nil {
			c.names = map[string]string{}
		}
		c.names[out] = name
	}
	return out
}

// named returns the name by which the client knows a tool.
func (c *Converse) named(tool string) string {
	if name, ok := c.names[tool]; ok {
		return name
	}
	return tool
}
