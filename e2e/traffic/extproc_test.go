package traffic

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A processor is an external processor made by grpc-go. What it does is told by headers of the request: x-die and x-answer name the
// message at which it fails, or answers itself.
type processor struct {
	extprocv3.UnimplementedExternalProcessorServer
	duplex  bool // bodies are answered in the way of FULL_DUPLEX_STREAMED
	streams atomic.Int64
	seen    atomic.Int64 // messages
}

// startProcessor serves p until the test ends, and returns its address.
func startProcessor(t testing.TB, p *processor) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	extprocv3.RegisterExternalProcessorServer(s, p)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends by Stop
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func (p *processor) Process(s extprocv3.ExternalProcessor_ProcessServer) error {
	p.streams.Add(1)
	var die, answer string
	for {
		q, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.seen.Add(1)
		var phase string
		a := &extprocv3.ProcessingResponse{}
		switch m := q.GetRequest().(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			phase = "request-headers"
			for _, h := range m.RequestHeaders.GetHeaders().GetHeaders() {
				switch h.GetKey() {
				case "x-die":
					die = string(h.GetRawValue())
				case "x-answer":
					answer = string(h.GetRawValue())
				}
			}
			a.Response = &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: changed("x-user", "ann")}}
		case *extprocv3.ProcessingRequest_ResponseHeaders:
			phase = "response-headers"
			a.Response = &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{Response: changed("x-processed", "yes")}}
		case *extprocv3.ProcessingRequest_RequestBody:
			phase = "request-body"
			a.Response = &extprocv3.ProcessingResponse_RequestBody{RequestBody: p.body(m.RequestBody)}
		case *extprocv3.ProcessingRequest_ResponseBody:
			phase = "response-body"
			a.Response = &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: p.body(m.ResponseBody)}
		}
		switch phase {
		case die:
			return status.Error(codes.Internal, "dead")
		case answer:
			a.Response = &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden}, Body: []byte("not you"), Details: "a test"}}
		}
		if err := s.Send(a); err != nil {
			return err
		}
	}
}

func changed(name, value string) *extprocv3.CommonResponse {
	return &extprocv3.CommonResponse{ClearRouteCache: true, HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}}}}
}

// body has "hello" be "HELLO", and all else as it is.
func (p *processor) body(b *extprocv3.HttpBody) *extprocv3.BodyResponse {
	out := bytes.ReplaceAll(b.GetBody(), []byte("hello"), []byte("HELLO"))
	m := &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: out}}
	if p.duplex {
		m.Mutation = &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: out, EndOfStream: b.GetEndOfStream()}}
	}
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: m}}
}

// processing is a GatewayExtension at an address, and the Backend of it.
func processing(name, address, more string) string {
	return testgateway.Backend(name, "", address) + fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: GatewayExtension\nmetadata: {name: %s}\nspec: {extProc: {messageTimeout: 30s, grpcService: {backendRef: {group: gateway.kgateway.dev, kind: Backend, name: %s}}%s}}\n---\n", name, name, more)
}

func both(mode string) string {
	return fmt.Sprintf("{requestBodyMode: %s, responseBodyMode: %s}", mode, mode)
}

// TestExternalProcessing is about each mode, of bodies that are whole and of streams, with a processor that works, answers itself or dies at each phase.
func TestExternalProcessing(t *testing.T) {
	t.Parallel()
	service := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Seen-User", r.Header.Get("X-User"))
		for part := range bytes.SplitAfterSeq(b, []byte("\n")) {
			_, _ = w.Write(part)
			_ = http.NewResponseController(w).Flush()
		}
	})
	plain, duplex := &processor{}, &processor{duplex: true}
	text := testgateway.Backend("s", "", service) + processing("open", startProcessor(t, plain), "") + processing("closed", startProcessor(t, plain), ", failOpen: false") +
		processing("duplex", startProcessor(t, duplex), "") + processing("nobody", testgateway.FreeAddress(t), "") + processing("nobody-closed", testgateway.FreeAddress(t), ", failOpen: false")
	add := func(path, extension, mode string) {
		text += testgateway.Route(path, "/"+path, "s", "") + testgateway.TrafficPolicy(path, path, fmt.Sprintf("extProc: {extensionRef: {name: %s}, processingMode: %s}", extension, mode))
	}
	modes := []string{"NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"}
	for i, mode := range modes {
		extension := "open"
		if mode == "FULL_DUPLEX_STREAMED" {
			extension = "duplex"
		} else {
			add("closed"+strconv.Itoa(i), "closed", both(mode))
		}
		add("open"+strconv.Itoa(i), extension, both(mode))
	}
	add("nobody", "nobody", both("STREAMED"))
	add("nobody-closed", "nobody-closed", both("STREAMED"))
	add("missing", "elsewhere", "{}")
	g := start(t, text)

	small, large := "hello\nhello\n", strings.Repeat("hello, ", 40<<10)+"\n"
	for i, mode := range modes {
		for _, sent := range []string{small, large} {
			want := sent
			if mode != "NONE" {
				want = strings.ReplaceAll(sent, "hello", "HELLO")
			}
			got := g.Ask(t, "POST", "/open"+strconv.Itoa(i), testgateway.Streamed(sent))
			// Where a piece ends within a word it stays as it is: to the processor it is none.
			if got.Status != 200 || !strings.EqualFold(got.Body, want) || len(sent) < 100 && got.Body != want || got.Header.Get("X-Seen-User") != "ann" || got.Header.Get("X-Processed") != "yes" {
				t.Errorf("%s: answer %d of %d bytes, headers %v", mode, got.Status, len(got.Body), got.Header)
			}
		}
		for _, phase := range []string{"request-headers", "request-body", "response-headers", "response-body"} {
			if mode == "NONE" && strings.HasSuffix(phase, "body") {
				continue
			}
			if mode != "FULL_DUPLEX_STREAMED" {
				got := g.Ask(t, "POST", "/open"+strconv.Itoa(i), testgateway.Streamed(small), "X-Die", phase)
				if got.Status != 200 || !strings.EqualFold(got.Body, small) {
					t.Errorf("%s, dead at %s: answer %d %q", mode, phase, got.Status, got.Body)
				}
				got, err := g.Try(t, "POST", "/closed"+strconv.Itoa(i), strings.NewReader(small), "X-Die", phase)
				switch {
				case mode == "STREAMED" && phase == "response-body":
					if err == nil {
						t.Errorf("%s, dead at %s: the answer looks whole: %q", mode, phase, got.Body)
					}
				case err != nil || got.Status != 500 || got.Body != "external processing failed":
					t.Errorf("%s, dead at %s and not open: answer %d %q, %v", mode, phase, got.Status, got.Body, err)
				}
			}
			got, err := g.Try(t, "POST", "/open"+strconv.Itoa(i), strings.NewReader(small), "X-Answer", phase)
			switch {
			case (mode == "STREAMED" || mode == "FULL_DUPLEX_STREAMED") && phase == "response-body":
				if err == nil {
					t.Errorf("%s, answered at %s: the answer looks whole: %q", mode, phase, got.Body)
				}
			case err != nil || got.Status != 403 || got.Body != "not you":
				t.Errorf("%s, answered at %s: answer %d %q, %v", mode, phase, got.Status, got.Body, err)
			}
		}
	}
	if got := g.Ask(t, "POST", "/nobody", testgateway.Streamed(small)); got.Status != 200 || got.Body != small {
		t.Errorf("nobody there: answer %d %q", got.Status, got.Body)
	}
	for _, path := range []string{"/nobody-closed", "/missing"} {
		if got := g.Ask(t, "POST", path, testgateway.Streamed(small)); got.Status != 500 {
			t.Errorf("%s: answer %d %q", path, got.Status, got.Body)
		}
	}
	if n := g.Metric(t, `mcpgw_extension_requests_total{extension="GatewayExtension/nobody",result="failed",stat_prefix=""}`); n != 1 {
		t.Errorf("%v failures are counted", n)
	}
}

// TestExternalRouting is about a processor whose headers say where a request goes: there it is admitted anew.
func TestExternalRouting(t *testing.T) {
	t.Parallel()
	named := func(name string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, name+" "+r.Header.Get("X-User"))
		})
	}
	address := startProcessor(t, &processor{})
	users := "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s}\nspec:\n  parentRefs: [{name: default}]\n  rules: [{matches: [{path: {value: %s}, headers: [{name: x-user, value: ann}]}], backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]}]\n---\n"
	g := start(t, testgateway.Backend("all", "", named("all"))+testgateway.Backend("ann", "", named("ann's"))+processing("p", address, "")+processing("retain", address, ", routeCacheAction: Retain")+
		testgateway.Route("all", "/a", "all", "")+testgateway.TrafficPolicy("all", "all", "extProc: {extensionRef: {name: p}}")+fmt.Sprintf(users, "anns", "/a", "ann")+
		testgateway.Route("kept", "/b", "all", "")+testgateway.TrafficPolicy("kept", "kept", "extProc: {extensionRef: {name: retain}}")+fmt.Sprintf(users, "anns-b", "/b", "ann")+
		testgateway.Route("secret", "/c", "all", "")+testgateway.TrafficPolicy("secret", "secret", "extProc: {extensionRef: {name: p}}")+fmt.Sprintf(users, "anns-c", "/c", "ann")+
		testgateway.TrafficPolicy("closed", "anns-c", "rbac: {policy: {matchExpressions: [\"request.headers['x-key'] == 'k'\"]}}\n  cors: {allowOrigins: [\"https://a.test\"]}"))
	for _, c := range []struct {
		path, key, want string
		status          int
	}{
		{"/a", "", "ann's ann", 200},
		{"/b", "", "all ann", 200},
		{"/c", "", "authorization failed", 403},
		{"/c", "k", "ann's ann", 200},
	} {
		got := g.Ask(t, "GET", c.path, nil, "X-Key", c.key, "Origin", "https://a.test")
		if got.Status != c.status || got.Body != c.want {
			t.Errorf("%s: answer %d %q, want %d %q", c.path, got.Status, got.Body, c.status, c.want)
		}
		if shared := got.Header.Get("Access-Control-Allow-Origin") != ""; shared != (c.path == "/c") {
			t.Errorf("%s: pages of other origins may read the answer: %v", c.path, shared)
		}
	}
}

// TestExternalMCP is about sessions whose every request and stream goes through a processor: calls, progress in the middle of one, and
// what a server says by itself.
func TestExternalMCP(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"STREAMED", "FULL_DUPLEX_STREAMED", "NONE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := mcp.NewServer(&mcp.Implementation{Name: "bank", Version: "1"}, nil)
			mcp.AddTool(s, &mcp.Tool{Name: "say"}, func(ctx context.Context, q *mcp.CallToolRequest, in struct{ Text string }) (*mcp.CallToolResult, any, error) {
				if token := q.Params.GetProgressToken(); token != nil {
					_ = q.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
				}
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
			})
			h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
			host, port, _ := net.SplitHostPort(serve(t, h.ServeHTTP))
			t.Cleanup(func() {
				for session := range s.Sessions() {
					_ = session.Close()
				}
			})
			p := &processor{duplex: mode == "FULL_DUPLEX_STREAMED"}
			g := start(t, fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools}\nspec: {type: MCP, mcp: {targets: [{name: bank, static: {host: %s, port: %s, path: /}}]}}\n---\n", host, port)+
				processing("p", startProcessor(t, p), ", failOpen: false")+testgateway.Route("r", "/", "tools", "")+testgateway.TrafficPolicy("p", "r", "extProc: {extensionRef: {name: p}, processingMode: "+both(mode)+"}"))
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			progress, changed := make(chan struct{}, 8), make(chan struct{}, 8)
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
				ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progress <- struct{}{} },
				ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
			})
			cs, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + g.Address + "/", MaxRetries: -1, HTTPClient: &http.Client{Transport: tr}}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cs.Close() }()
			params := &mcp.CallToolParams{Name: "bank_say", Arguments: map[string]any{"Text": "hello"}}
			params.SetProgressToken("1")
			result, err := cs.CallTool(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			want := "HELLO"
			if mode == "NONE" {
				want = "hello"
			}
			if got := result.Content[0].(*mcp.TextContent).Text; got != want {
				t.Errorf("the tool was told %q", got)
			}
			wait(t, "progress", progress)
			mcp.AddTool(s, &mcp.Tool{Name: "more"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return &mcp.CallToolResult{}, nil, nil
			})
			wait(t, "a notification on the stream of the session", changed)
			if p.streams.Load() < 3 || p.seen.Load() <= p.streams.Load() {
				t.Errorf("the processor saw %d messages in %d streams", p.seen.Load(), p.streams.Load())
			}
		})
	}
}

func wait(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	testgateway.Until(t, what, func() bool { return len(c) > 0 })
}

// TestExternalModels is about answers of language models, whole and streamed, that go through a processor.
func TestExternalModels(t *testing.T) {
	t.Parallel()
	model := llmtest.Start(llmtest.OpenAI)
	t.Cleanup(model.Close)
	for _, mode := range []string{"NONE", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"} {
		g := start(t, llmtest.Backend("m", model.Provider(""))+"---\n"+processing("p", startProcessor(t, &processor{duplex: mode == "FULL_DUPLEX_STREAMED"}), ", failOpen: false")+
			testgateway.Route("r", "/", "m", "")+testgateway.TrafficPolicy("p", "r", "extProc: {extensionRef: {name: p}, processingMode: "+both(mode)+"}"))
		for _, stream := range []bool{false, true} {
			got := g.Ask(t, "POST", "/v1/chat/completions", testgateway.Streamed(string(llmtest.Chat.Request("hello", stream))), "Content-Type", "application/json")
			read := llmtest.Chat.Read
			if stream {
				read = llmtest.Chat.ReadStream
			}
			text, err := read([]byte(got.Body))
			if got.Status != 200 || err != nil || !strings.EqualFold(text, llmtest.Hello.Text) || got.Header.Get("X-Processed") != "yes" {
				t.Errorf("%s, stream %v: answer %d %q, %v", mode, stream, got.Status, got.Body, err)
			}
			refused := g.Ask(t, "POST", "/v1/chat/completions", testgateway.Streamed(string(llmtest.Chat.Request("hello", stream))), "Content-Type", "application/json", "X-Die", "request-headers")
			if refused.Status != 500 || !strings.Contains(refused.Body, "external processing failed") {
				t.Errorf("%s, dead: answer %d %q", mode, refused.Status, refused.Body)
			}
		}
	}
}

// TestExternalOverTLS is about a processor that speaks TLS only, for clients of HTTP/1.1 and HTTP/2: who it is is checked, and who can't be
// checked is not asked.
func TestExternalOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "processor.test")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	p := &processor{}
	_, address := serveGRPC(t, func(s *grpc.Server) { extprocv3.RegisterExternalProcessorServer(s, p) }, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	service := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	text := "apiVersion: v1\nkind: Secret\nmetadata: {name: ca}\nstringData:\n  ca.crt: |\n" + indented(cert, "    ") + "\n---\n" + testgateway.Backend("s", "", service)
	for name, tls := range map[string]string{"known": "tls: {secretRef: {name: ca}, sni: processor.test}", "misnamed": "tls: {secretRef: {name: ca}, sni: other.test}"} {
		text += processing(name, address, ", failOpen: false") + testgateway.Route(name, "/"+name, "s", "") +
			testgateway.TrafficPolicy(name, name, "extProc: {extensionRef: {name: "+name+"}, processingMode: "+both("STREAMED")+"}") +
			fmt.Sprintf("apiVersion: gateway.kgateway.dev/v1alpha1\nkind: BackendConfigPolicy\nmetadata: {name: %s}\nspec:\n  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %s}]\n  %s\n---\n", name, name, tls)
	}
	g := start(t, text)
	for version := 1; version <= 2; version++ {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(version == 1)
		protocols.SetUnencryptedHTTP2(version == 2)
		tr := &http.Transport{Protocols: protocols}
		defer tr.CloseIdleConnections()
		for path, want := range map[string]string{"/known": "200 HELLO", "/misnamed": "500 external processing failed"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.Address+path, strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got := fmt.Sprintf("%d %s", resp.StatusCode, b); err != nil || got != want || resp.ProtoMajor != version {
				t.Errorf("%s over HTTP/%d: %q, %v, want %q over %d", path, resp.ProtoMajor, got, err, want, version)
			}
		}
	}
	if n := p.streams.Load(); n != 2 {
		t.Errorf("the processor saw %d streams", n)
	}
}
