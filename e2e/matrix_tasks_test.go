package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const tasksCapabilities = `{"elicitation":{"form":{}},"extensions":{"io.modelcontextprotocol/tasks":{}},"tasks":{}}`

// checkTasks drives tasks without an SDK, since none has both kinds: those of the
// extension of 2026-07-28, and the experimental ones of 2025-11-25.
func checkTasks(ctx context.Context, c *cell) error {
	p, err := c.plain(ctx, tasksCapabilities)
	if err != nil {
		return err
	}
	switch {
	case c.target.npm && c.client.modern():
		return c.lacks(tasksExtension, "server-everything has the tasks of 2025-11-25, which a client of 2026-07-28 does not know")
	case c.target.npm:
		return c.experimentalTasks(ctx, p)
	case !c.client.modern():
		return c.lacks(`"tasks":`, "go-sdk has no tasks of 2025-11-25, and the extension is one of 2026-07-28")
	case c.target.revision != "2026-07-28":
		return absent("the tasks extension is one of 2026-07-28, which the server does not speak")
	}
	return c.extensionTasks(ctx, p)
}

// A taskState is what a task of either kind says of itself.
type taskState struct {
	ResultType    string          `json:"resultType"`
	TaskID        string          `json:"taskId"`
	Status        string          `json:"status"`
	InputRequests json.RawMessage `json:"inputRequests"`
	Result        json.RawMessage `json:"result"`
	Task          *taskState      `json:"task"`
}

// ask sends a request about a task and returns what it says.
func (p *plainClient) askTask(ctx context.Context, method, id string, params object) (*taskState, error) {
	name := id
	if method == "tools/call" {
		name, id = params["name"].(string), ""
	}
	if id != "" {
		params["taskId"] = id
	}
	raw, err := p.result(ctx, method, name, params)
	if err != nil {
		return nil, err
	}
	state := new(taskState)
	return state, json.Unmarshal(raw, state)
}

// extensionTasks answers what one task asks, to its end, and cancels another.
func (c *cell) extensionTasks(ctx context.Context, p *plainClient) error {
	var ids []string
	for range 2 {
		created, err := p.askTask(ctx, "tools/call", "", object{"name": c.name("task"), "arguments": object{}})
		if err != nil {
			return err
		}
		if created.ResultType != "task" || !strings.HasPrefix(created.TaskID, c.target.name+"+task-") {
			return fmt.Errorf("the call is answered with %+v", created)
		}
		ids = append(ids, created.TaskID)
	}
	asked, err := p.askTask(ctx, "tasks/get", ids[0], object{})
	if err != nil {
		return err
	}
	if asked.Status != "input_required" || asked.TaskID != ids[0] || !strings.Contains(string(asked.InputRequests), `"elicitation/create"`) {
		return fmt.Errorf("the task is %+v", asked)
	}
	answer := object{"who": object{"action": "accept", "content": object{"name": c.id}}}
	if _, err := p.askTask(ctx, "tasks/update", ids[0], object{"inputResponses": answer}); err != nil {
		return err
	}
	done, err := p.askTask(ctx, "tasks/get", ids[0], object{})
	if err != nil {
		return err
	}
	for _, want := range []string{"task of " + c.target.name + " by " + c.id, `"` + c.uri(staticURI) + `"`} {
		if done.Status != "completed" || !strings.Contains(string(done.Result), want) {
			return fmt.Errorf("the task is %s with %s, without %s", done.Status, done.Result, want)
		}
	}
	if _, err := p.askTask(ctx, "tasks/cancel", ids[1], object{}); err != nil {
		return err
	}
	cancelled, err := p.askTask(ctx, "tasks/get", ids[1], object{})
	if err != nil {
		return err
	}
	if cancelled.Status != "cancelled" {
		return fmt.Errorf("the cancelled task is %s", cancelled.Status)
	}
	if _, err := p.askTask(ctx, "tasks/get", "task-1", object{}); err == nil {
		return errors.New("a task goes by the id that the target gave it")
	}
	return nil
}

// experimentalTasks has a call of server-everything made a task, and cancels it.
func (c *cell) experimentalTasks(ctx context.Context, p *plainClient) error {
	if c.client.revision < "2025-11-25" {
		return absent("revision 2025-06-18 has no tasks")
	}
	created, err := p.askTask(ctx, "tools/call", "", object{
		"name": c.name("simulate-research-query"), "arguments": object{"topic": c.id}, "task": object{"ttl": 60000},
	})
	if err != nil {
		return err
	}
	if created.Task == nil || !strings.HasPrefix(created.Task.TaskID, c.target.name+"+") {
		return fmt.Errorf("the call is answered with %+v", created)
	}
	id := created.Task.TaskID
	working, err := p.askTask(ctx, "tasks/get", id, object{})
	if err != nil {
		return err
	}
	if working.TaskID != id || working.Status != "working" {
		return fmt.Errorf("the task is %+v", working)
	}
	listed, err := p.result(ctx, "tasks/list", "", object{})
	if err != nil {
		return err
	}
	if !strings.Contains(string(listed), `"`+id+`"`) {
		return fmt.Errorf("the task %s is not in %s", id, listed)
	}
	cancelled, err := p.askTask(ctx, "tasks/cancel", id, object{})
	if err != nil {
		return err
	}
	if cancelled.Status != "cancelled" {
		return fmt.Errorf("the cancelled task is %+v", cancelled)
	}
	return nil
}
