package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/mcpgw/mcpgw/internal/testdns"
)

// newNames returns a DNS server, and starts a gateway that asks it.
func newNames(t *testing.T) (*testdns.Server, func(text string) *testGateway) {
	t.Helper()
	names, err := testdns.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	return names, func(text string) *testGateway {
		t.Helper()
		return startOn(t, RuntimeOptions{Resolver: names.Resolver()}, Options{}, text)
	}
}

// anywhere is a Backend that sends requests where they say, and a route to it.
func anywhere(spec string) string {
	return fmt.Sprintf(`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: any}
spec: {type: DynamicForwardProxy%s}
`, spec) + route("r", "backendRefs: ["+to("any")+"]")
}

// countedAt serves at an address of loopback, and counts requests.
func countedAt(t *testing.T, address string, body string) (port string, n *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		_, _ = fmt.Fprintf(w, "%s %s", body, r.Host)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, n
}

// A request goes where its Host says, unless that is the gateway's own machine or the like.
func TestDynamic(t *testing.T) {
	names, begin := newNames(t)
	port, n := countedAt(t, "127.0.0.1:0", "here")
	names.Set("mock.test", "127.0.0.1")
	for _, tc := range []struct {
		spec, host string
		status     int
	}{
		{"", "mock.test:" + port, 403},
		{"", "127.0.0.1:" + port, 403},
		{"", "[::1]:" + port, 403},
		{"", "[::ffff:127.0.0.1]:" + port, 403},
		{"", "0.0.0.0:" + port, 403},
		{"", "[::]:" + port, 403},
		{"", "[::ffff:0.0.0.0]:" + port, 403},
		{"", "169.254.169.254", 403},
		{"", "[64:ff9b::7f00:1]:" + port, 403},
		{"", "nowhere.test:" + port, 503},
		{"", "mock.test:0", 400},
		{", dynamicForwardProxy: {allowedDestinations: [mock.test]}", "mock.test:" + port, 200},
		{", dynamicForwardProxy: {allowedDestinations: [mock.test]}", "127.0.0.1:" + port, 403},
		{", dynamicForwardProxy: {allowedDestinations: [\"*.test\"]}", "MOCK.test:" + port, 200},
		{", dynamicForwardProxy: {allowedDestinations: [127.0.0.0/8]}", "mock.test:" + port, 200},
		{", dynamicForwardProxy: {allowedDestinations: [127.0.0.1]}", "[::ffff:127.0.0.1]:" + port, 200},
		{", dynamicForwardProxy: {allowedDestinations: [\"::ffff:127.0.0.0/104\"]}", "127.0.0.1:" + port, 200},
	} {
		t.Run(tc.host+tc.spec, func(t *testing.T) {
			g := begin(anywhere(tc.spec))
			before := n.Load()
			got := g.get("/", "Host", tc.host)
			if got.Status != tc.status || got.Status == 200 && got.Body != "here "+tc.host || got.Status != 200 && n.Load() != before {
				t.Errorf("%d %q, %d requests", got.Status, got.Body, n.Load()-before)
			}
			if rec := g.ended(1)[0]; rec.Backend != "default/any" || tc.status == 200 && rec.UpstreamHost != tc.host {
				t.Errorf("the record says %s, %s", rec.Backend, rec.UpstreamHost)
			}
		})
	}
}

// Names that resolve to what is refused, in whatever record.
func TestDynamicNames(t *testing.T) {
	names, begin := newNames(t)
	g := begin(anywhere(""))
	port, n := countedAt(t, "127.0.0.1:0", "here")
	for _, address := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fd00:ec2::254", "0.0.0.0", "0.1.2.3", "::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "fe80::1", "224.0.0.1"} {
		names.Set("evil.test", address)
		if got := g.get("/", "Host", "evil.test:"+port); got.Status != 403 || got.Body != "the destination is not permitted" {
			t.Errorf("%s: %d %q", address, got.Status, got.Body)
		}
	}
	names.Set("evil.test", "127.0.0.1", "::1", "169.254.169.254")
	if got := g.get("/", "Host", "evil.test:"+port); got.Status != 403 {
		t.Errorf("%d %q", got.Status, got.Body)
	}
	if n.Load() != 0 {
		t.Errorf("%d requests got through", n.Load())
	}
}

// A name that resolves to another address each time reaches only the one that is permitted.
func TestDynamicRebinding(t *testing.T) {
	names, begin := newNames(t)
	port, good := countedAt(t, "127.0.0.2:0", "good")
	_, bad := countedAt(t, "127.0.0.1:"+port, "bad")
	var asked atomic.Int64
	names.SetFunc("rebind.test", func() ([]netip.Addr, int) {
		if asked.Add(1)/2%2 == 0 { // A and AAAA are asked for together
			return []netip.Addr{netip.MustParseAddr("127.0.0.2")}, 0
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 0
	})
	g := begin(anywhere(", dynamicForwardProxy: {allowedDestinations: [127.0.0.2/32]}"))
	for range 40 {
		got := g.get("/", "Host", "rebind.test:"+port, "Connection", "close")
		if got.Status != 403 && got.Body != "good rebind.test:"+port {
			t.Errorf("%d %q", got.Status, got.Body)
		}
		g.runtime.mu.Lock()
		for _, p := range g.runtime.pools {
			p.Close() // so that the name is resolved anew
		}
		g.runtime.mu.Unlock()
	}
	if good.Load() == 0 || bad.Load() != 0 || good.Load() == 40 {
		t.Errorf("%d requests to what is permitted, %d to what is not", good.Load(), bad.Load())
	}
}

// There is no tunnel, whatever it is asked for; a request for a whole URL is one for its path, at its host; WebSockets
// go where other requests do.
func TestDynamicWays(t *testing.T) {
	names, begin := newNames(t)
	names.Set("mock.test", "127.0.0.1")
	port, n := countedAt(t, "127.0.0.1:0", "here")
	g := begin(anywhere(", dynamicForwardProxy: {allowedDestinations: [mock.test]}"))
	send := func(text string) string {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	if got := send("CONNECT mock.test:" + port + " HTTP/1.1\r\nHost: mock.test:" + port + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400") || n.Load() != 0 {
		t.Errorf("CONNECT: %s, %d requests", got, n.Load())
	}
	if got := send("GET http://mock.test:" + port + "/x HTTP/1.1\r\nHost: mock.test:" + port + "\r\n\r\n"); got != "HTTP/1.1 200 OK" || n.Load() != 1 {
		t.Errorf("a whole URL: %s", got)
	}

	sockets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		kind, text, err := c.ReadMessage()
		if err == nil {
			_ = c.WriteMessage(kind, text)
		}
	}))
	t.Cleanup(sockets.Close)
	_, port, _ = net.SplitHostPort(sockets.Listener.Addr().String())
	for host, ok := range map[string]bool{"mock.test:" + port: true, "127.0.0.1:" + port: false} {
		dialer := websocket.Dialer{}
		c, resp, err := dialer.DialContext(t.Context(), strings.Replace(g.url("8080", "/"), "http", "ws", 1), http.Header{"Host": {host}})
		if !ok {
			if err == nil || resp == nil || resp.StatusCode != 403 {
				t.Errorf("%s: %v", host, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WriteMessage(websocket.TextMessage, []byte("hi")); err != nil {
			t.Fatal(err)
		}
		if _, text, err := c.ReadMessage(); err != nil || string(text) != "hi" {
			t.Errorf("%q, %v", text, err)
		}
		_ = c.Close()
	}
}
