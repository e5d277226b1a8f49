package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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
	first, ask := "", ""
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
		case e.llm:
			models := in.listModels(ctx, e)
			about := count(len(models), "model")
			if e.backend == "default/mock-llm" {
				about += " (mock: echoes, streams, counts tokens)"
			}
			row("LLM", e.url, about)
			ask = askLine(e, models)
		default:
			row("HTTP", e.url, e.backend)
		}
	}
	row("Try", try, "")
	if ask != "" {
		row("Ask", ask, "")
	}
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

// listModels lists the models of an endpoint as a client would; none when it is not for
// anybody.
func (in *instance) listModels(ctx context.Context, e endpoint) (ids []string) {
	ctx, cancel := context.WithTimeout(ctx, bannerPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.llmURL("models"), nil)
	if err != nil {
		return nil
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		in.logger.Warn("an endpoint does not list its models", slog.String("url", e.url), slog.Any("error", err))
		return nil
	}
	defer resp.Body.Close()
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxImport)).Decode(&list); err != nil {
		return nil // it answers an error
	}
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids
}

// llmURL returns the URL of an operation of OpenAI's API.
func (e *endpoint) llmURL(operation string) string {
	if strings.HasSuffix(e.path, "/v1") {
		return e.url + "/" + operation
	}
	return strings.TrimSuffix(e.url, "/") + "/v1/" + operation
}

// askLine returns a command that asks a model, a small one where there are such.
func askLine(e endpoint, models []string) string {
	chosen, best := "", -1
	for _, m := range models {
		score := 0
		for i, part := range []string{"gpt", "claude", "gemini", "flash", "haiku", "mini", "nano"} {
			if strings.Contains(m, part) {
				score += 1 << i
			}
		}
		for _, part := range []string{
			"embed", "image", "audio", "tts", "whisper", "dall-e", "moderation", "realtime", "transcribe", "search", "codex", "live", "instruct",
			"ft:", "/", "veo", "sora", "babbage", "davinci", "-2024-", "-2025-", "-2026-", "preview",
		} {
			if strings.Contains(m, part) {
				score = 0
			}
		}
		if score > best {
			chosen, best = m, score
		}
	}
	if chosen == "" {
		return "curl " + e.llmURL("models")
	}
	body, err := json.Marshal(map[string]any{"model": chosen, "messages": []any{map[string]string{"role": "user", "content": "Say hello."}}})
	if err != nil || strings.ContainsRune(chosen, '\'') {
		return "curl " + e.llmURL("models")
	}
	return "curl " + e.llmURL("chat/completions") + " -H content-type:application/json -d '" + string(body) + "'"
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
