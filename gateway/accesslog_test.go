package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"

	"github.com/mcpgw/mcpgw/config"
)

// lines returns the lines of a file once it has n of them.
func lines(t *testing.T, path string, n int) []string {
	t.Helper()
	var b []byte
	until(t, func() bool {
		b, _ = os.ReadFile(path) // it may not be there yet
		return strings.Count(string(b), "\n") >= n
	})
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// TestAccessLogFile has each way in which a request may end in a log, on both of our HTTP/1.1 servers, over HTTP/2 and
// MCP: once, with types kept.
func TestAccessLogFile(t *testing.T) {
	server := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server {
		s := mcp.NewServer(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
		mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{}, nil, nil
		})
		return s
	}, &mcp.StreamableHTTPOptions{Stateless: true}))
	defer server.Close()
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	path := filepath.Join(t.TempDir(), "log")
	errored := filepath.Join(t.TempDir(), "errors")
	text := static("a", serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Answer", "yes")
		w.Header().Set("Trailer", "X-Last")
		_, _ = io.WriteString(w, "hello")
		w.Header().Set("X-Last", "word")
	})) + static("gone", `{host: 127.0.0.1, port: 1}`) +
		fmt.Sprintf("\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: tools}\nspec: {type: MCP, mcp: {targets: [{name: t, static: {host: %s, port: %s, path: /}}]}}\n", host, port) +
		route("r", "matches: [{path: {value: /a}}]\nfilters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]\nbackendRefs: ["+to("a")+"]") +
		route("gone", "matches: [{path: {value: /gone}}]\nbackendRefs: ["+to("gone")+"]") +
		route("mcp", "matches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("tools")+"]") +
		route("away", "matches: [{path: {value: /away}}]\nfilters: [{type: RequestRedirect, requestRedirect: {hostname: x}}]") +
		route("denied", "matches: [{path: {value: /denied}}]\nbackendRefs: ["+to("a")+"]") +
		webPolicyOn("deny", "HTTPRoute", "denied", "", `rbac: {policy: {matchExpressions: ["false"]}}`) +
		listenerPolicy("p", `healthCheck: {path: /healthz}
  accessLog:
  - fileSink:
      path: `+path+`
      jsonFormat: {what: "%REQ(:METHOD)% %PROTOCOL% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", sent: "%REQ(:PATH)%", code: "%RESPONSE_CODE%", why: "%RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%",
        bytes: ["%BYTES_RECEIVED%", "%BYTES_SENT%"], answer: "%RESP(X-ANSWER)% %TRAILER(X-LAST)%", cluster: "%UPSTREAM_CLUSTER%", tool: "%DYNAMIC_METADATA(mcpgw:mcp:name)%", reply: "%LOCAL_REPLY_BODY%",
        id: "%REQ(X-REQUEST-ID)%", took: "%DURATION%", request: "%REQUEST_DURATION%", response: "%RESPONSE_DURATION%"}
    filter: {notHealthCheckFilter: true}
  - fileSink: {path: `+errored+`, stringFormat: "%REQ(:PATH)%"}
    filter: {celFilter: {match: "response.code >= 400"}}`)
	g := start(t, text)
	type entry struct {
		What, Sent, Why, Answer string
		Code                    int
		Bytes                   [2]int
		Cluster, Tool, Reply    string
	}
	want := []entry{
		{What: "GET HTTP/1.1 /a/x?q=1", Sent: "/b/x?q=1", Code: 200, Why: "via_upstream -", Bytes: [2]int{0, 5}, Answer: "yes word", Cluster: "backend_default_a_0"},
		{What: "POST HTTP/1.1 /a", Sent: "/b", Code: 200, Why: "via_upstream -", Bytes: [2]int{4, 5}, Answer: "yes word", Cluster: "backend_default_a_0"},
		{What: "GET HTTP/1.1 /gone", Sent: "/gone", Code: 503, Why: "upstream_reset_before_response_started{connection_failure} UF", Bytes: [2]int{0, 33}, Answer: "- -", Cluster: "backend_default_gone_0", Reply: "the upstream could not be reached"},
		{What: "POST HTTP/1.1 /denied", Sent: "/denied", Code: 403, Why: "rbac_access_denied -", Bytes: [2]int{0, 20}, Answer: "- -", Reply: "authorization failed"},
		{What: "GET HTTP/1.1 /away", Sent: "/away", Code: 302, Why: "direct_response -", Answer: "- -"},
		{What: "GET HTTP/1.1 /nowhere", Sent: "/nowhere", Code: 404, Why: "route_not_found NR", Bytes: [2]int{0, 15}, Answer: "- -", Reply: "route not found"},
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for i, w := range want {
		method, rest, _ := strings.Cut(w.What, " HTTP/1.1 ")
		var body io.Reader
		if w.Bytes[0] > 0 {
			body = strings.NewReader("body")
		}
		req, err := http.NewRequest(method, g.url("8080", rest), body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		g.ended(i + 1)
	}
	if got := g.get("/healthz"); got.Status != 200 {
		t.Error(got)
	}
	session := g.connect(t, "/mcp", "2026-07-28", nil)
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "t_echo"}); err != nil {
		t.Fatal(err)
	}
	var got []entry
	ids := map[string]bool{}
	called := false
	until(t, func() bool { b, _ := os.ReadFile(path); return strings.Contains(string(b), `"tool":"echo"`) })
	for _, line := range lines(t, path, len(want)+1) {
		var e struct {
			entry
			ID                      string
			Took, Request, Response *int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.ID == "" || ids[e.ID] || e.Took == nil || e.Response == nil {
			t.Errorf("%s", line)
		}
		ids[e.ID] = true
		if strings.Contains(e.What, "/mcp") {
			called = called || e.Tool == "echo" && e.Code == 200
			continue
		}
		got = append(got, e.entry)
	}
	if diff := cmp.Diff(want, got); diff != "" || !called {
		t.Errorf("called %v, (-want +got):\n%s", called, diff)
	}
	if diff := cmp.Diff([]string{"/gone", "/denied", "/nowhere"}, lines(t, errored, 3)); diff != "" {
		t.Errorf("with an error (-want +got):\n%s", diff)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	g.ReopenLogs()
	g.get("/nowhere")
	lines(t, path, 1)
}

// A logServer takes logs by gRPC in both protocols.
type logServer struct {
	als.UnimplementedAccessLogServiceServer
	collector.UnimplementedLogsServiceServer
	messages chan *als.StreamAccessLogsMessage
	records  chan *logs.ResourceLogs
}

func (s *logServer) StreamAccessLogs(stream als.AccessLogService_StreamAccessLogsServer) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&als.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		s.messages <- m
	}
}

func (s *logServer) Export(_ context.Context, r *collector.ExportLogsServiceRequest) (*collector.ExportLogsServiceResponse, error) {
	for _, l := range r.ResourceLogs {
		s.records <- l
	}
	return &collector.ExportLogsServiceResponse{}, nil
}

// TestAccessLogServices has entries arrive at real gRPC servers, by each of the ways to name one; a server that was away
// gets later ones.
func TestAccessLogServices(t *testing.T) {
	s := &logServer{messages: make(chan *als.StreamAccessLogsMessage, 99), records: make(chan *logs.ResourceLogs, 99)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(l net.Listener) *grpc.Server {
		server := grpc.NewServer()
		als.RegisterAccessLogServiceServer(server, s)
		collector.RegisterLogsServiceServer(server, s)
		go func() { _ = server.Serve(l) }()
		return server
	}
	server := serve(l)
	address := l.Addr().String()
	host, port, _ := net.SplitHostPort(address)
	text := static("a", upstreamServer(t, "a")) + route("r", "backendRefs: ["+to("a")+"]") + static("logs", fmt.Sprintf("{host: %s, port: %s}", host, port)) +
		listenerPolicy("p", `accessLog:
  - grpcService: {logName: one, staticClusterName: logs, additionalRequestHeadersToLog: [x-user, authorization], additionalResponseHeadersToLog: [x-upstream], retryPolicy: {retryBackOff: {baseInterval: 10ms}}}
  - grpcService: {logName: two, backendRef: {kind: Backend, name: logs}}
  - grpcService: {logName: three, staticClusterName: "`+address+`"}
  - otel: {endpoint: "`+address+`", body: "%REQ(:PATH)%", attributes: {values: [{key: code, value: {stringValue: "%RESPONSE_CODE%"}}]}}
  - otel: {grpcService: {logName: four, backendRef: {kind: Backend, name: logs}}, resourceAttributes: {values: [{key: a, value: {stringValue: b}}]}}`)
	g := start(t, text)
	g.get("/x", "X-User", "bob", "Authorization", "Bearer hunter2")
	names := map[string]bool{}
	for len(names) < 3 {
		m := <-s.messages
		names[m.GetIdentifier().GetLogName()] = true
		if m.GetIdentifier().GetLogName() != "one" {
			continue
		}
		e := m.GetHttpLogs().GetLogEntry()[0]
		if e.Request.Path != "/x" || e.Response.ResponseCode.GetValue() != 200 || e.CommonProperties.UpstreamCluster != "backend_default_a_0" || m.Identifier.Node.Id != "default.default" {
			t.Errorf("%v", e)
		}
		if diff := cmp.Diff(map[string]string{"x-user": "bob", "authorization": "[redacted]"}, e.Request.RequestHeaders); diff != "" || e.Response.ResponseHeaders["x-upstream"] != "a" {
			t.Errorf("%v\n%s", e.Response.ResponseHeaders, diff)
		}
	}
	if !names["one"] || !names["two"] || !names["three"] {
		t.Errorf("%v", names)
	}
	for range 2 {
		r := <-s.records
		record := r.ScopeLogs[0].LogRecords[0]
		attributes := map[string]string{}
		for _, a := range r.Resource.Attributes {
			attributes[a.Key] = a.Value.GetStringValue()
		}
		switch name := r.ScopeLogs[0].Scope.Name; name {
		case "four":
			if attributes["a"] != "b" || attributes["log_name"] != "four" || !strings.Contains(record.Body.GetStringValue(), `"response_code":200`) {
				t.Errorf("%v", r)
			}
		default:
			if attributes["service.name"] != "default.default" || record.Body.GetStringValue() != "/x" || record.Attributes[0].Value.GetStringValue() != "200" {
				t.Errorf("%v", r)
			}
		}
	}
	server.Stop()
	g.get("/while-away")
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server = serve(l)
	defer server.Stop()
	back := false
	until(t, func() bool {
		g.get("/again")
		for len(s.messages) > 0 {
			m := <-s.messages
			back = back || m.GetIdentifier().GetLogName() == "one"
		}
		return back
	})
	g.stop()
}

// Mistakes in formats and filters are named with their place, and what was meant.
func TestAccessLogMistakes(t *testing.T) {
	_, report := Compile(load(t, static("a", "{host: h, port: 1}")+route("r", "backendRefs: ["+to("a")+"]")+listenerPolicy("p", `accessLog:
  - fileSink: {path: f, jsonFormat: {a: "%RESPONSE_KODE%"}}
  - fileSink: {path: f, stringFormat: "%REQ%"}
  - fileSink: {path: f}
    filter: {responseFlagFilter: {flags: [NR, UZ]}}
  - fileSink: {path: f}
    filter: {andFilter: [{celFilter: {match: "response.kode == 1"}}, {traceableFilter: true}]}
  - grpcService: {logName: l, staticClusterName: nowhere}
  - otel: {endpoint: "c:1", body: "%CEL(1 +)%"}`)), nil)
	var got []string
	for _, p := range report.Problems {
		if p.Object.Kind == "HTTPListenerPolicy" {
			got = append(got, fmt.Sprintf("%s %s %v: %s", p.Path, p.Code, p.Class == config.Invalid, p.Help))
		}
	}
	want := []string{
		`spec.accessLog[0].fileSink.jsonFormat MG0210 true: did you mean "RESPONSE_CODE"?`,
		`spec.accessLog[1].fileSink.stringFormat MG0210 true: see the list of command operators in docs/telemetry.md`,
		`spec.accessLog[2].filter.responseFlagFilter.flags[1] MG0210 true: did you mean "UR"?`,
		`spec.accessLog[3].filter.andFilter[0].celFilter.match MG0201 true: `,
		`spec.accessLog[4].grpcService.staticClusterName MG0301 false: write the name of a Backend of type Static or a Service in namespace default, or host:port`,
		`spec.accessLog[5].otel.body MG0210 true: see the list of command operators in docs/telemetry.md`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
