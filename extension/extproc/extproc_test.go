package extproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/fault"
)

// A server is a processor made by grpc-go, which each stream is given to.
type server struct {
	extprocv3.UnimplementedExternalProcessorServer
	process func(extprocv3.ExternalProcessor_ProcessServer) error
}

func (s *server) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	return s.process(stream)
}

// serve serves a processor for the test, over a pipe in memory.
func serve(t *testing.T, process func(extprocv3.ExternalProcessor_ProcessServer) error) *extension.Service {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	extprocv3.RegisterExternalProcessorServer(s, &server{process: process})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends by Stop
	}()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }}
	t.Cleanup(func() {
		s.Stop()
		<-done
		tr.CloseIdleConnections()
	})
	return &extension.Service{RoundTripper: tr}
}

// answering answers each message by what answer returns; nil is no answer.
func answering(answer func(*question) *reply) func(extprocv3.ExternalProcessor_ProcessServer) error {
	return func(s extprocv3.ExternalProcessor_ProcessServer) error {
		for {
			q, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if a := answer(q); a != nil {
				if err := s.Send(a); err != nil {
					return err
				}
			}
		}
	}
}

// plain answers a message such that nothing changes.
func plain(q *question) *reply {
	return with(q, nil)
}

// with answers a message about a head or a body with c, and one about trailers with nothing.
func with(q *question, c *extprocv3.CommonResponse) *reply {
	switch q.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return &reply{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: c}}}
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return &reply{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{Response: c}}}
	case *extprocv3.ProcessingRequest_RequestBody:
		return &reply{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: c}}}
	case *extprocv3.ProcessingRequest_ResponseBody:
		return &reply{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{Response: c}}}
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return &reply{Response: &extprocv3.ProcessingResponse_RequestTrailers{RequestTrailers: &extprocv3.TrailersResponse{}}}
	default:
		return &reply{Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}}
	}
}

func bodyOf(q *question) *extprocv3.HttpBody {
	if b := q.GetRequestBody(); b != nil {
		return b
	}
	return q.GetResponseBody()
}

func set(pairs ...string) *extprocv3.HeaderMutation {
	m := &extprocv3.HeaderMutation{}
	for i := 0; i < len(pairs); i += 2 {
		m.SetHeaders = append(m.SetHeaders, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])}})
	}
	return m
}

func replacing(b string) *extprocv3.BodyMutation {
	return &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: []byte(b)}}
}

func immediately(code int, b string) *reply {
	return &reply{Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(code)}, Body: []byte(b), Headers: set("x-from", "processor"), Details: "tested",
	}}}
}

// describe tells what a message is, briefly.
func describe(q *question) string {
	if b := bodyOf(q); b != nil {
		s := fmt.Sprintf("body %q", b.GetBody())
		if len(b.GetBody()) > 40 {
			s = fmt.Sprintf("body of %d", len(b.GetBody()))
		}
		if b.GetEndOfStream() {
			s += " end"
		}
		if q.GetRequestBody() != nil {
			return "request " + s
		}
		return "response " + s
	}
	switch m := q.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return "request headers" + map[bool]string{true: " end"}[m.RequestHeaders.GetEndOfStream()]
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return "response headers" + map[bool]string{true: " end"}[m.ResponseHeaders.GetEndOfStream()]
	case *extprocv3.ProcessingRequest_RequestTrailers:
		return "request trailers"
	default:
		return "response trailers"
	}
}

// A recorder notes the messages that a processor gets.
type recorder struct {
	mu   sync.Mutex
	list []string
}

func (r *recorder) add(q *question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, describe(q))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.list...)
}

// gateway serves next behind a processor, over HTTP/1.1, and returns its URL.
func gateway(t *testing.T, opts Options, call Call, next http.HandlerFunc) string {
	t.Helper()
	p := New(opts)
	call.Scheme = "http"
	call.Next = func(w http.ResponseWriter, r *http.Request, _ *Change) error {
		next(w, r)
		return nil
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &sentWriter{ResponseWriter: w}
		if err := p.Serve(sent, r, call); err != nil {
			if sent.sent {
				panic(http.ErrAbortHandler)
			}
			fault.Of(err).WriteText(w)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

type sentWriter struct {
	http.ResponseWriter
	sent bool
}

func (w *sentWriter) WriteHeader(status int) {
	w.sent = true
	w.ResponseWriter.WriteHeader(status)
}
func (w *sentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// echo answers with what it is sent.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Saw", r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Set")+" "+strconv.FormatInt(r.ContentLength, 10))
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
}

// exchanged sends a body and returns the answer.
func exchanged(t *testing.T, url string, body io.Reader) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/a?b=c", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp, string(b), err
}

const patient = time.Minute

func TestModes(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
	both := func(m BodyMode) Mode {
		return Mode{RequestHeaders: true, ResponseHeaders: true, RequestBody: m, ResponseBody: m}
	}
	cases := []struct {
		name string
		mode Mode
		want []string
	}{
		{"nothing", Mode{}, nil},
		{"headers", both(None), []string{"request headers", "response headers"}},
		{"request headers", Mode{RequestHeaders: true}, []string{"request headers"}},
		{"streamed", both(Streamed), []string{"request headers", `request body "hello"`, `request body "" end`, "response headers", `response body "hello"`, `response body "" end`}},
		{"buffered", both(Buffered), []string{"request headers", `request body "hello" end`, "response headers", `response body "hello" end`}},
		{"partial", both(BufferedPartial), []string{"request headers", `request body "hello" end`, "response headers", `response body "hello" end`}},
		{"bodies only", Mode{RequestBody: Buffered, ResponseBody: Streamed}, []string{`request body "hello" end`, `response body "hello"`, `response body "" end`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var seen recorder
			s := serve(t, answering(func(q *question) *reply { seen.add(q); return plain(q) }))
			resp, body, err := exchanged(t, gateway(t, Options{Service: s, Mode: c.mode, Timeout: patient}, Call{}, echo), strings.NewReader("hello"))
			if err != nil || resp.StatusCode != 200 || body != "hello" {
				t.Fatalf("answer %v %q, error %v", resp, body, err)
			}
			if diff := cmp.Diff(c.want, seen.all()); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

// What the processor is shown of heads, and what it may change in them.
func TestHeads(t *testing.T) {
	var mu sync.Mutex
	shown := map[string]string{}
	s := serve(t, answering(func(q *question) *reply {
		h := q.GetRequestHeaders().GetHeaders()
		m := set("x-set", "one", ":path", "/changed?x=y", ":method", "PUT", ":authority", "elsewhere", "host", "elsewhere", "content-length", "3", "x-mcpgw-peer", "me", "X_Mcpgw-Peer", "me")
		if h == nil {
			h = q.GetResponseHeaders().GetHeaders()
			m = set("x-set", "two", ":status", "201")
			m.RemoveHeaders = []string{"x-gone", ":status", "content-length"}
			m.SetHeaders = append(m.SetHeaders,
				&corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-there", Value: "no"}, AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT},
				&corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-nowhere", Value: "no"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS})
		}
		mu.Lock()
		defer mu.Unlock()
		for _, v := range h.GetHeaders() {
			shown[v.GetKey()] = string(v.GetRawValue())
		}
		return with(q, &extprocv3.CommonResponse{HeaderMutation: m})
	}))
	url := gateway(t, Options{Service: s, Mode: Mode{RequestHeaders: true, ResponseHeaders: true}, Timeout: patient}, Call{Hidden: []string{"Authorization"}}, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(name, "Mcpgw") {
				t.Errorf("the header %s was set", name)
			}
		}
		w.Header()["X-There"], w.Header()["X-Gone"] = []string{"yes"}, []string{"yes"}
		w.Header().Set("X-Host", r.Host)
		echo(w, r)
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/a", strings.NewReader("hello"))
	req.Header = http.Header{"Authorization": {"secret"}, "X-Mine": {"1"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(b) != "hello" || resp.StatusCode != 201 {
		t.Errorf("answer %d %q, error %v", resp.StatusCode, b, err)
	}
	got := resp.Header
	if got.Get("X-Saw") != "POST /changed?x=y one 5" || got.Get("X-Host") == "elsewhere" || got.Get("X-Set") != "two" || got.Get("X-Gone") != "" || got.Get("X-There") != "yes" || got.Get("X-Nowhere") != "" || got.Get("Content-Length") != "5" {
		t.Errorf("the answer has the headers %v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for name, want := range map[string]string{":method": "POST", ":path": "/a", ":scheme": "http", ":status": "200", "x-mine": "1", "authorization": ""} {
		if shown[name] != want {
			t.Errorf("the processor saw %s as %q, want %q", name, shown[name], want)
		}
	}
}

func TestBodies(t *testing.T) {
	upper := func(q *question) *reply {
		b := bodyOf(q)
		if b == nil {
			return plain(q)
		}
		return with(q, &extprocv3.CommonResponse{BodyMutation: replacing(strings.ToUpper(string(b.GetBody())) + "."), HeaderMutation: set("x-set", "late")})
	}
	for _, c := range []struct {
		mode BodyMode
		saw  string
		want string
	}{
		{Streamed, "POST /a?b=c  -1", "HELLO...."},
		{Buffered, "POST /a?b=c late 6", "HELLO.."},
		{BufferedPartial, "POST /a?b=c late 6", "HELLO.."},
	} {
		url := gateway(t, Options{Service: serve(t, answering(upper)), Mode: Mode{RequestBody: c.mode, ResponseBody: c.mode}, Timeout: patient}, Call{}, echo)
		resp, b, err := exchanged(t, url, strings.NewReader("hello"))
		if err != nil || b != c.want || resp.Header.Get("X-Saw") != c.saw {
			t.Errorf("mode %d: answer %q, saw %q, error %v", c.mode, b, resp.Header.Get("X-Saw"), err)
		}
	}
	t.Run("cleared", func(t *testing.T) {
		s := serve(t, answering(func(q *question) *reply {
			return with(q, &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_ClearBody{ClearBody: true}}})
		}))
		_, b, err := exchanged(t, gateway(t, Options{Service: s, Mode: Mode{RequestBody: Buffered}, Timeout: patient}, Call{}, echo), strings.NewReader("hello"))
		if err != nil || b != "" {
			t.Errorf("answer %q, error %v", b, err)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		s := serve(t, answering(func(q *question) *reply {
			m := set(":method", "PUT")
			if q.GetResponseHeaders() != nil {
				m = set("x-set", "replaced")
			}
			return with(q, &extprocv3.CommonResponse{Status: extprocv3.CommonResponse_CONTINUE_AND_REPLACE, HeaderMutation: m, BodyMutation: replacing("instead")})
		}))
		mode := Mode{RequestHeaders: true, ResponseHeaders: true, RequestBody: Streamed, ResponseBody: Streamed}
		saw := make(chan string, 1)
		resp, b, err := exchanged(t, gateway(t, Options{Service: s, Mode: mode, Timeout: patient}, Call{}, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			saw <- r.Method + " " + string(b)
			for { // for as long as somebody listens
				if _, err := w.Write([]byte("upstream")); err != nil {
					return
				}
			}
		}), strings.NewReader("hello"))
		if err != nil || b != "instead" || resp.Header.Get("X-Set") != "replaced" || <-saw != "PUT instead" {
			t.Errorf("answer %v %q, error %v", resp, b, err)
		}
	})
}

// Bodies at the limit of what is held, and over it.
func TestHeldLimit(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   Mode
		size   int
		status int
		first  int // how much the processor sees
	}{
		{"request at the limit", Mode{RequestBody: Buffered}, maxHeld, 200, maxHeld},
		{"request over it", Mode{RequestBody: Buffered}, maxHeld + 1, 413, 0},
		{"request over it, in part", Mode{RequestBody: BufferedPartial}, maxHeld + 1, 200, maxHeld},
		{"answer at the limit", Mode{ResponseBody: Buffered}, maxHeld, 200, maxHeld},
		{"answer over it", Mode{ResponseBody: Buffered}, maxHeld + 1, 500, 0},
		{"answer over it, in part", Mode{ResponseBody: BufferedPartial}, maxHeld + 1, 200, maxHeld},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := 0
			s := serve(t, answering(func(q *question) *reply {
				seen += len(bodyOf(q).GetBody())
				return plain(q)
			}))
			body := strings.Repeat("x", c.size)
			for _, known := range []bool{true, false} {
				seen = 0
				var r io.Reader = strings.NewReader(body)
				if !known {
					r = io.MultiReader(r)
				}
				resp, b, err := exchanged(t, gateway(t, Options{Service: s, Mode: c.mode, Timeout: patient}, Call{}, echo), r)
				if err != nil || resp.StatusCode != c.status || c.status == 200 && b != body || seen != c.first {
					t.Errorf("status %d, %d bytes, %d seen, error %v", resp.StatusCode, len(b), seen, err)
				}
			}
		})
	}
}

func TestImmediate(t *testing.T) {
	full := Mode{RequestHeaders: true, ResponseHeaders: true, RequestBody: Streamed, ResponseBody: Streamed}
	held := Mode{RequestHeaders: true, ResponseHeaders: true, RequestBody: Buffered, ResponseBody: Buffered}
	for _, c := range []struct {
		at   string
		mode Mode
		cut  bool
	}{
		{"request headers", full, false},
		{`request body "hello"`, full, false},
		{`request body "" end`, full, false},
		{`request body "hello" end`, held, false},
		{"response headers", full, false},
		{`response body "hello" end`, held, false},
		{`response body "hello"`, full, true},
	} {
		t.Run(c.at, func(t *testing.T) {
			s := serve(t, answering(func(q *question) *reply {
				if describe(q) == c.at {
					return immediately(418, "no")
				}
				return plain(q)
			}))
			resp, b, err := exchanged(t, gateway(t, Options{Service: s, Mode: c.mode, Timeout: patient}, Call{}, echo), strings.NewReader("hello"))
			if c.cut {
				if err == nil {
					t.Errorf("the answer looks whole: %q", b)
				}
				return
			}
			if err != nil || resp.StatusCode != 418 || b != "no" || resp.Header.Get("X-From") != "processor" || resp.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("answer %v %q, error %v", resp, b, err)
			}
		})
	}
}

// A processor that dies, ends the stream, is slow or talks nonsense, at each message.
func TestFaults(t *testing.T) {
	modes := map[string]Mode{
		"streamed": {RequestHeaders: true, ResponseHeaders: true, RequestBody: Streamed, ResponseBody: Streamed},
		"buffered": {RequestHeaders: true, ResponseHeaders: true, RequestBody: Buffered, ResponseBody: Buffered},
	}
	faults := map[string]func(*question) (*reply, error){
		"dies":     func(*question) (*reply, error) { return nil, status.Error(codes.Unavailable, "dead") },
		"ends":     func(*question) (*reply, error) { return nil, nil },
		"nonsense": func(*question) (*reply, error) { return with(&question{}, nil), nil },
		"wrong header": func(q *question) (*reply, error) {
			return with(q, &extprocv3.CommonResponse{HeaderMutation: set("x y", "z")}), nil
		},
	}
	for name, mode := range modes {
		for what, wrong := range faults {
			for at := range 6 {
				for _, open := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s/%s/%d/%v", name, what, at, open), func(t *testing.T) {
						message := ""
						s := serve(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
							for n := 0; ; n++ {
								q, err := s.Recv()
								if err != nil {
									return nil //nolint:nilerr // the test is about what it does itself
								}
								a := plain(q)
								if n == at {
									message = describe(q)
									if a, err = wrong(q); a == nil {
										return err
									}
								}
								if err := s.Send(a); err != nil {
									return err
								}
							}
						})
						told := make(chan error, 1)
						url := gateway(t, Options{Service: s, Mode: mode, FailOpen: open, Timeout: patient, Told: func(err error) { told <- err }}, Call{}, echo)
						resp, b, err := exchanged(t, url, strings.NewReader("hello"))
						failure := <-told
						mistaken := what == "wrong header" && strings.Contains(message, "body") && name == "streamed" // changes of heads are not looked at there
						well := what == "ends" || message == "" || mistaken
						switch {
						case well != (failure == nil):
							t.Errorf("%s: told %v", message, failure)
						case well || open:
							if err != nil || resp.StatusCode != 200 || b != "hello" {
								t.Errorf("%s: answer %v %q, error %v", message, resp, b, err)
							}
						case strings.HasPrefix(message, "response body") && name == "streamed":
							if err == nil {
								t.Errorf("%s: the answer looks whole: %q", message, b)
							}
						case err != nil || resp.StatusCode != 500 || b != "external processing failed":
							t.Errorf("%s: answer %v %q, error %v", message, resp, b, err)
						}
					})
				}
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	for _, open := range []bool{true, false} {
		s := serve(t, nil)
		s.RoundTripper = unreachable{}
		resp, b, err := exchanged(t, gateway(t, Options{Service: s, Mode: Mode{RequestHeaders: true, ResponseHeaders: true, ResponseBody: Streamed}, FailOpen: open, Timeout: patient}, Call{}, echo), strings.NewReader("hello"))
		if err != nil || open != (resp.StatusCode == 200 && b == "hello") || !open && resp.StatusCode != 500 {
			t.Errorf("open %v: answer %v %q, error %v", open, resp, b, err)
		}
	}
}

type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, fault.New(fault.UpstreamUnreachable, "nobody there")
}

// A stream whose only message was not answered is begun again, where the service is not available; any other is not.
func TestRetry(t *testing.T) {
	for _, c := range []struct {
		name     string
		attempts int
		fails    int64 // streams, before one works
		code     codes.Code
		heard    bool  // they fail once the head was answered
		want     int   // status
		streams  int64 // that are begun
	}{
		{"it works at last", 2, 2, codes.Unavailable, false, 200, 3},
		{"it does not", 2, 3, codes.Unavailable, false, 500, 3},
		{"never again", 0, 1, codes.Unavailable, false, 500, 1},
		{"another failure", 2, 1, codes.Internal, false, 500, 1},
		{"after an answer", 2, 1, codes.Unavailable, true, 500, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var streams atomic.Int64
			works := answering(plain)
			s := serve(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
				if streams.Add(1) > c.fails {
					return works(s)
				}
				if q, err := s.Recv(); err == nil && c.heard {
					_ = s.Send(plain(q))
					_, _ = s.Recv()
				}
				return status.Error(c.code, "not now")
			})
			s.Retry = extension.Retry{Attempts: c.attempts, Base: time.Millisecond}
			resp, _, err := exchanged(t, gateway(t, Options{Service: s, Mode: Mode{RequestHeaders: true, ResponseHeaders: true}, Timeout: patient}, Call{}, echo), strings.NewReader("hello"))
			if err != nil || resp.StatusCode != c.want {
				t.Errorf("answer %v, error %v, want %d", resp, err, c.want)
			}
			if n := streams.Load(); n != c.streams {
				t.Errorf("%d streams were begun, want %d", n, c.streams)
			}
		})
	}
}

// A stream lasts for as long as the service may take.
func TestStreamTimeout(t *testing.T) {
	for _, takes := range []time.Duration{2 * time.Second, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := serve(t, answering(plain))
			s.Timeout = 3 * time.Second
			p := New(Options{Service: s, Mode: Mode{RequestHeaders: true, ResponseHeaders: true}})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			err := p.Serve(httptest.NewRecorder(), r, Call{Next: func(w http.ResponseWriter, _ *http.Request, _ *Change) error {
				time.Sleep(takes)
				w.WriteHeader(200)
				return nil
			}})
			if (err == nil) != (takes < s.Timeout) {
				t.Errorf("with an answer after %s: %v", takes, err)
			}
			time.Sleep(2 * time.Second) // what is left of the stream goes
		})
	}
}

// The processor may look at less, or more, once it has seen a head.
func TestOverride(t *testing.T) {
	var seen recorder
	s := serve(t, answering(func(q *question) *reply {
		seen.add(q)
		a := plain(q)
		switch {
		case q.GetRequestHeaders() != nil:
			a.ModeOverride = &filterv3.ProcessingMode{RequestBodyMode: filterv3.ProcessingMode_BUFFERED, ResponseHeaderMode: filterv3.ProcessingMode_SEND}
		case q.GetResponseHeaders() != nil:
			a.ModeOverride = &filterv3.ProcessingMode{ResponseBodyMode: filterv3.ProcessingMode_BUFFERED}
		default: // not heeded
			a.ModeOverride = &filterv3.ProcessingMode{ResponseBodyMode: filterv3.ProcessingMode_STREAMED}
		}
		return a
	}))
	_, b, err := exchanged(t, gateway(t, Options{Service: s, Mode: Mode{RequestHeaders: true, RequestBody: Streamed}, Timeout: patient}, Call{}, echo), strings.NewReader("hello"))
	if err != nil || b != "hello" {
		t.Fatalf("answer %q, error %v", b, err)
	}
	if diff := cmp.Diff([]string{"request headers", `request body "hello" end`, "response headers", `response body "hello" end`}, seen.all()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestTrailers(t *testing.T) {
	for _, m := range []BodyMode{None, Streamed, Buffered, FullDuplex} {
		var seen recorder
		change := answering(func(q *question) *reply {
			seen.add(q)
			a := inDuplex(q, m == FullDuplex, func(b []byte) []byte { return b })
			if r := a.GetResponseTrailers(); r != nil {
				r.HeaderMutation = set("x-last", "changed")
			}
			return a
		})
		url := gateway(t, Options{Service: serve(t, change), Mode: Mode{RequestBody: m, ResponseBody: m, RequestTrailers: true, ResponseTrailers: true}, Timeout: patient}, Call{}, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header()["Trailer"] = []string{"X-Last"}
			_, _ = w.Write(b)
			w.Header()["X-Last"] = []string{"upstream"}
		})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.MultiReader(strings.NewReader("hello")))
		req.Trailer = http.Header{"X-First": {"client"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(b) != "hello" || resp.Trailer.Get("X-Last") != "changed" {
			t.Errorf("mode %d: answer %q, trailers %v, error %v", m, b, resp.Trailer, err)
		}
		list := strings.Join(seen.all(), ", ")
		if !strings.Contains(list, "request trailers") || !strings.HasSuffix(list, "response trailers") || strings.Contains(list, "end") {
			t.Errorf("mode %d: messages %s", m, list)
		}
	}
}

// TestInformational checks that informational answers pass, whatever the processor sees of the answer.
func TestInformational(t *testing.T) {
	for _, m := range []BodyMode{None, Streamed, Buffered, FullDuplex} {
		change := answering(func(q *question) *reply {
			a := inDuplex(q, m == FullDuplex, func(b []byte) []byte { return b })
			if r := a.GetResponseHeaders(); r != nil {
				r.Response = &extprocv3.CommonResponse{HeaderMutation: set("x-seen", "1")}
			}
			return a
		})
		url := gateway(t, Options{Service: serve(t, change), Mode: Mode{ResponseHeaders: true, ResponseBody: m}, Timeout: patient}, Call{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.Header().Set("X-Own", "1")
			_, _ = io.WriteString(w, "hello")
		})
		var got []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got = append(got, fmt.Sprint(code, h))
			return nil
		}}
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, url, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(b) != "hello" || resp.Header.Get("X-Own") != "1" || resp.Header.Get("X-Seen") != "1" || resp.Header.Get("Link") != "" {
			t.Errorf("mode %d: %v %q, error %v", m, resp.Header, b, err)
		}
		if list := strings.Join(got, ", "); list != "103 map[Link:[</a.css>]]" {
			t.Errorf("mode %d: before the answer came %s", m, list)
		}
	}
}

// inDuplex answers a message, and bodies in the way of the mode FullDuplex if duplex.
func inDuplex(q *question, duplex bool, change func([]byte) []byte) *reply {
	b := bodyOf(q)
	if b == nil {
		return plain(q)
	}
	out := change(b.GetBody())
	if !duplex {
		return with(q, &extprocv3.CommonResponse{BodyMutation: replacing(string(out))})
	}
	return with(q, &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: out, EndOfStream: b.GetEndOfStream()}}}})
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = c ^ 0x80
	}
	return out
}

// Whatever the sizes of the parts, and wherever a processor ends or dies, no byte is lost, added or out of its place: up to some byte
// they are as the processor has them, and from there on as they came.
func TestNoByteIsLost(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := BodyMode(r.IntN(5))
		body := make([]byte, r.IntN(300<<10))
		for i := range body {
			body[i] = byte(r.IntN(128))
		}
		last := r.IntN(30) // the message at which it goes
		if r.IntN(3) == 0 {
			last = -1
		}
		var gone error
		if r.IntN(2) == 0 {
			gone = status.Error(codes.Internal, "gone")
		}
		side := r.IntN(2)
		t.Run(fmt.Sprintf("%d: mode %d, %d bytes, to %d", seed, m, len(body), last), func(t *testing.T) {
			s := serve(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
				for n := 0; n != last; n++ {
					q, err := s.Recv()
					if err != nil {
						return nil //nolint:nilerr // the client has ended it
					}
					if err := s.Send(inDuplex(q, m == FullDuplex, flip)); err != nil {
						return err
					}
				}
				return gone
			})
			mode := Mode{RequestHeaders: r.IntN(2) == 0, RequestBody: m}
			if side == 1 {
				mode = Mode{ResponseHeaders: r.IntN(2) == 0, ResponseBody: m}
			}
			failure := make(chan error, 1)
			url := gateway(t, Options{Service: s, Mode: mode, FailOpen: true, Timeout: patient, Told: func(err error) { failure <- err }}, Call{}, func(w http.ResponseWriter, r *http.Request) {
				if side == 0 {
					echo(w, r)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				pr := rand.New(rand.NewPCG(seed, 2))
				for rest := body; len(rest) > 0; {
					n := min(1+pr.IntN(60<<10), len(rest))
					if _, err := w.Write(rest[:n]); err != nil {
						panic(http.ErrAbortHandler)
					}
					rest = rest[n:]
				}
			})
			resp, got, err := exchanged(t, url, &chopped{body, rand.New(rand.NewPCG(seed, 3))})
			if m == FullDuplex && last >= 0 && (err != nil || resp.StatusCode != 200) {
				if f := <-failure; f == nil {
					t.Errorf("the answer was cut off for nothing: %v %v", resp, err)
				}
				return // nobody knows what the processor had
			}
			if err != nil || resp.StatusCode != 200 || len(got) != len(body) {
				t.Fatalf("answer %v of %d bytes, want %d; error %v", resp, len(got), len(body), err)
			}
			i := 0
			for i < len(body) && got[i] == body[i]^0x80 {
				i++
			}
			if !bytes.Equal([]byte(got[i:]), body[i:]) || last < 0 && m != None && i < len(body) {
				t.Errorf("from byte %d of %d on the body is neither", i, len(body))
			}
		})
	}
}

// A chopped reads in parts of any size.
type chopped struct {
	rest []byte
	r    *rand.Rand
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+c.r.IntN(40<<10))], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// A processor in the mode FullDuplex may wait for all before it answers anything.
func TestFullDuplexHoldsAll(t *testing.T) {
	var first []string
	s := serve(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
		var all []byte
		var heads []*question
		for {
			q, err := s.Recv()
			if err != nil {
				return nil //nolint:nilerr // the client has ended it
			}
			b := bodyOf(q)
			if b == nil {
				heads = append(heads, q)
				continue
			}
			if all = append(all, b.GetBody()...); !b.GetEndOfStream() {
				continue
			}
			for _, h := range heads {
				first = append(first, describe(h))
				if err := s.Send(with(h, &extprocv3.CommonResponse{HeaderMutation: set("x-set", "late")})); err != nil {
					return err
				}
			}
			for i, part := range [][]byte{all[:len(all)/2], all[len(all)/2:]} {
				q := &question{Request: q.GetRequest()}
				a := inDuplex(q, true, func([]byte) []byte { return part })
				common(a).GetBodyMutation().GetStreamedResponse().EndOfStream = i == 1
				if err := s.Send(a); err != nil {
					return err
				}
			}
			all, heads = nil, nil
		}
	})
	mode := Mode{RequestHeaders: true, ResponseHeaders: true, RequestBody: FullDuplex, ResponseBody: FullDuplex}
	body := strings.Repeat("0123456789", 30<<10)
	resp, got, err := exchanged(t, gateway(t, Options{Service: s, Mode: mode}, Call{}, echo), strings.NewReader(body))
	if err != nil || got != body || resp.Header.Get("X-Set") != "late" || !strings.Contains(resp.Header.Get("X-Saw"), "late") {
		t.Errorf("answer of %d bytes, headers %v, error %v", len(got), resp.Header, err)
	}
	if diff := cmp.Diff([]string{"request headers", "response headers"}, first); diff != "" {
		t.Error(diff)
	}
}

// Events go on when they come, and are seen one by one; when the client goes, so does the stream.
func TestEvents(t *testing.T) {
	for _, m := range []BodyMode{Streamed, FullDuplex} {
		ended := make(chan struct{})
		s := serve(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
			defer close(ended)
			return answering(func(q *question) *reply {
				return inDuplex(q, m == FullDuplex, func(b []byte) []byte { return bytes.ToUpper(b) })
			})(s)
		})
		read := make(chan struct{})
		url := gateway(t, Options{Service: s, Mode: Mode{ResponseHeaders: true, ResponseBody: m}, Timeout: patient}, Call{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := 0; r.Context().Err() == nil; i++ {
				fmt.Fprintf(w, "data: %d\n\n", i)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-read:
				case <-r.Context().Done():
				}
			}
		})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			want := fmt.Sprintf("DATA: %d\n\n", i)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
				t.Fatalf("mode %d: read %q, error %v", m, got, err)
			}
			read <- struct{}{}
		}
		_ = resp.Body.Close()
		<-ended
	}
}

// How long an answer may take, and what the processor may ask for itself.
func TestTimeout(t *testing.T) {
	for _, c := range []struct {
		name  string
		asks  time.Duration // 0: nothing
		again bool
		takes time.Duration
		want  int
	}{
		{"in time", 0, false, 199 * time.Millisecond, 200},
		{"late", 0, false, 201 * time.Millisecond, 500},
		{"more time", time.Second, false, 900 * time.Millisecond, 200},
		{"late even so", time.Second, false, 1001 * time.Millisecond, 500},
		{"more time than there is", 3 * time.Second, false, 900 * time.Millisecond, 500},
		{"more time twice", time.Second, true, 1001 * time.Millisecond, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := func(s extprocv3.ExternalProcessor_ProcessServer) error {
					for {
						q, err := s.Recv()
						if err != nil {
							return nil //nolint:nilerr // the client has ended it
						}
						if c.asks > 0 {
							_ = s.Send(&reply{OverrideMessageTimeout: durationpb.New(c.asks)})
						}
						if c.again {
							time.Sleep(100 * time.Millisecond)
							_ = s.Send(&reply{OverrideMessageTimeout: durationpb.New(c.asks)})
							time.Sleep(c.takes - 100*time.Millisecond)
						} else {
							time.Sleep(c.takes)
						}
						if err := s.Send(plain(q)); err != nil {
							return nil //nolint:nilerr // likewise
						}
					}
				}
				p := New(Options{Service: serve(t, server), Mode: Mode{RequestHeaders: true}, MaxTimeout: 2 * time.Second})
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
				w := httptest.NewRecorder()
				err := p.Serve(w, r, Call{Next: func(w http.ResponseWriter, _ *http.Request, _ *Change) error {
					w.WriteHeader(200)
					return nil
				}})
				got := w.Code
				if err != nil {
					got = fault.Of(err).Code.Status()
				}
				if got != c.want {
					t.Errorf("status %d, want %d; error %v", got, c.want, err)
				}
				time.Sleep(2 * time.Second) // what is left of the stream goes
			})
		})
	}
}

// What is said beside the request goes with the first message only.
func TestFirst(t *testing.T) {
	var list []*question
	s := serve(t, answering(func(q *question) *reply { list = append(list, q); return plain(q) }))
	url := gateway(t, Options{Service: s, Mode: Mode{RequestHeaders: true, RequestBody: Buffered}, Timeout: patient}, Call{Metadata: map[string][]byte{"a.b": []byte(`{"sub": "me", "n": 1}`)}}, echo)
	if _, _, err := exchanged(t, url, strings.NewReader("hello")); err != nil || len(list) != 2 {
		t.Fatalf("%d messages, error %v", len(list), err)
	}
	fields := list[0].GetMetadataContext().GetFilterMetadata()["a.b"].GetFields()
	if fields["sub"].GetStringValue() != "me" || fields["n"].GetNumberValue() != 1 || list[0].GetProtocolConfig().GetRequestBodyMode() != filterv3.ProcessingMode_BUFFERED {
		t.Errorf("the first message is %v", list[0])
	}
	if list[1].GetProtocolConfig() != nil || list[1].GetMetadataContext() != nil {
		t.Errorf("the second message is %v", list[1])
	}
}
