package session

import (
	"context"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// Watch calls changed with each list_changed notification (and any
// notifications/resources/updated) that the target sends to this caller on a
// stream of its own (GET, subscriptions/listen, stdio), reconnecting with
// backoff, until ctx ends. A target that offers no such stream makes it wait
// for ctx. connected is called when it begins to listen on a leg: what changed
// before was missed. After each reconnect of a leg it calls changed once for every list the target
// has, since changes may have been missed. Both are called from one goroutine
// at a time.
func (t *Target) Watch(ctx context.Context, c Client, f Forward, connected func(), changed func(*protocol.Message)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	var pause backoff
	for ctx.Err() == nil {
		disc, err := t.Discover(ctx, c, f)
		switch {
		case err != nil:
			_ = sleep(ctx, pause.next()) // ctx is looked at above
			continue
		case !announces(disc):
			<-ctx.Done()
			return
		}
		l, err := t.Open(ctx, c, f)
		if err != nil {
			_ = sleep(ctx, pause.next()) // as above
			continue
		}
		err = t.watch(ctx, l, f, connected, changed)
		t.parting(func(ctx context.Context) { _ = l.Close(ctx) })
		if err == nil {
			<-ctx.Done() // there is nothing to listen to
			return
		}
		_ = sleep(ctx, pause.next()) // as above
	}
}

// watch listens on the leg.
func (t *Target) watch(ctx context.Context, l *Leg, f Forward, begun func(), changed func(*protocol.Message)) error {
	connections := 0
	return l.listen(ctx, &intake{
		f: f,
		emit: func(m *protocol.Message) error {
			if m.Kind != protocol.Notification {
				return nil
			}
			switch m.Method {
			case "notifications/tools/list_changed", "notifications/prompts/list_changed",
				"notifications/resources/list_changed", "notifications/resources/updated":
				changed(m)
			}
			return nil
		},
		connected: func([]byte) {
			if connections++; connections == 1 {
				begun()
				return
			}
			disc, err := t.Discover(ctx, *l.client, f)
			if err != nil {
				return
			}
			for _, list := range lists {
				if protocol.Get(disc.Capabilities, list) != nil {
					changed(notification("notifications/"+list+"/list_changed", nil))
				}
			}
		},
	})
}

// announces reports whether the target says that it announces changes.
func announces(disc *Discovery) bool {
	for _, list := range lists {
		if string(protocol.Get(disc.Capabilities, list, "listChanged")) == "true" {
			return true
		}
	}
	return false
}
