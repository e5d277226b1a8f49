//go:build unix

package upstream

import "syscall"

// quiet reports whether the peer has neither closed the idle connection nor sent anything on
// it. Without a goroutine that reads, this look is how it is found out.
func (c *leanConn) quiet() bool {
	if c.raw == nil {
		return true
	}
	quiet := false
	err := c.raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, err := syscall.Read(int(fd), one[:])
		quiet = n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
		return true
	})
	return err == nil && quiet
}
