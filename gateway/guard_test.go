package gateway

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
)

const onModel = `
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: %NAME%}
spec:
  targetRefs: [{group: gateway.kgateway.dev, kind: Backend, name: model%SECTION%}]
`

// onBackend returns a TrafficPolicy on the Backend named model, or on a provider of it.
func onBackend(name, section, spec string) string {
	if section != "" {
		section = ", sectionName: " + section
	}
	return strings.NewReplacer("%NAME%", name, "%SECTION%", section).Replace(onModel) + spec + "\n"
}

// post sends JSON and returns the status and the body of the answer.
func post(t testing.TB, url, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// Field defaults and enrichment of policies on a Backend, its route, and the Gateway.
func TestPolicyOnModel(t *testing.T) {
	s := newOpenAIServer(t)
	g := start(t, s.provider("openai: {authToken: {inline: k}}")+onBackend("defaults", "", `
  ai: {fieldDefaults: [{path: temperature, value: "0.5"}, {path: max_tokens, value: "100", override: true}, {path: user, value: alice}]}
`)+onBackend("enrichment", "", `
  ai: {promptEnrichment: {prepend: [{role: SYSTEM, content: A}, {role: system, content: B}], append: [{role: user, content: C}]}}
`)+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: hidden}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  ai: {fieldDefaults: [{path: seed, value: 1}]}
`)
	status, body, _ := post(t, g.url("8080", "/llm/model"), `{"model":"m","messages":[{"role":"user","content":"X"}],"temperature":1,"max_tokens":5}`)
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, _, _, sent := s.seen()
	if want := `{"model":"m","messages":[{"role":"system","content":"A"},{"role":"system","content":"B"},{"role":"user","content":"X"},{"role":"user","content":"C"}],"temperature":1,"max_tokens":100,"user":"alice"}`; sent != want {
		t.Errorf("the provider gets %s", sent)
	}
}

// Rules on a Backend of type AI, and on one of its providers, keep out whom they don't name.
func TestRulesOnModel(t *testing.T) {
	first, second := newOpenAIServer(t), newOpenAIServer(t)
	g := start(t, `
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec:
  ai:
    priorityGroups:
    - providers: [{name: first, host: "`+first.host+`", port: `+first.port+`, openai: {authToken: {inline: k}, model: one}}]
    - providers: [{name: second, host: "`+second.host+`", port: `+second.port+`, openai: {authToken: {inline: k}, model: two}}]
`+onBackend("all", "", `
  rbac: {policy: {matchExpressions: ["has(request.headers['x-key'])"]}}
`)+onBackend("one", "first", `
  rbac: {action: Deny, policy: {matchExpressions: ["request.headers['x-key'] != 'gold'"]}}
  ai: {fieldDefaults: [{path: user, value: first}]}
`))
	const hello = `{"messages":[{"role":"user","content":"hi"}]}`
	status, body, _ := post(t, g.url("8080", "/llm/model"), hello)
	if status != 403 || first.body != nil || second.body != nil {
		t.Errorf("without the header: %d %s", status, body)
	}
	if status, body, _ = post(t, g.url("8080", "/llm/model"), hello, "X-Key", "tin"); status != 200 || first.body != nil {
		t.Errorf("who may not use the first: %d %s", status, body)
	}
	if _, _, _, sent := second.seen(); sent != `{"messages":[{"role":"user","content":"hi"}],"model":"two"}` {
		t.Errorf("the second gets %s", sent)
	}
	if status, body, _ = post(t, g.url("8080", "/llm/model"), hello, "X-Key", "gold"); status != 200 {
		t.Errorf("who may use the first: %d %s", status, body)
	}
	var sent map[string]any
	_, _, _, raw := first.seen()
	if err := json.Unmarshal([]byte(raw), &sent); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]any{"model": "one", "user": "first", "messages": []any{map[string]any{"role": "user", "content": "hi"}}}, sent); d != "" {
		t.Error(d)
	}
}

// guardedModel returns a Gateway in front of s with a prompt guard on the Backend.
func guardedModel(t *testing.T, s *openAIServer, guard string) *testGateway {
	t.Helper()
	return start(t, s.provider("openai: {authToken: {inline: k}}")+onBackend("guard", "", `
  ai: {promptGuard: `+guard+`}
`))
}

func chatOf(text string) string {
	b, _ := json.Marshal(text)
	return `{"model":"m","messages":[{"role":"user","content":` + string(b) + `}]}`
}

// What a prompt guard rejects is answered as the policy says, and sent to nobody.
func TestPromptGuardRejects(t *testing.T) {
	for _, tt := range []struct {
		response string
		status   int
		body     string
	}{
		{``, 403, "The request was rejected due to inappropriate content"},
		{`customResponse: {message: "no"}, `, 403, "no"},
		{`customResponse: {message: "no", statusCode: 422}, `, 422, "no"},
	} {
		s := newOpenAIServer(t)
		g := guardedModel(t, s, `{request: {`+tt.response+`regex: {action: REJECT, builtins: [CREDIT_CARD, Ssn]}}}`)
		status, body, h := post(t, g.url("8080", "/llm/model"), chatOf("my card is 4111 1111 1111 1111"))
		if status != tt.status || body != tt.body || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || s.body != nil {
			t.Errorf("%d %s %s", status, body, h.Get("Content-Type"))
		}
		if status, body, _ := post(t, g.url("8080", "/llm/model"), chatOf("hello")); status != 200 {
			t.Errorf("a good prompt: %d %s", status, body)
		}
	}
}

// The prompt is masked in the client's own bytes, in every dialect; the arguments of calls stay.
func TestPromptGuardMasks(t *testing.T) {
	s := newOpenAIServer(t)
	g := guardedModel(t, s, `{request: {regex: {builtins: [SSN, EMAIL], matches: [{pattern: "hunter\\d", name: PW}, {pattern: "s3cret"}]}}}`)
	if status, body, _ := post(t, g.url("8080", "/llm/model"), `{"model":"m", "messages": [ {"role":"system","content":"bob@example.com"}, {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":\"hunter2\"}"}}]},{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"s3cret"}]},{"role":"user","content":"a 123-45-6789 b"} ], "seed": 1.0 }`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, _, _, sent := s.seen()
	if want := `{"model":"m", "messages": [ {"role":"system","content":"<EMAIL_ADDRESS>"}, {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":\"hunter2\"}"}}]},{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"<masked>"}]},{"role":"user","content":"a <SSN> b"} ], "seed": 1.0 }`; sent != want {
		t.Errorf("the provider gets %s", sent)
	}
	for _, tt := range []struct{ path, body, want string }{
		{"/llm/model/v1/messages", `{"model":"m","max_tokens":9,"system":[{"type":"text","text":"hunter1"}],"messages":[{"role":"user","content":[{"type":"text","text":"hunter2"}]}]}`, "hunter"},
		{"/llm/model/v1/responses/input_tokens", `{"model":"m","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hunter2"}]}]}`, "hunter"},
		{"/llm/model/v1beta/models/m:generateContent", `{"systemInstruction":{"parts":[{"text":"hunter1"}]},"contents":[{"role":"user","parts":[{"text":"hunter2"}]}]}`, "hunter"},
	} {
		if status, body, _ := post(t, g.url("8080", tt.path), tt.body); status != 200 {
			t.Errorf("%s: %d %s", tt.path, status, body)
		}
		if _, _, _, sent := s.seen(); strings.Contains(sent, tt.want) || !strings.Contains(sent, "<PW>") {
			t.Errorf("%s: the provider gets %s", tt.path, sent)
		}
	}
}

// Answers are masked, whole and streamed, for the official clients.
func TestAnswerGuardMasks(t *testing.T) {
	s := newOpenAIServer(t)
	g := guardedModel(t, s, `{response: {regex: {action: MASK, builtins: [CreditCard, Email]}}}`)
	const text, want = "card 5105105105105100, mail bob@example.com", "card <CREDIT_CARD>, mail <EMAIL_ADDRESS>"
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	got, err := client.Chat.Completions.New(t.Context(), hello(text))
	if err != nil || got.Choices[0].Message.Content != want {
		t.Errorf("%v %s", err, got.RawJSON())
	}
	status, body, h := post(t, g.url("8080", "/llm/model"), chatOf(text))
	if status != 200 || h.Get("Content-Length") != strconv.Itoa(len(body)) {
		t.Errorf("%d, %s bytes of %d: %s", status, h.Get("Content-Length"), len(body), body)
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), hello(text))
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Errorf("the accumulator does not take %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil || acc.Choices[0].Message.Content != want {
		t.Errorf("%v %q", err, acc.Choices[0].Message.Content)
	}
	if _, body, _ := post(t, g.url("8080", "/llm/model"), strings.Replace(chatOf(text), `{`, `{"stream":true,`, 1)); !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Contains(body, "5105") {
		t.Errorf("the stream is %s", body)
	}
	claude := anthropic.NewClient(anthropicoption.WithBaseURL(g.url("8080", "/llm/model")), anthropicoption.WithAPIKey("k"), anthropicoption.WithMaxRetries(0))
	events := claude.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{Model: "m", MaxTokens: 9, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}})
	var message anthropic.Message
	for events.Next() {
		if err := message.Accumulate(events.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if err := events.Err(); err != nil || len(message.Content) != 1 || message.Content[0].Text != want {
		t.Errorf("%v %s", err, message.RawJSON())
	}
}

// A real webhook and a moderation, in the order webhook, regular expressions, moderation; one that can't be
// asked refuses the prompt.
func TestGuardServices(t *testing.T) {
	var asked []string
	action := `{"reason":"fine"}`
	flagged := "false"
	services := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.URL.Path+" "+r.Header.Get("X-Team")+r.Header.Get("Authorization")+" "+string(body))
		if r.URL.Path == "/request" {
			_, _ = io.WriteString(w, `{"action":`+action+`}`)
			return
		}
		_, _ = io.WriteString(w, `{"results":[{"flagged":`+flagged+`}]}`)
	}))
	defer services.Close()
	host, port, _ := net.SplitHostPort(services.Listener.Addr().String())
	s := newOpenAIServer(t)
	g := startOn(t, RuntimeOptions{ModerationURL: services.URL + "/v1"}, Options{}, s.provider("openai: {authToken: {inline: k}}")+onBackend("guard", "", `
  ai:
    promptGuard:
      request:
        regex: {builtins: [EMAIL]}
        webhook:
          host: {host: "`+host+`", port: `+port+`}
          forwardHeaderMatches: [{type: RegularExpression, name: x-team, value: "re."}]
        moderation: {openAIModeration: {authToken: {inline: mod-key}}}
`))
	ask := func() (int, string) {
		t.Helper()
		asked = nil
		status, body, _ := post(t, g.url("8080", "/llm/model"), chatOf("bob@example.com"), "X-Team", "red", "Authorization", "Bearer client")
		return status, body
	}
	if status, body := ask(); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if d := cmp.Diff([]string{
		`/request red {"body":{"messages":[{"role":"user","content":"bob@example.com"}]}}`,
		`/v1/moderations Bearer mod-key {"input":["<EMAIL_ADDRESS>"],"model":"omni-moderation-latest"}`,
	}, asked); d != "" {
		t.Error(d)
	}
	flagged = "true"
	if status, body := ask(); status != 403 || body != "The request was rejected due to inappropriate content" {
		t.Errorf("flagged: %d %s", status, body)
	}
	action = `{"body":"not here","status_code":451}`
	if status, body := ask(); status != 451 || body != "not here" || len(asked) != 1 {
		t.Errorf("rejected by the webhook: %d %s %v", status, body, asked)
	}
	action = `{"body":{"messages":[{"role":"user","content":"masked"}]}}`
	flagged = "false"
	if status, body := ask(); status != 200 || !strings.Contains(body, `"masked"`) {
		t.Errorf("masked by the webhook: %d %s", status, body)
	}
	services.Close()
	if status, body := ask(); status != 503 || strings.Contains(body, host) {
		t.Errorf("without the services: %d %s", status, body)
	}
}

// Guards on an MCP Backend and on one of its targets, and on the routes that lead to it.
func TestGuardsOnMCP(t *testing.T) {
	one, two := newMCPServer(t, "/mcp", true, "echo"), newMCPServer(t, "/mcp", false, "echo")
	g := start(t, mcpStatic("model", "", map[string]*mcpServer{"one": one, "two": two})+onBackend("target", "two", `
  ai: {promptGuard: {response: {regex: {matches: [{pattern: echo, name: SAID}]}}}}
`)+`
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: all}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: default}]
  ai: {promptGuard: {request: {regex: {action: REJECT, builtins: [EMAIL]}, customResponse: {message: "no mail"}}}}
`)
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		cs := g.connect(t, "/mcp", version, nil)
		for _, tt := range []struct{ name, text, want string }{
			{"one_echo", "hi", "echo"},
			{"one_echo", "bob@example.com", "tool error: no mail"},
			{"two_echo", "bob@example.com", "<SAID>"}, // whose own guard beats that of the Gateway
		} {
			if got := call(t, cs, tt.name, map[string]any{"text": tt.text}); got != tt.want {
				t.Errorf("%s: %s(%s) is %q, want %q", version, tt.name, tt.text, got, tt.want)
			}
		}
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if len(one.calls) != 2 {
		t.Errorf("the first server got %v", one.calls)
	}
}

// A guard that does not compile is reported, and makes what it covers answer 500.
func TestGuardMistakes(t *testing.T) {
	s := newOpenAIServer(t)
	res := load(t, s.provider("openai: {authToken: {inline: k}}")+onBackend("guard", "", `
  ai: {promptGuard: {request: {regex: {builtins: [EMAIL], matches: [{pattern: good}]}}}}
`))
	res.TrafficPolicies[0].Spec.AI.PromptGuard.Request.Regex.Matches[0].Pattern = "a(?=b)" // as it can come from a cluster
	c := newCompiler(res, nil)
	c.compilePolicies()
	attached := c.attached[attachment{kind: "Backend", name: nameOf(res.Backends[0])}]
	if len(attached) != 1 || attached[0].rules == nil || !attached[0].rules.Broken {
		t.Errorf("the policy is attached as %+v", attached)
	}
	if p := c.report.Problems; len(p) != 1 || p[0].Path != "spec.ai.promptGuard.request.regex" || !strings.Contains(p[0].Message, "matches[0].pattern") {
		t.Errorf("the report is %+v", p)
	}
}
