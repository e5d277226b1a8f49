package testaws

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/schemas"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	smithy "github.com/aws/smithy-go"
)

// CheckConverse checks the body of a request to Converse or ConverseStream by the official
// schema: it has no member that is not known, all that are required, unions of one member, and
// enumerations the values that the official client knows.
func CheckConverse(body []byte) error { return check(schemas.ConverseRequest, body, "modelId") }

// CheckCountTokens checks the body of a request to CountTokens likewise.
func CheckCountTokens(body []byte) error { return check(schemas.CountTokensRequest, body, "modelId") }

// CheckInvoke checks the body of a request to InvokeModel of one of Anthropic's models by the
// types of Anthropic's own client, and by what is different here.
func CheckInvoke(body []byte) error {
	var head struct {
		Version string          `json:"anthropic_version"`
		Model   json.RawMessage `json:"model"`
		Stream  json.RawMessage `json:"stream"`
	}
	if err := json.Unmarshal(body, &head); err != nil || head.Version != "bedrock-2023-05-31" || head.Model != nil || head.Stream != nil {
		return fmt.Errorf("this is no body for one of Anthropic's models: %s", body)
	}
	return json.Unmarshal(body, new(anthropic.MessageNewParams))
}

// CheckMessage checks the body of an answer of Converse likewise.
func CheckMessage(body []byte) error { return check(schemas.ConverseResponse, body) }

// CheckEvent checks an event of ConverseStream likewise.
func CheckEvent(typ string, payload []byte) error {
	member := schemas.ConverseStreamOutput.Member(typ)
	if member == nil {
		return fmt.Errorf("there is no event %s", typ)
	}
	return check(member, payload)
}

// check checks a body that does not hold the members elsewhere.
func check(s *smithy.Schema, body []byte, elsewhere ...string) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	return checkValue(s, v, "", elsewhere)
}

func checkValue(s *smithy.Schema, v any, path string, elsewhere []string) error {
	bad := func(what string) error { return fmt.Errorf("%s: %v is not %s", path, v, what) }
	switch s.Type() {
	case smithy.ShapeTypeStructure, smithy.ShapeTypeUnion:
		object, ok := v.(map[string]any)
		if !ok {
			return bad("an object")
		}
		if s.Type() == smithy.ShapeTypeUnion && len(object) != 1 {
			return bad("a union of one member")
		}
		for name, value := range object {
			member := s.Member(name)
			if member == nil || slices.Contains(elsewhere, name) {
				return fmt.Errorf("%s has no member %s", path, name)
			}
			if err := checkValue(member, value, path+"."+name, nil); err != nil {
				return err
			}
		}
		for _, name := range required(s) {
			if object[name] == nil && !slices.Contains(elsewhere, name) {
				return fmt.Errorf("%s lacks the member %s", path, name)
			}
		}
	case smithy.ShapeTypeList, smithy.ShapeTypeSet:
		list, ok := v.([]any)
		if !ok {
			return bad("a list")
		}
		for i, value := range list {
			if err := checkValue(s.ListMember(), value, fmt.Sprintf("%s[%d]", path, i), nil); err != nil {
				return err
			}
		}
	case smithy.ShapeTypeMap:
		object, ok := v.(map[string]any)
		if !ok {
			return bad("an object")
		}
		for name, value := range object {
			if err := checkValue(s.MapValue(), value, path+"."+name, nil); err != nil {
				return err
			}
		}
	case smithy.ShapeTypeString:
		if _, ok := v.(string); !ok {
			return bad("a string")
		}
	case smithy.ShapeTypeEnum:
		name, ok := v.(string)
		if values := enum(s); !ok || values != nil && !slices.Contains(values, name) {
			return bad("one of " + strings.Join(values, ", "))
		}
	case smithy.ShapeTypeBlob:
		text, ok := v.(string)
		if _, err := base64.StdEncoding.DecodeString(text); !ok || err != nil {
			return bad("base64")
		}
	case smithy.ShapeTypeBoolean:
		if _, ok := v.(bool); !ok {
			return bad("true or false")
		}
	case smithy.ShapeTypeInteger, smithy.ShapeTypeLong:
		n, ok := v.(json.Number)
		if _, err := n.Int64(); !ok || err != nil {
			return bad("an integer")
		}
	case smithy.ShapeTypeFloat, smithy.ShapeTypeDouble:
		if _, ok := v.(json.Number); !ok {
			return bad("a number")
		}
	case smithy.ShapeTypeDocument: // of any type
	default:
		return fmt.Errorf("%s has the type %d, which nobody checks", path, s.Type())
	}
	return nil
}

// required returns the members that a structure must have, by the API reference: the schemas
// of the official client do not say it.
func required(s *smithy.Schema) []string {
	switch s.TargetID().Name {
	case "Message":
		return []string{"role", "content"}
	case "ImageBlock", "AudioBlock":
		return []string{"format", "source"}
	case "DocumentBlock":
		return []string{"name", "source"}
	case "ToolUseBlock":
		return []string{"toolUseId", "name", "input"}
	case "ToolUseBlockStart":
		return []string{"toolUseId", "name"}
	case "ToolUseBlockDelta":
		return []string{"input"}
	case "ToolResultBlock":
		return []string{"toolUseId", "content"}
	case "ReasoningTextBlock":
		return []string{"text"}
	case "CachePointBlock", "ServiceTier":
		return []string{"type"}
	case "ToolConfiguration":
		return []string{"tools"}
	case "ToolSpecification":
		return []string{"name", "inputSchema"}
	case "SpecificToolChoice":
		return []string{"name"}
	case "OutputFormat":
		return []string{"type", "structure"}
	case "JsonSchemaDefinition":
		return []string{"schema"}
	case "S3Location":
		return []string{"uri"}
	case "TokenUsage":
		return []string{"inputTokens", "outputTokens", "totalTokens"}
	case "ConverseResponse":
		return []string{"output", "stopReason", "usage", "metrics"}
	case "ContentBlockDeltaEvent":
		return []string{"delta", "contentBlockIndex"}
	case "ContentBlockStartEvent":
		return []string{"start", "contentBlockIndex"}
	case "ContentBlockStopEvent":
		return []string{"contentBlockIndex"}
	case "MessageStartEvent":
		return []string{"role"}
	case "MessageStopEvent":
		return []string{"stopReason"}
	case "ConverseStreamMetadataEvent":
		return []string{"usage", "metrics"}
	case "CountTokensRequest":
		return []string{"input"}
	default:
		return nil
	}
}

// enum returns the values of an enumeration, nil for those that the tests do not meet.
func enum(s *smithy.Schema) []string {
	switch s.TargetID().Name {
	case "ConversationRole":
		return texts(types.ConversationRole("").Values())
	case "ImageFormat":
		return texts(types.ImageFormat("").Values())
	case "AudioFormat":
		return texts(types.AudioFormat("").Values())
	case "DocumentFormat":
		return texts(types.DocumentFormat("").Values())
	case "ToolResultStatus":
		return texts(types.ToolResultStatus("").Values())
	case "CachePointType":
		return texts(types.CachePointType("").Values())
	case "CacheTTL":
		return texts(types.CacheTTL("").Values())
	case "GuardrailTrace":
		return texts(types.GuardrailTrace("").Values())
	case "ServiceTierType":
		return texts(types.ServiceTierType("").Values())
	case "OutputFormatType":
		return texts(types.OutputFormatType("").Values())
	case "StopReason":
		return texts(types.StopReason("").Values())
	default:
		return nil
	}
}

func texts[T ~string](values []T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}
