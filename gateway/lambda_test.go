package gateway

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/testaws"
)

const echoARN = "arn:aws:lambda:eu-west-1:123456789012:function:echo"

// newLambda returns a stand-in, and the YAML of a Backend named f behind a route, with the fields
// of spec.aws.lambda.
func newLambda(t *testing.T, l *testaws.Lambda) func(more string) string {
	t.Helper()
	l.Region, l.Credentials = "eu-west-1", awsKey
	if l.ARN == "" {
		l.ARN, l.Qualifier = echoARN, "$LATEST"
	}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	return func(more string) string {
		return fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: f}
spec:
  type: AWS
  aws:
    region: eu-west-1
    accountId: "123456789012"
    auth: {type: Secret, secretRef: {name: aws}}
    lambda: {endpointURL: %q, functionName: echo, %s}
`, server.URL, more) + awsSecret + route("r", "backendRefs: ["+to("f")+"]")
	}
}

// A function gets requests as Envoy wraps them, whatever their bodies are.
func TestLambdaEvents(t *testing.T) {
	l := &testaws.Lambda{Function: func([]byte) (string, string) { return `{"body": "done"}`, "" }}
	g := start(t, newLambda(t, l)(""))
	type event struct {
		RawPath string            `json:"raw_path"`
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
		Query   map[string]string `json:"query_string_parameters"`
		Body    string            `json:"body"`
		Base64  bool              `json:"is_base64_encoded"`
	}
	for i, tc := range []struct {
		method, path, body string
		header             []string
		want               event
	}{
		{"GET", "/a%20b/c?x=1&y=%20&x=2&z", "", []string{"X-Two", "1", "X-Two", "2", "Connection", "x-hop", "X-Hop", "1", "X-Mcpgw-Secret", "1"},
			event{RawPath: "/a%20b/c?x=1&y=%20&x=2&z", Method: "GET", Headers: map[string]string{"x-two": "1,2"}, Query: map[string]string{"x": "2", "y": "%20", "z": ""}}},
		{"POST", "/", `{"a":"<é>"}`, []string{"Content-Type", "application/json; charset=utf-8"},
			event{RawPath: "/", Method: "POST", Headers: map[string]string{"content-type": "application/json; charset=utf-8"}, Body: `{"a":"<é>"}`}},
		{"PUT", "/", "plain", nil, event{RawPath: "/", Method: "PUT", Body: "plain"}},
		{"PUT", "/", "plain", []string{"Content-Type", "application/octet-stream"},
			event{RawPath: "/", Method: "PUT", Headers: map[string]string{"content-type": "application/octet-stream"}, Body: base64.StdEncoding.EncodeToString([]byte("plain")), Base64: true}},
		{"PUT", "/", "\xff\x00", []string{"Content-Type", "text/plain"},
			event{RawPath: "/", Method: "PUT", Headers: map[string]string{"content-type": "text/plain"}, Body: "/wA=", Base64: true}},
	} {
		got := g.do(tc.method, g.url("8080", tc.path), strings.NewReader(tc.body), append(tc.header, "Host", "app.example")...)
		if got.Status != 200 || got.Body != "done" || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Content-Length") != "4" {
			t.Fatalf("%d: %d %q %v", i, got.Status, got.Body, got.Header)
		}
		events := l.Events()
		var e event
		if err := json.Unmarshal([]byte(events[len(events)-1]), &e); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"host": "app.example", "x-forwarded-proto": "http", "x-forwarded-host": "app.example", "x-forwarded-for": "127.0.0.1", "x-request-id": got.Header.Get("X-Request-Id")} {
			if e.Headers[name] != want {
				t.Errorf("%d: the header %s is %q, not %q", i, name, e.Headers[name], want)
			}
			delete(e.Headers, name)
		}
		for _, name := range []string{"user-agent", "accept-encoding", "content-length"} { // of net/http's client
			delete(e.Headers, name)
		}
		if tc.want.Headers == nil {
			tc.want.Headers = map[string]string{}
		}
		if tc.want.Query == nil {
			tc.want.Query = map[string]string{}
		}
		if diff := cmp.Diff(tc.want, e); diff != "" {
			t.Errorf("%d (-want +got):\n%s", i, diff)
		}
	}
}

// What a function answers, and what is told when it does not.
func TestLambdaAnswers(t *testing.T) {
	const stack = `{"errorType":"TypeError","errorMessage":"secret of the function","stackTrace":["at handler (/var/task/index.js:3:9)"]}`
	for _, tc := range []struct {
		name, spec, result, failed string
		refuse                     int
		method, body               string
		status                     int
		want, err                  string
	}{
		{name: "all of it", result: `{"statusCode": 201, "headers": {"x-a": "b", "content-type": "text/plain"}, "cookies": ["a=1"], "body": "aGVsbG8=", "isBase64Encoded": true}`, status: 201, want: "hello"},
		{name: "nothing to say", result: `{"statusCode": 204, "body": "ignored"}`, status: 204},
		{name: "HEAD", method: "HEAD", result: `{"body": "hello"}`, status: 200},
		{name: "the result as it is", spec: "payloadTransformMode: None", body: `{"q": 1}`, result: `{"statusCode": 404}`, status: 200, want: `{"statusCode": 404}`},
		{name: "a body that is no event", spec: "payloadTransformMode: None", body: `q`, status: 400, want: "the request body is not JSON, which the function takes", err: "bad_request"},
		{name: "queued", spec: "invocationMode: Async", status: 202},
		{name: "no answer", result: `"text"`, status: 502, want: "the function's result is not an answer", err: "upstream_failed"},
		{name: "an error of the function", result: stack, failed: "Unhandled", status: 502, want: "the function failed", err: "upstream_failed"},
		{name: "one that is taken as it is", spec: "payloadTransformMode: None", body: "{}", result: stack, failed: "Handled", status: 502, want: "the function failed", err: "upstream_failed"},
		{name: "too many invocations", refuse: 429, status: 503, want: "the function is busy", err: "upstream_unreachable"},
		{name: "AWS fails", refuse: 500, status: 502, want: "the function could not be invoked", err: "upstream_failed"},
		{name: "another function", spec: "qualifier: two", status: 502, want: "the function could not be invoked", err: "upstream_failed"},
		{name: "a result that is too large", spec: "payloadTransformMode: None", body: "{}", result: strings.Repeat("x", 6<<20+1), status: 502, want: "the function's result is too large", err: "upstream_failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &testaws.Lambda{Refuse: tc.refuse, Function: func([]byte) (string, string) { return tc.result, tc.failed }}
			g := start(t, newLambda(t, l)(tc.spec))
			method := tc.method
			if method == "" {
				method = "POST"
			}
			got := g.do(method, g.url("8080", "/x"), strings.NewReader(tc.body))
			if got.Status != tc.status || got.Body != tc.want {
				t.Errorf("%d %q, want %d %q", got.Status, got.Body, tc.status, tc.want)
			}
			rec := g.ended(1)[0]
			if rec.ErrorType != tc.err || rec.Attempts != 1 || rec.UpstreamHost == "" || rec.Backend != "default/f" {
				t.Errorf("the record says %q, %d attempts at %q of %s", rec.ErrorType, rec.Attempts, rec.UpstreamHost, rec.Backend)
			}
			if tc.failed != "" && (rec.Err == nil || !strings.Contains(rec.Err.Error(), "TypeError: secret of the function") || strings.Contains(rec.Err.Error(), "index.js")) {
				t.Errorf("the operator reads %v", rec.Err)
			}
			if tc.refuse == 429 && got.Header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After is %q", got.Header.Get("Retry-After"))
			}
			if tc.name == "all of it" && (got.Header.Get("X-A") != "b" || got.Header.Get("Set-Cookie") != "a=1" || got.Header.Get("Content-Type") != "text/plain") {
				t.Errorf("%v", got.Header)
			}
		})
	}
}

// What is over the limits of AWS is not sent there; what is at the limit is.
func TestLambdaLimits(t *testing.T) {
	for _, tc := range []struct {
		spec string
		most int
		good int
	}{{"payloadTransformMode: None", 6 << 20, 200}, {"payloadTransformMode: None, invocationMode: Async", 1 << 20, 202}} {
		l := &testaws.Lambda{Function: func([]byte) (string, string) { return "1", "" }}
		g := start(t, newLambda(t, l)(tc.spec))
		for more, want := range map[int]int{0: tc.good, 1: 413} {
			body := `"` + strings.Repeat("x", tc.most-2+more) + `"`
			if got := g.do("POST", g.url("8080", "/"), strings.NewReader(body)); got.Status != want {
				t.Errorf("%s: %d bytes: %d %.100s", tc.spec, len(body), got.Status, got.Body)
			}
			chunked := struct{ *strings.Reader }{strings.NewReader(body)} // of unknown length
			if got := g.do("POST", g.url("8080", "/"), chunked); got.Status != want {
				t.Errorf("%s: %d bytes in chunks: %d %.100s", tc.spec, len(body), got.Status, got.Body)
			}
		}
		if n := len(l.Events()); n != 2 {
			t.Errorf("%s: %d events", tc.spec, n)
		}
	}
	// The wrapper counts, too.
	l := &testaws.Lambda{Function: func([]byte) (string, string) { return "{}", "" }}
	g := start(t, newLambda(t, l)(""))
	if got := g.do("POST", g.url("8080", "/"), strings.NewReader(strings.Repeat("x", 6<<20)), "Content-Type", "text/plain"); got.Status != 413 || len(l.Events()) != 0 {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

// A function is named by its parts or by its ARN; without a credential it can't be asked.
func TestLambdaNames(t *testing.T) {
	l := &testaws.Lambda{ARN: "arn:aws:lambda:eu-west-1:210987654321:function:other", Qualifier: "live", Function: func([]byte) (string, string) { return "{}", "" }}
	yaml := newLambda(t, l)("")
	yaml = strings.Replace(yaml, "    region: eu-west-1\n    accountId: \"123456789012\"\n", "", 1)
	yaml = strings.Replace(yaml, "functionName: echo, ", "arn: \"arn:aws:lambda:eu-west-1:210987654321:function:other:live\"", 1)
	g := start(t, yaml)
	if got := g.get("/"); got.Status != 200 {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	report := g.apply(strings.Replace(yaml, "secretRef: {name: aws}", "secretRef: {name: none}", 1))
	if got := g.get("/"); got.Status != 503 {
		t.Errorf("without a credential: %d %s", got.Status, got.Body)
	}
	if !report.Has(config.Unresolved) {
		t.Errorf("nothing is said of the Secret: %+v", report.Problems)
	}
	g.apply(yaml)
	if got := g.get("/"); got.Status != 200 {
		t.Errorf("with it again: %d %s", got.Status, got.Body)
	}
	var b v1alpha1.Backend
	b.Spec.AWS = &v1alpha1.AWSBackend{AccountID: "123456789012", Region: "cn-north-1", Lambda: v1alpha1.AWSLambda{FunctionName: "f"}}
	c := newCompiler(new(config.Resources), g.runtime)
	d := new(destination)
	c.lambdaBackend(objectOf(v1alpha1.KindBackend, &b), &b, d)
	if got := fmt.Sprint(d.backend); !strings.Contains(got, "lambda.cn-north-1.amazonaws.com.cn") || !strings.Contains(got, "aws-cn") {
		t.Errorf("%s", got)
	}
}
