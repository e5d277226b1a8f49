package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/mcpgw/mcpgw/bench/internal/h1"
	"github.com/mcpgw/mcpgw/mcp/protocol"
)

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + protocol.LatestLegacy + `","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`

// headers returns the headers of a POST, or of a GET when body is nil.
func headers(session string, body bool) []string {
	h := []string{"Accept: application/json, text/event-stream"}
	if body {
		h = append(h, "Content-Type: application/json")
	}
	if session != "" {
		h = append(h, protocol.HeaderSessionID+": "+session, protocol.HeaderProtocolVersion+": "+protocol.LatestLegacy)
	}
	return h
}

// post returns the bytes of a POST with the message.
func post(t h1.Target, session string, message []byte) []byte {
	return t.Request("POST", headers(session, true), message)
}

// openSession makes one MCP session over c and returns its id.
func openSession(c *h1.Conn, t h1.Target) (string, error) {
	r, err := c.Do(post(t, "", []byte(initialize)))
	for err == nil && r.Status == 429 { // the gateway bounds how fast one client makes sessions
		time.Sleep(100 * time.Millisecond)
		r, err = c.Do(post(t, "", []byte(initialize)))
	}
	if err != nil {
		return "", err
	}
	if r.Status != 200 || !bytes.Contains(r.Body, []byte(`"serverInfo"`)) {
		return "", fmt.Errorf("initialize: %d %.300s", r.Status, r.Body)
	}
	session := r.Session
	r, err = c.Do(post(t, session, protocol.AppendNotification(nil, "notifications/initialized", nil)))
	if err != nil {
		return "", err
	}
	if r.Status/100 != 2 {
		return "", fmt.Errorf("notifications/initialized: %d %.300s", r.Status, r.Body)
	}
	return session, nil
}

// callRequest opens a session over c and returns the bytes of a call of the
// first tool that it lists.
func callRequest(c *h1.Conn, t h1.Target) ([]byte, error) {
	session, err := openSession(c, t)
	if err != nil {
		return nil, err
	}
	r, err := c.Do(post(t, session, protocol.AppendRequest(nil, "2", "tools/list", nil)))
	if err != nil {
		return nil, err
	}
	_, rest, _ := bytes.Cut(r.Body, []byte(`"name":"`))
	name, _, ok := bytes.Cut(rest, []byte(`"`))
	if r.Status != 200 || !ok {
		return nil, fmt.Errorf("tools/list: %d %.300s", r.Status, r.Body)
	}
	params := fmt.Appendf(nil, `{"name":%q,"arguments":{"text":"hello, this is some text of the usual length"},"_meta":{"progressToken":3}}`, name)
	return post(t, session, protocol.AppendRequest(nil, "3", "tools/call", params)), nil
}

// checkCall says what is wrong with the answer to a call, if anything.
func checkCall(r h1.Response) error {
	if r.Status != 200 || !bytes.Contains(r.Body, []byte(`"content"`)) || bytes.Contains(r.Body, []byte(`"isError":true`)) {
		return fmt.Errorf("tools/call: %d %.300s", r.Status, r.Body)
	}
	return nil
}
