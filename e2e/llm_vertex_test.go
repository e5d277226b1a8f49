package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// serviceAccount writes the key of a service account whose tokens are at url, and returns the
// file's name.
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
	key, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "gw@p-1.iam.gserviceaccount.com", "token_uri": url,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key.json")
	testgateway.WriteFile(t, name, string(key))
	return name
}

// The clients of OpenAI, Anthropic and Google reach Gemini and Claude at Vertex AI, with a token
// of the application default credentials, whole and streamed.
func TestLLMVertex(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("assertion") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		tokens.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":3600,"token_type":"Bearer"}`, llmtest.Key)
	}))
	t.Cleanup(endpoint.Close)
	gemini, claude := llmtest.Start(llmtest.VertexGemini), llmtest.Start(llmtest.VertexClaude)
	t.Cleanup(gemini.Close)
	t.Cleanup(claude.Close)
	ambient := func(s *llmtest.Server) string {
		return strings.Replace(s.Provider(""), "authToken: {kind: Inline, inline: "+llmtest.Key+"}, ", "", 1)
	}
	g := startGateway(t, "serve", []string{"GOOGLE_APPLICATION_CREDENTIALS=" + serviceAccount(t, endpoint.URL)}, func(port int) string {
		return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: default}\nspec:\n  gatewayClassName: mcpgw\n  listeners: [{name: http, port: %d, protocol: HTTP}]\n---\n", port) +
			route("gemini") + route("claude") + llmtest.Backend("gemini", ambient(gemini)) + "---\n" + llmtest.Backend("claude", ambient(claude))
	})
	for _, model := range []string{"gemini", "claude"} {
		base := fmt.Sprintf("http://127.0.0.1:%d/%s", g.Port, model)
		openAI := openai.NewClient(option.WithBaseURL(base+"/v1"), option.WithAPIKey(llmtest.ClientKey), option.WithMaxRetries(0))
		ask := openai.ChatCompletionNewParams{Model: "any", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}}
		whole, err := openAI.Chat.Completions.New(t.Context(), ask)
		if err != nil || whole.Choices[0].Message.Content != llmtest.Hello.Text {
			t.Errorf("%s: OpenAI's client: %v, %+v", model, err, whole)
		}
		stream := openAI.Chat.Completions.NewStreaming(t.Context(), ask)
		var acc openai.ChatCompletionAccumulator
		for stream.Next() {
			acc.AddChunk(stream.Current())
		}
		if stream.Err() != nil || acc.Choices[0].Message.Content != llmtest.Hello.Text {
			t.Errorf("%s: OpenAI's client, streamed: %v, %+v", model, stream.Err(), acc.ChatCompletion)
		}

		anthropicClient := anthropic.NewClient(anthropicoption.WithBaseURL(base), anthropicoption.WithAPIKey(llmtest.ClientKey), anthropicoption.WithMaxRetries(0))
		events := anthropicClient.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{
			Model: "any", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi"))},
		})
		var message anthropic.Message
		for events.Next() {
			if err := message.Accumulate(events.Current()); err != nil {
				t.Fatal(err)
			}
		}
		text := ""
		for _, b := range message.Content {
			text += b.Text
		}
		if events.Err() != nil || text != llmtest.Hello.Text {
			t.Errorf("%s: Anthropic's client: %v, %q", model, events.Err(), text)
		}

		google, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: llmtest.ClientKey, Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: base}})
		if err != nil {
			t.Fatal(err)
		}
		text = ""
		for r, err := range google.Models.GenerateContentStream(t.Context(), "any", genai.Text("hi"), nil) {
			if err != nil {
				t.Fatal(err)
			}
			text += r.Text()
		}
		if text != llmtest.Hello.Text {
			t.Errorf("%s: Google's client: %q", model, text)
		}
	}
	if err := gemini.Check(); err != nil {
		t.Error(err)
	}
	if err := claude.Check(); err != nil {
		t.Error(err)
	}
	if n := tokens.Load(); n != 1 {
		t.Errorf("%d tokens were fetched", n)
	}
}

// route returns an HTTPRoute that leads to the Backend of that name, at its name.
func route(name string) string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: default}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /%[1]s}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: %[1]s}]
---
`, name)
}
