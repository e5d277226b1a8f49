package llm_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/llm"
)

const frameStream = "Content-Type: application/vnd.amazon.eventstream"

// frames returns the frames that lines stand for.
func frames(t *testing.T, lines ...string) []byte {
	t.Helper()
	text := strings.Join(lines, "\n")
	if err := testaws.CheckFrames(text); err != nil {
		t.Fatal(err)
	}
	return testaws.Frames(text)
}

const (
	frameStart   = `messageStart {"role":"assistant"}`
	frameHello   = `contentBlockDelta {"contentBlockIndex":0,"delta":{"text":"hello"}}`
	frameBlock   = `contentBlockStop {"contentBlockIndex":0}`
	frameStop    = `messageStop {"stopReason":"end_turn"}`
	frameUsage   = `metadata {"metrics":{"latencyMs":1},"usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5}}`
	throttled    = `!throttlingException {"message":"slow down"}`
	bedrockWords = `{"message":"slow down"}`
)

// bedrockPair is a backend with Bedrock first and an OpenAI second.
func bedrockPair(first, second func(*http.Request) (*http.Response, error)) *pair {
	p := &pair{first: &script{do: first}, second: &script{do: second}}
	p.backend = llm.New(llm.Config{
		Name: "default/model", Logger: slog.New(slog.DiscardHandler),
		Groups: [][]*llm.Provider{
			{{Name: "first", Vendor: llm.Bedrock, RoundTripper: p.first, Host: "first.test", Model: "amazon.titan-text-lite-v1", Health: new(llm.Health)}},
			{{Name: "second", Vendor: llm.OpenAI, RoundTripper: p.second, Host: "second.test", Model: "second-model", Health: new(llm.Health), Credential: llm.Credential{Token: secret.New("k")}}},
		},
	})
	return p
}

// damaged returns b with one bit changed.
func damaged(b []byte, at int) []byte {
	out := bytes.Clone(b)
	out[at] ^= 1
	return out
}

// Whatever happens to Bedrock before its first content, the next provider answers: frames that
// are cut or damaged, exceptions in the stream, and those instead of it.
func TestBedrockFailover(t *testing.T) {
	start := frames(t, frameStart)
	hello := frames(t, frameHello)
	long := bytes.Clone(start)
	long[0] = 0x7f // and the checksum does not fit
	for name, do := range map[string]func(*http.Request) (*http.Response, error){
		"throttled":        replies(429, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ThrottlingException"),
		"not ready":        replies(429, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ModelNotReadyException"),
		"quota":            replies(400, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ServiceQuotaExceededException"),
		"timeout":          replies(408, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ModelTimeoutException"),
		"the model failed": replies(424, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ModelErrorException"),
		"internal":         replies(500, strings.NewReader(bedrockWords), "X-Amzn-Errortype: InternalServerException"),
		"unavailable":      replies(503, strings.NewReader(""), "X-Amzn-Errortype: ServiceUnavailableException"),
		"no credentials": func(*http.Request) (*http.Response, error) {
			return nil, fault.New(fault.UpstreamUnreachable, "no AWS credentials for the upstream")
		},
		"events instead of frames": replies(200, strings.NewReader(goodStream), eventStream),
		"empty":                    replies(200, strings.NewReader(""), frameStream),
		"cut at a frame":           replies(200, bytes.NewReader(start), frameStream),
		"cut in a frame":           replies(200, bytes.NewReader(append(bytes.Clone(start), hello[:len(hello)-3]...)), frameStream),
		"a bad checksum":           replies(200, bytes.NewReader(append(bytes.Clone(start), damaged(hello, len(hello)-1)...)), frameStream),
		"a bad payload":            replies(200, bytes.NewReader(append(bytes.Clone(start), damaged(hello, len(hello)-8)...)), frameStream),
		"a bad length":             replies(200, bytes.NewReader(long), frameStream),
		"no frames":                replies(200, strings.NewReader(strings.Repeat("hello ", 100)), frameStream),
		"an exception":             replies(200, bytes.NewReader(append(bytes.Clone(start), frames(t, throttled)...)), frameStream),
		"an exception at once":     replies(200, bytes.NewReader(frames(t, `!serviceUnavailableException {"message":"x"}`)), frameStream),
		"the model's exception":    replies(200, bytes.NewReader(frames(t, frameStart, `!modelStreamErrorException {"message":"x"}`)), frameStream),
		"an unknown exception":     replies(200, bytes.NewReader(frames(t, frameStart, `!newException {"message":"x"}`)), frameStream),
		"content before the start": replies(200, bytes.NewReader(hello), frameStream),
		"silent": func(r *http.Request) (*http.Response, error) {
			body := &untilGone{said: bytes.NewReader(start), ctx: r.Context()}
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/vnd.amazon.eventstream"}}, Body: io.NopCloser(body), Request: r}, nil
		},
		"silent in a frame": func(r *http.Request) (*http.Response, error) {
			body := &untilGone{said: bytes.NewReader(append(bytes.Clone(start), hello[:20]...)), ctx: r.Context()}
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/vnd.amazon.eventstream"}}, Body: io.NopCloser(body), Request: r}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := bedrockPair(do, replies(200, strings.NewReader(goodStream), eventStream))
				w, rec := p.ask(t, askStream)
				if diff := cmp.Diff(goodStream, strings.ReplaceAll(w.Body.String(), comments, "")); diff != "" || w.Code != 200 {
					t.Errorf("status %d (-want +got):\n%s", w.Code, diff)
				}
				if rec.Attempts != 2 || rec.ErrorType != "" {
					t.Errorf("the record says %d attempts, error %q", rec.Attempts, rec.ErrorType)
				}
			})
		})
	}
}

// What is wrong with the request, or not allowed, is not asked of another.
func TestBedrockNoFailover(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*http.Request) (*http.Response, error)
		want int
	}{
		"invalid":   {replies(400, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ValidationException"), 400},
		"denied":    {replies(403, strings.NewReader(bedrockWords), "X-Amzn-Errortype: AccessDeniedException"), 403},
		"not there": {replies(404, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ResourceNotFoundException"), 404},
		"in stream": {replies(200, bytes.NewReader(frames(t, `!validationException {"message":"x"}`)), frameStream), 400},
		"expired":   {replies(403, strings.NewReader(bedrockWords), "X-Amzn-Errortype: ExpiredTokenException"), 502},
	} {
		p := bedrockPair(tt.do, replies(200, strings.NewReader(goodStream), eventStream))
		if w, _ := p.ask(t, askStream); w.Code != tt.want || p.second.asked != 0 {
			t.Errorf("%s: status %d, the second was asked %d times", name, w.Code, p.second.asked)
		}
	}
}

// After content a stream that breaks ends with an error, never as if it were whole.
func TestBedrockBreak(t *testing.T) {
	said := frames(t, frameStart, frameHello)
	rest := frames(t, frameBlock, frameStop, frameUsage)
	for name, tt := range map[string]struct {
		more []byte
		want string
	}{
		"cut at a frame": {nil, "upstream_failed"},
		"cut in a frame": {rest[:9], "upstream_failed"},
		"a bad checksum": {damaged(rest, len(frames(t, frameBlock))-1), "upstream_failed"},
		"an exception":   {frames(t, throttled), "429"},
		"the model's":    {frames(t, `!modelStreamErrorException {"message":"x"}`), "502"},
		"out of order":   {frames(t, frameStart), "upstream_failed"},
		"another block":  {frames(t, `contentBlockDelta {"contentBlockIndex":1,"delta":{"text":"x"}}`), "upstream_failed"},
	} {
		p := bedrockPair(replies(200, bytes.NewReader(append(bytes.Clone(said), tt.more...)), frameStream), replies(200, strings.NewReader(goodStream), eventStream))
		w, rec := p.ask(t, askStream)
		if err := readStream("chat", w.Body.Bytes()); err != errSaid || !strings.Contains(w.Body.String(), `"content":"hello"`) {
			t.Errorf("%s: %v\n%s", name, err, w.Body)
		}
		if rec.ErrorType != tt.want || p.second.asked != 0 {
			t.Errorf("%s: error %q, the second was asked %d times", name, rec.ErrorType, p.second.asked)
		}
	}
}

// What comes after an answer that is whole does not matter.
func TestBedrockAfterTheEnd(t *testing.T) {
	whole := frames(t, frameStart, frameHello, frameBlock, frameStop, frameUsage)
	for name, more := range map[string][]byte{"nothing": nil, "rubbish": []byte("rubbish, as long as a prelude"), "an exception": frames(t, throttled)} {
		p := bedrockPair(replies(200, bytes.NewReader(append(bytes.Clone(whole), more...)), frameStream), nil)
		if w, rec := p.ask(t, askStream); readStream("chat", w.Body.Bytes()) != nil || rec.ErrorType != "" {
			t.Errorf("%s: error %q\n%s", name, rec.ErrorType, w.Body)
		}
	}
}

// A model is one segment of the path, whatever its name.
func TestBedrockModel(t *testing.T) {
	for model, want := range map[string]string{
		"..":           "/model/%2E%2E/converse",
		"a/../b?c#d%2": "/model/a%2F..%2Fb%3Fc%23d%252/converse",
		"ä ~_-.":       "/model/%C3%A4%20~_-./converse",
	} {
		got := ""
		p := &llm.Provider{Vendor: llm.Bedrock, Model: model, Host: "first.test", Health: new(llm.Health), RoundTripper: &script{do: func(r *http.Request) (*http.Response, error) {
			got = r.URL.EscapedPath() + r.URL.RawQuery
			return nil, fmt.Errorf("enough")
		}}}
		b := llm.New(llm.Config{Name: "n", Logger: slog.New(slog.DiscardHandler), Groups: [][]*llm.Provider{{p}}})
		serve(t, b, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(askWhole)))
		if got != want {
			t.Errorf("%s is asked at %s, not %s", model, got, want)
		}
	}
}
