package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A scenario is what is asked of a model, and what that answers.
type scenario struct {
	name              string
	tools, structured bool
	answer            llmtest.Answer
}

var scenarios = []scenario{
	{name: "text", answer: llmtest.Hello},
	{name: "tools", tools: true, answer: llmtest.Answer{Thought: "let me see", Signature: "c2lnbmVk", Text: "I look", Calls: []llmtest.Call{
		{ID: "call_1", Name: "weather", Arguments: `{"city":"Rome"}`}, {ID: "call_2", Name: "weather", Arguments: `{"city":"Oslo"}`},
	}}},
	{name: "structured", structured: true, answer: llmtest.Answer{Text: `{"city":"Rome"}`}},
}

// A understood is what a client reads of an answer, whatever its own words for it.
type understood struct {
	Text, Thought string
	Calls         []string // name and arguments
	Stop          string   // stop or tools
	Input, Output int64
	Model         string
}

// want is what a client of a dialect is to hear of an answer of a vendor.
func (s *scenario) want(client llmtest.Dialect, vendor llmtest.Vendor) understood {
	h := understood{Text: s.answer.Text, Stop: "stop", Input: llmtest.InputTokens, Output: llmtest.OutputTokens, Model: vendor.Answers(client)}
	for _, c := range s.answer.Calls {
		h.Calls = append(h.Calls, c.Name+" "+c.Arguments)
		h.Stop = "tools"
	}
	if vendor != llmtest.OpenAI || client == llmtest.Responses { // chat completions have no thoughts
		h.Thought = s.answer.Thought
	}
	return h
}

// An sdk is an official client.
type sdk struct {
	name   string
	client llmtest.Dialect
	// ask asks once for the whole answer and once for a stream, with the sentinel.
	ask func(t *testing.T, url string, s *scenario) (whole, streamed understood)
	// fail asks for what is refused, and returns the status and the message of its own
	// type of errors.
	fail func(t *testing.T, url string) (status int, message string)
}

var sdks = []sdk{
	{"openai-go chat", llmtest.Chat, askChat, failOpenAI},
	{"openai-go responses", llmtest.Responses, askResponses, failResponses},
	{"anthropic-sdk-go", llmtest.Messages, askMessages, failMessages},
	{"genai", llmtest.Generate, askGenerate, failGenerate},
	{"npm openai chat", llmtest.Chat, throughNode("chat"), failNode("chat")},
	{"npm openai responses", llmtest.Responses, throughNode("responses"), failNode("responses")},
	{"npm anthropic", llmtest.Messages, throughNode("messages"), failNode("messages")},
}

// Every official client talks to every vendor through the gateway, to strict stand-ins: what
// its accumulator makes of a stream is what it gets whole, errors are of its own types, and
// what the vendor gets is in the vendor's own words.
func TestLLMClients(t *testing.T) {
	t.Parallel()
	var servers []*llmtest.Server
	backends := ""
	for _, v := range llmtest.Everyone {
		s := llmtest.Start(v)
		t.Cleanup(s.Close)
		servers = append(servers, s)
		backends += routeTo(v.String()) + llmtest.Backend(v.String(), s.Provider(""))
	}
	g := serve(t, func(port int) string { return gatewayOn(port) + backends })
	for _, client := range sdks {
		for _, server := range servers {
			t.Run(client.name+" at "+server.Vendor.String(), func(t *testing.T) {
				url := fmt.Sprintf("http://127.0.0.1:%d/llm/%s", g.Port, server.Vendor)
				for _, s := range scenarios {
					server.Says(s.answer)
					before := len(server.Asked())
					whole, streamed := client.ask(t, url, &s)
					want := s.want(client.client, server.Vendor)
					if diff := cmp.Diff(want, whole); diff != "" {
						t.Errorf("%s (-want +got):\n%s", s.name, diff)
					}
					if diff := cmp.Diff(whole, streamed); diff != "" {
						t.Errorf("%s: the stream makes another answer (-whole +streamed):\n%s", s.name, diff)
					}
					same := server.Vendor.Passes(client.client)
					for _, r := range server.Asked()[before:] {
						if r.Refused != nil {
							t.Errorf("%s: refused: %v\n%s", s.name, r.Refused, r.Body)
						}
						counted := strings.HasSuffix(r.Path, "/count-tokens") // which Bedrock does for nobody's own words
						if bytes.Contains(r.Body, []byte(llmtest.Sentinel)) != (same && !counted) {
							t.Errorf("%s: the sentinel arrives or not, the same dialect is %v: %s", s.name, same, r.Body)
						}
					}
				}
				server.Says(llmtest.Answer{Status: 429, Text: "slow down"})
				if status, message := client.fail(t, url); status != 429 || !strings.Contains(message, "slow down") {
					t.Errorf("the error is %d %q", status, message)
				}
			})
		}
	}
}

// gatewayOn returns the YAML of a Gateway that listens on a port.
func gatewayOn(port int) string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: default}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: http, protocol: HTTP, port: %d}
`, port)
}

// routeTo returns the YAML of an HTTPRoute that leads from /llm/NAME to the Backend of that name,
// between two other documents.
func routeTo(name string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /llm/%[1]s}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %[1]s}]
---
`, name)
}

// schema is of the arguments of the tool, and of the structured answer.
var schema = map[string]any{
	"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"}, "additionalProperties": false,
}

func openAIClient(url string) openai.Client {
	return openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey(llmtest.ClientKey), option.WithMaxRetries(0))
}

func askChat(t *testing.T, url string, s *scenario) (whole, streamed understood) {
	client := openAIClient(url)
	ask := openai.ChatCompletionNewParams{Model: "asked", Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("be brief"), openai.UserMessage("hi")}}
	if s.tools {
		ask.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather", Description: openai.String("of a city"), Parameters: schema})}
	}
	if s.structured {
		ask.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "city", Strict: openai.Bool(true), Schema: schema}}
	}
	sentinel := option.WithJSONSet(llmtest.Sentinel, 1)
	answer, err := client.Chat.Completions.New(t.Context(), ask, sentinel)
	if err != nil {
		t.Fatal(err)
	}
	ask.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(t.Context(), ask, sentinel)
	var acc openai.ChatCompletionAccumulator
	thought := ""
	for stream.Next() {
		chunk := stream.Current()
		if !acc.AddChunk(chunk) {
			t.Errorf("the accumulator does not take %s", chunk.RawJSON())
		}
		if len(chunk.Choices) > 0 {
			thought += extra(t, chunk.Choices[0].Delta.JSON.ExtraFields["reasoning_content"].Raw())
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	whole = hearChat(&answer.Choices[0], answer.Usage, answer.Model)
	whole.Thought = extra(t, answer.Choices[0].Message.JSON.ExtraFields["reasoning_content"].Raw())
	streamed = hearChat(&acc.Choices[0], acc.Usage, acc.Model)
	streamed.Thought = thought
	return whole, streamed
}

// extra returns a text that the client's types do not have.
func extra(t *testing.T, raw string) (s string) {
	t.Helper()
	if raw == "" || raw == "null" {
		return ""
	}
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		t.Error(err)
	}
	return s
}

func hearChat(c *openai.ChatCompletionChoice, u openai.CompletionUsage, model string) understood {
	h := understood{Text: c.Message.Content, Input: u.PromptTokens, Output: u.CompletionTokens, Model: model, Stop: map[string]string{"stop": "stop", "tool_calls": "tools"}[c.FinishReason]}
	for _, call := range c.Message.ToolCalls {
		h.Calls = append(h.Calls, call.Function.Name+" "+call.Function.Arguments)
	}
	return h
}

func failOpenAI(t *testing.T, url string) (int, string) {
	client := openAIClient(url)
	_, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: "asked", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}})
	return openAIError(t, err)
}

func openAIError(t *testing.T, err error) (int, string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an error of the client: %v", err)
	}
	return e.StatusCode, e.Message
}

func askResponses(t *testing.T, url string, s *scenario) (whole, streamed understood) {
	client := openAIClient(url)
	ask := responses.ResponseNewParams{Model: "asked", Instructions: openai.String("be brief"), Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}}
	if s.tools {
		ask.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "weather", Strict: openai.Bool(false), Parameters: schema}}}
	}
	if s.structured {
		ask.Text.Format.OfJSONSchema = &responses.ResponseFormatTextJSONSchemaConfigParam{Name: "city", Strict: openai.Bool(true), Schema: schema}
	}
	sentinel := option.WithJSONSet(llmtest.Sentinel, 1)
	answer, err := client.Responses.New(t.Context(), ask, sentinel)
	if err != nil {
		t.Fatal(err)
	}
	stream := client.Responses.NewStreaming(t.Context(), ask, sentinel)
	var last responses.ResponseStreamEventUnion
	text := ""
	for stream.Next() {
		if last = stream.Current(); last.Type == "response.output_text.delta" {
			text += last.Delta
		}
	}
	if stream.Err() != nil || last.Type != "response.completed" {
		t.Fatalf("%v, the last event is %s", stream.Err(), last.RawJSON())
	}
	if text != last.Response.OutputText() {
		t.Errorf("the deltas are %q, the response %q", text, last.Response.OutputText())
	}
	return hearResponse(answer), hearResponse(&last.Response)
}

func hearResponse(r *responses.Response) understood {
	h := understood{Text: r.OutputText(), Input: r.Usage.InputTokens, Output: r.Usage.OutputTokens, Model: r.Model, Stop: "stop"}
	for _, item := range r.Output {
		switch item.Type {
		case "reasoning":
			for _, s := range item.Summary {
				h.Thought += s.Text
			}
		case "function_call":
			h.Calls = append(h.Calls, item.Name+" "+item.Arguments.OfString)
			h.Stop = "tools"
		}
	}
	return h
}

func failResponses(t *testing.T, url string) (int, string) {
	client := openAIClient(url)
	_, err := client.Responses.New(t.Context(), responses.ResponseNewParams{Model: "asked", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}})
	return openAIError(t, err)
}

func anthropicClient(url string) anthropic.Client {
	return anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey(llmtest.ClientKey), anthropicoption.WithMaxRetries(0))
}

func askMessages(t *testing.T, url string, s *scenario) (whole, streamed understood) {
	client := anthropicClient(url)
	ask := anthropic.MessageNewParams{Model: "asked", MaxTokens: 4000, System: []anthropic.TextBlockParam{{Text: "be brief"}}, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi"))}}
	if s.tools {
		ask.Thinking = anthropic.ThinkingConfigParamOfEnabled(1024)
		ask.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "weather", InputSchema: anthropic.ToolInputSchemaParam{Properties: schema["properties"]}}}}
	}
	if s.structured {
		ask.OutputConfig.Format = anthropic.JSONOutputFormatParam{Schema: schema}
	}
	sentinel := anthropicoption.WithJSONSet(llmtest.Sentinel, 1)
	answer, err := client.Messages.New(t.Context(), ask, sentinel)
	if err != nil {
		t.Fatal(err)
	}
	stream := client.Messages.NewStreaming(t.Context(), ask, sentinel)
	var m anthropic.Message
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	count, err := client.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: "asked", Messages: ask.Messages}, sentinel)
	if err != nil || count.InputTokens != llmtest.CountedTokens {
		t.Errorf("counting tokens: %v, %v", count, err)
	}
	return hearMessage(answer), hearMessage(&m)
}

func hearMessage(m *anthropic.Message) understood {
	u := m.Usage
	h := understood{Input: u.InputTokens + u.CacheReadInputTokens + u.CacheCreationInputTokens, Output: u.OutputTokens, Model: m.Model, Stop: map[anthropic.StopReason]string{"end_turn": "stop", "tool_use": "tools"}[m.StopReason]}
	for i := range m.Content {
		b := &m.Content[i]
		h.Text += b.Text
		h.Thought += b.Thinking
		if b.Type == "tool_use" {
			h.Calls = append(h.Calls, b.Name+" "+string(b.Input))
		}
	}
	return h
}

func failMessages(t *testing.T, url string) (int, string) {
	client := anthropicClient(url)
	_, err := client.Messages.New(t.Context(), anthropic.MessageNewParams{Model: "asked", MaxTokens: 9, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi"))}})
	var e *anthropic.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an error of the client: %v", err)
	}
	if e.Type() != "rate_limit_error" {
		t.Errorf("the type is %s", e.Type())
	}
	return e.StatusCode, e.RawJSON()
}

func generateClient(t *testing.T, url string) *genai.Client {
	t.Helper()
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: llmtest.ClientKey, Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: url}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func askGenerate(t *testing.T, url string, s *scenario) (whole, streamed understood) {
	client := generateClient(t, url)
	cfg := &genai.GenerateContentConfig{
		SystemInstruction: genai.NewContentFromText("be brief", genai.RoleUser),
		HTTPOptions:       &genai.HTTPOptions{ExtraBody: map[string]any{llmtest.Sentinel: 1}},
	}
	if s.tools {
		cfg.Tools = []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "weather", Description: "of a city", ParametersJsonSchema: schema}}}}
		budget := int32(1024)
		cfg.ThinkingConfig = &genai.ThinkingConfig{IncludeThoughts: true, ThinkingBudget: &budget}
		cfg.MaxOutputTokens = 4000
	}
	if s.structured {
		cfg.ResponseMIMEType, cfg.ResponseJsonSchema = "application/json", schema
	}
	answer, err := client.Models.GenerateContent(t.Context(), "asked", genai.Text("hi"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	whole.add(answer)
	for r, err := range client.Models.GenerateContentStream(t.Context(), "asked", genai.Text("hi"), cfg) {
		if err != nil {
			t.Fatal(err)
		}
		streamed.add(r)
	}
	return whole, streamed
}

// add adds what an answer or a part of one says.
func (h *understood) add(r *genai.GenerateContentResponse) {
	h.Model = r.ModelVersion
	if u := r.UsageMetadata; u != nil {
		h.Input, h.Output = int64(u.PromptTokenCount), int64(u.CandidatesTokenCount+u.ThoughtsTokenCount)
	}
	for _, c := range r.Candidates {
		if c.Content != nil {
			for _, p := range c.Content.Parts {
				switch {
				case p.FunctionCall != nil:
					b, err := json.Marshal(p.FunctionCall.Args)
					if err != nil {
						b = []byte(err.Error())
					}
					h.Calls = append(h.Calls, p.FunctionCall.Name+" "+string(b))
				case p.Thought:
					h.Thought += p.Text
				default:
					h.Text += p.Text
				}
			}
		}
		if c.FinishReason == genai.FinishReasonStop { // which calls have, too
			h.Stop = "stop"
			if len(h.Calls) > 0 {
				h.Stop = "tools"
			}
		}
	}
}

func failGenerate(t *testing.T, url string) (int, string) {
	_, err := generateClient(t, url).Models.GenerateContent(t.Context(), "asked", genai.Text("hi"), nil)
	var e genai.APIError
	if !errors.As(err, &e) {
		t.Fatalf("not an error of the client: %v", err)
	}
	if e.Status != "RESOURCE_EXHAUSTED" {
		t.Errorf("the status is %s", e.Status)
	}
	return e.Code, e.Message
}

// runNode runs testdata/llm.mjs, which asks as its arguments say, and decodes what it prints.
func runNode(t *testing.T, out any, args ...string) {
	t.Helper()
	script, err := os.ReadFile("testdata/llm.mjs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(npmDir(t), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "llm.mjs")
	testgateway.WriteFile(t, file, string(script))
	cmd := exec.CommandContext(t.Context(), node(t), append([]string{file}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatalf("llm.mjs %v: %v\n%s\n%s", args, err, b, &stderr)
	}
}

func throughNode(dialect string) func(*testing.T, string, *scenario) (whole, streamed understood) {
	return func(t *testing.T, url string, s *scenario) (whole, streamed understood) {
		var out struct{ Whole, Streamed understood }
		runNode(t, &out, dialect, url, llmtest.ClientKey, s.name, llmtest.Sentinel)
		return out.Whole, out.Streamed
	}
}

func failNode(dialect string) func(*testing.T, string) (int, string) {
	return func(t *testing.T, url string) (int, string) {
		var out struct {
			Status        int
			Type, Message string
		}
		runNode(t, &out, dialect, url, llmtest.ClientKey, "fail", llmtest.Sentinel)
		if out.Type != "RateLimitError" {
			t.Errorf("the error is a %s", out.Type)
		}
		return out.Status, out.Message
	}
}
