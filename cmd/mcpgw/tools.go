package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/app"
)

// A connection says which MCP endpoint a command talks to.
type connection struct {
	url     string
	headers []string
	timeout time.Duration
	inline  app.InlineOptions
}

func newTools(g *globals) *cobra.Command {
	conn := new(connection)
	cmd := &cobra.Command{
		Use:   "tools",
		Short: "List and call tools as an MCP client",
		Long: `List and call the tools of an MCP endpoint: that of a running gateway, or with -f that of a
configuration, which is then served in this process on a free port.`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&conn.url, "url", app.DefaultURL, "MCP endpoint")
	f.StringArrayVarP(&conn.inline.Paths, "filename", "f", nil, "serve this file or directory in place of --url; can be given several times")
	f.StringVar(&conn.inline.Backend, "backend", "", "the Backend to use of those in -f")
	f.StringArrayVar(&conn.headers, "header", nil, "header to send, as \"Name: value\"; the variable MCPGW_TOKEN is sent as a bearer token")
	f.DurationVar(&conn.timeout, "timeout", time.Minute, "how long it may take")
	cmd.AddCommand(newToolsLs(g, conn), newToolsCall(g, conn))
	return cmd
}

func newToolsLs(g *globals, conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the tools that we may call",
		Example: "  mcpgw tools ls\n  mcpgw tools ls -f gateway.yaml -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := g.format()
			if err != nil {
				return err
			}
			return conn.use(cmd, func(ctx context.Context, client *app.Client) error {
				tools, err := client.Tools(ctx)
				if err != nil {
					return err
				}
				return app.PrintTools(cmd.OutOrStdout(), format, tools)
			})
		},
	}
}

func newToolsCall(g *globals, conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "call NAME [ARGUMENT=VALUE...]",
		Short: "Call a tool",
		Long: `Call a tool. Values become what the tool's schema says: a=1 is a number where it wants one.
NAME:=VALUE is JSON whatever the schema says. Progress is written to stderr.`,
		Example: "  mcpgw tools call demo_add a=1 b=2\n  mcpgw tools call files_search 'paths:=[\"a\",\"b\"]'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := g.format()
			if err != nil {
				return err
			}
			return conn.use(cmd, func(ctx context.Context, client *app.Client) error {
				tools, err := client.Tools(ctx)
				if err != nil {
					return err
				}
				tool, err := app.FindTool(tools, args[0])
				if err != nil {
					return err
				}
				arguments, err := app.Arguments(tool, args[1:])
				if err != nil {
					return err
				}
				result, err := client.Call(ctx, tool.Name, arguments)
				if err != nil {
					return err
				}
				return app.PrintResult(cmd.OutOrStdout(), format, result)
			})
		},
	}
}

// use connects to the endpoint and calls do.
func (c *connection) use(cmd *cobra.Command, do func(context.Context, *app.Client) error) error {
	header, err := c.header()
	if err != nil {
		return app.Usage(cmd.CommandPath(), err)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	with := func(ctx context.Context, url string) error {
		client, err := app.Connect(ctx, app.ClientOptions{URL: url, Header: header, Version: version, Progress: cmd.ErrOrStderr()})
		if err != nil {
			return err
		}
		defer client.Close()
		return do(ctx, client)
	}
	if len(c.inline.Paths) == 0 {
		return with(ctx, c.url)
	}
	if cmd.Flags().Changed("url") {
		return app.Usage(cmd.CommandPath(), errors.New("give either --url or -f, not both"))
	}
	c.inline.Version, c.inline.Report, c.inline.Color = version, cmd.ErrOrStderr(), color()
	return app.Inline(ctx, c.inline, with)
}

// header returns what to send beside what the protocol needs.
func (c *connection) header() (http.Header, error) {
	header := http.Header{}
	if token := os.Getenv("MCPGW_TOKEN"); token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	for i, line := range c.headers {
		name, value, found := strings.Cut(line, ":")
		if !found || strings.TrimSpace(name) == "" {
			// Not the line itself: it may hold a credential.
			return nil, fmt.Errorf("--header %d is not of the form \"Name: value\"", i+1)
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return header, nil
}
