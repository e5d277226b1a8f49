package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// serveBoth serves HTTP/1.1 and, without TLS, HTTP/2, and returns a Backend for either.
func serveBoth(t *testing.T, h http.HandlerFunc) (h1, h2 string) {
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	backend := func(app string) string {
		return fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: web}\nspec:\n  static: {%shosts: [{host: %s, port: %s}]}\n", app, host, port)
	}
	return backend(""), backend("appProtocol: grpc, ")
}

// clientOf returns a client that speaks HTTP/1.1, or HTTP/2 without TLS.
func clientOf(t *testing.T, h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// A trailing body fills in the trailers of its request at its end.
type trailing struct {
	io.Reader
	fill func()
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.fill()
	}
	return n, err
}

// heldBodies, on a Gateway, has bodies be read whole before they go on.
const heldBodies = "buffer: {maxRequestSize: 1Mi}"

// TestRequestTrailers checks that the trailers of requests reach services, in either version of HTTP on either side, but for
// those that would decide something that was decided on.
func TestRequestTrailers(t *testing.T) {
	h1, h2 := serveBoth(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/retried" && r.Header.Get("X-Retry-Attempt") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"body": string(body), "trailer": r.Trailer})
	})
	want := map[string]any{"body": "some text", "trailer": map[string]any{"X-Sum": []any{"1", "2"}, "X-Empty": nil}}
	for _, backend := range []string{h1, h2} {
		for name, policy := range map[string]string{"": "", "held": webPolicyOn("p", "Gateway", "default", "", heldBodies),
			"retried": webPolicyOn("p", "HTTPRoute", "r", "", "retry: {attempts: 2, statusCodes: [503]}")} {
			g := start(t, route("r", toWeb)+backend+policy)
			for _, second := range []bool{false, true} {
				r, err := http.NewRequestWithContext(t.Context(), "POST", g.url("8080", "/"+name), nil)
				if err != nil {
					t.Fatal(err)
				}
				r.ContentLength = -1
				r.Trailer = http.Header{"X-Sum": nil, "X-Empty": nil, "Cookie": nil, "X-Forwarded-For": nil, "X-Mcpgw-Peer": nil}
				r.Body = io.NopCloser(&trailing{strings.NewReader("some text"), func() {
					r.Trailer["X-Sum"] = []string{"1", "2"}
					r.Trailer["Cookie"] = []string{"a=b"}
					r.Trailer["X-Forwarded-For"], r.Trailer["X-Mcpgw-Peer"] = []string{"192.0.2.1"}, []string{"x"}
				}})
				resp, err := clientOf(t, second).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
					t.Fatal(resp.Status, err)
				}
				_ = resp.Body.Close()
				if trailer, ok := got["trailer"].(map[string]any); ok && trailer["X-Empty"] != nil && len(trailer["X-Empty"].([]any)) == 0 {
					trailer["X-Empty"] = nil
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, from HTTP/2 %t, to %s (-want +got):\n%s", name, second, backend, diff)
				}
			}
		}
	}
}

// TestTrailersOnTheWire checks that trailers that nobody has announced, and those of what is no whole request, go nowhere.
func TestTrailersOnTheWire(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	h1, _ := serveBoth(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%v %d %t", r.Trailer, r.ContentLength, err == nil))
	})
	g := start(t, route("r", toWeb)+h1)
	for _, tc := range []struct{ head, body, want string }{
		{"Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", "map[] -1 true"},
		{"Transfer-Encoding: chunked\r\nTrailer: X-Other\r\n", "1\r\na\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", "map[X-Other:[2] X-Sum:[1]] -1 true"},
		{"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "0\r\nX-Sum: 1\r\n\r\n", "map[X-Sum:[1]] -1 true"},
		{"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", "0\r\nAuthorization: Bearer x\r\n\r\n", "map[] -1 true"},
		{"Content-Length: 1\r\nTrailer: X-Sum\r\n", "a", "map[] 1 true"},
	} {
		resp := g.ask("8080", "POST / HTTP/1.1\r\nHost: x\r\n"+tc.head+"\r\n"+tc.body)
		mu.Lock()
		if got := strings.Join(seen, "; "); resp.StatusCode != 200 || got != tc.want {
			t.Errorf("%q %q: %d, the upstream got %s, want %s", tc.head, tc.body, resp.StatusCode, got, tc.want)
		}
		seen = nil
		mu.Unlock()
	}
}

// TestInformational checks that 1xx answers of services reach clients before the answer, with their headers and no others.
func TestInformational(t *testing.T) {
	h1, h2 := serveBoth(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusProcessing)
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</b.js>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("X-Answer", "1")
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	want := []string{"102", "103 Link=</a.css>; rel=preload", "103 Link=</b.js>; rel=preload"}
	for _, backend := range []string{h1, h2} {
		for name, policy := range map[string]string{
			"":            "",
			"changed":     webPolicyOn("p", "Gateway", "default", "", "headerModifiers: {response: {set: [{name: x-answer, value: gateway}]}}"),
			"transformed": webPolicyOn("p", "Gateway", "default", "", "transformation: {response: {set: [{name: x-answer, value: '\"gateway\"'}], body: {value: 'response.body', parseAs: AsString}}}"),
		} {
			g := start(t, route("r", toWeb)+backend+policy)
			for _, second := range []bool{false, true} {
				for _, method := range []string{"GET", "POST"} {
					what := fmt.Sprintf("%s %s, from HTTP/2 %t, to %s", method, name, second, backend)
					var got []string
					trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
						line := fmt.Sprint(code)
						for k, v := range h {
							line += fmt.Sprintf(" %s=%s", k, strings.Join(v, "|"))
						}
						got = append(got, line)
						return nil
					}}
					var body io.Reader
					if method == "POST" {
						body = strings.NewReader("text")
					}
					r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), method, g.url("8080", "/"), body)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := clientOf(t, second).Do(r)
					if err != nil {
						t.Fatal(what, err)
					}
					answer, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", what, diff)
					}
					wantAnswer := "1"
					if name != "" {
						wantAnswer = "gateway"
					}
					if resp.StatusCode != 200 || resp.Header.Get("X-Answer") != wantAnswer || resp.Header.Get("Link") != "" || resp.Header.Get("X-Request-Id") == "" || method == "POST" && string(answer) != "text" {
						t.Errorf("%s: %s %v %q", what, resp.Status, resp.Header, answer)
					}
				}
			}
			for _, rec := range g.ended(4) {
				if rec.Status != 200 {
					t.Errorf("%s: the record says %d", name, rec.Status)
				}
			}
		}
	}
}

// TestInformationalEdges checks what does not pass: 100, which is for whoever waits for it, all of them to HTTP/1.0, and a
// flood.
func TestInformationalEdges(t *testing.T) {
	hints := 1
	backend, _ := serveBoth(t, func(w http.ResponseWriter, r *http.Request) {
		for range hints {
			w.WriteHeader(http.StatusEarlyHints)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	g := start(t, route("r", toWeb)+backend)
	statuses := func(request string) (got []string) {
		c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(g.url("8080", "/"), "http://"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(c)
		for {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				return got
			}
			got = append(got, fmt.Sprint(resp.StatusCode))
			if resp.StatusCode >= 200 {
				return got
			}
		}
	}
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                                           "103 200",
		"GET / HTTP/1.0\r\nHost: x\r\n\r\n":                                                                           "200",
		"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na":                            "100 103 200",
		"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n": "100 103 200",
	} {
		got := strings.ReplaceAll(strings.Join(statuses(request), " "), "100 100", "100") // both ends may say it
		if got != want {
			t.Errorf("%q: %s, want %s", request, got, want)
		}
	}
	for n, want := range map[int]string{32: "200", 33: "502"} {
		hints = n
		for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"} {
			got := statuses(request)
			if len(got) != 33 || got[32] != want {
				t.Errorf("%d hints: %s, want 32 and %s", n, got, want)
			}
		}
	}
}
