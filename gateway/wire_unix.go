//go:build unix

package gateway

import (
	"net"
	"syscall"
)

// rawConn returns the descriptor below a client's connection, nil if it is not the connection itself that is
// written to: TLS has something to say of its own.
func rawConn(conn net.Conn) syscall.RawConn {
	if w, ok := conn.(*wire); ok {
		conn = w.Conn
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// An atOnce writes to a connection what the kernel takes at once.
type atOnce struct {
	raw   syscall.RawConn // nil when the connection has none
	write func(fd uintptr) bool
	b     []byte
	n     int
}

// writeAtOnce writes as much of b as need not be waited for. What it meets, the next write meets, too.
func (w *wire) writeAtOnce(b []byte) int {
	a := &w.atOnce
	if a.write == nil {
		if a.raw = rawConn(w); a.raw == nil {
			return 0
		}
		a.write = func(fd uintptr) bool {
			a.n, _ = syscall.Write(int(fd), a.b)
			return true
		}
	}
	a.b, a.n = b, 0
	err := a.raw.Write(a.write)
	a.b = nil
	if err != nil {
		return 0
	}
	return max(a.n, 0)
}
