package testgateway

import (
	"fmt"
	"net"
	"strings"
)

// OneListener is a Gateway named default with an HTTP listener. All that this file writes ends a document.
func OneListener(port int) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: default}\nspec:\n  gatewayClassName: mcpgw\n  listeners: [{name: http, port: %d, protocol: HTTP}]\n---\n", port)
}

// Backend is a Backend of type Static, with more in its spec.
func Backend(name, more string, addresses ...string) string {
	var hosts []string
	for _, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		hosts = append(hosts, fmt.Sprintf("{host: %s, port: %s}", host, port))
	}
	return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec: {type: Static, static: {hosts: [%s]}%s}\n---\n", name, strings.Join(hosts, ", "), more)
}

// Service is a Service, with more in its port, and an EndpointSlice for each address.
func Service(name string, port int, more string, addresses ...string) string {
	out := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{name: main, port: %d%s}]}\n---\n", name, port, more)
	for i, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		out += fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %[1]s-%[2]d, labels: {kubernetes.io/service-name: %[1]s}}\naddressType: IPv4\nports: [{name: main, port: %[4]s}]\nendpoints: [{addresses: [%[3]s], conditions: {ready: true}}]\n---\n", name, i+1, host, port)
	}
	return out
}

// Route is an HTTPRoute of the Gateway from a path to a Backend, with more in its rule.
func Route(name, path, backend, more string) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {value: %s}}], backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]%s}]\n---\n", name, path, backend, more)
}

// TrafficPolicy is a TrafficPolicy on an HTTPRoute.
func TrafficPolicy(name, route, spec string) string {
	return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: %s}]\n  %s\n---\n", name, route, spec)
}
