package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// A shadow is a server that gets copies of requests.
type shadow struct {
	host, port string
	got        chan string
}

func newShadow(t *testing.T) *shadow {
	t.Helper()
	s := &shadow{got: make(chan string, 100)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
		s.got <- fmt.Sprintf("%s %s%s a=%s auth=%s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-A"), r.Header.Get("Authorization"), body)
	}))
	t.Cleanup(server.Close)
	s.host, s.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	return s
}

// service returns a Service that leads to the shadow.
func (s *shadow) service(name string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {type: ExternalName, externalName: "%[2]s", ports: [{port: %[3]s}]}
`, name, s.host, s.port)
}

func (s *shadow) next(t *testing.T) string {
	t.Helper()
	select {
	case got := <-s.got:
		return got
	case <-t.Context().Done():
		return ""
	}
}

// TestMirror is about copies for Services and Backends, of rules and of references, of whatever the rule leads to.
func TestMirror(t *testing.T) {
	one, two, three := newShadow(t), newShadow(t), newShadow(t)
	model := newOpenAIServer(t)
	tools := newMCPServer(t, "/mcp", false, "echo")
	mirror := func(ref string) string {
		return "{type: RequestMirror, requestMirror: {backendRef: " + ref + "}}"
	}
	first, second := mirror("{name: one, port: "+one.port+"}"), mirror("{name: two, group: gateway.kgateway.dev, kind: Backend}")
	g := start(t, model.provider("openai: {authToken: {kind: Inline, inline: k}}")+
		static("a", serveUpstream(t, echoing.ServeHTTP))+one.service("one")+three.service("three")+static("two", fmt.Sprintf("{host: %q, port: %s}", two.host, two.port))+fmt.Sprintf(`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec: {type: MCP, mcp: {targets: [{name: t, static: {host: %s, port: %s, path: /mcp}}]}}
`, tools.host, tools.port)+
		route("web", "matches: [{path: {value: /web}}]\nfilters: ["+first+", "+second+`, {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: "1"}]}}, {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]`+
			"\nbackendRefs: [{name: a, group: gateway.kgateway.dev, kind: Backend, filters: ["+mirror("{name: three, port: "+three.port+"}")+"]}]")+
		route("model", "matches: [{path: {value: /v1}}]\nfilters: ["+first+"]\nbackendRefs: ["+to("model")+"]")+
		route("tools", "matches: [{path: {value: /tools}}]\nfilters: ["+first+"]\nbackendRefs: ["+to("tools")+"]")+
		route("none", "matches: [{path: {value: /none}}]\nfilters: [{type: RequestMirror, requestMirror: {percent: 0, backendRef: {name: one, port: "+one.port+"}}}]\nbackendRefs: ["+to("a")+"]")+`
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {someone: secret-key-of-someone}
`+webPolicyOn("auth", "HTTPRoute", "web", "", "apiKeyAuthentication: {secretRef: {name: keys}}"))

	got := g.do("POST", g.url("8080", "/web/x?q=1"), io.MultiReader(strings.NewReader("hello")), "Host", "host.example", "Authorization", "Bearer secret-key-of-someone")
	if got.Status != 200 || got.Body != "host.example hello" {
		t.Errorf("answer %d %s", got.Status, got.Body)
	}
	for i, s := range []*shadow{one, two, three} {
		if diff := cmp.Diff("POST host.example/new/x?q=1 a=1 auth= hello", s.next(t)); diff != "" {
			t.Errorf("copy %d (-want +got):\n%s", i, diff)
		}
	}

	body := string(llmtest.Chat.Request("hello", true))
	if got = g.do("POST", g.url("8080", "/v1/chat/completions"), bytes.NewReader([]byte(body)), "Host", "localhost"); got.Status != 200 || !strings.Contains(got.Body, "[DONE]") {
		t.Errorf("answer %d %s", got.Status, got.Body)
	}
	if got := one.next(t); got != "POST localhost/v1/chat/completions a= auth= "+body {
		t.Errorf("the copy of a request to a model is %s", got)
	}

	if got := g.do("GET", g.url("8080", "/none"), nil); got.Status != 200 {
		t.Errorf("answer %d", got.Status)
	}
	cs := g.connect(t, "/tools", "2025-11-25", nil)
	if got := call(t, cs, "t_echo", nil); got != "echo" {
		t.Errorf("the tool says %s", got)
	}
	seen := ""
	for !strings.Contains(seen, `"tools/call"`) {
		if seen = one.next(t); seen == "" || strings.Contains(seen, "/none") {
			t.Fatalf("of a session there is a copy of %q", seen)
		}
	}
	if n := len(tools.called()); n != 1 {
		t.Errorf("the tool was called %d times", n)
	}
}

// TestMirrorGone is about mirrors that can't be: the requests are served without.
func TestMirrorGone(t *testing.T) {
	model := newOpenAIServer(t)
	for ref, want := range map[string]struct {
		class config.Class
		text  string
	}{
		"backendRef: {name: gone, port: 80}":                                                  {config.Unresolved, `spec.rules[0].filters[0].requestMirror.backendRef.name: Service "gone" is not there`},
		"backendRef: {name: model, group: gateway.kgateway.dev, kind: Backend}":               {config.Unresolved, "spec.rules[0].filters[0].requestMirror.backendRef: requests can't be copied to a Backend of type AI"},
		"backendRef: {name: a, namespace: other, group: gateway.kgateway.dev, kind: Backend}": {config.Unresolved, ""},
	} {
		t.Run(ref, func(t *testing.T) {
			text := model.provider("openai: {authToken: {kind: Inline, inline: k}}") + static("a", serveUpstream(t, echoing.ServeHTTP)) +
				route("r", "filters: [{type: RequestMirror, requestMirror: {"+ref+"}}]\nbackendRefs: ["+to("a")+"]")
			g := start(t, text)
			if got := g.get("/"); got.Status != 200 {
				t.Errorf("answer %d %s", got.Status, got.Body)
			}
			_, report := Compile(load(t, text), nil)
			if want.text == "" {
				if len(report.Problems) == 0 {
					t.Error("nothing is said")
				}
			} else if !hasProblem(report, want.class, want.text) {
				t.Errorf("%+v, want %s", report.Problems, want.text)
			}
		})
	}
}
