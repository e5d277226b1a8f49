package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// A flaky server fails the first requests as its steps say (a status, "cut", or "stall"), and passes the others on. It
// notes which retries there were.
type flaky struct {
	steps []string
	next  http.Handler
	of    func(*http.Request) bool // requests that count; nil is all

	mu  sync.Mutex
	got []string
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.of != nil && !f.of(r) {
		f.next.ServeHTTP(w, r)
		return
	}
	f.mu.Lock()
	step := ""
	if len(f.got) < len(f.steps) {
		step = f.steps[len(f.got)]
	}
	f.got = append(f.got, r.Header.Get("X-Retry-Attempt"))
	f.mu.Unlock()
	switch step {
	case "":
		f.next.ServeHTTP(w, r)
	case "cut":
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	case "stall":
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	default:
		var status int
		_, _ = fmt.Sscan(step, &status)
		w.WriteHeader(status)
	}
}

func (f *flaky) tries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

var echoing = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s", r.Host, body)
})

// TestRetry is about what is tried again, by a policy and by a rule, which wins over it.
func TestRetry(t *testing.T) {
	policy := func(spec string) string { return webPolicyOn("p", "HTTPRoute", "r", "", spec) }
	for _, tc := range []struct {
		name, rule, policy string
		steps              []string
		status, retries    int
	}{
		{"nothing is said", "", "", []string{"503"}, 503, 0},
		{"a policy, of conditions", "", "retry: {retryOn: [5xx], attempts: 2}", []string{"500", "cut"}, 200, 2},
		{"once, by default", "", "retry: {retryOn: [gateway-error]}", []string{"502", "503", "504"}, 503, 1},
		{"a condition that does not hold", "", "retry: {retryOn: [gateway-error]}", []string{"500"}, 500, 0},
		{"a policy, of codes", "", "retry: {statusCodes: [429], backoffBaseInterval: 1ms}", []string{"429"}, 200, 1},
		{"a policy, of connections alone", "", "retry: {}", []string{"cut"}, 502, 0},
		{"a conflict", "", "retry: {retryOn: [retriable-4xx]}", []string{"409"}, 200, 1},
		{"never", "", "retry: {retryOn: [5xx], attempts: 0}", []string{"503"}, 503, 0},
		{"a try that takes too long", "", "retry: {retryOn: [reset], perTryTimeout: 1s}", []string{"stall"}, 200, 1},
		{"a rule", "retry: {codes: [503], attempts: 2, backoff: 1ms}", "", []string{"503", "503"}, 200, 2},
		{"a rule, of connections", "retry: {backoff: 1ms}", "", []string{"cut"}, 200, 1},
		{"a rule wins", "retry: {codes: [503]}", "retry: {retryOn: [5xx], attempts: 9}", []string{"500"}, 500, 0},
		{"a rule's time of a try", "retry: {attempts: 1, backoff: 1ms}\ntimeouts: {backendRequest: 1s}", "", []string{"stall"}, 200, 1},
		{"a rule's time of a try, alone", "timeouts: {backendRequest: 50ms}", "", []string{"stall"}, 504, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &flaky{steps: tc.steps, next: echoing}
			text := static("a", serveUpstream(t, f.ServeHTTP)) + route("r", "backendRefs: ["+to("a")+"]\n"+tc.rule)
			if tc.policy != "" {
				text += policy(tc.policy)
			}
			g := start(t, text)
			got := g.do("POST", g.url("8080", "/"), io.MultiReader(strings.NewReader("hello")))
			if got.Status != tc.status || got.Status == 200 && !strings.HasSuffix(got.Body, " hello") {
				t.Errorf("answer %d %q, want %d", got.Status, got.Body, tc.status)
			}
			want := []string{""}
			for n := range tc.retries {
				want = append(want, fmt.Sprint(n+1))
			}
			if diff := cmp.Diff(want, f.tries()); diff != "" {
				t.Errorf("tries, by X-Retry-Attempt (-want +got):\n%s", diff)
			}
			rec := g.ended(1)[0]
			if rec.Retries != tc.retries || rec.Attempts != tc.retries+1 {
				t.Errorf("the record has %d attempts and %d retries, want %d retries", rec.Attempts, rec.Retries, tc.retries)
			}
		})
	}
}

// TestRetryTimeout is about a request whose time is up while another try is waited for.
func TestRetryTimeout(t *testing.T) {
	f := &flaky{steps: []string{"503"}, next: echoing}
	g := start(t, static("a", serveUpstream(t, f.ServeHTTP))+route("r", "backendRefs: ["+to("a")+"]\nretry: {codes: [503], backoff: 1h}\ntimeouts: {request: 500ms}"))
	if got := g.get("/"); got.Status != 504 || len(f.tries()) != 1 {
		t.Errorf("answer %d after %d tries, want 504 after one", got.Status, len(f.tries()))
	}
}

// TestRetryProblems is about retries that can't be, or that can't happen.
func TestRetryProblems(t *testing.T) {
	base := static("a", "{host: a.example, port: 80}")
	for rule, want := range map[string]string{
		"retry: {attempts: 0}": "spec.rules[0].retry.attempts: a request is tried again at least once, not 0 times",
	} {
		_, report := Compile(load(t, base+route("r", "backendRefs: ["+to("a")+"]\n"+rule)), nil)
		if !hasProblem(report, config.Invalid, want) {
			t.Errorf("%s: %+v, want %s", rule, report.Problems, want)
		}
	}
	for spec, want := range map[string]string{
		"retry: {retryOn: [5xx, http3-post-connect-failure]}": "spec.retry.retryOn[1]: http3-post-connect-failure never happens: upstreams are not spoken to in HTTP/3",
		"retry: {retryOn: [retriable-status-codes]}":          "spec.retry.retryOn[0]: retriable-status-codes means what statusCodes lists, and it lists nothing",
	} {
		_, report := Compile(load(t, base+route("r", "backendRefs: ["+to("a")+"]")+webPolicyOn("p", "HTTPRoute", "r", "", spec)), nil)
		if !hasProblem(report, config.Warning, want) {
			t.Errorf("%s: %+v, want %s", spec, report.Problems, want)
		}
	}
}

func hasProblem(r *config.Report, class config.Class, text string) bool {
	return slices.ContainsFunc(r.Problems, func(p config.Problem) bool { return p.Class == class && p.Path+": "+p.Message == text })
}

// TestRetryMCP is about tool calls, which are executed at most once whatever a policy says.
func TestRetryMCP(t *testing.T) {
	for _, step := range []string{"cut", "503"} {
		for _, modern := range []bool{false, true} {
			for _, version := range eras {
				t.Run(fmt.Sprint(step, "/", version, "/", modern), func(t *testing.T) {
					s := mcp.NewServer(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
					mcp.AddTool(s, &mcp.Tool{Name: "pay"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
						return &mcp.CallToolResult{}, nil, nil
					})
					f := &flaky{
						steps: []string{step},
						next:  mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: modern}),
						of: func(r *http.Request) bool {
							body, _ := io.ReadAll(r.Body)
							r.Body = io.NopCloser(bytes.NewReader(body))
							return bytes.Contains(body, []byte(`"tools/call"`))
						},
					}
					t.Cleanup(func() {
						for session := range s.Sessions() {
							_ = session.Close() // those whose client said nothing at the end
						}
					})
					server := httptest.NewServer(f)
					t.Cleanup(server.Close)
					host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
					g := start(t, fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: tools}
spec: {type: MCP, mcp: {targets: [{name: bank, static: {host: %s, port: %s, path: /}}]}}
`, host, port)+route("r", "backendRefs: ["+to("tools")+"]")+
						webPolicyOn("p", "HTTPRoute", "r", "", "retry: {retryOn: [5xx, reset, connect-failure], attempts: 5, backoffBaseInterval: 1ms}"))
					cs := g.connect(t, "/", version, nil)
					if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "bank_pay"}); err == nil {
						t.Error("a call of which nobody knows whether it was executed succeeded")
					}
					if got := f.tries(); len(got) != 1 {
						t.Errorf("the call was sent %d times", len(got))
					}
					if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "bank_pay"}); err != nil {
						t.Errorf("the next call: %v", err)
					}
				})
			}
		}
	}
}

// TestRetryLLM is about retries within the attempt at a provider: for the provider's health, and for which one is asked
// next, they are one.
func TestRetryLLM(t *testing.T) {
	for _, tc := range []struct {
		name          string
		first         []string // what the first provider does
		tries         [2]int   // at each provider
		attempts      int
		providerNamed string
	}{
		{"it helps", []string{"503", "cut"}, [2]int{3, 0}, 3, "p1"},
		{"it does not", []string{"503", "503", "503"}, [2]int{3, 1}, 4, "p2"},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, "/", stream), func(t *testing.T) {
				var asked []*flaky
				var providers []string
				for _, steps := range [][]string{tc.first, nil} {
					f := &flaky{steps: steps, next: &openAIServer{}}
					server := httptest.NewServer(f)
					t.Cleanup(server.Close)
					host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
					asked, providers = append(asked, f), append(providers, llmtest.Provider(llmtest.OpenAI, host, port, ""))
				}
				g := start(t, llmtest.Backend("m", providers...)+route("r", "backendRefs: ["+to("m")+"]")+
					webPolicyOn("p", "HTTPRoute", "r", "", "retry: {retryOn: [5xx], attempts: 2, backoffBaseInterval: 1ms}"))
				got := g.do("POST", g.url("8080", "/v1/chat/completions"), bytes.NewReader(llmtest.Chat.Request("hello", stream)))
				if got.Status != 200 || !strings.Contains(got.Body, "hello") {
					t.Errorf("answer %d %s", got.Status, got.Body)
				}
				if tries := [2]int{len(asked[0].tries()), len(asked[1].tries())}; tries != tc.tries {
					t.Errorf("%v tries at the providers, want %v", tries, tc.tries)
				}
				if rec := g.ended(1)[0]; rec.Attempts != tc.attempts || rec.Retries != 2 || rec.LLM.Name != tc.providerNamed {
					t.Errorf("the record has %d attempts, %d retries and provider %s", rec.Attempts, rec.Retries, rec.LLM.Name)
				}
			})
		}
	}
}

// TestAutoHost is about the Host that services get.
func TestAutoHost(t *testing.T) {
	_, port, _ := strings.Cut(strings.Trim(serveUpstream(t, echoing.ServeHTTP), "{}"), "port: ")
	rules := "backendRefs: [" + to("a") + "]"
	policy := webPolicyOn("p", "HTTPRoute", "r", "", "autoHostRewrite: true")
	a := static("a", "{host: localhost, port: "+port+"}")
	for _, tc := range []struct{ name, text, want string }{
		{"not asked for", a + route("r", rules), "client.example"},
		{"asked for", a + route("r", rules) + policy, "localhost"},
		{"switched off", a + route("r", rules) + webPolicyOn("p", "HTTPRoute", "r", "", "autoHostRewrite: false"), "client.example"},
		{"an address has no name", static("a", "{host: 127.0.0.1, port: "+port+"}") + route("r", rules) + policy, "client.example"},
		{"a filter wins", a + route("r", "filters: [{type: URLRewrite, urlRewrite: {hostname: filter.example}}]\n"+rules) + policy, "filter.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := start(t, tc.text)
			if got := g.get("/", "Host", "client.example"); strings.TrimSpace(got.Body) != tc.want {
				t.Errorf("the Host is %q, want %s", got.Body, tc.want)
			}
		})
	}
}
