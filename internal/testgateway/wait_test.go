package testgateway

import (
	"fmt"
	"net"
	"testing"
)

// A free port is taken by nobody but who names it.
func TestFreePort(t *testing.T) {
	port := FreePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if err := dial(address); err == nil {
		t.Error("somebody listens")
	}
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().String() == address {
			t.Fatal("it was given to somebody else")
		}
		_ = l.Close()
	}
	for range 100 {
		if FreePort(t) == port {
			t.Fatal("it was given twice")
		}
	}
	for _, listen := range []string{address, fmt.Sprintf(":%d", port)} {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		if err := dial(address); err != nil {
			t.Error(err)
		}
		_ = l.Close()
	}
}
