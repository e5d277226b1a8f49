package traffic

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// serve serves h until the test ends, and returns its address.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Retry", r.Header.Get("X-Retry-Attempt"))
	_, _ = w.Write(body)
}

// TestRetries is about three servers of nginx, of which one answers 503 and one hangs up without an answer: whatever
// is asked first, the third answers, with the whole request.
func TestRetries(t *testing.T) {
	t.Parallel()
	refuses, hangsUp, works := testgateway.FreeAddress(t), testgateway.FreeAddress(t), testgateway.FreeAddress(t)
	startNginx(t, map[string]string{refuses: "return 503;", hangsUp: "return 444;", works: "proxy_pass http://" + serve(t, echo) + ";"})
	all := testgateway.Backend("all", ", loadBalancer: {type: RoundRobin}", refuses, hangsUp, works)
	g := start(t, all+
		testgateway.Route("none", "/none", "all", "")+
		testgateway.Route("native", "/native", "all", ", retry: {codes: [503], attempts: 2, backoff: 1ms}")+
		testgateway.Route("policy", "/policy", "all", "")+testgateway.TrafficPolicy("p", "policy", "retry: {retryOn: [gateway-error], attempts: 2}"))
	const rounds = 30
	for _, path := range []string{"/native", "/policy"} {
		tried := 0
		for i := range rounds {
			body := fmt.Sprintf("request %d", i)
			got := g.Ask(t, "POST", path, testgateway.Streamed(body))
			if got.Status != http.StatusOK || got.Body != body {
				t.Fatalf("%s: answer %d %q", path, got.Status, got.Body)
			}
			if got.Header.Get("X-Retry") != "" {
				tried++
			}
		}
		if tried == 0 || tried == rounds {
			t.Errorf("%s: %d of %d were tried again", path, tried, rounds)
		}
	}
	var failed int
	for range rounds {
		if got := g.Ask(t, "POST", "/none", testgateway.Streamed("a")); got.Status != http.StatusOK {
			failed++
		}
	}
	if failed != rounds*2/3 {
		t.Errorf("without retries %d of %d fail", failed, rounds)
	}
	testgateway.Until(t, "retries are counted", func() bool {
		return g.Metric(t, `mcpgw_upstream_retries_total{backend="default/all",result="sent"}`) >= rounds
	})
	if !strings.Contains(g.Stderr.String(), "retries=") {
		t.Error("the access log has no retries")
	}
	// More than is kept for another try: what was sent is not sent again.
	big := strings.Repeat("a", 1<<20)
	testgateway.Until(t, "a large request reaches the server that works", func() bool { // which is asked first, nothing says
		got := g.Ask(t, "POST", "/policy", testgateway.Streamed(big))
		if got.Status != http.StatusOK && got.Status != http.StatusServiceUnavailable && got.Status != http.StatusBadGateway {
			t.Errorf("answer %d", got.Status)
		}
		return got.Status == http.StatusOK && got.Body == big
	})
}

// TestMirrors is about copies: whole, and without any effect on the requests themselves.
func TestMirrors(t *testing.T) {
	t.Parallel()
	sums := make(chan [sha256.Size]byte, 10)
	copies := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			sums <- sha256.Sum256(b)
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	over := make(chan struct{})
	hangs := serve(t, func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) })
	mirror := func(to string) string {
		return ", filters: [{type: RequestMirror, requestMirror: {backendRef: {group: gateway.kgateway.dev, kind: Backend, name: " + to + "}}}]"
	}
	g := start(t, testgateway.Backend("a", "", serve(t, echo))+testgateway.Backend("copies", "", copies)+testgateway.Backend("hangs", "", hangs)+testgateway.Backend("gone", "", testgateway.FreeAddress(t))+
		testgateway.Route("whole", "/whole", "a", mirror("copies"))+testgateway.Route("hangs", "/hangs", "a", mirror("hangs"))+testgateway.Route("gone", "/gone", "a", mirror("gone")))
	body := make([]byte, 400<<10)
	_, _ = rand.Read(body)
	for _, path := range []string{"/whole", "/hangs", "/gone"} {
		got := g.Ask(t, "POST", path, testgateway.Streamed(string(body)))
		if got.Status != http.StatusOK || sha256.Sum256([]byte(got.Body)) != sha256.Sum256(body) {
			t.Errorf("%s: answer %d of %d bytes", path, got.Status, len(got.Body))
		}
	}
	if got := <-sums; got != sha256.Sum256(body) {
		t.Error("the copy differs")
	}
	testgateway.Until(t, "the copies are counted", func() bool {
		return g.Metric(t, `mcpgw_mirrored_requests_total{backend="default/copies",result="sent"}`) == 1 &&
			g.Metric(t, `mcpgw_mirrored_requests_total{backend="default/gone",result="failed"}`) == 1
	})
	// A mirror that takes nothing holds nothing up, however much is sent.
	large := make([]byte, 16<<20)
	_, _ = rand.Read(large)
	if got := g.Ask(t, "POST", "/hangs", testgateway.Streamed(string(large))); got.Status != http.StatusOK || sha256.Sum256([]byte(got.Body)) != sha256.Sum256(large) {
		t.Errorf("answer %d of %d bytes", got.Status, len(got.Body))
	}
	testgateway.Until(t, "the copy is dropped", func() bool {
		return g.Metric(t, `mcpgw_mirrored_requests_total{backend="default/hangs",result="dropped"}`) == 1
	})
}

// TestTransformations is about requests and answers at a server of nginx.
func TestTransformations(t *testing.T) {
	t.Parallel()
	address := testgateway.FreeAddress(t)
	startNginx(t, map[string]string{address: `add_header X-Server nginx; return 200 '{"uri":"$request_uri","host":"$host","user":"$http_x_user"}';`})
	g := start(t, testgateway.Backend("a", "", address)+testgateway.Route("r", "/", "a", "")+testgateway.TrafficPolicy("p", "r", `transformation:
    request:
      set: [{name: x-user, value: "request.headers['x-id'].upperAscii()"}, {name: ":path", value: "'/v2' + request.path"}, {name: ":authority", value: "'svc.example'"}]
    response:
      set: [{name: x-code, value: response.code}]
      remove: [x-server]
      body: {parseAs: AsJson, value: "{'seen': response.body, 'by': request.path}"}`))
	got := g.Ask(t, "GET", "/orders", nil, "X-Id", "ann", "X-User", "root", "Accept-Encoding", "gzip")
	want := `{"by":"/orders","seen":{"host":"svc.example","uri":"/v2/orders","user":"ANN"}}`
	if got.Status != 200 || got.Body != want || got.Header.Get("X-Code") != "200" || got.Header.Get("X-Server") != "" {
		t.Errorf("answer %d %v %s", got.Status, got.Header, got.Body)
	}
	if got = g.Ask(t, "GET", "/orders", nil, "X-User", "root"); !strings.Contains(got.Body, `"user":""`) {
		t.Errorf("a client passed for another: %s", got.Body)
	}
	if n := g.Metric(t, `mcpgw_cel_errors_total{policy="TrafficPolicy/p"}`); n != 1 {
		t.Errorf("%v errors are counted", n)
	}
}

// TestOfMCP is about tools behind nginx, with all of it on their route at once: a call is executed once, and the session
// goes on when nginx fails.
func TestOfMCP(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			var called, copied atomic.Int64
			var fail atomic.Bool
			s := mcp.NewServer(&mcp.Implementation{Name: "bank", Version: "1"}, nil)
			mcp.AddTool(s, &mcp.Tool{Name: "pay"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				called.Add(1)
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "paid"}}}, nil, nil
			})
			h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
			var user atomic.Value
			direct := serve(t, func(w http.ResponseWriter, r *http.Request) {
				user.Store(r.Header.Get("X-User"))
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				if fail.Load() && strings.Contains(string(body), `"tools/call"`) {
					called.Add(1)
					panic(http.ErrAbortHandler) // it has paid, and nobody hears of it
				}
				h.ServeHTTP(w, r)
			})
			t.Cleanup(func() {
				for session := range s.Sessions() {
					_ = session.Close()
				}
			})
			address := testgateway.FreeAddress(t)
			startNginx(t, map[string]string{address: "proxy_pass http://" + direct + ";"})
			host, port, _ := net.SplitHostPort(address)
			g := start(t, fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools}\nspec: {type: MCP, mcp: {forwardHeaders: [x-user], targets: [{name: bank, static: {host: %s, port: %s, path: /}}]}}\n---\n", host, port)+
				testgateway.Backend("copies", "", serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); copied.Add(1) }))+
				testgateway.Route("r", "/", "tools", ", filters: [{type: RequestMirror, requestMirror: {backendRef: {group: gateway.kgateway.dev, kind: Backend, name: copies}}}]")+
				testgateway.TrafficPolicy("p", "r", `retry: {retryOn: [5xx, reset, connect-failure], attempts: 5, backoffBaseInterval: 1ms}
  timeouts: {streamIdle: 60s}
  transformation: {request: {set: [{name: x-user, value: "'ann'"}]}, response: {set: [{name: x-code, value: response.code}]}}`))
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			cs, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(),
				&mcp.StreamableClientTransport{Endpoint: "http://" + g.Address + "/", MaxRetries: -1, HTTPClient: &http.Client{Transport: tr}}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cs.Close() }()
			pay := func() error {
				_, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "bank_pay"})
				return err
			}
			if err := pay(); err != nil || called.Load() != 1 {
				t.Fatalf("paid %d times, %v", called.Load(), err)
			}
			fail.Store(true)
			if err := pay(); err == nil || called.Load() != 2 {
				t.Errorf("paid %d times, %v", called.Load(), err)
			}
			fail.Store(false)
			if err := pay(); err != nil || called.Load() != 3 {
				t.Errorf("paid %d times, %v", called.Load(), err)
			}
			if user.Load() != "ann" {
				t.Errorf("the server got the user %q", user.Load())
			}
			testgateway.Until(t, "there are copies", func() bool { return copied.Load() >= 4 })
		})
	}
}

// TestOfModels is about a provider behind nginx that fails at first, and one that would be asked next.
func TestOfModels(t *testing.T) {
	t.Parallel()
	model, next := llmtest.Start(llmtest.OpenAI), llmtest.Start(llmtest.OpenAI)
	t.Cleanup(model.Close)
	t.Cleanup(next.Close)
	var asked atomic.Int64
	address := testgateway.FreeAddress(t)
	startNginx(t, map[string]string{address: "proxy_pass http://" + serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		out, _ := http.NewRequestWithContext(r.Context(), r.Method, "http://"+net.JoinHostPort(model.Host, model.Port)+r.URL.Path, r.Body)
		out.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = resp.Body.Close() }()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}) + ";"})
	host, port, _ := net.SplitHostPort(address)
	g := start(t, llmtest.Backend("m", llmtest.Provider(llmtest.OpenAI, host, port, ""), next.Provider(""))+"---\n"+testgateway.Route("r", "/", "m", "")+
		testgateway.TrafficPolicy("p", "r", "retry: {retryOn: [5xx], attempts: 1, backoffBaseInterval: 1ms}\n  transformation: {request: {set: [{name: x-model, value: json(request.body).model}]}, response: {set: [{name: x-code, value: response.code}]}}"))
	for _, stream := range []bool{false, true, false} {
		got := g.Ask(t, "POST", "/v1/chat/completions", testgateway.Streamed(string(llmtest.Chat.Request("hello", stream))), "Content-Type", "application/json")
		var text string
		var err error
		if stream {
			text, err = llmtest.Chat.ReadStream([]byte(got.Body))
		} else {
			text, err = llmtest.Chat.Read([]byte(got.Body))
		}
		if got.Status != 200 || err != nil || text != llmtest.Hello.Text || got.Header.Get("X-Code") != "200" {
			t.Errorf("answer %d %v %s: %q, %v", got.Status, got.Header, got.Body, text, err)
		}
	}
	if n := len(next.Asked()); n != 0 || asked.Load() != 6 {
		t.Errorf("the first provider was asked %d times, the next one %d times", asked.Load(), n)
	}
}
