//go:build unix

package gateway

import "syscall"

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
		c, ok := w.Conn.(syscall.Conn)
		if !ok {
			return 0
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return 0
		}
		a.raw = raw
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
