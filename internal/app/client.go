package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/config"
)

// maxTools bounds how many tools the client lists.
const maxTools = 20_000

// A Client is the command line's own MCP client. It is not safe for concurrent
// use.
type Client struct {
	session *mcp.ClientSession
	denied  *atomic.Bool
}

// ClientOptions say how to connect.
type ClientOptions struct {
	// URL is the MCP endpoint.
	URL string
	// Header is sent with every request; it may hold a credential.
	Header http.Header
	// Version is this program's, for clientInfo.
	Version string
	// Progress gets a line for each progress notification; nil discards them.
	Progress io.Writer
}

// A headerTransport sends headers, and notes when the server refuses.
type headerTransport struct {
	header http.Header
	denied *atomic.Bool
}

func (t *headerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range t.header {
		r.Header[name] = values
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden) {
		t.denied.Store(true)
	}
	return response, err
}

// Connect opens a session with an MCP endpoint. The error has ExitDenied when the
// endpoint refuses us and ExitUnreachable when it does not answer as one.
func Connect(ctx context.Context, opts ClientOptions) (*Client, error) {
	denied := new(atomic.Bool)
	client := mcp.NewClient(&mcp.Implementation{Name: "mcpgw-cli", Version: opts.Version}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, n *mcp.ProgressNotificationClientRequest) {
			if opts.Progress != nil {
				fmt.Fprintln(opts.Progress, progressLine(n.Params))
			}
		},
	})
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             opts.URL,
		HTTPClient:           &http.Client{Transport: &headerTransport{header: opts.Header, denied: denied}},
		DisableStandaloneSSE: true,
		MaxRetries:           -1,
	}, nil)
	switch {
	case err == nil:
		return &Client{session: session, denied: denied}, nil
	case denied.Load():
		return nil, exit(ExitDenied, fmt.Errorf("%s refuses the connection: send a credential with --header or MCPGW_TOKEN (%w)", opts.URL, err))
	default:
		return nil, exit(ExitUnreachable, fmt.Errorf("no MCP server answers at %s: is the gateway running, and is the path right? (%w)", opts.URL, err))
	}
}

func progressLine(p *mcp.ProgressNotificationParams) string {
	line := fmt.Sprintf("progress %g", p.Progress)
	if p.Total > 0 {
		line += fmt.Sprintf("/%g", p.Total)
	}
	if p.Message != "" {
		line += " " + oneLine(p.Message)
	}
	return line
}

// Close ends the session.
func (c *Client) Close() error { return c.session.Close() }

// Tools returns all tools that the endpoint lists, sorted by name.
func (c *Client) Tools(ctx context.Context) ([]*mcp.Tool, error) {
	var tools []*mcp.Tool
	for tool, err := range c.session.Tools(ctx, nil) {
		if err != nil {
			return nil, c.failed("listing tools", err)
		}
		if len(tools) == maxTools {
			return nil, fmt.Errorf("the server lists more than %d tools", maxTools)
		}
		tools = append(tools, tool)
	}
	slices.SortFunc(tools, func(a, b *mcp.Tool) int { return strings.Compare(a.Name, b.Name) })
	return tools, nil
}

// Call calls a tool with arguments as [Arguments] made them. The error has
// ExitDenied when there is no such tool for us. A result that is an error of the
// tool is a result.
func (c *Client) Call(ctx context.Context, name string, arguments map[string]any) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Name: name, Arguments: arguments}
	params.SetProgressToken("mcpgw")
	result, err := c.session.CallTool(ctx, params)
	if err != nil {
		return nil, c.failed("calling "+name, err)
	}
	return result, nil
}

// failed gives the error of a request its exit code.
func (c *Client) failed(doing string, err error) error {
	var rpc *jsonrpc.Error
	switch {
	case c.denied.Load():
		return exit(ExitDenied, fmt.Errorf("%s: the server refuses: %w", doing, err))
	case errors.As(err, &rpc) && rpc.Code == jsonrpc.CodeInvalidParams && strings.HasPrefix(rpc.Message, "Unknown tool"):
		return exit(ExitDenied, errors.New(rpc.Message))
	case errors.As(err, &rpc):
		return fmt.Errorf("%s: %s (JSON-RPC error %d)", doing, printable(rpc.Message), rpc.Code)
	default:
		return exit(ExitUnreachable, fmt.Errorf("%s: %w", doing, err))
	}
}

// FindTool returns the tool of that name, or an error with ExitDenied that names
// the closest ones.
func FindTool(tools []*mcp.Tool, name string) (*mcp.Tool, error) {
	names := make([]string, len(tools))
	for i, tool := range tools {
		if tool.Name == name {
			return tool, nil
		}
		names[i] = tool.Name
	}
	message := "Unknown tool: " + name
	if near := config.Suggest(name, names); near != "" {
		message += ". Did you mean " + near + "?"
	} else {
		message += ". See `mcpgw tools ls`"
	}
	return nil, exit(ExitDenied, errors.New(message))
}

// Arguments parses the words NAME=VALUE of a command line by the tool's input
// schema: a value becomes what the property's type says, and stays text where the
// schema says string or nothing that fits. NAME:=VALUE is JSON whatever the
// schema says. Errors have ExitUsage.
func Arguments(tool *mcp.Tool, words []string) (map[string]any, error) {
	properties := schemaProperties(tool.InputSchema)
	arguments := map[string]any{}
	for _, word := range words {
		name, value, found := strings.Cut(word, "=")
		if !found || name == "" || name == ":" {
			return nil, exit(ExitUsage, fmt.Errorf("%q is no argument: write name=value, or name:=JSON", word))
		}
		bare, forced := strings.CutSuffix(name, ":")
		if forced {
			name = bare
		}
		if _, twice := arguments[name]; twice {
			return nil, exit(ExitUsage, fmt.Errorf("argument %s is given twice", name))
		}
		types, known := properties[name]
		if !known && len(properties) > 0 {
			if near := config.Suggest(name, slices.Collect(maps.Keys(properties))); near != "" {
				return nil, exit(ExitUsage, fmt.Errorf("%s has no argument %s. Did you mean %s?", tool.Name, name, near))
			}
		}
		if forced {
			types = nil
		}
		parsed, err := argumentValue(value, types, forced)
		if err != nil {
			return nil, exit(ExitUsage, fmt.Errorf("argument %s: %w", name, err))
		}
		arguments[name] = parsed
	}
	return arguments, nil
}

// argumentValue returns value as one of types, the names of JSON schema; without
// types it is JSON where it parses, or must be when forced, else text.
func argumentValue(value string, types []string, forced bool) (any, error) {
	if len(types) == 0 {
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			if forced {
				return nil, fmt.Errorf("%q is not JSON", value)
			}
			return value, nil
		}
		return v, nil
	}
	for _, name := range types {
		if name == "string" {
			continue // the last resort
		}
		var v any
		if err := json.Unmarshal([]byte(value), &v); err == nil && jsonType(v, name) {
			return v, nil
		}
	}
	if slices.Contains(types, "string") {
		return value, nil
	}
	return nil, fmt.Errorf("%q is not of type %s", value, strings.Join(types, " or "))
}

// jsonType reports whether v is of a JSON schema type.
func jsonType(v any, name string) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	case map[string]any:
		return name == "object"
	case []any:
		return name == "array"
	default:
		return false
	}
}

// schemaProperties returns the types of an input schema's properties, nil where
// the schema does not say.
func schemaProperties(schema any) map[string][]string {
	object, _ := schema.(map[string]any)
	properties, _ := object["properties"].(map[string]any)
	types := make(map[string][]string, len(properties))
	for name, property := range properties {
		types[name] = nil
		p, _ := property.(map[string]any)
		switch t := p["type"].(type) {
		case string:
			types[name] = []string{t}
		case []any:
			for _, one := range t {
				if s, ok := one.(string); ok {
					types[name] = append(types[name], s)
				}
			}
		}
	}
	return types
}

// PrintTools writes a list of tools.
func PrintTools(w io.Writer, f Format, tools []*mcp.Tool) error {
	if tools == nil {
		tools = []*mcp.Tool{}
	}
	return Print(w, f, tools, func(w io.Writer) error {
		rows := make([][]string, len(tools))
		for i, tool := range tools {
			rows[i] = []string{tool.Name, argumentNames(tool), tool.Description}
		}
		return columns(w, []string{"NAME", "ARGUMENTS", "DESCRIPTION"}, rows)
	})
}

// argumentNames returns the arguments of a tool, optional ones in brackets.
func argumentNames(tool *mcp.Tool) string {
	object, _ := tool.InputSchema.(map[string]any)
	required, _ := object["required"].([]any)
	var must, may []string
	for _, name := range slices.Sorted(maps.Keys(schemaProperties(tool.InputSchema))) {
		if slices.Contains(required, any(name)) {
			must = append(must, name)
		} else {
			may = append(may, "["+name+"]")
		}
	}
	return strings.Join(append(must, may...), " ")
}

// PrintResult writes the result of a call. It returns an error with ExitFailure
// when the tool reported one, after printing it.
func PrintResult(w io.Writer, f Format, result *mcp.CallToolResult) error {
	err := Print(w, f, result, func(w io.Writer) error {
		for _, content := range result.Content {
			if _, err := fmt.Fprintln(w, contentLine(content)); err != nil {
				return err
			}
		}
		if len(result.Content) == 0 && result.StructuredContent != nil {
			return Print(w, JSON, result.StructuredContent, nil)
		}
		return nil
	})
	if err == nil && result.IsError {
		return exit(ExitFailure, errors.New("the tool reported an error"))
	}
	return err
}

// contentLine returns what a person can read of a content block.
func contentLine(content mcp.Content) string {
	switch c := content.(type) {
	case *mcp.TextContent:
		return printable(c.Text)
	case *mcp.ImageContent:
		return fmt.Sprintf("[image %s, %d bytes]", oneLine(c.MIMEType), len(c.Data))
	case *mcp.AudioContent:
		return fmt.Sprintf("[audio %s, %d bytes]", oneLine(c.MIMEType), len(c.Data))
	case *mcp.ResourceLink:
		return "[link " + oneLine(c.URI) + "]"
	case *mcp.EmbeddedResource:
		if c.Resource.Text != "" {
			return printable(c.Resource.Text)
		}
		return fmt.Sprintf("[resource %s, %d bytes]", oneLine(c.Resource.URI), len(c.Resource.Blob))
	default:
		return fmt.Sprintf("[%T: see it with -o json]", content)
	}
}
