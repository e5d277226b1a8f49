package federation

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/guard"
)

func emails(t *testing.T, action guard.Action) *guard.Regex {
	t.Helper()
	x, err := guard.NewRegex(action, nil, []guard.Builtin{guard.Email})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A leaky server says e-mail addresses in everything that it says, and keeps what it is sent.
type leaky struct {
	*server
	mu  sync.Mutex
	got []string
}

type leakArgs struct {
	To   string         `json:"to"`
	More map[string]any `json:"more,omitempty"`
}

type leakResult struct {
	Found []string `json:"found"`
	N     int      `json:"n"`
}

func newLeaky(t *testing.T, name string, modern bool) *leaky {
	s := &leaky{server: newServer(t, name, modern, nil)}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "leak"}, func(ctx context.Context, r *mcp.CallToolRequest, a leakArgs) (*mcp.CallToolResult, leakResult, error) {
		s.mu.Lock()
		s.got = append(s.got, string(r.Params.Arguments))
		s.mu.Unlock()
		if token := r.Params.GetProgressToken(); token != nil { // the answer is a stream
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
		}
		return &mcp.CallToolResult{Content: []mcp.Content{
			&mcp.TextContent{Text: "mail bob@example.com!"},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "test://a", Text: "bob@example.com"}},
		}}, leakResult{Found: []string{"bob@example.com", "none"}, N: 123456789}, nil
	})
	s.AddPrompt(&mcp.Prompt{Name: "ask", Arguments: []*mcp.PromptArgument{{Name: "who"}}}, func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: r.Params.Arguments["who"] + " or bob@example.com"}}}}, nil
	})
	s.AddResource(&mcp.Resource{URI: "test://mail", Name: "mail"}, func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "from bob@example.com"}}}, nil
	})
	return s
}

func guardedConfig(servers ...*leaky) (cfg Config) {
	for _, s := range servers {
		cfg.Targets = append(cfg.Targets, s.target)
	}
	return cfg
}

// What clients send and get is masked, whichever revisions both sides speak, streamed or not.
func TestGuardMasks(t *testing.T) {
	servers := []*leaky{newLeaky(t, "new", true), newLeaky(t, "old", false)}
	g := newGateway(t, guardedConfig(servers...))
	g.guard = &Guard{Prompt: &guard.Prompt{Regex: emails(t, guard.Mask)}, Answer: &guard.Answer{Regex: emails(t, guard.Mask)}}
	for _, version := range versions {
		cs := g.connect(version, nil)
		for _, s := range servers {
			for _, token := range []any{nil, "t"} {
				params := &mcp.CallToolParams{Name: s.target.Name + "_leak", Arguments: map[string]any{"to": "eve@example.com", "more": map[string]any{"cc": []any{"a", "eve@example.com"}, "n": 1.5}}}
				if token != nil {
					params.SetProgressToken(token)
				}
				r, err := cs.CallTool(t.Context(), params)
				if err != nil {
					t.Fatalf("%s: %v", version, err)
				}
				if text := r.Content[0].(*mcp.TextContent).Text; text != "mail <EMAIL_ADDRESS>!" {
					t.Errorf("%s of %s: %q", version, s.target.Name, text)
				}
				if text := r.Content[1].(*mcp.EmbeddedResource).Resource.Text; text != "<EMAIL_ADDRESS>" {
					t.Errorf("%s of %s: the resource is %q", version, s.target.Name, text)
				}
				if d := cmp.Diff(map[string]any{"found": []any{"<EMAIL_ADDRESS>", "none"}, "n": 123456789.0}, r.StructuredContent); d != "" {
					t.Errorf("%s of %s: %s", version, s.target.Name, d)
				}
				got := s.got[len(s.got)-1]
				if strings.Contains(got, "eve") || !strings.Contains(got, `"cc":["a","<EMAIL_ADDRESS>"]`) || !strings.Contains(got, `"n":1.5`) {
					t.Errorf("%s: %s gets %s", version, s.target.Name, got)
				}
			}
			p, err := cs.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: s.target.Name + "_ask", Arguments: map[string]string{"who": "eve@example.com"}})
			if err != nil {
				t.Fatal(err)
			}
			if text := p.Messages[0].Content.(*mcp.TextContent).Text; text != "<EMAIL_ADDRESS> or <EMAIL_ADDRESS>" {
				t.Errorf("%s of %s: the prompt is %q", version, s.target.Name, text)
			}
			res, err := cs.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: s.target.Name + "+test://mail"})
			if err != nil {
				t.Fatal(err)
			}
			if text := res.Contents[0].Text; text != "from <EMAIL_ADDRESS>" {
				t.Errorf("%s of %s: the resource is %q", version, s.target.Name, text)
			}
		}
	}
}

// A call that is rejected is a result that says so, and reaches nobody; a target can have a guard of its own.
func TestGuardRejects(t *testing.T) {
	modern, legacy := newLeaky(t, "new", true), newLeaky(t, "old", false)
	g := newGateway(t, guardedConfig(modern, legacy))
	no := guard.Rejection{Status: 403, Message: "not here"}
	g.guard = &Guard{
		Prompt:  &guard.Prompt{Regex: emails(t, guard.Reject), Rejection: no},
		Targets: map[string]*Guard{"old": {Answer: &guard.Answer{Regex: emails(t, guard.Reject), Rejection: no}}},
	}
	for _, version := range versions {
		cs := g.connect(version, nil)
		for _, name := range []string{"new_leak", "old_leak"} {
			r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: map[string]any{"to": "eve@example.com"}})
			if err != nil || !r.IsError || len(r.Content) != 1 || r.Content[0].(*mcp.TextContent).Text != "not here" || r.StructuredContent != nil {
				t.Errorf("%s: %s answers %+v %v", version, name, r, err)
			}
		}
		if r, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "new_leak", Arguments: map[string]any{"to": "nobody"}}); err != nil || r.IsError {
			t.Errorf("%s: what passes answers %+v %v", version, r, err)
		}
		if _, err := cs.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "new_ask", Arguments: map[string]string{"who": "eve@example.com"}}); err == nil || !strings.Contains(err.Error(), "not here") {
			t.Errorf("%s: the prompt answers %v", version, err)
		}
		if _, err := cs.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "old+test://mail"}); err == nil || !strings.Contains(err.Error(), "not here") {
			t.Errorf("%s: the resource answers %v", version, err)
		}
	}
	for _, got := range modern.got {
		if strings.Contains(got, "eve") {
			t.Errorf("the target gets %s", got)
		}
	}
}
