package mcpjson

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var environment = map[string]string{
	"HOME": "/home/ada", "TOKEN": "s3cret", "EMPTY": "", "MCPGW_INPUT_API_KEY": "asked", "TRICK": "${TOKEN}",
}

func lookup(name string) (string, bool) {
	value, ok := environment[name]
	return value, ok
}

// targets returns the targets in the YAML of result.
func targets(t *testing.T, result *Result) []any {
	t.Helper()
	var doc struct {
		Spec struct {
			MCP struct {
				Targets []any `json:"targets"`
			} `json:"mcp"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(result.YAML, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Spec.MCP.Targets
}

func TestImport(t *testing.T) {
	many := make([]string, maxServers+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"s%02d": {"command": "x"}`, i)
	}
	tests := []struct {
		name, file string
		want       []any
		skipped    []string
	}{
		{
			name: "Claude: a child and an HTTP server, with variables",
			file: `{"numStartups": 3, "mcpServers": {
				"Files & more": {"type": "stdio", "command": "npx", "args": ["-y", "server", "${HOME}/data"], "env": {"KEY": "${TOKEN}", "LEVEL": "${NONE:-info}", "E": "${EMPTY:-filled}"}},
				"web": {"type": "http", "url": "http://127.0.0.1:3000/api/mcp", "headers": {"authorization": "Bearer ${TOKEN}"}}}}`,
			want: []any{
				object{"name": "files---more", "stdio": object{"command": "npx", "args": []any{"-y", "server", "/home/ada/data"},
					"env": object{"KEY": "s3cret", "LEVEL": "info", "E": "filled"}}},
				object{"name": "web", "static": object{"host": "127.0.0.1", "port": 3000.0, "path": "/api/mcp"},
					"auth": object{"kind": "Inline", "inline": "s3cret"}},
			},
		},
		{
			name: "VS Code: servers, inputs, comments and trailing commas",
			file: `{
				// a comment, with "quotes" and a }
				"inputs": [{"id": "api-key", "type": "promptString", "password": true},],
				"servers": {
					"a": {"command": "x", "args": ["http://not/a//comment", "a \"/* b",], "env": {"K": "${input:api-key}", "H": "${env:HOME}"}, /* one
					more */},
				},
			}`,
			want: []any{object{"name": "a", "stdio": object{"command": "x", "args": []any{"http://not/a//comment", `a "/* b`},
				"env": object{"K": "asked", "H": "/home/ada"}}}},
		},
		{
			name: "Cursor: legacy SSE, no path, default port",
			file: `{"mcpServers": {"s": {"type": "sse", "url": "http://example.test"}}}`,
			want: []any{object{"name": "s", "static": object{"host": "example.test", "port": 80.0, "path": "/", "protocol": "SSE"}}},
		},
		{
			name: "a public server, by https",
			file: `{"mcpServers": {"p": {"url": "https://example.test/v1/mcp"}, "q": {"url": "https://example.test:8443"}}}`,
			want: []any{
				object{"name": "p", "static": object{"host": "example.test", "port": 443.0, "path": "/v1/mcp", "tls": object{}}},
				object{"name": "q", "static": object{"host": "example.test", "port": 8443.0, "path": "/", "tls": object{}}},
			},
		},
		{
			name: "names stay unique, values are not expanded twice",
			file: `{"mcpServers": {"A": {"command": "x"}, "a": {"command": "${TRICK}"}, "ä": {"command": "z"}}}`,
			want: []any{
				object{"name": "a", "stdio": object{"command": "x"}},
				object{"name": "a-2", "stdio": object{"command": "${TOKEN}"}},
				object{"name": "server", "stdio": object{"command": "z"}},
			},
		},
		{
			name: "what can't be imported is skipped and said",
			file: `{"mcpServers": {
				"both": {"command": "x", "url": "http://h"},
				"good": {"command": "x"},
				"header": {"url": "http://h", "headers": {"X-Key": "v"}},
				"input": {"command": "x", "env": {"A": "${input:other}"}},
				"kind": {"command": 7},
				"neither": {},
				"off": {"command": "x", "disabled": true},
				"open": {"command": "${HOME"},
				"port": {"url": "http://h:0/"},
				"query": {"url": "http://h/?key=${TOKEN}"},
				"scheme": {"url": "ws://h/mcp"},
				"unset": {"command": "x", "env": {"A": "${NOWHERE}"}}}}`,
			want: []any{object{"name": "good", "stdio": object{"command": "x"}}},
			skipped: []string{
				"both: it has both command and url: remove one",
				"header: it has the header X-Key: only an Authorization with a bearer token is imported",
				`input: it needs the input "other": set the environment variable MCPGW_INPUT_OTHER`,
				"kind: its command is of the wrong type",
				"neither: it has neither command nor url",
				"off: it is disabled",
				`open: the variable in "${HOME" has no closing brace`,
				"port: its url has a port that is none",
				"query: its url has a user or a query: neither can be kept in a target",
				"scheme: its url begins with ws: a server is reached by http or https",
				"unset: it needs the environment variable NOWHERE: set it",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			result, err := Import([]byte(test.file), lookup)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, targets(t, result)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.skipped, result.Skipped); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("at the limit of servers", func(t *testing.T) {
		result, err := Import([]byte(`{"mcpServers": {`+strings.Join(many, ",")+`}}`), lookup)
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Targets) != maxServers || len(result.Skipped) != 1 {
			t.Errorf("%d targets, skipped %v", len(result.Targets), result.Skipped)
		}
	})
}

func TestImportErrors(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"no servers", `{"a": 1}`, "the file has no servers: expected a key mcpServers (Claude, Cursor) or servers (VS Code)"},
		{"not JSON", `mcpServers:`, "reading JSON: "},
		{"a comment without end", `{"mcpServers": {} /* `, "reading JSON: "},
		{"a string without end", `{"mcpServers": "\`, "reading JSON: "},
		{"nothing left", `{"mcpServers": {"a": {}}}`, "no server of the file can be imported:\n  a: it has neither command nor url"},
		{"too large", strings.Repeat(" ", maxFile+1), "the file has 16777217 bytes, more than 16777216"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Import([]byte(test.file), lookup)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzImport(f *testing.F) {
	f.Add(`{"mcpServers": {"a": {"command": "${HOME}", "args": ["x",],}}} // end`)
	f.Add(`{"servers": {"a": {"url": "http://h:1/x", "headers": {"Authorization": "Bearer ${input:x}"}}}} /* */`)
	f.Fuzz(func(t *testing.T, file string) {
		result, err := Import([]byte(file), lookup)
		if err != nil {
			return
		}
		if got := len(targets(t, result)); got != len(result.Targets) {
			t.Errorf("%d targets written, %d named", got, len(result.Targets))
		}
	})
}

// The example is imported whole.
func TestExample(t *testing.T) {
	file, err := os.ReadFile("../../examples/mcp.json")
	if err != nil {
		t.Fatal(err)
	}
	result, err := Import(file, lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := []any{
		object{"name": "memory", "stdio": object{"command": "npx", "args": []any{"-y", "@modelcontextprotocol/server-memory"},
			"env": object{"MEMORY_FILE_PATH": "/home/ada/memory.jsonl"}}},
		object{"name": "web", "static": object{"host": "127.0.0.1", "port": 3001.0, "path": "/mcp"}},
	}
	if diff := cmp.Diff(want, targets(t, result)); diff != "" {
		t.Error(diff)
	}
	if len(result.Skipped) > 0 {
		t.Errorf("skipped: %v", result.Skipped)
	}
}
