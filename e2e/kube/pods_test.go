package kube

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A balancer sends each request to the next of several hosts that takes it, as a Service does with connections. It is safe for
// concurrent use.
type balancer struct {
	hosts atomic.Pointer[[]string]
	next  atomic.Int64
}

func (b *balancer) set(hosts ...string) { b.hosts.Store(&hosts) }

// RoundTrip implements [http.RoundTripper].
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	hosts := *b.hosts.Load()
	r.URL.Host = hosts[int(b.next.Add(1))%len(hosts)] + r.URL.Host[strings.LastIndexByte(r.URL.Host, ':'):]
	r.Close = true
	return http.DefaultTransport.RoundTrip(r)
}

// TestPods runs two Pods of a Gateway, each in a network of its own and just as they are provisioned: sessions are those of both, whichever
// gets a request, what only the home of a session can do is passed on to it, and a Pod that is replaced under load loses no call.
func TestPods(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	at := fmt.Sprintf("%s:%d", network, testgateway.FreePort(t))
	controller := launch(t, nil, "controller", "--kubeconfig", kubeconfig, "--controller-name", name, "--lease-namespace", namespace, "--listen", at, "--address", at, "--proxy-image", "mcpgw.test/mcpgw:e2e")
	controller.isReady(t)
	host, demoPort := serveDemo(t)
	apply(t, namespace, `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: two}
spec: {kube: {service: {type: ClusterIP}, deployment: {replicas: 2}, podTemplate: {terminationGracePeriodSeconds: 20, gracefulShutdown: {sleepTimeSeconds: 1}}}}
`+strings.Replace(gatewayYAML(namespace, port), "spec:\n", "spec:\n  infrastructure: {parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: two}}\n", 1)+
		serviceYAML("tools", host, demoPort)+mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	first := runPod(t, namespace, "gw", podHost(1)).isReady(t)
	runPod(t, namespace, "gw", podHost(2)).isReady(t)
	readyPods(t, namespace, "gw", 2)
	has(t, namespace, "gateway/gw", `{.status.conditions[?(@.type=="Ready")].message} {.status.conditions[?(@.type=="Programmed")].reason}`, "2 data planes serve Programmed")
	both := &balancer{}
	both.set(podHost(1), podHost(2))
	url := fmt.Sprintf("http://service:%d/mcp", port)
	open := func() *mcp.ClientSession {
		t.Helper()
		client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: both}, DisableStandaloneSSE: true},
			&mcp.ClientSessionOptions{ProtocolVersion: "2025-06-18"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = session.Close() })
		return session
	}
	call := func(session *mcp.ClientSession) error {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_add", Arguments: map[string]any{"a": 2, "b": 3}})
		if err == nil && result.IsError {
			err = fmt.Errorf("%v", result.Content)
		}
		return err
	}
	testgateway.Eventually(t, "tools are called", func() error { return call(open()) })
	session := open()
	for range 6 { // at both, in turn; the level is kept at the home
		if err := call(session); err != nil {
			t.Error(err)
		}
		if err := session.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "debug"}); err != nil {
			t.Error(err)
		}
	}

	// The first is replaced while calls are made: no longer chosen once the third is there, it drains.
	var working sync.WaitGroup
	var calls atomic.Int64
	ended := make(chan struct{})
	for range 4 {
		session := open()
		working.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if err := call(session); err != nil {
					t.Errorf("a call while a Pod is replaced: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	many := func(n int64) {
		t.Helper()
		from := calls.Load()
		testgateway.Eventually(t, "calls are made", func() error {
			if made := calls.Load() - from; made < n && !t.Failed() {
				return fmt.Errorf("%d", made)
			}
			return nil
		})
	}
	many(50)
	runPod(t, namespace, "gw", podHost(3)).isReady(t)
	if err := first.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	many(5) // that still reach it
	both.set(podHost(2), podHost(3))
	<-first.Done()
	many(50)
	close(ended)
	working.Wait()
}
