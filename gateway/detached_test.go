package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A detachedPeer is a detached answer, and its client.
type detachedPeer struct {
	*detached
	ctx    context.Context
	client *net.TCPConn
}

// serveDetached begins a detached answer of s on a connection of its own, which is written to directly or, like one with TLS,
// through another.
func serveDetached(t *testing.T, s *Server, direct bool) *detachedPeer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !direct {
		conn = struct{ net.Conn }{conn}
	}
	p := &detachedPeer{client: client.(*net.TCPConn)}
	p.detached = &detached{conn: &wire{Conn: conn, patience: time.Minute}, header: http.Header{}, left: maxUnasked,
		begin: func(ctx context.Context, _ func(any)) { p.ctx = ctx }}
	p.life.BeginApart(t.Context())
	s.inflight.enter()
	p.run(s, &exchange{}, t.Context())
	return p
}

func newDetachedServer() *Server {
	return NewServer(Options{Logger: slog.New(slog.DiscardHandler), Runtime: new(Runtime)})
}

// The context of a detached answer ends when its client leaves, however it does; what it sends before
// is passed over, up to a bound.
func TestDetachedLeaves(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"closes":           func(c *net.TCPConn) { _ = c.Close() },
		"closes half":      func(c *net.TCPConn) { _ = c.CloseWrite() },
		"resets":           func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
		"sends and closes": func(c *net.TCPConn) { _, _ = io.WriteString(c, "unasked"); _ = c.Close() },
		"sends too much": func(c *net.TCPConn) {
			_, _ = c.Write(bytes.Repeat([]byte("x"), maxUnasked))
		},
	} {
		for _, direct := range []bool{true, false} {
			s := newDetachedServer()
			p, other := serveDetached(t, s, direct), serveDetached(t, s, direct)
			if _, err := p.client.Write(bytes.Repeat([]byte("x"), maxUnasked-len("unasked")-1)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Write([]byte(": hello\n\n")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if b := make([]byte, 1); p.ctx.Err() != nil {
				t.Errorf("%s: ended before", name)
			} else if _, err := p.client.Read(b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			leave(p.client)
			<-p.ctx.Done()
			if err := context.Cause(p.ctx); !errors.Is(err, errClientLeft) {
				t.Errorf("%s, direct %v: ended with %v", name, direct, err)
			}
			if other.ctx.Err() != nil {
				t.Errorf("%s: another has ended, too", name)
			}
			p.done(nil)
			p.done(nil) // which is one too many
			other.WriteHeader(http.StatusOK)
			other.done(nil)
			answer, err := io.ReadAll(other.client)
			if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\n0\r\n\r\n") {
				t.Errorf("%s: the other got %q, %v", name, answer, err)
			}
			if n := s.Requests(); n != 0 {
				t.Errorf("%s: %d requests are left", name, n)
			}
		}
	}
}

// A client that has left already is noticed, too.
func TestDetachedLeftBefore(t *testing.T) {
	s := newDetachedServer()
	p := serveDetached(t, s, true)
	_ = p.client.CloseWrite()
	<-p.ctx.Done()
	late := &detached{conn: p.conn, left: maxUnasked}
	late.life.BeginApart(t.Context())
	if late.server = s; late.lookOut() { // where there is no lookout, a reader meets the end
		<-late.life.Done()
		s.lookout.Stop(&late.lookout)
	}
	p.done(nil)
}

// Many detached answers cost no goroutine each where the system can wait for all of their clients at once, and none
// is left of them.
func TestDetachedAtRest(t *testing.T) {
	s := newDetachedServer()
	before := runtime.NumGoroutine()
	var peers []*detachedPeer
	for range 200 {
		peers = append(peers, serveDetached(t, s, true))
	}
	if n := runtime.NumGoroutine() - before; runtime.GOOS == "linux" && n > 10 {
		t.Errorf("%d goroutines for %d answers", n, len(peers))
	}
	for _, p := range peers {
		p.done(nil)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		<-tick.C
	}
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests are left", n)
	}
}
