package llmtest

import (
	"fmt"
	"strings"
)

const messagesUsage = `{"input_tokens":5,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":%d,"service_tier":"standard"}`

func messagesStop(a Answer) string {
	if len(a.Calls) > 0 {
		return "tool_use"
	}
	return "end_turn"
}

func messagesObject(content, stop string, output int) string {
	return fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[%s],"stop_reason":%s,"stop_sequence":null,"usage":%s}`, Model, content, stop, fmt.Sprintf(messagesUsage, output))
}

func messagesWhole(a Answer) []byte {
	var blocks []string
	if a.Thought != "" {
		blocks = append(blocks, fmt.Sprintf(`{"type":"thinking","thinking":%s,"signature":%s}`, quote(a.Thought), quote(a.Signature)))
	}
	if a.Text != "" {
		blocks = append(blocks, fmt.Sprintf(`{"type":"text","text":%s}`, quote(a.Text)))
	}
	for _, c := range a.Calls {
		blocks = append(blocks, fmt.Sprintf(`{"type":"tool_use","id":%q,"name":%q,"input":%s}`, c.ID, c.Name, c.Arguments))
	}
	return []byte(messagesObject(strings.Join(blocks, ","), quote(messagesStop(a)), OutputTokens))
}

func messagesStream(a Answer) []Event {
	var out []Event
	event := func(content bool, typ, format string, args ...any) {
		fields := fmt.Sprintf(format, args...)
		out = append(out, Event{fmt.Appendf(nil, "event: %s\ndata: {\"type\":%q%s}\n\n", typ, typ, fields), content})
	}
	i := 0
	block := func(content bool, start string, deltas ...string) {
		event(content, "content_block_start", `,"index":%d,"content_block":%s`, i, start)
		for _, d := range deltas {
			event(true, "content_block_delta", `,"index":%d,"delta":%s`, i, d)
		}
		event(true, "content_block_stop", `,"index":%d`, i)
		i++
	}
	event(false, "message_start", `,"message":%s`, messagesObject("", "null", 1))
	event(false, "ping", "")
	if a.Thought != "" {
		var deltas []string
		for _, s := range halves(a.Thought) {
			deltas = append(deltas, `{"type":"thinking_delta","thinking":`+quote(s)+`}`)
		}
		block(false, `{"type":"thinking","thinking":"","signature":""}`, append(deltas, `{"type":"signature_delta","signature":`+quote(a.Signature)+`}`)...)
	}
	if a.Text != "" {
		var deltas []string
		for _, s := range halves(a.Text) {
			deltas = append(deltas, `{"type":"text_delta","text":`+quote(s)+`}`)
		}
		block(false, `{"type":"text","text":""}`, deltas...)
	}
	for _, c := range a.Calls {
		deltas := []string{`{"type":"input_json_delta","partial_json":""}`}
		for _, s := range halves(c.Arguments) {
			deltas = append(deltas, `{"type":"input_json_delta","partial_json":`+quote(s)+`}`)
		}
		block(true, fmt.Sprintf(`{"type":"tool_use","id":%q,"name":%q,"input":{}}`, c.ID, c.Name), deltas...)
	}
	event(false, "message_delta", `,"delta":{"stop_reason":%q,"stop_sequence":null},"usage":%s`, messagesStop(a), fmt.Sprintf(messagesUsage, OutputTokens))
	event(false, "message_stop", "")
	return out
}
