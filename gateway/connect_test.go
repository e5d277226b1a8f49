package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestConnectHTTP2 checks that CONNECT, with a protocol (RFC 8441) or without, is refused in HTTP/2, that nobody is told to use it, and
// that the connection goes on.
func TestConnectHTTP2(t *testing.T) {
	backend, _ := serveBoth(t, func(http.ResponseWriter, *http.Request) {})
	g := start(t, route("r", toWeb)+backend)
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(g.url("8080", "/"), "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	stream := uint32(1)
	ask := func(fields ...string) string {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: fields[1] == "GET"}); err != nil {
			t.Fatal(err)
		}
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if v, ok := frame.Value(http2.SettingEnableConnectProtocol); ok && v != 0 {
					t.Error("clients are told that they may send CONNECT with a protocol")
				}
			case *http2.RSTStreamFrame:
				if frame.StreamID == stream {
					stream += 2
					return frame.ErrCode.String()
				}
			case *http2.MetaHeadersFrame:
				if frame.StreamID == stream {
					stream += 2
					return frame.PseudoValue("status")
				}
			}
		}
	}
	if got := ask(":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "x", ":path", "/"); got != "PROTOCOL_ERROR" {
		t.Errorf("a WebSocket: %s", got)
	}
	if got := ask(":method", "CONNECT", ":authority", "x:443"); got != "400" {
		t.Errorf("CONNECT: %s", got)
	}
	if got := ask(":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/"); got != "200" {
		t.Errorf("then a GET: %s", got)
	}
}

// TestGRPCMirror checks that a GRPCRoute mirrors calls while their messages come, and that the answer is that of the backend.
func TestGRPCMirror(t *testing.T) {
	messages := func(got chan<- string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			b := make([]byte, 8)
			for {
				n, err := io.ReadFull(r.Body, b)
				if n > 0 {
					got <- fmt.Sprintf("%s %s %s", r.Proto, r.URL.Path, b[5:n])
				}
				if err != nil {
					break
				}
			}
			got <- "end"
			w.Header().Set("Grpc-Status", "0")
		}
	}
	own, copies := make(chan string, 10), make(chan string, 10)
	_, backend := serveBoth(t, messages(own))
	_, shadow := serveBoth(t, messages(copies))
	g := start(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  rules:
  - backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: web}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {group: gateway.kgateway.dev, kind: Backend, name: shadow}}}]
`+backend+strings.Replace(shadow, "{name: web}", "{name: shadow}", 1))
	body, client := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", g.url("8080", "/a.B/C"), body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	next := func(from <-chan string) string {
		select {
		case s := <-from:
			return s
		case <-time.After(time.Minute):
			return "nothing"
		}
	}
	go func() { _, _ = io.WriteString(client, "\x00\x00\x00\x00\x03one") }()
	resp, err := h2c(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		want := "HTTP/2.0 /a.B/C " + word
		if got, mirrored := next(own), next(copies); got != want || mirrored != want {
			t.Errorf("the backend got %q, the mirror %q, want %q", got, mirrored, want)
		}
		if word == "one" {
			_, _ = io.WriteString(client, "\x00\x00\x00\x00\x03two")
		}
	}
	_ = client.Close()
	if got, mirrored := next(own), next(copies); got != "end" || mirrored != "end" {
		t.Errorf("at the end: %q and %q", got, mirrored)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if got := resp.Trailer.Get("Grpc-Status"); got != "0" {
		t.Errorf("Grpc-Status %q", got)
	}
}
