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
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcpgw/mcpgw/internal/testdns"
)

// inside says that the process is in its namespaces.
const inside = "MCPGW_TEST_BACKENDS_INSIDE"

// network is what the loopback interface has beside 127.0.0.0/8: all of 10.245.0.0/16 is local.
const network = "10.245.0.1"

var (
	// binary is the gateway under test.
	binary string
	// names is the DNS server.
	names *testdns.Server
)

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(again())
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// again runs the test binary in its namespaces, and returns its exit code.
func again() int {
	runtime.LockOSThread() // the child ends with the thread that made it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "these tests need namespaces of their own: run them as root, or permit user namespaces (%v)\n", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
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
	if err := errors.Join(raiseLoopback(), nameServer(dir)); err != nil {
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

// raiseLoopback gives the network namespace its loopback interface, with the addresses of [network].
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(name string, request uint, fill func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, request, r)
		}
		if err != nil {
			return fmt.Errorf("setting up the interface %s: %w", name, err)
		}
		return nil
	}
	ip := func(a string) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(a).To4()) }
	}
	return errors.Join(
		set("lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }),
		set("lo:1", unix.SIOCSIFADDR, ip(network)),
		set("lo:1", unix.SIOCSIFNETMASK, ip("255.255.0.0")),
	)
}
