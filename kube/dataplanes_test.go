package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
	"github.com/mcpgw/mcpgw/gateway"
)

// TestUptake: what the conditions of a Gateway say by how its data planes stand.
func TestUptake(t *testing.T) {
	const object, version = "Gateway/default/gw", "v2"
	port := func(gateway, message string) delivery.Finding {
		return delivery.Finding{Object: config.ObjectRef{Kind: "Gateway", Namespace: "default", Name: gateway}, Path: "spec.listeners[0].port", Reason: "PortUnavailable", Message: message}
	}
	plane := func(node, version, refuses string, problems ...delivery.Finding) delivery.DataPlane {
		return delivery.DataPlane{Node: node, Gateways: map[string]string{object: version}, Refuses: refuses, Problems: problems}
	}
	const programmed, pending = "Programmed True Programmed", "Programmed False Pending"
	ready, waits := []string{programmed, "Ready True Ready"}, []string{pending, "Ready False Pending"}
	for name, tt := range map[string]struct {
		planes []delivery.DataPlane
		unsure bool
		before bool // it was served
		want   []string
		says   string // somewhere
		never  string // not
	}{
		"none, and it never was": {unsure: true, want: waits, says: "no data plane is connected: run `mcpgw serve --controller controller.test:9978` with a token of ServiceAccount gw"},
		"none any more":          {before: true, want: waits, says: "no data plane is connected"},
		"none yet":               {before: true, unsure: true, want: ready},
		"taken":                  {planes: []delivery.DataPlane{plane("a", version, "")}, want: ready, says: "A data plane serves"},
		"taken by two":           {planes: []delivery.DataPlane{plane("a", version, ""), plane("b", version, "")}, want: ready, says: "2 data planes serve"},
		"not answered":           {planes: []delivery.DataPlane{plane("a", "v1", "")}, want: waits, says: "have not taken the Gateway yet"},
		"not answered again":     {planes: []delivery.DataPlane{plane("a", "v1", "")}, before: true, want: ready},
		"refused": {planes: []delivery.DataPlane{plane("a", "v1", "bad"), plane("b", version, "bad")}, before: true, want: []string{"Programmed False Invalid", "Ready False Pending"},
			says: "data plane a and 1 more refuses what it is sent, and goes on with what it has: bad"},
		"refused by one":         {planes: []delivery.DataPlane{plane("a", version, ""), plane("b", "v1", "bad")}, want: ready, says: "Note: data plane b refuses"},
		"no port at one":         {planes: []delivery.DataPlane{plane("a", version, "", port("gw", "busy")), plane("b", version, "")}, want: ready, says: "Note: spec.listeners[0].port: data plane a: busy"},
		"no port":                {planes: []delivery.DataPlane{plane("a", version, "", port("gw", "busy")), plane("b", version, "", port("gw", "busy"))}, want: []string{"Programmed False Invalid", "Ready False ListenersNotReady"}, says: "data plane a and 1 more: busy"},
		"no port of another one": {planes: []delivery.DataPlane{plane("a", version, "", port("other", "busy"))}, want: ready, never: "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			s := setOf(t, clusterOf(oneListener, `kube: {}`, `selfManaged: {}`))
			s.resources.Services = append(s.resources.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gw"}, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}})
			s.resources.GatewayParameters = s.resources.GatewayParameters[1:] // the Gateway's own
			proxies := &Proxies{Address: "controller.test:9978", Identity: NewIdentity("controller.test")}
			_, report := gateway.Compile(s.resources, nil)
			for _, g := range s.resources.Gateways {
				g.Generation = 2
				s.plans = map[config.ObjectRef]plan{refOf("Gateway", g): {gateway: g, selfManaged: true}}
				if tt.before {
					for _, kind := range []string{"Programmed", "Ready"} {
						g.Status.Conditions = append(g.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: kind, ObservedGeneration: 1, Message: "before"})
					}
				}
			}
			name := types.NamespacedName{Namespace: "default", Name: "gw"}
			o := &outcome{set: s, report: report, versions: map[types.NamespacedName]string{name: version}, standing: standing{planes: map[types.NamespacedName][]delivery.DataPlane{name: tt.planes}, unsure: tt.unsure}}
			var got []string
			said := ""
			for _, c := range o.changes(&Options{Controller: gateway.ControllerName, Proxies: proxies}) {
				if c.object.GetKind() != "Gateway" {
					continue
				}
				for _, c := range c.fields["conditions"].([]metav1.Condition) {
					if said += c.Message + "\n"; c.Type == "Programmed" || c.Type == "Ready" {
						got = append(got, fmt.Sprintf("%s %s %s", c.Type, c.Status, c.Reason))
						if kept := c.Message == "before"; kept != (c.ObservedGeneration == 1) {
							t.Errorf("%s is of generation %d: %s", c.Type, c.ObservedGeneration, c.Message)
						}
					}
				}
				for _, l := range c.fields["listeners"].([]gatewayv1.ListenerStatus) {
					for _, c := range l.Conditions {
						said += c.Message + "\n"
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !strings.Contains(said, tt.says) || tt.never != "" && strings.Contains(said, tt.never) {
				t.Errorf("what is said:\n%s", said)
			}
		})
	}
}

// TestTold: what a replica tells of its data planes is what the others read; what is too much is left out.
func TestTold(t *testing.T) {
	planes := map[types.NamespacedName][]delivery.DataPlane{
		{Namespace: "a", Name: "gw"}: {{Node: "one", Gateways: map[string]string{"Gateway/a/gw": "v"}, Refuses: "why", Problems: []delivery.Finding{{Message: "m"}}}},
		{Namespace: "b", Name: "gw"}: {{Node: strings.Repeat("x", maxTold-100)}},
		{Namespace: "c", Name: "gw"}: {{Node: strings.Repeat("x", 100)}},
	}
	text, err := writeTold(planes)
	if err != nil || len(text) > 1<<20 {
		t.Fatal(len(text), err)
	}
	got := toldBy(map[string]hearsay{"x": {planes: readTold(&corev1.ConfigMap{Data: map[string]string{toldKey: text}})}})
	if diff := cmp.Diff(map[types.NamespacedName][]delivery.DataPlane{{Namespace: "a", Name: "gw"}: planes[types.NamespacedName{Namespace: "a", Name: "gw"}]}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, text := range []string{"", "{", `{"a":[]}`, `[]`} {
		if got := readTold(&corev1.ConfigMap{Data: map[string]string{toldKey: text}}); len(got) != 0 {
			t.Errorf("of %q there is %v", text, got)
		}
	}
}
