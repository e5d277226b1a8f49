// Package traffic tests what policies and filters of the built gateway do to requests on their way: retries, mirrors,
// transformations, external processing and times, with Debian's nginx as a server that fails, and with MCP servers and language models.
package traffic

import (
	"os"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// binary is the gateway under test.
var binary string

func TestMain(m *testing.M) { os.Exit(testgateway.Main(m, &binary)) }

// start runs the gateway until the test ends, which it does when it is told to.
func start(t testing.TB, resources string, env ...string) *testgateway.Gateway {
	t.Helper()
	g := testgateway.Serve(t, binary, resources, testgateway.Options{Env: env})
	t.Cleanup(func() { g.Terminate(t) })
	return g
}
