package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// service returns the YAML of a Service with one port and one endpoint on loopback.
func service(name, portName, path string, port int) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %s, labels: {app: mcp}, annotations: {kgateway.dev/mcp-path: %s}}
spec:
  ports: [{name: %s, port: 80, targetPort: %d, appProtocol: kgateway.dev/mcp}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s-1, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{name: %s, port: %d}]
`, name, path, portName, port, name, name, portName, port)
}

// TestServices finds targets by the labels of Services, which come and go, and by
// name.
func TestServices(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	selector := "{name: found, selector: {service: {matchLabels: {app: mcp}}}}"
	one, two := service("svc1", "a", "/demo/mcp", demo), service("svc2", "b", "/notes/mcp", demo)
	rules := rbac("Allow", "mcp.tool.name in ['echo', 'list']")
	g := serve(t, func(port int) string { return manifest(port, selector) + rules + one + two })
	c := connect(t, g.url(), clientOptions{})
	lists := func(what string, want ...string) {
		t.Helper()
		testgateway.Eventually(t, what, func() error {
			got := slices.Sorted(slices.Values(c.toolNames(t)))
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				return fmt.Errorf("%s", diff)
			}
			return nil
		})
	}
	lists("both Services are targets", "svc1-a_echo", "svc2-b_list")
	if got := c.call(t, "svc1-a_echo", map[string]any{"message": "found"}); got != "found" {
		t.Errorf("svc1-a_echo answers %q", got)
	}
	if got := c.call(t, "svc2-b_list", nil); got != `{"notes":[]}` {
		t.Errorf("svc2-b_list answers %q", got)
	}
	unknownTool(t, c, "svc1-a_add")

	g.Rewrite(t, manifest(g.Port, selector)+rules+one)
	lists("a Service is gone, and names stay", "svc1-a_echo")

	g.Rewrite(t, manifest(g.Port, selector)+"    prefixMode: Conditional\n"+rules+one)
	lists("one target needs no prefix", "echo")

	// The Service that a target names has no endpoints, and then it has.
	named := manifest(g.Port, "{name: named, service: {name: svc2, port: 80}}") + rules
	g.Rewrite(t, named+strings.Split(two, "---\napiVersion: discovery")[0])
	g.Writes(t, &g.Stderr, `"class":"unresolved".*Service \\"svc2\\"`)
	g.Rewrite(t, named+two)
	testgateway.Eventually(t, "the Service has an endpoint", func() error {
		stdout, stderr, code := output(t, nil, binary, "tools", "ls", "--url", g.url())
		if code != 0 || !strings.Contains(stdout, "named_list") {
			return fmt.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
		return nil
	})
}
