package llm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/mcpgw/mcpgw/telemetry"
)

// Every size has a class whose buffers hold it and are not a third larger.
func TestClass(t *testing.T) {
	last := 0
	for n := minLent; n <= maxBody+1; n += 997 {
		i, size := class(n)
		if i < last || i > last+1 || i >= classes || size < n || size > n+n/4+8 {
			t.Fatalf("%d bytes: class %d of %d bytes, after %d", n, i, size, last)
		}
		if again, same := class(size); again != i || same != size {
			t.Fatalf("the buffers of %d bytes of class %d are of class %d, %d bytes", size, i, again, same)
		}
		last = i
	}
	if i, size := class(maxBody + 1); i != classes-1 || size <= maxBody {
		t.Errorf("the largest body: class %d of %d bytes", i, size)
	}
}

// A body is read whole, whatever its Content-Length says of it.
func TestReadBody(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 513, minLent - 1, minLent, minLent + 1, 3 << 20} {
		want := bytes.Repeat([]byte("abcdefghijk"), size/11+1)[:size]
		for _, says := range []int64{-1, 0, 1, int64(size), int64(size) - 1, int64(size) + 1, minLent, 1 << 20, maxBody, maxBody + 1} {
			got, l, err := readBody(iotest.HalfReader(bytes.NewReader(want)), says)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes that are said to be %d: %d, %v", size, says, len(got), err)
			}
			if (l != nil) != (says >= minLent && says <= maxBody) {
				t.Errorf("%d bytes that are said to be %d: lent %t", size, says, l != nil)
			}
			l.done()
		}
	}
	broken := errors.New("broken")
	if _, l, err := readBody(io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), maxBody); err != broken {
		t.Errorf("%v", err)
	} else if cap(l.buf) > maxBody/maxStep {
		t.Errorf("one byte of a large body took %d", cap(l.buf))
	}
}

// at sends requests to a server.
type at struct {
	*http.Transport
	url *url.URL
}

func (a at) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = a.url.Scheme, a.url.Host
	return a.Transport.RoundTrip(out)
}

// Buffers are used again by nobody who could disturb whoever still reads them: not when a provider answers
// before it has read the request, or the client is gone.
func TestLent(t *testing.T) {
	provider := func(h http.HandlerFunc) at {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		u, _ := url.Parse(s.URL)
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		return at{tr, u}
	}
	hasty := provider(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<10)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	var mu sync.Mutex
	wrong, right := 0, 0
	careful := provider(func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, err := io.Copy(h, r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || hex.EncodeToString(h.Sum(nil)) != r.Header.Get("X-Request-Id") {
			wrong++
		}
		right++
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}`)
	})
	const at, times = 8, 6
	var wg sync.WaitGroup
	for i := range at {
		wg.Go(func() {
			for j := range times {
				b := New(Config{Logger: slog.New(slog.DiscardHandler), Groups: [][]*Provider{
					{{Vendor: OpenAI, RoundTripper: hasty, Host: "a.test", Health: new(Health)}},
					{{Vendor: OpenAI, RoundTripper: careful, Host: "b.test", Health: new(Health), Model: "mine"}},
				}})
				text := strings.Repeat(fmt.Sprintf("%d/%d ", i, j), 1<<17)
				sent, body := `{"model":"mine","messages":[{"role":"user","content":"`+text+`"}]}`, `{"model":"m","messages":[{"role":"user","content":"`+text+`"}]}`
				r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
				sum := sha256.Sum256([]byte(sent))
				r.Header.Set("X-Request-Id", hex.EncodeToString(sum[:]))
				rec := &telemetry.Record{}
				r = r.WithContext(telemetry.NewContext(r.Context(), rec))
				w := httptest.NewRecorder()
				if err := b.Serve(w, r); err != nil || w.Code != http.StatusOK {
					t.Errorf("%v, %d %s: %v", err, w.Code, w.Body, rec.Err)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if right != at*times || wrong > 0 {
		t.Errorf("%d requests arrived, %d of them with another body", right, wrong)
	}
}

// What is closed is not read any more.
func TestPayload(t *testing.T) {
	l := &lent{buf: make([]byte, 0, minLent)}
	l.users.Store(1)
	p := payload{[][]byte{[]byte("ab"), []byte("c")}, l}
	r, _ := p.open()
	l.done() // the query ends first
	if b, err := io.ReadAll(r); string(b) != "abc" || err != nil || p.size() != 3 {
		t.Errorf("%q, %v, %d", b, err, p.size())
	}
	if n := l.users.Load(); n != 1 {
		t.Errorf("%d use the buffer", n)
	}
	_, _ = r.Close(), r.Close()
	if n := l.users.Load(); n != 0 {
		t.Errorf("%d use the buffer when it is closed", n)
	}
	if _, err := r.Read(make([]byte, 1)); err != errPayloadClosed {
		t.Errorf("%v", err)
	}
}

// Large bodies are translated as many at once as there are processors; who waits for a turn and leaves gets none. What is not large waits for nobody.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		var ends []func()
		for range runtime.GOMAXPROCS(0) {
			done, err := b.turn(t.Context(), largeBody+1)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, done)
		}
		if done, err := b.turn(t.Context(), largeBody); err != nil {
			t.Error(err)
		} else {
			done()
		}
		gone := errors.New("gone")
		ctx, leave := context.WithCancelCause(t.Context())
		left, got := make(chan error, 1), make(chan struct{})
		go func() {
			_, err := b.turn(ctx, largeBody+1)
			left <- err
		}()
		synctest.Wait()
		leave(gone)
		if err := <-left; err != gone { //nolint:errorlint // it is not wrapped
			t.Errorf("who left: %v", err)
		}
		go func() {
			done, err := b.turn(t.Context(), largeBody+1)
			if err == nil {
				done()
				close(got)
			}
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Error("there was a turn more")
		default:
		}
		ends[0]()
		<-got
	})
}
