package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/bench/internal/procfs"
	"github.com/mcpgw/mcpgw/bench/internal/stats"
)

const (
	modelPieces = 50       // of text in a stream
	largeBody   = 10 << 20 // bytes of a large request
	largeAtOnce = 16       // of which are under way
)

// A modelCase is one kind of request to a language model.
type modelCase struct {
	name       string
	translated bool // OpenAI's client at Anthropic; who is no gateway relays what Anthropic says to its own clients
	stream     bool
	at         string // the gateway's route, where it is not that of the above
}

var modelCases = []modelCase{
	{name: "chat"},
	{name: "chat stream", stream: true},
	{name: "OpenAI to Anthropic", translated: true},
	{name: "OpenAI to Anthropic stream", translated: true, stream: true},
}

// largeCases are the requests of which large ones are sent; who is no gateway relays the first only.
var largeCases = []modelCase{{name: "chat"}, {name: "OpenAI to Anthropic", at: "translated"}, {name: "OpenAI to Gemini", at: "gemini"}, {name: "OpenAI to Bedrock", at: "bedrock"}}

// A modelUse is what was measured of one case, a run each.
type modelUse struct {
	cpu, allocs, rps []float64
	first            []float64 // p50 of the time to the first piece, in microseconds
}

// A model is the mock's side: what providers answer, as bytes.
type model struct {
	chat, messages, content, converse []byte
	// streams are written piece by piece, the first of which has content.
	chatStream, messagesStream [][]byte
}

func newModel() *model {
	text := strings.Repeat("a word or two, ", 20)
	m := &model{
		chat:     []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1780000000,"model":"mock-1","choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}`),
		messages: []byte(`{"id":"msg_1","type":"message","role":"assistant","model":"mock-1","content":[{"type":"text","text":"` + text + `"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":12}}`),
	}
	m.content = []byte(`{"candidates":[{"content":{"role":"model","parts":[{"text":"` + text + `"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":12,"totalTokenCount":21},"modelVersion":"mock-1","responseId":"r"}`)
	m.converse = []byte(`{"output":{"message":{"role":"assistant","content":[{"text":"` + text + `"}]}},"stopReason":"end_turn","usage":{"inputTokens":9,"outputTokens":12,"totalTokens":21},"metrics":{"latencyMs":1}}`)
	chunk := func(delta, finish, usage string) string {
		return `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1780000000,"model":"mock-1","choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}],"usage":` + usage + "}\n\n"
	}
	event := func(typ, fields string) string {
		return "event: " + typ + "\ndata: {\"type\":\"" + typ + "\"," + fields + "}\n\n"
	}
	for i := range modelPieces {
		c := chunk(`{"content":"word "}`, "null", "null")
		e := event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"word "}`)
		if i == 0 {
			c = chunk(`{"role":"assistant","content":"","refusal":null}`, "null", "null") + c
			e = event("message_start", `"message":{"id":"msg_1","type":"message","role":"assistant","model":"mock-1","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}`) +
				event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`) + e
		}
		m.chatStream, m.messagesStream = append(m.chatStream, []byte(c)), append(m.messagesStream, []byte(e))
	}
	m.chatStream = append(m.chatStream, []byte(chunk("{}", `"stop"`, "null")+
		`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1780000000,"model":"mock-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}`+"\n\ndata: [DONE]\n\n"))
	m.messagesStream = append(m.messagesStream, []byte(event("content_block_stop", `"index":0`)+
		event("message_delta", `"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":12}`)+"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"))
	return m
}

// ServeHTTP answers as OpenAI at /v1/chat/completions and as Anthropic at /v1/messages, and at once as Gemini and Bedrock do.
func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	whole, pieces := m.chat, m.chatStream
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/messages"):
		whole, pieces = m.messages, m.messagesStream
	case strings.HasSuffix(path, ":generateContent"):
		whole = m.content
	case strings.HasSuffix(path, "/converse"):
		whole = m.converse
	}
	stream := false
	if r.ContentLength < 1<<20 {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		stream = bytes.Contains(body, []byte(`"stream":true`))
	} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if !stream {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		_, _ = w.Write(whole)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for _, p := range pieces {
		_, _ = w.Write(p)
		_ = flush.Flush()
	}
}

// request returns what is sent to a subject, and what an answer has to hold.
func (c *modelCase) request(gateway bool, size int) (path, body, want string) {
	path, want = "/v1/chat/completions", `"content":"a word`
	body = `{"model":"mock","messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"` + strings.Repeat("Tell me something about it. ", 20) + strings.Repeat("x", size) + `"}],"temperature":0.5,"max_tokens":500`
	if c.stream {
		body, want = body+`,"stream":true,"stream_options":{"include_usage":true}`, "data: [DONE]"
	}
	switch {
	case gateway && c.at != "":
		path = "/llm/" + c.at + path
	case gateway && c.translated:
		path = "/llm/translated" + path
	case gateway:
		path = "/llm/chat" + path
	case c.translated:
		path = "/v1/messages"
		if want = `"text":"a word`; c.stream {
			want = "event: message_stop"
		}
	}
	return path, body + "}", want
}

// running returns s as it is asked in a case.
func (c *modelCase) running(run *running, gateway bool, size int) *running {
	path, body, want := c.request(gateway, size)
	of := *run
	of.url = strings.TrimSuffix(run.url, "/mcp") + path
	of.first = c.stream
	of.request = func(_ *h1.Conn, t h1.Target) ([]byte, error) {
		return t.Request("POST", []string{"Content-Type: application/json", "Authorization: Bearer k"}, []byte(body)), nil
	}
	of.check = func(r h1.Response) error {
		if r.Status != 200 || r.SSE != c.stream || !bytes.Contains(r.Body, []byte(want)) {
			return fmt.Errorf("%s: %d %.300s", path, r.Status, r.Body)
		}
		return nil
	}
	return &of
}

// models measures a subject's requests to language models.
func (b *bench) models(ctx context.Context, s *subject) error {
	if !b.modelRows {
		return nil
	}
	if s.modelUses == nil {
		s.modelUses = make([]modelUse, len(modelCases))
	}
	run, err := s.start(ctx)
	if err != nil {
		return err
	}
	if run.process != nil {
		defer run.stop()
	}
	for i := range modelCases {
		c := &modelCases[i]
		of := c.running(run, s.name == "gateway", 0)
		got, err := b.quiet(ctx, s, of, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		u := &s.modelUses[i]
		u.cpu, u.allocs, u.rps = append(u.cpu, got.cpu), append(u.allocs, got.allocs), append(u.rps, got.rps)
		if c.stream {
			open, err := b.quiet(ctx, s, of, b.rate/5)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			u.first = append(u.first, open.p50)
		}
		if b.profile != "" && s.name == "gateway" && len(u.cpu) == b.rounds {
			if err := b.profileLoad(ctx, of, "."+strings.ReplaceAll(c.name, " ", "-")); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "%-12s %s: %.0f µs CPU, %.0f allocations, %.0f/s\n", s.name, c.name, got.cpu, got.allocs, got.rps)
	}
	return nil
}

// modelMemory measures what many streams leave behind in a subject, and its peak while it
// passes large bodies.
func (b *bench) modelMemory(ctx context.Context, s *subject) error {
	if !b.modelRows {
		return nil
	}
	run, err := s.start(ctx)
	if err != nil || run.process == nil {
		return err
	}
	defer func() { run.stop() }()
	ask := func(c *modelCase, n, conns, size int) error {
		of := c.running(run, s.name == "gateway", size)
		t, err := h1.Parse(of.url)
		if err != nil {
			return err
		}
		request, _ := of.request(nil, t) // never fails
		closeAll, err := each(n, conns, func(conn *h1.Conn, _ func(*h1.Conn)) error {
			r, err := conn.Do(request)
			if err == nil {
				err = of.check(r)
			}
			return err
		}, t)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		closeAll()
		return nil
	}
	if err := ask(&modelCases[3], 10_000, b.conns, 0); err != nil {
		return err
	}
	s.afterStreams = float64(procfs.Tree(run.pid()).RSS)
	if s.afterStreams == 0 {
		return errors.New("its memory can't be read")
	}
	fmt.Fprintf(os.Stderr, "%-12s %.0f MiB after 10000 streams\n", s.name, s.afterStreams/(1<<20))
	for i := range largeCases {
		if i > 0 && s.name != "gateway" {
			return nil
		}
		run.stop()
		if run, err = s.start(ctx); err != nil {
			return err
		}
		if err := ask(&largeCases[i], 4*largeAtOnce, largeAtOnce, largeBody); err != nil {
			return err
		}
		peak := float64(procfs.Tree(run.pid()).Peak)
		if peak == 0 {
			return errors.New("its memory can't be read")
		}
		s.largePeaks = append(s.largePeaks, peak)
		fmt.Fprintf(os.Stderr, "%-12s %s: peak %.0f MiB\n", s.name, largeCases[i].name, peak/(1<<20))
	}
	return nil
}

// appendModels appends the Backends for the cases, the mock behind both.
func appendModels(text []byte, host, port string) []byte {
	for name, vendor := range map[string]string{"chat": "openai: {", "translated": "anthropic: {", "gemini": "gemini: {", "bedrock": "bedrock: {model: amazon.nova-pro-v1:0, "} {
		text = fmt.Appendf(text, `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: llm-%[1]s}
spec:
  parentRefs: [{name: bench}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /llm/%[1]s}}]
    backendRefs: [{group: gateway.kgateway.dev, kind: Backend, name: llm-%[1]s}]
---
apiVersion: gateway.kgateway.dev/v1alpha1
kind: Backend
metadata: {name: llm-%[1]s}
spec:
  type: AI
  ai: {llm: {host: %[3]s, port: %[4]s, %[2]sauthToken: {kind: Inline, inline: k}}}}
`, name, vendor, host, port)
	}
	return text
}

// modelMeasures returns the rows of language models.
func (b *bench) modelMeasures(subjects []*subject) []measure {
	if !b.modelRows {
		return nil
	}
	use := func(s *subject, i int) *modelUse {
		if len(s.modelUses) == 0 {
			return new(modelUse)
		}
		return &s.modelUses[i]
	}
	of := func(name string, value func(*modelUse) float64, i int) float64 {
		for _, s := range subjects {
			if s.name == name {
				return value(use(s, i))
			}
		}
		return 0
	}
	cpu := func(u *modelUse) float64 { return stats.Median(u.cpu) }
	first := func(u *modelUse) float64 { return stats.Median(u.first) }
	piece := func(s *subject, whole int) float64 {
		return (cpu(use(s, whole+1)) - cpu(use(s, whole))) / modelPieces
	}
	var out []measure
	for i, c := range modelCases {
		proxy, direct := of("proxy", cpu, i), of("direct", first, i)
		out = append(out, measure{"CPU a request, " + c.name + ", µs (to proxy)", func(s *subject) string {
			v := cpu(use(s, i))
			if v == 0 || proxy == 0 {
				return number("%.0f", v)
			}
			return fmt.Sprintf("%.0f (%.2f ×)", v, v/proxy)
		}}, measure{"the same: allocations", func(s *subject) string { return number("%.0f", stats.Median(use(s, i).allocs)) }})
		if c.stream {
			out = append(out,
				measure{"the same: CPU a piece beyond the first, µs", func(s *subject) string { return number("%.1f", piece(s, i-1)) }},
				measure{fmt.Sprintf("the same: p50 to the first piece at %.0f/s, µs (added)", b.rate/5), func(s *subject) string {
					v := first(use(s, i))
					if s.name == "direct" || direct == 0 {
						return number("%.0f", v)
					}
					return fmt.Sprintf("%.0f (%+.0f)", v, v-direct)
				}})
		}
	}
	out = append(out,
		measure{"resident after 10000 streams, MiB", func(s *subject) string { return number("%.0f", s.afterStreams/(1<<20)) }},
	)
	for i := range largeCases {
		out = append(out, measure{fmt.Sprintf("peak at %d requests of 10 MiB at once, %s, MiB", largeAtOnce, largeCases[i].name), func(s *subject) string {
			if i >= len(s.largePeaks) {
				return "–"
			}
			return number("%.0f", s.largePeaks[i]/(1<<20))
		}})
	}
	return out
}

// timed returns when an answer counts as there: at its first piece or whole.
func (w *worker) timed(r h1.Response) time.Time {
	if w.first && !r.First.IsZero() {
		return r.First
	}
	return time.Now()
}
