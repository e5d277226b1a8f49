package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A fullServer is a go-sdk server that has every feature of MCP. What npm's
// server-everything has too goes by the same name here and answers alike, so that
// one check serves both.
type fullServer struct {
	*mcp.Server
	name    string
	journal *journal
	tasks   *taskStore

	mu      sync.Mutex
	waiting map[string]chan struct{} // calls of wait, by key
}

// The pages of lists, and how long they may be kept, as the server says.
const (
	fullPageSize = 3
	fullTTL      = time.Minute
)

// newFullServer returns a full server, which notes in the journal what happens in it.
func newFullServer(name string, j *journal) *fullServer {
	s := &fullServer{name: name, journal: j, waiting: map[string]chan struct{}{}, tasks: newTaskStore(name)}
	capabilities := &mcp.ServerCapabilities{Logging: &mcp.LoggingCapabilities{}}
	capabilities.AddExtension("com.example/matrix", map[string]any{"level": 3})
	capabilities.AddExtension("io.modelcontextprotocol/ui", map[string]any{})
	capabilities.AddExtension(tasksExtension, map[string]any{})
	accept := func(context.Context, *mcp.SubscribeRequest) error { return nil }
	drop := func(context.Context, *mcp.UnsubscribeRequest) error { return nil }
	s.Server = mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ServerOptions{
		Instructions: "Instructions of " + name + ".", PageSize: fullPageSize, Capabilities: capabilities,
		SubscribeHandler: accept, UnsubscribeHandler: drop, CompletionHandler: s.complete,
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) {
			c.TTLMs, c.CacheScope = int(fullTTL/time.Millisecond), "public"
		},
	})
	s.addPlain()
	s.addContents()
	s.addLive()
	s.addAsking()
	s.addPromptsAndResources()
	s.addTasks()
	return s
}

// manyPrompts is how many prompts a server of [newManyServer] has: more than fit
// on a page of the gateway.
const manyPrompts = 1000

// newManyServer returns a server that has prompts, many of them, and nothing else.
func newManyServer(name string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ServerOptions{
		Instructions: "Prompts only.", PageSize: 400, Capabilities: &mcp.ServerCapabilities{},
	})
	for i := range manyPrompts {
		s.AddPrompt(&mcp.Prompt{Name: fmt.Sprintf("p%04d", i)}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "one of many"}}}}, nil
		})
	}
	return s
}

func textResult(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

var fullIcons = []mcp.Icon{{Source: "https://example.com/icon.png", MIMEType: "image/png", Sizes: []string{"48x48"}}}

// The content of a fullServer.
const (
	staticURI   = "demo://resource/static/document/features.md"
	templateURI = "demo://resource/dynamic/text/{resourceId}"
	uiURI       = "ui://app/view.html"
)

// addPlain adds tools that answer at once.
func (s *fullServer) addPlain() {
	type echo struct {
		Message string `json:"message"`
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "echo", Title: "odd", Icons: fullIcons},
		func(_ context.Context, _ *mcp.CallToolRequest, in echo) (*mcp.CallToolResult, any, error) {
			return textResult("Echo: %s", in.Message), nil, nil
		})
	s.AddTool(&mcp.Tool{Name: "odd", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			r := textResult("odd")
			r.Meta = mcp.Meta{"com.example/kept": "odd"}
			return r, nil
		})
	s.AddTool(&mcp.Tool{
		Name: "get-structured-content", InputSchema: json.RawMessage(`{"type":"object","properties":{"location":{"type":"string"}}}`),
		OutputSchema: json.RawMessage(`{"type":"object","properties":{"temperature":{"type":"number"},"conditions":{"type":"string"},"humidity":{"type":"number"}},"required":["temperature"]}`),
	}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		weather := `{"temperature":33,"conditions":"Cloudy","humidity":82,"exact":[12345678901234567890,1.0,1e2]}`
		r := textResult("%s", weather)
		r.StructuredContent = json.RawMessage(weather)
		return r, nil
	})
	s.AddTool(&mcp.Tool{Name: "capabilities", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			raw, err := json.Marshal(r.Session.InitializeParams())
			return textResult("%s", raw), err
		})
	s.AddTool(&mcp.Tool{
		Name: "app", InputSchema: json.RawMessage(`{"type":"object"}`),
		Meta: mcp.Meta{"ui": map[string]any{"resourceUri": uiURI}},
	}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return textResult("see the app"), nil
	})
}

// addContents adds tools whose results refer to resources.
func (s *fullServer) addContents() {
	s.AddTool(&mcp.Tool{Name: "get-resource-links", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{
				&mcp.ResourceLink{URI: "demo://resource/dynamic/text/2", Name: "two"},
			}}, nil
		})
	s.AddTool(&mcp.Tool{Name: "get-resource-reference", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{
				&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "demo://resource/dynamic/text/1", Text: "Resource 1: embedded"}},
			}}, nil
		})
}

// addLive adds tools that do something while they run, or change the server.
func (s *fullServer) addLive() {
	type operation struct {
		Steps int `json:"steps"`
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "trigger-long-running-operation"},
		func(ctx context.Context, r *mcp.CallToolRequest, in operation) (*mcp.CallToolResult, any, error) {
			for i := 1; i <= in.Steps; i++ {
				if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
					ProgressToken: r.Params.GetProgressToken(), Progress: float64(i), Total: float64(in.Steps),
				}); err != nil {
					return nil, nil, err
				}
			}
			return textResult("Long running operation completed."), nil, nil
		})
	type log struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "log"},
		func(ctx context.Context, r *mcp.CallToolRequest, in log) (*mcp.CallToolResult, any, error) {
			for _, level := range []mcp.LoggingLevel{"debug", "error"} {
				if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Logger: s.name, Data: in.Text + " " + string(level)}); err != nil {
					return nil, nil, err
				}
			}
			return textResult("logged"), nil, nil
		})
	type key struct {
		Key string `json:"key"`
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "wait"},
		func(ctx context.Context, _ *mcp.CallToolRequest, in key) (*mcp.CallToolResult, any, error) {
			released := make(chan struct{})
			s.mu.Lock()
			s.waiting[in.Key] = released
			s.mu.Unlock()
			s.journal.note("waiting " + in.Key)
			select {
			case <-released:
				return textResult("released"), nil, nil
			case <-ctx.Done():
				s.journal.note("cancelled " + in.Key)
				return nil, nil, ctx.Err()
			}
		})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "release"},
		func(_ context.Context, _ *mcp.CallToolRequest, in key) (*mcp.CallToolResult, any, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			released, ok := s.waiting[in.Key]
			if !ok {
				return nil, nil, fmt.Errorf("nobody waits for %s", in.Key)
			}
			delete(s.waiting, in.Key)
			close(released)
			return textResult("released"), nil, nil
		})
	type change struct {
		Kind   string `json:"kind"` // tools, prompts or resources
		Name   string `json:"name"`
		Remove bool   `json:"remove,omitempty"`
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "change"},
		func(_ context.Context, _ *mcp.CallToolRequest, in change) (*mcp.CallToolResult, any, error) {
			s.change(in.Kind, in.Name, in.Remove)
			return textResult("changed"), nil, nil
		})
	type uri struct {
		URI string `json:"uri"`
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "touch"},
		func(ctx context.Context, _ *mcp.CallToolRequest, in uri) (*mcp.CallToolResult, any, error) {
			return textResult("touched"), nil, s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: in.URI})
		})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "ping-client"},
		func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			return textResult("the client is there"), nil, r.Session.Ping(ctx, nil)
		})
}

func (s *fullServer) change(kind, name string, remove bool) {
	switch {
	case kind == "tools" && remove:
		s.RemoveTools(name)
	case kind == "tools":
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)},
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return textResult("new"), nil
			})
	case kind == "prompts" && remove:
		s.RemovePrompts(name)
	case kind == "prompts":
		s.AddPrompt(&mcp.Prompt{Name: name}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{}}, nil
		})
	case remove:
		s.RemoveResources("demo://" + name)
	default:
		s.AddResource(&mcp.Resource{Name: name, URI: "demo://" + name}, s.read)
	}
}

// addAsking adds tools that ask the client something. In the legacy eras go-sdk
// sends requests; in the modern one the results say what is asked.
func (s *fullServer) addAsking() {
	ask := func(tool string, question mcp.InputRequest) {
		s.AddTool(&mcp.Tool{Name: tool, InputSchema: json.RawMessage(`{"type":"object"}`)},
			func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				answer, ok := r.Params.InputResponses["q"]
				if !ok {
					return &mcp.CallToolResult{RequestState: "state of " + s.name, InputRequests: mcp.InputRequestMap{"q": question}}, nil
				}
				raw, err := json.MarshalIndent(answer, "", "  ")
				return textResult("Raw result: %s", raw), err
			})
	}
	ask("trigger-elicitation-request", &mcp.ElicitParams{
		Mode: "form", Message: "Who are you?",
		RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}`),
	})
	ask("trigger-url-elicitation", &mcp.ElicitParams{Mode: "url", Message: "Open it.", URL: "https://example.com/", ElicitationID: "e1"})
	ask("trigger-sampling-request", &mcp.CreateMessageWithToolsParams{
		MaxTokens: 5, Messages: []*mcp.SamplingMessageV2{{Role: "user", Content: []mcp.Content{&mcp.TextContent{Text: "of " + s.name}}}},
	})
	ask("sample-with-tools", &mcp.CreateMessageWithToolsParams{
		MaxTokens: 5, Messages: []*mcp.SamplingMessageV2{{Role: "user", Content: []mcp.Content{&mcp.TextContent{Text: "of " + s.name}}}},
		Tools: []*mcp.Tool{{Name: "look", InputSchema: json.RawMessage(`{"type":"object"}`)}}, ToolChoice: &mcp.ToolChoice{Mode: "required"},
	})
	ask("get-roots-list", &mcp.ListRootsParams{})
}

func (s *fullServer) addPromptsAndResources() {
	s.AddPrompt(&mcp.Prompt{Name: "args-prompt", Icons: fullIcons, Arguments: []*mcp.PromptArgument{{Name: "city", Required: true}}},
		func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Description: "odd", Messages: []*mcp.PromptMessage{
				{Role: "user", Content: &mcp.TextContent{Text: fmt.Sprintf("What's weather in %s?", r.Params.Arguments["city"])}},
			}}, nil
		})
	s.AddPrompt(&mcp.Prompt{Name: "completable-prompt", Arguments: []*mcp.PromptArgument{{Name: "department"}}},
		func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{}}, nil
		})
	s.AddPrompt(&mcp.Prompt{Name: "resource-prompt", Arguments: []*mcp.PromptArgument{{Name: "resourceType"}, {Name: "resourceId"}}},
		func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.EmbeddedResource{
				Resource: &mcp.ResourceContents{URI: "demo://resource/dynamic/text/1", Text: "Resource 1: embedded"},
			}}}}, nil
		})
	s.AddResource(&mcp.Resource{Name: "features.md", URI: staticURI, MIMEType: "text/markdown", Icons: fullIcons}, s.read)
	s.AddResource(&mcp.Resource{Name: "view", URI: uiURI, MIMEType: "text/html;profile=mcp-app"}, s.read)
	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "Dynamic Text Resource", URITemplate: templateURI, Icons: fullIcons}, s.read)
	for i := range 4 { // more than a page
		s.AddResource(&mcp.Resource{Name: fmt.Sprint("extra", i), URI: fmt.Sprint("demo://extra/", i)}, s.read)
		s.AddResourceTemplate(&mcp.ResourceTemplate{Name: fmt.Sprint("extra", i), URITemplate: fmt.Sprintf("extra%d://{id}", i)}, s.read)
	}
}

func (s *fullServer) read(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	contents := &mcp.ResourceContents{URI: r.Params.URI, MIMEType: "odd", Text: "Resource " + r.Params.URI + " of " + s.name}
	if r.Params.URI == uiURI {
		contents.MIMEType, contents.Text = "text/html;profile=mcp-app", "<!doctype html>"
		contents.Meta = mcp.Meta{"ui": map[string]any{"prefersBorder": true}}
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{contents}}, nil
}

func (s *fullServer) complete(_ context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	result := &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{}}}
	switch ref := r.Params.Ref; {
	case ref.Type == "ref/prompt" && ref.Name == "completable-prompt":
		result.Completion.Values = []string{"Engineering"}
	case ref.Type == "ref/resource" && ref.URI == templateURI:
		result.Completion.Values = []string{r.Params.Argument.Value}
	}
	return result, nil
}

// A splicer adds, to each object with a member whose value is "odd", a member
// that go-sdk does not know.
type splicer struct{ next io.Writer }

var oddMember = []byte(`"x-vendor":{"n":12345678901234567890,"f":1.0,"e":1e2,"s":"a\u00e9\/"}`)

func (s splicer) Write(p []byte) (int, error) {
	spliced := bytes.ReplaceAll(p, []byte(`"odd"`), append([]byte(`"odd",`), oddMember...))
	// The tool of that name keeps it, and has the member too.
	if _, err := s.next.Write(spliced); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s splicer) Close() error { return nil }

// A splicedResponse is an http.ResponseWriter that writes through a splicer.
type splicedResponse struct{ http.ResponseWriter }

func (w splicedResponse) Write(p []byte) (int, error) { return splicer{w.ResponseWriter}.Write(p) }

func (w splicedResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w splicedResponse) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// The environment that makes the test binary an MCP server on stdio: which server
// it is, and where its journal is.
const (
	stdioServerEnv  = "MCPGW_E2E_STDIO_SERVER"
	stdioJournalEnv = "MCPGW_E2E_STDIO_JOURNAL"
)

// serveStdio is the server on stdio; it returns the exit code.
func serveStdio(name string) int {
	j, err := openJournal(os.Getenv(stdioJournalEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer j.close()
	server := newManyServer(name)
	if name == "stdio" {
		server = newFullServer(name, j).Server
	}
	err = server.Run(context.Background(), &mcp.IOTransport{
		Reader: io.NopCloser(io.TeeReader(os.Stdin, j.lines())), Writer: splicer{os.Stdout},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
