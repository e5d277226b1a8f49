// Package testgateway runs the built gateway for tests, beside other programs, and asks it. A package of tests builds it once:
//
//	var binary string // the gateway under test
//
//	func TestMain(m *testing.M) { os.Exit(testgateway.Main(m, &binary)) }
package testgateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Version is what the gateway that Build makes calls its version.
const Version = "e2e"

// Main builds the gateway, with the race detector where the tests have it, has each of setUps do what tests need beside it, and runs the tests. It returns their exit code, 1 when something
// before them failed, which it says. binary is set to where the gateway is. dir is there as long as the tests run; what a setUp returns, if
// anything, is called after them, the last first.
func Main(m *testing.M, binary *string, setUps ...func(dir string) (tearDown func(), err error)) int {
	return code(run(m, binary, race, setUps))
}

// MainPlain is as Main, but builds the gateway without the race detector: for tests that look at how much memory it takes.
func MainPlain(m *testing.M, binary *string) int { return code(run(m, binary, false, nil)) }

func code(of int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return of
}

func run(m *testing.M, binary *string, race bool, setUps []func(dir string) (func(), error)) (int, error) {
	dir, err := os.MkdirTemp("", "mcpgw-test-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if *binary, err = Build(dir, race); err != nil {
		return 0, err
	}
	for _, setUp := range setUps {
		tearDown, err := setUp(dir)
		if tearDown != nil {
			defer tearDown()
		}
		if err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// Build builds the gateway into dir, with or without the race detector, and returns where it is.
func Build(dir string, race bool) (binary string, err error) {
	binary = filepath.Join(dir, "mcpgw")
	args := []string{"build", "-o", binary, "-ldflags", "-X main.version=" + Version}
	if race {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "github.com/mcpgw/mcpgw/cmd/mcpgw")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return binary, nil
}
