package session

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A fake is a hand-written server on a real socket that does what the Go SDK's
// would never do.
type fake struct {
	t *testing.T
	// modern makes it a modern server.
	modern bool
	// call answers tools/call, get answers GET. nil gives the name of the tool
	// as text, and 405.
	call, get func(w http.ResponseWriter, r *http.Request, m *protocol.Message)
	// before, when set, may answer any request; it reports whether it did.
	before func(w http.ResponseWriter, r *http.Request, m *protocol.Message) bool

	mu       sync.Mutex
	sessions map[string]bool
	seen     []string // methods in order, "GET", "DELETE" and "answer" included
	calls    map[string]int
	bodies   []string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m *protocol.Message
	name := r.Method
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if m, err = protocol.Parse(body, protocol.Limits{}); err != nil {
			f.t.Errorf("the gateway sent %s: %v", body, err)
			return
		}
		if name = m.Method; name == "" {
			name = "answer"
		}
	}
	sid := r.Header.Get("Mcp-Session-Id")
	f.mu.Lock()
	f.seen = append(f.seen, name)
	if m != nil {
		f.bodies = append(f.bodies, string(m.Raw))
	}
	if f.calls == nil {
		f.calls, f.sessions = make(map[string]int), make(map[string]bool)
	}
	known, modern := f.sessions[sid], f.modern
	f.mu.Unlock()
	if f.before != nil && f.before(w, r, m) {
		return
	}
	if modern && r.Header.Get("Mcp-Method") == "" && name != "initialize" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		var id protocol.ID
		if m != nil {
			id = m.ID
		}
		writeJSON(w, protocol.AppendError(nil, id, protocol.HeaderMismatch("Mcp-Method is missing")))
		return
	}
	if !modern && name != "initialize" && name != "server/discover" && !known {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	switch name {
	case "GET":
		if f.get == nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		f.get(w, r, nil)
	case "DELETE":
		f.mu.Lock()
		delete(f.sessions, sid)
		f.mu.Unlock()
	case "server/discover":
		if !modern {
			http.Error(w, "Bad Request", http.StatusBadRequest)
			return
		}
		result(w, m, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}`)
	case "initialize":
		if modern {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			writeJSON(w, protocol.AppendError(nil, m.ID, protocol.MethodNotFound("initialize")))
			return
		}
		f.mu.Lock()
		sid := fmt.Sprintf("s%d", len(f.seen))
		f.sessions[sid] = true
		f.mu.Unlock()
		w.Header().Set("Mcp-Session-Id", sid)
		result(w, m, `{"protocolVersion":"2025-11-25","capabilities":{"logging":{},"tools":{"listChanged":true}},"serverInfo":{"name":"fake","version":"1"}}`)
	case "tools/call":
		tool, _ := protocol.GetString(m.Params, "name")
		f.mu.Lock()
		f.calls[tool]++
		f.mu.Unlock()
		if f.call == nil {
			result(w, m, textOf(tool))
			return
		}
		f.call(w, r, m)
	case "tools/list", "ping", "logging/setLevel", "resources/subscribe":
		result(w, m, `{"tools":[]}`)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// forget makes the server lose all its sessions.
func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.sessions)
}

// count returns how often a method was seen.
func (f *fake) count(method string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if s == method {
			n++
		}
	}
	return n
}

// executed returns how often a tool was called.
func (f *fake) executed(tool string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[tool]
}

func textOf(s string) string {
	return `{"content":[{"type":"text","text":` + string(protocol.Quote(s)) + `}]}`
}

func result(w http.ResponseWriter, m *protocol.Message, result string) {
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, protocol.AppendResult(nil, m.ID, []byte(result)))
}

func writeJSON(w http.ResponseWriter, b []byte) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	_, _ = w.Write(b)
}

// writeEvents writes the parts of an event stream, flushing each. ID stands for the
// id of the request.
func writeEvents(w http.ResponseWriter, m *protocol.Message, parts ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, p := range parts {
		if m != nil {
			p = strings.ReplaceAll(p, "ID", string(m.ID))
		}
		_, _ = io.WriteString(w, p)
		w.(http.Flusher).Flush()
	}
}

// event is one SSE event with a result whose text is s.
func event(s string) string {
	return `data: {"jsonrpc":"2.0","id":ID,"result":` + textOf(s) + "}\n\n"
}

// inProcess serves requests without sockets, for tests whose time is simulated.
type inProcess struct{ h http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	resp := &http.Response{Header: http.Header{}, Body: body, ContentLength: -1, Request: r}
	rec := &pipeWriter{resp: resp, w: w, ready: make(chan struct{})}
	done := make(chan struct{})
	context.AfterFunc(r.Context(), func() { _ = w.CloseWithError(r.Context().Err()) })
	go func() {
		defer close(done)
		p.h.ServeHTTP(rec, r)
		rec.WriteHeader(200)
		_ = w.Close()
	}()
	select {
	case <-rec.ready:
		return resp, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

type pipeWriter struct {
	resp  *http.Response
	w     *io.PipeWriter
	once  sync.Once
	ready chan struct{}
}

func (w *pipeWriter) Header() http.Header { return w.resp.Header }
func (w *pipeWriter) Flush()              {}
func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() { w.resp.StatusCode = status; close(w.ready) })
}
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(200)
	return w.w.Write(b)
}
