package edge

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// insecure trusts the gateway of this test.
func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // it is the gateway of this test

// TestSlowClients has many clients at once send heads and bodies byte by byte, and read nothing: each is ended, once, with its
// record, while others are served, and nothing is left of it.
func TestSlowClients(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/large" {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		block := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	g := serve(t, s.Listener.Addr().String(), "")
	before := goroutines(t, g)
	const each = 50
	slow := func(begin string, further string) string {
		c, err := net.Dial("tcp", g.Address)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		_, _ = io.WriteString(c, begin)
		over := make(chan struct{})
		var writing sync.WaitGroup
		writing.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if _, err := io.WriteString(c, further); err != nil {
						return
					}
				case <-over:
					return
				}
			}
		})
		answer, _ := io.ReadAll(c) // a reset is an end, too
		close(over)
		writing.Wait()
		line, _, _ := strings.Cut(string(answer), "\r\n")
		return line
	}
	var clients sync.WaitGroup
	for i := range each {
		clients.Go(func() {
			if got := slow("GET /head HTTP/1.1\r\nHost: x\r\nX-A: ", "a"); got != "" {
				t.Errorf("a slow head: %q", got)
			}
		})
		clients.Go(func() {
			method := [...]string{"POST", "PUT"}[i%2] // on each of our servers
			if got := slow(method+" /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "a"); got != "HTTP/1.1 408 Request Timeout" {
				t.Errorf("a slow body: %q", got)
			}
		})
		clients.Go(func() {
			c, err := net.Dial("tcp", g.Address)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
			<-t.Context().Done() // it reads nothing
		})
	}
	testgateway.Until(t, "what reads nothing is being served", func() bool {
		return strings.Count(g.Stderr.String(), `"path":"/body"`) == each
	})
	resp, err := http.Get("http://" + g.Address + "/others")
	if err != nil || resp.StatusCode != 200 {
		t.Error(resp, err)
	} else {
		_ = resp.Body.Close()
	}
	testgateway.Until(t, "each has its record", func() bool {
		out := g.Stderr.String()
		return strings.Count(out, `"path":"/large"`) == each && strings.Count(out, `"path":"/body"`) == each && g.Metric(t, "mcpgw_http_requests_in_flight") == 0
	})
	types := map[string]int{}
	for line := range strings.SplitSeq(g.Stderr.String(), "\n") {
		var e struct {
			Path      string
			ErrorType string `json:"error_type"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && (e.Path == "/large" || e.Path == "/body") {
			types[e.Path+" "+e.ErrorType]++
		}
	}
	if len(types) != 2 || types["/large client_gone"] != each || types["/body request_timeout"] != each {
		t.Errorf("%v", types)
	}
	http.DefaultClient.CloseIdleConnections()
	testgateway.Until(t, "nothing is left of them", func() bool { return goroutines(t, g) < before+20 })
}

// A drain does not wait for clients that are slow: those that have not sent all of a request are told why.
func TestSlowClientsDrain(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	g := serve(t, s.Listener.Addr().String(), "", "--drain-timeout", "1s")
	var open []net.Conn
	for _, begin := range []string{"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", "GET / HTTP/1.1\r\nHost: x\r\n", ""} {
		c, err := net.Dial("tcp", g.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	testgateway.Until(t, "they are being served", func() bool { return g.Metric(t, "mcpgw_http_requests_in_flight") == 2 })
	code := g.Terminate(t)
	if n := strings.Count(g.Stderr.String(), `"error_type":"draining"`); n != 2 || code != 0 {
		t.Errorf("%d records, exit code %d", n, code)
	}
	for i, c := range open {
		answer, _ := io.ReadAll(c) // a reset is an end, too
		if served := i < 2; served != strings.HasPrefix(string(answer), "HTTP/1.1 503 ") {
			t.Errorf("connection %d: %q", i, answer)
		}
	}
}

// TestAccessLog is the part about logs of the scenario on access logs and traces: a line of JSON for each request, with numbers
// and an id; and files are opened anew on SIGHUP.
func TestAccessLog(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "access.log")
	g := serve(t, s.Listener.Addr().String(), policy(fmt.Sprintf(`accessLog:
  - fileSink:
      path: %s
      jsonFormat:
        start_time: "%%START_TIME%%"
        request_id: "%%REQ(X-REQUEST-ID)%%"
        method: "%%REQ(:METHOD)%%"
        path: "%%REQ(:PATH)%%"
        response_code: "%%RESPONSE_CODE%%"
        duration: "%%DURATION%%"`, path)))
	const n = 20
	for i := range n {
		resp, err := http.Get(fmt.Sprintf("http://%s/%d", g.Address, i))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	var text string
	written := func(lines int) func() bool {
		return func() bool {
			b, _ := os.ReadFile(path) // it may not be there yet
			text = string(b)
			return strings.Count(text, "\n") == lines
		}
	}
	testgateway.Until(t, "a line a request", written(n))
	ids := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		var e map[string]any
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		id, _ := e["request_id"].(string)
		_, timed := e["duration"].(float64)
		if e["response_code"] != 418.0 || id == "" || ids[id] || !timed || len(e) != 6 {
			t.Errorf("%s", lines.Text())
		}
		ids[id] = true
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	g.Signal(t, syscall.SIGHUP)
	testgateway.Until(t, "the next lines are in a new file", func() bool {
		resp, err := http.Get("http://" + g.Address + "/again")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		_, err = os.Stat(path)
		return err == nil
	})
}
