package upstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A mirroring is a Mirror of a test, with what became of the copies.
type mirroring struct {
	*Mirror
	t       *testing.T
	results chan MirrorResult
}

func newMirror(t *testing.T, p *Pool) *mirroring {
	t.Helper()
	base, end := context.WithCancel(context.Background())
	m := &mirroring{&Mirror{Pool: p, Base: base, Running: new(sync.WaitGroup)}, t, make(chan MirrorResult, 1000)}
	m.Done = func(r MirrorResult) { m.results <- r }
	t.Cleanup(func() { end(); m.Running.Wait() })
	return m
}

func (m *mirroring) result() MirrorResult {
	m.t.Helper()
	select {
	case r := <-m.results:
		return r
	case <-m.t.Context().Done():
		m.t.Fatal("nothing became of the copy")
		return 0
	}
}

// incoming returns a request as a server gets it.
func incoming(t *testing.T, method string, body io.Reader, length int64) (*http.Request, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := request(t, method, "http://host.example/path?q=1", body).WithContext(ctx)
	r.Header.Set("X-A", "1")
	r.Header.Set("Connection", "X-Hop")
	r.Header.Set("X-Hop", "1")
	r.RemoteAddr, r.GetBody, r.ContentLength = "192.0.2.1:1", nil, length
	return r, cancel
}

func TestMirrorCopies(t *testing.T) {
	type seen struct{ Method, URI, Host, A, Hop, From, Body string }
	got := make(chan seen, 1)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		got <- seen{r.Method, r.RequestURI, r.Host, r.Header.Get("X-A"), r.Header.Get("X-Hop"), r.Header.Get("X-Forwarded-For"), fmt.Sprintf("%d %x", len(b), sha256.Sum256(b))}
	})
	m := newMirror(t, newPool(t, Options{}, addr))
	big := strings.Repeat("0123456789abcdef", 16<<10)
	for _, tc := range []struct {
		name, method, body string
		length             int64
		memory             bool
	}{
		{"none", "GET", "", 0, false},
		{"length", "POST", big, int64(len(big)), false},
		{"chunked", "PUT", big, -1, false},
		{"in memory", "POST", big, int64(len(big)), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, cancel := incoming(t, tc.method, strings.NewReader(tc.body), tc.length)
			defer cancel()
			if tc.memory {
				r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(tc.body)), nil }
			}
			served := m.Copy(r)
			if tc.length != 0 {
				b, err := io.ReadAll(served.Body)
				if err != nil || string(b) != tc.body {
					t.Fatalf("the request itself has %d bytes, %v", len(b), err)
				}
			}
			if got := m.result(); got != Mirrored {
				t.Errorf("the copy is %s", got)
			}
			want := seen{tc.method, "/path?q=1", "host.example", "1", "", "192.0.2.1", fmt.Sprintf("%d %x", len(tc.body), sha256.Sum256([]byte(tc.body)))}
			if diff := cmp.Diff(want, <-got); diff != "" {
				t.Errorf("the copy (-want +got):\n%s", diff)
			}
		})
	}
	if n := m.Pool.mirrored.Load(); n != 0 {
		t.Errorf("%d copies are under way", n)
	}
}

// TestMirrorLag is about a mirror that takes nothing: the request itself does not wait.
func TestMirrorLag(t *testing.T) {
	for size, want := range map[int]MirrorResult{maxMirrorLag: Mirrored, maxMirrorLag + 1: MirrorDropped} {
		open := make(chan struct{})
		addr := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		m := newMirror(t, newPool(t, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case <-open:
				return new(net.Dialer).DialContext(ctx, network, address)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}, addr))
		r, cancel := incoming(t, "POST", strings.NewReader(strings.Repeat("a", size)), -1)
		b, err := io.ReadAll(m.Copy(r).Body)
		if err != nil || len(b) != size {
			t.Errorf("the request itself has %d bytes, %v", len(b), err)
		}
		close(open)
		if got := m.result(); got != want {
			t.Errorf("the copy of %d bytes that lag is %s, want %s", size, got, want)
		}
		cancel()
	}
}

// TestMirrorEnds is about copies that can't go on, and mirrors that do not work.
func TestMirrorEnds(t *testing.T) {
	hang := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	t.Run("the request ends before its body", func(t *testing.T) {
		m := newMirror(t, newPool(t, Options{}, hang))
		r, cancel := incoming(t, "POST", strings.NewReader("abc"), 3)
		m.Copy(r)
		cancel()
		if got := m.result(); got != MirrorDropped {
			t.Errorf("the copy is %s", got)
		}
	})
	t.Run("the client breaks off", func(t *testing.T) {
		m := newMirror(t, newPool(t, Options{}, hang))
		client, broken := io.Pipe()
		r, cancel := incoming(t, "POST", client, 9)
		defer cancel()
		served := m.Copy(r)
		go func() { _, _ = broken.Write([]byte("abc")); _ = broken.CloseWithError(io.ErrUnexpectedEOF) }()
		if _, err := io.ReadAll(served.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("reading the request itself: %v", err)
		}
		if got := m.result(); got != MirrorDropped {
			t.Errorf("the copy is %s", got)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		m := newMirror(t, newPool(t, Options{}, refused(t)))
		r, cancel := incoming(t, "POST", strings.NewReader("abc"), 3)
		defer cancel()
		if b, err := io.ReadAll(m.Copy(r).Body); string(b) != "abc" || err != nil {
			t.Errorf("the request itself: %q, %v", b, err)
		}
		if got := m.result(); got != MirrorFailed {
			t.Errorf("the copy is %s", got)
		}
	})
	t.Run("the request has long been answered", func(t *testing.T) {
		addr := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		m := newMirror(t, newPool(t, Options{}, addr))
		r, cancel := incoming(t, "POST", strings.NewReader("abc"), 3)
		if _, err := io.ReadAll(m.Copy(r).Body); err != nil {
			t.Fatal(err)
		}
		cancel()
		if got := m.result(); got != Mirrored {
			t.Errorf("the copy is %s", got)
		}
	})
	t.Run("too many", func(t *testing.T) {
		m := newMirror(t, newPool(t, Options{}, hang))
		for range maxMirrored {
			r, cancel := incoming(t, "GET", nil, 0)
			defer cancel()
			m.Copy(r)
		}
		r, cancel := incoming(t, "GET", nil, 0)
		defer cancel()
		if m.Copy(r) != r || m.result() != MirrorDropped {
			t.Error("there is another copy")
		}
		if n := m.Pool.mirrored.Load(); n != maxMirrored {
			t.Errorf("%d copies are under way", n)
		}
	})
}

// TestMirrorPatience is about a mirror that never answers.
func TestMirrorPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror(t, newPool(t, Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}, "mirror.example:80"))
		begun := time.Now()
		r, cancel := incoming(t, "GET", nil, 0)
		defer cancel()
		m.Copy(r)
		if got := m.result(); got != MirrorFailed || time.Since(begun) < mirrorPatience {
			t.Errorf("the copy is %s after %s", got, time.Since(begun))
		}
		// A body that comes slowly is waited for.
		body, client := io.Pipe()
		r, cancel = incoming(t, "POST", body, -1)
		defer cancel()
		served := m.Copy(r)
		begun = time.Now()
		go func() {
			for range 9 {
				time.Sleep(mirrorPatience - time.Second)
				_, _ = client.Write([]byte("abc"))
			}
			_ = client.Close()
		}()
		if b, err := io.ReadAll(served.Body); len(b) != 27 || err != nil {
			t.Errorf("the request itself: %q, %v", b, err)
		}
		if got := m.result(); got != MirrorFailed || time.Since(begun) < 10*(mirrorPatience-time.Second) {
			t.Errorf("the copy is %s after %s", got, time.Since(begun))
		}
	})
}

// TestMirrorShare is about which requests are copied.
func TestMirrorShare(t *testing.T) {
	addr := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, tc := range []struct{ numerator, denominator, least, most int }{
		{0, 100, 0, 0}, {100, 100, 400, 400}, {0, 0, 400, 400}, {1, 4, 50, 150}, {25, 100, 50, 150},
	} {
		m := newMirror(t, newPool(t, Options{}, addr))
		m.Numerator, m.Denominator = tc.numerator, tc.denominator
		for range 400 {
			r, cancel := incoming(t, "GET", nil, 0)
			m.Copy(r)
			m.Running.Wait() // so that none is dropped
			cancel()
		}
		if n := len(m.results); n < tc.least || n > tc.most {
			t.Errorf("%d of %d: %d of 400 are copied", tc.numerator, tc.denominator, n)
		}
	}
	m := newMirror(t, newPool(t, Options{}, addr))
	r, cancel := incoming(t, "GET", nil, 0)
	defer cancel()
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	if m.Copy(r); m.Pool.mirrored.Load() != 0 {
		t.Error("an upgrade is copied")
	}
}
