package testgateway

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long a test waits for a condition before it fails. Nothing passes by being fast, so it is generous.
const Patience = 2 * time.Minute

// Until waits until a condition is true.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	not := errors.New("it is not")
	Eventually(t, what, func() error {
		if condition() {
			return nil
		}
		return not
	})
}

// Eventually waits until a condition has no error.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %v: %s: %v", Patience, what, err)
		}
	}
}

func dial(address string) error {
	c, err := net.Dial("tcp", address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// FreePort returns a port on which nobody listens, and which is the test's until its end: the system gives it to nobody by itself, and
// FreePort to no other test, of whatever process. Only who names the port, and sets SO_REUSEADDR as servers do, can listen on it.
func FreePort(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	// Set before the bind, it would share the port with the next who is given one. Never listening, it is in nobody's way.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return name.(*unix.SockaddrInet4).Port
}

// FreeAddress returns an address of loopback with a port of FreePort.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", FreePort(t))
}
