package kube

import (
	"encoding/json"
	"fmt"
	"io"
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

// A headed adds a header to each request.
type headed struct {
	http.RoundTripper
	name, value string
}

// RoundTrip implements [http.RoundTripper].
func (h headed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(h.name, h.value)
	return h.RoundTripper.RoundTrip(r)
}

// pods is a Gateway with three Pods, each in a network of its own and just as they are provisioned: /mcp is limited by nobody, /counted by
// Envoy's rate limit service to 25 requests of a user, /budgeted to 12 calls of a team, in Redis.
type pods struct {
	both    *balancer
	port    int
	running []*gateway
}

const podsYAML = `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: three}
spec: {kube: {service: {type: ClusterIP}, deployment: {replicas: 3}, podTemplate: {terminationGracePeriodSeconds: 40, gracefulShutdown: {sleepTimeSeconds: 5}}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayExtension
metadata: {name: limits}
spec: {type: RateLimit, rateLimit: {domain: api, timeout: 50s, failOpen: false, grpcService: {backendRef: {group: gateway.kgateway.dev, kind: Backend, name: counter}}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: counted}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: counted}]
  rateLimit: {global: {extensionRef: {name: limits}, descriptors: [{entries: [{type: Header, header: x-user}]}]}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: budgeted}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: budgeted}]
  budgets:
    limits: [{name: calls, requests: 12, window: Month, per: [{header: x-team}]}]
    redis: {address: "%s", timeout: 50s, failureMode: FailClosed}
`

func startPods(t *testing.T) *pods {
	t.Helper()
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	at := fmt.Sprintf("%s:%d", network, testgateway.FreePort(t))
	launch(t, nil, "controller", "--kubeconfig", kubeconfig, "--controller-name", name, "--lease-namespace", namespace, "--listen", at, "--address", at, "--proxy-image", "mcpgw.test/mcpgw:e2e").isReady(t)
	redis, counterHost, counterPort := startRateLimit(t, "domain: api\ndescriptors:\n- key: x-user\n  rate_limit: {unit: year, requests_per_unit: 25}\n")
	host, demoPort := serveDemo(t)
	text, textPort := serveText(t, "served")
	apply(t, namespace, fmt.Sprintf(podsYAML, redis)+
		strings.Replace(gatewayYAML(namespace, port), "spec:\n", "spec:\n  infrastructure: {parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: three}}\n", 1)+
		serviceYAML("tools", host, demoPort)+mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools")+routeYAML("budgeted", "/budgeted", "tools")+
		staticYAML("counter", counterHost, counterPort)+staticYAML("text", text, textPort)+routeYAML("counted", "/counted", "text"))
	p := &pods{both: &balancer{}, port: port}
	for n := range 3 {
		p.running = append(p.running, runPod(t, namespace, "gw", podHost(n+1)))
	}
	for _, g := range p.running {
		g.isReady(t)
	}
	readyPods(t, namespace, "gw", 3)
	has(t, namespace, "gateway/gw", `{.status.conditions[?(@.type=="Ready")].message} {.status.conditions[?(@.type=="Programmed")].reason}`, "3 data planes serve Programmed")
	has(t, namespace, "gatewayextension/limits", conditions(".status"), "Accepted=True/Accepted ")
	p.both.set(podHost(1), podHost(2), podHost(3))
	testgateway.Eventually(t, "tools are called", func() error { return callAdd(t, p.open(t, "/mcp", "")) })
	return p
}

// open begins a session at a path, whose requests go to all Pods in turn, as a client of a team.
func (p *pods) open(t testing.TB, path, team string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: fmt.Sprintf("http://service:%d%s", p.port, path),
		HTTPClient: &http.Client{Transport: headed{p.both, "X-Team", team}}, DisableStandaloneSSE: true}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-06-18"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// callAdd calls a tool.
func callAdd(t testing.TB, session *mcp.ClientSession) error {
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_add", Arguments: map[string]any{"a": 2, "b": 3}})
	if err == nil && result.IsError {
		text, _ := json.Marshal(result.Content) // plain data
		err = fmt.Errorf("%s", text)
	}
	return err
}

// TestPods: sessions are those of all Pods, whichever gets a request, what only the home of a session can do is passed on to it, and what all Pods
// admit together is exactly what the limits say, under parallel load. Pods that are replaced one after the other under load lose no call, and the streams that they hold
// end whole, so that their clients open them elsewhere.
func TestPods(t *testing.T) {
	p := startPods(t)
	session := p.open(t, "/mcp", "")
	for range 6 { // at all, in turn; the level is kept at the home
		if err := callAdd(t, session); err != nil {
			t.Error(err)
		}
		if err := session.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "debug"}); err != nil {
			t.Error(err)
		}
	}

	// Exactly as many as the rate limit service and the budget say, of requests at all Pods at once.
	var working sync.WaitGroup
	var served, limited atomic.Int64
	client := &http.Client{Transport: headed{p.both, "X-User", "ann"}}
	for range 60 {
		working.Go(func() {
			response, err := client.Get(fmt.Sprintf("http://service:%d/counted", p.port))
			if err != nil {
				t.Errorf("a request that is counted: %v", err)
				return
			}
			defer response.Body.Close()
			switch response.StatusCode {
			case http.StatusOK:
				served.Add(1)
			case http.StatusTooManyRequests:
				limited.Add(1)
			default:
				text, err := io.ReadAll(response.Body)
				t.Errorf("a request that is counted is answered %s: %s, %v", response.Status, text, err)
			}
		})
	}
	working.Wait()
	if served.Load() != 25 || limited.Load() != 35 {
		t.Errorf("%d of 60 requests were served and %d limited, 25 may be", served.Load(), limited.Load())
	}
	served.Store(0)
	limited.Store(0)
	for range 6 {
		session := p.open(t, "/budgeted", "blue")
		for range 5 {
			working.Go(func() {
				switch err := callAdd(t, session); {
				case err == nil:
					served.Add(1)
				case strings.Contains(err.Error(), http.StatusText(http.StatusTooManyRequests)):
					limited.Add(1)
				default:
					t.Errorf("a call under a budget: %v", err)
				}
			})
		}
	}
	working.Wait()
	if served.Load() != 12 || limited.Load() != 18 {
		t.Errorf("%d of 30 calls were served and %d limited, 12 may be", served.Load(), limited.Load())
	}
	if err := callAdd(t, p.open(t, "/budgeted", "green")); err != nil {
		t.Errorf("a call of another team: %v", err)
	}

	p.replace(t)
}

// replace replaces all Pods while calls are made and streams are held: each is no longer chosen once its successor is there, and drains.
func (p *pods) replace(t *testing.T) {
	var working sync.WaitGroup
	var calls atomic.Int64
	ended := make(chan struct{})
	for range 4 {
		session := p.open(t, "/mcp", "")
		working.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if err := callAdd(t, session); err != nil {
					t.Errorf("a call while Pods are replaced: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	defer working.Wait()
	defer close(ended)
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
	namespace := strings.ToLower(t.Name())
	many(30)
	for n, old := range p.running {
		// A session of this Pod, and one of the next, whose stream is passed on there.
		at := func(host string) *mcp.ClientSession {
			one := &pods{both: &balancer{}, port: p.port}
			one.both.set(host)
			session := one.open(t, "/mcp", "")
			one.both.set(podHost(n+2), podHost(n+3)) // for what comes later
			return session
		}
		own, others := at(podHost(n+1)), at(podHost(n+2))
		streams := []*http.Response{p.hold(t, podHost(n+1), own.ID(), http.StatusOK), p.hold(t, podHost(n+1), others.ID(), http.StatusOK)}
		runPod(t, namespace, "gw", podHost(n+4)).isReady(t)
		old.Signal(t, syscall.SIGTERM)
		many(3) // that still reach it
		var hosts []string
		for i := range 3 {
			hosts = append(hosts, podHost(n+2+i))
		}
		p.both.set(hosts...)
		for i, stream := range streams {
			if _, err := io.Copy(io.Discard, stream.Body); err != nil {
				t.Errorf("stream %d of Pod %d does not end whole: %v", i, n+1, err)
			}
		}
		<-old.Done()
		p.hold(t, podHost(n+3), others.ID(), http.StatusOK)
		p.hold(t, podHost(n+3), own.ID(), http.StatusNotFound) // its client begins a new session
		for _, session := range []*mcp.ClientSession{own, others} {
			if err := callAdd(t, session); err != nil {
				t.Errorf("a call of a session whose stream ended: %v", err)
			}
		}
		many(10)
	}
}

// hold asks a Pod for the stream of a session, which answers as it should.
func (p *pods) hold(t testing.TB, host, session string, status int) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s:%d/mcp", host, p.port), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Mcp-Session-Id", session)
	request.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != status || status == http.StatusOK && !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("the stream of a session at %s is answered %s %v", host, response.Status, response.Header)
	}
	return response
}
