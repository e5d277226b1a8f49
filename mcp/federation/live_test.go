package federation

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/policy"
)

// Connected clients of both eras hear of it when a target's tools change, when
// targets come and go, and when the rules change.
func TestListChanged(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
			a.echo("x")
			b.echo("x")
			g := newGateway(t, Config{Targets: targets(a)})
			var heard atomic.Int64
			cs := g.connect(version, &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { heard.Add(1) }})
			eventually(t, "the stream is open", func() bool { return g.hub.streamCount.Load() == 1 })
			names := func() string {
				list, err := cs.ListTools(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				var out []string
				for _, tool := range list.Tools {
					out = append(out, tool.Name)
				}
				return strings.Join(out, " ")
			}
			after := func(what, want string, change func()) {
				t.Helper()
				before := heard.Load()
				start := time.Now()
				change()
				eventually(t, what, func() bool { return heard.Load() > before })
				if got := names(); got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
				t.Logf("%s: heard after %v", what, time.Since(start))
			}
			if got := names(); got != "a_x" {
				t.Fatal(got)
			}
			after("a second target", "a_x b_x", func() { g.apply(Config{Targets: targets(a, b)}) })
			// The streams toward the targets have to be open before they change.
			eventually(t, "targets are listened to", func() bool {
				return len(a.reached("subscriptions/listen")) > 0 && len(b.reached("initialize")) > 1
			})
			after("a tool of the modern target", "a_x a_y b_x", func() {
				a.echo("y")
			})
			after("the target is gone", "b_x", func() { g.apply(Config{Targets: targets(b)}) })
			after("other rules", "", func() {
				g.mu.Lock()
				g.rules = []policy.RuleSet{rule(t, policy.Deny, `true`)}
				g.mu.Unlock()
				g.apply(Config{Targets: targets(b), PolicyFingerprint: "2"})
			})
		})
	}
}

// A stream of a backend that is gone ends, and so do all when the gateway drains.
func TestStreamsEnd(t *testing.T) {
	a := newServer(t, "a", true, nil)
	g := newGateway(t, Config{Targets: targets(a)})
	sid := g.initialize("2025-11-25")
	open := func() *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url, nil)
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Mcp-Session-Id", sid)
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	listen := func() *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url, strings.NewReader(
			`{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},`+meta+`}}`))
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		r.Header.Set("Mcp-Method", "subscriptions/listen")
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	first := open()
	second := open()
	drain(first.Body) // ends: the second took its place
	l := listen()
	g.hub.Commit(nil)
	drain(second.Body)
	events := drain(l.Body)
	if !strings.HasPrefix(strings.TrimPrefix(events, "event: message\n"), `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/subscriptionId":"L"}}}`) {
		t.Errorf("the first event is not the acknowledgement: %s", events)
	}
	if !strings.Contains(events, `{"jsonrpc":"2.0","id":"L","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"L"}}}`) {
		t.Errorf("no graceful end: %s", events)
	}
	g.apply(Config{Targets: targets(a)})
	third := open()
	if third.StatusCode != 200 {
		t.Fatal("the session of the backend did not live on")
	}
	g.hub.Drain()
	drain(third.Body)
	if resp := open(); resp.StatusCode != 503 {
		t.Errorf("a stream was opened while draining: %d", resp.StatusCode)
	}
}

// asking adds tools that ask the client something in the legacy way.
func (s *server) asking() {
	mcp.AddTool(s.Server, &mcp.Tool{Name: "sample"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 5, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: s.target.Name}}}})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{res.Content}}, nil, nil
	})
	// Asked outside of any request, it comes on the GET stream.
	mcp.AddTool(s.Server, &mcp.Tool{Name: "aside"}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.CreateMessage(context.Background(), &mcp.CreateMessageParams{MaxTokens: 5, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: s.target.Name}}}})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{res.Content}}, nil, nil
	})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "roots"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.ListRoots(ctx, nil)
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Roots[0].URI}}}, nil, nil
	})
}

// inputs adds a tool that asks the client something in the modern way, twice.
func (s *server) inputs() {
	s.AddTool(&mcp.Tool{Name: "ask", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		round := len(r.Params.RequestState)
		if round < 2 {
			return &mcp.CallToolResult{
				RequestState: r.Params.RequestState + "s",
				InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Mode: "form", Message: fmt.Sprint("round ", round),
					RequestedSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"string"}}}`)}},
			}, nil
		}
		raw, _ := json.Marshal(r.Params.InputResponses["q"])
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(raw)}}}, nil
	})
}

// What targets ask reaches the client that called, and its answer the target
// that asked, whatever the eras of both.
func TestAsking(t *testing.T) {
	old, old2, modern := newServer(t, "old", false, nil), newServer(t, "other", false, nil), newServer(t, "new", true, nil)
	old.asking()
	old2.asking()
	modern.inputs()
	g := newGateway(t, Config{Targets: targets(old, old2, modern)})
	opts := &mcp.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "to " + r.Params.Messages[0].Content.(*mcp.TextContent).Text}}, nil
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"a": r.Params.Message}}, nil
		},
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, opts)
			c.AddRoots(&mcp.Root{URI: "file:///home", Name: "home"})
			cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: g.url, HTTPClient: g.client, MaxRetries: -1}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cs.Close() }()
			var wg sync.WaitGroup
			for range 4 {
				for tool, want := range map[string]string{
					"old_sample": "to old", "old_aside": "to old", "other_sample": "to other", "old_roots": "file:///home", "new_ask": "round 1",
				} {
					wg.Go(func() {
						r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: tool})
						if err != nil || !strings.Contains(text(r), want) {
							t.Errorf("%s: %+v %v, want %s", tool, r, err, want)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// A sealed state is good for nothing but what it was made for.
func TestRequestState(t *testing.T) {
	s, two := newServer(t, "s", true, nil), newServer(t, "two", true, nil)
	s.inputs()
	two.inputs()
	g := newGateway(t, Config{Targets: targets(s, two)})
	call := func(name, arguments, state string, header ...string) string {
		params := `"name":"` + name + `","arguments":` + arguments
		if state != "" {
			params += `,"inputResponses":{"q":{"action":"accept"}},"requestState":"` + state + `"`
		}
		h := append([]string{}, header...)
		meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`
		_, body, _ := g.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{`+params+","+meta+`}}`,
			append(h, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", name)...)
		return body
	}
	first := call("s_ask", `{"k":1,"l":[2]}`, "")
	_, rest, ok := strings.Cut(first, `"requestState":"`)
	if !ok {
		t.Fatal(first)
	}
	state, _, _ := strings.Cut(rest, `"`)
	if got := call("s_ask", `{"l":[2],"k":1}`, state); !strings.Contains(got, "round 1") {
		t.Errorf("the state's own request: %s", got)
	}
	flipped := "A" + state[1:]
	if state[0] == 'A' {
		flipped = "B" + state[1:]
	}
	for _, tt := range []struct{ what, body string }{
		{"other arguments", call("s_ask", `{"k":2,"l":[2]}`, state)},
		{"another tool", call("two_ask", `{"k":1,"l":[2]}`, state)},
		{"another user", call("s_ask", `{"k":1,"l":[2]}`, state, "X-Test-Principal", "mallory")},
		{"a flipped bit", call("s_ask", `{"k":1,"l":[2]}`, flipped)},
		{"the target's own", call("s_ask", `{"k":1,"l":[2]}`, "s")},
	} {
		if !strings.Contains(tt.body, "-32602") || !strings.Contains(tt.body, "requestState") {
			t.Errorf("%s: %s", tt.what, tt.body)
		}
	}
	before := len(s.reached("tools/call"))
	g.hub.now = func() time.Time { return time.Now().Add(2 * stateLifetime) }
	if got := call("s_ask", `{"k":1,"l":[2]}`, state); !strings.Contains(got, "-32602") {
		t.Errorf("an expired state: %s", got)
	}
	if len(s.reached("tools/call")) != before {
		t.Error("the target got the expired state")
	}
}

// Cancelling one call cancels it at the one target it went to.
func TestCancel(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
	var cancelled [2]atomic.Int64
	started := make(chan struct{}, 10)
	release := make(chan struct{})
	for i, s := range []*server{a, b} {
		mcp.AddTool(s.Server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			started <- struct{}{}
			select {
			case <-ctx.Done():
				cancelled[i].Add(1)
			case <-release:
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
		})
	}
	g := newGateway(t, Config{Targets: targets(a, b)})
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			cs := g.connect(version, nil)
			for i, name := range []string{"a_wait", "b_wait"} {
				before := [2]int64{cancelled[0].Load(), cancelled[1].Load()}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() {
					_, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: name})
					done <- err
				}()
				<-started
				cancel()
				if err := <-done; err == nil {
					t.Error("the call was not cancelled")
				}
				eventually(t, "the target hears of it", func() bool { return cancelled[i].Load() == before[i]+1 })
				if other := cancelled[1-i].Load(); other != before[1-i] {
					t.Error("the other target was cancelled, too")
				}
			}
		})
	}
	close(release)
}

// Progress and log messages arrive before the result, with the client's token.
func TestProgress(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
	for _, s := range []*server{a, b} {
		mcp.AddTool(s.Server, &mcp.Tool{Name: "steps"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			for i := range 3 {
				_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)})
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
		})
	}
	g := newGateway(t, Config{Targets: targets(a, b)})
	sid := g.initialize("2025-11-25")
	for _, name := range []string{"a_steps", "b_steps"} {
		_, legacy, _ := g.post(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"`+name+`","_meta":{"progressToken":"tok-9"}}}`, "Mcp-Session-Id", sid)
		_, modern, _ := g.post(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"`+name+`","_meta":{"progressToken":"tok-9",`+meta[len(`"_meta":{`):]+`}}`,
			"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", name)
		for era, body := range map[string]string{"legacy": legacy, "modern": modern} {
			var progress int
			sc := bufio.NewScanner(strings.NewReader(body))
			last := ""
			for sc.Scan() {
				if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
					if strings.Contains(data, "notifications/progress") && strings.Contains(data, `"progressToken":"tok-9"`) {
						progress++
					}
					last = data
				}
			}
			if progress != 3 || !strings.Contains(last, `"id":5`) || !strings.Contains(last, "done") {
				t.Errorf("%s %s: %s", name, era, body)
			}
		}
	}
}

// 64 clients at once never get each other's answers.
func TestNonces(t *testing.T) {
	a, b := newServer(t, "a", true, nil), newServer(t, "b", false, nil)
	a.echo("x")
	b.echo("x")
	g := newGateway(t, Config{Targets: targets(a, b)})
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			sid := ""
			if n%2 == 0 {
				sid = g.initialize("2025-11-25")
			}
			for i := range 10 {
				nonce := fmt.Sprintf("nonce-%d-%d.", n, i)
				name := []string{"a_x", "b_x"}[i%2]
				params := `"name":"` + name + `","arguments":{"text":"` + nonce + `"}`
				var body string
				if sid != "" {
					_, body, _ = g.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s}}`, i, params), "Mcp-Session-Id", sid)
				} else {
					_, body = g.modern("tools/call", name, params)
				}
				if !strings.Contains(body, nonce) || strings.Count(body, "nonce-") != 1 {
					t.Errorf("client %d got %s", n, body)
				}
			}
		})
	}
	wg.Wait()
}

// Updates of subscribed resources reach clients of both eras, with their URI.
func TestSubscriptions(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			accept := func(context.Context, *mcp.SubscribeRequest) error { return nil }
			drop := func(context.Context, *mcp.UnsubscribeRequest) error { return nil }
			opts := &mcp.ServerOptions{SubscribeHandler: accept, UnsubscribeHandler: drop}
			a, b := newServer(t, "a", true, opts), newServer(t, "b", false, opts)
			for _, s := range []*server{a, b} {
				s.AddResource(&mcp.Resource{URI: "x://r", Name: "r"}, func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
					return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "t"}}}, nil
				})
			}
			g := newGateway(t, Config{Targets: targets(a, b)})
			var mu sync.Mutex
			heard := map[string]int{}
			cs := g.connect(version, &mcp.ClientOptions{ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
				mu.Lock()
				defer mu.Unlock()
				heard[r.Params.URI]++
			}})
			for _, uri := range []string{"a+x://r", "b+x://r"} {
				if err := cs.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
					t.Fatal(err)
				}
			}
			for target, s := range map[string]*server{"a": a, "b": b} {
				eventually(t, "an update of "+target, func() bool {
					_ = s.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "x://r"})
					mu.Lock()
					defer mu.Unlock()
					return heard[target+"+x://r"] > 0
				})
			}
		})
	}
}
