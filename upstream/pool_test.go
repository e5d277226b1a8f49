package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mcpgw/mcpgw/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and returns its address.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// serveRaw accepts connections and hands each to f, which closes it.
func serveRaw(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// refused returns an address at which nobody listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func newPool(t *testing.T, opts Options, addresses ...string) *Pool {
	t.Helper()
	p := NewPool(opts, addresses...)
	t.Cleanup(p.Close)
	return p
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPoolSends(t *testing.T) {
	type seen struct{ Host, URI, Proto, Encoding, Body string }
	var mu sync.Mutex
	var got seen
	h := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = seen{r.Host, r.RequestURI, r.Proto, r.Header.Get("Accept-Encoding"), string(b)}
		mu.Unlock()
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}
	plain := httptest.NewServer(http.HandlerFunc(h))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(h))
	defer secure.Close()
	h2c := httptest.NewUnstartedServer(http.HandlerFunc(h))
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	defer h2c.Close()
	tlsConfig := secure.Client().Transport.(*http.Transport).TLSClientConfig

	for _, tc := range []struct {
		name string
		opts Options
		addr string
		want seen
	}{
		{"plain", Options{}, plain.Listener.Addr().String(), seen{"svc.example", "/a%2Fb?q=1", "HTTP/1.1", "", "x"}},
		{"tls", Options{TLS: tlsConfig}, secure.Listener.Addr().String(), seen{"svc.example", "/a%2Fb?q=1", "HTTP/1.1", "", "x"}},
		{"h2c", Options{Protocol: H2C}, h2c.Listener.Addr().String(), seen{"svc.example", "/a%2Fb?q=1", "HTTP/2.0", "", "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPool(t, tc.opts, tc.addr)
			r := request(t, "POST", "https://svc.example/a%2Fb?q=1", strings.NewReader("x"))
			resp, err := p.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			if resp.StatusCode != http.StatusFound {
				t.Errorf("status %d: the redirect was followed", resp.StatusCode)
			}
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("request upstream (-want +got):\n%s", diff)
			}
			if r.URL.String() != "https://svc.example/a%2Fb?q=1" {
				t.Errorf("the request was changed: %s", r.URL)
			}
			if n := p.Endpoints()[0].Active(); n != 0 {
				t.Errorf("%d answers active after the only one was closed", n)
			}
		})
	}
}

// brokenBody is the body of a client that fails with err.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
func (b brokenBody) Close() error             { return nil }

func TestPoolFaults(t *testing.T) {
	answer := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	hang := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	slam := serveRaw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.Close()
	})
	garbage := serveRaw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "SMTP ready\r\n\r\n")
		_ = c.Close()
	})
	post := func(body io.Reader) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request { return request(t, "POST", "http://x/", body) }
	}
	with := func(end func(context.Context) (context.Context, context.CancelFunc)) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			ctx, cancel := end(t.Context())
			t.Cleanup(cancel)
			return request(t, "GET", "http://x/", nil).WithContext(ctx)
		}
	}
	for _, tc := range []struct {
		name string
		addr []string
		req  func(*testing.T) *http.Request
		want fault.Code
	}{
		{"no endpoint", nil, post(nil), fault.UpstreamUnreachable},
		{"refused", []string{refused(t)}, post(strings.NewReader("x")), fault.UpstreamUnreachable},
		{"unknown name", []string{"nowhere.invalid:80"}, post(nil), fault.UpstreamUnreachable},
		{"closed after the request", []string{slam}, post(strings.NewReader("x")), fault.UpstreamFailed},
		{"no HTTP", []string{garbage}, post(strings.NewReader("x")), fault.UpstreamFailed},
		{"deadline", []string{hang}, with(func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 20*time.Millisecond)
		}), fault.UpstreamTimeout},
		{"cancelled", []string{hang}, with(func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		}), fault.ClientGone},
		{"ended for a reason", []string{hang}, with(func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(20*time.Millisecond, func() { cancel(fault.New(fault.Draining, "draining")) })
			return ctx, func() { cancel(nil) }
		}), fault.Draining},
		{"body too large", []string{answer}, post(brokenBody{&http.MaxBytesError{Limit: 3}}), fault.TooLarge},
		{"body too slow", []string{answer}, post(brokenBody{os.ErrDeadlineExceeded}), fault.RequestTimeout},
		{"body cut off", []string{answer}, post(brokenBody{io.ErrUnexpectedEOF}), fault.ClientGone},
		{"body malformed", []string{answer}, post(brokenBody{errors.New("malformed chunked encoding")}), fault.BadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPool(t, Options{}, tc.addr...)
			resp, err := p.RoundTrip(tc.req(t))
			if err == nil {
				_ = resp.Body.Close()
				t.Fatalf("status %d, want a fault", resp.StatusCode)
			}
			if got := fault.Of(err).Code; got != tc.want {
				t.Errorf("fault %v (%v), want %v", got, err, tc.want)
			}
			for _, e := range p.Endpoints() {
				if e.Active() != 0 {
					t.Errorf("%d answers active", e.Active())
				}
			}
		})
	}
}

func TestPoolBrokenAnswer(t *testing.T) {
	addr := serveRaw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		_ = c.Close()
	})
	resp, err := newPool(t, Options{}, addr).RoundTrip(request(t, "GET", "http://x/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if string(b) != "half" || err == nil || fault.Of(err).Code != fault.UpstreamFailed {
		t.Errorf("body %q, %v; want half and UpstreamFailed", b, err)
	}
}

// A POST with an Idempotency-Key is not sent again after it was sent, although
// net/http would.
func TestPoolNoReplay(t *testing.T) {
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(key, func(t *testing.T) {
			var got atomic.Int64
			var header atomic.Value
			addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if r.Method == "GET" {
					return
				}
				got.Add(1)
				header.Store(r.Header.Get(key))
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_ = conn.Close()
				}
			})
			p := newPool(t, Options{}, addr)
			warm, err := p.RoundTrip(request(t, "GET", "http://x/", nil)) // so that the connection is reused
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, warm)
			r := request(t, "POST", "http://x/", strings.NewReader("x"))
			r.Header.Set(key, "1")
			_, err = p.RoundTrip(r) //nolint:bodyclose // it fails
			if f := fault.Of(err); f.Code != fault.UpstreamFailed {
				t.Errorf("error %v, want UpstreamFailed", err)
			}
			if got.Load() != 1 || header.Load() != "1" {
				t.Errorf("sent %d times, with key %v; want once, with 1", got.Load(), header.Load())
			}
		})
	}
}

// deadConn is a connection whose peer is gone unnoticed: writing fails at once.
type deadConn struct {
	net.Conn
	dead *atomic.Bool
}

func (c deadConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return 0, errors.New("broken pipe")
	}
	return c.Conn.Write(b)
}

func TestPoolStaleConnection(t *testing.T) {
	var got atomic.Int64
	addr := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.Add(int64(len(b)))
	})
	var dials atomic.Int64
	var first atomic.Bool
	p := newPool(t, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil && dials.Add(1) == 1 {
			c = deadConn{c, &first}
		}
		return c, err
	}}, addr)
	for range 2 {
		resp, err := p.RoundTrip(request(t, "POST", "http://x/", bytes.NewReader([]byte("abc"))))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		first.Store(true) // the idle connection dies
	}
	if got.Load() != 6 || dials.Load() != 2 {
		t.Errorf("%d bytes over %d connections, want 6 over 2", got.Load(), dials.Load())
	}
}

func TestPoolNextEndpoint(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	p := newPool(t, Options{Strategy: inOrder{}}, refused(t), addr)
	for name, body := range map[string]io.Reader{"in memory": strings.NewReader("abc"), "stream": io.NopCloser(io.LimitReader(strings.NewReader("abc"), 9)), "none": nil} {
		t.Run(name, func(t *testing.T) {
			resp, err := p.RoundTrip(request(t, "POST", "http://x/", body))
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, resp); body != nil && got != "abc" {
				t.Errorf("upstream got %q", got)
			}
		})
	}
}

// inOrder picks the first.
type inOrder struct{}

func (inOrder) Picker([]*Endpoint) Picker { return inOrder{} }

func (inOrder) Pick(_ *http.Request, from []*Endpoint) *Endpoint { return from[0] }

func TestPin(t *testing.T) {
	var hits [3]atomic.Int64
	var addrs []string
	for i := range hits {
		addrs = append(addrs, serve(t, func(http.ResponseWriter, *http.Request) { hits[i].Add(1) }))
	}
	p := newPool(t, Options{}, addrs...)
	pin := new(Pin)
	ctx := WithPin(t.Context(), pin)
	send := func() error {
		resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx))
		if err == nil {
			readAll(t, resp)
		}
		return err
	}
	for range 20 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range hits {
		want := int64(0)
		if addrs[i] == pin.Endpoint {
			want = 20
		}
		if hits[i].Load() != want {
			t.Errorf("endpoint %d got %d requests, want %d", i, hits[i].Load(), want)
		}
	}
	var rest []string
	for _, a := range addrs {
		if a != pin.Endpoint {
			rest = append(rest, a)
		}
	}
	p.SetEndpoints(rest...)
	if err := send(); err == nil || fault.Of(err).Code != fault.UpstreamUnreachable {
		t.Errorf("error %v after the endpoint went, want UpstreamUnreachable", err)
	}
}

func TestSetEndpointsKeepsLoad(t *testing.T) {
	release := make(chan struct{})
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-release
	})
	p := newPool(t, Options{}, addr)
	resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil))
	if err != nil {
		t.Fatal(err)
	}
	p.SetEndpoints("127.0.0.1:1", addr, addr)
	if n := len(p.Endpoints()); n != 2 {
		t.Errorf("%d endpoints, want 2", n)
	}
	if n := p.Endpoints()[1].Active(); n != 1 {
		t.Errorf("%d answers active, want 1", n)
	}
	close(release)
	readAll(t, resp)
	if n := p.Endpoints()[1].Active(); n != 0 {
		t.Errorf("%d answers active, want 0", n)
	}
}
