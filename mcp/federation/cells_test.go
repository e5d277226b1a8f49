package federation

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"slices"
)

// mixed returns a backend of one modern and one legacy target.
func mixed(t *testing.T) (modern, legacy *server, cfg Config) {
	modern, legacy = newServer(t, "new", true, nil), newServer(t, "old", false, nil)
	modern.echo("echo", "other")
	legacy.echo("echo", "third")
	for _, s := range []*server{modern, legacy} {
		s.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.ResourceLink{URI: "test://linked", Name: "x"}}}}, nil
		})
		s.AddResource(&mcp.Resource{URI: "test://linked", Name: "linked"}, func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: s.target.Name}}}, nil
		})
		s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "item://{id}", Name: "item"}, func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: s.target.Name}}}, nil
		})
		mcp.AddTool(s.Server, &mcp.Tool{Name: "link"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.ResourceLink{URI: "test://linked", Name: "x"}}}, nil, nil
		})
	}
	cfg = Config{Targets: append(cfg.Targets, modern.target, legacy.target)}
	return modern, legacy, cfg
}

// All cells of client and target eras serve the same catalogue.
func TestCells(t *testing.T) {
	_, _, cfg := mixed(t)
	g := newGateway(t, cfg)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			ctx := t.Context()
			cs := g.connect(version, nil)
			if got := cs.InitializeResult().ProtocolVersion; version != "2026-07-28" && got != version {
				t.Errorf("negotiated %s", got)
			}
			list, err := cs.ListTools(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, tool := range list.Tools {
				names = append(names, tool.Name)
			}
			slices.Sort(names)
			want := []string{"new_echo", "new_link", "new_other", "old_echo", "old_link", "old_third"}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Error(diff)
			}
			for _, name := range []string{"new_echo", "old_third"} {
				r, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: map[string]any{"text": "hi"}})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if got := text(r); got != name[4:]+":hi" {
					t.Errorf("%s answered %q", name, got)
				}
			}
			for _, target := range []string{"new", "old"} {
				r, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: target + "_link"})
				if err != nil {
					t.Fatal(err)
				}
				uri := r.Content[0].(*mcp.ResourceLink).URI
				if uri != target+"+test://linked" {
					t.Errorf("link of %s is %s", target, uri)
				}
				for _, u := range []string{uri, target + "+item://7"} {
					read, err := cs.ReadResource(ctx, &mcp.ReadResourceParams{URI: u})
					if err != nil {
						t.Fatal(err)
					}
					if c := read.Contents[0]; c.Text != target || c.URI != u {
						t.Errorf("read %s: %+v", u, c)
					}
				}
				p, err := cs.GetPrompt(ctx, &mcp.GetPromptParams{Name: target + "_greet"})
				if err != nil {
					t.Fatal(err)
				}
				if got := p.Messages[0].Content.(*mcp.ResourceLink).URI; got != uri {
					t.Errorf("prompt links to %s", got)
				}
			}
			templates, err := cs.ListResourceTemplates(ctx, nil)
			if err != nil || len(templates.ResourceTemplates) != 2 || templates.ResourceTemplates[0].URITemplate != "new+item://{id}" {
				t.Errorf("templates: %+v %v", templates, err)
			}
			if _, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "old_none"}); err == nil {
				t.Error("an unknown tool was called")
			}
			if err := cs.Ping(ctx, nil); version != "2026-07-28" && err != nil {
				t.Error(err)
			}
		})
	}
}
