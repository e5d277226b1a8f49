package h1_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
)

// TestDo reads every framing that a server of net/http writes, on one connection
// and by both ways of reading.
func TestDo(t *testing.T) {
	big := strings.Repeat("0123456789", 10_000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/length":
			w.Header().Set("Mcp-Session-Id", "s1")
			fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("X-A"), body)
		case "/chunked":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "one ")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, big)
		case "/close":
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "bye")
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "late")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer srv.Close()
	for _, blocking := range []bool{false, true} {
		for range 2 { // the second time round after a close
			for _, tt := range []struct {
				path string
				want h1.Response
			}{
				{"/length", h1.Response{Status: 200, Session: "s1", Body: []byte("POST b body")}},
				{"/chunked", h1.Response{Status: 200, SSE: true, Body: []byte("one " + big)}},
				{"/close", h1.Response{Status: 200, Body: []byte("bye")}},
				{"/early", h1.Response{Status: 200, Body: []byte("late")}},
				{"/none", h1.Response{Status: 204}},
			} {
				target, err := h1.Parse(srv.URL + tt.path)
				if err != nil {
					t.Fatal(err)
				}
				c := h1.NewConn(target, time.Minute)
				c.Blocking = blocking
				for range 3 {
					got, err := c.Do(target.Request("POST", []string{"X-A: b"}, []byte("body")))
					if err != nil {
						t.Fatalf("%s: %v", tt.path, err)
					}
					if got.Status != tt.want.Status || got.Session != tt.want.Session || got.SSE != tt.want.SSE || string(got.Body) != string(tt.want.Body) {
						t.Errorf("%s: %d %q %t, %d bytes", tt.path, got.Status, got.Session, got.SSE, len(got.Body))
					}
				}
				c.Close()
			}
		}
	}
}

func TestParse(t *testing.T) {
	if got, err := h1.Parse("http://127.0.0.1:80/a?b"); err != nil || got != (h1.Target{Addr: "127.0.0.1:80", Path: "/a?b"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"https://a:1/", "http://a/", ":", ""} {
		if got, err := h1.Parse(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}
