package federation

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/telemetry"
)

// serveModern serves a message of a client that speaks the stateless revision
// (2026-07-28): everything about the client is in the message itself.
func (q *request) serveModern(ctx context.Context) error {
	q.era = protocol.Modern
	q.rec.MCP.Era = q.era.String()
	switch q.msg.Kind {
	case protocol.Response:
		return protocol.Errorf(protocol.CodeInvalidRequest, "a client of this revision sends no responses")
	case protocol.Notification:
		if err := protocol.CheckHeaders(q.header, q.msg); err != nil {
			return err
		}
		// There is none in this revision that could mean anything here.
		q.answer.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if err := protocol.CheckHeaders(q.header, q.msg); err != nil {
		return q.refuse(http.StatusBadRequest, err)
	}
	meta := protocol.Get(q.msg.Params, "_meta")
	version, _ := protocol.GetString(meta, protocol.MetaProtocolVersion)
	if protocol.EraOf(version) != protocol.Modern {
		return protocol.UnsupportedProtocolVersion(version, protocol.SupportedVersions())
	}
	q.rec.MCP.ProtocolVersion = version
	q.client.Version = version
	q.client.Capabilities = objectOrNil(protocol.Get(meta, protocol.MetaClientCapabilities))
	q.client.Info = objectOrNil(protocol.Get(meta, protocol.MetaClientInfo))
	q.answer.keep()
	return q.serve(ctx)
}

// serverDiscover serves server/discover: what all targets can do together.
func (q *request) serverDiscover(ctx context.Context) error {
	found, errs := q.discover(ctx, nil)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := q.b.failure(errs); err != nil {
		return err
	}
	result := []byte(`{"resultType":"complete","supportedVersions":[`)
	for i, v := range protocol.SupportedVersions() {
		if i > 0 {
			result = append(result, ',')
		}
		result = append(result, protocol.Quote(v)...)
	}
	result = append(result, `],"capabilities":`...)
	result = append(result, mergeCapabilities(found, protocol.Modern)...)
	if text := mergeInstructions(&q.b.cfg, found); text != "" {
		result = append(result, `,"instructions":`...)
		result = append(result, protocol.Quote(text)...)
	}
	result = append(result, `,"ttlMs":0,"cacheScope":"private","_meta":{`...)
	result = append(result, protocol.Quote(protocol.MetaServerInfo)...)
	result = append(result, ':')
	result = append(result, q.b.serverInfo()...)
	return q.result(append(result, '}', '}'))
}

// listen serves subscriptions/listen (2026-07-28, Subscriptions): the answer is a
// stream that says first what it carries, and then each change, tagged with the
// id of the request.
func (q *request) listen(ctx context.Context) error {
	wanted := protocol.Get(q.msg.Params, "notifications")
	if len(wanted) == 0 || wanted[0] != '{' {
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.notifications is missing")
	}
	s := q.b.newStream(q.answer.sse, &q.client)
	s.only = 0
	granted := []byte("{}")
	grant := func(name string, c changes) {
		if string(protocol.Get(wanted, name)) == "true" {
			s.only |= c
			granted = protocol.Splice(granted, protocol.Edit{Path: []string{name}, Value: []byte("true")})
		}
	}
	grant("toolsListChanged", toolsChanged)
	grant("promptsListChanged", promptsChanged)
	grant("resourcesListChanged", resourcesChanged)

	ctx, cancel := context.WithCancel(ctx)
	l := &listenResources{q: q, stream: s, legs: map[int]*session.Leg{}, wanted: map[int]map[string]bool{}}
	defer l.close()
	defer cancel()
	if uris := l.subscribe(ctx, protocol.Get(wanted, "resourceSubscriptions")); uris != nil {
		s.resources = true
		granted = protocol.Splice(granted, protocol.Edit{Path: []string{"resourceSubscriptions"}, Value: uris})
	}
	if err := q.b.hub.register(s); err != nil {
		return err
	}
	defer q.b.hub.unregister(s)
	defer q.b.hub.opts.Metrics.StreamOpened(telemetry.ListenStream)()
	q.answer.streaming = true
	tag := append(append([]byte(`{`), protocol.Quote(protocol.MetaSubscriptionID)...), ':')
	tag = append(append(tag, q.msg.ID...), '}')
	ack := protocol.Splice(nil,
		protocol.Edit{Path: []string{"notifications"}, Value: granted},
		protocol.Edit{Path: []string{"_meta"}, Value: tag})
	if err := q.answer.emit(protocol.AppendNotification(nil, "notifications/subscriptions/acknowledged", ack)); err != nil {
		return err
	}
	followed := &following{q: q}
	defer followed.close()
	followed.follow(q.b)
	l.start(ctx)
	if s.only != 0 || s.resources {
		tagged := protocol.Splice(nil, protocol.Edit{Path: []string{"_meta"}, Value: tag})
		s.serve(ctx, nil, followed.follow, func(method string) []byte {
			return protocol.AppendNotification(nil, method, tagged)
		})
	}
	if ctx.Err() != nil {
		return nil // the client closed the stream, which is how it unsubscribes
	}
	// The end is a response, so that the client knows that it was meant.
	return q.result(append(append([]byte(`{"resultType":"complete","_meta":`), tag...), '}'))
}

// following keeps the entries of what a listen stream shows watched. It belongs
// to the goroutine that serves the stream.
type following struct {
	q       *request
	release []func()
}

func (f *following) follow(b *Backend) {
	if b == nil {
		if b = f.q.b.hub.current(f.q.b.cfg.Name); b == nil {
			return
		}
	}
	v := b.view(f.q.client.Isolation, f.q.client.Capabilities, f.q.forward)
	held := make([]func(), len(v.entries))
	for i, e := range v.entries {
		held[i] = e.hold()
	}
	f.close()
	f.release = held
}

func (f *following) close() {
	for _, release := range f.release {
		release()
	}
	f.release = nil
}

// listenResources follows single resources for one listen stream, over a leg of
// its own to each target that has some of them.
type listenResources struct {
	q      *request
	stream *stream
	wg     sync.WaitGroup

	mu     sync.Mutex
	legs   map[int]*session.Leg
	wanted map[int]map[string]bool // by target: URIs as the target has them
}

// subscribe subscribes to what the caller may see of the URIs, and returns those
// that it did as a JSON array; nil when there are none.
func (l *listenResources) subscribe(ctx context.Context, list []byte) []byte {
	if len(list) == 0 || list[0] != '[' {
		return nil
	}
	v := l.q.catalogue()
	byTarget := map[int][]string{}
	n := 0
	for raw := range protocol.Elements(list) {
		uri, ok := protocol.String(raw)
		if !ok || n == maxSubscriptions {
			continue
		}
		target, own, err := v.resolve(ctx, "resources/subscribe", uri)
		if err != nil {
			continue
		}
		byTarget[target] = append(byTarget[target], own)
		n++
	}
	var wg sync.WaitGroup
	for target, uris := range byTarget {
		wg.Go(func() { l.open(ctx, target, uris) })
	}
	wg.Wait()
	out := []byte{'['}
	for raw := range protocol.Elements(list) {
		uri, _ := protocol.String(raw)
		target, own, err := v.resolve(ctx, "resources/subscribe", uri)
		if err != nil || !l.wanted[target][own] {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, raw...)
	}
	if len(out) == 1 {
		return nil
	}
	return append(out, ']')
}

func (l *listenResources) open(ctx context.Context, target int, uris []string) {
	t := l.q.b.targets[target]
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(t))
	defer cancel()
	d, err := t.Discover(ctx, l.q.client, l.q.forward)
	if err != nil || string(protocol.Get(d.Capabilities, "resources", "subscribe")) != "true" {
		return
	}
	leg, err := t.Open(ctx, l.q.client, l.q.forward)
	if err != nil {
		return
	}
	done := map[string]bool{}
	for _, own := range uris {
		params := protocol.Splice(nil, protocol.Edit{Path: []string{"uri"}, Value: protocol.Quote(own)})
		m, err := leg.Call(ctx, &session.Call{Method: "resources/subscribe", Params: params, Forward: l.q.forward})
		if err == nil && m.Error == nil {
			done[own] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.legs[target], l.wanted[target] = leg, done
}

// start passes updates on until ctx ends.
func (l *listenResources) start(ctx context.Context) {
	for target, leg := range l.legs {
		s := l.q.b.naming.scope(l.q.b.cfg.Targets[target].Name)
		wanted := l.wanted[target]
		l.wg.Go(func() {
			_ = leg.Listen(ctx, l.q.forward, func(m *protocol.Message) error {
				uri, ok := protocol.GetString(m.Params, "uri")
				if m.Kind != protocol.Notification || m.Method != "notifications/resources/updated" || !ok || !wanted[uri] {
					return nil
				}
				params := protocol.Splice(m.Params,
					protocol.Edit{Path: []string{"uri"}, Value: protocol.Quote(s.uri(uri))},
					protocol.Edit{Path: []string{"_meta", protocol.MetaSubscriptionID}, Value: []byte(l.q.msg.ID)})
				return l.q.answer.emit(protocol.AppendNotification(nil, m.Method, params))
			})
		})
	}
}

// close ends the legs, once the context of start has ended.
func (l *listenResources) close() {
	l.wg.Wait()
	for _, leg := range l.legs {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = leg.Close(ctx)
		cancel()
	}
}
