package gateway

import (
	"errors"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
)

// OpenAI's client asks Anthropic by Responses, whole and streamed.
func TestLLMResponses(t *testing.T) {
	s := newAnthropicServer(t)
	g := start(t, s.provider("anthropic: {authToken: {kind: Inline, inline: k}}"))
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	ask := responses.ResponseNewParams{
		Model: "claude-x", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi there")},
		Tools: []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "w", Strict: openai.Bool(false), Parameters: map[string]any{"type": "object"}}}},
	}
	check := func(r *responses.Response) {
		t.Helper()
		if r.OutputText() != "hi there" || len(r.Output) != 3 || r.Output[2].Arguments.OfString != `{"c":"Rome"}` || r.Usage.InputTokens != 7 || r.Status != "completed" {
			t.Errorf("the answer is %s", r.RawJSON())
		}
	}
	whole, err := client.Responses.New(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	check(whole)
	stream := client.Responses.NewStreaming(t.Context(), ask)
	text, arguments := "", ""
	var last responses.ResponseStreamEventUnion
	for stream.Next() {
		last = stream.Current()
		switch last.Type {
		case "response.output_text.delta":
			text += last.Delta
		case "response.function_call_arguments.delta":
			arguments += last.Delta
		}
	}
	if stream.Err() != nil || text != "hi there" || arguments != `{"c":"Rome"}` || last.Type != "response.completed" {
		t.Fatalf("%v, %q, %q, %s", stream.Err(), text, arguments, last.RawJSON())
	}
	check(&last.Response)
	ask.PreviousResponseID = openai.String("resp_0")
	var e *openai.Error
	if _, err := client.Responses.New(t.Context(), ask); !errors.As(err, &e) || e.StatusCode != 400 || e.Param != "previous_response_id" {
		t.Errorf("what needs a memory: %v", err)
	}
}
