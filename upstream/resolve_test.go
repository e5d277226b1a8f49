package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testdns"
)

// namesFor returns a DNS server, and pools that ask it, which run until the test ends.
func namesFor(t *testing.T) (*testdns.Server, func(opts Options, addresses ...string) *Pool) {
	t.Helper()
	names, err := testdns.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	return names, func(opts Options, addresses ...string) *Pool {
		opts.Resolver, opts.ResolveEvery = names.Resolver(), 5*time.Millisecond
		p := NewPool(opts, addresses...)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		t.Cleanup(func() { cancel(); <-ended; p.Close() })
		return p
	}
}

// becomes waits for a condition.
func becomes(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in a minute: %s", what)
		}
	}
}

// addressesOf returns the addresses of the endpoints, without port.
func addressesOf(p *Pool) string {
	var out []string
	for _, e := range p.Endpoints() {
		host, _, _ := net.SplitHostPort(e.Address())
		out = append(out, host)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// serveOn serves at an address of loopback, which the answers name.
func serveOn(t *testing.T, address string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	return s
}

func body(t *testing.T, p *Pool, ctx context.Context) string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://names.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// All addresses of a name are endpoints; they come and go with its records, requests under way go on, and what can't be
// resolved stays as it was.
func TestResolve(t *testing.T) {
	names, pool := namesFor(t)
	held := make(chan struct{})
	one := serveOn(t, "127.0.0.3:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			<-held
		}
		_, _ = io.WriteString(w, "one")
	})
	one.Start()
	t.Cleanup(one.Close)
	_, port, _ := net.SplitHostPort(one.Listener.Addr().String())
	two := serveOn(t, "127.0.0.4:"+port, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "two") })
	two.Start()
	t.Cleanup(two.Close)

	names.Set("names.test", "127.0.0.3", "127.0.0.4")
	p := pool(Options{Strategy: RoundRobin{}}, "names.test:"+port)
	if !p.Resolves() {
		t.Fatal("it has a name")
	}
	becomes(t, "both addresses are endpoints", func() bool { return addressesOf(p) == "127.0.0.3 127.0.0.4" })
	got := map[string]int{}
	for range 10 {
		got[body(t, p, t.Context())]++
	}
	if got["one"] != 5 || got["two"] != 5 {
		t.Errorf("in turn: %v", got)
	}
	kept := p.Endpoints()[0]

	var pin Pin
	r, err := http.NewRequestWithContext(WithPin(t.Context(), &Pin{Endpoint: "127.0.0.3:" + port}), "GET", "http://names.test/held", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	names.Set("names.test", "127.0.0.4")
	becomes(t, "one is left", func() bool { return addressesOf(p) == "127.0.0.4" })
	close(held)
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "one" {
		t.Errorf("a request under way: %q, %v", b, err)
	}
	_ = resp.Body.Close()
	pin.Endpoint = "127.0.0.3:" + port
	if got := body(t, p, WithPin(t.Context(), &pin)); got != "two" {
		t.Errorf("what was tied to an address that is gone: %s", got)
	}

	for _, breaks := range []func(){func() { names.Fail("names.test") }, func() { names.Remove("names.test") }, func() { names.Set("names.test") }} {
		breaks()
		before := names.Asked("names.test")
		becomes(t, "it is asked again", func() bool { return names.Asked("names.test") > before+3 })
		if addressesOf(p) != "127.0.0.4" || body(t, p, t.Context()) != "two" {
			t.Errorf("while it can't be resolved: %s", addressesOf(p))
		}
		names.Set("names.test", "127.0.0.3", "127.0.0.4")
		becomes(t, "both are back", func() bool { return addressesOf(p) == "127.0.0.3 127.0.0.4" })
		names.Set("names.test", "127.0.0.4")
		becomes(t, "one is left", func() bool { return addressesOf(p) == "127.0.0.4" })
	}
	if kept.Host() != "names.test:"+port {
		t.Errorf("an endpoint is of %s", kept.Host())
	}

	p.SetEndpoints("127.0.0.3:"+port, "other.test:"+port)
	names.Set("other.test", "127.0.0.4")
	becomes(t, "an address and a name", func() bool { return addressesOf(p) == "127.0.0.3 127.0.0.4" })
}

// What nobody resolves, and what is resolved for each connection.
func TestResolveNot(t *testing.T) {
	for address, want := range map[string]bool{"a.example:1": true, "host:1": true, "127.0.0.1:1": false, "[::1]:1": false, "localhost:1": false, "a.localhost.:1": false, "LOCALHOST:1": false} {
		if got := isName(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	p := NewPool(Options{}, "127.0.0.1:1", "localhost:1")
	if p.Resolves() {
		t.Error("there is nothing to resolve")
	}
}

// Addresses of both families are endpoints, but for those to which no way leads while one leads to others.
func TestResolveRoutes(t *testing.T) {
	names, _ := namesFor(t)
	names.Set("both.test", "192.0.2.1", "2001:db8::1")
	names.Set("six.test", "2001:db8::1")
	for _, tc := range []struct {
		host string
		way  func(netip.Addr) bool
		want string
	}{
		{"both.test:1", func(netip.Addr) bool { return true }, "192.0.2.1:1 [2001:db8::1]:1"},
		{"both.test:1", netip.Addr.Is4, "192.0.2.1:1"},
		{"both.test:1", func(netip.Addr) bool { return false }, "192.0.2.1:1 [2001:db8::1]:1"},
		{"six.test:1", netip.Addr.Is4, "[2001:db8::1]:1"},
	} {
		p := NewPool(Options{Resolver: names.Resolver()}, tc.host)
		p.hasRoute = tc.way
		got, err := p.resolve(t.Context(), tc.host)
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, %v, want %s", tc.host, got, err, tc.want)
		}
	}
	if !hasRoute(netip.MustParseAddr("127.0.0.1")) {
		t.Error("there is a way to loopback")
	}
}

// At most so many addresses of a name are endpoints.
func TestResolveLimit(t *testing.T) {
	names, pool := namesFor(t)
	var many []string
	for i := range maxAddresses + 1 {
		many = append(many, fmt.Sprintf("127.1.%d.%d", i/200, 1+i%200))
	}
	names.Set("names.test", many[:maxAddresses]...)
	p := pool(Options{}, "names.test:1")
	becomes(t, "all are endpoints", func() bool { return len(p.Endpoints()) == maxAddresses })
	names.Set("names.test", many[1:]...)
	becomes(t, "others are", func() bool { return len(p.Endpoints()) == maxAddresses && p.Endpoints()[0].Address() == many[1]+":1" })
	names.Set("names.test", many...)
	before := names.Asked("names.test")
	becomes(t, "it is resolved again", func() bool { return names.Asked("names.test") > before+3 })
	if n := len(p.Endpoints()); n != maxAddresses {
		t.Errorf("%d endpoints", n)
	}
}

// One address of a name that fails is left out, and the others are used.
func TestResolveOutlier(t *testing.T) {
	names, pool := namesFor(t)
	good := serveOn(t, "127.0.0.3:0", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "good") })
	good.Start()
	t.Cleanup(good.Close)
	_, port, _ := net.SplitHostPort(good.Listener.Addr().String())
	bad := serveOn(t, "127.0.0.4:"+port, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	bad.Start()
	t.Cleanup(bad.Close)
	names.Set("names.test", "127.0.0.3", "127.0.0.4")
	zero := 0
	p := pool(Options{Strategy: RoundRobin{}, PanicPercent: &zero, Outlier: &Outlier{Consecutive: 2, ConsecutivePercent: 100, Interval: time.Hour, BaseEjection: time.Hour, MaxPercent: 100}}, "names.test:"+port)
	becomes(t, "both addresses are endpoints", func() bool { return len(p.Endpoints()) == 2 })
	becomes(t, "the bad one has failed", func() bool {
		body(t, p, t.Context())
		return len(p.endpoints.Load().usable) == 1
	})
	before := names.Asked("names.test")
	becomes(t, "it is resolved again", func() bool { return names.Asked("names.test") > before+3 })
	for range 6 {
		if got := body(t, p, t.Context()); got != "good" {
			t.Errorf("%q", got)
		}
	}
}

// Certificates are for the name, whatever the addresses are.
func TestResolveTLS(t *testing.T) {
	names, pool := namesFor(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"names.test"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	s := serveOn(t, "127.0.0.3:0", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.TLS.ServerName, r.ProtoMajor) })
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	names.Set("names.test", "127.0.0.3")
	names.Set("other.test", "127.0.0.3")
	for _, tc := range []struct {
		host     string
		protocol Protocol
		want     string
	}{{"names.test", HTTP1, "names.test2"}, {"names.test", HTTP2, "names.test2"}, {"names.test", HTTP11, "names.test1"}, {"other.test", HTTP1, "certificate is valid for names.test, not other.test"}} {
		p := pool(Options{TLS: &tls.Config{RootCAs: roots}, Protocol: tc.protocol}, tc.host+":"+port)
		becomes(t, "it is resolved", func() bool { return addressesOf(p) == "127.0.0.3" })
		if got := body(t, p, t.Context()); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.host, got, tc.want)
		}
	}
}
