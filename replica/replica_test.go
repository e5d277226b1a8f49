package replica

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func ring(t *testing.T, keys ...byte) *Ring {
	t.Helper()
	var all [][]byte
	for _, k := range keys {
		all = append(all, key(k))
	}
	r, err := NewRing(all...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve serves a replica with the ring and returns its address.
func serve(t *testing.T, r *Ring, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(context.Background(), l, r, h, slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	return l.Addr().String()
}

func get(t *testing.T, c *Client, addr string) (status int, body string, err error) {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/mcp", nil)
	r.Host = "gateway.example"
	resp, err := c.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Replicas reach each other exactly when they have a key in common, whichever it is
// on either side.
func TestRings(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server []byte
		ok             bool
	}{
		{"one key", []byte{1}, []byte{1}, true},
		{"the client has the new key", []byte{2, 1}, []byte{1}, true},
		{"the server has the new key", []byte{1}, []byte{2, 1}, true},
		{"only the old one in common", []byte{3, 1}, []byte{2, 1}, true},
		{"the new key, in another order", []byte{2, 1}, []byte{1, 2}, true},
		{"as many as there may be", []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, []byte{16}, true},
		{"none in common", []byte{2, 3}, []byte{1, 4}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			served := 0
			addr := serve(t, ring(t, tt.server...), func(w http.ResponseWriter, r *http.Request) {
				served++
				_, _ = io.WriteString(w, r.Host+" "+r.Proto)
			})
			c := NewClient(ring(t, tt.client...))
			defer c.Close()
			_, body, err := get(t, c, addr)
			if tt.ok {
				if err != nil || body != "gateway.example HTTP/2.0" {
					t.Errorf("%q %v", body, err)
				}
				return
			}
			if !errors.Is(err, ErrUnreachable) || served != 0 {
				t.Errorf("served %d times, error %v", served, err)
			}
		})
	}
}

// Nobody without a key is served, whatever else it shows, and no server without a
// key gets a request.
func TestStrangers(t *testing.T) {
	ours := ring(t, 1)
	addr := serve(t, ours, func(http.ResponseWriter, *http.Request) { t.Error("a stranger is served") })
	theirs := (*ring(t, 2).identities.Load())[0].cert
	for name, cfg := range map[string]*tls.Config{
		"no certificate":         {},
		"somebody's certificate": {Certificates: []tls.Certificate{theirs}},
		// A certificate is public; what it takes is the key.
		"our certificate without its key": {Certificates: []tls.Certificate{{
			Certificate: (*ours.identities.Load())[0].cert.Certificate, PrivateKey: theirs.PrivateKey}}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.InsecureSkipVerify, cfg.ServerName, cfg.NextProtos = true, ours.serverName(), []string{"h2"}
			if len(cfg.Certificates) > 0 {
				cert := cfg.Certificates[0]
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			conn, err := tls.Dial("tcp", addr, cfg)
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("the server sent %d bytes", n)
			}
		})
	}
	t.Run("server", func(t *testing.T) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{theirs}, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := make(chan int, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			n, _ := conn.Read(make([]byte, 1))
			got <- n
		}()
		c := NewClient(ours)
		defer c.Close()
		if _, _, err := get(t, c, l.Addr().String()); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		if n := <-got; n != 0 {
			t.Error("the stranger got something")
		}
	})
}

// A key that is taken away ends what it opened, even on connections that are there.
func TestKeyRemoved(t *testing.T) {
	server, client := ring(t, 2, 1), ring(t, 1)
	addr := serve(t, server, func(http.ResponseWriter, *http.Request) {})
	c := NewClient(client)
	defer c.Close()
	if status, _, err := get(t, c, addr); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	if err := server.SetKeys(key(2)); err != nil {
		t.Fatal(err)
	}
	if status, body, err := get(t, c, addr); err == nil && status != 403 {
		t.Errorf("%d %s", status, body)
	}
	if err := client.SetKeys(key(2), key(1)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if status, _, err := get(t, c, addr); err != nil || status != 200 {
		t.Errorf("with the new key: %d %v", status, err)
	}
}

// A replica that is gone is found out at once, and is back at once when it is back.
func TestGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	c := NewClient(ring(t, 1))
	defer c.Close()
	for range 3 {
		if _, _, err := get(t, c, addr); !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if _, _, err := get(t, c, addr); !strings.Contains(err.Error(), "a moment ago") {
		t.Error(err)
	}
	c.down.Add(addr, time.Now().Add(-downFor))
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	s := Serve(context.Background(), l, ring(t, 1), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	defer s.Close()
	if status, _, err := get(t, c, addr); err != nil || status != 404 {
		t.Error(status, err)
	}
}

func TestNoKeys(t *testing.T) {
	if _, err := NewRing(); err == nil {
		t.Error("a ring without keys")
	}
}
