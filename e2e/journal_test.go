package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A journal is a file in which servers note the messages they get, and what else
// happens to them. Several processes can write to one. It is safe for concurrent use.
type journal struct {
	path string
	file *os.File
}

func openJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{path, file}, nil
}

func newJournal(t *testing.T, name string) *journal {
	t.Helper()
	j, err := openJournal(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.close)
	return j
}

func (j *journal) close() { _ = j.file.Close() }

// note adds a line.
func (j *journal) note(line string) { _, _ = j.file.WriteString(line + "\n") }

// lines returns a writer that notes the lines written to it.
func (j *journal) lines() io.Writer { return &lineWriter{journal: j} }

type lineWriter struct {
	journal *journal
	mu      sync.Mutex
	rest    []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.journal.note(string(line))
		w.rest = rest
	}
}

// has reports whether the line was noted.
func (j *journal) has(line string) bool {
	data, err := os.ReadFile(j.path)
	return err == nil && strings.Contains("\n"+string(data), "\n"+line+"\n")
}

// A noted is a message that a server got. Over HTTP the session is that of the request.
type noted struct {
	Session string
	ID      json.RawMessage
	Method  string
	Params  json.RawMessage
}

// messages returns the messages that servers got so far.
func (j *journal) messages() ([]noted, error) {
	data, err := os.ReadFile(j.path)
	if err != nil {
		return nil, err
	}
	var messages []noted
	for line := range bytes.Lines(data) {
		if line[0] != '{' {
			continue
		}
		var m noted
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("journal %s: %w in %s", j.path, err, line)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// count returns how many messages of a method the servers got, with all of some texts in their params.
func (j *journal) count(method string, texts ...string) (n int, err error) {
	messages, err := j.messages()
messages:
	for _, m := range messages {
		if m.Method != method {
			continue
		}
		for _, text := range texts {
			if !bytes.Contains(m.Params, []byte(text)) {
				continue messages
			}
		}
		n++
	}
	return n, err
}

// journaled notes the messages that are posted to a server.
func (j *journal) journaled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			line := bytes.TrimSpace(bytes.ReplaceAll(body, []byte("\n"), []byte(" ")))
			if session := r.Header.Get("Mcp-Session-Id"); session != "" && bytes.HasPrefix(line, []byte("{")) {
				line = append([]byte(fmt.Sprintf(`{"session":%q,`, session)), line[1:]...)
			}
			j.note(string(line))
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		next.ServeHTTP(w, r)
	})
}
