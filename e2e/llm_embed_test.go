package e2e

import (
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/testaws"
)

// An embedded is what a client reads of embeddings.
type embedded struct {
	Vectors [][]float64
	Input   int64 // tokens
	Model   string
}

// Official clients have texts embedded through the gateway by strict stand-ins of every vendor that
// embeds: as numbers and as the bytes of them, one text and two, which some take one at a time.
func TestLLMEmbeddings(t *testing.T) {
	t.Parallel()
	bedrock := httptest.NewServer(&testaws.Bedrock{Region: "us-west-2", Key: llmtest.Key})
	t.Cleanup(bedrock.Close)
	host, port, err := net.SplitHostPort(bedrock.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	backends := ""
	add := func(name, provider string) { backends += routeTo(name) + llmtest.Backend(name, provider) }
	for _, v := range []llmtest.Vendor{llmtest.OpenAI, llmtest.Gemini, llmtest.VertexGemini} {
		s := llmtest.Start(v)
		t.Cleanup(func() {
			s.Close()
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
		add(v.String(), strings.Replace(s.Provider(""), "gemini-3-pro", "text-embedding-005", 1))
	}
	const titan, cohere, nova = "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0", "amazon.nova-2-multimodal-embeddings-v1:0"
	for name, model := range map[string]string{"titan": titan, "cohere": cohere, "nova": nova} {
		add(name, fmt.Sprintf("host: %s, port: %s, bedrock: {region: us-west-2, model: %q, authToken: {kind: Inline, inline: %s}}", host, port, model, llmtest.Key))
	}
	g := serve(t, func(port int) string { return gatewayOn(port) + backends })
	for _, at := range []struct {
		name, model string
		each        bool // the tokens of each text are told, and not those of all
	}{
		{"openai", llmtest.Model, false}, {"gemini", "asked", false}, {"vertex-gemini", "text-embedding-005", true},
		{"titan", titan, true}, {"cohere", cohere, false}, {"nova", nova, true},
	} {
		for _, texts := range [][]string{{"a"}, {"a", "b"}} {
			t.Run(fmt.Sprintf("%d at %s", len(texts), at.name), func(t *testing.T) {
				url := fmt.Sprintf("http://127.0.0.1:%d/llm/%s", g.Port, at.name)
				want := embedded{Input: llmtest.InputTokens, Model: at.model}
				for range texts {
					want.Vectors = append(want.Vectors, []float64{0.25, -0.5, 1})
				}
				if at.each {
					want.Input *= int64(len(texts))
				}
				if diff := cmp.Diff(want, embedOpenAI(t, url, texts)); diff != "" {
					t.Errorf("openai-go (-want +got):\n%s", diff)
				}
				var out struct{ Base64, Float embedded }
				runNode(t, &out, "embeddings", url, llmtest.ClientKey, map[int]string{1: "one", 2: "two"}[len(texts)], llmtest.Sentinel)
				if diff := cmp.Diff(want, out.Base64); diff != "" {
					t.Errorf("npm openai (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want, out.Float); diff != "" {
					t.Errorf("npm openai with numbers (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want.Vectors, embedGoogle(t, url, texts)); diff != "" {
					t.Errorf("genai (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// embedOpenAI has OpenAI's client embed texts.
func embedOpenAI(t *testing.T, url string, texts []string) (out embedded) {
	t.Helper()
	ask := openai.EmbeddingNewParams{Model: "asked", Dimensions: openai.Int(256), Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: texts}}
	if len(texts) == 1 {
		ask.Input = openai.EmbeddingNewParamsInputUnion{OfString: openai.String(texts[0])}
	}
	client := openAIClient(url)
	list, err := client.Embeddings.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list.Data {
		out.Vectors = append(out.Vectors, d.Embedding)
	}
	out.Input, out.Model = list.Usage.PromptTokens, string(list.Model)
	return out
}

// embedGoogle has Google's client embed texts.
func embedGoogle(t *testing.T, url string, texts []string) (out [][]float64) {
	t.Helper()
	var contents []*genai.Content
	for _, text := range texts {
		contents = append(contents, genai.NewContentFromText(text, genai.RoleUser))
	}
	list, err := generateClient(t, url).Models.EmbedContent(t.Context(), "asked", contents, &genai.EmbedContentConfig{TaskType: "CLUSTERING"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Embeddings {
		vector := make([]float64, len(e.Values))
		for i, v := range e.Values {
			vector[i] = float64(v)
		}
		out = append(out, vector)
	}
	return out
}
