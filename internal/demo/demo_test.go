package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a session with one of the demo's MCP servers.
func connect(t *testing.T, url string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, opts)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: transport},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(Handler(slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return s.URL
}

func TestErasDiffer(t *testing.T) {
	url := serve(t)
	for path, want := range map[string]string{"/demo/mcp": "2026-07-28", "/notes/mcp": "2025-11-25"} {
		got := connect(t, url+path, nil).InitializeResult().ProtocolVersion
		if got != want {
			t.Errorf("%s speaks %s, want %s", path, got, want)
		}
	}
}

func TestTools(t *testing.T) {
	url := serve(t)
	accept := &mcp.ClientOptions{ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		return &mcp.ElicitResult{Action: "accept"}, nil
	}}
	sessions := map[string]*mcp.ClientSession{
		"demo":  connect(t, url+"/demo/mcp", nil),
		"notes": connect(t, url+"/notes/mcp", accept),
	}
	// In order: the notes server remembers.
	tests := []struct {
		server, tool string
		args         map[string]any
		want         string // text, or the structured result
		isError      bool
	}{
		{"demo", "add", map[string]any{"a": 1, "b": 2}, "3", false},
		{"demo", "echo", map[string]any{"message": "hi"}, "hi", false},
		{"demo", "now", map[string]any{"zone": "Nowhere/Land"}, `unknown time zone "Nowhere/Land"`, true},
		{"demo", "slow", map[string]any{"steps": 2, "interval_ms": 1}, "took 2 steps", false},
		{"demo", "slow", map[string]any{"steps": maxSteps + 1}, "steps must be 1 to 60", true},
		{"demo", "slow", map[string]any{"interval_ms": 1001}, "interval_ms must be 1 to 1000", true},
		{"notes", "list", nil, `{"notes":[]}`, false},
		{"notes", "write", map[string]any{"text": "milk"}, "note 1 written", false},
		{"notes", "write", map[string]any{"text": strings.Repeat("x", maxNote+1)}, "a note has 1 to 4096 bytes", true},
		{"notes", "list", nil, `{"notes":["milk"]}`, false},
		{"notes", "clear", nil, "cleared", false},
		{"notes", "list", nil, `{"notes":[]}`, false},
	}
	for _, test := range tests {
		result, err := sessions[test.server].CallTool(t.Context(), &mcp.CallToolParams{Name: test.tool, Arguments: test.args})
		if err != nil {
			t.Errorf("%s/%s: %v", test.server, test.tool, err)
			continue
		}
		got := result.Content[0].(*mcp.TextContent).Text
		if got != test.want || result.IsError != test.isError {
			t.Errorf("%s/%s answers %q, isError %v; want %q, %v", test.server, test.tool, got, result.IsError, test.want, test.isError)
		}
	}
}

func TestNotesAreBounded(t *testing.T) {
	book := new(notebook)
	for i := range maxNotes + 1 {
		_, _, err := book.write(t.Context(), nil, writeArgs{Text: "x"})
		if (err != nil) != (i == maxNotes) {
			t.Fatalf("note %d: %v", i+1, err)
		}
	}
}

func TestProgress(t *testing.T) {
	seen := make(chan string, 10)
	session := connect(t, serve(t)+"/demo/mcp", &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, n *mcp.ProgressNotificationClientRequest) { seen <- n.Params.Message },
	})
	params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"steps": 3, "interval_ms": 1}}
	params.SetProgressToken("p")
	if _, err := session.CallTool(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= 3; step++ {
		if got, want := <-seen, fmt.Sprintf("step %d of 3", step); got != want {
			t.Errorf("progress %q, want %q", got, want)
		}
	}
}

func TestPromptAndResource(t *testing.T) {
	session := connect(t, serve(t)+"/demo/mcp", nil)
	prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "greet", Arguments: map[string]string{"name": "Ada"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := prompt.Messages[0].Content.(*mcp.TextContent).Text; got != "Greet Ada in one sentence." {
		t.Errorf("prompt: %q", got)
	}
	resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "demo://about"})
	if err != nil {
		t.Fatal(err)
	}
	if got := resource.Contents[0].Text; !strings.Contains(got, "built-in demo") {
		t.Errorf("resource: %q", got)
	}
}

func TestLLM(t *testing.T) {
	at := time.Unix(1700000000, 0)
	handler := newLLM(func() time.Time { return at })
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"models", "GET", "/v1/models", "", 200,
			`{"data":[{"id":"mock","object":"model","created":1700000000,"owned_by":"mcpgw"}],"object":"list"}` + "\n"},
		{"says the last user message back and counts words", "POST", "/v1/chat/completions",
			`{"model":"mock","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello there you"}]}`, 200,
			`{"id":"chatcmpl-1700000000000000000","object":"chat.completion","created":1700000000,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"hello there you"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}` + "\n"},
		{"content parts", "POST", "/v1/chat/completions",
			`{"model":"mock","messages":[{"role":"user","content":[{"type":"text","text":"a b"},{"type":"image_url","image_url":{}}]}]}`, 200,
			`{"id":"chatcmpl-1700000000000000000","object":"chat.completion","created":1700000000,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"a b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}` + "\n"},
		{"streams", "POST", "/v1/chat/completions",
			`{"model":"mock","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"a b"}]}`, 200,
			`data: {"id":"chatcmpl-1700000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[{"index":0,"delta":{"role":"assistant","content":"a "},"finish_reason":null}]}

data: {"id":"chatcmpl-1700000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}

data: {"id":"chatcmpl-1700000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"chatcmpl-1700000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}

data: [DONE]

`},
		{"no model", "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}]}`, 400,
			`{"error":{"code":null,"message":"model and messages are required","param":null,"type":"invalid_request_error"}}` + "\n"},
		{"too large", "POST", "/v1/chat/completions", strings.Repeat(" ", maxChat+1), 413,
			`{"error":{"code":null,"message":"the request is larger than 1 MiB","param":null,"type":"invalid_request_error"}}` + "\n"},
		{"other method", "DELETE", "/v1/models", "", 405, "Method Not Allowed\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(test.method, test.path, strings.NewReader(test.body)))
			if w.Code != test.status {
				t.Errorf("status %d, want %d", w.Code, test.status)
			}
			if diff := cmp.Diff(test.want, w.Body.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	server, err := Listen(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	response, err := http.Get(fmt.Sprintf("http://%s/v1/models", server.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	if err != nil || !strings.Contains(line, `"mock"`) {
		t.Errorf("models: %q, %v", line, err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	port := fmt.Sprintf("port: %d", server.Addr().Port)
	if yaml := string(server.YAML(true)); strings.Contains(yaml, "%!") || strings.Count(yaml, port) != 3 {
		t.Errorf("the manifest is badly filled in:\n%s", yaml)
	}
}
