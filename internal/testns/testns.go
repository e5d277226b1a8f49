// Package testns runs test binaries in namespaces of their own, for tests that need a network to themselves.
package testns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside says that the process is in its namespaces.
const inside = "MCPGW_TEST_INSIDE"

// Inside reports whether the process is in its namespaces, where Again puts it.
func Inside() bool { return os.Getenv(inside) != "" }

// Again runs the test binary in a network namespace of its own, and in those of flags (CLONE_NEW…), and returns its exit code. Where that is
// refused it says so and returns 1: nothing is skipped.
func Again(flags uintptr) int {
	runtime.LockOSThread() // the child ends with the thread that made it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | flags, Pdeathsig: syscall.SIGKILL}
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

// RaiseLoopback gives the network namespace its loopback interface. Beside 127.0.0.0/8 it has an IPv4 address, and all others of its /16 are
// local, too.
func RaiseLoopback(network string) error {
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
