package llm_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/telemetry"
)

// under sends a request of a client through a backend under a policy, and returns what the client
// got. The provider replies with a stream if the reply is one.
func under(t testing.TB, p *llm.Policy, vendor llm.Vendor, client, body, reply string) (*standIn, *httptest.ResponseRecorder, *telemetry.Record) {
	t.Helper()
	s := &standIn{vendor: vendor, status: 200, header: http.Header{"Content-Type": {"application/json"}}, reply: strings.NewReader(reply)}
	if strings.HasPrefix(reply, "data:") || strings.HasPrefix(reply, "event:") {
		s.header.Set("Content-Type", "text/event-stream")
	}
	b := llm.New(llm.Config{Name: "default/model", Logger: slog.New(slog.DiscardHandler), Groups: [][]*llm.Provider{{{
		Name: "one", Vendor: vendor, RoundTripper: s, Host: "provider.test", Health: new(llm.Health), Credential: llm.Credential{Token: secret.New("k-1")},
	}}}})
	r := httptest.NewRequest(http.MethodPost, paths[client], strings.NewReader(body))
	w, rec := serve(t, b, r.WithContext(llm.WithPolicy(r.Context(), p)))
	return s, w, rec
}

// natives are the providers that get the bytes of a client.
var natives = map[string]llm.Vendor{
	"chat": llm.OpenAI, "responses": llm.OpenAI, "messages": llm.Anthropic, "gemini": llm.Gemini, "count": llm.Anthropic, "tokens": llm.Gemini, "input": llm.OpenAI,
	"geminis": llm.Gemini,
}

func TestEnrichment(t *testing.T) {
	p := &llm.Policy{Enrichment: llm.Enrichment{
		Prepend: []llm.PromptMessage{{Role: "SYSTEM", Content: "A"}, {Role: "system", Content: "B"}, {Role: "Assistant", Content: "D"}},
		Append:  []llm.PromptMessage{{Role: "user", Content: "C"}, {Role: "developer", Content: "E"}},
	}}
	for _, tt := range []struct{ client, in, want string }{
		{"chat", `{"model":"m", "messages": [ {"role":"user","content":"X"} ], "n": 1.0}`,
			`{"model":"m", "messages": [{"role":"system","content":"A"},{"role":"system","content":"B"},{"role":"assistant","content":"D"}, {"role":"user","content":"X"} ,{"role":"user","content":"C"},{"role":"developer","content":"E"}], "n": 1.0}`},
		{"chat", `{"model":"m","messages":[]}`,
			`{"model":"m","messages":[{"role":"system","content":"A"},{"role":"system","content":"B"},{"role":"assistant","content":"D"},{"role":"user","content":"C"},{"role":"developer","content":"E"}]}`},
		{"messages", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"X"}]}`,
			`{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":"D"},{"role":"user","content":"X"},{"role":"user","content":"C"}],"system":"A\nB\nE"}`},
		{"messages", `{"model":"m","max_tokens":1,"system":"S","messages":[]}`,
			`{"model":"m","max_tokens":1,"system":"A\nB\nS\nE","messages":[{"role":"assistant","content":"D"},{"role":"user","content":"C"}]}`},
		{"count", `{"model":"m","system":[{"type":"text","text":"S"}],"messages":[]}`,
			`{"model":"m","system":[{"type":"text","text":"A"},{"type":"text","text":"B"},{"type":"text","text":"S"},{"type":"text","text":"E"}],"messages":[{"role":"assistant","content":"D"},{"role":"user","content":"C"}]}`},
		{"gemini", `{"contents":[{"parts":[{"text":"X"}]}]}`,
			`{"contents":[{"role":"model","parts":[{"text":"D"}]},{"parts":[{"text":"X"}]},{"role":"user","parts":[{"text":"C"}]}],"systemInstruction":{"parts":[{"text":"A"},{"text":"B"},{"text":"E"}]}}`},
		{"gemini", `{"system_instruction":{"role":"x","parts":{"text":"S"}},"contents":[]}`,
			`{"system_instruction":{"role":"x","parts":[{"text":"A"},{"text":"B"},{"text":"S"},{"text":"E"}]},"contents":[{"role":"model","parts":[{"text":"D"}]},{"role":"user","parts":[{"text":"C"}]}]}`},
		{"tokens", `{"generateContentRequest":{"model":"models/asked-model","contents":[]}}`,
			`{"generateContentRequest":{"model":"models/asked-model","contents":[{"role":"model","parts":[{"text":"D"}]},{"role":"user","parts":[{"text":"C"}]}],"systemInstruction":{"parts":[{"text":"A"},{"text":"B"},{"text":"E"}]}}}`},
		{"responses", `{"model":"m","input":"X"}`,
			`{"model":"m","input":[{"role":"assistant","content":"D"},{"role":"user","content":"X"},{"role":"user","content":"C"},{"role":"developer","content":"E"}],"instructions":"A\nB"}`},
		{"responses", `{"model":"m","instructions":"S","input":[{"role":"user","content":"X"}]}`,
			`{"model":"m","instructions":"A\nB\nS","input":[{"role":"assistant","content":"D"},{"role":"user","content":"X"},{"role":"user","content":"C"},{"role":"developer","content":"E"}]}`},
	} {
		s, w, _ := under(t, p, natives[tt.client], tt.client, tt.in, "{}")
		if d := cmp.Diff(tt.want, string(s.body)); d != "" {
			t.Errorf("%s %s (%d %s): %s", tt.client, tt.in, w.Code, w.Body, d)
		}
	}
	s, _, _ := under(t, &llm.Policy{Enrichment: llm.Enrichment{
		Prepend: []llm.PromptMessage{{Role: "system", Content: "A"}, {Role: "system", Content: "B"}}, Append: []llm.PromptMessage{{Role: "user", Content: "C"}},
	}}, llm.Anthropic, "chat", `{"model":"m","messages":[{"role":"user","content":"X"},{"role":"assistant","content":"Y"}]}`, "{}")
	if want := `{"model":"m","max_tokens":4096,"system":"A\nB","messages":[{"role":"user","content":"X"},{"role":"assistant","content":"Y"},{"role":"user","content":"C"}]}`; string(s.body) != want {
		t.Errorf("Anthropic gets %s", s.body)
	}
}

func TestFieldDefaults(t *testing.T) {
	def := func(path, value string, override bool) llm.FieldDefault {
		t.Helper()
		d, err := llm.NewFieldDefault(path, []byte(value), override)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	seed := []llm.FieldDefault{def("temperature", `"0.5"`, false), def("max_tokens", `"100"`, true), def("user", `"alice"`, false)}
	for _, tt := range []struct {
		client, in string
		defaults   []llm.FieldDefault
		want       string
	}{
		{"chat", `{"model":"m","messages":[],"temperature": 1,"max_tokens":5}`, seed, `{"model":"m","messages":[],"temperature": 1,"max_tokens":100,"user":"alice"}`},
		{"chat", `{"model":"m","messages":[],"user":null}`, seed, `{"model":"m","messages":[],"user":null,"max_tokens":100,"temperature":0.5}`},
		{"chat", `{"messages":[]}`, []llm.FieldDefault{def("$.model", `"gpt"`, false)}, `{"messages":[],"model":"gpt"}`},
		{"chat", `{"model":"m","messages":[]}`, []llm.FieldDefault{def("a", `1`, false), def("a", `2`, true)}, `{"model":"m","messages":[],"a":2}`},
		{"chat", `{"model":"m","messages":[]}`, []llm.FieldDefault{def("response_format.type", `"json_object"`, false)}, `{"model":"m","messages":[],"response_format":{"type":"json_object"}}`},
		{"chat", `{"model":"m","messages":[{"role":"user"},{"role":"user","name":"x"}]}`, []llm.FieldDefault{def("messages[1].name", `"n"`, true), def("messages[0].name", `"n"`, false), def("messages[2].name", `"n"`, true)},
			`{"model":"m","messages":[{"role":"user","name":"n"},{"role":"user","name":"n"}]}`},
		{"chat", `{"model":"m","messages":[]}`, []llm.FieldDefault{def(`a\.b.c`, `"[1,2]"`, false), def("s", `"\"0.5\""`, false), def("o", `{"x":[true]}`, false)}, `{"model":"m","messages":[],"a.b":{"c":[1,2]},"s":"0.5","o":{"x":[true]}}`},
		{"chat", `{"model":"m","messages":[],"a":3}`, []llm.FieldDefault{def("a.b", `1`, true)}, `{"model":"m","messages":[],"a":3}`},
		{"messages", `{"model":"m","messages":[]}`, []llm.FieldDefault{def("max_tokens", `7`, false), def("thinking.type", `"disabled"`, false)}, `{"model":"m","messages":[],"max_tokens":7,"thinking":{"type":"disabled"}}`},
		{"gemini", `{"contents":[]}`, []llm.FieldDefault{def("generationConfig.temperature", `0`, false)}, `{"contents":[],"generationConfig":{"temperature":0}}`},
		{"responses", `{"model":"m","input":"x"}`, []llm.FieldDefault{def("reasoning.effort", `"low"`, false)}, `{"model":"m","input":"x","reasoning":{"effort":"low"}}`},
	} {
		s, w, _ := under(t, &llm.Policy{Defaults: tt.defaults}, natives[tt.client], tt.client, tt.in, "{}")
		if d := cmp.Diff(tt.want, string(s.body)); d != "" {
			t.Errorf("%s %s (%d %s): %s", tt.client, tt.in, w.Code, w.Body, d)
		}
	}
	// What is Anthropic's alone reaches it, and what nobody there knows is named.
	s, w, _ := under(t, &llm.Policy{Defaults: []llm.FieldDefault{def("system", `"S"`, false), def("speed", `"fast"`, false), def("frobnicate", `1`, false)}}, llm.Anthropic, "chat", `{"model":"m","messages":[{"role":"user","content":"X"}]}`, "{}")
	if want := `{"model":"m","max_tokens":4096,"system":"S","messages":[{"role":"user","content":"X"}],"speed":"fast"}`; string(s.body) != want || w.Header().Get("X-Mcpgw-Dropped") != "frobnicate" {
		t.Errorf("Anthropic gets %s, dropped %q", s.body, w.Header().Get("X-Mcpgw-Dropped"))
	}
	for _, wrong := range []struct{ path, value string }{{"a[x]", "1"}, {"[0]", "1"}, {"a[0", "1"}, {"", "1"}, {"a", `"[1,"`}, {"a", "x"}} {
		if _, err := llm.NewFieldDefault(wrong.path, []byte(wrong.value), false); err == nil {
			t.Errorf("%q: %s is taken", wrong.path, wrong.value)
		}
	}
}

// What a provider has of its own is for it alone.
func TestPolicyOfProvider(t *testing.T) {
	own := &llm.Policy{Enrichment: llm.Enrichment{Append: []llm.PromptMessage{{Role: "user", Content: "own"}}}}
	p := &llm.Policy{Enrichment: llm.Enrichment{Append: []llm.PromptMessage{{Role: "user", Content: "all"}}}, Providers: map[string]*llm.Policy{"one": own}}
	s, _, _ := under(t, p, llm.OpenAI, "chat", `{"model":"m","messages":[]}`, "{}")
	if want := `{"model":"m","messages":[{"role":"user","content":"own"}]}`; string(s.body) != want {
		t.Errorf("the provider gets %s", s.body)
	}
}
