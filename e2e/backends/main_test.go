// Package backends tests the built gateway with backends that take a network of their own: functions, the hosts that
// requests name, names that the DNS resolves anew, and gRPC services.
//
// The test binary runs itself again in namespaces of its own, where the resolver's file names a DNS server of the tests, and
// where the addresses of [network] are local but, one aside, not addresses of an interface: as hosts elsewhere are. That takes
// root, or a kernel that gives user namespaces to everybody.
package backends

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcpgw/mcpgw/internal/testdns"
	"github.com/mcpgw/mcpgw/internal/testns"
)

// network is what the loopback interface has beside 127.0.0.0/8: all of 10.245.0.0/16 is local.
const network = "10.245.0.1"

var (
	// binary is the gateway under test.
	binary string
	// names is the DNS server.
	names *testdns.Server
)

func TestMain(m *testing.M) {
	if !testns.Inside() {
		os.Exit(testns.Again(syscall.CLONE_NEWNS))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "mcpgw-backends-")
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
	if err := errors.Join(testns.RaiseLoopback(network), nameServer(dir)); err != nil {
		return 0, err
	}
	if names, err = testdns.Listen("127.0.0.1:53"); err != nil {
		return 0, err
	}
	defer names.Close()
	return m.Run(), nil
}

// nameServer has the resolver ask 127.0.0.1 alone.
func nameServer(dir string) error {
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o600); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to this namespace: %w", err)
	}
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("replacing /etc/resolv.conf: %w", err)
	}
	return nil
}
