package gateway

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/config"
)

// newTokenServer returns the token endpoint of Google and of Microsoft Entra ID, which gives
// numbered tokens or, while it is down, none; and the count of what it gave.
func newTokenServer(t *testing.T) (url string, given *atomic.Int64, down *atomic.Bool) {
	t.Helper()
	given, down = new(atomic.Int64), new(atomic.Bool)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, `{"access_token":"token-%d","expires_in":3600,"token_type":"Bearer"}`, given.Add(1))
	}))
	t.Cleanup(s.Close)
	return s.URL, given, down
}

// serviceAccount returns a Secret named key with the key of a service account whose tokens
// are at url.
func serviceAccount(t *testing.T, url string) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "client_email": "gw@p-1.iam.gserviceaccount.com", "token_uri": url,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(string(key))
	if err != nil {
		t.Fatal(err)
	}
	return "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {Authorization: " + string(quoted) + "}\n"
}

// At Vertex AI, clients of Google, Anthropic and OpenAI reach Gemini and Claude, with a token
// that is fetched once for the service account, and lives on when the configuration changes.
func TestLLMVertex(t *testing.T) {
	url, given, _ := newTokenServer(t)
	secret := serviceAccount(t, url)
	s := newGeminiServer(t)
	vertex := "vertexAI: {model: %s, project: p-1, location: us-central1, authToken: {secretRef: {name: key}}}"
	g := start(t, s.provider(fmt.Sprintf(vertex, "gemini-3-pro"))+secret)
	google, claude, openAI := geminiClient(t, g.url("8080", "/llm/model")), anthropicClient(g.url("8080", "/llm/model")), openAIClient(g.url("8080", "/llm/model/v1"))

	whole, err := google.Models.GenerateContent(t.Context(), "any", genai.Text("hi"), nil)
	if err != nil || whole.Text() != "well" {
		t.Fatal(err, whole)
	}
	path, _, head, _ := s.seen()
	if path != "/v1beta1/projects/p-1/locations/us-central1/publishers/google/models/gemini-3-pro:generateContent" || head.Get("Authorization") != "Bearer token-1" || head.Get("X-Goog-Api-Key") != "" {
		t.Errorf("the provider is asked at %s with %v", path, head)
	}
	message, err := claude.Messages.New(t.Context(), helloClaude("hi"))
	if err != nil || message.StopReason != "tool_use" {
		t.Error(err, message)
	}
	if answer, err := openAI.Chat.Completions.New(t.Context(), hello("hi")); err != nil || answer.Choices[0].Message.Content != "well" {
		t.Error(err, answer)
	}

	a := newAnthropicServer(t)
	g.apply(a.provider(fmt.Sprintf(vertex, "claude-sonnet-4-5")) + secret)
	message, err = claude.Messages.New(t.Context(), helloClaude("hi"))
	if err != nil || message.Model != "claude-x-1" {
		t.Fatal(err, message)
	}
	path, _, head, body := a.seen()
	if path != "/v1beta1/projects/p-1/locations/us-central1/publishers/anthropic/models/claude-sonnet-4-5:rawPredict" || head.Get("Authorization") != "Bearer token-1" || strings.Contains(body, `"model"`) || !strings.Contains(body, `"anthropic_version":"vertex-2023-10-16"`) {
		t.Errorf("the provider is asked at %s with %v %s", path, head, body)
	}
	stream := claude.Messages.NewStreaming(t.Context(), helloClaude("hi"))
	var acc anthropic.Message
	for stream.Next() {
		if err := acc.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if path, _, _, _ := a.seen(); stream.Err() != nil || acc.StopReason != "end_turn" || !strings.HasSuffix(path, ":streamRawPredict") {
		t.Errorf("%v, %s, %s", stream.Err(), acc.StopReason, path)
	}
	if whole, err = google.Models.GenerateContent(t.Context(), "any", genai.Text("hi"), nil); err != nil || whole.Text() != "hi" {
		t.Error(err, whole)
	}
	if given.Load() != 1 {
		t.Errorf("%d tokens were fetched", given.Load())
	}

	o := newOpenAIServer(t)
	for model, want := range map[string]string{"gemini-3-pro, compat: true": "google/gemini-3-pro", "meta/llama-4": "meta/llama-4", "publishers/meta/models/llama-4": "meta/llama-4", "llama-4, publisher: meta, apiVersion: v1": "meta/llama-4"} {
		g.apply(o.provider(fmt.Sprintf(vertex, model)) + secret)
		if _, err := openAI.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
			t.Fatal(err)
		}
		if path, _, _, body := o.seen(); !strings.HasSuffix(path, "/projects/p-1/locations/us-central1/endpoints/openapi/chat/completions") || !strings.Contains(body, `"model":"`+want+`"`) {
			t.Errorf("%s: %s, %s", model, path, body)
		}
	}
	g.apply(o.provider(fmt.Sprintf(vertex, "mistralai/mistral-medium-3, modelPath: rawPredict")) + secret)
	if _, err := openAI.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
		t.Fatal(err)
	}
	if path, _, _, _ := o.seen(); path != "/v1beta1/projects/p-1/locations/us-central1/publishers/mistralai/models/mistral-medium-3:rawPredict" {
		t.Errorf("asked at %s", path)
	}
}

// Each location has a host of its own.
func TestLLMVertexHosts(t *testing.T) {
	for location, host := range map[string]string{
		"global": "aiplatform.googleapis.com", "us-east5": "us-east5-aiplatform.googleapis.com", "eu": "aiplatform.eu.rep.googleapis.com",
	} {
		rt, err := NewRuntime(RuntimeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		snapshot, report := Compile(load(t, `
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec: {type: AI, ai: {llm: {vertexAI: {model: gemini-3-pro, project: p, location: `+location+`}}}}
`), rt)
		if _, ok := snapshot.pools["LLM/tls/"+host+":443/0"]; !ok || report.Has(config.Invalid) || report.Has(config.Unresolved) {
			t.Errorf("%s: %v, %+v", location, snapshot.pools, report)
		}
	}
}

// While there is no token, nothing is sent to a provider, and the next one answers; a key that is none
// is reported.
func TestLLMVertexWithoutToken(t *testing.T) {
	url, given, down := newTokenServer(t)
	down.Store(true)
	s, o := newGeminiServer(t), newOpenAIServer(t)
	groups := fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec:
  type: AI
  ai:
    priorityGroups:
    - providers: [{name: one, host: %s, port: %s, vertexAI: {model: gemini-3-pro, project: p, location: global, authToken: {secretRef: {name: key}}}}]
    - providers: [{name: two, host: %s, port: %s, openai: {authToken: {inline: k}}}]
`, s.host, s.port, o.host, o.port)
	g := start(t, groups+serviceAccount(t, url))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	for range 5 {
		if answer, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil || answer.Model != "gpt-5-2026" {
			t.Fatal(err)
		}
	}
	if path, _, _, _ := s.seen(); path != "" || given.Load() != 0 {
		t.Errorf("asked at %s without a token", path)
	}
	g.apply(s.provider("vertexAI: {model: gemini-3-pro, project: p, location: global, authToken: {secretRef: {name: key}}}") + serviceAccount(t, url))
	r := g.do("POST", g.url("8080", "/llm/model/v1/messages"), strings.NewReader(`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`))
	if want := `{"type":"error","error":{"type":"api_error","message":"the gateway has no credential for the provider"}}`; r.Status != 502 || r.Body != want {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// Azure is shown a token of Microsoft Entra ID when the configuration has no key.
func TestLLMEntra(t *testing.T) {
	url, given, _ := newTokenServer(t)
	t.Setenv("AZURE_AUTHORITY_HOST", url)
	t.Setenv("AZURE_TENANT_ID", "t-1")
	t.Setenv("AZURE_CLIENT_ID", "c-1")
	t.Setenv("AZURE_CLIENT_SECRET", "s-1")
	s := newOpenAIServer(t)
	g := start(t, s.provider("azureOpenAI: {endpoint: https://name.openai.azure.com/, deploymentName: d, apiVersion: v1}"))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	for range 2 {
		if _, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
			t.Fatal(err)
		}
	}
	path, _, head, _ := s.seen()
	if path != "/openai/v1/chat/completions" || head.Get("Authorization") != "Bearer token-1" || head.Get("Api-Key") != "" || given.Load() != 1 {
		t.Errorf("%s, %v, %d tokens", path, head, given.Load())
	}
	for host, resource := range map[string]string{
		"name.openai.azure.com": "https://cognitiveservices.azure.com", "name.services.ai.azure.com": "https://ai.azure.com",
		"name.openai.azure.us": "https://cognitiveservices.azure.us", "name.openai.azure.cn": "https://cognitiveservices.azure.cn",
	} {
		if got := entraResource(host); got != resource {
			t.Errorf("%s: %s", host, got)
		}
	}
}
