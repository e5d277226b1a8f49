package kube

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestChurn has a thousand routes and two hundred Backends, and changes one of each: how long it takes until they are
// live is told, and not judged.
func TestChurn(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	start(t, controller, "--lease-namespace", namespace, "--namespace", namespace, "--publish-address", "127.0.0.1").isReady(t)
	churn(t, namespace, port, func() {})
}

// TestChurnDelivered is TestChurn for a data plane that a controller deploys. Both go on while the API server is away.
func TestChurnDelivered(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	controller, _ := startController(t, name, namespace, testgateway.FreePort(t), "--namespace", namespace)
	controller.isReady(t)
	patch := churn(t, namespace, port, func() { runPod(t, namespace, "gw", "127.0.0.1").isReady(t) })
	kill()
	if code, _ := answer(t, fmt.Sprintf("http://127.0.0.1:%d/r999", port), ""); code != 200 {
		t.Errorf("without the API server the answer is %d", code)
	}
	revive(t)
	patch(0)
}

// churn applies the routes and Backends to a Gateway gw at a port, and changes a Backend a few times, which what it returns does once more.
func churn(t *testing.T, namespace string, port int, deployed func()) (patch func(i int)) {
	host, at := serveText(t, "one")
	other, otherAt := serveText(t, "two")
	var yaml strings.Builder
	yaml.WriteString(gatewayYAML(namespace, port))
	for i := range 200 {
		yaml.WriteString(staticYAML(fmt.Sprintf("b%d", i), host, at))
	}
	for i := range 1000 {
		yaml.WriteString(routeYAML(fmt.Sprintf("r%d", i), fmt.Sprintf("/r%d", i), fmt.Sprintf("b%d", i%200)))
	}
	begin := time.Now()
	apply(t, namespace, yaml.String())
	applied := time.Since(begin)
	says := func(path, want string) {
		t.Helper()
		testgateway.Eventually(t, path+" answers "+want, func() error {
			if code, body := answer(t, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), ""); code != 200 || body != want {
				return fmt.Errorf("it answers %d %s", code, body)
			}
			return nil
		})
	}
	deployed()
	says("/r999", "one")
	has(t, namespace, "gateway/gw", "{.status.listeners[0].attachedRoutes}", "1000")
	has(t, namespace, "httproute/r999", conditions(".status.parents[0]"), "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs ")
	t.Logf("1,000 routes and 200 Backends: applied by kubectl in %v, status of all in %v", applied, time.Since(begin))
	patch = func(i int) {
		t.Helper()
		want, to, toAt := "two", other, otherAt
		if i%2 == 1 {
			want, to, toAt = "one", host, at
		}
		kubectl(t, "patch", "backend", "b7", "-n", namespace, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"static":{"hosts":[{"host":"%s","port":%d}]}}}`, to, toAt))
		begin := time.Now()
		says("/r7", want)
		t.Logf("a changed Backend is live %v after kubectl has returned", time.Since(begin))
	}
	for i := range 6 {
		patch(i)
	}
	return patch
}

// TestOutage stops the API server for a while. The gateway goes on, also one whose watches can't be taken up where they
// broke, and then serves what changed meanwhile.
func TestOutage(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveText(t, "one")
	other, otherAt := serveText(t, "two")
	g := start(t, controller, "--lease-namespace", namespace).isReady(t)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	apply(t, namespace, gatewayYAML(namespace, port)+staticYAML("b", host, at)+routeYAML("r", "/", "b"))
	says := func(want string) {
		t.Helper()
		testgateway.Eventually(t, "the answer is "+want, func() error {
			if code, body := answer(t, url, ""); code != 200 || body != want {
				return fmt.Errorf("it is %d %s", code, body)
			}
			return nil
		})
	}
	said := func(text string) {
		t.Helper()
		testgateway.Eventually(t, "the gateway says: "+text, func() error {
			if !strings.Contains(g.Stderr.String(), text) {
				return errors.New("it does not")
			}
			return nil
		})
	}
	says("one")
	kill()
	said("can't be reached, what is known stays in use")
	says("one")
	revive(t)
	said("can be reached again")

	// While it sleeps the server begins anew, and knows no version as old as those that the gateway has seen.
	if err := g.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	kill()
	revive(t)
	apply(t, namespace, staticYAML("b", other, otherAt))
	if err := g.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	says("two")
	apply(t, namespace, staticYAML("b", host, at))
	says("one")
	has(t, namespace, "backend/b", "{.status.conditions[0].observedGeneration}", "3")

	// One that begins while there is no API server waits for it.
	kill()
	late := start(t, controller+"-late", "--no-status")
	testgateway.Eventually(t, "the gateway says that it waits", func() error {
		if !strings.Contains(late.Stderr.String(), "waiting for the API server") {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	revive(t)
	late.isReady(t)
}

// leads tells whether a replica says that it leads.
func leads(g *gateway) func() error {
	return func() error {
		if !strings.Contains(g.Stderr.String(), "this replica writes status") {
			return fmt.Errorf("it does not say so")
		}
		return nil
	}
}

// TestLeader kills the replica that writes status: another goes on.
func TestLeader(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveText(t, "one")
	first := start(t, controller, "--lease-namespace", namespace).isReady(t)
	testgateway.Eventually(t, "the first replica leads", leads(first))
	second := start(t, controller, "--lease-namespace", namespace).isReady(t)
	apply(t, namespace, staticYAML("b", host, at)+gatewayYAML(namespace, port))
	has(t, namespace, "backend/b", conditions(".status"), "Accepted=True/Accepted ")
	if leads(second)() == nil {
		t.Error("two replicas write status")
	}
	if err := first.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testgateway.Eventually(t, "the second replica leads", leads(second))
	apply(t, namespace, staticYAML("b", "a b", 1))
	has(t, namespace, "backend/b", conditions(".status"), "Accepted=False/Invalid ")
}
