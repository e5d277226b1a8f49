package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A usageServer answers chat completions with a fixed usage, once it is let.
type usageServer struct {
	host  string
	asked atomic.Int64
	gate  chan struct{} // nil answers at once
	fail  atomic.Bool
}

func newUsageServer(t *testing.T, gate chan struct{}) *usageServer {
	t.Helper()
	s := &usageServer{gate: gate}
	s.host = serveUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.asked.Add(1)
		if s.gate != nil {
			<-s.gate
		}
		w.Header().Set("Content-Type", "application/json")
		if s.fail.Load() {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}`)
			return
		}
		if r.URL.Path == "/v1/embeddings" {
			_, _ = io.WriteString(w, `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":100,"total_tokens":100}}`)
			return
		}
		if strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-5","choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}]}`+"\n\n")
			if strings.Contains(string(body), "cut") {
				return
			}
			_, _ = io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-5","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
				`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-5","choices":[],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}`+"\n\ndata: [DONE]\n\n")
			return
		}
		_, _ = io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}`)
	})
	return s
}

func (s *usageServer) backend() string {
	host := strings.Trim(s.host, "{}")
	return "\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: model}\nspec: {type: AI, ai: {llm: {" + host + ", openai: {authToken: {kind: Inline, inline: k}}}}}\n" +
		route("llm", "matches: [{path: {value: /v1}}]\nbackendRefs: ["+to("model")+"]")
}

func budgets(text string) string {
	return authPolicy("money", gatewayRef("Gateway", "default", ""), "budgets:\n  limits:\n  "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "))
}

func chat(max int, more string) string {
	return fmt.Sprintf(`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"max_tokens":%d%s}`, max, more)
}

func (g *testGateway) chat(body string, header ...string) reply {
	g.t.Helper()
	return g.do("POST", g.url("8080", "/v1/chat/completions"), strings.NewReader(body), header...)
}

// Of 200 requests at once as many are admitted as the budget has room for by their estimates; what they did not
// use is given back.
func TestBudgetTogether(t *testing.T) {
	gate := make(chan struct{})
	s := newUsageServer(t, gate)
	// An estimate is 1,000 tokens of output, and a third of the body.
	body := chat(1000, "")
	estimate := (len(body)+2)/3 + 1000
	g := start(t, s.backend()+budgets(fmt.Sprintf("- {name: tokens, totalTokens: %d, window: Month}", 7*estimate+estimate/2)))
	var admitted, refused atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			switch got := g.chat(body); got.Status {
			case 200:
				admitted.Add(1)
			case 429:
				refused.Add(1)
			default:
				t.Errorf("%d %s", got.Status, got.Body)
			}
		})
	}
	until(t, func() bool { return refused.Load() == 193 && s.asked.Load() == 7 })
	close(gate)
	all.Wait()
	if admitted.Load() != 7 || s.asked.Load() != 7 {
		t.Errorf("%d were admitted", admitted.Load())
	}
	// 700 are used: there is room for as many again, and a few more.
	g.apply(s.backend() + budgets("- {name: tokens, totalTokens: 750, window: Month}"))
	if got := g.chat(chat(10, "")); got.Status != 200 {
		t.Errorf("what was not used is not given back: %d %s", got.Status, got.Body)
	}
	got := g.chat(chat(10, ""))
	h := got.Header
	if got.Status != 429 || !strings.Contains(got.Body, `"error":{`) || !strings.Contains(got.Body, "the budget tokens is exhausted: 750 tokens a month") || h.Get("Retry-After") == "" ||
		h.Get("X-Ratelimit-Limit") != "750" || h.Get("X-Ratelimit-Remaining") != "0" {
		t.Errorf("%d %s %v", got.Status, got.Body, h)
	}
	got = g.do("POST", g.url("8080", "/v1/messages"), strings.NewReader(`{"model":"gpt-5","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`))
	if got.Status != 429 || !strings.Contains(got.Body, `"type":"error"`) || !strings.Contains(got.Body, "rate_limit_error") {
		t.Errorf("in Anthropic's dialect: %d %s", got.Status, got.Body)
	}
}

// Each unit counts what it is, apart for each key; failures are given back, and a stream that breaks off keeps its estimate.
func TestBudgetUnits(t *testing.T) {
	s := newUsageServer(t, nil)
	g := start(t, s.backend())
	type step struct {
		body   string
		header []string
		want   int
	}
	hi := chat(10, "")
	for n, tc := range []struct {
		name, limits string
		fail         bool
		steps        []step
	}{
		{"requests", "requests: 2", false, []step{{hi, nil, 200}, {hi, nil, 200}, {hi, nil, 429}}},
		{"input", "inputTokens: 100", false, []step{{hi, nil, 200}, {hi, nil, 200}, {hi, nil, 429}}},
		{"output", "outputTokens: 50", false, []step{{hi, nil, 200}, {hi, nil, 200}, {hi, nil, 429}}},
		{"cost", `cost: "0.0006"`, false, []step{{hi, nil, 200}, {hi, nil, 429}}}, // 60×1.25 + 40×10 = 475 millionths; estimated 137
		{"a price that is not known", `cost: "5"`, false, []step{{strings.Replace(hi, "gpt-5", "own", 1), nil, 403}, {hi, nil, 200}}},
		{"more than the whole", "totalTokens: 150", false, []step{{chat(100000, ""), nil, 200}, {chat(100000, ""), nil, 429}, {hi, nil, 200}}},
		{"failures", "requests: 1", true, []step{{hi, nil, 400}, {hi, nil, 400}}},
		{"a stream", "totalTokens: 150", false, []step{{chat(10, `,"stream":true`), nil, 200}, {hi, nil, 200}, {hi, nil, 429}}},
		{"a stream that breaks off", "outputTokens: 60", false, []step{{chat(55, `,"stream":true,"user":"cut"`), nil, 200}, {hi, nil, 429}}},
		{"by header", "requests: 1, per: [{header: x-team}]", false, []step{
			{hi, []string{"X-Team", "a"}, 200}, {hi, []string{"X-Team", "a"}, 429}, {hi, []string{"X-Team", "b"}, 200}, {hi, nil, 200}, {hi, nil, 429},
		}},
	} {
		s.fail.Store(tc.fail)
		g.apply(s.backend() + budgets(fmt.Sprintf("- {name: b%d, %s, window: Month}", n, tc.limits)))
		for i, step := range tc.steps {
			if got := g.chat(step.body, step.header...); got.Status != step.want {
				t.Errorf("%s: request %d is answered %d %s", tc.name, i, got.Status, got.Body)
			}
		}
	}
}

// Embeddings take what they are counted as, and are estimated without any output.
func TestBudgetEmbeddings(t *testing.T) {
	s := newUsageServer(t, nil)
	g := start(t, s.backend())
	for name, limit := range map[string]string{"tokens": "totalTokens: 150", "money": `cost: "0.000003"`} { // 100 tokens cost 0.000002
		g.apply(s.backend() + budgets("- {name: "+name+", "+limit+", window: Month}"))
		for i, want := range []int{200, 200, 429} {
			got := g.do("POST", g.url("8080", "/v1/embeddings"), strings.NewReader(`{"model":"text-embedding-3-small","input":"hi"}`))
			if got.Status != want {
				t.Errorf("%s: request %d: %d %s", name, i, got.Status, got.Body)
			}
		}
	}
}

// One budget counts both requests to language models and tool calls; budgets of several levels add up.
func TestBudgetShared(t *testing.T) {
	s := newUsageServer(t, nil)
	m := newMCPServer(t, "/mcp", false, "echo")
	setting := s.backend() + mcpStatic("b", "", map[string]*mcpServer{"one": m}) + route("r", "matches: [{path: {value: /mcp}}]\nbackendRefs: ["+to("b")+"]") +
		budgets("- {name: all, cost: \"0.001\", toolCall: \"0.0002\", window: Month}") +
		authPolicy("calls", gatewayRef("HTTPRoute", "r", ""), "budgets: {limits: [{name: calls, requests: 3, window: Month}]}")
	g := start(t, setting)
	if got := g.chat(chat(10, "")); got.Status != 200 { // 475 millionths of a dollar
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	cs := g.connect(t, "/mcp", "2025-06-18", nil)
	for i, want := range []string{"echo", "echo", "error"} {
		if got := call(t, cs, "one_echo", nil); !strings.HasPrefix(got, want) {
			t.Errorf("call %d: %s", i, got)
		}
	}
	if got := g.chat(chat(10, "")); got.Status != 429 || !strings.Contains(got.Body, "the budget all is exhausted: 0.001 US dollars a month") {
		t.Errorf("after the calls: %d %s", got.Status, got.Body)
	}
	if n := len(m.called()); n != 2 {
		t.Errorf("%d calls reached the server", n)
	}
	g.apply(strings.Replace(setting, `cost: "0.001"`, `cost: "1"`, 1))
	for i, want := range []string{"echo", "error"} { // two of three calls were made, the third was refused by the other budget
		if got := call(t, cs, "one_echo", nil); !strings.HasPrefix(got, want) {
			t.Errorf("call %d with more money: %s", i, got)
		}
	}
	// Without a second level the calls are free to go on.
	g.apply(strings.Replace(strings.Replace(setting, `cost: "0.001"`, `cost: "1"`, 1), "requests: 3", "requests: 300", 1))
	if got := call(t, cs, "one_echo", nil); got != "echo" {
		t.Errorf("%s", got)
	}
}

// What can't be counted as it is written is reported, and closes what it covers.
func TestBudgetMistakes(t *testing.T) {
	s := newUsageServer(t, nil)
	g := start(t, s.backend())
	g.apply(s.backend() + authPolicy("money", gatewayRef("Gateway", "default", ""), "budgets:\n  redis: {address: 'localhost:6379', secretRef: {name: gone}}\n  limits: [{name: a, requests: 1, window: Day}]"))
	if got := g.chat(chat(10, "")); got.Status != 500 {
		t.Errorf("a Redis whose password is missing: %d", got.Status)
	}
	g.apply(s.backend() + authPolicy("money", gatewayRef("Gateway", "default", ""), "budgets:\n  redis: {address: '127.0.0.1:1', failureMode: FailClosed}\n  limits: [{name: a, requests: 1, window: Day}]"))
	if got := g.chat(chat(10, "")); got.Status != 503 || !strings.Contains(got.Body, "can't be counted") {
		t.Errorf("a Redis that is gone, closed: %d %s", got.Status, got.Body)
	}
	g.apply(s.backend() + authPolicy("money", gatewayRef("Gateway", "default", ""), "budgets:\n  redis: {address: '127.0.0.1:1'}\n  limits: [{name: a, requests: 1, window: Day}]"))
	for i, want := range []int{200, 429} {
		if got := g.chat(chat(10, "")); got.Status != want {
			t.Errorf("a Redis that is gone, request %d: %d %s", i, got.Status, got.Body)
		}
	}
}
