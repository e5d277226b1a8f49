package llm_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A column is a provider of the matrix, in a dialect of its own.
type column struct {
	name     string
	provider llm.Provider
	stream   string // an answer of it: a signed thought, a text, two calls at once, in pieces
	whole    string // the same at once
	unsigned bool   // its dialect has no signatures
}

// The matrix is every client dialect at every provider dialect. Azure OpenAI speaks what OpenAI does, and
// Vertex AI what Gemini and Anthropic do.
func columns() []column {
	return []column{
		{name: "chat completions", provider: llm.Provider{Vendor: llm.OpenAI, Path: "/v1/chat/completions", Model: "gpt-5"}, unsigned: true,
			stream: sse("", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
				chatDelta(`{"reasoning_content":"let me "}`), chatDelta(`{"reasoning_content":"see"}`), chatDelta(`{"content":"I "}`), chatDelta(`{"content":"look"}`),
				chatDelta(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"mark","arguments":""}}]}`),
				chatDelta(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}`), chatDelta(`{"tool_calls":[{"index":0,"function":{"arguments":"\"Rome\"}"}}]}`),
				chatDelta(`{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"mark","arguments":"{\"city\""}}]}`), chatDelta(`{"tool_calls":[{"index":1,"function":{"arguments":":\"Oslo\"}"}}]}`),
				`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
				`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":4}}}`, `[DONE]`),
			whole: `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"I look","reasoning_content":"let me see","tool_calls":[` +
				`{"id":"call_1","type":"function","function":{"name":"mark","arguments":"{\"city\":\"Rome\"}"}},{"id":"call_2","type":"function","function":{"name":"mark","arguments":"{\"city\":\"Oslo\"}"}}]},"finish_reason":"tool_calls"}],` +
				`"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":4}}}`},
		{name: "Responses", provider: llm.Provider{Vendor: llm.OpenAI, Path: "/v1/responses", Model: "gpt-5"},
			stream: sse("type", `{"type":"response.created","sequence_number":0,"response":{"id":"r","object":"response","created_at":1,"model":"m","status":"in_progress","output":[]}}`,
				`{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"rs","type":"reasoning","summary":[]}}`,
				`{"type":"response.reasoning_summary_part.added","sequence_number":2,"item_id":"rs","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}`,
				`{"type":"response.reasoning_summary_text.delta","sequence_number":3,"item_id":"rs","output_index":0,"summary_index":0,"delta":"let me "}`,
				`{"type":"response.reasoning_summary_text.delta","sequence_number":4,"item_id":"rs","output_index":0,"summary_index":0,"delta":"see"}`,
				`{"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":`+reasoningItem+`}`,
				`{"type":"response.output_item.added","sequence_number":6,"output_index":1,"item":{"id":"msg","type":"message","role":"assistant","status":"in_progress","content":[]}}`,
				`{"type":"response.content_part.added","sequence_number":7,"item_id":"msg","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}`,
				`{"type":"response.output_text.delta","sequence_number":8,"item_id":"msg","output_index":1,"content_index":0,"delta":"I "}`,
				`{"type":"response.output_text.delta","sequence_number":9,"item_id":"msg","output_index":1,"content_index":0,"delta":"look"}`,
				`{"type":"response.output_item.done","sequence_number":10,"output_index":1,"item":`+messageItem+`}`,
				`{"type":"response.output_item.added","sequence_number":11,"output_index":2,"item":{"id":"f1","type":"function_call","call_id":"call_1","name":"mark","arguments":"","status":"in_progress"}}`,
				`{"type":"response.function_call_arguments.delta","sequence_number":12,"item_id":"f1","output_index":2,"delta":"{\"city\":"}`,
				`{"type":"response.function_call_arguments.delta","sequence_number":13,"item_id":"f1","output_index":2,"delta":"\"Rome\"}"}`,
				`{"type":"response.output_item.done","sequence_number":14,"output_index":2,"item":`+callItem("f1", "call_1", "Rome")+`}`,
				`{"type":"response.output_item.added","sequence_number":15,"output_index":3,"item":{"id":"f2","type":"function_call","call_id":"call_2","name":"mark","arguments":"","status":"in_progress"}}`,
				`{"type":"response.function_call_arguments.delta","sequence_number":16,"item_id":"f2","output_index":3,"delta":"{\"city\":\"Oslo\"}"}`,
				`{"type":"response.output_item.done","sequence_number":17,"output_index":3,"item":`+callItem("f2", "call_2", "Oslo")+`}`,
				`{"type":"response.completed","sequence_number":18,"response":`+wholeResponse+`}`),
			whole: wholeResponse},
		{name: "Anthropic", provider: llm.Provider{Vendor: llm.Anthropic, Model: "claude-sonnet-4-5"}, stream: messagesStream, whole: wholeMessage},
		{name: "Gemini", provider: llm.Provider{Vendor: llm.Gemini, Model: "gemini-3-pro"},
			stream: sse("", generated(`{"text":"let me ","thought":true}`, ""), generated(`{"text":"see","thought":true}`, ""), generated(`{"text":"I "}`, ""), generated(`{"text":"look"}`, ""),
				generated(`{"functionCall":{"name":"mark","args":{"city":"Rome"}},"thoughtSignature":"c2lnLW1hcms="},{"functionCall":{"name":"mark","args":{"city":"Oslo"}}}`, `,"finishReason":"STOP"`)),
			whole: generated(`{"text":"let me see","thought":true},{"text":"I look"},{"functionCall":{"name":"mark","args":{"city":"Rome"}},"thoughtSignature":"c2lnLW1hcms="},{"functionCall":{"name":"mark","args":{"city":"Oslo"}}}`, `,"finishReason":"STOP"`)},
		{name: "Bedrock, Claude", provider: llm.Provider{Vendor: llm.Bedrock, Model: "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}, stream: converseFrames(`"signature":"c2lnLW1hcms="`), whole: converseWhole(`{"reasoningText":{"text":"let me see","signature":"c2lnLW1hcms="}}`)},
		{name: "Bedrock, Nova", provider: llm.Provider{Vendor: llm.Bedrock, Model: "amazon.nova-pro-v1:0"}, stream: converseFrames(""), whole: converseWhole(`{"reasoningText":{"text":"let me see"}}`), unsigned: true},
	}
}

func chatDelta(d string) string {
	return `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":` + d + `,"finish_reason":null}]}`
}

// sse returns events of data; their types are a member of it, "" for none.
func sse(member string, datas ...string) string {
	var b strings.Builder
	for _, d := range datas {
		if member != "" {
			_, typ, _ := strings.Cut(d, `"`+member+`":"`)
			typ, _, _ = strings.Cut(typ, `"`)
			fmt.Fprintf(&b, "event: %s\n", typ)
		}
		fmt.Fprintf(&b, "data: %s\n\n", d)
	}
	return b.String()
}

func generated(parts, reason string) string {
	return `{"candidates":[{"content":{"role":"model","parts":[` + parts + `]}` + reason + `,"index":0}],"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":5,"thoughtsTokenCount":4,"totalTokenCount":29,"cachedContentTokenCount":5},"modelVersion":"m","responseId":"r"}`
}

const (
	reasoningItem = `{"id":"rs","type":"reasoning","summary":[{"type":"summary_text","text":"let me see"}],"encrypted_content":"c2lnLW1hcms="}`
	messageItem   = `{"id":"msg","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"I look","annotations":[]}]}`
	wholeMessage  = `{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"let me see","signature":"c2lnLW1hcms="},{"type":"text","text":"I look"},` +
		`{"type":"tool_use","id":"call_1","name":"mark","input":{"city":"Rome"}},{"type":"tool_use","id":"call_2","name":"mark","input":{"city":"Oslo"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":13,"cache_creation_input_tokens":2,"cache_read_input_tokens":5,"output_tokens":9}}`
)

func callItem(id, call, city string) string {
	return fmt.Sprintf(`{"id":%q,"type":"function_call","call_id":%q,"name":"mark","arguments":"{\"city\":\"%s\"}","status":"completed"}`, id, call, city)
}

var wholeResponse = `{"id":"r","object":"response","created_at":1,"model":"m","status":"completed","output":[` + reasoningItem + `,` + messageItem + `,` + callItem("f1", "call_1", "Rome") + `,` + callItem("f2", "call_2", "Oslo") +
	`],"usage":{"input_tokens":20,"output_tokens":9,"total_tokens":29,"input_tokens_details":{"cached_tokens":5},"output_tokens_details":{"reasoning_tokens":4}}}`

var messagesStream = sse("type", `{"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":13,"cache_creation_input_tokens":2,"cache_read_input_tokens":5,"output_tokens":1}}}`,
	`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"let me "}}`, `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"see"}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2lnLW1hcms="}}`, `{"type":"content_block_stop","index":0}`,
	`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
	`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"I "}}`, `{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"look"}}`, `{"type":"content_block_stop","index":1}`,
	`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"call_1","name":"mark","input":{}}}`,
	`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}`, `{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"Rome\"}"}}`, `{"type":"content_block_stop","index":2}`,
	`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"call_2","name":"mark","input":{}}}`,
	`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"city\":\"Oslo\"}"}}`, `{"type":"content_block_stop","index":3}`,
	`{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9}}`, `{"type":"message_stop"}`)

func converseFrames(signature string) string {
	signed := ""
	if signature != "" {
		signed = `contentBlockDelta {"contentBlockIndex":0,"delta":{"reasoningContent":{` + signature + "}}}\n"
	}
	return `messageStart {"role":"assistant"}
contentBlockDelta {"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"let me "}}}
contentBlockDelta {"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"see"}}}
` + signed + `contentBlockStop {"contentBlockIndex":0}
contentBlockDelta {"contentBlockIndex":1,"delta":{"text":"I "}}
contentBlockDelta {"contentBlockIndex":1,"delta":{"text":"look"}}
contentBlockStop {"contentBlockIndex":1}
contentBlockStart {"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"call_1","name":"mark"}}}
contentBlockDelta {"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"city\":"}}}
contentBlockDelta {"contentBlockIndex":2,"delta":{"toolUse":{"input":"\"Rome\"}"}}}
contentBlockStop {"contentBlockIndex":2}
contentBlockStart {"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"call_2","name":"mark"}}}
contentBlockDelta {"contentBlockIndex":3,"delta":{"toolUse":{"input":"{\"city\":\"Oslo\"}"}}}
contentBlockStop {"contentBlockIndex":3}
messageStop {"stopReason":"tool_use"}
metadata {"metrics":{"latencyMs":3},"usage":{"cacheReadInputTokens":5,"cacheWriteInputTokens":2,"inputTokens":13,"outputTokens":9,"totalTokens":29}}
`
}

func converseWhole(thought string) string {
	return `{"metrics":{"latencyMs":3},"output":{"message":{"role":"assistant","content":[{"reasoningContent":` + thought + `},{"text":"I look"},{"toolUse":{"toolUseId":"call_1","name":"mark","input":{"city":"Rome"}}},{"toolUse":{"toolUseId":"call_2","name":"mark","input":{"city":"Oslo"}}}]}},` +
		`"stopReason":"tool_use","usage":{"cacheReadInputTokens":5,"cacheWriteInputTokens":2,"inputTokens":13,"outputTokens":9,"totalTokens":29}}`
}

// A feature is something that a request has, in the words of each client: as members that are added to the
// first request, or as a request of its own. What a dialect has no words for is missing.
type feature struct {
	name string
	asks map[string]string // "{" begins a request of its own, anything else goes into the base before its end
	seen []string          // stands in what a provider gets, literally
}

var bases = map[string]string{
	"chat":      `{"model":"m","max_completion_tokens":9000,"messages":[{"role":"user","content":"hi"}]`,
	"messages":  `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":"hi"}]`,
	"responses": `{"model":"m","store":false,"max_output_tokens":9000,"input":[{"role":"user","content":"hi"}]`,
	"gemini":    `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]`,
}

// tooled are the bases with a tool.
var tooled = map[string]string{
	"chat":      `,"tools":[{"type":"function","function":{"name":"mark","description":"of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]`,
	"messages":  `,"tools":[{"name":"mark","description":"of a city","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}]`,
	"responses": `,"tools":[{"type":"function","name":"mark","description":"of a city","strict":false,"parameters":{"type":"object","properties":{"city":{"type":"string"}}}}]`,
	"gemini":    `,"tools":[{"functionDeclarations":[{"name":"mark","description":"of a city","parametersJsonSchema":{"type":"object","properties":{"city":{"type":"string"}}}}]}]`,
}

// withTools adds a tool to each.
func withTools(more map[string]string) map[string]string {
	out := map[string]string{}
	for client, m := range more {
		if strings.HasPrefix(m, "{") {
			out[client] = strings.TrimSuffix(m, "}") + tooled[client] + "}"
		} else {
			out[client] = tooled[client] + m
		}
	}
	return out
}

var features = []feature{
	{"system prompt", map[string]string{
		"chat":      `{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]}`,
		"messages":  `,"system":"be brief"`,
		"responses": `,"instructions":"be brief"`,
		"gemini":    `,"systemInstruction":{"parts":[{"text":"be brief"}]}`,
	}, []string{"be brief"}},
	{"picture", map[string]string{
		"chat":      `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0K"}}]}]}`,
		"messages":  `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0K"}}]}]}`,
		"responses": `{"model":"m","store":false,"input":[{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0K","detail":"auto"}]}]}`,
		"gemini":    `{"contents":[{"role":"user","parts":[{"text":"hi"},{"inlineData":{"mimeType":"image/png","data":"iVBORw0K"}}]}]}`,
	}, []string{"iVBORw0K"}},
	{"picture at a URL", map[string]string{
		"chat":      `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"https://example.com/pic.png"}}]}]}`,
		"messages":  `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image","source":{"type":"url","url":"https://example.com/pic.png"}}]}]}`,
		"responses": `{"model":"m","store":false,"input":[{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_image","image_url":"https://example.com/pic.png","detail":"auto"}]}]}`,
		"gemini":    `{"contents":[{"role":"user","parts":[{"text":"hi"},{"fileData":{"mimeType":"image/png","fileUri":"https://example.com/pic.png"}}]}]}`,
	}, []string{"example.com/pic.png"}},
	{"document", map[string]string{
		"chat":      `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}}]}]}`,
		"messages":  `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}}]}]}`,
		"responses": `{"model":"m","store":false,"input":[{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}]}]}`,
		"gemini":    `{"contents":[{"role":"user","parts":[{"text":"hi"},{"inlineData":{"mimeType":"application/pdf","data":"JVBERi0="}}]}]}`,
	}, []string{"JVBERi0="}},
	{"tools", withTools(map[string]string{"chat": "", "messages": "", "responses": "", "gemini": ""}), []string{`"mark"`, `"city"`, "of a city"}},
	{"a tool is forced", withTools(map[string]string{
		"chat":      `,"tool_choice":{"type":"function","function":{"name":"mark"}}`,
		"messages":  `,"tool_choice":{"type":"tool","name":"mark"}`,
		"responses": `,"tool_choice":{"type":"function","name":"mark"}`,
		"gemini":    `,"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["mark"]}}`,
	}), nil},
	{"no tool is called", withTools(map[string]string{
		"chat":      `,"tool_choice":"none"`,
		"messages":  `,"tool_choice":{"type":"none"}`,
		"responses": `,"tool_choice":"none"`,
		"gemini":    `,"toolConfig":{"functionCallingConfig":{"mode":"NONE"}}`,
	}), nil},
	{"one call at a time", withTools(map[string]string{
		"chat":      `,"parallel_tool_calls":false`,
		"messages":  `,"tool_choice":{"type":"auto","disable_parallel_tool_use":true}`,
		"responses": `,"parallel_tool_calls":false`,
	}), nil},
	{"parallel calls and their results", withTools(map[string]string{
		"chat": `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"mark","arguments":"{\"city\":\"Rome\"}"}},{"id":"b","type":"function","function":{"name":"mark","arguments":"{\"city\":\"Oslo\"}"}}]},` +
			`{"role":"tool","tool_call_id":"a","content":"sunny"},{"role":"tool","tool_call_id":"b","content":"rainy"}]}`,
		"messages": `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"mark","input":{"city":"Rome"}},{"type":"tool_use","id":"b","name":"mark","input":{"city":"Oslo"}}]},` +
			`{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"sunny"},{"type":"tool_result","tool_use_id":"b","content":"rainy"}]}]}`,
		"responses": `{"model":"m","store":false,"input":[{"role":"user","content":"hi"},{"type":"function_call","call_id":"a","name":"mark","arguments":"{\"city\":\"Rome\"}"},{"type":"function_call","call_id":"b","name":"mark","arguments":"{\"city\":\"Oslo\"}"},` +
			`{"type":"function_call_output","call_id":"a","output":"sunny"},{"type":"function_call_output","call_id":"b","output":"rainy"}]}`,
		"gemini": `{"contents":[{"role":"user","parts":[{"text":"hi"}]},{"role":"model","parts":[{"functionCall":{"name":"mark","args":{"city":"Rome"}}},{"functionCall":{"name":"mark","args":{"city":"Oslo"}}}]},` +
			`{"role":"user","parts":[{"functionResponse":{"name":"mark","response":{"output":"sunny"}}},{"functionResponse":{"name":"mark","response":{"output":"rainy"}}}]}]}`,
	}), []string{"Rome", "Oslo", "sunny", "rainy"}},
	{"structured output", map[string]string{
		"chat":      `,"response_format":{"type":"json_schema","json_schema":{"name":"place","strict":true,"schema":{"type":"object","properties":{"zipcode":{"type":"string"}},"required":["zipcode"],"additionalProperties":false}}}`,
		"messages":  `,"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"zipcode":{"type":"string"}},"required":["zipcode"],"additionalProperties":false}}}`,
		"responses": `,"text":{"format":{"type":"json_schema","name":"place","strict":true,"schema":{"type":"object","properties":{"zipcode":{"type":"string"}},"required":["zipcode"],"additionalProperties":false}}}`,
		"gemini":    `,"generationConfig":{"responseMimeType":"application/json","responseJsonSchema":{"type":"object","properties":{"zipcode":{"type":"string"}},"required":["zipcode"],"additionalProperties":false}}`,
	}, []string{"zipcode"}},
	{"thinking", map[string]string{
		"chat":      `,"reasoning_effort":"low"`,
		"messages":  `,"thinking":{"type":"enabled","budget_tokens":2000}`,
		"responses": `,"reasoning":{"effort":"low"}`,
		"gemini":    `,"generationConfig":{"thinkingConfig":{"thinkingBudget":2000,"includeThoughts":true}}`,
	}, nil},
	{"cache key", map[string]string{
		"chat":      `,"prompt_cache_key":"a-key"`,
		"responses": `,"prompt_cache_key":"a-key"`,
	}, []string{"a-key"}},
	{"what is cached already", map[string]string{"gemini": `,"cachedContent":"cachedContents/a-cache"`}, []string{"a-cache"}},
	{"cache control", map[string]string{
		"chat":     `{"model":"m","max_completion_tokens":9000,"messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}]}`,
		"messages": `{"model":"m","max_tokens":9000,"messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}]}`,
	}, nil},
}

// uncached are requests as those of cache control without it, for what is written differs already by the form of the text.
var uncached = strings.NewReplacer(`,"cache_control":{"type":"ephemeral"}`, "")

// ask sends a request of a client to the provider of a column, which replies.
func (c *column) ask(t testing.TB, client, body, reply string, stream bool) (*standIn, *httptest.ResponseRecorder, *telemetry.Record) {
	return c.askUnder(t, nil, client, body, reply, stream)
}

// askUnder does so under a policy, which may be nil.
func (c *column) askUnder(t testing.TB, policy *llm.Policy, client, body, reply string, stream bool) (*standIn, *httptest.ResponseRecorder, *telemetry.Record) {
	t.Helper()
	s := &standIn{vendor: c.provider.Vendor, status: 200, header: http.Header{"Content-Type": {"application/json"}}, reply: strings.NewReader(reply)}
	if stream {
		s.header.Set("Content-Type", "text/event-stream")
		if c.provider.Vendor == llm.Bedrock {
			s.header.Set("Content-Type", "application/vnd.amazon.eventstream")
			s.reply = bytes.NewReader(testaws.Frames(reply))
		}
	}
	p := c.provider
	p.RoundTripper, p.Host, p.Health, p.Credential = s, "provider.test", new(llm.Health), llm.Credential{Token: secret.New("k-1")}
	b := llm.New(llm.Config{Name: "default/model", Logger: slog.New(slog.DiscardHandler), Groups: [][]*llm.Provider{{&p}}})
	path := paths[client]
	if client == "gemini" && stream {
		path = paths["geminis"]
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if policy != nil {
		r = r.WithContext(llm.WithPolicy(r.Context(), policy))
	}
	w, rec := serve(t, b, r)
	return s, w, rec
}

// replies returns the answer to a client.
func (c *column) replies(client string, stream bool) string {
	switch own := c.provider.Vendor == llm.Bedrock && client == "messages" && !c.unsigned; { // Claude is asked in Anthropic's own dialect
	case own && stream:
		var frames strings.Builder
		for line := range strings.Lines(messagesStream) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				frames.WriteString("chunk " + data)
			}
		}
		return frames.String()
	case own:
		return wholeMessage
	case stream:
		return c.stream
	default:
		return c.whole
	}
}

// clients of the matrix, as the tables name them.
var matrixClients = [][2]string{{"chat", "chat completions"}, {"messages", "Messages"}, {"responses", "Responses"}, {"gemini", "generateContent"}}

// What each client can ask for reaches each provider, in the words of its dialect, or is named as dropped; the tables in docs/translation.md
// are what comes of it (-update writes them).
func TestMatrixOfRequests(t *testing.T) {
	var tables strings.Builder
	for _, client := range matrixClients {
		fmt.Fprintf(&tables, "\n## Clients of %s\n\n|  |", client[1])
		for _, col := range columns() {
			fmt.Fprintf(&tables, " %s |", col.name)
		}
		tables.WriteString("\n| --- |" + strings.Repeat(" --- |", len(columns())) + "\n")
		for _, f := range features {
			more, ok := f.asks[client[0]]
			if !ok {
				continue
			}
			fmt.Fprintf(&tables, "| %s |", f.name)
			for _, col := range columns() {
				fmt.Fprintf(&tables, " %s |", carried(t, &col, client[0], &f, more))
			}
			tables.WriteByte('\n')
		}
	}
	const path, mark = "../docs/translation.md", "<!-- tables -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	intro, old, _ := strings.Cut(string(doc), mark)
	if *update {
		if err := os.WriteFile(path, []byte(intro+mark+tables.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(old, tables.String()); diff != "" {
		t.Errorf("%s differs, run with -update (-it +want):\n%s", path, diff)
	}
}

// carried says what becomes of a feature: carried, or named as dropped.
func carried(t *testing.T, col *column, client string, f *feature, more string) string {
	t.Helper()
	base := bases[client] + "}"
	body := more
	switch {
	case !strings.HasPrefix(more, "{"):
		body = bases[client] + more + "}"
		if tool := tooled[client]; strings.HasPrefix(more, tool) && more != tool {
			base = bases[client] + tool + "}"
		}
	case f.name == "cache control":
		base = uncached.Replace(body)
	}
	plain, _, _ := col.ask(t, client, base, col.replies(client, false), false)
	s, w, _ := col.ask(t, client, body, col.replies(client, false), false)
	dropped := w.Header().Get("X-Mcpgw-Dropped")
	if w.Code != 200 || s.body == nil || plain.body == nil {
		t.Errorf("%s of %s at %s: %d %s", f.name, client, col.name, w.Code, w.Body)
		return "refused"
	}
	requested := slices.DeleteFunc(strings.Split(dropped, ", "), func(p string) bool { return p == "" || strings.HasPrefix(p, "answer.") })
	differs := !bytes.Equal(plain.body, s.body)
	holds := true
	for _, mark := range f.seen {
		holds = holds && bytes.Contains(s.body, []byte(mark))
	}
	switch {
	case len(requested) > 0:
		if differs && holds && len(f.seen) > 0 {
			return "carried, but for `" + strings.Join(requested, "`, `") + "`"
		}
		return "named: `" + strings.Join(requested, "`, `") + "`"
	case !differs || !holds:
		t.Errorf("%s of %s at %s is lost in silence: %s", f.name, client, col.name, s.body)
		return "lost"
	}
	return "carried"
}

// A told is what a client reads of an answer.
type told struct {
	Thought, Text string
	Names, Calls  []string
	IDs           int // different ones of calls
	Ended         bool
	Reason        string
}

// read reads a stream as a client of the dialect does.
func readTold(t testing.TB, client, stream string) (out told) {
	t.Helper()
	r := readers[client]()
	wire := events.NewReader(strings.NewReader(stream), 1<<20)
	var kind dialect.Kind
	ids := map[string]bool{}
	take := func(list []dialect.Event) {
		for _, e := range list {
			switch e.Kind {
			case dialect.BlockStart:
				if kind = e.Part.Kind; kind == dialect.ToolCall {
					out.Names, out.Calls = append(out.Names, e.Part.Name), append(out.Calls, "")
					ids[e.Part.ID] = true
				}
			case dialect.Delta:
				switch kind {
				case dialect.Text:
					out.Text += e.Text
				case dialect.Thinking:
					out.Thought += e.Text
				case dialect.ToolCall:
					out.Calls[len(out.Calls)-1] += e.Text
				}
			case dialect.Finish:
				out.Reason = e.Reason.String()
			case dialect.End:
				out.Ended = true
			}
		}
	}
	for {
		ev, err := wire.Next()
		if err != nil {
			list, err := r.End()
			if err != nil {
				t.Fatalf("%v in %s", err, stream)
			}
			take(list)
			out.IDs = len(ids)
			return out
		}
		if ev.Data == nil {
			continue
		}
		list, err := r.Read(ev.Type, ev.Data)
		if err != nil {
			t.Fatalf("%v in %s", err, stream)
		}
		take(list)
	}
}

// The answer of each provider, with a signed thought, a text and two calls at once, is what each client reads, whole and streamed: calls with ids
// of their own and all of their arguments, a signature where there is one, why it stopped, and what it took.
func TestMatrixOfAnswers(t *testing.T) {
	for _, client := range slices.Sorted(maps.Keys(readers)) {
		for _, col := range columns() {
			for _, stream := range []bool{true, false} {
				name := fmt.Sprintf("%s of %s, streamed %t", client, col.name, stream)
				body := bases[client] + tooled[client] + "}"
				if stream && client != "gemini" {
					body = strings.Replace(body, "{", `{"stream":true,`, 1)
				}
				_, w, rec := col.ask(t, client, body, col.replies(client, stream), stream)
				if w.Code != 200 {
					t.Errorf("%s: %d %s", name, w.Code, w.Body)
					continue
				}
				u := rec.LLM.Usage
				if u.Input != 20 || u.Output != 9 || u.CacheRead != 5 || rec.LLM.FinishReason != "tool_calls" {
					t.Errorf("%s: %+v, finish %q", name, u, rec.LLM.FinishReason)
				}
				checkAnswer(t, client, w)
				signature := "c2lnLW1hcms"
				if client == "gemini" { // in base64 with whose it is
					signature = `"thoughtSignature":`
				}
				if signed := strings.Contains(w.Body.String(), signature); signed == col.unsigned {
					t.Errorf("%s is signed: %t: %s", name, signed, w.Body)
				}
				if !stream {
					for _, word := range []string{"let me see", "I look", "Rome", "Oslo", "mark"} {
						if !strings.Contains(w.Body.String(), word) {
							t.Errorf("%s lacks %q: %s", name, word, w.Body)
						}
					}
					continue
				}
				got := readTold(t, client, w.Body.String())
				want := told{Thought: "let me see", Text: "I look", Names: []string{"mark", "mark"}, Calls: []string{`{"city":"Rome"}`, `{"city":"Oslo"}`}, IDs: 2, Ended: true, Reason: got.Reason}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s\n%s", name, diff, w.Body)
				}
			}
		}
	}
}
