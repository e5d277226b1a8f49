// Package edge has the edge of the built gateway attacked, on raw sockets, by h2spec and by floods, beside Debian's nginx
// where that can be asked the same.
package edge

import (
	"fmt"
	"os"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// binary is the gateway under test.
var binary string

func TestMain(m *testing.M) { os.Exit(testgateway.MainPlain(m, &binary)) }

// policy is an HTTPListenerPolicy on the Gateway.
func policy(spec string) string {
	return "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: HTTPListenerPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]\n  " + spec + "\n---\n"
}

// serve runs the gateway in front of an upstream, the Backend a, until the test ends.
func serve(t testing.TB, upstream, more string, args ...string) *testgateway.Gateway {
	t.Helper()
	resources := testgateway.Backend("a", "", upstream) + testgateway.Route("r", "/", "a", "") + more
	return testgateway.Serve(t, binary, resources, testgateway.Options{Args: append([]string{"--log-format", "json"}, args...)})
}

// nginx runs nginx in front of an upstream, on the path of which it adds nothing.
func nginx(t testing.TB, upstream string) (address string) {
	t.Helper()
	address = testgateway.FreeAddress(t)
	testgateway.Nginx(t, t.TempDir(), fmt.Sprintf(`  server {
    listen %s;
    client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s;
    location / { proxy_pass http://%s; proxy_set_header Connection ""; }
  }
`, address, upstream), address)
	return address
}
