package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// A style is how a peer speaks.
type style struct {
	name   string
	modern bool
	// shared says that the answers to all calls come on one connection.
	shared bool
	// json says that an answer is a JSON body rather than an event stream.
	json bool
}

// The styles of peers.
var (
	modernJSON   = style{name: "modern JSON", modern: true, json: true}
	modernStream = style{name: "modern stream", modern: true}
	legacyJSON   = style{name: "legacy JSON", json: true}
	legacyStream = style{name: "legacy stream"}
	legacySSE    = style{name: "HTTP+SSE", shared: true}
	modernStdio  = style{name: "modern stdio", modern: true, shared: true}
	legacyStdio  = style{name: "legacy stdio", shared: true}
)

// A peer is a hand-written MCP server on raw sockets. It has the tools good and bad, both of
// which are called with a nonce: good answers with it, and what bad answers is up to the test, byte
// by byte.
type peer struct {
	t     testing.TB
	style style
	l     net.Listener
	// bad answers the tool bad, list (unless nil) tools/list, hello (unless nil) what opens a
	// session: initialize or server/discover.
	bad, list, hello func(*peerExchange)
	// bye and again, unless nil, answer DELETE and GET.
	bye, again func(*peerExchange)
	// called, unless nil, is told of the name of each tool that is called.
	called func(name string)
	// forgetful says that nothing is counted, for tests of very many calls.
	forgetful bool

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	busy  int                      // calls of bad under way
	calls map[string]int           // how often bad was called, by nonce
	seen  map[string]int           // requests by their method, or that of HTTP
	sids  map[string]int           // requests by their session id
	pipes map[string]*peerExchange // the streams of HTTP+SSE, by session
}

// newPeer starts a peer that runs until the test ends, and then checks that nobody kept a
// connection to it.
func newPeer(t testing.TB, s style, bad func(*peerExchange)) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, style: s, l: l, bad: bad, conns: map[net.Conn]struct{}{}, calls: map[string]int{},
		seen: map[string]int{}, sids: map[string]int{}, pipes: map[string]*peerExchange{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

// target is the peer as an item of spec.mcp.targets.
func (p *peer) target(name, more string) string {
	host, port, _ := net.SplitHostPort(p.l.Addr().String())
	protocol := ""
	if p.style == legacySSE {
		protocol = ", protocol: SSE"
	}
	return fmt.Sprintf("{name: %s, static: {host: %q, port: %s%s}%s}", name, host, port, protocol, more)
}

func (p *peer) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() {
			p.serve(c)
			_ = c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

// open returns how many connections there are, and in how many of them bad is being answered.
func (p *peer) open() (conns, busy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns), p.busy
}

func (p *peer) count(of map[string]int, key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return of[key]
}

func (p *peer) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		x := &peerExchange{p: p, conn: c, r: r, req: req}
		if len(body) > 0 {
			if x.m, err = protocol.Parse(body, protocol.Limits{}); err != nil {
				p.t.Errorf("the gateway sent %.300s: %v", body, err)
				return
			}
		}
		if x.handle(); x.ended {
			return
		}
	}
}

// A peerExchange is one request to a peer, and its answer.
type peerExchange struct {
	p     *peer // nil on stdio
	conn  net.Conn
	r     *bufio.Reader
	req   *http.Request
	m     *protocol.Message
	style style
	ended bool // the connection is of no more use
	out   io.Writer
}

func (x *peerExchange) handle() {
	p := x.p
	x.style, x.out = p.style, x.conn
	method := x.req.Method
	if x.m != nil {
		method = x.m.Method
	}
	if !p.forgetful {
		p.mu.Lock()
		p.seen[method]++
		p.sids[x.req.Header.Get("Mcp-Session-Id")]++
		p.mu.Unlock()
	}
	switch method {
	case http.MethodGet:
		if p.again != nil {
			p.again(x)
			return
		}
		x.get()
	case http.MethodDelete:
		if p.bye != nil {
			p.bye(x)
			return
		}
		x.status(200, "", "")
	case "server/discover", "initialize":
		if x.style.modern != (method == "server/discover") {
			x.status(400, "text/plain", "what?")
			return
		}
		if p.hello != nil {
			p.hello(x)
			return
		}
		x.hello("")
	case "tools/list":
		if p.list != nil {
			p.list(x)
			return
		}
		x.send(result(toolList))
	case "tools/call":
		x.call()
	default:
		x.status(202, "", "")
	}
}

const (
	toolList = `{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[{"name":"bad","inputSchema":{"type":"object"}},{"name":"good","inputSchema":{"type":"object"}}]}`
	// about is what a peer says of itself, in either era.
	about = `{"resultType":"complete","supportedVersions":["2026-07-28"],"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"peer","version":"1"},"ttlMs":0,"cacheScope":"public"}`
)

// result is a response whose ID stands for the id of the request.
func result(r string) string { return `{"jsonrpc":"2.0","id":ID,"result":` + r + `}` }

// textResult is a response with a text, in which NONCE stands for the nonce of the call.
func textResult(text string) string {
	return result(`{"resultType":"complete","content":[{"type":"text","text":"` + text + `"}]}`)
}

// good is the true answer.
var good = textResult("NONCE")

// hello answers what opens a session, with a session id for legacy clients.
func (x *peerExchange) hello(sid string) {
	header := ""
	if sid != "" {
		header = "Mcp-Session-Id: " + sid + "\r\n"
	}
	if x.style.shared {
		x.send(result(about))
		return
	}
	x.http("200 OK", header+"Content-Type: application/json\r\n", result(about))
}

// get answers GET: the stream of HTTP+SSE, which no other style has.
func (x *peerExchange) get() {
	if !x.style.shared {
		x.status(405, "", "")
		return
	}
	p := x.p
	p.mu.Lock()
	id := strconv.Itoa(len(p.pipes))
	p.pipes[id] = x
	p.mu.Unlock()
	x.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
	x.write("event: endpoint\ndata: /messages?s=" + id + "\n\n")
	x.gone()
}

func (x *peerExchange) call() {
	name, _ := protocol.GetString(x.m.Params, "name")
	if x.p.called != nil {
		x.p.called(name)
	}
	if name != "bad" {
		x.send(good)
		return
	}
	if x.p != nil {
		x.p.mu.Lock()
		if !x.p.forgetful {
			x.p.calls[x.nonce()]++
		}
		x.p.busy++
		x.p.mu.Unlock()
		defer func() {
			x.p.mu.Lock()
			x.p.busy--
			x.p.mu.Unlock()
		}()
	}
	x.p.bad(x)
}

func (x *peerExchange) nonce() string {
	nonce, _ := protocol.GetString(x.m.Params, "arguments", "text")
	return nonce
}

// fill returns text with the id and the nonce of the request in it.
func (x *peerExchange) fill(text string) string {
	if x.m == nil {
		return text
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "ID", string(x.m.ID)), "NONCE", x.nonce())
}

// write writes text with the ID and NONCE of the request. That the gateway has gone is no error.
func (x *peerExchange) write(text string) {
	if _, err := io.WriteString(x.out, x.fill(text)); err != nil {
		x.ended = true
	}
}

// raw writes text and ends the connection. SIZE stands for the length of the true answer.
func (x *peerExchange) raw(text string) {
	x.write(strings.Replace(text, "SIZE", fmt.Sprintf("%x", len(x.fill(good))), 1))
	x.ended = true
}

// http writes a whole answer, whose length is right.
func (x *peerExchange) http(status, header, body string) {
	body = x.fill(body)
	if _, err := fmt.Fprintf(x.out, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body); err != nil {
		x.ended = true
	}
}

func (x *peerExchange) status(status int, contentType, body string) {
	header := ""
	if contentType != "" {
		header = "Content-Type: " + contentType + "\r\n"
	}
	x.http(fmt.Sprintf("%d %s", status, http.StatusText(status)), header, body)
}

// send answers with messages, as the style of the peer has it.
func (x *peerExchange) send(messages ...string) {
	switch {
	case x.p == nil: // stdio
		for _, m := range messages {
			x.write(m + "\n")
		}
	case x.style.json && len(messages) == 1:
		x.status(200, "application/json", messages[0])
	default:
		var events strings.Builder
		for _, m := range messages {
			events.WriteString("data: " + m + "\n\n")
		}
		x.events(events.String())
	}
}

// events writes parts of an event stream: that of this answer, or on HTTP+SSE that of the
// session.
func (x *peerExchange) events(parts ...string) {
	if !x.style.shared {
		conn := bufio.NewWriter(x.out)
		on := *x
		on.out = conn
		on.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, part := range parts {
			on.chunk(part)
			if len(parts) > 1 { // as they come
				_ = conn.Flush()
			}
		}
		on.write("0\r\n\r\n")
		x.ended = conn.Flush() != nil
		return
	}
	x.status(202, "", "")
	x.p.mu.Lock()
	stream := x.p.pipes[x.req.URL.Query().Get("s")]
	x.p.mu.Unlock()
	if stream == nil {
		x.p.t.Errorf("a message for the session %q, which there is not", x.req.URL.RawQuery)
		return
	}
	on := *x
	on.out = stream.conn
	for _, part := range parts {
		on.write(part)
	}
}

// chunk writes one chunk of a chunked body.
func (x *peerExchange) chunk(part string) {
	part = x.fill(part)
	if _, err := fmt.Fprintf(x.out, "%x\r\n%s\r\n", len(part), part); err != nil {
		x.ended = true
	}
}

// gone waits until the gateway lets go of the connection.
func (x *peerExchange) gone() {
	_, _ = io.Copy(io.Discard, x.r) // an error is the end, too
	x.ended = true
}

// servePeer is a peer on standard input and output: what the test binary is when its
// environment names a style. The nonce of a call begins with the number of its vector.
func servePeer(name string) {
	vectors := messageVectors()
	servePipe(name, func(x *peerExchange) {
		number, _, _ := strings.Cut(x.nonce(), " ")
		i, err := strconv.Atoi(number)
		if err != nil {
			os.Exit(1)
		}
		x.send(vectors[i].messages...)
	})
}

// servePipe is a peer on standard input and output until the input ends.
func servePipe(name string, bad func(*peerExchange)) {
	s := legacyStdio
	if name == modernStdio.name {
		s = modernStdio
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		m, err := protocol.Parse(bytes.TrimSpace(line), protocol.Limits{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		x := &peerExchange{m: m, style: s, out: os.Stdout}
		tool, _ := protocol.GetString(m.Params, "name")
		switch {
		case m.Kind != protocol.Request:
		case m.Method == "server/discover" && !s.modern, m.Method == "initialize" && s.modern:
			x.send(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"what?"}}`)
		case m.Method == "server/discover", m.Method == "initialize":
			x.send(result(about))
		case m.Method == "tools/list":
			x.send(result(toolList))
		case m.Method == "tools/call" && tool == "bad":
			bad(x)
		case m.Method == "tools/call":
			x.send(good)
		}
	}
}

// A caller is an MCP client that sees bytes.
type caller struct {
	t      testing.TB
	url    string
	client *http.Client
	modern bool
	sid    string
	ids    int
	// authorization and token, unless empty, are sent: as credentials, and as progress token of requests.
	authorization, token string
}

// newCaller returns a client of an era, initialized where that is needed.
func (g *testGateway) newCaller(t testing.TB, modern bool) *caller {
	t.Helper()
	return g.newCallerAt(t, "/mcp", modern, "")
}

// newCallerAt is newCaller for a path, and a client with credentials.
func (g *testGateway) newCallerAt(t testing.TB, path string, modern bool, authorization string) *caller {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c := &caller{t: t, url: g.url("8080", path), client: &http.Client{Transport: tr}, modern: modern, authorization: authorization}
	if !modern {
		if err := c.initialize(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// initialize begins a session. One that the client had is not ended.
func (c *caller) initialize() error {
	c.sid = ""
	resp, err := c.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if c.sid = resp.Header.Get("Mcp-Session-Id"); c.sid == "" {
		return fmt.Errorf("initialize: %d %s", resp.StatusCode, body)
	}
	return nil
}

func (c *caller) post(body string, header ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if c.sid != "" {
		r.Header.Set("Mcp-Session-Id", c.sid)
	}
	if c.authorization != "" {
		r.Header.Set("Authorization", c.authorization)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return c.client.Do(r)
}

// do sends one request and returns its response, and the messages that came before it. Any
// other response than the one to this request fails the test.
func (c *caller) do(method, name, params string) (m *protocol.Message, before []*protocol.Message, err error) {
	c.ids++
	id := protocol.IntID(int64(c.ids))
	var header []string
	var meta []string
	if c.token != "" {
		meta = append(meta, fmt.Sprintf(`"progressToken":%q`, c.token))
	}
	if c.modern {
		meta = append(meta, `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"}`)
		header = []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
		if name != "" {
			header = append(header, "Mcp-Name", name)
		}
	}
	if len(meta) > 0 {
		if params != "" {
			params += ","
		}
		params += `"_meta":{` + strings.Join(meta, ",") + `}`
	}
	resp, err := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s}}`, id, method, params), header...)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	for _, h := range []string{"Set-Cookie", "Mcp-Session-Id", "Www-Authenticate", "Link", "X-Peer"} {
		if v := resp.Header.Get(h); v != "" {
			return nil, nil, fmt.Errorf("the header %s of the target came through: %s", h, v)
		}
	}
	limits := protocol.Limits{Bytes: 32 << 20, String: 32 << 20}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, nil, err
		}
		m, err := protocol.Parse(body, limits)
		if err == nil && m.ID != id {
			err = fmt.Errorf("the answer to %s has the id %s", id, m.ID)
		}
		return m, nil, err
	}
	for stream := events.NewReader(resp.Body, 32<<20); ; {
		ev, err := stream.Next()
		if err != nil {
			return nil, before, fmt.Errorf("status %d, no response to %s on the stream: %w", resp.StatusCode, id, err)
		}
		if len(ev.Data) == 0 {
			continue
		}
		got, err := protocol.Parse(bytes.Clone(ev.Data), limits)
		switch {
		case err != nil:
			return nil, before, fmt.Errorf("%.200q on the stream: %w", ev.Data, err)
		case got.Kind == protocol.Response && m != nil:
			return nil, before, fmt.Errorf("two responses on the stream")
		case got.Kind == protocol.Response && got.ID != id:
			return nil, before, fmt.Errorf("the stream of %s has the answer to %s", id, got.ID)
		case got.Kind == protocol.Response:
			return got, before, nil
		}
		before = append(before, got)
	}
}

// call calls a tool with a nonce, and returns its text, or "error: " and the message.
func (c *caller) call(tool, nonce string) string {
	m, _, err := c.do("tools/call", tool, fmt.Sprintf(`"name":%q,"arguments":{"text":%q}`, tool, nonce))
	switch {
	case err != nil:
		return "broken: " + err.Error()
	case m.Error != nil:
		return "error: " + m.Error.Message
	}
	return textOf(m)
}

// textOf returns the text of a tool result.
func textOf(m *protocol.Message) string {
	for content := range protocol.Elements(protocol.Get(m.Result, "content")) {
		text, _ := protocol.GetString(content, "text")
		return text
	}
	return string(m.Result)
}

// tools returns the names that tools/list has.
func (c *caller) tools() []string {
	m, _, err := c.do("tools/list", "", "")
	if err != nil || m.Error != nil {
		c.t.Errorf("tools/list: %v %v", m, err)
		return nil
	}
	var names []string
	for tool := range protocol.Elements(protocol.Get(m.Result, "tools")) {
		name, _ := protocol.GetString(tool, "name")
		names = append(names, name)
	}
	return names
}

// mcpTargets is an MCP Backend with these targets.
func mcpTargets(targets ...string) string {
	return "\n---\napiVersion: gateway.kgateway.dev/v1alpha1\nkind: Backend\nmetadata: {name: b}\nspec:\n  type: MCP\n  mcp:\n    targets:\n    - " +
		strings.Join(targets, "\n    - ") + "\n"
}
