// Package testkube has what tests against a real Kubernetes API server begin with: namespaces of their own, addresses there, and
// where hack/deps keeps the control plane.
package testkube

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside says that the process is in its namespaces.
const inside = "MCPGW_TEST_KUBE_INSIDE"

// Network is what the namespaces' loopback interface has beside 127.0.0.0/8: all of its addresses, 10.244.0.0/16, are
// local.
const Network = "10.244.0.1"

// Inside reports whether the process is in its namespaces, where Again puts it.
func Inside() bool { return os.Getenv(inside) != "" }

// Again runs the test binary in its namespaces, and returns its exit code. Where that is
// refused it says so and returns 1: nothing is skipped.
func Again() int {
	runtime.LockOSThread() // the child ends with the thread that made it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "these tests need a network namespace of their own: run them as root, or permit user namespaces (%v)\n", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// RaiseLoopback gives the network namespace its loopback interface, with the addresses of [Network].
func RaiseLoopback() error {
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
		set("lo:1", unix.SIOCSIFADDR, ip(Network)),
		set("lo:1", unix.SIOCSIFNETMASK, ip("255.255.0.0")),
	)
}

// Tools returns the folder in which hack/deps keeps what it made of hack/kube. module is the path of that.
func Tools(module string) (string, error) {
	hash := sha256.New()
	commands, err := filepath.Glob(filepath.Join(module, "*", "main.go"))
	if err != nil {
		return "", err
	}
	slices.Sort(commands)
	for _, name := range append([]string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}, commands...) {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		hash.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "mcpgw", fmt.Sprintf("kube-%x", hash.Sum(nil)[:8]))
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		return "", fmt.Errorf("the control plane is not built: run `hack/deps kube` (%w)", err)
	}
	return dir, nil
}
