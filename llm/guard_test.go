package llm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/llm/anthropic"
	"github.com/mcpgw/mcpgw/llm/dialect"
	"github.com/mcpgw/mcpgw/llm/gemini"
	llmopenai "github.com/mcpgw/mcpgw/llm/openai"
	llmresponses "github.com/mcpgw/mcpgw/llm/responses"
)

func builtins(t testing.TB, action guard.Action) *guard.Regex {
	t.Helper()
	x, err := guard.NewRegex(action, []guard.Pattern{{Expression: "hunter[0-9]+", Name: "PASSWORD"}}, []guard.Builtin{guard.CreditCard, guard.Email})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// A spoken is an answer in pieces.
type spoken struct{ thought, text, call []string }

// streams are the answers of the providers, as they stream them.
var streams = map[string]func(s spoken) string{
	"chat": func(s spoken) string {
		var b strings.Builder
		chunk := func(choices string) {
			fmt.Fprintf(&b, "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[%s]}\n\n", choices)
		}
		delta := func(d string) { chunk(`{"index":0,"delta":` + d + `,"finish_reason":null}`) }
		delta(`{"role":"assistant","content":""}`)
		for _, p := range s.thought {
			delta(`{"reasoning_content":` + quote(p) + `}`)
		}
		for _, p := range s.text {
			delta(`{"content":` + quote(p) + `}`)
		}
		for i, p := range s.call {
			head := ""
			if i == 0 {
				head = `"id":"call_1","type":"function",`
			}
			name := ""
			if i == 0 {
				name = `"name":"send",`
			}
			delta(`{"tool_calls":[{"index":0,` + head + `"function":{` + name + `"arguments":` + quote(p) + `}}]}`)
		}
		chunk(`{"index":0,"delta":{},"finish_reason":"stop"}`)
		b.WriteString("data: [DONE]\n\n")
		return b.String()
	},
	"messages": func(s spoken) string {
		var b strings.Builder
		event := func(typ, rest string) { fmt.Fprintf(&b, "event: %s\ndata: {\"type\":%q%s}\n\n", typ, typ, rest) }
		event("message_start", `,"message":{"id":"m1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`)
		n := 0
		block := func(start, delta, key, end string, pieces []string) {
			if pieces == nil {
				return
			}
			event("content_block_start", fmt.Sprintf(`,"index":%d,"content_block":%s`, n, start))
			for _, p := range pieces {
				event("content_block_delta", fmt.Sprintf(`,"index":%d,"delta":{"type":%q,%q:%s}`, n, delta, key, quote(p)))
			}
			if end != "" {
				event("content_block_delta", fmt.Sprintf(`,"index":%d,"delta":%s`, n, end))
			}
			event("content_block_stop", fmt.Sprintf(`,"index":%d`, n))
			n++
		}
		block(`{"type":"thinking","thinking":"","signature":""}`, "thinking_delta", "thinking", `{"type":"signature_delta","signature":"QUJDRA=="}`, s.thought)
		block(`{"type":"text","text":""}`, "text_delta", "text", "", s.text)
		block(`{"type":"tool_use","id":"toolu_1","name":"send","input":{}}`, "input_json_delta", "partial_json", "", s.call)
		event("message_delta", `,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}`)
		event("message_stop", "")
		return b.String()
	},
	"gemini": func(s spoken) string {
		var b strings.Builder
		part := func(p, reason string) {
			fmt.Fprintf(&b, "data: {\"candidates\":[{\"content\":{\"parts\":[%s],\"role\":\"model\"}%s,\"index\":0}],\"modelVersion\":\"m\",\"responseId\":\"r1\"}\n\n", p, reason)
		}
		for _, p := range s.thought {
			part(`{"text":`+quote(p)+`,"thought":true}`, "")
		}
		for _, p := range s.text {
			part(`{"text":`+quote(p)+`}`, "")
		}
		if s.call != nil {
			part(`{"functionCall":{"name":"send","args":`+strings.Join(s.call, "")+`},"thoughtSignature":"QUJDRA=="}`, "")
		}
		part(`{"text":""}`, `,"finishReason":"STOP"`)
		return b.String()
	},
	"responses": func(s spoken) string {
		var b strings.Builder
		n := 0
		event := func(typ, rest string) {
			fmt.Fprintf(&b, "event: %s\ndata: {\"type\":%q,\"sequence_number\":%d%s}\n\n", typ, typ, n, rest)
			n++
		}
		response := func(status, output string) string {
			return fmt.Sprintf(`,"response":{"id":"r1","object":"response","created_at":1,"model":"m","status":%q,"output":[%s]}`, status, output)
		}
		var items []string
		event("response.created", response("in_progress", ""))
		if s.thought != nil {
			at := fmt.Sprintf(`,"item_id":"rs_1","output_index":%d,"summary_index":0`, len(items))
			event("response.output_item.added", fmt.Sprintf(`,"output_index":%d,"item":{"id":"rs_1","type":"reasoning","summary":[]}`, len(items)))
			event("response.reasoning_summary_part.added", at+`,"part":{"type":"summary_text","text":""}`)
			for _, p := range s.thought {
				event("response.reasoning_summary_text.delta", at+`,"delta":`+quote(p))
			}
			whole := quote(strings.Join(s.thought, ""))
			event("response.reasoning_summary_text.done", at+`,"text":`+whole)
			event("response.reasoning_summary_part.done", at+`,"part":{"type":"summary_text","text":`+whole+`}`)
			item := `{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":` + whole + `}]}`
			event("response.output_item.done", fmt.Sprintf(`,"output_index":%d,"item":%s`, len(items), item))
			items = append(items, item)
		}
		if s.text != nil {
			at := fmt.Sprintf(`,"item_id":"msg_1","output_index":%d,"content_index":0`, len(items))
			event("response.output_item.added", fmt.Sprintf(`,"output_index":%d,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}`, len(items)))
			event("response.content_part.added", at+`,"part":{"type":"output_text","text":"","annotations":[]}`)
			for _, p := range s.text {
				event("response.output_text.delta", at+`,"delta":`+quote(p))
			}
			whole := quote(strings.Join(s.text, ""))
			event("response.output_text.done", at+`,"text":`+whole)
			part := `{"type":"output_text","text":` + whole + `,"annotations":[]}`
			event("response.content_part.done", at+`,"part":`+part)
			item := `{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[` + part + `]}`
			event("response.output_item.done", fmt.Sprintf(`,"output_index":%d,"item":%s`, len(items), item))
			items = append(items, item)
		}
		if s.call != nil {
			at := fmt.Sprintf(`,"item_id":"fc_1","output_index":%d`, len(items))
			event("response.output_item.added", fmt.Sprintf(`,"output_index":%d,"item":{"id":"fc_1","type":"function_call","call_id":"call_1","name":"send","arguments":"","status":"in_progress"}`, len(items)))
			for _, p := range s.call {
				event("response.function_call_arguments.delta", at+`,"delta":`+quote(p))
			}
			whole := quote(strings.Join(s.call, ""))
			event("response.function_call_arguments.done", at+`,"arguments":`+whole)
			item := `{"id":"fc_1","type":"function_call","call_id":"call_1","name":"send","status":"completed","arguments":` + whole + `}`
			event("response.output_item.done", fmt.Sprintf(`,"output_index":%d,"item":%s`, len(items), item))
			items = append(items, item)
		}
		event("response.completed", response("completed", strings.Join(items, ",")))
		return b.String()
	},
}

var readers = map[string]func() dialect.StreamReader{
	"chat": llmopenai.Chat{}.NewReader, "messages": anthropic.Messages{}.NewReader, "gemini": gemini.GenerateContent{}.NewReader, "responses": llmresponses.Responses{}.NewReader,
}

// streamAsks is what a client of each dialect asks for a stream.
var streamAsks = map[string]string{
	"chat":      `{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`,
	"messages":  `{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}`,
	"responses": `{"model":"m","stream":true,"input":"x"}`,
	"gemini":    `{"contents":[{"parts":[{"text":"x"}]}]}`,
}

// An understood is what a client makes of a stream.
type understood struct {
	Thought, Text, Call string
	Signature           string
	Ended               bool
}

func understand(t testing.TB, client, stream string) (out understood) {
	t.Helper()
	r := readers[client]()
	wire := events.NewReader(strings.NewReader(stream), 1<<20)
	var kind dialect.Kind
	take := func(list []dialect.Event) {
		for _, e := range list {
			switch e.Kind {
			case dialect.BlockStart:
				kind = e.Part.Kind
			case dialect.Delta:
				switch kind {
				case dialect.Text:
					out.Text += e.Text
				case dialect.Thinking:
					out.Thought += e.Text
				case dialect.ToolCall:
					out.Call += e.Text
				}
			case dialect.Signed:
				out.Signature += e.Text
			case dialect.End:
				out.Ended = true
			}
		}
	}
	for {
		ev, err := wire.Next()
		if err == io.EOF {
			list, err := r.End()
			if err != nil {
				t.Fatalf("%v in %s", err, stream)
			}
			take(list)
			return out
		}
		if err != nil {
			t.Fatal(err)
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

// streamed sends a provider's stream to a client under a guard of answers.
func streamed(t testing.TB, g *guard.Answer, client, provider, stream string) *httptest.ResponseRecorder {
	t.Helper()
	asks := client
	if client == "gemini" {
		asks = "geminis"
	}
	p := &llm.Policy{Answer: g}
	vendor := natives[provider]
	if provider == "responses" && client != "responses" || provider == "chat" && client == "responses" {
		t.Fatalf("no such cell")
	}
	_, w, _ := under(t, p, vendor, asks, streamAsks[client], stream)
	return w
}

// streamCells are the combinations of client and provider that under can ask for.
func streamCells() (out [][2]string) {
	for _, client := range []string{"chat", "messages", "gemini", "responses"} {
		for _, provider := range []string{"chat", "messages", "gemini", "responses"} {
			if (client == "responses") == (provider == "responses") || client == "responses" && provider != "chat" {
				out = append(out, [2]string{client, provider})
			}
		}
	}
	return out
}

func cut(text string, at ...int) (out []string) {
	last := 0
	for _, i := range append(at, len(text)) {
		out = append(out, text[last:i])
		last = i
	}
	return out
}

// However a provider cuts its answer, no client of any dialect gets a secret of it, and gets
// everything else.
func TestMaskedStreams(t *testing.T) {
	const text, masked = "card 5105105105105100, mail bob@example.com", "card <CREDIT_CARD>, mail <EMAIL_ADDRESS>"
	const call = `{"to":"bob@exa\u006dple.com","n":[1,"é hunter22"]}`
	g := &guard.Answer{Regex: builtins(t, guard.Mask), Rejection: guard.Rejection{Status: 403, Message: "no"}}
	for _, cell := range streamCells() {
		client, provider := cell[0], cell[1]
		t.Run(client+" "+provider, func(t *testing.T) {
			for i := range len(text) + 1 {
				j := i % len(call)
				if call[j] >= 0x80 && call[j] < 0xc0 {
					j++ // within a letter
				}
				w := streamed(t, g, client, provider, streams[provider](spoken{cut(text, i, min(i+2, len(text))), cut(text, i), cut(call, j)}))
				got := w.Body.String()
				for _, secret := range []string{"51051", "bob", "exam", "hunt", "er22"} {
					if strings.Contains(got, secret) {
						t.Fatalf("cut at %d the client gets %q in %s", i, secret, got)
					}
				}
				u := understand(t, client, got)
				var args any
				if err := json.Unmarshal([]byte(u.Call), &args); err != nil {
					t.Fatalf("cut at %d the arguments are %q: %s", i, u.Call, got)
				}
				if d := cmp.Diff(map[string]any{"to": "<EMAIL_ADDRESS>", "n": []any{1.0, "é <PASSWORD>"}}, args); d != "" {
					t.Fatalf("cut at %d: %s", i, d)
				}
				if u.Text != masked || u.Thought != masked || !u.Ended || strings.Contains(u.Signature, "QUJDRA==") {
					t.Fatalf("cut at %d the client understands %+v: %s", i, u, got)
				}
			}
		})
	}
}

// Where nothing is found the bytes of the same dialect stay as they are, but that they may
// come later.
func TestUnmaskedStreams(t *testing.T) {
	g := &guard.Answer{Regex: builtins(t, guard.Mask)}
	for _, client := range []string{"chat", "messages", "gemini", "responses"} {
		stream := streams[client](spoken{[]string{"Let me think. "}, []string{"No. ", "Nothing - "}, []string{`{"q":`, `"a,"}`}})
		if d := cmp.Diff(stream, streamed(t, g, client, client, stream).Body.String()); d != "" {
			t.Errorf("%s: %s", client, d)
		}
	}
}

// A stream that is rejected ends with an error in the client's dialect; one of which the client has
// nothing yet is answered as if it were whole.
func TestRejectedStreams(t *testing.T) {
	g := &guard.Answer{Regex: builtins(t, guard.Reject), Rejection: guard.Rejection{Status: 403, Message: "The response was rejected due to inappropriate content"}}
	for _, cell := range streamCells() {
		client, provider := cell[0], cell[1]
		w := streamed(t, g, client, provider, streams[provider](spoken{text: []string{"it is ", "bob@exam", "ple.com", " or so"}}))
		got := w.Body.String()
		if w.Code != 200 || !strings.Contains(got, "it is") || strings.Contains(got, "bob") || !strings.Contains(got, g.Rejection.Message) || strings.Contains(got, "[DONE]") || strings.Contains(got, "message_stop") || strings.Contains(got, "response.completed") {
			t.Errorf("%s of %s: %d %s", client, provider, w.Code, got)
		}
		w = streamed(t, g, client, provider, streams[provider](spoken{text: []string{"bob@example.com", " or so"}}))
		if w.Code != 403 || w.Body.String() != g.Rejection.Message || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s of %s, at once: %d %s", client, provider, w.Code, w.Body)
		}
	}
}

// wholes are the answers of the providers that are not streamed.
func wholes(thought, text, call string) map[string]string {
	return map[string]string{
		"chat":      `{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":` + quote(thought) + `, "content":` + quote(text) + `,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"send","arguments":` + quote(call) + `}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`,
		"messages":  `{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"signature":"QUJDRA==","type":"thinking","thinking":` + quote(thought) + `}, {"type":"text","text":` + quote(text) + `},{"type":"tool_use","id":"toolu_1","name":"send","input":` + call + `}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}`,
		"gemini":    `{"candidates":[{"content":{"parts":[{"text":` + quote(thought) + `,"thought":true},{"text":` + quote(text) + `},{"functionCall":{"name":"send","args":` + call + `},"thoughtSignature":"QUJDRA=="}],"role":"model"},"finishReason":"STOP","index":0}],"modelVersion":"m"}`,
		"responses": `{"id":"r1","object":"response","created_at":1,"model":"m","status":"completed","output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":` + quote(thought) + `}]},{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":` + quote(text) + `,"annotations":[]}]},{"id":"fc_1","type":"function_call","call_id":"call_1","name":"send","status":"completed","arguments":` + quote(call) + `}]}`,
	}
}

var decoders = map[string]func([]byte) (*dialect.Response, error){
	"chat": llmopenai.Chat{}.DecodeResponse, "messages": anthropic.Messages{}.DecodeResponse, "gemini": gemini.GenerateContent{}.DecodeResponse, "responses": llmresponses.Responses{}.DecodeResponse,
}

func TestMaskedAnswers(t *testing.T) {
	const text, masked = "card 5105105105105100, mail bob@example.com", "card <CREDIT_CARD>, mail <EMAIL_ADDRESS>"
	const call = `{"to":"bob@exa\u006dple.com","n":[1,"é hunter22"]}`
	g := &guard.Answer{Regex: builtins(t, guard.Mask), Rejection: guard.Rejection{Status: 403, Message: "no"}}
	for _, cell := range streamCells() {
		client, provider := cell[0], cell[1]
		body := strings.Replace(streamAsks[client], `"stream":true,`, "", 1)
		_, w, rec := under(t, &llm.Policy{Answer: g}, natives[provider], client, body, wholes(text, text, call)[provider])
		r, err := decoders[client](w.Body.Bytes())
		if err != nil {
			t.Fatalf("%s of %s: %v %s", client, provider, err, w.Body)
		}
		for _, p := range r.Choices[0].Parts {
			switch p.Kind {
			case dialect.ToolCall:
				var args any
				_ = json.Unmarshal([]byte(p.Text), &args)
				if d := cmp.Diff(map[string]any{"to": "<EMAIL_ADDRESS>", "n": []any{1.0, "é <PASSWORD>"}}, args); d != "" {
					t.Errorf("%s of %s: %s", client, provider, d)
				}
			case dialect.Text, dialect.Thinking:
				if p.Text != masked {
					t.Errorf("%s of %s says %q", client, provider, p.Text)
				}
			}
			if strings.Contains(p.Signature, "QUJDRA==") {
				t.Errorf("%s of %s: what was changed is signed with %q", client, provider, p.Signature)
			}
		}
		if l := w.Header().Get("Content-Length"); l != "" {
			t.Errorf("the length is said to be %s", l)
		}
		if (provider == "messages" || provider == "gemini") && !strings.Contains(rec.LLM.Dropped, "answer.signature") {
			t.Errorf("%s of %s: dropped is %q", client, provider, rec.LLM.Dropped)
		}
		// Nothing to find: the bytes of the same dialect stay.
		if plain := wholes("a", "b", `{"c": "d"}`)[provider]; client == provider {
			if _, w, _ := under(t, &llm.Policy{Answer: g}, natives[provider], client, body, plain); w.Body.String() != plain {
				t.Errorf("%s became %s", plain, w.Body)
			}
		}
		g := &guard.Answer{Regex: builtins(t, guard.Reject), Rejection: guard.Rejection{Status: 403, Message: "no"}}
		_, w, _ = under(t, &llm.Policy{Answer: g}, natives[provider], client, body, wholes("a", "b", call)[provider])
		if w.Code != 403 || w.Body.String() != "no" {
			t.Errorf("%s of %s, rejected: %d %s", client, provider, w.Code, w.Body)
		}
	}
}

// A signature that stands for what was changed comes back to the gateway and to no provider.
func TestSignatureOfNobody(t *testing.T) {
	g := &guard.Answer{Regex: builtins(t, guard.Mask)}
	w := streamed(t, g, "messages", "messages", streams["messages"](spoken{thought: []string{"bob@example.com"}, text: []string{"a"}}))
	u := understand(t, "messages", w.Body.String())
	back := `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":` + quote(u.Thought) + `,"signature":` + quote(u.Signature) + `},{"type":"text","text":"a"}]},{"role":"user","content":"y"}]}`
	s, again, _ := under(t, &llm.Policy{}, llm.Anthropic, "messages", back, "{}")
	if strings.Contains(string(s.body), "thinking") || !strings.Contains(again.Header().Get("X-Mcpgw-Dropped"), "messages[1].content[0]") {
		t.Errorf("the provider gets %s, dropped %q", s.body, again.Header().Get("X-Mcpgw-Dropped"))
	}
}

// A webhook sees the whole answer, streamed or not.
func TestWebhookOnAnswers(t *testing.T) {
	var seen []string
	reply := ""
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen = append(seen, r.URL.Path+" "+string(bytes.TrimSpace(b)))
		_, _ = io.WriteString(w, reply)
	}))
	defer hook.Close()
	g := &guard.Answer{Webhook: &guard.Webhook{RoundTripper: http.DefaultTransport, Host: strings.TrimPrefix(hook.URL, "http://")}, Regex: builtins(t, guard.Mask), Rejection: guard.Rejection{Status: 403, Message: "no"}}
	for _, cell := range streamCells() {
		client, provider := cell[0], cell[1]
		stream := streams[provider](spoken{[]string{"h"}, []string{"se", "cret"}, []string{`{"a":"b"}`}})
		for _, tt := range []struct{ reply, text string }{
			{`{"action":{"reason":"fine"}}`, "secret"},
			{`{"action":{"body":{"choices":[{"message":{"role":"assistant","content":"all bob@example.com"}}]}}}`, "all <EMAIL_ADDRESS>"},
		} {
			reply, seen = tt.reply, nil
			w := streamed(t, g, client, provider, stream)
			if u := understand(t, client, w.Body.String()); u.Text != tt.text || u.Thought != "h" || u.Call != `{"a":"b"}` || !u.Ended {
				t.Errorf("%s of %s: %+v %s", client, provider, u, w.Body)
			}
			if d := cmp.Diff([]string{`/response {"body":{"choices":[{"message":{"role":"assistant","content":"secret"}}]}}`}, seen); d != "" {
				t.Errorf("%s of %s: %s", client, provider, d)
			}
			_, w, _ = under(t, &llm.Policy{Answer: g}, natives[provider], client, strings.Replace(streamAsks[client], `"stream":true,`, "", 1), wholes("h", "secret", `{"a":"b"}`)[provider])
			if !strings.Contains(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(w.Body.String()), quoted(tt.text)) {
				t.Errorf("%s of %s: %s", client, provider, w.Body)
			}
		}
		reply = `{"action":{"body":"never","status_code":418}}`
		if w := streamed(t, g, client, provider, stream); w.Code != 418 || w.Body.String() != "never" {
			t.Errorf("%s of %s, rejected: %d %s", client, provider, w.Code, w.Body)
		}
		reply = `{}`
		if w := streamed(t, g, client, provider, stream); w.Code != 503 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s of %s, without an answer of the webhook: %d %s", client, provider, w.Code, w.Body)
		}
	}
}

// quoted is quote without what is written in another way for HTML.
func quoted(s string) string { return `"` + s + `"` }

// What is said of the tokens of a text that was masked goes with them.
func TestMaskedTokens(t *testing.T) {
	g := &guard.Answer{Regex: builtins(t, guard.Mask), Rejection: guard.Rejection{Status: 403, Message: "no"}}
	reply := `{"candidates":[{"content":{"role":"model","parts":[{"text":"mail bob@example.com"}]},"finishReason":"STOP","index":0,` +
		`"logprobsResult":{"chosenCandidates":[{"token":"bob@example.com","logProbability":-0.5}]}}],"modelVersion":"m","responseId":"r"}`
	for _, stream := range []bool{false, true} {
		body, said := streamAsks["chat"], "data: "+reply+"\n\n"
		if !stream {
			body, said = strings.Replace(body, `"stream":true,`, "", 1), reply
		}
		_, w, _ := under(t, &llm.Policy{Answer: g}, natives["gemini"], "chat", body, said)
		if got := w.Body.String(); strings.Contains(got, "bob@") || !strings.Contains(got, "EMAIL_ADDRESS") {
			t.Errorf("stream %t: %s", stream, got)
		}
	}
}

// The same where bytes pass, whole and streamed; what nothing was found in keeps them.
func TestMaskedTokensSame(t *testing.T) {
	g := &guard.Answer{Regex: builtins(t, guard.Mask), Rejection: guard.Rejection{Status: 403, Message: "no"}}
	chat := func(member, finish string, tokens ...string) string {
		var list []string
		for _, token := range tokens {
			list = append(list, `{"token":`+quote(token)+`,"logprob":-0.1,"bytes":null,"top_logprobs":[]}`)
		}
		return `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,` + member + `:{"role":"assistant","content":` + quote(strings.Join(tokens, "")) + `},"logprobs":{"content":[` + strings.Join(list, ",") + `]},"finish_reason":` + finish + `}]}`
	}
	gemini := func(finish string, tokens ...string) string {
		return `{"candidates":[{"content":{"role":"model","parts":[{"text":` + quote(strings.Join(tokens, "")) + `}]},` + finish + `"index":0,"logprobsResult":{"chosenCandidates":[{"token":` + quote(strings.Join(tokens, "|")) + `}]}}]}`
	}
	responses := func(tokens ...string) string {
		return `{"id":"r","object":"response","created_at":1,"model":"m","status":"completed","output":[{"id":"m","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":` + quote(strings.Join(tokens, "")) + `,"annotations":[],"logprobs":[{"token":` + quote(strings.Join(tokens, "|")) + `}]}]}]}`
	}
	delta := func(token string) string {
		return "event: response.output_text.delta\ndata: " + `{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":` + quote(token) + `,"logprobs":[{"token":` + quote(token) + `}]}` + "\n\n"
	}
	created := "event: response.created\ndata: " + `{"type":"response.created","response":{"id":"r","object":"response","created_at":1,"model":"m","status":"in_progress","output":[]}}` + "\n\n"
	completed := func(tokens ...string) string {
		return "event: response.completed\ndata: " + `{"type":"response.completed","response":` + responses(tokens...) + `}` + "\n\n"
	}
	for _, tt := range []struct {
		client string
		stream bool
		secret string
		plain  string
	}{
		{"chat", false, chat(`"message"`, `"stop"`, "hunt", "er77"), chat(`"message"`, `"stop"`, "no", "ne")},
		{"gemini", false, gemini(`"finishReason":"STOP",`, "hunt", "er77"), gemini(`"finishReason":"STOP",`, "no", "ne")},
		{"responses", false, responses("hunt", "er77"), responses("no", "ne")},
		{"chat", true, "data: " + chat(`"delta"`, "null", "hunt") + "\n\ndata: " + chat(`"delta"`, `"stop"`, "er77") + "\n\ndata: [DONE]\n\n",
			"data: " + chat(`"delta"`, "null", "No") + "\n\ndata: " + chat(`"delta"`, `"stop"`, "!") + "\n\ndata: [DONE]\n\n"},
		{"gemini", true, "data: " + gemini("", "hunt") + "\n\ndata: " + gemini(`"finishReason":"STOP",`, "er77") + "\n\n",
			"data: " + gemini("", "No") + "\n\ndata: " + gemini(`"finishReason":"STOP",`, "!") + "\n\n"},
		{"responses", true, created + delta("hunt") + delta("er77") + completed("hunt", "er77"), created + delta("X ") + delta("Y!") + completed("X ", "Y!")},
	} {
		body, path := streamAsks[tt.client], tt.client
		if !tt.stream {
			body = strings.Replace(body, `"stream":true,`, "", 1)
		} else if tt.client == "gemini" {
			path = "geminis"
		}
		_, w, rec := under(t, &llm.Policy{Answer: g}, natives[tt.client], path, body, tt.secret)
		if got := w.Body.String(); w.Code != 200 || strings.Contains(got, "hunt") || strings.Contains(got, "77") || !strings.Contains(got, "PASSWORD") || !strings.Contains(rec.LLM.Dropped, "answer.logprobs") {
			t.Errorf("%s, streamed %t: %d %s, dropped %q", tt.client, tt.stream, w.Code, got, rec.LLM.Dropped)
		}
		if _, w, _ := under(t, &llm.Policy{Answer: g}, natives[tt.client], path, body, tt.plain); !tt.stream && w.Body.String() != tt.plain {
			t.Errorf("%s, streamed %t: %s", tt.client, tt.stream, w.Body)
		}
	}
}
