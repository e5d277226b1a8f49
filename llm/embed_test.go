package llm_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/telemetry"
)

const goodVectors = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-0.5,1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":2,"total_tokens":2}}`

// Prompt guards check what is to be embedded; what nobody can read is refused where they do.
// Messages are not put to it.
func TestEmbeddingsGuarded(t *testing.T) {
	p := &llm.Policy{
		Prompt:     &guard.Prompt{Regex: builtins(t, guard.Mask)},
		Enrichment: llm.Enrichment{Prepend: []llm.PromptMessage{{Role: "system", Content: "A"}}},
	}
	for _, tt := range []struct{ in, want string }{
		{`{"model":"m","input":"hunter2 and bob@example.com"}`, `{"model":"m","input":"<PASSWORD> and <EMAIL_ADDRESS>"}`},
		{`{"model":"m","input":["a","hunter2"]}`, `{"model":"m","input":["a","<PASSWORD>"]}`},
		{`{"model":"m","input":[1,2]}`, ""},
		{`{"model":"m","input":["a",[1,2]]}`, ""},
		{`{"model":"m","Input":"hunter2"}`, ""},
	} {
		s, w, _ := under(t, p, llm.OpenAI, "embed", tt.in, goodVectors)
		if want := map[bool]int{true: 200, false: 400}[tt.want != ""]; w.Code != want || string(s.body) != tt.want {
			t.Errorf("%s: %d %s, the provider gets %s", tt.in, w.Code, w.Body, s.body)
		}
	}
	s, w, _ := under(t, &llm.Policy{Prompt: &guard.Prompt{Regex: builtins(t, guard.Reject), Rejection: guard.Rejection{Status: 403}}}, llm.OpenAI, "embed", `{"model":"m","input":["hunter2"]}`, goodVectors)
	if w.Code != 403 || s.body != nil {
		t.Errorf("%d %s, the provider gets %s", w.Code, w.Body, s.body)
	}
}

// embedders returns a backend of groups of one provider each.
func embedders(providers ...*llm.Provider) *llm.Backend {
	cfg := llm.Config{Name: "default/model", Logger: slog.New(slog.DiscardHandler), ShowCost: true}
	for _, p := range providers {
		p.Host, p.Health = "provider.test", new(llm.Health)
		cfg.Groups = append(cfg.Groups, []*llm.Provider{p})
	}
	return llm.New(cfg)
}

// embedWith asks a backend to embed what a body says.
func embedWith(t *testing.T, b *llm.Backend, body string) (*httptest.ResponseRecorder, *telemetry.Record) {
	t.Helper()
	return serve(t, b, httptest.NewRequest(http.MethodPost, paths["embed"], strings.NewReader(body)))
}

// A provider without embeddings is passed over, one that fails is made good by the next, and what
// embedding costs is known.
func TestEmbeddingsFailover(t *testing.T) {
	none := &script{do: replies(200, strings.NewReader("{}"))}
	busy := &script{do: replies(429, strings.NewReader(`{"error":{"message":"slow down","type":"requests"}}`))}
	good := &script{do: replies(200, strings.NewReader(goodVectors))}
	b := embedders(&llm.Provider{Vendor: llm.Anthropic, RoundTripper: none}, &llm.Provider{Vendor: llm.OpenAI, RoundTripper: busy}, &llm.Provider{Vendor: llm.AzureOpenAI, APIVersion: "v1", RoundTripper: good})
	for range 2 {
		w, rec := embedWith(t, b, `{"model":"text-embedding-3-small","input":"hi","stream":true}`)
		if w.Code != 200 || w.Body.String() != goodVectors || w.Header().Get("X-Mcpgw-Cost") != "0.00000004" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		if l := rec.LLM; l.Operation != "embeddings" || l.Provider != "azure.ai.openai" || l.Usage.Input != 2 || l.Usage.Output != 0 || l.Stream {
			t.Errorf("the record is %+v", l)
		}
	}
	if none.asked != 0 || busy.asked != 1 || good.asked != 2 {
		t.Errorf("they were asked %d, %d and %d times", none.asked, busy.asked, good.asked)
	}
}

// What is no embeddings request is not asked of anybody, and what a Route makes one is one.
func TestEmbeddingsRoutes(t *testing.T) {
	good := &script{do: replies(200, strings.NewReader(goodVectors))}
	b := embedders(&llm.Provider{Vendor: llm.OpenAI, RoundTripper: good, Routes: []llm.Route{{Suffix: "/vectors", Type: llm.Embeddings}}})
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/any/v1/embeddings", 200}, {"POST", "/any/embeddings/", 200}, {"POST", "/x/vectors", 200},
		{"GET", "/v1/embeddings", 405},
	} {
		w, _ := serve(t, b, httptest.NewRequest(tt.method, tt.path, strings.NewReader(`{"model":"m","input":"hi"}`)))
		if w.Code != tt.want {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
	}
	only := embedders(&llm.Provider{Vendor: llm.OpenAI, Path: "/v1/chat/completions", RoundTripper: good}, &llm.Provider{Vendor: llm.OpenAI, Path: "/api/embeddings", RoundTripper: good})
	good.asked = 0
	if w, _ := embedWith(t, only, `{"model":"m","input":"hi"}`); w.Code != 200 || good.asked != 1 {
		t.Errorf("where a path says what is there: %d %s, asked %d times", w.Code, w.Body, good.asked)
	}
}
