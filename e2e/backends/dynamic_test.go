package backends

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A dynamic forward proxy reaches the host that a request names, and nothing of this machine, its links or a cloud's
// metadata, whatever names resolve to.
func TestDynamicForwardProxy(t *testing.T) {
	var seen atomic.Int64
	here := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		_, _ = fmt.Fprint(w, r.Host)
	})
	serveAt(t, "10.245.7.7:9000", here)
	serveAt(t, "127.0.0.1:9000", here)
	serveAt(t, network+":9000", here)
	names.Set("mock.test", "10.245.7.7")
	names.Set("local.test", "127.0.0.1")
	names.Set("metadata.test", "169.254.169.254")
	names.Set("own.test", network)
	names.Set("allowed.test", "127.0.0.1")
	g := start(t, nil, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: any}\nspec: {type: DynamicForwardProxy, dynamicForwardProxy: {allowedDestinations: [allowed.test]}}\n---\n"+testgateway.Route("any", "/", "any", ""))
	for host, status := range map[string]int{
		"mock.test:9000": 200, "10.245.7.7:9000": 200, "allowed.test:9000": 200,
		"local.test:9000": 403, "metadata.test:9000": 403, "own.test:9000": 403, "127.0.0.1:9000": 403, network + ":9000": 403, g.Address: 403,
		"nowhere.test:9000": 503, "mock.test": 503,
	} {
		before := seen.Load()
		got := g.Ask(t, "GET", "/", nil, "Host", host)
		if got.Status != status || (status == 200) != (seen.Load() == before+1) || status == 200 && got.Body != host {
			t.Errorf("%s: %d %q, %d requests", host, got.Status, got.Body, seen.Load()-before)
		}
	}
	testgateway.Until(t, "the log says what is refused", func() bool {
		return strings.Contains(g.Stderr.String(), "the destination is not permitted: dial tcp 127.0.0.1:9000")
	})
}
