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
// tools that answer at once with some 250 bytes, GET streams that stay silent.
type mock struct {
	sessions atomic.Int64
	buffers  sync.Pool // of *bytes.Buffer
	list     []byte
	call     []byte
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
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		call:    []byte(`{"content":[{"type":"text","text":"` + strings.Repeat("result ", 30) + `"}],"isError":false}`),
	}
	var tools []string
	for i := range 10 {
		tools = append(tools, fmt.Sprintf(`{"name":"tool_%d","title":"Tool %d","description":"Tool number %d of a mock server: echoes the text that it is given, and says nothing else of note.","inputSchema":{"type":"object","properties":{"text":{"type":"string","description":"The text to echo"},"count":{"type":"integer","minimum":1,"maximum":10}},"required":["text"]}}`, i, i, i))
	}
	m.list = []byte(`{"tools":[` + strings.Join(tools, ",") + `]}`)
	return m
}

func (m *mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
			`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"mock","version":"1"}}`,
			protocol.NegotiateLegacy(requested)))
	case "tools/list":
		out = protocol.AppendResult(out, msg.ID, m.list)
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
