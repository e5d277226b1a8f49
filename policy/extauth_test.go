package policy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/extension"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/limit"
)

// A clerk answers what it is told, and keeps what it was asked.
type clerk struct {
	says  *extension.Authorization
	err   error
	asked []*extension.Question
}

func (c *clerk) Authorize(_ context.Context, q *extension.Question) (*extension.Authorization, error) {
	c.asked = append(c.asked, q)
	return c.says, c.err
}

// A consumer authenticates by a header, which is then for the gateway alone.
type consumer struct{ asked int }

func (c *consumer) Check(_ context.Context, req *Request) error {
	c.asked++
	if req.HTTP.Header.Get("Authorization") != "Bearer client" {
		return fault.New(fault.Unauthenticated, "no credential")
	}
	req.Consumed = append(req.Consumed, "Authorization")
	return nil
}

// permission is what changes a request in every way.
func permission() *extension.Authorization {
	return &extension.Authorization{
		Allowed:  true,
		Headers:  []extension.HeaderChange{{Name: "X-User", Value: "u", Action: extension.Overwrite}, {Name: "Authorization", Value: "Bearer inner", Action: extension.Overwrite}},
		Query:    []extension.QueryChange{{Key: "q", Remove: true}},
		Metadata: map[string]any{"team": "blue", "level": 3.0},
		Response: []extension.HeaderChange{{Name: "X-Seen", Value: "yes"}},
	}
}

func TestExtAuthChanges(t *testing.T) {
	who := &clerk{says: permission()}
	p := New(Options{
		Checks: []Check{&consumer{}, &ExtAuth{Authorizer: who, StatusOnError: 403}},
		Rules:  []RuleSet{allow(t, "extauthz.team == 'blue' && extauthz.level + 1 == 4 && metadata.filter_metadata['envoy.filters.http.ext_authz'].team == 'blue' && request.headers['x-user'] == 'u'")},
	})
	req := request("Authorization", "Bearer client", "X-User", "forged")
	accepted := req.HTTP
	ctx, err := p.Admit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got := req.HTTP.Header; got.Get("X-User") != "u" || got.Get("Authorization") != "Bearer inner" || len(req.Consumed) != 0 {
		t.Errorf("the request has %v, and %v of it is for the gateway", got, req.Consumed)
	}
	if got := req.HTTP.URL.RawQuery; got != "r=x" {
		t.Errorf("the query is %q", got)
	}
	if accepted.Header.Get("X-User") != "forged" || accepted.URL.RawQuery != "q=1&q=2&r=x" {
		t.Error("the request as it was accepted has changed")
	}
	if got := who.asked[0].Hidden; !cmp.Equal(got, []string{"Authorization"}) {
		t.Errorf("hidden from the service: %v", got)
	}
	answer := http.Header{}
	if req.ApplyResponse(answer); answer.Get("X-Seen") != "yes" {
		t.Errorf("the answer has %v", answer)
	}

	// Another replica authenticates the request as it was accepted, and does not ask.
	passed := request("Authorization", "Bearer client", "X-User", "forged")
	passed.Passed, passed.Carried = true, throughJSON(t, ChangesOf(ctx))
	if _, err := p.Admit(t.Context(), passed); err != nil {
		t.Fatalf("at another replica: %v", err)
	}
	if len(who.asked) != 1 || passed.HTTP.Header.Get("X-User") != "u" || passed.HTTP.Header.Get("Authorization") != "Bearer inner" || len(passed.Consumed) != 0 {
		t.Errorf("at another replica, asked %d times, the request has %v", len(who.asked), passed.HTTP.Header)
	}
}

func TestExtAuthReroute(t *testing.T) {
	who, auth, other := &clerk{says: permission()}, &consumer{}, &clerk{says: &extension.Authorization{Status: 401}}
	first := &ExtAuth{Authorizer: who, StatusOnError: 403, Reroute: true}
	req := request("Authorization", "Bearer client")
	denyAll := RuleSet{Source: "TrafficPolicy/ns/first", Action: Deny, Expressions: compile(t, "true")}
	if _, err := New(Options{Checks: []Check{auth, first}, Rules: []RuleSet{denyAll}}).Admit(t.Context(), req); err != ErrRerouted { //nolint:errorlint // as the gateway asks
		t.Fatalf("error %v, want that the route is chosen again", err)
	}
	ctx, err := New(Options{Checks: []Check{auth, first}}).Admit(t.Context(), req)
	if err != nil {
		t.Fatalf("on the route that it leads to: %v", err)
	}
	if len(who.asked) != 1 || auth.asked != 1 {
		t.Errorf("the service was asked %d times and the client authenticated %d times, want once", len(who.asked), auth.asked)
	}
	if _, err := New(Options{Checks: []Check{auth, first, &ExtAuth{Authorizer: other, StatusOnError: 403}}}).Admit(t.Context(), req); code(err) != "denied" {
		t.Errorf("a service of the other route only: %v, want denied", err)
	}

	passed := request("Authorization", "Bearer client")
	passed.Passed, passed.Carried = true, ChangesOf(ctx)
	p := New(Options{Checks: []Check{auth, first}})
	if _, err := p.Admit(t.Context(), passed); err != ErrRerouted { //nolint:errorlint // likewise
		t.Errorf("at another replica: %v, want that the route is chosen again", err)
	}
	if _, err := p.Admit(t.Context(), passed); err != nil {
		t.Errorf("at another replica, on the route that it leads to: %v", err)
	}
}

// What is attached to a Backend is asked once it is chosen, beside what admitted the request, and has no route be chosen again.
func TestBackendChecks(t *testing.T) {
	who, first := &clerk{says: permission()}, &clerk{says: permission()}
	limits := []Limiter{{Source: "TrafficPolicy/ns/own", Bucket: limit.NewBucket(1, 1, time.Hour)}}
	own := NewBackendRules(BackendInfo{Name: "ns/b", Type: "Static"}, Options{Checks: []Check{&ExtAuth{Authorizer: who, StatusOnError: 403, Reroute: true}}, Limiters: limits})
	p := New(Options{Checks: []Check{&ExtAuth{Authorizer: first, StatusOnError: 403}}})
	ask := func() (*Request, error) {
		req := request()
		ctx, err := p.Admit(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		ctx = WithBackend(ctx, own)
		if err := CheckBackend(ctx); err != nil {
			return req, err
		}
		return req, TakeBackend(ctx, "ns/b")
	}
	if req, err := ask(); err != nil || len(first.asked) != 1 || len(who.asked) != 1 || req.HTTP.Header.Get("X-User") != "u" {
		t.Errorf("error %v, the services were asked %d and %d times", err, len(first.asked), len(who.asked))
	}
	if _, err := ask(); code(err) != "rate_limited" {
		t.Errorf("a second request: %v, want that it is limited", err)
	}
	who.says = &extension.Authorization{Status: 401}
	if _, err := ask(); code(err) != "denied" {
		t.Errorf("error %v, want that the Backend's service denies", err)
	}
	if err := CheckBackend(t.Context()); err != nil {
		t.Errorf("without an admission: %v", err)
	}
}

func TestExtAuthFailure(t *testing.T) {
	gone := errors.New("nobody there")
	cases := []struct {
		name   string
		says   *extension.Authorization
		err    error
		open   bool
		code   string
		status int // of the answer that is written as it is; 0 without
	}{
		{"closed", nil, gone, false, "unverifiable", 503},
		{"open", nil, gone, true, "", 0},
		{"more metadata than is kept", &extension.Authorization{Allowed: true, Metadata: map[string]any{"a": strings.Repeat("a", 64<<10)}}, nil, false, "unverifiable", 503},
		{"denied with more metadata than is kept", &extension.Authorization{Status: 401, Metadata: map[string]any{"a": strings.Repeat("a", 64<<10)}}, nil, true, "denied", 401},
		{"denied while open", &extension.Authorization{Status: 401, Body: []byte("bad")}, nil, true, "denied", 401},
		{"denied without an answer", &extension.Authorization{}, nil, false, "denied", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := New(Options{Checks: []Check{&ExtAuth{Authorizer: &clerk{says: c.says, err: c.err}, FailOpen: c.open, StatusOnError: 503}}})
			_, err := p.Admit(t.Context(), request())
			if code(err) != c.code {
				t.Fatalf("error %v, want %q", err, c.code)
			}
			if err == nil {
				return
			}
			if a := fault.Of(err).Answer; (a != nil) != (c.status != 0) || a != nil && a.Status != c.status {
				t.Errorf("the answer is %+v, want status %d", a, c.status)
			}
		})
	}
	t.Run("the client is gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := New(Options{Checks: []Check{&ExtAuth{Authorizer: &clerk{err: context.Canceled}, FailOpen: true, StatusOnError: 503}}})
		if _, err := p.Admit(ctx, request()); code(err) != "client_gone" {
			t.Errorf("error %v, want that the client is gone", err)
		}
	})
}

func TestExtAuthBody(t *testing.T) {
	cases := []struct {
		name, body string
		chunked    bool
		partial    bool
		want       string
		cut        bool
		code       string
	}{
		{"at the limit", "12345678", false, false, "12345678", false, ""},
		{"over the limit", "123456789", false, false, "", false, "too_large"},
		{"over the limit, of unknown length", "123456789", true, false, "", false, "too_large"},
		{"cut", "123456789", true, true, "12345678", true, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			who := &clerk{says: &extension.Authorization{Allowed: true}}
			p := New(Options{Checks: []Check{&ExtAuth{Authorizer: who, StatusOnError: 403, MaxBody: 8, Partial: c.partial}}})
			req := request()
			req.HTTP.Body, req.HTTP.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
			if c.chunked {
				req.HTTP.ContentLength = -1
			}
			_, err := p.Admit(t.Context(), req)
			if code(err) != c.code {
				t.Fatalf("error %v, want %q", err, c.code)
			}
			if err != nil {
				if len(who.asked) != 0 {
					t.Error("the service was asked")
				}
				return
			}
			if q := who.asked[0]; string(q.Body) != c.want || q.Partial != c.cut {
				t.Errorf("the service got %q, cut %v", q.Body, q.Partial)
			}
			if rest, err := io.ReadAll(req.HTTP.Body); err != nil || string(rest) != c.body {
				t.Errorf("the backend gets %q, error %v", rest, err)
			}
		})
	}
}

// A request that a service has made of another is who it was asked to be, with what services tell of it, and nobody's until that is established.
func TestResend(t *testing.T) {
	accepted := httptest.NewRequest(http.MethodGet, "/a", http.NoBody)
	who := &clerk{says: permission()}
	first, second := New(Options{Checks: []Check{&consumer{}, &ExtAuth{Authorizer: who}}}), New(Options{Checks: []Check{&consumer{}}})
	req := &Request{HTTP: accepted, ID: "id", Time: time.Unix(1, 0), Host: "h", Client: Client{Principal: "ann", User: "ann"}}
	req.HTTP.Header.Set("Authorization", "Bearer client")
	if _, err := first.Admit(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	other := req.HTTP.Clone(t.Context())
	other.Method, other.URL.Path = http.MethodPost, "/b"
	other.Header["X-List"], other.Header["Authorization"] = []string{"1", "2"}, []string{"Bearer client"}
	req.Resend(other)
	if req.HTTP != other || req.ID != "id" || !req.Time.Equal(time.Unix(1, 0)) || req.Host != "h" || len(req.Metadata.All()) != 1 {
		t.Errorf("%+v", req)
	}
	if req.Principal != "anonymous" || req.User != "" || req.Consumed != nil || req.Response != nil {
		t.Errorf("it is %+v before it is asked who calls", req)
	}
	ctx, err := second.Admit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	last := req.HTTP.Clone(t.Context())
	last.Header.Del("X-Seen-By")
	last.Header.Set("X-Late", "yes")
	passed := &Request{HTTP: accepted, Passed: true, Carried: throughJSON(t, ChangesOf(WithIntercepted(ctx, last)))}
	if _, err := first.Admit(t.Context(), passed); err != ErrRerouted { //nolint:errorlint // as the gateway asks
		t.Fatalf("at another replica: %v, want that the route is chosen again", err)
	}
	if passed.Principal != "anonymous" || passed.Consumed != nil {
		t.Errorf("at another replica it is %+v before it is asked who calls", passed)
	}
	if _, err := second.Admit(t.Context(), passed); err != nil {
		t.Fatal(err)
	}
	if got := passed.HTTP; got.Method != http.MethodPost || got.URL.RequestURI() != "/b" || !cmp.Equal(got.Header, last.Header) || !cmp.Equal(passed.Metadata.All(), req.Metadata.All()) {
		t.Errorf("at another replica: %s %s %v, want %v", got.Method, got.URL, got.Header, last.Header)
	}
	if len(who.asked) != 1 {
		t.Errorf("the service was asked %d times", len(who.asked))
	}
}

// throughJSON returns c as another replica reads it.
func throughJSON(t *testing.T, c *Changes) *Changes {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out := new(Changes)
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	return out
}
