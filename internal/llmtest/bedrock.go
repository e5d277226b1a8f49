package llmtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpgw/mcpgw/internal/testaws"
)

// bedrockModels are the models that [Provider] names.
var bedrockModels = map[Vendor]string{BedrockNova: "amazon.nova-pro-v1:0", BedrockClaude: "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}

// bedrockOperation returns what Amazon Bedrock is asked for by a path.
func bedrockOperation(v Vendor, r *http.Request) (d Dialect, stream bool, err error) {
	operation, ok := strings.CutPrefix(r.URL.EscapedPath(), "/model/"+strings.ReplaceAll(url.PathEscape(bedrockModels[v]), ":", "%3A")+"/")
	switch {
	case !ok || r.URL.RawQuery != "":
	case operation == "converse":
		return Converse, false, nil
	case operation == "converse-stream":
		return Converse, true, nil
	case operation == "count-tokens":
		return Count, false, nil
	case operation == "invoke" && v == BedrockClaude:
		return Invoke, false, nil
	case operation == "invoke-with-response-stream" && v == BedrockClaude:
		return Invoke, true, nil
	}
	return Converse, false, fmt.Errorf("Bedrock has no %s", r.URL) //nolint:staticcheck // a name
}

// invokeHolds checks a body of Claude's at Bedrock: it is Anthropic's, but that the model stands
// in the path, and the version of the API and the betas in the body.
func invokeHolds(body []byte) error {
	if err := testaws.CheckInvoke(body); err != nil {
		return err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	delete(m, "anthropic_version")
	delete(m, "anthropic_beta")
	m["model"] = json.RawMessage(`"` + bedrockModels[BedrockClaude] + `"`)
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return holds(Anthropic, Messages, body)
}

const converseUsage = `"usage":{"inputTokens":5,"outputTokens":12,"totalTokens":21,"cacheReadInputTokens":4,"cacheWriteInputTokens":0},"metrics":{"latencyMs":300}`

func converseWhole(a Answer) []byte {
	var blocks []string
	if a.Thought != "" {
		blocks = append(blocks, fmt.Sprintf(`{"reasoningContent":{"reasoningText":{"text":%s,"signature":%s}}}`, quote(a.Thought), quote(a.Signature)))
	}
	if a.Text != "" {
		blocks = append(blocks, fmt.Sprintf(`{"text":%s}`, quote(a.Text)))
	}
	for _, c := range a.Calls {
		blocks = append(blocks, fmt.Sprintf(`{"toolUse":{"toolUseId":%q,"name":%q,"input":%s}}`, c.ID, c.Name, c.Arguments))
	}
	body := fmt.Appendf(nil, `{"output":{"message":{"role":"assistant","content":[%s]}},"stopReason":%q,%s}`, strings.Join(blocks, ","), messagesStop(a), converseUsage)
	if err := testaws.CheckMessage(body); err != nil {
		panic(err) // the stand-in is wrong
	}
	return body
}

func converseStream(a Answer) []Event {
	var out []Event
	event := func(content bool, typ, format string, args ...any) {
		payload := fmt.Sprintf(format, args...)
		if err := testaws.CheckEvent(typ, []byte(payload)); err != nil {
			panic(err) // the stand-in is wrong
		}
		out = append(out, Event{testaws.Event(typ, payload), content})
	}
	i := 0
	block := func(deltas ...string) {
		for _, d := range deltas {
			event(true, "contentBlockDelta", `{"contentBlockIndex":%d,"delta":%s}`, i, d)
		}
		event(true, "contentBlockStop", `{"contentBlockIndex":%d}`, i)
		i++
	}
	event(false, "messageStart", `{"role":"assistant"}`)
	if a.Thought != "" {
		var deltas []string
		for _, s := range halves(a.Thought) {
			deltas = append(deltas, `{"reasoningContent":{"text":`+quote(s)+`}}`)
		}
		block(append(deltas, `{"reasoningContent":{"signature":`+quote(a.Signature)+`}}`)...)
	}
	if a.Text != "" {
		var deltas []string
		for _, s := range halves(a.Text) {
			deltas = append(deltas, `{"text":`+quote(s)+`}`)
		}
		block(deltas...)
	}
	for _, c := range a.Calls {
		event(true, "contentBlockStart", `{"contentBlockIndex":%d,"start":{"toolUse":{"toolUseId":%q,"name":%q}}}`, i, c.ID, c.Name)
		var deltas []string
		for _, s := range halves(c.Arguments) {
			deltas = append(deltas, `{"toolUse":{"input":`+quote(s)+`}}`)
		}
		block(deltas...)
	}
	event(false, "messageStop", `{"stopReason":%q}`, messagesStop(a))
	event(false, "metadata", `{%s}`, converseUsage)
	return out
}

// invokeStream returns Anthropic's events in the chunks that Bedrock sends them in.
func invokeStream(a Answer) []Event {
	out := messagesStream(a)
	for i := range out {
		_, data, _ := bytes.Cut(out[i].Wire, []byte("\ndata: "))
		out[i].Wire = testaws.Chunk(string(bytes.TrimSpace(data)))
	}
	return out
}

// exceptionOf returns Bedrock's name for the error of a status, "" for those it does not have.
func exceptionOf(status int) string {
	return map[int]string{
		400: "ValidationException", 403: "AccessDeniedException", 404: "ResourceNotFoundException", 408: "ModelTimeoutException", 424: "ModelErrorException",
		429: "ThrottlingException", 500: "InternalServerException", 503: "ServiceUnavailableException",
	}[status]
}

// bedrockException returns the frame of an error in the middle of a stream.
func bedrockException(status int, message string) []byte {
	name := exceptionOf(status)
	if name == "" {
		name = "serviceUnavailableException"
	}
	return testaws.Exception(strings.ToLower(name[:1])+name[1:], `{"message":`+quote(message)+`}`)
}

// framed reports whether the streams of the dialect are frames of Amazon's, not events.
func (d Dialect) framed() bool { return d == Converse || d == Invoke }

// MediaType returns the type of streams.
func (d Dialect) MediaType() string {
	if d.framed() {
		return "application/vnd.amazon.eventstream"
	}
	return "text/event-stream"
}

// broken returns an event of a stream that can't be read.
func (d Dialect) broken() []byte {
	if d.framed() {
		damaged := testaws.Event("messageStart", `{"role":"assistant"}`)
		damaged[len(damaged)-1] ^= 1 // its checksum
		return damaged
	}
	return []byte("data: {\"id\":\n\n")
}

// foreign returns an event of a stream that no dialect has.
func (d Dialect) foreign() []byte {
	const hello = `{"hello":1}`
	switch d {
	case Converse:
		return testaws.Event("hello", hello)
	case Invoke:
		return testaws.Chunk(hello)
	default:
		return []byte("data: " + hello + "\n\n")
	}
}

// Passes reports whether the vendor is asked in the dialect of such clients, so that bytes pass.
func (v Vendor) Passes(client Dialect) bool {
	switch v {
	case OpenAI:
		return client == Chat || client == Responses
	case Anthropic, VertexClaude, BedrockClaude:
		return client == Messages
	case Gemini, VertexGemini:
		return client == Generate
	default:
		return false
	}
}

// Answers returns the model that a client of a dialect reads in the vendor's answers: Converse
// does not say it, so that it is the one that was asked.
func (v Vendor) Answers(client Dialect) string {
	if v == BedrockNova || v == BedrockClaude && !v.Passes(client) {
		return bedrockModels[v]
	}
	return Model
}
