package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A pattern is the gateway with examples/common-pattern, and with stand-ins in the place of its
// providers.
type pattern struct {
	t                 *testing.T
	g                 *gateway
	openAI, anthropic *llmtest.Server
	text              string // of the configuration
}

// startPattern serves the example as it is, but for port, keys, the providers' places, and what
// edit makes of it.
func startPattern(t *testing.T, edit func(string) string) *pattern {
	t.Helper()
	t.Parallel()
	p := &pattern{t: t, openAI: llmtest.Start(llmtest.OpenAI), anthropic: llmtest.Start(llmtest.Anthropic)}
	t.Cleanup(p.openAI.Close)
	t.Cleanup(p.anthropic.Close)
	for _, name := range []string{"gateway.yaml", "common-pattern.yaml"} {
		b, err := os.ReadFile("../examples/common-pattern/" + name)
		if err != nil {
			t.Fatal(err)
		}
		p.text += string(b) + "---\n"
	}
	place := func(name string, s *llmtest.Server) {
		p.replace("- name: "+name+"\n", fmt.Sprintf("- name: %s\n        host: %s\n        port: %s\n", name, s.Host, s.Port))
	}
	place("openai-primary", p.openAI)
	place("anthropic-fallback", p.anthropic)
	p.replace("Bearer sk-...", "Bearer "+llmtest.Key)
	p.replace("sk-ant-...", llmtest.Key)
	if edit != nil {
		before := p.text
		if p.text = edit(p.text); p.text == before {
			t.Fatal("the edit changes nothing")
		}
	}
	p.g = serve(t, func(port int) string { return strings.ReplaceAll(p.text, "port: 8080", fmt.Sprintf("port: %d", port)) })
	return p
}

func (p *pattern) replace(old, new string) {
	p.t.Helper()
	if !strings.Contains(p.text, old) {
		p.t.Fatalf("the example has no %q", old)
	}
	p.text = strings.ReplaceAll(p.text, old, new)
}

// apply gives the gateway another configuration.
func (p *pattern) apply(text string) {
	p.t.Helper()
	testgateway.WriteFile(p.t, p.g.File, strings.ReplaceAll(text, "port: 8080", fmt.Sprintf("port: %d", p.g.Port)))
}

// post sends a chat completion that says text, as a client that names itself, and returns
// the status, the Content-Type and the body of the answer.
func (p *pattern) post(text, more string, header ...string) (int, string, string) {
	p.t.Helper()
	if header == nil {
		header = []string{"x-api-key", "k"}
	}
	said, err := json.Marshal(text)
	if err != nil {
		p.t.Fatal(err)
	}
	body := fmt.Sprintf(`{"model":"foo","messages":[{"role":"user","content":%s}]%s}`, said, more)
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/llm", p.g.Port), strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = []string{header[i+1]} // as it is written
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

// says posts and checks that the answer is whole and says want.
func (p *pattern) says(text, want string) {
	p.t.Helper()
	status, typ, body := p.post(text, "")
	got, err := llmtest.Chat.Read([]byte(body))
	if status != 200 || typ != "application/json" || err != nil || got != want {
		p.t.Errorf("%d %s %q, not %q (%v): %s", status, typ, got, want, err, body)
	}
}

// asked checks how often the providers were asked so far, and that they refused nothing.
func (p *pattern) asked(openAI, anthropic int) {
	p.t.Helper()
	if a, b := len(p.openAI.Asked()), len(p.anthropic.Asked()); a != openAI || b != anthropic {
		p.t.Errorf("OpenAI was asked %d times, Anthropic %d times, not %d and %d", a, b, openAI, anthropic)
	}
	for _, s := range []*llmtest.Server{p.openAI, p.anthropic} {
		if err := s.Check(); err != nil {
			p.t.Error(err)
		}
	}
}

// sent returns what a provider got last, as JSON, and its headers.
func sent(t *testing.T, s *llmtest.Server) (map[string]any, llmtest.Request) {
	t.Helper()
	all := s.Asked()
	if len(all) == 0 {
		t.Fatal("nobody asked")
	}
	var body map[string]any
	if err := json.Unmarshal(all[len(all)-1].Body, &body); err != nil {
		t.Fatal(err)
	}
	return body, all[len(all)-1]
}

// 1: the first provider answers, with its own model and key, and the client's header stays here.
func TestCommonPattern(t *testing.T) {
	p := startPattern(t, nil)
	p.says("hi", "hello")
	p.asked(1, 0)
	body, r := sent(t, p.openAI)
	if r.Path != "/v1/chat/completions" || body["model"] != "gpt-4" || r.Header.Get("X-Api-Key") != "" || r.Header.Get("Authorization") != "Bearer "+llmtest.Key {
		t.Errorf("OpenAI is asked at %s with %v: %s", r.Path, r.Header, r.Body)
	}
}

// 2: without the header nobody gets in; its name is that in any case.
func TestCommonPatternRules(t *testing.T) {
	p := startPattern(t, nil)
	status, typ, body := p.post("hi", "", "x-other", "k")
	if status != 403 || !strings.HasPrefix(typ, "text/plain") || strings.TrimSpace(body) != "authorization failed" {
		t.Errorf("%d %s %q", status, typ, body)
	}
	p.asked(0, 0)
	if status, _, body := p.post("hi", "", "X-API-KEY", "k"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	p.asked(1, 0)
}

// 6: a provider that fails is made good by the next one in the same request; what is wrong with
// the request is not.
func TestCommonPatternFailover(t *testing.T) {
	p := startPattern(t, nil)
	p.openAI.Says(llmtest.Answer{Status: 503, Text: "down"})
	p.anthropic.Says(llmtest.Answer{Text: "hello from the other one"})
	p.says("hi", "hello from the other one")
	body, r := sent(t, p.anthropic)
	if r.Header.Get("X-Api-Key") != llmtest.Key || r.Header.Get("Anthropic-Version") != "2023-06-01" || body["max_tokens"] != 4096.0 || body["model"] != "claude-3-sonnet" {
		t.Errorf("Anthropic gets %v: %s", r.Header, r.Body)
	}
	p.openAI.Says(llmtest.Answer{Status: 400, Text: "no such thing"})
	if status, _, body := p.post("hi", ""); status != 400 || !strings.Contains(body, "no such thing") {
		t.Errorf("%d %s", status, body)
	}
	p.asked(2, 1)
	p.openAI.Close() // refuses connections
	p.says("hi", "hello from the other one")
}

// 7: a provider with too many requests is left out for as long as it asks.
func TestCommonPatternEviction(t *testing.T) {
	p := startPattern(t, nil)
	p.openAI.Says(llmtest.Answer{Status: 429, Text: "slow down", Header: map[string]string{"Retry-After": "5"}})
	p.anthropic.Says(llmtest.Answer{Text: "from the other one"})
	begun := time.Now()
	p.says("hi", "from the other one")
	p.openAI.Says(llmtest.Hello)
	testgateway.Eventually(t, "the first provider is asked again", func() error {
		status, _, body := p.post("hi", "")
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		if len(p.openAI.Asked()) < 2 {
			return fmt.Errorf("it was not yet asked: %s", body)
		}
		return nil
	})
	if took := time.Since(begun); took < 5*time.Second {
		t.Errorf("it was asked again after %v", took)
	}
	p.says("hi", "hello")
}

// policy adds fields to spec.ai of the example's policy.
func policy(fields string) func(string) string {
	return func(text string) string {
		return strings.Replace(text, "    promptGuard:\n", fields+"    promptGuard:\n", 1)
	}
}

// 8: fields that the configuration sets.
func TestCommonPatternDefaults(t *testing.T) {
	p := startPattern(t, policy(`    fieldDefaults: [{path: temperature, value: "0.5"}, {path: max_tokens, value: "100", override: true}, {path: user, value: alice}]
`))
	if status, _, body := p.post("hi", `,"temperature":1,"max_tokens":5`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	body, r := sent(t, p.openAI)
	if body["temperature"] != 1.0 || body["max_tokens"] != 100.0 || body["user"] != "alice" {
		t.Errorf("OpenAI gets %s", r.Body)
	}
	p.asked(1, 0)
}

// 9: messages that the configuration adds, in order, and as each provider has them.
func TestCommonPatternEnrichment(t *testing.T) {
	p := startPattern(t, policy(`    promptEnrichment:
      prepend: [{role: SYSTEM, content: A}, {role: system, content: B}]
      append: [{role: user, content: C}]
`))
	if status, _, body := p.post("X", ""); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	order := func(s *llmtest.Server) (out string) {
		body, _ := sent(t, s)
		if system, ok := body["system"]; ok {
			out = fmt.Sprint(system)
		}
		for _, m := range body["messages"].([]any) {
			m := m.(map[string]any)
			out += fmt.Sprintf(" %v:%v", m["role"], m["content"])
		}
		return out
	}
	if got := order(p.openAI); got != " system:A system:B user:X user:C" {
		t.Errorf("OpenAI gets%s", got)
	}
	p.openAI.Says(llmtest.Answer{Status: 503, Text: "down"})
	p.says("X", "hello")
	if got := order(p.anthropic); got != "A\nB user:[map[text:X type:text] map[text:C type:text]]" { // one turn: turns alternate
		t.Errorf("Anthropic gets %q", got)
	}
	p.asked(2, 1)
}

// 10: the client's own key goes to where each provider wants it.
func TestCommonPatternPassthrough(t *testing.T) {
	p := startPattern(t, func(text string) string {
		for _, name := range []string{"openai-secret", "anthropic-secret"} {
			text = strings.Replace(text, "            kind: SecretRef\n            secretRef:\n              name: "+name+"\n", "            kind: Passthrough\n", 1)
		}
		return text
	})
	ask := func() {
		t.Helper()
		if status, _, body := p.post("hi", "", "x-api-key", "k", "Authorization", "Bearer "+llmtest.Key); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	ask()
	p.openAI.Says(llmtest.Answer{Status: 503, Text: "down"})
	ask()
	p.asked(2, 1) // which check where the key stands, and that it stands nowhere else
}

// 11: Bedrock is asked with a signature, and its frames become the client's events.
func TestCommonPatternBedrock(t *testing.T) {
	bedrock := &testaws.Bedrock{Region: "eu-west-1", Credentials: aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI", SessionToken: "IQoJb3JpZ2lu//=="}}
	server := httptest.NewServer(bedrock)
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := startPattern(t, func(text string) string {
		i := strings.Index(text, "        openai:\n")
		j := strings.Index(text, "    - providers:\n      - name: anthropic-fallback")
		if i < 0 || j < i {
			t.Fatal("the example has another form")
		}
		text = text[:i] + "        bedrock: {region: eu-west-1, model: amazon.titan-text-lite-v1, auth: {type: Secret, secretRef: {name: aws}}}\n" + text[j:]
		i = strings.Index(text, "- name: openai-primary\n        host: ")
		j = i + strings.Index(text[i:], "        bedrock:")
		return text[:i] + fmt.Sprintf("- name: openai-primary\n        host: %s\n        port: %s\n", host, port) + text[j:] +
			"apiVersion: v1\nkind: Secret\nmetadata: {name: aws}\nstringData: {accessKey: AKIDEXAMPLE, secretKey: wJalrXUtnFEMI, sessionToken: IQoJb3JpZ2lu//==}\n"
	})
	p.says("hi there", "hi there")
	if last, _ := bedrock.Last(); last.Path != "/model/amazon.titan-text-lite-v1/converse" || last.Header.Get("X-Amz-Security-Token") == "" {
		t.Errorf("Bedrock is asked at %s with %v", last.Path, last.Header)
	}
	status, typ, body := p.post("hi there", `,"stream":true`)
	if got, err := llmtest.Chat.ReadStream([]byte(body)); status != 200 || !strings.HasPrefix(typ, "text/event-stream") || err != nil || got != "hi there" {
		t.Errorf("%d %s %q (%v): %s", status, typ, got, err, body)
	}
	if last, _ := bedrock.Last(); last.Path != "/model/amazon.titan-text-lite-v1/converse-stream" {
		t.Errorf("Bedrock is asked at %s", last.Path)
	}
	p.asked(0, 0)
}

// 12: without its key a provider is not asked; a key that comes is used at once.
func TestCommonPatternSecret(t *testing.T) {
	p := startPattern(t, nil)
	p.says("hi", "hello")
	without := p.text
	for _, name := range []string{"openai-secret", "anthropic-secret"} {
		without = strings.Replace(without, "kind: Secret\nmetadata:\n  name: "+name, "kind: Secret\nmetadata:\n  name: not-"+name, 1)
	}
	p.apply(without)
	testgateway.Eventually(t, "nobody can be asked", func() error {
		status, _, body := p.post("hi", "")
		if status != 503 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	before := len(p.openAI.Asked())
	if status, _, _ := p.post("hi", ""); status != 503 || len(p.openAI.Asked()) != before || len(p.anthropic.Asked()) != 0 {
		t.Errorf("status %d", status)
	}
	p.g.Writes(t, &p.g.Stderr, `openai-secret`)
	p.apply(p.text)
	testgateway.Eventually(t, "the key is used", func() error {
		status, _, body := p.post("hi", "")
		if status != 200 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// 3: cards and numbers are refused before a provider is asked, in the words of the
// configuration.
func TestCommonPatternReject(t *testing.T) {
	for name, tt := range map[string]struct {
		custom string
		status int
		body   string
	}{
		"default": {"", 403, "The request was rejected due to inappropriate content"},
		"message": {"        customResponse: {message: \"no\"}\n", 403, "no"},
		"status":  {"        customResponse: {message: \"no\", statusCode: 422}\n", 422, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			var edit func(string) string
			if tt.custom != "" {
				edit = func(text string) string {
					return strings.Replace(text, "      request:\n", "      request:\n"+tt.custom, 1)
				}
			}
			p := startPattern(t, edit)
			for _, text := range []string{"my card is 4111 1111 1111 1111", "it is 123-45-6789"} {
				if status, typ, body := p.post(text, ""); status != tt.status || strings.TrimSpace(body) != tt.body || !strings.HasPrefix(typ, "text/plain") {
					t.Errorf("%q: %d %s %q", text, status, typ, body)
				}
			}
			p.asked(0, 0)
		})
	}
}

// 4: what answers say of cards and addresses is masked, whole and streamed, wherever it is cut.
func TestCommonPatternMask(t *testing.T) {
	p := startPattern(t, nil)
	const text, want = "card 5105105105105100, mail bob@example.com now", "card <CREDIT_CARD>, mail <EMAIL_ADDRESS> now"
	p.openAI.Says(llmtest.Answer{Text: text})
	p.anthropic.Says(llmtest.Answer{Text: text})
	p.says("hi", want)
	stream := func() {
		t.Helper()
		status, typ, body := p.post("hi", `,"stream":true`)
		got, err := llmtest.Chat.ReadStream([]byte(body))
		if status != 200 || !strings.HasPrefix(typ, "text/event-stream") || err != nil || got != want || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%d %s %q (%v): %s", status, typ, got, err, body)
		}
	}
	stream()              // in two pieces
	for pad := range 24 { // of which the middle moves over card and address
		padding := strings.Repeat("x", pad) + " "
		p.openAI.Says(llmtest.Answer{Text: text + " " + padding})
		_, _, body := p.post("hi", `,"stream":true`)
		if got, err := llmtest.Chat.ReadStream([]byte(body)); err != nil || got != want+" "+padding {
			t.Errorf("%q: %v", got, err)
		}
	}
	p.openAI.Says(llmtest.Answer{Status: 503, Text: "down"})
	p.says("hi", want) // of the other provider
	stream()
}

// 5: matches that overlap are one.
func TestCommonPatternOverlap(t *testing.T) {
	p := startPattern(t, func(text string) string {
		return strings.Replace(text, "action: REJECT\n          builtins: [CreditCard, Ssn]", "action: MASK\n          builtins: [SSN]", 1)
	})
	p.says("a 123-45-6789 b", "hello")
	body, r := sent(t, p.openAI)
	if got := body["messages"].([]any)[0].(map[string]any)["content"]; got != "a <SSN> b" {
		t.Errorf("OpenAI gets %s", r.Body)
	}
}
