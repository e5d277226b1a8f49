package traffic

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// TestLocalLimitPrecedence is scenario 13 of the API: the bucket of a route is in the place of that of its Gateway, and the Gateway's policy
// is said to have no effect while nothing else is covered by it.
func TestLocalLimitPrecedence(t *testing.T) {
	t.Parallel()
	bucket := func(n int) string {
		return fmt.Sprintf("rateLimit: {local: {tokenBucket: {maxTokens: %d, fillInterval: 100s}}}", n)
	}
	whole := "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: whole}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]\n  " + bucket(1) + "\n---\n"
	resources := testgateway.Backend("up", "", serve(t, echo)) + testgateway.Route("a", "/a", "up", "") + testgateway.TrafficPolicy("a", "a", bucket(2)) + whole
	g := start(t, resources+testgateway.Route("b", "/b", "up", ""))
	ask := func(path string, status int, limit string) {
		t.Helper()
		got := g.Ask(t, "GET", path, nil)
		if got.Status != status || got.Header.Get("X-Ratelimit-Limit") != limit {
			t.Errorf("%s: %d, limit %q, want %d and %q", path, got.Status, got.Header.Get("X-Ratelimit-Limit"), status, limit)
		}
		if status == http.StatusTooManyRequests && got.Body != "rate limit exceeded" {
			t.Errorf("%s: %q", path, got.Body)
		}
	}
	ask("/a", http.StatusOK, "")
	ask("/a", http.StatusOK, "")
	ask("/a", http.StatusTooManyRequests, "2")
	ask("/b", http.StatusOK, "")
	ask("/b", http.StatusTooManyRequests, "1")
	validate := func(resources string) string {
		file := filepath.Join(t.TempDir(), "gateway.yaml")
		if err := os.WriteFile(file, []byte("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: default}\nspec: {gatewayClassName: mcpgw, listeners: [{name: http, port: 8080, protocol: HTTP}]}\n---\n"+resources), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(binary, "validate", "-f", file).CombinedOutput() // what it says is looked at
		return string(out)
	}
	const said = "all that the policy covers has more specific ones, such as TrafficPolicy/a: it has no effect"
	if out := validate(resources); !strings.Contains(out, said) {
		t.Errorf("validate says:\n%s", out)
	}
	if out := validate(resources + testgateway.Route("b", "/b", "up", "")); strings.Contains(out, said) {
		t.Errorf("where it has an effect validate says:\n%s", out)
	}
}

// TestDirectResponse is scenario 15 of the API.
func TestDirectResponse(t *testing.T) {
	t.Parallel()
	direct := func(name, path, response string) string {
		return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {type: Exact, value: %s}}], filters: [{type: ExtensionRef, extensionRef: {group: gateway.kgateway.dev, kind: DirectResponse, name: %s}}]}]\n---\n", name, path, response)
	}
	g := start(t, "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: DirectResponse\nmetadata: {name: robots}\nspec: {status: 510, body: \"User-agent: *\\nDisallow: /\\n\"}\n---\n"+
		direct("robots", "/robots.txt", "robots")+direct("missing", "/missing", "none")+direct("guarded", "/guarded", "robots")+
		testgateway.TrafficPolicy("guard", "guarded", `rbac: {policy: {matchExpressions: ["request.headers['x-key'] == 'k'"]}}`))
	for _, c := range []struct {
		path, key string
		status    int
		body      string
	}{
		{"/robots.txt", "", 510, "User-agent: *\nDisallow: /\n"},
		{"/robots.txt/more", "", 404, "route not found"},
		{"/missing", "", 500, "the configuration of this route has a problem"},
		{"/guarded", "", 403, "authorization failed"},
		{"/guarded", "k", 510, "User-agent: *\nDisallow: /\n"},
	} {
		if got := g.Ask(t, "GET", c.path, nil, "X-Key", c.key); got.Status != c.status || got.Body != c.body {
			t.Errorf("%s with %q: %d %q, want %d %q", c.path, c.key, got.Status, got.Body, c.status, c.body)
		}
	}
	if !strings.Contains(g.Stderr.String(), "none") {
		t.Error("the log does not tell of the DirectResponse that is not there")
	}
}

// certificate returns a self-signed certificate for a host, and its key, as PEM.
// It is for both ends of a connection.
func certificate(t testing.TB, host string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// indented returns text as a YAML block of that depth.
func indented(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

// TestGatewayAPI is what scenario 20 of the API says of traffic: certificates and backends of other namespaces need a
// ReferenceGrant, weights hold, timeouts end requests, and a hash keeps its endpoint until that is ejected.
func TestGatewayAPI(t *testing.T) {
	t.Parallel()
	named := func(name string) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	}
	var failing atomic.Value
	failing.Store("")
	part := func(name string) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if failing.Load() == name {
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = io.WriteString(w, name)
		})
	}
	never := make(chan struct{})
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-never:
		case <-r.Context().Done():
		}
	})
	cert, key := certificate(t, "secure.test")
	secure := testgateway.FreeAddress(t)
	_, securePort, _ := net.SplitHostPort(secure)
	resources := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: secure}\nspec:\n  gatewayClassName: mcpgw\n  listeners: [{name: https, port: " + securePort + ", protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: certs}]}}]\n---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: certs}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n" + indented(cert, "    ") + "\n  tls.key: |\n" + indented(key, "    ") + "\n---\n" +
		testgateway.Backend("heavy", "", named("heavy")) + testgateway.Backend("light", "", named("light")) + testgateway.Backend("slow", "", slow) +
		testgateway.Backend("parts", ", loadBalancer: {ringHash: {hashPolicies: [{header: {name: x-key}}]}}, outlierDetection: {consecutive5xx: 2, interval: 100ms, baseEjectionTime: 2s, maxEjectionPercent: 50}", part("one"), part("two"), part("three")) +
		strings.Replace(testgateway.Backend("away", "", named("away")), "{name: away}", "{name: away, namespace: far}", 1) +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: weights}\nspec:\n  parentRefs: [{name: default}, {name: secure}]\n  rules: [{matches: [{path: {value: /weights}}], backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: heavy, weight: 90}, {group: gateway.kgateway.dev, kind: Backend, name: light, weight: 10}]}]\n---\n" +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shares}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {value: /shares}}], backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: heavy}, {group: gateway.kgateway.dev, kind: Backend, name: away, namespace: far}]}]\n---\n" +
		testgateway.Route("slow", "/slow", "slow", ", timeouts: {request: 1s}") + testgateway.Route("parts", "/parts", "parts", "")
	g := start(t, resources)

	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{ServerName: "secure.test", RootCAs: pool(t, cert)}, DisableKeepAlives: true,
	}}
	overTLS := func() (string, error) {
		resp, err := client.Get("https://" + secure + "/weights")
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if got, err := overTLS(); err == nil {
		t.Errorf("without a grant for the certificate: %q", got)
	}
	count := func(path string, n int) map[string]int {
		seen := map[string]int{}
		for range n {
			got := g.Ask(t, "GET", path, nil)
			if got.Status != http.StatusOK {
				got.Body = fmt.Sprint(got.Status)
			}
			seen[got.Body]++
		}
		return seen
	}
	if seen := count("/weights", 1000); seen["heavy"] < 850 || seen["heavy"] > 950 || seen["heavy"]+seen["light"] != 1000 {
		t.Errorf("weights 90 and 10: %v", seen)
	}
	if seen := count("/shares", 200); seen["500"] < 60 || seen["heavy"] < 60 || seen["500"]+seen["heavy"] != 200 {
		t.Errorf("a share that is not granted: %v", seen)
	}
	begun := time.Now()
	if got := g.Ask(t, "GET", "/slow", nil); got.Status != http.StatusGatewayTimeout || time.Since(begun) < time.Second {
		t.Errorf("a timeout of 1s: %d after %s", got.Status, time.Since(begun))
	}

	g.Rewrite(t, testgateway.OneListener(g.Port)+resources+
		"apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: cert, namespace: certs}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: \"\", kind: Secret}]}\n---\n"+
		"apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: away, namespace: far}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: gateway.kgateway.dev, kind: Backend}]}\n")
	testgateway.Until(t, "TLS works once there is a grant", func() bool {
		got, err := overTLS()
		return err == nil && (got == "heavy" || got == "light")
	})
	testgateway.Until(t, "the share is served once there is a grant", func() bool {
		seen := count("/shares", 50)
		return seen["away"] > 0 && seen["500"] == 0
	})

	part1 := g.Ask(t, "GET", "/parts", nil, "X-Key", "a").Body
	for range 20 {
		if got := g.Ask(t, "GET", "/parts", nil, "X-Key", "a"); got.Body != part1 {
			t.Fatalf("the key goes to %s and to %s", part1, got.Body)
		}
	}
	failing.Store(part1)
	testgateway.Until(t, "the endpoint is ejected", func() bool {
		got := g.Ask(t, "GET", "/parts", nil, "X-Key", "a")
		return got.Status == http.StatusOK && got.Body != part1
	})
	failing.Store("")
	testgateway.Until(t, "the endpoint is back", func() bool {
		return g.Ask(t, "GET", "/parts", nil, "X-Key", "a").Body == part1
	})
}

func pool(t testing.TB, cert string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(bytes.TrimSpace([]byte(cert))) {
		t.Fatal("the certificate can't be read")
	}
	return p
}
