package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// startController runs `mcpgw controller` for the GatewayClasses of a controllerName until the test ends, as the administrator unless args say
// otherwise, and returns it with the address for data planes.
func startController(t testing.TB, name, namespace string, port int, args ...string) (g *gateway, address string) {
	t.Helper()
	address = fmt.Sprintf("127.0.0.1:%d", port)
	g = launch(t, nil, append([]string{"controller", "--kubeconfig", kubeconfig, "--controller-name", name, "--lease-namespace", namespace,
		"--listen", address, "--address", address, "--proxy-image", "mcpgw.test/mcpgw:e2e"}, args...)...)
	return g, address
}

// launch runs the binary with our own listeners where they are not in the way, until the test ends.
func launch(t testing.TB, env []string, args ...string) *gateway {
	t.Helper()
	ready := testgateway.FreeAddress(t)
	p := testgateway.Run(t, env, binary, append(args, "--log-format", "json", "--metrics-addr", "off", "--ready-addr", ready)...)
	return &gateway{Gateway: &testgateway.Gateway{Process: p, Ready: ready}}
}

// authority writes what vouches for the controller in a namespace to a file.
func authority(t testing.TB, namespace string) string {
	t.Helper()
	var text []byte
	testgateway.Eventually(t, "the controller has an authority", func() error {
		out, err := try(t, "", "get", "secret", "mcpgw-controller-ca", "-n", namespace, "-o", `jsonpath={.data.ca\.crt}`)
		if err == nil {
			text, err = base64.StdEncoding.DecodeString(out)
		}
		return err
	})
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tokenFile writes a token of a ServiceAccount, for an audience, to a file.
func tokenFile(t testing.TB, namespace, account, audience string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(kubectl(t, "create", "token", account, "-n", namespace, "--audience", audience)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// lists waits until tools are listed at a URL.
func lists(t testing.TB, url string) {
	t.Helper()
	testgateway.Eventually(t, "tools are listed at "+url, func() error {
		names, err := toolsAt(t, url)
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("there are none")
		}
		return err
	})
}

const selfManagedYAML = `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: mine}
spec: {selfManaged: {}}
`

// TestFollow: data planes that nobody provisioned get from a controller what their Gateway needs, by a token of the ServiceAccount with its name; a
// token of another, or for somebody else, gets nothing. They go on without the controller, and start from what they kept.
func TestFollow(t *testing.T) {
	namespace := namespaceOf(t)
	name, port, at := class(t, namespace), testgateway.FreePort(t), testgateway.FreePort(t)
	controller, address := startController(t, name, namespace, at)
	controller.isReady(t)
	host, demoPort := serveDemo(t)
	kubectl(t, "create", "serviceaccount", "stranger", "-n", namespace)
	kubectl(t, "create", "serviceaccount", "gw", "-n", namespace)
	apply(t, namespace, selfManagedYAML+gatewayYAML(namespace, port)+serviceYAML("tools", host, demoPort)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	kubectl(t, "patch", "gateway", "gw", "-n", namespace, "--type=merge", "-p", `{"spec":{"addresses":[{"value":"203.0.113.8"}],"infrastructure":{"parametersRef":{"group":"gateway.kgateway.dev","kind":"GatewayParameters","name":"mine"}}}}`)
	has(t, namespace, "gateway/gw", "{.status.addresses[*].value} "+conditions(".status"), "203.0.113.8 Accepted=True/Accepted Programmed=False/Pending Ready=False/Pending ")
	if out := path(t, namespace, "gateway/gw", `{.status.conditions[?(@.type=="Programmed")].message}`); !strings.Contains(out, "mcpgw serve --controller "+address) || !strings.Contains(out, "ServiceAccount gw") {
		t.Errorf("the status says not what to do: %s", out)
	}
	ca, cache := authority(t, namespace), filepath.Join(t.TempDir(), "cache")
	follow := func(token string, args ...string) *gateway {
		return launch(t, nil, append([]string{"serve", "--controller", address, "--controller-ca-file", ca, "--controller-token-file", token, "--admin-addr", "off"}, args...)...)
	}
	for what, token := range map[string]string{
		"no Gateway is served by ServiceAccount": tokenFile(t, namespace, "stranger", "mcpgw-controller"),
		"Unauthenticated":                        tokenFile(t, namespace, "gw", "somebody-else"),
	} {
		g := follow(token)
		testgateway.Eventually(t, "a data plane is told "+what, func() error {
			if !strings.Contains(g.Stderr.String(), what) {
				return fmt.Errorf("%s", g.Stderr.String())
			}
			return nil
		})
		g.Kill()
	}
	token := tokenFile(t, namespace, "gw", "mcpgw-controller")
	plane := follow(token, "--controller-cache", cache).isReady(t)
	url := fmt.Sprintf("http://127.0.0.1:%d/mcp", port)
	lists(t, url)
	session, err := connect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	call := func(when string) {
		t.Helper()
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_add", Arguments: map[string]any{"a": 2, "b": 3}})
		if err != nil || result.IsError {
			t.Errorf("a call %s: %+v, %v", when, result, err)
		}
	}
	call("at first")
	has(t, namespace, "gateway/gw", conditions(".status")+` {.status.conditions[?(@.type=="Ready")].message}`, "Accepted=True/Accepted Programmed=True/Programmed Ready=True/Ready  A data plane serves")

	// A mistake elsewhere is not this one's.
	apply(t, namespace, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: wrong}\nspec:\n  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: elsewhere}]\n  rbac: {policy: {matchExpressions: ['1 +']}}\n")
	call("beside a mistake")

	// Without the controller, and with it back.
	controller.Kill()
	call("without the controller")
	plane.Kill()
	follow(token, "--controller-cache", cache).isReady(t)
	call("after a start from what was kept")
	controller, _ = startController(t, name, namespace, at)
	controller.isReady(t)
	apply(t, namespace, routeYAML("more", "/more", "tools"))
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/more", port))
	call("with the controller back")
}

// TestProvision: a Gateway gets what runs its data planes, and they serve. What others change in that is put right; what is not
// its own is left alone; when it goes, so does all of it.
func TestProvision(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	controller, _ := startController(t, name, namespace, testgateway.FreePort(t))
	controller.isReady(t)
	host, demoPort := serveDemo(t)
	apply(t, namespace, gatewayYAML(namespace, port)+serviceYAML("tools", host, demoPort)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/AddressNotAssigned Ready=False/Pending ")
	kubectl(t, "patch", "service", "gw", "-n", namespace, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"}]}}}`)
	has(t, namespace, "gateway/gw", "{.status.addresses[0].value} "+conditions(".status"), "203.0.113.9 Accepted=True/Accepted Programmed=False/Pending Ready=False/Pending ")
	runPod(t, namespace, "gw", "127.0.0.1").isReady(t)
	readyPods(t, namespace, "gw", 1)
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=True/Programmed Ready=True/Ready ")
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/mcp", port))
	has(t, namespace, "service/gw", "{.spec.type} {.spec.ports[0].name} {.spec.ports[0].port} {.spec.ports[0].targetPort} {.spec.selector}",
		fmt.Sprintf(`LoadBalancer http %d %d {"app.kubernetes.io/instance":"gw","app.kubernetes.io/name":"gw","gateway.networking.k8s.io/gateway-name":"gw"}`, port, port))
	has(t, namespace, "deployment/gw", "{.spec.template.spec.containers[0].image} {.spec.template.spec.serviceAccountName} {.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name}",
		"mcpgw.test/mcpgw:e2e gw Gateway/gw")

	// Nothing is written while nothing changes.
	versions := func() string {
		return kubectl(t, "get", "deployment,service,serviceaccount,configmap", "-n", namespace, "-l", "app.kubernetes.io/managed-by=mcpgw", "-o", "jsonpath={range .items[*]}{.kind} {.metadata.resourceVersion} {end}")
	}
	before := versions()
	apply(t, namespace, routeYAML("more", "/more", "tools"))
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/more", port))
	if after := versions(); after != before {
		t.Errorf("what was %s is now %s", before, after)
	}

	// Parameters of the Gateway lie over those of its class.
	apply(t, namespace, `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: all}
spec:
  kube:
    deployment: {replicas: 2, container: {resources: {requests: {cpu: 10m}, limits: {memory: 64Mi}}}}
    service: {type: ClusterIP}
    podTemplate: {spec: {nodeSelector: {a: b}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: mine}
spec:
  kube:
    agentgateway: {resources: {limits: {memory: 96Mi}}, image: {tag: v2}}
    podDisruptionBudget: {spec: {minAvailable: 1}}
    horizontalPodAutoscaler: {spec: {maxReplicas: 5}}
`)
	ref := `{"group":"gateway.kgateway.dev","kind":"GatewayParameters","name":"%s"%s}`
	kubectl(t, "patch", "gatewayclass", namespace, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"parametersRef":`+ref+`}}`, "all", `,"namespace":"`+namespace+`"`))
	has(t, namespace, "deployment/gw", "{.spec.replicas} {.spec.template.spec.containers[0].resources} {.spec.template.spec.nodeSelector}", `2 {"limits":{"memory":"64Mi"},"requests":{"cpu":"10m"}} {"a":"b"}`)
	kubectl(t, "patch", "gateway", "gw", "-n", namespace, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"infrastructure":{"labels":{"team":"x"},"parametersRef":`+ref+`}}}`, "mine", ""))
	has(t, namespace, "deployment/gw", "{.spec.template.spec.containers[0].resources} {.spec.template.spec.containers[0].image} {.metadata.labels.team}",
		`{"limits":{"memory":"96Mi"},"requests":{"cpu":"10m"}} mcpgw.test/mcpgw:v2 x`)
	has(t, namespace, "service/gw", "{.spec.type}", "ClusterIP")
	address := path(t, namespace, "service/gw", "{.spec.clusterIP}")
	has(t, namespace, "gateway/gw", "{.status.addresses[0].value}", address)
	has(t, namespace, "poddisruptionbudget/gw", "{.spec.minAvailable}", "1")
	has(t, namespace, "horizontalpodautoscaler/gw", "{.spec.maxReplicas} {.spec.scaleTargetRef.name}", "5 gw")

	// What somebody else changes is put right, and what is left to others stays.
	kubectl(t, "scale", "deployment", "gw", "-n", namespace, "--replicas=4")
	kubectl(t, "patch", "deployment", "gw", "-n", namespace, "--type=json", "-p", `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"evil.test/x"}]`)
	kubectl(t, "delete", "serviceaccount", "gw", "-n", namespace)
	has(t, namespace, "deployment/gw", "{.spec.template.spec.containers[0].image} {.spec.replicas}", "mcpgw.test/mcpgw:v2 4")
	has(t, namespace, "serviceaccount/gw", "{.metadata.name}", "gw")

	// Parameters that are not there change nothing of what runs.
	kubectl(t, "patch", "gateway", "gw", "-n", namespace, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"infrastructure":{"parametersRef":`+ref+`}}}`, "absent", ""))
	has(t, namespace, "gateway/gw", "{.status.conditions[0].reason}", "InvalidParameters")
	has(t, namespace, "deployment/gw", "{.spec.template.spec.containers[0].image}", "mcpgw.test/mcpgw:v2")
	kubectl(t, "patch", "gateway", "gw", "-n", namespace, "--type=merge", "-p", `{"spec":{"infrastructure":null}}`)
	gone(t, namespace, "poddisruptionbudget/gw")

	// Somebody else's Service of that name is theirs; the Gateway says so, and others go on.
	apply(t, namespace, `---
apiVersion: v1
kind: Service
metadata: {name: theirs}
spec: {ports: [{name: x, port: 7}]}
`+strings.Replace(gatewayYAML(namespace, testgateway.FreePort(t)), "name: gw", "name: theirs", 1))
	has(t, namespace, "gateway/theirs", "{.status.conditions[1].message}", `Service "theirs" can't be made: there is one that is not this Gateway's: delete or rename it`)
	has(t, namespace, "service/theirs", "{.spec.ports[0].port} {.metadata.ownerReferences}", "7 ")
	has(t, namespace, "gateway/gw", "{.status.conditions[0].reason} {.status.conditions[1].reason}", "Accepted Programmed")

	kubectl(t, "delete", "gateway", "gw", "theirs", "-n", namespace)
	for _, object := range []string{"deployment/gw", "service/gw", "serviceaccount/gw", "configmap/gw", "deployment/theirs", "horizontalpodautoscaler/gw"} {
		gone(t, namespace, object)
	}
	has(t, namespace, "service/theirs", "{.spec.ports[0].port}", "7")
}

// gone waits until an object is not there.
func gone(t testing.TB, namespace, object string) {
	t.Helper()
	testgateway.Eventually(t, object+" is gone", func() error {
		if out, err := try(t, "", "get", "-n", namespace, object); err == nil || !strings.Contains(out, "NotFound") {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
}

// balance forwards connections to address to the first of the others that takes them, as a Service does, until the test ends.
func balance(t testing.TB, address string, to ...string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			go func() {
				defer from.Close()
				for _, other := range to {
					conn, err := net.Dial("tcp", other)
					if err != nil {
						continue
					}
					go func() { _, _ = io.Copy(conn, from); _ = conn.Close() }() // until one of them ends
					_, _ = io.Copy(from, conn)
					return
				}
			}()
		}
	}()
}

// TestRotation: session keys come from the controller, and rotating them ends no session; those of a key that is taken
// away end. When the replica of the controller that leads is killed, another goes on: data planes follow it, it deploys and writes status.
func TestRotation(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", testgateway.FreePort(t))
	replica := func() (*gateway, string) {
		at := fmt.Sprintf("127.0.0.1:%d", testgateway.FreePort(t))
		g := launch(t, nil, "controller", "--kubeconfig", kubeconfig, "--controller-name", name, "--lease-namespace", namespace, "--listen", at, "--address", address, "--proxy-image", "mcpgw.test/mcpgw:e2e")
		return g.isReady(t), at
	}
	first, firstAt := replica()
	testgateway.Eventually(t, "the first replica leads", leads(first))
	second, secondAt := replica()
	balance(t, address, firstAt, secondAt)
	host, demoPort := serveDemo(t)
	apply(t, namespace, gatewayYAML(namespace, port)+serviceYAML("tools", host, demoPort)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	pod := runPod(t, namespace, "gw", "127.0.0.1").isReady(t)
	url := fmt.Sprintf("http://127.0.0.1:%d/mcp", port)
	lists(t, url)
	open := func() *mcp.ClientSession {
		t.Helper()
		session, err := connectLegacy(t, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = session.Close() })
		return session
	}
	call := func(session *mcp.ClientSession) error {
		_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_add", Arguments: map[string]any{"a": 2, "b": 3}})
		return err
	}
	came := func(times int) {
		t.Helper()
		testgateway.Eventually(t, "session keys came", func() error {
			if n := strings.Count(pod.Stderr.String(), "session keys came from the controller"); n < times {
				return fmt.Errorf("%d times, not %d", n, times)
			}
			return nil
		})
	}
	type key struct {
		Key     []byte    `json:"key"`
		Created time.Time `json:"created"`
	}
	keys := func() (out []key) {
		t.Helper()
		text, err := base64.StdEncoding.DecodeString(path(t, namespace, "secret/mcpgw-session-keys", `{.data.keys\.json}`))
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	set := func(keys []key) {
		t.Helper()
		text, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, "patch", "secret", "mcpgw-session-keys", "-n", namespace, "--type=merge", "-p", fmt.Sprintf(`{"data":{"keys.json":%q}}`, base64.StdEncoding.EncodeToString(text)))
	}
	old := open()
	came(1)
	aged := keys()
	aged[0].Created = aged[0].Created.Add(-8 * 24 * time.Hour)
	set(aged)
	testgateway.Eventually(t, "the keys are rotated", func() error {
		if n := len(keys()); n != 2 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	came(2)
	both := keys()
	both[0].Created = both[0].Created.Add(-time.Hour) // by now all know it
	set(both)
	came(3)
	fresh := open()
	for what, session := range map[string]*mcp.ClientSession{"before": old, "after": fresh} {
		if err := call(session); err != nil {
			t.Errorf("a session from %s the rotation: %v", what, err)
		}
	}

	// The leader is killed: another replica serves data planes, deploys and writes.
	first.Kill()
	testgateway.Eventually(t, "the second replica leads", leads(second))
	kubectl(t, "delete", "configmap", "gw", "-n", namespace)
	apply(t, namespace, routeYAML("more", "/more", "tools"))
	has(t, namespace, "httproute/more", conditions(".status.parents[0]"), "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs ")
	has(t, namespace, "configmap/gw", "{.metadata.name}", "gw")
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/more", port))

	// Another process has the same keys.
	pod.Kill()
	pod = runPod(t, namespace, "gw", "127.0.0.1").isReady(t)
	for what, session := range map[string]*mcp.ClientSession{"before": old, "after": fresh} {
		if err := call(session); err != nil {
			t.Errorf("a session from %s the rotation, at another process: %v", what, err)
		}
	}
	set(both[:1])
	came(2)
	if err := call(fresh); err != nil {
		t.Errorf("a session of the key that stays: %v", err)
	}
	if err := call(old); err == nil {
		t.Error("a session of a key that is gone goes on")
	}
}

// TestBeside: what a ConfigMap holds is served beside what the controller delivers, by the same data plane.
func TestBeside(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	controller, _ := startController(t, name, namespace, testgateway.FreePort(t))
	controller.isReady(t)
	host, at := serveDemo(t)
	static := func(path string) string {
		return strings.ReplaceAll(mcpYAML("static", fmt.Sprintf("{name: demo, static: {host: %s, port: %d, path: /demo/mcp}}", host, at))+routeYAML("static", path, "static"),
			"name: static}", "name: static, namespace: "+namespace+"}")
	}
	configure := func(text string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		kubectl(t, "create", "configmap", "own", "-n", namespace, "--from-file", file)
	}
	configure(static("/static"))
	apply(t, namespace, `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: mine}
spec: {kube: {agentgateway: {customConfigMapName: own}}}
`+strings.Replace(gatewayYAML(namespace, port), "spec:\n", "spec:\n  infrastructure: {parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: mine}}\n", 1)+
		serviceYAML("tools", host, at)+mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	pod := runPod(t, namespace, "gw", "127.0.0.1").isReady(t)
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/mcp", port))
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/static", port))

	// A mistake in it changes nothing, and keeps nothing else from being changed.
	if err := os.WriteFile(pod.mounted["/etc/mcpgw/custom"]+"/config.yaml", []byte(strings.Replace(static("/other"), "port:", "prot:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	testgateway.Eventually(t, "the mistake is told", func() error {
		if !strings.Contains(pod.Stderr.String(), "the files are refused, what they held before stays") {
			return fmt.Errorf("%s", pod.Stderr.String())
		}
		return nil
	})
	apply(t, namespace, routeYAML("more", "/more", "tools"))
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/more", port))
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/static", port))
}
