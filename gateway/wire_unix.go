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

// skip passes over what has come on the connection. It reports false when the client has left, or sent too much.
func (d *detached) skip() bool {
	var b [512]byte
	err := rawConn(d.conn).Read(func(fd uintptr) bool {
		for d.left > 0 {
			n, err := syscall.Read(int(fd), b[:])
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return true
			case err != nil, n == 0:
				d.left = 0
			default:
				d.left -= n
			}
		}
		return true
	})
	return err == nil && d.left > 0
}
