package llmtest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ask sends a body to a stand-in with a credential and returns the status.
func ask(t *testing.T, s *Server, path string, body []byte, header ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Host+":"+s.Port+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	name, value := s.Vendor.credential()
	r.Header.Set(name, value)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// A stand-in takes its own dialect, and refuses what is not of it.
func TestStrict(t *testing.T) {
	for _, d := range Dialects {
		t.Run(d.String(), func(t *testing.T) {
			s := Start(d.Vendor())
			t.Cleanup(s.Close)
			good := d.Request("hi", false)
			path := d.Path("asked", false)
			if status := ask(t, s, path, good); status != 200 {
				t.Fatalf("%d: %v", status, s.Check())
			}
			bad := map[string][]byte{"an unknown field": append([]byte(`{"bogus":1,`), good[1:]...), "no object": []byte("[]")}
			deep := bytes.Replace(good, []byte(`"role":"user"`), []byte(`"role":"user","bogus":1`), 1)
			if !bytes.Equal(deep, good) {
				bad["a deep unknown field"] = deep
			}
			for _, other := range Dialects {
				if other != d && !(other == Messages && d == Chat) { // max_tokens is of both
					bad["the body of "+other.String()] = other.Request("hi", false)
				}
			}
			bad["a credential"] = bytes.Replace(good, []byte(`"hi"`), []byte(`"`+Key+`"`), 1)
			for name, body := range bad {
				if status := ask(t, s, path, body); status != 400 {
					t.Errorf("%s: %d", name, status)
				}
			}
			for name, header := range map[string][]string{
				"the client's key": {"X-Other", ClientKey}, "the key twice": {"X-Other", Key}, "no key": {"Authorization", "x", "X-Api-Key", "x", "X-Goog-Api-Key", "x"},
			} {
				if status := ask(t, s, path, good, header...); status != 400 {
					t.Errorf("%s: %d", name, status)
				}
			}
			if err := s.Check(); err == nil || !strings.Contains(err.Error(), s.Vendor.String()) {
				t.Errorf("the refusals are not told: %v", err)
			}
		})
	}
}

// The platforms refuse what is not theirs, and embeddings what Google has no type for.
func TestStrictPlatforms(t *testing.T) {
	const (
		nova     = "/model/amazon.nova-pro-v1%3A0/"
		claude   = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/"
		google   = "/v1beta1/projects/p-1/locations/us-east5/publishers/google/models/"
		converse = `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`
		messages = `{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`
	)
	for _, tt := range []struct {
		vendor     Vendor
		path, body string
		status     int
	}{
		{BedrockNova, nova + "converse", converse, 200},
		{BedrockNova, nova + "converse-stream", converse, 200},
		{BedrockNova, nova + "converse", strings.Replace(converse, `"role"`, `"bogus":1,"role"`, 1), 400},
		{BedrockNova, nova + "converse", messages, 400},
		{BedrockNova, nova + "invoke", messages, 400},
		{BedrockNova, claude + "converse", converse, 400},
		{BedrockNova, strings.Replace(nova, "%3A", ":", 1) + "converse", converse, 400}, // whose signature would be another
		{BedrockClaude, claude + "invoke", messages, 200},
		{BedrockClaude, claude + "invoke-with-response-stream", messages, 200},
		{BedrockClaude, claude + "invoke", strings.Replace(messages, `"max_tokens"`, `"bogus":1,"max_tokens"`, 1), 400},
		{BedrockClaude, claude + "invoke", strings.Replace(messages, `"max_tokens"`, `"model":"m","max_tokens"`, 1), 400},
		{BedrockClaude, claude + "invoke", strings.Replace(messages, "bedrock-2023", "vertex-2023", 1), 400},
		{VertexGemini, google + "text-embedding-005:predict", `{"instances":[{"content":"a"}]}`, 200},
		{VertexGemini, google + "text-embedding-005:predict", `{"instances":[{"content":"a"}],"bogus":1}`, 400},
		{VertexGemini, google + "text-embedding-005:predict", `{"instances":[{"title":"a"}]}`, 400},
		{Gemini, "/v1beta/models/m:batchEmbedContents", `{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]}}]}`, 200},
		{Gemini, "/v1beta/models/m:batchEmbedContents", `{"requests":[{"model":"models/other","content":{"parts":[{"text":"a"}]}}]}`, 400},
		{Gemini, "/v1beta/models/m:batchEmbedContents", `{"requests":[{"model":"models/m","content":{"parts":[]}}]}`, 400},
		{Gemini, "/v1beta/models/m:batchEmbedContents", `{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]},"dimensions":3}]}`, 400},
	} {
		s := Start(tt.vendor)
		if status := ask(t, s, tt.path, []byte(tt.body)); status != tt.status {
			t.Errorf("%s %s %s: %d, %v", tt.vendor, tt.path, tt.body, status, s.Check())
		}
		s.Close()
	}
}
