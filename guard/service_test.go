package guard

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
)

// A service answers what it is told, and keeps what it got.
type service struct {
	*httptest.Server
	status int
	reply  string
	path   string
	header http.Header
	body   string
}

func newService(t *testing.T, reply string) *service {
	s := &service{status: 200, reply: reply}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.path, s.header, s.body = r.URL.Path, r.Header, string(b)
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.reply)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) host() string { return strings.TrimPrefix(s.URL, "http://") }

// plain sends to a test server whatever the scheme is.
type plain struct{ host string }

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL = &url.URL{Scheme: "http", Host: p.host, Path: r.URL.Path}
	return http.DefaultTransport.RoundTrip(r)
}

func TestWebhook(t *testing.T) {
	exact := HeaderMatch{Name: "X-Team", Value: "red"}
	pattern, err := NewHeaderPattern("x-user", "a|bc")
	if err != nil {
		t.Fatal(err)
	}
	in := []Message{{"system", "be kind"}, {"user", "bob@example.com"}}
	header := http.Header{"X-Team": {"red", "blue"}, "X-User": {"bc"}, "Authorization": {"Bearer k"}}
	for _, tt := range []struct {
		name, reply string
		status      int
		want        []Message
		rejected    *Rejection
		fails       bool
	}{
		{name: "passes", reply: `{"action":{"reason":"fine"}}`, want: in},
		{name: "masks", reply: `{"action":{"body":{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"X"}]},"reason":"r"}}`, want: []Message{{"system", "be kind"}, {"user", "X"}}},
		{name: "rejects", reply: `{"action":{"body":"no","status_code":451,"reason":"r"}}`, rejected: &Rejection{Status: 451, Message: "no", By: "webhook"}},
		{name: "loses a message", reply: `{"action":{"body":{"messages":[]}}}`, fails: true},
		{name: "has no action", reply: `{}`, fails: true},
		{name: "has no status", reply: `{"action":{"body":"no"}}`, fails: true},
		{name: "has a strange body", reply: `{"action":{"body":[1]}}`, fails: true},
		{name: "is no JSON", reply: `ok`, fails: true},
		{name: "is an error", reply: `{"action":{}}`, status: 500, fails: true},
		{name: "leads elsewhere", reply: `{"action":{}}`, status: 302, fails: true},
	} {
		s := newService(t, tt.reply)
		if tt.status != 0 {
			s.status = tt.status
		}
		p := Prompt{Webhook: &Webhook{RoundTripper: http.DefaultTransport, Host: s.host(), Forward: []HeaderMatch{exact, pattern}}}
		got, err := p.Check(context.Background(), header, in)
		var no *Rejection
		switch {
		case tt.fails:
			if fault.Of(err).Code != fault.UpstreamUnreachable {
				t.Errorf("an answer that %s: %v", tt.name, err)
			}
		case tt.rejected != nil:
			if !errors.As(err, &no) || *no != *tt.rejected {
				t.Errorf("an answer that %s: %v", tt.name, err)
			}
		default:
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Errorf("an answer that %s: %v %s", tt.name, err, d)
			}
		}
		if want := `{"body":{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"bob@example.com"}]}}`; s.body != want || s.path != "/request" {
			t.Errorf("the service got %s %s", s.path, s.body)
		}
		if d := cmp.Diff([]string{"red"}, s.header["X-Team"]); d != "" {
			t.Error(d)
		}
		if s.header.Get("X-User") != "bc" || s.header["Authorization"] != nil {
			t.Errorf("the service got %v", s.header)
		}
	}
	if pattern.matches("bcd") || pattern.matches("xa") || !pattern.matches("a") {
		t.Error("a pattern has to match the whole value")
	}
}

func TestWebhookAnswers(t *testing.T) {
	s := newService(t, `{"action":{"body":{"choices":[{"message":{"role":"assistant","content":"X"}}]}}}`)
	a := Answer{Webhook: &Webhook{RoundTripper: http.DefaultTransport, Host: s.host()}}
	got, err := a.Ask(context.Background(), nil, []Message{{"assistant", "secret"}})
	if d := cmp.Diff([]Message{{"assistant", "X"}}, got); d != "" || err != nil {
		t.Error(err, d)
	}
	if want := `{"body":{"choices":[{"message":{"role":"assistant","content":"secret"}}]}}`; s.body != want || s.path != "/response" {
		t.Errorf("the service got %s %s", s.path, s.body)
	}
	s.Close()
	if _, err := a.Ask(context.Background(), nil, []Message{{"assistant", "secret"}}); fault.Of(err).Code != fault.UpstreamUnreachable {
		t.Errorf("without the service: %v", err)
	}
}

// What is masked is not shown to the moderation.
func TestOrderOfServices(t *testing.T) {
	hook := newService(t, `{"action":{"body":{"messages":[{"role":"user","content":"bob@example.com"},{"role":"user","content":""}]}}}`)
	mod := newService(t, `{"results":[{"flagged":true}]}`)
	p := Prompt{
		Webhook:    &Webhook{RoundTripper: http.DefaultTransport, Host: hook.host()},
		Regex:      regexOf(t, nil, Email),
		Moderation: &Moderation{RoundTripper: plain{mod.host()}, Host: "api.openai.com", Token: secret.New("k")},
		Rejection:  Rejection{Status: 403, Message: "no"},
	}
	_, err := p.Check(context.Background(), nil, []Message{{"user", "a"}, {"user", "b"}})
	var no *Rejection
	if !errors.As(err, &no) || *no != (Rejection{403, "no", "moderation"}) {
		t.Errorf("flagged: %v", err)
	}
	var got struct {
		Input []string `json:"input"`
		Model string   `json:"model"`
	}
	if err := json.Unmarshal([]byte(mod.body), &got); err != nil || mod.path != "/v1/moderations" || mod.header.Get("Authorization") != "Bearer k" {
		t.Errorf("the moderation got %s %v %v", mod.path, mod.header, err)
	}
	if d := cmp.Diff([]string{"<EMAIL_ADDRESS>"}, got.Input); d != "" || got.Model != "omni-moderation-latest" {
		t.Error(got, d)
	}
	mod.reply = `{"results":[{"flagged":false}]}`
	if out, err := p.Check(context.Background(), nil, []Message{{"user", "a"}, {"user", "b"}}); err != nil || out[0].Text != "<EMAIL_ADDRESS>" {
		t.Errorf("not flagged: %v %v", out, err)
	}
	mod.reply = `{"results":[]}`
	if _, err := p.Check(context.Background(), nil, []Message{{"user", "a"}, {"user", "b"}}); fault.Of(err).Code != fault.UpstreamUnreachable {
		t.Errorf("without results: %v", err)
	}
}
