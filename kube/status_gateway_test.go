package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
	"github.com/mcpgw/mcpgw/gateway"
)

// gatewayStatus returns what the conditions of a Gateway, its ListenerSets and the listeners of all say, each as type, status and reason, and the Gateway's addresses. Its
// Service has addresses.
func gatewayStatus(t *testing.T, text string, addresses ...string) (conditions map[string][]string, has []string) {
	t.Helper()
	s := setOf(t, text)
	_, report := gateway.Compile(s.resources, nil)
	s.plans = map[config.ObjectRef]plan{}
	service := &corev1.Service{}
	service.Namespace, service.Name, service.Spec.Type = "default", "gw", corev1.ServiceTypeLoadBalancer
	for _, a := range addresses {
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	s.resources.Services = append(s.resources.Services, service)
	for _, g := range s.resources.Gateways {
		s.plans[refOf("Gateway", g)] = plan{gateway: g}
	}
	conditions = map[string][]string{}
	name := types.NamespacedName{Namespace: "default", Name: "gw"}
	taken := standing{planes: map[types.NamespacedName][]delivery.DataPlane{name: {{Node: "one", Gateways: map[string]string{"Gateway/default/gw": "v1"}}}}}
	o := &outcome{set: s, report: report, standing: taken, versions: map[types.NamespacedName]string{name: "v1"}}
	for _, c := range o.changes(&Options{Controller: gateway.ControllerName}) {
		is := func(where string, all []condition) {
			for _, c := range all {
				conditions[where] = append(conditions[where], fmt.Sprint(c.Type, " ", c.Status, " ", c.Reason))
			}
		}
		if c.object.GetKind() == "ListenerSet" {
			name := c.object.GetName()
			is(name, c.fields["conditions"].([]condition))
			for _, l := range c.fields["listeners"].([]gatewayv1.ListenerEntryStatus) {
				is(name+"/"+string(l.Name), l.Conditions)
			}
		}
		if c.object.GetKind() != "Gateway" {
			continue
		}
		if n := c.fields["attachedListenerSets"].(*int32); n != nil {
			conditions["sets"] = []string{fmt.Sprint(*n)}
		}
		is("", c.fields["conditions"].([]condition))
		for _, l := range c.fields["listeners"].([]gatewayv1.ListenerStatus) {
			is(string(l.Name), l.Conditions)
		}
		for _, a := range c.fields["addresses"].([]gatewayv1.GatewayStatusAddress) {
			has = append(has, string(*a.Type)+" "+a.Value)
		}
	}
	return conditions, has
}

const aClass = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: kgateway.dev/agentgateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: ours
`

// TestGatewayAddresses: a Gateway that says which addresses it has is programmed once it has them.
func TestGatewayAddresses(t *testing.T) {
	const listeners = "  listeners: [{name: http, port: 80, protocol: HTTP}]\n"
	for name, tt := range map[string]struct {
		spec      string
		addresses []string
		want      string // of Accepted and Programmed
	}{
		"any, and none yet":            {"", nil, "Accepted True Accepted, Programmed False AddressNotAssigned"},
		"any":                          {"", []string{"192.0.2.7"}, "Accepted True Accepted, Programmed True Programmed"},
		"any of a type":                {"  addresses: [{type: IPAddress}]\n", []string{"192.0.2.7"}, "Accepted True Accepted, Programmed True Programmed"},
		"that one":                     {"  addresses: [{value: 192.0.2.7}]\n", []string{"192.0.2.7"}, "Accepted True Accepted, Programmed True Programmed"},
		"another":                      {"  addresses: [{value: 192.0.2.8}]\n", []string{"192.0.2.7"}, "Accepted True Accepted, Programmed False AddressNotUsable"},
		"that one, and none yet":       {"  addresses: [{value: 192.0.2.7}]\n", nil, "Accepted True Accepted, Programmed False AddressNotUsable"},
		"one more":                     {"  addresses: [{value: 192.0.2.7}, {type: Hostname, value: a.test}]\n", []string{"192.0.2.7"}, "Accepted True Accepted, Programmed False AddressNotUsable"},
		"of a type that is not served": {"  addresses: [{type: example.com/pool, value: a}]\n", []string{"192.0.2.7"}, "Accepted False UnsupportedAddress, Programmed False Invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			conditions, _ := gatewayStatus(t, aClass+tt.spec+listeners, tt.addresses...)
			if got := strings.Join(conditions[""][:2], ", "); got != tt.want {
				t.Errorf("it is %s, want %s", got, tt.want)
			}
		})
	}
	objects, _ := planned(t, strings.Replace(clusterOf(oneListener, `kube: {}`, `kube: {}`), "spec:\n  gatewayClassName: ours\n", "spec:\n  gatewayClassName: ours\n  addresses: [{type: IPAddress}, {type: Hostname, value: a.test}, {value: 192.0.2.7}]\n", 1))
	spec := objects["Service/default/gw"].Object["spec"].(map[string]any)
	if spec["loadBalancerIP"] != "192.0.2.7" {
		t.Errorf("the Service asks for %v", spec["loadBalancerIP"])
	}
}

// TestClientCertificateStatus: what is wrong with the authorities of clients' certificates stands at the listeners that need them, and what is wrong with the
// Gateway's own certificate at the Gateway.
func TestClientCertificateStatus(t *testing.T) {
	const listeners = "  listeners:\n  - {name: http, port: 80, protocol: HTTP}\n  - {name: strict, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: served}]}}\n  - {name: lax, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: served}]}}\n"
	authority, err := freshAuthority()
	if err != nil {
		t.Fatal(err)
	}
	rest := fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: served}\nstringData: {tls.crt: %q, tls.key: %q}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata: {ca.crt: %q}\n",
		authority[corev1.ServiceAccountRootCAKey], authority["ca.key"], authority[corev1.ServiceAccountRootCAKey])
	conditions, addresses := gatewayStatus(t, aClass+`  tls:
    backend: {clientCertificateRef: {name: nowhere}}
    frontend:
      default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: nowhere}]}}
      perPort: [{port: 8443, tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}, {group: "", kind: Service, name: ca}]}}}]
`+listeners+rest, "192.0.2.7")
	want := map[string][]string{
		"":       {"Accepted True ListenersNotValid", "Programmed True Programmed", "Ready False Pending", "ResolvedRefs False InvalidClientCertificateRef", "InsecureFrontendValidationMode True ConfigurationChanged"},
		"http":   {"Accepted True Accepted", "Programmed True Programmed", "ResolvedRefs True ResolvedRefs", "Conflicted False NoConflicts"},
		"strict": {"Accepted False NoValidCACertificate", "Programmed False Invalid", "ResolvedRefs False InvalidCACertificateRef", "Conflicted False NoConflicts"},
		"lax":    {"Accepted True Accepted", "Programmed True Programmed", "ResolvedRefs False InvalidCACertificateKind", "Conflicted False NoConflicts"},
	}
	if diff := cmp.Diff(want, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"IPAddress 192.0.2.7"}, addresses); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}
