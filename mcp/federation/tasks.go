package federation

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// Tasks: those of the extension of 2026-07-28 between modern clients and targets,
// and the experimental ones of 2025-11-25 between legacy ones. They are not the
// same thing, and the gateway does not make the one of the other.

const (
	maxTasks      = 10_000 // that the hub remembers
	maxOwnTask    = 1024   // bytes of a target's id
	maxTaskPages  = 100    // of one target's list
	taskSeparator = "+"
)

// A taskOf is what a client-visible task id says: whose task it is, and by which
// tool it was made.
type taskOf struct {
	target int
	own    string // the target's id
	tool   string // by the target's name
}

// A taskKey finds the client-visible id of a task that a target speaks of.
type taskKey struct {
	backend, owner, target, own string
}

// owner returns the caller whom a task belongs to: its principal, so that tasks
// outlive the credentials that are forwarded, unless nothing but these tells
// callers apart.
func owner(isolation string) string {
	principal, _, _ := strings.Cut(isolation, "\x00")
	if principal == "anonymous" {
		return isolation
	}
	return principal
}

// taskID returns the id of a new task as its caller gets it: <target>+<id>+ and a
// seal, which holds the tool that made it and binds all of that to the caller. So
// any process with the key knows whose it is and which rules are about it.
func (b *Backend) taskID(isolation string, t taskOf) string {
	name := b.cfg.Targets[t.target].Name
	seal := b.hub.opts.Sealer.Seal("task", []byte(name+"\x00"+t.tool), b.taskBinding(isolation, t.own))
	id := b.naming.scope(name).task(t.own) + taskSeparator + seal
	b.remember(isolation, t, id)
	return id
}

func (b *Backend) taskBinding(isolation, own string) []byte {
	return []byte(b.cfg.Name + "\x00" + owner(isolation) + "\x00" + own)
}

// openTask reverses taskID; ok is false for what is no task of this caller.
func (b *Backend) openTask(isolation, id string) (t taskOf, ok bool) {
	i := strings.LastIndex(id, taskSeparator)
	if i < 0 {
		return taskOf{}, false
	}
	visible, seal := id[:i], id[i+1:]
	own := visible
	if !b.naming.bare {
		if _, own, ok = strings.Cut(visible, taskSeparator); !ok {
			return taskOf{}, false
		}
	}
	plain, ok := b.hub.opts.Sealer.Open("task", seal, b.taskBinding(isolation, own))
	if !ok {
		return taskOf{}, false
	}
	name, tool, _ := strings.Cut(string(plain), "\x00")
	t = taskOf{target: b.indexOf(name), own: own, tool: tool}
	if t.target < 0 || b.naming.scope(name).task(own) != visible {
		return taskOf{}, false
	}
	b.remember(isolation, t, id)
	return t, true
}

// remember notes the client-visible id of a task.
func (b *Backend) remember(isolation string, t taskOf, id string) {
	b.hub.tasks.Add(taskKey{b.cfg.Name, owner(isolation), b.cfg.Targets[t.target].Name, t.own}, id)
}

// knownTask returns the client-visible id of a task that a target speaks of, if
// it is one of the caller's.
func (b *Backend) knownTask(isolation string, target int, own string) (id string, ok bool) {
	return b.hub.tasks.Get(taskKey{b.cfg.Name, owner(isolation), b.cfg.Targets[target].Name, own})
}

// related returns an object of a target with the task in its _meta, if it has one,
// as the client knows it.
func (b *Backend) related(isolation string, target int, obj []byte) []byte {
	path := []string{"_meta", protocol.MetaRelatedTask, "taskId"}
	own, ok := protocol.GetString(obj, path...)
	if !ok {
		return obj
	}
	if id, ok := b.knownTask(isolation, target, own); ok {
		return protocol.Splice(obj, protocol.Edit{Path: path, Value: protocol.Quote(id)})
	}
	return protocol.Splice(obj, protocol.Edit{Path: path[:2]})
}

// task returns the client-visible beginning of a task's id.
func (s scope) task(own string) string {
	if s.bare {
		return own
	}
	return s.prefix + taskSeparator + own
}

// relatedOwn returns an object of a client with the task in its _meta as the
// target knows it.
func (s scope) relatedOwn(obj []byte) []byte {
	path := []string{"_meta", protocol.MetaRelatedTask, "taskId"}
	id, ok := protocol.GetString(obj, path...)
	i := strings.LastIndex(id, taskSeparator)
	if !ok || i < 0 {
		return obj
	}
	id = id[:i]
	if !s.bare {
		var mine bool
		if id, mine = strings.CutPrefix(id, s.prefix+taskSeparator); !mine {
			return obj
		}
	}
	return protocol.Splice(obj, protocol.Edit{Path: path, Value: protocol.Quote(id)})
}

// speaksTasks reports whether a modern client takes tasks.
func speaksTasks(capabilities []byte) bool {
	return has(capabilities, "extensions", protocol.TasksExtension)
}

// needsTasks is the error for a modern client that does not.
func needsTasks() *protocol.Error {
	return protocol.MissingClientCapability([]byte(`{"extensions":{"` + protocol.TasksExtension + `":{}}}`))
}

// findTask returns the task that the request is about, or errUnknown: also when
// the caller may not call the tool that made it.
func (q *request) findTask(ctx context.Context, id string) (taskOf, error) {
	t, ok := q.b.openTask(q.client.Isolation, id)
	if !ok {
		return t, errUnknown
	}
	return t, q.catalogue().authorize(ctx, tools, q.msg.Method, t.target, t.tool, nil)
}

// task serves the requests about one task: tasks/get, tasks/update and tasks/cancel
// of the extension; tasks/get, tasks/result and tasks/cancel of 2025-11-25.
func (q *request) task(ctx context.Context) error {
	if q.era == protocol.Modern && !speaksTasks(q.client.Capabilities) {
		return q.refuse(http.StatusBadRequest, needsTasks())
	}
	id, ok := protocol.GetString(q.msg.Params, "taskId")
	if !ok {
		return q.needs("taskId")
	}
	t, err := q.findTask(ctx, id)
	if err != nil {
		return q.fail(task, id, err)
	}
	q.rec.MCP.Target, q.rec.MCP.Name = q.b.cfg.Targets[t.target].Name, t.tool
	return q.relay(ctx, &relayed{kind: task, target: t.target, name: id, edits: set(t.own, "taskId"),
		rewrite: func(result []byte) ([]byte, error) { return q.taskAnswer(t, id, result) }})
}

// taskAnswer returns the answer to a request about one task as the client gets
// it.
func (q *request) taskAnswer(t taskOf, id string, result []byte) ([]byte, error) {
	switch {
	case q.msg.Method == "tasks/result":
		q.rec.MCP.ToolError = string(protocol.Get(result, "isError")) == "true"
		return q.b.related(q.client.Isolation, t.target, toolResult(result, q.scope(t.target))), nil
	case q.era == protocol.Legacy:
		return q.b.shownTask(q.client.Isolation, t.target, id, result), nil
	default:
		out, err := q.b.detailedTask(q.client.Capabilities, t.target, id, result)
		return q.asComplete(out), err
	}
}

// shownTask returns a Task object of a target with the client-visible id.
func (b *Backend) shownTask(isolation string, target int, id string, obj []byte) []byte {
	if protocol.Get(obj, "taskId") != nil {
		obj = protocol.Splice(obj, protocol.Edit{Path: []string{"taskId"}, Value: protocol.Quote(id)})
	}
	return b.related(isolation, target, obj)
}

// detailedTask returns a DetailedTask of the extension as the client gets it, with
// the result of the tool or with what the client is asked. Its error says that the
// client can't be asked that.
func (b *Backend) detailedTask(capabilities []byte, target int, id string, obj []byte) ([]byte, error) {
	s := b.naming.scope(b.cfg.Targets[target].Name)
	var edits []protocol.Edit
	if protocol.Get(obj, "taskId") != nil {
		edits = append(edits, protocol.Edit{Path: []string{"taskId"}, Value: protocol.Quote(id)})
	}
	if result := protocol.Get(obj, "result"); result != nil {
		edits = append(edits, protocol.Edit{Path: []string{"result"}, Value: toolResult(result, s)})
	}
	if requests := protocol.Get(obj, "inputRequests"); requests != nil {
		out, lack, malformed := inputRequests(requests, capabilities, s)
		switch {
		case malformed:
			return nil, errMalformedInput
		case lack != nil:
			return nil, protocol.MissingClientCapability(lack)
		}
		edits = append(edits, protocol.Edit{Path: []string{"inputRequests"}, Value: out})
	}
	return splice(obj, edits), nil
}

var errUnwantedTask = fault.New(fault.UpstreamFailed, "the server answered with a task, which this client did not ask for")

// called returns the answer to tools/call as the client gets it: the tool's result,
// or a task. tool is the target's name of the tool.
func (q *request) called(r *relayed, tool string, result []byte) (out []byte, isTask bool, err error) {
	path := []string{"taskId"}
	wanted := q.era == protocol.Modern && speaksTasks(q.client.Capabilities)
	if r.leg.Era() == protocol.Legacy {
		path = []string{"task", "taskId"}
		wanted = q.era == protocol.Legacy && protocol.Get(q.msg.Params, "task") != nil
		isTask = protocol.Get(result, path...) != nil
	} else {
		typ, _ := protocol.Text(protocol.Get(result, "resultType"))
		isTask = string(typ) == "task"
	}
	own := ""
	if isTask {
		own, _ = protocol.GetString(result, path...)
	}
	switch {
	case !isTask:
		if r.waits {
			result = q.b.related(q.client.Isolation, r.target, result)
		}
		return q.asComplete(toolResult(result, q.scope(r.target))), false, nil
	case !wanted, own == "", len(own) > maxOwnTask:
		return nil, true, errUnwantedTask
	}
	id := q.b.taskID(q.client.Isolation, taskOf{target: r.target, own: own, tool: tool})
	result = protocol.Splice(result, protocol.Edit{Path: path, Value: protocol.Quote(id)})
	return q.b.related(q.client.Isolation, r.target, result), true, nil
}

// augment has the target make a task of a call of a tool, or not (2025-11-25,
// Tasks, Tool-Level Negotiation). Who does not take tasks takes the call without;
// what a target runs only as a task is made one for clients that don't know tasks,
// and waited for.
func (q *request) augment(ctx context.Context, r *relayed, tool *item) {
	asked := protocol.Get(q.msg.Params, "task") != nil
	if !asked && !tool.onlyTask {
		return
	}
	d := q.discovery(ctx, r.target)
	takes := d != nil && takesTask(d)
	knows := q.client.Version == protocol.Version20251125
	if asked && takes && knows {
		return
	}
	if r.waits = tool.onlyTask && takes && !knows; r.waits {
		r.edits = append(r.edits, protocol.Edit{Path: []string{"task"}, Value: []byte("{}")})
	} else if asked {
		r.edits = append(r.edits, protocol.Edit{Path: []string{"task"}})
	}
}

// farewell is how long a target may take to hear that a task is not wanted.
const farewell = 5 * time.Second

// call sends the call to the target, and waits for the task that is made of it
// when it should.
func (r *relayed) call(ctx context.Context, c *session.Call) (*protocol.Message, error) {
	m, err := r.leg.Call(ctx, c)
	if err != nil || !r.waits {
		return m, err
	}
	id, ok := protocol.GetString(m.Result, "task", "taskId")
	if !ok {
		return m, nil
	}
	params := protocol.Splice(nil, set(id, "taskId")...)
	m, err = r.leg.Call(ctx, &session.Call{Method: "tasks/result", Params: params, Forward: c.Forward, Emit: c.Emit})
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		// It ends by itself if the target does not hear of it.
		_, _ = r.leg.Call(ctx, &session.Call{Method: "tasks/cancel", Params: params, Forward: c.Forward})
	}
	return m, err
}

// takesTask reports whether a target takes calls of tools as tasks of 2025-11-25.
func takesTask(d *session.Discovery) bool {
	return d.Era == protocol.Legacy && has(d.Capabilities, "tasks", "requests", "tools", "call")
}

// listTasks serves tasks/list of 2025-11-25: of what the targets list, what this
// caller has made and may see. Targets may know callers by nothing but the
// gateway, and so list the tasks of all.
func (q *request) listTasks(ctx context.Context) error {
	if c := string(protocol.Get(q.msg.Params, "cursor")); c != "" && c != "null" {
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.cursor is not valid")
	}
	found := make([][][]byte, len(q.b.targets))
	v := q.catalogue()
	q.each(ctx, func(ctx context.Context, i int, leg *session.Leg, d *session.Discovery) {
		if d.Era == protocol.Legacy && has(d.Capabilities, "tasks", "list") {
			found[i] = q.tasksOf(ctx, v, i, leg)
		}
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	result := append([]byte(`{"tasks":[`), bytes.Join(slices.Concat(found...), []byte{','})...)
	return q.result(append(result, ']', '}'))
}

// tasksOf returns the caller's tasks of one target.
func (q *request) tasksOf(ctx context.Context, v *view, target int, leg *session.Leg) (out [][]byte) {
	params := []byte("{}")
	for range maxTaskPages {
		m, err := leg.Call(ctx, &session.Call{Method: "tasks/list", Params: params, Forward: q.forward})
		if err != nil || m.Error != nil {
			return out
		}
		for raw := range protocol.Elements(protocol.Get(m.Result, "tasks")) {
			own, _ := protocol.GetString(raw, "taskId")
			id, ok := q.b.knownTask(q.client.Isolation, target, own)
			if !ok {
				continue
			}
			t, ok := q.b.openTask(q.client.Isolation, id)
			if ok && v.authorize(ctx, tools, q.msg.Method, target, t.tool, nil) == nil {
				out = append(out, bytes.Clone(q.b.shownTask(q.client.Isolation, target, id, raw)))
			}
		}
		next := protocol.Get(m.Result, "nextCursor")
		if _, ok := protocol.String(next); !ok {
			break
		}
		params = protocol.Splice(nil, protocol.Edit{Path: []string{"cursor"}, Value: bytes.Clone(next)})
	}
	return out
}
