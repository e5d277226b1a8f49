package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestListenerSetStatus: a ListenerSet says if its listeners are the Gateway's, and which of them can't be; what is not allowed is nobody's.
func TestListenerSetStatus(t *testing.T) {
	set := func(namespace, name, listeners string) string {
		return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec:\n  parentRef: {name: gw, namespace: default}\n  listeners: [" + listeners + "]\n"
	}
	conditions, _ := gatewayStatus(t, aClass+"  allowedListeners: {namespaces: {from: Same}}\n  listeners: [{name: http, port: 80, protocol: HTTP}]\n"+
		set("default", "sound", "{name: a, port: 80, protocol: HTTP, hostname: a.test}")+
		set("default", "part", "{name: a, port: 80, protocol: HTTP, hostname: a.test}, {name: b, port: 81, protocol: HTTP}")+
		set("default", "none", "{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: stolen, namespace: far}]}}")+
		set("far", "other", "{name: a, port: 80, protocol: HTTP, hostname: other.test}"), "192.0.2.7")
	want := map[string][]string{
		"":        {"Accepted True Accepted", "Programmed True Programmed", "Ready False Pending"},
		"http":    {"Accepted True Accepted", "Programmed True Programmed", "ResolvedRefs True ResolvedRefs", "Conflicted False NoConflicts"},
		"sets":    {"2"},
		"sound":   {"Accepted True Accepted", "Programmed True Programmed"},
		"part":    {"Accepted True ListenersNotValid", "Programmed True Programmed"},
		"none":    {"Accepted False ListenersNotValid", "Programmed False ListenersNotValid"},
		"other":   {"Accepted False NotAllowed", "Programmed False NotAllowed"},
		"none/s":  {"Accepted True Accepted", "Programmed False Invalid", "ResolvedRefs False RefNotPermitted", "Conflicted False NoConflicts"},
		"sound/a": {"Accepted True Accepted", "Programmed True Programmed", "ResolvedRefs True ResolvedRefs", "Conflicted False NoConflicts"},
		"part/a":  {"Accepted False HostnameConflict", "Programmed False HostnameConflict", "ResolvedRefs True ResolvedRefs", "Conflicted True HostnameConflict"},
		"part/b":  {"Accepted True Accepted", "Programmed True Programmed", "ResolvedRefs True ResolvedRefs", "Conflicted False NoConflicts"},
	}
	if diff := cmp.Diff(want, conditions); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
