package kube

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/demo"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// hosts counts the addresses that tests have given to servers.
var hosts atomic.Int32

// newHost returns an address that nobody else has, outside 127.0.0.0/8.
func newHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("10.244.%d.%d", 1+n/250, 1+n%250)
}

// A gateway is a running mcpgw.
type gateway struct {
	*testgateway.Gateway

	mounted map[string]string // where the volumes of a Pod are, by mount path
}

// start runs the gateway for the GatewayClasses of a controller until the test ends, as the administrator
// unless args say otherwise.
func start(t testing.TB, controller string, args ...string) *gateway {
	t.Helper()
	return launch(t, nil, append([]string{"serve", "--kube", "--kubeconfig", kubeconfig, "--controller-name", controller, "--admin-addr", "off"}, args...)...)
}

// isReady waits until the gateway serves.
func (g *gateway) isReady(t testing.TB) *gateway {
	t.Helper()
	g.IsReady(t)
	return g
}

// class makes a GatewayClass, named as its namespace, and returns its controller.
func class(t testing.TB, namespace string) (controller string) {
	t.Helper()
	controller = "e2e.mcpgw.test/" + namespace
	apply(t, namespace, fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: %s}
spec: {controllerName: %s}
`, namespace, controller))
	return controller
}

// gatewayYAML is a Gateway named gw with a listener http.
func gatewayYAML(class string, port int) string {
	return fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: %s
  listeners: [{name: http, protocol: HTTP, port: %d}]
`, class, port)
}

// routeYAML is an HTTPRoute from a path of gw to a Backend.
func routeYAML(name, path, backend string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{path: {type: PathPrefix, value: %s}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]
`, name, path, backend)
}

// serviceYAML is a Service, with port 80, and an EndpointSlice that says where it is.
func serviceYAML(name, host string, port int) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {ports: [{name: http, port: 80, appProtocol: kgateway.dev/mcp}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: %[3]d}]
endpoints: [{addresses: [%[2]s], conditions: {ready: true}}]
`, name, host, port)
}

// mcpYAML is a Backend with the targets, each a flow mapping.
func mcpYAML(name string, targets ...string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: %s}
spec:
  type: MCP
  mcp:
    targets:
    - %s
`, name, strings.Join(targets, "\n    - "))
}

// serveDemo serves the demo's MCP servers on an address of the network: /demo/mcp speaks the modern era,
// /notes/mcp the legacy one.
func serveDemo(t testing.TB) (host string, port int) {
	t.Helper()
	host = newHost()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: demo.Handler(slog.New(slog.DiscardHandler))}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	return host, l.Addr().(*net.TCPAddr).Port
}

// connect returns a session of go-sdk's client.
func connect(t testing.TB, url string) (*mcp.ClientSession, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testgateway.Patience)
	t.Cleanup(cancel)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
	return client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url}, nil)
}

// connectLegacy returns a session of a client of the revision 2025-06-18, which has an id.
func connectLegacy(t testing.TB, url string) (*mcp.ClientSession, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testgateway.Patience)
	t.Cleanup(cancel)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
	return client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, DisableStandaloneSSE: true}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-06-18"})
}

// tools returns the names of the tools at url.
func toolsAt(t testing.TB, url string) ([]string, error) {
	session, err := connect(t, url)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return names, nil
}

// answer returns the status and body of a GET, or of a POST when there is a body.
func answer(t testing.TB, url, body string) (int, string) {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// column returns what kubectl prints by a JSONPath.
func path(t testing.TB, namespace, object, jsonpath string) string {
	t.Helper()
	return kubectl(t, "get", "-n", namespace, object, "-o", "jsonpath="+jsonpath)
}

// has waits until a JSONPath prints want.
func has(t testing.TB, namespace, object, jsonpath, want string) {
	t.Helper()
	testgateway.Eventually(t, object+" "+jsonpath+" is "+want, func() error {
		got, err := try(t, "", "get", "-n", namespace, object, "-o", "jsonpath="+jsonpath)
		if err == nil && got != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

// conditions is a JSONPath of conditions in one line: Accepted=True/Accepted.
func conditions(of string) string {
	return "{range " + of + ".conditions[*]}{.type}={.status}/{.reason} {end}"
}
