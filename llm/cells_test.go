package llm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"golang.org/x/tools/txtar"
	"google.golang.org/genai"

	"github.com/mcpgw/mcpgw/internal/llmtest"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/telemetry"
)

var update = flag.Bool("update", false, "write the golden files")

// A cell is one case of one client dialect at one provider: what the client sends, what
// the provider gets and replies, and what the client reads.
type cell struct {
	path   string
	client string // the client's dialect, from the folder's name
	vendor llm.Vendor
	*txtar.Archive
}

// vendors are the providers by the names of folders.
var vendors = map[string]llm.Vendor{
	"openai": llm.OpenAI, "anthropic": llm.Anthropic, "gemini": llm.Gemini, "responses": llm.OpenAI, "chat": llm.OpenAI,
	"vertex": llm.VertexAI, "claude": llm.VertexAI, "bedrock": llm.Bedrock, "azure": llm.AzureOpenAI,
}

func cells(t *testing.T) []cell {
	t.Helper()
	paths, err := filepath.Glob("testdata/*-*/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var out []cell
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		client, provider, _ := strings.Cut(filepath.Base(filepath.Dir(path)), "-")
		vendor, ok := vendors[provider]
		if !ok {
			t.Fatalf("%s: there is no vendor %s", path, provider)
		}
		c := cell{path, client, vendor, a}
		if err := testaws.CheckFrames(string(c.raw("frames"))); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, c)
	}
	return out
}

// section returns a section; where frames stand for the reply, that is they.
func (c *cell) section(name string) []byte {
	if text := c.raw("frames"); name == "reply" && text != nil {
		return testaws.Frames(string(text))
	}
	return c.raw(name)
}

// streams reports whether the provider replies with events.
func (c *cell) streams() bool {
	reply := c.raw("reply")
	return bytes.HasPrefix(reply, []byte("data:")) || bytes.HasPrefix(reply, []byte("event:")) || c.raw("frames") != nil
}

// raw returns a section as the file has it.
func (c *cell) raw(name string) []byte {
	for _, f := range c.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func (c *cell) set(name string, data []byte) {
	for i := range c.Files {
		if c.Files[i].Name == name {
			c.Files[i].Data = data
			return
		}
	}
	c.Files = append(c.Files, txtar.File{Name: name, Data: data})
}

// A standIn is a provider that replies what it is told. It refuses a request that the
// vendor's own types do not have.
type standIn struct {
	vendor llm.Vendor
	status int
	header http.Header
	reply  io.Reader

	path string
	sent http.Header
	body []byte
}

// RoundTrip implements http.RoundTripper.
func (s *standIn) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.path, s.sent, s.body = r.URL.RequestURI(), r.Header, body
	return &http.Response{StatusCode: s.status, Header: s.header, Body: io.NopCloser(s.reply), Request: r}, nil
}

// provider returns the stand-in of a cell, which replies by way of reply.
func (c *cell) provider(reply io.Reader) *standIn {
	s := &standIn{vendor: c.vendor, status: 200, header: http.Header{"Content-Type": {"application/json"}}, reply: reply}
	switch {
	case c.raw("frames") != nil:
		s.header.Set("Content-Type", "application/vnd.amazon.eventstream")
	case c.streams():
		s.header.Set("Content-Type", "text/event-stream; charset=utf-8")
	}
	for i, line := range strings.Split(strings.TrimSpace(string(c.section("reply head"))), "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			s.header.Set(name, value)
		} else if i == 0 && line != "" {
			s.status, _ = strconv.Atoi(line)
		}
	}
	return s
}

// paths are where the clients of the dialects send their requests.
var paths = map[string]string{
	"chat":      "/llm/v1/chat/completions",
	"messages":  "/llm/v1/messages",
	"responses": "/llm/v1/responses",
	"gemini":    "/llm/v1beta/models/asked-model:generateContent",
	"count":     "/llm/v1/messages/count_tokens",
	"tokens":    "/llm/v1beta/models/asked-model:countTokens",
	"input":     "/llm/v1/responses/input_tokens",
	"content":   "/llm/v1beta/models/asked-model:embedContent",
	"contents":  "/llm/v1beta/models/asked-model:batchEmbedContents",
	"embed":     "/llm/v1/embeddings",
	"geminis":   "/llm/v1beta/models/asked-model:streamGenerateContent?alt=sse",
}

// run sends the client's request through a backend that has the one provider.
func (c *cell) run(t testing.TB, s *standIn, body []byte) (*httptest.ResponseRecorder, *telemetry.Record) {
	t.Helper()
	provider := &llm.Provider{
		Vendor: c.vendor, RoundTripper: s, Host: "provider.test", Health: new(llm.Health),
		Credential: llm.Credential{Token: secret.New("k-1")}, Vertex: llm.VertexModel{Project: "p-1", Location: "us-east5", Publisher: "GOOGLE"},
	}
	b := llm.New(llm.Config{
		Name: "default/model", Logger: slog.New(slog.DiscardHandler), Strict: strings.Contains(string(c.Comment), "[strict]"),
		Groups: [][]*llm.Provider{{provider}},
	})
	switch dir := filepath.Dir(c.path); { // a path says which of OpenAI's dialects is there
	case strings.HasSuffix(dir, "-responses"):
		provider.Path = "/v1/responses"
	case strings.HasSuffix(dir, "-chat"):
		provider.Path = "/v1/chat/completions"
	case strings.HasSuffix(dir, "-azure"):
		provider.APIVersion = "2024-10-21"
	case wanted(c.client) == "embeddings" && strings.HasSuffix(dir, "-vertex"): // as the client says
	case c.client == "content" && strings.HasSuffix(dir, "-bedrock"):
		provider.Model = "amazon.nova-2-multimodal-embeddings-v1:0"
	case c.client == "contents" && strings.HasSuffix(dir, "-bedrock"):
		provider.Model = "cohere.embed-v4:0"
	case strings.HasSuffix(dir, "-vertex"):
		provider.Model = "gemini-3-pro"
	case strings.HasSuffix(dir, "-claude"):
		provider.Model = "claude-sonnet-4-5-20250929"
	}
	path := paths[c.client]
	if c.client == "gemini" && c.streams() || strings.Contains(string(c.Comment), "[stream]") {
		path = paths["geminis"]
	}
	if strings.Contains(string(c.Comment), "[array]") {
		path = strings.TrimSuffix(paths["geminis"], "?alt=sse")
	}
	if strings.Contains(string(c.Comment), "[guardrail]") {
		provider.Guardrail = llm.BedrockGuardrail{Identifier: "gr-1", Version: "3"}
	}
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	for line := range strings.Lines(string(c.section("client head"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		r.Header.Add(name, value)
	}
	return serve(t, b, r)
}

// serve hands a request to a backend as the gateway does.
func serve(t testing.TB, b *llm.Backend, r *http.Request) (*httptest.ResponseRecorder, *telemetry.Record) {
	t.Helper()
	rec := &telemetry.Record{Request: r}
	r = r.WithContext(telemetry.NewContext(r.Context(), rec))
	w := httptest.NewRecorder()
	if err := b.Serve(w, r); err != nil {
		b.WriteError(w, r, err)
	}
	return w, rec
}

// answer is what the client got, as the golden files show it.
func answer(w *httptest.ResponseRecorder) []byte {
	var out bytes.Buffer
	if w.Code != 200 {
		fmt.Fprintf(&out, "%d\n", w.Code)
	}
	for _, name := range []string{"Retry-After", "X-Mcpgw-Dropped"} {
		if v := w.Header().Get(name); v != "" {
			fmt.Fprintf(&out, "%s: %s\n", name, v)
		}
	}
	if out.Len() > 0 {
		out.WriteByte('\n')
	}
	out.Write(madeUp.ReplaceAll(times.ReplaceAll(w.Body.Bytes(), []byte(`"created$1":1`)), []byte("${1}0")))
	return ended(out.Bytes())
}

// ended returns b with a line break at the end, as files have it.
func ended(b []byte) []byte {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return append(b, '\n')
	}
	return b
}

// usageLine is what the record says of the answer.
func usageLine(rec *telemetry.Record) []byte {
	l := &rec.LLM
	u := l.Usage
	out := fmt.Appendf(nil, "model %s, %s, finish %q, input %d (read %d, written %d), output %d (reasoning %d), error %q\n",
		l.ResponseModel, l.Provider, l.FinishReason, u.Input, u.CacheRead, u.CacheWrite, u.Output, u.Reasoning, rec.ErrorType)
	if strings.Contains(l.Dropped, "answer.") {
		out = fmt.Appendf(out, "dropped %s\n", l.Dropped)
	}
	return out
}

// Every cell comes out as its file says.
func TestCells(t *testing.T) {
	for _, c := range cells(t) {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(c.path, "testdata/"), ".txtar"), func(t *testing.T) {
			s := c.provider(bytes.NewReader(c.section("reply")))
			w, rec := c.run(t, s, c.section("client"))
			got := map[string][]byte{"answer": answer(w), "record": usageLine(rec)}
			if s.body != nil {
				got["upstream"] = append([]byte(s.path+"\n"), pretty(t, s.body)...)
				checkUpstream(t, s.path, s.body)
			}
			for _, name := range []string{"upstream", "answer", "record"} {
				if *update {
					c.set(name, got[name])
				} else if diff := cmp.Diff(string(c.section(name)), string(got[name])); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if *update {
				if err := os.WriteFile(c.path, txtar.Format(c.Archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if w.Code == 200 {
				checkAnswer(t, c.client, w)
			}
		})
	}
}

// However a stream is cut into reads, the client reads the same.
func TestCellsSplit(t *testing.T) {
	for _, c := range cells(t) {
		reply := c.section("reply")
		if !c.streams() {
			continue
		}
		t.Run(strings.TrimSuffix(strings.TrimPrefix(c.path, "testdata/"), ".txtar"), func(t *testing.T) {
			w, _ := c.run(t, c.provider(bytes.NewReader(reply)), c.section("client"))
			want := string(answer(w))
			w, _ = c.run(t, c.provider(iotest.OneByteReader(bytes.NewReader(reply))), c.section("client"))
			if diff := cmp.Diff(want, string(answer(w))); diff != "" {
				t.Fatalf("byte by byte (-want +got):\n%s", diff)
			}
			// Each place is one where a read ends, in one of these runs. Reads are shorter than most events and longer than
			// most of what tells one event from another.
			const size = 61
			for first := range size {
				w, _ := c.run(t, c.provider(&cutReader{reply, min(first, len(reply)), size}), c.section("client"))
				if got := string(answer(w)); got != want {
					t.Fatalf("cut at %d and each %d bytes from there (-want +got):\n%s", first, size, cmp.Diff(want, got))
				}
			}
		})
	}
}

// A cutReader reads next bytes at first, and then size at a time.
type cutReader struct {
	rest       []byte
	next, size int
}

func (r *cutReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest[:min(r.next, len(r.rest))])
	r.rest = r.rest[n:]
	if r.next -= n; r.next == 0 {
		r.next = r.size
	}
	return n, nil
}

// cuts are the places where a stream is cut: all of them. Under the race detector they are those near the ends of lines, and
// each 16th of those within, where one is like the others.
func cuts(reply []byte) (at []int) {
	near := func(i int) bool { return bytes.IndexByte(reply[max(i-8, 0):min(i+3, len(reply))], '\n') >= 0 }
	for i := range reply {
		if !raceEnabled || i%16 == 0 || near(i) {
			at = append(at, i)
		}
	}
	return at
}

// A stream that is cut anywhere is never taken for a whole one.
func TestCellsCut(t *testing.T) {
	for _, c := range cells(t) {
		reply := c.section("reply")
		if !c.streams() || bytes.Contains(c.section("record"), []byte(`error "u`)) {
			continue
		}
		t.Run(strings.TrimSuffix(strings.TrimPrefix(c.path, "testdata/"), ".txtar"), func(t *testing.T) {
			broken := 0
			for _, i := range cuts(reply) {
				w, rec := c.run(t, c.provider(bytes.NewReader(reply[:i])), c.section("client"))
				if rec.ErrorType == "" {
					if rest := reply[i:]; !harmless(rest) {
						t.Fatalf("cut at %d of %d, before %q, it is a clean end:\n%s", i, len(reply), rest[:min(len(rest), 60)], w.Body)
					}
					continue
				}
				broken++
				if w.Code == 200 {
					if err := readStream(c.client, w.Body.Bytes()); err == nil {
						t.Fatalf("cut at %d, the client takes it for whole:\n%s", i, w.Body)
					}
				}
			}
			if broken == 0 {
				t.Error("no cut broke it")
			}
		})
	}
}

// harmless reports whether a stream is complete without what stands in rest: the mark of
// the end, when everything was said, and usage.
func harmless(rest []byte) bool {
	return !bytes.Contains(rest, []byte("\"finish_reason\":\"")) && !bytes.Contains(rest, []byte("message_stop")) && !bytes.Contains(rest, []byte("response.completed")) && !bytes.Contains(rest, []byte("finishReason")) &&
		!bytes.Contains(rest, []byte("messageStop")) && !bytes.Contains(rest, []byte(":event-type\a\x00\x05chunk"))
}

func pretty(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatalf("the upstream body is not JSON: %v\n%s", err, b)
	}
	return append(bytes.TrimRight(out.Bytes(), "\n"), '\n')
}

// checkUpstream holds a body against the vendor's own types: what they do not have is a
// mistake, unless the client wrote it so.
func checkUpstream(t *testing.T, path string, body []byte) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	// Of what stands for any signature, Google's own types know only what it is base64 of.
	body = bytes.ReplaceAll(body, []byte("skip_thought_signature_validator"), nil)
	var typed any
	switch {
	case strings.HasSuffix(path, "/chat/completions"):
		typed = new(openai.ChatCompletionNewParams)
	case strings.HasSuffix(path, "/responses"):
		typed = new(responses.ResponseNewParams)
	case strings.HasSuffix(path, "/embeddings"):
		typed = new(openai.EmbeddingNewParams)
	case strings.HasSuffix(path, ":embedContent"), strings.HasSuffix(path, ":batchEmbedContents"), strings.HasSuffix(path, ":predict"):
		if err := llmtest.HoldsEmbedding(path, body); err != nil {
			t.Errorf("%v\n%s", err, body)
		}
		return
	case strings.HasSuffix(path, "/responses/input_tokens"):
		typed = new(responses.InputTokenCountParams)
	case strings.HasSuffix(path, "/messages"):
		typed = new(anthropic.MessageNewParams)
	case strings.HasSuffix(path, "/messages/count_tokens"):
		typed = new(anthropic.MessageCountTokensParams)
	case strings.HasSuffix(path, "/models/count-tokens:rawPredict"):
		checkClaude(t, body, true)
		typed = new(anthropic.MessageCountTokensParams)
	case strings.HasSuffix(path, ":rawPredict"), strings.HasSuffix(path, ":streamRawPredict"):
		checkClaude(t, body, false)
		typed = new(anthropic.MessageNewParams)
	case strings.HasSuffix(path, ":generateContent"), strings.HasSuffix(path, ":streamGenerateContent"):
		typed = new(generateContent)
	case strings.HasSuffix(path, ":countTokens"):
		typed = new(struct {
			Request *generateContent `json:"generateContentRequest"`
			generateContent
		})
	case strings.HasPrefix(path, "/model/"):
		checkBedrock(t, path, body)
		return
	default:
		t.Fatalf("no types for %s", path)
	}
	if err := json.Unmarshal(body, typed); err != nil {
		t.Errorf("the vendor's types can't hold what it gets: %v\n%s", err, body)
	}
}

// checkBedrock checks what Bedrock gets, by its official schemas, and for Claude by Anthropic's
// types.
func checkBedrock(t *testing.T, path string, body []byte) {
	t.Helper()
	check := testaws.CheckInvoke
	switch {
	case strings.Contains(path, "embed"):
		check = func(body []byte) error { return testaws.CheckEmbedding(path, body) }
	case strings.HasSuffix(path, "/converse"), strings.HasSuffix(path, "/converse-stream"):
		check = testaws.CheckConverse
	case strings.HasSuffix(path, "/count-tokens"):
		check = testaws.CheckCountTokens
	}
	if err := check(body); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
}

// checkClaude checks what Vertex AI wants beside Anthropic's types.
func checkClaude(t *testing.T, body []byte, model bool) {
	t.Helper()
	var head struct {
		Version string  `json:"anthropic_version"`
		Model   *string `json:"model"`
	}
	if err := json.Unmarshal(body, &head); err != nil || head.Version != "vertex-2023-10-16" || (head.Model != nil) != model {
		t.Errorf("Vertex AI gets %s", body)
	}
}

// checkAnswer reads what the client got with the types of its dialect's own vendor.
func checkAnswer(t *testing.T, client string, w *httptest.ResponseRecorder) {
	t.Helper()
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") || strings.HasPrefix(w.Body.String(), "[") {
		if err := readStream(client, w.Body.Bytes()); err != nil && !errors.Is(err, errSaid) {
			t.Errorf("the client can't read the stream: %v\n%s", err, w.Body)
		}
		return
	}
	var typed any
	switch client {
	case "chat":
		typed = new(openai.ChatCompletion)
	case "messages":
		typed = new(anthropic.Message)
	case "responses":
		typed = new(responses.Response)
	case "gemini":
		typed = new(genai.GenerateContentResponse)
	case "count":
		typed = new(anthropic.MessageTokensCount)
	case "tokens":
		typed = new(genai.CountTokensResponse)
	case "embed":
		typed = new(openai.CreateEmbeddingResponse)
	case "content":
		typed = new(struct{ Embedding genai.ContentEmbedding })
	case "contents":
		typed = new(genai.EmbedContentResponse)
	case "input":
		typed = new(responses.InputTokenCountResponse)
	}
	if err := json.Unmarshal(w.Body.Bytes(), typed); err != nil {
		t.Errorf("the client can't read the answer: %v\n%s", err, w.Body)
	}
}

// errSaid is an error that the stream itself tells.
var errSaid = errors.New("the stream ends with an error")

// readStream reads a stream as the client's own types have it, to its end.
func readStream(client string, body []byte) error {
	var datas [][]byte
	var elements []json.RawMessage
	if client == "gemini" && bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		if err := json.Unmarshal(body, &elements); err != nil {
			return err
		}
		for _, e := range elements {
			datas = append(datas, e)
		}
		body = nil
	}
	for _, event := range bytes.Split(bytes.TrimSpace(body), []byte("\n\n")) {
		for _, line := range bytes.Split(event, []byte("\n")) {
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				datas = append(datas, data)
			}
		}
	}
	if len(datas) == 0 {
		return errors.New("there are no events")
	}
	if slices.ContainsFunc(datas, func(d []byte) bool {
		return bytes.HasPrefix(d, []byte(`{"error":`)) || bytes.HasPrefix(d, []byte(`{"type":"error"`))
	}) {
		return errSaid
	}
	switch client {
	case "chat":
		return readChat(datas)
	case "messages":
		return readMessage(datas)
	case "gemini":
		return readGenerated(datas)
	case "responses":
		return readResponse(datas)
	default:
		return fmt.Errorf("nobody reads the streams of %s", client)
	}
}

func readChat(datas [][]byte) error {
	var acc openai.ChatCompletionAccumulator
	for i, d := range datas {
		if string(d) == "[DONE]" {
			if i != len(datas)-1 {
				return errors.New("the stream goes on after [DONE]")
			}
			if len(acc.Choices) == 0 || acc.Choices[0].FinishReason == "" {
				return errors.New("[DONE] without a finish_reason")
			}
			return nil
		}
		var chunk openai.ChatCompletionChunk
		if err := json.Unmarshal(d, &chunk); err != nil {
			return err
		}
		if !acc.AddChunk(chunk) {
			return fmt.Errorf("the chunk does not fit: %s", d)
		}
	}
	return errors.New("the stream has no [DONE]")
}

func readMessage(datas [][]byte) error {
	var m anthropic.Message
	for i, d := range datas {
		var e anthropic.MessageStreamEventUnion
		if err := json.Unmarshal(d, &e); err != nil {
			return err
		}
		if err := m.Accumulate(e); err != nil {
			return err
		}
		if e.Type == "message_stop" {
			if m.StopReason == "" || i != len(datas)-1 {
				return errors.New("message_stop comes too early")
			}
			return nil
		}
	}
	return errors.New("the stream has no message_stop")
}

// generateContent is a request as Google's client sends it: that has no type of its own.
type generateContent struct {
	Contents          []*genai.Content        `json:"contents"`
	SystemInstruction *genai.Content          `json:"systemInstruction"`
	Tools             []*genai.Tool           `json:"tools"`
	ToolConfig        *genai.ToolConfig       `json:"toolConfig"`
	GenerationConfig  *genai.GenerationConfig `json:"generationConfig"`
}

func readGenerated(datas [][]byte) error {
	ended := false
	for _, d := range datas {
		var r genai.GenerateContentResponse
		if err := json.Unmarshal(d, &r); err != nil {
			return err
		}
		for _, c := range r.Candidates {
			ended = ended || c.FinishReason != ""
		}
		ended = ended || r.PromptFeedback != nil
	}
	if !ended {
		return errors.New("the stream has no finishReason")
	}
	return nil
}

func readResponse(datas [][]byte) error {
	for i, d := range datas {
		var e responses.ResponseStreamEventUnion
		if err := json.Unmarshal(d, &e); err != nil {
			return err
		}
		if e.SequenceNumber != int64(i) {
			return fmt.Errorf("event %d has the number %d", i, e.SequenceNumber)
		}
		if e.Type == "response.completed" || e.Type == "response.incomplete" {
			if i != len(datas)-1 {
				return errors.New("the stream goes on")
			}
			return nil
		}
	}
	return errors.New("the response does not end")
}
