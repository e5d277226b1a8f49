package gateway

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/telemetry"
)

// stdioVariable makes the test binary an MCP server: that of TestStdio, or a peer whose style it
// names.
const stdioVariable = "GATEWAY_TEST_STDIO"

func TestMain(m *testing.M) {
	if mode := os.Getenv(stdioVariable); mode != "" {
		switch kind, style, _ := strings.Cut(mode, "/"); kind {
		case "peer":
			servePeer(style)
		case "shuffler":
			serveShuffler(style)
		default:
			serveStdio()
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// A testGateway is a server with its ports on free ones of loopback.
type testGateway struct {
	*Server
	t       testing.TB
	mu      sync.Mutex
	runtime *Runtime
	addr    map[string]string // by the port of the configuration
	begun   int
	records []telemetry.Record
	stop    func()
}

// Begin and End implement Account.
func (g *testGateway) Begin(*telemetry.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun++
}

func (g *testGateway) End(r *telemetry.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := *r
	kept.Request = nil
	g.records = append(g.records, kept)
}

func (g *testGateway) Passed(*telemetry.Record) {}

// ended waits until n requests have ended, and returns their records.
func (g *testGateway) ended(n int) []telemetry.Record {
	g.t.Helper()
	var got []telemetry.Record
	until(g.t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		got = append(got[:0], g.records...)
		return len(got) >= n
	})
	return got
}

// until waits for a condition.
func until(t testing.TB, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test ended before what it waits for")
		}
	}
}

// listen opens a free port in place of the one that the configuration names.
func (g *testGateway) listen(ctx context.Context, network, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "::1" {
		return nil, fmt.Errorf("one address is enough here")
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, "127.0.0.1:0")
	if err == nil {
		g.mu.Lock()
		g.addr[port] = l.Addr().String()
		g.mu.Unlock()
	}
	return l, err
}

// start runs a gateway with the configuration until the test ends.
func start(t *testing.T, text string) *testGateway {
	t.Helper()
	return startWith(t, Options{}, text)
}

func startWith(t *testing.T, opts Options, text string) *testGateway {
	t.Helper()
	return startOn(t, RuntimeOptions{}, opts, text)
}

func startOn(t testing.TB, run RuntimeOptions, opts Options, text string) *testGateway {
	t.Helper()
	if run.Logger == nil {
		run.Logger = slog.New(slog.DiscardHandler)
	}
	run.Version = "test"
	rt, err := NewRuntime(run)
	if err != nil {
		t.Fatal(err)
	}
	g := &testGateway{t: t, runtime: rt, addr: map[string]string{}}
	opts.Runtime, opts.Listen = rt, g.listen
	if opts.Account == nil {
		opts.Account = g
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	g.Server = NewServer(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
		if n := g.Connections(); n != 0 {
			t.Errorf("%d connections are open after the end", n)
		}
		if n := g.Requests(); n != 0 {
			t.Errorf("%d requests are under way after the end", n)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.begun != len(g.records) {
			t.Errorf("%d requests begun, %d ended", g.begun, len(g.records))
		}
	})
	t.Cleanup(g.stop)
	g.apply(text)
	return g
}

// apply applies a configuration and fails the test when it is not used.
func (g *testGateway) apply(text string) *config.Report {
	g.t.Helper()
	report := g.Apply(load(g.t, text))
	if report.Has(config.Invalid) {
		g.t.Fatalf("refused: %+v", report.Problems)
	}
	return report
}

func (g *testGateway) url(port, path string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return "http://" + g.addr[port] + path
}

// reply is what a test looks at of a response.
type reply struct {
	Status int
	Body   string
	Header http.Header
}

// do sends a request: "METHOD url", headers as name, value, …; Host is the host.
func (g *testGateway) do(method, url string, body io.Reader, header ...string) reply {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, url, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header[header[i]] = append(r.Header[header[i]], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return reply{resp.StatusCode, string(b), resp.Header}
}

func (g *testGateway) get(path string, header ...string) reply {
	g.t.Helper()
	return g.do("GET", g.url("8080", path), nil, header...)
}

// An echo is what the test upstream saw.
type echo struct {
	Name, Method, URI, Host, Body string
	Header                        http.Header
}

// upstreamServer starts a server that answers with what it saw, and returns its
// host and port as YAML.
func upstreamServer(t *testing.T, name string) (yaml string) {
	t.Helper()
	return serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Upstream", name)
		_ = json.NewEncoder(w).Encode(echo{name, r.Method, r.RequestURI, r.Host, string(b), r.Header})
	})
}

func serveUpstream(t *testing.T, h http.HandlerFunc) (yaml string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{host: %q, port: %s}", host, port)
}

// static is a Backend of type Static.
func static(name, host string) string {
	return fmt.Sprintf(`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: %s}
spec: {type: Static, static: {hosts: [%s]}}
`, name, host)
}

// route is an HTTPRoute with one rule.
func route(name, rule string) string {
	return fmt.Sprintf(`
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  rules:
  - %s
`, name, strings.ReplaceAll(strings.TrimSpace(rule), "\n", "\n    "))
}

// to is a backendRefs entry for a Backend.
func to(name string) string {
	return "{group: gateway.kgateway.dev, kind: Backend, name: " + name + "}"
}

func decode(t *testing.T, r reply) echo {
	t.Helper()
	var e echo
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
		t.Fatalf("%d %q: %v", r.Status, r.Body, err)
	}
	return e
}

func TestServeStatic(t *testing.T) {
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", "backendRefs: ["+to("a")+"]"))
	got := g.do("POST", g.url("8080", "/x%20y?q=1"), strings.NewReader("hello"), "X-Request-Id", "id-1", "X-Mcpgw-Internal", "spoofed", "Authorization", "kept")
	e := decode(t, got)
	if got.Status != 200 || got.Header.Get("X-Request-Id") != "id-1" || e.URI != "/x%20y?q=1" || e.Body != "hello" || e.Method != "POST" {
		t.Errorf("answer %+v", got)
	}
	if e.Header.Get("X-Mcpgw-Internal") != "" || e.Header.Get("X-Request-Id") != "id-1" || e.Header.Get("Authorization") != "kept" {
		t.Errorf("header upstream %v", e.Header)
	}
	r := g.ended(1)[0]
	want := telemetry.Record{
		RequestID: "id-1", Gateway: "default/default", Listener: "http", Route: "default/r", Rule: "0", Path: "/", Backend: "default/a",
		Status: 200, BytesRead: 5, BytesSent: int64(len(got.Body)), Attempts: 1,
	}
	r.Start, r.Duration, r.Source, r.UpstreamHost = time.Time{}, 0, want.Source, ""
	if r != want {
		t.Errorf("record\n%+v\nwant\n%+v", r, want)
	}
	if id := g.get("/").Header.Get("X-Request-Id"); len(id) != 36 || id[14] != '4' {
		t.Errorf("request id %q, want a UUID of version 4", id)
	}
}

func TestFaultsOfTheFront(t *testing.T) {
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", `matches: [{path: {value: /a}}]
backendRefs: [`+to("a")+`]`))
	for _, tc := range []struct {
		name, path string
		header     []string
		want       int
		body       string
	}{
		{"no route", "/other", nil, 404, "route not found"},
		{"prefix within an element", "/ab", nil, 404, "route not found"},
		{"dot segment", "/a/%2e%2e/b", nil, 400, "the path has a dot segment"},
		{"encoded slash", "/a%2Fb", nil, 400, "the path has an encoded slash"},
		{"long target at the limit", "/a?" + strings.Repeat("x", maxTarget-3), nil, 200, ""},
		{"long target over it", "/a?" + strings.Repeat("x", maxTarget-2), nil, 414, "the request target is over the limit of 8192 bytes"},
		{"twins", "/a", []string{"X_Y", "1", "X-Y", "2"}, 400, "two headers differ only in _ and -"},
		{"an internal header in disguise", "/a", []string{"X_Mcpgw_Y", "1"}, 400, "two headers differ only in _ and -"},
		{"two credentials", "/a", []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 400, "the header Authorization stands more than once"},
		{"two types", "/a", []string{"Content-Type", "application/json", "Content-Type", "text/plain"}, 400, "the header Content-Type stands more than once"},
		{"headers over the limit", "/a", []string{"X-Big", strings.Repeat("x", maxHeaderBytes)}, 431, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := g.get(tc.path, tc.header...)
			if got.Status != tc.want || tc.body != "" && got.Body != tc.body {
				t.Errorf("answer %d %q, want %d %q", got.Status, got.Body, tc.want, tc.body)
			}
		})
	}
	for _, n := range []int{maxHeaderLines, maxHeaderLines + 1} {
		header := []string{"User-Agent", "t", "Accept-Encoding", "identity"}
		for len(header)/2 < n {
			header = append(header, "X-Line", strconv.Itoa(len(header)))
		}
		want := 200
		if n > maxHeaderLines {
			want = 431
		}
		if got := g.get("/a", header...); got.Status != want {
			t.Errorf("%d header lines: %d %s, want %d", n, got.Status, got.Body, want)
		}
	}
}

// raw sends text over a connection of its own and returns all that comes.
func raw(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c) // the rest does not matter when the other side resets
	return string(b)
}

// A message that two readers could frame differently reaches no upstream.
func TestSmuggling(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %v", secure), func(t *testing.T) {
			var mu sync.Mutex
			seen := 0
			host := serveUpstream(t, func(http.ResponseWriter, *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen++
			})
			text := static("a", host) + route("r", "backendRefs: ["+to("a")+"]")
			cert, pool := certificate(t, "a.test")
			if secure {
				text = secureGateway("a.test", "cert") + tlsSecret("cert", cert) + static("a", host) + routeOn("gw", "r", "backendRefs: ["+to("a")+"]")
			}
			g := start(t, text)
			send := func(text string) string {
				if !secure {
					return raw(t, strings.TrimPrefix(g.url("8080", ""), "http://"), text)
				}
				c, err := tls.Dial("tcp", strings.TrimPrefix(g.url("8443", ""), "http://"), &tls.Config{RootCAs: pool, ServerName: "a.test", NextProtos: []string{"http/1.1"}})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(c)
				return string(b)
			}
			for _, text := range []string{
				"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
				"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n folded\r\n\r\n",
				"GET / HTTP/1.1\nHost: a.test\n\n",
				"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
				"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
				"GET / HTTP/1.1\r\nHost: a.test@b\r\nConnection: close\r\n\r\n",
				"GET /%00 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
			} {
				got := send(text)
				if !strings.HasPrefix(got, "HTTP/1.1 400 ") {
					t.Errorf("%q is answered\n%s", text, got)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if seen != 0 {
				t.Errorf("%d requests reached the upstream", seen)
			}
		})
	}
}

// certificate returns a certificate for a name, and a pool that trusts it.
func certificate(t *testing.T, name string) (pemText [2]string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return [2]string{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
	}, pool
}

func tlsSecret(name string, pemText [2]string) string {
	indent := func(s string) string { return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") }
	return fmt.Sprintf("\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s}\nstringData:\n  tls.crt: |\n%s\n  tls.key: |\n%s\n", name, indent(pemText[0]), indent(pemText[1]))
}

func secureGateway(hostname, secret string) string {
	return fmt.Sprintf(`
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: agentgateway
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, hostname: %s, tls: {certificateRefs: [{name: %s}]}}
`, hostname, secret)
}

func routeOn(gateway, name, rule string) string {
	return strings.Replace(route(name, rule), "spec:\n", "spec:\n  parentRefs: [{name: "+gateway+"}]\n", 1)
}

// Who speaks plain HTTP to an HTTPS listener is told so, and who asks for a name that nobody has is told that.
func TestTLSMistakes(t *testing.T) {
	cert, pool := certificate(t, "a.test")
	g := start(t, secureGateway("a.test", "cert")+tlsSecret("cert", cert)+static("a", upstreamServer(t, "a"))+routeOn("gw", "r", "backendRefs: ["+to("a")+"]"))
	g.mu.Lock()
	addr := g.addr["8443"]
	g.mu.Unlock()
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		if got := g.do(method, "http://"+addr+"/", nil); got.Status != 400 || !strings.Contains(got.Body, "HTTPS") {
			t.Errorf("%s without TLS: %d %s", method, got.Status, got.Body)
		}
	}
	_, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "b.test", RootCAs: pool})
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that nobody has: %v", err)
	}
}

// A listener's certificate is that of its Secret, from the moment it is applied; HTTP/2 and HTTP/1.1 are offered.
func TestTLS(t *testing.T) {
	backend := static("a", upstreamServer(t, "a")) + routeOn("gw", "r", "backendRefs: ["+to("a")+"]")
	first, pool1 := certificate(t, "a.test")
	second, pool2 := certificate(t, "a.test")
	g := start(t, secureGateway("a.test", "cert")+tlsSecret("cert", first)+backend)
	get := func(pool *x509.CertPool, name string, h2 bool) (*http.Response, error) {
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}, ForceAttemptHTTP2: h2,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(g.url("8443", ""), "http://"))
			},
		}
		defer tr.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+name+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		return tr.RoundTrip(r)
	}
	for _, h2 := range []bool{false, true} {
		resp, err := get(pool1, "a.test", h2)
		if err != nil {
			t.Fatal(err)
		}
		var e echo
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if (resp.ProtoMajor == 2) != h2 || e.Header.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("HTTP/%d, forwarded as %q", resp.ProtoMajor, e.Header.Get("X-Forwarded-Proto"))
		}
	}
	other, pool3 := certificate(t, "b.test")
	g.apply(strings.Replace(secureGateway("a.test", "cert"), "listeners:\n", "listeners:\n  - {name: b, port: 8443, protocol: HTTPS, hostname: '*.test', tls: {certificateRefs: [{name: other}]}}\n", 1) +
		tlsSecret("cert", first) + tlsSecret("other", other) + backend)
	for name, pool := range map[string]*x509.CertPool{"a.test": pool1, "b.test": pool3} {
		resp, err := get(pool, name, false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
	}
	if resp, err := get(pool1, "b.other", false); err == nil {
		_ = resp.Body.Close()
		t.Error("a name that no listener has was answered")
	}
	g.apply(secureGateway("a.test", "cert") + tlsSecret("cert", second) + backend)
	resp, err := get(pool2, "a.test", true)
	if err != nil {
		t.Fatalf("the new certificate is not used: %v", err)
	}
	_ = resp.Body.Close()
}

// A reload under load loses no request, whatever it changes.
func TestReloadLosesNothing(t *testing.T) {
	texts := [2]string{}
	for i, name := range []string{"a", "b"} {
		texts[i] = static(name, upstreamServer(t, name)) + route("r", "backendRefs: ["+to(name)+"]")
	}
	g := start(t, texts[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	tr := &http.Transport{MaxIdleConnsPerHost: 8}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	url := g.url("8080", "/")
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Post(url, "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
					return
				}
			}
		})
	}
	for i := range 100 {
		g.apply(texts[(i+1)%2])
	}
	close(stop)
	wg.Wait()
	if n := len(g.Server.opts.Runtime.pools); n != 1 {
		t.Errorf("%d pools are kept, want the 1 in use", n)
	}
}

func TestApply(t *testing.T) {
	text := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]")
	g := start(t, text)
	before := g.Snapshot()
	g.apply(text)
	if g.Snapshot() != before {
		t.Error("an equal configuration was swapped in")
	}
	broken := g.Apply(load(t, text+policyOn("HTTPRoute", "r", "no such thing")))
	if !broken.Has(config.Invalid) || g.Snapshot() != before {
		t.Error("a broken configuration was applied")
	}
	if got := g.get("/"); got.Status != 200 {
		t.Errorf("after a broken configuration: %d", got.Status)
	}
}

// Ports open and close as listeners come and go; what is under way on a port that
// goes is finished.
func TestListenersComeAndGo(t *testing.T) {
	release := make(chan struct{})
	host := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		_, _ = io.WriteString(w, "done")
	})
	gateway := func(port string) string {
		return "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  gatewayClassName: x\n  listeners: [{name: l, port: " + port + ", protocol: HTTP}]\n"
	}
	rest := static("a", host) + routeOn("gw", "r", "backendRefs: ["+to("a")+"]")
	g := start(t, gateway("8081")+rest)
	slow := make(chan reply, 1)
	go func() { slow <- g.do("GET", g.url("8081", "/slow"), nil) }()
	until(t, func() bool { return g.Requests() == 1 })
	g.apply(gateway("8082") + rest)
	if got := g.do("GET", g.url("8082", "/"), nil); got.Body != "done" {
		t.Errorf("on the new port: %+v", got)
	}
	if c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8081", ""), "http://")); err == nil {
		_ = c.Close()
		t.Error("the old port is still open")
	}
	close(release)
	if got := <-slow; got.Status != 200 || got.Body != "done" {
		t.Errorf("the request under way on the old port: %+v", got)
	}
}

// A port that is taken is reported, and opened once it is free.
func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	rt, err := NewRuntime(RuntimeOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Options{Runtime: rt, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	report := s.Apply(load(t, "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  gatewayClassName: x\n  listeners: [{name: l, port: "+port+", protocol: HTTP}]\n"))
	if len(report.Problems) == 0 || report.Problems[len(report.Problems)-1].Reason != "PortUnavailable" {
		t.Fatalf("report %+v", report.Problems)
	}
	_ = taken.Close()
	until(t, func() bool {
		resp, err := http.Get("http://127.0.0.1:" + port + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if resp.StatusCode != 404 {
			t.Errorf("status %d", resp.StatusCode)
		}
		return true
	})
}

func TestDrain(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	host := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		_, _ = io.WriteString(w, "done")
	})
	g := start(t, static("a", host)+route("r", "backendRefs: ["+to("a")+"]"))
	if !g.Ready() {
		t.Error("not ready with a configuration")
	}
	slow := make(chan reply, 1)
	go func() { slow <- g.do("GET", g.url("8080", "/slow"), nil) }()
	<-arrived
	addr := strings.TrimPrefix(g.url("8080", ""), "http://")
	stopped := make(chan struct{})
	go func() { g.stop(); close(stopped) }()
	until(t, func() bool { return !g.Ready() })
	until(t, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-slow; got.Status != 200 || got.Body != "done" {
		t.Errorf("the request under way: %+v", got)
	}
	<-stopped
}

// What does not end by itself is cut off at the end of the drain.
func TestDrainCutsOff(t *testing.T) {
	host := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	g := startWith(t, Options{DrainTimeout: 50 * time.Millisecond}, static("a", host)+route("r", "backendRefs: ["+to("a")+"]"))
	answers := make(chan string, 2)
	for _, path := range []string{"/stream", "/hang"} {
		go func() {
			resp, err := http.Get(g.url("8080", path))
			if err != nil {
				answers <- path + " broke off"
				return
			}
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			answers <- fmt.Sprint(path, " ", resp.StatusCode, " ", err != nil)
		}()
	}
	until(t, func() bool { return g.Requests() == 2 })
	g.stop()
	got := map[string]bool{<-answers: true, <-answers: true}
	if diff := cmp.Diff(map[string]bool{"/stream 200 true": true, "/hang 503 false": true}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// The time for a body ends with the request: over HTTP/2 there is nothing to set a deadline on after it.
func TestBodyGraceEnds(t *testing.T) {
	s := newMCPServer(t, "/mcp", true, "echo")
	g := startWith(t, Options{BodyGrace: time.Nanosecond}, mcpStatic("b", "", map[string]*mcpServer{"one": s}))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	for range 200 {
		req, err := http.NewRequestWithContext(t.Context(), "POST", g.url("8080", "/mcp"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	g.stop()
}

// At the end of the drain clients that have not sent all of a request are told so, and those that read nothing are cut off. Each has its
// record by then, and none says that the client went.
func TestDrainCutsOffClients(t *testing.T) {
	block := make([]byte, 1<<20)
	host := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	g := startWith(t, Options{DrainTimeout: 50 * time.Millisecond}, static("a", host)+route("r", "backendRefs: ["+to("a")+"]"))
	half := map[string]net.Conn{}
	for method, text := range map[string]string{
		"POST": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
		"PUT":  "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
		"GET":  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		half[method] = c
	}
	until(t, func() bool { return g.Requests() == 3 })
	g.stop()
	for _, method := range []string{"POST", "PUT"} {
		resp, err := http.ReadResponse(bufio.NewReader(half[method]), nil)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
			t.Errorf("%s is answered %s, closes: %v", method, resp.Status, resp.Close)
		}
	}
	for _, rec := range g.ended(3) {
		if rec.ErrorType != "draining" {
			t.Errorf("status %d, %d bytes sent, error type %q, %v", rec.Status, rec.BytesSent, rec.ErrorType, rec.Err)
		}
	}
}

// Streams through a proxy end when the drain begins, tunnels likewise: the drain does not wait for them.
func TestDrainEndsStreams(t *testing.T) {
	host := serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, c)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	g := startWith(t, Options{DrainTimeout: time.Hour}, static("a", host)+route("r", "backendRefs: ["+to("a")+"]"))
	var ends sync.WaitGroup
	for _, header := range []string{"Accept: text/event-stream\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		if _, err := http.ReadResponse(r, nil); err != nil { //nolint:bodyclose // the connection is closed
			t.Fatal(err)
		}
		if strings.Contains(header, "websocket") {
			if _, err := io.WriteString(c, "GET / HTTP/1.1\nnot for us: \n\n"); err != nil {
				t.Fatal(err)
			}
			echo := make([]byte, 8)
			if _, err := io.ReadFull(r, echo); err != nil || string(echo) != "GET / HT" {
				t.Fatalf("through the tunnel: %q, %v", echo, err)
			}
		}
		ends.Go(func() { _, _ = io.Copy(io.Discard, r) })
	}
	g.stop()
	ends.Wait()
}

// A client that does not read is given up.
func TestWritePatience(t *testing.T) {
	host := serveUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for range 1 << 10 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	g := startWith(t, Options{WritePatience: 50 * time.Millisecond}, static("a", host)+route("r", "backendRefs: ["+to("a")+"]"))
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if r := g.ended(1)[0]; r.ErrorType != "client_gone" || r.Status != 200 {
		t.Errorf("record: %q, status %d", r.ErrorType, r.Status)
	}
}

// HTTP/2 without TLS is served on the same port.
func TestH2C(t *testing.T) {
	g := start(t, static("a", upstreamServer(t, "a"))+route("r", "backendRefs: ["+to("a")+"]"))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	for range 2 {
		resp, err := (&http.Client{Transport: tr}).Post(g.url("8080", "/x"), "text/plain", strings.NewReader("\nbare\n"))
		if err != nil {
			t.Fatal(err)
		}
		var e echo
		err = json.NewDecoder(resp.Body).Decode(&e)
		_ = resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || e.Body != "\nbare\n" || e.URI != "/x" {
			t.Errorf("HTTP/%d, upstream saw %+v, %v", resp.ProtoMajor, e, err)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	var log strings.Builder
	g := startWith(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, static("a", upstreamServer(t, "a"))+route("r", "backendRefs: ["+to("a")+"]"))
	broken := *g.Snapshot()
	broken.ports = map[int]*port{8080: nil}
	broken.ports[8080] = &port{number: 8080}
	broken.ports[8080].listeners.at("", func() *listener { return new(listener) }) // without a router
	g.snapshot.Store(&broken)
	if got := g.get("/"); got.Status != 500 || got.Body != "internal error" {
		t.Errorf("answer %+v", got)
	}
	if r := g.ended(1)[0]; r.Status != 500 || r.ErrorType != "internal" {
		t.Errorf("record %+v", r)
	}
	if n := strings.Count(log.String(), "request panicked"); n != 1 {
		t.Errorf("%d log records of the panic, want 1:\n%s", n, log.String())
	}
}

// A body that comes too slowly ends in 408 and a closed connection.
func TestSlowBody(t *testing.T) {
	g := startWith(t, Options{BodyGrace: 50 * time.Millisecond}, static("a", upstreamServer(t, "a"))+route("r", "backendRefs: ["+to("a")+"]"))
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 408 || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
}

func TestTimeout(t *testing.T) {
	host := serveUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	g := start(t, static("a", host)+route("r", "timeouts: {request: 50ms}\nbackendRefs: ["+to("a")+"]"))
	if got := g.get("/"); got.Status != 504 {
		t.Errorf("answer %+v, want 504", got)
	}
}

// TestWithoutCertificate: a route attaches to a listener of which only the certificate is missing, and nothing is served from it.
func TestWithoutCertificate(t *testing.T) {
	snapshot, report := Compile(load(t, secureGateway("a.test", "none")+static("a", "{host: h, port: 1}")+routeOn("gw", "r", "backendRefs: ["+to("a")+"]")), nil)
	attached := 0
	for _, a := range report.Attachments {
		if a.Object.Kind == "HTTPRoute" && a.Section == "https" {
			attached++
		}
	}
	if attached != 1 {
		t.Errorf("attached %d times, want once: %v", attached, report.Attachments)
	}
	if len(snapshot.ports) != 0 {
		t.Errorf("%d ports are open", len(snapshot.ports))
	}
}
