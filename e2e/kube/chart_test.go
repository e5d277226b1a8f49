package kube

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// chart is where the Helm chart is.
var chart = filepath.Join("..", "..", "deploy", "helm", "mcpgw")

// helm runs Helm as the administrator, and returns what it printed.
func helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(cache, "mcpgw", "helm-v4.2.4"), args...)
	home := filepath.Dir(kubeconfig)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "KUBECONFIG="+kubeconfig)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s", args[0], err, &problems)
	}
	return out.String(), nil
}

// objectsOf returns the objects in YAML, by kind and name, without those of tests.
func objectsOf(t testing.TB, text string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		if len(u.Object) > 0 && u.GetAnnotations()["helm.sh/hook"] == "" {
			out[u.GetKind()+" "+u.GetName()] = u.Object
		}
	}
	return out
}

// TestChartRender: Helm finds nothing wrong with the chart, refuses values that are none, and renders what `mcpgw render` prints.
func TestChartRender(t *testing.T) {
	if _, err := helm(t, "lint", "--strict", chart); err != nil {
		t.Error(err)
	}
	for _, set := range []string{"controller.replicas=x", "controller.logLevel=loud", "controller.service.ports.agwGrpc=0", "replicas=2", "controller.controllerName=x", "agentgateway.enabled=maybe", "controller.sessionKeyAge=week"} {
		if _, err := helm(t, "template", "mcpgw", chart, "--set", set); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("with %s: %v", set, err)
		}
	}
	for _, sets := range [][]string{
		{},
		{"agentgateway.enabled=true", "controller.replicas=2", "controller.image.tag=v9", "controller.extraEnv.KGW_LOG_LEVEL=debug"},
		{"controller.replicaCount=3", "controller.image.registry=r.test", "serviceAccount.create=false", "rbac.create=false", "networkPolicy.enabled=false", "fullnameOverride=x", "discoveryNamespaces={a,b}"},
	} {
		args, own := []string{"template", "mcpgw", chart, "-n", "mcpgw-system"}, []string{"render"}
		for _, s := range sets {
			args, own = append(args, "--set", s), append(own, "--set", s)
		}
		want, err := helm(t, args...)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := exec.CommandContext(t.Context(), binary, own...).Output()
		if err != nil {
			t.Error(err)
			continue
		}
		objects := objectsOf(t, string(got))
		if objects["Namespace mcpgw-system"] == nil {
			t.Error("there is no namespace")
		}
		delete(objects, "Namespace mcpgw-system")
		if diff := cmp.Diff(objectsOf(t, want), objects); diff != "" {
			t.Errorf("with %v: -helm +render:\n%s", sets, diff)
		}
	}
}

// TestChart installs the chart, and runs what it installs as the ServiceAccount that it makes, with the rights that it gives and no
// others: the controller deploys a Gateway, whose Pod has no rights at all, and tools are called through it. The controller is refused nothing.
func TestChart(t *testing.T) {
	namespace := namespaceOf(t)
	name, port := class(t, namespace), testgateway.FreePort(t)
	grpc, health, metrics := testgateway.FreePort(t), testgateway.FreePort(t), testgateway.FreePort(t)
	values := []string{
		"--set", "controller.controllerName=" + name, "--set", fmt.Sprintf("controller.service.ports.agwGrpc=%d", grpc), "--set", fmt.Sprintf("controller.service.ports.health=%d", health),
		"--set", fmt.Sprintf("controller.service.ports.metrics=%d", metrics), "--set", fmt.Sprintf("controller.address=127.0.0.1:%d", grpc), "--set", "controller.logLevel=debug",
	}
	out, err := helm(t, append([]string{"install", "chart", chart, "-n", namespace}, values...)...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "mcpgw crds | kubectl apply --server-side") {
		t.Errorf("the notes are\n%s", out)
	}
	account := accountConfig(t, namespace, "chart-controller")
	controller := runPod(t, namespace, "chart-controller", "127.0.0.1", "KUBECONFIG="+account).isReady(t)
	if out, err := exec.CommandContext(t.Context(), binary, "ready", "http://"+controller.Ready+"/readyz", "--wait=1m").CombinedOutput(); err != nil {
		t.Errorf("what helm test runs says %v: %s", err, out)
	}
	host, at := serveDemo(t)
	apply(t, namespace, `---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: all}
spec: {kube: {podDisruptionBudget: {spec: {minAvailable: 1}}, horizontalPodAutoscaler: {spec: {maxReplicas: 2}}}}
`+strings.Replace(gatewayYAML(namespace, port), "spec:\n", "spec:\n  infrastructure: {parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: all}}\n", 1)+
		serviceYAML("tools", host, at)+mcpYAML("tools", "{name: demo, service: {name: tools, port: 80, path: /demo/mcp}, auth: {secretRef: {name: token}}}")+routeYAML("tools", "/mcp", "tools")+
		"---\napiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {Authorization: t}\n")
	pod := runPod(t, namespace, "gw", "127.0.0.1").isReady(t)
	lists(t, fmt.Sprintf("http://127.0.0.1:%d/mcp", port))
	has(t, namespace, "horizontalpodautoscaler/gw", "{.spec.maxReplicas}", "2")
	has(t, namespace, "gateway/gw", conditions(".status"), "Accepted=True/Accepted Programmed=False/AddressNotAssigned Ready=False/Pending ")
	testgateway.Eventually(t, "an event tells of it", func() error {
		if out, err := try(t, "", "get", "events", "-n", namespace); err != nil || !strings.Contains(out, "AddressNotAssigned") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	counts(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics), `mcpgw_controller_leader 1`, `mcpgw_controller_objects{kind="Gateway"} 1`, `mcpgw_controller_data_planes{gateway="gw",namespace="`+namespace+`"} 1`,
		`mcpgw_controller_answers_total{result="acked"} `, `mcpgw_controller_applies_total{kind="Deployment",result="success"} `, `mcpgw_controller_status_writes_total{kind="Gateway",result="success"} `,
		`mcpgw_controller_reconciles_total{result="changed"} `, `mcpgw_controller_build_duration_seconds_count `, `mcpgw_controller_publish_duration_seconds_count `, `mcpgw_controller_ack_duration_seconds_count `,
		`mcpgw_controller_tokens_total{result="accepted"} 1`, `mcpgw_build_info{`, `go_goroutines `)
	kubectl(t, "delete", "gateway", "gw", "-n", namespace)
	for _, o := range []string{"deployment/gw", "service/gw", "serviceaccount/gw", "configmap/gw", "poddisruptionbudget/gw", "horizontalpodautoscaler/gw"} {
		gone(t, namespace, o)
	}
	pod.Kill()
	if log := controller.Stderr.String(); strings.Contains(log, "forbidden") {
		at := strings.Index(log, "forbidden")
		t.Errorf("the controller is refused something: %s", log[max(0, at-500):min(len(log), at+200)])
	}
	for _, secret := range []string{"Response Body", "Request Body", "Bearer "} { // of the API server's, at the level debug
		if strings.Contains(controller.Stderr.String(), secret) {
			t.Errorf("%q is in the log of the controller", secret)
		}
	}
	for who, verbs := range map[string][]string{
		"chart-controller": {"get secrets", "update secrets", "create pods", "delete namespaces", "create clusterroles.rbac.authorization.k8s.io", "update httproutes.gateway.networking.k8s.io", "create backends.gateway.kgateway.dev"},
		"gw":               {"list secrets", "get configmaps", "list gateways.gateway.networking.k8s.io", "create tokenreviews.authentication.k8s.io"},
	} {
		for _, verb := range verbs {
			verb, resource, _ := strings.Cut(verb, " ")
			if out, err := try(t, "", "auth", "can-i", verb, resource, "--as", "system:serviceaccount:"+namespace+":"+who, "-A"); err == nil || !strings.HasPrefix(out, "no") {
				t.Errorf("%s may %s %s: %s", who, verb, resource, out)
			}
		}
	}

	if _, err := helm(t, append([]string{"upgrade", "chart", chart, "-n", namespace, "--set", "controller.replicas=2"}, values...)...); err != nil {
		t.Error(err)
	}
	has(t, namespace, "poddisruptionbudget/chart-controller", "{.spec.maxUnavailable}", "1")
	has(t, namespace, "deployment/chart-controller", "{.spec.replicas}", "2")
	if _, err := helm(t, "uninstall", "chart", "-n", namespace); err != nil {
		t.Error(err)
	}
	gone(t, namespace, "deployment/chart-controller")
}

// counts waits until series are among those at a URL, each by the beginning of its line.
func counts(t testing.TB, url string, series ...string) {
	t.Helper()
	testgateway.Eventually(t, "the metrics are at "+url, func() error {
		code, body := answer(t, url, "")
		for _, s := range series {
			if code != http.StatusOK || !strings.Contains("\n"+body, "\n"+s) {
				return fmt.Errorf("%d, without %s:\n%s", code, s, body)
			}
		}
		return nil
	})
}

// accountConfig returns a kubeconfig of a ServiceAccount.
func accountConfig(t testing.TB, namespace, account string) string {
	t.Helper()
	token := strings.TrimSpace(kubectl(t, "create", "token", account, "-n", namespace))
	authority := kubectl(t, "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}")
	server := kubectl(t, "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %q}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, server, authority, token), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
