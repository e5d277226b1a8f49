package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// A peer is a client that was made with an SDK and connected, and does what a
// test says: what is asked of it goes through the SDK, and so does what it hears.
// The SDKs of other languages are reached through a process. A peer is safe for
// concurrent use.
type peer interface {
	// request sends a request in the SDK's way and returns the result as the SDK
	// does, or a *refusal. When params._meta has a progressToken, progress is heard.
	// Ending ctx cancels the request in the SDK's way.
	request(ctx context.Context, method string, params map[string]any) (json.RawMessage, error)
	// rootsChanged tells the server that the roots changed.
	rootsChanged(ctx context.Context) error
	// server returns what the server said of itself when the peer connected.
	server() greeting
	inbox() *inbox
	close()
}

// A greeting is what a server says of itself.
type greeting struct {
	ProtocolVersion string          `json:"protocolVersion"`
	Capabilities    json.RawMessage `json:"capabilities"`
	Instructions    string          `json:"instructions"`
}

// A refusal is a JSON-RPC error.
type refusal struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.Code, r.Message) }

// refusedWith reports whether err is a JSON-RPC error of that code.
func refusedWith(err error, code int64) bool {
	var r *refusal
	return errors.As(err, &r) && r.Code == code
}

// peerCapabilities are what a peer can do that can do everything.
const peerCapabilities = `{
	"roots": {"listChanged": true},
	"sampling": {"tools": {}},
	"elicitation": {"form": {}, "url": {}},
	"extensions": {"com.example/matrix": {"level": 3}, "io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}
}`

// A heard is a notification or a request that a peer got from its server.
type heard struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// An exchange is one HTTP request of a peer and what came back.
type exchange struct {
	request string // the method of the message sent, or GET
	body    bytes.Buffer
}

// An inbox keeps what a peer hears. It is safe for concurrent use.
type inbox struct {
	mu        sync.Mutex
	messages  []heard
	exchanges []*exchange
	changed   chan struct{}
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{})} }

// update changes the inbox and wakes who waits for it.
func (b *inbox) update(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *inbox) add(method string, params any) {
	raw, err := json.Marshal(params)
	if err != nil {
		panic(err) // it came from JSON
	}
	b.update(func() { b.messages = append(b.messages, heard{method, raw}) })
}

// begin notes an HTTP request; what comes back is written to the exchange in update.
func (b *inbox) begin(request string) *exchange {
	e := &exchange{request: request}
	b.update(func() { b.exchanges = append(b.exchanges, e) })
	return e
}

// now returns how many messages were heard so far.
func (b *inbox) now() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages)
}

// since returns the messages of a method that were heard after a [inbox.now].
func (b *inbox) since(mark int, method string) []heard {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []heard
	for _, m := range b.messages[mark:] {
		if m.Method == method {
			found = append(found, m)
		}
	}
	return found
}

// hears waits until a message of a method that contains all of some texts was
// heard after mark.
func (b *inbox) hears(ctx context.Context, mark int, method string, texts ...string) error {
	return b.wait(ctx, method+" "+strings.Join(texts, " "), func() bool {
	messages:
		for _, m := range b.messages[mark:] {
			if m.Method != method {
				continue
			}
			for _, text := range texts {
				if !bytes.Contains(m.Params, []byte(text)) {
					continue messages
				}
			}
			return true
		}
		return false
	})
}

// receives waits until the bytes of an HTTP response contain text.
func (b *inbox) receives(ctx context.Context, text string) error {
	return b.wait(ctx, "bytes "+text, func() bool {
		for _, e := range b.exchanges {
			if bytes.Contains(e.body.Bytes(), []byte(text)) {
				return true
			}
		}
		return false
	})
}

// bodies returns the responses to a kind of request so far.
func (b *inbox) bodies(request string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for _, e := range b.exchanges {
		if e.request == request {
			found = append(found, e.body.String())
		}
	}
	return found
}

func (b *inbox) wait(ctx context.Context, what string, ok func() bool) error {
	for {
		b.mu.Lock()
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the client did not hear %s: %w", what, context.Cause(ctx))
		}
	}
}
