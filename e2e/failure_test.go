package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestTargetHangs has one target that accepts connections and never says a word:
// the others answer without it.
func TestTargetHangs(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port,
			fmt.Sprintf("{name: silent, timeout: 500ms, static: {host: 127.0.0.1, port: %d}}", silent.Addr().(*net.TCPAddr).Port),
			fmt.Sprintf("{name: closed, timeout: 500ms, static: {host: 127.0.0.1, port: %d}}", testgateway.FreePort(t)),
			static("demo", demo, "/demo/mcp"))
	})
	for _, revision := range revisions {
		c := connect(t, g.url(), clientOptions{revision: revision})
		if names := c.toolNames(t); !slices.Contains(names, "demo_echo") {
			t.Errorf("%s lists %v", revision, names)
		}
		if got := c.call(t, "demo_echo", map[string]any{"message": "hi"}); got != "hi" {
			t.Errorf("%s: demo_echo answers %q", revision, got)
		}
	}
}

// TestTargetDies kills a real server under connected clients and starts it anew:
// calls fail while it is gone, other targets answer, and sessions find it again.
func TestTargetDies(t *testing.T) {
	t.Parallel()
	everything, server := startEverything(t, "streamableHttp")
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("everything", everything, "/mcp"), static("demo", demo, "/demo/mcp"))
	})
	var clients []*client
	for _, revision := range revisions {
		c := connect(t, g.url(), clientOptions{revision: revision})
		if got := c.call(t, "everything_echo", map[string]any{"message": "before"}); !strings.Contains(got, "before") {
			t.Errorf("%s: %q", revision, got)
		}
		clients = append(clients, c)
	}
	server.Kill()
	for i, c := range clients {
		result, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "everything_echo", Arguments: map[string]any{"message": "lost"}})
		if err == nil && !result.IsError {
			t.Errorf("%s: a call to a dead server answers %q", revisions[i], resultText(result))
		}
		if got := c.call(t, "demo_echo", map[string]any{"message": "alive"}); got != "alive" {
			t.Errorf("%s: the other target answers %q", revisions[i], got)
		}
	}
	startEverythingOn(t, "streamableHttp", everything)
	for i, c := range clients {
		testgateway.Eventually(t, "the session of "+revisions[i]+" finds the server again", func() error {
			result, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "everything_echo", Arguments: map[string]any{"message": "after"}})
			if err != nil {
				return err
			}
			if got := resultText(result); !strings.Contains(got, "after") {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
	}
}
