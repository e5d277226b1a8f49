package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/session"
)

// child is what the test binary is when it is started as a stdio target.
func child(mode string) {
	var versions []string
	if mode == "legacy" {
		versions = []string{"2025-11-25", "2025-06-18"}
	}
	s := mcp.NewServer(&mcp.Implementation{Name: mode, Version: "1"}, fullOptions(versions))
	full(s, mode == "modern", os.Getenv("CANCELLED"))
	_ = s.Run(context.Background(), &mcp.StdioTransport{})
}

func fullOptions(versions []string) *mcp.ServerOptions {
	return &mcp.ServerOptions{
		SupportedProtocolVersions: versions,
		SubscribeHandler:          func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler:        func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	}
}

// full gives a server a tool for each feature. A call that is cancelled makes the
// file.
func full(s *mcp.Server, modern bool, file string) {
	add := func(name string, f func(context.Context, *mcp.CallToolRequest) (string, error)) {
		mcp.AddTool(s, &mcp.Tool{Name: name}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			said, err := f(ctx, r)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: said}}}, nil, err
		})
	}
	add("steps", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
		}
		return "stepped", nil
	})
	add("log", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		for _, level := range []mcp.LoggingLevel{"debug", "error"} {
			_ = r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Data: "x"})
		}
		return "logged", nil
	})
	add("wait", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
		}
		<-ctx.Done()
		return "", errors.Join(ctx.Err(), os.WriteFile(file, nil, 0o600))
	})
	add("change", func(context.Context, *mcp.CallToolRequest) (string, error) {
		add(fmt.Sprint("added", time.Now().UnixNano()), nil)
		return "changed", nil
	})
	add("update", func(ctx context.Context, _ *mcp.CallToolRequest) (string, error) {
		return "updated", s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "x://r"})
	})
	s.AddResource(&mcp.Resource{URI: "x://r", Name: "r"}, func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "t"}}}, nil
	})
	if !modern {
		add("pay", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
			res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "url", ElicitationID: "e-1", URL: "https://a.example/x", Message: "m"})
			if err != nil {
				return "", err
			}
			return res.Action, r.Session.NotifyElicitationComplete(ctx, &mcp.ElicitationCompleteParams{ElicitationID: "e-1"})
		})
		add("ask", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
			res, err := r.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 1, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "?"}}}})
			if err != nil {
				return "", err
			}
			return res.Content.(*mcp.TextContent).Text, nil
		})
		return
	}
	s.AddTool(&mcp.Tool{Name: "ask", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if answer, ok := r.Params.InputResponses["q"]; ok {
			raw, _ := json.Marshal(answer)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(raw)}}}, nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": &mcp.CreateMessageParams{MaxTokens: 1,
			Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "?"}}}}}}, nil
	})
}

// stdioTarget returns a target that is a child process.
func stdioTarget(t *testing.T, name, mode string, perSession bool, file string) session.TargetConfig {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return session.TargetConfig{Name: name, Transport: session.Stdio, Timeout: 20 * time.Second, Identity: t.Name() + name,
		Command: &session.Command{Path: exe, Env: []string{"MCPGW_TEST_CHILD=" + mode, "CANCELLED=" + file, "GORACE=atexit_sleep_ms=0"}, PerSession: perSession}}
}

// Every feature works for clients of every revision and transport, with targets of
// both eras over HTTP and as children, shared by the sessions of a caller or not.
func TestFeaturesOverTransports(t *testing.T) {
	old, modern := newServer(t, "old", false, fullOptions(nil)), newServer(t, "new", true, fullOptions(nil))
	dir := t.TempDir()
	file := func(target string) string { return filepath.Join(dir, target) }
	full(old.Server, false, file("old"))
	full(modern.Server, true, file("new"))
	cfg := Config{Targets: targets(old, modern)}
	for _, child := range []struct {
		name, mode string
		perSession bool
	}{{"oldshared", "legacy", false}, {"oldown", "legacy", true}, {"newshared", "modern", false}, {"newown", "modern", true}} {
		cfg.Targets = append(cfg.Targets, stdioTarget(t, child.name, child.mode, child.perSession, file(child.name)))
	}
	g := newGateway(t, cfg)
	for _, version := range []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			var mu sync.Mutex
			heard := map[string]int{}
			hear := func(what string) { mu.Lock(); heard[what]++; mu.Unlock() }
			count := func(what string) int { mu.Lock(); defer mu.Unlock(); return heard[what] }
			c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
				CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
					return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "sampled"}}, nil
				},
				ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
					hear(fmt.Sprint("progress ", r.Params.ProgressToken))
				},
				LoggingMessageHandler:  func(_ context.Context, r *mcp.LoggingMessageRequest) { hear("log " + string(r.Params.Level)) },
				ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { hear("tools") },
				ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { hear("updated " + r.Params.URI) },
			})
			var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: g.url, HTTPClient: g.client, MaxRetries: -1}
			if version == "2024-11-05" {
				transport = &mcp.SSEClientTransport{Endpoint: g.url + "/sse", HTTPClient: g.client}
			}
			cs, err := c.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cs.Close() }()
			if err := cs.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "error"}); err != nil && version != "2026-07-28" {
				t.Error(err)
			}
			call := func(name string, meta mcp.Meta) string {
				t.Helper()
				r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Meta: meta})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				return text(r)
			}
			for i := range cfg.Targets {
				target := cfg.Targets[i].Name
				token := "token-" + target
				if got := call(target+"_steps", mcp.Meta{"progressToken": token}); got != "stepped" {
					t.Errorf("%s: %s", target, got)
				}
				eventually(t, target+": progress", func() bool { return count("progress "+token) == 1 })
				logs := count("log error")
				call(target+"_log", nil)
				if version != "2026-07-28" { // the SDK's client asks for no messages of this revision
					eventually(t, target+": a log message", func() bool { return count("log error") > logs })
				}
				if count("log debug") > 0 {
					t.Errorf("%s: a log message that nobody asked for", target)
				}
				if got := call(target+"_ask", nil); !strings.Contains(got, "sampled") {
					t.Errorf("%s: asked: %s", target, got)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					_, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: target + "_wait", Meta: mcp.Meta{"progressToken": "wait-" + target}})
					done <- err
				}()
				eventually(t, target+": the call is there", func() bool { return count("progress wait-"+target) > 0 })
				cancel()
				if err := <-done; err == nil {
					t.Errorf("%s: not cancelled", target)
				}
				eventually(t, target+": the target hears of it", func() bool { return os.Remove(file(target)) == nil })
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("%s: another was cancelled, too: %v", target, left)
				}
				if modernClient := version == "2026-07-28"; modernClient && cfg.Targets[i].Transport == session.Stdio && cfg.Targets[i].Command.PerSession {
					continue // the call and the subscription have a process each, which know nothing of each other
				}
				uri := target + "+x://r"
				if err := cs.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
					t.Errorf("%s: subscribe: %v", target, err)
				}
				eventually(t, target+": an update", func() bool { call(target+"_update", nil); return count("updated "+uri) > 0 })
				tools := count("tools")
				eventually(t, target+": a changed list", func() bool { call(target+"_change", nil); return count("tools") > tools })
			}
			mu.Lock()
			defer mu.Unlock()
			for what := range heard {
				if strings.HasPrefix(what, "updated") && !strings.Contains(what, "+x://r") {
					t.Errorf("heard %s", what)
				}
			}
		})
	}
}

// That an elicitation is complete is told to the session that was asked, of those that
// share a child, too.
func TestElicitationCompleteIsTheSessions(t *testing.T) {
	old := newServer(t, "old", false, nil)
	full(old.Server, false, "")
	g := newGateway(t, Config{Targets: append(targets(old), stdioTarget(t, "child", "legacy", false, ""))})
	type client struct {
		*mcp.ClientSession
		complete, changed atomic.Int64
	}
	connect := func() *client {
		c := new(client)
		c.ClientSession = g.connect("2025-11-25", &mcp.ClientOptions{
			Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept"}, nil
			},
			ElicitationCompleteHandler: func(context.Context, *mcp.ElicitationCompleteNotificationRequest) { c.complete.Add(1) },
			ToolListChangedHandler:     func(context.Context, *mcp.ToolListChangedRequest) { c.changed.Add(1) },
		})
		return c
	}
	one, two := connect(), connect()
	for n, target := range []string{"old", "child"} {
		r, err := one.CallTool(t.Context(), &mcp.CallToolParams{Name: target + "_pay"})
		if err != nil || text(r) != "accept" {
			t.Fatalf("%s: %s %v", target, text(r), err)
		}
		eventually(t, target+": it is complete", func() bool { return one.complete.Load() == int64(n+1) })
		before := two.changed.Load()
		eventually(t, target+": the other session hears of what comes after", func() bool {
			_, _ = two.CallTool(t.Context(), &mcp.CallToolParams{Name: target + "_change"})
			return two.changed.Load() > before
		})
		if two.complete.Load() > 0 {
			t.Errorf("%s: another session was told", target)
		}
	}
}

// A batch of 2025-03-26 can be asked something, and is answered message by message.
func TestBatchFeatures(t *testing.T) {
	old, modern := newScripted(t, "old", false, `{"tools":{},"logging":{}}`), newScripted(t, "new", true, `{"tools":{}}`)
	old.rude()
	modern.rude()
	g := newGateway(t, Config{Targets: scripts(old, modern)})
	c := g.caller("2025-03-26", `{"roots":{}}`)
	ask := func(id, target string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"` + target + `_ask","arguments":{"method":"roots/list","params":{}}}}`
	}
	body := `[` + ask("1", "old") + `,{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"error"}},` + ask("3", "new") +
		`,{"jsonrpc":"2.0","method":"notifications/roots/list_changed"},` + ask(`"4"`, "nope") + `,{"jsonrpc":"2.0","id":5,"method":"ping"}]`
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Mcp-Session-Id", c.session)
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var got []string
	for data := range eventData(resp.Body) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			t.Fatal(err)
		}
		if m.Method == "roots/list" {
			g.post(`[{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{"roots":[{"uri":"file:///r"}]}}]`, "Mcp-Session-Id", c.session)
			continue
		}
		got = append(got, data)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{`"id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"{\"roots\":[{\"uri\":\"file:///r\"}]}"}]}`,
		`"id":2,"result":{}`, `"id":3,"result":{`, `"id":"4","error":{"code":-32602,"message":"Unknown tool: nope_ask"}`, `"id":5,"result":{}`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in %s", want, all)
		}
	}
	if len(got) != 5 || len(old.reached("notifications/roots/list_changed")) != 1 || len(old.reached("logging/setLevel")) != 1 {
		t.Errorf("%d answers: %s", len(got), all)
	}
}
