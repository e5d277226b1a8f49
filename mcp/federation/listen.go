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

// listen serves subscriptions/listen (2026-07-28, Subscriptions): the answer is a
// stream that says first what it carries, and then each change, tagged with the
// id of the request.
func (q *request) listen(ctx context.Context) error {
	wanted := protocol.Get(q.msg.Params, "notifications")
	if len(wanted) == 0 || wanted[0] != '{' {
		return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.notifications is missing")
	}
	if protocol.Get(wanted, subjectNames[followedTasks]) != nil && !speaksTasks(q.client.Capabilities) {
		return q.refuse(http.StatusBadRequest, needsTasks())
	}
	s := q.b.newStream(ctx, q.answer.sse, &q.client)
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
	tag := append(append([]byte(`{`), protocol.Quote(protocol.MetaSubscriptionID)...), ':')
	tag = append(append(tag, q.msg.ID...), '}')
	l := &subscriptions{q: q, ctx: ctx, targets: map[int]*subscription{}, acknowledged: make(chan struct{})}
	defer l.close()
	defer cancel()
	for one, ids := range l.open(wanted) {
		if ids != nil {
			s.single = true
			granted = protocol.Splice(granted, protocol.Edit{Path: []string{subjectNames[one]}, Value: ids})
		}
	}
	if err := q.b.hub.register(s); err != nil {
		return err
	}
	defer q.b.hub.unregister(s)
	defer q.b.hub.opts.Metrics.StreamOpened(telemetry.ListenStream)()
	q.answer.streaming = true
	ack := protocol.Splice(nil,
		protocol.Edit{Path: []string{"notifications"}, Value: granted},
		protocol.Edit{Path: []string{"_meta"}, Value: tag})
	if err := q.answer.emit(protocol.AppendNotification(nil, "notifications/subscriptions/acknowledged", ack)); err != nil {
		return err
	}
	close(l.acknowledged)
	followed := &following{ctx: ctx, q: q, stream: s}
	defer followed.close()
	followed.follow(q.b)
	if s.only != 0 || s.single {
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
	ctx     context.Context
	q       *request
	stream  *stream
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
	f.stream.see(f.ctx, v)
	f.release = held
}

func (f *following) close() {
	for _, release := range f.release {
		release()
	}
	f.release = nil
}

// A subject is a kind of thing that a listen stream follows one by one.
type subject uint8

const (
	followedResources subject = iota
	followedTasks
	subjects
)

// subjectNames are the members of notifications that list them.
var subjectNames = [subjects]string{"resourceSubscriptions", "taskIds"}

// subscriptions follow single resources and tasks for one listen stream, over a
// leg of its own to each target that has some of them.
type subscriptions struct {
	q       *request
	ctx     context.Context // of the stream
	targets map[int]*subscription
	// acknowledged is closed when the client was told what is granted: nothing
	// comes before that.
	acknowledged chan struct{}
	wg           sync.WaitGroup
}

// A subscription is what one target is asked to tell of.
type subscription struct {
	leg *session.Leg
	ids [subjects]map[string]string // the client's ids by the target's
}

// open asks the targets for what the caller may follow of what it wants, and
// returns what they grant, a JSON array each, nil for nothing.
func (l *subscriptions) open(wanted []byte) (granted [subjects][]byte) {
	n := 0
	for one := range subjects {
		for raw := range protocol.Elements(protocol.Get(wanted, subjectNames[one])) {
			id, ok := protocol.String(raw)
			if !ok || n == maxSubscriptions {
				continue
			}
			target, own, err := l.find(one, id)
			if err != nil {
				continue
			}
			s := l.targets[target]
			if s == nil {
				s = &subscription{}
				l.targets[target] = s
			}
			if s.ids[one] == nil {
				s.ids[one] = map[string]string{}
			}
			s.ids[one][own] = id
			n++
		}
	}
	var opening sync.WaitGroup
	for target, s := range l.targets {
		opening.Go(func() { l.subscribe(target, s) })
	}
	opening.Wait()
	for one := range subjects {
		out := []byte{'['}
		for raw := range protocol.Elements(protocol.Get(wanted, subjectNames[one])) {
			id, _ := protocol.String(raw)
			for _, s := range l.targets {
				if s.follows(one, id) {
					if len(out) > 1 {
						out = append(out, ',')
					}
					out = append(out, raw...)
				}
			}
		}
		if len(out) > 1 {
			granted[one] = append(out, ']')
		}
	}
	return granted
}

func (s *subscription) follows(one subject, id string) bool {
	for _, client := range s.ids[one] {
		if client == id {
			return true
		}
	}
	return false
}

// find returns what the client means by an id, if it may follow that.
func (l *subscriptions) find(one subject, id string) (target int, own string, err error) {
	if one == followedTasks {
		t, err := l.q.findTask(l.ctx, id)
		return t.target, t.own, err
	}
	return l.q.catalogue().resolve(l.ctx, "resources/subscribe", id)
}

// subscribe asks one target, and leaves in s.ids what it grants. It returns when
// the target listens, or its time is over.
func (l *subscriptions) subscribe(target int, s *subscription) {
	t := l.q.b.targets[target]
	ctx, cancel := context.WithTimeout(l.ctx, timeoutOf(t))
	defer cancel()
	wanted := s.ids
	s.ids = [subjects]map[string]string{}
	d := l.q.discovery(ctx, target)
	if d == nil {
		return
	}
	var err error
	if !has(d.Capabilities, "resources", "subscribe") {
		wanted[followedResources] = nil
	}
	if d.Era != protocol.Modern || !speaksTasks(d.Capabilities) {
		wanted[followedTasks] = nil
	}
	if len(wanted[followedResources])+len(wanted[followedTasks]) == 0 {
		return
	}
	if s.leg, err = t.Open(ctx, l.q.client, l.q.forward); err != nil {
		return
	}
	for own := range wanted[followedResources] {
		params := protocol.Splice(nil, set(own, "uri")...)
		m, err := s.leg.Call(ctx, &session.Call{Method: "resources/subscribe", Params: params, Forward: l.q.forward})
		if err != nil || m.Error != nil {
			delete(wanted[followedResources], own)
		}
	}
	var tasks []string
	for own := range wanted[followedTasks] {
		tasks = append(tasks, own)
	}
	s.leg.FollowTasks(tasks)
	there := make(chan []byte, 1)
	ended := make(chan struct{})
	listening, stop := context.WithCancel(l.ctx)
	l.wg.Go(func() {
		defer close(ended)
		defer stop()
		_ = s.leg.Listen(listening, l.q.forward, func(granted []byte) {
			select {
			case there <- granted:
			default: // it is there again
			}
		}, func(m *protocol.Message) error { return l.heard(listening, target, s, m) })
	})
	select {
	case granted := <-there:
		if d.Era == protocol.Modern {
			wanted = agreed(wanted, granted)
		}
		s.ids = wanted
	case <-ended:
	case <-ctx.Done():
		stop() // what is not granted is not sent
	}
}

// agreed returns what of the wanted a modern target says it will tell of.
func agreed(wanted [subjects]map[string]string, notifications []byte) (out [subjects]map[string]string) {
	for one := range subjects {
		out[one] = map[string]string{}
		for raw := range protocol.Elements(protocol.Get(notifications, subjectNames[one])) {
			own, _ := protocol.String(raw)
			if id, ok := wanted[one][own]; ok {
				out[one][own] = id
			}
		}
	}
	return out
}

// heard passes on what a target tells of what is followed.
func (l *subscriptions) heard(ctx context.Context, target int, s *subscription, m *protocol.Message) error {
	select {
	case <-l.acknowledged:
	case <-ctx.Done():
		return ctx.Err()
	}
	q := l.q
	params := m.Params
	switch {
	case m.Kind != protocol.Notification:
		return nil
	case m.Method == "notifications/resources/updated":
		own, _ := protocol.GetString(params, "uri")
		if !l.updates(target, s, own) {
			return nil
		}
		params = protocol.Splice(params, set(q.scope(target).uri(own), "uri")...)
	case m.Method == "notifications/tasks":
		own, _ := protocol.GetString(params, "taskId")
		id, ok := s.ids[followedTasks][own]
		if !ok {
			return nil
		}
		var err error
		if params, err = q.b.detailedTask(q.client.Capabilities, target, id, params); err != nil {
			q.b.hub.opts.Logger.DebugContext(ctx, "a task asks what the client can't be asked", "backend", q.b.cfg.Name,
				"target", q.b.cfg.Targets[target].Name, "error", err)
			return nil
		}
		if g := guardOf(ctx, q.b.cfg.Targets[target].Name); g != nil && g.Answer != nil {
			if params, err = q.guardResult(ctx, g.Answer, task, params); err != nil {
				return nil // its result does not pass: the client can ask for it, and is told so
			}
		}
	default:
		return nil
	}
	params = protocol.Splice(params, protocol.Edit{Path: []string{"_meta", protocol.MetaSubscriptionID}, Value: []byte(q.msg.ID)})
	return q.answer.emit(protocol.AppendNotification(nil, m.Method, params))
}

// updates reports whether the client may hear of a resource: one that it follows,
// or a part of one.
func (l *subscriptions) updates(target int, s *subscription, own string) bool {
	if _, ok := s.ids[followedResources][own]; ok {
		return true
	}
	for one := range s.ids[followedResources] {
		if within(own, one) {
			return l.q.catalogue().authorize(l.ctx, resources, "resources/subscribe", target, own, nil) == nil
		}
	}
	return false
}

// close ends the legs, once the context of the stream has ended.
func (l *subscriptions) close() {
	l.wg.Wait()
	for _, s := range l.targets {
		if s.leg == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = s.leg.Close(ctx)
		cancel()
	}
}
