package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A target with tls is asked only where its certificate is that of an authority to
// trust, for the name that was written.
func TestMCPTargetTLS(t *testing.T) {
	plain := newMCPServer(t, "/mcp", true, "echo")
	origin := &url.URL{Scheme: "http", Host: net.JoinHostPort(plain.host, plain.port)}
	pemText, _ := certificate(t, "tools.example")
	pair, err := tls.X509KeyPair([]byte(pemText[0]), []byte(pemText[1]))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(origin) }, ErrorLog: log.New(io.Discard, "", 0)})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())

	indented := "    " + strings.ReplaceAll(strings.TrimSpace(pemText[0]), "\n", "\n    ")
	authority := "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: authority}\nstringData:\n  ca.crt: |\n" + indented + "\n"
	target := func(settings string) string {
		return fmt.Sprintf(`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  type: MCP
  mcp:
    targets:
    - {name: safe, static: {host: %q, port: %s, tls: %s}}
`, host, port, settings)
	}
	const trusted = `{hostname: tools.example, secretRef: {name: authority}}`
	tools := func(t *testing.T, g *testGateway) {
		t.Helper()
		if diff := cmp.Diff([]string{"safe_echo"}, toolNames(t, g.connect(t, "/mcp", "2025-11-25", nil))); diff != "" {
			t.Errorf("tools (-want +got):\n%s", diff)
		}
	}
	refused := func(t *testing.T, g *testGateway, status int) {
		t.Helper()
		const initialize = `{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
			{"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}}`
		got := g.do("POST", g.url("8080", "/mcp"), strings.NewReader(initialize),
			"Content-Type", "application/json", "Accept", "application/json, text/event-stream")
		if got.Status != status {
			t.Errorf("initialize answers %d %s, want %d", got.Status, got.Body, status)
		}
	}
	t.Run("trusted", func(t *testing.T) { tools(t, start(t, authority+target(trusted))) })
	for name, text := range map[string]string{
		"unknown authority":            target(`{hostname: tools.example}`),
		"another name":                 authority + target(`{hostname: other.example, secretRef: {name: authority}}`),
		"the default name is the host": authority + target(`{secretRef: {name: authority}}`),
	} {
		t.Run(name, func(t *testing.T) { refused(t, start(t, text), http.StatusServiceUnavailable) })
	}
	t.Run("a missing Secret", func(t *testing.T) {
		g := start(t, target(trusted))
		refused(t, g, http.StatusInternalServerError)
		g.apply(authority + target(trusted))
		tools(t, g)
	})
}
