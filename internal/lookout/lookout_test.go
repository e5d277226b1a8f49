package lookout

import (
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a connection, and the descriptor of the first.
func pair(t *testing.T) (net.Conn, net.Conn, syscall.RawConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); _ = peer.Close() })
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return conn, peer, raw
}

func TestLookout(t *testing.T) {
	before := runtime.NumGoroutine()
	var l Lookout
	var w, other Watch
	conn, peer, raw := pair(t)
	told := make(chan string, 10)
	start := func(what string) {
		t.Helper()
		if !l.Start(&w, raw, func() { told <- what }) {
			t.Fatal("not started")
		}
	}
	if !l.Start(&w, raw, func() { told <- "first" }) {
		if runtime.GOOS == "linux" {
			t.Error("there is none")
		}
		return
	}
	_, otherPeer, otherRaw := pair(t)
	if !l.Start(&other, otherRaw, func() { told <- "other" }) {
		t.Fatal("not started")
	}
	expect := func(want string) {
		t.Helper()
		if got := <-told; got != want {
			t.Errorf("told of %s, want %s", got, want)
		}
	}
	send := func(c net.Conn, s string) {
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatal(err)
		}
	}
	send(peer, "a")
	expect("first")
	send(peer, "b") // of which nobody wants to hear now
	send(otherPeer, "a")
	expect("other")
	start("again") // for what is there already
	expect("again")
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ab" {
		t.Errorf("read %q, %v", b, err)
	}
	start("the end")
	_ = peer.(*net.TCPConn).CloseWrite()
	expect("the end")
	l.Stop(&w)
	l.Stop(&w)
	start("anew")
	expect("anew")
	_ = conn.Close()
	l.Stop(&w)
	if l.Start(&w, raw, func() { told <- "closed" }) {
		t.Error("a closed connection is watched")
	}
	l.Stop(&other)
	for tick := time.NewTicker(time.Millisecond); runtime.NumGoroutine() > before; {
		<-tick.C
	}
	if len(told) != 0 {
		t.Errorf("%d too many were told of", len(told))
	}
}

// Many connections come and go at once; each is told of what is its own.
func TestLookoutConcurrent(t *testing.T) {
	var l Lookout
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				conn, peer, raw := pair(t)
				var w Watch
				told := make(chan struct{}, 1)
				if !l.Start(&w, raw, func() { told <- struct{}{} }) {
					return // there is no lookout
				}
				_, _ = io.WriteString(peer, "x")
				<-told
				if n, err := conn.Read(make([]byte, 2)); n != 1 || err != nil {
					t.Errorf("told of nothing: %d, %v", n, err)
				}
				_ = conn.Close()
				l.Stop(&w)
			}
		})
	}
	wg.Wait()
}
