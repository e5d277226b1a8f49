package llmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/testaws"
)

// operation returns what a vendor is asked for by a path.
func operation(v Vendor, r *http.Request) (d Dialect, stream bool, err error) {
	path := r.URL.Path
	switch v {
	case OpenAI:
		switch path {
		case "/v1/chat/completions":
			return Chat, false, nil
		case "/v1/responses":
			return Responses, false, nil
		case "/v1/responses/input_tokens":
			return Count, false, nil
		case "/v1/embeddings":
			return Embeddings, false, nil
		}
		return Chat, false, fmt.Errorf("OpenAI has no %s", path)
	case Anthropic:
		switch path {
		case "/v1/messages":
			return Messages, false, nil
		case "/v1/messages/count_tokens":
			return Count, false, nil
		}
		return Messages, false, fmt.Errorf("Anthropic has no %s", path)
	case VertexGemini, VertexClaude:
		return vertexOperation(v, r)
	case BedrockNova, BedrockClaude:
		return bedrockOperation(v, r)
	default:
		model, method, _ := strings.Cut(strings.TrimPrefix(path, "/v1beta/models/"), ":")
		switch {
		case model == "" || strings.Contains(model, "/"):
		case method == "generateContent":
			return Generate, false, nil
		case method == "streamGenerateContent" && r.URL.Query().Get("alt") == "sse":
			return Generate, true, nil
		case method == "countTokens":
			return Count, false, nil
		case method == "batchEmbedContents":
			return Contents, false, nil
		}
		return Generate, false, fmt.Errorf("Gemini has no %s", r.URL)
	}
}

// check returns why a vendor would refuse a request, or why its sender should not have
// sent it.
func (s *Server) check(r *http.Request, d Dialect, body []byte) error {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("%s with %q", r.Method, r.Header.Get("Content-Type"))
	}
	header, want := s.Vendor.credential()
	if got := r.Header.Get(header); got != want {
		return fmt.Errorf("%s is %q", header, got)
	}
	for name, values := range r.Header {
		for _, v := range values {
			if strings.Contains(v, ClientKey) || name != header && strings.Contains(v, Key) {
				return fmt.Errorf("a credential in %s", name)
			}
		}
	}
	if strings.Contains(r.URL.RawQuery, "key") || bytes.Contains(body, []byte(ClientKey)) || bytes.Contains(body, []byte(Key)) {
		return errors.New("a credential in the query or the body")
	}
	if s.Vendor == Anthropic && r.Header.Get("Anthropic-Version") == "" {
		return errors.New("anthropic-version: header is required")
	}
	if d == Contents || d == Predict {
		return HoldsEmbedding(r.URL.Path, body)
	}
	return holds(s.Vendor, d, body)
}

// holds reports why the vendor's own types can't hold a body.
func holds(v Vendor, d Dialect, body []byte) error {
	switch {
	case d == Converse:
		return testaws.CheckConverse(body)
	case d == Invoke:
		return invokeHolds(body)
	case d == Count: // of which the parts are those of the other bodies
		return nil
	case v == Gemini, v == VertexGemini:
		return generateHolds(body)
	case v == Anthropic, v == VertexClaude:
		if v == VertexClaude {
			var err error
			if body, err = vertexClaude(body); err != nil {
				return err
			}
		}
		var m anthropic.MessageNewParams
		if err := roundTrip(&m, body); err != nil {
			return err
		}
		return messagesHold(&m)
	case d == Responses:
		return roundTrip(new(responses.ResponseNewParams), withTypes(body))
	case d == Embeddings:
		return roundTrip(new(openai.EmbeddingNewParams), body)
	default:
		var c openai.ChatCompletionNewParams
		if err := roundTrip(&c, body); err != nil {
			return err
		}
		return chatHolds(&c)
	}
}

// withTypes returns a body of Responses in which messages say that they are some: without it,
// which is allowed, OpenAI's own type reads none.
func withTypes(body []byte) []byte {
	var all map[string]json.RawMessage
	var items []map[string]json.RawMessage
	if json.Unmarshal(body, &all) != nil || json.Unmarshal(all["input"], &items) != nil {
		return body // a text, or something else that is not for us to judge
	}
	for _, item := range items {
		if item["type"] == nil && item["role"] != nil {
			item["type"] = json.RawMessage(`"message"`)
		}
	}
	var err error
	if all["input"], err = json.Marshal(items); err != nil {
		return body
	}
	if typed, err := json.Marshal(all); err == nil {
		return typed
	}
	return body
}

// roundTrip decodes a body and encodes it again: what got lost on the way, the type does
// not have. The sentinel may get lost: whether it may be there the test says.
func roundTrip(typed any, body []byte) error {
	if err := json.Unmarshal(body, typed); err != nil {
		return err
	}
	again, err := json.Marshal(typed)
	if err != nil {
		return err
	}
	var sent, held any
	if err := errors.Join(json.Unmarshal(body, &sent), json.Unmarshal(again, &held)); err != nil {
		return err
	}
	return lost(sent, held, "")
}

// lost returns an error that names the first member of sent that held does not have.
func lost(sent, held any, path string) error {
	switch s := sent.(type) {
	case nil:
		return nil // is left out
	case map[string]any:
		h, ok := held.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object here", path)
		}
		for name, v := range s {
			at := path + "." + name
			switch at {
			case ".stream", ".tool_choice.function", ".tool_choice.allowed_tools", "." + Sentinel:
				continue // which the types hold elsewhere, or lose
			}
			if _, ok := h[name]; !ok && v != nil {
				return fmt.Errorf("unknown field %s", at)
			}
			if err := lost(v, h[name], at); err != nil {
				return err
			}
		}
	case []any:
		h, ok := held.([]any)
		if !ok || len(h) != len(s) {
			return fmt.Errorf("%s is not that list here", path)
		}
		for i := range s {
			if err := lost(s[i], h[i], fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	default:
		if h, ok := held.([]any); ok && len(h) == 1 { // a text may stand for a list of one
			if m, ok := h[0].(map[string]any); ok && reflect.DeepEqual(m["text"], sent) {
				return nil
			}
		}
		if !reflect.DeepEqual(sent, held) {
			return fmt.Errorf("%s is %v", path, sent)
		}
	}
	return nil
}

// chatHolds checks what chat completions want beside their types.
func chatHolds(c *openai.ChatCompletionNewParams) error {
	if c.Model == "" || len(c.Messages) == 0 {
		return errors.New("you must provide a model parameter and messages")
	}
	called := map[string]bool{}
	for i, m := range c.Messages {
		for _, call := range m.GetToolCalls() {
			called[*call.GetID()] = true
		}
		if id := m.GetToolCallID(); id != nil {
			if !called[*id] {
				return fmt.Errorf("messages[%d] answers no call", i)
			}
			delete(called, *id)
		}
	}
	if len(called) > 0 {
		return fmt.Errorf("calls without an answer: %v", called)
	}
	return nil
}

// messagesHold checks what Messages want beside their types.
func messagesHold(m *anthropic.MessageNewParams) error {
	if m.Model == "" || m.MaxTokens == 0 || len(m.Messages) == 0 {
		return errors.New("max_tokens: Field required")
	}
	called := map[string]bool{}
	for i, message := range m.Messages {
		if message.Role != "user" && message.Role != "assistant" {
			return fmt.Errorf("messages.%d.role: Input should be 'user' or 'assistant'", i)
		}
		answered := map[string]bool{}
		for _, b := range message.Content {
			if r := b.OfToolResult; r != nil {
				if !called[r.ToolUseID] {
					return fmt.Errorf("messages.%d: unexpected tool_use_id found in tool_result blocks: %s", i, r.ToolUseID)
				}
				answered[r.ToolUseID] = true
			}
		}
		if len(answered) != len(called) {
			return fmt.Errorf("messages.%d: tool_use ids were found without tool_result blocks immediately after", i)
		}
		called = map[string]bool{}
		for _, b := range message.Content {
			if u := b.OfToolUse; u != nil {
				called[u.ID] = true
			}
		}
	}
	if t := m.Thinking.OfEnabled; t != nil && (t.BudgetTokens < 1024 || t.BudgetTokens >= m.MaxTokens) {
		return errors.New("max_tokens must be greater than thinking.budget_tokens")
	}
	return nil
}

// generateHolds checks a body against Google's types, of which there is none for the
// request itself.
func generateHolds(body []byte) error {
	var r struct {
		Contents          []*genai.Content        `json:"contents"`
		SystemInstruction *genai.Content          `json:"systemInstruction"`
		Tools             []*genai.Tool           `json:"tools"`
		ToolConfig        *genai.ToolConfig       `json:"toolConfig"`
		GenerationConfig  *genai.GenerationConfig `json:"generationConfig"`
		SafetySettings    []*genai.SafetySetting  `json:"safetySettings"`
		Sentinel          any                     `json:"x_llmtest_sentinel"`
	}
	// Of what stands for any signature, Google's own types know only what it is base64 of.
	body = bytes.ReplaceAll(body, []byte("skip_thought_signature_validator"), nil)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return err
	}
	if len(r.Contents) == 0 {
		return errors.New("* GenerateContentRequest.contents: contents is not specified")
	}
	for i, c := range r.Contents {
		if c.Role != genai.RoleUser && c.Role != genai.RoleModel && c.Role != "" || len(c.Parts) == 0 {
			return fmt.Errorf("please use a valid role: user, model (contents[%d])", i)
		}
	}
	return nil
}
