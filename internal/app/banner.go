package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// bannerPatience is how long the banner waits for the tools of an endpoint.
const bannerPatience = 3 * time.Second

// banner prints what there is to see and what to do next.
func (in *instance) banner(ctx context.Context, opts ServeOptions, note string, endpoints []endpoint) error {
	var b strings.Builder
	fmt.Fprintf(&b, "mcpgw %s", opts.Version)
	if note != "" {
		fmt.Fprintf(&b, "   (%s)", note)
	}
	b.WriteByte('\n')
	row := func(label, text, more string) {
		fmt.Fprintf(&b, "  %-8s %s\n", label, strings.TrimRight(fmt.Sprintf("%-36s %s", text, more), " "))
	}
	first := ""
	try := "curl " + in.firstURL(endpoints)
	shown := map[string]bool{}
	for _, e := range endpoints {
		if shown[e.backend] {
			continue // the shortest path will do
		}
		shown[e.backend] = true
		switch {
		case e.mcp:
			tools := in.countTools(ctx, e, opts.Version)
			row("MCP", e.url, fmt.Sprintf("%s, %s", count(e.targets, "target"), count(tools, "tool")))
			if first != "" {
				continue
			}
			first = e.url
			try = "mcpgw tools ls" + urlFlag(e.url)
			if opts.Demo && len(opts.Paths) == 0 && opts.MCPConfig == "" {
				try = "mcpgw tools call demo_add a=1 b=2" + urlFlag(e.url)
			}
		case e.backend == "default/mock-llm":
			row("LLM", e.url, "1 model (mock: echoes, streams, counts tokens)")
		default:
			row("HTTP", e.url, e.backend)
		}
	}
	row("Try", try, "")
	if first != "" {
		row("Add to", "claude mcp add --transport http mcpgw "+first, "")
	}
	row("Next", "mcpgw serve -f FILE", "(see examples/ and `mcpgw explain Backend`)")
	_, err := io.WriteString(opts.Banner, b.String())
	return err
}

func (in *instance) firstURL(endpoints []endpoint) string {
	if len(endpoints) > 0 {
		return endpoints[0].url
	}
	return "http://" + in.ports.hostPort(assumedPort)
}

// urlFlag returns the flag that names an endpoint, "" for the default one.
func urlFlag(url string) string {
	if url == DefaultURL {
		return ""
	}
	return " --url " + url
}

// countTools lists the tools of an endpoint as a client would.
func (in *instance) countTools(ctx context.Context, e endpoint, version string) int {
	ctx, cancel := context.WithTimeout(ctx, bannerPatience)
	defer cancel()
	client, err := Connect(ctx, ClientOptions{URL: e.url, Version: version})
	if err != nil {
		in.logger.Warn("an endpoint does not answer", slog.String("url", e.url), slog.Any("error", err))
		return 0
	}
	defer client.Close()
	tools, err := client.Tools(ctx)
	if err != nil {
		in.logger.Warn("an endpoint does not list its tools", slog.String("url", e.url), slog.Any("error", err))
	}
	return len(tools)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
