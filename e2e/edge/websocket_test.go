package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// newEcho returns the address of a WebSocket server that sends back what it gets, in pieces of any size, and closes when it
// is told to.
func newEcho(t testing.TB) string {
	t.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat"}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		for {
			kind, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if string(b) == "close" {
				_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "as asked"), time.Now().Add(time.Minute))
				continue
			}
			if c.WriteMessage(kind, b) != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// echoes reports whether a message comes back.
func echoes(c *websocket.Conn, kind int, text string) error {
	if err := c.WriteMessage(kind, []byte(text)); err != nil {
		return err
	}
	got, b, err := c.ReadMessage()
	if err != nil {
		return err
	}
	if got != kind || string(b) != text {
		return fmt.Errorf("%d bytes of kind %d came back", len(b), got)
	}
	return nil
}

// TestWebSocket has gorilla's client speak to gorilla's server through the gateway, over HTTP and HTTPS, to a Backend of type
// Static and to Services by the appProtocols that there are.
func TestWebSocket(t *testing.T) {
	echo := newEcho(t)
	service := func(name, protocol string) string {
		return testgateway.Service(name, 80, ", appProtocol: "+protocol, echo) + fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: default}]
  rules: [{matches: [{path: {value: /%[1]s}}], backendRefs: [{name: %[1]s, port: 80}]}]
---
`, name)
	}
	port := testgateway.FreePort(t)
	g := serve(t, echo, secure(t, port)+service("ws", "kubernetes.io/ws")+service("kws", "kgateway.dev/ws")+service("http", "http"))
	g.Listens(t, fmt.Sprintf("127.0.0.1:%d", port))
	for _, url := range []string{"ws://" + g.Address + "/", fmt.Sprintf("wss://127.0.0.1:%d/", port), "ws://" + g.Address + "/ws", "ws://" + g.Address + "/kws", "ws://" + g.Address + "/http"} {
		t.Run(url[strings.LastIndex(url, ":"):], func(t *testing.T) {
			d := websocket.Dialer{Subprotocols: []string{"chat"}, TLSClientConfig: insecure()}
			c, resp, err := d.DialContext(t.Context(), url, nil)
			if err != nil {
				t.Fatal(resp, err)
			}
			defer func() { _ = c.Close() }()
			if c.Subprotocol() != "chat" {
				t.Errorf("the protocol %q", c.Subprotocol())
			}
			for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
				if err := errors.Join(echoes(c, websocket.BinaryMessage, strings.Repeat("x", n)), echoes(c, websocket.TextMessage, strings.Repeat("ä", n))); err != nil {
					t.Fatalf("%d: %v", n, err)
				}
			}
			if err := c.WriteMessage(websocket.TextMessage, []byte("close")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, 4001) {
				t.Errorf("the server's close is %v", err)
			}
		})
	}
	testgateway.Until(t, "tunnels have ended", func() bool { return g.Metric(t, "mcpgw_http_requests_in_flight") == 0 })
}

// An upgrade that is not enabled is refused, and not asked of the backend.
func TestWebSocketRefused(t *testing.T) {
	behind := newRecorder(t)
	g := serve(t, behind.Addr().String(), policy("upgradeConfig: {enabledUpgrades: [IRC/6.9]}"))
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+g.Address+"/refused", nil)
	if !errors.Is(err, websocket.ErrBadHandshake) || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%v, %v", resp, err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "upgrade not enabled" {
		t.Errorf("%q", b)
	}
	if seen := behind.of("/refused"); len(seen) > 0 {
		t.Errorf("the backend got %+v", seen)
	}
}

// A side that ends while the other does not ends both, the drain ends tunnels, and so does silence.
func TestWebSocketEnds(t *testing.T) {
	echo := newEcho(t)
	dial := func(t *testing.T, g *testgateway.Gateway) *websocket.Conn {
		c, resp, err := websocket.DefaultDialer.Dial("ws://"+g.Address+"/", nil)
		if err != nil {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := echoes(c, websocket.TextMessage, "hello"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ended := func(t *testing.T, c *websocket.Conn) {
		t.Helper()
		if _, _, err := c.ReadMessage(); err == nil {
			t.Error("it goes on")
		}
	}
	t.Run("half-close", func(t *testing.T) {
		g := serve(t, echo, "")
		c := dial(t, g)
		if err := c.NetConn().(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		ended(t, c)
		testgateway.Until(t, "the tunnel has ended", func() bool { return g.Metric(t, "mcpgw_http_requests_in_flight") == 0 })
		testgateway.Until(t, "it has its record", func() bool { return strings.Contains(g.Stderr.String(), `"status":101`) })
		if n := strings.Count(g.Stderr.String(), `"status":101`); n != 1 {
			t.Errorf("%d records", n)
		}
	})
	t.Run("drain", func(t *testing.T) {
		g := serve(t, echo, "", "--drain-timeout", "30s")
		c := dial(t, g)
		g.Signal(t, syscall.SIGTERM)
		ended(t, c)
		code := g.Ended(t)
		if n := strings.Count(g.Stderr.String(), `"status":101`); n != 1 || code != 0 {
			t.Errorf("%d records, exit code %d", n, code)
		}
	})
	t.Run("silence", func(t *testing.T) {
		g := serve(t, echo, policy("streamIdleTimeout: 3s"))
		c := dial(t, g)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 40 { // longer than it may be silent, which is far longer than a tick
			<-tick.C
			if err := echoes(c, websocket.TextMessage, "still here"); err != nil {
				t.Fatal(err)
			}
		}
		ended(t, c)
	})
}
