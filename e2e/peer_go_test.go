package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A goPeer is a peer on go-sdk.
type goPeer struct {
	*mcp.ClientSession
	in        *inbox
	client    *mcp.Client
	name      string
	transport *http.Transport
}

// dialGo connects a peer on go-sdk at a revision. With bare it can be asked nothing.
func dialGo(ctx context.Context, name, revision, url string, bare bool) (*goPeer, error) {
	p := &goPeer{in: newInbox(), name: name, transport: &http.Transport{}}
	options := &mcp.ClientOptions{
		Capabilities:                &mcp.ClientCapabilities{},
		ToolListChangedHandler:      hearing[*mcp.ToolListChangedParams](p.in, "notifications/tools/list_changed"),
		PromptListChangedHandler:    hearing[*mcp.PromptListChangedParams](p.in, "notifications/prompts/list_changed"),
		ResourceListChangedHandler:  hearing[*mcp.ResourceListChangedParams](p.in, "notifications/resources/list_changed"),
		ResourceUpdatedHandler:      hearing[*mcp.ResourceUpdatedNotificationParams](p.in, "notifications/resources/updated"),
		LoggingMessageHandler:       hearing[*mcp.LoggingMessageParams](p.in, "notifications/message"),
		ProgressNotificationHandler: hearing[*mcp.ProgressNotificationParams](p.in, "notifications/progress"),
	}
	if !bare {
		capabilities := options.Capabilities
		if err := json.Unmarshal([]byte(peerCapabilities), capabilities); err != nil {
			return nil, err
		}
		capabilities.RootsV2 = &mcp.RootCapabilities{ListChanged: true}
		options.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			p.in.add("elicitation/create", r.Params)
			if r.Params.Mode == "url" {
				return &mcp.ElicitResult{Action: "accept"}, nil
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		}
		options.CreateMessageWithToolsHandler = func(_ context.Context, r *mcp.CreateMessageWithToolsRequest) (*mcp.CreateMessageWithToolsResult, error) {
			p.in.add("sampling/createMessage", r.Params)
			text, ok := r.Params.Messages[0].Content[0].(*mcp.TextContent)
			if !ok {
				return nil, errors.New("asked for something that is no text")
			}
			result := &mcp.CreateMessageWithToolsResult{Model: "m", Role: "assistant"}
			if len(r.Params.Tools) == 0 {
				result.Content = []mcp.Content{&mcp.TextContent{Text: "sampled: " + text.Text}}
			} else {
				result.StopReason = "toolUse"
				result.Content = []mcp.Content{&mcp.ToolUseContent{ID: "u1", Name: r.Params.Tools[0].Name, Input: map[string]any{"of": text.Text}}}
			}
			return result, nil
		}
	}
	p.client = mcp.NewClient(&mcp.Implementation{Name: name, Version: "1"}, options)
	if !bare {
		p.client.AddRoots(&mcp.Root{URI: "file:///" + name, Name: name})
	}
	for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel", "com.example/none"} {
		if err := mcp.AddSendingCustomMethod[*anyParams, *anyResult](p.client, method); err != nil {
			return nil, err
		}
	}
	var err error
	p.ClientSession, err = p.client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: recorder{p.transport, p.in}},
		MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		p.transport.CloseIdleConnections()
		return nil, fmt.Errorf("connecting go-sdk at %s: %w", revision, err)
	}
	return p, nil
}

// hearing returns a handler that notes notifications.
func hearing[P mcp.Params](in *inbox, method string) func(context.Context, *mcp.ClientRequest[P]) {
	return func(_ context.Context, r *mcp.ClientRequest[P]) { in.add(method, r.Params) }
}

func (p *goPeer) inbox() *inbox { return p.in }

func (p *goPeer) server() greeting {
	r := p.InitializeResult()
	capabilities, err := json.Marshal(r.Capabilities)
	if err != nil {
		panic(err)
	}
	return greeting{ProtocolVersion: r.ProtocolVersion, Capabilities: capabilities, Instructions: r.Instructions}
}

func (p *goPeer) close() {
	_ = p.Close()
	p.transport.CloseIdleConnections()
}

func (p *goPeer) rootsChanged(context.Context) error {
	p.client.AddRoots(&mcp.Root{URI: "file:///" + p.name + "/more", Name: "more"})
	return nil
}

func (p *goPeer) request(ctx context.Context, method string, params map[string]any) (json.RawMessage, error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	switch method {
	case "tools/list":
		return send(ctx, raw, p.ListTools)
	case "tools/call":
		return send(ctx, raw, p.CallTool)
	case "prompts/list":
		return send(ctx, raw, p.ListPrompts)
	case "prompts/get":
		return send(ctx, raw, p.GetPrompt)
	case "resources/list":
		return send(ctx, raw, p.ListResources)
	case "resources/templates/list":
		return send(ctx, raw, p.ListResourceTemplates)
	case "resources/read":
		return send(ctx, raw, p.ReadResource)
	case "completion/complete":
		return send(ctx, raw, p.Complete)
	case "ping":
		return send(ctx, raw, empty(p.Ping))
	case "logging/setLevel":
		return send(ctx, raw, empty(p.SetLoggingLevel))
	case "resources/subscribe":
		return send(ctx, raw, empty(p.Subscribe))
	case "resources/unsubscribe":
		return send(ctx, raw, empty(p.Unsubscribe))
	}
	return send(ctx, raw, func(ctx context.Context, params *anyParams) (*anyResult, error) {
		return mcp.CallCustomMethod[*anyParams, *anyResult](ctx, p.ClientSession, method, params)
	})
}

// send calls a method of the SDK with params and results as JSON.
func send[P, R any](ctx context.Context, params json.RawMessage, call func(context.Context, *P) (R, error)) (json.RawMessage, error) {
	p := new(P)
	if err := json.Unmarshal(params, p); err != nil {
		return nil, err
	}
	result, err := call(ctx, p)
	if err != nil {
		var wire *jsonrpc.Error
		if errors.As(err, &wire) {
			return nil, &refusal{Code: wire.Code, Message: wire.Message, Data: wire.Data}
		}
		return nil, err
	}
	return json.Marshal(result)
}

// empty gives a method without a result one.
func empty[P any](call func(context.Context, *P) error) func(context.Context, *P) (struct{}, error) {
	return func(ctx context.Context, p *P) (struct{}, error) { return struct{}{}, call(ctx, p) }
}

// anyParams and anyResult are those of a method that the SDK does not know.
type anyParams struct {
	mcp.ParamsBase
	members map[string]any
}

func (p *anyParams) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &p.members) }

func (p *anyParams) MarshalJSON() ([]byte, error) {
	members := map[string]any{}
	for k, v := range p.members {
		members[k] = v
	}
	if len(p.Meta) > 0 {
		members["_meta"] = p.Meta
	}
	return json.Marshal(members)
}

type anyResult struct {
	mcp.ResultBase
	raw json.RawMessage
}

func (r *anyResult) UnmarshalJSON(data []byte) error {
	r.raw = bytes.Clone(data)
	return nil
}

func (r *anyResult) MarshalJSON() ([]byte, error) { return r.raw, nil }

// A recorder keeps what comes back over HTTP in an inbox.
type recorder struct {
	next http.RoundTripper
	in   *inbox
}

func (r recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	kind := request.Method
	if request.Method == http.MethodPost {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		_ = request.Body.Close()
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		kind = methodOf(body)
	}
	e := r.in.begin(kind)
	response, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = recordedBody{response.Body, r.in, e}
	return response, nil
}

// methodOf returns the method of a JSON-RPC message, "response" when it has none.
func methodOf(message []byte) string {
	var m struct{ Method string }
	if json.Unmarshal(message, &m) != nil || m.Method == "" {
		return "response"
	}
	return m.Method
}

type recordedBody struct {
	io.ReadCloser
	in *inbox
	e  *exchange
}

func (b recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.in.update(func() { b.e.body.Write(p[:n]) })
	return n, err
}
