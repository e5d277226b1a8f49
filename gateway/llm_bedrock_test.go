package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/testaws"
)

var awsKey = aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI", SessionToken: "IQoJb3JpZ2lu//=="}

// awsSecret is that key as a Secret.
const awsSecret = `
---
apiVersion: v1
kind: Secret
metadata: {name: aws}
stringData: {accessKey: AKIDEXAMPLE, secretKey: "wJalrXUtnFEMI\n", sessionToken: IQoJb3JpZ2lu//==}
`

// newBedrock returns a stand-in, and the YAML of a Backend named model with the fields of
// spec.ai.llm.bedrock.
func newBedrock(t *testing.T, s *testaws.Bedrock) func(more string) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return func(more string) string {
		return fmt.Sprintf(`
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: model}
spec:
  type: AI
  ai:
    llm:
      host: %s
      port: %s
      bedrock: {%s}
`, host, port, more)
	}
}

// Each official client gets whole answers and streams of Bedrock, which is asked with a
// signature for its region and service.
func TestLLMBedrock(t *testing.T) {
	s := &testaws.Bedrock{Region: "eu-west-1", Credentials: awsKey}
	backend := newBedrock(t, s)
	g := start(t, backend(`region: eu-west-1, auth: {type: Secret, secretRef: {name: aws}}, model: amazon.titan-text-lite-v1`)+awsSecret)
	asked := func(operation string) {
		t.Helper()
		last, _ := s.Last()
		if want := "/model/amazon.titan-text-lite-v1/" + operation; last.Path != want || last.Header.Get("X-Amz-Security-Token") == "" || strings.Contains(fmt.Sprint(last.Header), "client") {
			t.Errorf("Bedrock is asked at %s, not %s, with %v", last.Path, want, last.Header)
		}
	}
	chat := openAIClient(g.url("8080", "/llm/model/v1"))
	whole, err := chat.Chat.Completions.New(t.Context(), hello("hi there"))
	if err != nil {
		t.Fatal(err)
	}
	asked("converse")
	if whole.Choices[0].Message.Content != "hi there" || whole.Model != "amazon.titan-text-lite-v1" || whole.Usage.TotalTokens != 9 || whole.ID == "" {
		t.Errorf("the answer is %s", whole.RawJSON())
	}
	stream := chat.Chat.Completions.NewStreaming(t.Context(), hello("hi there"))
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	asked("converse-stream")
	if stream.Err() != nil || acc.Choices[0].Message.Content != "hi there" || acc.Choices[0].FinishReason != "stop" {
		t.Errorf("the stream: %v, %+v", stream.Err(), acc.ChatCompletion)
	}

	claude := anthropicClient(g.url("8080", "/llm/model"))
	message, err := claude.Messages.New(t.Context(), helloClaude("hi there"))
	if err != nil || message.Content[0].Text != "hi there" || message.Usage.CacheReadInputTokens != 4 || message.Usage.InputTokens != 3 {
		t.Errorf("%v, %+v", err, message)
	}
	asked("converse")
	var streamed anthropic.Message
	events := claude.Messages.NewStreaming(t.Context(), helloClaude("hi there"))
	for events.Next() {
		if err := streamed.Accumulate(events.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if events.Err() != nil || streamed.Content[0].Text != "hi there" || streamed.StopReason != "end_turn" {
		t.Errorf("the stream: %v, %+v", events.Err(), streamed)
	}
	asked("converse-stream")
	if count, err := claude.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: "x", Messages: helloClaude("hi").Messages}); err != nil || count.InputTokens != 17 {
		t.Errorf("%v, %v", count, err)
	}
	asked("count-tokens")

	ask := responses.ResponseNewParams{Model: "x", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi there")}}
	if response, err := chat.Responses.New(t.Context(), ask); err != nil || response.OutputText() != "hi there" {
		t.Errorf("%v, %+v", err, response)
	}
	text := ""
	for deltas := chat.Responses.NewStreaming(t.Context(), ask); ; {
		if !deltas.Next() {
			if deltas.Err() != nil {
				t.Error(deltas.Err())
			}
			break
		}
		if deltas.Current().Type == "response.output_text.delta" {
			text += deltas.Current().Delta
		}
	}
	if text != "hi there" {
		t.Errorf("the response is %q", text)
	}

	gemini := geminiClient(t, g.url("8080", "/llm/model"))
	generated, err := gemini.Models.GenerateContent(t.Context(), "x", genai.Text("hi there"), nil)
	if err != nil || generated.Text() != "hi there" {
		t.Errorf("%v, %+v", err, generated)
	}
	text = ""
	for part, err := range gemini.Models.GenerateContentStream(t.Context(), "x", genai.Text("hi there"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		text += part.Text()
	}
	if text != "hi there" {
		t.Errorf("the stream is %q", text)
	}
	for i, rec := range g.ended(9) {
		if l := rec.LLM; l.Provider != "aws.bedrock" || l.SentModel != "amazon.titan-text-lite-v1" || l.Operation != "count_tokens" && (l.Usage.Input != 7 || l.Usage.CacheRead != 4 || l.Usage.Output != 2) {
			t.Errorf("the record of request %d says %+v", i, l)
		}
	}
}

// Claude is asked by Anthropic's client in its own words, and by an inference profile's ARN.
func TestLLMBedrockClaude(t *testing.T) {
	s := &testaws.Bedrock{Region: "us-east-1", Credentials: awsKey}
	backend := newBedrock(t, s)
	model := "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
	g := start(t, backend(`auth: {secretRef: {name: aws}}, guardrail: {identifier: gr-1, version: "2"}, model: "`+model+`"`)+awsSecret)
	client := anthropicClient(g.url("8080", "/llm/model"))
	whole, err := client.Messages.New(t.Context(), helloClaude("hi"), anthropicoption.WithHeader("anthropic-beta", "context-1m-2025-08-07"))
	if err != nil || whole.Content[0].Text != "hi" || whole.ID != "msg_bdrk_1" {
		t.Fatalf("%v, %+v", err, whole)
	}
	last, _ := s.Last()
	if last.Operation != "invoke" || last.Model != model || last.Header.Get("X-Amzn-Bedrock-GuardrailIdentifier") != "gr-1" || !strings.Contains(last.Body, `"anthropic_beta":["context-1m-2025-08-07"]`) {
		t.Errorf("Bedrock is asked %+v", last)
	}
	stream := client.Messages.NewStreaming(t.Context(), helloClaude("hi"))
	var streamed anthropic.Message
	for stream.Next() {
		if err := streamed.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if last, _ = s.Last(); stream.Err() != nil || streamed.Content[0].Text != "hi" || last.Operation != "invoke-with-response-stream" {
		t.Errorf("the stream: %v, %+v, %s", stream.Err(), streamed, last.Operation)
	}
	chat := openAIClient(g.url("8080", "/llm/model/v1"))
	if _, err := chat.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
		t.Error(err)
	}
	if last, _ = s.Last(); last.Operation != "converse" || !strings.Contains(last.Body, `"guardrailConfig":{"guardrailIdentifier":"gr-1"`) {
		t.Errorf("Bedrock is asked %+v", last)
	}
}

// A Secret that is missing or lacks a key is named, nothing is sent, and what it lacks is found
// without a restart. A key that AWS does not take is the gateway's own affair.
func TestLLMBedrockSecret(t *testing.T) {
	s := &testaws.Bedrock{Region: "us-east-1", Credentials: awsKey}
	backend := newBedrock(t, s)
	spec := backend(`auth: {secretRef: {name: aws}}, model: m`)
	g := start(t, spec)
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	ask := func(want int) {
		t.Helper()
		_, before := s.Last()
		_, err := client.Chat.Completions.New(t.Context(), hello("hi"))
		var e *openai.Error
		switch _, after := s.Last(); {
		case want == 200 && (err != nil || after != before+1):
			t.Error(err)
		case want != 200 && (!errors.As(err, &e) || e.StatusCode != want || after != before):
			t.Errorf("%v, not %d", err, want)
		}
	}
	ask(503)
	_, report := Compile(load(t, spec), nil)
	if text := fmt.Sprint(report.Problems); !strings.Contains(text, `Secret "aws" is not there`) {
		t.Errorf("the report says %s", text)
	}
	lacking := strings.Replace(awsSecret, "secretKey", "secretkey", 1)
	g.apply(spec + lacking)
	ask(503)
	_, report = Compile(load(t, spec+lacking), nil)
	if text := fmt.Sprint(report.Problems); !strings.Contains(text, `Secret "aws" has no usable key secretKey`) {
		t.Errorf("the report says %s", text)
	}
	g.apply(spec + awsSecret)
	ask(200)
	g.apply(spec + strings.Replace(awsSecret, "wJalr", "xJalr", 1))
	ask(502)
}

// Without auth the environment's credentials are used; with authToken, or an API key in the
// environment, that is sent and nothing is signed.
func TestLLMBedrockAmbient(t *testing.T) {
	t.Setenv("AWS_BEARER_TOKEN_BEDROCK", "")
	t.Setenv("AWS_ACCESS_KEY_ID", awsKey.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsKey.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", awsKey.SessionToken)
	s := &testaws.Bedrock{Region: "us-east-1", Credentials: awsKey, Key: "bedrock-key"}
	backend := newBedrock(t, s)
	g := start(t, backend("model: m"))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	if _, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
		t.Fatal(err)
	}
	if last, _ := s.Last(); !strings.HasPrefix(last.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		t.Errorf("Bedrock gets %v", last.Header)
	}
	g.apply(backend("model: m, authToken: {kind: Inline, inline: bedrock-key}"))
	if _, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
		t.Fatal(err)
	}
	if last, _ := s.Last(); last.Header.Get("Authorization") != "Bearer bedrock-key" || last.Header.Get("X-Amz-Date") != "" {
		t.Errorf("Bedrock gets %v", last.Header)
	}
	t.Setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key\n")
	for _, tt := range []struct{ more, want string }{{"model: m2", "Bearer bedrock-key"}, {"model: m2, auth: {secretRef: {name: aws}}", "AWS4-HMAC-SHA256 "}} {
		g.apply(backend(tt.more) + awsSecret)
		if _, err := client.Chat.Completions.New(t.Context(), hello("hi")); err != nil {
			t.Fatal(err)
		}
		if last, _ := s.Last(); !strings.HasPrefix(last.Header.Get("Authorization"), tt.want) {
			t.Errorf("%s: Bedrock gets %v", tt.more, last.Header)
		}
	}
}
