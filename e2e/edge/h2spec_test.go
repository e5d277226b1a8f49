package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// direct answers itself, so that there is nothing behind what h2spec looks at.
const direct = `apiVersion: gateway.kgateway.dev/v1alpha1
kind: DirectResponse
metadata: {name: d}
spec: {status: 200, body: hello}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: direct}
spec:
  parentRefs: [{name: default}]
  rules: [{matches: [{path: {type: Exact, value: /}}], filters: [{type: ExtensionRef, extensionRef: {group: gateway.kgateway.dev, kind: DirectResponse, name: d}}]}]
---
`

// secure is a Gateway with TLS on a port, with a certificate of its own.
func secure(t testing.TB, port int) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spec := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, spec, spec, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: cert}
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tls}
spec:
  gatewayClassName: mcpgw
  listeners: [{name: https, port: %d, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r-tls}
spec:
  parentRefs: [{name: tls}]
  rules: [{backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: a}]}]
---
`, text("CERTIFICATE", cert), text("PRIVATE KEY", der), port)
}

// h2spec returns the program that hack/deps builds.
func h2spec(t testing.TB) string {
	t.Helper()
	hash := sha256.New()
	for _, file := range []string{"../../hack/h2spec/go.mod", "../../hack/h2spec/go.sum"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(b)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "mcpgw", fmt.Sprintf("h2spec-%x", hash.Sum(nil)[:8]))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run hack/deps", err)
	}
	return path
}

// TestH2spec runs all of h2spec without and with TLS: what fails is listed, with the reason, in docs/edge.md.
func TestH2spec(t *testing.T) {
	program := h2spec(t)
	port := testgateway.FreePort(t)
	// An answer that does not fit into a window keeps its stream open, which h2spec goes on to send on.
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 256<<10)) }))
	defer large.Close()
	g := serve(t, large.Listener.Addr().String(), secure(t, port))
	_, plain, _ := net.SplitHostPort(g.Address)
	g.Listens(t, fmt.Sprintf("127.0.0.1:%d", port))
	doc, err := os.ReadFile("../../docs/edge.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"h2c": {"-p", plain}, "TLS": {"-t", "-k", "-p", fmt.Sprint(port)}} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report.xml")
			out, err := exec.CommandContext(t.Context(), program, append(args, "-o", "10", "-j", file)...).CombinedOutput()
			b, readErr := os.ReadFile(file)
			if readErr != nil {
				t.Fatalf("%v, %v:\n%s", err, readErr, out)
			}
			var report struct {
				Suites []struct {
					Cases []struct {
						Package string    `xml:"package,attr"`
						Name    string    `xml:"classname,attr"`
						Failure *struct{} `xml:"failure"`
						Error   *struct{} `xml:"error"`
					} `xml:"testcase"`
				} `xml:"testsuite"`
			}
			if err := xml.Unmarshal(b, &report); err != nil {
				t.Fatal(err)
			}
			n := 0
			failed := map[string]bool{}
			for _, s := range report.Suites {
				for _, c := range s.Cases {
					if n++; c.Failure != nil || c.Error != nil {
						failed[c.Package+": "+c.Name] = true
					}
				}
			}
			want := map[string]bool{
				"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                          true,
				"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field":                     true,
				`http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than "trailers"`: true,
			}
			if name == "h2c" {
				want["http2/3.5: Sends invalid connection preface"] = true
			}
			if diff := cmp.Diff(want, failed); diff != "" || n < 145 {
				t.Errorf("of %d tests other ones fail (-want +got):\n%s", n, diff)
			}
			for w := range want {
				if _, title, _ := strings.Cut(w, ": "); !strings.Contains(string(doc), title) {
					t.Errorf("docs/edge.md does not say why this fails: %s", title)
				}
			}
		})
	}
}
