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
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcpgw/mcpgw/internal/testdns"
	"github.com/mcpgw/mcpgw/internal/testgateway"
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
	os.Exit(testgateway.Main(m, &binary, func(dir string) (func(), error) {
		if err := errors.Join(testns.RaiseLoopback(network), nameServer(dir)); err != nil {
			return nil, err
		}
		server, err := testdns.Listen("127.0.0.1:53")
		if err != nil {
			return nil, err
		}
		names = server
		return names.Close, nil
	}))
}

// start runs the gateway until the test ends, which it does when it is told to.
func start(t testing.TB, env []string, resources string) *testgateway.Gateway {
	t.Helper()
	g := testgateway.Serve(t, binary, resources, testgateway.Options{Env: env, Args: []string{"--log-level", "debug"}})
	t.Cleanup(func() { g.Terminate(t) })
	return g
}

// serveAt serves h at an address until the test ends.
func serveAt(t testing.TB, address string, h http.Handler) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
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
