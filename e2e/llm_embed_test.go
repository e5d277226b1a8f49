package e2e

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"

	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// An embedded is what a client reads of embeddings.
type embedded struct {
	Vectors [][]float64
	Input   int64 // tokens
	Model   string
}

// Official clients have texts embedded through the gateway by strict stand-ins, as numbers and as
// the bytes of them.
func TestLLMEmbeddings(t *testing.T) {
	t.Parallel()
	server := llmtest.Start(llmtest.OpenAI)
	t.Cleanup(server.Close)
	g := serve(t, func(port int) string {
		return gatewayOn(port) + routeTo("openai") + llmtest.Backend("openai", server.Provider(""))
	})
	url := fmt.Sprintf("http://127.0.0.1:%d/llm/openai", g.port)
	vector := []float64{0.25, -0.5, 1}
	for _, texts := range [][]string{{"a"}, {"a", "b"}} {
		want := embedded{Input: llmtest.InputTokens, Model: llmtest.Model}
		for range texts {
			want.Vectors = append(want.Vectors, vector)
		}
		if diff := cmp.Diff(want, embedOpenAI(t, url, texts)); diff != "" {
			t.Errorf("openai-go, %d texts (-want +got):\n%s", len(texts), diff)
		}
		var out struct{ Base64, Float embedded }
		runNode(t, &out, "embeddings", url, llmtest.ClientKey, map[int]string{1: "one", 2: "two"}[len(texts)], llmtest.Sentinel)
		if diff := cmp.Diff(want, out.Base64); diff != "" {
			t.Errorf("npm openai, %d texts (-want +got):\n%s", len(texts), diff)
		}
		if diff := cmp.Diff(want, out.Float); diff != "" {
			t.Errorf("npm openai with numbers, %d texts (-want +got):\n%s", len(texts), diff)
		}
	}
	if err := server.Check(); err != nil {
		t.Error(err)
	}
}

// embedOpenAI has OpenAI's client embed texts.
func embedOpenAI(t *testing.T, url string, texts []string) (out embedded) {
	t.Helper()
	ask := openai.EmbeddingNewParams{Model: "asked", Dimensions: openai.Int(3), Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: texts}}
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
