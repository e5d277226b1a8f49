package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	// maxSteps bounds how long one call of slow lasts.
	maxSteps = 60
	// maxNotes bounds what the notes server keeps, for all its clients together.
	maxNotes = 1000
	// maxNote bounds one note, in bytes.
	maxNote = 4096
)

type addArgs struct {
	A float64 `json:"a" jsonschema:"the first number"`
	B float64 `json:"b" jsonschema:"the second number"`
}

type sum struct {
	Sum float64 `json:"sum" jsonschema:"a plus b"`
}

type echoArgs struct {
	Message string `json:"message" jsonschema:"what to say back"`
}

type nowArgs struct {
	Zone string `json:"zone,omitempty" jsonschema:"an IANA time zone such as Europe/Berlin; UTC when empty"`
}

type slowArgs struct {
	Steps    int `json:"steps,omitempty" jsonschema:"how many steps to take, at most 60; 5 when absent"`
	Interval int `json:"interval_ms,omitempty" jsonschema:"milliseconds a step, at most 1000; 200 when absent"`
}

// newDemoServer returns the server that speaks the modern era: tools, a prompt
// and a resource, none of which needs a session.
func newDemoServer(logger *slog.Logger) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "mcpgw-demo", Version: "1.0.0"}, &mcp.ServerOptions{Logger: logger})
	readOnly := &mcp.ToolAnnotations{ReadOnlyHint: true}

	mcp.AddTool(s, &mcp.Tool{Name: "add", Description: "Add two numbers.", Annotations: readOnly},
		func(_ context.Context, _ *mcp.CallToolRequest, in addArgs) (*mcp.CallToolResult, sum, error) {
			total := in.A + in.B
			return text("%g", total), sum{Sum: total}, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "Say the message back.", Annotations: readOnly},
		func(_ context.Context, _ *mcp.CallToolRequest, in echoArgs) (*mcp.CallToolResult, any, error) {
			return text("%s", in.Message), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "now", Description: "Tell the time in a time zone.", Annotations: readOnly},
		func(_ context.Context, _ *mcp.CallToolRequest, in nowArgs) (*mcp.CallToolResult, any, error) {
			zone, err := time.LoadLocation(in.Zone)
			if err != nil {
				return nil, nil, fmt.Errorf("unknown time zone %q", in.Zone)
			}
			return text("%s", time.Now().In(zone).Format(time.RFC3339)), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "slow", Description: "Take some steps, reporting progress after each.", Annotations: readOnly}, slow)

	s.AddPrompt(&mcp.Prompt{
		Name:        "greet",
		Description: "Ask for a greeting.",
		Arguments:   []*mcp.PromptArgument{{Name: "name", Description: "whom to greet", Required: true}},
	}, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
			Role:    "user",
			Content: &mcp.TextContent{Text: "Greet " + req.Params.Arguments["name"] + " in one sentence."},
		}}}, nil
	})

	const about = "This is the built-in demo of mcpgw: two MCP servers and a mock LLM behind one gateway."
	s.AddResource(&mcp.Resource{URI: "demo://about", Name: "about", MIMEType: "text/plain", Description: "What this demo is."},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{
				URI: req.Params.URI, MIMEType: "text/plain", Text: about,
			}}}, nil
		})
	return s
}

// slow is the tool that takes its time, so that progress and cancellation can be
// seen.
func slow(ctx context.Context, req *mcp.CallToolRequest, in slowArgs) (*mcp.CallToolResult, any, error) {
	if in.Steps < 0 || in.Steps > maxSteps {
		return nil, nil, fmt.Errorf("steps must be 1 to %d", maxSteps)
	}
	if in.Interval < 0 || in.Interval > 1000 {
		return nil, nil, errors.New("interval_ms must be 1 to 1000")
	}
	steps, interval := in.Steps, time.Duration(in.Interval)*time.Millisecond
	if steps == 0 {
		steps = 5
	}
	if interval == 0 {
		interval = 200 * time.Millisecond
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for step := 1; step <= steps; step++ {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-tick.C:
		}
		token := req.Params.GetProgressToken()
		if token == nil {
			continue
		}
		err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: token,
			Progress:      float64(step),
			Total:         float64(steps),
			Message:       fmt.Sprintf("step %d of %d", step, steps),
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return text("took %d steps", steps), nil, nil
}

// A notebook is what the notes server remembers until it stops.
type notebook struct {
	mu    sync.Mutex
	notes []string
}

type writeArgs struct {
	Text string `json:"text" jsonschema:"the note, at most 4096 bytes"`
}

type noteList struct {
	Notes []string `json:"notes" jsonschema:"the notes, oldest first"`
}

// newNotesServer returns the server that speaks the legacy era: it has sessions,
// and it asks its client back before it throws anything away.
func newNotesServer(logger *slog.Logger) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "mcpgw-notes", Version: "1.0.0"}, &mcp.ServerOptions{Logger: logger})
	book := new(notebook)
	mcp.AddTool(s, &mcp.Tool{Name: "write", Description: "Write a note down."}, book.write)
	mcp.AddTool(s, &mcp.Tool{Name: "list", Description: "List the notes.", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, book.list)
	mcp.AddTool(s, &mcp.Tool{Name: "clear", Description: "Throw all notes away, after asking the user."}, book.clear)
	return s
}

func (b *notebook) write(_ context.Context, _ *mcp.CallToolRequest, in writeArgs) (*mcp.CallToolResult, any, error) {
	if len(in.Text) == 0 || len(in.Text) > maxNote {
		return nil, nil, fmt.Errorf("a note has 1 to %d bytes", maxNote)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.notes) == maxNotes {
		return nil, nil, fmt.Errorf("there are already %d notes: clear them first", maxNotes)
	}
	b.notes = append(b.notes, in.Text)
	return text("note %d written", len(b.notes)), nil, nil
}

func (b *notebook) list(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, noteList, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return nil, noteList{Notes: append([]string{}, b.notes...)}, nil
}

func (b *notebook) clear(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	answer, err := req.Session.Elicit(ctx, &mcp.ElicitParams{
		Message:         "Throw all notes away?",
		RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("asking the user: %w", err)
	}
	if answer.Action != "accept" {
		return text("kept"), nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes = nil
	return text("cleared"), nil, nil
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}
