package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestServe applies an MCP Backend, and it serves: tools of a Service are listed and called, status
// says so.
func TestServe(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveDemo(t)
	start(t, controller, "--publish-address", "203.0.113.7", "--lease-namespace", namespace).isReady(t)
	apply(t, namespace, gatewayYAML(namespace, port)+serviceYAML("tools", host, at)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	url := fmt.Sprintf("http://127.0.0.1:%d/mcp", port)
	var names []string
	testgateway.Eventually(t, "tools are listed", func() (err error) {
		if names, err = toolsAt(t, url); err == nil && len(names) == 0 {
			err = fmt.Errorf("there are none")
		}
		return err
	})
	session, err := connect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_add", Arguments: map[string]any{"a": 2, "b": 3}})
	if err != nil || result.IsError {
		t.Errorf("calling demo_add of %v: %+v, %v", names, result, err)
	}

	has(t, namespace, "gatewayclass/"+namespace, conditions(".status"), "Accepted=True/Accepted ")
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=True/Programmed Ready=True/Ready ")
	has(t, namespace, "gateway/gw", "{.status.addresses[0].type} {.status.addresses[0].value}", "IPAddress 203.0.113.7")
	has(t, namespace, "gateway/gw", "{.status.listeners[0].attachedRoutes} {.status.listeners[0].supportedKinds[*].kind}", "1 HTTPRoute GRPCRoute")
	has(t, namespace, "gateway/gw", conditions(".status.listeners[0]"), "Accepted=True/Accepted Programmed=True/Programmed ResolvedRefs=True/ResolvedRefs Conflicted=False/NoConflicts ")
	has(t, namespace, "httproute/tools", "{.status.parents[0].controllerName} {.status.parents[0].parentRef.name} "+conditions(".status.parents[0]"),
		controller+" gw Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs ")
	has(t, namespace, "backend/tools", conditions(".status"), "Accepted=True/Accepted ")
	if out := kubectl(t, "get", "be", "-n", namespace); !strings.Contains(strings.Join(strings.Fields(out), " "), "NAME TYPE HOST ACCEPTED AGE tools MCP True") {
		t.Errorf("kubectl get be:\n%s", out)
	}
}
