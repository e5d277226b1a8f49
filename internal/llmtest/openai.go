package llmtest

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

const chatUsage = `{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`

// content returns text as chat completions have it.
func content(a Answer) string {
	if a.Text == "" {
		return "null"
	}
	return quote(a.Text)
}

func chatFinish(a Answer) string {
	if len(a.Calls) > 0 {
		return "tool_calls"
	}
	return "stop"
}

func chatWhole(a Answer) []byte {
	calls := ""
	for i, c := range a.Calls {
		sep := ","
		if i == 0 {
			sep = `,"tool_calls":[`
		}
		calls += fmt.Sprintf(`%s{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, sep, c.ID, c.Name, quote(c.Arguments))
	}
	if calls != "" {
		calls += "]"
	}
	return fmt.Appendf(nil, `{"id":"chatcmpl-1","object":"chat.completion","created":%d,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%s,"refusal":null,"annotations":[]%s},"logprobs":null,"finish_reason":%q}],"usage":%s,"service_tier":"default","system_fingerprint":null}`,
		answeredSecond, Model, content(a), calls, chatFinish(a), chatUsage)
}

func chatStream(a Answer) []Event {
	var out []Event
	chunk := func(content bool, choices, usage string) {
		out = append(out, Event{fmt.Appendf(nil, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":%d,\"model\":%q,\"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":%s,\"usage\":%s}\n\n", answeredSecond, Model, choices, usage), content})
	}
	delta := func(content bool, delta string) {
		chunk(content, `[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":null}]`, "null")
	}
	delta(false, `{"role":"assistant","content":"","refusal":null}`)
	if a.Text != "" {
		for _, s := range halves(a.Text) {
			delta(true, `{"content":`+quote(s)+`}`)
		}
	}
	for i, c := range a.Calls {
		delta(true, fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":%q,"type":"function","function":{"name":%q,"arguments":""}}]}`, i, c.ID, c.Name))
		for _, s := range halves(c.Arguments) {
			delta(true, fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, i, quote(s)))
		}
	}
	chunk(false, fmt.Sprintf(`[{"index":0,"delta":{},"logprobs":null,"finish_reason":%q}]`, chatFinish(a)), "null")
	chunk(false, "[]", chatUsage)
	return append(out, Event{Wire: []byte("data: [DONE]\n\n")})
}

// responsesItems returns the items of the output.
func responsesItems(a Answer) []string {
	var items []string
	if a.Thought != "" {
		items = append(items, fmt.Sprintf(`{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":%s}],"encrypted_content":%s}`, quote(a.Thought), quote(a.Signature)))
	}
	if a.Text != "" {
		items = append(items, fmt.Sprintf(`{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":%s,"annotations":[],"logprobs":[]}]}`, quote(a.Text)))
	}
	for i, c := range a.Calls {
		items = append(items, fmt.Sprintf(`{"id":"fc_%d","type":"function_call","status":"completed","call_id":%q,"name":%q,"arguments":%s}`, i+1, c.ID, c.Name, quote(c.Arguments)))
	}
	return items
}

func responsesObject(a Answer, status string, items []string) string {
	usage := "null"
	if status == "completed" {
		usage = `{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":12,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":21}`
	}
	return fmt.Sprintf(`{"id":"resp_1","object":"response","created_at":%d,"status":%q,"background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":%q,"output":[%s],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":%s,"user":null,"metadata":{}}`,
		answeredSecond, status, Model, strings.Join(items, ","), usage)
}

func responsesStream(a Answer) []Event {
	var out []Event
	event := func(content bool, typ, format string, args ...any) {
		fields := fmt.Sprintf(format, args...)
		out = append(out, Event{fmt.Appendf(nil, "event: %s\ndata: {\"type\":%q,\"sequence_number\":%d,%s}\n\n", typ, typ, len(out), fields), content})
	}
	event(false, "response.created", `"response":%s`, responsesObject(a, "in_progress", nil))
	event(false, "response.in_progress", `"response":%s`, responsesObject(a, "in_progress", nil))
	items := responsesItems(a)
	i := 0
	if a.Thought != "" {
		event(false, "response.output_item.added", `"output_index":%d,"item":{"id":"rs_1","type":"reasoning","summary":[]}`, i)
		event(false, "response.reasoning_summary_part.added", `"item_id":"rs_1","output_index":%d,"summary_index":0,"part":{"type":"summary_text","text":""}`, i)
		for _, s := range halves(a.Thought) {
			event(true, "response.reasoning_summary_text.delta", `"item_id":"rs_1","output_index":%d,"summary_index":0,"delta":%s`, i, quote(s))
		}
		event(true, "response.reasoning_summary_text.done", `"item_id":"rs_1","output_index":%d,"summary_index":0,"text":%s`, i, quote(a.Thought))
		event(true, "response.reasoning_summary_part.done", `"item_id":"rs_1","output_index":%d,"summary_index":0,"part":{"type":"summary_text","text":%s}`, i, quote(a.Thought))
		event(true, "response.output_item.done", `"output_index":%d,"item":%s`, i, items[i])
		i++
	}
	if a.Text != "" {
		event(false, "response.output_item.added", `"output_index":%d,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}`, i)
		event(false, "response.content_part.added", `"item_id":"msg_1","output_index":%d,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}`, i)
		for _, s := range halves(a.Text) {
			event(true, "response.output_text.delta", `"item_id":"msg_1","output_index":%d,"content_index":0,"delta":%s,"logprobs":[],"obfuscation":"x"`, i, quote(s))
		}
		event(true, "response.output_text.done", `"item_id":"msg_1","output_index":%d,"content_index":0,"text":%s,"logprobs":[]`, i, quote(a.Text))
		event(true, "response.content_part.done", `"item_id":"msg_1","output_index":%d,"content_index":0,"part":{"type":"output_text","text":%s,"annotations":[],"logprobs":[]}`, i, quote(a.Text))
		event(true, "response.output_item.done", `"output_index":%d,"item":%s`, i, items[i])
		i++
	}
	for n, c := range a.Calls {
		event(true, "response.output_item.added", `"output_index":%d,"item":{"id":"fc_%d","type":"function_call","status":"in_progress","call_id":%q,"name":%q,"arguments":""}`, i, n+1, c.ID, c.Name)
		for _, s := range halves(c.Arguments) {
			event(true, "response.function_call_arguments.delta", `"item_id":"fc_%d","output_index":%d,"delta":%s,"obfuscation":"x"`, n+1, i, quote(s))
		}
		event(true, "response.function_call_arguments.done", `"item_id":"fc_%d","output_index":%d,"name":%q,"arguments":%s`, n+1, i, c.Name, quote(c.Arguments))
		event(true, "response.output_item.done", `"output_index":%d,"item":%s`, i, items[i])
		i++
	}
	event(false, "response.completed", `"response":%s`, responsesObject(a, "completed", items))
	return out
}

// Vector is what every text is embedded as.
var Vector = []float32{0.25, -0.5, 1}

// embeddings answers one vector for each text, in the encoding that was asked for.
func embeddings(request []byte) []byte {
	var r struct {
		Input    json.RawMessage `json:"input"`
		Encoding string          `json:"encoding_format"`
	}
	_ = json.Unmarshal(request, &r) // was checked
	var list []json.RawMessage
	n := 1
	if json.Unmarshal(r.Input, &list) == nil {
		n = len(list)
	}
	vector := `[0.25,-0.5,1]`
	if r.Encoding == "base64" {
		var b []byte
		for _, f := range Vector {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
		}
		vector = quote(base64.StdEncoding.EncodeToString(b))
	}
	data := make([]string, n)
	for i := range data {
		data[i] = fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, vector)
	}
	return fmt.Appendf(nil, `{"object":"list","data":[%s],"model":%q,"usage":{"prompt_tokens":9,"total_tokens":9}}`, strings.Join(data, ","), Model)
}
