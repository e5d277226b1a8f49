package gateway

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
)

// A syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// An answer costs what the table says, in the record, in a metric, and in a header, of a stream in a trailer, where it is asked for; the
// Backend's own prices go before the list, and a model without a price is said once.
func TestLLMCost(t *testing.T) {
	s := newOpenAIServer(t)
	log := &syncBuffer{}
	plain := s.provider("openai: {authToken: {kind: Inline, inline: k}}")
	with := func(more string) string {
		return strings.Replace(plain, "  ai:\n", "  ai:\n    "+strings.ReplaceAll(more, "\n", "\n    ")+"\n", 1)
	}
	g := startOn(t, RuntimeOptions{Logger: slog.New(slog.NewTextHandler(log, nil))}, Options{}, plain)
	ask := func() string {
		t.Helper()
		got := g.do("POST", g.url("8080", "/llm/model/v1/chat/completions"), strings.NewReader(`{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}`))
		if got.Status != 200 {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		return got.Header.Get("X-Mcpgw-Cost")
	}
	// gpt-5-2026 answers: 3 tokens of $1.25 a million, 2 of $10.
	if got := ask(); got != "" {
		t.Errorf("nobody asked for the header: %q", got)
	}
	if got := g.ended(1)[0].LLM; !got.Priced || got.Cost != 23750 {
		t.Errorf("the record says %+v", got)
	}
	g.apply(with("showCost: true"))
	if got := ask(); got != "0.00002375" {
		t.Errorf("it costs %q", got)
	}
	g.apply(with("showCost: true\nprices: [{models: [gpt-*], input: \"1000\", output: \"0.5\"}, {models: [\"gpt-5*\"], provider: anthropic, input: \"7\"}]"))
	if got := ask(); got != "0.003001" {
		t.Errorf("with one's own prices it costs %q", got)
	}
	g.apply(with("showCost: true\nprices: [{models: [gpt-5-2026], input: \"5\", long: {above: 2, input: \"1\", output: \"1\"}}]"))
	if got := ask(); got != "0.000005" {
		t.Errorf("with a long input it costs %q", got)
	}
	client := openAIClient(g.url("8080", "/llm/model/v1"))
	stream := client.Chat.Completions.NewStreaming(t.Context(), hello("hi"))
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if got := g.ended(5)[4].LLM; stream.Err() != nil || got.Cost != 5000 || got.FirstToken <= 0 || got.Streaming <= 0 {
		t.Errorf("%v, the record of the stream says %+v", stream.Err(), got)
	}
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	for major, tr := range map[int]*http.Transport{1: {}, 2: {Protocols: h2c}} {
		resp, err := (&http.Client{Transport: tr}).Post(g.url("8080", "/llm/model/v1/chat/completions"), "application/json", strings.NewReader(`{"model":"gpt-5","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		_, announced := resp.Trailer["X-Mcpgw-Cost"]
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		tr.CloseIdleConnections()
		if got := resp.Trailer.Get("X-Mcpgw-Cost"); err != nil || resp.ProtoMajor != major || !announced || got != "0.000005" || !strings.Contains(string(body), "[DONE]") {
			t.Errorf("HTTP/%d: announced %t, the stream costs %q: %v %s", resp.ProtoMajor, announced, got, err, body)
		}
	}
	if strings.Contains(log.String(), "price") {
		t.Errorf("what has a price is said to have none: %s", log)
	}
	g.apply(strings.Replace(with("showCost: true"), "inline: k}", "inline: k}, model: own-1", 1))
	s.answers("own-1")
	for range 3 {
		if got := ask(); got != "" {
			t.Errorf("a model without a price costs %q", got)
		}
	}
	if n := strings.Count(log.String(), "own-1"); n != 1 {
		t.Errorf("the log says it %d times: %s", n, log)
	}
}
