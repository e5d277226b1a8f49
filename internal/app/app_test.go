package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/internal/demo"
)

func TestSessionKeys(t *testing.T) {
	a, b := strings.Repeat("ab", 32), strings.Repeat("01", 32)
	keyA, keyB := []byte(strings.Repeat("\xab", 32)), []byte(strings.Repeat("\x01", 32))
	tests := []struct {
		name, file, env string
		want            [][]byte
		wantErr         string
	}{
		{name: "none"},
		{name: "environment, commas", env: a + "," + b, want: [][]byte{keyA, keyB}},
		{name: "file wins, lines", file: b + "\n\n " + a + "\r\n", env: a, want: [][]byte{keyB, keyA}},
		{name: "too short", env: a + ",abcd", wantErr: "session key 2 of MCPGW_SESSION_KEYS is not 64 hex digits"},
		{name: "no hex", env: strings.Repeat("x", 64), wantErr: "session key 1"},
		{name: "empty file", file: "\n", wantErr: "holds no session key"},
		{name: "at the limit", env: strings.Repeat(a+",", maxKeys), want: repeat(keyA, maxKeys)},
		{name: "over the limit", env: strings.Repeat(a+",", maxKeys+1), wantErr: "has 17 session keys, more than 16"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := ""
			if test.file != "" {
				file = filepath.Join(t.TempDir(), "keys")
				if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := sessionKeys(file, test.env)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Fatalf("error %v, want %q", err, test.wantErr)
				}
				if strings.Contains(err.Error(), "abcd") || strings.Contains(err.Error(), "xxxx") {
					t.Errorf("the error shows a key: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := sessionKeys(filepath.Join(t.TempDir(), "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func repeat(key []byte, n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = key
	}
	return keys
}

func TestListenOwn(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	addr := busy.Addr().String()

	if l, _, err := listenOwn(Off, addr); l != nil || err != nil {
		t.Errorf("off: %v, %v", l, err)
	}
	l, fellBack, err := listenOwn(addr, addr)
	if err != nil || !fellBack || l.Addr().String() == addr {
		t.Errorf("busy default: %v, %v, %v", l, fellBack, err)
	}
	if l != nil {
		defer l.Close()
	}
	if _, _, err := listenOwn(addr, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "choose another address") {
		t.Errorf("busy by wish: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]ExitCode{
		nil:                                ExitOK,
		errors.New("any"):                  ExitFailure,
		exit(ExitDenied, errors.New("no")): ExitDenied,
		fmt.Errorf("more: %w", exit(ExitUsage, errors.New("how"))): ExitUsage,
	} {
		if got := CodeOf(err); got != want {
			t.Errorf("CodeOf(%v) = %d, want %d", err, got, want)
		}
	}
	if exit(ExitDenied, nil) != nil {
		t.Error("exit(…, nil) is not nil")
	}
}

func TestArguments(t *testing.T) {
	tool := &mcp.Tool{Name: "t", InputSchema: map[string]any{
		"properties": map[string]any{
			"text":   map[string]any{"type": "string"},
			"number": map[string]any{"type": "number"},
			"whole":  map[string]any{"type": "integer"},
			"flag":   map[string]any{"type": "boolean"},
			"list":   map[string]any{"type": "array"},
			"maybe":  map[string]any{"type": []any{"null", "integer", "string"}},
			"any":    map[string]any{},
		},
	}}
	tests := []struct {
		words   []string
		want    map[string]any
		wantErr string
	}{
		{words: nil, want: map[string]any{}},
		{words: []string{"text=1", "number=1.5", "whole=2", "flag=true", `list=["a"]`},
			want: map[string]any{"text": "1", "number": 1.5, "whole": 2.0, "flag": true, "list": []any{"a"}}},
		{words: []string{"text=a=b"}, want: map[string]any{"text": "a=b"}},
		{words: []string{"maybe=null"}, want: map[string]any{"maybe": nil}},
		{words: []string{"maybe=7"}, want: map[string]any{"maybe": 7.0}},
		{words: []string{"maybe=7.5"}, want: map[string]any{"maybe": "7.5"}},
		{words: []string{`any={"a":1}`}, want: map[string]any{"any": map[string]any{"a": 1.0}}},
		{words: []string{"any=word"}, want: map[string]any{"any": "word"}},
		{words: []string{"text:=7"}, want: map[string]any{"text": 7.0}},
		{words: []string{"extra=7"}, want: map[string]any{"extra": 7.0}},
		{words: []string{"whole=1.5"}, wantErr: `argument whole: "1.5" is not of type integer`},
		{words: []string{"flag=yes"}, wantErr: `argument flag: "yes" is not of type boolean`},
		{words: []string{"any:=word"}, wantErr: `argument any: "word" is not JSON`},
		{words: []string{"word"}, wantErr: `"word" is no argument: write name=value, or name:=JSON`},
		{words: []string{"=1"}, wantErr: `"=1" is no argument`},
		{words: []string{"text=1", "text=2"}, wantErr: "argument text is given twice"},
		{words: []string{"numbr=1"}, wantErr: "t has no argument numbr. Did you mean number?"},
	}
	for _, test := range tests {
		got, err := Arguments(tool, test.words)
		if test.wantErr != "" {
			if err == nil || !strings.HasPrefix(err.Error(), test.wantErr) || CodeOf(err) != ExitUsage {
				t.Errorf("%q: error %v, want %q", test.words, err, test.wantErr)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.words, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q: %s", test.words, diff)
		}
	}
}

// demoURL serves the demo's MCP servers and returns where.
func demoURL(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(demo.Handler(slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return s.URL
}

func TestClientAgainstBothEras(t *testing.T) {
	url := demoURL(t)
	for path, want := range map[string]string{
		"/demo/mcp": `NAME   ARGUMENTS               DESCRIPTION
add    a b                     Add two numbers.
echo   message                 Say the message back.
now    [zone]                  Tell the time in a time zone.
slow   [interval_ms] [steps]   Take some steps, reporting progress after each.
`,
		"/notes/mcp": `NAME    ARGUMENTS   DESCRIPTION
clear               Throw all notes away, after asking the user.
list                List the notes.
write   text        Write a note down.
`,
	} {
		client, err := Connect(t.Context(), ClientOptions{URL: url + path, Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		tools, err := client.Tools(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := PrintTools(&out, Table, tools); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func TestCallPrintsWhatTheToolAnswers(t *testing.T) {
	client, err := Connect(t.Context(), ClientOptions{URL: demoURL(t) + "/demo/mcp", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tests := []struct {
		tool     string
		args     map[string]any
		format   Format
		want     string
		wantCode ExitCode
	}{
		{"add", map[string]any{"a": 1, "b": 2}, Table, "3\n", ExitOK},
		{"add", map[string]any{"a": 1, "b": 2}, YAML, `_meta:
  io.modelcontextprotocol/serverInfo:
    name: mcpgw-demo
    version: 1.0.0
content:
- text: "3"
  type: text
resultType: complete
structuredContent:
  sum: 3
`, ExitOK},
		{"echo", map[string]any{"message": "red \x1b[31malert"}, Table, "red [31malert\n", ExitOK},
		{"now", map[string]any{"zone": "No/Where"}, Table, "unknown time zone \"No/Where\"\n", ExitFailure},
		{"slow", map[string]any{"steps": 1, "interval_ms": 1}, Table, "took 1 steps\n", ExitOK},
	}
	for _, test := range tests {
		result, err := client.Call(t.Context(), test.tool, test.args)
		if err != nil {
			t.Errorf("%s: %v", test.tool, err)
			continue
		}
		var out strings.Builder
		if code := CodeOf(PrintResult(&out, test.format, result)); code != test.wantCode {
			t.Errorf("%s: exit code %d, want %d", test.tool, code, test.wantCode)
		}
		if diff := cmp.Diff(test.want, out.String()); diff != "" {
			t.Errorf("%s: %s", test.tool, diff)
		}
	}
}

func TestClientErrors(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "authorization failed", http.StatusForbidden)
	}))
	defer refusing.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, want := range map[string]ExitCode{refusing.URL: ExitDenied, gone.URL: ExitUnreachable} {
		_, err := Connect(t.Context(), ClientOptions{URL: url, Version: "test"})
		if CodeOf(err) != want {
			t.Errorf("exit code %d for %v, want %d", CodeOf(err), err, want)
		}
	}
	_, err := FindTool([]*mcp.Tool{{Name: "demo_add"}}, "demo_ad")
	if CodeOf(err) != ExitDenied || err.Error() != "Unknown tool: demo_ad. Did you mean demo_add?" {
		t.Errorf("unknown tool: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, ClientOptions{URL: demoURL(t) + "/demo/mcp", Version: "test"}); err == nil {
		t.Error("a cancelled context connects")
	}
}

func TestHeadersAreSent(t *testing.T) {
	got := make(chan string, 100)
	inner := demo.Handler(slog.New(slog.DiscardHandler))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		inner.ServeHTTP(w, r)
	}))
	defer s.Close()
	client, err := Connect(t.Context(), ClientOptions{URL: s.URL + "/demo/mcp", Version: "test", Header: http.Header{"Authorization": {"Bearer x"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if header := <-got; header != "Bearer x" {
		t.Errorf("Authorization %q", header)
	}
}

// lines hands on what is written to it, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestProgressIsPrinted(t *testing.T) {
	progress := make(lines, 10)
	client, err := Connect(t.Context(), ClientOptions{URL: demoURL(t) + "/demo/mcp", Version: "test", Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Call(t.Context(), "slow", map[string]any{"steps": 2, "interval_ms": 1}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"progress 1/2 step 1 of 2\n", "progress 2/2 step 2 of 2\n"} {
		if got := <-progress; got != want {
			t.Errorf("progress %q, want %q", got, want)
		}
	}
}

// The keys follow their file, by whatever way it changes; what can't be read changes
// nothing, and is said once.
func TestWatchKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "keys")
		write := func(name, text string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		link := func(to string) { // as Kubernetes replaces a Secret
			t.Helper()
			if err := errors.Join(os.Symlink(to, file+".next"), os.Rename(file+".next", file)); err != nil {
				t.Fatal(err)
			}
		}
		a, b := strings.Repeat("ab", 32), strings.Repeat("01", 32)
		keyA, keyB := []byte(strings.Repeat("\xab", 32)), []byte(strings.Repeat("\x01", 32))
		write("1", a)
		link("1")
		var got [][]byte
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			watchKeys(ctx, file, [][]byte{keyA}, func(keys [][]byte) error { got = keys; return nil }, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		after := func(what string, want [][]byte) {
			t.Helper()
			time.Sleep(3 * pollKeys)
			synctest.Wait()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
			got = nil
		}
		after("no change", nil)
		write("2", b+"\n"+a)
		link("2")
		after("another file", [][]byte{keyB, keyA})
		write("2", "half a key")
		after("a broken file", nil)
		if n := strings.Count(log.String(), "what it held before stays"); n != 1 || strings.Contains(log.String(), "half") {
			t.Errorf("said %d times: %s", n, log.String())
		}
		write("2", b+"\n"+a)
		after("what was there before", nil)
		write("2", b)
		after("the old key is gone", [][]byte{keyB})
		cancel()
		<-done
	})
}
