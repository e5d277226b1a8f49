package session

import (
	"slices"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// maxTaskTokens bounds the tasks of one session of a target whose progress is
// passed on.
const maxTaskTokens = 256

// taskTokens are the progress tokens of calls that were answered with a task:
// they are good for as long as the task lives (2025-11-25, Tasks, Task Progress
// Notifications), of which nobody tells. The oldest are forgotten.
type taskTokens []taskToken

type taskToken struct {
	id    protocol.ID // that stands for the token on the wire
	token []byte      // the client's
}

func (ts *taskTokens) add(id protocol.ID, token []byte) {
	if len(*ts) == maxTaskTokens {
		*ts = slices.Delete(*ts, 0, 1)
	}
	*ts = append(*ts, taskToken{id, slices.Clone(token)})
}

// get returns the client's token for a progress notification, nil if there is
// none.
func (ts taskTokens) get(m *protocol.Message) []byte {
	id := protocol.ID(protocol.Get(m.Params, protocol.MetaProgressToken))
	if i := slices.IndexFunc(ts, func(t taskToken) bool { return t.id == id }); i >= 0 {
		return ts[i].token
	}
	return nil
}

// madeTask reports whether the answer to r is a task.
func madeTask(r *request, m *protocol.Message) bool {
	return r.method == "tools/call" && protocol.Get(m.Result, "task", "taskId") != nil
}
