package federation

import (
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

func TestLacking(t *testing.T) {
	for _, tt := range []struct{ capabilities, method, params, want string }{
		{`{}`, "roots/list", `{}`, `{"roots":{}}`},
		{`{"roots":null}`, "roots/list", `{}`, `{"roots":{}}`},
		{`{"roots":{}}`, "roots/list", `{}`, ``},
		{`{}`, "sampling/createMessage", `{}`, `{"sampling":{}}`},
		{`{"sampling":{}}`, "sampling/createMessage", `{}`, ``},
		{`{"sampling":{}}`, "sampling/createMessage", `{"tools":[]}`, `{"sampling":{"tools":{}}}`},
		{`{"sampling":{}}`, "sampling/createMessage", `{"toolChoice":{"mode":"auto"}}`, `{"sampling":{"tools":{}}}`},
		{`{"sampling":{"tools":{}}}`, "sampling/createMessage", `{"tools":[]}`, ``},
		{`{}`, "elicitation/create", `{}`, `{"elicitation":{"form":{}}}`},
		{`{"elicitation":{}}`, "elicitation/create", `{}`, ``},
		{`{"elicitation":{}}`, "elicitation/create", `{"mode":"form"}`, ``},
		{`{"elicitation":{}}`, "elicitation/create", `{"mode":"url"}`, `{"elicitation":{"url":{}}}`},
		{`{"elicitation":{"url":{}}}`, "elicitation/create", `{"mode":"url"}`, ``},
		{`{"elicitation":{"url":{}}}`, "elicitation/create", `{}`, `{"elicitation":{"form":{}}}`},
		{`{"elicitation":{"form":{},"url":{}}}`, "elicitation/create", `{}`, ``},
		{`{}`, "com.example/ask", `{}`, ``},
	} {
		if got := lacking([]byte(tt.capabilities), tt.method, []byte(tt.params)); string(got) != tt.want {
			t.Errorf("%s %s %s: %s, want %s", tt.capabilities, tt.method, tt.params, got, tt.want)
		}
	}
}

const (
	formParams = `{"mode":"form","message":"m","requestedSchema":{"type":"object","properties":{}}}`
	urlParams  = `{"mode":"url","message":"m","url":"https://a.example/x"}`
)

// rude adds a tool that asks the client whatever the caller wants it to ask,
// whether the client can be asked it or not.
func (s *scripted) rude() {
	s.tool(`{"name":"ask","inputSchema":{"type":"object"}}`, func(x *exchange) string {
		arguments := protocol.Get([]byte(x.params), "arguments")
		method, _ := protocol.GetString(arguments, "method")
		params := string(protocol.Get(arguments, "params"))
		if !s.modern {
			return said(x.ask(method, params))
		}
		if responses := protocol.Get([]byte(x.params), "inputResponses"); responses != nil {
			return said(string(protocol.Get(responses, "k")))
		}
		return `"result":{"resultType":"input_required","inputRequests":{"k":{"method":"` + method + `","params":` + params + `}}}`
	})
}

// Nobody is asked what it has no capability for, whoever asks: a legacy target is
// answered as such a client would, for a modern one the call ends with what the
// client lacks.
func TestNeverAskedWithoutCapability(t *testing.T) {
	old, modern := newScripted(t, "old", false, `{"tools":{}}`), newScripted(t, "new", true, `{"tools":{}}`)
	old.rude()
	modern.rude()
	g := newGateway(t, Config{Targets: scripts(old, modern)})
	for _, tt := range []struct{ capabilities, method, params, code, lacks string }{
		{`{}`, "roots/list", `{}`, "-32601", `{"roots":{}}`},
		{`{"roots":{}}`, "sampling/createMessage", `{"messages":[]}`, "-32601", `{"sampling":{}}`},
		{`{"sampling":{}}`, "sampling/createMessage", `{"messages":[],"tools":[]}`, "-32602", `{"sampling":{"tools":{}}}`},
		{`{"sampling":{}}`, "elicitation/create", formParams, "-32601", `{"elicitation":{"form":{}}}`},
		{`{"elicitation":{}}`, "elicitation/create", urlParams, "-32602", `{"elicitation":{"url":{}}}`},
		{`{"elicitation":{"url":{}}}`, "elicitation/create", formParams, "-32602", `{"elicitation":{"form":{}}}`},
	} {
		for _, version := range []string{"2025-11-25", "2026-07-28"} {
			c := g.caller(version, tt.capabilities)
			arguments := `"arguments":{"method":"` + tt.method + `","params":` + tt.params + `}`
			if got := c.call("old_ask", arguments); !strings.Contains(got, `error {\"code\":`+tt.code) || strings.Contains(got, "input_required") {
				t.Errorf("%s, legacy target, %s with %s: %s", version, tt.method, tt.capabilities, got)
			}
			want := `"error":{"code":-32021,"message":"Missing required client capability","data":{"requiredCapabilities":` + tt.lacks + `}}`
			status, got := c.do("tools/call", "new_ask", `"name":"new_ask",`+arguments, "")
			if !strings.Contains(got, want) || strings.Contains(got, "data: "+`{"jsonrpc":"2.0","id":"mcpgw-`) {
				t.Errorf("%s, modern target, %s with %s: %d %s", version, tt.method, tt.capabilities, status, got)
			}
			if c.modern && status != 400 {
				t.Errorf("status %d", status)
			}
		}
	}
	// A modern target can't ask just anything.
	c := g.caller("2026-07-28", `{"elicitation":{}}`)
	if got := c.call("new_ask", `"arguments":{"method":"ping","params":{}}`); !strings.Contains(got, `"code":-32603`) {
		t.Error(got)
	}
}

// What a target asks of the client links to resources as the client knows them,
// and what the client answers to them as the target does.
func TestLinksInQuestions(t *testing.T) {
	old, modern := newScripted(t, "old", false, `{"tools":{}}`), newScripted(t, "new", true, `{"tools":{}}`)
	old.rude()
	modern.rude()
	g := newGateway(t, Config{Targets: scripts(old, modern)})
	link := func(uri string) string { return `{"type":"resource_link","uri":"` + uri + `","name":"n"}` }
	question := `{"messages":[{"role":"user","content":` + link("x://1") + `},` +
		`{"role":"user","content":[{"type":"tool_result","toolUseId":"u","content":[` + link("x://2") + `]},{"type":"resource","resource":{"uri":"ui://app/3","text":"t"}}]}],"maxTokens":9007199254740993,"vendor":1.0}`
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		c := g.caller(version, `{"sampling":{}}`)
		for _, target := range []string{"old", "new"} {
			want := strings.NewReplacer("x://", target+"+x://", "ui://", "ui://"+target+"+").Replace(question)
			answer := `{"role":"assistant","model":"m","content":[` + link(target+"+x://4") + `,` + link("x://5") + `]}`
			name := target + "_ask"
			params := `"name":"` + name + `","arguments":{"method":"sampling/createMessage","params":` + question + `}`
			var got string
			if c.modern {
				_, first := c.do("tools/call", name, params, "")
				if !strings.Contains(first, `"params":`+want) || !strings.Contains(first, `"resultType":"input_required"`) {
					t.Fatalf("%s, %s: %s, want %s", version, target, first, want)
				}
				key, state := "k", ""
				if target == "old" {
					key, state = "q1", `,"requestState":"`+member(t, first, "requestState")+`"`
				}
				_, got = c.do("tools/call", name, params+`,"inputResponses":{"`+key+`":`+answer+`}`+state, "")
			} else {
				got = c.stream("tools/call", name, params, func(method, params string) string {
					if method != "sampling/createMessage" || params != want {
						t.Errorf("%s, %s: %s %s, want %s", version, target, method, params, want)
					}
					return `"result":` + answer
				})
			}
			if back := `{\"type\":\"resource_link\",\"uri\":\"x://4\",\"name\":\"n\"},{\"type\":\"resource_link\",\"uri\":\"x://5\"`; !strings.Contains(got, back) {
				t.Errorf("%s, %s: the answer came back as %s", version, target, got)
			}
		}
	}
}

// Elicitation by URL has an id in the revision that knows what to do with it, and
// none in the others.
func TestURLElicitation(t *testing.T) {
	old, modern := newScripted(t, "old", false, `{"tools":{}}`), newScripted(t, "new", true, `{"tools":{}}`)
	old.rude()
	modern.rude()
	g := newGateway(t, Config{Targets: scripts(old, modern)})
	withID := strings.TrimSuffix(urlParams, "}") + `,"elicitationId":"e-1"}`
	capabilities := `{"elicitation":{"url":{}}}`
	legacy, c := g.caller("2025-11-25", capabilities), g.caller("2026-07-28", capabilities)
	for target, params := range map[string]string{"old": withID, "new": urlParams} {
		ask := `"name":"` + target + `_ask","arguments":{"method":"elicitation/create","params":` + params + `}`
		_, first := c.do("tools/call", target+"_ask", ask, "")
		if !strings.Contains(first, `{"method":"elicitation/create","params":`+urlParams+`}`) {
			t.Errorf("modern client, %s: %s", target, first)
		}
		var id string
		got := legacy.stream("tools/call", target+"_ask", ask, func(_, params string) string {
			id = member(t, params, "elicitationId")
			return `"result":{"action":"accept"}`
		})
		if !strings.Contains(got, `accept`) || id == "" || target == "old" && id != "e-1" {
			t.Errorf("legacy client, %s: id %q, %s", target, id, got)
		}
	}
}

// The error with which a legacy target says that it needs the user to visit a
// page passes to legacy clients; a modern one gets the elicitation.
func TestURLElicitationRequired(t *testing.T) {
	s := newScripted(t, "old", false, `{"tools":{}}`)
	done := false
	failure := `"error":{"code":-32042,"message":"needed","data":{"elicitations":[{"mode":"url","elicitationId":"e-1","url":"https://a.example/x","message":"m"}]}}`
	s.tool(`{"name":"pay","inputSchema":{"type":"object"}}`, func(x *exchange) string {
		if strings.Contains(x.params, "inputResponses") || strings.Contains(x.params, "requestState") {
			t.Errorf("a legacy target got %s", x.params)
		}
		if done {
			return said("paid")
		}
		return failure
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	if got := g.caller("2025-11-25", `{"elicitation":{"url":{}}}`).call("old_pay", ""); !strings.Contains(got, failure) {
		t.Error(got)
	}
	c := g.caller("2026-07-28", `{"elicitation":{}}`)
	if got := c.call("old_pay", ""); !strings.Contains(got, "-32021") || !strings.Contains(got, `{"elicitation":{"url":{}}}`) {
		t.Error(got)
	}
	for _, capabilities := range []string{`{"elicitation":{"url":{}}}`, `{"elicitation":{"form":{},"url":{}},"sampling":{}}`} {
		done = false
		c = g.caller("2026-07-28", capabilities)
		first := c.call("old_pay", "")
		want := `"result":{"resultType":"input_required","inputRequests":{"url1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a.example/x","message":"m"}}},"requestState":"`
		if !strings.Contains(first, want) {
			t.Fatalf("%s, want %s", first, want)
		}
		state := `,"requestState":"` + member(t, first, "requestState") + `"`
		if got := c.call("old_pay", `"inputResponses":{"url1":{"action":"decline"}}`+state); !strings.Contains(got, `"code":-32600`) {
			t.Errorf("declined: %s", got)
		}
		if got := c.call("old_pay", `"inputResponses":{"url1":{"action":"accept"}}`+state); !strings.Contains(got, want) {
			t.Errorf("not yet done: %s", got)
		}
		done = true
		if got := c.call("old_pay", `"inputResponses":{"url1":{"action":"accept"}}`+state); !strings.Contains(got, `"paid"`) {
			t.Errorf("done: %s", got)
		}
	}
}

// A call that ends while its client gathers the input gives its result to the
// retry.
func TestParkedEnds(t *testing.T) {
	s := newScripted(t, "old", false, `{"tools":{}}`)
	impatient, answered := make(chan struct{}), make(chan string, 1)
	s.answers[`"mine"`] = answered
	s.tool(`{"name":"ask","inputSchema":{"type":"object"}}`, func(x *exchange) string {
		x.send(`{"jsonrpc":"2.0","id":"mine","method":"roots/list","params":{}}`)
		<-impatient
		return said("without you")
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2026-07-28", `{"roots":{}}`)
	first := c.call("old_ask", "")
	state := member(t, first, "requestState")
	g.hub.parking.Lock()
	var p *parked
	for _, p = range g.hub.parked {
	}
	g.hub.parking.Unlock()
	close(impatient)
	<-p.done
	if got := c.call("old_ask", `"inputResponses":{"q1":{"roots":[]}},"requestState":"`+state+`"`); !strings.Contains(got, "without you") {
		t.Error(got)
	}
	if got := <-answered; !strings.Contains(got, "-32600") {
		t.Errorf("the target was answered %s", got)
	}
}

// Progress of a parked call has the token of the request that waits for it.
func TestParkedProgress(t *testing.T) {
	s := newScripted(t, "old", false, `{"tools":{}}`)
	s.tool(`{"name":"ask","inputSchema":{"type":"object"}}`, func(x *exchange) string {
		token := string(protocol.Get([]byte(x.params), "_meta", "progressToken"))
		x.ask("roots/list", `{}`)
		x.send(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":1}}`)
		x.send(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"another","progress":1}}`)
		return said("done")
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2026-07-28", `{"roots":{}}`)
	_, first := c.do("tools/call", "old_ask", `"name":"old_ask"`, `"progressToken":"first"`)
	_, got := c.do("tools/call", "old_ask", `"name":"old_ask","inputResponses":{"q1":{"roots":[]}},"requestState":"`+member(t, first, "requestState")+`"`, `"progressToken":"second"`)
	if !strings.Contains(got, `"progressToken":"second"`) || strings.Count(got, "notifications/progress") != 1 || !strings.Contains(got, `"done"`) {
		t.Error(got)
	}
}

// A legacy target may ask on the session's own stream what it asks in the middle of a
// call: a modern client is asked all the same, and only the one that calls.
func TestAskedOnTheSessionsStream(t *testing.T) {
	s := newScripted(t, "old", false, `{"tools":{},"logging":{}}`)
	s.tool(`{"name":"ask","inputSchema":{"type":"object"}}`, func(x *exchange) string {
		s.mu.Lock()
		there := s.streams > 0
		s.mu.Unlock()
		if !there {
			return said("nobody listens")
		}
		for _, level := range []string{"debug", "error"} {
			s.push <- `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":1}}`
		}
		return said(x.askOn(func(m string) { s.push <- m }, "elicitation/create", formParams))
	})
	g := newGateway(t, Config{Targets: scripts(s)})
	c := g.caller("2026-07-28", `{"elicitation":{}}`)
	for range 10 { // from the second time on on the stream that is there: who is answered has given the leg back
		_, first := c.do("tools/call", "old_ask", `"name":"old_ask"`, `"io.modelcontextprotocol/logLevel":"error"`)
		if !strings.Contains(first, `"q1":{"method":"elicitation/create","params":`+formParams+`}`) || !strings.Contains(first, `"level":"error"`) || strings.Contains(first, "debug") {
			t.Fatal(first)
		}
		got := c.call("old_ask", `"inputResponses":{"q1":{"action":"decline"}},"requestState":"`+member(t, first, "requestState")+`"`)
		if !strings.Contains(got, `{\"action\":\"decline\"}`) {
			t.Error(got)
		}
	}
	s.mu.Lock()
	streams := s.streams
	s.mu.Unlock()
	if streams != 1 {
		t.Errorf("%d streams were opened", streams)
	}
	// Between calls there is nobody to ask.
	x := &exchange{s: s, ctx: t.Context()}
	if got := x.askOn(func(m string) { s.push <- m }, "elicitation/create", formParams); !strings.HasPrefix(got, "error ") {
		t.Errorf("outside of calls: %s", got)
	}
}

// Only the requests that may be answered so are answered with input that is required.
func TestInputOnlyWhereItMayBe(t *testing.T) {
	old, modern := newScripted(t, "old", false, `{"prompts":{},"completions":{}}`), newScripted(t, "new", true, `{"prompts":{},"completions":{}}`)
	for _, s := range []*scripted{old, modern} {
		s.handle("prompts/list", func(*exchange) string { return `"result":{"prompts":[{"name":"p"}]}` })
	}
	old.handle("completion/complete", func(x *exchange) string {
		return `"result":{"completion":{"values":["` + strings.ReplaceAll(x.ask("roots/list", `{}`), `"`, `'`) + `"]}}`
	})
	modern.handle("completion/complete", func(*exchange) string {
		return `"result":{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}}}`
	})
	g := newGateway(t, Config{Targets: scripts(old, modern)})
	c := g.caller("2026-07-28", `{"roots":{}}`)
	for target, want := range map[string]string{"old": "-32601", "new": `"code":-32603`} {
		_, got := c.do("completion/complete", "", `"ref":{"type":"ref/prompt","name":"`+target+`_p"},"argument":{"name":"x","value":"y"}`, "")
		if strings.Contains(got, "input_required") || !strings.Contains(got, want) {
			t.Errorf("%s: %s", target, got)
		}
	}
}
