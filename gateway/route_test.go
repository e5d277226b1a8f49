package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
)

const listenersOn8080 = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: any, port: 8080, protocol: HTTP}
  - {name: wild, port: 8080, protocol: HTTP, hostname: "*.example.com"}
  - {name: one, port: 8080, protocol: HTTP, hostname: one.example.com}
`

// on is an HTTPRoute on the Gateway gw that sends all to a Backend of the same name.
func on(name, parent, hostnames, matches string) string {
	return fmt.Sprintf(`
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [%[2]s]
  hostnames: [%[3]s]
  rules:
  - matches: [%[4]s]
    backendRefs: [%[5]s]
`, name, parent, hostnames, matches, to(name))
}

// Which route answers, over real sockets.
func TestRouting(t *testing.T) {
	text := listenersOn8080
	// A route without sectionName is attached to every listener; prefixes go before expressions.
	routes := map[string][3]string{ // name: parent, hostnames, matches
		"all":     {"{name: gw, sectionName: any}", "", "{path: {value: /}}"},
		"exact":   {"{name: gw, sectionName: any}", "", "{path: {type: Exact, value: /a/b}}"},
		"prefix":  {"{name: gw, sectionName: any}", "", "{path: {value: /a/}}"},
		"longer":  {"{name: gw, sectionName: any}", "", "{path: {value: /a/b}}"},
		"regex":   {"{name: gw}", "r.test, r.example.com", `{path: {type: RegularExpression, value: "/r/[0-9]+"}}`},
		"method":  {"{name: gw, sectionName: any}", "", "{path: {value: /m}, method: POST}"},
		"plain":   {"{name: gw, sectionName: any}", "", "{path: {value: /m}}"},
		"header":  {"{name: gw, sectionName: any}", "", `{path: {value: /m}, headers: [{name: x-v, value: "1"}]}`},
		"headers": {"{name: gw, sectionName: any}", "", `{path: {value: /m}, headers: [{name: X-V, value: "1"}, {name: x-w, type: RegularExpression, value: "a|b"}]}`},
		"query":   {"{name: gw, sectionName: any}", "", `{path: {value: /m}, queryParams: [{name: q, value: "1"}]}`},
		"host":    {"{name: gw, sectionName: any}", "host.test", "{path: {value: /}}"},
		"wild":    {"{name: gw, sectionName: wild}", "", "{path: {value: /}}"},
		"deep":    {"{name: gw, sectionName: wild}", "deep.example.com", "{path: {value: /only}}"},
		"one":     {"{name: gw, sectionName: one}", "'*.example.com'", "{path: {value: /}}"},
	}
	for _, name := range []string{"all", "exact", "prefix", "longer", "regex", "method", "plain", "header", "headers", "query", "host", "wild", "deep", "one"} {
		r := routes[name]
		text += static(name, upstreamServer(t, name)) + on(name, r[0], r[1], r[2])
	}
	g := start(t, text)
	for _, tc := range []struct {
		method, path, host string
		header             []string
		want               string
	}{
		{"GET", "/", "x.test", nil, "all"},
		{"GET", "/a", "x.test", nil, "prefix"},
		{"GET", "/a/", "x.test", nil, "prefix"},
		{"GET", "/ab", "x.test", nil, "all"},
		{"GET", "/a/b", "x.test", nil, "exact"},
		{"GET", "/a/b/", "x.test", nil, "longer"},
		{"GET", "/a/bc", "x.test", nil, "prefix"},
		{"GET", "/%61/c", "x.test", nil, "prefix"},
		{"GET", "/r/12", "r.test", nil, "regex"},
		{"GET", "/r/12", "r.example.com", nil, "regex"},
		{"GET", "/r/12", "x.test", nil, "all"},
		{"GET", "/r/12x", "r.test", nil, "all"},
		{"GET", "/m", "x.test", nil, "plain"},
		{"POST", "/m", "x.test", nil, "method"},
		{"GET", "/m", "x.test", []string{"X-V", "1"}, "header"},
		{"POST", "/m", "x.test", []string{"X-V", "1"}, "method"},
		{"GET", "/m", "x.test", []string{"X-V", "2"}, "plain"},
		{"GET", "/m", "x.test", []string{"X-V", "1", "X-W", "b"}, "headers"},
		{"GET", "/m", "x.test", []string{"X-V", "1", "X-W", "bb"}, "header"},
		{"GET", "/m?q=1", "x.test", nil, "query"},
		{"GET", "/m?q=1&q=2", "x.test", nil, "query"},
		{"GET", "/m?q=2&q=1", "x.test", nil, "plain"},
		{"GET", "/m?q=1", "x.test", []string{"X-V", "1"}, "header"},
		{"GET", "/a/b", "HOST.test:123", nil, "host"},
		{"GET", "/a/b", "y.example.com", nil, "wild"},
		{"GET", "/a/b", "z.y.example.com", nil, "wild"},
		{"GET", "/only", "deep.example.com", nil, "deep"},
		{"GET", "/other", "deep.example.com", nil, "wild"},
		{"GET", "/", "one.example.com", nil, "one"},
		{"GET", "/", "example.com", nil, "all"},
	} {
		got := g.do(tc.method, g.url("8080", tc.path), nil, append(tc.header, "Host", tc.host)...)
		if name := got.Header.Get("X-Upstream"); name != tc.want {
			t.Errorf("%s %s%s %v is answered by %q (%d %s), want %q", tc.method, tc.host, tc.path, tc.header, name, got.Status, got.Body, tc.want)
		}
	}
}

func TestFilters(t *testing.T) {
	host := upstreamServer(t, "a")
	for _, tc := range []struct {
		name, match, filters string
		path                 string
		status               int
		check                func(t *testing.T, r reply)
	}{
		{
			"request headers", "/", `{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}, {name: Host, value: h.test}], add: [{name: x-add, value: more}], remove: [x-gone]}}`,
			"/", 200, func(t *testing.T, r reply) {
				e := decode(t, r)
				want := []string{"new", "old, more", "", "h.test"}
				got := []string{e.Header.Get("X-Set"), strings.Join(e.Header.Values("X-Add"), ", "), e.Header.Get("X-Gone"), e.Host}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			},
		},
		{
			"response headers", "/", `{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-upstream, value: hidden}], add: [{name: x-more, value: "1"}], remove: [date]}}`,
			"/", 200, func(t *testing.T, r reply) {
				if r.Header.Get("X-Upstream") != "hidden" || r.Header.Get("X-More") != "1" {
					t.Errorf("header %v", r.Header)
				}
			},
		},
		{"prefix replaced", "/old", rewriteTo("ReplacePrefixMatch", "/new/"), "/old/x%20y?q=1", 200, uri("/new/x%20y?q=1")},
		{"prefix replaced by the root", "/old", rewriteTo("ReplacePrefixMatch", "/"), "/old", 200, uri("/")},
		{"prefix taken away", "/old", rewriteTo("ReplacePrefixMatch", ""), "/old/x", 200, uri("/x")},
		{"prefix replaced, what was escaped stays so", "/old", rewriteTo("ReplacePrefixMatch", "/n w"), "/old/a%3Bb", 200, uri("/n%20w/a%3Bb")},
		{"escaped prefix replaced", "/old", rewriteTo("ReplacePrefixMatch", "/new"), "/o%6Cd/a%3Bb", 200, uri("/new/a%3Bb")},
		{"path replaced", "/old", rewriteTo("ReplaceFullPath", "/new"), "/old/x?q=1", 200, uri("/new?q=1")},
		{"host replaced", "/", `{type: URLRewrite, urlRewrite: {hostname: other.test}}`, "/", 200, func(t *testing.T, r reply) {
			if e := decode(t, r); e.Host != "other.test" || !strings.HasPrefix(e.Header.Get("X-Forwarded-Host"), "127.0.0.1") {
				t.Errorf("host %q, header %v", e.Host, e.Header)
			}
		}},
		{"redirect", "/old", `{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.test, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}`, "/old/x?q=1", 301, location("https://new.test/new/x?q=1")},
		{"redirect to a port", "/old", `{type: RequestRedirect, requestRedirect: {hostname: new.test, port: 8443}}`, "/old", 302, location("http://new.test:8443/old")},
		{"redirect keeps the listener's port", "/old", `{type: RequestRedirect, requestRedirect: {hostname: new.test}}`, "/old", 302, location("http://new.test:8080/old")},
		{"redirect with the port that the scheme implies", "/old", `{type: RequestRedirect, requestRedirect: {hostname: new.test, scheme: https, port: 443}}`, "/old", 302, location("https://new.test/old")},
		{"not served", "/", `{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: a, port: 80}}}`, "/", 500, nil},
		{"extension that is not there", "/", `{type: ExtensionRef, extensionRef: {group: gateway.kgateway.dev, kind: DirectResponse, name: nowhere}}`, "/", 500, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			backends := "\nbackendRefs: [" + to("a") + "]"
			if strings.Contains(tc.filters, "requestRedirect") {
				backends = ""
			}
			g := start(t, static("a", host)+route("r", "matches: [{path: {value: "+tc.match+"}}]\nfilters: ["+tc.filters+"]"+backends))
			got := g.get(tc.path, "X-Set", "old", "X-Add", "old", "X-Gone", "1")
			if got.Status != tc.status {
				t.Fatalf("answer %+v, want %d", got, tc.status)
			}
			if tc.check != nil {
				tc.check(t, got)
			}
		})
	}
}

func rewriteTo(kind, value string) string {
	field := strings.ToLower(kind[:1]) + kind[1:]
	return fmt.Sprintf("{type: URLRewrite, urlRewrite: {path: {type: %s, %s: %q}}}", kind, field, value)
}

func uri(want string) func(*testing.T, reply) {
	return func(t *testing.T, r reply) {
		if e := decode(t, r); e.URI != want {
			t.Errorf("upstream got %s, want %s", e.URI, want)
		}
	}
}

func location(want string) func(*testing.T, reply) {
	return func(t *testing.T, r reply) {
		if got := r.Header.Get("Location"); got != want {
			t.Errorf("Location %s, want %s", got, want)
		}
	}
}

// Shares of traffic follow the weights; a reference that leads nowhere answers 500 for its share alone.
func TestWeights(t *testing.T) {
	text := static("a", upstreamServer(t, "a")) + static("b", upstreamServer(t, "b")) +
		route("r", `backendRefs:
- {group: gateway.kgateway.dev, kind: Backend, name: a, weight: 80}
- {group: gateway.kgateway.dev, kind: Backend, name: b, weight: 10, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-share, value: b}]}}]}
- {group: gateway.kgateway.dev, kind: Backend, name: nowhere, weight: 10}
- {group: gateway.kgateway.dev, kind: Backend, name: b, weight: 0}`)
	g := start(t, text)
	count := map[string]int{}
	const n = 1000
	for range n {
		got := g.get("/")
		count[fmt.Sprint(got.Status, got.Header.Get("X-Upstream"))]++
		if share := got.Status == 200 && decode(t, got).Header.Get("X-Share") == "b"; share != (got.Header.Get("X-Upstream") == "b") {
			t.Fatalf("the filter of one reference acted on another: %+v", got)
		}
	}
	for key, want := range map[string]int{"200a": n * 80 / 100, "200b": n / 10, "500": n / 10} {
		if got := count[key]; got < want-60 || got > want+60 { // six standard deviations
			t.Errorf("%s: %d of %d, want about %d", key, got, n, want)
		}
	}
}

// A DirectResponse answers after access control, and is found by name.
func TestDirectResponse(t *testing.T) {
	filter := `matches: [{path: {type: Exact, value: /robots.txt}}]
filters: [{type: ExtensionRef, extensionRef: {group: gateway.kgateway.dev, kind: DirectResponse, name: %s}}]`
	text := `
apiVersion: gateway.kgateway.dev/v1alpha1
kind: DirectResponse
metadata: {name: robots}
spec: {status: 510, body: "User-agent: *"}
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: DirectResponse
metadata: {name: json}
spec: {status: 200, body: '{"a": 1}'}
`
	policy := `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: deny}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}]
  rbac: {policy: {matchExpressions: ["'x-key' in request.headers"]}}
`
	g := start(t, text+route("r", fmt.Sprintf(filter, "robots")))
	if got := g.get("/robots.txt"); got.Status != 510 || got.Body != "User-agent: *" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("answer %+v", got)
	}
	if got := g.get("/robots.txt/x"); got.Status != 404 {
		t.Errorf("beside the exact path: %+v", got)
	}
	g.apply(text + route("r", fmt.Sprintf(filter, "json")))
	if got := g.get("/robots.txt"); got.Status != 200 || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("JSON body: %+v", got)
	}
	g.apply(text + route("r", fmt.Sprintf(filter, "robots")) + policy)
	if got := g.get("/robots.txt"); got.Status != 403 || got.Body != "authorization failed" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("without permission: %+v", got)
	}
	if got := g.get("/robots.txt", "X-Key", "1"); got.Status != 510 {
		t.Errorf("with permission: %+v", got)
	}
	report := g.apply(text + route("r", fmt.Sprintf(filter, "robotz")))
	if got := g.get("/robots.txt"); got.Status != 500 {
		t.Errorf("unknown DirectResponse: %+v", got)
	}
	if len(report.Problems) != 1 || report.Problems[0].Class != config.Unresolved || report.Problems[0].Reason != "BackendNotFound" || report.Problems[0].Help != `did you mean "robots"?` {
		t.Errorf("report %+v", report.Problems)
	}
}

// Services are found by EndpointSlices, ready endpoints only, by the name of the port; or by their external name.
func TestServices(t *testing.T) {
	hostPort := func(yaml string) (host, port string) {
		_, port, _ = strings.Cut(strings.TrimSuffix(yaml, "}"), "port: ")
		return "127.0.0.1", port
	}
	_, a := hostPort(upstreamServer(t, "a"))
	_, b := hostPort(upstreamServer(t, "b"))
	text := fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: web, port: 80}, {name: admin, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: web, port: %s}]
endpoints:
- addresses: [127.0.0.1]
- {addresses: [127.0.0.9], conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-2, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: admin, port: 1}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: false}}]
---
apiVersion: v1
kind: Service
metadata: {name: ext}
spec: {type: ExternalName, externalName: localhost, ports: [{port: %s}]}
---
apiVersion: v1
kind: Service
metadata: {name: nowhere}
spec: {ports: [{port: 80}]}
`, a, b) + route("r", "matches: [{path: {value: /web}}]\nbackendRefs: [{name: s, port: 80}]") +
		route("r2", "matches: [{path: {value: /admin}}]\nbackendRefs: [{name: s, port: 81}]") +
		route("r3", "matches: [{path: {value: /ext}}]\nbackendRefs: [{name: ext, port: "+b+"}]") +
		route("r4", "matches: [{path: {value: /nowhere}}]\nbackendRefs: [{name: nowhere, port: 80}]")
	g := start(t, text)
	for path, want := range map[string]string{"/web": "200 a", "/admin": "503 ", "/ext": "200 b", "/nowhere": "500 "} {
		r := g.get(path)
		if got := fmt.Sprint(r.Status, " ", r.Header.Get("X-Upstream")); got != want {
			t.Errorf("%s: %s %s, want %s", path, got, r.Body, want)
		}
	}
}

// A reference into another namespace needs a ReferenceGrant there, and a route leave of the listener.
func TestNamespaces(t *testing.T) {
	secret, pool := certificate(t, "a.test")
	_ = pool
	gateway := strings.Replace(secureGateway("a.test", "cert"), "{name: cert}", "{name: cert, namespace: certs}", 1)
	cert := strings.Replace(tlsSecret("cert", secret), "{name: cert}", "{name: cert, namespace: certs}", 1)
	grant := func(name, namespace, from, fromKind, kind, group string) string {
		return fmt.Sprintf("\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: %s, namespace: %s}\nspec:\n  from: [{group: gateway.networking.k8s.io, kind: %s, namespace: %s}]\n  to: [{group: %q, kind: %s}]\n", name, namespace, fromKind, from, group, kind)
	}
	backend := strings.Replace(static("a", upstreamServer(t, "a")), "{name: a}", "{name: a, namespace: apps}", 1)
	route := routeOn("gw", "r", "backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: a, namespace: apps}]")
	text := gateway + cert + backend + route
	g := start(t, text)
	reasons := func(r *config.Report) (out []string) {
		for _, p := range r.Problems {
			if p.Class == config.Unresolved {
				out = append(out, p.Object.Kind+" "+p.Reason)
			}
		}
		return out
	}
	if diff := cmp.Diff([]string{"Gateway RefNotPermitted", "HTTPRoute RefNotPermitted"}, reasons(g.apply(text))); diff != "" {
		t.Errorf("without grants (-want +got):\n%s", diff)
	}
	text += grant("g1", "certs", "default", "Gateway", "Secret", "")
	if diff := cmp.Diff([]string{"HTTPRoute RefNotPermitted"}, reasons(g.apply(text))); diff != "" {
		t.Errorf("with a grant for the Secret (-want +got):\n%s", diff)
	}
	if got := g.Snapshot().ports[8443].listener("a.test").router.find("a.test", &http.Request{Method: "GET", URL: mustURL("/")}); got == nil || got.rule.backends[0].to.fault == nil {
		t.Error("the reference that is not permitted has a backend")
	}
	text += grant("g2", "apps", "default", "HTTPRoute", "Backend", "gateway.kgateway.dev")
	if diff := cmp.Diff([]string(nil), reasons(g.apply(text))); diff != "" {
		t.Errorf("with both (-want +got):\n%s", diff)
	}
}

// policyOn is a TrafficPolicy on an object, with one expression that allows.
func policyOn(kind, name, expression string) string {
	group := "gateway.networking.k8s.io"
	if kind == "Backend" {
		group = "gateway.kgateway.dev"
	}
	return fmt.Sprintf(`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: on-%s-%s}
spec:
  targetRefs: [{group: %s, kind: %s, name: %s}]
  rbac: {policy: {matchExpressions: [%q]}}
`, strings.ToLower(kind), name, group, kind, name, expression)
}

func mustURL(path string) *url.URL { return &url.URL{Path: path} }
