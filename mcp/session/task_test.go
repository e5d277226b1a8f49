package session

import (
	"fmt"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func TestTaskTokens(t *testing.T) {
	var ts taskTokens
	for i := range maxTaskTokens + 1 {
		ts.add(protocol.IntID(int64(i)), fmt.Append(nil, `"token-`, i, `"`))
	}
	progress := func(i int) *protocol.Message {
		return notification("notifications/progress", fmt.Append(nil, `{"progressToken":`, i, `,"progress":1}`))
	}
	if got := ts.get(progress(0)); got != nil {
		t.Errorf("the oldest is still known: %s", got)
	}
	if got := string(ts.get(progress(maxTaskTokens))); got != fmt.Sprint(`"token-`, maxTaskTokens, `"`) {
		t.Errorf("the latest is %s", got)
	}
	if len(ts) != maxTaskTokens {
		t.Errorf("%d are held", len(ts))
	}
}
