package app

import (
	"fmt"
	"net"
	"testing"
)

func TestPorts(t *testing.T) {
	open := func(t *testing.T, p *ports, address string) *net.TCPAddr {
		t.Helper()
		l, err := p.listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().(*net.TCPAddr)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().(*net.TCPAddr).Port

	t.Run("as written", func(t *testing.T) {
		p := new(ports)
		if _, err := p.listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", taken)); err == nil {
			t.Error("a busy port opens")
		}
		if got := p.hostPort(taken); got != fmt.Sprintf("127.0.0.1:%d", taken) {
			t.Errorf("a port that is not open is at %s", got)
		}
		at := open(t, p, ":0")
		if !at.IP.IsUnspecified() {
			t.Errorf("all addresses became %v", at)
		}
		if got, want := p.hostPort(0), fmt.Sprintf("127.0.0.1:%d", at.Port); got != want {
			t.Errorf("it is at %s, want %s", got, want)
		}
	})
	t.Run("loopback", func(t *testing.T) {
		if at := open(t, &ports{loopback: true}, ":0"); !at.IP.IsLoopback() {
			t.Errorf("bound to %v", at)
		}
	})
	t.Run("free", func(t *testing.T) {
		p := &ports{free: true}
		at := open(t, p, fmt.Sprintf(":%d", taken))
		if !at.IP.IsLoopback() || at.Port == taken {
			t.Errorf("bound to %v", at)
		}
		if got := p.hostPort(taken); got != at.String() {
			t.Errorf("it is at %s, want %v", got, at)
		}
	})
	t.Run("another port in place of the assumed one", func(t *testing.T) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := free.Addr().(*net.TCPAddr).Port
		_ = free.Close()
		p := &ports{loopback: true, fallBack: true, port: port}
		if at := open(t, p, fmt.Sprintf("127.0.0.1:%d", assumedPort)); at.Port != port {
			t.Errorf("bound to %v, want port %d", at, port)
		}
		// Asked for, so it is not given up when it is busy.
		again := &ports{loopback: true, fallBack: true, port: port}
		if l, err := again.listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", assumedPort)); err == nil {
			_ = l.Close()
			t.Error("a busy port that was asked for gives way")
		}
		if got, want := again.hostPort(assumedPort), fmt.Sprintf("127.0.0.1:%d", port); got != want {
			t.Errorf("it is said to be at %s, want %s", got, want)
		}
	})
	t.Run("the assumed port is busy", func(t *testing.T) {
		address := fmt.Sprintf("127.0.0.1:%d", assumedPort)
		if l, err := net.Listen("tcp", address); err == nil {
			defer l.Close()
		} // else somebody else keeps it busy
		p := &ports{loopback: true, fallBack: true}
		at := open(t, p, address)
		if at.Port == assumedPort {
			t.Errorf("bound to %v", at)
		}
		if got := p.hostPort(assumedPort); got != at.String() {
			t.Errorf("it is at %s, want %v", got, at)
		}
	})
}
