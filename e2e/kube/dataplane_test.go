package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// selfManaged applies a Gateway gw, which is reached at an address and has more listeners than http, whose data planes the test runs; it returns the files that they need.
func selfManaged(t testing.TB, namespace string, port int, listeners string) (ca, token string) {
	t.Helper()
	kubectl(t, "create", "serviceaccount", "gw", "-n", namespace)
	gateway := strings.Replace(gatewayYAML(namespace, port), "}]\n", "}"+listeners+"]\n", 1)
	gateway = strings.Replace(gateway, "spec:\n", "spec:\n  addresses: [{value: 203.0.113.8}]\n  infrastructure: {parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: mine}}\n", 1)
	apply(t, namespace, selfManagedYAML+gateway)
	return authority(t, namespace), tokenFile(t, namespace, "gw", "mcpgw-controller")
}

// planeOf runs a data plane of a controller until the test ends.
func planeOf(t testing.TB, address, ca, token string) *gateway {
	t.Helper()
	return launch(t, nil, "serve", "--controller", address, "--controller-ca-file", ca, "--controller-token-file", token, "--admin-addr", "off")
}

// message is the jsonpath of what a condition of a Gateway says.
func message(kind string) string { return `{.status.conditions[?(@.type=="` + kind + `")].message}` }

// contains waits until what a path of an object holds has a part.
func contains(t testing.TB, namespace, object, jsonpath, part string) {
	t.Helper()
	testgateway.Eventually(t, object+" says "+part, func() error {
		if out := path(t, namespace, object, jsonpath); !strings.Contains(out, part) {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
}

// TestReported: the status of a Gateway is what its data planes report. Before one has taken it, it waits; a port that none can open is told at its
// listener, and heals; what one refuses is told, and keeps nobody else from serving. While only other things change, nothing of it is written.
func TestReported(t *testing.T) {
	namespace := namespaceOf(t)
	name, port, busy := class(t, namespace), testgateway.FreePort(t), testgateway.FreePort(t)
	controller, address := startController(t, name, namespace, testgateway.FreePort(t))
	controller.isReady(t)
	other, err := net.Listen("tcp", fmt.Sprintf(":%d", busy))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	host, at := serveText(t, "one")
	second, secondAt := serveText(t, "two")
	ca, token := selfManaged(t, namespace, port, fmt.Sprintf(", {name: busy, protocol: HTTP, port: %d}", busy))
	apply(t, namespace, staticYAML("b", host, at)+routeYAML("r", "/", "b"))
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/Pending Ready=False/Pending ")
	// One that refuses what it is sent, first alone, then beside one that takes it.
	refuse(t, address, ca, token)
	const refused = "data plane picky refuses what it is sent, and goes on with what it has: not to my taste"
	has(t, namespace, "gateway/gw", conditions(".status")+message("Programmed"), "Accepted=True/Accepted Programmed=False/Invalid Ready=False/Pending "+refused)
	planeOf(t, address, ca, token).isReady(t)
	has(t, namespace, "gateway/gw", message("Programmed"), "Data planes have the configuration. Note: "+refused)
	has(t, namespace, "gateway/gw", conditions(".status.listeners[1]"), "Accepted=False/PortUnavailable Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs Conflicted=False/NoConflicts ")
	contains(t, namespace, "gateway/gw", "{.status.listeners[1].conditions[0].message}", fmt.Sprintf("port %d can't be listened on", busy))
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/ListenersNotValid Programmed=True/Programmed Ready=False/ListenersNotReady ")
	_ = other.Close()
	has(t, namespace, "gateway/gw", conditions(".status.listeners[1]"), "Accepted=True/Accepted Programmed=True/Programmed ResolvedRefs=True/ResolvedRefs Conflicted=False/NoConflicts ")
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=True/Programmed Ready=True/Ready ")

	// Only other things change.
	before := path(t, namespace, "gateway/gw", "{.metadata.resourceVersion}")
	apply(t, namespace, staticYAML("b", second, secondAt))
	testgateway.Eventually(t, "the change is live", func() error {
		if code, body := answer(t, fmt.Sprintf("http://127.0.0.1:%d/", port), ""); code != 200 || body != "two" {
			return fmt.Errorf("the answer is %d %s", code, body)
		}
		return nil
	})
	has(t, namespace, "backend/b", "{.status.conditions[0].observedGeneration}", "2")
	if after := path(t, namespace, "gateway/gw", "{.metadata.resourceVersion}"); after != before {
		t.Errorf("the status of the Gateway was written again:\n%s", path(t, namespace, "gateway/gw", "{.status}"))
	}
}

// refuse runs a data plane that refuses whatever it is sent, until the test ends.
func refuse(t testing.TB, address, ca, token string) {
	t.Helper()
	authority, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+string(secret))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const typeURL = "type.mcpgw.dev/object+json"
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, Node: &corev3.Node{Id: "picky"}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				return // it is closed
			}
			_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: r.GetNonce(), ErrorDetail: &rpcstatus.Status{Code: 3, Message: "not to my taste"}}) // or Recv fails
		}
	}()
}

// TestElsewhere: a data plane that is connected to a replica of the controller that does not write status counts as well, and when that replica is the one that
// is left, nothing turns.
func TestElsewhere(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	first, _ := startController(t, name, namespace, testgateway.FreePort(t))
	first.isReady(t)
	testgateway.Eventually(t, "the first replica leads", leads(first))
	second, address := startController(t, name, namespace, testgateway.FreePort(t))
	second.isReady(t)
	ca, token := selfManaged(t, namespace, port, "")
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/Pending Ready=False/Pending ")
	planeOf(t, address, ca, token).isReady(t)
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=True/Programmed Ready=True/Ready ")
	told := func() string {
		return kubectl(t, "get", "configmap", "-n", namespace, "-l", "mcpgw.dev/data-planes-of", "-o", "name")
	}
	if told() == "" {
		t.Error("the second replica has told nothing")
	}
	before := path(t, namespace, "gateway/gw", "{.metadata.resourceVersion}")
	first.Kill()
	testgateway.Eventually(t, "the second replica leads", leads(second))
	testgateway.Eventually(t, "it tells itself nothing", func() error {
		if out := told(); out != "" {
			return fmt.Errorf("there are %s", out)
		}
		return nil
	})
	apply(t, namespace, routeYAML("r", "/", "none"))
	has(t, namespace, "httproute/r", "{.status.parents[0].conditions[0].status}", "True")
	has(t, namespace, "gateway/gw", "{.status.listeners[0].attachedRoutes}", "1")
	var times []string
	for line := range strings.SplitSeq(kubectl(t, "get", "events", "-n", namespace, "--field-selector", "involvedObject.name=gw", "-o", `jsonpath={range .items[*]}{.action}={.reason}{"\n"}{end}`), "\n") {
		if strings.HasPrefix(line, "Programmed") || strings.HasPrefix(line, "Ready") {
			times = append(times, line)
		}
	}
	slices.Sort(times)
	if want := []string{"Programmed=Pending", "Programmed=Programmed", "Ready=Pending", "Ready=Ready"}; !slices.Equal(times, want) {
		t.Errorf("from version %s on, the Gateway turned: %v", before, times)
	}
}
