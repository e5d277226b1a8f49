package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What happens while a call runs, and on the streams beside calls.

const (
	metaLogLevel       = "io.modelcontextprotocol/logLevel"
	metaSubscriptionID = "io.modelcontextprotocol/subscriptionId"
)

func checkProgress(ctx context.Context, c *cell) error {
	mark := c.peer.inbox().now()
	arguments := object{"steps": 3}
	if c.target.npm {
		arguments["duration"] = 0.1
	}
	result, err := c.call(ctx, "trigger-long-running-operation", arguments, object{"progressToken": "p-" + c.id})
	if err != nil {
		return err
	}
	if !strings.Contains(result.text(), "completed") {
		return fmt.Errorf("the operation answers %q", result.text())
	}
	for _, step := range []string{`"progress":1`, `"progress":2`, `"progress":3`} {
		if err := c.peer.inbox().hears(ctx, mark, "notifications/progress", step, `"total":3`); err != nil {
			return err
		}
	}
	return nil
}

func checkLogging(ctx context.Context, c *cell) error {
	if c.target.npm {
		return checkLoggingOfNPM(ctx, c)
	}
	for _, one := range []struct {
		level       string
		debug, fail bool // whether messages of these levels are heard
	}{{"debug", true, true}, {"error", false, true}, {"", false, false}} {
		var meta object
		switch {
		case c.client.modern() && one.level != "":
			meta = object{metaLogLevel: one.level}
		case c.client.modern():
		case one.level == "":
			continue // the level stays
		default:
			if _, err := c.peer.request(ctx, "logging/setLevel", object{"level": one.level}); err != nil {
				return err
			}
		}
		in, words := c.peer.inbox(), c.id+" at "+one.level+","
		mark := in.now()
		got := func(level string) bool {
			return slices.ContainsFunc(in.since(mark, "notifications/message"), func(m heard) bool {
				return bytes.Contains(m.Params, []byte(words+" "+level))
			})
		}
		// On stdio a message does not say of which call it is, and is for nobody while
		// a child serves several at once.
		err := c.eventually(ctx, "messages at level "+one.level, func() error {
			if _, err := c.call(ctx, "log", object{"text": words}, meta); err != nil {
				return err
			}
			if one.fail && !got("error") || one.debug && !got("debug") {
				return errors.New("the client did not hear them")
			}
			return nil
		})
		if err != nil {
			return err
		}
		// What was sent, was sent before the result.
		if got("error") != one.fail || got("debug") != one.debug {
			return fmt.Errorf("at level %q the client heard error: %v, debug: %v", one.level, got("error"), got("debug"))
		}
	}
	return nil
}

// checkLoggingOfNPM has server-everything send log messages, which it does on its
// GET stream, at a level by chance.
func checkLoggingOfNPM(ctx context.Context, c *cell) error {
	var meta object
	if c.client.modern() {
		meta = object{metaLogLevel: "debug"}
	} else if _, err := c.peer.request(ctx, "logging/setLevel", object{"level": "debug"}); err != nil {
		return err
	}
	in := c.peer.inbox()
	mark := in.now()
	return c.eventually(ctx, "a log message", func() error {
		if _, err := c.call(ctx, "toggle-simulated-logging", nil, meta); err != nil {
			return err
		}
		for _, m := range in.since(mark, "notifications/message") {
			if bytes.Contains(m.Params, []byte("level")) && bytes.Contains(m.Params, []byte("message")) {
				return nil
			}
		}
		return errors.New("the client heard none")
	})
}

// checkCancellation cancels one of two calls: it is cancelled at its target, and
// the other one goes on.
func checkCancellation(ctx context.Context, c *cell) error {
	if c.target.npm {
		return checkCancellationOfNPM(ctx, c)
	}
	key, other := c.id+"-one", c.id+"-two"
	beside := *c
	beside.target = c.beside
	goesOn := make(chan error, 1)
	go func() { goesOn <- beside.answers(ctx, "wait", object{"key": other}, "released") }()
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := c.call(one, "wait", object{"key": key}, nil)
		ended <- err
	}()
	has := func(target *matrixTarget, line string) error {
		return c.eventually(ctx, line, func() error {
			if !target.journal.has(line) {
				return errors.New("it is not in the journal")
			}
			return nil
		})
	}
	if err := errors.Join(has(c.target, "waiting "+key), has(c.beside, "waiting "+other)); err != nil {
		return err
	}
	cancel()
	if err := has(c.target, "cancelled "+key); err != nil {
		return err
	}
	if err := <-ended; err == nil {
		return errors.New("the cancelled call has a result")
	}
	if err := beside.answers(ctx, "release", object{"key": other}, "released"); err != nil {
		return err
	}
	if err := <-goesOn; err != nil {
		return fmt.Errorf("the call beside it: %w", err)
	}
	if c.beside.journal.has("cancelled " + other) {
		return errors.New("the call beside it was cancelled, too")
	}
	return nil
}

// checkCancellationOfNPM looks for the notification, since server-everything does
// not say what becomes of its calls.
func checkCancellationOfNPM(ctx context.Context, c *cell) error {
	mark := c.peer.inbox().now()
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	token := "cancel-" + c.id
	go func() {
		_, err := c.call(one, "trigger-long-running-operation", object{"duration": 20, "steps": 1000},
			object{"progressToken": token, "com.example/key": token})
		ended <- err
	}()
	if err := c.peer.inbox().hears(ctx, mark, "notifications/progress", `"progress":1`); err != nil {
		return err
	}
	cancel()
	if err := <-ended; err == nil {
		return errors.New("the cancelled call has a result")
	}
	return c.eventually(ctx, "the target is told of the cancellation", func() error {
		messages, err := c.target.journal.messages()
		if err != nil {
			return err
		}
		var call noted
		for _, m := range messages {
			switch {
			case m.Method == "tools/call" && bytes.Contains(m.Params, []byte(`"com.example/key":"`+token)):
				call = m
			case m.Method == "notifications/cancelled" && m.Session == call.Session:
				var params struct{ RequestID json.RawMessage }
				if err := json.Unmarshal(m.Params, &params); err != nil {
					return err
				}
				if bytes.Equal(params.RequestID, call.ID) {
					return nil
				}
			}
		}
		return errors.New("no notifications/cancelled for its id")
	})
}

// addedPrefix begins the names of what tests add to lists.
const addedPrefix = "added-"

func checkToolsChange(ctx context.Context, c *cell) error {
	return checkListChange(ctx, c, "tools", "tools/list")
}

func checkPromptsChange(ctx context.Context, c *cell) error {
	return checkListChange(ctx, c, "prompts", "prompts/list")
}

func checkResourcesChange(ctx context.Context, c *cell) error {
	return checkListChange(ctx, c, "resources", "resources/list")
}

// checkListChange changes a list of the target: the client is told, and what it
// lists then is the new one.
func checkListChange(ctx context.Context, c *cell, kind, method string) error {
	if c.target.npm && kind != "resources" {
		return absent("server-everything's tools and prompts are the same for as long as it runs")
	}
	c.target.changing.Lock()
	defer c.target.changing.Unlock()
	ctx, cancel := c.patient(context.WithoutCancel(ctx)) // what others took does not count
	defer cancel()
	name := addedPrefix + c.id
	seen := c.name(name)
	add := func() error { return c.answers(ctx, "change", object{"kind": kind, "name": name}, "changed") }
	switch {
	case kind == "resources" && c.target.npm:
		seen = c.uri("demo://resource/session/" + name)
		add = func() error {
			_, err := c.call(ctx, "gzip-file-as-resource", object{"name": name, "data": "data:text/plain,x", "outputType": "resourceLink"}, nil)
			return err
		}
	case kind == "resources":
		seen = c.uri("demo://" + name)
	}
	if c.target.npm && c.client.modern() {
		return c.sessionsDiffer(ctx, add)
	}
	mark := c.peer.inbox().now()
	if err := add(); err != nil {
		return err
	}
	// Others' changes are heard of, too: what counts is that after one notification
	// the list has what is new.
	for {
		if err := c.peer.inbox().hears(ctx, mark, "notifications/"+kind+"/list_changed"); err != nil {
			return err
		}
		mark = c.peer.inbox().now()
		e, err := c.element(ctx, method, seen)
		if err != nil {
			return err
		}
		if e != nil {
			break
		}
	}
	if c.target.npm {
		return nil // it stays
	}
	if err := c.answers(ctx, "change", object{"kind": kind, "name": name, "remove": true}, "changed"); err != nil {
		return err
	}
	return c.eventually(ctx, seen+" is gone", func() error {
		if e, err := c.element(ctx, method, seen); err != nil || e != nil {
			return fmt.Errorf("%v, %w", e, err)
		}
		return nil
	})
}

// sessionsDiffer changes the list of one session of server-everything and makes
// sure that others do not have what is new.
func (c *cell) sessionsDiffer(ctx context.Context, add func() error) error {
	if err := add(); err != nil {
		return err
	}
	direct, err := dialGo(ctx, "direct-"+c.id, c.target.revision, c.target.direct, false)
	if err != nil {
		return err
	}
	defer direct.close()
	listed, err := listAll(ctx, direct, "resources/list", "resources")
	if err != nil {
		return err
	}
	for _, r := range listed {
		if strings.Contains(r["uri"].(string), addedPrefix+c.id) {
			return errors.New("the target shows the resource to other sessions, too")
		}
	}
	return absent("server-everything changes the list of one session; a stateless client has none")
}

// checkSubscriptions follows resources, and one of them no longer.
func checkSubscriptions(ctx context.Context, c *cell) error {
	if c.target.npm {
		return checkSubscriptionsOfNPM(ctx, c)
	}
	in := c.peer.inbox()
	first, second := "demo://resource/dynamic/text/1-"+c.id, "demo://resource/dynamic/text/2-"+c.id
	touch := func(uri string) error { return c.answers(ctx, "touch", object{"uri": uri}, "touched") }
	for _, uri := range []string{first, second} {
		if _, err := c.peer.request(ctx, "resources/subscribe", object{"uri": c.uri(uri)}); err != nil {
			return err
		}
	}
	mark := in.now()
	for _, uri := range []string{first, second} {
		if err := c.eventually(ctx, "an update of "+uri, func() error {
			if err := touch(uri); err != nil {
				return err
			}
			for _, m := range in.since(mark, "notifications/resources/updated") {
				if bytes.Contains(m.Params, []byte(`"`+c.uri(uri)+`"`)) {
					return nil
				}
			}
			return errors.New("the client did not hear of it")
		}); err != nil {
			return err
		}
	}
	if _, err := c.peer.request(ctx, "resources/unsubscribe", object{"uri": c.uri(first)}); err != nil {
		return err
	}
	// To unsubscribe, a client of the modern era closes its stream, which nobody
	// acknowledges: updates can be under way.
	return c.eventually(ctx, "the client follows one of two resources", func() error {
		mark := in.now()
		if err := errors.Join(touch(first), touch(second)); err != nil {
			return err
		}
		of := map[string]int{}
		for _, m := range in.since(mark, "notifications/resources/updated") {
			for _, uri := range []string{first, second} {
				if bytes.Contains(m.Params, []byte(`"`+c.uri(uri)+`"`)) {
					of[uri]++
				}
			}
		}
		if of[first] > 0 || of[second] == 0 {
			return fmt.Errorf("updates: %v", of)
		}
		return nil
	})
}

func checkSubscriptionsOfNPM(ctx context.Context, c *cell) error {
	in := c.peer.inbox()
	uri := "demo://resource/dynamic/text/1" + c.id
	if _, err := c.peer.request(ctx, "resources/subscribe", object{"uri": c.uri(uri)}); err != nil {
		return err
	}
	if n, err := c.target.journal.count("resources/subscribe", uri); err != nil || n != 1 {
		return fmt.Errorf("the target was asked %d times, %v", n, err)
	}
	mark := in.now()
	toggle := func() error {
		_, err := c.call(ctx, "toggle-subscriber-updates", nil, nil)
		return err
	}
	if err := toggle(); err != nil {
		return err
	}
	if c.client.modern() {
		return absent("server-everything sends updates only to the session that asks for them by a tool; calls of a stateless client share sessions, its subscriptions have their own")
	}
	if err := in.hears(ctx, mark, "notifications/resources/updated", c.uri(uri)); err != nil {
		return err
	}
	return toggle()
}

// checkStreams looks at all that came on streams beside calls: in the modern era
// the acknowledgement comes first, and every event says to which subscription
// it belongs; before, nothing does.
func checkStreams(_ context.Context, c *cell) error {
	kind := "GET"
	if c.client.modern() {
		kind = "subscriptions/listen"
	}
	events := 0
	for _, body := range c.peer.inbox().bodies(kind) {
		messages, err := wireMessages(body)
		if err != nil {
			return err
		}
		for i, m := range messages {
			events++
			var params struct {
				Meta map[string]json.RawMessage `json:"_meta"`
			}
			if m.Params != nil {
				if err := json.Unmarshal(m.Params, &params); err != nil {
					return err
				}
			}
			tag := params.Meta[metaSubscriptionID]
			switch {
			case !c.client.modern() && (tag != nil || m.Method == "notifications/subscriptions/acknowledged"):
				return fmt.Errorf("the GET stream has %s %s", m.Method, m.Params)
			case c.client.modern() && (m.Method == "notifications/subscriptions/acknowledged") != (i == 0):
				return fmt.Errorf("event %d is %s", i+1, m.Method)
			case c.client.modern() && m.Method != "" && tag == nil:
				return fmt.Errorf("%s %s has no tag", m.Method, m.Params)
			}
		}
	}
	if events == 0 {
		return errors.New("the streams carried nothing")
	}
	return nil
}

func checkPing(ctx context.Context, c *cell) error {
	if !c.client.modern() {
		_, err := c.peer.request(ctx, "ping", object{})
		return err
	}
	p, err := c.plain(ctx, "{}")
	if err != nil {
		return err
	}
	status, m, err := p.post(ctx, "ping", "", object{})
	if err != nil {
		return err
	}
	if status != 404 || m.Error == nil || m.Error.Code != -32601 {
		return fmt.Errorf("ping is answered with %d %+v", status, m)
	}
	return absent("revision 2026-07-28 has no ping")
}

func checkPingBack(ctx context.Context, c *cell) error {
	if c.target.npm {
		return c.lacks("ping", "server-everything does not ping clients")
	}
	if c.target.revision == "2026-07-28" && !c.target.stdio {
		result, err := c.call(ctx, "ping-client", nil, nil)
		if err != nil || !result.IsError {
			return fmt.Errorf("ping by a stateless server: %v, %w", result, err)
		}
		return absent("revision 2026-07-28 has no ping")
	}
	return c.answers(ctx, "ping-client", nil, "the client is there")
}
