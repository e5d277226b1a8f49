package e2e

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/mcpgw/mcpgw/internal/demo"
	"github.com/mcpgw/mcpgw/internal/testgateway"
	"log/slog"
	"net/http/httptest"
	"net/url"
)

// startEverything runs npm's server-everything over HTTP and returns its port. mode
// is streamableHttp (at /mcp) or sse (at /sse).
func startEverything(t testing.TB, mode string) (port int, p *testgateway.Process) {
	t.Helper()
	port = testgateway.FreePort(t)
	return port, startEverythingOn(t, mode, port)
}

func startEverythingOn(t testing.TB, mode string, port int) *testgateway.Process {
	t.Helper()
	p := testgateway.Run(t, []string{"PORT=" + strconv.Itoa(port)}, node(t),
		npmScript(t, "@modelcontextprotocol", "server-everything", "dist", "index.js"), mode)
	p.Listens(t, fmt.Sprintf("127.0.0.1:%d", port))
	return p
}

// startFixture runs go-sdk's conformance fixture, which speaks the modern era when
// stateless and the legacy eras otherwise, at /.
func startFixture(t testing.TB, stateless bool) (port int) {
	t.Helper()
	port = testgateway.FreePort(t)
	p := testgateway.Run(t, nil, everythingServer, fmt.Sprintf("-http=127.0.0.1:%d", port), fmt.Sprintf("-stateless=%v", stateless))
	p.Listens(t, fmt.Sprintf("127.0.0.1:%d", port))
	return port
}

// serveDemo serves the demo's MCP servers from the test process: modern at
// /demo/mcp, legacy at /notes/mcp.
func serveDemo(t testing.TB) (port int) {
	t.Helper()
	s := httptest.NewServer(demo.Handler(slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err = strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// stdioTarget returns the YAML of a stdio block that runs an npm server.
func stdioTarget(t testing.TB, server string, args ...string) string {
	t.Helper()
	yaml := fmt.Sprintf("{command: %q, args: [%q", node(t), npmScript(t, "@modelcontextprotocol", server, "dist", "index.js"))
	for _, arg := range args {
		yaml += fmt.Sprintf(", %q", arg)
	}
	return yaml + "]}"
}
