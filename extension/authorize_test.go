package extension

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// asked returns a question about a request with these headers.
func asked(header http.Header) *Question {
	r := httptest.NewRequest(http.MethodPost, "http://shop.test/a%20b?q=1", http.NoBody)
	r.Header, r.ContentLength = header, 3
	return &Question{
		HTTP: r, Scheme: "https", Source: netip.MustParseAddrPort("10.0.0.9:999"), Destination: netip.MustParseAddrPort("10.0.0.1:443"),
		ID: "id", Time: time.Unix(100, 5).UTC(), Context: map[string]string{"k": "v"},
	}
}

// What the service is asked is what Envoy asks.
func TestCheckRequest(t *testing.T) {
	header := http.Header{"Authorization": {"Bearer t"}, "X-Two": {"a", "b"}, "Cookie": {"c=1", "d=2"}, "X-Bad": {"a\xff"}}
	whole := `"source":{"address":{"socketAddress":{"address":"10.0.0.9","portValue":999}}},"destination":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":443}}},"contextExtensions":{"k":"v"},`
	rest := `"id":"id","method":"POST","path":"/a%20b?q=1","host":"shop.test","scheme":"https","size":"3","protocol":"HTTP/1.1"`
	for _, c := range []struct {
		name    string
		service GRPCAuthorizer
		change  func(*Question)
		want    string
	}{
		{"all headers", GRPCAuthorizer{}, func(*Question) {}, whole + `"metadataContext":{},"request":{"time":"1970-01-01T00:01:40.000000005Z","http":{` + rest +
			`,"headers":{":authority":"shop.test",":method":"POST",":path":"/a%20b?q=1",":scheme":"https","authorization":"Bearer t","cookie":"c=1; d=2","x-two":"a,b","x-bad":"a!"}}}`},
		{"a credential for the gateway", GRPCAuthorizer{}, func(q *Question) { q.Hidden = []string{"Authorization"} }, whole + `"metadataContext":{},"request":{"time":"1970-01-01T00:01:40.000000005Z","http":{` + rest +
			`,"headers":{":authority":"shop.test",":method":"POST",":path":"/a%20b?q=1",":scheme":"https","cookie":"c=1; d=2","x-two":"a,b","x-bad":"a!"}}}`},
		{"some headers, a hidden one by name", GRPCAuthorizer{forward: []string{"Authorization", "X-None"}}, func(q *Question) { q.Hidden = []string{"Authorization"} },
			whole + `"metadataContext":{},"request":{"time":"1970-01-01T00:01:40.000000005Z","http":{` + rest + `,"headers":{"authorization":"Bearer t"}}}`},
		{"a body as text, and claims", GRPCAuthorizer{forward: []string{"X-None"}}, func(q *Question) { q.Body, q.Claims = []byte("ab\xff"), []byte(`{"sub":"u"}`) },
			whole + `"metadataContext":{"filterMetadata":{"envoy.filters.http.jwt_authn":{"payload":{"sub":"u"}}}},"request":{"time":"1970-01-01T00:01:40.000000005Z","http":{` + rest + `,"body":"ab!","headers":{"x-envoy-auth-partial-body":"false"}}}`},
		{"a part of a body as bytes", GRPCAuthorizer{forward: []string{"X-None"}, packAsBytes: true}, func(q *Question) { q.Body, q.Partial = []byte("ab"), true },
			whole + `"metadataContext":{},"request":{"time":"1970-01-01T00:01:40.000000005Z","http":{` + rest + `,"rawBody":"YWI=","headers":{"x-envoy-auth-partial-body":"true"}}}`},
	} {
		q := asked(header)
		c.change(q)
		b, err := protojson.Marshal(c.service.request(q).GetAttributes())
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := errors.Join(json.Unmarshal(b, &got), json.Unmarshal([]byte("{"+c.want+"}"), &want)); err != nil {
			t.Fatal(c.name, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: asked\n%s, want\n{%s}", c.name, b, c.want)
		}
	}
}

func option(name, value string, change func(*corev3.HeaderValueOption)) *corev3.HeaderValueOption {
	o := &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
	if change != nil {
		change(o)
	}
	return o
}

func ok(r *authv3.OkHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &statuspb.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: r}}
}

func denied(code typev3.StatusCode, body string, headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &statuspb.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: code}, Headers: headers, Body: body,
	}}}
}

// What the service answers changes what it may change, and nothing else; what can't be read as one thing does not allow.
func TestCheckResponse(t *testing.T) {
	long := strings.Repeat("a", maxChangeBytes)
	appending := func(o *corev3.HeaderValueOption) { o.Append = wrapperspb.Bool(true) } //nolint:staticcheck // services still say it
	action := func(a corev3.HeaderValueOption_HeaderAppendAction) func(*corev3.HeaderValueOption) {
		return func(o *corev3.HeaderValueOption) { o.AppendAction = a }
	}
	for _, c := range []struct {
		name   string
		answer *authv3.CheckResponse
		want   *Authorization // nil: it can't be used
	}{
		{"nothing more", &authv3.CheckResponse{}, &Authorization{Allowed: true}},
		{"refused without a form", &authv3.CheckResponse{Status: &statuspb.Status{Code: 16}}, &Authorization{}},
		{"contradicts itself", &authv3.CheckResponse{Status: &statuspb.Status{}, HttpResponse: denied(401, "").GetHttpResponse().(*authv3.CheckResponse_DeniedResponse)}, &Authorization{Status: 401, Header: http.Header{}, Body: []byte{}}},
		{"allowed, but not by its status", &authv3.CheckResponse{Status: &statuspb.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, &Authorization{}},
		{"a status that ends nothing", denied(100, ""), &Authorization{Status: 403, Header: http.Header{}, Body: []byte{}}},
		{"a refusal with headers", denied(429, "slow down", option("Retry-After", "3", nil), option("connection", "close", nil), option("x-mcpgw-a", "b", nil), option("X-Line", "a\r\nb", nil)),
			&Authorization{Status: 429, Header: http.Header{"Retry-After": {"3"}, "Content-Type": {"text/plain"}}, Body: []byte("slow down")}},
		{"changes", ok(&authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				option("x-set", "1", nil), option("x-more", "2", appending), option("x-absent", "3", action(corev3.HeaderValueOption_ADD_IF_ABSENT)), option("x-there", "4", action(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS)),
				option(":path", "/admin", nil), option("host", "other", nil), option("X-Mcpgw-Peer", "a", nil), option("x_mcpgw_peer", "a", nil), option("transfer-encoding", "chunked", nil),
			},
			HeadersToRemove: []string{"x-gone", "content-length"}, ResponseHeadersToAdd: []*corev3.HeaderValueOption{option("set-cookie", "a", nil)},
			QueryParametersToSet: []*corev3.QueryParameter{{Key: "q", Value: "2"}}, QueryParametersToRemove: []string{"r"},
		}), &Authorization{
			Allowed: true,
			Headers: []HeaderChange{{"X-Set", "1", Overwrite}, {"X-More", "2", Append}, {"X-Absent", "3", AddIfAbsent}, {"X-There", "4", OverwriteIfPresent}, {"X-Gone", "", Remove}},
			Query:   []QueryChange{{Key: "q", Value: "2"}, {Key: "r", Remove: true}}, Response: []HeaderChange{{"Set-Cookie", "a", Append}},
		}},
		{"metadata", &authv3.CheckResponse{DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewBoolValue(true)}}}, &Authorization{Allowed: true, Metadata: map[string]any{"a": true}}},
		{"a header over two lines", ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("x-a", "a\r\nx-b: c", nil)}}), nil},
		{"a header name that is none", ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("x a", "a", nil)}}), nil},
		{"too much", ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("x-a", long, nil)}}), nil},
		{"as much as there may be", ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("x-a", long[3:], nil)}}), &Authorization{Allowed: true, Headers: []HeaderChange{{"X-A", long[3:], Overwrite}}}},
	} {
		got, err := read(c.answer)
		switch {
		case (c.want == nil) != (err != nil):
			t.Errorf("%s: %v", c.name, err)
		case c.want == nil:
			if !errors.Is(err, errWrong) {
				t.Errorf("%s: %v", c.name, err)
			}
		case !reflect.DeepEqual(got, c.want):
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestHeaderChanges(t *testing.T) {
	for _, c := range []struct {
		change    HeaderChange
		none, two []string // what becomes of a header that is not there, and of one with two values
	}{
		{HeaderChange{"X-A", "1", Append}, []string{"1"}, []string{"a", "b", "1"}},
		{HeaderChange{"X-A", "1", AddIfAbsent}, []string{"1"}, []string{"a", "b"}},
		{HeaderChange{"X-A", "1", Overwrite}, []string{"1"}, []string{"1"}},
		{HeaderChange{"X-A", "1", OverwriteIfPresent}, nil, []string{"1"}},
		{HeaderChange{"X-A", "", Remove}, nil, nil},
	} {
		none, two := http.Header{}, http.Header{"X-A": {"a", "b"}}
		c.change.ApplyTo(none)
		c.change.ApplyTo(two)
		if !reflect.DeepEqual(none["X-A"], c.none) || !reflect.DeepEqual(two["X-A"], c.two) {
			t.Errorf("%v: %v and %v, want %v and %v", c.change, none["X-A"], two["X-A"], c.none, c.two)
		}
	}
}

func TestChangeQuery(t *testing.T) {
	for _, c := range []struct {
		raw     string
		changes []QueryChange
		want    string
	}{
		{"", []QueryChange{{Key: "a", Value: "b c&"}}, "a=b+c%26"},
		{"a=1&b=%zz&a=2&&c", []QueryChange{{Key: "a", Value: "3"}}, "b=%zz&c&a=3"},
		{"%61=1&b=2", []QueryChange{{Key: "a", Remove: true}}, "b=2"},
		{"b=2", nil, "b=2"},
	} {
		if got := ChangeQuery(c.raw, c.changes); got != c.want {
			t.Errorf("%q with %v is %q, want %q", c.raw, c.changes, got, c.want)
		}
	}
}

// What an HTTP service is sent can't be made to reach another path than the one under its prefix, and what it answers without
// knowing why is no permission.
func TestHTTPService(t *testing.T) {
	var status int
	var path string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.RequestURI
		w.WriteHeader(status)
	}))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	a := NewHTTPAuthorizer(HTTPAuthorizer{PathPrefix: "/check", RoundTripper: roundTripper(func(r *http.Request) (*http.Response, error) {
		r.URL.Host = u.Host
		return tr.RoundTrip(r)
	})})
	for _, c := range []struct {
		status  int
		allowed bool
		fails   bool
	}{{200, true, false}, {204, false, false}, {302, false, false}, {403, false, false}, {500, false, true}, {503, false, true}} {
		status = c.status
		got, err := a.Authorize(t.Context(), asked(http.Header{}))
		if (err != nil) != c.fails || err == nil && (got.Allowed != c.allowed || !c.allowed && got.Status != c.status) {
			t.Errorf("%d: %+v, %v", c.status, got, err)
		}
		if path != "/check/a%20b?q=1" {
			t.Errorf("asked for %s", path)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Authorize(ctx, asked(http.Header{})); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits for it: %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
