package e2e

import (
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// OpenAI's client talks to the mock model of the demo through the gateway.
func TestLLMDemo(t *testing.T) {
	t.Parallel()
	_, url := startRun(t)
	client := openai.NewClient(option.WithBaseURL(strings.TrimSuffix(url, "/mcp")+"/v1"), option.WithAPIKey("any"), option.WithMaxRetries(0))
	ask := openai.ChatCompletionNewParams{Model: "any", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("say this back")}}
	whole, err := client.Chat.Completions.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Choices[0].Message.Content != "say this back" || whole.Model != "mock" || whole.Usage.PromptTokens != 3 {
		t.Errorf("the answer is %s", whole.RawJSON())
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), ask)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if stream.Err() != nil || acc.Choices[0].Message.Content != "say this back" || acc.Choices[0].FinishReason != "stop" {
		t.Errorf("the stream: %v, %+v", stream.Err(), acc.ChatCompletion)
	}
}
