package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

// An openAIServer is a strict stand-in for OpenAI: it takes what OpenAI's own types have,
// says the last message back, and keeps what it got.
type openAIServer struct {
	host, port string

	mu    sync.Mutex
	model string // that answers, "" is gpt-5-2026
	path  string
	asked string
	head  http.Header
	body  []byte
	gone  chan struct{} // closed when a request that was held is given up
}

func newOpenAIServer(t *testing.T) *openAIServer {
	t.Helper()
	s := &openAIServer{gone: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.host, s.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	return s
}

func (s *openAIServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.path, s.asked, s.head, s.body = r.URL.RequestURI(), r.Host, r.Header.Clone(), body
	model := s.model
	if model == "" {
		model = "gpt-5-2026"
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/v1/responses/input_tokens" {
		var req responses.InputTokenCountParams
		if err := json.Unmarshal(body, &req); err != nil || len(req.Input.OfResponseInputItemArray) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"object":"response.input_tokens","input_tokens":7}`)
		return
	}
	var req openai.ChatCompletionNewParams
	if err := json.Unmarshal(body, &req); err != nil || len(req.Messages) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"not a chat completion","type":"invalid_request_error","param":null,"code":null}}`)
		return
	}
	said, _ := json.Marshal(*req.Messages[len(req.Messages)-1].GetContent().AsAny().(*string))
	if !strings.Contains(string(body), `"stream":true`) {
		_, _ = fmt.Fprintf(w, `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`, model, said)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-5-2026",`+format+"}\n\n", args...)
		_ = http.NewResponseController(w).Flush()
	}
	chunk(`"choices":[{"index":0,"delta":{"role":"assistant","content":%s},"finish_reason":null}]`, said)
	if string(said) == `"hold"` {
		<-r.Context().Done()
		close(s.gone)
		return
	}
	chunk(`"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]`)
	if strings.Contains(string(body), `"include_usage":true`) {
		chunk(`"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`)
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// answers has a model answer.
func (s *openAIServer) answers(model string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model = model
}

// seen returns path, Host, headers and body of the last request.
func (s *openAIServer) seen() (path, host string, head http.Header, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path, s.asked, s.head, string(s.body)
}

// provider returns the YAML of a Backend named model with more fields of spec.ai.llm.
func (s *openAIServer) provider(more string) string {
	return fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec:
  type: AI
  ai:
    llm:
      host: %s
      port: %s
      %s
`, s.host, s.port, strings.ReplaceAll(more, "\n", "\n      "))
}

func openAIClient(url string, opts ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(url), option.WithAPIKey("client-key"), option.WithMaxRetries(0)}, opts...)...)
}

func hello(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "gpt-5", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

// OpenAI's own client gets whole answers and streams, at the path that is assumed, and the
// provider gets the gateway's credential and not the client's.
func TestLLM(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {secretRef: {name: key}}}")+`
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {Authorization: "Bearer gateway-key\n"}
`)
	client := openAIClient(g.url("8080", "/llm/model/v1"), option.WithHeader("Cookie", "a=b"), option.WithHeader("X-Api-Key", "client-key"), option.WithHeader("OpenAI-Organization", "org-client"), option.WithHeader("OpenAI-Beta", "x=1"))
	got, err := client.Chat.Completions.New(t.Context(), hello("hi there"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].Message.Content != "hi there" || got.Model != "gpt-5-2026" || got.Usage.TotalTokens != 5 {
		t.Errorf("the answer is %s", got.RawJSON())
	}
	path, host, head, body := s.seen()
	if want := net.JoinHostPort(s.host, s.port); path != "/v1/chat/completions" || host != want {
		t.Errorf("the provider is asked at %s of %s", path, host)
	}
	if head.Get("Authorization") != "Bearer gateway-key" || strings.Contains(fmt.Sprint(head), "client") || head.Get("Cookie") != "" {
		t.Errorf("the provider gets %v", head)
	}
	if head.Get("OpenAI-Beta") != "x=1" {
		t.Errorf("the provider gets %v", head)
	}
	if want := `{"messages":[{"content":"hi there","role":"user"}],"model":"gpt-5"}`; body != want {
		t.Errorf("the provider gets %s, not %s", body, want)
	}

	stream := client.Chat.Completions.NewStreaming(t.Context(), hello("hi there"))
	var acc openai.ChatCompletionAccumulator
	chunks := 0
	for stream.Next() {
		acc.AddChunk(stream.Current())
		chunks++
	}
	if stream.Err() != nil || acc.Choices[0].Message.Content != "hi there" || acc.Choices[0].FinishReason != "stop" {
		t.Errorf("the stream: %v, %+v", stream.Err(), acc.ChatCompletion)
	}
	if chunks != 2 {
		t.Errorf("the client reads %d chunks: it did not ask for the usage", chunks)
	}
	for i, rec := range g.ended(2) {
		l := rec.LLM
		if l.Provider != "openai" || l.RequestModel != "gpt-5" || l.ResponseModel != "gpt-5-2026" || l.Usage.Input != 3 || l.Usage.Output != 2 || l.Stream != (i == 1) || rec.Attempts != 1 || rec.Backend != "default/model" {
			t.Errorf("the record of request %d says %+v", i, rec)
		}
	}
}

// Host, path, model and header are what the configuration says.
func TestLLMOverrides(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider(`path: {full: /api/paas/chat}
authHeader: {headerName: x-token, prefix: "Token "}
openai: {model: other-model, authToken: {kind: Inline, inline: gateway-key}}`))
	r := g.do("POST", g.url("8080", "/llm/model"), strings.NewReader(`{ "messages":[{"role":"user","content":"hi"}] }`))
	if r.Status != 200 {
		t.Fatal(r)
	}
	path, _, head, body := s.seen()
	if path != "/api/paas/chat" || head.Get("X-Token") != "Token gateway-key" || head.Get("Authorization") != "" {
		t.Errorf("the provider is asked at %s with %v", path, head)
	}
	if want := `{ "messages":[{"role":"user","content":"hi"}],"model":"other-model" }`; body != want {
		t.Errorf("the provider gets %s, not %s", body, want)
	}
	r = g.do("GET", g.url("8080", "/llm/model/v1/models"), nil)
	if want := `{"object":"list","data":[{"id":"other-model","object":"model","created":0,"owned_by":"openai"}]}`; r.Body != want {
		t.Errorf("the models are %s", r.Body)
	}
}

// With Passthrough the provider gets the client's credential, in whichever header it came,
// and without one the client is told how to send it.
func TestLLMPassthrough(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {kind: Passthrough}}"))
	for _, header := range [][2]string{{"Authorization", "Bearer k"}, {"X-Api-Key", "k"}, {"Api-Key", "k"}, {"X-Goog-Api-Key", "k"}} {
		if r := g.do("POST", g.url("8080", "/llm/model"), strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`), header[0], header[1]); r.Status != 200 {
			t.Fatal(r)
		}
		_, _, head, _ := s.seen()
		want := http.Header{"Authorization": {"Bearer k"}}
		got := http.Header{}
		for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
			if v := head[name]; v != nil {
				got[name] = v
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", header[0], diff)
		}
	}
	client := openAIClient(g.url("8080", "/llm/model/v1"), option.WithHeaderDel("Authorization"))
	_, err := client.Chat.Completions.New(t.Context(), hello("hi"))
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != 401 || e.Type != "authentication_error" {
		t.Errorf("without a credential: %v", err)
	}
}

// Errors are those that OpenAI's client knows, whoever raises them.
func TestLLMErrors(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {secretRef: {name: key}}}"))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	_, err := client.Chat.Completions.New(t.Context(), hello("hi"))
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != 503 || e.Type != "server_error" {
		t.Errorf("without the Secret: %v", err)
	}
	g.apply(s.provider("openai: {authToken: {kind: Inline, inline: k}}"))
	_, err = client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Messages: hello("hi").Messages})
	if !errors.As(err, &e) || e.StatusCode != 400 || e.Param != "model" {
		t.Errorf("without a model: %v", err)
	}
	_, err = client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{}})
	if !errors.As(err, &e) || e.StatusCode != 400 || e.Message != "not a chat completion" {
		t.Errorf("refused by the provider: %v", err)
	}
	for path, want := range map[string]int{"/v1/images/edits": 501, "/v1/realtime": 405} {
		if r := g.do("POST", g.url("8080", "/llm/model"+path), strings.NewReader(`{}`)); r.Status != want || !strings.HasPrefix(r.Body, `{"error":{`) {
			t.Errorf("%s: %v", path, r)
		}
	}
	if r := g.do("GET", g.url("8080", "/llm/model/v1/chat/completions"), nil); r.Status != 405 || r.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %v", r)
	}
	for _, rec := range g.ended(6) {
		if rec.ErrorType == "" || rec.ErrorType == "internal" {
			t.Errorf("a record says %q of status %d", rec.ErrorType, rec.Status)
		}
	}
}

// When the client closes its stream, the provider's connection is closed.
func TestLLMClientGone(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {kind: Inline, inline: k}}"))
	ctx, cancel := context.WithCancel(t.Context())
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	stream := client.Chat.Completions.NewStreaming(ctx, hello("hold"))
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	cancel()
	_ = stream.Close() // which is what this is about
	select {
	case <-s.gone:
	case <-t.Context().Done():
		t.Error("the provider goes on")
	}
	if rec := g.ended(1)[0]; rec.ErrorType != "client_gone" {
		t.Errorf("the record says %q", rec.ErrorType)
	}
}

// An HTTPRoute leads to an AI Backend as to any other, and its timeout bounds the answer.
func TestLLMRoute(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {kind: Inline, inline: k}}")+`
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: llm}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /ai}}]
    timeouts: {request: 100ms}
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: model}]
`)
	client := openAIClient(g.url("8080", "/ai/v1"))
	stream := client.Chat.Completions.NewStreaming(t.Context(), hello("hold"))
	text := ""
	for stream.Next() {
		text += stream.Current().Choices[0].Delta.Content
	}
	if text != "hold" || stream.Err() == nil || !strings.Contains(stream.Err().Error(), "the request took longer than its timeout") {
		t.Errorf("%q, %v", text, stream.Err())
	}
	if r := g.do("POST", g.url("8080", "/llm/model"), strings.NewReader(`{}`)); r.Status != 404 {
		t.Errorf("at the assumed path: %v", r)
	}
}

// Azure is asked for the deployment, at the paths of each of its versions.
func TestLLMAzure(t *testing.T) {
	s := newOpenAIServer(t)
	for version, want := range map[string]string{
		"2024-10-21": "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
		"v1":         "/openai/v1/chat/completions",
		"preview":    "/openai/v1/chat/completions?api-version=preview",
	} {
		g := start(t, s.provider("azureOpenAI: {endpoint: https://name.openai.azure.com/, deploymentName: my-gpt, apiVersion: "+version+", authToken: {kind: Inline, inline: k}}"))
		client := openAIClient(g.url("8080", "/llm/model/v1"))
		if _, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
			t.Fatal(err)
		}
		path, _, head, body := s.seen()
		if path != want || head.Get("Api-Key") != "k" || head.Get("Authorization") != "" || !strings.Contains(body, `"model":"my-gpt"`) {
			t.Errorf("%s: asked at %s with %v: %s", version, path, head, body)
		}
	}
}

// Without host and port a provider is at its own place, by https, which is checked; Bedrock lists its models at another one.
func TestLLMPlaces(t *testing.T) {
	for spec, want := range map[string][]string{
		"openai: {authToken: {kind: Inline, inline: k}}":    {"LLM/tls/api.openai.com:443/0"},
		"anthropic: {authToken: {kind: Inline, inline: k}}": {"LLM/tls/api.anthropic.com:443/0"},
		"gemini: {authToken: {kind: Inline, inline: k}}":    {"LLM/tls/generativelanguage.googleapis.com:443/0"},
		"azureOpenAI: {endpoint: \"https://name.openai.azure.com/x\", deploymentName: d, apiVersion: v1, authToken: {kind: Inline, inline: k}}": {"LLM/tls/name.openai.azure.com:443/0"},
		"bedrock: {}":                   {"LLM/tls/bedrock-runtime.us-east-1.amazonaws.com:443/0", "LLM/tls/bedrock.us-east-1.amazonaws.com:443/0"},
		"bedrock: {region: cn-north-1}": {"LLM/tls/bedrock-runtime.cn-north-1.amazonaws.com.cn:443/0", "LLM/tls/bedrock.cn-north-1.amazonaws.com.cn:443/0"},
	} {
		rt, err := NewRuntime(RuntimeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		snapshot, _ := Compile(load(t, `
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec:
  type: AI
  ai:
    llm: {`+spec+`}
`), rt)
		var got []string
		for identity := range snapshot.pools {
			got = append(got, identity)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", spec, diff)
		}
	}
}
