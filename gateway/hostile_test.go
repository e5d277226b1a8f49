package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a client gets of a call whose target misbehaves.
const (
	fine   = "fine"                                                         // the true answer
	failed = "error: the server behind this request failed"                 // that the target failed, at once
	silent = "error: the server behind this request did not answer in time" // once it was silent for long
	either = "error: the server behind this request"                        // one of them: whichever limit is met first
)

// hostileIdle is how long a target may be silent in these tests.
const hostileIdle = 5 * time.Second

// A hostility is one way in which a target misbehaves.
type hostility struct {
	style  style
	vector string
	bad    func(*peerExchange)
	want   string
}

// hostilities runs them, those that take their time at the same time.
func hostilities(t *testing.T, all []hostility) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, h := range all {
		run := func() { t.Run(h.style.name+"/"+h.vector, h.run) }
		if h.want == silent {
			wg.Go(run)
			continue
		}
		run()
	}
}

// A messageVector is what a target answers a call with, message by message.
type messageVector struct {
	name     string
	messages []string
	// want is what the client gets; shared, unless empty, what it gets where the calls share a
	// connection, on which a message that belongs to nobody fails nobody.
	want, shared string
	// modern, unless empty, is what it gets of a modern target.
	modern string
}

// wanted returns what the client gets of a target of that style.
func (v *messageVector) wanted(s style) string {
	switch {
	case s.shared && v.shared != "":
		return v.shared
	case s.modern && !s.shared && v.modern != "":
		return v.modern
	default:
		return v.want
	}
}

// messageVectors are wrong, surplus and missing messages.
func messageVectors() []messageVector {
	id := func(id string) string { return strings.Replace(good, `"id":ID`, `"id":`+id, 1) }
	evil := textResult("evil")
	progress := func(token string) string {
		return `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":1}}`
	}
	log := `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`
	changed := `{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`
	ask := func(id string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"method":"ping"}`
	}
	nested := func(depth int) string { // of the whole message
		n := depth - 2
		return result(`{"resultType":"complete","content":[{"type":"text","text":"NONCE"}],"structuredContent":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`)
	}
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":%d`, i, i)
		}
		return result(`{"resultType":"complete","content":[{"type":"text","text":"NONCE"}],"structuredContent":{` + b.String()[1:] + `}}`)
	}
	number := func(digits int) string {
		return strings.Replace(good, `"content"`, `"n":`+strings.Repeat("1", digits)+`,"content"`, 1)
	}
	return []messageVector{
		{name: "the true answer", messages: []string{good}, want: fine},
		// Ids.
		{name: "an id as float", messages: []string{id("ID.0")}, want: failed, shared: silent},
		{name: "an id with exponent", messages: []string{id("IDe0")}, want: failed, shared: silent},
		{name: "an id as string", messages: []string{id(`"ID"`)}, want: failed, shared: silent},
		{name: "an id with a leading zero", messages: []string{id("0ID")}, want: failed, shared: silent},
		{name: "a negative id", messages: []string{id("-ID")}, want: failed, shared: silent},
		{name: "the id of another", messages: []string{id("7")}, want: failed, shared: silent},
		{name: "an id with digits appended", messages: []string{id("ID0")}, want: failed, shared: silent},
		{name: "the null id", messages: []string{id("null")}, want: failed, shared: silent},
		{name: "no id", messages: []string{strings.Replace(good, `"id":ID,`, "", 1)}, want: failed, shared: silent},
		{name: "an id in an array", messages: []string{id("[ID]")}, want: failed, shared: silent},
		{name: "an id in other case", messages: []string{strings.Replace(good, `"id"`, `"Id"`, 1)}, want: failed, shared: silent},
		{name: "an escaped id", messages: []string{strings.Replace(good, `"id"`, `"\u0069d"`, 1)}, want: fine},
		{name: "two ids", messages: []string{strings.Replace(good, `"id":ID`, `"id":ID,"id":7`, 1)}, want: failed},
		// Answers.
		{name: "the answer to another first", messages: []string{strings.Replace(evil, "ID", "7", 1), good}, want: fine},
		{name: "the answer twice", messages: []string{good, good}, want: fine},
		{name: "another answer after it", messages: []string{good, evil}, want: fine},
		{name: "a thousand answers to others", messages: append(strings.Split(strings.Repeat(strings.Replace(evil, "ID", "8", 1)+"\n", 1000), "\n")[:1000], good), want: fine},
		{name: "result and error", messages: []string{strings.Replace(good, `"result"`, `"error":{"code":1,"message":"x"},"result"`, 1)}, want: failed},
		{name: "neither result nor error", messages: []string{`{"jsonrpc":"2.0","id":ID}`}, want: failed},
		{name: "a result that is an array", messages: []string{result("[]")}, want: failed},
		{name: "a result that is a string", messages: []string{result(`"NONCE"`)}, want: failed},
		{name: "a result that is null", messages: []string{result("null")}, want: failed},
		{name: "an error that is a string", messages: []string{`{"jsonrpc":"2.0","id":ID,"error":"no"}`}, want: failed},
		{name: "an error whose code is a string", messages: []string{`{"jsonrpc":"2.0","id":ID,"error":{"code":"1","message":"no"}}`}, want: failed},
		{name: "an error of its own", messages: []string{`{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"mine"}}`}, want: "error: mine"},
		{name: "an empty batch", messages: []string{"[]"}, want: failed, shared: silent},
		{name: "a batch with the answer", messages: []string{"[" + strings.Replace(evil, "ID", "7", 1) + "," + good + "]"}, want: fine},
		{name: "a batch of too many", messages: []string{"[" + strings.Repeat(good+",", 1000) + good + "]"}, want: failed, shared: silent},
		// JSON.
		{name: "a duplicate key in the result", messages: []string{strings.Replace(good, `"content"`, `"content":[],"content"`, 1)}, want: failed},
		{name: "a duplicate key deep in it", messages: []string{strings.Replace(good, `"type"`, `"type":"image","type"`, 1)}, want: failed},
		{name: "a duplicate key, escaped", messages: []string{strings.Replace(good, `"type"`, `"\u0074ype":"image","type"`, 1)}, want: failed},
		{name: "invalid UTF-8", messages: []string{strings.Replace(good, "NONCE", "NONCE\xff", 1)}, want: failed},
		{name: "a lone surrogate", messages: []string{strings.Replace(good, "NONCE", `NONCE\ud800`, 1)}, want: failed},
		{name: "a control character", messages: []string{strings.Replace(good, "NONCE", "NONCE\x01", 1)}, want: failed},
		{name: "data after the message", messages: []string{good + good}, want: failed},
		{name: "a byte order mark", messages: []string{"\ufeff" + good}, want: failed, shared: silent},
		{name: "half a message", messages: []string{good[:len(good)-1]}, want: failed},
		{name: "no JSON", messages: []string{"Welcome!"}, want: failed, shared: silent},
		{name: "another JSON-RPC", messages: []string{strings.Replace(good, "2.0", "1.0", 1)}, want: failed},
		{name: "no JSON-RPC", messages: []string{strings.Replace(good, `"jsonrpc":"2.0",`, "", 1)}, want: failed},
		{name: "as deep as may be", messages: []string{nested(128)}, want: fine},
		{name: "too deep", messages: []string{nested(129)}, want: failed},
		{name: "a million deep", messages: []string{nested(1 << 20)}, want: failed},
		{name: "as many members as may be", messages: []string{members(10_000)}, want: fine},
		{name: "too many members", messages: []string{members(10_001)}, want: failed},
		{name: "as many digits as may be", messages: []string{number(64)}, want: fine},
		{name: "too many digits", messages: []string{number(65)}, want: failed},
		// What precedes the answer.
		{name: "progress that nobody asked for", messages: []string{progress("ID"), progress(`"x"`), progress("null"), progress("1.0"), good}, want: fine},
		{name: "a flood of progress", messages: append(strings.Split(strings.Repeat(progress("7")+"\n", 20_000), "\n")[:20_000], good), want: fine},
		{name: "a flood of log messages", messages: append(strings.Split(strings.Repeat(log+"\n", 2000), "\n")[:2000], good), want: fine},
		{name: "a flood of changes", messages: append(strings.Split(strings.Repeat(changed+"\n", 2000), "\n")[:2000], good), want: fine},
		{name: "a request with the id of ours", messages: []string{ask("ID"), good}, want: fine, modern: failed},
	}
}

// Each wrong message of a target ends in what is said of it, for clients of both eras: the call ends, and neither
// the target's next call nor another target's takes harm.
func TestHostileMessages(t *testing.T) {
	var all []hostility
	for _, s := range []style{modernJSON, modernStream, legacyJSON, legacyStream, legacySSE} {
		for _, v := range messageVectors() {
			if s.json && len(v.messages) != 1 {
				continue
			}
			all = append(all, hostility{s, v.name, func(x *peerExchange) { x.send(v.messages...) }, v.wanted(s)})
		}
	}
	hostilities(t, all)
}

// run starts a gateway with a target that answers the tool bad in a bad way, and one that is honest, and
// expects of bad what is wanted.
func (h hostility) run(t *testing.T) {
	honest := newMCPServer(t, "/mcp", true, "echo")
	p := newPeer(t, h.style, h.bad)
	g := startOn(t, RuntimeOptions{CallIdle: hostileIdle}, Options{}, mcpTargets(
		fmt.Sprintf("{name: honest, static: {host: %q, port: %s}}", honest.host, honest.port), p.target("peer", "")))
	callers := map[string]*caller{"modern": g.newCaller(t, true), "legacy": g.newCaller(t, false), "other": g.newCaller(t, false)}
	var wg sync.WaitGroup
	wg.Go(func() { // while the target misbehaves
		if got := callers["other"].call("honest_echo", "x"); got != "echo" {
			t.Errorf("the honest target answers %.300q", got)
		}
	})
	for _, era := range []string{"modern", "legacy"} {
		c, nonce := callers[era], era+"-nonce"
		wg.Go(func() {
			c.suffer(era+" client", "peer_bad", nonce, h.want)
			if n := p.count(p.calls, nonce); n > 1 {
				t.Errorf("%s client: the call was executed %d times", era, n)
			}
		})
	}
	wg.Wait()
	until(t, func() bool { _, busy := p.open(); return busy == 0 })
	g.stop()
	until(t, func() bool { open, _ := p.open(); return open == 0 })
}

// suffer calls a bad tool, expects what is wanted of it, and of the next call that it is none the worse.
func (c *caller) suffer(who, tool, nonce, want string) {
	if want == fine {
		want = nonce
	}
	got := c.call(tool, nonce)
	if got == "error: the upstream failed" { // the same, said of the connection
		got = failed
	}
	if got != want && (want != either || !strings.HasPrefix(got, either)) {
		c.t.Errorf("%s: %.300q, want %q", who, got, want)
	}
	good := strings.Replace(tool, "bad", "good", 1)
	if got := c.call(good, "after"); got != "after" {
		c.t.Errorf("%s: the next call answers %.300q", who, got)
	}
}

// A child is used by all callers: what it answers one of them in a bad way does not reach the others.
func TestHostileStdio(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []style{modernStdio, legacyStdio} {
		g := startOn(t, RuntimeOptions{CallIdle: hostileIdle}, Options{}, mcpTargets(
			fmt.Sprintf("{name: peer, timeout: 60s, stdio: {command: %q, env: {%s: %q}}}", binary, stdioVariable, "peer/"+s.name)))
		var wg sync.WaitGroup
		for i, v := range messageVectors() {
			for _, modern := range []bool{true, false} {
				c := g.newCaller(t, modern)
				who := fmt.Sprintf("%s/%s, modern client %v", s.name, v.name, modern)
				run := func() { c.suffer(who, "peer_bad", fmt.Sprintf("%d %s", i, who), v.wanted(s)) }
				if v.wanted(s) == silent {
					wg.Go(run)
					continue
				}
				run()
			}
		}
		wg.Wait()
		g.stop()
	}
}

// Event streams may be written in many ways, and end in many more.
func TestHostileEvents(t *testing.T) {
	lines := func(end string, text string) string { return strings.ReplaceAll(text, "\n", end) }
	event := "data: " + good + "\n\n"
	var all []hostility
	for _, v := range []struct {
		name  string
		parts []string
		want  string
		// shared, unless empty, is what comes where the stream goes on after it.
		shared string
	}{
		{name: "LF", parts: []string{event}, want: fine},
		{name: "CR", parts: []string{lines("\r", event), ":\n"}, want: fine},
		{name: "CRLF", parts: []string{lines("\r\n", event)}, want: fine},
		{name: "a mixture", parts: []string{": c\r\nid: 1\rdata: " + good + "\n\r\n"}, want: fine},
		{name: "CR and LF apart", parts: []string{"data: " + good + "\r", "\n", "\r", "\n"}, want: fine},
		{name: "no space after the colon", parts: []string{"data:" + good + "\n\n"}, want: fine},
		{name: "several lines of data", parts: []string{"data: " + strings.ReplaceAll(good, ",", ",\ndata: ") + "\n\n"}, want: fine},
		{name: "cut within a key", parts: []string{"data: " + strings.Replace(good, `"result"`, "\"res\ndata: ult\"", 1) + "\n\n"}, want: failed},
		{name: "the type message", parts: []string{"event: message\n" + event}, want: fine},
		{name: "another type", parts: []string{"event: answer\n" + event}, want: failed, shared: silent},
		{name: "another endpoint", parts: []string{"event: endpoint\ndata: http://192.0.2.1/\n\n", event}, want: fine},
		{name: "fields that nobody knows", parts: []string{"foo\nbar: " + strings.Repeat("x", 60<<10) + "\n", event}, want: fine},
		{name: "a field of 1 MiB", parts: []string{"bar: " + strings.Repeat("x", 1<<20) + "\n", event}, want: failed},
		{name: "a comment of 4 MiB", parts: []string{":" + strings.Repeat("x", 4<<20) + "\n", event}, want: fine},
		{name: "a hundred thousand comments", parts: []string{strings.Repeat(":\n", 100_000), event}, want: fine},
		{name: "events without data", parts: []string{strings.Repeat("event: message\n\n", 10_000), event}, want: fine},
		{name: "empty events", parts: []string{strings.Repeat("data\n\n", 10_000), event}, want: fine},
		{name: "an endless time to retry", parts: []string{"retry: 99999999999999999999\n", event}, want: fine},
		{name: "an id with NUL", parts: []string{"id: a\x00b\n", event}, want: fine},
		{name: "an id of 1 MiB", parts: []string{"id: " + strings.Repeat("x", 1<<20) + "\n", event}, want: failed},
		{name: "no events at all", parts: nil, want: failed, shared: silent},
		{name: "half an event", parts: []string{"data: " + good + "\n"}, want: failed, shared: silent},
		{name: "half a line", parts: []string{"data: " + good}, want: failed, shared: silent},
		{name: "half a line after the answer", parts: []string{event + "data: {"}, want: fine},
	} {
		for _, s := range []style{modernStream, legacyStream, legacySSE} {
			want := v.want
			if s.shared && v.shared != "" {
				want = v.shared
			}
			if s.shared && strings.HasPrefix(v.name, "half") {
				continue // what the next event begins in
			}
			all = append(all, hostility{s, v.name, func(x *peerExchange) { x.events(v.parts...) }, want})
		}
	}
	// A byte order mark is one at the beginning of a stream only.
	for marks, want := range map[string]string{"\ufeff": fine, "\ufeff\ufeff": failed} {
		for _, s := range []style{modernStream, legacyStream} {
			all = append(all, hostility{s, fmt.Sprintf("%d byte order marks", len(marks)/3), func(x *peerExchange) { x.events(marks + event) }, want})
		}
	}
	for _, s := range []style{modernStream, legacyStream, legacySSE} {
		all = append(all, hostility{s, "byte by byte", func(x *peerExchange) {
			x.events(strings.SplitAfter(x.fill(event), "")...)
		}, fine})
	}
	hostilities(t, all)
}

// What a target answers is taken up to 16 MiB, and not a byte more.
func TestHostileSizes(t *testing.T) {
	const limit = 16 << 20
	for _, s := range []style{modernJSON, legacyStream, legacySSE} {
		p := newPeer(t, s, func(x *peerExchange) {
			var size int
			if _, err := fmt.Sscan(x.nonce(), &size); err != nil {
				t.Error(err)
			}
			message := x.fill(good)
			pad := size - len(message) - len(`"pad":"",`)
			x.send(strings.Replace(message, `"content"`, `"pad":"`+strings.Repeat("x", pad)+`","content"`, 1))
		})
		c := start(t, mcpTargets(p.target("peer", ""))).newCaller(t, !s.modern)
		for size, want := range map[int]string{limit - 1: fine, limit: fine, limit + 1: failed} {
			c.suffer(fmt.Sprintf("%s, %d bytes", s.name, size), "peer_bad", fmt.Sprint(size), want)
		}
	}
}

// Answers that are hardly HTTP.
func TestHostileHTTP(t *testing.T) {
	answer := func(header string) func(*peerExchange) {
		return func(x *peerExchange) { x.http("200 OK", "Content-Type: application/json\r\n"+header, good) }
	}
	raw := func(text string) func(*peerExchange) { return func(x *peerExchange) { x.raw(text) } }
	status := func(status int, contentType, body string) func(*peerExchange) {
		return func(x *peerExchange) { x.status(status, contentType, body) }
	}
	html := "<html>secret-of-the-target</html>"
	json := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	chunked := json + "Transfer-Encoding: chunked\r\n\r\n"
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()

	var all []hostility
	for _, v := range []struct {
		name string
		bad  func(*peerExchange)
		want string
	}{
		// Nothing, or no HTTP.
		{"nothing", raw(""), failed},
		{"a reset", func(x *peerExchange) { _ = x.conn.(*net.TCPConn).SetLinger(0); x.ended = true }, failed},
		{"half a status line", raw("HTTP/1.1 20"), failed},
		{"half a header", raw(json + "X-Peer: "), failed},
		{"no HTTP", raw("Welcome!\r\n\r\n"), failed},
		{"HTTP/0.9", raw(good), failed},
		{"HTTP/2", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), failed},
		{"a status of two digits", raw("HTTP/1.1 20 OK\r\nContent-Type: application/json\r\n\r\n" + good), failed},
		{"no reason", func(x *peerExchange) { x.http("200", "Content-Type: application/json\r\n", good) }, fine},
		// Headers.
		{"headers of its own", answer("Set-Cookie: a=b\r\nMcp-Session-Id: evil\r\nLink: </x>\r\nX-Peer: 1\r\nWww-Authenticate: Basic\r\n"), fine},
		{"a header of 200 KiB", answer("X-Peer: " + strings.Repeat("x", 200<<10) + "\r\n"), fine},
		{"a header of 2 MiB", answer("X-Peer: " + strings.Repeat("x", 2<<20) + "\r\n"), failed},
		{"a hundred thousand headers", answer(strings.Repeat("X-Peer: 1\r\n", 100_000)), failed},
		{"a header that never ends", func(x *peerExchange) {
			x.write(json)
			for !x.ended {
				x.write(strings.Repeat("X-Peer: 1\r\n", 1000))
			}
		}, either},
		{"a header without a colon", answer("X-Peer\r\n"), failed},
		{"a space before the colon", answer("X-Peer : 1\r\n"), fine},
		{"two lengths", answer("Content-Length: 1\r\n"), failed},
		{"a negative length", raw(json + "Content-Length: -1\r\n\r\n" + good), failed},
		{"a length that is a word", raw(json + "Content-Length: many\r\n\r\n" + good), failed},
		{"a length that is too large", raw(json + "Content-Length: 9999\r\n\r\n" + good), failed},
		{"a length of 1 TiB", raw(json + "Content-Length: 1099511627776\r\n\r\n" + good), failed},
		{"a length that is too small", raw(json + "Content-Length: 20\r\n\r\n" + good), failed},
		{"more after the answer", raw(chunked + "SIZE\r\n" + good + "\r\n0\r\n\r\n" + json + "Content-Length: 2\r\n\r\n{}"), fine},
		{"an encoding that nobody knows", raw(json + "Transfer-Encoding: gzip\r\n\r\n" + good), failed},
		{"no length", raw(json + "\r\n" + good), fine},
		// Chunks.
		{"a chunk that is none", raw(chunked + "zz\r\n" + good + "\r\n0\r\n\r\n"), failed},
		{"a chunk of a hexadecimal prefix", raw(chunked + "0x10\r\n" + good + "\r\n0\r\n\r\n"), failed},
		{"a chunk of endless size", raw(chunked + "ffffffffffffffffff\r\n" + good), failed},
		{"a chunk that is too short", raw(chunked + "ffff\r\n" + good), failed},
		{"a chunk that is too long", raw(chunked + "5\r\n" + good + "\r\n0\r\n\r\n"), failed},
		{"an extension of 1 MiB", raw(chunked + "1;" + strings.Repeat("x", 1<<20) + "\r\n{\r\n0\r\n\r\n"), failed},
		{"no last chunk", func(x *peerExchange) { x.write(chunked); x.chunk(good); x.ended = true }, failed},
		{"trailers", func(x *peerExchange) { x.write(chunked); x.chunk(good); x.write("0\r\nX-Peer: 1\r\n\r\n") }, fine},
		// Before the answer.
		{"five informational answers", func(x *peerExchange) {
			x.write(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Peer: 1\r\n\r\n", 5))
			answer("")(x)
		}, fine},
		{"a flood of informational answers", func(x *peerExchange) {
			for i := 0; i < 100_000 && !x.ended; i++ {
				x.write("HTTP/1.1 100 Continue\r\n\r\n")
			}
			answer("")(x)
		}, failed},
		{"another protocol", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: mcp\r\nConnection: Upgrade\r\n\r\n" + good), failed},
		// Statuses.
		{"201", status(201, "application/json", good), fine},
		{"202", status(202, "", ""), failed},
		{"204", func(x *peerExchange) { x.write("HTTP/1.1 204 No Content\r\n\r\n") }, failed},
		{"205", func(x *peerExchange) { x.write("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n") }, failed},
		{"301", func(x *peerExchange) { x.http("301 Moved", "Location: http://192.0.2.1/\r\n", html) }, failed},
		{"307", func(x *peerExchange) { x.http("307 Moved", "Location: /elsewhere\r\n", html) }, failed},
		{"304", func(x *peerExchange) { x.write("HTTP/1.1 304 Not Modified\r\n\r\n") }, failed},
		{"401", status(401, "text/html", html), "error: the server behind this request refused its credentials"},
		{"403", status(403, "text/html", html), "error: the server behind this request refused its credentials"},
		{"429", status(429, "text/html", html), "error: the server behind this request is busy"},
		{"500", status(500, "text/html", html), failed},
		{"500 with a result", status(500, "application/json", good), failed},
		{"500 with an error", status(500, "application/json", `{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"mine"}}`), "error: mine"},
		{"500 with the error of another", status(500, "application/json", `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"mine"}}`), failed},
		{"502", status(502, "text/html", html), failed},
		{"503", status(503, "text/html", html), "error: the server behind this request is busy"},
		{"599", status(599, "text/html", strings.Repeat(html, 100_000)), failed},
		// Content types and encodings.
		{"HTML", status(200, "text/html", html), failed},
		{"no type", status(200, "", good), failed},
		{"a type in capitals with a charset", status(200, "Application/JSON; charset=utf-8", good), fine},
		{"a type like JSON", status(200, "application/jsonx", good), failed},
		{"an event stream that says it is JSON", status(200, "application/json", "data: "+good+"\n\n"), failed},
		{"JSON that says it is an event stream", status(200, "text/event-stream", good), failed},
		{"compressed", func(x *peerExchange) {
			x.http("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", bomb.String())
		}, failed},
		{"compressed events", func(x *peerExchange) {
			x.http("200 OK", "Content-Type: text/event-stream\r\nContent-Encoding: br\r\n", bomb.String())
		}, failed},
		{"compressed, not said", func(x *peerExchange) { x.http("200 OK", "Content-Type: application/json\r\n", bomb.String()) }, failed},
		// Too slow, or for ever.
		{"nothing for ever", func(x *peerExchange) { x.gone() }, silent},
		{"half a header for ever", func(x *peerExchange) { x.write(json); x.gone() }, silent},
		{"half a body for ever", func(x *peerExchange) { x.write(json + "Content-Length: 9999\r\n\r\n{"); x.gone() }, silent},
		{"a trickle of header", func(x *peerExchange) { x.trickle(json, "X") }, silent},
		{"a trickle of body", func(x *peerExchange) { x.trickle(json+"Content-Length: 9999\r\n\r\n{", " ") }, silent},
		{"a trickle of comments", func(x *peerExchange) {
			x.trickle("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", ":\n")
		}, silent},
		{"comments for ever", func(x *peerExchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
			for !x.ended {
				x.write(strings.Repeat(":\n", 1000))
			}
		}, silent},
		{"spaces for ever", func(x *peerExchange) {
			x.write(json + "\r\n")
			for !x.ended {
				x.write(strings.Repeat(" ", 1<<16))
			}
		}, either},
		{"a stream that goes on after the answer", func(x *peerExchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + good + "\n\n")
			for !x.ended {
				x.write(strings.Repeat(":\n", 1000))
			}
		}, fine},
		{"a stream that stays open after the answer", func(x *peerExchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + good + "\n\n")
			x.gone()
		}, fine},
	} {
		for _, s := range []style{modernStream, legacyStream} {
			all = append(all, hostility{s, v.name, v.bad, v.want})
		}
	}
	hostilities(t, all)
}

// trickle writes begin, and then more and more until the gateway has gone.
func (x *peerExchange) trickle(begin, more string) {
	x.write(begin)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if x.write(more); x.ended {
			return
		}
	}
}
