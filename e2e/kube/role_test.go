package kube

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestRole runs the gateway as the ServiceAccount of the kustomize base, with the rights that the base gives it
// and no others: it serves, writes status, tells events and holds its lease, and is refused nothing.
func TestRole(t *testing.T) {
	base := filepath.Join("..", "..", "deploy", "kustomize")
	if out, err := try(t, "", "apply", "-k", base); err != nil {
		t.Fatalf("kubectl apply -k: %v\n%s", err, out)
	}
	const system = "mcpgw-system"
	account := accountConfig(t, system, "mcpgw")
	for _, verb := range []string{"get secrets", "delete pods", "update httproutes.gateway.networking.k8s.io", "create backends.gateway.kgateway.dev"} {
		verb, resource, _ := strings.Cut(verb, " ")
		if out, err := try(t, "", "auth", "can-i", verb, resource, "--as", "system:serviceaccount:"+system+":mcpgw", "-A"); err == nil || !strings.HasPrefix(out, "no") {
			t.Errorf("the account may %s %s: %s", verb, resource, out)
		}
	}

	namespace, port := namespaceOf(t), testgateway.FreePort(t)
	host, at := serveDemo(t)
	g := start(t, "kgateway.dev/agentgateway", "--kubeconfig", account, "--publish-service", system+"/mcpgw", "--lease-namespace", system, "--log-level", "debug").isReady(t)
	apply(t, namespace, gatewayYAML("agentgateway", port)+serviceYAML("tools", host, at)+routeYAML("tools", "/mcp", "tools")+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}, auth: {secretRef: {name: token}}}"))
	has(t, namespace, "backend/tools", conditions(".status"), "Accepted=False/Invalid ")
	apply(t, namespace, "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {Authorization: t}\n")
	has(t, namespace, "backend/tools", conditions(".status"), "Accepted=True/Accepted ")
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/AddressNotAssigned Ready=False/Pending ")
	kubectl(t, "patch", "service", "mcpgw", "-n", system, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"}]}}}`)
	has(t, namespace, "gateway/gw", "{.status.addresses[0].value} "+conditions(".status"), "203.0.113.9 Accepted=True/Accepted Programmed=True/Programmed Ready=True/Ready ")
	testgateway.Eventually(t, "tools are listed", func() error {
		names, err := toolsAt(t, fmt.Sprintf("http://127.0.0.1:%d/mcp", port))
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("there are none")
		}
		return err
	})
	testgateway.Eventually(t, "an event tells of it", func() error {
		if out, err := try(t, "", "get", "events", "-n", namespace); err != nil || !strings.Contains(out, "AddressNotAssigned") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	if strings.Contains(g.Stderr.String(), "forbidden") {
		t.Error("the gateway is refused something")
	}
}
