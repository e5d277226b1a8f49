package llm_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
)

// A firstFlush notes when the first piece of an answer goes on.
type firstFlush struct {
	header http.Header
	at     time.Time
}

func (f *firstFlush) Header() http.Header         { return f.header }
func (f *firstFlush) WriteHeader(int)             {}
func (f *firstFlush) Write(b []byte) (int, error) { return len(b), nil }
func (f *firstFlush) Flush() {
	if f.at.IsZero() {
		f.at = time.Now()
	}
}

// BenchmarkFirstPiece measures what is done between a request and the first piece of its stream, when much of the
// stream has come already.
func BenchmarkFirstPiece(b *testing.B) {
	stream := role + strings.Repeat(hello, 50) + stop + done
	p := newPair(replies(200, strings.NewReader(stream), eventStream), nil)
	var first []time.Duration
	for b.Loop() {
		w := &firstFlush{header: http.Header{}}
		begun := time.Now()
		if err := p.backend.Serve(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(askStream))); err != nil {
			b.Fatal(err)
		}
		first = append(first, w.at.Sub(begun))
	}
	slices.Sort(first)
	b.ReportMetric(float64(first[len(first)/2].Nanoseconds()), "ns/first-p50")
}

// A sink is a provider that reads what it is sent and answers.
type sink struct{ reply string }

// RoundTrip implements [http.RoundTripper].
func (s sink) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(s.reply)), Request: r}, nil
}

// BenchmarkLarge measures how often a body of 10 MiB, most of which is a picture or a text, is copied on its way to a provider: all that is allocated,
// in bodies. One is that into which it is read.
func BenchmarkLarge(b *testing.B) {
	const size = 10 << 20
	for _, what := range []struct{ name, content string }{
		{"picture", `[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0K", size/8) + `"}}]`},
		{"text", `"` + strings.Repeat("a word. ", size/8) + `"`},
	} {
		body := `{"model":"m","max_completion_tokens":100,"messages":[{"role":"user","content":` + what.content + `}]}`
		for _, col := range columns() {
			b.Run(what.name+"/"+col.name, func(b *testing.B) {
				p := col.provider
				p.RoundTripper, p.Host, p.Health, p.Credential = sink{col.whole}, "provider.test", new(llm.Health), llm.Credential{Token: secret.New("k")}
				backend := llm.New(llm.Config{Name: "default/model", Logger: slog.New(slog.DiscardHandler), Groups: [][]*llm.Provider{{&p}}})
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					w := httptest.NewRecorder()
					r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
					if err := backend.Serve(w, r); err != nil || w.Code != 200 {
						b.Fatal(err, w.Code, w.Body)
					}
				}
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/float64(len(body)), "bodies/op")
			})
		}
	}
}
