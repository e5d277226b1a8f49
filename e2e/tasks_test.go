package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const tasksExtension = "io.modelcontextprotocol/tasks"

// A taskStore keeps the tasks of a server (extension io.modelcontextprotocol/tasks),
// which go-sdk knows nothing of. Each task asks for a name and ends with it.
type taskStore struct {
	name string

	mu    sync.Mutex
	tasks map[string]*task
}

func newTaskStore(name string) *taskStore { return &taskStore{name: name, tasks: map[string]*task{}} }

// A task is a result of tools/call that says how to ask for what comes of it.
type task struct {
	mcp.ResultBase
	ResultType    string          `json:"resultType"`
	TaskID        string          `json:"taskId"`
	Status        string          `json:"status"`
	CreatedAt     string          `json:"createdAt"`
	LastUpdatedAt string          `json:"lastUpdatedAt"`
	TTL           *int            `json:"ttlMs"`
	InputRequests json.RawMessage `json:"inputRequests,omitempty"`
	Result        json.RawMessage `json:"result,omitempty"`
}

// A taskDone acknowledges tasks/update and tasks/cancel.
type taskDone struct {
	mcp.ResultBase
	ResultType string `json:"resultType"`
}

type taskParams struct {
	mcp.ParamsBase
	TaskID         string `json:"taskId"`
	InputResponses map[string]struct {
		Action  string         `json:"action"`
		Content map[string]any `json:"content"`
	} `json:"inputResponses,omitempty"`
}

// addTasks adds a tool whose calls become tasks, and the methods of the extension.
func (s *fullServer) addTasks() {
	s.AddTool(&mcp.Tool{Name: "task", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return textResult("no task"), nil
		})
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			call, ok := r.GetParams().(*mcp.CallToolParamsRaw)
			if !ok || call.Name != "task" {
				return next(ctx, method, r)
			}
			return s.tasks.create(), nil
		}
	})
	handle := func(method string, f func(*task, *taskParams) mcp.Result) {
		err := mcp.AddReceivingCustomMethod[*taskParams, mcp.Result](s.Server, method,
			func(_ context.Context, _ *mcp.ServerSession, p *taskParams) (mcp.Result, error) {
				s.tasks.mu.Lock()
				defer s.tasks.mu.Unlock()
				t, ok := s.tasks.tasks[p.TaskID]
				if !ok {
					return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("no task %q", p.TaskID)}
				}
				return f(t, p), nil
			})
		if err != nil {
			panic(err)
		}
	}
	done := func() mcp.Result { return &taskDone{ResultType: "complete"} }
	handle("tasks/get", func(t *task, _ *taskParams) mcp.Result {
		detailed := *t
		detailed.ResultType = "complete"
		return &detailed
	})
	handle("tasks/update", func(t *task, p *taskParams) mcp.Result {
		if answer, ok := p.InputResponses["who"]; ok && t.Status == "input_required" {
			t.Status, t.InputRequests = "completed", nil
			t.Result = json.RawMessage(fmt.Sprintf(`{"content":[{"type":"text","text":"task of %s by %v"},{"type":"resource_link","uri":%q,"name":"f"}]}`,
				s.name, answer.Content["name"], staticURI))
		}
		return done()
	})
	handle("tasks/cancel", func(t *task, _ *taskParams) mcp.Result {
		t.Status, t.InputRequests = "cancelled", nil
		return done()
	})
}

func (ts *taskStore) create() mcp.Result {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	const now = "2026-07-28T00:00:00Z"
	t := &task{
		TaskID: fmt.Sprintf("task-%d", len(ts.tasks)+1), Status: "input_required", CreatedAt: now, LastUpdatedAt: now,
		InputRequests: json.RawMessage(`{"who":{"method":"elicitation/create","params":{"mode":"form","message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}}}`),
	}
	ts.tasks[t.TaskID] = t
	created := *t
	created.ResultType, created.InputRequests = "task", nil
	return &created
}
