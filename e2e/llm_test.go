package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/mcpgw/mcpgw/internal/testgateway"
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

// A key in the environment is all that it takes: the providers that it names are served, their
// models listed, and the command on the banner works. The providers here are the demo's mock.
func TestLLMEnvironment(t *testing.T) {
	t.Parallel()
	const key = "sk-never-shown"
	at := fmt.Sprintf("http://127.0.0.1:%d", serveDemo(t))
	env := append(noProviders[:len(noProviders):len(noProviders)], "OPENAI_API_KEY="+key, "OPENAI_BASE_URL="+at+"/v1", "ANTHROPIC_API_KEY="+key, "ANTHROPIC_BASE_URL="+at)
	p := testgateway.Run(t, env, binary, append([]string{"run", "--port", fmt.Sprint(testgateway.FreePort(t))}, own...)...)
	url := p.Writes(t, &p.Stdout, `LLM +(http://\S+/v1) +1 model\n(?:.*\n)*  Next`)[1]
	if banner := p.Stdout.String(); !strings.Contains(banner, "the demo's MCP servers, and LLM providers of OPENAI_API_KEY, ANTHROPIC_API_KEY)\n") || !strings.Contains(banner, "7 tools") {
		t.Errorf("the banner is\n%s", banner)
	}
	client := openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("any"), option.WithMaxRetries(0))
	page, err := client.Models.List(t.Context())
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != "mock" {
		t.Fatalf("the models are %+v, %v", page, err)
	}
	if m, err := client.Models.Get(t.Context(), "mock"); err != nil || m.ID != "mock" {
		t.Errorf("the model is %+v, %v", m, err)
	}
	for _, model := range []string{"mock", "openai/mock"} {
		ask := openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("say this back")}}
		whole, err := client.Chat.Completions.New(t.Context(), ask)
		if err != nil || whole.Choices[0].Message.Content != "say this back" {
			t.Errorf("%s answers %v, %v", model, whole, err)
		}
	}
	line := regexp.MustCompile(`Ask +curl (.*)`).FindStringSubmatch(p.Stdout.String())
	out, err := exec.Command("sh", "-c", "curl -s "+line[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"content":"Say hello."`) {
		t.Errorf("the command on the banner: %v, %s", err, out)
	}
	if shown := p.Stdout.String() + p.Stderr.String(); strings.Contains(shown, key) {
		t.Errorf("a key is shown:\n%s", shown)
	}
}
