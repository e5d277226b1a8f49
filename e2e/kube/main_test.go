// Package kube tests the built gateway against a real Kubernetes API server: upstream's
// kube-apiserver, etcd and kubectl, which hack/kube builds.
//
// The test binary runs itself again in a network and process namespace of its own: the API server takes
// no loopback addresses as endpoints, so MCP servers need others, which reach nobody here, and
// nothing outlives the tests. That takes root, or a kernel that gives user namespaces to
// everybody. One control plane serves all tests; each has a Kubernetes namespace and a GatewayClass of its own.
package kube

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// inside says that the process is in its namespaces.
const inside = "MCPGW_TEST_KUBE_INSIDE"

// network is what the namespaces' loopback interface has beside 127.0.0.0/8: all of its addresses are
// local.
const network = "10.244.0.1"

var (
	// binary is the gateway under test.
	binary string
	// tools holds kubectl, and what the control plane is.
	tools string
	// plane is the control plane, and kubeconfig the file of its administrator.
	plane      *envtest.Environment
	kubeconfig string
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

func run(m *testing.M) (code int, err error) {
	ctrllog.SetLogger(logr.Discard()) // envtest's
	dir, err := os.MkdirTemp("", "mcpgw-kube-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary, kubeconfig = filepath.Join(dir, "mcpgw"), filepath.Join(dir, "kubeconfig")
	args := []string{"build", "-o", binary, "-ldflags", "-X main.version=e2e"}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/mcpgw/mcpgw/cmd/mcpgw")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("building the gateway: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return 0, err
	}
	if tools, err = installed(); err != nil {
		return 0, err
	}
	stop, err := startPlane(dir)
	if err != nil {
		return 0, err
	}
	defer stop()
	return m.Run(), nil
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

// installed returns where hack/deps keeps what it made of hack/kube.
func installed() (string, error) {
	module := filepath.Join("..", "..", "hack", "kube")
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "etcd/main.go", "kube-apiserver/main.go", "kubectl/main.go"} {
		text, err := os.ReadFile(filepath.Join(module, name))
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

// startPlane starts etcd and the API server on loopback, with the definitions of the Gateway API and of the
// gateway's own kinds.
func startPlane(dir string) (stop func(), err error) {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return nil, fmt.Errorf("looking for the Gateway API: %w", err)
	}
	plane = &envtest.Environment{
		BinaryAssetsDirectory:    tools,
		CRDDirectoryPaths:        []string{filepath.Join(strings.TrimSpace(string(module)), "config", "crd", "standard")},
		ErrorIfCRDPathMissing:    true,
		CRDs:                     v1alpha1.CRDs(),
		ControlPlaneStartTimeout: 3 * time.Minute,
		ControlPlaneStopTimeout:  time.Second, // then it is killed
	}
	certs := filepath.Join(dir, "apiserver")
	if err := os.Mkdir(certs, 0o700); err != nil {
		return nil, err
	}
	server := plane.ControlPlane.GetAPIServer()
	server.CertDir = certs // stays when the server is started again
	server.Configure().Set("advertise-address", network)
	if _, err := plane.Start(); err != nil {
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	if err := os.WriteFile(kubeconfig, plane.KubeConfig, 0o600); err != nil {
		return nil, err
	}
	return func() { _ = plane.Stop() }, nil // what is left ends with the namespace
}

// kill ends the API server, with the connections that it has.
func kill() {
	_ = plane.ControlPlane.GetAPIServer().Stop() // it says that a second was not enough
}

// revive starts it again, where it was.
func revive(t testing.TB) {
	t.Helper()
	if err := plane.ControlPlane.GetAPIServer().Start(); err != nil {
		t.Fatal(err)
	}
}
