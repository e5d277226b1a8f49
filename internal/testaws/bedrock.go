package testaws

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A Bedrock is a stand-in for the runtime of Amazon Bedrock. It takes what is signed for
// its region, or has its key, and is as the official schemas have it, says what the last
// message says, and keeps what it got.
type Bedrock struct {
	Region      string
	Credentials aws.Credentials
	Key         string // an API key that is taken instead of a signature
	// Frames replaces the frames of a stream, as [Frames] has them.
	Frames string

	mu   sync.Mutex
	last Asked
	all  int
}

// An Asked is a request that was good.
type Asked struct {
	Model, Operation string
	Path             string // as it came
	Header           http.Header
	Body             string
}

// Last returns the last good request, and how many there were.
func (b *Bedrock) Last() (Asked, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.all
}

// lists are what Bedrock says that it has (API reference, ListFoundationModels and ListInferenceProfiles).
var lists = map[string]string{
	"/foundation-models?byInferenceType=ON_DEMAND": `{"modelSummaries":[` +
		`{"modelArn":"arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0","modelId":"amazon.nova-lite-v1:0","modelName":"Nova Lite","providerName":"Amazon","inputModalities":["TEXT","IMAGE"],"outputModalities":["TEXT"],"responseStreamingSupported":true,"customizationsSupported":[],"inferenceTypesSupported":["ON_DEMAND"],"modelLifecycle":{"status":"ACTIVE"}},` +
		`{"modelArn":"arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-canvas-v1:0","modelId":"amazon.nova-canvas-v1:0","modelName":"Nova Canvas","providerName":"Amazon","inputModalities":["TEXT"],"outputModalities":["IMAGE"],"inferenceTypesSupported":["ON_DEMAND"],"modelLifecycle":{"status":"ACTIVE"}},` +
		`{"modelArn":"arn:aws:bedrock:eu-west-1::foundation-model/amazon.titan-embed-text-v2:0","modelId":"amazon.titan-embed-text-v2:0","modelName":"Titan Text Embeddings V2","providerName":"Amazon","inputModalities":["TEXT"],"outputModalities":["EMBEDDING"],"inferenceTypesSupported":["ON_DEMAND"],"modelLifecycle":{"status":"ACTIVE"}},` +
		`{"modelArn":"arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-v2","modelId":"anthropic.claude-v2","modelName":"Claude","providerName":"Anthropic","inputModalities":["TEXT"],"outputModalities":["TEXT"],"inferenceTypesSupported":["ON_DEMAND"],"modelLifecycle":{"status":"LEGACY"}}]}`,
	"/inference-profiles?maxResults=1000":                    `{"inferenceProfileSummaries":[{"inferenceProfileArn":"arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0","inferenceProfileId":"eu.amazon.nova-lite-v1:0","inferenceProfileName":"EU Nova Lite","models":[],"status":"ACTIVE","type":"SYSTEM_DEFINED"}],"nextToken":"more/1"}`,
	"/inference-profiles?maxResults=1000&nextToken=more%2F1": `{"inferenceProfileSummaries":[{"inferenceProfileArn":"arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0","inferenceProfileId":"eu.anthropic.claude-sonnet-4-5-20250929-v1:0","inferenceProfileName":"EU Claude Sonnet 4.5","models":[],"status":"ACTIVE","type":"SYSTEM_DEFINED"}]}`,
}

// ServeHTTP implements http.Handler.
func (b *Bedrock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	refuse := func(status int, typ string, format string, args ...any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Errortype", typ+":http://internal.amazon.com/coral/com.amazon.bedrock/")
		w.WriteHeader(status)
		message, _ := json.Marshal(map[string]string{"message": fmt.Sprintf(format, args...)})
		_, _ = w.Write(message)
	}
	if b.Key == "" || r.Header.Get("Authorization") != "Bearer "+b.Key {
		if err := Verify(r, body, "bedrock", b.Region, b.Credentials); err != nil {
			refuse(403, "InvalidSignatureException", "The request signature we calculated does not match: %v", err)
			return
		}
	}
	if list, ok := lists[r.RequestURI]; ok && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, list)
		return
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if r.Method != http.MethodPost || len(parts) != 3 || parts[0] != "model" || r.Header.Get("Content-Type") != "application/json" {
		refuse(404, "UnknownOperationException", "%s %s", r.Method, r.RequestURI)
		return
	}
	model, err := url.PathUnescape(parts[1])
	if err != nil {
		refuse(400, "ValidationException", "%v", err)
		return
	}
	check, stream := CheckConverse, false
	switch parts[2] {
	case "converse":
	case "converse-stream":
		stream = true
	case "invoke":
		if check = CheckInvoke; strings.Contains(model, "embed") {
			check = func(body []byte) error { return CheckEmbedding(model, body) }
		}
	case "invoke-with-response-stream":
		check, stream = CheckInvoke, true
	case "count-tokens":
		check = CheckCountTokens
	default:
		refuse(404, "UnknownOperationException", "%s", r.RequestURI)
		return
	}
	if err := check(body); err != nil {
		refuse(400, "ValidationException", "%v", err)
		return
	}
	b.mu.Lock()
	b.last, b.all = Asked{model, parts[2], r.RequestURI, r.Header.Clone(), string(body)}, b.all+1
	b.mu.Unlock()
	w.Header().Set("X-Amzn-Requestid", "b0a9c3ad-8f3b-4f4c-9a2e-000000000001")
	if !stream {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(model, "embed") {
			w.Header().Set("X-Amzn-Bedrock-Input-Token-Count", "9")
			_, _ = io.WriteString(w, embeddings(body))
			return
		}
		_, _ = io.WriteString(w, whole(parts[2], said(body)))
		return
	}
	text := b.Frames
	if text == "" {
		text = frames(parts[2], said(body))
	}
	w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	for line := range strings.Lines(text) {
		if err := CheckFrames(line); err != nil {
			panic(err) // the test is wrong
		}
		_, _ = w.Write(Frames(line))
		_ = http.NewResponseController(w).Flush()
	}
}

// said returns the text of the last message, as JSON.
func said(body []byte) string {
	var wire struct {
		Messages []struct{ Content json.RawMessage }
	}
	text := ""
	if json.Unmarshal(body, &wire) == nil && len(wire.Messages) > 0 {
		content := wire.Messages[len(wire.Messages)-1].Content
		var blocks []struct{ Text string }
		if json.Unmarshal(content, &text) != nil && json.Unmarshal(content, &blocks) == nil && len(blocks) > 0 {
			text = blocks[len(blocks)-1].Text
		}
	}
	out, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can be written
	}
	return string(out)
}

func whole(operation, said string) string {
	switch operation {
	case "converse":
		return `{"metrics":{"latencyMs":300},"output":{"message":{"role":"assistant","content":[{"text":` + said + `}]}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":2,"totalTokens":9,"cacheReadInputTokens":4}}`
	case "count-tokens":
		return `{"inputTokens":17}`
	default:
		return `{"model":"claude-x","id":"msg_bdrk_1","type":"message","role":"assistant","content":[{"type":"text","text":` + said + `}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":2}}`
	}
}

func frames(operation, said string) string {
	if operation == "converse-stream" {
		return `messageStart {"role":"assistant"}
contentBlockDelta {"contentBlockIndex":0,"delta":{"text":` + said + `}}
contentBlockStop {"contentBlockIndex":0}
messageStop {"stopReason":"end_turn"}
metadata {"metrics":{"latencyMs":300},"usage":{"inputTokens":3,"outputTokens":2,"totalTokens":9,"cacheReadInputTokens":4}}
`
	}
	return `chunk {"type":"message_start","message":{"model":"claude-x","id":"msg_bdrk_1","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":1}}}
chunk {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
chunk {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":` + said + `}}
chunk {"type":"content_block_stop","index":0}
chunk {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}
chunk {"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":3,"outputTokenCount":2,"invocationLatency":500,"firstByteLatency":300}}
`
}
