package limits

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
	"github.com/mcpgw/mcpgw/limit"
)

// TestRedisOverTLS counts at a redis-server that speaks TLS only and knows its clients by their certificates. What it is not
// trusted to be, or does not know, counts in the process.
func TestRedisOverTLS(t *testing.T) {
	dir := t.TempDir()
	pair := func(name string) (tls.Certificate, *x509.CertPool) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		cert, secret := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		for file, text := range map[string][]byte{name + ".crt": cert, name + ".key": secret} {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		both, err := tls.X509KeyPair(cert, secret)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(cert)
		return both, pool
	}
	_, authority := pair("redis")
	own, _ := pair("gateway")
	_, stranger := pair("stranger")
	port := testgateway.FreePort(t)
	secure := fmt.Sprintf("127.0.0.1:%d", port)
	startRedis(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", filepath.Join(dir, "redis.crt"), "--tls-key-file", filepath.Join(dir, "redis.key"),
		"--tls-ca-cert-file", filepath.Join(dir, "gateway.crt"), "--tls-auth-clients", "yes")
	for _, c := range []struct {
		name  string
		tls   *tls.Config
		local bool
	}{
		{"both ends known", &tls.Config{RootCAs: authority, Certificates: []tls.Certificate{own}}, false},
		{"another authority", &tls.Config{RootCAs: stranger, Certificates: []tls.Certificate{own}}, true},
		{"no certificate of the client", &tls.Config{RootCAs: authority}, true},
		{"plain text", nil, true},
	} {
		counter := client(t, limit.RedisOptions{Address: secure, TLS: c.tls}).Counter("b", limit.Month, limit.NewMemory(limit.Month, limit.MemoryOptions{}))
		got, err := counter.Take(t.Context(), "k", 1, 3, time.Now())
		if err != nil || !got.OK || got.Local != c.local {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}
