package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A mock is a fast MCP server of the legacy era: sessions that cost nothing, ten
// tools that answer at once with some 250 bytes, GET streams that stay silent. At
// /lists/N/mcp it lists what a gateway would over N such servers. At /fan/mcp it also has
// subscriptions/listen, and a POST to /announce changes its tools, which its streams say.
// At /v1/, /v1beta/ and /model/ it is a language model, and at /plain it answers plain HTTP.
type mock struct {
	sessions atomic.Int64
	buffers  sync.Pool // of *bytes.Buffer
	list     []byte
	call     []byte
	model    *model // at /v1/ and its like

	mu      sync.Mutex
	lists   map[string][]byte // by path
	changed chan struct{}     // closed with each change
	changes int
}

// runMock serves a mock until ctx ends.
func runMock(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("mock", flag.ContinueOnError)
	addr := fs.String("addr", "", "where to listen")
	if err := fs.Parse(args); err != nil {
		return err
	}
	return serve(ctx, *addr, newMock())
}

// serve serves h until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	srv := &http.Server{Addr: addr, Handler: h}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newMock() *mock {
	m := &mock{
		model:   newModel(),
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		call:    []byte(`{"content":[{"type":"text","text":"` + strings.Repeat("result ", 30) + `"}],"isError":false}`),
	}
	m.list = listOf("")
	m.lists, m.changed = map[string][]byte{}, make(chan struct{})
	return m
}

// listOf returns the result of tools/list with ten tools a prefix.
func listOf(prefixes ...string) []byte {
	var tools []string
	for n := range len(prefixes) * toolsEach {
		prefix, i := prefixes[n/toolsEach], n%toolsEach
		tools = append(tools, fmt.Sprintf(`{"name":"%stool_%d","title":"Tool %d","description":"Tool number %d of a mock server: echoes the text that it is given, and says nothing else of note.","inputSchema":{"type":"object","properties":{"text":{"type":"string","description":"The text to echo"},"count":{"type":"integer","minimum":1,"maximum":10}},"required":["text"]}}`, prefix, i, i, i))
	}
	return []byte(`{"tools":[` + strings.Join(tools, ",") + `]}`)
}

// listAt returns what the server at a path lists.
func (m *mock) listAt(path string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int
	switch _, err := fmt.Sscanf(path, "/lists/%d/mcp", &n); {
	case path == "/fan/mcp" && m.changes%2 == 1:
		return bytes.ReplaceAll(m.list, []byte("Tool number"), []byte("Changed tool number"))
	case err != nil:
		return m.list
	}
	if m.lists[path] == nil {
		var prefixes []string
		for i := range n {
			prefixes = append(prefixes, fmt.Sprintf("lists-%d-t%d-m_", n, i))
		}
		m.lists[path] = listOf(prefixes...)
	}
	return m.lists[path]
}

// announce changes what the server at /fan/mcp lists.
func (m *mock) announce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	close(m.changed)
	m.changed = make(chan struct{})
}

// stream writes an event stream that begins with first and says what changes.
func (m *mock) stream(w http.ResponseWriter, r *http.Request, first, changed string) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	for text := first; ; text = changed {
		m.mu.Lock()
		change := m.changed // before the client can know that it is told of it
		m.mu.Unlock()
		_, _ = io.WriteString(w, text) // the client may be gone
		_ = flush.Flush()
		select {
		case <-change:
		case <-r.Context().Done():
			return
		}
	}
}

func event(method, params string) string {
	return "data: " + string(protocol.AppendNotification(nil, method, []byte(params))) + "\n\n"
}

func (m *mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/"), strings.HasPrefix(r.URL.Path, "/v1beta/"), strings.HasPrefix(r.URL.Path, "/model/"):
		m.model.ServeHTTP(w, r)
		return
	case r.URL.Path == plainPath:
		servePlain(w, r)
		return
	case r.URL.Path == "/announce":
		m.announce()
		return
	case r.URL.Path == "/fan/mcp" && r.Method == http.MethodGet:
		m.stream(w, r, "", event("notifications/tools/list_changed", "{}"))
		return
	}
	switch r.Method {
	case http.MethodPost:
		m.post(w, r)
	case http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the client may be gone
		<-r.Context().Done()
	case http.MethodDelete:
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (m *mock) post(w http.ResponseWriter, r *http.Request) {
	buf := m.buffers.Get().(*bytes.Buffer)
	defer m.buffers.Put(buf)
	buf.Reset()
	if _, err := io.Copy(buf, r.Body); err != nil {
		return
	}
	msg, err := protocol.Parse(buf.Bytes(), protocol.Limits{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if msg.Kind != protocol.Request {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	out := make([]byte, 0, 4<<10)
	switch msg.Method {
	case "initialize":
		requested, _ := protocol.GetString(msg.Params, "protocolVersion")
		w.Header().Set(protocol.HeaderSessionID, "s"+strconv.FormatInt(m.sessions.Add(1), 10))
		out = protocol.AppendResult(out, msg.ID, fmt.Appendf(nil,
			`{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":%t}},"serverInfo":{"name":"mock","version":"1"}}`,
			protocol.NegotiateLegacy(requested), r.URL.Path == "/fan/mcp"))
	case "subscriptions/listen":
		if r.URL.Path != "/fan/mcp" {
			out = protocol.AppendError(out, msg.ID, protocol.MethodNotFound(msg.Method))
			break
		}
		tag := `"_meta":{"` + protocol.MetaSubscriptionID + `":` + string(msg.ID) + `}}`
		m.stream(w, r, event("notifications/subscriptions/acknowledged", `{"notifications":{"toolsListChanged":true},`+tag),
			event("notifications/tools/list_changed", `{`+tag))
		return
	case "tools/list":
		out = protocol.AppendResult(out, msg.ID, m.listAt(r.URL.Path))
	case "tools/call":
		out = protocol.AppendResult(out, msg.ID, m.call)
	case "ping":
		out = protocol.AppendResult(out, msg.ID, nil)
	default:
		out = protocol.AppendError(out, msg.ID, protocol.MethodNotFound(msg.Method))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	_, _ = w.Write(out) // the client may be gone
}
