package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestCatalogue puts seven servers, of both eras and all three transports,
// behind one URL and uses them with go-sdk's client at each revision.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	streamable, _ := startEverything(t, "streamableHttp")
	sse, _ := startEverything(t, "sse")
	fixture := startFixture(t, false)
	modern := serveDemo(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello.txt"), []byte("hello from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := serve(t, func(port int) string {
		return manifest(port,
			static("everything", streamable, "/mcp"),
			fmt.Sprintf("{name: old, static: {host: 127.0.0.1, port: %d, path: /sse, protocol: SSE}}", sse),
			static("fixture", fixture, "/"),
			static("demo", modern, "/demo/mcp"),
			static("notes", modern, "/notes/mcp"),
			"{name: files, timeout: 30s, stdio: "+stdioTarget(t, "server-filesystem", dir)+"}",
			"{name: memory, timeout: 30s, stdio: "+stdioTarget(t, "server-memory")+"}",
		)
	})
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			var steps atomic.Int32
			c := connect(t, g.url(), clientOptions{revision: revision, progress: func(*mcp.ProgressNotificationParams) { steps.Add(1) }})
			if got := c.InitializeResult().ProtocolVersion; got != revision {
				t.Errorf("negotiated %s, want %s", got, revision)
			}
			names := c.toolNames(t)
			for _, want := range []string{
				"everything_echo", "old_echo", "fixture_test_simple_text", "demo_add", "notes_write", "files_read_text_file", "memory_create_entities",
			} {
				if !slices.Contains(names, want) {
					t.Errorf("%s is not listed in %v", want, names)
				}
			}
			if unique := slices.Compact(slices.Sorted(slices.Values(names))); len(unique) != len(names) {
				t.Errorf("names are not unique: %v", names)
			}
			for _, call := range []struct {
				tool string
				args map[string]any
				want string
			}{
				{"everything_echo", map[string]any{"message": "one"}, "one"},
				{"old_echo", map[string]any{"message": "two"}, "two"},
				{"fixture_test_simple_text", nil, "simple text"},
				{"demo_add", map[string]any{"a": 2, "b": 3}, "5"},
				{"files_read_text_file", map[string]any{"path": filepath.Join(dir, "hello.txt")}, "hello from a file"},
				{"memory_search_nodes", map[string]any{"query": "nobody"}, "entities"},
			} {
				if got := c.call(t, call.tool, call.args); !strings.Contains(got, call.want) {
					t.Errorf("%s answers %q, want %q", call.tool, got, call.want)
				}
			}

			params := &mcp.CallToolParams{Name: "demo_slow", Arguments: map[string]any{"steps": 3, "interval_ms": 5}}
			params.SetProgressToken("p-" + revision)
			if _, err := c.CallTool(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			testgateway.Eventually(t, "three progress notifications", func() error {
				if n := steps.Load(); n != 3 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			checkPromptsAndResources(t, c)
		})
	}
}

// checkPromptsAndResources gets a prompt and reads a resource of the demo, by the
// names that the gateway lists.
func checkPromptsAndResources(t *testing.T, c *client) {
	t.Helper()
	prompt, err := c.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "demo_greet", Arguments: map[string]string{"name": "Ada"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := prompt.Messages[0].Content.(*mcp.TextContent).Text; got != "Greet Ada in one sentence." {
		t.Errorf("prompt: %q", got)
	}
	var uris []string
	for resource, err := range c.Resources(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		uris = append(uris, resource.URI)
	}
	if !slices.Contains(uris, "demo+demo://about") {
		t.Fatalf("demo+demo://about is not among %v", uris)
	}
	read, err := c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "demo+demo://about"})
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Contents[0]; got.URI != "demo+demo://about" || !strings.Contains(got.Text, "built-in demo") {
		t.Errorf("resource: %+v", got)
	}
}

// TestServerAsksBack has a legacy target ask the client something in the middle
// of a call, for clients of every revision: a modern one is asked by its answer,
// and calls again with what was asked.
func TestServerAsksBack(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	g := serve(t, func(port int) string { return manifest(port, static("notes", demo, "/notes/mcp")) })
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			asked := make(chan string, 1)
			c := connect(t, g.url(), clientOptions{revision: revision, elicit: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				asked <- r.Params.Message
				return &mcp.ElicitResult{Action: "accept"}, nil
			}})
			c.call(t, "notes_write", map[string]any{"text": "milk"})
			if got := c.call(t, "notes_clear", nil); got != "cleared" {
				t.Errorf("notes_clear answers %q", got)
			}
			if got := <-asked; got != "Throw all notes away?" {
				t.Errorf("the client was asked %q", got)
			}
		})
	}
}

// TestOtherClients uses the gateway with clients that are not go-sdk's.
func TestOtherClients(t *testing.T) {
	t.Parallel()
	everything, _ := startEverything(t, "streamableHttp")
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("everything", everything, "/mcp"), static("demo", demo, "/demo/mcp"))
	})

	for _, sdk := range []string{"sdk-v1", "sdk-v2"} {
		t.Run("TypeScript "+sdk, func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(filepath.Join("testdata", sdk+".mjs"))
			if err != nil {
				t.Fatal(err)
			}
			// Modules are looked up from the script's folder upwards.
			dir := t.TempDir()
			if err := os.Symlink(npmDir(t), filepath.Join(dir, "node_modules")); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "client.mjs")
			if err := os.WriteFile(file, script, 0o600); err != nil {
				t.Fatal(err)
			}
			stdout, stderr, code := output(t, nil, node(t), file, g.url())
			if code != 0 {
				t.Fatalf("exit code %d:\n%s\n%s", code, stdout, stderr)
			}
			var got struct {
				Tools []string `json:"tools"`
				Echo  string   `json:"echo"`
				Sum   float64  `json:"sum"`
				Error string   `json:"error"`
			}
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("%v in %s", err, stdout)
			}
			if !slices.Contains(got.Tools, "everything_echo") || !slices.Contains(got.Tools, "demo_add") {
				t.Errorf("tools: %v", got.Tools)
			}
			if !strings.Contains(got.Echo, "from TypeScript") || got.Sum != 42 {
				t.Errorf("echo %q, sum %v", got.Echo, got.Sum)
			}
			if !strings.Contains(got.Error, "Unknown tool: everything_none") {
				t.Errorf("an unknown tool is answered %q", got.Error)
			}
		})
	}

	inspect := func(t *testing.T, args ...string) map[string]any {
		t.Helper()
		path := "PATH=" + filepath.Dir(node(t)) + string(os.PathListSeparator) + os.Getenv("PATH")
		script := npmScript(t, ".bin", "mcp-inspector")
		stdout, stderr, code := output(t, []string{path, "HOME=" + t.TempDir()}, node(t),
			append([]string{script, "--cli", g.url(), "--transport", "http"}, args...)...)
		if code != 0 {
			t.Fatalf("exit code %d:\n%s\n%s", code, stdout, stderr)
		}
		var answer map[string]any
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		return answer
	}
	t.Run("inspector tools/list", func(t *testing.T) {
		t.Parallel()
		tools, _ := inspect(t, "--method", "tools/list")["tools"].([]any)
		if len(tools) < 5 {
			t.Errorf("%d tools", len(tools))
		}
	})
	t.Run("inspector tools/call", func(t *testing.T) {
		t.Parallel()
		got := inspect(t, "--method", "tools/call", "--tool-name", "everything_echo", "--tool-arg", "message=inspected")
		want := []any{map[string]any{"type": "text", "text": "Echo: inspected"}}
		if diff := cmp.Diff(want, got["content"]); diff != "" {
			t.Error(diff)
		}
	})
}
