package federation

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/policy"
)

const (
	withTasks = `{"elicitation":{},"sampling":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	slowTool  = `{"name":"slow","inputSchema":{"type":"object"}}`
	times     = `"createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z"`
)

// newTasks returns a modern target that makes tasks: whatever is called answers
// with a task, whose state is that.
func newTasks(t *testing.T, name string, state *string) *scripted {
	s := newScripted(t, name, true, `{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`)
	s.tool(slowTool+`,{"name":"other","inputSchema":{"type":"object"}}`, func(*exchange) string {
		return `"result":{"resultType":"task","taskId":"t/1+x","status":"working","ttlMs":null,"vendor":1.0,` + times + `}`
	})
	s.handle("tasks/get", func(x *exchange) string {
		if id, _ := protocol.GetString([]byte(x.params), "taskId"); id != "t/1+x" || x.header.Get("Mcp-Name") != id {
			return `"error":{"code":-32602,"message":"no such task"}`
		}
		return `"result":{"resultType":"complete","taskId":"t/1+x",` + *state + `,"ttlMs":null,` + times + `}`
	})
	ack := func(*exchange) string { return `"result":{"resultType":"complete"}` }
	s.handle("tasks/update", ack)
	s.handle("tasks/cancel", ack)
	return s
}

// A task of a modern target is the caller's, under an id that says where it is,
// and under the rules for the tool that made it.
func TestTasksExtension(t *testing.T) {
	state := `"status":"working"`
	s := newTasks(t, "new", &state)
	old := newScripted(t, "old", false, `{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`)
	old.tool(slowTool, func(*exchange) string { return said("") })
	g := newGateway(t, Config{Targets: scripts(s, old)})
	c := g.caller("2026-07-28", withTasks)

	created := c.call("new_slow", "")
	id := member(t, created, "taskId")
	if !strings.HasPrefix(id, "new+t/1+x+") || !strings.Contains(created, `"resultType":"task"`) || !strings.Contains(created, `"vendor":1.0`) {
		t.Fatal(created)
	}
	get := func(c *caller, id string, header ...string) string {
		_, answer := c.do("tasks/get", id, `"taskId":"`+id+`"`, "", header...)
		return answer
	}
	if got := get(c, id); !strings.Contains(got, `"taskId":"`+id+`","status":"working"`) || !strings.Contains(got, `"resultType":"complete"`) {
		t.Error(got)
	}
	link := `{"type":"resource_link","uri":"x://1","name":"n"}`
	state = `"status":"completed","result":{"content":[` + link + `],"isError":false}`
	if got := get(c, id); !strings.Contains(got, `"uri":"new+x://1"`) {
		t.Errorf("the result: %s", got)
	}
	state = `"status":"input_required","inputRequests":{"k":{"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":` + link + `}]}}}`
	if got := get(c, id); !strings.Contains(got, `"uri":"new+x://1"`) {
		t.Errorf("the input: %s", got)
	}
	if got := get(g.caller("2026-07-28", `{"extensions":{"io.modelcontextprotocol/tasks":{}}}`), id); !strings.Contains(got, `-32021`) || strings.Contains(got, "inputRequests") {
		t.Errorf("a client that can't be asked: %s", got)
	}
	status, got := c.do("tasks/update", id, `"taskId":"`+id+`","inputResponses":{"k":{"role":"assistant","model":"m","content":`+strings.Replace(link, "x://", "new+x://", 1)+`}}`, "")
	if status != 200 || !strings.Contains(got, `"result":{"resultType":"complete"}`) || !strings.Contains(s.reached("tasks/update")[0], link) {
		t.Errorf("update: %d %s %s", status, got, s.reached("tasks/update"))
	}
	if status, got := c.do("tasks/cancel", id, `"taskId":"`+id+`"`, ""); status != 200 || !strings.Contains(got, `"result"`) {
		t.Errorf("cancel: %d %s", status, got)
	}

	reached := func() int { return len(s.reached("tasks/get")) }
	before := reached()
	other := member(t, c.call("new_other", ""), "taskId")
	for what, got := range map[string]string{
		"another user":     get(c, id, "X-Test-Principal", "mallory"),
		"a flipped bit":    get(c, id[:len(id)-1]+map[bool]string{true: "B", false: "A"}[id[len(id)-1] == 'A']),
		"another target":   get(c, "old"+strings.TrimPrefix(id, "new")),
		"another task":     get(c, strings.Replace(id, "t/1+x", "t/2+x", 1)),
		"the target's own": get(c, "t/1+x"),
		"nothing":          get(c, "+"),
	} {
		if !strings.Contains(got, `"error":{"code":-32602,"message":"Unknown task: `) {
			t.Errorf("%s: %s", what, got)
		}
	}
	g.mu.Lock()
	g.rules = []policy.RuleSet{rule(t, policy.Deny, `mcp.tool.name == "slow"`)}
	g.mu.Unlock()
	if got := get(c, id); !strings.Contains(got, `"message":"Unknown task: `+id+`"`) {
		t.Errorf("a task of a denied tool: %s", got)
	}
	if reached() != before {
		t.Error("the target was asked")
	}
	if got := get(c, other); !strings.Contains(got, `"taskId":"`+other+`"`) {
		t.Errorf("a task of another tool: %s", got)
	}
	g.mu.Lock()
	g.rules = []policy.RuleSet{rule(t, policy.Deny, `mcp.method == "tasks/cancel"`)}
	g.mu.Unlock()
	if _, got := c.do("tasks/cancel", id, `"taskId":"`+id+`"`, ""); !strings.Contains(got, "Unknown task") {
		t.Errorf("a denied method: %s", got)
	}

	// Who does not speak tasks gets none, and is told.
	plain := g.caller("2026-07-28", `{}`)
	for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
		status, got := plain.do(method, id, `"taskId":"`+id+`"`, "")
		if status != 400 || !strings.Contains(got, `"code":-32021`) || !strings.Contains(got, `{"extensions":{"io.modelcontextprotocol/tasks":{}}}`) {
			t.Errorf("%s without the capability: %d %s", method, status, got)
		}
	}
	if got := plain.call("new_other", ""); !strings.Contains(got, `"code":-32603`) || strings.Contains(got, "taskId") {
		t.Errorf("an unwanted task: %s", got)
	}
	if status, got, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"`+id+`",`+meta+`}}`,
		"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tasks/get"); status != 400 || !strings.Contains(got, "-32020") {
		t.Errorf("without Mcp-Name: %d %s", status, got)
	}
	for _, method := range []string{"tasks/list", "tasks/result"} {
		if status, got := c.do(method, "", `"taskId":"`+id+`"`, ""); status != 404 || !strings.Contains(got, "-32601") {
			t.Errorf("%s: %d %s", method, status, got)
		}
	}
}

// The extension is between modern clients and modern targets: nobody else is told
// of it.
func TestTasksAnnounced(t *testing.T) {
	state := ""
	modern := newTasks(t, "new", &state)
	old := newScripted(t, "old", false, `{"tools":{},"tasks":{"list":{},"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/tasks":{},"com.example/x":{"a":1}}}`)
	old.tool(slowTool, func(*exchange) string { return said("") })
	for _, tt := range []struct {
		targets      []*scripted
		modern, core bool
	}{{[]*scripted{modern, old}, true, true}, {[]*scripted{modern}, true, false}, {[]*scripted{old}, false, true}} {
		g := newGateway(t, Config{Targets: scripts(tt.targets...)})
		_, discovered := g.caller("2026-07-28", withTasks).do("server/discover", "", "", "")
		_, initialized, _ := g.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":` +
			`{"roots":{"listChanged":true},"tasks":{"list":{}},"extensions":{"io.modelcontextprotocol/tasks":{},"com.example/y":{}}},"clientInfo":{"name":"c","version":"1"}}}`)
		if got := strings.Contains(discovered, "io.modelcontextprotocol/tasks"); got != tt.modern || strings.Contains(discovered, `"tasks":{"list"`) {
			t.Errorf("modern: %s", discovered)
		}
		if got := strings.Contains(initialized, `"tasks":{"list":{},"requests":{"tools":{"call":{}}}}`); got != tt.core || strings.Contains(initialized, "io.modelcontextprotocol/tasks") {
			t.Errorf("legacy: %s", initialized)
		}
		if tt.core && !strings.Contains(initialized, `"com.example/x":{"a":1}`) {
			t.Errorf("extensions: %s", initialized)
		}
	}
	var told []string
	told = append(told, old.reached("initialize")...)
	for _, params := range told {
		if strings.Contains(params, "io.modelcontextprotocol/tasks") {
			t.Errorf("a legacy target was told %s", params)
		}
	}
	if all := strings.Join(told, " "); !strings.Contains(all, `"capabilities":{"roots":{"listChanged":true},"tasks":{"list":{}},"extensions":{"com.example/y":{}}}`) {
		t.Errorf("legacy targets were told %s", all)
	}
	for _, params := range modern.reached("server/discover") {
		if strings.Contains(params, `"tasks":{"list"`) || strings.Contains(params, "com.example/y") && strings.Contains(params, "modelcontextprotocol/tasks") {
			t.Errorf("a modern target was told %s", params)
		}
	}
}

// listening opens a subscriptions/listen and returns its events.
func (c *caller) listening(notifications string) (events chan string, stop func()) {
	body, h := c.request("subscriptions/listen", "", `"notifications":`+notifications, "")
	ctx, cancel := context.WithCancel(c.g.t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, c.g.url, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(h); i += 2 {
		r.Header.Add(h[i], h[i+1])
	}
	return c.g.events(r, cancel)
}

// hearing opens the GET stream of a legacy session and returns its events.
func (c *caller) hearing() (events chan string, stop func()) {
	ctx, cancel := context.WithCancel(c.g.t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, c.g.url, nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Mcp-Session-Id", c.session)
	return c.g.events(r, cancel)
}

func (g *gateway) events(r *http.Request, cancel func()) (events chan string, stop func()) {
	g.t.Helper()
	resp, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	events = make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
			events <- drain(resp.Body)
			return
		}
		for data := range eventData(resp.Body) {
			events <- data
		}
	}()
	stop = func() { cancel(); _ = resp.Body.Close(); <-done }
	g.t.Cleanup(stop)
	return events, stop
}

// What happens to a task is told to who listens for it, and for nothing else.
func TestListenToTasks(t *testing.T) {
	state := ""
	s := newTasks(t, "new", &state)
	tell := make(chan string)
	s.handle("subscriptions/listen", func(x *exchange) string {
		filter := protocol.Get([]byte(x.params), "notifications")
		tag := `"_meta":{"io.modelcontextprotocol/subscriptionId":` + x.id + `}`
		x.send(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":` + string(filter) + `,` + tag + `}}`)
		for {
			select {
			case m := <-tell:
				x.send(strings.Replace(m, "TAG", tag, 1))
			case <-x.ctx.Done():
				return `"result":{}`
			}
		}
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2026-07-28", withTasks)
	id := member(t, c.call("new_slow", ""), "taskId")
	status, refused := g.caller("2026-07-28", `{}`).do("subscriptions/listen", "", `"notifications":{"taskIds":["`+id+`"]}`, "")
	if status != 400 || !strings.Contains(refused, "-32021") {
		t.Errorf("without the capability: %d %s", status, refused)
	}
	events, stop := c.listening(`{"taskIds":["` + id + `","new+none+x"]}`)
	if ack := <-events; !strings.Contains(ack, `"notifications":{"taskIds":["`+id+`"]}`) {
		t.Fatalf("acknowledged: %s", ack)
	}
	tell <- `{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"foreign","status":"working",TAG}}`
	tell <- `{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t/1+x","status":"completed","result":{"content":[{"type":"resource_link","uri":"x://1","name":"n"}]},TAG}}`
	if got := <-events; !strings.Contains(got, `"taskId":"`+id+`","status":"completed"`) || !strings.Contains(got, `"new+x://1"`) ||
		!strings.Contains(got, `"io.modelcontextprotocol/subscriptionId":2}`) {
		t.Errorf("got %s", got)
	}
	stop()
	asked := s.reached("subscriptions/listen")
	if len(asked) != 1 || !strings.Contains(asked[0], `"taskIds":["t/1+x"]`) || !strings.Contains(asked[0], `"extensions":{"io.modelcontextprotocol/tasks":{}}`) {
		t.Errorf("the target was asked %s", asked)
	}
}

// oldTasks returns a legacy target that makes tasks.
func oldTasks(t *testing.T, name string) *scripted {
	s := newScripted(t, name, false, `{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}`)
	related := `"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"}}`
	state := `"taskId":"t1","status":"working","ttl":null,` + times
	s.tool(`{"name":"slow","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}},{"name":"plain","inputSchema":{"type":"object"}}`, func(x *exchange) string {
		if protocol.Get([]byte(x.params), "task") == nil {
			return `"error":{"code":-32601,"message":"only as a task"}`
		}
		return `"result":{"task":{` + state + `},` + strings.Replace(related, "{", `{"io.modelcontextprotocol/model-immediate-response":"soon",`, 1) + `}`
	})
	known := func(f func(*exchange) string) func(*exchange) string {
		return func(x *exchange) string {
			if id, _ := protocol.GetString([]byte(x.params), "taskId"); id != "t1" {
				return `"error":{"code":-32602,"message":"no such task"}`
			}
			return f(x)
		}
	}
	s.handle("tasks/get", known(func(*exchange) string { return `"result":{` + state + `}` }))
	s.handle("tasks/cancel", known(func(*exchange) string { return `"error":{"code":-32602,"message":"already completed"}` }))
	s.handle("tasks/result", known(func(x *exchange) string {
		answer := x.ask("elicitation/create", `{"message":"m","requestedSchema":{"type":"object"},`+related+`}`)
		return `"result":{"content":[{"type":"text","text":"` + name + `"},{"type":"resource_link","uri":"x://1","name":"` +
			strings.ReplaceAll(answer, `"`, `\"`) + `"}],` + related + `}`
	}))
	s.handle("tasks/list", func(x *exchange) string {
		if cursor, _ := protocol.GetString([]byte(x.params), "cursor"); cursor == "2" {
			return `"result":{"tasks":[{` + state + `}]}`
		}
		return `"result":{"tasks":[{"taskId":"somebody's","status":"working"}],"nextCursor":"2"}`
	})
	return s
}

// Progress of a task goes on after the call that made it, on whatever stream of the
// session, under the token of that call.
func TestTaskProgress(t *testing.T) {
	s := oldTasks(t, "old")
	var token string
	made := s.on["tools/call"]
	s.handle("tools/call", func(x *exchange) string {
		token = string(protocol.Get([]byte(x.params), "_meta", "progressToken"))
		return made(x)
	})
	progress := func(token string) string {
		return `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":1}}`
	}
	s.handle("tasks/result", func(x *exchange) string {
		x.send(progress(token))
		x.send(progress("77"))
		return said("done")
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2025-11-25", `{}`)
	events, _ := c.hearing()
	_, created := c.do("tools/call", "", `"name":"old_slow","task":{}`, `"progressToken":"mine"`)
	id := member(t, created, "taskId")
	if _, got := c.do("tasks/result", "", `"taskId":"`+id+`"`, ""); strings.Count(got, "notifications/progress") != 1 || !strings.Contains(got, `"progressToken":"mine"`) {
		t.Errorf("on the result: %s", got)
	}
	eventually(t, "the target is listened to", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.streams > 0 })
	s.push <- progress("77")
	s.push <- progress(token)
	if got := <-events; !strings.Contains(got, `"progressToken":"mine"`) {
		t.Errorf("on the stream: %s", got)
	}
}

// A task is as its target made it or not at all.
func TestOddTasks(t *testing.T) {
	s := newScripted(t, "new", true, `{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`)
	answer := ""
	s.tool(slowTool, func(*exchange) string { return `"result":{"resultType":"task",` + answer + `}` })
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2026-07-28", withTasks)
	for _, tt := range []struct {
		answer string
		ok     bool
	}{
		{`"taskId":"` + strings.Repeat("x", maxOwnTask) + `"`, true},
		{`"taskId":"` + strings.Repeat("x", maxOwnTask+1) + `"`, false},
		{`"taskId":""`, false},
		{`"taskId":7`, false},
		{`"x":1`, false},
	} {
		answer = tt.answer
		if got := c.call("new_slow", ""); strings.Contains(got, `"resultType":"task"`) != tt.ok {
			t.Errorf("%.40s: %.200s", tt.answer, got)
		}
	}
}

// The experimental tasks of 2025-11-25 work between legacy clients and targets.
func TestLegacyTasks(t *testing.T) {
	s, without := oldTasks(t, "old"), newScripted(t, "none", false, `{"tools":{}}`)
	without.tool(slowTool, func(x *exchange) string { return said(x.params) })
	g := newGateway(t, Config{Targets: scripts(s, without)})
	c := g.caller("2025-11-25", `{"elicitation":{}}`)
	events, _ := c.hearing()
	created := c.call("old_slow", `"task":{"ttl":60000}`)
	id := member(t, created, "taskId")
	want := `"_meta":{"io.modelcontextprotocol/model-immediate-response":"soon","io.modelcontextprotocol/related-task":{"taskId":"` + id + `"}}`
	if !strings.HasPrefix(id, "old+t1+") || !strings.Contains(created, want) || !strings.Contains(s.reached("tools/call")[0], `"task":{"ttl":60000}`) {
		t.Fatal(created)
	}
	about := `"taskId":"` + id + `"`
	if _, got := c.do("tasks/get", "", about, ""); !strings.Contains(got, about+`,"status":"working"`) {
		t.Error(got)
	}
	got := c.stream("tasks/result", "", about, func(method, params string) string {
		if method != "elicitation/create" || !strings.Contains(params, `"io.modelcontextprotocol/related-task":{`+about+`}`) {
			t.Errorf("asked %s %s", method, params)
		}
		return `"result":{"action":"accept","_meta":{"io.modelcontextprotocol/related-task":{` + about + `}}}`
	})
	if !strings.Contains(got, `"io.modelcontextprotocol/related-task":{`+about+`}`) || !strings.Contains(got, `"uri":"old+x://1"`) ||
		!strings.Contains(got, `\"io.modelcontextprotocol/related-task\":{\"taskId\":\"t1\"}`) {
		t.Errorf("the result: %s", got)
	}
	if _, got := c.do("tasks/cancel", "", about, ""); !strings.Contains(got, "already completed") {
		t.Error(got)
	}
	if _, got := c.do("tasks/list", "", "", ""); !strings.Contains(got, `"result":{"tasks":[{`+about+`,"status":"working"`) || strings.Contains(got, "somebody") {
		t.Error(got)
	}
	if _, got := c.do("tasks/list", "", `"cursor":"x"`, ""); !strings.Contains(got, "-32602") {
		t.Error(got)
	}
	eventually(t, "the target is listened to", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.streams > 0 })
	s.push <- `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"somebody's","status":"working"}}`
	s.push <- `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t1","status":"completed"}}`
	if got := <-events; !strings.Contains(got, `"params":{`+about+`,"status":"completed"}`) {
		t.Errorf("status: %s", got)
	}
	for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel"} {
		if _, got := c.do(method, "", `"taskId":"old+t2+x"`, ""); !strings.Contains(got, `"error":{"code":-32602,"message":"Unknown task: old+t2+x"}`) {
			t.Errorf("%s: %s", method, got)
		}
	}
	if _, got := c.do("tasks/update", "", about, ""); !strings.Contains(got, "-32601") {
		t.Error(got)
	}
	// Who has no tasks is not asked for one.
	if got := c.call("none_slow", `"task":{}`); strings.Contains(got, `task`) {
		t.Errorf("the target got %s", got)
	}
	mallory := g.caller("2025-11-25", `{}`)
	mallory.do("tools/call", "", `"name":"none_slow"`, "")
	if _, got := mallory.do("tasks/list", "", "", ""); !strings.Contains(got, about) {
		t.Errorf("the same caller in another session: %s", got)
	}
}

// A tool that its target only runs as a task is called by clients that do not
// know tasks like any other.
func TestOnlyAsTask(t *testing.T) {
	s := oldTasks(t, "old")
	g := newGateway(t, Config{Targets: scripts(s)})
	accept := `{"action":"accept","content":{}}`
	legacy := g.caller("2025-06-18", `{"elicitation":{}}`)
	got := legacy.stream("tools/call", "old_slow", `"name":"old_slow"`, func(method, _ string) string { return `"result":` + accept })
	if !strings.Contains(got, `"text":"old"`) || !strings.Contains(got, "accept") || strings.Contains(got, "related-task") {
		t.Errorf("2025-06-18: %s", got)
	}
	c := g.caller("2026-07-28", `{"elicitation":{}}`)
	first := c.call("old_slow", "")
	got = c.call("old_slow", `"inputResponses":{"q1":`+accept+`},"requestState":"`+member(t, first, "requestState")+`"`)
	if !strings.Contains(got, `"resultType":"complete"`) || !strings.Contains(got, `"text":"old"`) || strings.Contains(got, "related-task") {
		t.Errorf("2026-07-28: %s", got)
	}
	if got := g.caller("2026-07-28", `{}`).call("old_slow", ""); !strings.Contains(got, "-32601") || !strings.Contains(got, `"text":"old"`) {
		t.Errorf("2026-07-28 without elicitation: %s", got)
	}
	if got := g.caller("2025-11-25", `{}`).call("old_slow", ""); !strings.Contains(got, "only as a task") {
		t.Errorf("who knows tasks has to say so: %s", got)
	}
	// The task ends with the call.
	s.handle("tasks/result", func(x *exchange) string { <-x.ctx.Done(); return `"result":{}` })
	ctx, cancel := context.WithCancel(t.Context())
	body, h := c.request("tools/call", "old_slow", `"name":"old_slow"`, "")
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, g.url, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(h); i += 2 {
		r.Header.Add(h[i], h[i+1])
	}
	before := len(s.reached("tasks/result"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := g.client.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "the result is waited for", func() bool { return len(s.reached("tasks/result")) > before })
	cancel()
	<-done
	eventually(t, "the task is cancelled", func() bool { return len(s.reached("tasks/cancel")) > 0 })
}

// Tasks that a client runs for targets are the business of the target that asked.
func TestClientTasks(t *testing.T) {
	a, b := newScripted(t, "a", false, `{"tools":{}}`), newScripted(t, "b", false, `{"tools":{}}`)
	a.tool(slowTool, func(x *exchange) string {
		created := x.ask("sampling/createMessage", `{"messages":[],"maxTokens":1,"task":{"ttl":1}}`)
		return said(created + x.ask("tasks/get", `{"taskId":"c1"}`) + x.ask("tasks/list", `{}`))
	})
	b.tool(slowTool, func(x *exchange) string {
		return said(x.ask("tasks/get", `{"taskId":"c1"}`) + x.ask("tasks/list", `{}`) + x.ask("tasks/cancel", `{"taskId":"c1"}`))
	})
	g := newGateway(t, Config{Targets: scripts(a, b)})
	c := g.caller("2025-11-25", `{"sampling":{},"tasks":{"list":{},"requests":{"sampling":{"createMessage":{}}}}}`)
	answer := func(method, params string) string {
		switch method {
		case "sampling/createMessage":
			return `"result":{"task":{"taskId":"c1","status":"working"}}`
		case "tasks/list":
			return `"result":{"tasks":[{"taskId":"c1"},{"taskId":"c2"}]}`
		default:
			return `"result":{"taskId":"c1","status":"completed"}`
		}
	}
	got := c.stream("tools/call", "a_slow", `"name":"a_slow"`, answer)
	if !strings.Contains(got, `{\"taskId\":\"c1\",\"status\":\"completed\"}{\"tasks\":[{\"taskId\":\"c1\"}]}`) {
		t.Errorf("its own: %s", got)
	}
	got = c.stream("tools/call", "b_slow", `"name":"b_slow"`, answer)
	if strings.Count(got, "-32602") != 1 || !strings.Contains(got, `{\"tasks\":[]}`) || strings.Count(got, "-32601") != 1 {
		t.Errorf("another's: %s", got)
	}
	c.g.post(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"c1","status":"completed"}}`, "Mcp-Session-Id", c.session)
	eventually(t, "the target hears of its task", func() bool { return len(a.reached("notifications/tasks/status")) == 1 })
	if len(b.reached("notifications/tasks/status")) != 0 {
		t.Error("another target hears of it, too")
	}
}

// Where names carry no target, the seal of a task still tells it.
func TestBareTasks(t *testing.T) {
	state := `"status":"working"`
	a, b := newTasks(t, "a", &state), newTasks(t, "b", &state)
	a.tool(slowTool, a.on["tools/call"])
	b.tool(`{"name":"other","inputSchema":{"type":"object"}}`, b.on["tools/call"])
	g := newGateway(t, Config{Targets: scripts(a, b), PrefixMode: Never})
	c := g.caller("2026-07-28", withTasks)
	for tool, s := range map[string]*scripted{"slow": a, "other": b} {
		id := member(t, c.call(tool, ""), "taskId")
		if !strings.HasPrefix(id, "t/1+x+") {
			t.Errorf("the id is %s", id)
		}
		if _, got := c.do("tasks/get", id, `"taskId":"`+id+`"`, ""); !strings.Contains(got, `"taskId":"`+id+`"`) || len(s.reached("tasks/get")) != 1 {
			t.Errorf("%s: %s", tool, got)
		}
	}
}
