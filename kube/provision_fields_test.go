package kube

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// TestEveryField sets every field of GatewayParameters that is served, in the seed's spelling and in upstream's where they differ, and finds it in
// what is made.
func TestEveryField(t *testing.T) {
	const pod, container = "spec.template.spec.", "spec.template.spec.containers.0."
	asked := map[string]bool{}
	for _, tt := range []struct{ given, object, path, want string }{
		{`agentgateway: {customConfigMapName: own}`, "Deployment", pod + "volumes.2", "configMap: {name: own, defaultMode: 292, optional: true}\nname: custom"},
		{`agentgateway: {logLevel: warn}`, "Deployment", container + "args.9", "--log-level=warn"},
		{`agentgateway: {image: {registry: r.test, repository: a/b, tag: v3, pullPolicy: Always}}`, "Deployment", container + "image", "r.test/a/b:v3"},
		{`agentgateway: {image: {pullPolicy: Always}}`, "Deployment", container + "imagePullPolicy", "Always"},
		{`agentgateway: {image: {digest: "sha256:1"}}`, "Deployment", container + "image", "ghcr.test/mcpgw/mcpgw@sha256:1"},
		{`agentgateway: {securityContext: {runAsUser: 7}}`, "Deployment", container + "securityContext.runAsUser", "7"},
		{`deployment: {container: {securityContext: {runAsUser: 7}}}`, "Deployment", container + "securityContext.runAsUser", "7"},
		{`agentgateway: {resources: {limits: {cpu: "2"}}}`, "Deployment", container + "resources", "limits: {cpu: \"2\"}"},
		{`deployment: {container: {resources: {limits: {cpu: "2"}}}}`, "Deployment", container + "resources", "limits: {cpu: \"2\"}"},
		{`agentgateway: {env: [{name: A, value: b}]}`, "Deployment", container + "env.2", "{name: A, value: b}"},
		{`agentgateway: {extraVolumeMounts: [{name: v, mountPath: /v}], env: []}`, "Deployment", container + "volumeMounts.2", "{name: v, mountPath: /v}"},
		{`deployment: {replicas: 3}`, "Deployment", "spec.replicas", "3"},
		{`deployment: {strategy: {type: Recreate}}`, "Deployment", "spec.strategy", "type: Recreate"},
		{`podTemplate: {extraLabels: {a: b}}`, "Deployment", "spec.template.metadata.labels.a", "b"},
		{`podTemplate: {extraAnnotations: {a: b}}`, "Deployment", "spec.template.metadata.annotations.a", "b"},
		{`podTemplate: {securityContext: {fsGroup: 7}}`, "Deployment", pod + "securityContext.fsGroup", "7"},
		{`podTemplate: {imagePullSecrets: [{name: s}]}`, "Deployment", pod + "imagePullSecrets", "[{name: s}]"},
		{`podTemplate: {nodeSelector: {a: b}}`, "Deployment", pod + "nodeSelector", "a: b"},
		{`podTemplate: {spec: {nodeSelector: {a: b}}}`, "Deployment", pod + "nodeSelector", "a: b"},
		{`podTemplate: {affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}}`, "Deployment", pod + "affinity", "{nodeAffinity: {}}"},
		{`podTemplate: {spec: {affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}}}`, "Deployment", pod + "affinity", "{podAntiAffinity: {}}"},
		{`podTemplate: {tolerations: [{key: a}]}`, "Deployment", pod + "tolerations", "[{key: a}]"},
		{`podTemplate: {spec: {tolerations: [{key: a}]}}`, "Deployment", pod + "tolerations", "[{key: a}]"},
		{`podTemplate: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}`, "Deployment", pod + "topologySpreadConstraints.0.topologyKey", "zone"},
		{`podTemplate: {gracefulShutdown: {enabled: true, sleepTimeSeconds: 5}}`, "Deployment", container + "args.6", "--drain-delay=5s"},
		{`podTemplate: {terminationGracePeriodSeconds: 20}`, "Deployment", pod + "terminationGracePeriodSeconds", "20"},
		{`podTemplate: {startupProbe: {periodSeconds: 7}}`, "Deployment", container + "startupProbe.periodSeconds", "7"},
		{`podTemplate: {readinessProbe: {periodSeconds: 7}}`, "Deployment", container + "readinessProbe.periodSeconds", "7"},
		{`podTemplate: {livenessProbe: {periodSeconds: 7}}`, "Deployment", container + "livenessProbe.periodSeconds", "7"},
		{`podTemplate: {extraVolumes: [{name: v, emptyDir: {}}]}`, "Deployment", pod + "volumes.2", "{name: v, emptyDir: {}}"},
		{`service: {type: NodePort}`, "Service", "spec.type", "NodePort"},
		{`service: {clusterIP: 10.0.0.1}`, "Service", "spec.clusterIP", "10.0.0.1"},
		{`service: {extraLabels: {a: b}}`, "Service", "metadata.labels.a", "b"},
		{`service: {extraAnnotations: {a: b}}`, "Service", "metadata.annotations.a", "b"},
		{`service: {ports: [{port: 8080, nodePort: 30000}]}`, "Service", "spec.ports.0.nodePort", "30000"},
		{`service: {externalTrafficPolicy: Local}`, "Service", "spec.externalTrafficPolicy", "Local"},
		{`serviceAccount: {extraLabels: {a: b}}`, "ServiceAccount", "metadata.labels.a", "b"},
		{`serviceAccount: {extraAnnotations: {a: b}}`, "ServiceAccount", "metadata.annotations.a", "b"},
		{`podDisruptionBudget: {spec: {minAvailable: 1}}`, "PodDisruptionBudget", "spec.minAvailable", "1"},
		{`podDisruptionBudget: {spec: {minAvailable: 1, unhealthyPodEvictionPolicy: AlwaysAllow}}`, "PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy", "AlwaysAllow"},
		{`podDisruptionBudget: {spec: {maxUnavailable: 1}}`, "PodDisruptionBudget", "spec.selector.matchLabels.gateway$networking$k8s$io/gateway-name", "gw"},
		{`horizontalPodAutoscaler: {spec: {minReplicas: 2, maxReplicas: 5, metrics: [], behavior: {}}}`, "HorizontalPodAutoscaler", "spec.scaleTargetRef", "{apiVersion: apps/v1, kind: Deployment, name: gw}"},
		{`omitDefaultSecurityContext: true`, "Deployment", container + "securityContext", "null"},
		{`floatingUserId: true`, "Deployment", container + "securityContext.runAsUser", "null"},
	} {
		var given map[string]any
		if err := yaml.Unmarshal([]byte("{"+tt.given+"}"), &given); err != nil {
			t.Fatal(tt.given, err)
		}
		v1alpha1.Normalize(v1alpha1.KindGatewayParameters, map[string]any{"spec": map[string]any{"kube": given}})
		note("", given, asked)
		got, problems := planned(t, clusterOf(oneListener, `kube: {}`, `kube: {`+tt.given+`}`))
		object := got[tt.object+"/default/gw"]
		if len(problems) > 0 || object == nil {
			t.Errorf("%s: %v", tt.given, problems)
			continue
		}
		var want any
		if err := yaml.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(tt.want, err)
		}
		if is := plain(t, field(object.Object, tt.path)); is != plain(t, want) {
			t.Errorf("%s: %s is %s, not %s", tt.given, tt.path, is, plain(t, want))
		}
	}
	for _, name := range served("", reflect.TypeOf(v1alpha1.KubernetesProxy{})) {
		if !asked[name] {
			t.Errorf("nothing sets %s", name)
		}
	}
}

// field returns what is at a path in plain data, with $ for dots in a name, nil if there is nothing.
func field(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[strings.ReplaceAll(name, "$", ".")]
		case []any:
			i, err := strconv.Atoi(name)
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

// note notes the paths of fields in plain data.
func note(path string, v any, to map[string]bool) {
	to[path] = true
	switch v := v.(type) {
	case map[string]any:
		for name, in := range v {
			note(strings.TrimPrefix(path+"."+name, "."), in, to)
		}
	case []any:
		for _, in := range v {
			note(path, in, to)
		}
	}
}

// served returns the paths of the fields of a type, down to those that are not ours, without what does nothing.
func served(path string, of reflect.Type) (out []string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of == reflect.TypeOf(v1alpha1.IgnoredBlock{}) || path == "agentgateway.enabled" {
		return nil
	}
	if of.Kind() != reflect.Struct || of.PkgPath() != reflect.TypeOf(v1alpha1.KubernetesProxy{}).PkgPath() {
		return []string{path}
	}
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		out = append(out, served(strings.TrimPrefix(path+"."+name, "."), of.Field(i).Type)...)
	}
	return out
}
