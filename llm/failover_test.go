package llm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A script is a provider that does what it is told, and counts how often it was asked.
type script struct {
	do    func(r *http.Request) (*http.Response, error)
	asked int
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked++
	if _, err := io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	return s.do(r)
}

// replies answers with a status, headers as Name: value, and a body.
func replies(status int, body io.Reader, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json"}}
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			h.Set(name, value)
		}
		if s, ok := body.(*strings.Reader); ok {
			_, _ = s.Seek(0, io.SeekStart)
		}
		if b, ok := body.(*untilGone); ok {
			b = &untilGone{said: strings.NewReader(b.text), ctx: r.Context()}
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(b), Request: r}, nil
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body), Request: r}, nil
	}
}

const eventStream = "Content-Type: text/event-stream"

// An untilGone is a body that says something and then nothing, until the request is given up.
type untilGone struct {
	text string
	said io.Reader
	ctx  context.Context
}

func says(text string) *untilGone { return &untilGone{text: text} }

func (b *untilGone) Read(p []byte) (int, error) {
	if n, err := b.said.Read(p); err == nil {
		return n, nil
	}
	<-b.ctx.Done()
	return 0, context.Cause(b.ctx)
}

func chunk(delta, finish string) string {
	return fmt.Sprintf("data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n", delta, finish)
}

var (
	role  = chunk(`{"role":"assistant","content":""}`, "null")
	hello = chunk(`{"content":"hello"}`, "null")
	stop  = chunk(`{}`, `"stop"`)
	done  = "data: [DONE]\n\n"

	goodStream = role + hello + stop + done
	goodBody   = `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}`
)

// faults are all the ways in which a provider fails before the first content.
func faults() map[string]func(*http.Request) (*http.Response, error) {
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, fault.Of(context.Cause(r.Context()))
	}
	limit := `{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}`
	return map[string]func(*http.Request) (*http.Response, error){
		"refused": func(*http.Request) (*http.Response, error) {
			return nil, fault.Wrap(fault.UpstreamUnreachable, errors.New("connection refused"), "the upstream could not be reached")
		},
		"cut before headers": func(*http.Request) (*http.Response, error) {
			return nil, fault.Wrap(fault.UpstreamFailed, io.ErrUnexpectedEOF, "the upstream failed")
		},
		"silent before headers": hang,
		"429 with Retry-After":  replies(429, strings.NewReader(limit), "Retry-After: 20"),
		"429":                   replies(429, strings.NewReader(limit)),
		"500":                   replies(500, strings.NewReader(`{"error":{"message":"oops","type":"server_error"}}`)),
		"502 with a page":       replies(502, strings.NewReader("<html>Bad Gateway</html>")),
		"503 with Retry-After":  replies(503, strings.NewReader(""), "Retry-After: 3"),
		"529":                   replies(529, strings.NewReader(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)),
	}
}

func streamFaults() map[string]func(*http.Request) (*http.Response, error) {
	all := faults()
	for name, body := range map[string]io.Reader{
		"silent before the first event":  says(""),
		"silent before the first token":  says(role),
		"cut before the first token":     strings.NewReader(role),
		"empty":                          strings.NewReader(""),
		"only [DONE]":                    strings.NewReader(done),
		"malformed before the token":     strings.NewReader(role + "data: {\"id\":\n\n"),
		"something else before it":       strings.NewReader("data: {\"hello\":1}\n\n"),
		"an error before the token":      strings.NewReader(role + "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n"),
		"a limit in the first event":     strings.NewReader("data: {\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\"}}\n\n"),
		"endless without a single token": endless(role),
	} {
		all[name] = replies(200, body, eventStream)
	}
	all["a page with 200"] = replies(200, strings.NewReader("<html>"), "Content-Type: text/html")
	return all
}

// endless repeats s.
func endless(s string) io.Reader { return io.MultiReader(strings.NewReader(strings.Repeat(s, 20000))) }

func wholeFaults() map[string]func(*http.Request) (*http.Response, error) {
	all := faults()
	for name, body := range map[string]io.Reader{
		"silent in the body":   says(`{"id":`),
		"cut in the body":      io.MultiReader(strings.NewReader(goodBody[:30]), broken{}),
		"a part with 200":      strings.NewReader(goodBody[:30]),
		"no choice":            strings.NewReader(`{"id":"c","choices":[]}`),
		"an error with 200":    strings.NewReader(`{"error":{"message":"overloaded","type":"server_error"}}`),
		"compressed unasked":   strings.NewReader("\x1f\x8b"),
		"empty":                strings.NewReader(""),
		"something else by it": strings.NewReader(`[]`),
	} {
		all[name] = replies(200, body)
	}
	return all
}

type broken struct{}

func (broken) Read([]byte) (int, error) {
	return 0, fault.Wrap(fault.UpstreamFailed, io.ErrUnexpectedEOF, "the upstream failed")
}

// A pair is a backend with two providers, the second of which is asked when the first fails.
type pair struct {
	first, second *script
	backend       *llm.Backend
}

func newPair(first, second func(*http.Request) (*http.Response, error)) *pair {
	p := &pair{first: &script{do: first}, second: &script{do: second}}
	provider := func(name string, s *script) *llm.Provider {
		return &llm.Provider{
			Name: name, Vendor: llm.OpenAI, RoundTripper: s, Host: name + ".test", Model: name + "-model", Health: new(llm.Health),
			Credential: llm.Credential{Token: secret.New("k-" + name)},
		}
	}
	p.backend = llm.New(llm.Config{
		Name: "default/model", Logger: slog.New(slog.DiscardHandler),
		Groups: [][]*llm.Provider{{provider("first", p.first)}, {provider("second", p.second)}},
	})
	return p
}

func (p *pair) ask(t *testing.T, body string) (*httptest.ResponseRecorder, *telemetry.Record) {
	t.Helper()
	return serve(t, p.backend, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body)))
}

const (
	askStream = `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`
	askWhole  = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
)

// comments are what a client of a slow stream reads before the first event.
const comments = ": keep-alive\n\n"

// Whatever happens to the first provider before its first content, the client gets a whole
// answer of the second, and nothing of the first.
func TestFailover(t *testing.T) {
	run := func(all map[string]func(*http.Request) (*http.Response, error), ask, good string, header ...string) {
		for name, do := range all {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPair(do, replies(200, strings.NewReader(good), header...))
					w, rec := p.ask(t, ask)
					if diff := cmp.Diff(good, strings.ReplaceAll(w.Body.String(), comments, "")); diff != "" || w.Code != 200 {
						t.Errorf("status %d (-want +got):\n%s", w.Code, diff)
					}
					if rec.Attempts != 2 || rec.LLM.Name != "second" || rec.LLM.SentModel != "second-model" || rec.ErrorType != "" {
						t.Errorf("the record says %d attempts, %+v, error %q", rec.Attempts, rec.LLM, rec.ErrorType)
					}
				})
			})
		}
	}
	t.Run("stream", func(t *testing.T) { run(streamFaults(), askStream, goodStream, eventStream) })
	t.Run("whole", func(t *testing.T) { run(wholeFaults(), askWhole, goodBody) })
}

// When both fail, the client gets one honest error: the last one.
func TestFailoverFailsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := `{"error":{"message":"we are down","type":"server_error","param":null,"code":null}}`
		for name, do := range streamFaults() {
			p := newPair(do, replies(503, strings.NewReader(last)))
			w, rec := p.ask(t, askStream)
			got := strings.ReplaceAll(w.Body.String(), comments, "")
			if w.Code == 200 { // it took so long that the head was sent
				if got != "data: "+last+"\n\n" {
					t.Errorf("%s: the stream ends with %q", name, got)
				}
			} else if w.Code != 503 || got != last {
				t.Errorf("%s: %d %s", name, w.Code, got)
			}
			if rec.ErrorType != "503" || rec.Attempts != 2 {
				t.Errorf("%s: error %q after %d attempts", name, rec.ErrorType, rec.Attempts)
			}
		}
	})
}

// What is wrong with a request is wrong everywhere: nobody else is asked.
func TestNoFailover(t *testing.T) {
	for _, status := range []int{400, 403, 404, 413, 422} {
		p := newPair(replies(status, strings.NewReader(`{"error":{"message":"no","type":"invalid_request_error"}}`)), replies(200, strings.NewReader(goodBody)))
		if w, _ := p.ask(t, askWhole); w.Code != status || p.second.asked != 0 {
			t.Errorf("%d: status %d, the second was asked %d times", status, w.Code, p.second.asked)
		}
	}
}

// After the first content nobody else can answer: the stream ends with an error, never as
// if it were whole.
func TestBreakAfterContent(t *testing.T) {
	for name, tt := range map[string]struct {
		body io.Reader
		want string
	}{
		"cut":       {strings.NewReader(role + hello), "upstream_failed"},
		"reset":     {io.MultiReader(strings.NewReader(role+hello), broken{}), "upstream_failed"},
		"stalled":   {says(role + hello), "upstream_timeout"},
		"malformed": {strings.NewReader(role + hello + "data: {\n\n" + stop + done), "upstream_failed"},
		"an error":  {strings.NewReader(role + hello + "data: {\"error\":{\"message\":\"oops\",\"type\":\"server_error\"}}\n\n"), "500"},
		"[DONE]":    {strings.NewReader(role + hello + done), "upstream_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(replies(200, tt.body, eventStream), replies(200, strings.NewReader(goodStream), eventStream))
				w, rec := p.ask(t, askStream)
				got := strings.ReplaceAll(w.Body.String(), comments, "")
				rest, ok := strings.CutPrefix(got, role+hello)
				if !ok || !strings.HasPrefix(rest, `data: {"error":{`) || strings.Count(rest, "data:") != 1 {
					t.Errorf("the client reads\n%s", got)
				}
				if rec.ErrorType != tt.want || p.second.asked != 0 {
					t.Errorf("error %q, the second was asked %d times", rec.ErrorType, p.second.asked)
				}
			})
		})
	}
}

// A flushed counts what is flushed.
type flushed struct {
	*httptest.ResponseRecorder
	flushes int
}

func (c *flushed) Flush() { c.flushes++ }

// Events that come together go on together, but for the first content, which goes on at once, and one that comes alone goes on alone;
// what came before a break is read before the error.
func TestBatch(t *testing.T) {
	for name, tt := range map[string]struct {
		body io.Reader
		want int
	}{
		"together":           {strings.NewReader(goodStream), 2},
		"one by one":         {iotest.OneByteReader(strings.NewReader(goodStream)), 3},
		"more than a batch":  {strings.NewReader(role + strings.Repeat(hello, 400) + stop + done), 9}, // as the buffer of its reader grows
		"with what is wrong": {strings.NewReader(role + hello + hello + "data: {\n\n"), 3},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(replies(200, tt.body, eventStream), nil)
			r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(askStream))
			rec := &telemetry.Record{Request: r}
			w := &flushed{ResponseRecorder: httptest.NewRecorder()}
			if err := p.backend.Serve(w, r.WithContext(telemetry.NewContext(r.Context(), rec))); err != nil {
				t.Fatal(err)
			}
			if w.flushes != tt.want {
				t.Errorf("%d flushes, not %d", w.flushes, tt.want)
			}
			if name == "with what is wrong" {
				if rest, ok := strings.CutPrefix(w.Body.String(), role+hello+hello); !ok || !strings.HasPrefix(rest, `data: {"error":{`) {
					t.Errorf("the client reads %s", w.Body)
				}
			}
		})
	}
}

// A provider that failed is left out for a while, and then tried with one request.
func TestLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := replies(429, strings.NewReader(`{"error":{"message":"slow down","type":"requests"}}`), "Retry-After: 20")
		p := newPair(limited, replies(200, strings.NewReader(goodBody)))
		asked := func(want int) {
			t.Helper()
			if w, _ := p.ask(t, askWhole); w.Code != 200 {
				t.Errorf("status %d", w.Code)
			}
			if p.first.asked != want {
				t.Errorf("the first was asked %d times, not %d", p.first.asked, want)
			}
		}
		asked(1)
		asked(1)
		time.Sleep(19 * time.Second)
		asked(1)
		time.Sleep(time.Second)
		asked(2) // which fails again
		asked(2)
		time.Sleep(20 * time.Second)
		p.first.do = replies(200, strings.NewReader(goodBody))
		asked(3)
		asked(4)
	})
}

// A provider is left out for as long as it asks, in whichever form, and for 10 minutes at most.
func TestRetryAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		header []string
		want   time.Duration
	}{
		"none":                          {nil, 30 * time.Second},
		"seconds":                       {[]string{"Retry-After: 20"}, 20 * time.Second},
		"parts of a second":             {[]string{"Retry-After: 1.5"}, 1500 * time.Millisecond},
		"a date":                        {[]string{"Retry-After: Sat, 01 Jan 2000 00:00:45 GMT"}, 45 * time.Second},
		"a date that is over":           {[]string{"Retry-After: Fri, 31 Dec 1999 00:00:00 GMT"}, 30 * time.Second},
		"milliseconds":                  {[]string{"Retry-After-Ms: 2500"}, 2500 * time.Millisecond},
		"milliseconds before seconds":   {[]string{"Retry-After-Ms: 2500", "Retry-After: 3"}, 2500 * time.Millisecond},
		"words":                         {[]string{"Retry-After: soon"}, 30 * time.Second},
		"no number":                     {[]string{"Retry-After: NaN"}, 30 * time.Second},
		"a negative number":             {[]string{"Retry-After: -5"}, 30 * time.Second},
		"zero":                          {[]string{"Retry-After: 0"}, 30 * time.Second},
		"a day":                         {[]string{"Retry-After: 86400"}, 10 * time.Minute},
		"endless":                       {[]string{"Retry-After: 1e300"}, 10 * time.Minute},
		"requests that are used up":     {[]string{"X-Ratelimit-Remaining-Requests: 0", "X-Ratelimit-Reset-Requests: 1m2s"}, 62 * time.Second},
		"tokens that are used up":       {[]string{"X-Ratelimit-Remaining-Tokens: 0", "X-Ratelimit-Reset-Tokens: 6ms"}, 6 * time.Millisecond},
		"requests that are not used up": {[]string{"X-Ratelimit-Remaining-Requests: 3", "X-Ratelimit-Reset-Requests: 1m2s"}, 30 * time.Second},
		"the later of both":             {[]string{"X-Ratelimit-Remaining-Requests: 0", "X-Ratelimit-Reset-Requests: 5s", "X-Ratelimit-Remaining-Tokens: 0", "X-Ratelimit-Reset-Tokens: 9s"}, 9 * time.Second},
		"a reset in seconds":            {[]string{"X-Ratelimit-Reset: 7"}, 7 * time.Second},
		"a reset at a second of 1970":   {[]string{"X-Ratelimit-Reset: 1735689600"}, 10 * time.Minute},
		"a reset at a time":             {[]string{"X-Ratelimit-Reset: 2000-01-01T00:00:08Z"}, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // whose clock begins at midnight of 2000
				p := newPair(replies(429, strings.NewReader(`{"error":{"message":"slow down","type":"requests"}}`), tt.header...), replies(200, strings.NewReader(goodBody)))
				p.ask(t, askWhole)
				p.first.do = replies(200, strings.NewReader(goodBody))
				time.Sleep(tt.want - time.Microsecond)
				if p.ask(t, askWhole); p.first.asked != 1 {
					t.Error("it was asked too early")
				}
				time.Sleep(time.Microsecond)
				if p.ask(t, askWhole); p.first.asked != 2 {
					t.Error("it was not asked again")
				}
			})
		})
	}
}

// Three answers of 5xx in a row leave a provider out; one that is lost among good ones
// does not.
func TestLeftOutAfterThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, up := replies(500, strings.NewReader("")), replies(200, strings.NewReader(goodBody))
		p := newPair(down, replies(200, strings.NewReader(goodBody)))
		for i, do := range []func(*http.Request) (*http.Response, error){down, down, up, down, down, down, down} {
			p.first.do = do
			p.ask(t, askWhole)
			if want := min(i+1, 6); p.first.asked != want {
				t.Fatalf("after %d requests the first was asked %d times", i+1, p.first.asked)
			}
		}
	})
}

// When all are left out somebody is asked all the same.
func TestAllLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := replies(429, strings.NewReader(""), "Retry-After: 20")
		p := newPair(limited, limited)
		for range 3 {
			p.ask(t, askWhole)
		}
		if p.first.asked != 3 || p.second.asked != 1 {
			t.Errorf("asked %d and %d times", p.first.asked, p.second.asked)
		}
	})
}

// A client that has gone ends the request at the provider, whatever it waits for, and
// nobody else is asked.
func TestClientGone(t *testing.T) {
	for name, do := range map[string]func(*http.Request) (*http.Response, error){
		"before headers":  faults()["silent before headers"],
		"before content":  replies(200, says(role), eventStream),
		"between content": replies(200, says(role+hello), eventStream),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var upstream context.Context
				p := newPair(func(r *http.Request) (*http.Response, error) {
					upstream = r.Context()
					return do(r)
				}, replies(200, strings.NewReader(goodStream), eventStream))
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error)
				go func() {
					r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(askStream))
					served <- p.backend.Serve(httptest.NewRecorder(), r.WithContext(ctx))
				}()
				synctest.Wait()
				cancel()
				synctest.Wait()
				if upstream.Err() == nil {
					t.Error("the provider goes on")
				}
				if err := <-served; fault.Of(err).Code != fault.ClientGone || p.second.asked != 0 {
					t.Errorf("%v; the second was asked %d times", err, p.second.asked)
				}
			})
		})
	}
}

// A silent stream is told that it is being served, and can still be answered by another.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(replies(200, says(role), eventStream), replies(200, strings.NewReader(goodStream), eventStream))
		start := time.Now()
		w, _ := p.ask(t, askStream)
		if got, want := time.Since(start), 2*time.Minute; got != want {
			t.Errorf("the second is asked after %v, not %v", got, want)
		}
		// At 10 seconds, and then each 15.
		if diff := cmp.Diff(strings.Repeat(comments, 8)+goodStream, w.Body.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// In an array silence is broken by space, and what a provider said before it failed is no part of it.
func TestSilenceArray(t *testing.T) {
	ask := func(second func(*http.Request) (*http.Response, error)) *httptest.ResponseRecorder {
		p := newPair(replies(200, says(role), eventStream), second)
		w, _ := serve(t, p.backend, httptest.NewRequest(http.MethodPost, "/v1beta/models/m:streamGenerateContent", strings.NewReader(`{"contents":[{"parts":[{"text":"hi"}]}]}`)))
		return w
	}
	for name, test := range map[string]struct {
		second func(*http.Request) (*http.Response, error)
		want   string
	}{
		"a second answers": {replies(200, strings.NewReader(goodStream), eventStream), `[{"candidates":[{"content":{"role":"model","parts":[{"text":"hello"}]},"index":0}],"modelVersion":"m","responseId":"c"},` +
			`{"candidates":[{"content":{"role":"model","parts":[]},"finishReason":"STOP","index":0}],"modelVersion":"m","responseId":"c"}]`},
		"nobody answers": {replies(503, strings.NewReader("")), `[{"error":{"code":503,"message":"the provider answered 503","status":"UNAVAILABLE"}}]`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ask(test.second)
				if typ := w.Header().Get("Content-Type"); typ != "application/json" {
					t.Errorf("Content-Type %s", typ)
				}
				body, silent := strings.CutPrefix(w.Body.String(), strings.Repeat("\n", 8))
				if got := strings.ReplaceAll(body, "\r\n", ""); !silent || got != test.want {
					t.Errorf("%q", w.Body)
				}
			})
		})
	}
}

// Limits are as they are documented, at the limit.
func TestBodyLimit(t *testing.T) {
	p := newPair(replies(200, strings.NewReader(goodBody)), replies(200, strings.NewReader(goodBody)))
	body := func(size int) string {
		head, tail := `{"model":"m","messages":[{"role":"user","content":"`, `"}]}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	for size, want := range map[int]int{32 << 20: 200, 32<<20 + 1: 413} {
		if w, _ := p.ask(t, body(size)); w.Code != want {
			t.Errorf("%d bytes: %d", size, w.Code)
		}
	}
	deep := func(n int) string {
		return `{"model":"m","x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
	}
	for depth, want := range map[int]int{128: 200, 129: 400} {
		if w, _ := p.ask(t, deep(depth)); w.Code != want {
			t.Errorf("depth %d: %d %s", depth, w.Code, w.Body)
		}
	}
}

// A provider that can't be asked, for want of its credential, is passed over; it is not what
// the client hears of when another one was asked and failed, and it is asked once it can be.
func TestUnable(t *testing.T) {
	down := replies(503, strings.NewReader(`{"error":{"message":"we are down","type":"server_error"}}`))
	health := new(llm.Health)
	backend := func(why *fault.Fault, s *script) *llm.Backend {
		return llm.New(llm.Config{Name: "default/model", Logger: slog.New(slog.DiscardHandler), Groups: [][]*llm.Provider{
			{{Vendor: llm.OpenAI, RoundTripper: &script{do: down}, Host: "a.test", Health: new(llm.Health)}},
			{{Vendor: llm.OpenAI, RoundTripper: s, Host: "b.test", Health: health, Fault: why}},
		}})
	}
	ask := func(b *llm.Backend) *httptest.ResponseRecorder {
		w, _ := serve(t, b, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(askWhole)))
		return w
	}
	s := &script{do: replies(200, strings.NewReader(goodBody))}
	missing := backend(fault.New(fault.UpstreamUnreachable, "no upstream can be used"), s)
	if w := ask(missing); w.Code != 503 || !strings.Contains(w.Body.String(), "we are down") || s.asked != 0 {
		t.Errorf("%d %s, asked %d times", w.Code, w.Body, s.asked)
	}
	if w := ask(backend(nil, s)); w.Code != 200 || s.asked != 1 {
		t.Errorf("with the credential: %d, asked %d times", w.Code, s.asked)
	}
}
