package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// TestMaxRequests checks how many requests one connection serves.
func TestMaxRequests(t *testing.T) {
	for _, tc := range []struct {
		name     string
		protocol Protocol
		tls      bool
		body     string // of the requests; in memory for the lean client, else of a client
		plain    bool   // the requests go through the transport
	}{
		{name: "lean", body: "x"},
		{name: "lean without a body"},
		{name: "transport", body: "x", plain: true},
		{name: "transport without a body", plain: true},
		{name: "TLS", protocol: HTTP11, tls: true, body: "x"},
		{name: "h2c", protocol: H2C, body: "x"},
		{name: "h2c without a body", protocol: H2C},
		{name: "HTTP/2 over TLS", protocol: HTTP2, tls: true, body: "x", plain: true},
	} {
		for _, limit := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s, %d", tc.name, limit), func(t *testing.T) {
				var mu sync.Mutex
				served := map[string]int{}
				var order []string
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					mu.Lock()
					defer mu.Unlock()
					if served[r.RemoteAddr]++; served[r.RemoteAddr] == 1 {
						order = append(order, r.RemoteAddr)
					}
					_, _ = io.WriteString(w, r.Proto)
				}))
				s.Config.Protocols = new(http.Protocols)
				s.Config.Protocols.SetHTTP1(tc.protocol != H2C && tc.protocol != HTTP2)
				s.Config.Protocols.SetUnencryptedHTTP2(tc.protocol == H2C)
				s.Config.Protocols.SetHTTP2(tc.protocol == HTTP2)
				opts := Options{Protocol: tc.protocol, MaxRequests: limit}
				if tc.tls {
					s.EnableHTTP2 = tc.protocol == HTTP2
					s.StartTLS()
					opts.TLS = &tls.Config{InsecureSkipVerify: true}
				} else {
					s.Start()
				}
				t.Cleanup(s.Close)
				p := newPool(t, opts, s.Listener.Addr().String())
				for range 7 {
					r := request(t, "GET", "http://x/", nil)
					if tc.body != "" {
						r = request(t, "POST", "http://x/", strings.NewReader(tc.body))
					}
					if tc.plain {
						r.GetBody = nil
						r.Header.Set("Expect", "") // what the lean client does not take
					}
					resp, err := p.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					readAll(t, resp)
				}
				mu.Lock()
				defer mu.Unlock()
				want := map[int]string{0: "[7]", 1: "[1 1 1 1 1 1 1]", 3: "[3 3 1]"}[limit]
				var got []int
				for _, a := range order {
					got = append(got, served[a])
				}
				if fmt.Sprint(got) != want {
					t.Errorf("connections served %v, want %s", got, want)
				}
			})
		}
	}
}

// TestMaxRequestsAtOnce checks that many requests at once on connections that serve few all are answered.
func TestMaxRequestsAtOnce(t *testing.T) {
	for _, protocol := range []Protocol{HTTP1, H2C} {
		var mu sync.Mutex
		served := map[string]int{}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			served[r.RemoteAddr]++
			mu.Unlock()
			_, _ = io.Copy(w, r.Body)
		}))
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		p := newPool(t, Options{Protocol: protocol, MaxRequests: 2}, s.Listener.Addr().String())
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() {
				for n := range 20 {
					r := request(t, "POST", "http://x/", strings.NewReader(fmt.Sprint(i, n)))
					if n%2 == 0 {
						r.GetBody = nil // through the transport
					}
					resp, err := p.RoundTrip(r)
					if err != nil {
						t.Error(err)
						return
					}
					if got := readAll(t, resp); got != fmt.Sprint(i, n) {
						t.Errorf("request %d of %d was answered %q", n, i, got)
					}
				}
			})
		}
		wait.Wait()
		for from, n := range served {
			if n > 2 {
				t.Errorf("the connection from %s served %d requests", from, n)
			}
		}
	}
}

// TestBufferLimit checks what an endpoint is told that it may send without being read.
func TestBufferLimit(t *testing.T) {
	for _, tc := range []struct{ limit, connection, stream int }{
		{1, 131_071, 32_767}, {131_071, 131_071, 32_767}, {131_072, 131_072, 32_768}, {1 << 20, 1 << 20, 256 << 10},
		{4 << 20, 4 << 20, 1 << 20}, {4_259_838, 4_259_838, 1_064_959}, {1 << 30, 4_259_838, 1_064_959},
	} {
		type windows struct{ connection, stream int }
		told := make(chan windows, 1)
		address := serveRaw(t, func(c net.Conn) {
			if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings()
			var got windows
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				switch frame := frame.(type) {
				case *http2.SettingsFrame:
					if n, ok := frame.Value(http2.SettingInitialWindowSize); ok {
						got.stream = int(n)
					}
				case *http2.WindowUpdateFrame:
					got.connection = 65535 + int(frame.Increment) // of the connection: a request has not come yet
				case *http2.HeadersFrame:
					told <- got
					return
				}
			}
		})
		p := newPool(t, Options{Protocol: H2C, BufferLimit: tc.limit}, address)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			if resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx)); err == nil {
				_ = resp.Body.Close()
			}
		}()
		got := <-told
		cancel()
		<-over
		if got != (windows{tc.connection, tc.stream}) {
			t.Errorf("limit %d: the endpoint is told %+v, want %d and %d", tc.limit, got, tc.connection, tc.stream)
		}
	}
}

// A partWriter notes the largest part that it is given.
type partWriter struct {
	*httptest.ResponseRecorder
	most int
}

func (w *partWriter) Write(b []byte) (int, error) {
	w.most = max(w.most, len(b))
	return len(b), nil
}

// TestBufferLimitOfProxy checks what a Proxy holds of an answer at once.
func TestBufferLimitOfProxy(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1048576")
		_, _ = w.Write(make([]byte, 1<<20))
	})
	for limit, want := range map[int]int{0: 32 << 10, 1: 4 << 10, 4 << 10: 4 << 10, 10_000: 10_000, 1 << 20: 32 << 10} {
		w := &partWriter{ResponseRecorder: httptest.NewRecorder()}
		p := &Proxy{Pool: newPool(t, Options{BufferLimit: limit}, address)}
		if err := p.Serve(w, httptest.NewRequestWithContext(t.Context(), "GET", "http://x/", nil)); err != nil {
			t.Fatal(err)
		}
		if w.most > want {
			t.Errorf("limit %d: %d bytes at once, want at most %d", limit, w.most, want)
		}
	}
}
