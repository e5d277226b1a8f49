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
		"--listen", address, "--address", address}, args...)...)
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
			t.Errorf("the log of mcpgw %s:\n%s", args[0], text[max(0, len(text)-12000):])
		}
	})
	return g
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

// TestFollow: data planes that nobody provisioned get from a controller what their Gateway needs, by a token of the ServiceAccount with its name; a
// token of another, or for somebody else, gets nothing. They go on without the controller, and start from what they kept.
func TestFollow(t *testing.T) {
	namespace := namespaceOf(t)
	name, port, at := class(t, namespace), newPort(), newPort()
	controller, address := startController(t, name, namespace, at)
	controller.isReady(t)
	host, demoPort := serveDemo(t)
	kubectl(t, "create", "serviceaccount", "gw", "-n", namespace)
	kubectl(t, "create", "serviceaccount", "stranger", "-n", namespace)
	apply(t, namespace, gatewayYAML(namespace, port)+serviceYAML("tools", host, demoPort)+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}}")+routeYAML("tools", "/mcp", "tools"))
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
