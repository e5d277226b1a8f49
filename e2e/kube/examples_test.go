package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/demo"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// unserved are the examples of what no cluster has, and what their objects say.
func unserved() map[string]map[string]string {
	return map[string]map[string]string{
		"stdio.yaml":        {"backend/local": "stdio"},
		"tls.yaml":          {"gateway/secure": "no listener can be served"}, // the certificate is made by hand
		"multi-target.yaml": {"backend/tools": "stdio"},
	}
}

// exampleOf returns an example for a cluster: with a Gateway, default, where it has none; with the class of the test; and with another address than loopback, which
// an API server takes for no endpoint.
func exampleOf(t testing.TB, file, class, host string, port int) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	yaml := strings.NewReplacer("127.0.0.1", host, "gatewayClassName: agentgateway", "gatewayClassName: "+class, "port: 8080\n", fmt.Sprintf("port: %d\n", port)).Replace(string(text))
	if !strings.Contains(yaml, "kind: Gateway\n") {
		docs := strings.Split(yaml, "\n---\n")
		for i, doc := range docs {
			if strings.Contains("\n"+doc, "\nkind: HTTPRoute\n") || strings.Contains("\n"+doc, "\nkind: GRPCRoute\n") {
				docs[i] = strings.Replace(doc, "\nspec:\n", "\nspec:\n  parentRefs: [{name: default}]\n", 1)
			}
		}
		yaml = strings.Join(docs, "\n---\n") + strings.ReplaceAll(gatewayYAML(class, port), "name: gw", "name: default")
	}
	return yaml
}

// TestExamples applies every example, as it stands but for the addresses of one machine: the API server takes it with all of its fields known, and
// the controller says of each object that it is served, or what no cluster has.
func TestExamples(t *testing.T) {
	own := namespaceOf(t)
	name := class(t, own)
	controller, _ := startController(t, name, own, testgateway.FreePort(t))
	controller.isReady(t)
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	files = append(files, "../../examples/common-pattern/")
	namespaces := map[string]string{}
	for i, file := range files {
		namespace := fmt.Sprintf("%s-%d", own, i)
		kubectl(t, "create", "namespace", namespace)
		namespaces[file] = namespace
		var yaml string
		if strings.HasSuffix(file, "/") {
			yaml = exampleOf(t, file+"gateway.yaml", own, network, testgateway.FreePort(t)) + "\n---\n" + strings.Split(exampleOf(t, file+"common-pattern.yaml", own, network, testgateway.FreePort(t)), "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n")[0]
		} else {
			yaml = exampleOf(t, file, own, network, testgateway.FreePort(t))
		}
		if out, err := try(t, yaml, "apply", "-n", namespace, "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
	kinds := "backend,gatewayextension,trafficpolicy,httplistenerpolicy,backendconfigpolicy,httproute,grpcroute,gateway"
	const all = `{range .items[*]}{.kind}/{.metadata.name}{"\t"}{range .status.conditions[?(@.type=="Accepted")]}{.status} {.message}{"\t"}{end}` +
		`{range .status.ancestors[*].conditions[?(@.type=="Accepted")]}{.status} {.message}{"\t"}{end}{range .status.parents[*].conditions[?(@.type=="Accepted")]}{.status} {.message}{"\t"}{end}{"\n"}{end}`
	testgateway.Eventually(t, "all examples are served", func() error {
		var problems []error
		for _, file := range files {
			out, err := try(t, "", "get", kinds, "-n", namespaces[file], "-o", "jsonpath="+all)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			expected := unserved()[filepath.Base(file)]
			for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
				object, said, _ := strings.Cut(line, "\t")
				want, lacking := expected[strings.ToLower(object)]
				switch yes := strings.HasPrefix(said, "True "); {
				case said == "" || strings.HasPrefix(said, "Unknown"):
					problems = append(problems, fmt.Errorf("%s: %s says nothing yet", file, object))
				case lacking && (yes || !strings.Contains(said, want)), !lacking && (!yes || strings.Contains(said, "\tFalse ")):
					problems = append(problems, fmt.Errorf("%s: %s says %s", file, object, said))
				}
			}
		}
		return errors.Join(problems...)
	})
}

// TestExampleServed applies an example, and the tools of its Services are listed and called, through a Pod of a controller.
func TestExampleServed(t *testing.T) {
	namespace := namespaceOf(t)
	name, port, host := class(t, namespace), testgateway.FreePort(t), newHost()
	controller, _ := startController(t, name, namespace, testgateway.FreePort(t))
	controller.isReady(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/demo/mcp" // the example's servers are at paths of their own
		demo.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
	})}
	t.Cleanup(func() { _ = server.Close() })
	for _, port := range []string{"3000", "3001"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = server.Serve(l) }() // until it is closed
	}
	apply(t, namespace, exampleOf(t, "../../examples/service.yaml", namespace, host, port)+strings.ReplaceAll(routeYAML("tools", "/mcp", "tools"), "name: gw", "name: default"))
	runPod(t, namespace, "default", "127.0.0.1").isReady(t)
	url := fmt.Sprintf("http://127.0.0.1:%d/mcp", port)
	lists(t, url)
	names, err := toolsAt(t, url)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"search_add", "notes-mcp_add"} {
		if !slices.Contains(names, tool) {
			t.Errorf("%s is not among %v", tool, names)
			continue
		}
		session, err := connect(t, url)
		if err != nil {
			t.Fatal(err)
		}
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"a": 2, "b": 3}})
		if err != nil || result.IsError {
			t.Fatalf("%s: %+v, %v", tool, result, err)
		}
		if text, ok := result.Content[0].(*mcp.TextContent); !ok || !strings.Contains(text.Text, "5") {
			t.Errorf("%s: %s", tool, cmp.Diff("5", result.Content))
		}
		_ = session.Close()
	}
}
