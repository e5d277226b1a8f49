// Package traffic tests what policies and filters of the built gateway do to requests on their way: retries, mirrors,
// transformations, external processing and times, with Debian's nginx as a server that fails, and with MCP servers and language models.
package traffic

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the gateway under test.
var binary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "mcpgw-traffic-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "mcpgw")
	args := []string{"build", "-o", binary, "-ldflags", "-X main.version=e2e"}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/mcpgw/mcpgw/cmd/mcpgw")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("building the gateway: %w", err)
	}
	return m.Run(), nil
}
