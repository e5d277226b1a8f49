package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// sendingOf returns a context whose requests are tried again as r says, without a wait that counts.
func sendingOf(t *testing.T, r Retry) (context.Context, *Sending) {
	t.Helper()
	r.Backoff = time.Nanosecond
	s := &Sending{Retry: &r}
	return WithSending(t.Context(), s), s
}

// script answers each request as the next of the steps says: a status, "cut" or "stall".
type script struct {
	steps []string

	mu     sync.Mutex
	got    []string // retry header and body of each request
	stalls sync.WaitGroup
	over   chan struct{}
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	step := s.steps[min(len(s.got), len(s.steps)-1)]
	s.got = append(s.got, r.Header.Get("X-Retry-Attempt")+":"+string(body))
	s.mu.Unlock()
	var status int
	switch {
	case step == "cut":
		panic(http.ErrAbortHandler)
	case step == "stall":
		<-s.over
		return
	case strings.HasPrefix(step, "grpc "):
		w.Header().Set("Grpc-Status", step[5:])
		status = http.StatusOK
	case step == "limited":
		w.Header().Set("X-Envoy-Ratelimited", "true")
		status = http.StatusTooManyRequests
	default:
		_, _ = fmt.Sscan(step, &status)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, step)
}

func (s *script) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

func stepped(t *testing.T, steps ...string) (*script, string) {
	t.Helper()
	s := &script{steps: steps, over: make(chan struct{})}
	addr := serve(t, s.ServeHTTP)
	t.Cleanup(func() { close(s.over) })
	return s, addr
}

func TestRetryConditions(t *testing.T) {
	server := [][2]int{{500, 599}}
	for _, tc := range []struct {
		name  string
		retry Retry
		steps []string
		want  string // the last answer, or the fault
		tries int
	}{
		{"a good answer", Retry{Attempts: 3, Statuses: server}, []string{"200"}, "200", 1},
		{"a status", Retry{Attempts: 3, Statuses: server}, []string{"500", "503", "200"}, "200", 3},
		{"a status out of range", Retry{Attempts: 3, Statuses: [][2]int{{502, 504}}}, []string{"500", "200"}, "500", 1},
		{"too often", Retry{Attempts: 2, Statuses: server}, []string{"500", "501", "502", "200"}, "502", 3},
		{"never", Retry{Statuses: server}, []string{"500", "200"}, "500", 1},
		{"a connection that breaks", Retry{Attempts: 1, On: Unanswered}, []string{"cut", "200"}, "200", 2},
		{"a connection that breaks, which may have been executed", Retry{Attempts: 1, On: Unconnected | Refused}, []string{"cut", "200"}, "upstream_failed", 1},
		{"a connection that breaks always", Retry{Attempts: 2, On: Unanswered}, []string{"cut"}, "upstream_failed", 3},
		{"silence", Retry{Attempts: 1, On: Unanswered, PerTry: time.Second}, []string{"stall", "200"}, "200", 2},
		{"silence always", Retry{Attempts: 1, On: Unanswered, PerTry: 20 * time.Millisecond}, []string{"stall"}, "upstream_timeout", 2},
		{"silence, which may have been executed", Retry{Attempts: 1, On: Unconnected, PerTry: 20 * time.Millisecond}, []string{"stall", "200"}, "upstream_timeout", 1},
		{"a gRPC status", Retry{Attempts: 1, GRPC: []string{"14"}}, []string{"grpc 14", "grpc 0"}, "grpc 0", 2},
		{"another gRPC status", Retry{Attempts: 1, GRPC: []string{"14"}}, []string{"grpc 13", "grpc 0"}, "grpc 13", 1},
		{"a rate limit", Retry{Attempts: 1, RateLimited: true}, []string{"limited", "200"}, "200", 2},
		{"a rate limit by its status alone", Retry{Attempts: 1, RateLimited: true}, []string{"429", "200"}, "429", 1},
	} {
		for framing, body := range map[string]func() io.Reader{
			"in memory": func() io.Reader { return strings.NewReader("abc") },
			"stream":    func() io.Reader { return io.NopCloser(strings.NewReader("abc")) },
		} {
			t.Run(tc.name+"/"+framing, func(t *testing.T) {
				s, addr := stepped(t, tc.steps...)
				p := newPool(t, Options{}, addr)
				ctx, sending := sendingOf(t, tc.retry)
				got := ""
				resp, err := p.RoundTrip(request(t, "POST", "http://x/", body()).WithContext(ctx))
				if err != nil {
					got = fault.Of(err).Code.String()
				} else {
					got = readAll(t, resp)
				}
				if got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				want := []string{":abc"}
				for n := 1; n < tc.tries; n++ {
					want = append(want, fmt.Sprintf("%d:abc", n))
				}
				if diff := cmp.Diff(want, s.seen()); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
				if tried, over := sending.Retries(); tried != tc.tries-1 || over != 0 {
					t.Errorf("%d retries and %d over the budget are counted, want %d and 0", tried, over, tc.tries-1)
				}
			})
		}
	}
}

// TestRetryUnexecuted is about requests that must not be executed twice: only proof counts.
func TestRetryUnexecuted(t *testing.T) {
	all := &Retry{
		Attempts: 2, On: Unconnected | Refused | Unanswered, Statuses: [][2]int{{400, 599}}, GRPC: []string{"14"}, RateLimited: true,
		PerTry: time.Second, Backoff: time.Second, AtLeast: true,
	}
	want := &Retry{Attempts: 2, On: Unconnected | Refused, Backoff: time.Second, AtLeast: true}
	if diff := cmp.Diff(want, all.Unexecuted()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := (&Retry{On: Refused}).Unexecuted(); got.On != Refused {
		t.Errorf("failures %b, want only Refused", got.On)
	}
	if got := (*Retry)(nil).Unexecuted(); got != nil {
		t.Errorf("of nil: %v", got)
	}
}

func TestRetryUnconnected(t *testing.T) {
	var dials atomic.Int64
	s, addr := stepped(t, "200")
	p := newPool(t, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) <= 2 {
			return nil, errors.New("refused")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}, addr)
	ctx, sending := sendingOf(t, Retry{Attempts: 5, On: Unconnected})
	// More than is kept: nothing of it was sent.
	resp, err := p.RoundTrip(request(t, "POST", "http://x/", io.NopCloser(strings.NewReader(strings.Repeat("a", replayLimit+1)))).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, resp); got != "200" || len(s.seen()) != 1 {
		t.Errorf("answer %q to %d requests", got, len(s.seen()))
	}
	if tried, _ := sending.Retries(); tried != 2 {
		t.Errorf("%d retries, want 2", tried)
	}
}

// TestRetryBody is about how much of a body is kept.
func TestRetryBody(t *testing.T) {
	for _, tc := range []struct {
		name     string
		size     int
		declared bool
		memory   bool
		want     int // status
	}{
		{"stream at the limit", replayLimit, false, false, 200},
		{"stream over the limit", replayLimit + 1, false, false, 503},
		{"length at the limit", replayLimit, true, false, 200},
		{"length over the limit", replayLimit + 1, true, false, 503},
		{"in memory", 1 << 20, true, true, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Repeat("0123456789abcdef", tc.size/16) + strings.Repeat("x", tc.size%16)
			s, addr := stepped(t, "503", "200")
			p := newPool(t, Options{}, addr)
			ctx, _ := sendingOf(t, Retry{Attempts: 1, Statuses: [][2]int{{503, 503}}})
			r := request(t, "POST", "http://x/", strings.NewReader(text)).WithContext(ctx)
			if !tc.memory {
				r.Body, r.GetBody = io.NopCloser(strings.NewReader(text)), nil
			}
			if !tc.declared {
				r.ContentLength = -1
			}
			resp, err := p.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			if resp.StatusCode != tc.want {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.want)
			}
			for i, got := range s.seen() {
				if _, body, _ := strings.Cut(got, ":"); body != text {
					t.Errorf("try %d got %d bytes that differ from the %d sent", i, len(body), len(text))
				}
			}
		})
	}
}

// TestRetryWhileSending is about a try that fails while the client is still sending: the
// next one gets the body from its beginning, with what the first one was waiting for.
func TestRetryWhileSending(t *testing.T) {
	first := serveRaw(t, func(c net.Conn) {
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, "begin") {
				break
			}
		}
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, r)
	})
	begun := make(chan struct{})
	second := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	})
	p := newPool(t, Options{Strategy: inOrder{}}, first, second)
	ctx, _ := sendingOf(t, Retry{Attempts: 1, Statuses: [][2]int{{503, 503}}})
	body, client := io.Pipe()
	go func() {
		_, _ = io.WriteString(client, "begin\n")
		<-begun // the second try is under way, while the first one's read waits
		for range 100 {
			_, _ = io.WriteString(client, "more\n")
		}
		_ = client.Close()
	}()
	resp, err := p.RoundTrip(request(t, "POST", "http://x/", body).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := readAll(t, resp), "begin\n"+strings.Repeat("more\n", 100); got != want {
		t.Errorf("the second try got %q", got)
	}
}

// TestRetryElsewhere is about which endpoint gets the next try.
func TestRetryElsewhere(t *testing.T) {
	a, addrA := stepped(t, "503")
	b, addrB := stepped(t, "503")
	c, addrC := stepped(t, "503", "200")
	p := newPool(t, Options{Strategy: inOrder{}}, addrA, addrB, addrC)
	ctx, _ := sendingOf(t, Retry{Attempts: 9, Statuses: [][2]int{{503, 503}}})
	resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	// Each once, then the one that failed longest ago, and so on.
	if diff := cmp.Diff([]int{2, 2, 2, 200}, []int{len(a.seen()), len(b.seen()), len(c.seen()), resp.StatusCode}); diff != "" {
		t.Errorf("tries at a, b and c, and the status (-want +got):\n%s", diff)
	}
}

// TestRetryPinned is about requests that belong to one endpoint.
func TestRetryPinned(t *testing.T) {
	a, addrA := stepped(t, "503", "200")
	b, addrB := stepped(t, "200")
	p := newPool(t, Options{}, addrA, addrB)
	ctx, _ := sendingOf(t, Retry{Attempts: 1, Statuses: [][2]int{{503, 503}}})
	resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(WithPin(ctx, &Pin{Endpoint: addrA})))
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, resp); got != "200" || len(a.seen()) != 2 || len(b.seen()) != 0 {
		t.Errorf("answer %q after %d and %d tries", got, len(a.seen()), len(b.seen()))
	}
}

// TestRetryBudget is about how many requests are tried again at one time.
func TestRetryBudget(t *testing.T) {
	p := newPool(t, Options{}, "127.0.0.1:1")
	take := func() (n int) {
		for p.takeRetry() {
			n++
		}
		return n
	}
	for active, want := range map[int64]int{1: 3, 15: 3, 20: 4, 100: 20} {
		p.retryable.Store(active)
		p.retrying.Store(0)
		if got := take(); got != want {
			t.Errorf("with %d requests under way %d are tried again, want %d", active, got, want)
		}
	}
	p.retryable.Store(0)

	// The answer over the budget is the one that came.
	s, addr := stepped(t, "503", "200")
	q := newPool(t, Options{}, addr)
	q.retrying.Store(leastRetries)
	ctx, sending := sendingOf(t, Retry{Attempts: 1, Statuses: [][2]int{{503, 503}}})
	resp, err := q.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if tried, over := sending.Retries(); resp.StatusCode != 503 || len(s.seen()) != 1 || tried != 0 || over != 1 {
		t.Errorf("status %d after %d tries; %d retries and %d over the budget counted", resp.StatusCode, len(s.seen()), tried, over)
	}
	q.retrying.Store(0)
	if resp, err = q.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx)); err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if q.retrying.Load() != 0 || q.retryable.Load() != 0 {
		t.Errorf("%d of %d requests are tried again when none is under way", q.retrying.Load(), q.retryable.Load())
	}
}

func TestRetryWaits(t *testing.T) {
	envoy, api := &Retry{}, &Retry{Backoff: 100 * time.Millisecond, AtLeast: true}
	for n, longest := range map[int]time.Duration{1: 25, 2: 50, 3: 100, 4: 200, 5: 250, 9: 250, 1000: 250} {
		for range 100 {
			if got := envoy.wait(n); got < 0 || got > longest*time.Millisecond {
				t.Fatalf("before retry %d a wait of %s, want at most %dms", n, got, longest)
			}
			if got, least := api.wait(n), 4*longest*time.Millisecond; got < least || got > least+least/4 {
				t.Fatalf("before retry %d a wait of %s, want at least %s", n, got, least)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if err := api.rest(t.Context(), 1); err != nil || time.Since(begun) < 100*time.Millisecond {
			t.Errorf("rested %s, %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errTry)
		defer cancel()
		if err := api.rest(ctx, 1); !errors.Is(err, errTry) {
			t.Errorf("resting past the end of the request: %v, want %v", err, errTry)
		}
	})
}

// TestTry is about the time of a try with its answer.
func TestTry(t *testing.T) {
	stall := make(chan struct{})
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-stall:
		case <-r.Context().Done():
		}
	})
	defer close(stall)
	p := newPool(t, Options{MaxDuration: time.Minute}, addr)
	ctx := WithSending(t.Context(), &Sending{Try: time.Second})
	resp, err := p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if string(got) != "begin" || fault.Of(err).Code != fault.UpstreamTimeout {
		t.Errorf("read %q, %v, want a timeout", got, err)
	}

	// PerTry bounds the time to the answer, and not the answer.
	ctx, _ = sendingOf(t, Retry{Attempts: 1, On: Unanswered, PerTry: time.Second})
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errDuration)
	defer cancel()
	if resp, err = p.RoundTrip(request(t, "GET", "http://x/", nil).WithContext(ctx)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got, err = io.ReadAll(resp.Body); string(got) != "begin" || !errors.Is(err, errDuration) {
		t.Errorf("read %q, %v, want the end of the request", got, err)
	}
}

// TestRetryRefusedStream is about a server that refuses an HTTP/2 stream, which proves that it did nothing.
func TestRetryRefusedStream(t *testing.T) {
	for _, tc := range []struct {
		name string
		on   Failures
		want string
	}{
		{"refused", Refused, "done"},
		{"unanswered", Unanswered, "done"},
		{"unconnected", Unconnected, "upstream_failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := serveRaw(t, refuseFirst)
			p := newPool(t, Options{Protocol: H2C}, addr)
			ctx, _ := sendingOf(t, Retry{Attempts: 1, On: tc.on})
			resp, err := p.RoundTrip(request(t, "POST", "http://x/", io.NopCloser(strings.NewReader("abc"))).WithContext(ctx))
			got := ""
			if err != nil {
				got = fault.Of(err).Code.String()
			} else {
				got = readAll(t, resp)
			}
			if got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

// refuseFirst speaks HTTP/2 on c: it refuses the first stream once its body has come, and answers the others.
func refuseFirst(c net.Conn) {
	defer func() { _ = c.Close() }()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings()
	for n := 0; ; {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if !frame.StreamEnded() {
				continue
			}
			if n++; n == 1 {
				_ = f.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
				continue
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true}) // :status 200
			_ = f.WriteData(frame.StreamID, true, []byte("done"))
		}
	}
}

// TestHostOfEndpoint is about the Host of requests where it is that of the endpoint.
func TestHostOfEndpoint(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	_, port, _ := net.SplitHostPort(addr)
	ctx := WithSending(t.Context(), &Sending{HostOfEndpoint: true})
	for endpoint, want := range map[string]string{"localhost:" + port: "localhost", addr: "x"} {
		p := newPool(t, Options{}, endpoint)
		r := request(t, "POST", "http://x/", bytes.NewReader(nil)).WithContext(ctx)
		resp, err := p.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp); got != want || r.Host != "x" {
			t.Errorf("at %s the Host is %q, want %q; of the request itself it is %q", endpoint, got, want, r.Host)
		}
	}
}
