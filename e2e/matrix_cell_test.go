package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// A matrixClient is a client of the matrix: an SDK at a revision.
type matrixClient struct {
	what     string // for the document
	key      string // short
	revision string
	dial     func(ctx context.Context, name, url string, bare bool) (peer, error)
}

func (c *matrixClient) modern() bool { return c.revision == "2026-07-28" }

// A cell is a client that uses one target behind a Backend.
type cell struct {
	client *matrixClient
	target *matrixTarget
	// beside is another target of the same Backend that is a fullServer; the same
	// one when the Backend has but one.
	beside *matrixTarget
	// targets are all of the Backend but for its companion.
	targets []*matrixTarget
	many    *matrixTarget // the companion
	url     string
	peer    peer // can be asked everything
	bare    peer // can be asked nothing
	// peerName is the name by which the peer introduces itself, and its root.
	peerName string
	id       string // no other cell's
}

// patient returns the context of a check, or of what it does once others are done.
func (c *cell) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, testgateway.Patience/2, fmt.Errorf("not in %v", testgateway.Patience/2))
}

// An absence says that a feature is not there on one of the two sides, so that the
// gateway has nothing to carry. What says so was asserted.
type absence struct{ reason string }

func (a *absence) Error() string { return "absent: " + a.reason }

func absent(reason string) error { return &absence{reason} }

// lacks returns the absence of what would have left text in what the target says
// of itself, once it has made sure that it is not there.
func (c *cell) lacks(text, reason string) error {
	said := []json.RawMessage{c.target.own.capabilities}
	for _, elements := range c.target.own.lists {
		said = append(said, elements...)
	}
	for _, raw := range said {
		if bytes.Contains(raw, []byte(text)) {
			return fmt.Errorf("the target says %s, and yet: %s", raw, reason)
		}
	}
	return absent(reason)
}

// name returns the client-visible name of a tool or prompt.
func (c *cell) name(own string) string { return c.target.name + "_" + own }

// uri returns the client-visible form of a URI.
func (c *cell) uri(own string) string {
	if rest, ok := strings.CutPrefix(own, "ui://"); ok {
		return "ui://" + c.target.name + "+" + rest
	}
	return c.target.name + "+" + own
}

// object is a JSON object.
type object = map[string]any

// A toolResult is the part of a CallToolResult that the matrix looks at.
type toolResult struct {
	Content []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		URI      string `json:"uri"`
		Resource struct {
			URI string `json:"uri"`
		} `json:"resource"`
	} `json:"content"`
	StructuredContent json.RawMessage `json:"structuredContent"`
	IsError           bool            `json:"isError"`
}

func (r *toolResult) text() string {
	var texts []string
	for _, c := range r.Content {
		texts = append(texts, c.Text)
	}
	return strings.Join(texts, "\n")
}

// call calls a tool of the cell's target.
func (c *cell) call(ctx context.Context, tool string, arguments, meta object) (*toolResult, error) {
	return callTool(ctx, c.peer, c.name(tool), arguments, meta)
}

// answers calls a tool and checks that its text contains all of some texts.
func (c *cell) answers(ctx context.Context, tool string, arguments object, texts ...string) error {
	result, err := c.call(ctx, tool, arguments, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", tool, err)
	}
	for _, want := range texts {
		if !strings.Contains(result.text(), want) {
			return fmt.Errorf("%s answers %q, without %q", tool, result.text(), want)
		}
	}
	if result.IsError {
		return fmt.Errorf("%s answers the error %q", tool, result.text())
	}
	return nil
}

func callTool(ctx context.Context, p peer, name string, arguments, meta object) (*toolResult, error) {
	params := object{"name": name, "arguments": object{}}
	if arguments != nil {
		params["arguments"] = arguments
	}
	if meta != nil {
		params["_meta"] = meta
	}
	raw, err := p.request(ctx, "tools/call", params)
	if err != nil {
		return nil, err
	}
	result := new(toolResult)
	return result, json.Unmarshal(raw, result)
}

// listAll returns the elements of a list, of all pages, as the SDK hands them out.
func listAll(ctx context.Context, p peer, method, member string) ([]object, error) {
	var elements []object
	params := object{}
	for {
		raw, err := p.request(ctx, method, params)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		var page map[string]json.RawMessage
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, err
		}
		var some []object
		if err := json.Unmarshal(page[member], &some); err != nil {
			return nil, fmt.Errorf("%s: %w in %s", method, err, raw)
		}
		elements = append(elements, some...)
		var next string
		if page["nextCursor"] != nil {
			if err := json.Unmarshal(page["nextCursor"], &next); err != nil {
				return nil, err
			}
		}
		if next == "" {
			return elements, nil
		}
		params = object{"cursor": next}
	}
}

// element returns the element of one of the target's lists that a client sees
// under a name; nil when there is none.
func (c *cell) element(ctx context.Context, method, name string) (object, error) {
	for _, list := range listMethods {
		if list.method != method {
			continue
		}
		elements, err := listAll(ctx, c.peer, method, list.member)
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			if e[list.id] == name {
				return e, nil
			}
		}
	}
	return nil, nil
}

// A message is a JSON-RPC message off the wire.
type wireMessage struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *refusal        `json:"error"`
}

// wireMessages returns the messages of an HTTP body, which is one or a stream of them.
func wireMessages(body string) ([]wireMessage, error) {
	var messages []wireMessage
	add := func(raw string) error {
		var m wireMessage
		if err := json.Unmarshal([]byte(raw), &m); err != nil {
			return fmt.Errorf("%w in %q", err, raw)
		}
		messages = append(messages, m)
		return nil
	}
	if strings.HasPrefix(body, "{") {
		return messages, add(body)
	}
	for line := range strings.Lines(body) {
		// The last line of a stream that is still open can be incomplete.
		data, ok := strings.CutPrefix(line, "data:")
		if !ok || strings.TrimSpace(data) == "" || !strings.HasSuffix(line, "\n") {
			continue
		}
		if err := add(strings.TrimSpace(data)); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// wireCapabilities returns the capabilities of the server that a peer talks to, byte for byte.
func wireCapabilities(p peer) (json.RawMessage, error) {
	for _, method := range []string{"initialize", "server/discover"} {
		for _, body := range p.inbox().bodies(method) {
			messages, err := wireMessages(body)
			if err != nil {
				return nil, err
			}
			for _, m := range messages {
				var result struct{ Capabilities json.RawMessage }
				if m.Result != nil && json.Unmarshal(m.Result, &result) == nil && result.Capabilities != nil {
					return result.Capabilities, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("no capabilities came over the wire")
}

// wireElements returns the elements of all pages of a list that came over the
// wire so far, byte for byte; later ones come last.
func wireElements(in *inbox, method, member string) ([]json.RawMessage, error) {
	var elements []json.RawMessage
	for _, body := range in.bodies(method) {
		messages, err := wireMessages(body)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			var page map[string]json.RawMessage
			if m.Result == nil || json.Unmarshal(m.Result, &page) != nil {
				continue
			}
			var some []json.RawMessage
			if err := json.Unmarshal(page[member], &some); err != nil {
				return nil, err
			}
			elements = append(elements, some...)
		}
	}
	return elements, nil
}

// eventually waits until condition returns nil, and returns its last error when ctx ends before.
func (c *cell) eventually(ctx context.Context, what string, condition func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("never: %s: %w", what, err)
		}
	}
}

// A plainClient speaks MCP over HTTP without an SDK, for what SDKs lack.
type plainClient struct {
	url, revision, capabilities string
	session                     string // of the legacy eras
}

// plain returns a plainClient of the cell's revision, with a session if that has any.
func (c *cell) plain(ctx context.Context, capabilities string) (*plainClient, error) {
	p := &plainClient{url: c.url, revision: c.client.revision, capabilities: capabilities}
	if c.client.modern() {
		return p, nil
	}
	_, _, err := p.post(ctx, "initialize", "", object{
		"protocolVersion": p.revision, "capabilities": json.RawMessage(capabilities), "clientInfo": object{"name": "plain", "version": "1"},
	})
	return p, err
}

// post sends a request and returns the HTTP status and the response.
func (p *plainClient) post(ctx context.Context, method, name string, params object) (status int, m wireMessage, err error) {
	modern := p.revision == "2026-07-28"
	if modern {
		params["_meta"] = object{
			"io.modelcontextprotocol/protocolVersion":    p.revision,
			"io.modelcontextprotocol/clientCapabilities": json.RawMessage(p.capabilities),
		}
	}
	body, err := json.Marshal(object{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return 0, m, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return 0, m, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if method != "initialize" {
		r.Header.Set("Mcp-Protocol-Version", p.revision)
	}
	switch {
	case modern:
		r.Header.Set("Mcp-Method", method)
		if name != "" {
			r.Header.Set("Mcp-Name", name)
		}
	case p.session != "":
		r.Header.Set("Mcp-Session-Id", p.session)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, m, err
	}
	defer response.Body.Close()
	if id := response.Header.Get("Mcp-Session-Id"); id != "" {
		p.session = id
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		return 0, m, err
	}
	messages, err := wireMessages(text.String())
	if err != nil {
		return 0, m, err
	}
	if len(messages) == 0 {
		return response.StatusCode, m, fmt.Errorf("%s is answered with %d and no message", method, response.StatusCode)
	}
	return response.StatusCode, messages[len(messages)-1], nil
}

// result sends a request and returns its result.
func (p *plainClient) result(ctx context.Context, method, name string, params object) (json.RawMessage, error) {
	_, m, err := p.post(ctx, method, name, params)
	switch {
	case err != nil:
		return nil, err
	case m.Error != nil:
		return nil, fmt.Errorf("%s: %w", method, m.Error)
	default:
		return m.Result, nil
	}
}
