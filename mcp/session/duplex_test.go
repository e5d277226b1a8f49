package session

import (
	"context"
	"fmt"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Whatever a connection brings, a call gets nothing but the response with its id,
// progress with its token, and what the target asks or logs while it is the only one.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"result":{}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}`))
	f.Add([]byte(`[{"jsonrpc":"2.0","id":8,"result":{}},{"jsonrpc":"2.0","id":"7","result":{}}]`))
	f.Add([]byte(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tg := NewTarget(TargetConfig{Transport: Stdio, Command: &Command{Path: "x"}}, Options{})
		defer tg.Close()
		d := &duplex{t: tg, idle: duplexIdle, end: func() {}, shared: true,
			write: func(context.Context, []byte, Forward) (*protocol.Message, error) { return nil, nil }}
		d.open()
		defer d.fail(errUnused)
		one, two := &duplexCall{mailbox: newMailbox(), leg: new(Leg), asks: true}, &duplexCall{mailbox: newMailbox(), leg: new(Leg), asks: true}
		d.mu.Lock()
		d.calls["7"], d.calls["8"] = one, two
		d.mu.Unlock()
		d.receive(b)
		answered := map[protocol.ID]bool{}
		for id, c := range map[protocol.ID]*duplexCall{"7": one, "8": two} {
			for {
				m, err := c.take()
				if m == nil {
					if err != nil {
						answered[id] = true
					}
					break
				}
				switch {
				case m.Kind == protocol.Response && m.ID == id && !answered[id]:
					answered[id] = true
				case m.Method == "notifications/progress" && string(protocol.Get(m.Params, "progressToken")) == string(id):
				case len(answered) == 1: // the other has gone, so this is the only call
				default:
					// In a batch the other call may have been answered first.
					if messages, _ := tg.parse(b); len(messages) < 2 {
						t.Errorf("call %s got %s", id, m.Raw)
					}
				}
			}
		}
	})
}

// 30,000 clients that come and go without a word leave no more than the limits
// allow.
func TestAbandonedSessions(t *testing.T) {
	s := sessions(t, func(o *SessionsOptions) { o.Cache, o.Live = 1000, 100 })
	c := client("a")
	for i := range 30_000 {
		c.Isolation = fmt.Sprint(i % 100)
		sess := create(t, s, c)
		switch i % 10 {
		case 0:
			sess.Live(func() any { return i })
		case 1:
			sess.End(t.Context())
		}
	}
	if n := s.Count(); n > 1100 {
		t.Errorf("%d sessions are held", n)
	}
	if n := s.ended.Len(); n > 100*endedFactor {
		t.Errorf("%d ended sessions are remembered", n)
	}
}
