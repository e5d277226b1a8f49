package accesslog

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full returns an entry of which everything is known.
func full() *Entry {
	r := httptest.NewRequest(http.MethodPost, "/api/x?q=1", nil)
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 80), Port: 8080}))
	r.RemoteAddr, r.Host = "192.0.2.7:1234", "api.example.com"
	for name, v := range map[string]string{"X-Request-Id": "id-1", "User-Agent": `a "b"`, "Authorization": "Bearer hunter2", "X-Long": "abcdefgh"} {
		r.Header.Set(name, v)
	}
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "api.example.com"}
	source := netip.MustParseAddrPort("198.51.100.9:0")
	told := new(telemetry.Metadata)
	if err := told.Add("com.acme", map[string]any{"tenant": "blue", "level": 3.0, "tags": []any{"a"}}); err != nil {
		panic(err) // it is little
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	return &Entry{
		Record: &telemetry.Record{
			Start: start, RequestID: "id-1", Source: source, Request: r, Gateway: "ns/gw", Route: "ns/r", Rule: "0", Backend: "ns/b", Status: 200, BytesSent: 20,
			BytesRead: 10, Duration: 1500 * time.Millisecond, UpstreamHost: "10.0.0.1:80", Attempts: 2,
			MCP: telemetry.MCP{Method: "tools/call", Target: "files", Name: "read"},
		},
		Policy: &policy.Request{HTTP: r, Host: r.Host, Scheme: "https", Source: source, Metadata: told},
		Header: http.Header{"X-Answer": {"yes", "no"}, "Set-Cookie": {"s=hunter2"}, http.TrailerPrefix + "Grpc-Status": {"14"}},
		Sent:   "/rewritten?q=1", Cluster: "backend_ns_b_0", Backend: &policy.BackendInfo{Name: "ns/b", Type: "Static"},
		BodyEnd: start.Add(100 * time.Millisecond), FirstByte: start.Add(time.Second),
	}
}

// TestOperators checks what each operator comes to, alone in a string of JSON, and where nothing is known.
func TestOperators(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ACCESSLOG_TEST", "of the process")
	for operator, want := range map[string]string{
		"START_TIME":                                          `"2026-01-02T03:04:05.678Z" null`,
		"START_TIME(%Y/%m/%dT%H:%M:%S%z %s)":                  `"2026/01/02T03:04:05+0000 1767323045" null`,
		"START_TIME(%3f %6f %9f %f %j %e %b%%)":               `"678 678901 678901234 678901234 002  2 Jan%" null`,
		"REQ(:METHOD)":                                        `"POST" null`,
		"REQ(:path)":                                          `"/rewritten?q=1" null`,
		"REQ(x-envoy-original-path?:path)":                    `"/api/x?q=1" null`,
		"REQ(:AUTHORITY)":                                     `"api.example.com" null`,
		"REQ(:SCHEME)":                                        `"https" null`,
		"REQ(x-none?x-long):3":                                `"abc" null`,
		"REQ(authorization)":                                  `"[redacted]" null`,
		"RESP(x-answer)":                                      `"yes,no" null`,
		"RESP(set-cookie)":                                    `"[redacted]" null`,
		"RESP(:STATUS)":                                       `"200" null`,
		"TRAILER(grpc-status)":                                `"14" null`,
		"RESPONSE_CODE":                                       `200 0`,
		"RESPONSE_CODE_DETAILS":                               `"via_upstream" "via_upstream"`,
		"RESPONSE_FLAGS":                                      `null null`,
		"RESPONSE_FLAGS_LONG":                                 `null null`,
		"DURATION":                                            `1500 0`,
		"REQUEST_DURATION":                                    `100 null`,
		"RESPONSE_DURATION":                                   `1000 null`,
		"RESPONSE_TX_DURATION":                                `500 null`,
		"BYTES_RECEIVED":                                      `10 0`,
		"BYTES_SENT":                                          `20 0`,
		"REQUEST_HEADERS_BYTES":                               `117 0`,
		"RESPONSE_HEADERS_BYTES":                              `77 0`,
		"PROTOCOL":                                            `"HTTP/1.1" null`,
		"UPSTREAM_HOST":                                       `"10.0.0.1:80" null`,
		"UPSTREAM_REMOTE_ADDRESS":                             `"10.0.0.1:80" null`,
		"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":                `"10.0.0.1" null`,
		"UPSTREAM_REMOTE_PORT":                                `80 null`,
		"UPSTREAM_LOCAL_ADDRESS":                              `null null`,
		"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":                 `null null`,
		"UPSTREAM_LOCAL_PORT":                                 `null null`,
		"UPSTREAM_CLUSTER":                                    `"backend_ns_b_0" null`,
		"UPSTREAM_REQUEST_ATTEMPT_COUNT":                      `2 0`,
		"UPSTREAM_TRANSPORT_FAILURE_REASON":                   `null null`,
		"DOWNSTREAM_REMOTE_ADDRESS":                           `"198.51.100.9:0" null`,
		"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":              `"198.51.100.9" null`,
		"DOWNSTREAM_REMOTE_PORT":                              `0 null`,
		"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":                    `"192.0.2.7:1234" null`,
		"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT":       `"192.0.2.7" null`,
		"DOWNSTREAM_DIRECT_REMOTE_PORT":                       `1234 null`,
		"DOWNSTREAM_LOCAL_ADDRESS":                            `"192.0.2.80:8080" null`,
		"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":               `"192.0.2.80" null`,
		"DOWNSTREAM_LOCAL_PORT":                               `8080 null`,
		"CONNECTION_ID":                                       `null null`,
		"STREAM_ID":                                           `"id-1" null`,
		"UNIQUE_ID":                                           `"id-1" null`,
		"REQUESTED_SERVER_NAME":                               `"api.example.com" null`,
		"DOWNSTREAM_TLS_VERSION":                              `"TLSv1.3" null`,
		"DOWNSTREAM_TLS_CIPHER":                               `"TLS_AES_128_GCM_SHA256" null`,
		"DOWNSTREAM_PEER_SUBJECT":                             `null null`,
		"DOWNSTREAM_PEER_ISSUER":                              `null null`,
		"DOWNSTREAM_PEER_URI_SAN":                             `null null`,
		"DOWNSTREAM_PEER_FINGERPRINT_256":                     `null null`,
		"ROUTE_NAME":                                          `"ns-r-0" null`,
		"VIRTUAL_CLUSTER_NAME":                                `null null`,
		"GRPC_STATUS":                                         `"Unavailable" null`,
		"GRPC_STATUS(SNAKE_STRING)":                           `"UNAVAILABLE" null`,
		"GRPC_STATUS(NUMBER)":                                 `14 null`,
		"GRPC_STATUS_NUMBER":                                  `14 null`,
		"DYNAMIC_METADATA(mcpgw:mcp:target)":                  `"files" null`,
		"DYNAMIC_METADATA(mcpgw:mcp)":                         `{"method":"tools/call","name":"read","target":"files"} null`,
		"DYNAMIC_METADATA(mcpgw:llm:input_tokens)":            `null null`,
		"DYNAMIC_METADATA(envoy.x:y)":                         `null null`,
		"DYNAMIC_METADATA(com.acme)":                          `{"level":3,"tags":["a"],"tenant":"blue"} null`,
		"DYNAMIC_METADATA(com.acme:tenant)":                   `"blue" null`,
		"DYNAMIC_METADATA(com.acme:tenant:x)":                 `null null`,
		"CEL(metadata.filter_metadata['com.acme'].level + 1)": `4 null`,
		"FILTER_STATE(x)":                                     `null null`,
		"TRACE_ID":                                            `null null`,
		"HOSTNAME":                                            `"` + host + `" "` + host + `"`,
		"ENVIRONMENT(ACCESSLOG_TEST)":                         `"of the process" "of the process"`,
		"LOCAL_REPLY_BODY":                                    `null null`,
		"CONNECTION_TERMINATION_DETAILS":                      `null null`,
		"CEL(response.code + 1)":                              `201 null`,
		"CEL([request.method, mcp.tool.name])":                `["POST","read"] null`,
		"CEL(request.headers['x-none'])":                      `null null`,
		"CEL(source.address == '198.51.100.0/24')":            `true null`,
	} {
		f, err := CompileJSON([]byte(`{"k":"%` + operator + `%"}`))
		if err != nil {
			t.Errorf("%s: %v", operator, err)
			continue
		}
		line := func(e *Entry) string {
			got := string(f.Append(nil, e))
			if !json.Valid([]byte(got)) || !strings.HasSuffix(got, "}\n") {
				t.Errorf("%s is rendered %q", operator, got)
			}
			return strings.TrimSuffix(strings.TrimPrefix(got, `{"k":`), "}\n")
		}
		if got := line(full()) + " " + line(&Entry{Record: &telemetry.Record{}}); got != want {
			t.Errorf("%s: %s, want %s", operator, got, want)
		}
	}
}

// Each operator is in the table of the documentation, and no other.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "### Command operators")
	if !ok {
		t.Fatal("no section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for _, m := range regexp.MustCompile("`([A-Z][A-Z_0-9]+)[`(]").FindAllStringSubmatch(row[1], -1) {
			documented = append(documented, m[1])
		}
	}
	slices.Sort(documented)
	documented = slices.Compact(documented)
	for _, name := range Operators() {
		if !slices.Contains(documented, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(Operators(), name) {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, tc := range []struct {
		json       bool
		text, want string
	}{
		{false, "", "\n"},
		{false, "100%% of %REQ(:METHOD)%", "100% of POST\n"},
		{false, "a line\n", "a line\n"},
		{false, "%RESPONSE_FLAGS% %CEL('x')% %CEL([1])%", "- x [1]\n"},
		{false, "%REQ(USER-AGENT)%", `a "b"` + "\n"},
		{false, DefaultText, `[2026-01-02T03:04:05.678Z] "POST /api/x?q=1 HTTP/1.1" 200 - 10 20 1500 - "-" "a "b"" "id-1" "api.example.com" "10.0.0.1:80"` + "\n"},
		{true, `{"a": {"b": ["%RESPONSE_CODE%", "code %RESPONSE_CODE%", 1.50, true, null, "100%%"]}, "c\"%X": "-%RESPONSE_FLAGS%-", "d": "%REQ(USER-AGENT)%"}`,
			`{"a":{"b":[200,"code 200",1.50,true,null,"100%"]},"c\"%X":"---","d":"a \"b\""}` + "\n"},
		{true, `{}`, "{}\n"},
	} {
		compile := CompileText
		if tc.json {
			compile = func(s string) (*Format, error) { return CompileJSON([]byte(s)) }
		}
		f, err := compile(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if got := string(f.Append(nil, full())); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.text, got, tc.want)
		}
	}
}

func TestFormatMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"%RESPONSE_KODE%":        "there is no command operator %RESPONSE_KODE%",
		"50% of it":              "begins no command operator",
		"%REQ(X%":                "has no )%",
		"%REQ%":                  "the argument is the name of a header",
		"%REQ(:NONE)%":           "there is no pseudo-header :NONE",
		"%REQ(a b)%":             "the argument is the name of a header",
		"%REQ(x):%":              "has no length",
		"%REQ(x)":                "has no )%",
		"%PROTOCOL":              "has no % at its end",
		"%RESPONSE_CODE(x)%":     "takes no argument",
		"%START_TIME(%Q)%":       "%Q in the format of a time is not known",
		"%GRPC_STATUS(x)%":       "write CAMEL_STRING",
		"%DYNAMIC_METADATA%":     "needs an argument",
		"%ENVIRONMENT%":          "needs the name of a variable",
		"%CEL(request.nothing)%": "nothing",
	} {
		_, err := CompileText(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := CompileJSON([]byte(`{"a":["` + text + `"]}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s in JSON: %v", text, err)
		}
	}
	if _, err := CompileText(strings.Repeat("x", maxTemplate+1)); err == nil {
		t.Error("a format over its limit")
	}
	if _, err := CompileText(strings.Repeat("x", maxTemplate)); err != nil {
		t.Errorf("a format at its limit: %v", err)
	}
}

// What clients send neither ends a line early nor breaks JSON.
func TestNotForged(t *testing.T) {
	e := full()
	e.Request.Header.Set("User-Agent", "x\",\n\"a\":\"\xff\x00")
	f, err := CompileJSON([]byte(`{"a":"%REQ(USER-AGENT)%","b":"<%REQ(USER-AGENT)%>"}`))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	line := f.Append(nil, e)
	if err := json.Unmarshal(line, &got); err != nil || strings.Count(string(line), "\n") != 1 || len(got) != 2 {
		t.Errorf("%s: %v", line, err)
	}
	f, err = CompileText("%REQ(USER-AGENT)%")
	if err != nil {
		t.Fatal(err)
	}
	if line := string(f.Append(nil, e)); strings.Count(line, "\n") != 1 {
		t.Errorf("%q", line)
	}
	e.Request.Header.Set("User-Agent", strings.Repeat("ü", maxValue))
	if line := f.Append(nil, e); len(line) != maxValue+1 {
		t.Errorf("a value of %d bytes", len(line))
	}
}

// FuzzFormat compiles what may be in a file, and renders what compiles.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{DefaultText, "%REQ(a?b):3%%%", "%CEL(f(')%'))%", "%START_TIME(%", "%A(", "%:1%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if format, err := CompileText(s); err == nil {
			format.Append(nil, &Entry{Record: &telemetry.Record{}})
		}
		quoted, err := json.Marshal(map[string]string{"k": strings.ToValidUTF8(s, "")})
		if err != nil {
			t.Fatal(err)
		}
		format, err := CompileJSON(quoted)
		if err != nil {
			return
		}
		if line := format.Append(nil, &Entry{Record: &telemetry.Record{}}); !json.Valid(line) {
			t.Errorf("%q is rendered %q", s, line)
		}
	})
}

// TestOutcomes checks flags and details against the faults of the gateway.
func TestOutcomes(t *testing.T) {
	for _, tc := range []struct {
		name, flags, details string
		change               func(*Entry)
	}{
		{"well", "", "via_upstream", func(*Entry) {}},
		{"the upstream's own error", "", "via_upstream", func(e *Entry) { e.Status = 500 }},
		{"a direct response", "", "direct_response", func(e *Entry) { e.Direct = true }},
		{"a health check", "", "health_check_ok", func(e *Entry) { e.HealthCheck = true }},
		{"no route", "NR", "route_not_found", func(e *Entry) { e.Route, e.ErrorType = "", fault.NotFound.String() }},
		{"denied", "", "rbac_access_denied", func(e *Entry) { e.ErrorType, e.Err = fault.Denied.String(), errors.New("authorization failed") }},
		{"denied by a service", "UAEX", "ext_authz_denied", func(e *Entry) {
			e.ErrorType, e.Err = fault.Denied.String(), errors.New("external authorization failed")
		}},
		{"a service that is not there", "UAEX", "ext_authz_error", func(e *Entry) {
			e.ErrorType, e.Err = fault.Overloaded.String(), errors.New("external authorization is not available: refused")
		}},
		{"limited", "RL", "request_rate_limited", func(e *Entry) { e.ErrorType = fault.RateLimited.String() }},
		{"no endpoint", "UH", "no_healthy_upstream", func(e *Entry) { e.ErrorType, e.UpstreamHost = fault.UpstreamUnreachable.String(), "" }},
		{"not connected", "UF", "upstream_reset_before_response_started{connection_failure}", func(e *Entry) { e.ErrorType = fault.UpstreamUnreachable.String() }},
		{"not connected, again", "UF,URX", "upstream_reset_before_response_started{connection_failure}", func(e *Entry) { e.ErrorType, e.Status, e.Retries = fault.UpstreamUnreachable.String(), 503, 2 }},
		{"late", "UT", "response_timeout", func(e *Entry) { e.ErrorType = fault.UpstreamTimeout.String() }},
		{"broken", "UC", "upstream_reset_after_response_started", func(e *Entry) { e.ErrorType = fault.UpstreamFailed.String() }},
		{"broken before", "UC", "upstream_reset_before_response_started", func(e *Entry) { e.ErrorType, e.Status = fault.UpstreamFailed.String(), 502 }},
		{"the client went", "DC", "downstream_remote_disconnect", func(e *Entry) { e.ErrorType = fault.ClientGone.String() }},
		{"malformed", "DPE", "bad_request", func(e *Entry) { e.ErrorType = fault.BadRequest.String() }},
		{"a slow client", "SI", "request_timeout", func(e *Entry) { e.ErrorType = fault.RequestTimeout.String() }},
		{"overloaded", "OM", "overloaded", func(e *Entry) { e.ErrorType = fault.Overloaded.String() }},
	} {
		e := full()
		tc.change(e)
		flags, _ := flagNames(e, func(f flag) string { return f.short })
		if flags != tc.flags || e.details() != tc.details {
			t.Errorf("%s: %q %q, want %q %q", tc.name, flags, e.details(), tc.flags, tc.details)
		}
	}
}

func TestFilters(t *testing.T) {
	cel := func(s string) Filter {
		v, err := policy.CompileValue(s, true)
		if err != nil {
			t.Fatal(err)
		}
		return Condition(v)
	}
	flagged := full()
	flagged.ErrorType, flagged.Status, flagged.HealthCheck, flagged.Header = fault.UpstreamTimeout.String(), 504, true, nil
	for _, tc := range []struct {
		name         string
		f            Filter
		well, failed bool
	}{
		{"EQ", Status(EQ(200)), true, false},
		{"GE", Status(GE(500)), false, true},
		{"LE", Status(LE(200)), true, false},
		{"duration", Took(GE(1500)), true, true},
		{"longer", Took(GE(1501)), false, false},
		{"health checks", NotHealthCheck(), true, false},
		{"traced", Traced(), false, false},
		{"header", RequestHeader("X-Long", func(v string) bool { return v == "abcdefgh" }), true, true},
		{"no header", RequestHeader("X-None", func(string) bool { return true }), false, false},
		{"flag", Flagged([]string{"NR", "UT"}), false, true},
		{"gRPC", GRPCStatus([]string{"UNAVAILABLE"}, false), true, true},
		{"gRPC excluded", GRPCStatus([]string{"UNAVAILABLE"}, true), false, false},
		{"CEL", cel("response.code >= 400 && request.method == 'POST'"), false, true},
		{"CEL that fails", cel("request.headers['none'] == 'x'"), false, false},
		{"and", All([]Filter{Status(GE(500)), NotHealthCheck()}), false, false},
		{"or", Any([]Filter{Status(GE(500)), NotHealthCheck()}), true, true},
	} {
		if got := [2]bool{tc.f(full()), tc.f(flagged)}; got != [2]bool{tc.well, tc.failed} {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if _, err := policy.CompileValue("response.code", true); err == nil {
		t.Error("a number is a condition")
	}
	if _, err := policy.CompileExpression("response.code == 200"); err == nil {
		t.Error("access rules speak of the answer")
	}
}
