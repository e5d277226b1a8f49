package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// startNginx runs nginx until the test ends, with a server at each address that has this in its location /.
func startNginx(t testing.TB, locations map[string]string) {
	t.Helper()
	var servers strings.Builder
	for address, location := range locations {
		fmt.Fprintf(&servers, "  server { listen %s; location / { %s } }\n", address, location)
	}
	testgateway.Nginx(t, t.TempDir(), servers.String(), slices.Collect(maps.Keys(locations))...)
}
