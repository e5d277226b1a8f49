package gateway

import (
	"fmt"
	"net"
	"testing"
)

// TestZones checks that requests to a Service are spread over the zones of its EndpointSlices, which may change while it is served.
func TestZones(t *testing.T) {
	servers := []*webServer{newWebServer(t, "a", nil), newWebServer(t, "b", nil), newWebServer(t, "c", nil), newWebServer(t, "d", nil)}
	text := func(zones ...string) string {
		text := route("r", "backendRefs: [{name: s, port: 80}]") + `
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 80}]}
`
		for i, s := range servers {
			host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
			text += fmt.Sprintf(`
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-%d, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: %s}]
endpoints: [{addresses: [%s], zone: %s}]
`, i, port, host, zones[i])
		}
		return text + connectionPolicyOn("p", "Service", "s", "  loadBalancer: {type: RoundRobin, localityType: WeightedLb, updateMergeWindow: 0s, healthyPanicThreshold: 0}\n  outlierDetection: {consecutive5xx: 1, baseEjectionTime: 1h, maxEjectionPercent: 100}")
	}
	g := start(t, text("n", "n", "n", "n"))
	// One zone is none: what an endpoint can't take goes to all others.
	servers[0].status.Store(503)
	if got := answers(g, 100); got["a 503"] != 1 || got["b 200"] < 25 || got["c 200"] < 25 || got["d 200"] < 25 {
		t.Errorf("in one zone: %v", got)
	}
	// The other one of its zone has lost half of it: 1.4 of 3.4 is left.
	g.apply(text("n", "n", "s", "s"))
	if got := answers(g, 2000); got["a 503"] != 0 || got["b 200"] < 700 || got["b 200"] > 950 || got["c 200"] < 450 || got["d 200"] < 450 {
		t.Errorf("in two zones: %v, want about 824 for b", got)
	}
}

// TestConnectionLimits checks that what policies say of connections holds.
func TestConnectionLimits(t *testing.T) {
	a := newWebServer(t, "a", nil)
	text := route("r", toWeb) + hosts("web", "", a)
	for say, want := range map[string]int{"": 1, "commonHttpProtocolOptions: {maxRequestsPerConnection: 0}": 1, "commonHttpProtocolOptions: {maxRequestsPerConnection: 2}": 3} {
		policy := ""
		if say != "" {
			policy = connectionPolicyOn("p", "Backend", "web", "  "+say+"\n  perConnectionBufferLimitBytes: 131072")
		}
		g := start(t, text+policy)
		from := map[string]bool{}
		for range 6 {
			from[g.get("/").Header.Get("X-Peer")] = true
		}
		if len(from) != want {
			t.Errorf("%s: 6 requests over %d connections, want %d", say, len(from), want)
		}
	}
}
