package kube

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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
	g := &gateway{log: &transcript{}, ready: fmt.Sprintf("127.0.0.1:%d", newPort()), done: make(chan struct{})}
	g.cmd = exec.Command(binary, append(args, "--log-format", "json", "--metrics-addr", "off", "--ready-addr", g.ready)...)
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	g.begin(t)
	return g
}

// begin starts the process; it ends with the test.
func (g *gateway) begin(t testing.TB) {
	t.Helper()
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(g.done)
		_ = g.cmd.Wait() // how it ended, tests see by its log
	}()
	t.Cleanup(func() {
		g.kill()
		text := g.log.String()
		if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") || t.Failed() {
			t.Errorf("the log of mcpgw %s:\n%s", g.cmd.Args[1], text[max(0, len(text)-12000):])
		}
	})
}

// kill ends the process at once.
func (g *gateway) kill() {
	_ = g.cmd.Process.Signal(syscall.SIGKILL)
	<-g.done
}

// authority writes what vouches for the controller in a namespace to a file.
func authority(t testing.TB, namespace string) string {
	t.Helper()
	var text []byte
	eventually(t, "the controller has an authority", func() error {
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
	eventually(t, "tools are listed at "+url, func() error {
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
	name, port, at := class(t, namespace), newPort(), newPort()
	controller, address := startController(t, name, namespace, at)
	controller.isReady(t)
	host, demoPort := serveDemo(t)
	kubectl(t, "create", "serviceaccount", "stranger", "-n", namespace)
	kubectl(t, "create", "serviceaccount", "gw", "-n", namespace)
	apply(t, namespace, selfManagedYAML+gatewayYAML(namespace, port)+serviceYAML("tools", host, demoPort)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	kubectl(t, "patch", "gateway", "gw", "-n", namespace, "--type=merge", "-p", `{"spec":{"infrastructure":{"parametersRef":{"group":"gateway.kgateway.dev","kind":"GatewayParameters","name":"mine"}}}}`)
	ca, cache := authority(t, namespace), filepath.Join(t.TempDir(), "cache")
	follow := func(token string, args ...string) *gateway {
		return launch(t, nil, append([]string{"serve", "--controller", address, "--controller-ca-file", ca, "--controller-token-file", token, "--admin-addr", "off"}, args...)...)
	}
	for what, token := range map[string]string{
		"no Gateway is served by ServiceAccount": tokenFile(t, namespace, "stranger", "mcpgw-controller"),
		"Unauthenticated":                        tokenFile(t, namespace, "gw", "somebody-else"),
	} {
		g := follow(token)
		eventually(t, "a data plane is told "+what, func() error {
			if !strings.Contains(g.log.String(), what) {
				return fmt.Errorf("%s", g.log)
			}
			return nil
		})
		g.kill()
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

	// A mistake elsewhere is not this one's.
	apply(t, namespace, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: wrong}\nspec:\n  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: elsewhere}]\n  rbac: {policy: {matchExpressions: ['1 +']}}\n")
	call("beside a mistake")

	// Without the controller, and with it back.
	controller.kill()
	call("without the controller")
	plane.kill()
	plane = follow(token, "--controller-cache", cache).isReady(t)
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
	name, port := class(t, namespace), newPort()
	controller, _ := startController(t, name, namespace, newPort())
	controller.isReady(t)
	host, demoPort := serveDemo(t)
	apply(t, namespace, gatewayYAML(namespace, port)+serviceYAML("tools", host, demoPort)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/AddressNotAssigned Ready=False/Pending ")
	kubectl(t, "patch", "service", "gw", "-n", namespace, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"}]}}}`)
	has(t, namespace, "gateway/gw", "{.status.addresses[0].value} "+conditions(".status"), "203.0.113.9 Accepted=True/Accepted Programmed=True/Programmed Ready=False/Pending ")
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
`+strings.Replace(gatewayYAML(namespace, newPort()), "name: gw", "name: theirs", 1))
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
	eventually(t, object+" is gone", func() error {
		if out, err := try(t, "", "get", "-n", namespace, object); err == nil || !strings.Contains(out, "NotFound") {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
}
