package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// certificate writes a Secret with a new certificate for localhost, and returns
// the file.
func certificate(t testing.TB, name string) string {
	t.Helper()
	file, _ := certificateWithPool(t, name)
	return file
}

func certificateWithPool(t testing.TB, name string) (string, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	indent := func(kind string, der []byte) string {
		text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
	}
	file := filepath.Join(t.TempDir(), "certificate.yaml")
	testgateway.WriteFile(t, file, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n%s  tls.key: |\n%s",
		name, indent("CERTIFICATE", der), indent("PRIVATE KEY", private)))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return file, pool
}

// TestTLS serves an HTTPS listener, at each revision.
func TestTLS(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	secret, pool := certificateWithPool(t, "cert")
	g := serve(t, func(port int) string {
		yaml := manifest(port, static("demo", demo, "/demo/mcp"))
		return strings.Replace(yaml, "protocol: HTTP, port:",
			"protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}, port:", 1)
	}, "-f", secret)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	for _, revision := range revisions {
		client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
			Endpoint:   fmt.Sprintf("https://localhost:%d/mcp", g.Port),
			HTTPClient: &http.Client{Transport: transport},
		}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
		if err != nil {
			t.Fatal(err)
		}
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "demo_echo", Arguments: map[string]any{"message": "sealed"}})
		if err != nil || resultText(result) != "sealed" {
			t.Errorf("%s: %v, %v", revision, result, err)
		}
		_ = session.Close()
	}
}
