// Package mcpgw_test keeps the rules of the whole tree that no single package can
// keep: who may import whom.
package mcpgw_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mcpgw/mcpgw"

// allowed says, package by package, which packages of this module it may import in
// what is not a test. No arrow points up; llm and mcp never meet.
var allowed = map[string][]string{
	"cmd/mcpgw":            {"internal/app"},
	"internal/fault":       {},
	"internal/secret":      {},
	"internal/events":      {},
	"internal/glob":        {},
	"internal/jsonpath":    {},
	"internal/lifetime":    {},
	"internal/lookout":     {},
	"internal/origin":      {"internal/fault"},
	"telemetry":            {"internal/fault", "internal/lifetime", "internal/secret"},
	"limit":                {"internal/secret"},
	"accesslog":            {"extension", "policy", "telemetry", "internal/fault"},
	"policy":               {"limit", "extension", "telemetry", "internal/fault", "internal/lifetime", "internal/secret"},
	"upstream":             {"telemetry", "internal/fault", "internal/lifetime", "internal/lookout", "internal/secret"},
	"upstream/oauth":       {"internal/fault", "internal/secret"},
	"upstream/sigv4":       {"internal/fault", "internal/secret"},
	"extension":            {"internal/fault"},
	"extension/extproc":    {"extension", "telemetry", "internal/fault"},
	"authn":                {"policy", "telemetry", "internal/fault", "internal/secret"},
	"mcp/protocol":         {"internal/fault"},
	"mcp/session":          {"mcp/protocol", "upstream", "telemetry", "internal/events", "internal/fault", "internal/lifetime", "internal/secret"},
	"mcp/federation":       {"mcp/session", "mcp/protocol", "policy", "guard", "telemetry", "internal/events", "internal/jsonpath", "internal/fault", "internal/lifetime", "internal/origin", "internal/secret"},
	"replica":              {},
	"guard":                {"internal/fault", "internal/secret"},
	"llm/dialect":          {},
	"llm/openai":           {"llm/dialect", "internal/events"},
	"llm/anthropic":        {"llm/dialect", "internal/events"},
	"llm/gemini":           {"llm/dialect", "internal/events"},
	"llm/bedrock":          {"llm/dialect", "llm/anthropic", "internal/events"},
	"llm/responses":        {"llm/dialect", "llm/openai", "internal/events"},
	"llm/price":            {"internal/glob"},
	"llm":                  {"llm/price", "llm/dialect", "llm/openai", "llm/anthropic", "llm/gemini", "llm/responses", "llm/bedrock", "upstream", "upstream/sigv4", "policy", "guard", "telemetry", "internal/events", "internal/glob", "internal/jsonpath", "internal/fault", "internal/secret"},
	"config/v1alpha1":      {"internal/secret"},
	"config/configtest":    {"config"},
	"config":               {"config/v1alpha1", "internal/fault", "internal/secret"},
	"delivery":             {"config", "config/v1alpha1", "internal/secret"},
	"kube":                 {"config", "config/v1alpha1", "delivery", "internal/fault", "internal/secret"},
	"gateway":              {"accesslog", "limit", "replica", "mcp/federation", "mcp/session", "llm", "llm/price", "authn", "policy", "guard", "extension", "extension/extproc", "upstream", "upstream/oauth", "upstream/sigv4", "telemetry", "config", "config/v1alpha1", "internal/fault", "internal/lifetime", "internal/lookout", "internal/origin", "internal/secret"},
	"deploy/helm":          {},
	"console":              {"gateway", "config", "telemetry", "internal/fault", "internal/secret"},
	"internal/demo":        {},
	"internal/mcpjson":     {"config", "config/v1alpha1", "internal/secret"},
	"internal/deps":        {},
	"internal/app":         {"deploy/helm", "gateway", "replica", "kube", "delivery", "config", "config/v1alpha1", "telemetry", "console", "upstream/sigv4", "internal/demo", "internal/mcpjson", "internal/fault", "internal/secret"},
	"internal/llmtest":     {"internal/testaws"},
	"internal/testkind":    {},
	"internal/testaws":     {},
	"internal/testdns":     {},
	"internal/testgateway": {},
	"internal/testmcp":     {},
	"internal/testhttp":    {},
	"internal/testkube":    {},
	"internal/testns":      {},
}

// only says which packages alone may import a module, tests aside.
var only = map[string][]string{
	"sigs.k8s.io/controller-runtime":      {"kube"},
	"helm.sh/helm":                        {"deploy/helm"},
	"github.com/google/cel-go":            {"policy"},
	"github.com/go-jose/go-jose":          {"authn"},
	"golang.org/x/oauth2":                 {"upstream/oauth"},
	"github.com/aws/aws-sdk-go-v2/config": {"upstream/sigv4"},
	"github.com/nyaruka/phonenumbers":     {"guard"},
	"github.com/gorilla/websocket":        {"llm", "gateway"},
	"github.com/redis/go-redis":           {"limit"},
	"github.com/envoyproxy":               {"accesslog", "extension", "extension/extproc", "delivery"},
	"connectrpc.com/connect":              {"extension"},
}

// A listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 10 {
		t.Fatalf("go list names %d packages", len(packages))
	}
	for _, p := range packages {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may, known := allowed[name]
		free := isFree(name)
		if !known && !free {
			t.Errorf("package %s is in no rule: say in this file what it may import", name)
			continue
		}
		for _, i := range p.Imports {
			if dep, ok := strings.CutPrefix(i, module+"/"); ok && !free && !slices.Contains(may, dep) {
				t.Errorf("%s imports %s, which it may not", name, dep)
			}
			for path, who := range only {
				if (i == path || strings.HasPrefix(i, path+"/")) && !slices.Contains(who, name) && name != "internal/deps" {
					t.Errorf("%s imports %s, which only %v may", name, i, who)
				}
			}
		}
	}
}

// isFree reports whether a package stands outside the product: programs and tests about it.
func isFree(name string) bool {
	for _, prefix := range []string{"bench", "e2e", "examples", "hack", "docs"} {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			return true
		}
	}
	return name == ""
}
