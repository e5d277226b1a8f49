package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genai"
)

// newGeminiServer returns a strict stand-in for Gemini: it takes what Google's own types have,
// thinks, and calls a function.
func newGeminiServer(t *testing.T) *openAIServer {
	t.Helper()
	s := &openAIServer{gone: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.path, s.asked, s.head, s.body = r.URL.RequestURI(), r.Host, r.Header.Clone(), body
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		var req struct {
			Contents []*genai.Content `json:"contents"`
		}
		if err := json.Unmarshal(body, &req); err != nil || len(req.Contents) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"code":400,"message":"contents is not specified","status":"INVALID_ARGUMENT"}}`)
			return
		}
		parts := []string{`{"text":"hm","thought":true}`, `{"text":"well"}`, `{"functionCall":{"name":"w","args":{"c":"Rome"}},"thoughtSignature":"c2ln"}`}
		usage := `"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":4,"totalTokenCount":9},"modelVersion":"gemini-3-pro-1","responseId":"r1"`
		if strings.Contains(r.URL.Path, ":generateContent") {
			_, _ = io.WriteString(w, `{"candidates":[{"content":{"role":"model","parts":[`+strings.Join(parts, ",")+`]},"finishReason":"STOP","index":0}],`+usage+`}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i, p := range parts {
			finish := ""
			if i == len(parts)-1 {
				finish = `"finishReason":"STOP",`
			}
			_, _ = io.WriteString(w, `data: {"candidates":[{"content":{"role":"model","parts":[`+p+`]},`+finish+`"index":0}],`+usage+"}\r\n\r\n")
			_ = http.NewResponseController(w).Flush()
		}
	}))
	t.Cleanup(server.Close)
	s.host, s.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	return s
}

func geminiClient(t *testing.T, url string) *genai.Client {
	t.Helper()
	c, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: "client-key", Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: url}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Google's own client at Gemini, OpenAI's client at Gemini in a loop of tools, Google's client
// at OpenAI.
func TestLLMGemini(t *testing.T) {
	s := newGeminiServer(t)
	g := start(t, s.provider("gemini: {authToken: {kind: Inline, inline: gateway-key}}"))
	client := geminiClient(t, g.url("8080", "/llm/model"))
	whole, err := client.Models.GenerateContent(t.Context(), "gemini-3-pro", genai.Text("hi"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Text() != "well" || len(whole.FunctionCalls()) != 1 || whole.UsageMetadata.TotalTokenCount != 9 {
		t.Errorf("the answer is %+v", whole)
	}
	path, _, head, _ := s.seen()
	if path != "/v1beta/models/gemini-3-pro:generateContent" || head.Get("X-Goog-Api-Key") != "gateway-key" {
		t.Errorf("the provider is asked at %s with %v", path, head)
	}
	text, calls := "", 0
	for r, err := range client.Models.GenerateContentStream(t.Context(), "gemini-3-pro", genai.Text("hi"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		text += r.Text()
		calls += len(r.FunctionCalls())
	}
	if path, _, _, _ := s.seen(); text != "well" || calls != 1 || path != "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse" {
		t.Errorf("%q, %d calls, at %s", text, calls, path)
	}
	var e genai.APIError
	if _, err := client.Models.GenerateContent(t.Context(), "gemini-3-pro", []*genai.Content{}, nil); !errors.As(err, &e) || e.Code != 400 || e.Status != "INVALID_ARGUMENT" {
		t.Errorf("refused by the provider: %v", err)
	}

	// A client that keeps nothing but what OpenAI's types have brings the signature back.
	openAI := openAIClient(g.url("8080", "/llm/model/v1"))
	ask := hello("hi")
	ask.Model = "gemini-3-pro"
	answer, err := openAI.Chat.Completions.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	message := answer.Choices[0].Message
	if message.Content != "well" || len(message.ToolCalls) != 1 || answer.Choices[0].FinishReason != "tool_calls" || answer.Usage.CompletionTokens != 6 {
		t.Errorf("the answer is %s", answer.RawJSON())
	}
	again, _ := json.Marshal(message.ToParam())
	result, _ := json.Marshal(map[string]any{"role": "tool", "tool_call_id": message.ToolCalls[0].ID, "content": "sunny"})
	r := g.do("POST", g.url("8080", "/llm/model"), strings.NewReader(`{"model":"gemini-3-pro","messages":[{"role":"user","content":"hi"},`+string(again)+`,`+string(result)+`]}`))
	if r.Status != 200 || r.Header.Get("X-Mcpgw-Dropped") != "" {
		t.Errorf("%+v", r)
	}
	if _, _, _, body := s.seen(); !strings.Contains(body, `"thoughtSignature":"c2ln"`) || strings.Contains(body, "mcpgw") {
		t.Errorf("the provider gets %s", body)
	}

	o := newOpenAIServer(t)
	g.apply(o.provider("openai: {authToken: {kind: Inline, inline: k}}"))
	translated, err := client.Models.GenerateContent(t.Context(), "gpt-5", genai.Text("hi there"), nil)
	if err != nil || translated.Text() != "hi there" || translated.UsageMetadata.PromptTokenCount != 3 {
		t.Errorf("%v, %+v", err, translated)
	}
	text = ""
	for r, err := range client.Models.GenerateContentStream(t.Context(), "gpt-5", genai.Text("hi there"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		text += r.Text()
	}
	if text != "hi there" {
		t.Errorf("%q", text)
	}
}

// Gemini's own chat completions are asked where the configuration says so.
func TestLLMGeminiCompat(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("gemini: {model: gemini-3-pro, compat: true, authToken: {kind: Inline, inline: k}}"))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	if _, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
		t.Fatal(err)
	}
	path, _, head, body := s.seen()
	if path != "/v1beta/openai/chat/completions" || head.Get("Authorization") != "Bearer k" || !strings.Contains(body, `"gemini-3-pro"`) {
		t.Errorf("%s, %v, %s", path, head, body)
	}
}
