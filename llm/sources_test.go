package llm_test

import (
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/llm"
)

// sourced are answers of the providers, whole and streamed, whose sources say $ in each of their texts. The
// text of the answer says nothing.
var sourced = map[string][2]string{
	"chat": {
		`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"It rains, ","annotations":[{"type":"url_citation","url_citation":{"start_index":0,"end_index":8,"title":"w $","url":"https://e.com/?q=$","content":"so $"}}]},"finish_reason":"stop"}],"citations":["https://e.com/?c=$"],"search_results":[{"title":"t $","url":"https://e.com/?r=$"}]}`,
		chunk(`{"role":"assistant","content":"It rains, "}`, "null") +
			chunk(`{"annotations":[{"type":"url_citation","url_citation":{"start_index":0,"end_index":8,"title":"w $","url":"https://e.com/?q=$","content":"so $"}}]}`, "null") +
			"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"citations\":[\"https://e.com/?c=$\"]}\n\n" + stop + done,
	},
	"messages": {
		`{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"$"}},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","title":"w $","url":"https://e.com/?q=$","encrypted_content":"QUJD","page_age":null}]},` +
			`{"type":"text","text":"It rains, ","citations":[{"type":"web_search_result_location","cited_text":"so $","title":"w $","url":"https://e.com/?q=$","encrypted_index":"QUJD"},{"type":"char_location","cited_text":"so $","document_index":0,"document_title":"d $","start_char_index":0,"end_char_index":3},{"type":"search_result_location","cited_text":"so $","source":"https://e.com/?s=$","title":"w $","search_result_index":0,"start_block_index":0,"end_block_index":1}]}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`,
		`event: message_start
data: {"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","title":"w $","url":"https://e.com/?q=$","encrypted_content":"QUJD","page_age":null}]}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[]}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"It rains, "}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"so $","title":"w $","url":"https://e.com/?q=$","encrypted_index":"QUJD"}}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"}

`,
	},
	"gemini": {
		`{"candidates":[{"content":{"role":"model","parts":[{"text":"It rains, "}]},"finishReason":"STOP","index":0,"groundingMetadata":{"webSearchQueries":["q $"],"groundingChunks":[{"web":{"uri":"https://e.com/?q=$","title":"w $"}}],"groundingSupports":[{"segment":{"endIndex":9,"text":"It rains, "},"groundingChunkIndices":[0]}]},"citationMetadata":{"citationSources":[{"startIndex":0,"endIndex":2,"uri":"https://e.com/?c=$"}]}}],"modelVersion":"m","responseId":"r"}`,
		`data: {"candidates":[{"content":{"role":"model","parts":[{"text":"It rains, "}]},"index":0}],"modelVersion":"m","responseId":"r"}

data: {"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP","index":0,"groundingMetadata":{"webSearchQueries":["q $"],"groundingChunks":[{"web":{"uri":"https://e.com/?q=$","title":"w $"}}],"groundingSupports":[{"segment":{"endIndex":9,"text":"It rains, "},"groundingChunkIndices":[0]}]}}],"modelVersion":"m","responseId":"r"}

`,
	},
	"responses": {
		`{"id":"r1","object":"response","created_at":1,"model":"m","status":"completed","output":[{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"q $","sources":[{"type":"url","url":"https://e.com/?q=$"}]}},{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"It rains, ","annotations":[{"type":"url_citation","start_index":0,"end_index":9,"title":"w $","url":"https://e.com/?q=$"}]}]}]}`,
		`event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"r1","object":"response","created_at":1,"model":"m","status":"in_progress","output":[]}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}

event: response.content_part.added
data: {"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"It rains, "}

event: response.output_text.annotation.added
data: {"type":"response.output_text.annotation.added","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"annotation_index":0,"annotation":{"type":"url_citation","start_index":0,"end_index":9,"title":"w $","url":"https://e.com/?q=$"}}

event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"text":"It rains, "}

event: response.content_part.done
data: {"type":"response.content_part.done","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"It rains, ","annotations":[{"type":"url_citation","start_index":0,"end_index":9,"title":"w $","url":"https://e.com/?q=$"}]}}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":7,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"It rains, ","annotations":[{"type":"url_citation","start_index":0,"end_index":9,"title":"w $","url":"https://e.com/?q=$"}]}]}}

event: response.completed
data: {"type":"response.completed","sequence_number":8,"response":{"id":"r1","object":"response","created_at":1,"model":"m","status":"completed","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"It rains, ","annotations":[{"type":"url_citation","start_index":0,"end_index":9,"title":"w $","url":"https://e.com/?q=$"}]}]}]}}

`,
	},
}

// What an answer tells of its sources is masked, too, or makes it be rejected, for every client of every
// provider, whole and streamed.
func TestMaskedSources(t *testing.T) {
	answer := func(action guard.Action) *guard.Answer {
		return &guard.Answer{Regex: builtins(t, action), Rejection: guard.Rejection{Status: 403, Message: "no"}}
	}
	for _, cell := range streamCells() {
		client, provider := cell[0], cell[1]
		for i, how := range []string{"whole", "streamed"} {
			get := func(g *guard.Answer, said string) string {
				reply := strings.ReplaceAll(sourced[provider][i], "$", said)
				if how == "streamed" {
					return streamed(t, g, client, provider, reply).Body.String()
				}
				_, w, _ := under(t, &llm.Policy{Answer: g}, natives[provider], client, strings.Replace(streamAsks[client], `"stream":true,`, "", 1), reply)
				return w.Body.String()
			}
			t.Run(client+" "+provider+" "+how, func(t *testing.T) {
				got := get(answer(guard.Mask), "bob@example.com")
				if strings.Contains(got, "bob@") || !strings.Contains(got, "It rains, ") || !strings.Contains(got, "EMAIL_ADDRESS") {
					t.Errorf("masked: %s", got)
				}
				if got := get(answer(guard.Reject), "bob@example.com"); strings.Contains(got, "bob@") || !strings.Contains(got, "no") {
					t.Errorf("rejected: %s", got)
				}
				if got := get(answer(guard.Mask), "a"); client == provider && got != strings.ReplaceAll(sourced[provider][i], "$", "a") {
					t.Errorf("with nothing to mask: %s", got)
				}
			})
		}
	}
}

// The same of Converse at Bedrock, for every client.
func TestMaskedSourcesOfBedrock(t *testing.T) {
	nova := column{provider: llm.Provider{Vendor: llm.Bedrock, Model: "amazon.nova-2-lite-v1:0"}}
	const citation = `{"title":"w $","source":"s $","sourceContent":[{"text":"so $"}],"location":{"web":{"url":"https://e.com/?q=$","domain":"e.com"}}}`
	whole := `{"metrics":{"latencyMs":3},"output":{"message":{"role":"assistant","content":[{"citationsContent":{"content":[{"text":"It rains, "}],"citations":[` + citation + `]}}]}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5}}`
	stream := `messageStart {"role":"assistant"}
contentBlockDelta {"contentBlockIndex":0,"delta":{"text":"It rains, "}}
contentBlockDelta {"contentBlockIndex":0,"delta":{"citation":` + citation + `}}
contentBlockStop {"contentBlockIndex":0}
messageStop {"stopReason":"end_turn"}
metadata {"metrics":{"latencyMs":3},"usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5}}
`
	for client, ask := range streamAsks {
		for _, streamed := range []bool{true, false} {
			body, said := ask, stream
			if !streamed {
				body, said = strings.Replace(ask, `"stream":true,`, "", 1), whole
			}
			get := func(action guard.Action, word string) string {
				g := &guard.Answer{Regex: builtins(t, action), Rejection: guard.Rejection{Status: 403, Message: "no"}}
				_, w, _ := nova.askUnder(t, &llm.Policy{Answer: g}, client, body, strings.ReplaceAll(said, "$", word), streamed)
				return w.Body.String()
			}
			if got := get(guard.Mask, "bob@example.com"); strings.Contains(got, "bob@") || !strings.Contains(got, "It rains, ") || !strings.Contains(got, "EMAIL_ADDRESS") {
				t.Errorf("%s, streamed %t, masked: %s", client, streamed, got)
			}
			if got := get(guard.Reject, "bob@example.com"); strings.Contains(got, "bob@") || !strings.Contains(got, "no") {
				t.Errorf("%s, streamed %t, rejected: %s", client, streamed, got)
			}
			if got := get(guard.Mask, "a"); !strings.Contains(got, "https://e.com/?q=a") || !strings.Contains(got, "w a") {
				t.Errorf("%s, streamed %t, with nothing to mask: %s", client, streamed, got)
			}
		}
	}
}

// Where Gemini says its text again piece by piece a masked part of it does not stay in the pieces.
func TestMaskedSegments(t *testing.T) {
	g := &guard.Answer{Regex: builtins(t, guard.Mask)}
	reply := `{"candidates":[{"content":{"role":"model","parts":[{"text":"mail bob@example.com now"}]},"finishReason":"STOP","index":0,"groundingMetadata":{"groundingChunks":[{"web":{"uri":"https://e.com","title":"w"}}],"groundingSupports":[{"segment":{"endIndex":8,"text":"mail bob"},"groundingChunkIndices":[0]}]}}],"modelVersion":"m","responseId":"r"}`
	for _, stream := range []bool{false, true} {
		client, said := "gemini", reply
		if stream {
			client, said = "geminis", "data: "+reply+"\n\n"
		}
		_, w, _ := under(t, &llm.Policy{Answer: g}, natives["gemini"], client, streamAsks["gemini"], said)
		if got := w.Body.String(); strings.Contains(got, "bob") || !strings.Contains(got, "EMAIL_ADDRESS") || !strings.Contains(got, `"endIndex":8`) {
			t.Errorf("stream %t: %s", stream, got)
		}
	}
}
