package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/gateway"
)

// planned returns what is made for the Gateways of a cluster, by kind/namespace/name, and the problems.
func planned(t *testing.T, text string) (map[string]*unstructured.Unstructured, []config.Problem) {
	t.Helper()
	s := setOf(t, text)
	report := &config.Report{}
	proxies := &Proxies{Address: "controller.test:9978", Image: "ghcr.test/mcpgw/mcpgw:v1", Identity: NewIdentity("controller.test")}
	if err := s.plan(gateway.ControllerName, proxies, report); err != nil {
		t.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	for _, p := range s.plans {
		for _, o := range p.objects {
			out[keyOf(o.GetKind(), o)] = o
		}
	}
	return out, report.Problems
}

// clusterOf is a cluster with a Gateway and GatewayParameters.
func clusterOf(listeners, class, own string) string {
	return `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: kgateway.dev/agentgateway, parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: class, namespace: default}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: ours
  infrastructure: {labels: {team: a}, annotations: {note: b}, parametersRef: {group: gateway.kgateway.dev, kind: GatewayParameters, name: own}}
  listeners: [` + listeners + `]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: class}
spec: {` + class + `}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: own}
spec: {` + own + `}
`
}

const oneListener = `{name: http, protocol: HTTP, port: 8080}`

// TestDefaults is the Deployment and Service of a Gateway of which nothing is said: without root, privileges, a writable root
// file system or access to the API server.
func TestDefaults(t *testing.T) {
	got, problems := planned(t, clusterOf(oneListener, `kube: {}`, `kube: {}`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	const want = `
metadata: &meta
  name: gw
  namespace: default
  labels:
    team: a
    app.kubernetes.io/name: gw
    app.kubernetes.io/instance: gw
    app.kubernetes.io/managed-by: mcpgw
    gateway.networking.k8s.io/gateway-name: gw
    gateway.networking.k8s.io/gateway-class-name: ours
  annotations: {note: b}
  ownerReferences: [{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: gw, uid: gateway-defaultgw, controller: true, blockOwnerDeletion: true}]
deployment:
  selector: {matchLabels: {app.kubernetes.io/name: gw, app.kubernetes.io/instance: gw, gateway.networking.k8s.io/gateway-name: gw}}
  template:
    metadata:
      labels:
        team: a
        app.kubernetes.io/name: gw
        app.kubernetes.io/instance: gw
        app.kubernetes.io/managed-by: mcpgw
        gateway.networking.k8s.io/gateway-name: gw
        gateway.networking.k8s.io/gateway-class-name: ours
      annotations: {note: b}
    spec:
      serviceAccountName: gw
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 60
      securityContext: {seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: agentgateway
        image: ghcr.test/mcpgw/mcpgw:v1
        imagePullPolicy: IfNotPresent
        args:
        - serve
        - --controller=controller.test:9978
        - --controller-ca-file=/etc/mcpgw/controller/ca.crt
        - --controller-token-file=/var/run/secrets/mcpgw/token
        - --metrics-addr=:15020
        - --ready-addr=:15021
        - --drain-delay=10s
        - --drain-timeout=45s
        - --log-format=json
        - --log-level=info
        env:
        - {name: POD_IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}}
        - {name: MCPGW_PEER_ADDR, value: "[$(POD_IP)]:15010"}
        ports:
        - {containerPort: 8080, protocol: TCP}
        - {name: peers, containerPort: 15010, protocol: TCP}
        - {name: metrics, containerPort: 15020, protocol: TCP}
        - {name: ready, containerPort: 15021, protocol: TCP}
        readinessProbe: {periodSeconds: 2, httpGet: {path: /readyz, port: 15021}}
        securityContext: {runAsNonRoot: true, runAsUser: 65532, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts:
        - {name: token, mountPath: /var/run/secrets/mcpgw, readOnly: true}
        - {name: controller, mountPath: /etc/mcpgw/controller, readOnly: true}
      volumes:
      - {name: token, projected: {defaultMode: 292, sources: [{serviceAccountToken: {audience: mcpgw-controller, expirationSeconds: 3600, path: token}}]}}
      - {name: controller, configMap: {name: gw, defaultMode: 292}}
service:
  type: LoadBalancer
  selector: {app.kubernetes.io/name: gw, app.kubernetes.io/instance: gw, gateway.networking.k8s.io/gateway-name: gw}
  ports: [{name: http, port: 8080, targetPort: 8080, protocol: TCP}]
`
	var wanted map[string]any
	if err := yaml.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	deployment, service := got["Deployment/default/gw"], got["Service/default/gw"]
	for what, pair := range map[string][2]any{
		"metadata of the Deployment": {wanted["metadata"], deployment.Object["metadata"]}, "metadata of the Service": {wanted["metadata"], service.Object["metadata"]},
		"Deployment": {wanted["deployment"], deployment.Object["spec"]}, "Service": {wanted["service"], service.Object["spec"]},
	} {
		if diff := cmp.Diff(plain(t, pair[0]), plain(t, pair[1])); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	if len(got) != 4 {
		t.Errorf("there are %d objects", len(got))
	}
}

// plain returns v as YAML, in which kinds of numbers are the same.
func plain(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestParameters lays what a Gateway's parameters say over what its class's say, and looks at a field each.
func TestParameters(t *testing.T) {
	for _, tt := range []struct {
		name, listeners, class, own string
		object                      string
		path                        []string
		want                        string
	}{
		{"a field of the class", oneListener, `kube: {service: {type: NodePort}}`, `kube: {}`, "Service", []string{"spec", "type"}, "NodePort"},
		{"a field of both", oneListener, `kube: {service: {type: NodePort, clusterIP: 10.0.0.1}}`, `kube: {service: {type: ClusterIP}}`, "Service", []string{"spec"},
			"clusterIP: 10.0.0.1\nports:\n- name: http\n  port: 8080\n  protocol: TCP\n  targetPort: 8080\nselector:\n  app.kubernetes.io/instance: gw\n  app.kubernetes.io/name: gw\n  gateway.networking.k8s.io/gateway-name: gw\ntype: ClusterIP"},
		{"a map of both", oneListener, `kube: {podTemplate: {nodeSelector: {a: b, c: d}}}`, `kube: {podTemplate: {nodeSelector: {a: x}}}`, "Deployment", []string{"spec", "template", "spec", "nodeSelector"}, "a: x\nc: d"},
		{"a list of both", oneListener, `kube: {podTemplate: {tolerations: [{key: a}, {key: b}]}}`, `kube: {podTemplate: {tolerations: [{key: c}]}}`, "Deployment", []string{"spec", "template", "spec", "tolerations"}, "- key: c"},
		{"no replicas", oneListener, `kube: {}`, `kube: {deployment: {replicas: 0}}`, "Deployment", []string{"spec", "replicas"}, "0"},
		{"replicas of an autoscaler", oneListener, `kube: {deployment: {replicas: 3}}`, `kube: {horizontalPodAutoscaler: {spec: {maxReplicas: 5}}}`, "Deployment", []string{"spec", "replicas"}, "null"},
		{"a node port", oneListener, `kube: {service: {ports: [{port: 8080, nodePort: 30000}]}}`, `kube: {}`, "Service", []string{"spec", "ports"}, "- name: http\n  nodePort: 30000\n  port: 8080\n  protocol: TCP\n  targetPort: 8080"},
		{"a port of two listeners", `{name: a.b, protocol: HTTP, port: 80, hostname: a.test}, {name: b, protocol: HTTP, port: 80, hostname: b.test}, {name: t, protocol: TCP, port: 81}, {name: a-b, protocol: HTTP, port: 82}`, `kube: {}`, `kube: {}`, "Service",
			[]string{"spec", "ports"}, "- name: a-b\n  port: 80\n  protocol: TCP\n  targetPort: 80\n- name: port-82\n  port: 82\n  protocol: TCP\n  targetPort: 82"},
		{"a low port", `{name: http, protocol: HTTP, port: 80}`, `kube: {}`, `kube: {}`, "Deployment", []string{"spec", "template", "spec", "securityContext", "sysctls"}, "- name: net.ipv4.ip_unprivileged_port_start\n  value: \"0\""},
		{"no security context", oneListener, `kube: {omitDefaultSecurityContext: true}`, `kube: {}`, "Deployment", []string{"spec", "template", "spec", "securityContext"}, "null"},
		{"upstream's annotations of the account", oneListener, `kube: {serviceAccount: {extraAnnotations: {role: x}}}`, `kube: {}`, "ServiceAccount", []string{"metadata", "annotations"}, "note: b\nrole: x"},
		{"labels that are not theirs to say", oneListener, `kube: {podTemplate: {extraLabels: {app.kubernetes.io/name: x, yy: z}}}`, `kube: {}`, "Deployment", []string{"spec", "template", "metadata", "labels"},
			"app.kubernetes.io/instance: gw\napp.kubernetes.io/managed-by: mcpgw\napp.kubernetes.io/name: gw\ngateway.networking.k8s.io/gateway-class-name: ours\ngateway.networking.k8s.io/gateway-name: gw\nteam: a\nyy: z"},
		{"a budget", oneListener, `kube: {podDisruptionBudget: {spec: {maxUnavailable: 50%}}}`, `kube: {}`, "PodDisruptionBudget", []string{"spec", "maxUnavailable"}, "50%"},
	} {
		got, problems := planned(t, clusterOf(tt.listeners, tt.class, tt.own))
		if len(problems) > 0 || got[tt.object+"/default/gw"] == nil {
			t.Errorf("%s: %v, %v", tt.name, got, problems)
			continue
		}
		v, _, err := unstructured.NestedFieldNoCopy(got[tt.object+"/default/gw"].Object, tt.path...)
		if text := strings.TrimSpace(plain(t, v)); err != nil || text != tt.want {
			t.Errorf("%s: got %s, want %s (%v)", tt.name, text, tt.want, err)
		}
	}
}

// TestArguments looks at how a data plane is started.
func TestArguments(t *testing.T) {
	for own, want := range map[string]string{
		`podTemplate: {terminationGracePeriodSeconds: 20, gracefulShutdown: {sleepTimeSeconds: 5}}`: "--drain-delay=5s --drain-timeout=10s",
		`podTemplate: {gracefulShutdown: {enabled: false}}`:                                         "--drain-delay=0s --drain-timeout=55s",
		`podTemplate: {terminationGracePeriodSeconds: 0}`:                                           "--drain-delay=0s --drain-timeout=1s",
		`agentgateway: {logLevel: trace}`:                                                           "--log-level=debug",
	} {
		got, _ := planned(t, clusterOf(oneListener, `kube: {}`, `kube: {`+own+`}`))
		containers, _, err := unstructured.NestedSlice(got["Deployment/default/gw"].Object, "spec", "template", "spec", "containers")
		if err != nil {
			t.Fatal(err)
		}
		args, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
		if all := strings.Join(args, " "); err != nil || !strings.Contains(all, want) {
			t.Errorf("%s: %s (%v)", own, all, err)
		}
	}
}

// TestImage takes parts of the image from the parameters, and the rest from the controller's.
func TestImage(t *testing.T) {
	for _, tt := range []struct {
		of    string
		given *v1alpha1.ProxyImage
		want  string
	}{
		{"ghcr.test/a/mcpgw:v1", nil, "ghcr.test/a/mcpgw:v1"},
		{"mcpgw", nil, "mcpgw"},
		{"localhost:5000/mcpgw", &v1alpha1.ProxyImage{Tag: "v2"}, "localhost:5000/mcpgw:v2"},
		{"ghcr.test/a/mcpgw:v1", &v1alpha1.ProxyImage{Tag: "v2"}, "ghcr.test/a/mcpgw:v2"},
		{"ghcr.test/a/mcpgw:v1", &v1alpha1.ProxyImage{Registry: "other.test/b"}, "other.test/b/mcpgw:v1"},
		{"ghcr.test/a/mcpgw:v1", &v1alpha1.ProxyImage{Repository: "b/c"}, "ghcr.test/b/c:v1"},
		{"ghcr.test/a/mcpgw@sha256:1", &v1alpha1.ProxyImage{Tag: "v2"}, "ghcr.test/a/mcpgw:v2"},
		{"ghcr.test/a/mcpgw:v1", &v1alpha1.ProxyImage{Digest: "sha256:2", Tag: "v2"}, "ghcr.test/a/mcpgw@sha256:2"},
		{"ghcr.test/a/mcpgw@sha256:1", &v1alpha1.ProxyImage{PullPolicy: "Always"}, "ghcr.test/a/mcpgw@sha256:1"},
	} {
		if got := (&provision{proxies: &Proxies{Image: tt.of}}).image(tt.given); got != tt.want {
			t.Errorf("%s with %+v is %s, not %s", tt.of, tt.given, got, tt.want)
		}
	}
}

// TestRefused: what can't be used is a problem of the Gateway, and asks for nothing.
func TestRefused(t *testing.T) {
	good := clusterOf(oneListener, `kube: {}`, `kube: {}`)
	for what, tt := range map[string]struct{ text, want string }{
		"missing":    {strings.Replace(good, "metadata: {name: own}", "metadata: {name: other}", 1), `spec.infrastructure.parametersRef: GatewayParameters "own" is not there`},
		"elsewhere":  {strings.Replace(good, "metadata: {name: own}", "metadata: {name: own, namespace: far}", 1), `spec.infrastructure.parametersRef: GatewayParameters "own" is not there`},
		"of a class": {strings.Replace(good, "metadata: {name: class}", "metadata: {name: other}", 1), `spec.parametersRef of GatewayClass ours: GatewayParameters "class" is not there`},
		"other kind": {strings.Replace(good, "kind: GatewayParameters, name: own}", "kind: ConfigMap, name: own}", 1), "ConfigMap of group"},
		"a port":     {clusterOf(`{name: http, protocol: HTTP, port: 15020}`, `kube: {}`, `kube: {}`), "data planes use port 15020 themselves"},
	} {
		_, problems := planned(t, tt.text)
		if len(problems) != 1 || !strings.Contains(problems[0].Message, tt.want) {
			t.Errorf("%s: %v", what, problems)
		}
	}
	got, problems := planned(t, clusterOf(oneListener, `kube: {}`, `selfManaged: {}`))
	if len(got) > 0 || len(problems) > 0 {
		t.Errorf("for a Gateway that somebody else runs there are %v, %v", got, problems)
	}
}

// TestNames: what is made for a Gateway has its name, unless no Service can have it; names do not run into each other.
func TestNames(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"gw", "a.b", "a-b", "1a", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a", 253), strings.Repeat("a", 50) + ".b"} {
		got := nameFor(name)
		if errs := validation.IsDNS1035Label(got); len(errs) > 0 {
			t.Errorf("%s becomes %s: %v", name, got, errs)
		}
		if (got == name) != (len(validation.IsDNS1035Label(name)) == 0) {
			t.Errorf("%s becomes %s", name, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s both become %s", name, other, got)
		}
		seen[got] = name
	}
}
