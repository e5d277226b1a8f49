package llm

import (
	"testing"

	"github.com/mcpgw/mcpgw/llm/anthropic"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	"github.com/mcpgw/mcpgw/llm/openai"
	"github.com/mcpgw/mcpgw/llm/responses"
)

// One meaning of usage, whatever the provider's convention: the input includes what came from a cache, was written
// to one and is sound, the output reasoning and sound.
func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		decode func([]byte) (*dialect.Response, error)
		body   string
		want   dialect.Usage
	}{
		{"chat completions", openai.Chat{}.DecodeResponse, `{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],
			"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":40,"audio_tokens":30},"completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":10,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}`,
			dialect.Usage{Known: true, Input: 100, Output: 50, CacheRead: 40, AudioInput: 30, Reasoning: 20, AudioOutput: 10}},
		{"Responses", responses.Responses{}.DecodeResponse, `{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message","id":"m1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"x","annotations":[]}]}],
			"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":40},"output_tokens":50,"output_tokens_details":{"reasoning_tokens":20},"total_tokens":150}}`,
			dialect.Usage{Known: true, Input: 100, Output: 50, CacheRead: 40, Reasoning: 20}},
		{"Messages", anthropic.Messages{}.DecodeResponse, `{"id":"1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","stop_sequence":null,
			"usage":{"input_tokens":10,"cache_creation_input_tokens":50,"cache_read_input_tokens":40,"cache_creation":{"ephemeral_5m_input_tokens":30,"ephemeral_1h_input_tokens":20},"output_tokens":50}}`,
			dialect.Usage{Known: true, Input: 100, Output: 50, CacheRead: 40, CacheWrite: 50, CacheWriteHour: 20}},
		{"generateContent", gemini.GenerateContent{}.DecodeResponse, `{"candidates":[{"content":{"role":"model","parts":[{"text":"x"}]},"finishReason":"STOP","index":0}],"modelVersion":"m",
			"usageMetadata":{"promptTokenCount":90,"toolUsePromptTokenCount":10,"cachedContentTokenCount":40,"candidatesTokenCount":30,"thoughtsTokenCount":20,"totalTokenCount":150,"promptTokensDetails":[{"modality":"TEXT","tokenCount":60},{"modality":"AUDIO","tokenCount":30}],"candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":10}]}}`,
			dialect.Usage{Known: true, Input: 100, Output: 50, CacheRead: 40, Reasoning: 20, AudioInput: 30, AudioOutput: 10}},
	} {
		r, err := tc.decode([]byte(tc.body))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if r.Usage != tc.want {
			t.Errorf("%s: %+v", tc.name, r.Usage)
		}
	}
}
