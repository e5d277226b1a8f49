package federation

import (
	"context"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// subscribe serves resources/subscribe of a legacy client.
func (q *request) subscribe(ctx context.Context) error {
	uri, target, own, err := q.subscription(ctx)
	if err != nil {
		return q.fail(resources, uri, err)
	}
	if q.lacks(ctx, target, "resources", "subscribe") {
		return q.unknownMethod()
	}
	if !q.live.subscribe(uri) {
		return protocol.Errorf(protocol.CodeInvalidRequest, "more than %d subscriptions", maxSubscriptions)
	}
	err = q.relay(ctx, &relayed{kind: resources, target: target, name: uri, edits: set(own, "uri"), rewrite: unchanged})
	if err != nil || q.rec.ErrorType != "" {
		q.live.unsubscribe(uri)
	}
	return err
}

// unsubscribe serves resources/unsubscribe of a legacy client.
func (q *request) unsubscribe(ctx context.Context) error {
	uri, target, own, err := q.subscription(ctx)
	if err != nil {
		return q.fail(resources, uri, err)
	}
	q.live.unsubscribe(uri)
	if q.lacks(ctx, target, "resources", "subscribe") {
		return q.unknownMethod()
	}
	return q.relay(ctx, &relayed{kind: resources, target: target, name: uri, edits: set(own, "uri"), rewrite: unchanged})
}

func unchanged(result []byte) ([]byte, error) { return result, nil }

func (q *request) subscription(ctx context.Context) (uri string, target int, own string, err error) {
	uri, ok := protocol.GetString(q.msg.Params, "uri")
	if !ok {
		return "", 0, "", q.needs("uri")
	}
	q.rec.MCP.ClientName = uri
	target, own, err = q.catalogue().resolve(ctx, q.msg.Method, uri)
	if err == nil {
		q.rec.MCP.Target, q.rec.MCP.URI = q.b.cfg.Targets[target].Name, own
	}
	return uri, target, own, err
}

// setLevel serves logging/setLevel, for all targets that log.
func (q *request) setLevel(ctx context.Context) error {
	level, ok := protocol.GetString(q.msg.Params, "level")
	if !ok {
		return q.needs("level")
	}
	switch level {
	case "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency":
	default:
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: no log level of that name")
	}
	q.sess.SetLevel(level)
	q.each(ctx, func(ctx context.Context, _ int, leg *session.Leg, d *session.Discovery) {
		if protocol.Get(d.Capabilities, "logging") == nil {
			return
		}
		m, err := leg.Call(ctx, &session.Call{Method: q.msg.Method, Params: q.msg.Params, Forward: q.forward})
		if err == nil && m.Error != nil {
			err = m.Error
		}
		if err != nil {
			q.b.hub.opts.Logger.DebugContext(ctx, "target did not take the log level", "target", leg.Target().Config().Name, "error", err)
		}
	})
	return q.result([]byte("{}"))
}
