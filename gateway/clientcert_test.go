package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
)

// A tlsClient sends requests to a port over TLS, with the name and the certificate that it shows, on one connection while that lasts.
type tlsClient struct {
	t *testing.T
	*http.Transport
}

func (g *testGateway) tlsClient(t *testing.T, port, name string, pool *x509.CertPool, h2 bool, shows ...[2]string) *tlsClient {
	t.Helper()
	cfg := &tls.Config{RootCAs: pool, ServerName: name}
	for _, text := range shows {
		pair := pairOf(t, text)
		// It shows the certificate whatever authorities the server names.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	c := &tlsClient{t, &http.Transport{
		TLSClientConfig: cfg, ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(g.url(port, ""), "http://"))
		},
	}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func pairOf(t *testing.T, text [2]string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(text[0]), []byte(text[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// status returns what a request for a host is answered, 0 when the connection is refused.
func (c *tlsClient) status(host string) int {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), "GET", "https://"+c.TLSClientConfig.ServerName+"/", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Host = host
	resp, err := c.RoundTrip(r)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

func authoritiesIn(name string, certificates ...[2]string) string {
	var text []string
	for _, c := range certificates {
		text = append(text, c[0])
	}
	return "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata:\n  ca.crt: " + indent(strings.Join(text, "")) + "\n"
}

// TestClientCertificates: who shows no certificate of the authorities is not let in, nor over a connection that was made for another listener or under other
// authorities (Gateway API, FrontendTLSConfig).
func TestClientCertificates(t *testing.T) {
	served, pool := certificate(t, "a.test")
	other, poolB := certificate(t, "b.test")
	alice, _ := certificate(t, "alice")
	bob, _ := certificate(t, "bob")
	rest := tlsSecret("cert", served) + tlsSecret("other", other) + static("a", upstreamServer(t, "a")) + routeOn("gw", "r", "backendRefs: ["+to("a")+"]")
	gateway := func(frontend string) string {
		return fmt.Sprintf(`
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: agentgateway
  tls: {frontend: %s}
  listeners:
  - {name: a, port: 8443, protocol: HTTPS, hostname: a.test, tls: {certificateRefs: [{name: cert}]}}
  - {name: b, port: 8443, protocol: HTTPS, hostname: b.test, tls: {certificateRefs: [{name: other}]}}
  - {name: other, port: 8444, protocol: HTTPS, hostname: a.test, tls: {certificateRefs: [{name: cert}]}}
  - {name: plain, port: 8080, protocol: HTTP}
`, frontend)
	}
	check := func(name, mode string) string {
		return `{validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ` + name + `}]` + mode + `}}`
	}
	g := start(t, gateway("{default: "+check("ca", "")+", perPort: [{port: 8444, tls: "+check("bobs", "")+"}]}")+authoritiesIn("ca", alice)+authoritiesIn("bobs", bob)+rest)
	for _, h2 := range []bool{false, true} {
		for _, tc := range []struct {
			name, port string
			shows      [][2]string
			want       int
		}{
			{"none", "8443", nil, 0},
			{"of an authority", "8443", [][2]string{alice}, 200},
			{"of another", "8443", [][2]string{bob}, 0},
			{"of the authority of the port", "8444", [][2]string{bob}, 200},
			{"of that of other ports", "8444", [][2]string{alice}, 0},
		} {
			if got := g.tlsClient(t, tc.port, "a.test", pool, h2, tc.shows...).status("a.test"); got != tc.want {
				t.Errorf("HTTP/2 %v, %s on port %s: %d, want %d", h2, tc.name, tc.port, got, tc.want)
			}
		}
		c := g.tlsClient(t, "8443", "a.test", pool, h2, alice)
		if got := [2]int{c.status("a.test"), c.status("b.test")}; got != [2]int{200, 421} {
			t.Errorf("HTTP/2 %v: %v on a connection for a.test, want 200 for its host and 421 for another listener's", h2, got)
		}
	}
	if got := g.get("/").Status; got != 200 {
		t.Errorf("without TLS: %d", got)
	}

	old := g.tlsClient(t, "8443", "a.test", pool, true, alice)
	if got := old.status("a.test"); got != 200 {
		t.Fatal(got)
	}
	g.apply(gateway("{default: "+check("ca", "")+"}") + authoritiesIn("ca", bob) + rest)
	if got := old.status("a.test"); got != 421 {
		t.Errorf("a certificate of an authority that is not trusted any more: %d, want 421", got)
	}
	if got := g.tlsClient(t, "8443", "a.test", pool, false, bob).status("a.test"); got != 200 {
		t.Errorf("a certificate of an authority that is trusted now: %d", got)
	}

	report := g.apply(gateway("{default: "+check("ca", ", mode: AllowInsecureFallback")+"}") + authoritiesIn("ca", bob) + rest)
	for _, shows := range [][][2]string{nil, {alice}, {bob}} {
		if got := g.tlsClient(t, "8443", "b.test", poolB, true, shows...).status("b.test"); got != 200 {
			t.Errorf("%d certificates, and all are let in: %d", len(shows), got)
		}
	}
	if diff := cmp.Diff([]string{"warning spec.tls.frontend.default.validation.mode "}, problemsAt(report, "spec.tls")); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}

	for name, tc := range map[string]struct{ refs, want string }{
		"not there":         {`[{group: "", kind: ConfigMap, name: ca}]`, "unresolved spec.tls.frontend.default.validation.caCertificateRefs[0].name InvalidCACertificateRef"},
		"no such kind":      {`[{group: "", kind: Service, name: ca}]`, "unresolved spec.tls.frontend.default.validation.caCertificateRefs[0].kind InvalidCACertificateKind"},
		"another namespace": {`[{group: "", kind: Secret, name: ca, namespace: far}]`, "unresolved spec.tls.frontend.default.validation.caCertificateRefs[0] RefNotPermitted"},
	} {
		report := g.apply(gateway("{default: {validation: {caCertificateRefs: "+tc.refs+"}}}") + rest)
		if diff := cmp.Diff([]string{tc.want}, problemsAt(report, "spec.tls")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := g.get("/").Status; got != 200 {
			t.Errorf("%s: without TLS: %d", name, got)
		}
		if _, open := g.snapshot.Load().ports[8443]; open {
			t.Errorf("%s: the port is open", name)
		}
	}
}

// problemsAt returns the problems with a field, each as class, path and reason.
func problemsAt(r *config.Report, path string) (out []string) {
	for _, p := range r.Problems {
		if strings.HasPrefix(p.Path, path) {
			out = append(out, fmt.Sprint(p.Class, " ", p.Path, " ", p.Reason))
		}
	}
	return out
}

// TestMisdirected: a request for a listener that the handshake was not for is told so (RFC 9110 section 15.5.20); without a name the
// handshake is for the listener of any host.
func TestMisdirected(t *testing.T) {
	served, pool := certificate(t, "a.test")
	g := start(t, `
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: a, port: 8443, protocol: HTTPS, hostname: a.test, tls: {certificateRefs: [{name: cert}]}}
  - {name: wild, port: 8443, protocol: HTTPS, hostname: "*.wild.test", tls: {certificateRefs: [{name: cert}]}}
  - {name: any, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}
`+tlsSecret("cert", served)+static("a", upstreamServer(t, "a"))+routeOn("gw", "r", "backendRefs: ["+to("a")+"]"))
	for _, tc := range []struct {
		name, host string
		want       int
	}{
		{"a.test", "a.test", 200}, {"a.test", "A.test:8443", 200}, {"a.test", "one.wild.test", 421}, {"a.test", "else.test", 421},
		{"one.wild.test", "two.wild.test", 200}, {"one.wild.test", "a.test", 421},
		{"else.test", "more.test", 200}, {"else.test", "a.test", 421},
		{"", "else.test", 200}, {"", "a.test", 421},
	} {
		c := g.tlsClient(t, "8443", tc.name, pool, false)
		c.TLSClientConfig.InsecureSkipVerify = true // the certificate is for one of the names
		if tc.name == "" {
			c.TLSClientConfig.ServerName = "127.0.0.1" // which is no name: none is sent
		}
		if got := c.status(tc.host); got != tc.want {
			t.Errorf("%q over a connection for %q: %d, want %d", tc.host, tc.name, got, tc.want)
		}
	}
}

// TestGatewayIdentity: each Gateway shows backends that a BackendTLSPolicy covers its own certificate, and without it nothing is sent to them (Gateway API,
// GatewayBackendTLS).
func TestGatewayIdentity(t *testing.T) {
	served, _ := certificate(t, "api.example")
	one, pool := certificate(t, "one")
	two, _ := certificate(t, "two")
	twoCertificate := pairOf(t, two)
	pool.AddCert(twoCertificate.Leaf)
	server := newWebServer(t, "secure", &tls.Config{Certificates: []tls.Certificate{pairOf(t, served)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	gateway := func(name, port, tls string) string {
		return fmt.Sprintf("\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: %s}\nspec:\n  gatewayClassName: agentgateway\n  listeners: [{name: http, port: %s, protocol: HTTP}]\n%s\n", name, port, tls)
	}
	shows := func(name string) string { return "  tls: {backend: {clientCertificateRef: {name: " + name + "}}}" }
	rest := authoritiesIn("roots", served) + tlsSecret("one", one) + tlsSecret("two", two) + fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: https, port: %s}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: "", kind: Service, name: api}]
  validation: {hostname: api.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: one}, {name: two}]
  rules: [{backendRefs: [{name: api, port: 443}]}]
`, port)
	g := start(t, gateway("one", "8080", shows("one"))+gateway("two", "8081", shows("two"))+rest)
	answers := func() (out []string) {
		for _, port := range []string{"8080", "8081"} {
			got := g.do("GET", g.url(port, "/"), nil)
			out = append(out, strings.TrimSpace(fmt.Sprint(got.Status, " ", strings.SplitN(got.Body, "\n", 2)[0])))
		}
		return out
	}
	if diff := cmp.Diff([]string{"200 one", "200 two"}, answers()); diff != "" {
		t.Errorf("both show one (-want +got):\n%s", diff)
	}
	report := g.apply(gateway("one", "8080", shows("one")) + gateway("two", "8081", shows("nowhere")) + rest)
	if diff := cmp.Diff([]string{"unresolved spec.tls.backend.clientCertificateRef.name InvalidClientCertificateRef"}, problemsAt(report, "spec.tls")); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"200 one", "500 the configuration of this route has a problem"}, answers()); diff != "" {
		t.Errorf("one has none (-want +got):\n%s", diff)
	}
	report = g.apply(gateway("one", "8080", shows("two")) + gateway("two", "8081", "") + rest)
	if diff := cmp.Diff([]string(nil), problemsAt(report, "spec.tls")); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if got := answers(); got[0] != "200 two" || !strings.HasPrefix(got[1], "503") && !strings.HasPrefix(got[1], "502") {
		t.Errorf("one shows none: %q", got)
	}
}
