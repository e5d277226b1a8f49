package federation

import (
	"context"
	"slices"
	"strings"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/policy"
)

// A voice is what the client of a legacy session hears of one target: on the
// answer to a call, or on the session's stream.
type voice struct {
	b       *Backend
	live    *live
	sess    *session.Session
	client  *session.Client
	view    *view
	leg     *session.Leg
	target  int
	forward session.Forward
	send    func(raw []byte) error // to the client
}

func (v *voice) scope() scope { return v.b.naming.scope(v.b.cfg.Targets[v.target].Name) }

// request passes a request of the target on to the client, under the id own. A
// client that can't be asked would answer that it can't: that is said for it.
func (v *voice) request(ctx context.Context, m *protocol.Message) (own protocol.ID, err error) {
	capabilities := v.client.Capabilities
	switch {
	case lacking(capabilities, m.Method, m.Params) != nil:
		return "", respond(ctx, v.leg, m, declined(capabilities, m.Method), v.forward)
	case !v.live.mayAskTask(v.leg, m):
		return "", respond(ctx, v.leg, m, errNotItsTask(), v.forward)
	}
	shown := *m
	shown.Params = v.b.related(v.client.Isolation, v.target, m.Params)
	own, raw, err := v.live.ask(v.leg, &shown, v.scope())
	if err != nil {
		return "", respond(ctx, v.leg, m, rpcOf(err), v.forward)
	}
	if id, ok := protocol.GetString(m.Params, "elicitationId"); ok {
		v.live.elicit(id)
	}
	return own, v.send(raw)
}

// notification passes a notification on, if it is for this client.
func (v *voice) notification(ctx context.Context, m *protocol.Message) error {
	switch m.Method {
	case "notifications/cancelled":
		if raw := v.live.cancelled(v.leg, m); raw != nil {
			return v.send(raw)
		}
		return nil
	case "notifications/resources/updated":
		return v.updated(ctx, m)
	case "notifications/tasks/status":
		return v.taskStatus(ctx, m)
	case "notifications/elicitation/complete":
		if id, _ := protocol.GetString(m.Params, "elicitationId"); v.shared() && !v.live.elicited(id) {
			return nil
		}
	case "notifications/tasks":
		return nil // this era has another
	}
	if c := changeOf(m.Method); c != 0 {
		v.changedAlone(c)
		return nil
	}
	if protocol.Get(m.Params, "_meta", protocol.MetaRelatedTask) == nil {
		return v.send(m.Raw)
	}
	return v.send(protocol.AppendNotification(nil, m.Method, v.b.related(v.client.Isolation, v.target, m.Params)))
}

// shared reports whether what the target says outside of calls may be meant for
// another session.
func (v *voice) shared() bool {
	cfg := v.leg.Target().Config()
	return cfg.Transport == session.Stdio && !cfg.Command.PerSession
}

// updated passes a notifications/resources/updated on, with the URI that the
// client knows, if it subscribed to that or to something that holds it.
func (v *voice) updated(ctx context.Context, m *protocol.Message) error {
	own, ok := protocol.GetString(m.Params, "uri")
	if !ok {
		return nil
	}
	uri := v.scope().uri(own)
	if !v.live.subscribed(uri) || policy.Authorize(ctx, policy.Operation{Kind: policy.Resource, Method: "resources/subscribe",
		Target: v.b.cfg.Targets[v.target].Name, Name: own}) != nil {
		return nil
	}
	params := protocol.Splice(m.Params, protocol.Edit{Path: []string{"uri"}, Value: protocol.Quote(uri)})
	return v.live.send(protocol.AppendNotification(nil, m.Method, params))
}

// taskStatus passes a notifications/tasks/status on, if it is about a task of this
// client.
func (v *voice) taskStatus(ctx context.Context, m *protocol.Message) error {
	own, _ := protocol.GetString(m.Params, "taskId")
	isolation := v.client.Isolation
	id, ok := v.b.knownTask(isolation, v.target, own)
	if !ok {
		return nil
	}
	t, ok := v.b.openTask(isolation, id)
	if !ok || v.view.authorize(ctx, tools, "tasks/get", v.target, t.tool, nil) != nil {
		return nil
	}
	return v.send(protocol.AppendNotification(nil, m.Method, v.b.shownTask(isolation, v.target, id, m.Params)))
}

// within reports whether the resource uri is the one that was subscribed to, or a
// part of it (2025-11-25, Schema, ResourceUpdatedNotificationParams).
func within(uri, subscribed string) bool {
	rest, ok := strings.CutPrefix(uri, subscribed)
	return ok && (rest == "" || strings.HasSuffix(subscribed, "/") || strings.ContainsRune("/?#", rune(rest[0])))
}

// maxElicited bounds the elicitations by URL of one session whose end is passed on.
const maxElicited = 64

// elicit notes an elicitation by URL that the client was told of.
func (l *live) elicit(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.elicitations) == maxElicited {
		l.elicitations = slices.Delete(l.elicitations, 0, 1)
	}
	l.elicitations = append(l.elicitations, id)
}

// elicited reports whether the client was told of that elicitation.
func (l *live) elicited(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.elicitations, id)
}
