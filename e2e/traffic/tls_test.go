package traffic

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
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
	open, strict := testgateway.FreeAddress(t), testgateway.FreeAddress(t)
	server := func(address, more string) string {
		return fmt.Sprintf("  server { listen %s ssl http2; ssl_certificate %s/cert.pem; ssl_certificate_key %s/key.pem; %s location / { return 200 \"$server_protocol $ssl_server_name $ssl_client_s_dn\"; } }\n", address, dir, dir, more)
	}
	testgateway.Nginx(t, dir, server(open, "")+server(strict, "ssl_verify_client on; ssl_client_certificate "+dir+"/client.pem;"), open, strict)

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
			out += testgateway.Backend(name, "", address) + testgateway.Route(name, "/"+name, name, "")
		}
		return out
	}
	resources := secret("ca", map[string]string{"ca.crt": cert}) + secret("other", map[string]string{"ca.crt": clientCert}) +
		secret("both", map[string]string{"ca.crt": cert, "tls.crt": clientCert, "tls.key": clientKey}) +
		backends("plain", "known", "stranger", "misnamed", "missing", "strict-without", "strict") +
		config("known", "secretRef: {name: ca}, sni: orders.test") + config("stranger", "secretRef: {name: other}, sni: orders.test") +
		config("misnamed", "secretRef: {name: ca}, sni: other.test") + config("missing", "secretRef: {name: none}, sni: orders.test") +
		config("strict-without", "secretRef: {name: ca}, sni: orders.test") + config("strict", "secretRef: {name: both}, sni: orders.test") +
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata:\n  ca.crt: |\n" + indented(cert, "    ") + "\n---\n" +
		testgateway.Service("orders", 443, "", open) +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: orders}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: orders}]\n  validation: {hostname: orders.test, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}\n---\n" +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: service}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {value: /service}}], backendRefs: [{name: orders, port: 443}]}]\n---\n"
	g := start(t, resources)
	for path, want := range map[string]testgateway.Answer{
		"/plain":          {Status: http.StatusBadRequest}, // nginx: plain HTTP on a port of TLS
		"/known":          {Status: http.StatusOK, Body: "HTTP/2.0 orders.test "},
		"/service":        {Status: http.StatusOK, Body: "HTTP/2.0 orders.test "},
		"/stranger":       {Status: http.StatusServiceUnavailable},
		"/misnamed":       {Status: http.StatusServiceUnavailable},
		"/missing":        {Status: http.StatusInternalServerError},
		"/strict-without": {Status: http.StatusBadRequest}, // nginx: no certificate was sent
		"/strict":         {Status: http.StatusOK},
	} {
		if got := g.Ask(t, "GET", path, nil); got.Status != want.Status || want.Body != "" && got.Body != want.Body {
			t.Errorf("%s: %d %q, want %d %q", path, got.Status, got.Body, want.Status, want.Body)
		}
	}
}
