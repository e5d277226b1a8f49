package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
)

// newAnthropicServer returns a strict stand-in for Anthropic: it takes what Anthropic's own
// types have, thinks, and calls the tool, if there is one, else says the last message back.
func newAnthropicServer(t *testing.T) *openAIServer {
	t.Helper()
	s := &openAIServer{gone: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.path, s.asked, s.head, s.body = r.URL.Path, r.Host, r.Header.Clone(), body
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/v1/messages/count_tokens" {
			_, _ = io.WriteString(w, `{"input_tokens": 14, "x-unknown": 1}`)
			return
		}
		var req anthropic.MessageNewParams
		if err := json.Unmarshal(body, &req); err != nil || req.MaxTokens == 0 || len(req.Messages) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":"req_1"}`)
			return
		}
		blocks := []string{`{"type":"thinking","thinking":"hm","signature":"c2ln"}`, fmt.Sprintf(`{"type":"text","text":%q}`, *req.Messages[len(req.Messages)-1].Content[0].GetText())}
		stop := "end_turn"
		if len(req.Tools) > 0 {
			blocks, stop = append(blocks, `{"type":"tool_use","id":"toolu_1","name":"w","input":{"c":"Rome"}}`), "tool_use"
		}
		if !strings.Contains(string(body), `"stream":true`) {
			_, _ = fmt.Fprintf(w, `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-1","content":[%s],"stop_reason":%q,"stop_sequence":null,"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":2}}`, strings.Join(blocks, ","), stop)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		event := func(typ, format string, args ...any) {
			_, _ = fmt.Fprintf(w, "event: %s\ndata: {\"type\":%q,"+format+"}\n\n", append([]any{typ, typ}, args...)...)
			_ = http.NewResponseController(w).Flush()
		}
		event("message_start", `"message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-1","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}`)
		for i, b := range blocks {
			start := map[byte]string{'h': `{"type":"thinking","thinking":"","signature":""}`, 'e': `{"type":"text","text":""}`, 'o': `{"type":"tool_use","id":"toolu_1","name":"w","input":{}}`}[b[len(`{"type":"t`)]]
			event("content_block_start", `"index":%d,"content_block":%s`, i, start)
			switch {
			case strings.Contains(b, `"thinking","thinking"`):
				event("content_block_delta", `"index":%d,"delta":{"type":"thinking_delta","thinking":"hm"}`, i)
				event("content_block_delta", `"index":%d,"delta":{"type":"signature_delta","signature":"c2ln"}`, i)
			case strings.Contains(b, `"tool_use"`):
				event("content_block_delta", `"index":%d,"delta":{"type":"input_json_delta","partial_json":"{\"c\":"}`, i)
				event("content_block_delta", `"index":%d,"delta":{"type":"input_json_delta","partial_json":"\"Rome\"}"}`, i)
			default:
				event("content_block_delta", `"index":%d,"delta":{"type":"text_delta","text":%q}`, i, *req.Messages[len(req.Messages)-1].Content[0].GetText())
			}
			event("content_block_stop", `"index":%d`, i)
		}
		event("message_delta", `"delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":2}`, stop)
		event("message_stop", `"x":1`)
	}))
	t.Cleanup(server.Close)
	s.host, s.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	return s
}

func anthropicClient(url string) anthropic.Client {
	return anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("client-key"), anthropicoption.WithMaxRetries(0))
}

func helloClaude(text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{Model: "claude-x", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}}
}

// Anthropic's own client at Anthropic: thinking and its signature, tools, counting, errors.
func TestLLMAnthropic(t *testing.T) {
	s := newAnthropicServer(t)
	g := start(t, s.provider("anthropic: {authToken: {kind: Inline, inline: gateway-key}}"))
	client := anthropicClient(g.url("8080", "/llm/model"))
	ask := helloClaude("hi")
	ask.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "w", InputSchema: anthropic.ToolInputSchemaParam{}}}}
	check := func(m *anthropic.Message) {
		t.Helper()
		if len(m.Content) != 3 || m.Content[0].Signature != "c2ln" || m.Content[1].Text != "hi" || string(m.Content[2].Input) != `{"c":"Rome"}` || m.StopReason != "tool_use" || m.Usage.CacheReadInputTokens != 4 {
			t.Errorf("the answer is %+v", m)
		}
	}
	whole, err := client.Messages.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	check(whole)
	path, _, head, _ := s.seen()
	if path != "/v1/messages" || head.Get("X-Api-Key") != "gateway-key" || head.Get("Anthropic-Version") != "2023-06-01" || head.Get("Authorization") != "" {
		t.Errorf("the provider is asked at %s with %v", path, head)
	}
	stream := client.Messages.NewStreaming(t.Context(), ask)
	var streamed anthropic.Message
	for stream.Next() {
		if err := streamed.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	check(&streamed)
	count, err := client.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: "claude-x", Messages: ask.Messages})
	if err != nil || count.InputTokens != 14 {
		t.Errorf("%v, %v", count, err)
	}
	ask.MaxTokens = 0
	var e *anthropic.Error
	if _, err = client.Messages.New(t.Context(), ask); !errors.As(err, &e) || e.StatusCode != 400 || !strings.Contains(e.RawJSON(), "max_tokens: Field required") {
		t.Errorf("without max_tokens: %v", err)
	}
	for i, rec := range g.ended(4)[:2] {
		if rec.LLM.Provider != "anthropic" || rec.LLM.Usage.Input != 7 || rec.LLM.FinishReason != "tool_calls" {
			t.Errorf("the record of request %d says %+v", i, rec.LLM)
		}
	}
}

// OpenAI's client at Anthropic, and Anthropic's client at OpenAI: each talks as ever.
func TestLLMTranslated(t *testing.T) {
	s := newAnthropicServer(t)
	g := start(t, s.provider("anthropic: {authToken: {kind: Inline, inline: sk-ant-oat-1}}"))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	whole, err := client.Chat.Completions.New(t.Context(), hello("hi"))
	if err != nil {
		t.Fatal(err)
	}
	if whole.Choices[0].Message.Content != "hi" || whole.Usage.PromptTokens != 7 || whole.Model != "claude-x-1" {
		t.Errorf("the answer is %s", whole.RawJSON())
	}
	if _, _, head, _ := s.seen(); head.Get("Authorization") != "Bearer sk-ant-oat-1" || head.Get("X-Api-Key") != "" {
		t.Errorf("the provider gets %v", head)
	}

	o := newOpenAIServer(t)
	g.apply(o.provider("openai: {authToken: {kind: Inline, inline: k}}"))
	claude := anthropicClient(g.url("8080", "/llm/model"))
	stream := claude.Messages.NewStreaming(t.Context(), helloClaude("hi there"))
	var streamed anthropic.Message
	for stream.Next() {
		if err := streamed.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil || streamed.Content[0].Text != "hi there" || streamed.StopReason != "end_turn" || streamed.Usage.InputTokens != 3 || streamed.Usage.OutputTokens != 2 {
		t.Errorf("%v, %+v", stream.Err(), streamed)
	}
	var e *anthropic.Error
	if _, err := claude.Messages.New(t.Context(), anthropic.MessageNewParams{Model: "m", MaxTokens: 1, Messages: []anthropic.MessageParam{}}); !errors.As(err, &e) || e.StatusCode != 400 || e.Type() != "invalid_request_error" {
		t.Errorf("refused by the provider: %v", err)
	}
	if n, err := claude.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: "m", Messages: helloClaude("x").Messages}); err != nil || n.InputTokens != 7 {
		t.Errorf("counting at OpenAI: %v, %+v", err, n)
	}
	if counted, _, _, _ := o.seen(); counted != "/v1/responses/input_tokens" {
		t.Errorf("it counts at %s", counted)
	}
}
