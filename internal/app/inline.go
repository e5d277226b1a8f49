package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/mcpgw/mcpgw/config"
)

// DefaultURL is the MCP endpoint of `mcpgw run`.
const DefaultURL = "http://127.0.0.1:8080/mcp"

// InlineOptions configure [Inline].
type InlineOptions struct {
	// Paths are files and directories of resources.
	Paths []string
	// Backend is the name of the MCP Backend to use, or namespace/name; may be
	// empty where there is only one.
	Backend string
	// Version is this program's.
	Version string
	// Report gets the problems of the configuration, in colour if Color.
	Report io.Writer
	Color  bool
}

// Inline serves resources in this process, on free ports of loopback, while use
// runs with the URL of an MCP endpoint.
func Inline(ctx context.Context, opts InlineOptions, use func(ctx context.Context, url string) error) error {
	in, err := newInstance(instanceOptions{
		logger:  slog.New(slog.DiscardHandler),
		version: opts.Version,
		ports:   &ports{free: true},
		report:  opts.Report,
		color:   opts.Color,
		quiet:   true,
	})
	if err != nil {
		return err
	}
	res, report := config.Load(opts.Paths)
	return in.run(ctx, &loadedSource{res: res, report: report, tell: in.tell}, func(ctx context.Context) error {
		url, err := mcpURL(in.endpoints(), opts.Backend)
		if err != nil {
			return err
		}
		return use(ctx, url)
	})
}

// A loadedSource delivers resources that were loaded before.
type loadedSource struct {
	res    *config.Resources
	report *config.Report
	tell   reporter
}

// Run implements [config.Source].
func (s *loadedSource) Run(ctx context.Context, apply func(*config.Resources) *config.Report) error {
	deliver(s.res, s.report, apply, s.tell)
	<-ctx.Done()
	return nil
}

// mcpURL returns the MCP endpoint of a backend, or of the only one.
func mcpURL(endpoints []endpoint, backend string) (string, error) {
	urls := map[string]string{}
	var names []string
	for _, e := range endpoints {
		if !e.mcp || strings.HasPrefix(e.url, "https://") {
			continue
		}
		name := strings.TrimPrefix(e.backend, "default/")
		if backend != "" && backend != name && backend != e.backend {
			continue
		}
		if urls[name] == "" {
			names = append(names, name)
			urls[name] = e.url
		}
	}
	switch {
	case len(names) == 1:
		return urls[names[0]], nil
	case len(names) > 1:
		return "", exit(ExitUsage, fmt.Errorf("there are several MCP Backends: choose one with --backend (%s)", strings.Join(names, ", ")))
	case backend != "":
		return "", exit(ExitUsage, fmt.Errorf("no MCP Backend %s is served over HTTP", backend))
	default:
		return "", exit(ExitUsage, errors.New("the configuration serves no MCP Backend over HTTP"))
	}
}
