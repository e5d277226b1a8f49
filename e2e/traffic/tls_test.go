package traffic

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTLSToNginx is about a Service at Debian's nginx that speaks TLS only and wants a certificate of its clients: who it is and
// who asks is checked at both ends, and nothing goes out in plain text while something of it is missing.
func TestTLSToNginx(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := certificate(t, "orders.test")
	clientCert, clientKey := certificate(t, "gateway.test")
	for name, text := range map[string]string{"cert.pem": cert, "key.pem": key, "client.pem": clientCert} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open, strict := freeAddress(t), freeAddress(t)
	server := func(address, more string) string {
		return fmt.Sprintf("  server { listen %s ssl http2; ssl_certificate %s/cert.pem; ssl_certificate_key %s/key.pem; %s location / { return 200 \"$server_protocol $ssl_server_name $ssl_client_s_dn\"; } }\n", address, dir, dir, more)
	}
	runNginx(t, dir, server(open, "")+server(strict, "ssl_verify_client on; ssl_client_certificate "+dir+"/client.pem;"), open, strict)

	secret := func(name string, entries map[string]string) string {
		var out strings.Builder
		fmt.Fprintf(&out, "apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\nstringData:\n", name)
		for entry, text := range entries {
			fmt.Fprintf(&out, "  %s: |\n%s\n", entry, indented(text, "    "))
		}
		return out.String() + "---\n"
	}
	config := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: BackendConfigPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]\n  tls: {%s}\n---\n", name, name, spec)
	}
	backends := func(names ...string) (out string) {
		for _, name := range names {
			address := open
			if strings.HasPrefix(name, "strict") {
				address = strict
			}
			out += backend(name, "", address) + route(name, "/"+name, name, "")
		}
		return out
	}
	host, port, _ := net.SplitHostPort(open)
	resources := secret("ca", map[string]string{"ca.crt": cert}) + secret("other", map[string]string{"ca.crt": clientCert}) +
		secret("both", map[string]string{"ca.crt": cert, "tls.crt": clientCert, "tls.key": clientKey}) +
		backends("plain", "known", "stranger", "misnamed", "missing", "strict-without", "strict") +
		config("known", "secretRef: {name: ca}, sni: orders.test") + config("stranger", "secretRef: {name: other}, sni: orders.test") +
		config("misnamed", "secretRef: {name: ca}, sni: other.test") + config("missing", "secretRef: {name: none}, sni: orders.test") +
		config("strict-without", "secretRef: {name: ca}, sni: orders.test") + config("strict", "secretRef: {name: both}, sni: orders.test") +
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata:\n  ca.crt: |\n" + indented(cert, "    ") + "\n---\n" +
		"apiVersion: v1\nkind: Service\nmetadata: {name: orders}\nspec: {ports: [{name: https, port: 443}]}\n---\n" +
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: orders, labels: {kubernetes.io/service-name: orders}}\naddressType: IPv4\nports: [{name: https, port: " + port + "}]\nendpoints: [{addresses: [" + host + "]}]\n---\n" +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: orders}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: orders}]\n  validation: {hostname: orders.test, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}\n---\n" +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: service}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {value: /service}}], backendRefs: [{name: orders, port: 443}]}]\n---\n"
	g := start(t, resources)
	for path, want := range map[string]answer{
		"/plain":          {status: http.StatusBadRequest}, // nginx: plain HTTP on a port of TLS
		"/known":          {status: http.StatusOK, body: "HTTP/2.0 orders.test "},
		"/service":        {status: http.StatusOK, body: "HTTP/2.0 orders.test "},
		"/stranger":       {status: http.StatusServiceUnavailable},
		"/misnamed":       {status: http.StatusServiceUnavailable},
		"/missing":        {status: http.StatusInternalServerError},
		"/strict-without": {status: http.StatusBadRequest}, // nginx: no certificate was sent
		"/strict":         {status: http.StatusOK},
	} {
		if got := g.ask("GET", path, strings.NewReader("")); got.status != want.status || want.body != "" && got.body != want.body {
			t.Errorf("%s: %d %q, want %d %q", path, got.status, got.body, want.status, want.body)
		}
	}
}
