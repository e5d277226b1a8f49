package llm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/pagination"
	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A library is a provider that lists models, and says which one it was asked for.
type library struct {
	pages map[string]string // by target
	down  bool
	got   []string // targets, and models behind a space
	head  http.Header
}

func (l *library) RoundTrip(r *http.Request) (*http.Response, error) {
	l.head = r.Header
	if r.Method == http.MethodPost {
		var body struct{ Model string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, err
		}
		l.got = append(l.got, r.URL.RequestURI()+" "+body.Model)
		return replies(200, strings.NewReader(goodBody))(r)
	}
	l.got = append(l.got, r.URL.RequestURI())
	page, ok := l.pages[r.URL.RequestURI()]
	if !ok || l.down {
		return replies(500, strings.NewReader("{}"))(r)
	}
	return replies(200, strings.NewReader(page))(r)
}

func (l *library) provider(name string, v llm.Vendor, models ...string) *llm.Provider {
	return &llm.Provider{Name: name, Vendor: v, RoundTripper: l, Host: v.Host(), Models: models, Credential: llm.Credential{Token: secret.New("key")}, Health: new(llm.Health)}
}

func openAIList(ids ...string) string {
	var data []string
	for _, id := range ids {
		data = append(data, fmt.Sprintf(`{"id":%q,"object":"model","created":7,"owned_by":"system"}`, id))
	}
	return `{"object":"list","data":[` + strings.Join(data, ",") + `]}`
}

func serveLLM(b *llm.Backend, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	var rec telemetry.Record
	rec.Start = time.Now()
	r = r.WithContext(telemetry.NewContext(r.Context(), &rec))
	if err := b.Serve(w, r); err != nil {
		b.WriteError(w, r, err)
	}
	return w
}

func get(path string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return r
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Models come from the configuration and from the providers, and each client reads them as
// its vendor's API has them.
func TestModels(t *testing.T) {
	oai := &library{pages: map[string]string{"/v1/models": openAIList("gpt-5", "shared", "whisper-1")}}
	ant := &library{pages: map[string]string{
		"/v1/models?limit=1000":                   `{"data":[{"type":"model","id":"claude-a","display_name":"Claude A","created_at":"2026-01-02T03:04:05Z"}],"has_more":true,"first_id":"claude-a","last_id":"claude-a"}`,
		"/v1/models?limit=1000&after_id=claude-a": `{"data":[{"type":"model","id":"claude-b","display_name":"Claude B","created_at":"2026-01-02T03:04:05Z"}],"has_more":false,"first_id":"claude-b","last_id":"claude-b"}`,
	}}
	gem := &library{pages: map[string]string{
		"/v1beta/models?pageSize=1000":                 `{"models":[{"name":"models/gemini-a","version":"1","displayName":"Gemini A","inputTokenLimit":1000,"outputTokenLimit":10,"supportedGenerationMethods":["generateContent"]}],"nextPageToken":"n/2"}`,
		"/v1beta/models?pageSize=1000&pageToken=n%2F2": `{"models":[{"name":"models/shared","displayName":"Shared"}]}`,
	}}
	fixed := &library{}
	azure := fixed.provider("azure", llm.AzureOpenAI, "deployed", "wild-*")
	b := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{
		{oai.provider("openai", llm.OpenAI, "gpt-*", "shared")},
		{ant.provider("anthropic", llm.Anthropic, "claude-*"), gem.provider("gemini", llm.Gemini, "gemini-*", "shared")}, {azure},
	}})

	var list struct{ Data []openai.Model }
	w := serveLLM(b, get("/any/v1/models"))
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err, w.Body)
	}
	var ids []string
	for _, m := range list.Data {
		ids = append(ids, m.ID+" of "+m.OwnedBy)
	}
	want := []string{
		"shared of openai", "openai/shared of openai", "gpt-5 of system", "claude-a of anthropic", "claude-b of anthropic",
		"gemini/shared of gcp.gemini", "gemini-a of google", "deployed of azure.ai.openai",
	}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
	if got := w.Header().Get("X-Mcpgw-Unlisted"); got != "" {
		t.Errorf("X-Mcpgw-Unlisted: %s", got)
	}
	if got := ant.head.Get("Anthropic-Version"); got == "" || ant.head.Get("X-Api-Key") != "key" {
		t.Errorf("Anthropic was asked with %v", ant.head)
	}

	var page pagination.Page[anthropic.ModelInfo]
	w = serveLLM(b, get("/v1/models", "anthropic-version: 2023-06-01"))
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Data) != len(want) || page.HasMore || page.FirstID != "shared" || page.LastID != "deployed" {
		t.Errorf("for Anthropic's client: %v, %s", err, w.Body)
	}
	if m := page.Data[3]; m.ID != "claude-a" || m.DisplayName != "Claude A" || !m.CreatedAt.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || page.Data[7].DisplayName != "deployed" {
		t.Errorf("for Anthropic's client: %s", w.Body)
	}

	var google struct{ Models []genai.Model }
	w = serveLLM(b, get("/v1beta/models"))
	if err := json.Unmarshal(w.Body.Bytes(), &google); err != nil || len(google.Models) != len(want) {
		t.Fatalf("for Google's client: %v, %s", err, w.Body)
	}
	if m := google.Models[6]; m.Name != "models/gemini-a" || m.DisplayName != "Gemini A" || m.InputTokenLimit != 1000 || m.OutputTokenLimit != 10 {
		t.Errorf("for Google's client: %s", w.Body)
	}

	for path, want := range map[string]string{
		"/v1/models/gpt-5":           `{"id":"gpt-5","object":"model","created":7,"owned_by":"system"}`,
		"/x/v1/models/openai/shared": `{"id":"openai/shared","object":"model","created":0,"owned_by":"openai"}`,
		"/v1beta/models/gpt-5":       `{"name":"models/gpt-5","version":"","displayName":"gpt-5"}`,
		"/v1/models/whisper-1":       `{"error":{"message":"no provider lists this model: GET the list for those that there are","type":"invalid_request_error","param":"model","code":"model_not_found"}}`,
	} {
		if got := serveLLM(b, get(path)).Body.String(); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	if r := httptest.NewRequest(http.MethodPost, "/v1/models", nil); serveLLM(b, r).Code != http.StatusMethodNotAllowed {
		t.Error("POST /v1/models is answered")
	}
	if n := len(oai.got) + len(ant.got) + len(gem.got) + len(fixed.got); n != 5 {
		t.Errorf("providers were asked %d times in all, %v", n, fixed.got)
	}
}

// A list that fails is what it was before, and the client is told; it is asked for anew after
// a while.
func TestModelsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &library{down: true, pages: map[string]string{"/v1/models": openAIList("gpt-5")}}
		b := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{{l.provider("", llm.OpenAI)}}})
		look := func(wantModels int, wantUnlisted string, wantAsked int) {
			t.Helper()
			w := serveLLM(b, get("/v1/models"))
			if got := strings.Count(w.Body.String(), `"object":"model"`); got != wantModels || w.Header().Get("X-Mcpgw-Unlisted") != wantUnlisted || len(l.got) != wantAsked {
				t.Errorf("%d %v %s, asked %d times", w.Code, w.Header(), w.Body, len(l.got))
			}
		}
		look(0, "openai", 1)
		look(0, "openai", 1)
		l.down = false
		time.Sleep(10 * time.Second)
		look(1, "", 2)
		l.down = true
		time.Sleep(5*time.Minute - 1)
		look(1, "", 2)
		time.Sleep(1)
		look(1, "openai", 3)
	})
}

// What one client may use is not shown to the next: with the client's own key each list is
// asked for.
func TestModelsPassthrough(t *testing.T) {
	l := &library{pages: map[string]string{"/v1/models": openAIList("gpt-5")}}
	p := l.provider("", llm.OpenAI)
	p.Credential = llm.Credential{Passthrough: true}
	b := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{{p}}})
	for i := range 2 {
		w := serveLLM(b, get("/v1/models", "Authorization: Bearer mine"))
		if !strings.Contains(w.Body.String(), "gpt-5") || len(l.got) != i+1 || l.head.Get("Authorization") != "Bearer mine" {
			t.Errorf("%s, asked %d times with %v", w.Body, len(l.got), l.head)
		}
	}
	if w := serveLLM(b, get("/v1/models")); w.Header().Get("X-Mcpgw-Unlisted") != "openai" || len(l.got) != 2 {
		t.Errorf("without a key: %v %s", w.Header(), w.Body)
	}
}

// The model says which provider is asked.
func TestChoice(t *testing.T) {
	first, second, rest := new(library), new(library), new(library)
	prefixed := rest.provider("rest", llm.OpenAI)
	prefixed.Prefix = "/openai/v1/"
	b := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{
		{first.provider("first", llm.OpenAI, "gpt-*")}, {second.provider("second", llm.OpenAI, "gpt-*", "llama")}, {prefixed},
	}})
	ask := func(b *llm.Backend, model string) *httptest.ResponseRecorder {
		body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]}`, model)
		return serveLLM(b, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", io.NopCloser(strings.NewReader(body))))
	}
	for _, model := range []string{"gpt-5", "llama", "second/gpt-5", "first/any", "other", "other/model", "rest/gpt-5"} {
		if w := ask(b, model); w.Code != 200 {
			t.Errorf("%s: %d %s", model, w.Code, w.Body)
		}
	}
	got := map[string][]string{"first": first.got, "second": second.got, "rest": rest.got}
	want := map[string][]string{
		"first":  {"/v1/chat/completions gpt-5", "/v1/chat/completions any"},
		"second": {"/v1/chat/completions llama", "/v1/chat/completions gpt-5"},
		"rest":   {"/openai/v1/chat/completions other", "/openai/v1/chat/completions other/model", "/openai/v1/chat/completions gpt-5"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	only := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{{first.provider("first", llm.OpenAI, "gpt-*")}}})
	w := ask(only, "claude")
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), `"code":"model_not_found"`) || !strings.Contains(w.Body.String(), "there are gpt-* (first)") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
