package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestEditWhileConnected edits the file under connected clients of each revision:
// they are told, see the new catalogue, and lose nothing by a broken edit.
func TestEditWhileConnected(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	one, two := static("demo", demo, "/demo/mcp"), static("notes", demo, "/notes/mcp")
	g := serve(t, func(port int) string { return manifest(port, one) })
	var clients []*client
	for _, revision := range revisions {
		c := connect(t, g.url(), clientOptions{revision: revision})
		if names := c.toolNames(t); slices.Contains(names, "notes_list") || !slices.Contains(names, "demo_add") {
			t.Fatalf("%s lists %v", revision, names)
		}
		clients = append(clients, c)
	}
	// A client of go-sdk opens its stream in the background; what it gets before,
	// it gets when it lists.
	expect := func(what, file, has, hasNot string, told bool) {
		t.Helper()
		g.Rewrite(t, file)
		edited := time.Now()
		for i, c := range clients {
			testgateway.Eventually(t, what+" at "+revisions[i], func() error {
				names := c.toolNames(t)
				if !slices.Contains(names, has) || slices.Contains(names, hasNot) {
					return fmt.Errorf("%v", names)
				}
				return nil
			})
			if !told {
				continue
			}
			select {
			case <-c.changes:
			case <-time.After(testgateway.Patience):
				t.Errorf("%s: the client at %s is not told", what, revisions[i])
			}
		}
		t.Logf("%s: seen by all clients after %v", what, time.Since(edited))
	}
	expect("a target is added", manifest(g.Port, one, two), "notes_list", "none", true)
	expect("a rule denies a tool", manifest(g.Port, one, two)+rbac("Deny", "mcp.tool.name == 'add'"), "notes_list", "demo_add", true)

	broken := strings.Replace(manifest(g.Port, one), "targets:", "tragets:", 1)
	g.Rewrite(t, broken)
	g.Writes(t, &g.Stderr, `the new configuration is refused`)
	g.Writes(t, &g.Stderr, `"position":"[^"]*gateway.yaml:\d+:\d+"`)
	for i, c := range clients {
		if names := c.toolNames(t); !slices.Contains(names, "notes_list") || slices.Contains(names, "demo_add") {
			t.Errorf("after a broken edit the client at %s lists %v", revisions[i], names)
		}
		if got := c.call(t, "demo_echo", map[string]any{"message": "still here"}); got != "still here" {
			t.Errorf("after a broken edit: %q", got)
		}
	}
	expect("the edit is mended", manifest(g.Port, one), "demo_add", "notes_list", true)
}
