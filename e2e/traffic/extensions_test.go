package traffic

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// serveGRPC serves what register registers until the test ends, and returns the server and its address.
func serveGRPC(t testing.TB, register func(*grpc.Server), opts ...grpc.ServerOption) (*grpc.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(opts...)
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends by Stop
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return s, l.Addr().String()
}

// An authServer is an external authorization service: what it says of a request is told by its header X-Say.
type authServer struct {
	authv3.UnimplementedAuthorizationServer
	mu   sync.Mutex
	seen []*authv3.CheckRequest
}

func (a *authServer) Check(_ context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.mu.Lock()
	a.seen = append(a.seen, q)
	a.mu.Unlock()
	h := func(name, value string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
	}
	if q.GetAttributes().GetRequest().GetHttp().GetHeaders()["x-say"] == "no" {
		return &authv3.CheckResponse{Status: &statuspb.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}, Headers: []*corev3.HeaderValueOption{h("x-why", "no")}, Body: "bad",
		}}}, nil
	}
	return &authv3.CheckResponse{
		Status: &statuspb.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{h("x-user", "u"), h("x-mcpgw-peer", "forged")}, HeadersToRemove: []string{"x-say"},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{h("x-checked", "yes")},
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"team": structpb.NewStringValue("blue")}},
	}, nil
}

// last returns what the service was asked last.
func (a *authServer) last(t testing.TB) *authv3.AttributeContext {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) == 0 {
		t.Fatal("the service was not asked")
	}
	return a.seen[len(a.seen)-1].GetAttributes()
}

func (a *authServer) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// grpcBackend is a Backend of type Static that speaks gRPC.
func grpcBackend(name, address string) string {
	host, port, _ := net.SplitHostPort(address)
	return "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: " + name + "}\nspec: {type: Static, static: {appProtocol: kubernetes.io/h2c, hosts: [{host: " + host + ", port: " + port + "}]}}\n---\n"
}

func gatewayExtension(name, spec string) string {
	return "apiVersion: gateway.kgateway.dev/v1alpha1\nkind: GatewayExtension\nmetadata: {name: " + name + "}\nspec: {" + spec + "}\n---\n"
}

const toBackend = "backendRef: {group: gateway.kgateway.dev, kind: Backend, name: "

// TestExtAuthService is scenario 16 of the API: a denial is answered as the service says it, what it permits goes on with
// what it adds, and a service that is down refuses all, unless told otherwise.
func TestExtAuthService(t *testing.T) {
	t.Parallel()
	service := new(authServer)
	server, address := serveGRPC(t, func(s *grpc.Server) { authv3.RegisterAuthorizationServer(s, service) })
	headers := make(chan http.Header, 100)
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header.Clone()
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	extension := func(name, more string) string {
		return gatewayExtension(name, "extAuth: {grpcService: {"+toBackend+"auth}}"+more+"}")
	}
	g := start(t, grpcBackend("auth", address)+testgateway.Backend("up", "", up)+
		extension("closed", "")+extension("unavailable", ", statusOnError: 503")+extension("open", ", failOpen: true")+
		extension("body", ", withRequestBody: {maxRequestBytes: 8}")+
		testgateway.Route("a", "/a", "up", "")+testgateway.TrafficPolicy("a", "a", "extAuth: {extensionRef: {name: closed}, contextExtensions: {k: v}}\n  rbac: {policy: {matchExpressions: [\"extauthz.team == 'blue'\"]}}")+
		testgateway.Route("b", "/b", "up", "")+testgateway.TrafficPolicy("b", "b", "extAuth: {extensionRef: {name: unavailable}}")+
		testgateway.Route("c", "/c", "up", "")+testgateway.TrafficPolicy("c", "c", "extAuth: {extensionRef: {name: open}}")+
		testgateway.Route("d", "/d", "up", "")+testgateway.TrafficPolicy("d", "d", "extAuth: {extensionRef: {name: body}}"))

	got := g.Ask(t, "GET", "/a?q=1", nil, "X-Say", "no")
	if got.Status != http.StatusUnauthorized || got.Body != "bad" || got.Header.Get("X-Why") != "no" {
		t.Errorf("denied: %d %q %v", got.Status, got.Body, got.Header)
	}
	got = g.Ask(t, "GET", "/a?q=1", nil, "X-Say", "yes")
	if got.Status != http.StatusOK || got.Header.Get("X-Checked") != "yes" {
		t.Fatalf("allowed: %d %q %v", got.Status, got.Body, got.Header)
	}
	h := <-headers
	if h.Get("X-User") != "u" || h.Get("X-Say") != "" || h.Get("X-Mcpgw-Peer") != "" {
		t.Errorf("the backend got %v", h)
	}
	asked := service.last(t)
	r := asked.GetRequest().GetHttp()
	if r.GetMethod() != "GET" || r.GetPath() != "/a?q=1" || r.GetHost() != g.Address || r.GetScheme() != "http" || r.GetProtocol() != "HTTP/1.1" || r.GetId() == "" ||
		r.GetHeaders()["x-say"] != "yes" || asked.GetContextExtensions()["k"] != "v" || asked.GetSource().GetAddress().GetSocketAddress().GetAddress() != "127.0.0.1" ||
		asked.GetDestination().GetAddress().GetSocketAddress().GetPortValue() == 0 {
		t.Errorf("the service got %v", asked)
	}
	got = g.Ask(t, "POST", "/d", testgateway.Streamed("12345678"))
	if b := service.last(t).GetRequest().GetHttp().GetBody(); got.Status != http.StatusOK || got.Body != "12345678" || b != "12345678" {
		t.Errorf("with a body: %d %q, the service got %q", got.Status, got.Body, b)
	}
	if got = g.Ask(t, "POST", "/d", testgateway.Streamed("123456789")); got.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("with a larger body: %d %q", got.Status, got.Body)
	}
	server.Stop()
	for path, want := range map[string]int{"/a": http.StatusForbidden, "/b": http.StatusServiceUnavailable, "/c": http.StatusOK} {
		if got := g.Ask(t, "GET", path, nil); got.Status != want {
			t.Errorf("%s while the service is down: %d %q, want %d", path, got.Status, got.Body, want)
		}
	}
}

// TestExtAuthOverHTTP asks a service that speaks HTTP.
func TestExtAuthOverHTTP(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 100)
	auth := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.Header().Set("X-User", "u")
		w.Header().Set("X-Other", "o")
		w.Header().Set("X-Team", "blue")
		if r.Header.Get("X-Say") == "no" {
			w.WriteHeader(http.StatusPaymentRequired)
			_, _ = io.WriteString(w, "pay")
		}
	})
	headers := make(chan http.Header, 100)
	up := serve(t, func(w http.ResponseWriter, r *http.Request) { headers <- r.Header.Clone() })
	g := start(t, testgateway.Backend("auth", "", auth)+testgateway.Backend("up", "", up)+
		gatewayExtension("e", "extAuth: {headersToForward: [x-say], httpService: {"+toBackend+"auth}, pathPrefix: /check, authorizationRequest: {headersToAdd: {x-from: gateway}}, "+
			"authorizationResponse: {headersToBackend: [x-user], headersToClientOnSuccess: [x-team], headersToClientOnDenied: [x-other]}}}")+
		testgateway.Route("a", "/a", "up", "")+testgateway.TrafficPolicy("a", "a", "extAuth: {extensionRef: {name: e}}"))
	got := g.Ask(t, "GET", "/a/b?q=1", nil, "X-Say", "yes", "Authorization", "Bearer t", "Cookie", "c=1")
	r := <-asked
	if r.URL.RequestURI() != "/check/a/b?q=1" || r.Header.Get("X-Say") != "yes" || r.Header.Get("X-From") != "gateway" || r.Header.Get("Authorization") != "Bearer t" || r.Header.Get("Cookie") != "" {
		t.Errorf("the service got %s %v", r.URL, r.Header)
	}
	h := <-headers
	if got.Status != http.StatusOK || h.Get("X-User") != "u" || h.Get("X-Other") != "" || got.Header.Get("X-Team") != "blue" {
		t.Errorf("allowed: %d %v, the backend got %v", got.Status, got.Header, h)
	}
	got = g.Ask(t, "GET", "/a", nil, "X-Say", "no")
	if got.Status != http.StatusPaymentRequired || got.Body != "pay" || got.Header.Get("X-Other") != "o" || got.Header.Get("X-User") != "" {
		t.Errorf("denied: %d %q %v", got.Status, got.Body, got.Header)
	}
}

// TestExtAuthOfMCPAndModels has the service asked for each request of an MCP session, and of a model.
func TestExtAuthOfMCPAndModels(t *testing.T) {
	t.Parallel()
	service := new(authServer)
	_, address := serveGRPC(t, func(s *grpc.Server) { authv3.RegisterAuthorizationServer(s, service) })
	tools := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	mcp.AddTool(tools, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hello"}}}, nil, nil
	})
	up := serve(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools }, nil).ServeHTTP)
	_, port, _ := net.SplitHostPort(up)
	model := llmtest.Start(llmtest.OpenAI)
	t.Cleanup(model.Close)
	g := start(t, grpcBackend("auth", address)+
		gatewayExtension("e", "extAuth: {grpcService: {"+toBackend+"auth}}}")+
		"apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools}\nspec: {type: MCP, mcp: {targets: [{name: one, static: {host: localhost, port: "+port+"}}]}}\n---\n"+
		llmtest.Backend("model", model.Provider(""))+"---\n"+
		testgateway.Route("mcp", "/mcp", "tools", "")+testgateway.TrafficPolicy("mcp", "mcp", "extAuth: {extensionRef: {name: e}}")+
		testgateway.Route("llm", "/v1", "model", "")+testgateway.TrafficPolicy("llm", "llm", "extAuth: {extensionRef: {name: e}}"))
	client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + g.Address + "/mcp"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	before := service.count()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "one_echo"})
	if err != nil || result.Content[0].(*mcp.TextContent).Text != "hello" {
		t.Fatalf("%v, %v", result, err)
	}
	if service.count() == before {
		t.Error("the service was not asked for the call")
	}
	got := g.Ask(t, "POST", "/mcp", testgateway.Streamed(`{"jsonrpc":"2.0","id":1,"method":"ping"}`), "X-Say", "no", "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	if got.Status != http.StatusUnauthorized || got.Body != "bad" {
		t.Errorf("a denied MCP request: %d %q", got.Status, got.Body)
	}
	chat := string(llmtest.Chat.Request("hello", false))
	if got := g.Ask(t, "POST", "/v1/chat/completions", testgateway.Streamed(chat), "Content-Type", "application/json"); got.Status != http.StatusOK || got.Header.Get("X-Checked") != "yes" {
		t.Errorf("a model: %d %q", got.Status, got.Body)
	}
	if got := g.Ask(t, "POST", "/v1/chat/completions", testgateway.Streamed(chat), "Content-Type", "application/json", "X-Say", "no"); got.Status != http.StatusUnauthorized || got.Body != "bad" {
		t.Errorf("a denied request to a model: %d %q", got.Status, got.Body)
	}
}

// A limitServer counts as the test says.
type limitServer struct {
	rlsv3.UnimplementedRateLimitServiceServer
	mu   sync.Mutex
	over bool
	seen []*rlsv3.RateLimitRequest
}

func (l *limitServer) ShouldRateLimit(_ context.Context, q *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, q)
	out := &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK, ResponseHeadersToAdd: []*corev3.HeaderValue{{Key: "x-limited-by", Value: "test"}}}
	if l.over {
		out.OverallCode = rlsv3.RateLimitResponse_OVER_LIMIT
	}
	return out, nil
}

func (l *limitServer) take(over bool) (seen []*rlsv3.RateLimitRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, l.seen, l.over = l.seen, nil, over
	return seen
}

// TestRateLimitService is scenario 14 of the API.
func TestRateLimitService(t *testing.T) {
	t.Parallel()
	service := new(limitServer)
	server, address := serveGRPC(t, func(s *grpc.Server) { rlsv3.RegisterRateLimitServiceServer(s, service) })
	up := serve(t, echo)
	resources := func(failOpen string) string {
		return grpcBackend("counter", address) + testgateway.Backend("up", "", up) +
			gatewayExtension("limits", "rateLimit: {domain: api, grpcService: {"+toBackend+"counter}}"+failOpen+"}") +
			testgateway.Route("a", "/a", "up", "") + testgateway.TrafficPolicy("a", "a", "rateLimit: {rateLimits: [{actions: [{genericKey: {descriptorValue: prod}}, {requestHeaders: {headerName: x-user, descriptorKey: user}}]}]}")
	}
	g, closed := start(t, resources("")), start(t, resources(", failOpen: false"))
	ask := func(g *testgateway.Gateway, header ...string) testgateway.Answer {
		return g.Ask(t, "GET", "/a", nil, header...)
	}
	if got := ask(g, "X-User", "bob"); got.Status != http.StatusOK || got.Header.Get("X-Limited-By") != "test" {
		t.Errorf("within the limit: %d %v", got.Status, got.Header)
	}
	seen := service.take(true)
	if len(seen) != 1 || seen[0].GetDomain() != "api" || len(seen[0].GetDescriptors()) != 1 {
		t.Fatalf("the service was asked %v", seen)
	}
	var entries []string
	for _, e := range seen[0].GetDescriptors()[0].GetEntries() {
		entries = append(entries, e.GetKey()+"="+e.GetValue())
	}
	if got := strings.Join(entries, " "); got != "generic_key=prod user=bob" {
		t.Errorf("the service was asked about %s", got)
	}
	if got := ask(g, "X-User", "bob"); got.Status != http.StatusTooManyRequests || got.Body != "rate limit exceeded" || got.Header.Get("X-Envoy-Ratelimited") != "true" {
		t.Errorf("over the limit: %d %q %v", got.Status, got.Body, got.Header)
	}
	service.take(true)
	if got := ask(g); got.Status != http.StatusOK {
		t.Errorf("without the header: %d %q", got.Status, got.Body)
	}
	if seen := service.take(false); len(seen) != 0 {
		t.Errorf("without the header the service was asked %v", seen)
	}
	server.Stop()
	if got := ask(g, "X-User", "bob"); got.Status != http.StatusOK {
		t.Errorf("the service is down: %d %q", got.Status, got.Body)
	}
	if got := ask(closed, "X-User", "bob"); got.Status != http.StatusInternalServerError {
		t.Errorf("the service is down, failing closed: %d %q", got.Status, got.Body)
	}
}

// TestTokenLimitService is about a service that counts the tokens of language models: it is asked before if anything is left, and told after
// how many there were, or the estimate where the provider does not say.
func TestTokenLimitService(t *testing.T) {
	t.Parallel()
	service := new(limitServer)
	_, address := serveGRPC(t, func(s *grpc.Server) { rlsv3.RegisterRateLimitServiceServer(s, service) })
	model := serve(t, func(w http.ResponseWriter, r *http.Request) {
		usage := `,"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}`
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "quiet") {
			usage = ""
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]`+usage+`}`)
	})
	host, port, _ := net.SplitHostPort(model)
	g := start(t, grpcBackend("counter", address)+llmtest.Backend("m", llmtest.Provider(llmtest.OpenAI, host, port, ""))+"---\n"+
		gatewayExtension("limits", "rateLimit: {domain: api, grpcService: {"+toBackend+"counter}}, timeout: 60s}")+
		testgateway.Route("a", "/", "m", "")+testgateway.TrafficPolicy("a", "a", "rateLimit: {global: {extensionRef: {name: limits}, descriptors: [{entries: [{type: Path}], unit: Tokens}]}}"))
	ask := func(said string) int {
		return g.Ask(t, "POST", "/v1/chat/completions", strings.NewReader(`{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"`+said+`"}]}`), "Content-Type", "application/json").Status
	}
	for said, want := range map[string]func(hits uint64) bool{
		"hello": func(hits uint64) bool { return hits == 12 },
		"quiet": func(hits uint64) bool { return hits > 40 }, // what it may answer, and what it was asked
	} {
		if got := ask(said); got != http.StatusOK {
			t.Fatalf("%s: answer %d", said, got)
		}
		var hits []uint64
		testgateway.Until(t, "the service is asked and told", func() bool {
			for _, q := range service.take(false) {
				hits = append(hits, q.GetDescriptors()[0].GetHitsAddend().GetValue())
			}
			return len(hits) >= 2
		})
		if len(hits) != 2 || hits[0] != 0 || !want(hits[1]) {
			t.Errorf("%s: the service counted %v", said, hits)
		}
	}
	service.take(true)
	if got := ask("hello"); got != http.StatusTooManyRequests {
		t.Errorf("with nothing left: answer %d", got)
	}
	if seen := service.take(false); len(seen) != 1 {
		t.Errorf("with nothing left the service was asked %d times", len(seen))
	}
}
