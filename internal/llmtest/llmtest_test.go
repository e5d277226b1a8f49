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
