package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/mcp/session"
)

// A scripted is an MCP server of either era that says what a test wants, byte for
// byte: for what the servers of SDKs can't or will not say. It keeps the rules of
// its transport.
type scripted struct {
	*raw
	t            *testing.T
	target       session.TargetConfig
	modern       bool
	capabilities string
	ttl          string // members that its discovery has beside

	mu       sync.Mutex
	on       map[string]func(*exchange) string
	got      []string // "method params", in order
	answers  map[string]chan string
	push     chan string // to the GET stream
	streams  int
	sessions int
	lost     int // how many of the sessions are lost
	asked    int
}

// An exchange is one request that the server answers.
type exchange struct {
	s      *scripted
	ctx    context.Context
	id     string
	params string
	header http.Header
	w      http.ResponseWriter
	stream bool
	mu     sync.Mutex
}

// newScripted returns a server with the capabilities, a JSON object.
func newScripted(t *testing.T, name string, modern bool, capabilities string) *scripted {
	s := &scripted{t: t, modern: modern, capabilities: capabilities, on: map[string]func(*exchange) string{},
		answers: map[string]chan string{}, push: make(chan string, 100)}
	s.raw = newRaw(t, s.serve)
	s.target = session.TargetConfig{Name: name, Transport: session.StreamableHTTP, URL: s.URL, RoundTripper: s.transport,
		Timeout: 5 * time.Second, Identity: name + s.URL}
	return s
}

// handle answers a method with what f returns: the members result or error of the
// response.
func (s *scripted) handle(method string, f func(*exchange) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on[method] = f
}

// tool lists one tool and handles calls of tools.
func (s *scripted) tool(listed string, f func(*exchange) string) {
	hints := ""
	if s.modern {
		hints = `,"resultType":"complete","ttlMs":60000,"cacheScope":"public"`
	}
	s.handle("tools/list", func(*exchange) string { return `"result":{"tools":[` + listed + `]` + hints + `}` })
	s.handle("tools/call", f)
}

// reached returns the messages of a method that came, with their params.
func (s *scripted) reached(method string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, m := range s.got {
		if strings.HasPrefix(m, method+" ") {
			out = append(out, strings.TrimPrefix(m, method+" "))
		}
	}
	return out
}

// forget makes the server lose its sessions.
func (s *scripted) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = s.sessions
}

func (s *scripted) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && !s.modern {
		s.mu.Lock()
		s.streams++
		s.mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case m := <-s.push:
				_, _ = fmt.Fprintf(w, "data: %s\n\n", m)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
	if r.Method != http.MethodPost {
		w.WriteHeader(map[bool]int{true: 405, false: 204}[s.modern])
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway has given the request up
	}
	var m struct {
		ID, Params, Result, Error json.RawMessage
		Method                    string
	}
	if err := json.Unmarshal(body, &m); err != nil {
		s.t.Errorf("%s: %v", body, err)
	}
	s.mu.Lock()
	s.got = append(s.got, m.Method+" "+string(m.Params))
	f := s.on[m.Method]
	n, _ := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Mcp-Session-Id"), "session-"))
	lost := n > 0 && n <= s.lost
	s.mu.Unlock()
	switch {
	case lost:
		w.WriteHeader(404)
		return
	case m.Method == "":
		s.mu.Lock()
		c := s.answers[string(m.ID)]
		s.mu.Unlock()
		if c == nil {
			s.t.Errorf("an answer to nothing: %s", body)
		} else if m.Error != nil {
			c <- "error " + string(m.Error)
		} else {
			c <- string(m.Result)
		}
		w.WriteHeader(202)
		return
	case m.ID == nil:
		w.WriteHeader(202)
		return
	}
	x := &exchange{s: s, ctx: r.Context(), id: string(m.ID), params: string(m.Params), header: r.Header, w: w}
	answer := `"error":{"code":-32601,"message":"Method not found"}`
	status := 200
	switch {
	case f != nil:
		answer = f(x)
	case m.Method == "initialize" && !s.modern:
		s.mu.Lock()
		s.sessions++
		w.Header().Set("Mcp-Session-Id", fmt.Sprint("session-", s.sessions))
		s.mu.Unlock()
		answer = `"result":{"protocolVersion":"2025-11-25","capabilities":` + s.capabilities + `,"serverInfo":{"name":"scripted","version":"1"}}`
	case m.Method == "server/discover" && s.modern:
		hints := s.ttl
		if hints == "" {
			hints = `,"ttlMs":60000,"cacheScope":"public"`
		}
		answer = `"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":` + s.capabilities + hints + `}`
	case m.Method == "logging/setLevel":
		answer = `"result":{}`
	case s.modern:
		status = 404
	}
	raw := `{"jsonrpc":"2.0","id":` + x.id + `,` + answer + `}`
	if x.stream {
		x.send(raw)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, raw)
}

// send sends a message before the response.
func (x *exchange) send(raw string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stream {
		x.stream = true
		x.w.Header().Set("Content-Type", "text/event-stream")
	}
	_, _ = fmt.Fprintf(x.w, "data: %s\n\n", raw)
	_ = http.NewResponseController(x.w).Flush()
}

// ask asks the client something on the stream of the request and returns its
// result, or its error after "error ".
func (x *exchange) ask(method, params string) string { return x.askOn(x.send, method, params) }

// askOn is ask on another stream.
func (x *exchange) askOn(send func(raw string), method, params string) string {
	x.s.mu.Lock()
	x.s.asked++
	id := fmt.Sprintf(`"ask-%d"`, x.s.asked)
	c := make(chan string, 1)
	x.s.answers[id] = c
	x.s.mu.Unlock()
	send(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`)
	select {
	case answer := <-c:
		return answer
	case <-x.ctx.Done():
		return "gone"
	}
}

// said returns a tool result that holds a text.
func said(text string) string {
	quoted, _ := json.Marshal(text)
	return `"result":{"resultType":"complete","content":[{"type":"text","text":` + string(quoted) + `}]}`
}

// scripts returns the targets of servers.
func scripts(servers ...*scripted) (out []session.TargetConfig) {
	for _, s := range servers {
		out = append(out, s.target)
	}
	return out
}

// A caller is a client of either era whose messages a test writes.
type caller struct {
	g            *gateway
	modern       bool
	capabilities string
	session      string
	n            int
}

// caller returns a client of a revision with the capabilities, a JSON object.
func (g *gateway) caller(version, capabilities string) *caller {
	c := &caller{g: g, modern: version == "2026-07-28", capabilities: capabilities}
	if !c.modern {
		_, body, h := g.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"` + version +
			`","capabilities":` + capabilities + `,"clientInfo":{"name":"c","version":"1"}}}`)
		if c.session = h.Get("Mcp-Session-Id"); c.session == "" {
			g.t.Fatal(body)
		}
	}
	return c
}

// request returns the HTTP request of one message. params are the members of its
// params, _meta those of their _meta.
func (c *caller) request(method, name, params, meta string, header ...string) (body string, h []string) {
	c.n++
	h = header
	if c.modern {
		if meta != "" {
			meta += ","
		}
		meta += `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":` + c.capabilities
		h = append(h, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method)
		if name != "" {
			h = append(h, "Mcp-Name", name)
		}
	} else {
		h = append(h, "Mcp-Session-Id", c.session)
	}
	if meta != "" {
		if params != "" {
			params += ","
		}
		params += `"_meta":{` + meta + `}`
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"%s","params":{%s}}`, c.n, method, params), h
}

// do sends one message and returns the status and the whole answer.
func (c *caller) do(method, name, params, meta string, header ...string) (int, string) {
	body, h := c.request(method, name, params, meta, header...)
	status, answer, _ := c.g.post(body, h...)
	return status, answer
}

// call calls a tool.
func (c *caller) call(name, params string) string {
	if params != "" {
		params = "," + params
	}
	_, answer := c.do("tools/call", name, `"name":"`+name+`"`+params, "")
	return answer
}

// stream sends a request and reads its answer event by event, answering what the
// client is asked; it returns the response.
func (c *caller) stream(method, name, params string, answer func(method, params string) string) string {
	body, h := c.request(method, name, params, "")
	r, _ := http.NewRequestWithContext(c.g.t.Context(), http.MethodPost, c.g.url, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(h); i += 2 {
		r.Header.Add(h[i], h[i+1])
	}
	resp, err := c.g.client.Do(r)
	if err != nil {
		c.g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return drain(resp.Body)
	}
	last := ""
	for data := range eventData(resp.Body) {
		var m struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			c.g.t.Fatal(err)
		}
		if m.Method == "" {
			last = data
			continue
		}
		if m.ID != nil {
			c.g.post(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+answer(m.Method, string(m.Params))+`}`, "Mcp-Session-Id", c.session)
		} else if answer != nil {
			answer(m.Method, string(m.Params))
		}
	}
	return last
}

// eventData returns the data of the events of a stream.
func eventData(r io.Reader) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var rest []byte
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			rest = append(rest, buf[:n]...)
			for {
				line, after, ok := strings.Cut(string(rest), "\n")
				if !ok {
					break
				}
				rest = []byte(after)
				if data, ok := strings.CutPrefix(line, "data: "); ok && data != "" && !yield(data) { // one without data gives an id
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// member returns a string member of a JSON text, wherever it stands first.
func member(t *testing.T, raw, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(raw, `"`+name+`":"`)
	if !ok {
		t.Fatalf("no %s in %s", name, raw)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
