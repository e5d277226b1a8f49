package policy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
)

// docs/rules.md speaks of each variable and function there is, and of no other; what it
// shows compiles.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	paths := map[string]string{requestType: "request", sourceType: "source", backendType: "backend", mcpType: "mcp", toolType: "mcp.tool", promptType: "mcp.prompt", resourceType: "mcp.resource", basicType: "basicAuth", metadataType: "metadata", responseType: "response"}
	known := map[string]bool{"jwt": true, "apiKey": true, "extauthz": true}
	for typ, fields := range objects() {
		for _, f := range fields {
			known[paths[typ]+"."+f.name] = true
		}
	}
	delete(known, "mcp.tool")
	delete(known, "mcp.prompt")
	delete(known, "mcp.resource")
	for name := range known {
		if !strings.Contains(doc, "| `"+name+"`") && !strings.Contains(doc, ", `"+name+"`") {
			t.Errorf("the variable %s is missing", name)
		}
	}
	table := doc[strings.Index(doc, "## Variables"):strings.Index(doc, "## Functions")]
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(table, -1) {
		for _, name := range strings.Split(m[1], ", ") {
			if name = strings.Trim(name, "`"); name != "variable" && !known[name] {
				t.Errorf("there is no variable %s", name)
			}
		}
	}
	env, err := cel.NewEnv(functions()...)
	if err != nil {
		t.Fatal(err)
	}
	standard, err := cel.NewEnv()
	if err != nil {
		t.Fatal(err)
	}
	for name := range env.Functions() {
		if _, ok := standard.Functions()[name]; !ok && name != inCIDR && !strings.Contains(doc, "`"+name) {
			t.Errorf("the function %s is missing", name)
		}
	}
	blocks := regexp.MustCompile("(?s)```cel\n(.*?)```").FindAllStringSubmatch(doc, -1)
	if len(blocks) == 0 {
		t.Fatal("no examples")
	}
	for _, block := range blocks {
		for line := range strings.Lines(block[1]) {
			if _, err := CompileExpression(strings.TrimSpace(line)); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^      - (.*)$`).FindAllStringSubmatch(doc, -1) {
		if _, err := CompileExpression(m[1]); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
}
