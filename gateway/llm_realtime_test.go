package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A realtime session, and what is passed as it is, go through the gateway's own connections:
// their writers, and the pool of the provider. The session ends with the client.
func TestRealtimeAndPassthrough(t *testing.T) {
	gone := make(chan struct{})
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/realtime" {
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body)
			return
		}
		var u websocket.Upgrader
		c, err := u.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("the handshake: %v", err)
			return
		}
		defer close(gone)
		defer c.Close()
		for {
			typ, message, err := c.ReadMessage()
			if err != nil || c.WriteMessage(typ, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(provider.Close)
	host, port, _ := net.SplitHostPort(provider.Listener.Addr().String())
	s := &openAIServer{host: host, port: port}
	g := start(t, s.provider(`openai: {authToken: {inline: gateway-key}}
routes: {"/v1/audio/*": Passthrough}`))
	c, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(g.url("8080", "/llm/model/v1/realtime?model=m"), "http"), nil)
	if err != nil {
		t.Fatal(err, resp)
	}
	if resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("the handshake is answered %v", resp.Header)
	}
	for range 3 {
		if err := c.WriteMessage(websocket.TextMessage, []byte(`{"type":"session.update"}`)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.ReadMessage(); err != nil || string(got) != `{"type":"session.update"}` {
			t.Fatalf("%s %v", got, err)
		}
	}
	_ = c.NetConn().Close()
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the session at the provider goes on without the client")
	}
	audio, err := http.Post(g.url("8080", "/llm/model/v1/audio/speech?x=1"), "application/json", strings.NewReader(`{"input":"hi"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer audio.Body.Close()
	if got, err := io.ReadAll(audio.Body); err != nil || string(got) != `POST /v1/audio/speech?x=1 Bearer gateway-key {"input":"hi"}` {
		t.Errorf("%s %v", got, err)
	}
}

// A session takes what its answers took of a budget when it ends, and none begins where nothing is left.
func TestRealtimeBudget(t *testing.T) {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u websocket.Upgrader
		c, err := u.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("the handshake: %v", err)
			return
		}
		defer c.Close()
		_ = c.WriteMessage(websocket.TextMessage, []byte(`{"type":"response.done","response":{"usage":{"input_tokens":60,"output_tokens":40}}}`))
		_, _, _ = c.ReadMessage() // the client's end
	}))
	t.Cleanup(provider.Close)
	host, port, _ := net.SplitHostPort(provider.Listener.Addr().String())
	s := &openAIServer{host: host, port: port}
	g := start(t, s.provider(`openai: {authToken: {inline: k}}`)+budgets("- {name: tokens, totalTokens: 100, window: Month}"))
	open := func() (*websocket.Conn, *http.Response, error) {
		return websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(g.url("8080", "/llm/model/v1/realtime?model=m"), "http"), nil)
	}
	c, _, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	g.ended(1)
	if _, resp, err := open(); err == nil || resp == nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the second session: %v, %v; want 429", resp, err)
	}
}
