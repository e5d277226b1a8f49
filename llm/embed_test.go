package llm_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
		{`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hunter2"}]}],"title":"hunter3"}`, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"<PASSWORD>"}]}],"title":"<PASSWORD>"}`},
		{`{"model":"m","input":[1,2]}`, ""},
		{`{"model":"m","input":["a",[1,2]]}`, ""},
		{`{"model":"m","Input":"hunter2"}`, ""},
	} {
		s, w, _ := under(t, p, llm.OpenAI, "embed", tt.in, goodVectors)
		if want := map[bool]int{true: 200, false: 400}[tt.want != ""]; w.Code != want || string(s.body) != tt.want {
			t.Errorf("%s: %d %s, the provider gets %s", tt.in, w.Code, w.Body, s.body)
		}
	}
	for client, in := range map[string]string{
		"content": `{"content":{"parts":[{"text":"hunter2"}]},"embedContentConfig":{"title":"hunter2"}}`, "contents": `{"requests":[{"content":{"parts":[{"text":"a"},{"text":"hunter2"}]},"title":"hunter2"}]}`,
	} {
		s, w, _ := under(t, p, llm.Gemini, client, in, `{"embedding":{"values":[1]},"embeddings":[{"values":[1]}]}`)
		if want := strings.ReplaceAll(in, "hunter2", "<PASSWORD>"); w.Code != 200 || string(s.body) != want {
			t.Errorf("%s: %d %s, the provider gets %s", client, w.Code, w.Body, s.body)
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
	r := httptest.NewRequest(http.MethodPost, paths["embed"], strings.NewReader(body))
	r.Header.Set("Idempotency-Key", "once")
	return serve(t, b, r)
}

// A provider without embeddings is passed over, one that fails is made good by the next, and what
// embedding costs is known.
func TestEmbeddingsFailover(t *testing.T) {
	none := &script{do: replies(200, strings.NewReader("{}"))}
	busy := &script{do: replies(429, strings.NewReader(`{"error":{"message":"slow down","type":"requests"}}`))}
	good := &script{do: replies(200, strings.NewReader(goodVectors))}
	b := embedders(&llm.Provider{Vendor: llm.Anthropic, RoundTripper: none}, &llm.Provider{Vendor: llm.OpenAI, RoundTripper: busy}, &llm.Provider{Vendor: llm.AzureOpenAI, APIVersion: "v1", RoundTripper: good})
	for range 2 {
		w, rec := embedWith(t, b, `{"model":"text-embedding-3-small","input":"hi","stream":true,"dimensions":3,"encoding_format":"float"}`)
		if w.Code != 200 || w.Body.String() != goodVectors || w.Header().Get("X-Mcpgw-Cost") != "0.00000004" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		if l := rec.LLM; l.Operation != "embeddings" || l.Provider != "azure.ai.openai" || l.Usage.Input != 2 || l.Usage.Output != 0 || l.Stream || l.Dimensions != 3 || l.Encoding != "float" {
			t.Errorf("the record is %+v", l)
		}
	}
	if none.asked != 0 || busy.asked != 1 || good.asked != 2 {
		t.Errorf("they were asked %d, %d and %d times", none.asked, busy.asked, good.asked)
	}
}

// Where bytes pass embeddings may be anything: of other types, of many vectors, not numbered.
func TestEmbeddingsPass(t *testing.T) {
	for _, reply := range []string{
		`{"data":[{"embedding":"AQI="},{"embedding":[[1,2],[3]]}],"model":"m"}`,
		`{"data":[{"index":0,"embedding":{"int8":[1]}},{"index":0,"embedding":[1]}],"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}`,
	} {
		w, _ := embedWith(t, embedders(&llm.Provider{Vendor: llm.OpenAI, RoundTripper: &script{do: replies(200, strings.NewReader(reply))}}), `{"model":"m","input":["a","b"]}`)
		if w.Code != 200 || w.Body.String() != reply {
			t.Errorf("%d %s", w.Code, w.Body)
		}
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

// A cutter is a provider that embeds what it is asked as one number, the length of the text, and
// fails at a part that holds one text.
type cutter struct {
	bad string
	do  func(r *http.Request) (*http.Response, error)

	mu        sync.Mutex
	bodies    []string
	now, most int // at a time
}

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.bodies = append(c.bodies, string(body))
	shared := len(c.bodies) > 1 && r.Header.Get("Idempotency-Key") != ""
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
	}()
	if shared {
		return nil, errors.New("the parts have one key")
	}
	if c.bad != "" && strings.Contains(string(body), c.bad) {
		return c.do(r)
	}
	var wire struct {
		Text     string   `json:"inputText"`
		Texts    []string `json:"texts"`
		Requests []struct {
			Content struct{ Parts []struct{ Text string } }
		}
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	var vectors []string
	for _, text := range wire.Texts {
		vectors = append(vectors, fmt.Sprintf("[%d]", len(text)))
	}
	for _, one := range wire.Requests {
		vectors = append(vectors, fmt.Sprintf(`{"values":[%d]}`, len(one.Content.Parts[0].Text)))
	}
	reply := fmt.Sprintf(`{"embeddings":[%s]}`, strings.Join(vectors, ","))
	if wire.Text != "" {
		reply = fmt.Sprintf(`{"embedding":[%d],"inputTextTokenCount":2}`, len(wire.Text))
	}
	return replies(200, strings.NewReader(reply), "X-Amzn-Bedrock-Input-Token-Count: 96")(r)
}

// texts are n texts, of which no two are of one length.
func texts(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = strings.Repeat("x", i+1)
	}
	b, _ := json.Marshal(list)
	return string(b)
}

// A request for more than the provider takes at once becomes several, whose embeddings come back
// in order, with all that they took.
func TestEmbeddingsParts(t *testing.T) {
	for _, tt := range []struct {
		vendor       llm.Vendor
		model        string
		texts, parts int
		input        int64
	}{
		{vendor: llm.Bedrock, model: "amazon.titan-embed-text-v2:0", texts: 20, parts: 20, input: 40},
		{vendor: llm.Bedrock, model: "cohere.embed-v4:0", texts: 96, parts: 1, input: 96},
		{vendor: llm.Bedrock, model: "cohere.embed-v4:0", texts: 97, parts: 2, input: 192},
		{vendor: llm.Gemini, model: "gemini-embedding-001", texts: 250, parts: 3},
	} {
		c := &cutter{}
		b := embedders(&llm.Provider{Vendor: tt.vendor, RoundTripper: c})
		w, rec := embedWith(t, b, fmt.Sprintf(`{"model":%q,"input":%s,"user":"u"}`, tt.model, texts(tt.texts)))
		var list struct {
			Data []struct {
				Index     int
				Embedding []float64
			}
			Usage struct {
				Input int64 `json:"prompt_tokens"`
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", tt.model, w.Code, w.Body)
		}
		for i, d := range list.Data {
			if d.Index != i || len(d.Embedding) != 1 || d.Embedding[0] != float64(i+1) {
				t.Fatalf("%s: embedding %d is %+v", tt.model, i, d)
			}
		}
		if len(list.Data) != tt.texts || len(c.bodies) != tt.parts || list.Usage.Input != tt.input || rec.LLM.Usage.Input != tt.input || rec.LLM.Dropped != "user" {
			t.Errorf("%s: %d embeddings in %d parts, %d tokens, %+v", tt.model, len(list.Data), len(c.bodies), list.Usage.Input, rec.LLM)
		}
		if c.most > 8 {
			t.Errorf("%s: %d parts at a time", tt.model, c.most)
		}
	}
	w, _ := embedWith(t, embedders(&llm.Provider{Vendor: llm.Bedrock, RoundTripper: &cutter{}}), fmt.Sprintf(`{"model":"cohere.embed-v4:0","input":%s}`, texts(2049)))
	if w.Code != 400 || !strings.Contains(w.Body.String(), "2048") {
		t.Errorf("too many: %d %s", w.Code, w.Body)
	}
}

// When one part fails all do: the next provider is asked for everything, or the client told why.
func TestEmbeddingsPartFails(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*http.Request) (*http.Response, error)
		want int // without another provider
		next bool
	}{
		"busy":        {replies(429, strings.NewReader(`{"message":"slow down"}`), "X-Amzn-Errortype: ThrottlingException"), 429, true},
		"unreachable": {faults()["refused"], 503, true},
		"compressed":  {replies(200, strings.NewReader("x"), "Content-Encoding: gzip"), 502, true},
		"malformed":   {replies(200, strings.NewReader(`{"embedding":`)), 502, true},
		"no vector":   {replies(200, strings.NewReader(`{"embedding":"?"}`)), 502, true},
		"wrong":       {replies(400, strings.NewReader(`{"message":"too long"}`), "X-Amzn-Errortype: ValidationException"), 400, false},
	} {
		ask := fmt.Sprintf(`{"model":"amazon.titan-embed-text-v2:0","input":%s}`, texts(12))
		bad := func() *llm.Provider {
			return &llm.Provider{Vendor: llm.Bedrock, RoundTripper: &cutter{bad: `"xxxx"`, do: tt.do}}
		}
		w, _ := embedWith(t, embedders(bad()), ask)
		if w.Code != tt.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		good := &cutter{}
		w, rec := embedWith(t, embedders(bad(), &llm.Provider{Vendor: llm.Bedrock, RoundTripper: good}), ask)
		if (w.Code == 200) != tt.next || tt.next && (len(good.bodies) != 12 || rec.Attempts != 2 || rec.LLM.Usage.Input != 24) {
			t.Errorf("%s, with another provider: %d %s, which was asked %d times", name, w.Code, w.Body, len(good.bodies))
		}
	}
}

// A client that leaves ends all parts.
func TestEmbeddingsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{}, 100)
	c := &cutter{bad: "x", do: func(r *http.Request) (*http.Response, error) {
		cancel()
		<-r.Context().Done()
		left <- struct{}{}
		return nil, context.Cause(r.Context())
	}}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, paths["embed"], strings.NewReader(fmt.Sprintf(`{"model":"amazon.titan-embed-text-v2:0","input":%s}`, texts(20))))
	err := embedders(&llm.Provider{Vendor: llm.Bedrock, RoundTripper: c}).Serve(httptest.NewRecorder(), r)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if n := len(left); n == 0 || n != len(c.bodies) {
		t.Errorf("%d of %d parts have ended", n, len(c.bodies))
	}
}

// Where a provider can't embed what is asked for, the next one may.
func TestEmbeddingsElsewhere(t *testing.T) {
	c, good := &cutter{}, &script{do: replies(200, strings.NewReader(goodVectors))}
	b := embedders(&llm.Provider{Vendor: llm.Gemini, RoundTripper: c}, &llm.Provider{Vendor: llm.OpenAI, RoundTripper: good})
	if w, rec := embedWith(t, b, `{"model":"text-embedding-3-small","input":[1,2,3]}`); w.Code != 200 || rec.LLM.Provider != "openai" || len(c.bodies) != 0 {
		t.Errorf("%d %s of %s", w.Code, w.Body, rec.LLM.Provider)
	}
}

// Where each vendor has its embeddings.
func TestEmbeddingsTargets(t *testing.T) {
	place := llm.VertexModel{Project: "p", Location: "l"}
	for _, tt := range []struct {
		provider   llm.Provider
		client, in string
		path, want string // "" is what was sent
	}{
		{llm.Provider{Vendor: llm.OpenAI}, "embed", `{"model":"m","input":"a"}`, "/v1/embeddings", ""},
		{llm.Provider{Vendor: llm.OpenAI, Prefix: "/api/v4"}, "embed", `{"model":"m","input":"a"}`, "/api/v4/embeddings", ""},
		{llm.Provider{Vendor: llm.OpenAI, Model: "other"}, "embed", `{"model":"m","input":"a"}`, "/v1/embeddings", `{"model":"other","input":"a"}`},
		{llm.Provider{Vendor: llm.AzureOpenAI, APIVersion: "v1"}, "embed", `{"model":"m","input":"a"}`, "/openai/v1/embeddings", ""},
		{llm.Provider{Vendor: llm.AzureOpenAI, APIVersion: "preview"}, "embed", `{"model":"m","input":"a"}`, "/openai/v1/embeddings?api-version=preview", ""},
		{llm.Provider{Vendor: llm.Gemini, Compat: true}, "embed", `{"model":"m","input":"a"}`, "/v1beta/openai/embeddings", ""},
		{llm.Provider{Vendor: llm.Gemini, Compat: true}, "content", `{"content":{"parts":[{"text":"a"}]}}`, "/v1beta/openai/embeddings", `{"model":"asked-model","input":["a"],"encoding_format":"float"}`},
		{llm.Provider{Vendor: llm.VertexAI, Vertex: place, Model: "gemini-embedding-2"}, "content", `{"model":"models/asked-model","content":{"parts":[{"text":"a"}]},"taskType":"CLUSTERING"}`,
			"/v1beta1/projects/p/locations/l/publishers/google/models/gemini-embedding-2:embedContent", `{"content":{"parts":[{"text":"a"}]},"taskType":"CLUSTERING"}`},
		{llm.Provider{Vendor: llm.VertexAI, Vertex: place, Model: "intfloat/e5-maas"}, "embed", `{"model":"m","input":"a"}`,
			"/v1beta1/projects/p/locations/l/publishers/intfloat/models/e5-maas:embedContent", `{"content":{"parts":[{"text":"a"}]}}`},
		{llm.Provider{Vendor: llm.VertexAI, Vertex: place, Model: "endpoints/123"}, "embed", `{"model":"m","input":"a"}`, "/v1beta1/projects/p/locations/l/endpoints/123:predict", `{"instances":[{"content":"a"}]}`},
	} {
		s := &standIn{status: 400, header: http.Header{}, reply: strings.NewReader("{}")}
		tt.provider.RoundTripper = s
		w, _ := serve(t, embedders(&tt.provider), httptest.NewRequest(http.MethodPost, paths[tt.client], strings.NewReader(tt.in)))
		if want := cmp.Or(tt.want, tt.in); s.path != tt.path || string(s.body) != want {
			t.Errorf("%d %s: %s gets %s, not %s", w.Code, w.Body, s.path, s.body, want)
		}
	}
}

// A client of Gemini's whose model the configuration renames: it stands in the path and in each
// request.
func TestEmbeddingsRenamed(t *testing.T) {
	for _, tt := range []struct{ client, in, path, want string }{
		{"contents", `{"requests":[ {"model":"models/asked-model", "content":{"parts":[{"text":"a"}]}}],"x":1}`, "/v1beta/models/other:batchEmbedContents",
			`{"requests":[{"model":"models/other", "content":{"parts":[{"text":"a"}]}}],"x":1}`},
		{"content", `{"model":"models/asked-model","content":{"parts":[{"text":"a"}]}}`, "/v1beta/models/other:embedContent", `{"model":"models/other","content":{"parts":[{"text":"a"}]}}`},
		{"content", `{"content":{"parts":[{"text":"a"}]}}`, "/v1beta/models/other:embedContent", `{"content":{"parts":[{"text":"a"}]}}`},
	} {
		s := &standIn{status: 200, header: http.Header{}, reply: strings.NewReader(`{"embedding":{"values":[1]},"embeddings":[{"values":[1]}]}`)}
		b := embedders(&llm.Provider{Vendor: llm.Gemini, Model: "other", RoundTripper: s})
		w, _ := serve(t, b, httptest.NewRequest(http.MethodPost, paths[tt.client], strings.NewReader(tt.in)))
		if w.Code != 200 || s.path != tt.path || string(s.body) != tt.want {
			t.Errorf("%d %s: %s gets %s", w.Code, w.Body, s.path, s.body)
		}
	}
}
