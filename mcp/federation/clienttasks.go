package federation

import (
	"context"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// A client's own tasks: what a legacy target asked of it as a task (2025-11-25,
// Tasks). Their ids are the client's, and reach only the target that asked.

// maxClientTasks bounds the tasks that a client runs for the targets of one
// session.
const maxClientTasks = 1000

// errNotItsTask is what a target is answered that asks for a task of the client
// that it did not make.
func errNotItsTask() *protocol.Error {
	return protocol.Errorf(protocol.CodeInvalidParams, "Failed to retrieve task: Task not found")
}

// mayAskTask reports whether a request of a target is about no task of the
// client, or about one that the target itself made.
func (l *live) mayAskTask(leg *session.Leg, m *protocol.Message) bool {
	switch m.Method {
	case "tasks/get", "tasks/result", "tasks/cancel":
	default:
		return true
	}
	id, _ := protocol.GetString(m.Params, "taskId")
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tasks[id] == leg
}

// ownTasks returns a client's answer to a target without the tasks of others, and
// notes a task that the answer makes.
func (l *live) ownTasks(a *ask, result []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.method {
	case "sampling/createMessage", "elicitation/create":
		id, ok := protocol.GetString(result, "task", "taskId")
		if _, taken := l.tasks[id]; !ok || taken || len(l.tasks) == maxClientTasks {
			return result
		}
		if l.tasks == nil {
			l.tasks = map[string]*session.Leg{}
		}
		l.tasks[id] = a.leg
	case "tasks/list":
		out := []byte{'['}
		for raw := range protocol.Elements(protocol.Get(result, "tasks")) {
			if id, _ := protocol.GetString(raw, "taskId"); l.tasks[id] == a.leg {
				if len(out) > 1 {
					out = append(out, ',')
				}
				out = append(out, raw...)
			}
		}
		return protocol.Splice(result, protocol.Edit{Path: []string{"tasks"}, Value: append(out, ']')})
	}
	return result
}

// taskStatus passes the client's notifications/tasks/status on to the target
// whose task it is about.
func (l *live) taskStatus(ctx context.Context, m *protocol.Message, f session.Forward) {
	id, _ := protocol.GetString(m.Params, "taskId")
	l.mu.Lock()
	leg := l.tasks[id]
	l.mu.Unlock()
	if leg != nil {
		_ = leg.Notify(ctx, m.Method, m.Params, f) // as with all notifications
	}
}
