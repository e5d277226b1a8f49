package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A webServer says who it is, and answers with the status that it is told to.
type webServer struct {
	*httptest.Server
	name   string
	status atomic.Int64
	asked  atomic.Int64 // of /healthz
}

func (s *webServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		s.asked.Add(1)
	}
	w.Header().Set("X-Upstream", s.name)
	w.Header().Set("X-Peer", r.RemoteAddr)
	if r.TLS != nil {
		w.Header().Set("X-Sni", r.TLS.ServerName)
		w.Header().Set("X-Proto", r.Proto)
		for _, c := range r.TLS.PeerCertificates {
			w.Header().Set("X-Client", c.Subject.CommonName)
		}
	}
	w.WriteHeader(int(s.status.Load()))
}

func newWebServer(t *testing.T, name string, secure *tls.Config) *webServer {
	s := &webServer{name: name}
	s.status.Store(200)
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure != nil {
		s.TLS, s.EnableHTTP2 = secure, true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// hosts returns a Static Backend of the servers, with more fields of its spec.
func hosts(name, more string, servers ...*webServer) string {
	var list []string
	for _, s := range servers {
		host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		list = append(list, fmt.Sprintf("{host: %s, port: %s}", host, port))
	}
	return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: %s}\nspec:\n  type: Static\n  static: {hosts: [%s]}\n%s\n",
		name, strings.Join(list, ", "), more)
}

func connectionPolicyOn(name, kind, target, more string) string {
	group := ""
	if kind == "Backend" {
		group = "gateway.kgateway.dev"
	}
	return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: BackendConfigPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: %q, kind: %s, name: %s}]\n%s\n",
		name, group, kind, target, more)
}

const toWeb = "backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: web}]"

// answers returns which servers answered n requests, and with what.
func answers(g *testGateway, n int, header ...string) map[string]int {
	count := map[string]int{}
	for range n {
		got := g.get("/", header...)
		count[fmt.Sprint(got.Header.Get("X-Upstream"), " ", got.Status)]++
	}
	return count
}

// TestBalancing checks that a Backend's way to choose is used, and that a policy on it wins field by
// field, the oldest first.
func TestBalancing(t *testing.T) {
	a, b, c := newWebServer(t, "a", nil), newWebServer(t, "b", nil), newWebServer(t, "c", nil)
	all := []*webServer{a, b, c}
	g := start(t, route("r", toWeb)+hosts("web", "  loadBalancer: {type: RoundRobin}", all...))
	if got := answers(g, 30); got["a 200"] != 10 || got["b 200"] != 10 || got["c 200"] != 10 {
		t.Errorf("in turn: %v", got)
	}
	g.apply(route("r", toWeb) + hosts("web", "  loadBalancer: {type: RoundRobin}", all...) +
		connectionPolicyOn("a", "Backend", "web", "  loadBalancer: {type: Maglev, hashPolicy: [{header: {headerName: X-User}}]}") +
		connectionPolicyOn("b", "Backend", "web", "  loadBalancer: {type: Random}\n  outlierDetection: {consecutive5xx: 2, maxEjectionPercent: 100}"))
	seen := map[string]int{}
	var of map[string]int
	user := ""
	for i := range 20 {
		got := answers(g, 5, "X-USER", fmt.Sprint("u", i))
		if len(got) != 1 {
			t.Errorf("one user's requests went to %v", got)
		}
		for s := range got {
			if seen[s]++; s == "a 200" {
				of, user = got, fmt.Sprint("u", i)
			}
		}
	}
	if len(seen) != 3 || of == nil {
		t.Fatalf("20 users went to %v", seen)
	}
	a.status.Store(503)
	if got := answers(g, 20, "X-User", user); got["a 503"] != 2 {
		t.Errorf("%v, want two failures of a and then another server", got)
	}
}

// TestHashCookie checks that a client without the cookie gets one, and then keeps its endpoint.
func TestHashCookie(t *testing.T) {
	servers := []*webServer{newWebServer(t, "a", nil), newWebServer(t, "b", nil), newWebServer(t, "c", nil)}
	g := start(t, route("r", toWeb)+hosts("web", "  loadBalancer: {type: RingHash, hashPolicy: [{cookie: {name: at, ttl: 90s, path: /, httpOnly: true, secure: true, sameSite: Lax}}]}", servers...))
	first := map[string]bool{}
	for range 40 {
		got := g.get("/")
		set := got.Header.Get("Set-Cookie")
		cookie, attributes, _ := strings.Cut(set, ";")
		if want := " Path=/; Max-Age=90; HttpOnly; Secure; SameSite=Lax"; attributes != want || !strings.HasPrefix(cookie, "at=") {
			t.Fatalf("Set-Cookie: %s", set)
		}
		from := got.Header.Get("X-Upstream")
		first[from] = true
		again := g.get("/", "Cookie", "other=1; "+cookie)
		if again.Header.Get("X-Upstream") != from || again.Header.Get("Set-Cookie") != "" {
			t.Errorf("a client of %s went to %s, Set-Cookie %q", from, again.Header.Get("X-Upstream"), again.Header.Get("Set-Cookie"))
		}
	}
	if len(first) != 3 {
		t.Errorf("new clients went to %v", first)
	}
}

// TestHealthCheck checks that the endpoints of a Service are asked, by the gateway itself, until the policy
// goes.
func TestHealthCheck(t *testing.T) {
	a := newWebServer(t, "a", nil)
	host, port, _ := net.SplitHostPort(a.Listener.Addr().String())
	service := fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: web, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: web, port: %s}]
endpoints: [{addresses: [%s]}]
`, port, host) + route("r", "backendRefs: [{name: s, port: 80}]")
	g := start(t, service+connectionPolicyOn("p", "Service", "s", "  healthCheck: {timeout: 1s, interval: 10ms, unhealthyThreshold: 1, healthyThreshold: 1, http: {path: /healthz}}"))
	wait := func(what string, ok func() bool) {
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	wait("it was not asked", func() bool { return a.asked.Load() > 3 })
	if got := answers(g, 1); got["a 200"] != 1 {
		t.Errorf("%v", got)
	}
	g.apply(service)
	g.runtime.mu.Lock()
	defer g.runtime.mu.Unlock()
	if n := len(g.runtime.checks); n != 0 {
		t.Errorf("%d pools are checked without a policy", n)
	}
}

// indent returns PEM as the value of a key, in YAML.
func indent(text string) string {
	return "|\n    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

// TestClientTLS checks who is spoken to over TLS, and that nobody else is.
func TestClientTLS(t *testing.T) {
	served, _ := certificate(t, "web.example")
	client, trusted := certificate(t, "the gateway")
	pair, err := tls.X509KeyPair([]byte(served[0]), []byte(served[1]))
	if err != nil {
		t.Fatal(err)
	}
	s := newWebServer(t, "s", &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: trusted, ClientAuth: tls.VerifyClientCertIfGiven})
	dir := t.TempDir()
	for name, text := range map[string]string{"ca.pem": served[0], "tls.pem": client[0], "key.pem": client[1]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret := "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: both}\nstringData:\n  ca.crt: " + indent(served[0]) + "\n  tls.crt: " + indent(client[0]) + "\n  tls.key: " + indent(client[1]) + "\n"
	for _, tc := range []struct {
		name, tls string
		want      string // status, server name, protocol, client
	}{
		{"trusted, with a client certificate", "{secretRef: {name: both}, sni: web.example}", "200 web.example HTTP/2.0 the gateway"},
		{"without it", "{secretRef: {name: both}, sni: web.example, simpleTLS: true}", "200 web.example HTTP/2.0 "},
		{"files", fmt.Sprintf("{files: {rootCA: %[1]s/ca.pem, tlsCertificate: %[1]s/tls.pem, tlsKey: %[1]s/key.pem}, sni: web.example}", dir), "200 web.example HTTP/2.0 the gateway"},
		{"a file that is not there", fmt.Sprintf("{files: {rootCA: %s/nowhere.pem}, sni: web.example}", dir), "500   "},
		{"an authority of the system's", "{wellKnownCACertificates: System, sni: web.example}", "503   "},
		{"another name", "{secretRef: {name: both}, sni: other.example}", "503   "},
		{"the name is the address", "{secretRef: {name: both}}", "503   "},
		{"not verified", "{insecureSkipVerify: true}", "200  HTTP/2.0 "},
		{"one of the names", "{secretRef: {name: both}, sni: other.example, verifySubjectAltNames: [a.example, web.example]}", "200 other.example HTTP/2.0 the gateway"},
		{"none of the names", "{secretRef: {name: both}, sni: web.example, verifySubjectAltNames: [a.example]}", "503   "},
		{"names do not stand for trust", "{wellKnownCACertificates: System, sni: web.example, verifySubjectAltNames: [web.example]}", "503   "},
		{"HTTP/1.1 only", "{secretRef: {name: both}, sni: web.example, alpnProtocols: [http/1.1]}", "200 web.example HTTP/1.1 the gateway"},
		{"HTTP/2 only", "{secretRef: {name: both}, sni: web.example, alpnProtocols: [h2]}", "200 web.example HTTP/2.0 the gateway"},
		{"TLS 1.2 with one cipher", "{secretRef: {name: both}, sni: web.example, parameters: {minVersion: '1.2', maxVersion: '1.2', cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256], ecdhCurves: [P-256]}}", "200 web.example HTTP/2.0 the gateway"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := start(t, route("r", toWeb)+hosts("web", "", s)+secret+connectionPolicyOn("p", "Backend", "web", "  tls: "+tc.tls))
			got := g.get("/")
			if is := fmt.Sprint(got.Status, " ", got.Header.Get("X-Sni"), " ", got.Header.Get("X-Proto"), " ", got.Header.Get("X-Client")); is != tc.want {
				t.Errorf("answer %q, want %q", is, tc.want)
			}
		})
	}
	t.Run("a Secret that comes later", func(t *testing.T) {
		text := route("r", toWeb) + hosts("web", "", s) + connectionPolicyOn("p", "Backend", "web", "  tls: {secretRef: {name: both}, sni: web.example}")
		g := start(t, text)
		if got := answers(g, 1); got[" 500"] != 1 {
			t.Errorf("%v, want 500 without the Secret", got)
		}
		g.apply(text + secret)
		if got := answers(g, 1); got["s 200"] != 1 {
			t.Errorf("%v, want 200 with it", got)
		}
	})
}

// TestBackendTLSPolicy checks the standard's way to say TLS (Gateway API, BackendTLSPolicy).
func TestBackendTLSPolicy(t *testing.T) {
	served, _ := certificate(t, "api.example")
	pair, err := tls.X509KeyPair([]byte(served[0]), []byte(served[1]))
	if err != nil {
		t.Fatal(err)
	}
	secure, plain := newWebServer(t, "secure", &tls.Config{Certificates: []tls.Certificate{pair}}), newWebServer(t, "plain", nil)
	port := func(s *webServer) string {
		_, p, _ := net.SplitHostPort(s.Listener.Addr().String())
		return p
	}
	setting := fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: roots}
data:
  ca.crt: %s
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {ports: [{name: https, port: 443}, {name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: https, port: %s}, {name: http, port: %s}]
endpoints: [{addresses: [127.0.0.1]}]
`, indent(served[0]), port(secure), port(plain)) +
		route("r", "matches: [{path: {value: /secure}}]\nbackendRefs: [{name: api, port: 443}]") +
		route("r2", "matches: [{path: {value: /plain}}]\nbackendRefs: [{name: api, port: 80}]")
	policy := func(section, validation string) string {
		return "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: api" + section + "}]\n  validation: " + validation + "\n"
	}
	const roots = `caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}]`
	for _, tc := range []struct{ name, policy, secure, plain string }{
		{"one port", policy(", sectionName: https", "{hostname: api.example, "+roots+"}"), "200 secure api.example", "200 plain "},
		{"all ports", policy("", "{hostname: api.example, "+roots+"}"), "200 secure api.example", "503  "},
		{"another name", policy(", sectionName: https", "{hostname: other.example, "+roots+"}"), "503  ", "200 plain "},
		{"an alternative name", policy(", sectionName: https", "{hostname: other.example, "+roots+", subjectAltNames: [{type: Hostname, hostname: api.example}]}"), "200 secure other.example", "200 plain "},
		{"a URI it does not carry", policy(", sectionName: https", "{hostname: api.example, "+roots+`, subjectAltNames: [{type: URI, uri: "spiffe://a/b"}]}`), "503  ", "200 plain "},
		{"the system's authorities", policy(", sectionName: https", "{hostname: api.example, wellKnownCACertificates: System}"), "503  ", "200 plain "},
		{"authorities that are not there", policy(", sectionName: https", `{hostname: api.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: nowhere}]}`), "500  ", "200 plain "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := start(t, setting+tc.policy)
			for path, want := range map[string]string{"/secure": tc.secure, "/plain": tc.plain} {
				got := g.get(path)
				if is := fmt.Sprint(got.Status, " ", got.Header.Get("X-Upstream"), " ", got.Header.Get("X-Sni")); is != want {
					t.Errorf("%s: %q, want %q", path, is, want)
				}
			}
		})
	}
}
