package helm

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// upstream are values of upstream's chart.
const upstream = `agentgateway: {enabled: true}
commonLabels: {of: all}
nameOverride: plane
deploymentAnnotations: {of: deployment}
podAnnotations: {of: pod, prometheus.io/scrape: "true"}
podSecurityContext: {fsGroup: 2000}
securityContext: {runAsUser: 1000}
resources: {limits: {memory: 1Gi}}
image: {registry: registry.test/team, tag: v9, pullPolicy: Always}
imagePullSecrets: [{name: pull}]
discoveryNamespaceSelectors:
- matchLabels: {kubernetes.io/metadata.name: a}
- matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [b, a]}]
gatewayClassParametersRefs: {agentgateway: {name: all, namespace: infra}}
policyMerge: {}
waypoint: {enabled: false}
inferenceExtension: {enabled: false}
validation: {level: standard}
controller:
  replicaCount: 2
  priorityClassName: first
  logLevel: debug
  image: {registry: "", repository: mcpgw, pullPolicy: "", tag: ""}
  strategy: {type: Recreate}
  xds: {tls: {enabled: true}}
  podDisruptionBudget: {minAvailable: 1}
  horizontalPodAutoscaler: {minReplicas: 2, maxReplicas: 5}
  verticalPodAutoscaler: {}
  service: {enabled: true, type: NodePort, annotations: {of: service}, extraLabels: {more: here}, ports: {grpc: 9977, agwGrpc: 9988, health: 9093, metrics: 9092}}
  extraEnv: {KGW_ENABLE_GATEWAY_API_EXPERIMENTAL_FEATURES: "true"}
`

// TestUpstream: the values of upstream's chart mean what they mean there, as far as there is something that they can mean, and others are refused.
func TestUpstream(t *testing.T) {
	out, _, err := Render(Options{Release: "mcpgw", Namespace: "mcpgw-system", Values: [][]byte{[]byte(upstream)}})
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]map[string]any{}
	for doc := range strings.SplitSeq("\n"+string(out), "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		objects[fmt.Sprint(o["kind"], " ", valueAt(o, "metadata.name"))] = o
	}
	for where, want := range map[string]any{
		"Deployment mcpgw-plane: metadata.labels.of":                                                     "all",
		"Deployment mcpgw-plane: metadata.annotations.of":                                                "deployment",
		"Deployment mcpgw-plane: spec.replicas":                                                          nil,
		"Deployment mcpgw-plane: spec.strategy.type":                                                     "Recreate",
		"Deployment mcpgw-plane: spec.template.metadata.annotations.of":                                  "pod",
		"Deployment mcpgw-plane: spec.template.spec.priorityClassName":                                   "first",
		"Deployment mcpgw-plane: spec.template.spec.imagePullSecrets.0.name":                             "pull",
		"Deployment mcpgw-plane: spec.template.spec.securityContext.fsGroup":                             float64(2000),
		"Deployment mcpgw-plane: spec.template.spec.securityContext.runAsNonRoot":                        true,
		"Deployment mcpgw-plane: spec.template.spec.containers.0.image":                                  "registry.test/team/mcpgw:v9",
		"Deployment mcpgw-plane: spec.template.spec.containers.0.imagePullPolicy":                        "Always",
		"Deployment mcpgw-plane: spec.template.spec.containers.0.resources.limits.memory":                "1Gi",
		"Deployment mcpgw-plane: spec.template.spec.containers.0.resources.requests":                     nil,
		"Deployment mcpgw-plane: spec.template.spec.containers.0.securityContext.runAsUser":              float64(1000),
		"Deployment mcpgw-plane: spec.template.spec.containers.0.securityContext.readOnlyRootFilesystem": true,
		"Deployment mcpgw-plane: spec.template.spec.containers.0.env.0.value":                            "true",
		"Service mcpgw-plane: spec.type":                                                                 "NodePort",
		"Service mcpgw-plane: metadata.annotations.of":                                                   "service",
		"Service mcpgw-plane: metadata.labels.more":                                                      "here",
		"Service mcpgw-plane: spec.ports.0.port":                                                         float64(9988),
		"PodDisruptionBudget mcpgw-plane: spec.minAvailable":                                             float64(1),
		"PodDisruptionBudget mcpgw-plane: spec.maxUnavailable":                                           nil,
		"HorizontalPodAutoscaler mcpgw-plane: spec.maxReplicas":                                          float64(5),
		"HorizontalPodAutoscaler mcpgw-plane: spec.scaleTargetRef.name":                                  "mcpgw-plane",
		"GatewayClass agentgateway: spec.parametersRef.namespace":                                        "infra",
	} {
		object, path, _ := strings.Cut(where, ": ")
		if got := valueAt(objects[object], path); got != want {
			t.Errorf("%s is %v, want %v", where, got, want)
		}
	}
	args := fmt.Sprint(valueAt(objects["Deployment mcpgw-plane"], "spec.template.spec.containers.0.args"))
	for _, want := range []string{"--namespace=a --namespace=b", "--log-level=debug", "--listen=:9988", "--address=mcpgw-plane.mcpgw-system.svc:9988", "--proxy-image=registry.test/team/mcpgw:v9"} {
		if !strings.Contains(args, want) {
			t.Errorf("the arguments lack %s: %s", want, args)
		}
	}
	if strings.Count(args, "--namespace=") != 2 {
		t.Errorf("a namespace is there twice: %s", args)
	}
	for _, set := range []string{
		"waypoint.enabled=true", "inferenceExtension.enabled=true", "validation.level=lax", "policyMerge.trafficPolicy.extProc=DeepMerge", "controller.service.enabled=false", "gatewayClassParametersRefs.kgateway.name=x",
		"controller.podDisruptionBudget.selector.matchLabels.a=b", "controller.horizontalPodAutoscaler.scaleTargetRef.name=x", "discoveryNamespaceSelectors[0].matchLabels.team=a", "image.pullPolicy=Sometimes",
	} {
		if _, _, err := Render(Options{Release: "mcpgw", Namespace: "mcpgw-system", Set: []string{set}}); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("with %s: %v", set, err)
		}
	}
}

// valueAt returns what stands at a path in an object, nil for nothing.
func valueAt(v any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}
