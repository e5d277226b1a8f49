package llm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/llm"
)

// pipe is a provider over real connections.
func pipe(t *testing.T, v llm.Vendor, h http.HandlerFunc, routes ...llm.Route) *llm.Provider {
	t.Helper()
	s := &studio{t: t, server: httptest.NewServer(h)}
	t.Cleanup(s.server.Close)
	p := s.provider("", v)
	p.Routes = routes
	return p
}

var all = llm.Route{Suffix: "*", Type: llm.Passthrough}

// Whatever is routed so passes as it is, in both directions, as it comes; credentials and what
// tells of the client do not.
func TestPassthrough(t *testing.T) {
	var file []byte
	p := pipe(t, llm.OpenAI, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-test")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Request-Cost", "7")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s\n", r.Method, r.URL.RequestURI())
		if r.Header.Get("Authorization") != "Bearer gateway-key" || r.Header.Get("Cookie") != "" || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("X-Api-Key") != "" {
			t.Errorf("the provider got %v", r.Header)
		}
		if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
			r.Body = io.NopCloser(bytes.NewReader(body))
			f, _, err := r.FormFile("file")
			if err != nil {
				t.Error(err)
				return
			}
			got, _ := io.ReadAll(f)
			fmt.Fprint(w, bytes.Equal(got, file), r.FormValue("model"))
		}
	}, llm.Route{Suffix: "/v1/audio/*", Type: llm.Passthrough}, llm.Route{Suffix: "/v1/files/*", Type: llm.Passthrough})
	b := newBooth(t, one(p))
	file = bytes.Repeat([]byte("sound"), 1<<20)
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	_ = m.WriteField("model", "whisper-1")
	part, _ := m.CreateFormFile("file", "a.wav")
	_, _ = part.Write(file)
	_ = m.Close()
	ask := func(method, target, contentType string, body io.Reader) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, b.server.URL+target, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer client"}, "X-Api-Key": {"client"}, "Cookie": {"c=d"}, "X-Forwarded-For": {"1.2.3.4"}}
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		<-b.ended
		return resp, string(got)
	}
	resp, got := ask(http.MethodPost, "/llm/v1/audio/transcriptions?key=client&x=1", m.FormDataContentType(), &form)
	if got != "POST /v1/audio/transcriptions?x=1\ntrue whisper-1" && got != "POST /v1/audio/transcriptions?x=1\ntruewhisper-1" {
		t.Errorf("the upload is answered %q", got)
	}
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("X-Request-Cost") != "7" || resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("Content-Type") != "application/x-test" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if _, got := ask(http.MethodDelete, "/v1/files/f%2F1", "", nil); got != "DELETE /v1/files/f%2F1\n" {
		t.Errorf("DELETE is answered %q", got)
	}
	if resp, got := ask(http.MethodPost, "/llm/v1/images/edits", "", nil); resp.StatusCode != http.StatusNotImplemented || !strings.Contains(got, `routes: {\"/v1/images/edits\": Passthrough}`) {
		t.Errorf("what is not routed: %d %s", resp.StatusCode, got)
	}
}

// Both directions at once: an answer begins before the request has ended, and each event comes
// when it was said.
func TestPassthroughStreams(t *testing.T) {
	heard := make(chan struct{})
	p := pipe(t, llm.Anthropic, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = rc.Flush()
		buf := make([]byte, 1)
		_, _ = io.ReadFull(r.Body, buf)
		_, _ = fmt.Fprintf(w, "data: %s\n\n", buf)
		_ = rc.Flush()
		<-heard
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("X-Api-Key") != "gateway-key" || r.Header.Get("Anthropic-Version") == "" {
			t.Errorf("the provider got %v", r.Header)
		}
	}, all)
	b := newBooth(t, one(p))
	read, write := io.Pipe()
	resp, err := http.Post(b.server.URL+"/any/v1/complete", "text/plain", read)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, len("data: 1\n\n"))
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "data: 1\n\n" {
		t.Fatalf("%q %v", buf, err)
	}
	_, _ = write.Write([]byte("2"))
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "data: 2\n\n" {
		t.Fatalf("%q %v", buf, err)
	}
	_ = write.Close()
	close(heard)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
	<-b.ended
}

// What goes wrong is said, as it is elsewhere; an answer that breaks off is none.
func TestPassthroughFails(t *testing.T) {
	status := 0
	p := pipe(t, llm.OpenAI, func(w http.ResponseWriter, _ *http.Request) {
		if status == 0 {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "provider's words")
	}, all)
	b := newBooth(t, one(p))
	post := func() (int, string, error) {
		resp, err := http.Post(b.server.URL+"/v1/files", "text/plain", strings.NewReader("x"))
		if err != nil { // it broke off before its head was out
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	for given, want := range map[int]int{404: 404, 401: 502, 503: 503} {
		status = given
		if code, body, err := post(); err != nil || code != want || strings.Contains(body, "provider's words") != (given != 401) {
			t.Errorf("%d is answered %d %s, %v", given, code, body, err)
		}
		<-b.ended
	}
	status = 0
	if code, body, err := post(); err == nil {
		t.Errorf("half an answer is taken for a whole one: %d %s", code, body)
	}
	p.Fault = fault.New(fault.Misconfigured, "no credential")
	if code, body, err := post(); err != nil || code != http.StatusInternalServerError {
		t.Errorf("without a credential: %d %s, %v", code, body, err)
	}
}

// The longest route that fits says what a request is; providers where it is something else are
// not asked.
func TestRoutes(t *testing.T) {
	first, second := new(library), new(library)
	f, s := first.provider("first", llm.Anthropic), second.provider("second", llm.OpenAI)
	s.Routes = []llm.Route{{Suffix: "*", Type: llm.Passthrough}, {Suffix: "/ask", Type: llm.Completions}, {Suffix: "/please/ask", Type: llm.Responses}, {Suffix: "/list", Type: llm.Models}}
	b := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{{f}, {s}}})
	chatBody := `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	if w := serveLLM(b, httptest.NewRequest(http.MethodPost, "/x/ask", strings.NewReader(chatBody))); w.Code != 200 || first.got[0] != "/v1/messages m" || second.got[0] != "/v1/chat/completions m" {
		t.Errorf("%d %s: %v %v", w.Code, w.Body, first.got, second.got) // the first one's answer is none of Anthropic
	}
	first.got, second.got = nil, nil
	serveLLM(b, httptest.NewRequest(http.MethodPost, "/x/please/ask", strings.NewReader(`{"model":"m","input":"hi"}`)))
	if len(first.got) != 0 || len(second.got) != 1 || second.got[0] != "/v1/responses m" {
		t.Errorf("%v %v", first.got, second.got)
	}
	if w := serveLLM(b, get("/list")); !strings.Contains(w.Body.String(), `"object":"list"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	second.got = nil
	if w := serveLLM(b, get("/v1/batches/b_1")); w.Code != 500 || len(second.got) != 1 || second.got[0] != "/v1/batches/b_1" {
		t.Errorf("%d %s, %v", w.Code, w.Body, second.got)
	}
}

// Azure has OpenAI's operations elsewhere.
func TestPassthroughAzure(t *testing.T) {
	for version, want := range map[string]string{
		"v1": "/openai/v1/images/generations?a=1", "preview": "/openai/v1/images/generations?api-version=preview&a=1",
		"2024-10-21": "/openai/deployments/d/images/generations?api-version=2024-10-21&a=1",
	} {
		l := new(library)
		p := l.provider("", llm.AzureOpenAI)
		p.Host, p.APIVersion, p.Model, p.Routes = "azure.test", version, "d", []llm.Route{all}
		p.Credential = llm.Credential{Token: secret.New("k")}
		b := llm.New(llm.Config{Name: "default/b", Logger: quiet(), Groups: [][]*llm.Provider{{p}}})
		serveLLM(b, get("/llm/v1/images/generations?a=1").WithContext(context.Background()))
		serveLLM(b, get("/llm/openai/models?api-version=1"))
		if len(l.got) != 2 || l.got[0] != want || l.got[1] != "/openai/models?api-version=1" || l.head.Get("Api-Key") != "k" {
			t.Errorf("%s: %v", version, l.got)
		}
	}
}
