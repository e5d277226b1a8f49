package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

// own are flags that keep a gateway's own listeners out of the way of others.
var own = []string{"--admin-addr", "off", "--metrics-addr", "off", "--ready-addr", "off"}

// noProviders takes the variables that name LLM providers out of the environment.
var noProviders = []string{
	"OPENAI_API_KEY=", "OPENAI_BASE_URL=", "OPENAI_API_BASE=", "ANTHROPIC_API_KEY=", "ANTHROPIC_AUTH_TOKEN=", "GEMINI_API_KEY=", "GOOGLE_API_KEY=",
	"AZURE_OPENAI_API_KEY=", "AZURE_OPENAI_ENDPOINT=", "GOOGLE_CLOUD_PROJECT=", "AWS_BEARER_TOKEN_BEDROCK=", "AWS_ACCESS_KEY_ID=", "AWS_PROFILE=", "AWS_REGION=", "AWS_DEFAULT_REGION=",
}

// startRun starts `mcpgw run` on a free port and returns it with its MCP URL.
func startRun(t testing.TB, args ...string) (*testgateway.Process, string) {
	t.Helper()
	args = append([]string{"run", "--port", fmt.Sprint(testgateway.FreePort(t))}, args...)
	p := testgateway.Run(t, noProviders, binary, append(args, own...)...)
	return p, p.Writes(t, &p.Stdout, `MCP +(http://\S+/mcp) .*\n(?:.*\n)*  Next`)[1]
}

// TestRunServesTheDemo follows what the banner of `mcpgw run` says.
func TestRunServesTheDemo(t *testing.T) {
	t.Parallel()
	p, url := startRun(t)
	banner := p.Stdout.String()
	ask := "curl " + strings.TrimSuffix(url, "/mcp") + "/v1/chat/completions -H content-type:application/json -d '{"
	for _, want := range []string{
		"mcpgw e2e   (no configuration given: this is the built-in demo)\n",
		"2 targets, 7 tools\n",
		"1 model (mock: echoes, streams, counts tokens)\n",
		"  Try      mcpgw tools call demo_add a=1 b=2 --url " + url + "\n",
		"  Ask      " + ask,
		"  Add to   claude mcp add --transport http mcpgw " + url + "\n",
	} {
		if !strings.Contains(banner, want) {
			t.Errorf("%q is not in the banner:\n%s", want, banner)
		}
	}
	stdout, stderr, code := output(t, nil, binary, "tools", "call", "demo_add", "a=1", "b=2", "--url", url)
	if stdout != "3\n" || stderr != "" || code != 0 {
		t.Errorf("the command to try: %q, %q, exit code %d", stdout, stderr, code)
	}
	models := strings.TrimSuffix(url, "/mcp") + "/v1/models"
	if status, body := get(t, models); status != 200 || !strings.Contains(body, `"mock"`) {
		t.Errorf("the mock LLM answers %d %s", status, body)
	}
}

// TestRunTwice starts `mcpgw run` twice as it is typed: the second gives way to
// whoever has the ports, says so, and neither writes a file.
func TestRunTwice(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	urls := map[string]bool{}
	for range 2 {
		p := testgateway.Run(t, append([]string{"HOME=" + home, "TMPDIR=" + home}, noProviders...), binary, "run")
		url := p.Writes(t, &p.Stdout, `MCP +(http://\S+/mcp) .*\n(?:.*\n)*  Next`)[1]
		if urls[url] {
			t.Errorf("both are at %s", url)
		}
		urls[url] = true
		if got := connect(t, url, clientOptions{}).call(t, "demo_echo", map[string]any{"message": "hi"}); got != "hi" {
			t.Errorf("%s: demo_echo answers %q", url, got)
		}
		if len(urls) == 2 {
			p.Writes(t, &p.Stderr, `the default port is busy, a free one is used.*for=admin`)
		}
	}
	files, err := os.ReadDir(home)
	if err != nil || len(files) > 0 {
		t.Errorf("files were written: %v, %v", files, err)
	}
}

// TestToolsCommands uses the command line against a gateway, and against files.
func TestToolsCommands(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	g := serve(t, func(port int) string {
		return manifest(port, static("demo", demo, "/demo/mcp")) + rbac("Deny", "mcp.tool.name == 'slow'")
	})
	for _, from := range [][]string{{"--url", g.url()}, {"-f", g.File}} {
		t.Run(from[0], func(t *testing.T) {
			t.Parallel()
			run := func(args ...string) (string, string, int) { return output(t, nil, binary, append(args, from...)...) }
			stdout, stderr, code := run("tools", "ls", "-o", "json")
			var tools []struct {
				Name        string         `json:"name"`
				InputSchema map[string]any `json:"inputSchema"`
			}
			if err := json.Unmarshal([]byte(stdout), &tools); err != nil || code != 0 || stderr != "" {
				t.Fatalf("tools ls: %v, exit code %d\n%s\n%s", err, code, stdout, stderr)
			}
			if len(tools) != 3 || tools[0].Name != "demo_add" || tools[0].InputSchema["type"] != "object" {
				t.Errorf("tools ls: %+v", tools)
			}
			for _, test := range []struct {
				args   []string
				stdout string
				stderr string
				code   int
			}{
				{[]string{"demo_add", "a=1.5", "b:=2"}, "3.5\n", "", 0},
				{[]string{"demo_echo", "message=7"}, "7\n", "", 0},
				{[]string{"demo_now", "zone=No/Where"}, "unknown time zone \"No/Where\"\n", "error: the tool reported an error\n", 1},
				{[]string{"demo_add", "a=one"}, "", "error: argument a: \"one\" is not of type number\n", 2},
				{[]string{"demo_slow"}, "", "error: Unknown tool: demo_slow. Did you mean demo_now?\n", 4},
				{[]string{"demo_ad"}, "", "error: Unknown tool: demo_ad. Did you mean demo_add?\n", 4},
			} {
				stdout, stderr, code := run(append([]string{"tools", "call"}, test.args...)...)
				if stdout != test.stdout || stderr != test.stderr || code != test.code {
					t.Errorf("tools call %v: %q, %q, exit code %d; want %q, %q, %d", test.args, stdout, stderr, code, test.stdout, test.stderr, test.code)
				}
			}
		})
	}
	closed := fmt.Sprintf("http://127.0.0.1:%d/mcp", testgateway.FreePort(t))
	if _, stderr, code := output(t, nil, binary, "tools", "ls", "--url", closed); code != 5 || !strings.Contains(stderr, "is the gateway running") {
		t.Errorf("nobody there: exit code %d, %s", code, stderr)
	}
}

// TestExitCodesOfMistakes runs command lines that are wrong.
func TestExitCodesOfMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	testgateway.WriteFile(t, bad, strings.Replace(manifest(8080, static("a", 1, "/")), "static:", "statc:", 1))
	for _, test := range []struct {
		args   []string
		code   int
		stderr []string
	}{
		{[]string{"serve"}, 2, []string{"nothing to serve"}},
		{[]string{"servee"}, 2, []string{"Did you mean serve?"}},
		{[]string{"serve", "--nope"}, 2, []string{"unknown flag: --nope"}},
		{[]string{"version", "-o", "xml"}, 2, []string{`unknown output format "xml"`}},
		{[]string{"serve", "-f", bad, "--log-level", "loud"}, 2, []string{`unknown log level "loud"`}},
		{[]string{"explain", "Backend.spec.mpc"}, 2, []string{"Did you mean Backend.spec.mcp?"}},
		{append([]string{"serve", "-f", bad}, own...), 3, []string{"error[MG", "bad.yaml:", "statc", "did you mean `static`?"}},
		{[]string{"validate", "-f", bad}, 3, []string{"error[MG", "bad.yaml:", "^^^^^", "did you mean `static`?"}},
		{[]string{"validate", "-f", filepath.Join(dir, "none.yaml")}, 3, []string{"none.yaml"}},
		{append([]string{"run", "--mcp-config", filepath.Join(dir, "none.json")}, own...), 3, []string{"none.json"}},
	} {
		_, stderr, code := output(t, nil, binary, test.args...)
		if code != test.code {
			t.Errorf("%v: exit code %d, want %d\n%s", test.args, code, test.code, stderr)
		}
		for _, want := range test.stderr {
			if !strings.Contains(stderr, want) {
				t.Errorf("%v: %q is not in:\n%s", test.args, want, stderr)
			}
		}
		if strings.Contains(stderr, "goroutine ") {
			t.Errorf("%v panics:\n%s", test.args, stderr)
		}
	}
}

// TestInformingCommands runs the commands that only tell something.
func TestInformingCommands(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"version"}, "mcpgw e2e ("},
		{[]string{"version", "-o", "yaml"}, "version: e2e\n"},
		{[]string{"explain", "MG0107"}, "MG0107: a field is not known\n"},
		{[]string{"explain", "TrafficPolicy.spec.rbac"}, "TrafficPolicy.spec.rbac  <object>\n"},
		{[]string{"completion", "bash"}, "bash completion"},
		{[]string{"help"}, "Exit codes:"},
	} {
		stdout, stderr, code := output(t, nil, binary, test.args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, test.want) {
			t.Errorf("%v: exit code %d, %q is not in:\n%s\n%s", test.args, code, test.want, testgateway.Tail(stdout), stderr)
		}
	}
	stdout, _, _ := output(t, nil, binary, "schema")
	if !json.Valid([]byte(stdout)) || !strings.Contains(stdout, "TrafficPolicy") {
		t.Errorf("schema prints %s", testgateway.Tail(stdout))
	}
}

// TestMCPConfig serves the servers of an MCP client's file, and follows it.
func TestMCPConfig(t *testing.T) {
	t.Parallel()
	demo := serveDemo(t)
	file := filepath.Join(t.TempDir(), "mcp.json")
	web := fmt.Sprintf(`"web": {"type": "http", "url": "http://127.0.0.1:%d/demo/mcp"}`, demo)
	memory := fmt.Sprintf(`"memory": {"command": %q, "args": [%q], "env": {"MEMORY_FILE_PATH": "${MEMORY:-%s}"}}`,
		node(t), npmScript(t, "@modelcontextprotocol", "server-memory", "dist", "index.js"), filepath.Join(t.TempDir(), "memory.jsonl"))
	testgateway.WriteFile(t, file, `{"mcpServers": {`+web+`, "keyed": {"url": "http://127.0.0.1/mcp?key=1"}}}`)
	p, url := startRun(t, "--mcp-config", file)
	p.Writes(t, &p.Stderr, "a server is not imported.*keyed: its url has a user or a query")
	c := connect(t, url, clientOptions{})
	if got := c.call(t, "web_echo", map[string]any{"message": "imported"}); got != "imported" {
		t.Errorf("web_echo answers %q", got)
	}
	testgateway.WriteFile(t, file, `{"mcpServers": {`+web+`, `+memory+`}}`)
	testgateway.Eventually(t, "the added server is served", func() error {
		names := strings.Join(c.toolNames(t), " ")
		if !strings.Contains(names, "memory_read_graph") {
			return fmt.Errorf("%s", names)
		}
		return nil
	})
	testgateway.WriteFile(t, file, `{"mcpServers": {`)
	p.Writes(t, &p.Stderr, "the imported file is not used")
	if got := c.call(t, "memory_read_graph", nil); !strings.Contains(got, "entities") {
		t.Errorf("after a broken edit: %q", got)
	}
}

// TestExamples validates every file in examples/ and every YAML block in the
// README and docs/ that is a whole file, and looks that none has a mistake.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		for i, block := range codeBlocks(t, page, "yaml") {
			if !strings.HasPrefix(block, "apiVersion:") {
				continue
			}
			file := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d.yaml", filepath.Base(page), i))
			testgateway.WriteFile(t, file, block)
			files = append(files, file)
		}
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			args := []string{"validate", "-f", file, "-o", "json"}
			if filepath.Base(file) == "tls.yaml" {
				args = append(args, "-f", certificate(t, "localhost-certificate"))
			}
			stdout, stderr, code := output(t, nil, binary, args...)
			var report struct {
				Problems []struct{ Code, Class, Message string }
			}
			if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 {
				t.Fatalf("exit code %d, %v:\n%s\n%s", code, err, stdout, stderr)
			}
			for _, p := range report.Problems {
				// Examples are open to all, some pass credentials through, and what
				// the docs show may refer to what they don't, or be referred to from there.
				page := strings.Contains(file, ".md-") && (p.Class == "unresolved" || p.Code == "MG0311")
				if p.Code != "MG0204" && p.Code != "MG0203" && !page {
					t.Errorf("%s %s: %s", p.Class, p.Code, p.Message)
				}
			}
		})
	}
}

// codeBlocks returns the code blocks of a page in a language.
func codeBlocks(t testing.TB, page, language string) []string {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split("\n"+string(data), "\n```") {
		if name, block, _ := strings.Cut(part, "\n"); i%2 == 1 && name == language {
			blocks = append(blocks, block+"\n")
		}
	}
	return blocks
}

// TestREADME runs what the README shows with a prompt, and compares what it says
// is printed; and compares the banner.
func TestREADME(t *testing.T) {
	t.Parallel()
	p, url := startRun(t)
	port := strings.TrimSuffix(strings.TrimPrefix(url, "http://127.0.0.1:"), "/mcp")

	shown := strings.TrimSpace(codeBlocks(t, "../README.md", "")[0])
	banner := strings.ReplaceAll(p.Stdout.String(), " --url "+url, "")
	banner = strings.ReplaceAll(banner, "127.0.0.1:"+port, "127.0.0.1:8080")
	if squeeze(banner) != squeeze(strings.Replace(shown, "VERSION", "e2e", 1)) {
		t.Errorf("the README shows\n%s\nbut the banner is\n%s", shown, banner)
	}
	commands := 0
	for _, block := range codeBlocks(t, "../README.md", "console") {
		for _, session := range strings.Split("\n"+block, "\n$ ")[1:] {
			command, want, _ := strings.Cut(session, "\n")
			words := strings.Fields(command)
			if words[0] != "bin/mcpgw" {
				t.Errorf("don't know how to run %q", command)
				continue
			}
			stdout, stderr, code := output(t, nil, binary, append(words[1:], "--url", url)...)
			if strings.TrimSpace(stdout) != strings.TrimSpace(want) || code != 0 {
				t.Errorf("the README says that %s prints\n%s\nit prints\n%s\n%s", command, want, stdout, stderr)
			}
			commands++
		}
	}
	if commands < 2 {
		t.Errorf("only %d commands of the README were run", commands)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(readme), "\n"); lines > 150 {
		t.Errorf("the README has %d lines, more than 150", lines)
	}
}

// squeeze makes runs of spaces one.
func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }
