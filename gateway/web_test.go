package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func webPolicyOn(name, kind, target, section, spec string) string {
	if section != "" {
		section = ", sectionName: " + section
	}
	return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: %s, name: %s%s}]\n  %s\n", name, kind, target, section, spec)
}

// TestCORS checks what browsers are told, by a policy and by a filter, which wins over it.
func TestCORS(t *testing.T) {
	s := newWebServer(t, "s", nil)
	text := hosts("web", "", s) +
		webPolicyOn("p", "HTTPRoute", "r", "", `cors: {allowOrigins: ["https://app.example.com", "https://*.example.org"], allowCredentials: true, allowMethods: [GET, PUT], allowHeaders: ["*"], exposeHeaders: [X-A, X-B], maxAge: 60}`) +
		webPolicyOn("q", "HTTPRoute", "r2", "", `cors: {allowOrigins: ["*"], allowMethods: ["*"]}`) +
		webPolicyOn("deny", "HTTPRoute", "r", "", `rbac: {policy: {matchExpressions: ["request.method == 'GET'"]}}`) +
		route("r", "matches: [{path: {value: /a}}]\n"+toWeb) +
		route("r2", "matches: [{path: {value: /b}}]\n"+toWeb) +
		route("r3", "matches: [{path: {value: /c}}]\nfilters: [{type: CORS, cors: {allowOrigins: [\"https://filter.example\"], maxAge: 7}}]\n"+toWeb) +
		route("r4", "matches: [{path: {value: /d}}]\n"+toWeb)
	g := start(t, text)
	for _, tc := range []struct {
		name, method, path, origin, asks string
		status                           int
		want                             string // the headers about it
	}{
		{"preflight, before access control", "OPTIONS", "/a", "https://app.example.com", "PUT", 204,
			"Access-Control-Allow-Credentials: true|Access-Control-Allow-Headers: x-one, x-two|Access-Control-Allow-Methods: GET, PUT|Access-Control-Allow-Origin: https://app.example.com|Access-Control-Expose-Headers: X-A, X-B|Access-Control-Max-Age: 60|Vary: Origin"},
		{"another origin", "OPTIONS", "/a", "https://evil.example", "PUT", 204, "Vary: Origin"},
		{"another scheme", "OPTIONS", "/a", "http://app.example.com", "PUT", 204, "Vary: Origin"},
		{"a domain that only ends so", "GET", "/a", "https://evilexample.org", "", 200, "Vary: Origin"},
		{"a subdomain", "GET", "/a", "https://a.b.Example.org", "", 200, "Access-Control-Allow-Credentials: true|Access-Control-Allow-Origin: https://a.b.Example.org|Access-Control-Expose-Headers: X-A, X-B|Vary: Origin"},
		{"what is refused can be read, too", "POST", "/a", "https://app.example.com", "", 403, "Access-Control-Allow-Credentials: true|Access-Control-Allow-Origin: https://app.example.com|Access-Control-Expose-Headers: X-A, X-B|Vary: Origin"},
		{"any origin", "GET", "/b", "https://who.example", "", 200, "Access-Control-Allow-Origin: *"},
		{"any method", "OPTIONS", "/b", "https://who.example", "PATCH", 204, "Access-Control-Allow-Methods: *|Access-Control-Allow-Origin: *|Access-Control-Max-Age: 5"},
		{"no page", "GET", "/b", "", "", 200, ""},
		{"a filter", "OPTIONS", "/c", "https://filter.example", "GET", 204, "Access-Control-Allow-Origin: https://filter.example|Access-Control-Max-Age: 7|Vary: Origin"},
		{"nothing is said", "OPTIONS", "/d", "https://who.example", "GET", 200, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var header []string
			if tc.origin != "" {
				header = []string{"Origin", tc.origin}
			}
			if tc.asks != "" {
				header = append(header, "Access-Control-Request-Method", tc.asks, "Access-Control-Request-Headers", "x-one, x-two")
			}
			got := g.do(tc.method, g.url("8080", tc.path), nil, header...)
			var about []string
			for _, name := range []string{"Credentials", "Headers", "Methods", "Origin"} {
				about = append(about, "Access-Control-Allow-"+name)
			}
			about = append(about, "Access-Control-Expose-Headers", "Access-Control-Max-Age", "Vary")
			var lines []string
			for _, name := range about {
				if v := got.Header.Values(name); len(v) > 0 {
					lines = append(lines, name+": "+strings.Join(v, " and "))
				}
			}
			if is := strings.Join(lines, "|"); got.Status != tc.status || is != tc.want {
				t.Errorf("%d %s\nwant %d %s", got.Status, is, tc.status, tc.want)
			}
		})
	}
}

func TestCSRF(t *testing.T) {
	s := newWebServer(t, "s", nil)
	text := hosts("web", "", s) + route("r", toWeb)
	policy := func(spec string) string { return webPolicyOn("p", "Gateway", "default", "", "csrf: "+spec) }
	const more = `{additionalOrigins: [{exact: app.example.com}, {suffix: .Example.ORG, ignoreCase: true}, {safeRegex: "x[0-9]+.example"}]}`
	for _, tc := range []struct {
		name, spec, method string
		header             []string
		status             int
	}{
		{"reading", "{}", "GET", nil, 200},
		{"no origin", "{}", "POST", nil, 403},
		{"the own one", "{}", "POST", []string{"Origin", "http://HOST"}, 200},
		{"by Referer", "{}", "DELETE", []string{"Referer", "http://HOST/page?x=1"}, 200},
		{"another one", "{}", "PUT", []string{"Origin", "https://evil.example"}, 403},
		{"null, and no Referer", "{}", "PATCH", []string{"Origin", "null"}, 403},
		{"the origin counts, not the Referer", "{}", "POST", []string{"Origin", "https://evil.example", "Referer", "http://HOST/"}, 403},
		{"permitted", more, "POST", []string{"Origin", "https://app.example.com"}, 200},
		{"permitted, whatever the case", more, "POST", []string{"Origin", "https://a.example.org"}, 200},
		{"permitted by an expression", more, "POST", []string{"Origin", "https://x12.example"}, 200},
		{"an expression is for the whole", more, "POST", []string{"Origin", "https://ax12.example"}, 403},
		{"switched off", "{percentageEnabled: 0}", "POST", nil, 200},
		{"watched", "{percentageShadowed: 100}", "POST", nil, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := start(t, text+policy(tc.spec))
			url := g.url("8080", "/")
			for i := range tc.header {
				tc.header[i] = strings.Replace(tc.header[i], "HOST", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/"), 1)
			}
			if got := g.do(tc.method, url, nil, tc.header...); got.Status != tc.status {
				t.Errorf("%d %s, want %d", got.Status, got.Body, tc.status)
			}
		})
	}
}

// TestWebFields checks that each field of the most specific policy counts, as a whole, and that a route
// can switch off what its Gateway has.
func TestWebFields(t *testing.T) {
	text := static("echo", upstreamServer(t, "echo")) +
		route("r", "matches: [{path: {value: /a}}]\n"+strings.Replace(toWeb, "web", "echo", 1)) +
		route("r2", "matches: [{path: {value: /b}}]\ntimeouts: {request: 0s}\n"+strings.Replace(toWeb, "web", "echo", 1)) +
		webPolicyOn("p", "Gateway", "default", "", "buffer: {maxRequestSize: 1Ki}\n  headerModifiers: {request: {set: [{name: x-from, value: gateway}], remove: [x-secret]}, response: {set: [{name: x-answer, value: gateway}]}}") +
		webPolicyOn("q", "HTTPRoute", "r2", "", "buffer: {disable: {}}\n  headerModifiers: {request: {add: [{name: x-from, value: route}]}}")
	g := start(t, text)
	big := strings.Repeat("x", 1025)
	got := g.do("POST", g.url("8080", "/a"), strings.NewReader(big))
	if got.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: %d", got.Status)
	}
	got = g.do("POST", g.url("8080", "/a"), struct{ *strings.Reader }{strings.NewReader(big)}) // without a length
	if got.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a chunked body over the limit: %d", got.Status)
	}
	got = g.do("POST", g.url("8080", "/a"), strings.NewReader(big[1:]), "X-Secret", "1")
	seen := decode(t, got)
	if diff := cmp.Diff([]string{"gateway", "", "gateway"}, []string{seen.Header.Get("X-From"), seen.Header.Get("X-Secret"), got.Header.Get("X-Answer")}); got.Status != 200 || diff != "" {
		t.Errorf("%d, headers (-want +got):\n%s", got.Status, diff)
	}
	got = g.do("POST", g.url("8080", "/b"), strings.NewReader(big), "X-Secret", "1", "X-From", "me")
	seen = decode(t, got)
	if diff := cmp.Diff([]string{"me route", "1", ""}, []string{strings.Join(seen.Header["X-From"], " "), seen.Header.Get("X-Secret"), got.Header.Get("X-Answer")}); got.Status != 200 || diff != "" {
		t.Errorf("%d, headers (-want +got):\n%s", got.Status, diff)
	}
}

// TestPolicyTimeout checks that a policy bounds requests, unless the route says it itself.
func TestPolicyTimeout(t *testing.T) {
	s := newWebServer(t, "s", nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a" {
			<-r.Context().Done()
		}
	})
	g := start(t, hosts("web", "", s)+
		route("r", "matches: [{path: {value: /a}}]\n"+toWeb)+
		webPolicyOn("p", "Gateway", "default", "", "timeouts: {request: 50ms}"))
	if got := g.get("/a"); got.Status != http.StatusGatewayTimeout {
		t.Errorf("%d %s, want 504", got.Status, got.Body)
	}
	g.apply(hosts("web", "", s) +
		route("r", "matches: [{path: {value: /a}}]\ntimeouts: {request: 60ms}\n"+toWeb) +
		webPolicyOn("p", "Gateway", "default", "", "timeouts: {request: 1h}"))
	if got := g.get("/a"); got.Status != http.StatusGatewayTimeout {
		t.Errorf("%d %s, want 504 by the route's own", got.Status, got.Body)
	}
}
