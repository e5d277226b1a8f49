package kube

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestGRPCRoute shows that a GRPCRoute leads to the endpoints of a Service, that it has a status, and that it counts at
// the listener; policies can't refer to it.
func TestGRPCRoute(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host := newHost()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }() // until it is stopped
	t.Cleanup(server.Stop)
	start(t, controller, "--lease-namespace", namespace).isReady(t)
	apply(t, namespace, gatewayYAML(namespace, port)+fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: calls}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: calls-1, labels: {kubernetes.io/service-name: calls}}
addressType: IPv4
endpoints: [{addresses: [%s], conditions: {ready: true}}]
ports: [{name: "", port: %d}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{method: {service: grpc.health.v1.Health, method: Check}}]
    backendRefs: [{name: calls, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: lost}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{method: {service: lost.Lost}}]
    backendRefs: [{name: none, port: 80}]
`, host, l.Addr().(*net.TCPAddr).Port))
	conn, err := grpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	testgateway.Eventually(t, "the service answers", func() error {
		r, err := healthpb.NewHealthClient(conn).Check(t.Context(), new(healthpb.HealthCheckRequest))
		if err == nil && r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			err = fmt.Errorf("it is %s", r.GetStatus())
		}
		return err
	})
	has(t, namespace, "grpcroute/calls", "{.status.parents[0].controllerName} {.status.parents[0].parentRef.name} "+conditions(".status.parents[0]"),
		controller+" gw Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs ")
	has(t, namespace, "grpcroute/lost", conditions(".status.parents[0]"), "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound ")
	has(t, namespace, "gateway/gw", "{.status.listeners[0].attachedRoutes} {.status.listeners[0].supportedKinds[*].kind}", "2 HTTPRoute GRPCRoute")
	const policy = "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p}\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: GRPCRoute, name: calls}], rbac: {policy: {matchExpressions: [\"true\"]}}}\n"
	if out, err := try(t, policy, "apply", "-n", namespace, "-f", "-"); err == nil || !strings.Contains(fmt.Sprint(out, err), "a TrafficPolicy covers objects of kind") {
		t.Errorf("a policy on a GRPCRoute: %s, %v", out, err)
	}
}
