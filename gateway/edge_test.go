package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
)

// listenerPolicy is an HTTPListenerPolicy on the Gateway default, or on one that is named.
func listenerPolicy(name, spec string, gateway ...string) string {
	on := "default"
	if len(gateway) > 0 {
		on = gateway[0]
	}
	return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: HTTPListenerPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: %s}]\n  %s\n", name, on, spec)
}

// ask sends text on a connection of its own, and returns how the answer reads. Over net/http
// unless the text is a POST, which is for the lean server.
func (g *testGateway) ask(port, text string) *http.Response {
	g.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url(port, ""), "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, text); err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

func TestNthFromLast(t *testing.T) {
	for _, tc := range []struct {
		lines []string
		n     int
		want  string
	}{
		{nil, 0, ""},
		{[]string{"192.0.2.1"}, 0, "192.0.2.1"},
		{[]string{"192.0.2.1, 192.0.2.2 ,\t192.0.2.3"}, 0, "192.0.2.3"},
		{[]string{"192.0.2.1, 192.0.2.2, 192.0.2.3"}, 1, "192.0.2.2"},
		{[]string{"192.0.2.1, 192.0.2.2, 192.0.2.3"}, 2, "192.0.2.1"},
		{[]string{"192.0.2.1, 192.0.2.2, 192.0.2.3"}, 3, ""},
		{[]string{"192.0.2.1", "192.0.2.2,192.0.2.3"}, 2, "192.0.2.1"},
		{[]string{"192.0.2.1", "192.0.2.2"}, 1, "192.0.2.1"},
		{[]string{"2001:db8::1"}, 0, "2001:db8::1"},
		{[]string{"[2001:db8::1]"}, 0, "2001:db8::1"},
		{[]string{"[2001:db8::1]:77"}, 0, "2001:db8::1 77"},
		{[]string{"::ffff:192.0.2.1"}, 0, "192.0.2.1"},
		{[]string{"192.0.2.1:77"}, 0, "192.0.2.1 77"},
		{[]string{"fe80::1%eth0"}, 0, "fe80::1"},
		{[]string{"unknown"}, 0, ""},
		{[]string{"192.0.2.1,"}, 0, ""},
		{[]string{"192.0.2.1, evil, 192.0.2.2"}, 1, ""},
	} {
		got := ""
		if a, ok := nthFromLast(tc.lines, tc.n); ok {
			got = a.Addr().String()
			if a.Port() > 0 {
				got += fmt.Sprint(" ", a.Port())
			}
		}
		if got != tc.want {
			t.Errorf("%q, %d: %q, want %q", tc.lines, tc.n, got, tc.want)
		}
	}
}

// TestTrustedHops checks whose address is the client's, for the record and for rules, and what the
// backend is told of it, on both of our HTTP/1.1 servers.
func TestTrustedHops(t *testing.T) {
	const sent = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n"
	text := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]")
	for _, tc := range []struct {
		name, spec, headers        string
		source, list, proto, wants string // wants is the host
	}{
		{"none is trusted", "useRemoteAddress: true", sent, "127.0.0.1", "192.0.2.1, 192.0.2.2, 127.0.0.1", "http", "x"},
		{"one", "xffNumTrustedHops: 1", sent, "192.0.2.2", "192.0.2.1, 192.0.2.2, 127.0.0.1", "https", "public.example"},
		{"two", "xffNumTrustedHops: 2", sent, "192.0.2.1", "192.0.2.1, 192.0.2.2, 127.0.0.1", "https", "public.example"},
		{"three, but there are two", "xffNumTrustedHops: 3", sent, "127.0.0.1", "192.0.2.1, 192.0.2.2, 127.0.0.1", "https", "public.example"},
		{"the last in the header", "useRemoteAddress: false", sent, "192.0.2.2", "192.0.2.1, 192.0.2.2", "https", "public.example"},
		{"one before it", "useRemoteAddress: false\n  xffNumTrustedHops: 1", sent, "192.0.2.1", "192.0.2.1, 192.0.2.2", "https", "public.example"},
		{"a proxy that says nothing", "useRemoteAddress: false", "", "127.0.0.1", "", "http", "x"},
		{"a proxy that says nonsense", "useRemoteAddress: false", "X-Forwarded-For: unknown\r\nX-Forwarded-Proto: gopher\r\n", "127.0.0.1", "unknown", "gopher", "x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := start(t, text+listenerPolicy("p", tc.spec))
			for i, line := range []string{"GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 0\r\n"} {
				resp := g.ask("8080", line+"Host: x\r\n"+tc.headers+"\r\n")
				body, _ := io.ReadAll(resp.Body)
				seen := decode(t, reply{Status: resp.StatusCode, Body: string(body)})
				if got := g.ended(i + 1)[i].Source.Addr().String(); got != tc.source {
					t.Errorf("%q the client is %s, want %s", line, got, tc.source)
				}
				got := []string{strings.Join(seen.Header["X-Forwarded-For"], "|"), strings.Join(seen.Header["X-Forwarded-Proto"], "|"), strings.Join(seen.Header["X-Forwarded-Host"], "|")}
				if diff := cmp.Diff([]string{tc.list, tc.proto, tc.wants}, got); diff != "" {
					t.Errorf("%q the backend is told (-want +got):\n%s", line, diff)
				}
			}
		})
	}
	t.Run("rules", func(t *testing.T) {
		g := start(t, text+listenerPolicy("p", "xffNumTrustedHops: 1")+
			webPolicyOn("q", "Gateway", "default", "", `rbac: {policy: {matchExpressions: ["source.address == '192.0.2.0/24' && request.scheme == 'https'"]}}`))
		for header, want := range map[string]int{"192.0.2.9": 200, "198.51.100.1, 192.0.2.9": 200, "192.0.2.9, 198.51.100.1": 403} {
			if got := g.get("/", "X-Forwarded-For", header, "X-Forwarded-Proto", "https"); got.Status != want {
				t.Errorf("%s: %d, want %d", header, got.Status, want)
			}
		}
	})
}

func TestServerHeader(t *testing.T) {
	named := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/named" {
			w.Header().Set("Server", "upstream")
		}
	})
	text := static("a", named) + route("r", "matches: [{path: {value: /}}]\nbackendRefs: ["+to("a")+"]")
	for to, want := range map[string][2]string{"": {"upstream", ""}, "PassThrough": {"upstream", ""}, "Overwrite": {"mcpgw", "mcpgw"}, "AppendIfAbsent": {"upstream", "mcpgw"}} {
		policy := ""
		if to != "" {
			policy = listenerPolicy("p", "serverHeaderTransformation: "+to)
		}
		g := start(t, text+policy)
		for _, method := range []string{"GET", "POST"} {
			got := [2]string{}
			for i, path := range []string{"/named", "/unnamed"} {
				got[i] = g.do(method, g.url("8080", path), nil).Header.Get("Server")
			}
			if got != want {
				t.Errorf("%q, %s: %q, want %q", to, method, got, want)
			}
		}
		g.stop()
	}
}

// A path for health checks is answered without a route, and noted as such; others of like names are not.
func TestHealthCheckPath(t *testing.T) {
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", "matches: [{path: {type: Exact, value: /x}}]\nbackendRefs: ["+to("a")+"]")+
		listenerPolicy("p", "healthCheck: {path: /healthz}")+webPolicyOn("q", "Gateway", "default", "", `rbac: {policy: {matchExpressions: ["false"]}}`))
	for i, tc := range []struct {
		path   string
		status int
		health bool
	}{{"/healthz", 200, true}, {"/healthz?x", 200, true}, {"/healthz/", 404, false}, {"/x", 403, false}} {
		got := g.get(tc.path)
		if rec := g.ended(i + 1)[i]; got.Status != tc.status || rec.HealthCheck != tc.health {
			t.Errorf("%s: %d, %v", tc.path, got.Status, rec.HealthCheck)
		}
	}
}

// HTTP/1.0 is served, unless a policy refuses it.
func TestOldHTTP(t *testing.T) {
	text := static("a", upstreamServer(t, "a")) + route("r", "hostnames: [old.example]\nbackendRefs: ["+to("a")+"]")
	text = strings.Replace(text, "  rules:\n  - hostnames: [old.example]\n    backendRefs", "  hostnames: [old.example]\n  rules:\n  - backendRefs", 1)
	for _, tc := range []struct {
		name, spec, host string
		status           int
	}{
		{"by default", "useRemoteAddress: true", "Host: old.example\r\n", 200},
		{"refused", "acceptHttp10: false", "Host: old.example\r\n", 426},
		{"accepted", "acceptHttp10: true", "Host: old.example\r\n", 200},
		{"accepted, without a host", "acceptHttp10: true", "", 400},
		{"with a default host", "acceptHttp10: true\n  defaultHostForHttp10: old.example", "", 200},
		{"a host counts more than the default", "acceptHttp10: true\n  defaultHostForHttp10: old.example", "Host: other\r\n", 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := start(t, text+listenerPolicy("p", tc.spec))
			resp := g.ask("8080", "GET / HTTP/1.0\r\n"+tc.host+"\r\n")
			if resp.StatusCode != tc.status {
				t.Errorf("%d, want %d", resp.StatusCode, tc.status)
			}
			if tc.status == 426 && (resp.Header.Get("Upgrade") != "HTTP/1.1" || !resp.Close) {
				t.Errorf("%v", resp.Header)
			}
			if tc.status == 200 {
				body, _ := io.ReadAll(resp.Body)
				if seen := decode(t, reply{Body: string(body)}); seen.Host != "old.example" {
					t.Errorf("the backend is asked for %q", seen.Host)
				}
			}
		})
	}
}

// An upgrade is passed on where it is enabled, and refused elsewhere.
func TestUpgrades(t *testing.T) {
	switching := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		w.Header().Set("Server", "upstream")
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nServer: upstream\r\n\r\n", r.Header.Get("Upgrade"))
		_ = rw.Flush()
	})
	text := static("a", switching) + route("r", "backendRefs: ["+to("a")+"]")
	const other = "upgradeConfig: {enabledUpgrades: [IRC/6.9, h2c, CONNECT]}"
	for _, tc := range []struct {
		name, spec, head string
		status           int
	}{
		{"WebSocket", "", "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", 101},
		{"WebSocket, listed", "upgradeConfig: {enabledUpgrades: [WebSocket]}", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", 101},
		{"WebSocket, not listed", other, "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", 403},
		{"another", "", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: irc/6.9\r\n", 403},
		{"another, listed", other, "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: irc/6.9\r\n", 101},
		{"one of two", "", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket, irc\r\n", 403},
		{"two lines", "", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: irc\r\n", 403},
		{"h2c is declined", other, "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", 200},
		{"not asked of this hop", "", "GET / HTTP/1.1\r\nUpgrade: irc\r\n", 200},
		{"with a body", "", "POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policies := listenerPolicy("q", "serverHeaderTransformation: Overwrite")
			if tc.spec != "" {
				policies += listenerPolicy("p", tc.spec)
			}
			g := start(t, text+policies)
			body := ""
			if strings.Contains(tc.head, "Content-Length: 2") {
				body = "ok"
			}
			resp := g.ask("8080", tc.head+"Host: x\r\n\r\n"+body)
			if resp.StatusCode != tc.status || resp.Header.Get("Server") != serverName {
				t.Errorf("%d %v, want %d", resp.StatusCode, resp.Header, tc.status)
			}
		})
	}
}

// The time for which nothing may move holds for all routes but those that say another.
func TestStreamIdleTimeout(t *testing.T) {
	slow := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		wait := 300 * time.Millisecond
		if r.URL.Path == "/a" {
			wait = time.Hour
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
	})
	g := start(t, static("a", slow)+route("r", "matches: [{path: {value: /a}}]\nbackendRefs: ["+to("a")+"]")+route("r2", "matches: [{path: {value: /b}}]\nbackendRefs: ["+to("a")+"]")+
		webPolicyOn("q", "HTTPRoute", "r2", "", "timeouts: {streamIdle: 0s}")+listenerPolicy("p", "streamIdleTimeout: 50ms"))
	for path, want := range map[string]int{"/a": 504, "/b": 200} {
		for _, method := range []string{"GET", "POST"} {
			if got := g.do(method, g.url("8080", path), nil); got.Status != want {
				t.Errorf("%s %s: %d %q", method, path, got.Status, got.Body)
			}
		}
	}
}

// The time for idle connections holds on both of our servers; another one opens the port anew.
func TestIdleTimeout(t *testing.T) {
	text := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]")
	g := start(t, text)
	g.apply(text + listenerPolicy("p", "idleTimeout: 50ms"))
	for _, head := range []string{"GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 0\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, head+"Host: x\r\n\r\n")
		b, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
			t.Errorf("%q: %q, %v", head, b, err)
		}
		_ = conn.Close()
	}
}

// TestListenerPolicies checks that the oldest policy counts, field by field, and that what has no effect is said.
func TestListenerPolicies(t *testing.T) {
	first := listenerPolicy("a", "healthCheck: {path: /old}\n  xffNumTrustedHops: 1") // what stands first is the oldest
	text := static("a", upstreamServer(t, "a")) + route("r", "matches: [{path: {value: /api}}]\nbackendRefs: ["+to("a")+"]")
	g := start(t, text)
	report := g.apply(text + first + listenerPolicy("b", "healthCheck: {path: /new}\n  serverHeaderTransformation: Overwrite\n  preserveHttp1HeaderCase: true\n  upgradeConfig: {enabledUpgrades: [h2c, CONNECT]}") +
		listenerPolicy("c", "healthCheck: {path: /newest}"))
	if got := g.get("/old"); got.Status != 200 || got.Header.Get("Server") != serverName {
		t.Errorf("%d %v", got.Status, got.Header)
	}
	for _, path := range []string{"/new", "/newest"} {
		if got := g.get(path); got.Status != 404 {
			t.Errorf("%s: %d", path, got.Status)
		}
	}
	if got := g.get("/api", "X-Forwarded-For", "192.0.2.1"); got.Status != 200 || g.ended(4)[3].Source != netip.MustParseAddrPort("192.0.2.1:0") {
		t.Errorf("%d, %v", got.Status, g.ended(4)[3].Source)
	}
	var got []string
	for _, p := range report.Problems {
		if p.Object.Kind == "HTTPListenerPolicy" {
			got = append(got, strings.TrimSpace(fmt.Sprint(p.Object.Name, " ", p.Path, " ", p.Class == config.Warning, " ", p.Code, " ", p.Reason)))
		}
	}
	want := []string{
		"b spec.upgradeConfig.enabledUpgrades[0] true MG0308", "b spec.upgradeConfig.enabledUpgrades[1] true MG0308", "b spec.preserveHttp1HeaderCase true MG0308",
		"b spec.healthCheck true MG0205 Merged", "c spec.healthCheck true MG0205 Overridden",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The answer to a request whose body nobody reads does not wait for what never comes of it, and the
// connection is not held for it: net/http reads it first.
func TestBodyNeverComes(t *testing.T) {
	g := startWith(t, Options{BodyGrace: 50 * time.Millisecond}, static("a", upstreamServer(t, "a"))+route("r", "matches: [{path: {type: Exact, value: /x}}]\nbackendRefs: ["+to("a")+"]"))
	for head, want := range map[string]int{
		"PUT /nowhere HTTP/1.1\r\nContent-Length: 9\r\n":          404,
		"PUT /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked\r\n": 404,
		"POST /nowhere HTTP/1.1\r\nContent-Length: 9\r\n":         404,
		"PUT /x HTTP/1.1\r\nContent-Length: 9\r\n":                408,
		"POST /x HTTP/1.1\r\nContent-Length: 9\r\n":               408,
	} {
		resp := g.ask("8080", head+"Host: x\r\n\r\n") // reads to the end
		if resp.StatusCode != want || !resp.Close {
			t.Errorf("%q: %d, %v, want %d", head, resp.StatusCode, resp.Header, want)
		}
	}
	until(t, func() bool { return g.Connections() == 0 })
}
