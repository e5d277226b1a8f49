package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// tableOf returns what the API server has kubectl print of the objects of a kind: by name, the cells by column, without age. Columns that are
// shown with -o wide only begin with a dot.
func tableOf(t testing.TB, namespace, resource string) map[string]map[string]string {
	t.Helper()
	clients, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := clients.Discovery().RESTClient().Get().AbsPath("/apis/"+v1alpha1.GroupVersion.String()+"/namespaces/"+namespace+"/"+resource).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(t.Context()).Raw()
	var table metav1.Table
	if err == nil {
		err = json.Unmarshal(text, &table)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, row := range table.Rows {
		cells := map[string]string{}
		for i, c := range table.ColumnDefinitions {
			name := c.Name
			if c.Priority > 0 {
				name = "." + name
			}
			if cells[name] = fmt.Sprint(row.Cells[i]); row.Cells[i] == nil {
				cells[name] = ""
			}
		}
		if cells["Age"] == "" {
			t.Errorf("%s have no age: %v", resource, cells)
		}
		delete(cells, "Age")
		out[cells["Name"]] = cells
		delete(cells, "Name")
	}
	return out
}

// TestColumns: what kubectl get prints of each kind says what it is, where, and what became of it.
func TestColumns(t *testing.T) {
	namespace := namespaceOf(t)
	controller, port := class(t, namespace), testgateway.FreePort(t)
	host, at := serveText(t, "hello")
	start(t, controller, "--lease-namespace", namespace, "--publish-address", "gw.example.com").isReady(t)
	apply(t, namespace, gatewayYAML(namespace, port)+serviceYAML("tools", host, at)+staticYAML("fixed", host, at)+staticYAML("wrong", "a b", 1)+routeYAML("r", "/", "fixed")+
		mcpYAML("tools", "{name: demo, service: {name: tools, port: 80}}")+mcpYAML("elsewhere", "{name: far, static: {host: mcp.example.com, port: 80}}")+`---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}], rbac: {policy: {matchExpressions: ["true"]}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: astray}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: nowhere}], rbac: {policy: {matchExpressions: ["true"]}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: HTTPListenerPolicy
metadata: {name: p}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}], accessLog: [{fileSink: {path: /dev/null, stringFormat: x}}]}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: BackendConfigPolicy
metadata: {name: p}
spec: {targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: fixed}], connectTimeout: 2s}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayExtension
metadata: {name: e}
spec: {type: ExtAuth, extAuth: {grpcService: {backendRef: {name: tools, port: 80}}}}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: DirectResponse
metadata: {name: d}
spec: {status: 418, body: short}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: g}
spec: {kube: {service: {type: ClusterIP}, deployment: {replicas: 2}, horizontalPodAutoscaler: {spec: {maxReplicas: 5}}}}
`)
	const inForce = "The policy is valid"
	type table = map[string]map[string]string
	for resource, want := range map[string]table{
		"backends": {
			"fixed":     {"Type": "Static", "Host": host, "Accepted": "True", ".Target": "", ".Message": "The Backend can be used"},
			"wrong":     {"Type": "Static", "Host": "a b", "Accepted": "False", ".Target": "", ".Message": "spec.static.hosts[0].host: `host` must be a host name or IP address: letters, digits, - and . only"},
			"tools":     {"Type": "MCP", "Host": "", "Accepted": "True", ".Target": "demo", ".Message": "The Backend can be used"},
			"elsewhere": {"Type": "MCP", "Host": "mcp.example.com", "Accepted": "True", ".Target": "far", ".Message": "The Backend can be used"},
		},
		"trafficpolicies": {
			"p": {"Kind": "HTTPRoute", "Target": "r", "Accepted": "True", "Attached": "True", ".Message": inForce},
			"astray": {"Kind": "HTTPRoute", "Target": "nowhere", "Accepted": "False", "Attached": "False",
				".Message": `spec.targetRefs[0].name: the policy covers HTTPRoute "nowhere", which is not there (there is "r")`},
		},
		"httplistenerpolicies":  {"p": {"Target": "gw", "Accepted": "True", "Attached": "True", ".Message": inForce}},
		"backendconfigpolicies": {"p": {"Kind": "Backend", "Target": "fixed", "Accepted": "True", "Attached": "True", ".Message": inForce}},
		"gatewayextensions":     {"e": {"Type": "ExtAuth", "Service": "tools", "Accepted": "True", ".Message": "The GatewayExtension can be used"}},
		"directresponses":       {"d": {"Status": "418", ".Body": "short"}},
		"gatewayparameters":     {"g": {"Service": "ClusterIP", "Replicas": "2", "Most": "5"}},
	} {
		testgateway.Eventually(t, "kubectl get "+resource+" prints it", func() error {
			if diff := cmp.Diff(want, tableOf(t, namespace, resource)); diff != "" {
				return fmt.Errorf("-want +got:\n%s", diff)
			}
			return nil
		})
	}
	// By short names and by category, too.
	for _, short := range []string{"be", "tp", "hlp", "bcp", "gwe", "dr", "gwp"} {
		if out := kubectl(t, "get", short, "-n", namespace); !strings.HasPrefix(out, "NAME") {
			t.Errorf("kubectl get %s:\n%s", short, out)
		}
	}
	for _, category := range []string{"mcpgw", "kgateway"} {
		var names []string
		for line := range strings.Lines(kubectl(t, "get", category, "-n", namespace, "-o", "name")) {
			names = append(names, strings.TrimSpace(line))
		}
		slices.Sort(names)
		if len(names) != 11 || names[0] != "backend.gateway.kgateway.dev/elsewhere" {
			t.Errorf("kubectl get %s: %v", category, names)
		}
	}
}
